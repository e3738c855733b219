//! Boots of the box, and the times of writes whose boot learned afterwards what time it was.
//!
//! A row a boot, written when a program first opens the database in it and when the hub's time fixes its beginning. What had
//! certainly passed at its beginning is worked out from the boot before: how far that had come when it last wrote.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};
use sync_protocol::boot::{Boot, Moment};
use sync_protocol::id::{Seq, Stream};
use sync_protocol::record::Op;

use super::number::{HUB_LANE, lane_end, number, own, seq};
use super::reader::{Reader, read_state};
use super::tx::{Tx, incarnation_of, wall_ms};
use crate::clock::{Machine, RELEASED_MS};
use crate::error::Error;

/// Boots that are kept. Writes of older ones are bounded by what is known of the rest.
const BOOTS_MAX: i64 = 1_000;
/// A boot's beginning is written anew only if it moved by more: each write of it is a page of the card.
const MOVED_MS: u64 = 2_000;
/// `boots.start_ms` of a boot that never heard the time.
const NEVER: i64 = -1;

/// The row of the boot of this id, made if it is not there. `least_ms` has certainly passed.
pub(super) fn begin(db: &mut Connection, id: &str, least_ms: i64) -> Result<Boot, Error> {
    if let Some(known) = find(db, id)? {
        return Ok(known);
    }
    let step = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    if let Some(known) = find(&step, id)? {
        return Ok(known);
    }
    let floor_ms = floor(&step, least_ms)?;
    let mut insert = step.prepare("INSERT INTO boots (id, floor_ms, start_ms) VALUES (?1, ?2, ?3) RETURNING n")?;
    let n: i64 = insert.query_row((id, floor_ms, NEVER), |row| row.get(0))?;
    drop(insert);
    step.execute("DELETE FROM boots WHERE n <= ?1", [n - BOOTS_MAX])?;
    step.commit()?;
    Ok(Boot { number: n as u64, floor_ms, start_ms: None })
}

/// What has certainly passed when a boot begins that is not known yet.
fn floor(db: &Connection, least_ms: i64) -> Result<i64, Error> {
    let state = read_state(db)?;
    let floor_ms = least_ms.max(state.floor_ms);
    let newest = "SELECT n, floor_ms, start_ms FROM boots ORDER BY n DESC LIMIT 1";
    let Some(before) = db.query_row(newest, [], read).optional()? else { return Ok(floor_ms) };
    let lasted_ms = newest_mono(db, incarnation_of(db, state.origin)?.unwrap_or(0), before.number)?;
    Ok(floor_ms.max(before.start_ms.unwrap_or(before.floor_ms).saturating_add(lasted_ms)))
}

fn find(db: &Connection, id: &str) -> Result<Option<Boot>, Error> {
    Ok(db.query_row("SELECT n, floor_ms, start_ms FROM boots WHERE id = ?1", [id], read).optional()?)
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Boot> {
    let (n, start_ms): (i64, i64) = (row.get(0)?, row.get(2)?);
    let start_ms = Some(start_ms).filter(|ms| *ms != NEVER);
    Ok(Boot { number: n as u64, floor_ms: row.get(1)?, start_ms })
}

/// How far a boot had come at its newest own op.
fn newest_mono(db: &Connection, incarnation: i64, boot: u64) -> Result<i64, Error> {
    let mut statement = db.prepare("SELECT mono_ms FROM history WHERE number = ?1 AND boot = ?2")?;
    let mut newest_ms = 0;
    for lane in 0..HUB_LANE {
        let first = number(incarnation, lane, 0);
        let last: Option<i64> = db.query_row(
            "SELECT max(number) FROM history WHERE number BETWEEN ?1 AND ?2",
            (first, lane_end(first)),
            |row| row.get(0),
        )?;
        // Only the newest row of the lane is looked at: a boot without own writes must not read the whole history.
        let Some(last) = last else { continue };
        let mono_ms: Option<i64> = statement.query_row((last, boot as i64), |row| row.get(0)).optional()?;
        newest_ms = newest_ms.max(mono_ms.unwrap_or(0));
    }
    Ok(newest_ms)
}

fn moment(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Seq, Moment)> {
    let boot: i64 = row.get(1)?;
    Ok((Seq(seq(row.get(0)?)), Moment { boot: boot as u64, mono_ms: row.get(2)? }))
}

impl Reader<'_> {
    /// The present boot, as far as it is known here; without a number if no gateway ran in it yet.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn boot(&self) -> Result<Boot, Error> {
        match find(self.db, Machine::this().boot_id())? {
            Some(known) => Ok(known),
            None => Ok(Boot { floor_ms: floor(self.db, RELEASED_MS)?, ..Boot::default() }),
        }
    }
}

impl Tx<'_> {
    /// What this closure writes is written here in the life of the box, at this time of its clock.
    pub fn set_moment(&mut self, moment: Moment, now_ms: i64) {
        self.cache.moment = Some((moment, now_ms));
    }

    /// Notes when a boot began, by the hub's clock.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn set_boot_start(&mut self, boot: u64, start_ms: i64) -> Result<(), Error> {
        let mut select = self.db.prepare_cached("SELECT start_ms FROM boots WHERE n = ?1")?;
        let known: Option<i64> = select.query_row([boot as i64], |row| row.get(0)).optional()?;
        if known.is_some_and(|known| known == NEVER || known.abs_diff(start_ms) > MOVED_MS) {
            let mut update = self.db.prepare_cached("UPDATE boots SET start_ms = ?2 WHERE n = ?1")?;
            update.execute((boot as i64, start_ms.max(0)))?;
        }
        Ok(())
    }

    /// Keeps answers under idempotency keys as long as was promised although the clock was set forward: an app that asks
    /// again must not write again.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn set_clock_forward(&mut self, by_ms: i64, from_ms: i64) -> Result<(), Error> {
        let mut update =
            self.db.prepare_cached("UPDATE idempotency SET expires_ms = expires_ms + ?1 WHERE expires_ms > ?2")?;
        update.execute((by_ms, from_ms))?;
        Ok(())
    }

    pub(super) fn all_boots(&self) -> Result<Vec<Boot>, Error> {
        let mut statement = self.db.prepare_cached("SELECT n, floor_ms, start_ms FROM boots ORDER BY n")?;
        Ok(statement.query_map([], read)?.collect::<Result<_, _>>()?)
    }

    pub(super) fn moments_between(
        &self,
        stream: Stream,
        after: Seq,
        upto: Seq,
    ) -> Result<BTreeMap<Seq, Moment>, Error> {
        let (from, to) = (own(self.cache.incarnation, stream, after), own(self.cache.incarnation, stream, upto));
        let mut statement = self.db.prepare_cached(
            "SELECT number, boot, mono_ms FROM history WHERE number > ?1 AND number <= ?2 AND boot > 0",
        )?;
        Ok(statement.query_map((from, to), moment)?.collect::<Result<_, _>>()?)
    }

    /// The last own op of each boot that is known, after this one.
    pub(super) fn moments_of_boots(&self, stream: Stream, after: Seq) -> Result<Vec<(Seq, Moment)>, Error> {
        let from = own(self.cache.incarnation, stream, after);
        // Row by row: grouped by SQLite, all of them would be in memory.
        let mut statement = self.db.prepare_cached(
            "SELECT number, boot, mono_ms FROM history WHERE number > ?1 AND number <= ?2 AND boot > 0",
        )?;
        let mut lasts = BTreeMap::new();
        for row in statement.query_map((from, lane_end(from)), moment)? {
            let (seq, moment) = row?;
            lasts.insert(moment.boot, (seq, moment));
        }
        Ok(lasts.into_values().collect())
    }

    /// Gives own ops other times. A record that stands for its only op has them at once.
    pub(super) fn restamp_ops(&mut self, ops: &[Op]) -> Result<(), Error> {
        self.flush()?;
        self.cache.op = None;
        for op in ops {
            let number = own(self.cache.incarnation, op.stamp.dot.stream, op.stamp.dot.seq);
            let mut update = self.db.prepare_cached("UPDATE history SET op = ?2 WHERE number = ?1")?;
            update.execute((number, self.codec.pack_op(op)?))?;
        }
        Ok(())
    }

    /// The time for notes: of the closure if it said it, else what the system says.
    pub(super) fn now_ms(&self) -> i64 {
        self.cache.moment.map_or_else(wall_ms, |(_, now_ms)| now_ms)
    }
}
