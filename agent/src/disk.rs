//! Room on the card. Intake stops politely before the database has to: what is acknowledged, and the sync that makes room,
//! keep a reserve. Where a quota or another program makes SQLite itself find no room, the writer says so with the same answer.

use std::path::{Path, PathBuf};

use crate::api::Problem;
use crate::error::Error;
use crate::read_only::is_read_only;
use crate::status::bytes;

/// What a copy of the database may take beyond its own size.
const ROOM_BESIDE_COPY: u64 = 4 * 1024 * 1024;

/// The file system under the data folder, and what must stay free on it.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
    reserve_bytes: u64,
    /// The card takes no writes, and the folder is a copy of it in memory.
    is_copy: bool,
}

impl Disk {
    /// Watches the file system of a folder.
    pub fn new(folder: &Path, reserve_bytes: u64) -> Self {
        Disk { folder: folder.to_owned(), reserve_bytes, is_copy: false }
    }

    /// The same of a copy in memory, in which nothing new is safe.
    #[must_use]
    pub(crate) fn in_memory(self, is_copy: bool) -> Self {
        Disk { is_copy, ..self }
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

    /// Fails unless a copy of a database of this size fits beside it and the reserve stays.
    ///
    /// # Errors
    /// [`Error::Told`] with what is needed and what there is.
    pub(crate) fn check_room_for_copy(&self, database_bytes: u64) -> Result<(), Error> {
        let copy = database_bytes + database_bytes / 8 + ROOM_BESIDE_COPY;
        let needed = copy.saturating_add(self.reserve_bytes);
        match self.free_bytes().filter(|free| *free < needed) {
            None => Ok(()),
            Some(free) => Err(Error::refused(format!(
                "a copy of the database needs {} beside it, and {} are free: free some space",
                bytes(needed),
                bytes(free)
            ))),
        }
    }

    /// Fails if what is written now would be gone with the power.
    ///
    /// # Errors
    /// A 507 problem that says what to do.
    pub fn check_card(&self) -> Result<(), Problem> {
        match self.is_copy || is_read_only(&self.folder) {
            true => Err(Problem::card_is_read_only()),
            false => Ok(()),
        }
    }

    /// Fails if the reserve is touched, or the card takes nothing at all. For what apps bring: sync may use the reserve.
    ///
    /// # Errors
    /// A 507 problem that says what to do.
    pub fn check_room(&self) -> Result<(), Problem> {
        self.check_card()?;
        match self.is_nearly_full() {
            true => Err(Problem::disk_full()),
            false => Ok(()),
        }
    }
}
