//! A card that refuses writes in the middle of work, with an error of which SQLite knows only that the system gave it: an app is
//! told saved, or that it was not, and both are so.
//!
//! Writes: the system lets no file of the gateway grow beyond a limit (`RLIMIT_FSIZE`), which comes and goes while it runs, and
//! answers EFBIG; SQLite says `SQLITE_IOERR_WRITE`. Syncs and reads: a library in front of the system's answers EIO.

use std::collections::BTreeSet;

use outpost_tests::preload::Failing;
use outpost_tests::process::{Gateway, Hub, wait_for};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};

/// As long as its log is said to be.
const SAID_BYTES: u64 = 4 << 20;

fn form(n: u64) -> Value {
    json!({"n": n, "note": format!("form {n} as it was said")})
}

/// From now on no file of the gateway grows beyond so many bytes.
fn limit(gateway: &Gateway, bytes: Option<u64>) {
    let pid = Pid::from_raw(gateway.id().try_into().unwrap()).unwrap();
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
}

fn save(gateway: &Gateway, n: u64) -> (u16, Value) {
    let (status, told) = gateway.ask("PUT", &format!("/v1/records/form/f{n}"), &[], Some(&form(n)));
    (status, serde_json::from_str(&told).unwrap_or_default())
}

#[test]
fn what_a_card_did_not_take_is_not_called_saved_and_what_was_called_saved_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let card = folder.path().join("card");
    let mut gateway = Gateway::enrolled(&card, &hub, "a", "mw");
    let (mut saved, mut refused) = (BTreeSet::new(), 0);
    for n in 0..30 {
        assert_eq!(save(&gateway, n).0, 201);
        saved.insert(n);
    }
    let log = card.join("outpost.db-wal");
    // What it has to say about that cannot be written either.
    std::fs::File::options().append(true).open(card.join("log")).unwrap().set_len(SAID_BYTES).unwrap();
    for round in 1..=3 {
        let bytes = std::fs::metadata(&log).unwrap().len();
        assert!(bytes < SAID_BYTES, "{bytes}");
        limit(&gateway, Some(bytes));
        for n in round * 1_000..round * 1_000 + 400 {
            let (status, told) = save(&gateway, n);
            if status == 201 {
                saved.insert(n);
                continue;
            }
            refused += 1;
            was_refused(&gateway, n, (status, &told));
            if refused == round * 5 {
                break;
            }
        }
        assert_eq!(refused, round * 5, "writes were refused");
        limit(&gateway, None);
        let n = round * 1_000 + 999;
        wait_for("the card to take records again", || (save(&gateway, n).0 / 100 == 2).then_some(()));
        saved.insert(n);
    }
    gateway.kill();
    gateway.restart();
    are_there(&gateway, &hub, &saved);
}

fn was_refused(gateway: &Gateway, n: u64, (status, told): (u16, &Value)) {
    assert!((500..600).contains(&status), "{status} {told}");
    assert!(told["detail"].as_str().is_some_and(|detail| detail.len() > 20), "it says what to do: {told}");
    assert_eq!(gateway.get(&format!("form/f{n}")), None, "what was refused does not show");
    // Who reads is served meanwhile.
    assert_eq!(gateway.get("form/f7"), Some(form(7)));
}

/// What was acknowledged, and nothing else.
fn are_there(gateway: &Gateway, hub: &Hub, saved: &BTreeSet<u64>) {
    for n in saved {
        assert_eq!(gateway.get(&format!("form/f{n}")), Some(form(*n)), "form {n} was acknowledged");
    }
    gateway.sync();
    assert_eq!(hub.export("form").lines().count(), saved.len());
    assert_eq!(gateway.count("repairs"), 0);
}

#[test]
fn what_a_card_did_not_sync_is_not_called_saved() {
    let folder = tempfile::tempdir().unwrap();
    let card = Failing::build(folder.path());
    let hub = Hub::start(&folder.path().join("hub"));
    let mut gateway = Gateway::start_in(&folder.path().join("card"), card.variables());
    gateway.enroll(&hub, "a", "mw");
    let mut saved = BTreeSet::new();
    for round in 0..3 {
        for n in round * 100..round * 100 + 20 {
            assert_eq!(save(&gateway, n).0, 201);
            saved.insert(n);
        }
        card.set("sync", true);
        for n in round * 100 + 50..round * 100 + 55 {
            let (status, told) = save(&gateway, n);
            was_refused(&gateway, n, (status, &told));
        }
        card.set("sync", false);
        let n = round * 100 + 99;
        wait_for("the card to take records again", || (save(&gateway, n).0 / 100 == 2).then_some(()));
        saved.insert(n);
    }
    gateway.kill();
    gateway.restart();
    are_there(&gateway, &hub, &saved);
}

#[test]
fn what_a_card_does_not_read_is_not_called_missing_and_is_there_when_it_reads_again() {
    let folder = tempfile::tempdir().unwrap();
    let card = Failing::build(folder.path());
    let mut gateway = Gateway::start_in(&folder.path().join("card"), card.variables());
    // More than the program keeps in memory, of words that do not compress.
    let word = |at: u64| format!("{:x}", at.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    let long = |n: u64| json!({"n": n, "words": (0..600).map(|at| word(n * 1_000 + at)).collect::<Vec<_>>()});
    for n in 0..500 {
        gateway.put(&format!("scan/s{n}"), &long(n));
    }
    gateway.kill();
    gateway.restart();
    card.set("read", true);
    let (mut read, mut unread) = (0, 0);
    for n in 0..500 {
        let (status, told) = gateway.ask("GET", &format!("/v1/records/scan/s{n}"), &[], None);
        match status {
            200 => read += 1,
            500..600 => unread += 1,
            // An app that hears that there is no such patient makes another one.
            _ => panic!("{n}: {status} {told}"),
        }
    }
    assert!(unread > 0, "all {read} were in memory: nothing was tried");
    card.set("read", false);
    for n in 0..500 {
        assert!(gateway.get(&format!("scan/s{n}")) == Some(long(n)), "{n}");
    }
    gateway.kill();
    gateway.restart();
    assert!(gateway.get("scan/s499") == Some(long(499)), "nothing was set aside");
    assert_eq!(gateway.count("damaged_rows"), 0);
}
