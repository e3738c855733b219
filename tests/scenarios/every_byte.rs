//! A link that breaks after every single byte of an exchange, in both directions, and then works again.
//!
//! The gateway's half runs in this process, so that nothing but what the test asks for is on the wire; the hub is a real program
//! behind the proxy. After each break a second try must set all right: nothing lost, nothing twice, at most one frame again.
//! The suite breaks small exchanges at every byte and a large one at some; `OUTPOST_EVERY_BYTE=1` breaks the large one at more.

use std::path::Path;

use agent::clock::Clock;
use agent::error::{Class, Error};
use agent::store::{Options, Store};
use agent::sync::{Consent, Courier, Report, Transport, Trust, enroll};
use outpost_tests::counted::Counted;
use outpost_tests::process::{Hub, wait_for};
use outpost_tests::proxy::Way;
use serde_json::{Value, json};
use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::{self, Capture, Intent, Refusal, Store as _};
use sync_protocol::id::RecordKey;
use sync_protocol::limits::FRAME_BYTES_MAX;
use tokio::runtime::Runtime;

/// More than the link carries here in one exchange.
const LINK_BYTES: u64 = 256 * 1024;
/// Two heads, and the headers of two requests and answers, that a second try takes.
const SECOND_TRY_BYTES: u64 = 2_048;
/// Visits are counted, so that a write which is applied twice shows.
const RULES: &str = "version = 1\n[types.patient.fields]\nvisits = \"counter\"\n[types.form]\nstream = \"bulk\"\n";

/// A gateway in this process, and a hub.
struct Pair {
    hub: Hub,
    store: Store,
    courier: Courier,
    runtime: Runtime,
    /// What `patient/p1` has to come to.
    visits: u64,
    /// Records that were written at either end.
    forms: u64,
}

impl Pair {
    fn start(folder: &Path) -> Pair {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let hub = Hub::start_plain(&folder.join("hub"));
        hub.publish(RULES);
        let store = Store::open(&folder.join("a"), Options::default()).unwrap();
        let added = hub.command(&["gateway", "add", "a", "--scope", "mw", "--json"]);
        let added: Value = serde_json::from_str(&added).unwrap();
        let (clock, code) = (Clock::of_boot(store.boot()), added["code"].as_str().unwrap());
        runtime.block_on(enroll(&store, &clock, Some(&hub.proxy.url()), code, Consent::default())).unwrap();
        let transport = Transport::new(&hub.proxy.url(), &clock, &Trust::System).unwrap();
        let courier = Courier::new(store.clone(), transport, clock).unwrap();
        let pair = Pair { hub, store, courier, runtime, visits: 0, forms: 0 };
        pair.settle();
        pair
    }

    fn write(&self, key: &str, body: &Value) {
        let Value::Object(body) = body.clone() else { panic!("a body is an object") };
        let key = RecordKey::parse(key).unwrap();
        let (now_ms, quality) = (1_780_000_000_000, TimeQuality::Good);
        let wish = Capture { key, intent: Intent::Put(body), base: None, author: None, now_ms, quality };
        self.store.blocking_write(|tx| -> Result<_, Refusal<Error>> { gateway::capture(tx, wish) }).unwrap();
    }

    /// A visit is counted, and so many forms of about a hundred bytes each are written.
    fn write_here(&mut self, forms: u64) {
        self.visits += 1;
        self.write("patient/p1", &json!({"visits": self.visits}));
        for _ in 0..forms {
            self.forms += 1;
            self.write(&format!("form/f{}", self.forms), &form(self.forms));
        }
    }

    fn write_there(&mut self) {
        self.forms += 1;
        let path = format!("/admin/v1/records/form/f{}?scope=mw", self.forms);
        let (status, answer) = self.hub.ask("PUT", &path, Some(&form(self.forms)));
        assert!(status == 200 || status == 201, "{status} {answer}");
    }

    fn exchange(&self) -> Result<Report, Error> {
        self.runtime.block_on(self.courier.exchange(LINK_BYTES))
    }

    /// Exchanges until there is no news.
    fn settle(&self) {
        for _ in 0..8 {
            let report = self.exchange().unwrap();
            if !report.again && report.unsent == 0 {
                assert!(report.agrees);
                return;
            }
        }
        panic!("there is no end to it");
    }

    /// One exchange whose connection breaks after so many bytes this way, and what follows. Tells whether it came to that.
    fn broken_after(&mut self, way: Way, bytes: u64) -> bool {
        self.hub.proxy.break_after(way, bytes);
        let first = self.exchange();
        if let Err(error) = &first {
            assert_eq!(error.class(), Class::Offline, "{way:?} {bytes}: {error}");
        }
        let is_broken = !self.hub.proxy.is_unbroken();
        self.settle();
        self.assert_all_there(&format!("{way:?} {bytes}"));
        is_broken
    }

    fn assert_all_there(&self, at: &str) {
        let look = |key: &str| -> Result<Option<Value>, Error> {
            let key = RecordKey::parse(key).unwrap();
            self.store.blocking_write(move |tx| {
                let held = tx.held(&key)?;
                Ok(held.and_then(|held| held.confirmed).map(|record| sync_protocol::edit::render(&record).into()))
            })
        };
        let there = |key: &str| {
            let (status, body) = self.hub.ask("GET", &format!("/admin/v1/records/{key}"), None);
            (status == 200).then(|| serde_json::from_str::<Value>(&body).unwrap())
        };
        if self.visits > 0 {
            let wanted = Some(json!({"visits": self.visits}));
            assert_eq!((look("patient/p1").unwrap(), there("patient/p1")), (wanted.clone(), wanted), "{at}");
        }
        if self.forms > 0 {
            let key = format!("form/f{}", self.forms);
            assert_eq!((look(&key).unwrap(), there(&key)), (Some(form(self.forms)), Some(form(self.forms))), "{at}");
        }
        let state = self.store.blocking_write(|tx| tx.state()).unwrap();
        assert_eq!((state.unsent(), state.repairs), (0, 0), "{at}");
    }

    /// How many exchanges the hub has seen break.
    fn cuts_logged(&self) -> usize {
        let log = std::fs::read_to_string(Path::new(&self.hub.data_dir()).join("log")).unwrap();
        log.matches("sync cut off").count()
    }

    /// All that was written, at the end: each once.
    fn tell_each_once(&self, what: &str) {
        let ids: Vec<(String, u64)> = (1..=self.forms).map(|n| (format!("f{n}"), n)).collect();
        let forms = ids.iter().map(|(id, n)| (id.as_str(), (form(*n), 1)));
        let visits = (self.visits > 0).then(|| ("p1", (json!({"visits": self.visits}), self.visits)));
        let counted = Counted::at(&self.hub, "form", forms).and(Counted::at(&self.hub, "patient", visits));
        counted.tell(&format!("{what}: {} breaks", self.hub.proxy.breaks()));
        assert_eq!(self.hub.export("form").lines().count() as u64, self.forms);
        let quarantined = self.hub.command(&["quarantine", "list"]);
        assert_eq!(quarantined.trim(), "none");
    }
}

/// A body that does not compress, so that a few hundred take several frames.
fn form(n: u64) -> Value {
    let noise = |nth: u64| {
        (n * 4 + nth).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    json!({"n": n, "note": format!("{:016x}{:016x}{:016x}", noise(1), noise(2), noise(3))})
}

/// Breaks exchanges after 0 bytes, `step` bytes and so on, until one goes through; first upwards, then downwards.
fn break_everywhere(pair: &mut Pair, step: usize, prepare: impl Fn(&mut Pair)) -> [u64; 2] {
    [Way::Up, Way::Down].map(|way| {
        for (times, bytes) in (0..).zip((0..).step_by(step)) {
            prepare(pair);
            if !pair.broken_after(way, bytes) {
                return times;
            }
        }
        unreachable!("an exchange has an end")
    })
}

fn tell(what: &str, [up, down]: [u64; 2], pair: &Pair) {
    assert!(up > 100 && down > 100, "{up} up, {down} down");
    pair.tell_each_once(what);
}

#[test]
fn a_push_broken_after_every_byte_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(folder.path());
    let times = break_everywhere(&mut pair, 1, |pair| pair.write_here(1));
    tell("push", times, &pair);
}

#[test]
fn a_pull_broken_after_every_byte_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(folder.path());
    let times = break_everywhere(&mut pair, 1, Pair::write_there);
    tell("pull", times, &pair);
}

#[test]
fn an_idle_exchange_broken_after_every_byte_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(folder.path());
    let times = break_everywhere(&mut pair, 1, |_| {});
    assert_eq!(pair.exchange().unwrap().received, 0);
    tell("idle", times, &pair);
}

#[test]
fn a_large_push_broken_anywhere_sends_at_most_one_frame_again() {
    let step = if std::env::var_os("OUTPOST_EVERY_BYTE").is_some() { 97 } else { 2_003 };
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(folder.path());
    let write = |pair: &mut Pair| pair.write_here(800);
    write(&mut pair);
    let before = pair.hub.proxy.up_bytes();
    pair.exchange().unwrap();
    // One that is like the others, unbroken; they differ a little by the numbers in them.
    let whole = pair.hub.proxy.up_bytes() - before;
    pair.settle();
    assert!(whole > 4 * FRAME_BYTES_MAX as u64, "several frames: {whole} bytes");
    for bytes in (step as u64..whole).step_by(step) {
        write(&mut pair);
        let before = pair.hub.proxy.up_bytes();
        let cuts = pair.cuts_logged();
        pair.hub.proxy.break_after(Way::Up, bytes);
        assert!(pair.exchange().is_err(), "broken after {bytes}");
        // A link comes back long after the hub has done with what it got.
        wait_for("the hub to notice", || (pair.cuts_logged() > cuts).then_some(()));
        pair.settle();
        pair.assert_all_there(&format!("broken after {bytes}"));
        let sent = pair.hub.proxy.up_bytes() - before;
        let most = whole + whole / 50 + FRAME_BYTES_MAX as u64 + SECOND_TRY_BYTES;
        assert!(sent <= most, "broken after {bytes}: {sent} bytes for what takes {whole}");
    }
    pair.tell_each_once("push of several frames");
}
