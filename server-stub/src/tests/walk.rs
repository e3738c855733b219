//! The store on disk does what the plain store in memory does: a random walk of writes and syncs over both side by side.

use std::sync::Arc;

use serde_json::json;
use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::{self, Capture, Intent};
use sync_protocol::hub::{Gateway, LogLine, Snapshot, erase};
use sync_protocol::id::{HubSeq, RecordKey, Scope, Source};
use sync_protocol::identity::DeviceKey;
use sync_protocol::loopback::{Link, exchange};
use sync_protocol::memory::{MemoryGateway, MemoryHub};
use sync_protocol::rules::Rules;

use super::object;
use crate::HubError;
use crate::account::Sight;
use crate::error::StoreError;
use crate::hub::{add_gateway, new_gateway, open_database};
use crate::store::{Database, Tx};

const NOW_MS: i64 = 1_790_000_000_000;
const SCOPES: [&str; 3] = ["mw/a", "mw/b", "mw"];
const RULES: &str = r#"
version = 1
[types.patient]
scope = "facility"
[types.patient.fields]
name = { rule = "keep-both", required = true }
tags = "set"
count = "counter"
[types.visit]
scope = { parent = "patient" }
parents = { patient = "patient" }
[types.visit.fields]
patient = { rule = "lww", required = true }
"#;

/// A xorshift generator: the same walk for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn place(&mut self) -> &'static str {
        SCOPES[self.roll(2) as usize]
    }

    fn wish(&mut self, now_ms: i64) -> Capture {
        let patient = format!("p{}", self.roll(4));
        let (key, body) = match self.roll(4) {
            0 => (format!("visit/v{}", self.roll(5)), json!({ "patient": patient, "n": self.roll(9) })),
            1 => (format!("patient/{patient}"), json!({ "facility": self.place(), "count": self.roll(5) })),
            _ => {
                let name = format!("n{}", self.roll(3));
                let body = json!({ "name": name, "facility": self.place(), "tags": [self.roll(3)] });
                (format!("patient/{patient}"), body)
            }
        };
        let intent = if self.roll(8) == 0 { Intent::Delete } else { Intent::Put(object(body)) };
        let key = RecordKey::parse(&key).unwrap();
        Capture { key, intent, base: None, author: None, now_ms, quality: TimeQuality::Good }
    }
}

/// Two hubs, and each gateway twice.
struct Walk {
    dir: tempfile::TempDir,
    plain: MemoryHub,
    gateways: Vec<(MemoryGateway, MemoryGateway)>,
    links: (Link, Link),
}

impl Walk {
    fn begin() -> (Walk, Database) {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = open_database(dir.path()).unwrap();
        let conn = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
        conn.execute("UPDATE hub SET epoch = 0", []).unwrap();
        disk.write(NOW_MS, |tx| tx.publish(RULES)).unwrap();
        let mut plain = MemoryHub::default();
        plain.publish(Arc::new(Rules::parse(RULES).unwrap()));
        let mut gateways = Vec::new();
        for (key, scope) in (1u8..).zip(SCOPES) {
            let gateway = plain.enroll(vec![Scope::new(scope).unwrap()], Source::CLINIC, DeviceKey([key; 32]));
            disk.write(NOW_MS, |tx| add_like(tx, &gateway)).unwrap();
            let store = enrolled(&gateway);
            gateways.push((store.clone(), store));
        }
        let links = (Link::new().unwrap(), Link::new().unwrap());
        (Walk { dir, plain, gateways, links }, disk)
    }

    fn step(&mut self, disk: &mut Database, dice: &mut Dice, now_ms: i64) {
        if dice.roll(20) == 0 {
            let key = RecordKey::parse(&format!("patient/p{}", dice.roll(4))).unwrap();
            let plain = erase(&mut self.plain, &key, now_ms as u64).unwrap();
            let same = disk.write(now_ms, |tx| erase(tx, &key, now_ms as u64));
            assert_eq!(same.unwrap(), plain);
        }
        let (one, two) = &mut self.gateways[dice.roll(3) as usize];
        if dice.roll(3) == 0 {
            let at = now_ms as u64;
            let traffic = exchange(one, &mut self.plain, &mut self.links.0, at).unwrap();
            let same = disk.write(now_ms, |tx| Ok::<_, StoreError>(exchange(two, tx, &mut self.links.1, at).unwrap()));
            assert_eq!(same.unwrap(), traffic);
        } else {
            let wish = dice.wish(now_ms);
            assert_eq!(gateway::capture(one, wish.clone()).is_ok(), gateway::capture(two, wish).is_ok());
        }
    }
}

#[test]
fn it_does_what_the_store_in_memory_does() {
    for seed in 1..=12 {
        println!("seed {seed}");
        let (mut walk, mut disk) = Walk::begin();
        let mut dice = Dice(seed);
        for step in 0..120 {
            walk.step(&mut disk, &mut dice, NOW_MS + step * 1_000);
        }
        compare(&mut disk, &mut walk.plain);
        drop(disk);
        compare(&mut open_database(walk.dir.path()).unwrap(), &mut walk.plain);
    }
}

fn add_like(tx: &mut Tx<'_>, gateway: &Gateway) -> Result<(), HubError> {
    let name = format!("g{}", gateway.device.0);
    let scopes: Vec<_> = gateway.scopes.iter().map(Scope::as_str).collect();
    let code = "ABCD-EFGH-JKMN";
    add_gateway(tx, &new_gateway(&name, &scopes, "clinic")?, code, 1)?;
    let enrolled = tx.redeem(&crate::secret::normal_code(code), "{}", "", gateway.key.clone())?;
    assert_eq!(enrolled.gateway, *gateway);
    Ok(())
}

fn enrolled(gateway: &Gateway) -> MemoryGateway {
    use sync_protocol::gateway::Store as _;
    let mut store = MemoryGateway::default();
    store.set_rules(Arc::new(Rules::parse(RULES).unwrap())).unwrap();
    let mut state = store.state().unwrap();
    state.device = gateway.device;
    state.key = gateway.key.clone();
    state.scopes = gateway.scopes.clone();
    store.set_state(&state).unwrap();
    gateway::adopt_origin(&mut store, gateway.origin).unwrap();
    store
}

fn compare(disk: &mut Database, plain: &mut MemoryHub) {
    disk.read(NOW_MS, |tx| {
        assert_eq!(tx.head()?, plain.head().unwrap());
        let mut count = 0;
        for (key, record) in plain.records() {
            assert_eq!(tx.record(key)?.as_ref(), Some(record), "{key}");
            count += 1;
        }
        assert_eq!(tx.counts(&Sight::everything())?.0, count);
        for scopes in [vec!["mw/a"], vec!["mw/b"], vec!["mw", "mw/a"], vec![""]] {
            let scopes: Vec<_> = scopes.into_iter().map(|scope| Scope::new(scope).unwrap()).collect();
            assert_eq!(tx.digest(&scopes)?, plain.digest(&scopes).unwrap(), "{scopes:?}");
            let (mut ours, mut theirs) = (tx.items(&scopes)?, plain.items(&scopes).unwrap());
            ours.sort();
            theirs.sort();
            assert_eq!(ours, theirs);
        }
        assert_eq!(tx.all_held()?, plain.all_held().unwrap());
        for limit in [1, 3, 1_000] {
            assert_eq!(sorted(tx.log_after(HubSeq(0), limit)?), sorted(plain.log_after(HubSeq(0), limit).unwrap()));
        }
        Ok::<_, StoreError>(())
    })
    .unwrap();
}

/// Lines of one number have no order of their own.
fn sorted(mut lines: Vec<LogLine>) -> Vec<String> {
    lines.sort_by_key(|line| line.hseq);
    let mut told: Vec<String> = lines.iter().map(|line| format!("{:08} {line:?}", line.hseq.0)).collect();
    told.sort();
    told
}
