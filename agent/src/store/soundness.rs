//! SQLite's own check of the whole file, beside serving, and what follows from what it finds.
//!
//! At start only what every write needs is tried ([`try_writing`]): a few pages, however large the database is. The check of
//! the whole file runs on a connection of its own, on a snapshot; nobody waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use sync_protocol::id::Stream;

use super::number::{HUB_LANE, number};
use super::tx::Cache;
use crate::error::Error;

/// Faults that are told at most.
const FAULTS_MAX: usize = 20;
/// SQLite's steps between two looks at whether to stop.
const STEPS: i32 = 20_000;
/// A pause at each look, so that apps come first on a small box.
const PAUSE: Duration = Duration::from_millis(1);

/// What a check says about the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Sound,
    /// Some of it cannot be read. The rest can, and new writes do no harm.
    Damaged(Vec<String>),
    /// Pages are in use twice, or the list of free pages is wrong: each write may destroy what is whole. Not to be written to.
    Unsafe(Vec<String>),
    /// The check was stopped.
    Stopped,
}

/// Checks the file of a connection; ends early when `stop` is set.
pub(super) fn check(db: &Connection, stop: &Arc<AtomicBool>) -> Result<Verdict, Error> {
    let stopped = Arc::clone(stop);
    db.progress_handler(
        STEPS,
        Some(move || {
            std::thread::sleep(PAUSE);
            stopped.load(Ordering::Relaxed)
        }),
    )?;
    let mut faults = Vec::new();
    match quick_check(db, &mut faults) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            return Ok(Verdict::Stopped);
        }
        Err(error) => match Error::from(error) {
            Error::Corrupt(error) => faults.push(error.to_string()),
            other => return Err(other),
        },
        Ok(()) if stop.load(Ordering::Relaxed) => return Ok(Verdict::Stopped),
        Ok(()) => {}
    }
    Ok(judge(faults))
}

/// What SQLite finds, in its own sentences.
pub(super) fn quick_check(db: &Connection, faults: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut check = db.prepare(&format!("PRAGMA quick_check({FAULTS_MAX})"))?;
    let mut rows = check.query([])?;
    while let Some(row) = rows.next()? {
        let told: String = row.get(0)?;
        faults.extend(
            told.lines().filter(|line| *line != "ok" && !line.starts_with("*** in database")).map(str::to_owned),
        );
    }
    Ok(())
}

/// SQLite says what it found in words only (`checkRef` and `checkList` in its btree.c).
fn judge(faults: Vec<String>) -> Verdict {
    let is_unsafe = |fault: &String| fault.contains("2nd reference to page") || fault.contains("reelist");
    match (faults.is_empty(), faults.iter().any(is_unsafe)) {
        (true, _) => Verdict::Sound,
        (false, true) => Verdict::Unsafe(faults),
        (false, false) => Verdict::Damaged(faults),
    }
}

/// Writes where the next writes go, and takes it back: a database that takes nothing new is of no use, whatever it holds.
pub(super) fn try_writing(db: &Connection, cache: &Cache) -> Result<(), Error> {
    db.execute_batch("BEGIN IMMEDIATE")?;
    let tried = write_everywhere(db, cache);
    if !db.is_autocommit() {
        db.execute_batch("ROLLBACK")?;
    }
    match tried {
        // A number that is taken is as bad: what the state says is not so.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => Err(Error::Corrupt(error)),
        Err(error) => match Error::from(error) {
            Error::DiskFull(_) => Ok(()),
            other => Err(other),
        },
        Ok(()) => Ok(()),
    }
}

fn write_everywhere(db: &Connection, cache: &Cache) -> rusqlite::Result<()> {
    let mut history = db.prepare(
        "INSERT INTO history (number, older, fate, hseq, noted_ms, chain, etag_before, op, before, superseded) \
         VALUES (?1, 0, 0, 0, 0, x'', x'', x'', x'', x'')",
    )?;
    for stream in Stream::ALL {
        let next = cache.state().stream(stream).last.next();
        history.execute([number(cache.incarnation, stream.number(), next.0)])?;
    }
    history.execute([number(cache.incarnation, HUB_LANE, cache.hub_seq() + 1)])?;
    db.execute(
        "INSERT INTO records (feed, type, id, scope, etag, presence, conflicts, is_confirmed, item, changed, is_pending, \
         unsettled, newest, body, confirmed) VALUES (?1, 0, '', 0, x'', 3, 0, 0, 0, 0, 0, 0, 0, x'', x'')",
        [(cache.feed() as i64).saturating_add(1)],
    )?;
    Ok(())
}
