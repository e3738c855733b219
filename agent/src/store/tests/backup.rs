//! Copies on a second medium: complete or not there, and never in the way.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde_json::json;

use super::*;
use crate::store::{BackupOutcome, FILE_NAME, Medium};

impl Clinic {
    fn back_up(&self, stick: &Path, keep: usize, hours: i64) -> Result<BackupOutcome, Error> {
        let medium = Medium { folder: stick.to_owned(), may_be_the_same: true };
        self.store.back_up(&medium, keep, NOW_MS + hours * 3_600_000, &AtomicBool::new(false))
    }
}

fn files(stick: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(stick).unwrap().flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn records(file: &Path) -> i64 {
    let db = super::raw(file);
    db.query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap()
}

#[test]
fn generations_roll_and_a_copy_is_a_whole_database() {
    let (mut clinic, stick) = (Clinic::new(), tempfile::tempdir().unwrap());
    let mut made = Vec::new();
    for hour in 0..4 {
        clinic.put(&format!("visit/v{hour}"), json!({"n": hour}));
        let BackupOutcome::Made { file, damaged: 0 } = clinic.back_up(stick.path(), 2, hour).unwrap() else { panic!() };
        made.push(file);
    }
    assert_eq!(files(stick.path()), made[2..]);
    assert_eq!((records(&made[2]), records(&made[3])), (3, 4));
    // A clock that went back: the new copy stays, although its name is the oldest.
    let BackupOutcome::Made { file: early, .. } = clinic.back_up(stick.path(), 2, -400_000).unwrap() else { panic!() };
    assert_eq!(files(stick.path()), [early, made[3].clone()]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&made[3]).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // It opens as it is, in the place of a lost one.
    let dir = tempfile::tempdir().unwrap();
    fs::copy(&made[3], dir.path().join(FILE_NAME)).unwrap();
    let restored = Clinic { store: Store::open(dir.path(), Options::default()).unwrap(), dir, now_ms: NOW_MS };
    assert_eq!(
        (restored.body("visit/v3"), restored.store.blocking_read(|r| r.quick_check()).unwrap()),
        (json!({"n": 3}), vec![])
    );
}

#[test]
fn writers_do_not_wait_and_do_not_make_it_begin_anew() {
    let (mut clinic, stick) = (Clinic::new(), tempfile::tempdir().unwrap());
    for n in 0..600 {
        clinic.put(&format!("visit/v{n}"), json!({"n": n, "note": "x".repeat(n % 90)}));
    }
    let (store, folder) = (clinic.store.clone(), stick.path().to_owned());
    let copying = std::thread::spawn(move || {
        let medium = Medium { folder, may_be_the_same: true };
        store.back_up(&medium, 1, NOW_MS, &AtomicBool::new(false)).unwrap()
    });
    let mut meanwhile = 600;
    while !copying.is_finished() {
        clinic.put(&format!("visit/v{meanwhile}"), json!({"n": meanwhile}));
        meanwhile += 1;
    }
    let BackupOutcome::Made { file, damaged: 0 } = copying.join().unwrap() else { panic!() };
    let held = records(&file);
    assert!((600..=meanwhile).contains(&held), "{held} of {meanwhile}");
    assert_eq!(clinic.sql::<i64>("SELECT count(*) FROM records"), meanwhile);
}

#[test]
fn an_absent_medium_is_said_and_nothing_is_made_in_its_place() {
    let (clinic, stick) = (Clinic::new(), tempfile::tempdir().unwrap());
    let gone = stick.path().join("stick");
    let BackupOutcome::Absent(reason) = clinic.back_up(&gone, 2, 0).unwrap() else { panic!() };
    assert!(reason.contains("is not there") && !gone.exists(), "{reason}");
    // A mount point with nothing mounted lies on the card itself.
    let medium = Medium { folder: clinic.path().to_owned(), may_be_the_same: false };
    let outcome = clinic.store.back_up(&medium, 2, NOW_MS, &AtomicBool::new(false)).unwrap();
    assert!(matches!(outcome, BackupOutcome::Absent(reason) if reason.contains("mounted")));
}

#[test]
fn a_copy_that_is_not_sound_or_not_complete_replaces_nothing() {
    if super::is_sealed_run() {
        return;
    }
    let (mut clinic, stick) = (Clinic::new(), tempfile::tempdir().unwrap());
    for n in 0..400 {
        clinic.put(&format!("visit/v{n}"), json!({"n": n}));
    }
    let BackupOutcome::Made { file: good, .. } = clinic.back_up(stick.path(), 1, 0).unwrap() else { panic!() };
    fs::write(stick.path().join("outpost-backup-0-new.part"), b"left by a power cut").unwrap();
    let medium = Medium { folder: stick.path().to_owned(), may_be_the_same: true };
    let stopped = clinic.store.back_up(&medium, 1, NOW_MS + 1, &AtomicBool::new(true)).unwrap();
    assert_eq!((stopped, files(stick.path())), (BackupOutcome::Stopped, vec![good.clone()]));
    let clinic = clinic.with_file(|bytes| super::broken::cross_link(bytes));
    let failed = clinic.back_up(stick.path(), 1, 2);
    assert!(matches!(failed, Err(Error::Corrupt(_))), "{failed:?}");
    assert_eq!((files(stick.path()), records(&good)), (vec![good.clone()], 400));
}

#[test]
fn the_newest_copy_without_damage_stays_beside_those_with_some() {
    let (mut clinic, stick) = (Clinic::new(), tempfile::tempdir().unwrap());
    let mut whole = Vec::new();
    for hour in 0..2 {
        clinic.put(&format!("visit/v{hour}"), json!({"n": hour}));
        let BackupOutcome::Made { file, damaged: 0 } = clinic.back_up(stick.path(), 2, hour).unwrap() else { panic!() };
        whole.push(file);
    }
    let spoilt = "UPDATE history SET op = CAST(substr(op, 1, length(op) - 4) || x'00ff00ff' AS BLOB) \
                  WHERE number = (SELECT newest FROM records WHERE id = 'v0')";
    let mut clinic = clinic.damage(spoilt);
    let mut made = PathBuf::new();
    for hour in 2..6 {
        clinic.put(&format!("visit/v{hour}"), json!({"n": hour}));
        let BackupOutcome::Made { file, damaged } = clinic.back_up(stick.path(), 2, hour).unwrap() else { panic!() };
        // The record, and the op in its history that it is.
        assert_eq!(damaged, 2);
        made = file;
        assert_eq!(files(stick.path()), [whole[1].clone(), made.clone()]);
    }
    assert!(made.to_string_lossy().ends_with("-damaged.db") && records(&made) == 6);
    // So damage that nobody has met is known within a day.
    assert_eq!(clinic.count().rows, 2);
    // Once it is mended, copies roll again.
    clinic.put("visit/v0", json!({"n": 0}));
    clinic
        .damage("DELETE FROM history WHERE number = (SELECT min(number) FROM history)")
        .back_up(stick.path(), 2, 6)
        .unwrap();
    assert_eq!(files(stick.path()).len(), 2);
    assert!(!files(stick.path()).contains(&whole[1]));
}

#[test]
fn the_caretaker_notes_when_a_copy_was_made_and_why_not() {
    let (clinic, stick) = (Clinic::new(), tempfile::tempdir().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let path = stick.path().join("not-mounted");
    let backup = crate::config::BackupConfig { path, ..Default::default() };
    let clock = crate::clock::Clock::default();
    let (sync, _loop) =
        crate::sync::sync_loop(clinic.store.clone(), clock.clone(), std::time::Duration::from_secs(300));
    let care = crate::upkeep::Caretaker::new(clinic.store.clone(), sync, clock, backup);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let facts = runtime.block_on(async {
        let care = tokio::spawn(care.run(stopped));
        let facts = loop {
            let facts = clinic.store.read(|reader| reader.status()).await.unwrap();
            if facts.upkeep.backup_error.is_some() {
                break facts;
            }
            tokio::task::yield_now().await;
        };
        stop.send(true).unwrap();
        care.await.unwrap();
        facts
    });
    let told = crate::status::Status::new(&facts, &crate::disk::Disk::new(clinic.path(), 0), NOW_MS).text(NOW_MS);
    assert!(told.contains("backup     never") && told.contains("is not there"), "{told}");
}
