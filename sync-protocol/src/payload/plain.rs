//! Plain writes: each field a new value under one stamp. That is nearly everything that clinics write.
//!
//! Their stamps and ids stand together for the whole frame, their values in groups of the same type and fields, all of it
//! column by column ([`super::column`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use minicbor::data::Type;

use super::column::{Item, Room, read_column, weight, write_column};
use super::numbers::{read_numbers, write_numbers};
use crate::cbor::{In, Out};
use crate::clock::{Hlc, TimeQuality};
use crate::error::DecodeError;
use crate::id::{Author, Dot, FieldName, HubSeq, Origin, RecordId, RecordKey, RecordType, Seq, Source, Stream};
use crate::limits::FIELDS_MAX;
use crate::record::{Cell, Change, Entry, Op, Record, Stamp, State};
use crate::value::Value;

/// A write whose fields are all plain values under one stamp.
pub(super) struct Plain<'a> {
    key: &'a RecordKey,
    stamp: &'a Stamp,
    values: Vec<(&'a FieldName, Item<'a>)>,
}

impl Plain<'_> {
    /// About how many bytes of memory its values take.
    pub(super) fn weight(&self) -> usize {
        self.values.iter().map(|(_, value)| weight(*value)).sum()
    }
}

type Shape<'a> = (&'a RecordType, Vec<&'a FieldName>);

/// Plain writes in order, and their shapes in order of first appearance.
#[derive(Default)]
pub(super) struct Plains<'a> {
    index: BTreeMap<Shape<'a>, usize>,
    shapes: Vec<Shape<'a>>,
    /// Each with the place of its shape.
    writes: Vec<(usize, Plain<'a>)>,
}

impl<'a> Plains<'a> {
    /// Adds a write; gives the number of its shape, from 1.
    pub(super) fn push(&mut self, plain: Plain<'a>) -> u64 {
        let shape: Shape<'a> = (&plain.key.record_type, plain.values.iter().map(|(name, _)| *name).collect());
        let next = self.shapes.len();
        let at = *self.index.entry(shape.clone()).or_insert(next);
        if at == next {
            self.shapes.push(shape);
        }
        self.writes.push((at, plain));
        at as u64 + 1
    }

    /// Three items of the surrounding array: stamps, ids, groups; each null if there are no plain writes.
    pub(super) fn encode(&self, out: &mut Out, with_dots: bool) {
        if self.writes.is_empty() {
            return out.null().null().null().done();
        }
        let stamps: Vec<&Stamp> = self.writes.iter().map(|(_, plain)| plain.stamp).collect();
        encode_stamps(out, &stamps, with_dots);
        let ids: Vec<Value> =
            self.writes.iter().map(|(_, plain)| Value::Text(plain.key.id.as_str().to_owned())).collect();
        let millis: Vec<u64> = stamps.iter().map(|stamp| stamp.hlc.unix_ms()).collect();
        write_column(out, &ids.iter().map(Some).collect::<Vec<_>>(), &millis);
        out.list(self.shapes.iter().enumerate(), |out, (at, (record_type, fields))| {
            let members: Vec<_> =
                self.writes.iter().filter(|(shape, _)| *shape == at).map(|(_, plain)| plain).collect();
            out.array(3).text(record_type.as_str());
            out.list(fields.iter(), |out, name| out.text(name.as_str()).done());
            let value = |field: usize| {
                members.iter().map(|plain| plain.values.get(field).and_then(|(_, value)| *value)).collect()
            };
            let columns: Vec<Vec<Item<'_>>> = (0..fields.len()).map(value).collect();
            out.list(columns.iter().enumerate(), |out, (at, column)| {
                match columns.iter().take(at).position(|earlier| earlier == column) {
                    Some(earlier) => out.uint(earlier as u64).done(),
                    None => write_column(out, column, &[]),
                }
            });
        });
    }
}

/// An op as one plain write, if that is what it is.
pub(super) fn plain_op(op: &Op) -> Option<Plain<'_>> {
    if op.stamp.settles.is_some() {
        return None;
    }
    let values = op.changes.iter().map(|(name, change)| match change {
        Change::Put { value, unseen } if unseen.is_empty() => Some((name, value.as_ref())),
        _ => None,
    });
    Some(Plain { key: &op.key, stamp: &op.stamp, values: values.collect::<Option<_>>()? })
}

/// A record's cells as one plain write, if that is what they are.
pub(super) fn plain_cells<'a>(key: &'a RecordKey, record: &'a Record) -> Option<Plain<'a>> {
    let mut stamp: Option<&Arc<Stamp>> = None;
    let mut values = Vec::with_capacity(record.cells.len());
    for (name, cell) in &record.cells {
        let State::Register(entries) = &cell.state else { return None };
        let [entry] = entries.as_slice() else { return None };
        if cell.changed != entry.stamp.hseq || stamp.is_some_and(|s| *s != entry.stamp) {
            return None;
        }
        stamp = Some(&entry.stamp);
        values.push((name, entry.value.as_ref()));
    }
    let stamp = stamp.filter(|s| s.settles.is_none())?;
    Some(Plain { key, stamp, values })
}

/// A plain write as it was read.
pub(super) struct Unpacked {
    key: RecordKey,
    stamp: Stamp,
    values: Vec<(FieldName, Option<Value>)>,
}

impl Unpacked {
    /// What [`plain_op`] was made of; its place among the others says which op it is.
    pub(super) fn into_op(self, dot: Dot) -> Op {
        let changes = self.values.into_iter().map(|(name, value)| (name, Change::Put { value, unseen: Vec::new() }));
        Op { key: self.key, stamp: Stamp { dot, ..self.stamp }, changes: changes.collect() }
    }

    /// What [`plain_cells`] was made of.
    pub(super) fn into_cells(self) -> (RecordKey, Record) {
        let (changed, stamp) = (self.stamp.hseq, Arc::new(self.stamp));
        let cells = self.values.into_iter().map(|(name, value)| {
            let entry = Entry { stamp: Arc::clone(&stamp), value };
            (name, Cell { changed, state: State::Register(vec![entry]) })
        });
        (self.key, Record { cells: cells.collect() })
    }
}

/// The plain writes of a frame, in order. `order` has for each thing the number of its shape, or 0.
pub(super) fn decode_plains(input: &mut In<'_>, order: &[u64], with_dots: bool) -> Result<Vec<Unpacked>, DecodeError> {
    let count = order.iter().filter(|shape| **shape > 0).count();
    if count == 0 {
        (0..3).try_for_each(|_| input.null())?;
        return Ok(Vec::new());
    }
    let mut room = Room::new();
    let stamps = decode_stamps(input, count, with_dots, &mut room)?;
    let millis: Vec<u64> = stamps.iter().map(|stamp| stamp.hlc.unix_ms()).collect();
    let ids = read_column(input, count, &millis, &mut room)?;
    let mut shape = 0;
    let mut groups = input.list(|input| {
        shape += 1;
        match order.iter().filter(|of| **of == shape).count() {
            0 => Err(DecodeError::Shape("a group without members")),
            members => decode_group(input, members, &mut room),
        }
    })?;
    let mut shapes = order.iter().filter(|shape| **shape > 0);
    let write = |(stamp, id): (Stamp, Option<Value>)| {
        let group = shapes.next().and_then(|shape| groups.get_mut((*shape as usize).wrapping_sub(1)));
        let group = group.ok_or(DecodeError::Shape("a group that is not there"))?;
        let Some(Value::Text(id)) = id else { return Err(DecodeError::Shape("id")) };
        let key = RecordKey { record_type: group.record_type.clone(), id: RecordId::new(&id)? };
        Ok(Unpacked { key, stamp, values: group.next() })
    };
    stamps.into_iter().zip(ids).map(write).collect()
}

/// Writes of one type and the same fields, as they were read.
struct Group {
    record_type: RecordType,
    fields: Vec<FieldName>,
    columns: Vec<std::vec::IntoIter<Option<Value>>>,
}

impl Group {
    /// The values of its next member.
    fn next(&mut self) -> Vec<(FieldName, Option<Value>)> {
        let values = self.columns.iter_mut().map(|column| column.next().flatten());
        self.fields.iter().cloned().zip(values).collect()
    }
}

fn decode_group(input: &mut In<'_>, members: usize, room: &mut Room) -> Result<Group, DecodeError> {
    input.tuple(3)?;
    let record_type = RecordType::new(input.text()?)?;
    let fields = input.list(|input| FieldName::new(input.text()?))?;
    if fields.len() > FIELDS_MAX {
        return Err(DecodeError::Shape("too many fields"));
    }
    input.tuple(fields.len())?;
    let mut columns: Vec<Vec<Option<Value>>> = Vec::with_capacity(fields.len());
    for _ in &fields {
        columns.push(match input.kind()? {
            Type::Array => read_column(input, members, &[], room)?,
            _ => {
                let same =
                    columns.get(input.uint()? as usize).ok_or(DecodeError::Shape("a column that is not there"))?;
                room.take(same.iter().map(|value| weight(value.as_ref())).sum())?;
                same.clone()
            }
        });
    }
    Ok(Group { record_type, fields, columns: columns.into_iter().map(Vec::into_iter).collect() })
}

/// Columns of what circumstances there are; what is most often one and the same comes first.
fn encode_stamps(out: &mut Out, stamps: &[&Stamp], with_dots: bool) {
    let ints = |out: &mut Out, of: &dyn Fn(&Stamp) -> u64| {
        write_numbers(out, &stamps.iter().map(|stamp| of(stamp)).collect::<Vec<_>>());
    };
    out.array(if with_dots { 10 } else { 6 });
    let author = |stamp: &&Stamp| stamp.author.as_ref().map(|author| Value::Text(author.as_str().to_owned()));
    let authors: Vec<Option<Value>> = stamps.iter().map(author).collect();
    write_column(out, &authors.iter().map(Option::as_ref).collect::<Vec<_>>(), &[]);
    ints(out, &|s| u64::from(s.quality.number()) | u64::from(s.source.0) << 8);
    ints(out, &|s| s.captured_ms.wrapping_sub(s.hlc.unix_ms() as i64) as u64);
    ints(out, &|s| s.seen.0);
    ints(out, &|s| s.hlc.0 & 0xffff);
    ints(out, &|s| s.hlc.unix_ms());
    if with_dots {
        ints(out, &|s| u64::from(s.dot.origin.0));
        ints(out, &|s| u64::from(s.dot.stream.number()));
        ints(out, &|s| s.dot.seq.0);
        ints(out, &|s| s.hseq.0);
    }
}

fn decode_stamps(
    input: &mut In<'_>,
    count: usize,
    with_dots: bool,
    room: &mut Room,
) -> Result<Vec<Stamp>, DecodeError> {
    input.tuple(if with_dots { 10 } else { 6 })?;
    let authors = read_column(input, count, &[], room)?;
    let mut ints = || read_numbers(input, count).map(Vec::into_iter);
    let (mut kinds, mut ahead, mut seen, mut counters, mut millis) = (ints()?, ints()?, ints()?, ints()?, ints()?);
    let mut dots = [vec![0; count], vec![0; count], vec![0; count], vec![0; count]].map(Vec::into_iter);
    if with_dots {
        for column in &mut dots {
            *column = ints()?;
        }
    }
    let [mut origins, mut streams, mut seqs, mut hseqs] = dots;
    let mut stamps = Vec::with_capacity(count);
    for author in authors {
        let next = |column: &mut std::vec::IntoIter<u64>| column.next().ok_or(DecodeError::Shape("a short column"));
        let [source, quality] = small::<u16>(next(&mut kinds)?, "quality and source")?.to_be_bytes();
        let ms = next(&mut millis)?;
        let hlc = Hlc(ms << 16 | u64::from(small::<u16>(next(&mut counters)?, "counter of a clock")?));
        stamps.push(Stamp {
            dot: Dot {
                origin: Origin(small(next(&mut origins)?, "origin")?),
                stream: Stream::from_number(small(next(&mut streams)?, "stream")?)?,
                seq: Seq(next(&mut seqs)?),
            },
            hlc,
            seen: HubSeq(next(&mut seen)?),
            hseq: HubSeq(next(&mut hseqs)?),
            captured_ms: (hlc.unix_ms() as i64).wrapping_add(next(&mut ahead)? as i64),
            quality: TimeQuality::from_number(quality)?,
            source: Source(source),
            author: match author {
                Some(Value::Text(name)) => Some(Author::new(&name)?),
                None => None,
                Some(_) => return Err(DecodeError::Shape("author")),
            },
            settles: None,
        });
    }
    Ok(stamps)
}

fn small<T: TryFrom<u64>>(n: u64, what: &'static str) -> Result<T, DecodeError> {
    T::try_from(n).map_err(|_| DecodeError::Shape(what))
}
