//! Another key for a database that is used: nobody waits for it, nothing is lost, and the old key opens nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tempfile::TempDir;

use super::{Clinic, Intent, NOW_MS, Refusal, gateway, key_of, object, wish};
use crate::error::Error;
use crate::store::{BackupOutcome, DataKey, FILE_NAME, Home, Medium, Options, Sealing, Step, Store, Verdict, sealing};

fn clinic(key: &DataKey, records: usize) -> Clinic {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Home::new(dir.path(), Some(key.clone())), Options::default()).unwrap();
    let mut clinic = Clinic { dir, store, now_ms: NOW_MS };
    (0..records).for_each(|n| capture(&clinic.store, "before", n));
    clinic.now_ms += 1_000;
    clinic
}

fn keys() -> (DataKey, DataKey) {
    (DataKey::generate().unwrap(), DataKey::generate().unwrap())
}

fn capture(store: &Store, prefix: &str, n: usize) {
    let body = object(json!({"n": n, "note": format!("{n} of {prefix}: {}", noise(n as u64))}));
    let wish = wish(&format!("visit/{prefix}-{n}"), Intent::Put(body), None, NOW_MS + n as i64);
    let write = move |tx: &mut crate::store::Tx<'_>| -> Result<_, Refusal<Error>> { gateway::capture(tx, wish) };
    store.blocking_write(write).unwrap();
}

/// A kilobyte that cannot be packed, so that a database has enough pages to be copied in several steps.
fn noise(n: u64) -> String {
    let mix = |k: u64| {
        (n * 128 + k + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    (0..64).map(|k| format!("{:016x}", mix(k))).collect()
}

/// How many records with these names are there, from the first one on without a gap.
fn held(store: &Store, prefix: &str) -> usize {
    let has = |n: &usize| {
        let key = key_of(&format!("visit/{prefix}-{n}"));
        store.blocking_read(|reader| reader.get(&key)).unwrap().is_some()
    };
    (0..).take_while(has).count()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn opens_only_with(dir: &Path, right: &DataKey, wrong: &DataKey) -> Store {
    let told = Store::open(Home::new(dir, Some(wrong.clone())), Options::default());
    assert!(matches!(told, Err(Error::WrongKey(_))), "{:?}", told.map(drop));
    assert_eq!(names(dir), [FILE_NAME], "nothing of the old one, and nothing set aside");
    Store::open(Home::new(dir, Some(right.clone())), Options::default()).unwrap()
}

#[test]
fn what_is_saved_and_read_meanwhile_is_saved_and_read() {
    let (old, new) = keys();
    let clinic = clinic(&old, 1_500);
    let (written, reads, is_done) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0), AtomicBool::new(false));
    let (store, seen) = (&clinic.store, Arc::clone(&written));
    // How many were saved at each step: that it goes on meanwhile is what this is for.
    let steps = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&steps);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                let n = written.load(Ordering::SeqCst);
                capture(store, "meanwhile", n);
                written.store(n + 1, Ordering::SeqCst);
            }
        });
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_done.load(Ordering::SeqCst) {
                    // What was answered is shown, by whichever file.
                    let n = written.load(Ordering::SeqCst);
                    let key = key_of(&format!("visit/meanwhile-{}", n.saturating_sub(1)));
                    let found = store.blocking_read(|reader| reader.get(&key)).unwrap();
                    assert!(n == 0 || found.is_some(), "{n}");
                    reads.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let until = |n: usize| {
            while written.load(Ordering::SeqCst) < n {
                std::thread::yield_now();
            }
        };
        until(5);
        let replaced = store.renew_key(&new, move |step| {
            note.lock().unwrap().push((step, seen.load(Ordering::SeqCst)));
            Ok(())
        });
        let replaced = replaced.unwrap();
        until(written.load(Ordering::SeqCst) + 20);
        assert!(matches!(store.check(&Arc::default()).unwrap(), Verdict::Sound));
        assert!(replaced.wipe(&AtomicBool::new(false)).unwrap());
        is_done.store(true, Ordering::SeqCst);
    });
    let steps = steps.lock().unwrap();
    let at = |wanted: Step| steps.iter().find(|(step, _)| *step == wanted).unwrap().1;
    assert!(steps.len() > 7, "in several steps: {steps:?}");
    assert!(at(Step::Copied) > steps.first().unwrap().1, "{steps:?}");
    assert!(at(Step::Replaced) <= at(Step::Copied) + 1, "nothing is committed in between but what was answered before");
    assert!(reads.load(Ordering::SeqCst) > 20);
    let Clinic { dir, store, .. } = clinic;
    let written = written.load(Ordering::SeqCst);
    assert_eq!((held(&store, "before"), held(&store, "meanwhile")), (1_500, written));
    assert!(matches!(sealing(&dir.path().join(FILE_NAME)).unwrap(), Sealing::Sealed(id) if id == new.id()));
    drop(store);
    let store = opens_only_with(dir.path(), &new, &old);
    assert_eq!((held(&store, "before"), held(&store, "meanwhile")), (1_500, written));
    assert!(store.blocking_read(|reader| reader.quick_check()).unwrap().is_empty());
}

/// The folder as a power cut leaves it; second names of a file stay second names.
fn as_it_is(dir: &Path) -> TempDir {
    use std::os::unix::fs::MetadataExt;
    let copy = tempfile::tempdir().unwrap();
    let mut inodes: BTreeMap<u64, String> = BTreeMap::new();
    for name in names(dir) {
        let facts = fs::metadata(dir.join(&name)).unwrap();
        match inodes.get(&facts.ino()) {
            Some(first) => fs::hard_link(copy.path().join(first), copy.path().join(&name)).unwrap(),
            None => drop(fs::copy(dir.join(&name), copy.path().join(&name)).unwrap()),
        }
        inodes.insert(facts.ino(), name);
    }
    copy
}

#[test]
fn a_power_cut_at_each_step_leaves_one_whole_database_and_nothing_else() {
    let (old, new) = keys();
    let clinic = clinic(&old, 1_500);
    let dir = clinic.path().to_owned();
    let cuts = Arc::new(Mutex::new(Vec::new()));
    let (found, from) = (Arc::clone(&cuts), dir.clone());
    let replaced = clinic.store.renew_key(&new, move |step| {
        found.lock().unwrap().push((step, as_it_is(&from)));
        Ok(())
    });
    let replaced = replaced.unwrap();
    capture(&clinic.store, "after", 0);
    cuts.lock().unwrap().push((Step::Wiped, as_it_is(&dir)));
    assert!(replaced.wipe(&AtomicBool::new(false)).unwrap());
    let cuts = std::mem::take(&mut *cuts.lock().unwrap());
    let last = [Step::Copied, Step::Folded, Step::Linked, Step::Unlogged, Step::Replaced, Step::Wiped];
    assert_eq!(cuts.iter().map(|(step, _)| *step).filter(|step| last.contains(step)).collect::<Vec<_>>(), last);
    assert!(cuts.len() > last.len() + 1, "and some while it was copied");
    for (step, copy) in cuts {
        let is_new = matches!(step, Step::Replaced | Step::Wiped);
        let (right, wrong) = if is_new { (&new, &old) } else { (&old, &new) };
        let store = Store::open(Home::new(copy.path(), Some(right.clone())), Options::default()).unwrap();
        assert_eq!(
            (held(&store, "before"), held(&store, "after")),
            (1_500, usize::from(step == Step::Wiped)),
            "{step:?}"
        );
        drop(store);
        drop(opens_only_with(copy.path(), right, wrong));
    }
}

#[test]
fn a_change_that_is_given_up_leaves_the_old_key_in_force() {
    let (old, new) = keys();
    let clinic = clinic(&old, 600);
    for at_last in [false, true] {
        let told = clinic.store.renew_key(&new, move |step| match step {
            Step::Copying { pages, .. } if pages > 0 && !at_last => Err(Error::refused("enough")),
            Step::Linked => Err(Error::refused("enough")),
            _ => Ok(()),
        });
        assert_eq!(told.unwrap_err().to_string(), "enough");
        capture(&clinic.store, "after", usize::from(at_last));
        assert_eq!(clinic.store.home().key().unwrap().id(), old.id());
    }
    let Clinic { dir, store, .. } = clinic;
    drop(store);
    // What a second name leaves is taken away by the next start.
    drop(Store::open(Home::new(dir.path(), Some(old.clone())), Options::default()).unwrap());
    let store = opens_only_with(dir.path(), &old, &new);
    assert_eq!((held(&store, "before"), held(&store, "after")), (600, 2));
}

#[test]
fn who_reads_the_old_file_reads_it_to_the_end_and_then_it_is_wiped() {
    let (old, new) = keys();
    let clinic = clinic(&old, 300);
    let (begun, wait) = (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel::<()>());
    let store = &clinic.store;
    std::thread::scope(|scope| {
        let (tell, told) = (begun.0, wait.1);
        let slow = scope.spawn(move || {
            store.blocking_read(|reader| -> Result<usize, Error> {
                reader.get(&key_of("visit/before-0"))?;
                tell.send(()).unwrap();
                told.recv().unwrap();
                let there = (0..300).filter(|n| reader.get(&key_of(&format!("visit/before-{n}"))).unwrap().is_some());
                Ok(there.count())
            })
        });
        begun.1.recv().unwrap();
        let replaced = store.renew_key(&new, |_| Ok(())).unwrap();
        capture(store, "after", 0);
        assert_eq!(held(store, "after"), 1, "others are on the new one");
        assert!(!replaced.wipe(&AtomicBool::new(true)).unwrap(), "somebody reads it");
        wait.0.send(()).unwrap();
        assert_eq!(slow.join().unwrap().unwrap(), 300);
    });
    let Clinic { dir, store, .. } = clinic;
    drop(store);
    drop(Store::open(Home::new(dir.path(), Some(new.clone())), Options::default()).unwrap());
    drop(opens_only_with(dir.path(), &new, &old));
}

#[test]
fn a_faulty_copy_keeps_the_old_file_with_what_opens_it() {
    let (old, new) = keys();
    let clinic = clinic(&old, 100);
    let slots = clinic.path().join("outpost.db-keys");
    fs::write(&slots, "slots of both").unwrap();
    let replaced = clinic.store.renew_key(&new, |_| Ok(())).unwrap();
    let kept = replaced.keep().unwrap().unwrap();
    assert_eq!(crate::store::files_aside(clinic.path()), std::slice::from_ref(&kept));
    assert_eq!(fs::read_to_string(format!("{}-keys", kept.display())).unwrap(), "slots of both");
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(&kept, elsewhere.path().join(FILE_NAME)).unwrap();
    let store = Store::open(Home::new(elsewhere.path(), Some(old)), Options::default()).unwrap();
    assert_eq!(held(&store, "before"), 100);
}

/// A copy on the second medium that was begun under the old key opens with what lies beside it.
#[test]
fn a_backup_has_the_slots_of_the_key_it_is_under() {
    let (old, new) = keys();
    let clinic = clinic(&old, 50);
    let slots = clinic.path().join("outpost.db-keys");
    fs::write(&slots, "of the old key").unwrap();
    let medium = Medium { folder: clinic.path().join("stick"), may_be_the_same: true };
    fs::create_dir(&medium.folder).unwrap();
    let back_up = |now_ms: i64| match clinic.store.back_up(&medium, 9, now_ms, &AtomicBool::new(false)).unwrap() {
        BackupOutcome::Made { file, .. } => file,
        other => panic!("{other:?}"),
    };
    let before = back_up(NOW_MS);
    drop(clinic.store.renew_key(&new, |_| Ok(())).unwrap());
    fs::write(&slots, "of the new key").unwrap();
    let after = back_up(NOW_MS + 60_000);
    for (file, key, beside) in [(before, old, "of the old key"), (after, new, "of the new key")] {
        assert!(matches!(sealing(&file).unwrap(), Sealing::Sealed(id) if id == key.id()));
        assert_eq!(fs::read_to_string(format!("{}-keys", file.display())).unwrap(), beside);
    }
}
