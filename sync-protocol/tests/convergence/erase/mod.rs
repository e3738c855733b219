//! Erasing a record: its values go everywhere, what knew of it stays, and all agree afterwards.

mod anywhere;
mod restored;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use sync_protocol::edit::render;
use sync_protocol::erase::{Erased, Erasure, is_after, knows, name_of};
use sync_protocol::gateway::{self, Fate, Intent, Store as _};
use sync_protocol::hub::{self, Snapshot as _, Wiped};
use sync_protocol::id::{Dot, Epoch, FieldName, Origin, RecordKey, Scope, Seq, Stream};
use sync_protocol::loopback::exchange;
use sync_protocol::merge::{Presence, presence};
use sync_protocol::rules::Rules;

use crate::retention::compact;
use crate::world::{RULES, World, noise, object, two, two_with};

fn key(text: &str) -> RecordKey {
    RecordKey::parse(text).unwrap()
}

fn erase(w: &mut World, record: &str) -> Wiped {
    w.now_ms += 1_000;
    hub::erase(&mut w.hub, &key(record), w.now_ms as u64).unwrap().1
}

/// Whether a word is anywhere in what hub or gateways remember.
fn is_anywhere(w: &World, word: &str) -> bool {
    format!("{:?}{:?}", w.hub, w.gateways).contains(word)
}

fn is_gone(w: &mut World, record: &str) {
    let rules = w.hub.rules().unwrap();
    let of = key(record);
    assert!(render(&w.hub_record(record)).is_empty(), "{record}");
    assert_eq!(presence(&w.hub_record(record), rules.of(&of.record_type)), Presence::Deleted, "{record}");
}

/// The hub as it is put back from a backup, with its list of erasures carried out again.
fn put_back(w: &mut World, backup: sync_protocol::memory::MemoryHub) {
    let kept = w.hub.erasures_after(0, usize::MAX).unwrap();
    w.hub = backup.restored(true, Epoch(77), w.now_ms as u64);
    let known: BTreeSet<u64> = w.hub.erasures_after(0, usize::MAX).unwrap().iter().map(|e| e.number).collect();
    for erasure in kept.iter().filter(|erasure| !known.contains(&erasure.number)) {
        hub::carry_out(&mut w.hub, erasure, &mut Wiped::default()).unwrap();
    }
}

#[test]
fn every_value_of_a_person_goes_and_nothing_of_anybody_else() {
    let mut w = two();
    w.put(0, "patient/p1", json!({"name": "secret-1", "alive": "secret-2", "allergies": ["secret-3"]}));
    w.put(0, "patient/p2", json!({"name": "of another"}));
    w.put(1, "visit/v1", json!({"patient": "p1", "note": "secret-4"}));
    w.put(1, "visit/v2", json!({"patient": "p2", "note": "of her visit"}));
    w.sync_all();
    // Replaced, in conflict, settled, and in quarantine.
    w.edit(0, "patient/p1", json!({"name": "secret-5", "alive": "secret-6", "notes": ["secret-7"]}));
    w.edit(1, "patient/p1", json!({"alive": "secret-8", "field-secret-9": 1}));
    w.put(0, "visit/v3", json!({"patient": "p1", "sex": "x", "note": "secret-10"}));
    w.put(
        1,
        "patient/p1",
        json!({"sex": "female", "alive": "secret-8", "name": "secret-1", "allergies": ["secret-3"]}),
    );
    w.sync_all();
    let settled = Intent::Settle {
        field: FieldName::new("alive").unwrap(),
        value: Some(json!("secret-11")),
        why: "secret-12".into(),
    };
    w.hub_write("patient/p1", settled);
    w.sync_all();
    assert!(is_anywhere(&w, "secret-1\"") && is_anywhere(&w, "secret-12"));
    let wiped = erase(&mut w, "patient/p1");
    assert_eq!((wiped.records, wiped.held), (3, 0));
    assert!(wiped.ops >= 7, "{wiped:?}");
    assert!(!format!("{:?}", w.hub).contains("secret"), "the hub still has something");
    w.sync_all();
    assert!(!is_anywhere(&w, "secret"), "a gateway still has something");
    for record in ["patient/p1", "visit/v1", "visit/v3"] {
        is_gone(&mut w, record);
    }
    assert_eq!(w.body(0, "patient/p2")["name"], "of another");
    assert_eq!(w.body(0, "visit/v2")["note"], "of her visit");
    let idle = exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    assert!(idle.agrees && !idle.again && idle.rows == 0, "{idle:?}");
}

#[test]
fn what_waits_in_quarantine_goes_as_well_also_of_a_child_that_is_nowhere_else() {
    let mut w = World::new("version = 1\n", &["mw", "mw"]);
    let newer = sync_protocol::rules::Rules::parse(&RULES.replace("version = 1", "version = 2")).unwrap();
    w.hub.publish(std::sync::Arc::new(newer));
    w.put(0, "patient/p1", json!({"name": "secret-1"}));
    w.sync(0);
    w.put(1, "patient/p1", json!({"sex": "secret-2"}));
    // Two parents are one too few.
    w.put(1, "visit/v1", json!({"patient": "p1", "note": "secret-3"}));
    w.put(1, "visit/v2", json!({"patient": "p9", "note": "of somebody else"}));
    w.sync(1);
    assert_eq!(w.hub.quarantine().len(), 2, "{:?}", w.hub.quarantine());
    let wiped = erase(&mut w, "patient/p1");
    assert_eq!((wiped.records, wiped.held), (2, 1));
    w.sync_all();
    assert!(!is_anywhere(&w, "secret"));
    assert_eq!(w.hub.quarantine().len(), 1);
    let dropped = w.gateways[1].own().filter(|(_, fate)| matches!(fate, Some(Fate::Discarded(_)))).count();
    assert_eq!(dropped, 1, "its author hears that the op in quarantine was dropped");
}

#[test]
fn a_gateway_that_was_away_brings_nothing_back() {
    let mut w = two_with(json!({"name": "secret-1", "visits": 3}));
    w.put(1, "note/n1", json!({"text": "not of her"}));
    w.edit(1, "patient/p1", json!({"name": "secret-2", "visits": 5}));
    w.put(1, "visit/v1", json!({"patient": "p1", "note": "secret-3"}));
    erase(&mut w, "patient/p1");
    w.sync(0);
    w.edit(1, "visit/v1", json!({"note": "secret-4"}));
    w.put(1, "note/n2", json!({"text": "nor this"}));
    w.sync_all();
    assert!(!is_anywhere(&w, "secret"));
    is_gone(&mut w, "patient/p1");
    assert_eq!(w.hub.records().count(), 3, "the visit that came later never was a record");
    assert_eq!(w.body(0, "note/n1")["text"], "not of her");
    assert_eq!(w.body(0, "note/n2")["text"], "nor this");
    assert_eq!(w.gateways[1].state().unwrap().unsent(), 0);
}

#[test]
fn until_its_writes_have_arrived_a_gateway_keeps_them_and_shows_them_no_more() {
    let mut w = two_with(json!({"name": "secret-1"}));
    w.link.up_bytes = 1;
    for n in 0..80 {
        w.put(1, &format!("note/n{n}"), json!({"text": "x".repeat(200)}));
    }
    w.edit(1, "patient/p1", json!({"name": "secret-2"}));
    erase(&mut w, "patient/p1");
    exchange(&mut w.gateways[1], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    let waiting = format!("{:?}", w.gateways[1]);
    assert!(waiting.contains("secret-2") && !waiting.contains("secret-1"));
    assert!(render(&w.record(1, "patient/p1")).is_empty(), "what it has yet to send is not shown");
    w.sync_all();
    assert!(!is_anywhere(&w, "secret"));
}

#[test]
fn who_knows_of_it_begins_a_new_life_of_the_id() {
    let mut w = two_with(json!({"name": "secret-1", "allergies": ["secret-2"], "visits": 7}));
    erase(&mut w, "patient/p1");
    w.sync_all();
    w.put(0, "patient/p1", json!({"name": "Bina", "allergies": ["latex"], "visits": 1}));
    w.put(0, "visit/v1", json!({"patient": "p1", "note": "anew"}));
    w.sync_all();
    w.edit(1, "patient/p1", json!({"visits": 2}));
    w.edit(1, "visit/v1", json!({"note": "edited"}));
    w.hub_write("visit/v2", Intent::Put(object(json!({"patient": "p1", "note": "at the centre"}))));
    w.sync_all();
    assert_eq!(w.body(0, "patient/p1"), object(json!({"name": "Bina", "allergies": ["latex"], "visits": 2})));
    assert_eq!(w.body(0, "visit/v1")["note"], "edited");
    assert_eq!(render(&w.hub_record("visit/v2"))["note"], "at the centre");
    assert!(w.hub.quarantine().is_empty() && !is_anywhere(&w, "secret"));
    // And once more, for good.
    let wiped = erase(&mut w, "patient/p1");
    assert_eq!(wiped.records, 3);
    w.sync_all();
    assert!(!is_anywhere(&w, "Bina") && !is_anywhere(&w, "at the centre"));
}

#[test]
fn a_record_that_was_here_on_its_own_is_not_erased_because_somebody_moves_it() {
    let mut w = two_with(json!({"name": "secret-1"}));
    w.put(0, "patient/p2", json!({"name": "Bina"}));
    w.put(0, "visit/v1", json!({"patient": "p2", "note": "a dose"}));
    w.sync_all();
    w.edit(1, "visit/v1", json!({"patient": "p1"}));
    erase(&mut w, "patient/p1");
    w.sync_all();
    let held = w.hub.quarantine();
    assert_eq!(held.len(), 1);
    assert!(held[0].reason.contains("belongs to a record that was erased"), "{}", held[0].reason);
    assert_eq!(render(&w.hub_record("visit/v1")), object(json!({"patient": "p2", "note": "a dose"})));
}

#[test]
fn a_child_of_which_a_write_waits_that_knew_is_not_erased_because_of_one_that_did_not() {
    let mut w = two();
    w.sync_all();
    erase(&mut w, "patient/p1");
    // Its parent has yet to come.
    w.hub_write("visit/v1", Intent::Put(object(json!({"patient": "p1", "note": "knowingly"}))));
    assert_eq!(w.hub.quarantine().len(), 1);
    w.put(0, "visit/v1", json!({"patient": "p1", "note": "not knowing"}));
    w.sync(0);
    assert_eq!(w.hub.erasure(&key("visit/v1")).unwrap(), None);
    assert_eq!(w.hub.quarantine().len(), 2, "both wait for a person");
    w.put(1, "visit/v2", json!({"patient": "p1", "note": "secret"}));
    w.sync_all();
    assert!(w.hub.erasure(&key("visit/v2")).unwrap().is_some() && !is_anywhere(&w, "secret"));
}

#[test]
fn a_gateway_that_never_held_the_record_forgets_what_it_wrote_of_it() {
    let mut w = World::new("version = 1\n[types.patient]\nscope = \"facility\"\n", &["mw/a", "mw/b"]);
    w.put(0, "patient/p1", json!({"facility": "mw/a", "name": "secret-1"}));
    w.sync_all();
    erase(&mut w, "patient/p1");
    w.put(1, "patient/p1", json!({"facility": "mw/b", "phone": "secret-2"}));
    w.sync_all();
    assert!(!is_anywhere(&w, "secret"));
    // A gateway that let go of the record long ago has it in its history.
    w.put(0, "patient/p2", json!({"facility": "mw/a", "name": "secret-3"}));
    w.sync_all();
    w.hub_write("patient/p2", Intent::Put(object(json!({"facility": "mw/b", "name": "secret-4"}))));
    w.sync_all();
    assert!(w.gateways[0].record(&key("patient/p2")).is_none() && is_anywhere(&w, "secret-3"));
    erase(&mut w, "patient/p2");
    w.sync_all();
    assert!(!is_anywhere(&w, "secret"));
}

#[test]
fn an_op_keeps_its_place_and_an_erasure_is_told_once() {
    let mut w = two_with(json!({"name": "secret-1"}));
    let dot = Dot { origin: w.gateways[0].state().unwrap().origin, stream: Stream::Normal, seq: Seq(1) };
    let (chain, hash) = (w.hub.chain_at(dot).unwrap(), hub::Snapshot::op_hash(&mut w.hub, dot).unwrap());
    erase(&mut w, "patient/p1");
    assert_eq!((w.hub.chain_at(dot).unwrap(), hub::Snapshot::op_hash(&mut w.hub, dot).unwrap()), (chain, hash));
    let number = w.hub.last_erasure().unwrap();
    assert!(is_after(&w.hub_record("patient/p1"), number));
    w.sync_all();
    assert_eq!(w.gateways.iter_mut().map(|g| g.state().unwrap().erased).collect::<Vec<_>>(), [number, number]);
    assert!(w.hub.gateways().unwrap().iter().all(|gateway| gateway.erased == Some(number)));
    let own = w.gateways[0].own_op(dot).unwrap().unwrap();
    assert!(own.is_erased() && !knows(&own, number) && own.stamp.dot == dot);
    assert_ne!(own.stamp.dot.origin, Origin::HUB);
}

#[test]
fn a_new_life_comes_back_to_a_record_that_left_the_view_meanwhile_and_the_old_one_does_not() {
    for knows in [true, false] {
        let mut w = World::new(&RULES.replace("[types.visit]", "[types.visit]\nscope = \"facility\""), &["mw/a"]);
        w.put(0, "visit/v1", json!({"facility": "mw/a", "note": "secret-1"}));
        w.sync_all();
        let backup = w.hub.clone();
        if knows {
            erase(&mut w, "visit/v1");
            w.sync_all();
        }
        let image = w.gateways[0].clone();
        w.put(0, "visit/v1", json!({"facility": "mw/a", "note": "secret-2"}));
        w.sync(0);
        // A copy of it goes on under another origin, with what the first one had sent.
        let newer = w.copy_of(0, 3);
        w.gateways[0] = image;
        w.put(0, "note/n1", json!({"text": "of the other one"}));
        w.sync(0);
        w.gateways[0] = newer;
        w.sync(0);
        put_back(&mut w, backup);
        if !knows {
            erase(&mut w, "visit/v1");
        }
        w.hub_write("visit/v1", Intent::Put(object(json!({"facility": "mw/c"}))));
        w.sync(0);
        assert_eq!(w.hub_record("visit/v1").scope(), Scope::new("mw/c").unwrap());
        let stands = render(&w.hub_record("visit/v1")).get("note").cloned();
        assert_eq!(stands, knows.then(|| json!("secret-2")));
        assert!(!is_anywhere(&w, "secret-1"));
        w.assert_equal();
    }
}

#[test]
fn what_was_erased_keeps_its_place_where_old_history_is_forgotten() {
    let mut w = two_with(json!({"name": "secret-1"}));
    for n in 2..5 {
        w.edit(0, "patient/p1", json!({"name": format!("secret-{n}")}));
        w.put(0, "note/n1", json!({"text": n.to_string()}));
        w.sync_all();
    }
    erase(&mut w, "patient/p1");
    w.sync_all();
    assert_eq!(compact(&mut w.gateways[0]), 1, "of the note what was overruled");
    assert_eq!(w.gateways[0].own().filter(|(op, _)| op.is_erased()).count(), 4);
    assert!(!is_anywhere(&w, "secret"));
}

/// Whether a record waits, or was dropped, for its parent.
fn is_held(w: &World, record: &str) -> bool {
    w.hub.quarantine().iter().any(|held| held.op.key == key(record))
}

#[test]
fn an_erasure_has_a_number_of_its_own_even_if_the_clock_stands_still() {
    let mut w = two_with(json!({"name": "secret-1"}));
    w.put(0, "visit/v1", json!({"patient": "p1"}));
    w.put(0, "patient/p2", json!({"name": "secret-2"}));
    w.sync_all();
    let (first, _) = hub::erase(&mut w.hub, &key("patient/p1"), 5).unwrap();
    let (second, _) = hub::erase(&mut w.hub, &key("patient/p2"), 5).unwrap();
    assert_eq!((first, second), (5, 7));
    let told = w.hub.erasures_after(0, 9).unwrap();
    let expected = [(5, "patient/p1", 5), (6, "visit/v1", 5), (7, "patient/p2", 7)];
    let expected = expected.map(|(number, record, cause)| Erasure { number, key: key(record), cause });
    assert_eq!(told, expected);
}

#[test]
fn nobody_outlives_erasures_to_come_by_naming_one_that_never_was() {
    let mut w = two_with(json!({"name": "Asha"}));
    // As a program would write it that lies.
    w.gateways[1].note_erasures(&[Erased { number: u64::MAX >> 1, name: name_of(&key("patient/p1")) }]).unwrap();
    let state = w.gateways[1].state().unwrap();
    w.gateways[1].set_state(&gateway::GatewayState { erased: u64::MAX >> 1, ..state }).unwrap();
    w.put(1, "patient/p1", json!({"name": "secret-1"}));
    w.sync(1);
    assert!(w.hub.quarantine()[0].reason.contains("names an erasure that this hub does not know"));
    assert_eq!(render(&w.hub_record("patient/p1"))["name"], "Asha");
    erase(&mut w, "patient/p1");
    assert!(w.hub.quarantine().is_empty() && !format!("{:?}", w.hub).contains("secret"));
}

#[test]
fn a_new_life_counts_from_nothing() {
    let rules =
        "version = 1\n[types.visit]\nparents = { patient = \"patient\" }\n[types.visit.fields]\ndoses = \"counter\"\n";
    let mut w = World::new(rules, &["mw", "mw"]);
    w.put(0, "patient/p2", json!({"name": "Bina"}));
    // It waits for its parent, so that nothing is left of it that could come down.
    w.put(1, "visit/v1", json!({"patient": "p1", "doses": 1}));
    for at in [0, 1] {
        w.sync(at);
    }
    for n in 0..80 {
        w.put(1, &format!("note/n{n}"), json!({"text": noise(n, 10)}));
    }
    w.edit(1, "visit/v1", json!({"doses": 5}));
    assert_eq!(erase(&mut w, "visit/v1").held, 1);
    // It hears of the erasure before it could send the count.
    w.link.up_bytes = 1;
    exchange(&mut w.gateways[1], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    assert!(w.gateways[1].erasure(&key("visit/v1")).unwrap().is_some() && w.gateways[1].state().unwrap().unsent() > 0);
    w.put(1, "visit/v1", json!({"patient": "p2", "doses": 1}));
    w.sync_all();
    w.sync_all();
    assert_eq!(w.body(0, "visit/v1")["doses"], json!(1));
}

#[test]
fn a_visit_corrected_to_another_patient_before_it_was_sent_is_not_erased_with_the_wrong_one() {
    let mut w = two();
    w.put(0, "patient/p1", json!({"name": "erased"}));
    w.put(0, "patient/p2", json!({"name": "Bina"}));
    w.sync_all();
    w.put(1, "visit/v1", json!({"patient": "p1", "note": "a dose for Bina"}));
    w.edit(1, "visit/v1", json!({"patient": "p2"}));
    erase(&mut w, "patient/p1");
    w.sync_all();
    assert_eq!(w.hub.erasure(&key("visit/v1")).unwrap(), None, "the visit of Bina was erased");
    let is_held = w.hub.quarantine().iter().any(|held| held.op.key == key("visit/v1"));
    assert!(is_held || render(&w.hub_record("visit/v1")).contains_key("note"));
}

#[test]
fn what_belongs_to_a_person_by_newer_rules_is_erased_as_well() {
    let mut w = World::new("version = 1\n", &["mw", "mw"]);
    w.put(0, "patient/p1", json!({"name": "secret-1"}));
    w.put(0, "visit/v1", json!({"patient": "p1", "note": "secret-2"}));
    w.sync_all();
    w.hub.publish(Arc::new(Rules::parse("version = 2\n[types.visit]\nparents = { patient = \"patient\" }\n").unwrap()));
    w.sync_all();
    assert_eq!(erase(&mut w, "patient/p1").records, 2);
}

#[test]
fn what_belongs_to_a_person_no_more_by_newer_rules_is_not_erased() {
    let rules = "version = 1\n[types.visit]\nparents = { patient = \"patient\", brought_by = \"patient\" }\n";
    let mut w = World::new(rules, &["mw", "mw"]);
    w.put(0, "patient/p1", json!({"name": "the aunt"}));
    w.put(0, "patient/p2", json!({"name": "Bina"}));
    w.put(0, "visit/v1", json!({"patient": "p2", "brought_by": "p1", "note": "a dose"}));
    w.sync_all();
    // A person sees that erasing the aunt would erase the visits of those that she brought, and mends the rules.
    w.hub.publish(Arc::new(Rules::parse("version = 2\n[types.visit]\nparents = { patient = \"patient\" }\n").unwrap()));
    w.sync_all();
    assert_eq!(erase(&mut w, "patient/p1").records, 1);
    assert_eq!(render(&w.hub_record("visit/v1"))["note"], "a dose");
}

#[test]
fn what_somebody_else_wrote_under_the_id_of_an_erased_child_is_not_dropped() {
    let mut w = two();
    w.put(0, "patient/p1", json!({"name": "erased"}));
    w.put(0, "patient/p2", json!({"name": "Bina"}));
    w.sync_all();
    w.put(0, "visit/2026-11-22", json!({"patient": "p1", "note": "of the erased"}));
    w.put(1, "visit/2026-11-22", json!({"patient": "p2", "note": "a dose for Bina"}));
    erase(&mut w, "patient/p1");
    w.sync_all();
    w.sync_all();
    assert!(
        format!("{:?}", w.hub).contains("a dose for Bina"),
        "lost, at {:?}",
        w.hub.erasure(&key("visit/2026-11-22"))
    );
}
