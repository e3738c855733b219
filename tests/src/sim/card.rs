//! The folder of a gateway, opened as the program opens it.

use std::fs;
use std::path::{Path, PathBuf};

use agent::error::Error;
use agent::store::{FILE_NAME, Inline, OldDatabase, Options};
use rusqlite::Connection;
use sync_protocol::gateway::Store as _;
use sync_protocol::id::{Origin, Seq};

use super::torn::Files;
use crate::generator::random::Random;

/// A card, with all that ever was on it beside each other: each power cut begins another folder.
#[derive(Debug)]
pub(super) struct Card {
    home: PathBuf,
    folders: u32,
    /// `None` only while the box has no power.
    store: Option<Inline>,
    /// The next power cut falls into a sync, and this decides what of it is left.
    pub(super) tear: Option<u32>,
    /// An image of the card.
    image: Option<Files>,
}

impl Card {
    /// A new card whose folders are made in `home`.
    pub(super) fn new(home: PathBuf) -> Card {
        let mut card = Card { home, folders: 0, store: None, tear: None, image: None };
        card.boot(None);
        card
    }

    /// A card made from the image of another.
    pub(super) fn of_image(home: PathBuf, other: &Card) -> Option<Card> {
        let image = other.image.clone()?;
        let mut card = Card { home, folders: 0, store: None, tear: None, image: None };
        card.boot(Some((&image, false)));
        Some(card)
    }

    fn folder(&self) -> PathBuf {
        self.home.join(self.folders.to_string())
    }

    fn database(&self) -> PathBuf {
        self.folder().join(FILE_NAME)
    }

    /// The open store.
    pub(super) fn store(&mut self) -> &mut Inline {
        self.store.as_mut().expect("the box has power")
    }

    /// What is on the card of an incarnation that is over, with the last op of each stream.
    pub(super) fn old(&self, origin: Origin) -> (OldDatabase, [Seq; 3]) {
        OldDatabase::of_former(&self.folder().as_path().into(), origin).unwrap()
    }

    /// The program is started on these files, with or without a stale index; on an empty card if there are none.
    fn boot(&mut self, files: Option<(&Files, bool)>) {
        self.store = None;
        let _ = fs::remove_dir_all(self.folder());
        self.folders += 1;
        fs::create_dir_all(self.folder()).unwrap();
        if let Some((files, with_index)) = files {
            files.write(&self.database(), with_index).unwrap();
        }
        self.store = Some(Inline::open(&self.folder(), Options::default()).unwrap());
        let aside = agent::store::files_aside(&self.folder());
        assert!(aside.is_empty(), "a database was set aside that was not broken");
    }

    fn files(&self) -> Files {
        Files::read(&self.database()).unwrap()
    }

    /// Makes an image of what is on the card.
    pub(super) fn take_image(&mut self) {
        self.image = Some(self.files());
    }

    /// Puts the image back.
    pub(super) fn put_back(&mut self) {
        if let Some(image) = self.image.take() {
            self.boot(Some((&image, false)));
            self.image = Some(image);
        }
    }

    /// Back to what is on the card, or into the middle of the commit that is under way.
    pub(super) fn power_cut(&mut self) {
        let Some(tear) = self.tear.take() else {
            let synced = self.files();
            return self.boot(Some((&synced, true)));
        };
        let mut random = Random::new(u64::from(tear));
        if random.chance(30) {
            fold(&self.database());
        }
        let mut synced = self.files();
        if !self.store().is_under_way() {
            // Something that changes nothing.
            let again = |tx: &mut agent::store::Tx<'_>| -> Result<(), Error> {
                let state = tx.state()?;
                tx.set_state(&state)
            };
            // A full disk may have no room for it.
            let _ = self.store().write(again);
        }
        let _ = self.store().commit();
        if random.chance(30) {
            synced = self.files();
            fold(&self.database());
        }
        let left = synced.cut(&self.files(), &mut random);
        self.boot(Some((&left, random.chance(50))));
    }
}

/// Copies the log into the database file, as every so many commits do.
pub(super) fn fold(database: &Path) {
    fold_by(&Connection::open(database).unwrap());
}

/// The same, by a connection to it.
pub(crate) fn fold_by(db: &Connection) {
    let is_busy: i64 = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(0)).unwrap();
    assert_eq!(is_busy, 0, "somebody reads for too long");
}
