//! What has been written to a database, by its log: each commit and each page costs a card something.
//!
//! SQLite's log is a head of 32 bytes and frames of a head of 24 and a page; a commit ends with a frame that says how large the
//! database is. <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>

use std::fs;
use std::io;
use std::path::Path;

const HEAD_BYTES: usize = 32;
const FRAME_HEAD_BYTES: usize = 24;

/// What a log holds since it began anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Log {
    /// Commits, each with a sync of the card.
    pub commits: usize,
    /// Pages that they wrote.
    pub pages: usize,
    /// The length of the file.
    pub bytes: u64,
}

impl Log {
    /// The log beside a database, also while a program writes it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(database: &Path) -> io::Result<Log> {
        let bytes = match fs::read(database.with_extension("db-wal")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let word =
            |at: usize| bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes);
        let mut log = Log { bytes: bytes.len() as u64, ..Log::default() };
        let frame = FRAME_HEAD_BYTES + word(8) as usize;
        // Frames of before it began anew lie behind those of now, with other salt.
        let salt = (word(16), word(20));
        let mut at = HEAD_BYTES;
        while at + frame <= bytes.len() && (word(at + 8), word(at + 12)) == salt {
            log.pages += 1;
            log.commits += usize::from(word(at + 4) != 0);
            at += frame;
        }
        Ok(log)
    }

    /// What came since an earlier look, if the log has not begun anew meanwhile.
    pub fn since(self, before: Log) -> Log {
        Log {
            commits: self.commits - before.commits,
            pages: self.pages - before.pages,
            bytes: self.bytes - before.bytes,
        }
    }
}
