//! The folder of the hub, opened as the program opens it.

use std::fs;
use std::path::PathBuf;

use server_stub::Inline;
use sync_protocol::id::Epoch;

use super::card::fold;
use super::torn::Files;
use crate::generator::random::Random;

const FILE_NAME: &str = "hub.db";

/// The hub's database, its backup, and all that ever was there.
#[derive(Debug)]
pub(super) struct Shelf {
    home: PathBuf,
    folders: u32,
    /// `None` only while it has no power.
    store: Option<Inline>,
    /// The next power cut falls into a sync, and this decides what of it is left.
    pub(super) tear: Option<u32>,
}

impl Shelf {
    /// A new hub whose folders are made in `home`.
    pub(super) fn new(home: PathBuf) -> Shelf {
        let mut shelf = Shelf { home, folders: 0, store: None, tear: None };
        shelf.boot(None);
        shelf
    }

    fn folder(&self) -> PathBuf {
        self.home.join(self.folders.to_string())
    }

    pub(super) fn database(&self) -> PathBuf {
        self.folder().join(FILE_NAME)
    }

    fn backup(&self) -> PathBuf {
        self.home.join("backup.db")
    }

    /// The open store.
    pub(super) fn store(&mut self) -> &mut Inline {
        self.store.as_mut().expect("the hub has power")
    }

    fn clear(&mut self) {
        self.store = None;
        let _ = fs::remove_dir_all(self.folder());
        self.folders += 1;
        fs::create_dir_all(self.folder()).unwrap();
    }

    fn boot(&mut self, files: Option<(&Files, bool)>) {
        self.clear();
        if let Some((files, with_index)) = files {
            files.write(&self.database(), with_index).unwrap();
        }
        self.store = Some(Inline::open(&self.folder()).unwrap());
    }

    pub(super) fn files(&self) -> Files {
        Files::read(&self.database()).unwrap()
    }

    /// Back to the last commit.
    pub(super) fn power_cut(&mut self) {
        let synced = self.files();
        self.boot(Some((&synced, true)));
    }

    /// Into the middle of the commit before which these were the files; it has been made meanwhile.
    pub(super) fn power_cut_in(&mut self, mut synced: Files, random: &mut Random) {
        if random.chance(30) {
            synced = self.files();
            fold(&self.database());
        }
        let left = synced.cut(&self.files(), random);
        self.boot(Some((&left, random.chance(50))));
    }

    /// Backs up, as the program does.
    pub(super) fn back_up(&mut self, now_ms: i64) {
        let to = self.backup();
        self.store().back_up(now_ms, &to).unwrap();
    }

    /// Puts the backup in the place of the database: as the program does it, in this epoch; or as somebody does who copies files.
    pub(super) fn restore(&mut self, now_ms: i64, epoch: Option<Epoch>) {
        self.clear();
        self.store = Some(match epoch {
            Some(epoch) => Inline::restore(&self.folder(), &self.backup(), now_ms, epoch).unwrap(),
            None => {
                fs::copy(self.backup(), self.database()).unwrap();
                Inline::open(&self.folder()).unwrap()
            }
        });
        if epoch.is_none() {
            self.store().start(now_ms).unwrap();
        }
    }
}
