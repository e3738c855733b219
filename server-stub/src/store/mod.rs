//! What the hub remembers: one SQLite file, and the only SQL of the program.
//!
//! A [`Database`] is one connection; [`Writer`] puts one on a thread of its own and commits in groups; [`Readers`] are beside
//! it. A [`Tx`] is one transaction, and is the hub's [`sync_protocol::hub::Store`]. Nothing is remembered outside of a
//! transaction but parsed rules by their version, because commands of the same program write the file while it is served.

mod accounts;
mod acts;
mod audit;
mod authority;
mod backup;
mod conditions;
mod daily;
mod enrolment;
mod epoch;
mod erasures;
mod escrow;
mod fleet;
mod history;
mod identities;
mod log;
mod quarantine;
mod readers;
mod records;
mod rescue;
mod rules;
mod tx;
mod visits;
mod writer;

use std::fs::{OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};
use sync_protocol::rules::Rules;

pub(crate) use accounts::Locks;
pub(crate) use audit::head_beside;
pub(crate) use backup::put_back;
pub(crate) use daily::Daily;
pub(crate) use enrolment::NewGateway;
pub(crate) use erasures::{Progress, Wish};
pub(crate) use escrow::KeyName;
pub(crate) use fleet::{Contact, FleetRow};
pub(crate) use history::Past;
pub(crate) use quarantine::HeldRow;
pub(crate) use readers::Readers;
pub use tx::Tx;
pub(crate) use visits::{Lasting, Token};
pub(crate) use writer::Writer;

use self::audit::Audited;
use crate::error::StoreError;

const SCHEMA: [&str; 11] = [
    include_str!("schema-1.sql"),
    include_str!("schema-2.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
    include_str!("schema-5.sql"),
    include_str!("schema-6.sql"),
    include_str!("schema-7.sql"),
    include_str!("schema-8.sql"),
    include_str!("schema-9.sql"),
    include_str!("schema-10.sql"),
    include_str!("schema-11.sql"),
];
const BUSY_SECONDS: u64 = 20;
const STATEMENTS_CACHED: usize = 96;
const WRITER_CACHE_KIB: i64 = 16_000;
/// Little, because SQLite empties it whenever somebody else has committed.
const READER_CACHE_KIB: i64 = 2_000;

/// One connection to the file.
#[derive(Debug)]
pub(crate) struct Database {
    conn: Connection,
    rules: Option<Arc<Rules>>,
    /// Where the file is.
    folder: PathBuf,
}

impl Database {
    /// Opens the file, makes it if it is not there, and brings its schema up to date.
    pub(crate) fn open(path: &Path) -> Result<Database, StoreError> {
        keep_private(path)?;
        let mut conn = Connection::open(path)?;
        conn.busy_timeout(Duration::from_secs(BUSY_SECONDS))?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
        // A file that is refused stays as it is: whoever closes it last would fold its log.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        refuse_newer(&conn)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        migrate(&mut conn)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Database { conn, rules: None, folder })
    }

    /// Opens the file to read beside its writer. Whoever writes on this connection after all gets an error.
    pub(crate) fn open_to_read(path: &Path) -> Result<Database, StoreError> {
        let database = Database::open(path)?;
        database.conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        database.conn.pragma_update(None, "query_only", true)?;
        Ok(database)
    }

    /// Runs `act` in one transaction that is committed if it succeeds, and only then.
    pub(crate) fn write<T, E: From<StoreError>>(
        &mut self,
        now_ms: i64,
        act: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let begun = self.conn.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = begun.map_err(StoreError::from)?;
        let mut tx = Tx::new(&transaction, &mut self.rules, now_ms);
        let result = act(&mut tx)?;
        tx.finish()?;
        let (audited, is_list_new) = (tx.audited, tx.is_list_new);
        transaction.commit().map_err(StoreError::from)?;
        self.tell_head(audited);
        self.tell_list(is_list_new);
        Ok(result)
    }

    /// Writes the head of the audit beside the file, if it moved. What it tells of is on disk by then.
    fn tell_head(&self, audited: Audited) {
        if audited == Audited::No {
            return;
        }
        if let Err(error) = audit::write_head(&self.conn, &self.folder, audited) {
            tracing::warn!(%error, "the head of the audit could not be written beside the database");
        }
    }

    #[cfg(test)]
    pub(crate) fn pragma(&self, name: &str) -> Result<String, StoreError> {
        let text = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
        Ok(self.conn.query_row(&text, [], |row| row.get(0))?)
    }

    /// Leaves room for so many pages more, as a disk that is nearly full does; `None` for one that has enough.
    pub(crate) fn leave_pages(&mut self, more: Option<u32>) -> Result<(), StoreError> {
        let pages: i64 = self.conn.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let limit = more.map_or(i64::from(u32::MAX - 1), |more| pages + i64::from(more));
        Ok(self.conn.query_row(&format!("PRAGMA max_page_count = {limit}"), [], |_| Ok(()))?)
    }

    /// Runs `act` on one snapshot; whatever it should write is dropped.
    pub(crate) fn read<T, E: From<StoreError>>(
        &mut self,
        now_ms: i64,
        act: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let begun = self.conn.transaction_with_behavior(TransactionBehavior::Deferred);
        let transaction = begun.map_err(StoreError::from)?;
        act(&mut Tx::new(&transaction, &mut self.rules, now_ms))
    }
}

/// Makes the file, if there is none, readable by its owner only, and one that is there likewise: the keys of the hub and of its
/// gateways lie in it. SQLite gives its log the same mode.
pub(crate) fn keep_private(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mode = std::fs::metadata(path)?.permissions().mode();
            if mode & 0o077 != 0 {
                // A file system without modes, or a file of another owner: it is opened all the same.
                let _ = std::fs::set_permissions(path, Permissions::from_mode(mode & 0o700));
            }
            Ok(())
        }
        made => Ok(made.map(drop)?),
    }
}

fn version(conn: &Connection) -> Result<i64, StoreError> {
    Ok(conn.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

fn refuse_newer(conn: &Connection) -> Result<(), StoreError> {
    let (found, known) = (version(conn)?, SCHEMA.len() as i64);
    if found > known { Err(StoreError::Newer { found, known }) } else { Ok(()) }
}

fn migrate(conn: &mut Connection) -> Result<(), StoreError> {
    if version(conn)? == SCHEMA.len() as i64 {
        return Ok(());
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Read again: another program may have done it while we waited, an older one or a newer one.
    refuse_newer(&tx)?;
    for (step, sql) in (1i64..).zip(SCHEMA) {
        if version(&tx)? < step {
            tx.execute_batch(sql)?;
            if step == 1 {
                tx.execute("INSERT INTO hub (one, epoch, head, lineage, started) VALUES (1, 1, 0, '[[1,0]]', 0)", [])?;
            }
            tx.pragma_update(None, "user_version", step)?;
        }
    }
    tx.commit()?;
    Ok(())
}
