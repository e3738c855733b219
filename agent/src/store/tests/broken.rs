//! Database files that are broken on purpose: what can be served is served, what cannot is set aside and never deleted.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sync_protocol::gateway::UNENROLLED;

use super::*;
use crate::apps::{Fingerprint, Grant, PairedApp, Types};
use crate::disk::Disk;
use crate::status;
use crate::store::{Enrolment, FILE_NAME, ScanAt, Verdict, files_aside};

const PAGE: usize = 1_024;

impl Clinic {
    /// Closes the store, changes the bytes of the file, and opens it again.
    pub(super) fn with_file(self, change: impl FnOnce(&mut Vec<u8>)) -> Clinic {
        let Clinic { dir, store, now_ms } = self;
        drop(store);
        let path = dir.path().join(FILE_NAME);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        Clinic { dir, store, now_ms }
    }

    /// What a power cut leaves: the files as they are, in a folder of their own, changed there. Opens them.
    fn after_power_cut(&self, change: impl FnOnce(&Path)) -> Clinic {
        let dir = tempfile::tempdir().unwrap();
        for suffix in ["", "-wal"] {
            let name = format!("{FILE_NAME}{suffix}");
            fs::copy(self.path().join(&name), dir.path().join(&name)).unwrap();
        }
        change(dir.path());
        let store = Store::open(dir.path(), Options::default()).unwrap();
        Clinic { dir, store, now_ms: self.now_ms }
    }

    fn filled(visits: i64) -> Clinic {
        let mut clinic = Clinic::new();
        for n in 0..visits {
            clinic.put(&format!("visit/v{n}"), visit(n));
        }
        clinic
    }

    /// How many of these visits are served; what is served must be right.
    fn served(&self, visits: i64) -> i64 {
        let is_served = |n: &i64| match self.store.blocking_read(|reader| reader.get(&key_of(&format!("visit/v{n}")))) {
            Ok(Some(stored)) => {
                assert_eq!(Json::Object(render(&stored.record)), visit(*n));
                true
            }
            Ok(None) | Err(Error::Corrupt(_) | Error::Unreadable { .. }) => false,
            Err(error) => panic!("{error:?}"),
        };
        (0..visits).filter(is_served).count() as i64
    }

    fn sql_execute(&self, sql: &str) {
        assert!(super::raw(self.store.path()).execute(sql, []).unwrap() > 0);
    }

    fn facts(&self) -> status::Status {
        let facts = self.store.blocking_read(|reader| reader.status()).unwrap();
        status::Status::new(&facts, &Disk::new(self.path(), 0), NOW_MS)
    }

    fn check(&self) -> Verdict {
        self.store.check(&Arc::default()).unwrap()
    }

    /// A broken database was set aside, and a new one works in its place, under no identity.
    fn began_anew(&mut self) -> PathBuf {
        let files = files_aside(self.path());
        let [file] = files.as_slice() else { panic!("{files:?}") };
        let state = self.store.blocking_read(|reader| reader.state()).unwrap();
        assert_eq!((state.origin, state.unsent()), (UNENROLLED, 0));
        let facts = self.facts();
        assert_eq!((facts.gateway.clone(), facts.set_aside.as_slice()), (None, &[file.display().to_string()][..]));
        let told = facts.text(NOW_MS);
        assert!(told.contains("new code") && told.contains(&file.display().to_string()), "{told}");
        self.put("visit/new", json!({"n": 1}));
        assert_eq!((self.body("visit/new"), self.check()), (json!({"n": 1}), Verdict::Sound));
        file.clone()
    }
}

fn visit(n: i64) -> Json {
    json!({"n": n, "note": format!("{n} came with a cough for {} days", n * 7_919 % 97)})
}

#[test]
fn a_database_without_header_is_set_aside_whole() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    let enrolment =
        Enrolment { hub_url: "https://hub".into(), name: "zomba".into(), device: 7, enrolled_ms: 5, identity: None };
    clinic.store.blocking_write(move |tx| tx.set_enrolment(&enrolment)).unwrap();
    clinic.put("visit/a", json!({"n": 1}));
    let mut broken = Vec::new();
    let mut clinic = clinic.with_file(|bytes| {
        bytes[..100].fill(0);
        broken = bytes.clone();
    });
    let file = clinic.began_anew();
    assert_eq!(fs::read(file).unwrap(), broken);
    let mut clinic = clinic.reopen();
    clinic.put("visit/b", json!({"n": 2}));
    assert_eq!(files_aside(clinic.path()).len(), 1);
}

#[test]
fn what_is_not_a_database_at_all_is_set_aside() {
    for content in [b"not a database, but longer than a header would be".repeat(40), vec![0xff; 5_000], vec![0; 9_000]]
    {
        let clinic = Clinic::filled(3);
        let mut clinic = clinic.with_file(|bytes| *bytes = content.clone());
        assert_eq!(fs::read(clinic.began_anew()).unwrap(), content);
    }
}

#[test]
fn a_truncated_database_is_set_aside() {
    let clinic = Clinic::filled(100);
    let mut clinic = clinic.with_file(|bytes| bytes.truncate(bytes.len() / 2 / PAGE * PAGE));
    clinic.began_anew();
}

#[test]
fn the_log_goes_with_its_database_and_keeps_what_it_holds() {
    let clinic = Clinic::filled(20);
    // Page 1 is in the log, too, so that is what has to be unreadable.
    let spoil = |dir: &Path| {
        fs::write(dir.join(FILE_NAME), b"").unwrap();
    };
    let log = fs::read(clinic.path().join(format!("{FILE_NAME}-wal"))).unwrap();
    let mut after = clinic.after_power_cut(spoil);
    let file = after.began_anew();
    assert_eq!(fs::read(format!("{}-wal", file.display())).unwrap(), log);
    let mut after = clinic.after_power_cut(|dir| fs::remove_file(dir.join(FILE_NAME)).unwrap());
    assert!(files_aside(after.path()).is_empty(), "there was no database to name");
    after.put("visit/new", json!({"n": 1}));
    let kept: Vec<_> = fs::read_dir(after.path()).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(kept.iter().any(|path| fs::read(path).unwrap() == log), "{kept:?}");
}

#[test]
fn setting_aside_that_was_cut_short_is_ended_at_the_next_start() {
    let clinic = Clinic::filled(20);
    let log = fs::read(clinic.path().join(format!("{FILE_NAME}-wal"))).unwrap();
    let name = "outpost-broken-20260101T000000Z.db";
    let mut after = clinic.after_power_cut(|dir| fs::rename(dir.join(FILE_NAME), dir.join(name)).unwrap());
    let file = after.began_anew();
    assert!(file.ends_with(name));
    assert_eq!(fs::read(format!("{}-wal", file.display())).unwrap(), log);
    // Both together are the whole database again.
    let rescued = super::raw(file);
    let held: i64 = rescued.query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap();
    assert_eq!(held, 20);
}

#[test]
fn a_header_that_lost_our_name_is_not_a_stranger() {
    if super::is_sealed_run() {
        return;
    }
    let clinic = Clinic::filled(5).with_file(|bytes| bytes[68..72].fill(0xaa));
    assert_eq!((clinic.served(5), files_aside(clinic.path()).len()), (5, 0));
}

#[test]
fn a_torn_log_costs_only_what_was_never_acknowledged() {
    let mut clinic = Clinic::filled(20);
    let log = clinic.path().join(format!("{FILE_NAME}-wal"));
    let acknowledged = fs::metadata(&log).unwrap().len();
    clinic.put("visit/v20", visit(20));
    let written = fs::metadata(&log).unwrap().len();
    assert!(written > acknowledged + 1_000);
    for length in [acknowledged, acknowledged + 1, acknowledged + 700, acknowledged + 1_500, written - 1] {
        let mut after = clinic.after_power_cut(|dir| {
            let log = fs::File::options().write(true).open(dir.join(format!("{FILE_NAME}-wal"))).unwrap();
            log.set_len(length).unwrap();
        });
        assert_eq!((after.served(20), after.get("visit/v20")), (20, None), "{length}");
        assert_eq!((after.facts().unsent, after.check()), (20, Verdict::Sound));
        after.put("visit/v20", visit(20));
        assert_eq!(after.served(21), 21);
    }
}

#[test]
fn a_broken_page_in_the_middle_keeps_nobody_from_working() {
    if super::is_sealed_run() {
        return;
    }
    let visits = 400;
    let whole = Clinic::filled(visits).with_file(|_| {});
    let file = fs::read(whole.store.path()).unwrap();
    let pages = file.len() / PAGE;
    let mut damaged = 0;
    // One page in four, if it is a leaf of a table; the last leaves take what is new.
    for page in (pages / 6..pages * 2 / 3).step_by(4) {
        let mut is_leaf = false;
        let mut clinic = Clinic::new().with_file(|bytes| {
            *bytes = file.clone();
            is_leaf = bytes[page * PAGE] == 0x0d;
            bytes[page * PAGE..page * PAGE + 200].fill(0x5a);
        });
        if !is_leaf || !files_aside(clinic.path()).is_empty() {
            continue;
        }
        let served = clinic.served(visits);
        assert!(served > visits - 60, "page {page}: {served} of {visits}");
        assert!(matches!(clinic.check(), Verdict::Damaged(faults) if !faults.is_empty()), "page {page}");
        clinic.put("visit/new", json!({"n": 1}));
        assert_eq!(clinic.body("visit/new"), json!({"n": 1}));
        // The scan goes on behind the page: what is damaged at the far end is found.
        clinic.sql_execute("UPDATE history SET op = x'01020304' WHERE number = (SELECT max(number) FROM history)");
        let mut at = Some(ScanAt::default());
        while let Some(from) = at {
            at = clinic.store.blocking_read(|reader| reader.scan(from, 50)).unwrap();
        }
        clinic.store.mend(NOW_MS).unwrap();
        assert!(clinic.store.blocking_read(|reader| reader.damage()).unwrap().unsent >= 1, "page {page}");
        assert!(clinic.served(visits) >= served, "page {page}");
        damaged += 1;
    }
    assert!(damaged > 3, "{damaged} of {pages}");
}

/// Lets two places of a table's tree lead to one page: a write in one place would change the other.
pub(super) fn cross_link(bytes: &mut [u8]) {
    let is_branch = |page: &&mut [u8]| page[0] == 0x05 && u16::from_be_bytes([page[3], page[4]]) > 3;
    let page = bytes.chunks_mut(PAGE).skip(1).find(is_branch).unwrap();
    let cell = |n: usize| usize::from(u16::from_be_bytes([page[12 + 2 * n], page[13 + 2 * n]]));
    let (from, to) = (cell(0), cell(1));
    page.copy_within(from..from + 4, to);
}

#[test]
fn a_page_in_use_twice_makes_it_unsafe() {
    if super::is_sealed_run() {
        return;
    }
    let clinic = Clinic::filled(400).with_file(|bytes| cross_link(bytes));
    assert!(matches!(clinic.check(), Verdict::Unsafe(_)), "{:?}", clinic.check());
    assert!(clinic.served(400) > 300);
}

#[test]
fn an_unsafe_database_is_set_aside_while_running() {
    if super::is_sealed_run() {
        return;
    }
    let clinic = Clinic::filled(400);
    let tablet = PairedApp {
        name: "tablet".to_owned(),
        token: Fingerprint([7; 32]),
        grant: Grant { reads: Types::All, writes: Types::parse(["visit"]).unwrap() },
        paired_ms: NOW_MS,
        days: 365,
        expires_ms: NOW_MS + 1,
        used_ms: 0,
    };
    let known = tablet.clone();
    let pairing = clinic.store.blocking_write(move |tx| tx.set_face_key(&[9; 8]).and_then(|()| tx.set_app(&known)));
    pairing.unwrap();
    let Clinic { dir, store, .. } = clinic.with_file(|bytes| cross_link(bytes));
    assert!(files_aside(dir.path()).is_empty());
    drop(store);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = crate::config::Config { listen: ([127, 0, 0, 1], 0).into(), ..Default::default() };
    let until = async {
        while files_aside(dir.path()).is_empty() || !dir.path().join(FILE_NAME).exists() {
            tokio::task::yield_now().await;
        }
    };
    runtime.block_on(crate::run::run(dir.path(), &config, |_, _| {}, until)).unwrap();
    drop(runtime);
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let carried = store.blocking_read(|reader| Ok::<_, Error>((reader.apps()?, reader.face_key()?))).unwrap();
    assert_eq!(carried, (vec![tablet], Some(vec![9; 8].into())), "apps go on being let in");
    let mut clinic = Clinic { dir, store, now_ms: NOW_MS };
    let rescued = super::raw(clinic.began_anew());
    let tables: i64 = rescued.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert!(tables > 5);
}

#[test]
fn a_check_that_is_told_to_stop_stops() {
    let clinic = Clinic::filled(400);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(true));
    assert_eq!(clinic.store.check(&stop).unwrap(), Verdict::Stopped);
}

#[test]
fn a_card_that_does_not_read_for_a_moment_costs_no_database() {
    use rusqlite::ffi::{SQLITE_IOERR_READ, SQLITE_NOTADB};
    // How it fails, and how often in a row; whether the database is set aside for it.
    let cases = [
        (SQLITE_IOERR_READ, 5, false),
        (SQLITE_IOERR_READ, 6, true),
        (SQLITE_NOTADB, 1, false),
        (SQLITE_NOTADB, 2, true),
    ];
    for (code, fails, is_lost) in cases {
        let Clinic { dir, store, .. } = Clinic::new();
        let home = store.home();
        drop(store);
        let tries = std::cell::Cell::new(0);
        let open = || {
            tries.set(tries.get() + 1);
            let failed = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            if tries.get() <= fails { Err(Error::from(failed)) } else { Ok(()) }
        };
        crate::store::patiently_or_set_aside(&[Duration::ZERO; 5], &home, open).unwrap();
        assert_eq!(!files_aside(dir.path()).is_empty(), is_lost, "{code}, {fails} times");
    }
}
