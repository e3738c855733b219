//! A card that takes nothing any more, as many do at their end, and as the system does with one that fails: what is on it is served
//! and sent from a copy in memory.
//!
//! # Invariants
//! - Nothing new is taken from apps: it would be gone with the power.
//! - The card is only read. What syncs bring and change is in the copy; after the next start the gateway is again as it was when the card
//!   ended, which to the hub is a card that was put back, and nothing is lost or doubled by that.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};
use sync_protocol::digest::content_hash;

use crate::board;
use crate::error::{Class, Error};
use crate::status::bytes;
use crate::store::FILE_NAME;

/// What a copy of a database is: the file, its log, and what opens it if it is encrypted.
const PARTS: [&str; 3] = ["", "-wal", "-keys"];
/// What the copy may grow by, beside a part of its own size: syncs write into it.
const ROOM_TO_WORK: u64 = 16 << 20;
/// The folder in memory of the service, as its unit names it: commands are not told.
const OF_SERVICE: &str = "/run/outpost";
/// One in which everybody may make something.
const OF_ALL: &str = "/dev/shm";

/// A data folder in memory. It goes when this does.
#[derive(Debug)]
pub(crate) struct Copy {
    folder: PathBuf,
}

/// Whether a folder is on a medium that takes no writes.
pub(crate) fn is_read_only(folder: &Path) -> bool {
    statvfs(folder).is_ok_and(|facts| facts.f_flag.contains(StatVfsMountFlags::RDONLY))
}

impl Copy {
    /// A copy of the gateway in a data folder, if that takes no writes, as is said or as the system says, and there is a gateway.
    ///
    /// # Errors
    /// [`Error::Told`] if there is no room for it in memory, with what a person can do.
    pub(crate) fn if_needed(data_dir: &Path, is_said: bool) -> Result<Option<Copy>, Error> {
        // What one left that was killed, on this card or on one that takes writes again: commands would take it for ours.
        copies(data_dir).iter().for_each(|left| drop(fs::remove_dir_all(left)));
        if !(is_said || is_read_only(data_dir)) || !data_dir.join(FILE_NAME).is_file() {
            return Ok(None);
        }
        let copy = Copy::make(data_dir, &memory())?;
        board::note_read_only_card();
        tracing::error!(
            copy = %copy.folder.display(),
            "the card takes no writes any more: its records are served and sent from a copy in memory, and nothing new is taken. \
             Replace the card now"
        );
        Ok(Some(copy))
    }

    /// In the first of these folders in memory that has room for it.
    fn make(data_dir: &Path, memory: &[PathBuf]) -> Result<Copy, Error> {
        let part = |name: &str| format!("{FILE_NAME}{name}");
        let size = |name: &&str| fs::metadata(data_dir.join(part(name))).map_or(0, |facts| facts.len());
        let size: u64 = PARTS.iter().map(size).sum();
        let needed = size + size / 4 + ROOM_TO_WORK;
        let of_all = [board::here().memory_free_bytes, of_service(Path::new("/"))];
        let free = |folder: &PathBuf| {
            let facts = statvfs(folder).ok()?;
            let of_folder = facts.f_bavail.saturating_mul(facts.f_frsize);
            Some((of_all.into_iter().flatten().fold(of_folder, u64::min), folder.clone()))
        };
        let rooms: Vec<_> = memory.iter().filter_map(free).collect();
        let Some((_, memory)) = rooms.iter().find(|(free, _)| *free >= needed) else {
            let Some((free, folder)) = rooms.into_iter().max() else {
                return Err(told("there is no folder in memory for a copy of it (RUNTIME_DIRECTORY)"));
            };
            return Err(told(&format!(
                "a copy of its database in memory would need {}, and {} are free in {}",
                bytes(needed),
                bytes(free),
                folder.display()
            )));
        };
        let copy = Copy { folder: memory.join(name_of(data_dir)) };
        match fs::remove_dir_all(&copy.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        fs::DirBuilder::new().mode(0o700).create(&copy.folder)?;
        for name in PARTS.map(part) {
            match fs::copy(data_dir.join(&name), copy.folder.join(&name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(copy)
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Where the copy of a data folder is, for a command that looks for its gateway; of several one may be left of a gateway that was
/// killed.
pub(crate) fn copies(data_dir: &Path) -> Vec<PathBuf> {
    copies_in(data_dir, given().chain([OF_SERVICE, OF_ALL].map(PathBuf::from)))
}

/// Only those of whom the data folder belongs to, or of root: anybody else's would be told the passphrase.
fn copies_in(data_dir: &Path, places: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let Ok(owner) = fs::metadata(data_dir).map(|facts| facts.uid()) else { return Vec::new() };
    let name = name_of(data_dir);
    let is_trusted = |copy: &PathBuf| {
        // The folder itself: a link to one leads wherever its owner wants.
        fs::symlink_metadata(copy).is_ok_and(|facts| facts.is_dir() && [owner, 0].contains(&facts.uid()))
    };
    places.map(|place| place.join(&name)).filter(is_trusted).collect()
}

/// One name for each gateway, however its folder is written.
fn name_of(data_dir: &Path) -> String {
    let path = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
    let hash = content_hash(path.as_os_str().as_encoded_bytes());
    let of: String = hash.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("outpost-copy-{of}")
}

/// What the service manager lets this program still use: what is in the folder counts as its own. `None` if there is no limit (cgroup v2).
fn of_service(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group = root.join("sys/fs/cgroup").join(group);
    let number = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    let limit = [number("memory.high"), number("memory.max")].into_iter().flatten().min()?;
    Some(limit.saturating_sub(number("memory.current")?))
}

/// Folders in memory: the one that the service manager gives, and that of the user.
fn given() -> impl Iterator<Item = PathBuf> {
    ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"].into_iter().filter_map(std::env::var_os).map(PathBuf::from)
}

/// Folders in memory for a copy. The one of the service may be a tenth of the memory; that of all is half of it.
fn memory() -> Vec<PathBuf> {
    given().chain([PathBuf::from(OF_ALL)]).filter(|folder| folder.is_dir() && !is_read_only(folder)).collect()
}

fn told(why: &str) -> Error {
    let detail = format!(
        "the card takes no writes any more, and {why}: copy the card to a new one, all on it can be read (docs/swap-a-card.md)"
    );
    Error::Told { class: Class::Broken, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_what_a_database_is_and_goes_with_its_holder() {
        let (card, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, text) in [("outpost.db", "records"), ("outpost.db-wal", "log"), ("outpost.lock", "127.0.0.1:8470")] {
            fs::write(card.path().join(name), text).unwrap();
        }
        let copy = Copy::make(card.path(), &[memory.path().to_owned()]).unwrap();
        let mut names: Vec<_> = fs::read_dir(copy.folder()).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["outpost.db", "outpost.db-wal"]);
        assert_eq!(fs::read_to_string(copy.folder().join("outpost.db-wal")).unwrap(), "log");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(copy.folder()).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700);
        drop(copy);
        assert_eq!(fs::read_dir(memory.path()).unwrap().count(), 0);
    }

    #[test]
    fn commands_find_the_copy_however_the_folder_is_written_and_follow_no_link() {
        let (card, memory, other) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let found = |card: &Path| copies_in(card, [other.path(), memory.path()].map(Path::to_owned).into_iter());
        assert!(found(card.path()).is_empty());
        let copy = Copy::make(card.path(), &[memory.path().to_owned()]).unwrap();
        for written in [card.path().join(""), card.path().join(".")] {
            assert_eq!(found(&written), [copy.folder()], "{}", written.display());
        }
        assert!(found(memory.path()).is_empty() && found(&card.path().join("nowhere")).is_empty());
        std::os::unix::fs::symlink(copy.folder(), other.path().join(name_of(card.path()))).unwrap();
        assert_eq!(found(card.path()), [copy.folder()]);
    }

    #[test]
    fn a_database_that_does_not_fit_into_memory_is_not_copied() {
        let (card, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // More than there is in any memory, and nothing of it is written.
        fs::File::create(card.path().join(FILE_NAME)).unwrap().set_len(1 << 43).unwrap();
        let told = Copy::make(card.path(), &[memory.path().to_owned()]).unwrap_err().to_string();
        assert!(told.contains("swap-a-card") && told.contains("are free"), "{told}");
        assert_eq!(fs::read_dir(memory.path()).unwrap().count(), 0);
        assert!(Copy::make(card.path(), &[]).unwrap_err().to_string().contains("no folder in memory"));
    }

    #[test]
    fn the_copy_goes_where_there_is_room() {
        let (card, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(card.path().join(FILE_NAME), "records").unwrap();
        // In neither of the first two anybody may put anything.
        let places = ["/nowhere", "/proc"].map(PathBuf::from).into_iter().chain([memory.path().to_owned()]);
        let copy = Copy::make(card.path(), &places.collect::<Vec<_>>()).unwrap();
        assert!(copy.folder().starts_with(memory.path()));
    }

    #[test]
    fn the_limit_of_the_service_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(of_service(root.path()), None);
        write("proc/self/cgroup", "0::/system.slice/outpost.service\n");
        let group = "sys/fs/cgroup/system.slice/outpost.service";
        write(&format!("{group}/memory.current"), "20000000\n");
        write(&format!("{group}/memory.max"), "192000000\n");
        write(&format!("{group}/memory.high"), "max\n");
        assert_eq!(of_service(root.path()), Some(172_000_000));
        write(&format!("{group}/memory.high"), "128000000\n");
        assert_eq!(of_service(root.path()), Some(108_000_000));
    }

    #[test]
    fn a_medium_that_takes_writes_needs_no_copy() {
        let card = tempfile::tempdir().unwrap();
        fs::write(card.path().join(FILE_NAME), "").unwrap();
        assert!(Copy::if_needed(card.path(), false).unwrap().is_none());
    }
}
