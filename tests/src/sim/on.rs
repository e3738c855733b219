//! Where the stores of a simulated world are.

use std::str::FromStr;

use tempfile::TempDir;

/// A folder in memory, where the system has one: a sync costs nothing there, and what is synced is known without it.
const IN_MEMORY: &str = "/dev/shm";

/// Where stores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum On {
    /// In memory only.
    #[default]
    Memory,
    /// In SQLite, as the programs open it, with a witness in memory beside each.
    Disk,
}

impl On {
    /// A folder for the stores of one world; it goes when the world goes.
    pub(super) fn folder(self) -> Option<TempDir> {
        match self {
            On::Memory => None,
            On::Disk => {
                let made = tempfile::tempdir_in(IN_MEMORY).or_else(|_| tempfile::tempdir());
                Some(made.expect("a temporary folder"))
            }
        }
    }
}

impl FromStr for On {
    type Err = String;

    fn from_str(text: &str) -> Result<On, String> {
        match text {
            "memory" => Ok(On::Memory),
            "disk" => Ok(On::Disk),
            _ => Err(format!("stores are on memory or disk, not {text}")),
        }
    }
}
