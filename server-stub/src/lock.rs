//! One hub serves a data directory: by a lock on a file, which the system gives back when its holder ends, also by a crash.
//!
//! Commands do not take it: they work beside the hub, by the locks of the database.

use std::fs::File;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::error::HubError;

const LOCK_FILE: &str = "hub.lock";
const GLANCE: Duration = Duration::from_millis(50);
/// How long one that starts waits for one that is ending.
const PATIENCE: Duration = Duration::from_secs(3);

/// The right to serve a directory.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl Lock {
    /// Takes it, and makes the directory if it is not there.
    pub(crate) fn take(data_dir: &Path) -> Result<Lock, HubError> {
        let path = data_dir.join(LOCK_FILE);
        let refused = |source| HubError::File { path: path.clone(), source };
        std::fs::create_dir_all(data_dir).map_err(refused)?;
        let file = File::options().create(true).write(true).truncate(false).open(&path).map_err(refused)?;
        let began = Instant::now();
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if began.elapsed() >= PATIENCE {
                return Err(HubError::Served(data_dir.to_owned()));
            }
            sleep(GLANCE);
        }
        Ok(Lock(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_served_by_one_hub() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let told = Lock::take(folder.path()).unwrap_err();
        assert!(told.to_string().contains(&folder.path().display().to_string()), "{told}");
        drop(first);
        Lock::take(folder.path()).unwrap();
    }
}
