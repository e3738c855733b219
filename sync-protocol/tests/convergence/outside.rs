//! Types whose records are shut to gateways that have nothing to do with them (`outside = "hold"`).

use serde_json::json;
use sync_protocol::clock::Hlc;
use sync_protocol::gateway::Store as _;
use sync_protocol::hub::{self, Snapshot as _};
use sync_protocol::id::{Epoch, RecordKey, Scope, Seq};
use sync_protocol::record::Change;

use crate::hostile::{claim, show, text};
use crate::world::World;

const SHUT: &str = r#"
version = 1
[types.patient]
scope = "facility"
outside = "hold"
[types.patient.fields]
allergies = "set"
stock = "counter"
[types.dose]
parents = { patient = "patient" }
scope = { parent = "patient" }
outside = "hold"
"#;

/// What waits, and for whom.
fn waiting(w: &World) -> Vec<(String, bool)> {
    let mut waiting: Vec<_> =
        w.hub.quarantine().iter().map(|held| (held.op.key.to_string(), held.for_person)).collect();
    waiting.sort();
    waiting
}

#[test]
fn where_the_rules_say_so_nothing_is_written_outside_of_the_scopes_of_a_gateway() {
    let mut w = World::new(SHUT, &["mw/a", "mw/b"]);
    w.put(0, "patient/p1", json!({"facility": "mw/a", "name": "Asha", "allergies": ["penicillin"], "stock": 5}));
    w.sync_all();
    let before = w.hub_record("patient/p1");
    w.put(1, "patient/p1", json!({"facility": "mw/b", "name": "Other", "allergies": ["dust"], "stock": 9}));
    w.put(1, "patient/p2", json!({"facility": "mw/a", "name": "put there"}));
    w.put(1, "dose/d1", json!({"patient": "p1", "vaccine": "measles"}));
    w.put(1, "patient/p3", json!({"facility": "mw/b", "name": "of its own"}));
    w.sync(1);
    let held = ["dose/d1", "patient/p1", "patient/p2"].map(|key| (key.to_owned(), true));
    assert_eq!(waiting(&w), held);
    assert_eq!(w.hub_record("patient/p1"), before);
    assert!(w.hub.record(&RecordKey::parse("patient/p2").unwrap()).unwrap().is_none());
    assert_eq!(w.gateways[1].parked().len(), 3, "its author is told");
    assert_eq!(w.hub_record("patient/p3").scope(), Scope::new("mw/b").unwrap());
    // A person says that it is right.
    let dot = w.hub.quarantine().iter().find(|held| held.op.key.to_string() == "patient/p1").unwrap().op.stamp.dot;
    assert!(hub::release(&mut w.hub, dot).unwrap());
    w.sync(0);
    assert_eq!(w.body(0, "patient/p1")["allergies"], json!(["dust", "penicillin"]));
}

#[test]
fn where_the_rules_say_so_a_child_waits_for_its_parent_and_then_for_a_person_if_that_is_elsewhere() {
    let mut w = World::new(SHUT, &["mw/a", "mw/b"]);
    w.put(1, "dose/d1", json!({"patient": "p1", "vaccine": "measles"}));
    w.put(1, "dose/d2", json!({"patient": "p2", "vaccine": "measles"}));
    w.sync(1);
    assert_eq!(waiting(&w), ["dose/d1", "dose/d2"].map(|key| (key.to_owned(), false)));
    w.put(0, "patient/p1", json!({"facility": "mw/a"}));
    w.sync(0);
    w.put(1, "patient/p2", json!({"facility": "mw/b"}));
    w.sync(1);
    assert_eq!(waiting(&w), [("dose/d1".to_owned(), true)]);
    assert_eq!(w.hub_record("dose/d2").scope(), Scope::new("mw/b").unwrap());
}

#[test]
fn where_the_rules_say_so_who_had_a_record_in_view_writes_to_it_all_the_same() {
    let mut w = World::new(SHUT, &["mw/a", "mw/b"]);
    w.put(1, "patient/p1", json!({"facility": "mw/b", "name": "Asha"}));
    w.sync_all();
    w.put(1, "patient/p1", json!({"facility": "mw/a"}));
    w.sync_all();
    claim(&mut w, 1, "patient/p1", &[("name", Change::put(text("late")))]);
    w.sync_all();
    assert_eq!((waiting(&w), w.body(0, "patient/p1")["name"].clone()), (vec![], json!("late")));
}

#[test]
fn each_write_there_waits_for_a_person_also_when_one_before_it_was_released_or_it_came_while_its_gateway_was_shut_out()
{
    let mut w = World::new(SHUT, &["mw/a", "mw/b"]);
    w.put(0, "patient/p1", json!({"facility": "mw/a", "name": "Asha"}));
    w.sync_all();
    for name in ["one", "two"] {
        claim(&mut w, 1, "patient/p1", &[("name", Change::put(text(name)))]);
    }
    w.sync(1);
    let all = || ("patient/p1".to_owned(), true);
    assert_eq!(waiting(&w), [all(), all()]);
    let first = w.hub.quarantine()[0].op.stamp.dot;
    assert!(hub::release(&mut w.hub, first).unwrap());
    assert_eq!(waiting(&w), [all()]);
    let device = w.gateways[1].state().unwrap().device;
    w.hub.revoke(device);
    claim(&mut w, 1, "patient/p1", &[("name", Change::put(text("three")))]);
    w.sync(1);
    hub::allow(&mut w.hub, device).unwrap();
    assert_eq!(waiting(&w), [all(), all()]);
}

#[test]
fn what_is_shown_to_a_hub_that_was_put_back_is_not_let_in_there_either() {
    let mut w = World::new(SHUT, &["mw/a", "mw/b"]);
    w.put(0, "patient/p1", json!({"facility": "mw/a", "name": "Asha"}));
    w.put(1, "patient/p2", json!({"facility": "mw/b", "name": "Bina"}));
    w.sync_all();
    let backup = w.hub.clone();
    w.edit(1, "patient/p2", json!({"name": "of the time that was lost"}));
    w.sync_all();
    w.hub = backup.restored(true, Epoch(77), 0);
    let before = w.hub_record("patient/p1");
    let late = (Seq(900), Hlc::at(w.now_ms as u64 + 30_000));
    show(&mut w, late, "patient/p1", &[("phone", text("forged"))]);
    assert_eq!(w.hub_record("patient/p1"), before);
    w.sync_all();
    assert_eq!(w.body(1, "patient/p2")["name"], "of the time that was lost");
}
