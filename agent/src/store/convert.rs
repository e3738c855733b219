//! A database under another key, or under none: copied, compared, and only then put in the place of the old one.
//!
//! Whenever the power fails, one of the two is whole under the name by which it is opened. The one that is replaced is
//! overwritten before its blocks are given back, which on a card is a wish: its controller writes elsewhere and keeps what was.
//! Nobody else may be working in the folder.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use zeroize::Zeroizing;

use super::aside::with_suffix;
use super::key::{DataKey, Home, Sealing, sealing};
use super::open;
use super::soundness::quick_check;
use crate::error::Error;

/// What the copy is called until it takes the place of the database; and the replaced one until it is wiped. Names that nobody
/// gives to a file of his own: both go without a question.
pub(super) const NEW: &str = "-converting";
pub(super) const OLD: &str = "-to-be-wiped";
const PIECE: usize = 64 * 1024;

/// Bytes that are wiped before they are put on the card, so that whoever else writes does not wait for all of them.
const WIPED_AT_ONCE: u64 = 4 * 1024 * 1024;

/// Where a conversion is, or a change of the key of a database that is used (`renew.rs`); each is reached with everything before
/// it on the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many pages are copied; told again and again, and only of a database that is used.
    Copying {
        /// Copied.
        pages: i32,
        /// Of so many, as far as is known.
        of: i32,
    },
    /// The log is folded into the file.
    Folded,
    /// The copy is written and was compared.
    Copied,
    /// The old file has a second name.
    Linked,
    /// The log of the old file is gone; only of a database that is used.
    Unlogged,
    /// The copy has the name of the database.
    Replaced,
    /// The old file is overwritten.
    Wiped,
}

/// Copies the database of a folder to one with another key, and puts that in its place. `at` hears of each step and can end it
/// there.
///
/// # Errors
/// [`Error::Corrupt`] if the old one cannot be read whole; what SQLite and the file system report. Before [`Step::Replaced`]
/// the old one is in its place.
pub fn convert(from: &Home, to: Option<&DataKey>, at: &mut dyn FnMut(Step) -> Result<(), Error>) -> Result<(), Error> {
    let database = from.file();
    let (new, old) = (with_suffix(&database, NEW), with_suffix(&database, OLD));
    remove_new(&database)?;
    fold(from)?;
    at(Step::Folded)?;
    copy(from, &new, to)?;
    verify(&new, to)?;
    sync_folder(from.dir())?;
    at(Step::Copied)?;
    remove(&old)?;
    // Only by a name it is found again after a power cut. A file system without second names: what is open is wiped.
    let is_linked = fs::hard_link(&database, &old).is_ok();
    let replaced = File::options().write(true).open(&database)?;
    at(Step::Linked)?;
    fs::rename(&new, &database)?;
    sync_folder(from.dir())?;
    at(Step::Replaced)?;
    wipe_unless(&replaced, &AtomicBool::new(false))?;
    at(Step::Wiped)?;
    if is_linked {
        remove(&old)?;
    }
    sync_folder(from.dir())
}

/// Ends what a power cut left of a conversion. The database that is in the place must have been opened before.
pub(super) fn tidy(home: &Home) -> Result<(), Error> {
    let (database, old) = (home.file(), with_suffix(&home.file(), OLD));
    remove_new(&database)?;
    let Ok(facts) = fs::metadata(&old) else { return Ok(()) };
    // With one name more of the same file, it was not replaced yet.
    if facts.ino() != fs::metadata(&database)?.ino() {
        wipe_unless(&File::options().write(true).open(&old)?, &AtomicBool::new(false))?;
        tracing::info!("the database that was replaced is wiped");
    }
    remove(&old)
}

/// Brings everything into the one file, and the layout up to date.
fn fold(home: &Home) -> Result<(), Error> {
    let db = open::for_writing(home)?;
    db.pragma_update(None, "journal_mode", "delete")?;
    db.close().map_err(|(_, error)| error)?;
    // A log that stayed would be taken for that of the new file.
    match with_suffix(&home.file(), "-wal").exists() {
        true => Err(Error::refused("another program has the database open; end it and try again")),
        false => Ok(()),
    }
}

fn copy(from: &Home, new: &Path, to: Option<&DataKey>) -> Result<(), Error> {
    let db = open::to_be_filled(new, to)?;
    let key = from.key().map_or_else(Zeroizing::default, DataKey::raw);
    // Bound, so that it is in no text of SQLite.
    let file = from.file();
    let name = file.to_str().ok_or_else(|| Error::refused("the name of the data folder is not UTF-8"))?;
    db.execute("ATTACH DATABASE ?1 AS old KEY ?2", (name, key.as_str()))?;
    db.execute_batch("BEGIN")?;
    let tables = tables(&db, "old")?;
    for table in &tables {
        db.execute_batch(&format!(
            "DELETE FROM main.\"{table}\"; INSERT INTO main.\"{table}\" SELECT * FROM old.\"{table}\""
        ))?;
    }
    db.execute_batch("COMMIT")?;
    for table in &tables {
        if !is_same(&db, table)? {
            return Err(Error::corrupt());
        }
    }
    db.execute_batch("DETACH DATABASE old")?;
    db.close().map_err(|(_, error)| error)?;
    Ok(File::open(new)?.sync_all()?)
}

/// The tables of one of the databases of a connection.
pub(super) fn tables(db: &Connection, schema: &str) -> Result<Vec<String>, Error> {
    let sql = format!(
        "SELECT name FROM {schema}.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"
    );
    let mut names = db.prepare(&sql)?;
    let names = names.query_map([], |row| row.get(0))?;
    Ok(names.collect::<rusqlite::Result<_>>()?)
}

/// Whether both have the same rows in the same order.
fn is_same(db: &Connection, table: &str) -> Result<bool, Error> {
    let select = |schema: &str| db.prepare(&format!("SELECT * FROM {schema}.\"{table}\" NOT INDEXED"));
    let (mut old, mut new) = (select("old")?, select("main")?);
    let columns = old.column_count();
    if columns != new.column_count() {
        return Ok(false);
    }
    let (mut old, mut new) = (old.query([])?, new.query([])?);
    loop {
        match (old.next()?, new.next()?) {
            (None, None) => return Ok(true),
            (Some(old), Some(new)) => {
                for column in 0..columns {
                    let (old, new): (ValueRef<'_>, ValueRef<'_>) = (old.get_ref(column)?, new.get_ref(column)?);
                    if old != new {
                        return Ok(false);
                    }
                }
            }
            _ => return Ok(false),
        }
    }
}

/// Opens the copy as it will be opened, and lets SQLite check it.
fn verify(new: &Path, to: Option<&DataKey>) -> Result<(), Error> {
    let is_as_meant = match (sealing(new)?, to) {
        (Sealing::Plain, None) => true,
        (Sealing::Sealed(id), Some(key)) => id == key.id(),
        _ => false,
    };
    let mut faults = Vec::new();
    quick_check(&open::copy_for_reading(new, to)?, &mut faults)?;
    match is_as_meant && faults.is_empty() {
        true => Ok(()),
        false => Err(Error::corrupt()),
    }
}

/// Overwrites a file; tells whether it came to the end before `stop` was set.
pub(super) fn wipe_unless(file: &File, stop: &AtomicBool) -> Result<bool, Error> {
    let (size, zeros) = (file.metadata()?.len(), vec![0; PIECE]);
    let (mut file, mut done) = (file, 0);
    while done < size {
        let left = usize::try_from(size - done).unwrap_or(PIECE);
        let piece = zeros.get(..PIECE.min(left)).unwrap_or_default();
        file.write_all(piece)?;
        done += piece.len() as u64;
        if done % WIPED_AT_ONCE == 0 {
            file.sync_data()?;
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
    }
    file.sync_all()?;
    Ok(true)
}

pub(super) fn remove_new(database: &Path) -> Result<(), Error> {
    let new = with_suffix(database, NEW);
    ["", "-journal", "-wal", "-shm"].iter().try_for_each(|suffix| remove(&with_suffix(&new, suffix)))
}

pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

pub(super) fn sync_folder(dir: &Path) -> Result<(), Error> {
    Ok(File::open(dir)?.sync_all()?)
}
