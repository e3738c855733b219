//! Gateways and a hub in memory, with a link that always works.

use serde_json::{Map, Value};
use std::sync::Arc;
use sync_protocol::clock::TimeQuality;
use sync_protocol::edit::render;
use sync_protocol::gateway::{self, Capture, Intent, Store as _};
use sync_protocol::hub::{self, Snapshot as _, Store as _};
use sync_protocol::id::{Author, FieldName, RecordKey, Scope, Source};
use sync_protocol::identity::DeviceKey;
use sync_protocol::loopback::{Link, Traffic, settle};
use sync_protocol::memory::{MemoryGateway, MemoryHub};
use sync_protocol::record::Record;
use sync_protocol::rules::Rules;

pub(crate) struct World {
    pub(crate) hub: MemoryHub,
    pub(crate) gateways: Vec<MemoryGateway>,
    pub(crate) link: Link,
    pub(crate) now_ms: i64,
}

impl World {
    pub(crate) fn new(rules: &str, scopes: &[&str]) -> World {
        let rules = Arc::new(Rules::parse(rules).unwrap());
        let mut hub = MemoryHub::default();
        hub.publish(Arc::clone(&rules));
        let gateways = scopes.iter().map(|scope| enrolled(&mut hub, &rules, scope)).collect();
        World { hub, gateways, link: Link::new().unwrap(), now_ms: 1_780_000_000_000 }
    }

    pub(crate) fn capture(&mut self, at: usize, wish: Capture) -> gateway::Captured {
        gateway::capture(&mut self.gateways[at], wish).unwrap()
    }

    pub(crate) fn wish(&mut self, key: &str, intent: Intent) -> Capture {
        self.now_ms += 1_000;
        Capture {
            key: RecordKey::parse(key).unwrap(),
            intent,
            base: None,
            author: Some(Author::new("nurse").unwrap()),
            now_ms: self.now_ms,
            quality: TimeQuality::Good,
        }
    }

    pub(crate) fn put(&mut self, at: usize, key: &str, body: Value) -> gateway::Captured {
        let wish = self.wish(key, Intent::Put(object(body)));
        self.capture(at, wish)
    }

    /// Changes some fields of what is shown.
    pub(crate) fn edit(&mut self, at: usize, key: &str, fields: Value) {
        let mut body = self.body(at, key);
        body.extend(object(fields));
        self.put(at, key, Value::Object(body));
    }

    pub(crate) fn delete(&mut self, at: usize, key: &str) {
        let wish = self.wish(key, Intent::Delete);
        self.capture(at, wish);
    }

    pub(crate) fn hub_write(&mut self, key: &str, intent: Intent) {
        let wish = self.wish(key, intent);
        hub::write(&mut self.hub, wish, &Scope::root()).unwrap();
    }

    pub(crate) fn sync(&mut self, at: usize) -> Traffic {
        settle(&mut self.gateways[at], &mut self.hub, &mut self.link, self.now_ms as u64, 50).unwrap()
    }

    /// Everyone syncs until nobody has news, and all must agree.
    pub(crate) fn sync_all(&mut self) {
        for _ in 0..2 {
            for at in 0..self.gateways.len() {
                self.sync(at);
            }
        }
        self.assert_equal();
    }

    /// An admin gives a gateway these scopes.
    pub(crate) fn assign(&mut self, at: usize, scopes: &[&str], backfill: bool) {
        let device = self.gateways[at].state().unwrap().device;
        let mut known = self.hub.gateway(device).unwrap().unwrap();
        known.scopes = scopes.iter().map(|s| Scope::new(s).unwrap()).collect();
        (known.view, known.backfill) = (hub::ViewNews::Changed, backfill);
        self.hub.set_gateway(&known).unwrap();
    }

    /// A copy of a gateway's card in another box, as it is now.
    pub(crate) fn copy_of(&mut self, at: usize, print: u8) -> MemoryGateway {
        let mut copy = self.gateways[at].clone();
        copy.set_print([print; 8]);
        let state = copy.state().unwrap();
        copy.set_state(&gateway::GatewayState { told: false, ..state }).unwrap();
        copy
    }

    pub(crate) fn assert_equal(&mut self) {
        for at in 0..self.gateways.len() {
            let state = self.gateways[at].state().unwrap();
            for (key, record) in self.hub.records() {
                let held = self.gateways[at].record(key);
                if state.is_in_view(&record.scope()) {
                    let held = held.unwrap_or_else(|| panic!("gateway {at} lacks {key}"));
                    assert_eq!(held.confirmed.as_ref(), Some(record), "gateway {at}, {key}");
                } else {
                    assert!(held.is_none(), "gateway {at} holds {key}");
                }
            }
            let digest = self.hub.digest(&state.scopes).unwrap();
            assert_eq!(self.gateways[at].digest(&state.scopes).unwrap(), digest, "digest of gateway {at}");
            assert_eq!(state.repairs, 0, "gateway {at} needed a repair");
        }
    }

    pub(crate) fn record(&self, at: usize, key: &str) -> Record {
        self.gateways[at].record(&RecordKey::parse(key).unwrap()).unwrap().visible.clone()
    }

    pub(crate) fn body(&self, at: usize, key: &str) -> Map<String, Value> {
        render(&self.record(at, key))
    }

    pub(crate) fn hub_record(&mut self, key: &str) -> Record {
        self.hub.record(&RecordKey::parse(key).unwrap()).unwrap().unwrap()
    }

    pub(crate) fn shown(&mut self, key: &str, field: &str) -> Value {
        self.body(0, key).get(field).cloned().unwrap_or(Value::Null)
    }
}

pub(crate) fn enrolled(hub: &mut MemoryHub, rules: &Arc<Rules>, scope: &str) -> MemoryGateway {
    let scopes = vec![Scope::new(scope).unwrap()];
    let known = hub.enroll(scopes.clone(), Source::CLINIC, DeviceKey([7; 32]));
    let mut gateway = MemoryGateway::default();
    let mut state = gateway.state().unwrap();
    (state.device, state.origin, state.key, state.scopes) = (known.device, known.origin, known.key, scopes);
    gateway.set_state(&state).unwrap();
    gateway.set_rules(Arc::clone(rules)).unwrap();
    gateway
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

pub(crate) fn rivals(record: &Record, field: &str) -> Vec<Value> {
    let cell = &record.cells[&FieldName::new(field).unwrap()];
    cell.rivals().iter().map(|e| e.value.as_ref().map_or(Value::Null, |v| v.to_json())).collect()
}

pub(crate) const RULES: &str = r#"
version = 1
sources = ["lab"]
[types.patient]
delete = "keep-and-review"
[types.patient.fields]
alive = "keep-both"
allergies = "set"
notes = "append-only"
visits = "counter"
weight_max = "max"
weight_min = "min"
status = { rule = "ordered", values = ["draft", "in-progress", "completed"] }
registered = "first-write"
national_id = { rule = "priority", sources = ["hub", "lab", "clinic"] }
blood_group = "immutable"
"address.city" = "lww"
sex = { rule = "lww", one_of = ["female", "male"] }
[types.visit]
parents = { patient = "patient" }
[types.form]
delete = "delete-wins"
[types.draft]
delete = "edit-wins"
"#;

pub(crate) fn two() -> World {
    World::new(RULES, &["mw/zomba", "mw/zomba"])
}

/// Both gateways hold the record and are offline.
pub(crate) fn two_with(body: Value) -> World {
    let mut world = two();
    world.put(0, "patient/p1", body);
    world.sync_all();
    world
}

/// Text that nothing makes shorter: `words` words, others for each number.
pub(crate) fn noise(number: u64, words: u64) -> String {
    let word = |nth: u64| {
        let mixed = (number * 131 + nth + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(13);
        format!("{:x}", mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9))
    };
    (0..words).map(word).collect()
}
