//! Copies of the whole database, made while it is written to, and put back.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};

use super::Database;
use crate::error::{HubError, StoreError};

/// Pages that are copied at a time; others get at the disk in between.
const PAGES_STEP: i32 = 1_000;
const STEP_PAUSE: Duration = Duration::from_millis(2);

impl Database {
    /// Makes a copy that is consistent, checked and one file, and notes what in it is safe from the loss of this one. A copy
    /// that stood there before is replaced only by a good one.
    pub(crate) fn back_up(&mut self, to: &Path, now_ms: i64) -> Result<(), HubError> {
        let part = with_suffix(to, ".part");
        let marks = marks_of(&copy(&self.conn, &part)?)?;
        persist(&part, to)?;
        self.write(now_ms, |tx| tx.note_durable(&marks)).map_err(HubError::from)
    }
}

/// Copies a database, its log included, into one file that is checked.
fn copy(source: &Connection, part: &Path) -> Result<Connection, HubError> {
    let _ = fs::remove_file(part);
    // Says which file it is that cannot be written, where the database would not.
    File::create(part).map_err(refused(part))?;
    super::keep_private(part)?;
    let mut target = Connection::open(part).map_err(StoreError::from)?;
    // A snapshot that is held: the hub is another process, and without it each of its commits would begin the copy anew.
    let snapshot = source.unchecked_transaction().map_err(StoreError::from)?;
    snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(StoreError::from)?;
    let backup = Backup::new(&snapshot, &mut target).map_err(StoreError::from)?;
    backup.run_to_completion(PAGES_STEP, STEP_PAUSE, None).map_err(StoreError::from)?;
    drop(backup);
    target.pragma_update(None, "journal_mode", "DELETE").map_err(StoreError::from)?;
    check(&target, part)?;
    Ok(target)
}

/// What the streams of all origins had reached.
fn marks_of(copy: &Connection) -> Result<Vec<(i64, i64, i64)>, StoreError> {
    let mut select = copy.prepare("SELECT origin, stream, acked FROM marks")?;
    let marks = select.query_map([], |row| row.try_into())?.collect::<Result<_, _>>()?;
    Ok(marks)
}

/// Puts a backup in the place of the database of `dir`, which is kept beside it under another name, also if it is broken. Tells
/// that name, if there was one. Whenever the power fails, one of both is there under its name, and as whole as it was.
pub(crate) fn put_back(dir: &Path, from: &Path, now_ms: i64) -> Result<Option<PathBuf>, HubError> {
    File::open(from).map_err(refused(from))?;
    let backup = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(StoreError::from)?;
    check(&backup, from)?;
    let place = dir.join("hub.db");
    let before = with_suffix(&place, &format!(".before-restore-{now_ms}"));
    let is_there = place.exists();
    if is_there {
        make_one_file(&place, dir)?;
    }
    // With the log beside it, if somebody copied both by hand.
    let part = with_suffix(&place, ".part");
    drop(copy(&backup, &part)?);
    if is_there {
        fs::hard_link(&place, &before).map_err(refused(&before))?;
    }
    // A log that is still there could not be folded, or is of a database that somebody took away: it would be laid over the backup.
    for suffix in ["-wal", "-shm"] {
        match fs::rename(with_suffix(&place, suffix), with_suffix(&before, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(refused(&place)(error)),
            _ => {}
        }
    }
    persist(&part, &place)?;
    Ok(is_there.then_some(before))
}

/// Folds the write-ahead log into the database, which nobody else may have open meanwhile. One that is broken stays as it is.
fn make_one_file(path: &Path, dir: &Path) -> Result<(), HubError> {
    let in_use = || HubError::Served(dir.to_owned());
    let fold = || {
        let conn = Connection::open(path)?;
        conn.busy_timeout(Duration::ZERO)?;
        conn.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0))
    };
    match fold().map_err(StoreError::from) {
        Ok(mode) if mode == "delete" => Ok(()),
        Ok(_) | Err(StoreError::Locked(_)) => Err(in_use()),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the database that is replaced is broken");
            Ok(())
        }
    }
}

fn refused(path: &Path) -> impl FnOnce(io::Error) -> HubError {
    let path = path.to_owned();
    move |source| HubError::File { path, source }
}

fn check(conn: &Connection, path: &Path) -> Result<(), HubError> {
    let verdict =
        conn.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)).map_err(StoreError::from)?;
    let known: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(StoreError::from)?;
    match verdict == "ok" && known > 0 {
        true => Ok(()),
        false => Err(HubError::Invalid(format!("{} is no whole database of a hub", path.display()))),
    }
}

fn persist(part: &Path, to: &Path) -> Result<(), HubError> {
    File::open(part).and_then(|part| part.sync_all()).map_err(refused(to))?;
    fs::rename(part, to).map_err(refused(to))?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(refused(to))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
