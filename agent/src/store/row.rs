//! A row of the table `records`: reading it, unpacking it, and finding the record in it.
//!
//! Most records of a clinic are written once. Such a record is not kept twice: its row has an empty `body`, and its cells are
//! those of the only op in its history ([`of_only_op`]). What is confirmed is left out as well where it equals what is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use sync_protocol::gateway::Held;
use sync_protocol::id::{HubSeq, RecordKey};
use sync_protocol::merge::Presence;
use sync_protocol::record::{Cell, Change, Entry, Op, Record, Stamp, State};

use super::codec::Codec;
use super::health::Place;
use super::history::read_op;
use super::name::{IdText, id_value};
use crate::error::Error;

const FIND: &str = "SELECT feed, scope, etag, presence, conflicts, is_confirmed, item, changed, is_pending, \
                    unsettled, newest, body, confirmed FROM records WHERE type = (SELECT n FROM types WHERE name = ?1) AND id = ?2";

/// `presence` of a record that is not held any more, or not yet: it left our scopes, or nothing of it could be shown.
pub(super) const GONE: i64 = 3;

/// `is_confirmed` of a record that is leaving.
const LEAVING: i64 = 2;
/// `is_confirmed` of a record of which all is awaited from the hub.
pub(super) const AWAITED: i64 = 3;

/// `body` of a record of which nothing can be read. No packed record begins like that.
pub(super) const UNREADABLE: &[u8] = &[0];

/// A row of `records`. `feed` is 0 as long as it is not stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    pub(super) feed: i64,
    pub(super) scope: i64,
    pub(super) etag: Vec<u8>,
    pub(super) presence: i64,
    pub(super) conflicts: i64,
    pub(super) is_confirmed: bool,
    /// See [`Held::leaving`]. Such a row has 2 in `is_confirmed`, and the number instead of its part in the digest.
    pub(super) leaving: Option<HubSeq>,
    /// See [`Held::awaits_whole`]. Such a row has 3 in `is_confirmed`, and no part in the digest.
    pub(super) awaits_whole: bool,
    pub(super) item: i64,
    pub(super) changed: i64,
    pub(super) is_pending: bool,
    pub(super) unsettled: i64,
    pub(super) newest: i64,
    pub(super) body: Vec<u8>,
    pub(super) confirmed: Vec<u8>,
}

impl Row {
    /// A record of which nothing is stored.
    pub(super) fn absent() -> Row {
        Row { presence: GONE, ..Row::default() }
    }

    /// Reads the columns of [`FIND`], in their order.
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
        let (confirmed, item): (i64, i64) = (row.get(5)?, row.get(6)?);
        Ok(Row {
            feed: row.get(0)?,
            scope: row.get(1)?,
            etag: row.get(2)?,
            presence: row.get(3)?,
            conflicts: row.get(4)?,
            is_confirmed: matches!(confirmed, 1 | LEAVING),
            awaits_whole: confirmed == AWAITED,
            leaving: (confirmed == LEAVING).then_some(HubSeq(item as u64)),
            item,
            changed: row.get(7)?,
            is_pending: row.get(8)?,
            unsettled: row.get(9)?,
            newest: row.get(10)?,
            body: row.get(11)?,
            confirmed: row.get(12)?,
        })
    }

    /// The row of a record.
    pub(super) fn find(db: &Connection, key: &RecordKey) -> Result<Option<Row>, Error> {
        let mut statement = db.prepare_cached(FIND)?;
        Ok(statement.query_row((key.record_type.as_str(), id_value(&key.id)), Row::read).optional()?)
    }

    /// The row at a position of the feed, with its record's name.
    pub(super) fn at(db: &Connection, feed: i64) -> Result<Option<(RecordKey, Row)>, Error> {
        let mut statement = db.prepare_cached(
            "SELECT feed, scope, etag, presence, conflicts, is_confirmed, item, changed, is_pending, unsettled, newest, \
             body, confirmed, id, (SELECT name FROM types WHERE n = type) FROM records WHERE feed = ?1",
        )?;
        let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<(String, IdText, Row)> {
            Ok((row.get(14)?, row.get(13)?, Row::read(row)?))
        };
        let found = statement.query_row([feed], read).optional()?;
        found.map(|(record_type, IdText(id), row)| Ok((RecordKey::new(&record_type, &id)?, row))).transpose()
    }

    /// Whether the record is the only op in its history.
    pub(super) fn is_only_op(&self) -> bool {
        self.presence != GONE && self.body.is_empty() && self.newest != 0
    }

    /// What stands in `is_confirmed`.
    pub(super) fn confirmation(&self) -> i64 {
        match (self.leaving, self.awaits_whole) {
            (Some(_), _) => LEAVING,
            (None, true) => AWAITED,
            (None, false) => i64::from(self.is_confirmed),
        }
    }

    /// The number of the hub under which the record is confirmed.
    pub(super) fn hseq(&self) -> HubSeq {
        HubSeq(self.changed as u64)
    }

    /// The record as it is shown; `None` if it is gone or damaged.
    pub(super) fn visible(&self, db: &Connection, codec: &Codec) -> Result<Option<Record>, Error> {
        if self.presence == GONE {
            return Ok(None);
        }
        if !self.is_only_op() {
            return Ok(codec.record(&self.body, Place::Record(self.feed)));
        }
        let mut statement = db.prepare_cached("SELECT op FROM history WHERE number = ?1")?;
        let blob: Option<Vec<u8>> = statement.query_row([self.newest], |row| row.get(0)).optional()?;
        let op = read_op(db, codec, &blob.unwrap_or_default(), self.newest)?;
        Ok(op.and_then(|op| of_only_op(&op, self.hseq())))
    }

    /// All that is held of the record; `None` if it is gone. One that is damaged is shown as nothing.
    pub(super) fn held(&self, db: &Connection, codec: &Codec) -> Result<Option<Held>, Error> {
        if self.presence == GONE {
            return Ok(None);
        }
        let Some(visible) = self.visible(db, codec)? else { return Ok(Some(self.unreadable())) };
        let confirmed = match (self.is_confirmed, self.confirmed.is_empty()) {
            (false, _) => None,
            (true, true) => Some(visible.clone()),
            (true, false) => codec.record(&self.confirmed, Place::Record(self.feed)),
        };
        let awaits_whole = self.is_at_hub() && confirmed.is_none() && self.leaving.is_none();
        Ok(Some(Held { confirmed, visible, awaits_whole, ..self.unreadable() }))
    }

    /// What is held of the record if nothing of it can be read.
    pub(super) fn unreadable(&self) -> Held {
        let awaits_whole = self.is_at_hub() && self.leaving.is_none();
        Held { is_pending: self.is_pending, leaving: self.leaving, awaits_whole, ..Held::default() }
    }

    /// Whether it is one of the records of its scope: with its part in the digest, or, while all of it is awaited, with nothing.
    pub(super) fn is_counted(&self) -> bool {
        self.is_at_hub() && self.leaving.is_none()
    }

    /// Whether the hub has the record.
    pub(super) fn is_at_hub(&self) -> bool {
        self.is_confirmed || self.awaits_whole
    }
}

/// The record that an op makes of nothing, if the op sets plain values only; then it is the same under any rules that keep
/// plain values. Whether it is the record in question is for the caller to compare.
pub(super) fn of_only_op(op: &Op, hseq: HubSeq) -> Option<Record> {
    let stamp = Arc::new(Stamp { hseq, ..op.stamp.clone() });
    let mut cells = BTreeMap::new();
    for (name, change) in &op.changes {
        let Change::Put { value, .. } = change else { return None };
        let entry = Entry { stamp: Arc::clone(&stamp), value: value.clone() };
        cells.insert(name.clone(), Cell { changed: hseq, state: State::Register(vec![entry]) });
    }
    Some(Record { cells })
}

/// The number of a presence on disk.
pub(super) fn presence_number(presence: Presence) -> i64 {
    match presence {
        Presence::Alive => 0,
        Presence::Review => 1,
        Presence::Deleted => 2,
    }
}

/// What a number on disk says; a record that is gone is as absent as a deleted one.
pub(super) fn presence_of(number: i64) -> Presence {
    match number {
        0 => Presence::Alive,
        1 => Presence::Review,
        _ => Presence::Deleted,
    }
}

/// The digits of an etag as the eight bytes they stand for.
pub(super) fn etag_bytes(etag: &str) -> Vec<u8> {
    let digits: Vec<u8> = etag.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
}

/// The digits of an etag.
pub(super) fn etag_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
