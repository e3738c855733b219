//! A copy of a database that is out of use, to work on: the file itself is only read, and never opened by SQLite, which would
//! fold its log into it.
//!
//! A card that fails gives errors for single blocks; they are copied as zeros, and what was in them shows as damage. A file
//! whose first bytes are lost is given those of a new database, in the copy.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::Connection;

use super::aside::with_suffix;
use super::open;
use super::open::FILE_NAME;
use crate::error::Error;

/// Read at once.
const PIECE: usize = 64 * 1024;
/// What is read at once where a piece cannot be: a sector.
const SECTOR: usize = 512;
/// What every database begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";
const HEADER_BYTES: usize = 100;
const PAGE_BYTES: usize = 1_024;

/// What copying met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Bytes of the database and its log.
    pub bytes: u64,
    /// Bytes that the card did not give.
    pub unreadable_bytes: u64,
    /// The beginning of the file was lost and was made anew.
    pub has_new_header: bool,
}

/// Copies a database with its log into a folder, under the name by which it is opened.
///
/// # Errors
/// What the file systems report; an unreadable block is no error.
pub fn copy_old(from: &Path, dir: &Path) -> Result<Copied, Error> {
    let mut copied = Copied::default();
    let to = dir.join(FILE_NAME);
    copy(from, &to, &mut copied)?;
    let log = with_suffix(from, "-wal");
    if log.is_file() {
        copy(&log, &with_suffix(&to, "-wal"), &mut copied)?;
    }
    let mut magic = [0; 16];
    let file = File::options().read(true).write(true).open(&to)?;
    let is_whole = file.read_exact_at(&mut magic, 0).is_ok() && magic == MAGIC;
    if !is_whole && file.metadata()?.len() >= PAGE_BYTES as u64 {
        mend_beginning(&file, dir)?;
        copied.has_new_header = true;
    }
    Ok(copied)
}

fn copy(from: &Path, to: &Path, copied: &mut Copied) -> Result<(), Error> {
    let source = |source: io::Error| Error::File { path: from.to_owned(), source };
    let file = File::open(from).map_err(source)?;
    let size = file.metadata().map_err(source)?.len();
    let mut target = File::create(to)?;
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        let wanted = PIECE.min(usize::try_from(size - at).unwrap_or(PIECE));
        let piece = piece.get_mut(..wanted).unwrap_or_default();
        match file.read_exact_at(piece, at) {
            Ok(()) => {}
            // Somebody made it shorter meanwhile.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(source(error)),
            Err(_) => copied.unreadable_bytes += by_sectors(&file, piece, at),
        }
        target.write_all(piece)?;
        at += wanted as u64;
    }
    copied.bytes += size;
    Ok(target.sync_all()?)
}

/// Reads what can be read of a piece, sector by sector; gives how many bytes cannot.
fn by_sectors(file: &File, piece: &mut [u8], at: u64) -> u64 {
    let mut lost = 0;
    for (nth, sector) in piece.chunks_mut(SECTOR).enumerate() {
        if file.read_exact_at(sector, at + (nth * SECTOR) as u64).is_err() {
            sector.fill(0);
            lost += sector.len() as u64;
        }
    }
    lost
}

/// Gives a file the beginning that a new database has: the header, and if the list of tables cannot be found then, the first
/// page, which every database that was made by this program has the same.
fn mend_beginning(file: &File, dir: &Path) -> Result<(), Error> {
    let made = dir.join("new");
    fs::create_dir(&made)?;
    drop(open::for_writing(&made)?);
    let mut page = [0; PAGE_BYTES];
    File::open(made.join(FILE_NAME))?.read_exact_at(&mut page, 0)?;
    fs::remove_dir_all(&made)?;
    let pages = u32::try_from(file.metadata()?.len() / PAGE_BYTES as u64).unwrap_or(u32::MAX);
    let mut put = |at: usize, bytes: [u8; 4]| {
        page.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = from);
    };
    // Bytes 28 to 31 are the size in pages; 32 to 39 the list of free pages, which is not known any more.
    put(28, pages.to_be_bytes());
    put(32, [0; 4]);
    put(36, [0; 4]);
    file.write_all_at(page.get(..HEADER_BYTES).unwrap_or_default(), 0)?;
    if !has_tables(dir) {
        file.write_all_at(&page, 0)?;
    }
    Ok(file.sync_all()?)
}

fn has_tables(dir: &Path) -> bool {
    let count = |db: Connection| {
        db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'history'", [], |row| row.get::<_, i64>(0))
    };
    Connection::open(dir.join(FILE_NAME)).and_then(count).is_ok_and(|found| found > 0)
}
