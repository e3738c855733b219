//! Room on the hub's disk. A gateway that was turned against the hub, or a fleet that has grown, must not fill it: below a reserve
//! nothing new is taken from gateways, which keep it and send it later. The reserve is for what must go on: what is only read, what
//! goes down to gateways, what people decide (settling, revoking, erasing), and the audit of it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The file system under the data folder, and what must stay free on it.
#[derive(Debug)]
pub(crate) struct Room {
    folder: PathBuf,
    pub(crate) reserve_bytes: u64,
    /// As it was when it was last looked at: a change is said once.
    was_short: AtomicBool,
    /// What a test says is free.
    #[cfg(test)]
    pretended: std::sync::Mutex<Option<u64>>,
}

impl Room {
    /// Watches the file system of a folder.
    pub(crate) fn new(folder: &Path, reserve_bytes: u64) -> Room {
        Room {
            folder: folder.to_owned(),
            reserve_bytes,
            was_short: AtomicBool::new(false),
            #[cfg(test)]
            pretended: std::sync::Mutex::default(),
        }
    }

    /// Bytes that the hub could still write; `None` if the system does not say.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        #[cfg(test)]
        if let Some(free) = *self.pretended.lock().unwrap() {
            return Some(free);
        }
        let stat = rustix::fs::statvfs(&self.folder).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Whether less is free than the reserve. Looked at anew each time, so that the hub takes changes again as soon as there is room.
    pub(crate) fn is_short(&self) -> bool {
        let is_short = self.free_bytes().is_some_and(|free| free < self.reserve_bytes);
        let folder = self.folder.display();
        match (self.was_short.swap(is_short, Ordering::Relaxed), is_short) {
            (false, true) => tracing::warn!(
                %folder, reserve_bytes = self.reserve_bytes, "the disk is nearly full: nothing new is taken from gateways until there is room"
            ),
            (true, false) => tracing::info!(%folder, "there is room on the disk again: changes of gateways are taken"),
            _ => {}
        }
        is_short
    }

    /// Lets a test say what is free; `None` for what there is.
    #[cfg(test)]
    pub(crate) fn pretend(&self, free_bytes: Option<u64>) {
        *self.pretended.lock().unwrap() = free_bytes;
    }
}
