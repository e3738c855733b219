//! Room on the card. Intake stops politely before the database has to: what is acknowledged, and the sync that makes room,
//! keep a reserve. Where a quota or another program makes SQLite itself find no room, the writer says so with the same answer.

use std::path::{Path, PathBuf};

use crate::api::Problem;

/// The file system under the data folder, and what must stay free on it.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
    reserve_bytes: u64,
}

impl Disk {
    /// Watches the file system of a folder.
    pub fn new(folder: &Path, reserve_bytes: u64) -> Self {
        Disk { folder: folder.to_owned(), reserve_bytes }
    }

    /// Bytes that an ordinary user could still write; `None` if the system does not say.
    pub fn free_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.folder).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Whether what is free is no more than the reserve. Looked at anew each time, so intake goes on as soon as there is room.
    pub fn is_nearly_full(&self) -> bool {
        self.free_bytes().is_some_and(|free| free < self.reserve_bytes)
    }

    /// Fails if the reserve is touched. For what apps bring: sync may use the reserve.
    ///
    /// # Errors
    /// A 507 problem that says what to do.
    pub fn check_room(&self) -> Result<(), Problem> {
        match self.is_nearly_full() {
            true => Err(Problem::disk_full()),
            false => Ok(()),
        }
    }
}
