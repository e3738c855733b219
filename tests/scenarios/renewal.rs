//! Another key for the database of a gateway that runs: apps save and read meanwhile, and notice nothing.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use outpost_tests::process::{self, Gateway, Hub, ask, command, must, program, wait_for};
use serde_json::json;

use crate::kill::{App, next, records_of};

/// How often the suite kills; `OUTPOST_KILLS` says otherwise.
const KILLS: usize = 12;
/// Longer than any card makes an app wait.
const PATIENCE: Duration = Duration::from_secs(5);
const PASSPHRASE: &str = "moto nyumba mvula njinga";

/// A card whose key lies on a stick.
fn with_stick(folder: &Path) -> std::path::PathBuf {
    let (card, stick) = (folder.join("card"), folder.join("outpost.key"));
    std::fs::create_dir(&card).unwrap();
    let stick = stick.to_string_lossy();
    must("outpost", &["key", "make", &stick]);
    let config = format!("[encryption]\nkey = \"file\"\nkey_file = \"{stick}\"\n");
    std::fs::write(card.join("outpost.toml"), config).unwrap();
    card
}

/// The first digits of the key that a database is under, as its file says.
fn key_in_force(gateway: &Gateway) -> String {
    let told = gateway.command(&["key", "status"]);
    let line = told.lines().find(|line| line.contains("encrypted (ChaCha20-Poly1305)")).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

fn files(card: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(card).unwrap().flatten().map(|file| file.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("outpost")).collect()
}

fn start_renewal(card: &Path) -> Child {
    let dir = card.to_string_lossy().into_owned();
    let mut renewal = Command::new(program("outpost"));
    renewal.args(["key", "renew", "--data-dir", &dir]).stdin(Stdio::null());
    renewal.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn the_key_of_a_running_gateway_changes_while_apps_save_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let card = with_stick(folder.path());
    let hub = Hub::start(&folder.path().join("hub"));
    let mut gateway = Gateway::enrolled(&card, &hub, "a", "mw");
    for n in 0..400 {
        gateway.put(&format!("patient/p{n}"), &json!({"n": n, "note": "in words that take some room"}));
    }
    gateway.sync();
    let socket = std::fs::metadata(card.join("outpost.renew")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    let (saved, is_done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let slowest = Mutex::new(Duration::ZERO);
    let url = gateway.url();
    let asked = |method: &str, path: &str, body: Option<&serde_json::Value>| {
        let began = Instant::now();
        let (status, told) = ask(method, &format!("{url}/v1/records/form/{path}"), &[], body);
        let mut slowest = slowest.lock().unwrap();
        *slowest = began.elapsed().max(*slowest);
        (status, told)
    };
    let before = std::fs::read(card.join("outpost.db-keys")).unwrap();
    let first = key_in_force(&gateway);
    let during = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                let n = saved.load(Ordering::SeqCst);
                let (status, told) = asked("PUT", &format!("r{n}"), Some(&App::body(n)));
                assert_eq!(status, 201, "{told}");
                saved.store(n + 1, Ordering::SeqCst);
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(Ordering::SeqCst) {
                    let n = saved.load(Ordering::SeqCst);
                    let (status, told) = asked("GET", &format!("r{}", n.saturating_sub(1)), None);
                    assert!(status == 200 || n == 0, "{status} {told}");
                }
            });
        }
        wait_for("an app at work", || (saved.load(Ordering::SeqCst) > 5).then_some(()));
        let began = saved.load(Ordering::SeqCst);
        for _ in 0..3 {
            let told = gateway.command(&["key", "renew"]);
            assert!(told.contains("has another key"), "{told}");
        }
        let during = saved.load(Ordering::SeqCst) - began;
        is_done.store(true, Ordering::SeqCst);
        during
    });
    assert!(during >= 3, "{during} were saved meanwhile");
    assert!(*slowest.lock().unwrap() < PATIENCE, "{slowest:?}");
    let now = key_in_force(&gateway);
    assert_ne!(now, first);
    wait_for("the hub to have the new key", || {
        gateway.command(&["key", "status"]).contains(&format!("has a copy of key {now}")).then_some(())
    });
    let status = gateway.command(&["key", "status"]);
    assert_eq!(status.matches("slot ").count(), 1, "{status}");
    gateway.sync();
    gateway.kill();
    let left = files(&card);
    assert!(!left.iter().any(|name| name.contains("converting") || name.contains("wiped") || name.contains("broken")));
    // The key of before, with its slots and the stick.
    let slots = std::fs::read(card.join("outpost.db-keys")).unwrap();
    std::fs::write(card.join("outpost.db-keys"), before).unwrap();
    let told = command("outpost", &["run", "--data-dir", &card.to_string_lossy(), "--listen", "127.0.0.1:0"]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("is not the key of"), "{told:?}");
    std::fs::write(card.join("outpost.db-keys"), slots).unwrap();
    gateway.restart();
    let (central, saved) = (records_of(&hub.export("form")), saved.load(Ordering::SeqCst));
    assert_eq!(central.len(), saved);
    assert_eq!(gateway.export("form").lines().count(), saved);
    assert_eq!(gateway.count("repairs"), 0);
    assert_eq!(gateway.export("patient").lines().count(), 400);
}

#[test]
fn killed_again_and_again_while_the_key_changes_nothing_that_was_acknowledged_is_gone() {
    let kills = std::env::var("OUTPOST_KILLS").map_or(KILLS, |text| text.parse().expect("OUTPOST_KILLS is a number"));
    let folder = tempfile::tempdir().unwrap();
    let card = with_stick(folder.path());
    let hub = Hub::start(&folder.path().join("hub"));
    let mut gateway = Gateway::enrolled(&card, &hub, "a", "mw");
    for n in 0..600 {
        gateway.put(&format!("patient/p{n}"), &json!({"n": n, "note": "in words that take some room"}));
    }
    let app = App::new(&gateway);
    let work = app.is_at_work();
    let (mut seed, mut keys) = (4_711, BTreeSet::from([key_in_force(&gateway)]));
    for _ in 0..kills {
        let until = app.count() + 5;
        wait_for("records to be acknowledged", || (app.count() >= until).then_some(()));
        let mut renewal = start_renewal(&card);
        let copy = card.join("outpost.db-converting");
        wait_for("the copy to be begun", || (copy.exists() || renewal.try_wait().unwrap().is_some()).then_some(()));
        let more = app.count() + (next(&mut seed) % 6) as usize;
        wait_for("a few more records", || (app.count() >= more).then_some(()));
        gateway.kill();
        let told = renewal.wait_with_output().unwrap();
        gateway.restart();
        app.goes_on_with(&gateway);
        let key = key_in_force(&gateway);
        assert!(!told.status.success() || !keys.contains(&key), "it said that it was done, and it was not");
        keys.insert(key);
    }
    app.ends(work);
    gateway.sync();
    let status = gateway.command(&["key", "status"]);
    assert_eq!(status.matches("slot ").count(), 1, "{status}");
    assert!(files(&card).iter().all(|name| !name.contains("wiped") && !name.contains("broken")), "{:?}", files(&card));
    let central = records_of(&hub.export("form"));
    for n in 1..=app.count() {
        assert_eq!(central.get(&format!("r{n}")), Some(&App::body(n)), "r{n} was acknowledged");
    }
    assert_eq!(gateway.export("patient").lines().count(), 600);
    assert_eq!(gateway.count("repairs"), 0);
}

fn say(card: &Path, args: &[&str], said: &str) -> Output {
    let dir = card.to_string_lossy();
    process::say("outpost", &[args, &["--data-dir", &dir, "--passphrase-fd", "0"]].concat(), said)
}

#[test]
fn a_passphrase_is_said_for_the_new_key_and_a_wrong_one_or_a_full_card_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let card = folder.path().join("card");
    std::fs::create_dir(&card).unwrap();
    let configure = |more: &str| {
        std::fs::write(card.join("outpost.toml"), format!("{more}[encryption]\nkey = \"passphrase\"\n")).unwrap();
    };
    configure("");
    assert!(say(&card, &["key", "encrypt", "--new"], &format!("{PASSPHRASE}\n")).status.success());
    let open = |gateway: &Gateway| {
        wait_for("a gateway that waits", || (gateway.ask("GET", "/v1/status", &[], None).0 == 503).then_some(()));
        assert!(say(&card, &["unlock"], &format!("{PASSPHRASE}\n")).status.success());
        wait_for("the database to open", || (gateway.ask("GET", "/v1/status", &[], None).0 == 200).then_some(()));
        wait_for("the socket", || card.join("outpost.renew").exists().then_some(()));
    };
    let mut gateway = Gateway::start(&card);
    open(&gateway);
    gateway.put("patient/p1", &json!({"name": "Asha"}));
    let first = key_in_force(&gateway);
    let wrong = say(&card, &["key", "renew"], "moto nyumba mvula njingo\n");
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("is not the key of"), "{wrong:?}");
    assert_eq!(key_in_force(&gateway), first);
    let done = say(&card, &["key", "renew"], &format!("{PASSPHRASE}\n"));
    assert!(done.status.success(), "{done:?}");
    let second = key_in_force(&gateway);
    assert_ne!(second, first);
    // A reserve that no disk has.
    gateway.kill();
    configure("disk_reserve_megabytes = 4000000000\n");
    gateway.restart();
    // It takes no wish for a key as long as it has none itself.
    let told = say(&card, &["key", "renew"], &format!("{PASSPHRASE}\n"));
    assert!(String::from_utf8_lossy(&told.stderr).contains("takes no wish"), "{told:?}");
    open(&gateway);
    let full = say(&card, &["key", "renew"], &format!("{PASSPHRASE}\n"));
    assert_eq!(full.status.code(), Some(4), "{full:?}");
    assert!(String::from_utf8_lossy(&full.stderr).contains("free some space"), "{full:?}");
    assert_eq!(key_in_force(&gateway), second);
    assert_eq!(gateway.get("patient/p1"), Some(json!({"name": "Asha"})));
    let log = std::fs::read_to_string(card.join("log")).unwrap();
    assert!(log.contains("the key of the database was not changed") && !log.contains(PASSPHRASE), "{log}");
}
