//! What is inside a frame: ops on the way up, rows on the way down.
//!
//! Plain writes, each field a new value under one stamp, are written column by column (`plain`); whatever is not plain
//! travels in its canonical form beside them. The order is kept.

mod column;
mod numbers;
mod plain;
mod text;

use minicbor::data::Type;

use self::numbers::{read_numbers, write_numbers};
use self::plain::{Plain, Plains, decode_plains, plain_cells, plain_op};
use crate::cbor::{In, Out};
use crate::codec::{decode_dot, decode_op, encode_dot};
use crate::error::DecodeError;
use crate::id::{Dot, HubSeq, RecordKey, Seq};
use crate::limits::FRAME_ITEMS_MAX;
use crate::record::{Op, Record};

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

impl Notice {
    /// Whether the op does not wait any more.
    pub fn settles(&self) -> bool {
        !matches!(self.news, News::Held(_))
    }
}

impl Payload {
    /// About how many bytes of memory the values of its plain writes take, each for itself. A reader refuses more than
    /// [`crate::limits::FRAME_UNPACKED_BYTES_LIMIT`].
    pub fn weight(&self) -> usize {
        let plains = |plain: Option<Plain<'_>>| plain.map_or(0, |plain| plain.weight());
        match self {
            Payload::Ops(ops) => ops.iter().map(|op| plains(plain_op(op))).sum(),
            Payload::Rows(Rows { rows, .. }) => rows.iter().map(|row| plains(plain_row(row))).sum(),
        }
    }

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
            (KIND_OPS, 8) => Payload::Ops(decode_ops(&mut input)?),
            (KIND_ROWS, 11) => Payload::Rows(decode_rows(&mut input)?),
            _ => return Err(DecodeError::Shape("unknown kind of frame")),
        };
        input.end()?;
        Ok(payload)
    }
}

fn encode_ops(out: &mut Out, ops: &[Op]) {
    let mut plains = Plains::default();
    let mut odd = Vec::new();
    let mut place = |op| {
        plain_op(op).map_or_else(
            || {
                odd.push(op);
                0
            },
            |plain| plains.push(plain),
        )
    };
    let order: Vec<u64> = ops.iter().map(&mut place).collect();
    out.array(8).uint(KIND_OPS).uint(ops.len() as u64);
    write_numbers(out, &order);
    match ops.first() {
        Some(first) => encode_dot(out, first.stamp.dot),
        None => out.null().done(),
    }
    plains.encode(out, false);
    out.list(odd.into_iter(), |out, op: &Op| out.raw(&op.canonical()).done());
}

fn decode_ops(input: &mut In<'_>) -> Result<Vec<Op>, DecodeError> {
    let count = checked_count(input.uint()?)?;
    let order = read_numbers(input, count)?;
    let first = decode_dot(input)?;
    let mut plains = decode_plains(input, &order, false)?.into_iter();
    let mut odd = input.list(decode_op)?.into_iter();
    let mut ops = Vec::with_capacity(count);
    for (at, shape) in order.into_iter().enumerate() {
        let seq = Seq(first.seq.0.checked_add(at as u64).ok_or(DecodeError::Shape("sequence number"))?);
        let dot = Dot { seq, ..first };
        let op = match shape {
            0 => odd.next().filter(|op| op.stamp.dot == dot),
            _ => plains.next().map(|plain| plain.into_op(dot)),
        };
        ops.push(op.ok_or(DecodeError::Shape("op out of order"))?);
    }
    match odd.next() {
        None => Ok(ops),
        Some(_) => Err(DecodeError::Shape("an op without a place")),
    }
}

fn checked_count(count: u64) -> Result<usize, DecodeError> {
    match count <= FRAME_ITEMS_MAX as u64 {
        true => Ok(count as usize),
        false => Err(DecodeError::TooLarge { what: "number of items in a frame", limit: FRAME_ITEMS_MAX }),
    }
}

/// A row as one plain write, if that is what it is.
fn plain_row(row: &Row) -> Option<Plain<'_>> {
    match row {
        Row::Cells { key, record, whole: false } => plain_cells(key, record),
        _ => None,
    }
}

fn encode_rows(out: &mut Out, rows: &Rows) {
    let mut plains = Plains::default();
    let (mut odd, mut evicted, mut notices) = (Vec::new(), Vec::new(), Vec::new());
    let mut order = Vec::new();
    for row in &rows.rows {
        match row {
            Row::Cells { key, record, whole } => match plain_row(row) {
                Some(plain) => order.push(plains.push(plain)),
                None => {
                    order.push(0);
                    odd.push((key, record, *whole));
                }
            },
            Row::Evict(key) => evicted.push(key),
            Row::Notice(notice) => notices.push(notice),
        }
    }
    out.array(11).uint(KIND_ROWS).uint(rows.reaches.cursor.0);
    match rows.reaches.backfill {
        Some(reach) => out.uint(reach.0),
        None => out.null(),
    };
    write_numbers(out.uint(order.len() as u64), &order);
    plains.encode(out, true);
    out.list(odd.into_iter(), |out, (key, record, whole)| {
        out.array(4).text(key.record_type.as_str()).text(key.id.as_str()).bool(whole);
        record.encode(out);
    });
    out.list(notices.into_iter(), encode_notice);
    out.list(evicted.into_iter(), |out, key| out.array(2).text(key.record_type.as_str()).text(key.id.as_str()).done());
}

fn decode_rows(input: &mut In<'_>) -> Result<Rows, DecodeError> {
    let cursor = HubSeq(input.uint()?);
    let backfill = match input.kind()? {
        Type::Null => input.skip().map(|()| None)?,
        _ => Some(HubSeq(input.uint()?)),
    };
    let count = checked_count(input.uint()?)?;
    let order = read_numbers(input, count)?;
    let mut plains = decode_plains(input, &order, true)?.into_iter();
    let odd = input.list(|input| {
        input.tuple(4)?;
        let key = RecordKey::new(input.text()?, input.text()?)?;
        let whole = input.bool()?;
        Ok(Row::Cells { key, whole, record: Record::decode(input)? })
    })?;
    let mut odd = odd.into_iter();
    let mut rows = Vec::with_capacity(order.len());
    for shape in order {
        let row = match shape {
            0 => odd.next(),
            _ => plains.next().map(|plain| {
                let (key, record) = plain.into_cells();
                Row::Cells { key, record, whole: false }
            }),
        };
        rows.push(row.ok_or(DecodeError::Shape("row out of order"))?);
    }
    if odd.next().is_some() {
        return Err(DecodeError::Shape("a row without a place"));
    }
    // What a notice settles may be all that held a record back, so evictions come last.
    rows.extend(input.list(|input| decode_notice(input).map(Row::Notice))?);
    rows.extend(input.list(|input| {
        input.tuple(2)?;
        RecordKey::new(input.text()?, input.text()?).map(Row::Evict)
    })?);
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
