//! Questions about records: what an app reads, and what it missed.

use std::ops::ControlFlow;
use std::path::Path;

use rusqlite::types::Value as Column;
use rusqlite::{Connection, OptionalExtension};
use serde_json::Value as Json;
use sync_protocol::clock::Hlc;
use sync_protocol::digest::Chain;
use sync_protocol::edit::render;
use sync_protocol::gateway::{GatewayState, StreamState};
use sync_protocol::id::{Device, Epoch, HubSeq, Origin, RecordId, RecordKey, RecordType, Scope, Seq, Source, Stream};
use sync_protocol::identity::DeviceKey;
use sync_protocol::merge::Presence;
use sync_protocol::rules::Rules;
use sync_protocol::value::Value;
use tracing::warn;

use super::chain::is_any_left;
use super::codec::Codec;
use super::history::read_op;
use super::model::{FeedItem, Filter, Listing, Query, Stored};
use super::name::{IdText, id_value};
use super::number::{lane_end, own};
use super::row::{GONE, Row, etag_text, presence_of};
use super::side;
use super::tx::incarnation_of;
use crate::error::Error;

/// A snapshot of the store. Inside of a [`super::Tx`] it shows what that has written so far.
pub struct Reader<'a> {
    pub(super) db: &'a Connection,
    pub(super) codec: &'a Codec,
    pub(super) dir: &'a Path,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(db: &'a Connection, codec: &'a Codec, dir: &'a Path) -> Reader<'a> {
        Reader { db, codec, dir }
    }

    /// A record, a deleted one too; `None` if it was never here or has left.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if it is here and damaged; else what SQLite reports.
    pub fn get(&self, key: &RecordKey) -> Result<Option<Stored>, Error> {
        match Row::find(self.db, key)?.filter(|row| row.presence != GONE) {
            Some(row) => self.stored(key.clone(), &row).map(Some),
            None => Ok(None),
        }
    }

    /// Whether a record is here, deleted or damaged ones too.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn has(&self, key: &RecordKey) -> Result<bool, Error> {
        Ok(Row::find(self.db, key)?.is_some_and(|row| row.presence != GONE))
    }

    /// Records of a type by id (those that are UUIDs last), without deleted ones, each handed on as it is read, so that only one is in
    /// memory; of a damaged one its name. With filters, all records of the type are read until `limit` are found. Whoever takes them may
    /// have enough before that.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn list_each(&self, query: &Query, mut take: impl FnMut(Listing) -> ControlFlow<()>) -> Result<(), Error> {
        let after = query.after.as_ref().map_or(Column::Text(String::new()), id_value);
        let mut statement = self.db.prepare_cached(
            "SELECT feed, scope, etag, presence, conflicts, is_confirmed, item, changed, is_pending, unsettled, newest, \
             body, confirmed, id FROM records WHERE type = (SELECT n FROM types WHERE name = ?1) AND id > ?2 AND presence < 2 ORDER BY id",
        )?;
        let mut rows = statement.query((query.record_type.as_str(), after))?;
        let mut left = query.limit;
        while left > 0 {
            let Some(row) = rows.next()? else { break };
            let IdText(id) = row.get(13)?;
            // A row that is not what its columns say is left out, and not a reason to list nothing.
            let Ok(row) = Row::read(row) else { continue };
            let key = RecordKey { record_type: query.record_type.clone(), id: RecordId::new(&id)? };
            let listing = match self.stored(key.clone(), &row) {
                Ok(stored) if !matches(&stored, &query.filters) => continue,
                Ok(stored) => Listing::Stored(stored),
                // Whether the filters let it through nobody can tell; whoever looks for it has to know.
                Err(Error::Unreadable { .. }) => Listing::Unreadable(key),
                Err(error) => return Err(error),
            };
            left -= 1;
            if take(listing).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn stored(&self, key: RecordKey, row: &Row) -> Result<Stored, Error> {
        let record = row.visible(self.db, self.codec)?.ok_or(Error::Unreadable { is_at_hub: row.is_at_hub() })?;
        Ok(Stored {
            key,
            scope: record.scope(),
            record,
            etag: etag_text(&row.etag),
            presence: presence_of(row.presence),
            is_pending: row.is_pending,
            is_confirmed: row.is_confirmed,
            confirmed_changed: row.hseq(),
            feed: row.feed as u64,
            conflicts: row.conflicts as u64,
        })
    }

    /// Records that are there, by type.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn types(&self) -> Result<Vec<(RecordType, u64)>, Error> {
        // Both counts come from indexes alone; the bodies are not read.
        let mut statement = self.db.prepare_cached(
            "SELECT (SELECT name FROM types WHERE n = records.type), count(*) - (SELECT count(*) FROM records AS absent \
             WHERE absent.type = records.type AND absent.presence >= 2) AS present FROM records GROUP BY type",
        )?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut counts: Vec<(String, i64)> = rows.collect::<Result<_, _>>()?;
        counts.sort();
        let present = counts.into_iter().filter(|(_, count)| *count > 0);
        present.map(|(name, count)| Ok((RecordType::new(&name)?, count as u64))).collect()
    }

    /// Records that changed after a position of the feed, in order. A record is in it once, at its last change.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn changes(&self, since: u64, limit: usize) -> Result<Vec<FeedItem>, Error> {
        let mut statement = self.db.prepare_cached(
            "SELECT feed, (SELECT name FROM types WHERE n = type), id, etag, presence FROM records WHERE feed > ?1 ORDER BY feed LIMIT ?2",
        )?;
        let mut rows = statement.query((i64::try_from(since).unwrap_or(i64::MAX), limit as i64))?;
        let mut items = Vec::new();
        while let Some(row) = rows.next()? {
            let (feed, presence): (i64, i64) = (row.get(0)?, row.get(4)?);
            let (record_type, IdText(id)): (String, IdText) = (row.get(1)?, row.get(2)?);
            let etag: Vec<u8> = row.get(3)?;
            items.push(FeedItem {
                feed: feed as u64,
                key: RecordKey::new(&record_type, &id)?,
                etag: etag_text(&etag),
                presence: presence_of(presence),
                is_gone: presence == GONE,
            });
        }
        Ok(items)
    }

    /// The last position of the feed.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn feed(&self) -> Result<u64, Error> {
        let feed: i64 = self.db.query_row("SELECT ifnull(max(feed), 0) FROM records", [], |row| row.get(0))?;
        Ok(feed as u64)
    }

    /// The sync state.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn state(&self) -> Result<GatewayState, Error> {
        read_state(self.db)
    }

    /// Whether anything is here that a hub confirmed.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn has_confirmed(&self) -> Result<bool, Error> {
        let mut select = self.db.prepare("SELECT EXISTS (SELECT 1 FROM records WHERE is_confirmed = 1)")?;
        Ok(select.query_row([], |row| row.get(0))?)
    }

    /// The rules in force.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn rules(&self) -> Result<Rules, Error> {
        read_rules(self.db)
    }
}

fn matches(stored: &Stored, filters: &[Filter]) -> bool {
    if stored.presence == Presence::Deleted {
        return false;
    }
    if filters.is_empty() {
        return true;
    }
    let body = Json::Object(render(&stored.record));
    filters.iter().all(|filter| {
        let found = filter.path.iter().try_fold(&body, |at, key| at.get(key));
        found.is_some_and(|found| is_equal(found, &filter.value))
    })
}

fn is_equal(found: &Json, wanted: &Json) -> bool {
    let as_text = || match (found, wanted) {
        (Json::Number(number), Json::String(text)) => number.as_str() == text,
        (Json::Bool(truth), Json::String(text)) => text == if *truth { "true" } else { "false" },
        _ => false,
    };
    Value::from_json(found) == Value::from_json(wanted) || as_text()
}

/// Type and id, not checked yet.
pub(super) fn names(row: &rusqlite::Row<'_>) -> rusqlite::Result<(String, String)> {
    let IdText(id) = row.get(1)?;
    Ok((row.get(0)?, id))
}

/// When the first own op after this number was captured.
pub(super) fn oldest_ms(db: &Connection, codec: &Codec, after: i64) -> Result<Option<i64>, Error> {
    let mut statement = db
        .prepare_cached("SELECT number, op FROM history WHERE number > ?1 AND number <= ?2 ORDER BY number LIMIT 16")?;
    let mut rows = statement.query((after, lane_end(after)))?;
    while let Some(row) = rows.next()? {
        let op = read_op(db, codec, row.get_ref(1)?.as_blob().unwrap_or_default(), row.get(0)?)?;
        if let Some(op) = op.filter(|op| !op.is_erased()) {
            return Ok(Some(op.stamp.captured_ms));
        }
    }
    Ok(None)
}

/// The rules in force; the built-in ones if this program cannot read those that are stored.
pub(super) fn read_rules(db: &Connection) -> Result<Rules, Error> {
    let text: Option<String> = db.query_row("SELECT text FROM rules", [], |row| row.get(0)).optional()?;
    let parsed = text.map(|text| Rules::parse(&text));
    Ok(match parsed {
        None => Rules::default(),
        Some(Ok(rules)) => rules,
        Some(Err(error)) => {
            warn!(error = &error as &dyn std::error::Error, "the stored rules cannot be read; the built-in ones hold");
            Rules::default()
        }
    })
}

/// The sync state; that of a new gateway if there is none.
pub(super) fn read_state(db: &Connection) -> Result<GatewayState, Error> {
    let mut state = read_identity(db)?;
    side::read_former(db, &mut state)?;
    read_streams(db, &mut state)?;
    note_barren(db, &mut state)?;
    Ok(state)
}

/// What cannot be sent any more does not count as unsent, as far as that is known without reading the ops.
fn note_barren(db: &Connection, state: &mut GatewayState) -> Result<(), Error> {
    let Some(incarnation) = incarnation_of(db, state.origin)? else { return Ok(()) };
    for stream in Stream::ALL {
        let at = state.stream_mut(stream);
        if at.last > at.acked {
            let (after, last) = (own(incarnation, stream, at.acked), own(incarnation, stream, at.last));
            let is_left = match is_any_left(db, after, last) {
                Err(error) if error.is_broken_file() => true,
                other => other?,
            };
            at.barren = if is_left { Seq(0) } else { at.last };
        }
    }
    Ok(())
}

/// The sync state without its streams.
pub(super) fn read_identity(db: &Connection) -> Result<GatewayState, Error> {
    let mut state = GatewayState::default();
    let mut statement = db.prepare_cached(
        "SELECT device, origin, key, epoch, cursor, backfill, scopes, source, repair_symbols, repairs, is_unsure, \
         is_told, turn, recovers, wanted, bounds, heard, floor_ms, awaits_time, complete, is_revoked, erased \
         FROM sync_state",
    )?;
    let mut rows = statement.query([])?;
    if let Some(row) = rows.next()? {
        let (cursor, backfill, repairs): (i64, i64, i64) = (row.get(4)?, row.get(5)?, row.get(9)?);
        let (scopes, symbols): (String, i64) = (row.get(6)?, row.get(8)?);
        state.device = Device(row.get(0)?);
        state.origin = Origin(row.get(1)?);
        state.key = DeviceKey(row.get(2)?);
        state.turn = row.get::<_, i64>(12)? as u64;
        state.epoch = Epoch(row.get(3)?);
        state.cursor = HubSeq(cursor as u64);
        state.backfill = u64::try_from(backfill).ok().map(HubSeq);
        state.scopes = scopes.split('\n').map(Scope::new).collect::<Result<_, _>>()?;
        state.source = Source(row.get(7)?);
        state.repair_symbols = u32::try_from(symbols).ok();
        state.repairs = repairs as u64;
        state.unsure = row.get(10)?;
        state.told = row.get(11)?;
        state.recovers = u64::try_from(row.get::<_, i64>(13)?).ok().map(HubSeq);
        let (wanted, bounds): (Vec<u8>, String) = (row.get(14)?, row.get(15)?);
        state.wanted =
            wanted.chunks_exact(8).filter_map(|item| Some(u64::from_le_bytes(item.try_into().ok()?))).collect();
        (state.heard, state.floor_ms) = (Hlc(row.get::<_, i64>(16)? as u64), row.get(17)?);
        state.awaits_time = row.get(18)?;
        state.complete = HubSeq(row.get::<_, i64>(19)? as u64);
        state.is_revoked = row.get(20)?;
        state.bounds = side::read_bounds(&bounds);
        state.erased = row.get::<_, i64>(21)? as u64;
    }
    Ok(state)
}

/// Adds the streams, up to the first that cannot be read.
pub(super) fn read_streams(db: &Connection, state: &mut GatewayState) -> Result<(), Error> {
    let mut statement =
        db.prepare_cached("SELECT stream, acked, acked_chain, durable, last, chain, clock, sent FROM stream_state")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (acked, durable, last, clock): (i64, i64, i64, i64) = (row.get(1)?, row.get(3)?, row.get(4)?, row.get(6)?);
        *state.stream_mut(Stream::from_number(row.get(0)?)?) = StreamState {
            acked: Seq(acked as u64),
            acked_chain: row.get(2)?,
            durable: Seq(durable as u64),
            sent: Seq(row.get::<_, i64>(7)? as u64),
            last: Seq(last as u64),
            chain: Chain(row.get(5)?),
            barren: Seq(0),
        };
        state.clock = state.clock.max(Hlc(clock as u64));
    }
    Ok(())
}
