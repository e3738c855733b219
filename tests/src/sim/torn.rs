//! What a power cut leaves of a database: the files as they were at the last sync, and any part of what was written since.
//!
//! This way was chosen, and not a file system of our own under SQLite (a VFS), because that cannot be written without `unsafe`,
//! which our crates forbid; and because it is SQLite's own file code that runs here, up to the bytes in the files.
//!
//! # Why it is faithful
//! Both stores run in WAL mode with `synchronous = FULL`. What SQLite then writes between two syncs is known:
//! - A commit appends frames to the log and syncs it; only then it returns. Until then the database file is not touched.
//! - The first commit after the log was folded writes a new head of 32 bytes over the log's beginning and syncs that, then
//!   appends as above. All that the log held is in the database file by then, and synced.
//! - Folding (a checkpoint) copies pages from a log that is synced into the database file, and syncs that.
//!
//! So each cut has a state that is on the disk for certain, taken when the last sync had returned, and a later one, and the
//! files differ in one place only: the head, the log, or the database. [`Files::cut`] keeps of the difference any subset of
//! sectors of 512 bytes, in any order, one of them perhaps in part; a file that grew may have its new length without its new
//! content (zeros, or what was on the disk before). The index of the log (`-shm`) is in memory: after a cut it is gone or stale.
//! A store that is opened on such files must hold exactly what it held at the last sync, or all of that and of the commit that
//! was under way, but nothing between and nothing else.
//!
//! # What it does not say
//! That the disk keeps what it says is synced, and that a write which breaks off spoils only bytes that it was to write (SQLite
//! calls that powersafe overwrite). Cheap cards lie about both. Then SQLite notices what is damaged by its checksums, or loses
//! the end of the log as if it had never been written, and it is the protocol that notices: the chain of each stream shows a
//! gateway that went back, and digests show what differs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::generator::random::Random;

/// What a disk writes whole or not at all, mostly.
const SECTOR_BYTES: usize = 512;
/// The head of a log.
const LOG_HEAD_BYTES: usize = 32;

/// A database and its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    database: Vec<u8>,
    log: Vec<u8>,
    /// The index of the log, which no sync ever concerns.
    index: Vec<u8>,
}

impl Files {
    /// As they are in a folder now.
    pub(crate) fn read(database: &Path) -> io::Result<Files> {
        Ok(Files {
            database: bytes_of(database)?,
            log: bytes_of(&beside(database, "-wal"))?,
            index: bytes_of(&beside(database, "-shm"))?,
        })
    }

    /// Writes them into another folder. With a stale index only if that is wanted.
    pub(crate) fn write(&self, database: &Path, with_index: bool) -> io::Result<()> {
        fs::write(database, &self.database)?;
        fs::write(beside(database, "-wal"), &self.log)?;
        if with_index { fs::write(beside(database, "-shm"), &self.index) } else { Ok(()) }
    }

    /// What is left if the power fails while frames are appended to this log, up to `later`: one for each frame, whole and in half.
    #[cfg(test)]
    pub(crate) fn cuts_of_log(&self, later: &Files) -> Vec<Files> {
        let frame = self.frame_bytes(later);
        let ends = (LOG_HEAD_BYTES..=later.log.len()).step_by(frame).flat_map(|end| [end, end + frame / 2]);
        let ends = ends.filter(|end| (self.log.len()..=later.log.len()).contains(end));
        ends.map(|end| Files { log: later.log[..end].to_vec(), ..self.clone() }).collect()
    }

    /// What is left if the power fails within the first commit that `later` appends to this log: so many moments of it, evenly apart
    /// and each in the middle of a frame, the last of them in that with which it would have counted.
    pub(crate) fn cuts_of_commit(&self, later: &Files, count: usize) -> Vec<Files> {
        let frame = self.frame_bytes(later);
        let begin = self.log.len().max(LOG_HEAD_BYTES);
        let frames = later.log.get(begin..).unwrap_or_default().chunks_exact(frame);
        // The number of pages after the commit stands in the head of its last frame, and nothing in the others.
        let before = frames.take_while(|one| one.get(4..8) == Some(&[0; 4])).count();
        let bytes = (before + 1) * frame;
        let ends = (1..=count).map(|nth| begin + (bytes * nth / count).saturating_sub(frame / 2));
        ends.map(|end| Files { log: later.log.get(..end).unwrap_or(&later.log).to_vec(), ..self.clone() }).collect()
    }

    /// The bytes of a frame of a log that only grew.
    fn frame_bytes(&self, later: &Files) -> usize {
        assert_eq!(self.database, later.database, "the log was folded meanwhile");
        assert!(later.log.starts_with(&self.log), "the log began anew meanwhile");
        let size = later.log.get(8..12).and_then(|size| size.try_into().ok()).map_or(0, u32::from_be_bytes);
        24 + size as usize
    }

    /// What is left if the power fails between this state, which is synced, and a later one.
    pub(crate) fn cut(&self, later: &Files, random: &mut Random) -> Files {
        let mut left = Files { index: later.index.clone(), ..self.clone() };
        if self.database != later.database {
            assert_eq!(self.log, later.log, "a log is not written while it is folded");
            left.database = torn(&self.database, &later.database, random);
            return left;
        }
        let (old, new) = (head(&self.log), head(&later.log));
        if old == new {
            left.log = torn(&self.log, &later.log, random);
        } else if random.chance(30) {
            let written = [new, self.log.get(LOG_HEAD_BYTES..).unwrap_or_default()].concat();
            left.log = torn(&self.log, &written, random);
        } else {
            let synced = [new, self.log.get(LOG_HEAD_BYTES..).unwrap_or_default()].concat();
            left.log = torn(&synced, &later.log, random);
        }
        left
    }
}

fn head(log: &[u8]) -> &[u8] {
    &log[..log.len().min(LOG_HEAD_BYTES)]
}

fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// `old` with some of the sectors of `new`.
fn torn(old: &[u8], new: &[u8], random: &mut Random) -> Vec<u8> {
    let len = if random.chance(50) { old.len() } else { old.len().max(new.len()) };
    let mut left = old.to_vec();
    let fill = if random.chance(50) { 0 } else { random.bits() as u8 };
    left.resize(len, fill);
    let sectors = new.len().div_ceil(SECTOR_BYTES);
    let differs = |nth: &usize| slice(old, *nth) != slice(new, *nth);
    let changed: Vec<usize> = (0..sectors).filter(differs).collect();
    let upto = random.between(0, changed.len() as i64) as usize;
    let way = random.between(0, 3);
    for (at, nth) in changed.iter().enumerate() {
        let is_written = match way {
            // In order.
            0 => at < upto,
            // All but one.
            1 => at != upto,
            _ => random.chance(50),
        };
        let is_in_part = way == 0 && at == upto;
        let mut sector = slice(new, *nth);
        if is_in_part {
            sector = &sector[..random.between(0, sector.len() as i64) as usize];
        }
        if is_written || is_in_part {
            let from = nth * SECTOR_BYTES;
            if left.len() < from + sector.len() {
                left.resize(from + sector.len(), fill);
            }
            left[from..from + sector.len()].copy_from_slice(sector);
        }
    }
    left
}

fn slice(bytes: &[u8], nth: usize) -> &[u8] {
    let from = (nth * SECTOR_BYTES).min(bytes.len());
    &bytes[from..(from + SECTOR_BYTES).min(bytes.len())]
}
