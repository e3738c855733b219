//! Opening the database file: what SQLite is told, and how old files are brought up to date.
//!
//! A page has 1 KiB. A capture writes four to seven pages to the log (record, its key, history, streams, and what grows), so
//! the page is what a commit costs: for a visit 6.5 KB with 1 KiB pages, 10.7 KB with 2 KiB, 19 KB with the usual 4 KiB. Rows are of
//! 50 to 350 bytes, so small pages waste little: the file is as large as with 2 KiB. `synchronous = FULL` makes every commit
//! durable before it is answered. The log is folded back every 2,000 pages, 2 MB, which bounds it and lets the pages that every
//! commit touches be folded once for all of them. There are no foreign keys: nothing that is referred to is ever deleted.

use std::fs::{OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::key::{DataKey, Home, refuse_misfit};
use crate::error::Error;

/// The file within the data directory.
pub const FILE_NAME: &str = "outpost.db";

/// Tells our files from other SQLite databases: "Outp".
const APPLICATION_ID: i64 = 0x4f75_7470;

/// One step a file, numbered; each runs in one transaction. A released step is never changed.
const MIGRATIONS: [&str; 9] = [
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_upkeep.sql"),
    include_str!("migrations/0003_time.sql"),
    include_str!("migrations/0004_certificates.sql"),
    include_str!("migrations/0005_apps.sql"),
    include_str!("migrations/0006_retention.sql"),
    include_str!("migrations/0007_erasures.sql"),
    include_str!("migrations/0008_acts.sql"),
    include_str!("migrations/0009_enrolling.sql"),
];

const PAGE_BYTES: u32 = 1_024;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const STATEMENTS_CACHED: usize = 64;

/// Opens the database for writing, makes it if there is none, and brings an old one up to date.
pub(super) fn for_writing(home: &Home) -> Result<Connection, Error> {
    std::fs::create_dir_all(home.dir())?;
    let path = home.file();
    keep_private(&path)?;
    let mut db = connect(&path, OpenFlags::default(), home.key())?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    // A file that is refused stays as it is: whoever closes it last would fold its log.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    refuse_strangers(&db, &path)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    // Takes effect only before the first table exists.
    db.pragma_update(None, "page_size", PAGE_BYTES)?;
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "full")?;
    db.pragma_update(None, "wal_autocheckpoint", 2_000)?;
    db.pragma_update(None, "journal_size_limit", 4 * 1024 * 1024)?;
    db.pragma_update(None, "cache_size", -2_048)?;
    settle(&db)?;
    migrate(&mut db, &path)?;
    Ok(db)
}

/// Makes the file, if there is none, readable by its owner only, and one that is there likewise: keys lie in it. SQLite gives its
/// log the same mode.
pub(super) fn keep_private(path: &Path) -> Result<(), Error> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mode = std::fs::metadata(path)?.permissions().mode();
            if mode & 0o077 != 0 {
                // A medium without modes, or a file of another owner: it is opened all the same.
                let _ = std::fs::set_permissions(path, Permissions::from_mode(mode & 0o700));
            }
            Ok(())
        }
        made => Ok(made.map(drop)?),
    }
}

/// Opens the database for reading only, beside whoever writes it.
pub(super) fn for_reading(home: &Home) -> Result<Connection, Error> {
    let path = home.file();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = connect(&path, flags, home.key())?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    // Its log may by now be that of another file under the same name (`renew.rs`).
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    refuse_strangers(&db, &path)?;
    let (found, known) = (number(&db, "user_version")?, MIGRATIONS.len() as i64);
    if found == 0 {
        return Err(Error::NotOurs(path));
    }
    if found < known {
        return Err(Error::OlderDatabase { found, known });
    }
    // What a status or a list walked over stays in it while nothing happens; the system has the same pages anyway.
    db.pragma_update(None, "cache_size", -256)?;
    settle(&db)?;
    Ok(db)
}

/// Opens a copy of a database, to look whether it is one.
pub(super) fn copy_for_reading(path: &Path, key: Option<&DataKey>) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = connect(path, flags, key)?;
    refuse_strangers(&db, path)?;
    Ok(db)
}

/// Makes a database that takes over the rows of another one. A crash leaves it useless, so nothing is done against that.
pub(super) fn to_be_filled(path: &Path, key: Option<&DataKey>) -> Result<Connection, Error> {
    keep_private(path)?;
    let mut db = connect(path, OpenFlags::default(), key)?;
    db.pragma_update(None, "page_size", PAGE_BYTES)?;
    db.pragma_update(None, "journal_mode", "off")?;
    db.pragma_update(None, "synchronous", "off")?;
    db.pragma_update(None, "cache_size", -8_192)?;
    settle(&db)?;
    migrate(&mut db, path)?;
    Ok(db)
}

/// Opens a copy of a database that may be damaged anywhere, to read what can be read.
pub(super) fn leniently(home: &Home) -> Result<Connection, Error> {
    let path = home.file();
    // For writing, because only so SQLite makes use of a log that nobody has open.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = connect(&path, flags, home.key())?;
    refuse_strangers(&db, &path)?;
    if !has_our_tables(&db)? {
        return Err(Error::NotOurs(path));
    }
    settle(&db)?;
    Ok(db)
}

/// Opens a file with its key, which has to fit.
fn connect(path: &Path, flags: OpenFlags, key: Option<&DataKey>) -> Result<Connection, Error> {
    refuse_misfit(path, key)?;
    let db = Connection::open_with_flags(path, flags)?;
    if let Some(key) = key {
        key.give_to(&db)?;
    }
    Ok(db)
}

/// Makes a database that takes over the pages of another one under another key. A crash leaves it useless, as above.
pub(super) fn to_be_copied_to(path: &Path, key: &DataKey) -> Result<Connection, Error> {
    keep_private(path)?;
    let db = connect(path, OpenFlags::default(), Some(key))?;
    // Pages are copied only to pages of their size.
    db.pragma_update(None, "page_size", PAGE_BYTES)?;
    db.pragma_update(None, "journal_mode", "off")?;
    db.pragma_update(None, "synchronous", "off")?;
    db.pragma_update(None, "cache_size", -1_024)?;
    Ok(db)
}

fn settle(db: &Connection) -> Result<(), Error> {
    db.pragma_update(None, "temp_store", "memory")?;
    db.pragma_update(None, "foreign_keys", false)?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    Ok(())
}

fn number(db: &Connection, pragma: &str) -> Result<i64, Error> {
    Ok(db.pragma_query_value(None, pragma, |row| row.get(0))?)
}

fn refuse_strangers(db: &Connection, path: &Path) -> Result<(), Error> {
    let not_ours = || Err(Error::NotOurs(PathBuf::from(path)));
    let known = MIGRATIONS.len() as i64;
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (number(db, "application_id")?, number(db, "user_version")?) {
        (APPLICATION_ID, found) if found > known => Err(Error::NewerDatabase { found, known }),
        (APPLICATION_ID, _) => Ok(()),
        (0, 0) if tables == 0 => Ok(()),
        // A file of ours whose header lost a few bytes.
        (_, found) if found <= known && has_our_tables(db)? => Ok(()),
        _ => not_ours(),
    }
}

fn has_our_tables(db: &Connection) -> Result<bool, Error> {
    let ours =
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('records', 'history', 'incarnations', 'stream_state')";
    let found: i64 = db.query_row(ours, [], |row| row.get(0))?;
    Ok(found == 4)
}

fn migrate(db: &mut Connection, path: &Path) -> Result<(), Error> {
    loop {
        let step = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        // Looked at under the lock: two programs may have been started at once.
        refuse_strangers(&step, path)?;
        let done = number(&step, "user_version")?;
        let Some(sql) = usize::try_from(done).ok().and_then(|done| MIGRATIONS.get(done)) else { return Ok(()) };
        step.execute_batch(sql)?;
        step.pragma_update(None, "application_id", APPLICATION_ID)?;
        step.pragma_update(None, "user_version", done + 1)?;
        step.commit()?;
    }
}
