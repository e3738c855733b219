//! The key of an encrypted database, and whether a file is one.
//!
//! SQLite3 Multiple Ciphers encrypts each page with ChaCha20-Poly1305 on its way to the file and to the log: 16 bytes of nonce
//! and 16 of tag at the end of a page, drawn anew at each write. Its first 16 bytes, where a plain file says that it is SQLite's,
//! are free to choose: ours name the key, so that a wrong one is told from a damaged file. Eight bytes after them stay plain:
//! they say the size of a page and how many of its bytes are set apart.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::hmac;
use rusqlite::Connection;
use zeroize::Zeroizing;

use super::open::FILE_NAME;
use crate::error::Error;

/// What every plain database begins with.
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
const ID_CONTEXT: &[u8] = b"outpost 2026-11 name of a data key v1";
/// The eight plain bytes after the name: set apart are 32, and the three after it are the same in every database.
const RESERVED: u8 = 32;
const FRACTIONS: [u8; 3] = [64, 32, 32];

/// What one database is encrypted with.
#[derive(Clone)]
pub struct DataKey(Arc<Zeroizing<[u8; KEY_BYTES]>>);

/// The name of a key, which says nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId(pub [u8; 16]);

/// A data folder with the key of the database in it; `None` for one that is plain.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
    key: Option<DataKey>,
}

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealing {
    /// There is none, or it is empty.
    Absent,
    /// Anybody can read it.
    Plain,
    /// Encrypted with the key of this name.
    Sealed(KeyId),
    /// Neither: its beginning is damaged.
    Unclear,
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey")
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl DataKey {
    /// A new one.
    ///
    /// # Errors
    /// [`Error::Io`] if the system has no random bytes.
    pub fn generate() -> Result<DataKey, Error> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(bytes.as_mut_slice()).map_err(|e| Error::Io(std::io::Error::from(e)))?;
        Ok(DataKey::new(bytes))
    }

    /// One that was kept.
    pub fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> DataKey {
        DataKey(Arc::new(bytes))
    }

    /// What it consists of.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.bytes()), ID_CONTEXT);
        KeyId(tag.as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// The key and the name in hex digits, as SQLite3 Multiple Ciphers takes them without deriving anything.
    pub(super) fn raw(&self) -> Zeroizing<String> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = Zeroizing::new(String::with_capacity(4 + 2 * (KEY_BYTES + 16)));
        text.push_str("raw:");
        for byte in self.bytes().iter().chain(&self.id().0) {
            for digit in [byte >> 4, byte & 15] {
                text.extend(DIGITS.get(usize::from(digit)).copied().map(char::from));
            }
        }
        text
    }

    /// Lets a connection read and write what is encrypted with it. Nothing of what SQLite would say if it failed is told,
    /// because it repeats the statement.
    pub(super) fn give_to(&self, db: &Connection) -> Result<(), Error> {
        let raw = self.raw();
        let mut sql = Zeroizing::new(String::with_capacity(128 + raw.len()));
        sql.push_str("PRAGMA memory_security = 1; PRAGMA temp_store = memory; PRAGMA cipher = '");
        sql.push_str(sqlite::CIPHER);
        sql.push_str("'; PRAGMA key = '");
        sql.push_str(&raw);
        sql.push_str("';");
        db.execute_batch(&sql).map_err(|_| Error::unkeyed())
    }
}

impl Home {
    /// A folder, with the key if its database is encrypted.
    pub fn new(dir: &Path, key: Option<DataKey>) -> Home {
        Home { dir: dir.to_owned(), key }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The key; `None` if the database is plain.
    pub fn key(&self) -> Option<&DataKey> {
        self.key.as_ref()
    }

    /// The database.
    pub(super) fn file(&self) -> PathBuf {
        self.dir.join(FILE_NAME)
    }

    /// The same folder under another key.
    pub(super) fn under(&self, key: &DataKey) -> Home {
        Home { dir: self.dir.clone(), key: Some(key.clone()) }
    }

    /// The same key for another folder, such as one with a copy.
    pub(super) fn at(&self, dir: &Path) -> Home {
        Home { dir: dir.to_owned(), key: self.key.clone() }
    }
}

impl From<&PathBuf> for Home {
    fn from(dir: &PathBuf) -> Home {
        dir.as_path().into()
    }
}

impl From<&Path> for Home {
    fn from(dir: &Path) -> Home {
        #[cfg(test)]
        let key = super::tests::key_of_this_run();
        #[cfg(not(test))]
        let key = None;
        Home::new(dir, key)
    }
}

/// What a file is.
///
/// # Errors
/// What the file system reports.
pub fn sealing(file: &Path) -> Result<Sealing, Error> {
    let opened = match File::open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Sealing::Absent),
        opened => opened?,
    };
    let mut begin = Vec::new();
    opened.take(24).read_to_end(&mut begin)?;
    let Some((name, rest)) = begin.split_first_chunk::<16>() else {
        return Ok(if begin.is_empty() { Sealing::Absent } else { Sealing::Unclear });
    };
    let is_sealed = matches!(rest, [_, _, 1 | 2, 1 | 2, RESERVED, fractions @ ..] if *fractions == FRACTIONS);
    Ok(match (name == MAGIC, is_sealed) {
        (true, _) => Sealing::Plain,
        (false, true) => Sealing::Sealed(KeyId(*name)),
        (false, false) => Sealing::Unclear,
    })
}

/// Refuses a key that does not fit a file, before SQLite takes the file for a broken one. A file whose beginning is damaged
/// passes: its log may have a good one.
pub(super) fn refuse_misfit(file: &Path, key: Option<&DataKey>) -> Result<(), Error> {
    match (sealing(file)?, key) {
        (Sealing::Sealed(_), None) => Err(Error::KeyNeeded(file.to_owned())),
        (Sealing::Sealed(name), Some(key)) if name != key.id() => Err(Error::WrongKey(file.to_owned())),
        (Sealing::Plain, Some(_)) => Err(Error::NotEncrypted(file.to_owned())),
        _ => Ok(()),
    }
}
