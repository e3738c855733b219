//! What waits in quarantine, and what is decided about it: nothing that was let go is less than what came at once, and nothing that
//! was dropped counts.

use std::sync::Arc;

use serde_json::json;
use sync_protocol::edit::render;
use sync_protocol::gateway::Intent;
use sync_protocol::hub::{self, Snapshot as _};
use sync_protocol::id::{Dot, Epoch, FieldName, RecordKey};
use sync_protocol::loopback::settle;
use sync_protocol::merge::{Presence, presence};
use sync_protocol::rules::Rules;
use sync_protocol::value::Value;

use crate::world::{World, object, rivals};

const RULES: &str = r#"
version = 1
[types.patient]
scope = "facility"
[types.patient.fields]
name = { required = true }
tags = "set"
doses = "counter"
[types.ward]
scope = "facility"
[types.visit]
parents = { patient = "patient" }
scope = { parent = "patient" }
[types.visit.fields]
patient = { required = true }
[types.stay]
parents = { ward = "ward" }
[types.stay.fields]
log = "append-only"
tags = "set"
"#;

/// The hub has rules that refuse what its gateways still take.
fn publish_stricter(w: &mut World) {
    let fields = "[types.patient.fields]\nsex = { one_of = [\"female\", \"male\"] }\n";
    let stricter = RULES.replace("version = 1", "version = 2").replace("[types.patient.fields]\n", fields);
    w.hub.publish(Arc::new(Rules::parse(&stricter).unwrap()));
}

fn waiting(w: &World) -> Vec<Dot> {
    w.hub.quarantine().iter().map(|held| held.op.stamp.dot).collect()
}

#[test]
fn what_depends_on_a_record_goes_on_when_a_person_drops_what_held_it_up() {
    let mut w = World::new(RULES, &["mw"]);
    w.put(0, "patient/p", json!({"name": "Asha", "sex": "x"}));
    w.edit(0, "patient/p", json!({"name": "Asha Banda"}));
    w.put(0, "visit/v1", json!({"patient": "p"}));
    publish_stricter(&mut w);
    w.sync(0);
    let held = waiting(&w);
    assert_eq!(held.len(), 3);
    hub::discard(&mut w.hub, held[0], "a slip").unwrap();
    assert!(waiting(&w).is_empty(), "{:?}", w.hub.quarantine());
}

#[test]
fn what_was_corrected_does_not_wait_for_what_was_done_wrong_after_that() {
    let mut w = World::new(RULES, &["mw"]);
    w.put(0, "patient/p", json!({"name": "Asha", "sex": "x"}));
    w.edit(0, "patient/p", json!({"sex": "female"}));
    w.edit(0, "patient/p", json!({"sex": "y"}));
    w.edit(0, "patient/p", json!({"name": "Asha Banda"}));
    publish_stricter(&mut w);
    w.sync(0);
    assert_eq!(waiting(&w).len(), 2, "{:?}", w.hub.quarantine());
    assert_eq!(
        w.hub_record("patient/p").cells[&FieldName::new("sex").unwrap()].value(),
        Some(Value::Text("female".to_owned()))
    );
    assert!(w.hub.quarantine()[0].reason.contains("sex"), "{:?}", w.hub.quarantine());
    // Its gateway hears of those that wait, and of no other.
    let parked: Vec<_> = w.gateways[0].parked().iter().map(|(op, _)| op.stamp.dot).collect();
    assert_eq!(parked, waiting(&w));
    w.edit(0, "patient/p", json!({"sex": "male"}));
    w.sync(0);
    assert!(waiting(&w).is_empty(), "{:?}", w.hub.quarantine());
    w.sync_all();
    assert_eq!(w.body(0, "patient/p"), *json!({"name": "Asha Banda", "sex": "male"}).as_object().unwrap());
}

/// A visit is put under another patient before either of them is here: the first that comes has it as it was then.
#[test]
fn what_waits_goes_as_far_as_what_it_waits_for_has_come() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    for patient in ["p", "q"] {
        w.put(0, "visit/v1", json!({"patient": patient, "note": patient}));
    }
    w.sync(0);
    assert_eq!(waiting(&w).len(), 2);
    for (patient, left) in [("p", 1), ("q", 0)] {
        w.put(1, &format!("patient/{patient}"), json!({"name": "Asha"}));
        w.sync(1);
        assert_eq!(waiting(&w).len(), left, "{:?}", w.hub.quarantine());
        assert_eq!(render(&w.hub_record("visit/v1"))["note"], patient);
    }
    w.sync_all();
}

#[test]
fn what_waited_while_its_gateway_was_given_another_place_counts_by_what_it_had_read() {
    let mut w = World::new(RULES, &["mw/a", "mw/a"]);
    w.put(0, "patient/p", json!({"name": "Asha", "facility": "mw/a", "sex": "female"}));
    w.sync_all();
    w.edit(1, "patient/p", json!({"name": "Asha Banda", "sex": "x"}));
    publish_stricter(&mut w);
    w.sync(1);
    assert_eq!(waiting(&w).len(), 1);
    w.assign(1, &["mw/b"], false);
    w.hub.publish(Arc::new(Rules::parse(&RULES.replace("version = 1", "version = 3")).unwrap()));
    hub::review_all(&mut w.hub).unwrap();
    assert!(waiting(&w).is_empty(), "{:?}", w.hub.quarantine());
    assert!(rivals(&w.hub_record("patient/p"), "name").is_empty(), "it had read what it changed");
}

#[test]
fn dropped_counts_are_not_in_what_is_counted_later() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.put(0, "patient/p", json!({"name": "Asha", "doses": 5}));
    w.sync_all();
    w.edit(0, "patient/p", json!({"doses": 7, "sex": "x"}));
    w.edit(0, "patient/p", json!({"doses": 8}));
    publish_stricter(&mut w);
    w.sync(0);
    let held = waiting(&w);
    assert_eq!(held.len(), 2, "the later one joins the first");
    hub::discard(&mut w.hub, held[0], "counted by mistake").unwrap();
    assert!(waiting(&w).is_empty());
    w.sync_all();
    assert_eq!(w.body(1, "patient/p")["doses"], json!(6));
    w.edit(0, "patient/p", json!({"doses": 10}));
    w.sync_all();
    assert_eq!(w.body(1, "patient/p")["doses"], json!(10), "it goes on from what is shown");
}

/// Dropped before there was a record from which it could be taken: of the gateway whose next change makes it, and of another one.
#[test]
fn dropped_counts_of_a_record_that_comes_later_are_not_in_it() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    for at in [0, 1] {
        w.put(at, "patient/p", json!({"name": "Asha", "doses": 3, "sex": "x"}));
    }
    publish_stricter(&mut w);
    w.sync(0);
    w.sync(1);
    for dot in waiting(&w) {
        hub::discard(&mut w.hub, dot, "a slip").unwrap();
    }
    for at in [0, 1] {
        // Before it hears of that.
        w.put(at, "patient/p", json!({"name": "Asha Banda", "doses": 4, "sex": "male"}));
        w.sync(at);
    }
    w.sync_all();
    assert_eq!(render(&w.hub_record("patient/p"))["doses"], json!(2), "one of each");
}

#[test]
fn a_record_stays_deleted_when_a_count_is_dropped_that_nobody_knew_of() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.put(0, "patient/p", json!({"name": "Asha", "doses": 1}));
    w.sync_all();
    w.edit(1, "patient/p", json!({"doses": 3, "sex": "x"}));
    w.delete(0, "patient/p");
    publish_stricter(&mut w);
    w.sync(0);
    w.sync(1);
    let [held] = waiting(&w)[..] else { panic!("one waits") };
    hub::discard(&mut w.hub, held, "a slip").unwrap();
    let rules = w.hub.rules().unwrap();
    let record = w.hub_record("patient/p");
    assert_eq!(presence(&record, rules.of(&RecordKey::parse("patient/p").unwrap().record_type)), Presence::Deleted);
    assert_eq!(render(&record)["doses"], json!(1));
    w.sync_all();
}

#[test]
fn each_is_decided_on_before_what_came_after_it() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.put(0, "patient/p", json!({"name": "Asha", "tags": ["a"]}));
    w.sync_all();
    w.edit(0, "patient/p", json!({"sex": "x", "tags": ["a", "b"]}));
    w.edit(0, "patient/p", json!({"tags": ["a", "b", "c"]}));
    publish_stricter(&mut w);
    w.sync(0);
    let held: Vec<_> = w.hub.quarantine().into_iter().cloned().collect();
    assert_eq!(held.len(), 2);
    for one in &held {
        assert_eq!(hub::first_held(&mut w.hub, one).unwrap(), held[0].op.stamp.dot);
    }
    for one in &held {
        assert_eq!(hub::first_held(&mut w.hub, one).unwrap(), one.op.stamp.dot);
        hub::release(&mut w.hub, one.op.stamp.dot).unwrap();
    }
    w.sync_all();
    assert_eq!(w.body(1, "patient/p")["tags"], json!(["a", "b", "c"]));
}

/// Three boxes with one card: the second has given its next number to a write of its own, the first and the third have one unsent
/// write in common.
fn three_boxes(common: impl FnOnce(&mut World)) -> World {
    let mut w = World::new(RULES, &["mw"]);
    w.put(0, "patient/p", json!({"name": "Asha", "doses": 1}));
    w.sync_all();
    let older = w.copy_of(0, 1);
    common(&mut w);
    let newer = w.copy_of(0, 2);
    w.gateways.extend([older, newer]);
    w.put(1, "note/of-1", json!({"n": 1}));
    bring(&mut w, 1);
    w
}

fn bring(w: &mut World, at: usize) {
    for _ in 0..3 {
        settle(&mut w.gateways[at], &mut w.hub, &mut w.link, w.now_ms as u64, 20).unwrap();
    }
}

#[test]
fn what_follows_a_copy_of_a_write_that_waits_goes_on_with_it() {
    let mut w = three_boxes(|w| drop(w.put(0, "visit/v1", json!({"patient": "p9"}))));
    bring(&mut w, 0);
    // Before it hears that what it has in common with the first came before.
    w.edit(2, "visit/v1", json!({"note": "of the third"}));
    bring(&mut w, 2);
    assert_eq!(waiting(&w).len(), 2);
    w.put(1, "patient/p9", json!({"name": "Chikondi"}));
    bring(&mut w, 1);
    assert!(waiting(&w).is_empty(), "{:?}", w.hub.quarantine());
    w.sync_all();
    w.sync_all();
    assert_eq!(w.body(0, "visit/v1")["note"], "of the third");
}

#[test]
fn what_a_person_lets_go_frees_what_another_copy_of_the_card_wrote_on_it() {
    let mut w = three_boxes(|w| drop(w.put(0, "patient/q", json!({"name": "Bina", "sex": "x"}))));
    publish_stricter(&mut w);
    bring(&mut w, 0);
    // Without the write before it, it makes no record.
    w.edit(2, "patient/q", json!({"sex": "male"}));
    bring(&mut w, 2);
    let held = waiting(&w);
    assert_eq!(held.len(), 2);
    hub::release(&mut w.hub, held[0]).unwrap();
    assert!(waiting(&w).is_empty(), "{:?}", w.hub.quarantine());
}

#[test]
fn a_count_that_waits_and_came_from_two_boxes_counts_once() {
    let mut w = three_boxes(|w| w.edit(0, "patient/p", json!({"doses": 3, "sex": "x"})));
    publish_stricter(&mut w);
    bring(&mut w, 0);
    assert_eq!(waiting(&w).len(), 1);
    // Before it hears that its copy was dropped.
    w.edit(2, "patient/p", json!({"doses": 4, "sex": null}));
    bring(&mut w, 2);
    let held = waiting(&w);
    for dot in held {
        hub::release(&mut w.hub, dot).unwrap();
    }
    assert!(waiting(&w).is_empty());
    w.sync_all();
    w.sync_all();
    for at in 0..3 {
        assert_eq!(w.body(at, "patient/p")["doses"], json!(4), "gateway {at}: 1, 2 in common, 1 of the third");
    }
}

/// A hub that was put back hears from a district where a patient has moved meanwhile, after a clinic has sent a new visit.
#[test]
fn a_visit_goes_along_when_a_restored_hub_is_shown_that_its_patient_has_moved() {
    let mut w = World::new(RULES, &["mw", "mw/a"]);
    w.put(1, "patient/p", json!({"name": "Asha", "facility": "mw/a"}));
    w.sync_all();
    let backup = w.hub.clone();
    w.hub_write("patient/p", Intent::Put(object(json!({"name": "Asha", "facility": "mw/b"}))));
    w.sync(0);
    w.hub = backup.restored(true, Epoch(77), 0);
    w.put(1, "visit/v1", json!({"patient": "p"}));
    w.sync(1);
    let mut scope = |key: &str| w.hub.record(&RecordKey::parse(key).unwrap()).unwrap().unwrap().scope();
    assert_eq!(scope("visit/v1").as_str(), "mw/a");
    w.sync(0);
    w.sync(0);
    let mut scope = |key: &str| w.hub.record(&RecordKey::parse(key).unwrap()).unwrap().unwrap().scope();
    assert_eq!((scope("patient/p").as_str(), scope("visit/v1").as_str()), ("mw/b", "mw/b"));
    w.sync_all();
}

/// A stay came to the hub before its ward and went on with it; the second gateway has read it, and then the hub was put back to before.
/// Its author has become two boxes: the first knows nothing of it, the third has it unsent.
fn lost_stay(body: serde_json::Value) -> World {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.put(0, "note/n", json!({"n": 1}));
    w.sync_all();
    let (backup, older) = (w.hub.clone(), w.copy_of(0, 1));
    w.put(0, "stay/s1", body);
    let image = w.copy_of(0, 2);
    w.hub_write("ward/w9", Intent::Put(object(json!({"facility": "mw"}))));
    for at in [1, 0, 1] {
        w.sync(at);
    }
    assert!(!w.body(1, "stay/s1").is_empty());
    w.hub = backup.restored(true, Epoch(77), 0);
    w.gateways[0] = older;
    w.gateways.push(image);
    w
}

/// What waits goes when the second gateway shows the ward; then all hear of it.
fn let_go_by_what_is_shown(w: &mut World, count: usize) {
    bring(w, 0);
    bring(w, 2);
    assert_eq!(waiting(w).len(), count);
    bring(w, 1);
    assert!(waiting(w).is_empty(), "{:?}", w.hub.quarantine());
    for at in [0, 1, 2, 0, 1, 2] {
        bring(w, at);
    }
}

/// What was lost was shown by another gateway while it waited under another number.
#[test]
fn an_entry_that_was_shown_does_not_come_twice_when_its_write_is_let_go() {
    let mut w = lost_stay(json!({"ward": "w9", "log": ["seen"]}));
    // Another copy of the card takes the number of the stay, which therefore comes under another one.
    w.put(0, "note/x", json!({"n": 2}));
    let_go_by_what_is_shown(&mut w, 1);
    for at in 0..3 {
        assert_eq!(w.body(at, "stay/s1")["log"], json!(["seen"]), "gateway {at}");
    }
}

/// As above, but two copies of the card wrote to one record, and one of them under the number that others show for the other's.
#[test]
fn what_is_added_to_a_set_is_in_it_when_it_is_let_go_although_others_show_its_number() {
    let mut w = lost_stay(json!({"ward": "w9", "tags": ["x"]}));
    w.put(0, "stay/s1", json!({"ward": "w9", "tags": ["y"]}));
    let_go_by_what_is_shown(&mut w, 2);
    for at in 0..3 {
        assert_eq!(w.body(at, "stay/s1")["tags"], json!(["x", "y"]), "gateway {at}");
    }
}
