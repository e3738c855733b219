//! Scenario c: gateway and hub are killed without warning, again and again, while records come in and go up.
//!
//! What `kill -9` stands for: the program is gone between two of its instructions, also in the middle of a commit. What it does
//! not stand for: what the program gave to the system is still written, so a forgotten sync of the disk does not show here. Power
//! that fails, and takes with it what was not synced, is the part of the simulator and of `power`.
//!
//! The suite kills 50 times; `OUTPOST_KILLS=1000` kills a thousand times.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use outpost_tests::counted::Counted;
use outpost_tests::process::{Gateway, Hub, ask, must, wait_for};
use serde_json::{Value, json};

/// How often the suite kills, and everybody who does not say otherwise.
const KILLS: usize = 50;

/// A health worker's app: saves record after record, tries again until each is acknowledged, and counts them.
pub(crate) struct App {
    url: Mutex<String>,
    count: AtomicUsize,
    is_done: AtomicBool,
}

impl App {
    pub(crate) fn new(gateway: &Gateway) -> Arc<App> {
        Arc::new(App { url: Mutex::new(gateway.url()), count: AtomicUsize::new(0), is_done: AtomicBool::new(false) })
    }

    /// The body of the nth record, whose id is `r` and n.
    pub(crate) fn body(n: usize) -> Value {
        json!({"n": n, "note": "as it was said"})
    }

    /// How many are acknowledged: the records from the first one to this.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub(crate) fn goes_on_with(&self, gateway: &Gateway) {
        *self.url.lock().unwrap() = gateway.url();
    }

    pub(crate) fn is_at_work(self: &Arc<App>) -> JoinHandle<()> {
        let app = Arc::clone(self);
        std::thread::spawn(move || app.run())
    }

    /// Lets it finish.
    pub(crate) fn ends(&self, work: JoinHandle<()>) {
        self.is_done.store(true, Ordering::SeqCst);
        work.join().unwrap();
    }

    fn run(&self) {
        loop {
            let n = self.count() + 1;
            loop {
                if self.is_done.load(Ordering::SeqCst) {
                    return;
                }
                let url = format!("{}/v1/records/form/r{n}", self.url.lock().unwrap().clone());
                let (status, _) = ask("PUT", &url, &[], Some(&App::body(n)));
                if status == 200 || status == 201 {
                    break;
                }
            }
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The records at the hub, each of which is there once.
pub(crate) fn records_of(exported: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for line in exported.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let id = record["id"].as_str().unwrap().to_owned();
        assert!(found.insert(id, record["body"].clone()).is_none(), "a record twice at the hub");
    }
    found
}

/// What a hub lacks of these records, or has twice. The app writes each until it hears that it is there, which is one write.
pub(crate) fn counted(hub: &Hub, records: impl Iterator<Item = usize>) -> Counted {
    let ids: Vec<(String, usize)> = records.map(|n| (format!("r{n}"), n)).collect();
    Counted::at(hub, "form", ids.iter().map(|(id, n)| (id.as_str(), (App::body(*n), 1))))
}

/// Pseudo-random, from a fixed seed (Knuth's linear congruential step).
pub(crate) fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[test]
fn c_power_cut_again_and_again_and_every_acknowledged_record_is_there() {
    power_cuts("", 1);
}

/// The same on an encrypted database, and nothing of it can be read in any file.
#[test]
fn c_power_cuts_and_an_encrypted_database() {
    let stick = tempfile::tempdir().unwrap();
    let key = stick.path().join("outpost.key").to_string_lossy().into_owned();
    must("outpost", &["key", "make", &key]);
    power_cuts(&format!("[encryption]\nkey = \"file\"\nkey_file = \"{key}\"\n"), 3);
}

/// Kills as often as is wanted, or a part of that; the gateway has this configuration.
fn power_cuts(config: &str, part: usize) {
    let kills =
        std::env::var("OUTPOST_KILLS").map_or(KILLS, |text| text.parse().expect("OUTPOST_KILLS is a number")) / part;
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&folder.path().join("hub"));
    let card = folder.path().join("a");
    std::fs::create_dir(&card).unwrap();
    std::fs::write(card.join("outpost.toml"), config).unwrap();
    let mut gateway = Gateway::enrolled(&card, &hub, "a", "mw");
    let app = App::new(&gateway);
    let work = app.is_at_work();
    let mut seed = 2_026;
    for _ in 0..kills {
        let until = app.count() + 1 + (next(&mut seed) % 240) as usize;
        wait_for("records to be acknowledged", || (app.count() >= until).then_some(()));
        // A sync is under way at about the time of the kill.
        let url = gateway.url();
        let sync = std::thread::spawn(move || ask("POST", &format!("{url}/v1/sync"), &[], None));
        let more = app.count() + (next(&mut seed) % 12) as usize;
        wait_for("a few more records", || (app.count() >= more).then_some(()));
        if next(&mut seed) % 2 == 0 {
            gateway.kill();
            gateway.restart();
            app.goes_on_with(&gateway);
        } else {
            hub.kill();
            hub.restart();
        }
        let _ = sync.join();
    }
    app.ends(work);
    gateway.sync();

    let acknowledged = app.count();
    let central = hub.export("form");
    let found = records_of(&central);
    counted(&hub, 1..=acknowledged).tell(&format!("{kills} kills, {acknowledged} acknowledged records"));
    assert_eq!(gateway.export("form"), central);
    assert_eq!(gateway.count("repairs"), 0);
    let files = std::fs::read_dir(&card).unwrap().flatten();
    let is_readable = files.filter(|entry| entry.file_type().unwrap().is_file()).any(|entry| {
        let bytes = std::fs::read(entry.path()).unwrap();
        ["CREATE TABLE", "as it was said"].iter().any(|word| bytes.windows(word.len()).any(|w| w == word.as_bytes()))
    });
    assert_eq!(is_readable, config.is_empty());
    assert!(found.len() - acknowledged <= 1, "at most the last one was saved without an answer");
}
