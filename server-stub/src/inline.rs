//! The hub without threads and without a network: what a simulation steps through, in its own time.
//!
//! It is the same database, opened the same way, and the same [`Tx`]. Each [`Inline::write`] is a commit of its own; in the
//! running program several share one, which is less to lose and not more.

use std::path::Path;

use sync_protocol::hub::Gateway;
use sync_protocol::id::{Epoch, Scope};
use sync_protocol::identity::DeviceKey;

use crate::error::{HubError, StoreError};
use crate::hub::{add_gateway, new_gateway, open_database};
use crate::secret::normal_code;
use crate::store::{Database, Tx, put_back};

/// The source that every gateway has.
const SOURCE: &str = "clinic";

/// An open hub that belongs to one thread.
#[derive(Debug)]
pub struct Inline {
    database: Database,
}

impl Inline {
    /// Opens the hub of a data directory, and makes it if it is not there.
    ///
    /// # Errors
    /// What the file system and the database report.
    pub fn open(data_dir: &Path) -> Result<Inline, HubError> {
        Ok(Inline { database: open_database(data_dir)? })
    }

    /// Runs `act` in a transaction, which is on the disk when this returns. If `act` fails, nothing of it stays.
    ///
    /// # Errors
    /// What `act` returns, or what the database reports.
    pub fn write<T, E: From<StoreError>>(
        &mut self,
        now_ms: i64,
        act: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.database.write(now_ms, act)
    }

    /// Runs `act` on one snapshot; whatever it should write is dropped.
    ///
    /// # Errors
    /// What `act` returns, or what the database reports.
    pub fn read<T, E: From<StoreError>>(
        &mut self,
        now_ms: i64,
        act: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.database.read(now_ms, act)
    }

    /// Adds a gateway and enrolls it at once, with this key.
    ///
    /// # Errors
    /// [`HubError`] if the name is taken.
    pub fn enroll(&mut self, now_ms: i64, name: &str, scopes: &[Scope], key: DeviceKey) -> Result<Gateway, HubError> {
        let scopes: Vec<&str> = scopes.iter().map(Scope::as_str).collect();
        let new = new_gateway(name, &scopes, SOURCE)?;
        self.database.write(now_ms, |tx| {
            // Its name is its code: it is used at once.
            add_gateway(tx, &new, name, 1)?;
            Ok(tx.redeem(&normal_code(name), "{}", "", key)?.gateway)
        })
    }

    /// Publishes a rules document, and judges the quarantine anew.
    ///
    /// # Errors
    /// [`HubError`] if it does not parse or is not newer than the one in force.
    pub fn publish(&mut self, now_ms: i64, text: &str) -> Result<(), HubError> {
        self.database.write(now_ms, |tx| tx.publish(text).map(drop))
    }

    /// Backs the hub up, as `outpost-hub backup` does.
    ///
    /// # Errors
    /// What the file system and the database report.
    pub fn back_up(&mut self, now_ms: i64, to: &Path) -> Result<(), HubError> {
        self.database.back_up(to, now_ms)
    }

    /// Puts a backup into a data directory on which no hub is open, as `outpost-hub restore` does, in this epoch.
    ///
    /// # Errors
    /// What the file system and the database report.
    pub fn restore(data_dir: &Path, from: &Path, now_ms: i64, epoch: Epoch) -> Result<Inline, HubError> {
        put_back(data_dir, from, now_ms)?;
        let mut hub = Inline::open(data_dir)?;
        hub.start(now_ms)?;
        hub.write(now_ms, |tx| tx.enter_epoch(epoch, u64::try_from(now_ms).unwrap_or(0)))?;
        Ok(hub)
    }

    /// Notes that the hub begins to serve, as `outpost-hub serve` does.
    ///
    /// # Errors
    /// What the database reports.
    pub fn start(&mut self, now_ms: i64) -> Result<(), StoreError> {
        self.database.write(now_ms, |tx| tx.note_start())
    }

    /// Leaves room for so many pages more, as a disk that is nearly full does; `None` for one that has enough. SQLite's own
    /// limit on pages fails where a disk without room fails, with the same code.
    ///
    /// # Errors
    /// What the database reports.
    pub fn leave_pages(&mut self, more: Option<u32>) -> Result<(), StoreError> {
        self.database.leave_pages(more)
    }
}
