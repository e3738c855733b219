//! Encrypted databases: what opens them, what does not, and what lies on the card.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde_json::json;
use sync_protocol::memory::MemoryHub;
use tempfile::TempDir;

use super::{Clinic, NOW_MS};
use crate::error::Error;
use crate::store::{
    BackupOutcome, DataKey, FILE_NAME, Home, Medium, OldDatabase, Options, Sealing, Step, Store, Verdict, convert,
    copy_old, sealing, set_aside,
};

/// A word that is nowhere but in records.
const CANARY: &str = "penicillin-allergy-canary";

fn clinic(key: Option<&DataKey>) -> Clinic {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Home::new(dir.path(), key.cloned()), Options::default()).unwrap();
    Clinic { dir, store, now_ms: NOW_MS }
}

fn fill(clinic: &mut Clinic, records: usize) {
    for n in 0..records {
        // Long and without any pattern in front, so that it is not compressed away: the word stands in each.
        clinic.put(&format!("patient/canary-id-{n}"), json!({"note": format!("{n} {CANARY}"), "n": n}));
    }
}

/// All bytes of all files in a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.path().is_dir() {
            true => found.extend(files(&entry.path())),
            false => {
                found.insert(entry.path(), fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

fn shown(home: Home) -> Vec<String> {
    let store = Store::open(home, Options::default()).unwrap();
    store
        .blocking_read(|reader| {
            let keys = (0..10_000).map(|n| format!("patient/canary-id-{n}"));
            let found = keys.map(|key| Ok::<_, Error>(reader.get(&super::key_of(&key))?.map(|_| key)));
            Ok::<_, Error>(found.take(500).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        })
        .unwrap()
}

#[test]
fn no_file_in_the_folder_holds_a_word_of_a_record() {
    for key in [None, Some(DataKey::generate().unwrap())] {
        let mut hub = MemoryHub::default();
        let mut clinic = self::clinic(key.as_ref());
        clinic.enrol(&mut hub, "mw");
        fill(&mut clinic, 300);
        clinic.sync(&mut hub);
        let medium = Medium { folder: clinic.path().join("stick"), may_be_the_same: true };
        fs::create_dir(&medium.folder).unwrap();
        let made = clinic.store.back_up(&medium, 1, NOW_MS, &AtomicBool::new(false)).unwrap();
        assert!(matches!(made, BackupOutcome::Made { damaged: 0, .. }));
        // While it is open: with its log, and the memory that connections share.
        let while_open = files(clinic.path());
        assert!(while_open.keys().any(|path| path.to_string_lossy().ends_with("-wal")));
        let Clinic { dir, store, .. } = clinic;
        drop(store);
        set_aside(dir.path()).unwrap();
        drop(Store::open(Home::new(dir.path(), key.clone()), Options::default()).unwrap());
        let words = [CANARY, "canary-id", "penicillin", "CREATE TABLE", "patient"];
        let mut telling = while_open.iter().chain(&files(dir.path())).fold(Vec::new(), |mut telling, (path, bytes)| {
            telling.extend(words.iter().filter(|word| holds(bytes, word)).map(|word| (path.clone(), *word)));
            telling
        });
        telling.retain(|(path, _)| path.to_string_lossy().contains(FILE_NAME) || path.extension().is_some());
        assert_eq!(telling.is_empty(), key.is_some(), "{telling:?}");
    }
}

#[test]
fn a_wrong_key_or_none_changes_nothing_at_all() {
    let (right, wrong) = (DataKey::generate().unwrap(), DataKey::generate().unwrap());
    let mut clinic = self::clinic(Some(&right));
    fill(&mut clinic, 20);
    let Clinic { dir, store, .. } = clinic;
    drop(store);
    let before = files(dir.path());
    let open = |key: Option<DataKey>| Store::open(Home::new(dir.path(), key), Options::default()).map(drop);
    assert!(matches!(open(Some(wrong)), Err(Error::WrongKey(_))));
    assert!(matches!(open(None), Err(Error::KeyNeeded(_))));
    assert_eq!(files(dir.path()), before);
    assert_eq!(shown(Home::new(dir.path(), Some(right))).len(), 20);
    let plain = self::clinic(None);
    let told = Store::open(Home::new(plain.path(), Some(DataKey::generate().unwrap())), Options::default());
    assert!(matches!(told, Err(Error::NotEncrypted(_))));
}

/// The right key and a damaged file: this is a broken card, and a clinic goes on with a new database under the same key.
#[test]
fn a_damaged_one_is_set_aside_with_what_opens_it_and_rescued_with_the_key() {
    let key = DataKey::generate().unwrap();
    for first_page_is_lost in [false, true] {
        let mut hub = MemoryHub::default();
        let mut clinic = self::clinic(Some(&key));
        clinic.enrol(&mut hub, "mw");
        fill(&mut clinic, 50);
        let Clinic { dir, store, .. } = clinic;
        drop(store);
        let file = dir.path().join(FILE_NAME);
        fs::write(dir.path().join("outpost.db-keys"), "slots").unwrap();
        let mut bytes = fs::read(&file).unwrap();
        let lost = if first_page_is_lost { 0..1_024 } else { 100..300 };
        bytes.iter_mut().skip(lost.start).take(lost.len()).for_each(|byte| *byte = 0);
        fs::write(&file, &bytes).unwrap();
        let store = Store::open(Home::new(dir.path(), Some(key.clone())), Options::default()).unwrap();
        assert!(matches!(sealing(&file).unwrap(), Sealing::Sealed(id) if id == key.id()));
        drop(store);
        let aside = crate::store::files_aside(dir.path()).pop().unwrap();
        assert_eq!(fs::read(&aside).unwrap(), bytes);
        assert_eq!(fs::read_to_string(format!("{}-keys", aside.display())).unwrap(), "slots");
        if first_page_is_lost {
            let copy = tempfile::tempdir().unwrap();
            let home = Home::new(copy.path(), Some(key.clone()));
            let copied = copy_old(&aside, &home).unwrap();
            assert!(copied.has_new_header);
            let (_, left) = OldDatabase::open(home).unwrap();
            assert_eq!(left.last[1].0 + left.last[0].0 + left.last[2].0, 50);
        }
    }
}

/// What a power cut leaves, at each step: the folder as it is then.
fn cuts(dir: &Path, from: &Home, to: Option<&DataKey>) -> Vec<(Step, TempDir)> {
    let mut cuts = Vec::new();
    convert(from, to, &mut |step| {
        let copy = tempfile::tempdir().unwrap();
        let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
        for (path, bytes) in files(dir) {
            let to = copy.path().join(path.file_name().unwrap());
            let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
            match inodes.get(&inode) {
                Some(first) => fs::hard_link(first, &to).unwrap(),
                None => fs::write(&to, bytes).unwrap(),
            }
            inodes.insert(inode, to);
        }
        cuts.push((step, copy));
        Ok(())
    })
    .unwrap();
    cuts
}

#[test]
fn a_power_cut_while_it_is_converted_leaves_all_records_and_nothing_to_read() {
    let (one, two) = (DataKey::generate().unwrap(), DataKey::generate().unwrap());
    for (from, to) in [(None, Some(&one)), (Some(&one), Some(&two)), (Some(&two), None)] {
        let mut clinic = self::clinic(from);
        fill(&mut clinic, 120);
        let Clinic { dir, store, .. } = clinic;
        drop(store);
        let cuts = cuts(dir.path(), &Home::new(dir.path(), from.cloned()), to);
        assert_eq!(cuts.len(), 5);
        for (step, copy) in cuts {
            let is_new = matches!(step, Step::Replaced | Step::Wiped);
            if step == Step::Wiped {
                let old = fs::read(copy.path().join("outpost.db-to-be-wiped")).unwrap();
                assert!(!old.is_empty() && old.iter().all(|byte| *byte == 0));
            }
            let key = if is_new { to } else { from };
            let home = Home::new(copy.path(), key.cloned());
            assert_eq!(shown(home).len(), 120, "{step:?}");
            let left: Vec<_> =
                files(copy.path()).into_keys().map(|path| path.file_name().unwrap().to_owned()).collect();
            assert_eq!(left, [FILE_NAME], "{step:?}");
        }
        assert_eq!(shown(Home::new(dir.path(), to.cloned())).len(), 120);
        let readable = files(dir.path()).values().any(|bytes| holds(bytes, CANARY) || holds(bytes, "CREATE TABLE"));
        assert_eq!(readable, to.is_none());
    }
}

#[test]
fn the_copy_has_every_row_of_every_table() {
    let mut hub = MemoryHub::default();
    let mut clinic = self::clinic(None);
    clinic.enrol(&mut hub, "mw");
    fill(&mut clinic, 60);
    clinic.sync(&mut hub);
    clinic.edit("patient/canary-id-3", json!({"n": -1}));
    let Clinic { dir, store, .. } = clinic;
    let status = store.blocking_read(|reader| reader.status()).unwrap();
    drop(store);
    let key = DataKey::generate().unwrap();
    let size = fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
    convert(&Home::new(dir.path(), None), Some(&key), &mut |_| Ok(())).unwrap();
    let larger = fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
    assert!(larger < size + size / 10, "{larger} of {size}: some 3 of 100 for nonces and tags");
    let store = Store::open(Home::new(dir.path(), Some(key)), Options::default()).unwrap();
    let after = store.blocking_read(|reader| reader.status()).unwrap();
    assert_eq!((after.streams, after.damage), (status.streams, status.damage));
    assert!(store.blocking_read(|reader| reader.quick_check()).unwrap().is_empty());
}

/// A file that is damaged is not copied: what cannot be read would be gone without a word.
#[test]
fn a_damaged_database_is_not_converted_and_stays_as_it_is() {
    let mut clinic = self::clinic(None);
    fill(&mut clinic, 200);
    let Clinic { dir, store, .. } = clinic;
    drop(store);
    let file = dir.path().join(FILE_NAME);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2 / 1_024 * 1_024;
    bytes.iter_mut().skip(middle).take(4_096).for_each(|byte| *byte = 0xa5);
    fs::write(&file, &bytes).unwrap();
    let home = Home::new(dir.path(), None);
    let told = convert(&home, Some(&DataKey::generate().unwrap()), &mut |_| Ok(())).unwrap_err();
    assert!(matches!(told, Error::Corrupt(_)), "{told}");
    assert_eq!(sealing(&file).unwrap(), Sealing::Plain);
}

/// A page that was changed on the card does not open, and costs what is on it; the rest is served.
#[test]
fn pages_that_are_broken_in_the_middle_keep_nobody_from_working() {
    let key = DataKey::generate().unwrap();
    let mut clinic = self::clinic(Some(&key));
    fill(&mut clinic, 300);
    let Clinic { dir, store, .. } = clinic;
    drop(store);
    let file = dir.path().join(FILE_NAME);
    let whole = fs::read(&file).unwrap();
    let mut damaged = 0;
    for page in (whole.len() / 1_024 / 5..whole.len() / 1_024 * 4 / 5).step_by(7) {
        let copy = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        bytes[page * 1_024 + 500] ^= 1;
        fs::write(copy.path().join(FILE_NAME), bytes).unwrap();
        let home = Home::new(copy.path(), Some(key.clone()));
        let store = Store::open(home, Options::default()).unwrap();
        if !crate::store::files_aside(copy.path()).is_empty() {
            continue;
        }
        let verdict = store.check(&std::sync::Arc::default()).unwrap();
        assert!(matches!(verdict, Verdict::Damaged(_)), "page {page}: {verdict:?}");
        damaged += 1;
    }
    assert!(damaged > 5, "{damaged}");
}
