//! A database that is out of use, as far as it can be read: who its gateway was, and what it wrote last. In a database that is in
//! use, the incarnations before the present one are such, too.
//!
//! What cannot be read is left out and never an error: pages that SQLite cannot read are walked around.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use sync_protocol::gateway::rescue::Old;
use sync_protocol::gateway::{GatewayState, UNENROLLED};
use sync_protocol::id::{Dot, FieldName, Origin, RecordKey, Seq, Stream};
use sync_protocol::message::Short;
use sync_protocol::record::{Op, State};

use super::chain::chain_before;
use super::check::{next_row, readable};
use super::codec::Codec;
use super::health::Place;
use super::key::Home;
use super::model::Identity;
use super::number::{incarnation, lane_end, own, seq};
use super::open;
use super::reader::{names, read_identity, read_streams};
use super::side::{former_origins, identity, read_former};
use super::tx::incarnation_of;
use crate::error::Error;

/// An opened copy of such a database, or one that is in use, and the incarnation of it that is read.
pub struct OldDatabase {
    db: Connection,
    codec: Codec,
    incarnation: i64,
    origin: Origin,
}

/// What a database says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Its sync state; `None` if it cannot be read. A stream that cannot be read counts as new.
    pub state: Option<GatewayState>,
    /// The origin under which it wrote last, as far as that is known.
    pub origin: Option<Origin>,
    /// Those under which it wrote before, oldest first, as far as that can be read.
    pub former: Vec<Origin>,
    /// The hub it was enrolled at.
    pub hub_url: Option<String>,
    /// What the hub called it.
    pub name: Option<String>,
    /// By what it showed there who it is.
    pub identity: Option<Identity>,
    /// The last op of each stream that there are traces of.
    pub last: [Seq; 3],
}

/// Ops that cannot be read any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// The stream.
    pub stream: Stream,
    /// The first of them.
    pub first: Seq,
    /// The last of them.
    pub last: Seq,
}

impl std::fmt::Debug for OldDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OldDatabase").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl OldDatabase {
    /// Opens the copy in a folder; an older layout is brought up to date in it, if it can be.
    ///
    /// # Errors
    /// [`Error::NewerDatabase`], [`Error::NotOurs`]; what SQLite reports if its tables cannot be found.
    pub fn open(home: impl Into<Home>) -> Result<(OldDatabase, Left), Error> {
        let home = home.into();
        let db = match open::for_writing(&home) {
            Err(error) if error.is_broken_file() => open::leniently(&home)?,
            other => other?,
        };
        let codec = Codec::new(Arc::default())?;
        let state = readable(read_identity(&db))?.map(|mut state| {
            // A stream that cannot be read is compared from its beginning, an incarnation without its bounds as if nobody had gone back.
            let _ = (read_streams(&db, &mut state), read_former(&db, &mut state));
            state
        });
        let origin = state.as_ref().map(|state| state.origin);
        let (incarnation, origin) = match origin {
            Some(origin) => (
                readable(incarnation_of(&db, origin))?.flatten().or(readable(last_incarnation(&db))?.flatten()),
                Some(origin),
            ),
            None => {
                let last = readable(last_incarnation(&db))?.flatten();
                (last, last.map(|n| origin_of(&db, n)).transpose()?.flatten())
            }
        };
        let text = |column: &str| -> Result<Option<String>, Error> {
            let found = db.query_row(&format!("SELECT {column} FROM enrolment"), [], |row| row.get(0)).optional();
            Ok(readable(found.map_err(Error::from))?.flatten())
        };
        let (hub_url, name) = (text("hub_url")?, text("name")?);
        let read = "SELECT authority, key, certificate, renew_ms FROM enrolment";
        let identity = db.query_row(read, [], |row| identity(row, 0)).optional().map_err(Error::from);
        let identity = readable(identity)?.flatten().flatten();
        let incarnation = incarnation.unwrap_or(0);
        let (former, last) = (
            readable(former_origins(&db, origin.unwrap_or(UNENROLLED)))?.unwrap_or_default(),
            last_ops(&db, incarnation)?,
        );
        let left = Left { state, origin, former, hub_url, name, identity, last };
        Ok((OldDatabase { db, codec, incarnation, origin: origin.unwrap_or(UNENROLLED) }, left))
    }

    /// Opens, for reading only, the database of a gateway that works, for what it wrote as an incarnation that is over. With the last
    /// op of each stream of it.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn of_former(home: &Home, origin: Origin) -> Result<(OldDatabase, [Seq; 3]), Error> {
        let (db, codec) = (open::for_reading(home)?, Codec::new(Arc::default())?);
        let mut old = OldDatabase { db, codec, incarnation: 0, origin };
        let last = old.turn_to(origin)?;
        Ok((old, last))
    }

    /// From now on what it wrote as this incarnation is read. Gives the last op of each stream of it.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn turn_to(&mut self, origin: Origin) -> Result<[Seq; 3], Error> {
        self.incarnation = incarnation_of(&self.db, origin)?.unwrap_or(0);
        self.origin = origin;
        last_ops(&self.db, self.incarnation)
    }

    /// Ops after `after` up to `last` that cannot be read. Those that the gateway had forgotten are none of them.
    ///
    /// # Errors
    /// What SQLite reports, other than damage.
    pub fn gaps(&mut self, stream: Stream, after: Seq, last: Seq) -> Result<Vec<Gap>, Error> {
        let mut gaps = Vec::new();
        let mut note = |first: Seq, last: Seq| gaps.extend((first <= last).then_some(Gap { stream, first, last }));
        let mut known = after;
        loop {
            let ops = self.ops(stream, known, 1_000)?;
            if ops.is_empty() {
                break;
            }
            for op in ops {
                let at = op.stamp.dot.seq;
                if readable(chain_before(&self.db, own(self.incarnation, stream, at)))?.flatten().is_none() {
                    note(known.next(), Seq(at.0.saturating_sub(1)));
                }
                known = at;
            }
        }
        note(known.next(), last);
        Ok(gaps)
    }

    /// Records whose last write is among these gaps, as far as that can be read.
    ///
    /// # Errors
    /// What SQLite reports, other than damage.
    pub fn records_of(&self, gaps: &[Gap], limit: usize) -> Result<BTreeSet<RecordKey>, Error> {
        let mut keys = BTreeSet::new();
        let mut feed = 0;
        while let Some(next) = next_row(&self.db, "records", feed)? {
            feed = next;
            let sql = "SELECT (SELECT name FROM types WHERE n = type), id, newest FROM records WHERE feed = ?1";
            let row = self.db.prepare_cached(sql)?.query_row([feed], |row| Ok((names(row)?, row.get::<_, i64>(2)?)));
            let Some(((record_type, id), newest)) = readable(row.map_err(Error::from))? else { continue };
            let is_in = |gap: &Gap| {
                let number = |seq| own(self.incarnation, gap.stream, seq);
                (number(gap.first)..=number(gap.last)).contains(&newest)
            };
            if gaps.iter().any(is_in) {
                keys.extend(RecordKey::new(&record_type, &id));
                if keys.len() >= limit {
                    break;
                }
            }
        }
        Ok(keys)
    }

    fn column(&self, column: &str, number: i64) -> Result<Option<Vec<u8>>, Error> {
        let sql = format!("SELECT {column} FROM history WHERE number = ?1");
        let found = self.db.prepare_cached(&sql).and_then(|mut sql| sql.query_row([number], |row| row.get(0)));
        Ok(readable(found.optional().map_err(Error::from))?.flatten())
    }
}

impl Old for OldDatabase {
    type Error = Error;

    fn ops(&mut self, stream: Stream, after: Seq, limit: usize) -> Result<Vec<Op>, Error> {
        let mut ops = Vec::new();
        let mut number = own(self.incarnation, stream, after);
        let end = lane_end(number);
        while ops.len() < limit {
            let Some(next) = next_row(&self.db, "history", number)?.filter(|next| *next <= end) else { break };
            number = next;
            let dot = Dot { origin: self.origin, stream, seq: Seq(seq(number)) };
            let blob = self.column("op", number)?;
            let op = blob.and_then(|blob| self.codec.op(&blob, Some(dot), number));
            ops.extend(op.filter(|op| !op.is_erased()));
        }
        Ok(ops)
    }

    fn chain_at(&mut self, stream: Stream, seq: Seq) -> Result<Option<Short>, Error> {
        let chain = self.column("chain", own(self.incarnation, stream, seq))?;
        Ok(chain.and_then(|chain| chain.try_into().ok()))
    }

    fn counted_before(&mut self, op: &Op, field: &FieldName) -> Result<Option<(u64, u64)>, Error> {
        let number = own(self.incarnation, op.stamp.dot.stream, op.stamp.dot.seq);
        let Some(blob) = self.column("before", number)? else { return Ok(None) };
        let before = self.codec.record(&blob, Place::History(number));
        let cells: BTreeMap<_, _> = before.map(|before| before.cells).unwrap_or_default();
        Ok(cells.get(field).and_then(|cell| match &cell.state {
            State::Counter(counter) => counter.totals.get(&self.origin).copied(),
            _ => None,
        }))
    }
}

/// The last op of each stream of an incarnation that there are traces of.
fn last_ops(db: &Connection, incarnation: i64) -> Result<[Seq; 3], Error> {
    let mut all = [Seq(0); 3];
    for (last, stream) in all.iter_mut().zip(Stream::ALL) {
        let newest = db.query_row(
            "SELECT max(number) FROM history WHERE number BETWEEN ?1 AND ?2",
            (own(incarnation, stream, Seq(1)), lane_end(own(incarnation, stream, Seq(0)))),
            |row| row.get::<_, Option<i64>>(0),
        );
        let newest = readable(newest.map_err(Error::from))?.flatten();
        *last = newest.map_or(Seq(0), |number| Seq(seq(number)));
    }
    Ok(all)
}

fn last_incarnation(db: &Connection) -> Result<Option<i64>, Error> {
    let named = db.query_row("SELECT max(n) FROM incarnations", [], |row| row.get::<_, Option<i64>>(0));
    if let Some(n) = readable(named.map_err(Error::from))?.flatten() {
        return Ok(Some(n));
    }
    let newest = db.query_row("SELECT max(number) FROM history", [], |row| row.get::<_, Option<i64>>(0));
    Ok(readable(newest.map_err(Error::from))?.flatten().map(incarnation))
}

fn origin_of(db: &Connection, n: i64) -> Result<Option<Origin>, Error> {
    let found = db.query_row("SELECT origin FROM incarnations WHERE n = ?1", [n], |row| row.get(0)).optional();
    Ok(readable(found.map_err(Error::from))?.flatten().map(Origin))
}
