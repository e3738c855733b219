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
use super::key::{Home, Sealing, sealing};
use super::open;
use crate::error::Error;

/// Read at once.
const PIECE: usize = 64 * 1024;
/// What is read at once where a piece cannot be: a sector.
const SECTOR: usize = 512;
/// What is put into one row to make a database longer.
const PAD_BYTES_MAX: u64 = 64 * 1024 * 1024;
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
pub fn copy_old(from: &Path, home: &Home) -> Result<Copied, Error> {
    let mut copied = Copied::default();
    let to = home.file();
    copy(from, &to, &mut copied)?;
    let log = with_suffix(from, "-wal");
    if log.is_file() {
        copy(&log, &with_suffix(&to, "-wal"), &mut copied)?;
    }
    let file = File::options().read(true).write(true).open(&to)?;
    let is_whole = matches!(sealing(&to)?, Sealing::Plain | Sealing::Sealed(_));
    if !is_whole && file.metadata()?.len() >= PAGE_BYTES as u64 {
        match home.key() {
            None => mend_beginning(&file, home)?,
            Some(_) => mend_sealed_beginning(&file, home)?,
        }
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
fn mend_beginning(file: &File, home: &Home) -> Result<(), Error> {
    let mut page = page_of_a_new_one(home, |_| Ok(()))?;
    let pages = u32::try_from(file.metadata()?.len() / PAGE_BYTES as u64).unwrap_or(u32::MAX);
    let mut put = |at: usize, bytes: [u8; 4]| {
        page.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = from);
    };
    // Bytes 28 to 31 are the size in pages; 32 to 39 the list of free pages, which is not known any more.
    put(28, pages.to_be_bytes());
    put(32, [0; 4]);
    put(36, [0; 4]);
    file.write_all_at(page.get(..HEADER_BYTES).unwrap_or_default(), 0)?;
    if !has_tables(home) {
        file.write_all_at(&page, 0)?;
    }
    Ok(file.sync_all()?)
}

/// The same for an encrypted file, in whose first page nothing can be changed from outside: the new database is made as long as
/// the file is, and the file is made as long as that became.
fn mend_sealed_beginning(file: &File, home: &Home) -> Result<(), Error> {
    let wanted = file.metadata()?.len() / PAGE_BYTES as u64;
    let mut made = 0;
    let page = page_of_a_new_one(home, |db| {
        let mut row = 0;
        loop {
            made = db.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))? as u64;
            if made >= wanted {
                return Ok(());
            }
            row += 1;
            // A little less than what is missing: rows that hold them take pages as well.
            let bytes = ((wanted - made) * (PAGE_BYTES as u64 - 64)).min(PAD_BYTES_MAX);
            db.execute(
                "INSERT INTO history (number, older, fate, hseq, noted_ms, chain, etag_before, op, before, superseded) \
                 VALUES (?1, 0, 0, 0, 0, x'', x'', zeroblob(?2), x'', x'')",
                (row, bytes as i64),
            )?;
        }
    })?;
    file.set_len(made * PAGE_BYTES as u64)?;
    file.write_all_at(&page, 0)?;
    Ok(file.sync_all()?)
}

/// The first page of a new database with the same key, after something was done to it.
fn page_of_a_new_one(
    home: &Home,
    change: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Result<[u8; PAGE_BYTES], Error> {
    let made = home.at(&home.dir().join("new"));
    fs::create_dir(made.dir())?;
    let db = open::for_writing(&made)?;
    change(&db)?;
    db.close().map_err(|(_, error)| error)?;
    let mut page = [0; PAGE_BYTES];
    File::open(made.file())?.read_exact_at(&mut page, 0)?;
    fs::remove_dir_all(made.dir())?;
    Ok(page)
}

fn has_tables(home: &Home) -> bool {
    let count = |db: Connection| {
        db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'history'", [], |row| row.get::<_, i64>(0))
    };
    Connection::open(home.file()).and_then(count).is_ok_and(|found| found > 0)
}
