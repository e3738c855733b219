//! A write transaction, and what the writer keeps in memory between them.
//!
//! Sync state, streams, scope sums and rules are read once and written once a commit. A closure that fails gets its changes of
//! them undone by putting back the copy from before it; after a commit that failed everything is read again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension};
use sync_protocol::boot::Moment;
use sync_protocol::gateway::{GatewayState, Held};
use sync_protocol::id::{Origin, RecordKey, Scope};
use sync_protocol::merge::Superseded;
use sync_protocol::message::Condition;
use sync_protocol::record::Op;
use sync_protocol::rules::Rules;

use super::codec::Codec;
use super::erase;
use super::number::{HUB_LANE, lane_end, number, seq};
use super::reader::{Reader, read_rules, read_state};
use super::row::{Row, UNREADABLE};
use super::side;
use crate::error::Error;

/// What of the database is in memory. A copy of it is cheap.
#[derive(Clone)]
pub(super) struct Cache {
    pub(super) state: GatewayState,
    pub(super) is_state_new: bool,
    pub(super) are_streams_new: bool,
    /// The present incarnation's number in `incarnations`.
    pub(super) incarnation: i64,
    pub(super) rules: Arc<Rules>,
    pub(super) scopes: Arc<BTreeMap<Scope, ScopeSum>>,
    /// Last position of the change feed.
    feed: i64,
    /// Last number in the lane of the hub's changes.
    hub_seq: u64,
    /// The record that the closure is at.
    pub(super) open: Option<Open>,
    /// The op that was read or written last, with its number.
    pub(super) op: Option<(i64, Arc<Op>)>,
    /// Where in the life of the box the closure writes, and what time that is.
    pub(super) moment: Option<(Moment, i64)>,
    /// What is to be remembered with the next change of a record.
    pub(super) remembered: Option<(RecordKey, Vec<Superseded>)>,
    /// How the box is, as the hub has heard since the program was started.
    pub(super) condition: Option<Condition>,
    /// Erasures, by the names of their records.
    pub(super) erasures: Arc<erase::Known>,
    /// Free pages may hold what was erased.
    pub(super) is_sweep_due: bool,
}

/// Digest of a scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScopeSum {
    pub(super) n: i64,
    pub(super) sum: u64,
    pub(super) records: i64,
    pub(super) is_new: bool,
}

/// A record whose row has been read.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) key: RecordKey,
    pub(super) row: Row,
    /// What the row says, once somebody asked.
    pub(super) held: Option<Option<Held>>,
    /// `newest` or `unsettled` differ from what is stored.
    pub(super) is_new: bool,
    /// An own op was appended and the record not yet kept with it.
    pub(super) is_appended: bool,
    /// The only op in the history may be the whole record.
    pub(super) may_be_only_op: bool,
}

impl Cache {
    /// Reads it; makes the first rows of a new database.
    pub(super) fn load(db: &Connection) -> Result<Cache, Error> {
        let state = read_state(db)?;
        let mut statement = db.prepare_cached("SELECT path, n, sum, records FROM scopes")?;
        let mut rows = statement.query([])?;
        let mut scopes = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let path: String = row.get(0)?;
            let sum: i64 = row.get(2)?;
            let sum = ScopeSum { n: row.get(1)?, sum: sum as u64, records: row.get(3)?, is_new: false };
            scopes.insert(Scope::new(&path)?, sum);
        }
        let incarnation = incarnation_of(db, state.origin)?;
        let mut cache = Cache {
            state,
            is_state_new: false,
            are_streams_new: false,
            incarnation: incarnation.unwrap_or(0),
            rules: Arc::new(read_rules(db)?),
            scopes: Arc::new(scopes),
            feed: db.query_row("SELECT ifnull(max(feed), 0) FROM records", [], |row| row.get(0))?,
            hub_seq: 0,
            open: None,
            op: None,
            moment: None,
            remembered: None,
            condition: None,
            erasures: Arc::new(erase::known(db)?),
            is_sweep_due: erase::is_due(db)?,
        };
        cache.find_hub_seq(db)?;
        Ok(cache)
    }

    /// Goes on under the incarnation of the state's origin, a new one if need be.
    pub(super) fn enter_incarnation(&mut self, db: &Connection) -> Result<(), Error> {
        self.incarnation = incarnation_or_new(db, self.state.origin)?;
        self.find_hub_seq(db)
    }

    fn find_hub_seq(&mut self, db: &Connection) -> Result<(), Error> {
        let first = number(self.incarnation, HUB_LANE, 0);
        let mut statement = db.prepare_cached("SELECT max(number) FROM history WHERE number BETWEEN ?1 AND ?2")?;
        let last: Option<i64> = statement.query_row((first, lane_end(first)), |row| row.get(0))?;
        self.hub_seq = last.map(seq).unwrap_or(0);
        Ok(())
    }

    pub(super) fn state(&self) -> &GatewayState {
        &self.state
    }

    pub(super) fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    pub(super) fn feed(&self) -> u64 {
        self.feed as u64
    }

    /// The last number in the lane of the hub's changes.
    pub(super) fn hub_seq(&self) -> u64 {
        self.hub_seq
    }

    /// The next position of the change feed.
    pub(super) fn next_feed(&mut self) -> i64 {
        self.feed += 1;
        self.feed
    }

    /// The next number for a change from the hub.
    pub(super) fn next_hub_number(&mut self) -> i64 {
        self.hub_seq += 1;
        number(self.incarnation, HUB_LANE, self.hub_seq)
    }

    /// Writes what is new, at the end of a commit.
    pub(super) fn write(&mut self, db: &Connection) -> Result<(), Error> {
        if self.is_state_new {
            side::write_state(db, &self.state)?;
        }
        if self.are_streams_new {
            side::write_streams(db, &self.state)?;
        }
        (self.is_state_new, self.are_streams_new) = (false, false);
        if self.scopes.values().any(|scope| scope.is_new) {
            let mut update = db.prepare_cached("UPDATE scopes SET sum = ?2, records = ?3 WHERE n = ?1")?;
            for scope in Arc::make_mut(&mut self.scopes).values_mut().filter(|scope| scope.is_new) {
                update.execute((scope.n, scope.sum as i64, scope.records))?;
                scope.is_new = false;
            }
        }
        Ok(())
    }

    /// The sum of a scope, to change it.
    pub(super) fn scope_mut(&mut self, db: &Connection, scope: &Scope) -> Result<&mut ScopeSum, Error> {
        let scopes = Arc::make_mut(&mut self.scopes);
        if !scopes.contains_key(scope) {
            let mut insert =
                db.prepare_cached("INSERT INTO scopes (path, sum, records) VALUES (?1, 0, 0) RETURNING n")?;
            let n = insert.query_row([scope.as_str()], |row| row.get(0))?;
            scopes.insert(scope.clone(), ScopeSum { n, sum: 0, records: 0, is_new: false });
        }
        Ok(scopes.entry(scope.clone()).or_insert(ScopeSum { n: 0, sum: 0, records: 0, is_new: false }))
    }
}

/// The number of an origin in `incarnations`.
pub(super) fn incarnation_of(db: &Connection, origin: Origin) -> Result<Option<i64>, Error> {
    let mut statement = db.prepare_cached("SELECT n FROM incarnations WHERE origin = ?1")?;
    Ok(statement.query_row([origin.0], |row| row.get(0)).optional()?)
}

/// The same; a new one if need be.
pub(super) fn incarnation_or_new(db: &Connection, origin: Origin) -> Result<i64, Error> {
    if let Some(n) = incarnation_of(db, origin)? {
        return Ok(n);
    }
    let mut insert = db.prepare_cached("INSERT INTO incarnations (origin) VALUES (?1) RETURNING n")?;
    Ok(insert.query_row([origin.0], |row| row.get(0))?)
}

/// A write transaction. What a closure does with it is undone if the closure returns an error.
pub struct Tx<'a> {
    pub(super) db: &'a Connection,
    pub(super) codec: &'a Codec,
    pub(super) cache: &'a mut Cache,
    pub(super) dir: &'a Path,
    pub(super) version: &'static str,
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tx")
    }
}

impl<'a> Tx<'a> {
    pub(super) fn new(
        db: &'a Connection,
        codec: &'a Codec,
        cache: &'a mut Cache,
        dir: &'a Path,
        version: &'static str,
    ) -> Tx<'a> {
        Tx { db, codec, cache, dir, version }
    }

    /// Everything that can be asked, as this transaction has it so far.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn reader(&mut self) -> Result<Reader<'_>, Error> {
        self.flush()?;
        self.cache.write(self.db)?;
        Ok(Reader::new(self.db, self.codec, self.dir))
    }

    /// Writes what is open of a record.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.flush_remembered()?;
        self.close_open()
    }

    /// Ends a closure: writes what is open and drops what only this closure knew.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        self.flush()?;
        (self.cache.op, self.cache.moment) = (None, None);
        Ok(())
    }

    /// The row of a record, read if it is not the one that is open.
    pub(super) fn open(&mut self, key: &RecordKey) -> Result<(), Error> {
        if self.cache.open.as_ref().is_some_and(|open| open.key == *key) {
            return Ok(());
        }
        self.close_open()?;
        let row = Row::find(self.db, key)?.unwrap_or_else(Row::absent);
        let may_be_only_op = row.is_only_op();
        self.cache.open =
            Some(Open { key: key.clone(), row, held: None, is_new: false, is_appended: false, may_be_only_op });
        Ok(())
    }

    fn close_open(&mut self) -> Result<(), Error> {
        let Some(mut open) = self.cache.open.take() else { return Ok(()) };
        if !open.is_new {
            return Ok(());
        }
        if open.row.is_only_op() && !open.may_be_only_op {
            // Its history went on, so the record cannot stand for its newest row any more.
            let visible = open.held.take().flatten().filter(|held| !held.is_unreadable()).map(|held| held.visible);
            open.row.body = match visible {
                Some(visible) => self.codec.pack(&visible.canonical())?,
                None => UNREADABLE.to_vec(),
            };
            return self.store_row(&open.key, &mut open.row, false);
        }
        if open.row.feed == 0 {
            return self.insert_row(&open.key, &mut open.row);
        }
        let mut update = self.db.prepare_cached("UPDATE records SET newest = ?2, unsettled = ?3 WHERE feed = ?1")?;
        update.execute((open.row.feed, open.row.newest, open.row.unsettled))?;
        Ok(())
    }

    /// The open record. Call [`Tx::open`] before.
    pub(super) fn opened(&mut self) -> Result<&mut Open, Error> {
        self.cache.open.as_mut().ok_or(Error::Closed)
    }

    /// What is held of the open record.
    pub(super) fn opened_held(&mut self) -> Result<Option<Held>, Error> {
        let (db, codec) = (self.db, self.codec);
        let open = self.opened()?;
        if open.held.is_none() {
            open.held = Some(open.row.held(db, codec)?);
        }
        Ok(open.held.clone().flatten())
    }
}

/// The wall clock, for notes that people read. Never for order.
pub(super) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
