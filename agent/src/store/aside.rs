//! Setting a broken database aside: it is renamed, never deleted, and a new one begins in its place.
//!
//! The log (`-wal`) holds what was acknowledged last, so it goes with its database, under the name by which SQLite finds it.
//! SQLite deletes a log whose database is missing or empty, so that is looked at before SQLite is ([`keep_orphaned_log`]).
//! A crash in the middle of the renaming leaves such an orphan, and the next start ends what was begun.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tracing::error;

use super::open::FILE_NAME;
use super::tx::wall_ms;
use crate::error::Error;

const PREFIX: &str = "outpost-broken-";
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];
/// The slots of its key, if it is encrypted; copied, not renamed.
pub(super) const KEYS: &str = "-keys";

/// Renames the database with its log. Nobody may have it open. Gives its new name.
///
/// # Errors
/// What the file system reports; then everything is where it was, or the next start goes on.
pub fn set_aside(dir: &Path) -> Result<PathBuf, Error> {
    let to = new_name(dir);
    // Without it nobody could read the one set aside any more; and the new one goes on under the same key.
    copy_slots(&dir.join(FILE_NAME), &to)?;
    for suffix in SUFFIXES {
        rename(&with_suffix(&dir.join(FILE_NAME), suffix), &with_suffix(&to, suffix))?;
    }
    // The names must be on the card before a new database takes the old one's.
    fs::File::open(dir)?.sync_all()?;
    error!(
        file = %to.display(),
        "the database was broken and has been set aside; it may hold records that the hub does not have: keep it, enrol, and run outpost rescue on it"
    );
    Ok(to)
}

/// Gives the database a second name, under which it stays when another takes its place. `None` on a file system that knows no such.
pub(super) fn link_aside(dir: &Path) -> Result<Option<PathBuf>, Error> {
    let (database, to) = (dir.join(FILE_NAME), new_name(dir));
    copy_slots(&database, &to)?;
    if let Err(error) = fs::hard_link(&database, &to) {
        tracing::warn!(%error, "the database could not be given a second name");
        let _ = fs::remove_file(with_suffix(&to, KEYS));
        return Ok(None);
    }
    fs::File::open(dir)?.sync_all()?;
    Ok(Some(to))
}

/// Puts a copy of the slots of one database beside another.
fn copy_slots(from: &Path, to: &Path) -> Result<(), Error> {
    put_slots(slots_of(from)?.as_deref(), to)
}

/// The file with the slots of a database, if it has one.
pub(super) fn slots_of(database: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(with_suffix(database, KEYS)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => Ok(Some(read?)),
    }
}

/// Puts slots beside a database that opens with them.
pub(super) fn put_slots(slots: Option<&[u8]>, database: &Path) -> Result<(), Error> {
    let Some(slots) = slots else { return Ok(()) };
    let to = with_suffix(database, KEYS);
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&to)?;
    file.write_all(slots)?;
    Ok(file.sync_all()?)
}

/// Gives a database that is out of use the name of one that was set aside, with slots beside it. Nobody may have it open.
pub(super) fn keep_aside(out_of_use: &Path, dir: &Path) -> Result<PathBuf, Error> {
    let to = new_name(dir);
    copy_slots(&dir.join(FILE_NAME), &to)?;
    rename(out_of_use, &to)?;
    fs::File::open(dir)?.sync_all()?;
    Ok(to)
}

/// Databases that were set aside and still are in the folder, the oldest first.
pub fn files_aside(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let is_database = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(PREFIX) && name.ends_with(".db")
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_database).collect();
    files.sort();
    files
}

/// Puts a log without a database beside the database that was set aside last, if that has none, and else sets it aside alone.
pub(super) fn keep_orphaned_log(dir: &Path) -> Result<(), Error> {
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let database = dir.join(FILE_NAME);
    let log = with_suffix(&database, "-wal");
    if size(&database) > 0 || size(&log) == 0 {
        return Ok(());
    }
    let last = files_aside(dir).pop().filter(|file| !with_suffix(file, "-wal").exists());
    let Some(last) = last else { return set_aside(dir).map(|_| ()) };
    rename(&log, &with_suffix(&last, "-wal"))?;
    rename(&with_suffix(&database, "-shm"), &with_suffix(&last, "-shm"))?;
    Ok(fs::File::open(dir)?.sync_all()?)
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => Ok(other?),
    }
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A name that nothing has yet: clocks of such boxes say the same time twice.
fn new_name(dir: &Path) -> PathBuf {
    let stamp = file_stamp(wall_ms());
    let nth = |n: u32| if n == 0 { String::new() } else { format!("-{n}") };
    let is_free = |path: &PathBuf| SUFFIXES.iter().chain([&KEYS]).all(|suffix| !with_suffix(path, suffix).exists());
    let names = (0..1_000).map(|n| dir.join(format!("{PREFIX}{stamp}{}.db", nth(n))));
    names.into_iter().find(is_free).unwrap_or_else(|| dir.join(format!("{PREFIX}{stamp}-more.db")))
}

/// A moment for the name of a file: `20261121T075206Z`.
pub(super) fn file_stamp(ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}
