//! What is inside a frame: ops on the way up, rows on the way down.
//!
//! Alike things are put into groups (same type, same fields, each field a plain new value) and written column by column
//! (`table`); whatever is not alike travels in its canonical form beside them. The order of ops is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cbor::{In, Out};
use crate::clock::{Hlc, TimeQuality};
use crate::codec::{decode_dot, decode_op, encode_dot};
use crate::error::DecodeError;
use crate::id::{Author, Dot, FieldName, HubSeq, Origin, RecordKey, RecordType, Seq, Source, Stream};
use crate::limits::{FIELDS_MAX, FRAME_ITEMS_MAX};
use crate::record::{Cell, Change, Entry, Op, Record, Stamp, State};
use crate::table::{read_column, read_ints, read_text, read_value, write_column, write_ints, write_text, write_value};
use crate::value::Value;

const KIND_OPS: u64 = 1;
const KIND_ROWS: u64 = 2;

/// Everything that one frame carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Ops of one stream, contiguous from the first.
    Ops(Vec<Op>),
    /// Changes from the hub.
    Rows(Rows),
}

/// Changes from the hub, and how far they reach.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// Where the receiver stands once these are applied.
    pub reaches: Reach,
    /// The changes, in order.
    pub rows: Vec<Row>,
}

/// A position in the hub's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// Everything in view up to here has been sent.
    pub cursor: HubSeq,
    /// Progress of the back-fill, if these rows belong to it: everything of the new scopes up to here has been sent.
    pub backfill: Option<HubSeq>,
}

/// One change from the hub.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Cells of a record as the hub has them now.
    Cells {
        /// The record.
        key: RecordKey,
        /// The changed cells, or all of them.
        record: Record,
        /// All of them: what the receiver has confirmed beyond these is wrong.
        whole: bool,
    },
    /// The record left the receiver's scopes.
    Evict(RecordKey),
    /// What became of an op of the receiver that the hub could not apply at once.
    Notice(Notice),
}

/// News of an op that the hub stored in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The op.
    pub dot: Dot,
    /// Its record.
    pub key: RecordKey,
    /// What happened.
    pub news: News,
}

/// What happened to an op in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It waits, for a reason that a person can read.
    Held(String),
    /// It was applied after all, as this change of the hub.
    Released(HubSeq),
    /// A person decided to drop it. It stays in the history.
    Discarded(String),
}

impl Payload {
    /// The bytes to pack into a frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Out::new();
        match self {
            Payload::Ops(ops) => encode_ops(&mut out, ops),
            Payload::Rows(rows) => encode_rows(&mut out, rows),
        }
        out.finish()
    }

    /// Reads the bytes of an unpacked frame.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Payload, DecodeError> {
        let mut input = In::new(bytes);
        let len = input.array()?;
        let payload = match (input.uint()?, len) {
            (KIND_OPS, 6) => Payload::Ops(decode_ops(&mut input)?),
            (KIND_ROWS, 8) => Payload::Rows(decode_rows(&mut input)?),
            _ => return Err(DecodeError::Shape("unknown kind of frame")),
        };
        input.end()?;
        Ok(payload)
    }
}

/// A write whose fields are all plain values under one stamp.
struct Plain<'a> {
    key: &'a RecordKey,
    stamp: &'a Stamp,
    values: Vec<(&'a FieldName, Option<Value>)>,
}

type Shape<'a> = (&'a RecordType, Vec<&'a FieldName>);

/// Plain writes by shape, in order of first appearance.
#[derive(Default)]
struct Groups<'a> {
    index: BTreeMap<Shape<'a>, usize>,
    groups: Vec<(Shape<'a>, Vec<Plain<'a>>)>,
}

impl<'a> Groups<'a> {
    fn push(&mut self, plain: Plain<'a>) -> usize {
        let shape: Shape<'a> = (&plain.key.record_type, plain.values.iter().map(|(name, _)| *name).collect());
        let next = self.groups.len();
        let at = *self.index.entry(shape.clone()).or_insert(next);
        match self.groups.get_mut(at) {
            Some((_, members)) => members.push(plain),
            None => self.groups.push((shape, vec![plain])),
        }
        at
    }
}

fn encode_ops(out: &mut Out, ops: &[Op]) {
    let mut groups = Groups::default();
    let mut order = Vec::with_capacity(ops.len());
    let mut odd = Vec::new();
    for op in ops {
        match plain_op(op) {
            Some(plain) => order.push(groups.push(plain) as u64 + 1),
            None => {
                order.push(0);
                odd.push(op);
            }
        }
    }
    let first = ops.first().map(|op| op.stamp.dot);
    out.array(6).uint(KIND_OPS);
    match first {
        Some(dot) => encode_dot(out, dot),
        None => out.null().done(),
    }
    out.uint(ops.len() as u64);
    write_ints(out, &order);
    out.list(groups.groups.iter(), |out, (shape, members)| encode_group(out, shape, members, false));
    out.list(odd.into_iter(), |out, op| out.raw(&op.canonical()).done());
}

fn plain_op(op: &Op) -> Option<Plain<'_>> {
    if op.stamp.settles.is_some() {
        return None;
    }
    let values = op.changes.iter().map(|(name, change)| match change {
        Change::Put { value, unseen } if unseen.is_empty() => Some((name, value.clone())),
        _ => None,
    });
    Some(Plain { key: &op.key, stamp: &op.stamp, values: values.collect::<Option<_>>()? })
}

fn decode_ops(input: &mut In<'_>) -> Result<Vec<Op>, DecodeError> {
    let first = decode_dot(input)?;
    let count = checked_count(input.uint()?)?;
    let order = read_ints(input, count)?;
    let mut groups = read_groups(input, false)?;
    let mut odd = input.list(decode_op)?.into_iter();
    let mut ops = Vec::with_capacity(count);
    for (at, group) in order.into_iter().enumerate() {
        let seq = Seq(first.seq.0.checked_add(at as u64).ok_or(DecodeError::Shape("sequence number"))?);
        let dot = Dot { seq, ..first };
        ops.push(match group {
            0 => odd.next().filter(|op| op.stamp.dot == dot).ok_or(DecodeError::Shape("op out of order"))?,
            group => {
                let (key, stamp, values) = next_of(&mut groups, group)?;
                let changes = values.into_iter().map(|(name, value)| (name, Change::Put { value, unseen: Vec::new() }));
                Op { key, stamp: Stamp { dot, ..stamp }, changes: changes.collect() }
            }
        });
    }
    Ok(ops)
}

fn checked_count(count: u64) -> Result<usize, DecodeError> {
    match count <= FRAME_ITEMS_MAX as u64 {
        true => Ok(count as usize),
        false => Err(DecodeError::TooLarge { what: "number of items in a frame", limit: FRAME_ITEMS_MAX }),
    }
}

type Unpacked = (RecordKey, Stamp, Vec<(FieldName, Option<Value>)>);

fn next_of(groups: &mut [std::vec::IntoIter<Unpacked>], group: u64) -> Result<Unpacked, DecodeError> {
    let at = (group as usize).wrapping_sub(1);
    groups.get_mut(at).and_then(Iterator::next).ok_or(DecodeError::Shape("a group with fewer members than named"))
}

fn encode_group(out: &mut Out, (record_type, fields): &Shape<'_>, members: &[Plain<'_>], with_dots: bool) {
    out.array(if with_dots { 14 } else { 10 });
    out.text(record_type.as_str());
    out.list(fields.iter(), |out, name| out.text(name.as_str()).done());
    write_column(out, &members.iter().map(|m| m.key.id.as_str()).collect::<Vec<_>>(), |out, id| write_text(out, id));
    out.uint(members.len() as u64);
    let ints = |out: &mut Out, of: &dyn Fn(&Stamp) -> u64| {
        write_ints(out, &members.iter().map(|m| of(m.stamp)).collect::<Vec<_>>());
    };
    ints(out, &|s| s.hlc.0);
    ints(out, &|s| s.seen.0);
    ints(out, &|s| s.captured_ms.wrapping_sub(s.hlc.unix_ms() as i64) as u64);
    ints(out, &|s| u64::from(s.quality.number()) | u64::from(s.source.0) << 8);
    let authors: Vec<_> =
        members.iter().map(|m| m.stamp.author.as_ref().map(|a| Value::Text(a.as_str().into()))).collect();
    write_column(out, &authors, write_value);
    if with_dots {
        ints(out, &|s| u64::from(s.dot.origin.0));
        ints(out, &|s| u64::from(s.dot.stream.number()));
        ints(out, &|s| s.dot.seq.0);
        ints(out, &|s| s.hseq.0);
    }
    out.list(0..fields.len(), |out, at| {
        let column: Vec<_> = members.iter().map(|m| m.values.get(at).and_then(|(_, v)| v.clone())).collect();
        write_column(out, &column, write_value);
    });
}

fn read_groups(input: &mut In<'_>, with_dots: bool) -> Result<Vec<std::vec::IntoIter<Unpacked>>, DecodeError> {
    let mut members = 0;
    let groups = input.list(|input| {
        let group = decode_group(input, with_dots)?;
        members = checked_count((members + group.len()) as u64)?;
        Ok(group)
    })?;
    Ok(groups.into_iter().map(Vec::into_iter).collect())
}

fn decode_group(input: &mut In<'_>, with_dots: bool) -> Result<Vec<Unpacked>, DecodeError> {
    input.tuple(if with_dots { 14 } else { 10 })?;
    let record_type = RecordType::new(input.text()?)?;
    let fields = input.list(|input| FieldName::new(input.text()?))?;
    if fields.len() > FIELDS_MAX {
        return Err(DecodeError::Shape("too many fields"));
    }
    let ids = input.list(read_text)?;
    let count = checked_count(input.uint()?)?;
    let ids = match (ids.as_slice(), count) {
        ([same], count) => vec![same.clone(); count],
        (ids, count) if ids.len() == count => ids.to_vec(),
        _ => return Err(DecodeError::Shape("a column of another length")),
    };
    let mut ints = || read_ints(input, count);
    let (hlc, seen, ahead, kinds) = (ints()?, ints()?, ints()?, ints()?);
    let authors = read_column(input, count, read_value)?;
    let mut dots = [vec![0; count], vec![1; count], vec![0; count], vec![0; count]];
    if with_dots {
        for column in &mut dots {
            *column = read_ints(input, count)?;
        }
    }
    let columns = input.list(|input| read_column(input, count, read_value))?;
    if columns.len() != fields.len() {
        return Err(DecodeError::Shape("as many columns as fields"));
    }
    let [origins, streams, seqs, hseqs] = dots;
    let mut values: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    let mut members = Vec::with_capacity(count);
    let stamps = hlc.into_iter().zip(seen).zip(ahead).zip(kinds).zip(authors);
    let dots = origins.into_iter().zip(streams).zip(seqs).zip(hseqs);
    for ((id, ((((hlc, seen), ahead), kinds), author)), (((origin, stream), seq), hseq)) in
        ids.iter().zip(stamps).zip(dots)
    {
        let origin = u32::try_from(origin).map_err(|_| DecodeError::Shape("origin"))?;
        let stream = u8::try_from(stream).map_err(|_| DecodeError::Shape("stream"))?;
        let author = match author {
            Some(Value::Text(name)) => Some(Author::new(&name)?),
            None => None,
            Some(_) => return Err(DecodeError::Shape("author")),
        };
        let stamp = Stamp {
            dot: Dot { origin: Origin(origin), stream: Stream::from_number(stream)?, seq: Seq(seq) },
            hlc: Hlc(hlc),
            seen: HubSeq(seen),
            hseq: HubSeq(hseq),
            captured_ms: (Hlc(hlc).unix_ms() as i64).wrapping_add(ahead as i64),
            quality: TimeQuality::from_number((kinds & 0xff) as u8),
            source: Source((kinds >> 8) as u8),
            author,
            settles: None,
        };
        let key = RecordKey { record_type: record_type.clone(), id: crate::id::RecordId::new(id)? };
        let row = fields.iter().cloned().zip(values.iter_mut().map(|column| column.next().flatten())).collect();
        members.push((key, stamp, row));
    }
    Ok(members)
}

/// A record's cells as one plain write, if that is what they are.
fn plain_cells<'a>(key: &'a RecordKey, record: &'a Record) -> Option<Plain<'a>> {
    let mut stamp: Option<&Arc<Stamp>> = None;
    let mut values = Vec::with_capacity(record.cells.len());
    for (name, cell) in &record.cells {
        let State::Register(entries) = &cell.state else { return None };
        let [entry] = entries.as_slice() else { return None };
        if cell.changed != entry.stamp.hseq || stamp.is_some_and(|s| *s != entry.stamp) {
            return None;
        }
        stamp = Some(&entry.stamp);
        values.push((name, entry.value.clone()));
    }
    let stamp = stamp.filter(|s| s.settles.is_none())?;
    Some(Plain { key, stamp, values })
}

fn encode_rows(out: &mut Out, rows: &Rows) {
    let mut groups = Groups::default();
    let (mut odd, mut evicted, mut notices) = (Vec::new(), Vec::new(), Vec::new());
    let mut order = Vec::new();
    for row in &rows.rows {
        match row {
            Row::Cells { key, record, whole } => match plain_cells(key, record).filter(|_| !whole) {
                Some(plain) => order.push(groups.push(plain) as u64 + 1),
                None => {
                    order.push(0);
                    odd.push((key, record, *whole));
                }
            },
            Row::Evict(key) => evicted.push(key),
            Row::Notice(notice) => notices.push(notice),
        }
    }
    out.array(8).uint(KIND_ROWS).uint(rows.reaches.cursor.0);
    match rows.reaches.backfill {
        Some(reach) => out.uint(reach.0),
        None => out.null(),
    };
    out.list(order.iter(), |out, group| out.uint(*group).done());
    out.list(groups.groups.iter(), |out, (shape, members)| encode_group(out, shape, members, true));
    out.list(odd.into_iter(), |out, (key, record, whole)| {
        out.array(4).text(key.record_type.as_str()).text(key.id.as_str()).bool(whole);
        record.encode(out);
    });
    out.list(evicted.into_iter(), |out, key| out.array(2).text(key.record_type.as_str()).text(key.id.as_str()).done());
    out.list(notices.into_iter(), encode_notice);
}

fn decode_rows(input: &mut In<'_>) -> Result<Rows, DecodeError> {
    let cursor = HubSeq(input.uint()?);
    let backfill = match input.kind()? {
        minicbor::data::Type::Null => input.skip().map(|()| None)?,
        _ => Some(HubSeq(input.uint()?)),
    };
    let order = input.list(In::uint)?;
    checked_count(order.len() as u64)?;
    let mut groups = read_groups(input, true)?;
    let odd = input.list(|input| {
        input.tuple(4)?;
        let key = RecordKey::new(input.text()?, input.text()?)?;
        let whole = input.bool()?;
        Ok(Row::Cells { key, whole, record: Record::decode(input)? })
    })?;
    let mut odd = odd.into_iter();
    let mut rows = Vec::with_capacity(order.len());
    for group in order {
        rows.push(match group {
            0 => odd.next().ok_or(DecodeError::Shape("row out of order"))?,
            group => {
                let (key, stamp, values) = next_of(&mut groups, group)?;
                let (stamp, changed) = (Arc::new(stamp.clone()), stamp.hseq);
                let cells = values.into_iter().map(|(name, value)| {
                    let entry = Entry { stamp: Arc::clone(&stamp), value };
                    (name, Cell { changed, state: State::Register(vec![entry]) })
                });
                Row::Cells { key, whole: false, record: Record { cells: cells.collect() } }
            }
        });
    }
    rows.extend(input.list(|input| {
        input.tuple(2)?;
        RecordKey::new(input.text()?, input.text()?).map(Row::Evict)
    })?);
    rows.extend(input.list(|input| decode_notice(input).map(Row::Notice))?);
    Ok(Rows { reaches: Reach { cursor, backfill }, rows })
}

fn encode_notice(out: &mut Out, notice: &Notice) {
    out.array(5);
    encode_dot(out, notice.dot);
    out.text(notice.key.record_type.as_str()).text(notice.key.id.as_str());
    match &notice.news {
        News::Held(reason) => out.uint(0).text(reason),
        News::Released(hseq) => out.uint(1).uint(hseq.0),
        News::Discarded(reason) => out.uint(2).text(reason),
    };
}

fn decode_notice(input: &mut In<'_>) -> Result<Notice, DecodeError> {
    input.tuple(5)?;
    let dot = decode_dot(input)?;
    let key = RecordKey::new(input.text()?, input.text()?)?;
    let news = match input.uint()? {
        0 => News::Held(input.text()?.to_owned()),
        1 => News::Released(HubSeq(input.uint()?)),
        2 => News::Discarded(input.text()?.to_owned()),
        _ => return Err(DecodeError::Shape("unknown kind of notice")),
    };
    Ok(Notice { dot, key, news })
}
