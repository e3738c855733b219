//! Canonical bytes of ops and records: what is hashed, what is kept on disk, and what travels for anything unusual.
//!
//! One value has one encoding: maps are sorted, tables are in order of first use, defaults at the end of a stamp are left
//! out. A record names each write once, in a table, and its cells refer to it, so that sixteen fields written together cost
//! one stamp. `docs/protocol.md` has the layout and vectors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minicbor::data::Type;

use crate::cbor::{In, Out};
use crate::clock::{Hlc, TimeQuality};
use crate::error::DecodeError;
use crate::id::{Author, Dot, FieldName, HubSeq, Origin, RecordKey, Seq, Source, Stream, Writer};
use crate::limits;
use crate::record::{Cell, Change, CounterState, Entry, LogState, Members, Op, Record, SetState, Stamp, State, Touch};
use crate::value::Value;

impl Op {
    /// The canonical bytes: what the history keeps.
    pub fn canonical(&self) -> Vec<u8> {
        self.encoded(&self.stamp)
    }

    /// The canonical bytes without what a repair of the clock can change: what the chain hashes, and what tells a
    /// repetition from another write. Of the time only what remains of it after division by [`limits::REPAIR_STEP_MS`] is
    /// in it, because no repair changes that.
    pub fn identity(&self) -> Vec<u8> {
        let captured_ms = self.stamp.captured_ms.rem_euclid(limits::REPAIR_STEP_MS);
        let (hlc, quality) = (Hlc::default(), TimeQuality::Unknown);
        self.encoded(&Stamp { hlc, captured_ms, quality, ..self.stamp.clone() })
    }

    fn encoded(&self, stamp: &Stamp) -> Vec<u8> {
        let mut out = Out::new();
        out.array(4).text(self.key.record_type.as_str()).text(self.key.id.as_str());
        encode_stamp(&mut out, stamp);
        encode_changes(&mut out, &self.changes);
        out.finish()
    }

    /// Reads what [`Op::canonical`] wrote.
    ///
    /// # Errors
    /// Any [`DecodeError`]: the bytes are not an op.
    pub fn from_canonical(bytes: &[u8]) -> Result<Op, DecodeError> {
        let mut input = In::new(bytes);
        let op = decode_op(&mut input)?;
        input.end()?;
        Ok(op)
    }
}

pub(crate) fn decode_op(input: &mut In<'_>) -> Result<Op, DecodeError> {
    input.tuple(4)?;
    let key = RecordKey::new(input.text()?, input.text()?)?;
    Ok(Op { key, stamp: decode_stamp(input)?, changes: decode_changes(input)? })
}

impl Record {
    /// The canonical bytes: what the digest hashes and the store keeps.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Out::new();
        self.encode(&mut out);
        out.finish()
    }

    pub(crate) fn encode(&self, out: &mut Out) {
        let mut table = StampTable::default();
        for cell in self.cells.values() {
            for stamp in cell.stamps() {
                table.index(stamp);
            }
        }
        out.array(2);
        out.list(table.stamps.iter(), |out, stamp| encode_stamp(out, stamp));
        out.map(self.cells.len());
        for (name, cell) in &self.cells {
            out.text(name.as_str());
            encode_cell(out, cell, &mut table);
        }
    }

    /// Reads what [`Record::canonical`] wrote.
    ///
    /// # Errors
    /// Any [`DecodeError`]: the bytes are not a record.
    pub fn from_canonical(bytes: &[u8]) -> Result<Record, DecodeError> {
        let mut input = In::new(bytes);
        let record = Record::decode(&mut input)?;
        input.end()?;
        Ok(record)
    }

    pub(crate) fn decode(input: &mut In<'_>) -> Result<Record, DecodeError> {
        input.tuple(2)?;
        let stamps = input.list(|input| decode_stamp(input).map(Arc::new))?;
        let mut cells = BTreeMap::new();
        for _ in 0..input.map()? {
            let name = FieldName::new(input.text()?)?;
            cells.insert(name, decode_cell(input, &stamps)?);
        }
        match cells.len() <= limits::FIELDS_MAX {
            true => Ok(Record { cells }),
            false => Err(DecodeError::Shape("too many fields")),
        }
    }
}

/// Each distinct write of a record once, in order of first use.
#[derive(Default)]
struct StampTable {
    stamps: Vec<Arc<Stamp>>,
}

impl StampTable {
    fn index(&mut self, stamp: &Arc<Stamp>) -> usize {
        match self.stamps.iter().position(|known| Arc::ptr_eq(known, stamp) || known == stamp) {
            Some(i) => i,
            None => {
                self.stamps.push(Arc::clone(stamp));
                self.stamps.len() - 1
            }
        }
    }
}

pub(crate) fn encode_dot(out: &mut Out, dot: Dot) {
    out.array(3).uint(u64::from(dot.origin.0)).uint(u64::from(dot.stream.number())).uint(dot.seq.0);
}

pub(crate) fn decode_dot(input: &mut In<'_>) -> Result<Dot, DecodeError> {
    input.tuple(3)?;
    Ok(Dot { origin: Origin(input.u32()?), stream: Stream::from_number(input.u8()?)?, seq: Seq(input.uint()?) })
}

/// Position of the first field of a stamp that may be left out, and the number of all fields.
const STAMP_FIELDS: (usize, usize) = (6, 11);

fn encode_stamp(out: &mut Out, stamp: &Stamp) {
    let ahead_ms = stamp.captured_ms.wrapping_sub(stamp.hlc.unix_ms() as i64);
    let len = if stamp.settles.is_some() {
        STAMP_FIELDS.1
    } else if stamp.author.is_some() {
        10
    } else if stamp.source != Source::CLINIC {
        9
    } else if stamp.quality != TimeQuality::Unknown {
        8
    } else if ahead_ms != 0 {
        7
    } else {
        STAMP_FIELDS.0
    };
    out.array(len);
    out.uint(u64::from(stamp.dot.origin.0)).uint(u64::from(stamp.dot.stream.number())).uint(stamp.dot.seq.0);
    out.uint(stamp.hlc.0).uint(stamp.seen.0).uint(stamp.hseq.0);
    if len > 6 {
        out.int(ahead_ms);
    }
    if len > 7 {
        out.uint(u64::from(stamp.quality.number()));
    }
    if len > 8 {
        out.uint(u64::from(stamp.source.0));
    }
    if len > 9 {
        encode_optional_text(out, stamp.author.as_ref().map(Author::as_str));
    }
    if len > 10 {
        encode_optional_text(out, stamp.settles.as_deref());
    }
}

fn decode_stamp(input: &mut In<'_>) -> Result<Stamp, DecodeError> {
    let len = input.array()?;
    if !(STAMP_FIELDS.0..=STAMP_FIELDS.1).contains(&len) {
        return Err(DecodeError::Shape("stamp of another length"));
    }
    let dot = Dot { origin: Origin(input.u32()?), stream: Stream::from_number(input.u8()?)?, seq: Seq(input.uint()?) };
    let hlc = Hlc(input.uint()?);
    let (seen, hseq) = (HubSeq(input.uint()?), HubSeq(input.uint()?));
    let ahead_ms = if len > 6 { input.int()? } else { 0 };
    Ok(Stamp {
        dot,
        hlc,
        seen,
        hseq,
        captured_ms: (hlc.unix_ms() as i64).wrapping_add(ahead_ms),
        quality: if len > 7 { TimeQuality::from_number(input.u8()?)? } else { TimeQuality::Unknown },
        source: Source(if len > 8 { input.u8()? } else { 0 }),
        author: if len > 9 { decode_optional_text(input)?.map(Author::new).transpose()? } else { None },
        settles: if len > 10 { decode_note(input)? } else { None },
    })
}

pub(crate) fn decode_note(input: &mut In<'_>) -> Result<Option<Arc<str>>, DecodeError> {
    match decode_optional_text(input)? {
        Some(text) if text.len() > limits::NOTE_BYTES_MAX => {
            Err(DecodeError::TooLarge { what: "note", limit: limits::NOTE_BYTES_MAX })
        }
        text => Ok(text.map(Arc::from)),
    }
}

pub(crate) fn encode_optional_text(out: &mut Out, text: Option<&str>) {
    match text {
        Some(text) => out.text(text),
        None => out.null(),
    };
}

pub(crate) fn decode_optional_text<'b>(input: &mut In<'b>) -> Result<Option<&'b str>, DecodeError> {
    match input.kind()? {
        Type::Null => input.skip().map(|()| None),
        _ => input.text().map(Some),
    }
}

/// `undefined` stands for a field that was removed.
pub(crate) fn encode_optional_value(out: &mut Out, value: Option<&Value>) {
    match value {
        Some(value) => value.encode(out),
        None => out.undefined().done(),
    }
}

pub(crate) fn decode_optional_value(input: &mut In<'_>) -> Result<Option<Value>, DecodeError> {
    match input.kind()? {
        Type::Undefined => input.skip().map(|()| None),
        _ => Value::decode(input).map(Some),
    }
}

fn encode_cell(out: &mut Out, cell: &Cell, table: &mut StampTable) {
    match &cell.state {
        State::Register(entries) => match entries.as_slice() {
            [only] if only.stamp.hseq == cell.changed => {
                out.array(2).uint(table.index(&only.stamp) as u64);
                encode_optional_value(out, only.value.as_ref());
            }
            entries => {
                out.array(3).uint(0).uint(cell.changed.0);
                out.list(entries.iter(), |out, entry| {
                    out.array(2).uint(table.index(&entry.stamp) as u64);
                    encode_optional_value(out, entry.value.as_ref());
                });
            }
        },
        State::Set(set) => {
            let has_ahead = !set.ahead.is_empty();
            out.array(if has_ahead { 7 } else { 6 }).uint(1).uint(cell.changed.0);
            encode_touch(out, &set.touch, table);
            encode_writers(out, &set.clock);
            encode_members(out, &set.members);
            if has_ahead {
                encode_members(out, &set.ahead);
            }
        }
        State::Log(log) => {
            out.array(5).uint(2).uint(cell.changed.0);
            encode_touch(out, &log.touch, table);
            out.list(log.entries.iter(), |out, (hlc, dot, nth, value)| {
                out.array(4).uint(hlc.0);
                encode_dot(out, *dot);
                value.encode(out.uint(u64::from(*nth)));
            });
        }
        State::Counter(counter) => {
            out.array(5).uint(3).uint(cell.changed.0);
            encode_touch(out, &counter.touch, table);
            out.list(counter.totals.iter(), |out, (origin, (plus, minus))| {
                out.array(3).uint(u64::from(origin.0)).uint(*plus).uint(*minus);
            });
        }
    }
}

fn decode_cell(input: &mut In<'_>, stamps: &[Arc<Stamp>]) -> Result<Cell, DecodeError> {
    let len = input.array()?;
    if len == 2 {
        let entry = decode_entry(input, stamps)?;
        return Ok(Cell { changed: entry.stamp.hseq, state: State::Register(vec![entry]) });
    }
    let kind = input.u8()?;
    let changed = HubSeq(input.uint()?);
    let state = match (kind, len) {
        (0, 3) => State::Register(input.list(|input| {
            input.tuple(2)?;
            decode_entry(input, stamps)
        })?),
        (1, 6 | 7) => State::Set(SetState {
            touch: decode_touch(input, stamps)?,
            clock: decode_writers(input)?,
            members: decode_members(input)?,
            ahead: if len == 7 { decode_members(input)? } else { BTreeMap::new() },
        }),
        (2, 5) => {
            let touch = decode_touch(input, stamps)?;
            let entries = input.list(|input| {
                input.tuple(4)?;
                let hlc = Hlc(input.uint()?);
                Ok((hlc, decode_dot(input)?, input.u32()?, Value::decode(input)?))
            })?;
            State::Log(LogState { touch, entries: entries.into_iter().collect::<BTreeSet<_>>() })
        }
        (3, 5) => State::Counter(CounterState {
            touch: decode_touch(input, stamps)?,
            totals: collect(input, |input| {
                input.tuple(3)?;
                Ok((Origin(input.u32()?), (input.uint()?, input.uint()?)))
            })?,
        }),
        _ => return Err(DecodeError::Shape("unknown kind of cell")),
    };
    Ok(Cell { changed, state })
}

fn decode_entry(input: &mut In<'_>, stamps: &[Arc<Stamp>]) -> Result<Entry, DecodeError> {
    Ok(Entry { stamp: stamp_at(input, stamps)?, value: decode_optional_value(input)? })
}

fn stamp_at(input: &mut In<'_>, stamps: &[Arc<Stamp>]) -> Result<Arc<Stamp>, DecodeError> {
    let index = input.uint()? as usize;
    stamps.get(index).cloned().ok_or(DecodeError::Shape("a cell names a write that is not in the table"))
}

/// Two items of the surrounding array.
fn encode_touch(out: &mut Out, touch: &Touch, table: &mut StampTable) {
    out.uint(table.index(&touch.last) as u64).uint(touch.basis.0);
}

fn decode_touch(input: &mut In<'_>, stamps: &[Arc<Stamp>]) -> Result<Touch, DecodeError> {
    Ok(Touch { last: stamp_at(input, stamps)?, basis: HubSeq(input.uint()?) })
}

fn encode_writers(out: &mut Out, writers: &BTreeMap<Writer, u64>) {
    out.list(writers.iter(), |out, ((origin, stream), seq)| {
        out.array(3).uint(u64::from(origin.0)).uint(u64::from(*stream)).uint(*seq);
    });
}

fn decode_writers(input: &mut In<'_>) -> Result<BTreeMap<Writer, u64>, DecodeError> {
    collect(input, |input| {
        input.tuple(3)?;
        Ok(((Origin(input.u32()?), Stream::from_number(input.u8()?)?.number()), input.uint()?))
    })
}

fn encode_members(out: &mut Out, members: &Members) {
    out.list(members.iter(), |out, (member, dots)| {
        member.encode(out.array(2));
        encode_writers(out, dots);
    });
}

fn decode_members(input: &mut In<'_>) -> Result<Members, DecodeError> {
    collect(input, |input| {
        input.tuple(2)?;
        Ok((Value::decode(input)?, decode_writers(input)?))
    })
}

fn collect<K: Ord, V>(
    input: &mut In<'_>,
    each: impl FnMut(&mut In<'_>) -> Result<(K, V), DecodeError>,
) -> Result<BTreeMap<K, V>, DecodeError> {
    Ok(input.list(each)?.into_iter().collect())
}

fn encode_changes(out: &mut Out, changes: &BTreeMap<FieldName, Change>) {
    out.map(changes.len());
    for (name, change) in changes {
        out.text(name.as_str());
        encode_change(out, change);
    }
}

fn decode_changes(input: &mut In<'_>) -> Result<BTreeMap<FieldName, Change>, DecodeError> {
    let len = input.map()?;
    if len > limits::FIELDS_MAX {
        return Err(DecodeError::Shape("too many fields"));
    }
    let mut changes = BTreeMap::new();
    for _ in 0..len {
        changes.insert(FieldName::new(input.text()?)?, decode_change(input)?);
    }
    Ok(changes)
}

fn encode_change(out: &mut Out, change: &Change) {
    match change {
        Change::Put { value, unseen } if unseen.is_empty() => {
            encode_optional_value(out.array(2).uint(0), value.as_ref());
        }
        Change::Put { value, unseen } => {
            encode_optional_value(out.array(3).uint(0), value.as_ref());
            out.list(unseen.iter(), |out, dot| encode_dot(out, *dot));
        }
        Change::Members { add, remove } => {
            out.array(3).uint(1).list(add.iter(), |out, member| member.encode(out));
            out.list(remove.iter(), |out, (member, dots)| {
                member.encode(out.array(2));
                encode_writers(out, dots);
            });
        }
        Change::Append(values) => out.array(2).uint(2).list(values.iter(), |out, value| value.encode(out)).done(),
        Change::Count { plus, minus } => out.array(3).uint(3).uint(*plus).uint(*minus).done(),
    }
}

fn decode_change(input: &mut In<'_>) -> Result<Change, DecodeError> {
    let len = input.array()?;
    Ok(match (input.u8()?, len) {
        (0, 2) => Change::Put { value: decode_optional_value(input)?, unseen: Vec::new() },
        (0, 3) => Change::Put { value: decode_optional_value(input)?, unseen: input.list(decode_dot)? },
        (1, 3) => Change::Members {
            add: input.list(Value::decode)?,
            remove: input.list(|input| {
                input.tuple(2)?;
                Ok((Value::decode(input)?, decode_writers(input)?))
            })?,
        },
        (2, 2) => Change::Append(input.list(Value::decode)?),
        (3, 3) => Change::Count { plus: input.uint()?, minus: input.uint()? },
        _ => return Err(DecodeError::Shape("unknown kind of change")),
    })
}
