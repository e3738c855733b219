//! The history: own ops, which are the outbox, and what changes from the hub replaced.
//!
//! The rows of a record are a list: its row in `records` names the newest, each names the one before it. So the history needs
//! no index, and a capture touches one page of it. A row also holds the cells that it changed as they were, and the
//! tag that the record had: going back through the list rebuilds what an app had read ([`apply_backwards`]).

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use sync_protocol::digest::Chain;
use sync_protocol::id::{Dot, FieldName, HubSeq, Origin, Seq, Stream};
use sync_protocol::merge::{Superseded, Why};
use sync_protocol::record::{Cell, Entry, Op, Record, State};
use sync_protocol::value::Value;

use super::codec::Codec;
use super::keep::cells_before;
use super::number::{incarnation, lane, own, seq};
use super::retention::NOTHING_OLDER;
use super::row::GONE;
use super::tx::Tx;
use crate::error::Error;

/// Not known to the hub.
pub(super) const PENDING: i64 = 0;
/// Applied by the hub.
pub(super) const CONFIRMED: i64 = 1;
/// In quarantine at the hub.
pub(super) const PARKED: i64 = 2;
/// Dropped by a person.
pub(super) const DISCARDED: i64 = 3;
/// Not an own op, but a change from the hub.
pub(super) const FROM_HUB: i64 = 4;

/// Whether an op of this fate is still to be shown on top of what is confirmed.
pub(super) fn is_unsettled(fate: i64) -> bool {
    fate == PENDING || fate == PARKED
}

/// A row of `history`.
#[derive(Debug, Clone)]
pub(super) struct HistoryRow {
    pub(super) number: i64,
    /// Negative if rows between the two were forgotten.
    pub(super) older: i64,
    pub(super) fate: i64,
    pub(super) hseq: i64,
    pub(super) noted_ms: i64,
    pub(super) chain: Vec<u8>,
    pub(super) etag_before: Vec<u8>,
    pub(super) op: Vec<u8>,
    pub(super) before: Vec<u8>,
    pub(super) superseded: Vec<u8>,
    pub(super) boot: i64,
    pub(super) mono_ms: i64,
}

impl HistoryRow {
    /// A row that says nothing.
    pub(super) fn blank() -> HistoryRow {
        HistoryRow {
            number: 0,
            older: 0,
            fate: PENDING,
            hseq: 0,
            noted_ms: 0,
            chain: Vec::new(),
            etag_before: Vec::new(),
            op: Vec::new(),
            before: Vec::new(),
            superseded: Vec::new(),
            boot: 0,
            mono_ms: 0,
        }
    }

    pub(super) fn find(db: &Connection, number: i64) -> Result<Option<HistoryRow>, Error> {
        let mut statement = db.prepare_cached(
            "SELECT number, older, fate, hseq, noted_ms, chain, etag_before, op, before, superseded, boot, mono_ms \
             FROM history WHERE number = ?1",
        )?;
        Ok(statement.query_row([number], HistoryRow::read).optional()?)
    }

    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<HistoryRow> {
        Ok(HistoryRow {
            number: row.get(0)?,
            older: row.get(1)?,
            fate: row.get(2)?,
            hseq: row.get(3)?,
            noted_ms: row.get(4)?,
            chain: row.get(5)?,
            etag_before: row.get(6)?,
            op: row.get(7)?,
            before: row.get(8)?,
            superseded: row.get(9)?,
            boot: row.get(10)?,
            mono_ms: row.get(11)?,
        })
    }

    pub(super) fn insert(&self, db: &Connection) -> Result<(), Error> {
        let mut insert = db.prepare_cached(
            "INSERT INTO history (number, older, fate, hseq, noted_ms, chain, etag_before, op, before, superseded, boot, \
             mono_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?;
        insert.execute(rusqlite::params![
            self.number,
            self.older,
            self.fate,
            self.hseq,
            self.noted_ms,
            self.chain,
            self.etag_before,
            self.op,
            self.before,
            self.superseded,
            self.boot,
            self.mono_ms,
        ])?;
        Ok(())
    }
}

/// Walks the history of a record from its newest row to the oldest. A row that is missing ends it.
pub(super) struct Walk<'a> {
    db: &'a Connection,
    next: i64,
    /// Ends a list that a damaged row made into a ring.
    left: u32,
    is_whole: bool,
    has_lost: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(db: &'a Connection, newest: i64) -> Walk<'a> {
        Walk { db, next: newest, left: 1_000_000, is_whole: true, has_lost: false }
    }

    /// Whether the oldest row was reached, and none on the way is missing.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_whole && self.next == 0
    }

    /// Whether it ended where the card lost a row, or gave up, so that there may be more behind that. What was forgotten is not lost.
    pub(super) fn has_lost(&self) -> bool {
        self.has_lost || self.next != 0
    }

    pub(super) fn step(&mut self) -> Result<Option<HistoryRow>, Error> {
        if self.next == 0 || self.left == 0 {
            return Ok(None);
        }
        let row = HistoryRow::find(self.db, self.next)?;
        self.has_lost = row.is_none() && self.next != NOTHING_OLDER.abs();
        self.is_whole &= row.as_ref().is_some_and(|row| row.older >= 0);
        self.next = row.as_ref().map_or(0, |row| row.older.saturating_abs());
        self.left -= 1;
        Ok(row)
    }
}

/// Puts the cells of a history row back as they were before it.
pub(super) fn apply_backwards(record: &mut Record, before: &Record) {
    for (name, cell) in &before.cells {
        match &cell.state {
            State::Register(entries) if entries.is_empty() => record.cells.remove(name),
            _ => record.cells.insert(name.clone(), cell.clone()),
        };
    }
}

/// The own op of a row; `None` if it is damaged. Its dot is not in the blob: stream and sequence number are in the row's number,
/// and the origin belongs to the incarnation. In the blob it would take a tenth of a short op.
pub(super) fn read_op(db: &Connection, codec: &Codec, blob: &[u8], number: i64) -> Result<Option<Op>, Error> {
    let mut statement = db.prepare_cached("SELECT origin FROM incarnations WHERE n = ?1")?;
    let origin: Option<u32> = statement.query_row([incarnation(number)], |row| row.get(0)).optional()?;
    let stream = Stream::from_number(lane(number)).ok();
    let dot = origin.zip(stream).map(|(origin, stream)| Dot { origin: Origin(origin), stream, seq: Seq(seq(number)) });
    Ok(codec.op(blob, dot, number))
}

impl Tx<'_> {
    /// Adds an own op to the open record's history.
    pub(super) fn append_op(&mut self, op: &Op, chain: Chain, replaced: &[Superseded]) -> Result<(), Error> {
        self.open(&op.key)?;
        let visible = self.opened_held()?.filter(|held| !held.is_unreadable()).map(|held| held.visible);
        let number = own(self.cache.incarnation, op.stamp.dot.stream, op.stamp.dot.seq);
        let before = visible.as_ref().map(|visible| cells_before(Some(visible), op.changes.keys()));
        let told = |s: &&Superseded| {
            // What was shown is told by what was there before; what stood beside it is not.
            let shown = before.as_ref().and_then(|before| before.cells.get(&s.field)?.stamp());
            shown.is_none_or(|stamp| stamp.dot != s.entry.stamp.dot)
        };
        let superseded: Vec<Superseded> = replaced.iter().filter(told).cloned().collect();
        let moment = self.cache.moment.map(|(moment, _)| moment).unwrap_or_default();
        let row = &self.opened()?.row;
        let row = HistoryRow {
            number,
            older: row.newest,
            fate: PENDING,
            hseq: 0,
            noted_ms: 0,
            chain: chain.short().to_vec(),
            etag_before: if row.presence == GONE { Vec::new() } else { row.etag.clone() },
            op: self.codec.pack_op(op)?,
            before: self.codec.pack_record(&before.unwrap_or_default())?,
            superseded: pack_superseded(self.codec, &superseded)?,
            boot: moment.boot as i64,
            mono_ms: moment.mono_ms,
        };
        row.insert(self.db)?;
        let open = self.opened()?;
        open.may_be_only_op = row.older == 0 && visible.is_none();
        (open.row.newest, open.is_new, open.is_appended) = (number, true, true);
        open.row.unsettled += 1;
        self.cache.op = Some((number, Arc::new(op.clone())));
        Ok(())
    }

    /// Adds a change that came from the hub to the open record's history. `before` is absent if what is shown stayed.
    pub(super) fn write_hub_change(
        &mut self,
        etag_before: &[u8],
        before: Option<&Record>,
        superseded: &[Superseded],
    ) -> Result<(), Error> {
        let number = self.cache.next_hub_number();
        let row = HistoryRow {
            number,
            older: self.opened()?.row.newest,
            fate: FROM_HUB,
            hseq: 0,
            noted_ms: self.now_ms(),
            chain: Vec::new(),
            etag_before: etag_before.to_vec(),
            op: Vec::new(),
            before: before.map(|record| self.codec.pack_record(record)).transpose()?.unwrap_or_default(),
            superseded: pack_superseded(self.codec, superseded)?,
            boot: 0,
            mono_ms: 0,
        };
        row.insert(self.db)?;
        let open = self.opened()?;
        if open.row.is_only_op() {
            // The record is no longer the newest row of its history.
            open.may_be_only_op = false;
        }
        (open.row.newest, open.is_new) = (number, true);
        Ok(())
    }

    /// An own op by its number; `None` if it is not there or damaged.
    pub(super) fn op_of_number(&mut self, number: i64) -> Result<Option<Arc<Op>>, Error> {
        if let Some((_, op)) = self.cache.op.as_ref().filter(|(known, _)| *known == number) {
            return Ok(Some(Arc::clone(op)));
        }
        let mut statement = self.db.prepare_cached("SELECT op FROM history WHERE number = ?1")?;
        let blob: Option<Vec<u8>> = statement.query_row([number], |row| row.get(0)).optional()?;
        let Some(blob) = blob else { return Ok(None) };
        let op = read_op(self.db, self.codec, &blob, number)?.map(Arc::new);
        if let Some(op) = &op {
            self.cache.op = Some((number, Arc::clone(op)));
        }
        Ok(op)
    }
}

/// Values that are no longer current, as a record: each is followed by what stands instead, whose value is the reason's number.
fn pack_superseded(codec: &Codec, superseded: &[Superseded]) -> Result<Vec<u8>, Error> {
    let mut record = Record::default();
    for s in superseded {
        let why = match s.why {
            Why::Seen => 0,
            Why::Rule => 1,
            Why::Limit => 2,
        };
        let by = Entry { stamp: Arc::clone(&s.by), value: Some(Value::Int(why)) };
        let empty = || Cell { changed: HubSeq::NONE, state: State::Register(Vec::new()) };
        let cell = record.cells.entry(s.field.clone()).or_insert_with(empty);
        if let State::Register(entries) = &mut cell.state {
            entries.extend([s.entry.clone(), by]);
        }
    }
    codec.pack_record(&record)
}

/// Reads what [`pack_superseded`] wrote.
pub(super) fn unpack_superseded(record: &Record) -> Vec<Superseded> {
    let pairs = |(field, cell): (&FieldName, &Cell)| -> Vec<Superseded> {
        let State::Register(entries) = &cell.state else { return Vec::new() };
        let pair = |pair: &[Entry]| {
            let [entry, by] = pair else { return None };
            let why = match by.value {
                Some(Value::Int(1)) => Why::Rule,
                Some(Value::Int(2)) => Why::Limit,
                _ => Why::Seen,
            };
            Some(Superseded { field: field.clone(), entry: entry.clone(), by: Arc::clone(&by.stamp), why })
        };
        entries.chunks(2).filter_map(pair).collect()
    };
    record.cells.iter().flat_map(pairs).collect()
}
