//! Two gateways and a hub in memory: what the protocol promises, each rule by name.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sync_protocol::clock::TimeQuality;
use sync_protocol::digest::etag;
use sync_protocol::edit::render;
use sync_protocol::gateway::{self, Capture, GatewayState, Intent, Store as _};
use sync_protocol::hub::{self, Snapshot as _, Store as _};
use sync_protocol::id::{Author, FieldName, RecordKey, Scope, Source};
use sync_protocol::identity::DeviceKey;
use sync_protocol::loopback::{Link, Traffic, exchange, settle};
use sync_protocol::memory::{MemoryGateway, MemoryHub};
use sync_protocol::merge::{Presence, presence};
use sync_protocol::record::Record;
use sync_protocol::rules::Rules;

struct World {
    hub: MemoryHub,
    gateways: Vec<MemoryGateway>,
    link: Link,
    now_ms: i64,
}

impl World {
    fn new(rules: &str, scopes: &[&str]) -> World {
        let rules = Arc::new(Rules::parse(rules).unwrap());
        let mut hub = MemoryHub::default();
        hub.publish(Arc::clone(&rules));
        let gateways = scopes.iter().map(|scope| enrolled(&mut hub, &rules, scope)).collect();
        World { hub, gateways, link: Link::new().unwrap(), now_ms: 1_780_000_000_000 }
    }

    fn capture(&mut self, at: usize, wish: Capture) -> gateway::Captured {
        gateway::capture(&mut self.gateways[at], wish).unwrap()
    }

    fn wish(&mut self, key: &str, intent: Intent) -> Capture {
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

    fn put(&mut self, at: usize, key: &str, body: Value) -> gateway::Captured {
        let wish = self.wish(key, Intent::Put(object(body)));
        self.capture(at, wish)
    }

    /// Changes some fields of what is shown.
    fn edit(&mut self, at: usize, key: &str, fields: Value) {
        let mut body = self.body(at, key);
        body.extend(object(fields));
        self.put(at, key, Value::Object(body));
    }

    fn delete(&mut self, at: usize, key: &str) {
        let wish = self.wish(key, Intent::Delete);
        self.capture(at, wish);
    }

    fn hub_write(&mut self, key: &str, intent: Intent) {
        let wish = self.wish(key, intent);
        hub::write(&mut self.hub, wish, &Scope::root()).unwrap();
    }

    fn sync(&mut self, at: usize) -> Traffic {
        settle(&mut self.gateways[at], &mut self.hub, &mut self.link, self.now_ms as u64, 50).unwrap()
    }

    /// Everyone syncs until nobody has news, and all must agree.
    fn sync_all(&mut self) {
        for _ in 0..2 {
            for at in 0..self.gateways.len() {
                self.sync(at);
            }
        }
        self.assert_equal();
    }

    fn assert_equal(&mut self) {
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

    fn record(&self, at: usize, key: &str) -> Record {
        self.gateways[at].record(&RecordKey::parse(key).unwrap()).unwrap().visible.clone()
    }

    fn body(&self, at: usize, key: &str) -> Map<String, Value> {
        render(&self.record(at, key))
    }

    fn hub_record(&mut self, key: &str) -> Record {
        self.hub.record(&RecordKey::parse(key).unwrap()).unwrap().unwrap()
    }

    fn shown(&mut self, key: &str, field: &str) -> Value {
        self.body(0, key).get(field).cloned().unwrap_or(Value::Null)
    }
}

fn enrolled(hub: &mut MemoryHub, rules: &Arc<Rules>, scope: &str) -> MemoryGateway {
    let scopes = vec![Scope::new(scope).unwrap()];
    let known = hub.enroll(scopes.clone(), Source::CLINIC, DeviceKey([7; 32]));
    let mut gateway = MemoryGateway::default();
    let mut state = gateway.state().unwrap();
    (state.device, state.origin, state.key, state.scopes) = (known.device, known.origin, known.key, scopes);
    gateway.set_state(&state).unwrap();
    gateway.set_rules(Arc::clone(rules)).unwrap();
    gateway
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn rivals(record: &Record, field: &str) -> Vec<Value> {
    let cell = &record.cells[&FieldName::new(field).unwrap()];
    cell.rivals().iter().map(|e| e.value.as_ref().map_or(Value::Null, |v| v.to_json())).collect()
}

const RULES: &str = r#"
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

fn two() -> World {
    World::new(RULES, &["mw/zomba", "mw/zomba"])
}

/// Both gateways hold the record and are offline.
fn two_with(body: Value) -> World {
    let mut world = two();
    world.put(0, "patient/p1", body);
    world.sync_all();
    world
}

#[test]
fn different_fields_edited_on_both_sides_both_survive() {
    let mut w =
        two_with(json!({"name": "Asha", "village": "Chingale", "address": {"city": "Zomba", "chief": "Mlumbe"}}));
    w.edit(0, "patient/p1", json!({"village": "Thondwe"}));
    w.edit(1, "patient/p1", json!({"name": "Asha B.", "address": {"city": "Domasi", "chief": "Mlumbe"}}));
    w.sync_all();
    let body = Value::Object(w.body(1, "patient/p1"));
    assert_eq!(
        body,
        json!({"name": "Asha B.", "village": "Thondwe", "address": {"city": "Domasi", "chief": "Mlumbe"}})
    );
    assert!(w.record(0, "patient/p1").conflicts().is_empty());
}

#[test]
fn lww_shows_the_later_value_and_keeps_the_other() {
    let mut w = two_with(json!({"phone": "1"}));
    w.edit(1, "patient/p1", json!({"phone": "2"}));
    w.edit(0, "patient/p1", json!({"phone": "3"}));
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "phone"), json!("3"));
    assert_eq!(rivals(&w.record(1, "patient/p1"), "phone"), [json!("2")]);
    w.hub_write(
        "patient/p1",
        Intent::Settle { field: FieldName::new("phone").unwrap(), value: Some(json!("2")), why: "called it".into() },
    );
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "phone"), json!("2"));
    assert!(w.record(0, "patient/p1").conflicts().is_empty());
    assert!(w.record(1, "patient/p1").conflicts().is_empty());
    let lost: Vec<_> = w.hub.replaced().iter().map(|(_, s)| s.entry.value.clone().unwrap().to_json()).collect();
    assert!(lost.contains(&json!("3")), "the loser of the settlement is in the history: {lost:?}");
}

#[test]
fn keep_both_keeps_both_until_a_person_settles_at_a_gateway() {
    let mut w = two_with(json!({"alive": "alive"}));
    w.edit(0, "patient/p1", json!({"alive": "dead"}));
    w.edit(1, "patient/p1", json!({"alive": "unknown"}));
    w.sync_all();
    assert_eq!(w.hub_record("patient/p1").conflicts().len(), 1);
    let settle =
        Intent::Settle { field: FieldName::new("alive").unwrap(), value: Some(json!("alive")), why: "met her".into() };
    let wish = w.wish("patient/p1", settle);
    w.capture(1, wish);
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "alive"), json!("alive"));
    assert!(w.hub_record("patient/p1").conflicts().is_empty());
}

#[test]
fn a_set_keeps_a_concurrent_add_and_honours_a_remove() {
    let mut w = two_with(json!({"allergies": ["penicillin", "latex"]}));
    w.edit(0, "patient/p1", json!({"allergies": ["penicillin", "latex", "peanut"]}));
    w.edit(1, "patient/p1", json!({"allergies": ["penicillin"]}));
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "allergies"), json!(["peanut", "penicillin"]));
    // Removed here, added again there without knowing of the removal: the add wins.
    w.edit(0, "patient/p1", json!({"allergies": ["peanut"]}));
    w.edit(1, "patient/p1", json!({"allergies": ["peanut"]}));
    w.edit(1, "patient/p1", json!({"allergies": ["peanut", "penicillin"]}));
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "allergies"), json!(["peanut", "penicillin"]));
}

#[test]
fn append_only_keeps_every_entry_of_both_sides() {
    let mut w = two_with(json!({"notes": ["a"]}));
    w.edit(0, "patient/p1", json!({"notes": ["a", "b"]}));
    w.edit(1, "patient/p1", json!({"notes": ["a", "c"]}));
    w.edit(1, "patient/p1", json!({"notes": []}));
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "notes"), json!(["a", "b", "c"]));
}

#[test]
fn a_counter_adds_up_what_both_sides_did() {
    let mut w = two_with(json!({"visits": 10}));
    w.edit(0, "patient/p1", json!({"visits": 15}));
    w.edit(1, "patient/p1", json!({"visits": 7}));
    w.edit(1, "patient/p1", json!({"visits": 9}));
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "visits"), json!(14));
}

#[test]
fn max_min_and_ordered_go_one_way_only() {
    let mut w = two_with(json!({"weight_max": 9.5, "weight_min": 9.5, "status": "draft"}));
    w.edit(0, "patient/p1", json!({"weight_max": 12, "weight_min": 8, "status": "completed"}));
    w.edit(1, "patient/p1", json!({"weight_max": 11, "weight_min": 7, "status": "in-progress"}));
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "weight_max"), json!(12));
    assert_eq!(w.shown("patient/p1", "weight_min"), json!(7));
    assert_eq!(w.shown("patient/p1", "status"), json!("completed"));
    let back = w.wish("patient/p1", Intent::Put(object(json!({"status": "draft"}))));
    let refused = gateway::capture(&mut w.gateways[0], back).unwrap_err();
    assert!(matches!(refused, gateway::Refusal::Edit(_)), "{refused}");
}

#[test]
fn first_write_and_immutable_keep_the_first_and_show_the_other() {
    let mut w = two();
    w.put(0, "patient/p1", json!({"registered": "2026-01-02", "blood_group": "A"}));
    w.put(1, "patient/p1", json!({"registered": "2026-01-03", "blood_group": "B"}));
    // The later gateway syncs first: the order of arrival decides nothing.
    w.sync(1);
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "registered"), json!("2026-01-02"));
    assert_eq!(w.shown("patient/p1", "blood_group"), json!("A"));
    assert_eq!(rivals(&w.record(1, "patient/p1"), "blood_group"), [json!("B")]);
    w.hub_write(
        "patient/p1",
        Intent::Settle {
            field: FieldName::new("blood_group").unwrap(),
            value: Some(json!("B")),
            why: "lab slip".into(),
        },
    );
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "blood_group"), json!("B"));
}

#[test]
fn priority_lets_the_system_of_record_win_over_a_later_clinic() {
    let mut w = two_with(json!({"national_id": "1"}));
    w.hub_write("patient/p1", Intent::Put(object(json!({"national_id": "2"}))));
    w.edit(0, "patient/p1", json!({"national_id": "3"}));
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "national_id"), json!("2"));
    assert_eq!(rivals(&w.record(1, "patient/p1"), "national_id"), [json!("3")]);
}

#[test]
fn a_delete_meets_an_edit_by_the_rule_of_the_type() {
    for (key, expected) in
        [("patient/p1", Presence::Review), ("form/f1", Presence::Deleted), ("draft/d1", Presence::Alive)]
    {
        let mut w = two();
        w.put(0, key, json!({"a": 1, "b": 1}));
        w.sync_all();
        w.delete(0, key);
        w.edit(1, key, json!({"a": 2}));
        w.sync_all();
        let rules = w.gateways[1].rules().unwrap();
        let key = RecordKey::parse(key).unwrap();
        assert_eq!(presence(&w.record(1, &key.to_string()), rules.of(&key.record_type)), expected, "{key}");
    }
}

#[test]
fn a_delete_that_knew_everything_deletes_and_a_new_put_brings_back() {
    let mut w = two_with(json!({"name": "Asha"}));
    w.delete(1, "patient/p1");
    w.sync_all();
    let rules = w.gateways[0].rules().unwrap();
    let key = RecordKey::parse("patient/p1").unwrap();
    assert_eq!(presence(&w.record(0, "patient/p1"), rules.of(&key.record_type)), Presence::Deleted);
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    assert_eq!(presence(&w.record(1, "patient/p1"), rules.of(&key.record_type)), Presence::Alive);
}

#[test]
fn an_edit_of_a_stale_copy_at_one_gateway_merges_field_by_field() {
    let mut w = two_with(json!({"name": "Asha", "phone": "1", "alive": "alive"}));
    let read = w.record(0, "patient/p1");
    w.edit(0, "patient/p1", json!({"phone": "2", "alive": "dead"}));
    let mut stale =
        w.wish("patient/p1", Intent::Put(object(json!({"name": "Asha B.", "phone": "1", "alive": "unknown"}))));
    stale.base = Some(read);
    let done = w.capture(0, stale);
    assert_eq!(done.conflicts, [FieldName::new("alive").unwrap()]);
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "phone"), json!("2"));
    assert_eq!(w.shown("patient/p1", "name"), json!("Asha B."));
    assert_eq!(rivals(&w.hub_record("patient/p1"), "alive").len(), 1);
}

#[test]
fn an_idle_exchange_is_small_and_own_writes_never_come_back() {
    let mut w = two_with(json!({"name": "Asha", "visits": 1, "allergies": ["latex"], "notes": ["a"]}));
    w.edit(0, "patient/p1", json!({"name": "B", "visits": 2, "allergies": ["latex", "dust"], "notes": ["a", "b"]}));
    let pushed = w.sync(0);
    assert_eq!((pushed.ops, pushed.rows), (1, 0), "own writes were sent back");
    w.sync(1);
    w.assert_equal();
    let idle = exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    assert!(!idle.again);
    assert!(idle.up_bytes + idle.down_bytes <= 110, "idle exchange of {} + {} bytes", idle.up_bytes, idle.down_bytes);
}

#[test]
fn one_bad_record_holds_up_only_its_dependants() {
    let mut w = World::new("version = 1\n", &["mw", "mw"]);
    let newer = Rules::parse(&RULES.replace("version = 1", "version = 2")).unwrap();
    w.hub.publish(Arc::new(newer));
    w.put(0, "patient/bad", json!({"sex": "x"}));
    for n in 0..3 {
        w.put(0, &format!("visit/v{n}"), json!({"patient": "bad"}));
    }
    w.put(0, "patient/good", json!({"sex": "female"}));
    w.sync(0);
    assert_eq!(w.hub.quarantine().len(), 4);
    assert_eq!(w.hub.records().count(), 1);
    let parked: Vec<String> = w.gateways[0].parked().iter().map(|(op, why)| format!("{}: {why}", op.key)).collect();
    assert!(parked[0].contains("patient/bad: sex must be one of"), "{parked:?}");
    assert!(parked[1].contains("waits for patient/bad"), "{parked:?}");
    w.edit(0, "patient/bad", json!({"sex": "male"}));
    w.sync_all();
    assert_eq!(w.hub.quarantine().len(), 0);
    assert_eq!(w.hub.records().count(), 5);
    assert!(w.gateways[0].parked().is_empty());
}

#[test]
fn a_record_that_leaves_the_catchment_leaves_the_box_and_a_late_write_still_arrives() {
    let mut w = World::new("version = 1\n[types.patient]\nscope = \"facility\"\n", &["mw/zomba/a", "mw/zomba/b", "mw"]);
    w.put(0, "patient/p1", json!({"facility": "mw/zomba/a", "name": "Asha"}));
    w.sync_all();
    assert!(w.gateways[1].records().next().is_none());
    w.hub_write("patient/p1", Intent::Put(object(json!({"facility": "mw/zomba/b", "name": "Asha"}))));
    // Written before the news of the move arrives.
    w.edit(0, "patient/p1", json!({"phone": "1"}));
    w.sync_all();
    assert!(w.gateways[0].records().next().is_none());
    assert_eq!(w.body(1, "patient/p1")["phone"], json!("1"));
    // Written by somebody who only knows the id.
    w.put(0, "patient/p1", json!({"facility": "mw/zomba/b", "phone": "2"}));
    w.sync_all();
    assert_eq!(w.hub_record("patient/p1").scope().as_str(), "mw/zomba/b");
}

#[test]
fn a_difference_is_found_by_digest_and_mended_record_by_record() {
    let mut w = two();
    for n in 0..200 {
        w.put(0, &format!("patient/p{n}"), json!({"name": format!("n{n}")}));
    }
    w.sync_all();
    let mut damaged = MemoryGateway::clone(&w.gateways[1]);
    for n in 0..20 {
        damaged.forget(&RecordKey::parse(&format!("patient/p{n}")).unwrap()).unwrap();
    }
    w.gateways[1] = damaged;
    let first = exchange(&mut w.gateways[1], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    assert!(!first.agrees && first.again);
    let second = exchange(&mut w.gateways[1], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    assert_eq!(second.rows, 20);
    assert!(second.agrees);
    assert_eq!(w.gateways[1].records().count(), 200);
    assert_eq!(w.gateways[1].state().unwrap().repairs, 1);
}

/// Both cards of a clone write and sync in turns; each in its own box, or neither knows its box.
fn run_twins(prints: [[u8; 8]; 2]) -> World {
    let mut w = World::new("version = 1\n[types.stock.fields]\nused = \"counter\"\n", &["mw"]);
    w.gateways[0].set_print(prints[0]);
    w.put(0, "stock/s1", json!({"used": 1}));
    w.sync_all();
    let mut clone = w.gateways[0].clone();
    clone.set_print(prints[1]);
    let mut state = clone.state().unwrap();
    // It was started anew, as a box with a copied card is.
    state.told = false;
    clone.set_state(&state).unwrap();
    w.gateways.push(clone);
    for n in 0..4 {
        for at in 0..2 {
            w.put(at, &format!("patient/box{at}-{n}"), json!({"name": format!("n{n}")}));
            let used = w.body(at, "stock/s1")["used"].as_i64().unwrap();
            w.edit(at, "stock/s1", json!({"used": used + 1}));
            settle(&mut w.gateways[at], &mut w.hub, &mut w.link, w.now_ms as u64, 20).unwrap();
        }
    }
    w.sync_all();
    w.sync_all();
    w
}

#[test]
fn a_card_that_runs_in_two_boxes_becomes_two_gateways_and_neither_loses_a_record() {
    for prints in [[[1; 8], [2; 8]], [[1; 8], [1; 8]], [[0; 8], [0; 8]]] {
        let mut w = run_twins(prints);
        let of_boxes = w.hub.records().filter(|(key, _)| key.id.as_str().starts_with("box")).count();
        assert_eq!(of_boxes, 8, "{prints:?}");
        for at in 0..2 {
            assert_eq!(w.body(at, "stock/s1")["used"], json!(9), "{prints:?}: nothing counted twice or not at all");
            assert_eq!(w.record(at, "patient/box1-3"), w.hub_record("patient/box1-3"), "{prints:?}");
        }
        let [a, b] = [0, 1].map(|at| w.gateways[at].state().unwrap());
        assert_ne!(a.origin, b.origin, "{prints:?}");
        assert!(a.device != b.device || prints[0] == prints[1], "two that can be told apart get two names");
    }
}

#[test]
fn a_twin_that_never_writes_is_found_at_its_second_sync() {
    let mut w = two();
    w.gateways[0].set_print([1; 8]);
    w.sync_all();
    let mut clone = w.gateways[0].clone();
    clone.set_print([2; 8]);
    w.gateways.push(clone);
    for _ in 0..2 {
        for at in [0, 2] {
            exchange(&mut w.gateways[at], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
        }
    }
    assert_ne!(w.gateways[0].state().unwrap().device, w.gateways[2].state().unwrap().device);
}

#[test]
fn a_card_that_moves_to_another_box_goes_on_under_another_origin() {
    let mut w = two();
    w.gateways[0].set_print([1; 8]);
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    let before = w.gateways[0].state().unwrap();
    w.gateways[0].set_print([2; 8]);
    w.gateways[0].set_state(&GatewayState { told: false, ..before.clone() }).unwrap();
    w.put(0, "patient/p2", json!({"name": "Bina"}));
    w.sync_all();
    let after = w.gateways[0].state().unwrap();
    assert!(after.origin != before.origin && after.device == before.device);
    assert_eq!(w.hub.records().count(), 2);
}

#[test]
fn yesterdays_card_in_its_own_box_gets_back_what_it_lost() {
    let mut w = two();
    w.gateways[0].set_print([1; 8]);
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    let mut image = w.gateways[0].clone();
    for n in 2..6 {
        w.put(0, &format!("patient/p{n}"), json!({"name": "Bina"}));
        w.sync_all();
    }
    let state = image.state().unwrap();
    image.set_state(&GatewayState { told: false, ..state.clone() }).unwrap();
    w.gateways[0] = image;
    w.put(0, "patient/p9", json!({"name": "Chisomo"}));
    w.sync_all();
    assert_eq!(w.body(0, "patient/p5")["name"], json!("Bina"));
    assert_eq!(w.hub.records().count(), 6);
    assert_eq!(w.gateways[0].state().unwrap().device, state.device);
}

const RECOVERY: &str = r#"
version = 1
[types.stock.fields]
used = "counter"
[types.case.fields]
log = { rule = "append-only" }
tags = { rule = "set" }
"#;

/// A hub is put back to what it was before much happened: `said` by an operator who says so, or not. One gateway of three
/// is gone for good.
fn put_back(said: bool) -> World {
    let mut w = World::new(RECOVERY, &["mw", "mw", "mw"]);
    w.put(0, "patient/p1", json!({"name": "Asha", "phone": "1"}));
    w.put(1, "stock/s1", json!({"used": 1}));
    w.put(2, "case/c1", json!({"log": ["a"], "tags": ["x"]}));
    w.sync_all();
    let backup = w.hub.clone();
    // The week that is lost.
    w.edit(0, "patient/p1", json!({"phone": "2"}));
    w.edit(1, "stock/s1", json!({"used": 4}));
    w.edit(2, "case/c1", json!({"log": ["a", "b"], "tags": ["x", "y"]}));
    w.put(2, "patient/p2", json!({"name": "of the gateway that is gone"}));
    w.edit(2, "patient/p1", json!({"name": "Asha Phiri"}));
    w.sync_all();
    w.edit(1, "patient/p1", json!({"phone": "3"}));
    w.edit(0, "stock/s1", json!({"used": 9}));
    w.sync_all();
    // Not sent yet when it happens.
    w.put(0, "patient/p3", json!({"name": "unsent"}));
    w.gateways.pop();
    w.hub = backup.restored(said, sync_protocol::id::Epoch(77));
    // The new hub goes on meanwhile, with the same numbers for other changes.
    for n in 0..30 {
        let wish = w.wish(&format!("note/n{n}"), Intent::Put(object(json!({"n": n}))));
        hub::write(&mut w.hub, wish, &Scope::new("mw").unwrap()).unwrap();
    }
    w.sync_all();
    w.sync_all();
    w
}

#[test]
fn a_hub_from_a_backup_gets_back_what_it_lost_and_nobody_has_to_do_anything() {
    for said in [true, false] {
        let mut w = put_back(said);
        for at in 0..2 {
            assert_eq!(w.body(at, "patient/p1"), object(json!({"name": "Asha Phiri", "phone": "3"})), "said {said}");
            assert_eq!(w.body(at, "stock/s1")["used"], json!(9), "said {said}");
            assert_eq!(w.body(at, "case/c1"), object(json!({"log": ["a", "b"], "tags": ["x", "y"]})), "said {said}");
            assert_eq!(w.body(at, "patient/p2")["name"], json!("of the gateway that is gone"), "said {said}");
            assert_eq!(w.body(at, "patient/p3")["name"], json!("unsent"));
            assert_eq!(w.body(at, "note/n7")["n"], json!(7));
            let state = w.gateways[at].state().unwrap();
            assert!(state.recovers.is_none() && state.wanted.is_empty() && state.bounds.is_empty(), "{state:?}");
            let idle = exchange(&mut w.gateways[at], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
            assert!(idle.agrees && !idle.again && idle.rows == 0, "{idle:?}");
        }
    }
}

#[test]
fn an_edit_made_after_a_restore_meets_the_lost_one_as_a_rival() {
    let mut w = World::new("version = 1\n[types.patient]\ndefault = \"keep-both\"\n", &["mw", "mw"]);
    w.put(0, "patient/p1", json!({"phone": "1"}));
    w.sync_all();
    let backup = w.hub.clone();
    for n in 0..20 {
        w.put(1, &format!("note/n{n}"), json!({"n": n}));
    }
    w.sync_all();
    // Had seen numbers that the hub will give again, for other changes.
    w.edit(0, "patient/p1", json!({"phone": "2"}));
    w.sync_all();
    w.hub = backup.restored(true, sync_protocol::id::Epoch(77));
    let wish = w.wish("patient/p1", Intent::Put(object(json!({"phone": "9"}))));
    hub::write(&mut w.hub, wish, &Scope::new("mw").unwrap()).unwrap();
    w.sync_all();
    w.sync_all();
    assert_eq!(w.hub_record("patient/p1").conflicts().len(), 1, "both stand until a person settles them");
    assert_eq!(w.record(0, "patient/p1"), w.hub_record("patient/p1"));
    assert_eq!(w.record(1, "patient/p1"), w.hub_record("patient/p1"));
}

#[test]
fn what_was_written_before_enrolment_stays_with_the_gateway_that_wrote_it() {
    let mut w = two();
    w.gateways.push(MemoryGateway::default());
    w.put(2, "patient/p1", json!({"name": "Asha"}));
    let home = Scope::new("mw/zomba/c").unwrap();
    let known = w.hub.enroll(vec![home.clone()], Source::CLINIC, DeviceKey([9; 32]));
    let state = w.gateways[2].state().unwrap();
    let state = GatewayState { device: known.device, key: known.key, scopes: known.scopes, ..state };
    w.gateways[2].set_state(&state).unwrap();
    gateway::adopt_origin(&mut w.gateways[2], known.origin).unwrap();
    w.sync_all();
    assert_eq!(w.body(2, "patient/p1")["name"], json!("Asha"));
    assert_eq!(w.hub_record("patient/p1").scope(), home);
}

#[test]
fn what_is_behind_a_lost_op_arrives_all_the_same() {
    let mut w = two();
    w.put(0, "patient/p0", json!({"name": "n0"}));
    w.sync_all();
    let dots: Vec<_> =
        (1..6).map(|n| w.put(0, &format!("patient/p{n}"), json!({"name": format!("n{n}")})).op.unwrap()).collect();
    w.gateways[0].lose(dots[2]);
    w.sync_all();
    let arrived: Vec<String> = w.hub.records().map(|(key, _)| key.to_string()).collect();
    assert_eq!(arrived, ["patient/p0", "patient/p1", "patient/p2", "patient/p4", "patient/p5"]);
    assert_ne!(w.gateways[0].state().unwrap().origin, dots[2].origin, "it goes on under another origin");
}

#[test]
fn nobody_speaks_as_a_kind_of_place_that_it_is_not() {
    let rules = "version = 1\nsources = [\"lab\"]\n";
    let mut w = World::new(rules, &["mw", "mw"]);
    let mut state = w.gateways[1].state().unwrap();
    state.source = Source(2);
    w.gateways[1].set_state(&state).unwrap();
    w.put(1, "test/t1", json!({"result": "forged"}));
    w.sync_all();
    assert!(w.hub.records().next().is_none());
    let [(_, reason)] = w.gateways[1].parked()[..] else { panic!("one is parked") };
    assert!(reason.contains("another kind of place"), "{reason}");
}

#[test]
fn a_record_does_not_outgrow_a_frame() {
    let mut w = World::new("version = 1\n[types.case.fields]\nlog = { rule = \"append-only\" }\n", &["mw"]);
    let chapter = "x".repeat(200_000);
    for n in 0..5 {
        w.put(0, "case/c1", json!({"log": [format!("{n}{chapter}")]}));
    }
    let wish = w.wish("case/c1", Intent::Put(object(json!({"log": [format!("6{chapter}")]}))));
    let refused = gateway::capture(&mut w.gateways[0], wish).unwrap_err();
    assert!(refused.to_string().contains("at most 1048576 bytes"), "{refused}");
}

#[test]
fn an_etag_stays_the_same_when_the_hub_confirms() {
    let mut w = two();
    let done = w.put(0, "patient/p1", json!({"name": "Asha", "visits": 3, "allergies": ["x"]}));
    w.sync_all();
    assert_eq!(etag(&w.record(0, "patient/p1")), done.etag);
}

#[test]
fn urgent_records_go_first_and_do_not_break_the_watermark_of_the_others() {
    let mut w = World::new("version = 1\n[types.alert]\nstream = \"urgent\"\n", &["mw", "mw"]);
    for n in 0..500 {
        w.put(0, &format!("visit/v{n}"), json!({"n": n, "text": format!("visit number {n} of this long day")}));
    }
    w.put(0, "alert/a1", json!({"what": "referral"}));
    w.link.up_bytes = 1;
    exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    let arrived: Vec<String> = w.hub.records().map(|(key, _)| key.to_string()).collect();
    assert_eq!(arrived, ["alert/a1"]);
    w.link.up_bytes = 1 << 20;
    w.sync_all();
    assert_eq!(w.hub.records().count(), 501);
}

#[test]
fn a_gateway_that_gets_another_catchment_loads_it_and_one_that_loses_it_lets_go() {
    let mut w = World::new("version = 1\n[types.patient]\nscope = \"facility\"\n", &["mw/a", "mw/b"]);
    for n in 0..300 {
        w.put(0, &format!("patient/a{n}"), json!({"facility": "mw/a", "n": n}));
        w.put(1, &format!("patient/b{n}"), json!({"facility": "mw/b", "n": n}));
    }
    w.sync_all();
    assert_eq!(w.gateways[0].records().count(), 300);
    let assign = |w: &mut World, scopes: &[&str]| {
        let device = w.gateways[0].state().unwrap().device;
        let mut known = w.hub.gateway(device).unwrap().unwrap();
        known.scopes = scopes.iter().map(|s| Scope::new(s).unwrap()).collect();
        (known.view, known.backfill) = (hub::ViewNews::Changed, true);
        w.hub.set_gateway(&known).unwrap();
    };
    assign(&mut w, &["mw/a", "mw/b"]);
    // In small steps, and with a change in the middle: nothing may be missed between the two lanes.
    w.link.down_bytes = 1_000;
    for _ in 0..4 {
        exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    }
    w.edit(1, "patient/b299", json!({"n": -1}));
    w.sync(1);
    w.link.down_bytes = 1 << 20;
    w.sync_all();
    assert_eq!(w.gateways[0].records().count(), 600);
    assert_eq!(w.gateways[0].state().unwrap().backfill, None);
    assign(&mut w, &["mw/b"]);
    w.sync_all();
    assert_eq!(w.gateways[0].records().count(), 300);
}

#[test]
fn after_a_lost_answer_nothing_is_sent_twice_without_asking() {
    let mut w = two();
    for n in 0..50 {
        w.put(0, &format!("patient/p{n}"), json!({"name": format!("n{n}")}));
    }
    let before = MemoryGateway::clone(&w.gateways[0]);
    exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    // The answer never arrived: the gateway is as it was, but knows that something was under way.
    w.gateways[0] = before;
    let mut state = w.gateways[0].state().unwrap();
    state.unsure = true;
    w.gateways[0].set_state(&state).unwrap();
    let asked = exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    assert_eq!(asked.ops, 0);
    assert_eq!(w.gateways[0].state().unwrap().unsent(), 0);
    w.sync_all();
    assert_eq!(w.hub.records().count(), 50);
}
