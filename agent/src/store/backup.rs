//! Copies of the database on a second medium, a few generations of them.
//!
//! The copy is made by SQLite's backup in small steps from one snapshot, so that neither writers wait nor the copy begins anew
//! when they write. It is one file without a log.
//!
//! # Invariants
//! - A copy has its name only when it is complete, on the medium, and was opened and checked: its pages, and every row in it.
//! - No older generation goes before that; and only copies of this gateway go.
//! - A copy with damaged rows has everything newer, and says what it is by its name. The newest without any stays beside it.

use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::aside::{KEYS, file_stamp, put_slots, slots_of, with_suffix};
use super::check::ScanAt;
use super::codec::Codec;
use super::health::Place;
use super::reader::Reader;
use super::soundness::quick_check;
use super::{Home, Store, open};
use crate::error::Error;

/// Pages in one step of a copy and rows in one of its check, and the pause after it.
const STEP_PAGES: i32 = 256;
const STEP_ROWS: usize = 256;
const PAUSE: Duration = Duration::from_millis(10);
/// How the name of a copy ends, and of one with damaged rows.
const COPY: &str = ".db";
const DAMAGED: &str = "-damaged.db";

/// Where copies go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    /// A folder on it; it is not made if it is not there.
    pub folder: PathBuf,
    /// Whether it may be the medium of the database itself, as a mount point is when nothing is mounted.
    pub may_be_the_same: bool,
}

/// What became of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is complete.
    Made {
        /// Where it is.
        file: PathBuf,
        /// Rows in it that cannot be read: they are damaged in the database.
        damaged: usize,
    },
    /// The medium is not there, or has no room, for this reason. Older copies are as they were, and nothing was written.
    Absent(String),
    /// It was told to stop. Older copies are as they were.
    Stopped,
}

impl Store {
    /// Copies the database to the medium and keeps the newest `keep` copies. For a thread for blocking work.
    ///
    /// # Errors
    /// What SQLite and the file system report; [`Error::Corrupt`] if the copy is not sound. Older copies are as they were.
    pub fn back_up(&self, to: &Medium, keep: usize, now_ms: i64, stop: &AtomicBool) -> Result<Outcome, Error> {
        if let Some(reason) = absence(to, self.dir()) {
            return Ok(Outcome::Absent(reason));
        }
        let device = self.blocking_read(|reader| reader.state())?.device;
        let prefix = format!("outpost-backup-{}-", device.0);
        let part = to.folder.join(format!("{prefix}new.part"));
        remove(&part)?;
        if let Some(reason) = lack_of_room(to, self.path()) {
            return Ok(Outcome::Absent(reason));
        }
        // It holds what the database holds, so nobody else may read it either.
        fs::File::options().write(true).create_new(true).mode(0o600).open(&part)?;
        // With the slots as they are now: when the copy is done, the database may have another key, and other slots.
        let ((home, source, slots), share) =
            self.inner.readers.beside(|home| Ok((home.clone(), open::for_reading(home)?, slots_of(&home.file())?)))?;
        let checked = match copy(source, &home, &part, stop) {
            Ok(true) => verify(&part, &home, stop),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        drop(share);
        let Ok(Some(places)) = checked else {
            remove(&part)?;
            return checked.map(|_| Outcome::Stopped);
        };
        let ending = if places.is_empty() { COPY } else { DAMAGED };
        let made = to.folder.join(format!("{prefix}{}{ending}", file_stamp(now_ms)));
        for place in &places {
            // Whoever mends looks whether it is so in the database.
            self.inner.health.met_damage(*place);
        }
        fs::File::open(&part)?.sync_all()?;
        // First what opens it. A copy without it opens with the recovery key only.
        put_slots(slots.as_deref(), &made)?;
        fs::rename(&part, &made)?;
        // Not every file system of a stick can do this for a folder.
        let _ = fs::File::open(&to.folder).and_then(|folder| folder.sync_all());
        rotate(&to.folder, &prefix, &made, keep)?;
        Ok(Outcome::Made { file: made, damaged: places.len() })
    }
}

/// Why the medium cannot be used, if it is not there.
fn absence(to: &Medium, data: &Path) -> Option<String> {
    let there = fs::metadata(&to.folder).ok().filter(fs::Metadata::is_dir);
    let Some(there) = there else { return Some(format!("{} is not there", to.folder.display())) };
    let is_same = fs::metadata(data).is_ok_and(|data| data.dev() == there.dev());
    (is_same && !to.may_be_the_same)
        .then(|| format!("{} is on the medium of the database itself; is the other one mounted?", to.folder.display()))
}

/// Why there is no room for one more copy beside those that are there: none of them goes before the next is complete.
fn lack_of_room(to: &Medium, database: &Path) -> Option<String> {
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |facts| facts.len());
    let wanted = bytes(database) + bytes(&with_suffix(database, "-wal"));
    let free = rustix::fs::statvfs(&to.folder).ok().map(|stat| stat.f_bavail * stat.f_frsize)?;
    let room = lack(free, wanted)?;
    Some(format!(
        "{} has {room}: set backup.keep lower and remove old copies, or take a larger medium",
        to.folder.display()
    ))
}

/// In tens of megabytes: a reason that is another one at each look would be written to the card each time.
fn lack(free: u64, wanted: u64) -> Option<String> {
    let least = 10 * wanted.div_ceil(10_000_000);
    (free < wanted).then(|| format!("less room than the {least} MB that a copy may take"))
}

/// Tells whether it came to the end.
fn copy(source: Connection, home: &Home, part: &Path, stop: &AtomicBool) -> Result<bool, Error> {
    // A snapshot that is held: without it, every commit meanwhile would begin the copy anew.
    let snapshot = source.unchecked_transaction()?;
    snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let mut target = Connection::open(part)?;
    if let Some(key) = home.key() {
        key.give_to(&target)?;
        // Encrypted pages are copied only to pages of their size.
        let bytes: i64 = source.pragma_query_value(None, "page_size", |row| row.get(0))?;
        target.pragma_update(None, "page_size", bytes)?;
    }
    let backup = Backup::new(&snapshot, &mut target)?;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        if backup.step(STEP_PAGES)? == StepResult::Done {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    drop(backup);
    target.pragma_update(None, "journal_mode", "delete")?;
    target.close().map_err(|(_, error)| error)?;
    Ok(true)
}

/// The rows that cannot be read; `None` if it was told to stop.
fn verify(part: &Path, home: &Home, stop: &AtomicBool) -> Result<Option<Vec<Place>>, Error> {
    let db = open::copy_for_reading(part, home.key())?;
    let mut faults = Vec::new();
    quick_check(&db, &mut faults)?;
    if !faults.is_empty() {
        return Err(Error::corrupt());
    }
    let codec = Codec::new(Arc::default())?;
    let (reader, mut at) = (Reader::new(&db, &codec, home.dir()), Some(ScanAt::default()));
    while let Some(from) = at {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        at = reader.scan(from, STEP_ROWS)?;
        std::thread::sleep(PAUSE);
    }
    Ok(Some(codec.health().places()))
}

/// Copies in a folder that were made before a time, milliseconds since 1970.
pub fn copies_before(folder: &Path, ms: u64) -> Vec<PathBuf> {
    let is_copy = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("outpost-backup-") && name.ends_with(COPY)
    };
    let is_older = |path: &PathBuf| {
        let made = fs::metadata(path).and_then(|facts| facts.modified()).ok();
        made.and_then(|made| made.duration_since(UNIX_EPOCH).ok()).is_none_or(|made| made.as_millis() < u128::from(ms))
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut older: Vec<PathBuf> = entries.filter(|path| is_copy(path) && is_older(path)).collect();
    older.sort();
    older
}

/// The new copy stays whatever its name says: the clock may have been anywhere. If rows of it are damaged, the newest of which none is
/// stays as well.
fn rotate(folder: &Path, prefix: &str, made: &Path, keep: usize) -> Result<(), Error> {
    let is_older = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(prefix) && name.ends_with(COPY) && path != made
    };
    let is_whole = |path: &Path| !path.to_string_lossy().ends_with(DAMAGED);
    let mut older: Vec<PathBuf> = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).filter(is_older).collect();
    older.sort();
    let surplus = (older.len() + 1).saturating_sub(keep.max(1));
    let last_whole = older.iter().rposition(|path| is_whole(path)).filter(|_| !is_whole(made));
    let goes = older.iter().enumerate().filter(|(nth, _)| Some(*nth) != last_whole).map(|(_, path)| path);
    goes.take(surplus).try_for_each(|path| remove(path).and_then(|()| remove(&with_suffix(path, KEYS))))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_medium_is_too_small_when_a_copy_does_not_fit_beside_what_is_there() {
        assert_eq!(lack(5_000_000, 5_000_000), None);
        assert_eq!(lack(41_200_000, 50_000_001).unwrap(), "less room than the 60 MB that a copy may take");
        assert_eq!(lack(0, 58_000_000), lack(49_000_000, 51_000_000), "what others write there makes no difference");
        let here = tempfile::tempdir().unwrap();
        let database = here.path().join("outpost.db");
        let file = fs::File::create(&database).unwrap();
        let to = Medium { folder: here.path().to_owned(), may_be_the_same: true };
        assert_eq!(lack_of_room(&to, &database), None);
        // More than there is on any disk, and nothing of it is written.
        file.set_len(1 << 43).unwrap();
        assert!(lack_of_room(&to, &database).is_some_and(|told| told.contains("backup.keep")));
    }
}
