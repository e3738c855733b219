//! What was done here that decides about who gets in, until the hub has it, and a while longer.
//!
//! The newest [`ACTS_MAX`] are kept, told or not: a hub that is away for years costs no more, and is told how many went. Those it
//! has are told again when its epoch is another, because a hub that was put back may have lost them; it knows them by their names.

use rusqlite::{Connection, OptionalExtension};
use sync_protocol::clock::TimeQuality;

use super::key::Home;
use super::open;
use super::reader::Reader;
use super::tx::Tx;
use crate::acts::{Act, Acts, KeptAct};
use crate::error::Error;

/// Acts that are kept.
pub const ACTS_MAX: u64 = 500;

/// What the hub has, and what it will never have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Told {
    number: u64,
    epoch: u32,
    dropped: u64,
}

impl Told {
    fn read(db: &Connection) -> Result<Told, Error> {
        let mut select = db.prepare_cached("SELECT number, epoch, dropped FROM acts_told")?;
        let read = |row: &rusqlite::Row<'_>| {
            let (number, dropped): (i64, i64) = (row.get(0)?, row.get(2)?);
            Ok(Told { number: number as u64, epoch: row.get(1)?, dropped: dropped as u64 })
        };
        Ok(select.query_row([], read).optional()?.unwrap_or_default())
    }

    fn write(self, db: &Connection) -> Result<(), Error> {
        let mut insert =
            db.prepare_cached("INSERT OR REPLACE INTO acts_told (one, number, epoch, dropped) VALUES (1, ?1, ?2, ?3)")?;
        insert.execute((self.number as i64, self.epoch, self.dropped as i64))?;
        Ok(())
    }

    /// Up to which act a hub of this epoch has them.
    fn under(self, epoch: u32) -> u64 {
        if self.epoch == epoch { self.number } else { 0 }
    }
}

/// Keeps an act, unless it is kept already; the oldest goes for it.
pub(super) fn keep(db: &Connection, act: &Act) -> Result<(), Error> {
    let last: i64 = db.query_row("SELECT ifnull(max(number), 0) FROM acts", [], |row| row.get(0))?;
    let mut insert = db.prepare_cached(
        "INSERT OR IGNORE INTO acts (number, name, at_ms, time, who, what, target) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let Act { name, at_ms, time, who, what, on } = act;
    match insert.execute((last + 1, name, at_ms, time.number(), who, what, on.to_string()))? {
        0 => Ok(()),
        _ => drop_oldest(db, last as u64 + 1),
    }
}

fn drop_oldest(db: &Connection, last: u64) -> Result<(), Error> {
    let Some(oldest) = last.checked_sub(ACTS_MAX).filter(|oldest| *oldest > 0) else { return Ok(()) };
    let mut told = Told::read(db)?;
    let untold = "SELECT count(*) FROM acts WHERE number <= ?1 AND number > ?2";
    let untold: i64 = db.prepare_cached(untold)?.query_row((oldest as i64, told.number as i64), |row| row.get(0))?;
    db.prepare_cached("DELETE FROM acts WHERE number <= ?1")?.execute([oldest as i64])?;
    if untold > 0 {
        told.dropped += untold as u64;
        told.write(db)?;
    }
    Ok(())
}

/// The epoch of the hub; 0 if none is known.
fn epoch(db: &Connection) -> Result<u32, Error> {
    Ok(db.prepare_cached("SELECT epoch FROM sync_state")?.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
}

fn after(db: &Connection, number: u64, told: u64, limit: u64) -> Result<Vec<KeptAct>, Error> {
    let mut select = db.prepare_cached(
        "SELECT number, name, at_ms, time, who, what, target FROM acts WHERE number > ?1 ORDER BY number LIMIT ?2",
    )?;
    let rows = select.query_map((number as i64, limit as i64), |row| {
        let (number, target): (i64, String) = (row.get(0)?, row.get(6)?);
        let act = Act {
            name: row.get(1)?,
            at_ms: row.get(2)?,
            time: TimeQuality::from_number(row.get(3)?).unwrap_or(TimeQuality::Unknown),
            who: row.get(4)?,
            what: row.get(5)?,
            on: serde_json::from_str(&target).unwrap_or_default(),
        };
        Ok(KeptAct { number: number as u64, act, is_told: number as u64 <= told })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Keeps acts in a database that nobody else has open, such as one that is about to be converted.
///
/// # Errors
/// What SQLite reports.
pub fn keep_acts(home: &Home, acts: &[Act]) -> Result<(), Error> {
    let mut db = open::for_writing(home)?;
    let step = db.transaction()?;
    acts.iter().try_for_each(|act| keep(&step, act))?;
    Ok(step.commit()?)
}

/// All of a database, to be taken over by the one in its place; nothing of one that is of an older layout.
pub(super) fn of_old(db: &Connection) -> Result<Acts, Error> {
    let known = "SELECT count(*) FROM sqlite_schema WHERE name IN ('acts', 'acts_told')";
    if db.query_row(known, [], |row| row.get::<_, i64>(0))? < 2 {
        return Ok(Acts::default());
    }
    let told = Told::read(db)?;
    Ok(Acts { acts: after(db, 0, told.number, ACTS_MAX)?, dropped: told.dropped })
}

/// Takes over what [`of_old`] found in an empty database, with what the hub has of it: which epoch that was is for the next sync
/// to say, so all are told again, which does no harm.
pub(super) fn take_over(db: &Connection, old: &Acts) -> Result<(), Error> {
    old.acts.iter().try_for_each(|kept| keep(db, &kept.act))?;
    match old.dropped {
        0 => Ok(()),
        dropped => Told { dropped, ..Told::default() }.write(db),
    }
}

impl Tx<'_> {
    /// Keeps what is done in this transaction.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn act(&mut self, act: &Act) -> Result<(), Error> {
        keep(self.db, act)
    }

    /// Adds to the acts that went before anybody heard of them.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn count_dropped_acts(&mut self, more: u64) -> Result<(), Error> {
        let told = Told::read(self.db)?;
        Told { dropped: told.dropped.saturating_add(more), ..told }.write(self.db)
    }

    /// Notes that the hub has the acts up to a number, under the epoch that it had when they were read.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn acts_told(&mut self, number: u64, epoch: u32) -> Result<(), Error> {
        let told = Told::read(self.db)?;
        Told { number, epoch, ..told }.write(self.db)
    }
}

impl Reader<'_> {
    /// All acts that are kept.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn acts(&self) -> Result<Acts, Error> {
        let told = Told::read(self.db)?;
        let upto = told.under(epoch(self.db)?);
        Ok(Acts { acts: after(self.db, 0, upto, ACTS_MAX)?, dropped: told.dropped })
    }

    /// The oldest acts that the hub does not have, at most so many, with how many went before; and the hub's epoch.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn untold_acts(&self, limit: u64) -> Result<(Acts, u32), Error> {
        let (told, epoch) = (Told::read(self.db)?, epoch(self.db)?);
        let upto = told.under(epoch);
        Ok((Acts { acts: after(self.db, upto, upto, limit)?, dropped: told.dropped }, epoch))
    }
}
