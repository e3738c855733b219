//! Copies of a hub's database while it is written to, and put back.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use crate::error::HubError;
use crate::hub::{new_gateway, open_database};
use crate::store::{Database, put_back};

const NOW_MS: i64 = 1_790_000_000_000;
/// The writer does not go on for ever, so that a copy that waits for it fails and does not hang.
const COMMITS_MAX: u32 = 100_000;

fn add(database: &mut Database, name: &str) {
    let new = new_gateway(name, &["mw"], "clinic").unwrap();
    database.write(NOW_MS, |tx| tx.add_gateway(&new)).unwrap();
}

fn gateways(dir: &Path) -> u32 {
    drop(open_database(dir).unwrap());
    let db = Connection::open(dir.join("hub.db")).unwrap();
    db.query_row("SELECT count(*) FROM gateways", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_hub_that_is_written_to_all_the_time_does_not_make_a_backup_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = open_database(dir.path()).unwrap();
    add(&mut database, "a");
    // Beside it, as the hub is for the command.
    let hub = Connection::open(dir.path().join("hub.db")).unwrap();
    // As fast as it can, so that no commit is ever waited for.
    let settings = "PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0";
    hub.execute_batch(&format!("{settings}; CREATE TABLE bulk (id INTEGER PRIMARY KEY, bytes BLOB)")).unwrap();
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
                INSERT INTO bulk SELECT i, zeroblob(4000) FROM n";
    hub.execute(fill, []).unwrap();
    let is_done = AtomicBool::new(false);
    let file = dir.path().join("backup.db");
    let commits = std::thread::scope(|scope| {
        let done = &is_done;
        let writing = scope.spawn(move || {
            let mut commits = 0;
            while commits < COMMITS_MAX && !done.load(Ordering::SeqCst) {
                hub.execute("UPDATE bulk SET bytes = randomblob(8) WHERE id = ?1", [commits % 6_000]).unwrap();
                commits += 1;
            }
            commits
        });
        database.back_up(&file, NOW_MS).unwrap();
        is_done.store(true, Ordering::SeqCst);
        writing.join().unwrap()
    });
    assert!(commits < COMMITS_MAX, "it came to its end only when nobody wrote any more");
    let back = tempfile::tempdir().unwrap();
    assert_eq!(put_back(back.path(), &file, NOW_MS).unwrap(), None);
    assert_eq!(gateways(back.path()), 1);
}

#[test]
fn what_is_put_back_comes_with_its_log_and_what_was_there_is_kept() {
    let (lost, copied, dir) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut running = open_database(lost.path()).unwrap();
    ["a", "b", "c"].into_iter().for_each(|name| add(&mut running, name));
    for end in ["", "-wal"] {
        let name = format!("hub.db{end}");
        std::fs::copy(lost.path().join(&name), copied.path().join(&name)).unwrap();
    }
    add(&mut open_database(dir.path()).unwrap(), "here");
    let before = put_back(dir.path(), &copied.path().join("hub.db"), NOW_MS).unwrap().unwrap();
    assert_eq!(gateways(dir.path()), 3);
    std::fs::rename(before, copied.path().join("hub.db")).unwrap();
    std::fs::remove_file(copied.path().join("hub.db-wal")).unwrap();
    assert_eq!(gateways(copied.path()), 1);
}

/// A hub of two gateways, as a crash leaves it: with its log. Its backup has one.
fn crashed() -> (tempfile::TempDir, std::path::PathBuf) {
    let (running, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut database = open_database(running.path()).unwrap();
    add(&mut database, "a");
    let backup = dir.path().join("backup.db");
    database.back_up(&backup, NOW_MS).unwrap();
    add(&mut database, "b");
    for end in ["", "-wal"] {
        let name = format!("hub.db{end}");
        std::fs::copy(running.path().join(&name), dir.path().join(&name)).unwrap();
    }
    (dir, backup)
}

#[test]
fn a_broken_database_is_no_reason_against_a_restore_and_is_kept() {
    let (dir, backup) = crashed();
    let place = dir.path().join("hub.db");
    let mut bytes = std::fs::read(&place).unwrap();
    bytes[..4_096].fill(0x5a);
    std::fs::write(&place, &bytes).unwrap();
    // With it, the first page would be read from there.
    std::fs::remove_file(dir.path().join("hub.db-wal")).unwrap();
    let before = put_back(dir.path(), &backup, NOW_MS).unwrap().unwrap();
    assert_eq!(gateways(dir.path()), 1, "as it was in the backup");
    assert_eq!(std::fs::read(before).unwrap(), bytes, "what was there is kept as it was");
}

#[test]
fn the_log_of_a_database_that_was_taken_away_is_not_laid_over_the_backup() {
    let (dir, backup) = crashed();
    std::fs::rename(dir.path().join("hub.db"), dir.path().join("hub.db.bad")).unwrap();
    assert!(dir.path().join("hub.db-wal").metadata().unwrap().len() > 0);
    put_back(dir.path(), &backup, NOW_MS).unwrap();
    assert_eq!(gateways(dir.path()), 1, "as it was in the backup");
}

#[test]
fn a_hub_that_runs_is_not_replaced_and_a_file_that_is_not_there_is_named() {
    let (dir, backup) = crashed();
    let running = open_database(dir.path()).unwrap();
    let refused = put_back(dir.path(), &backup, NOW_MS).unwrap_err();
    assert!(matches!(refused, HubError::Served(_)), "{refused}");
    drop(running);
    let refused = put_back(dir.path(), &dir.path().join("none.db"), NOW_MS).unwrap_err();
    assert!(refused.to_string().contains("none.db"), "{refused}");
    let refused = open_database(dir.path()).unwrap().back_up(&dir.path().join("none/backup.db"), NOW_MS).unwrap_err();
    assert!(refused.to_string().contains("none/backup.db"), "{refused}");
}
