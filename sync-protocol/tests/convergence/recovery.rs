//! A hub that is put back to an older state.

use serde_json::json;
use sync_protocol::edit::render;
use sync_protocol::frame::{Effort, Packer};
use sync_protocol::gateway::{self, Intent, Store as _};
use sync_protocol::hub;
use sync_protocol::id::{Epoch, Scope, Source};
use sync_protocol::identity::DeviceKey;
use sync_protocol::loopback::{exchange, settle};
use sync_protocol::memory::MemoryHub;
use sync_protocol::record::State;

use crate::world::{RULES, World, noise, object, rivals};

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
    w.hub = backup.restored(said, sync_protocol::id::Epoch(77), 0);
    // The new hub goes on meanwhile.
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
            assert!(state.recovers.is_none() && state.wanted.is_empty(), "{state:?}");
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
    w.hub = backup.restored(true, sync_protocol::id::Epoch(77), 0);
    let wish = w.wish("patient/p1", Intent::Put(object(json!({"phone": "9"}))));
    hub::write(&mut w.hub, wish, &Scope::new("mw").unwrap()).unwrap();
    w.sync_all();
    w.sync_all();
    assert_eq!(w.hub_record("patient/p1").conflicts().len(), 1, "both stand until a person settles them");
    assert_eq!(w.record(0, "patient/p1"), w.hub_record("patient/p1"));
    assert_eq!(w.record(1, "patient/p1"), w.hub_record("patient/p1"));
}

#[test]
fn who_is_enrolled_again_at_a_hub_that_lost_its_enrolment_brings_back_what_it_holds() {
    let mut w = World::new(RULES, &["mw/zomba"]);
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync(0);
    // The backup is from before the enrolment. An admin adds the gateway again, and a technician types the new code.
    let rules = hub::Snapshot::rules(&mut w.hub).unwrap();
    w.hub = MemoryHub::default().restored(true, Epoch(7), 0);
    w.hub.publish(rules);
    let known = w.hub.enroll(vec![Scope::new("mw/zomba").unwrap()], Source::CLINIC, DeviceKey([9; 32]));
    let mut state = w.gateways[0].state().unwrap();
    (state.device, state.key, state.turn) = (known.device, known.key, 0);
    // It says where it stood with this hub before.
    state.told = false;
    w.gateways[0].set_state(&state).unwrap();
    gateway::adopt_origin(&mut w.gateways[0], known.origin).unwrap();
    w.sync(0);
    assert_eq!(w.body(0, "patient/p1"), render(&w.hub_record("patient/p1")));
}

#[test]
fn an_origin_that_the_hub_no_longer_knows_tells_it_that_it_was_put_back() {
    let mut w = World::new(RULES, &["mw"]);
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync(0);
    let backup = w.hub.clone();
    // After the backup the gateway got another origin. It has heard of nothing since that the backup does not have.
    let mut state = w.gateways[0].state().unwrap();
    let known = w.hub.enroll_again(state.device, state.key).unwrap();
    gateway::adopt_origin(&mut w.gateways[0], known.origin).unwrap();
    w.put(0, "patient/p2", json!({"name": "written under it"}));
    // Somebody puts the backup in place, and tells nobody.
    w.hub = backup.restored(false, Epoch(77), 0);
    let before = hub::Snapshot::epoch(&mut w.hub).unwrap();
    state = w.gateways[0].state().unwrap();
    assert!(state.cursor <= hub::Snapshot::head(&mut w.hub).unwrap() && state.epoch == before);
    w.sync(0);
    assert_ne!(hub::Snapshot::epoch(&mut w.hub).unwrap(), before, "it goes on in another epoch");
    assert_eq!(w.gateways[0].state().unwrap().epoch, hub::Snapshot::epoch(&mut w.hub).unwrap());
    assert_eq!(render(&w.hub_record("patient/p2"))["name"], json!("written under it"));
}

#[test]
fn a_cursor_among_the_numbers_that_were_left_out_is_of_a_time_that_was_lost() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    let backup = w.hub.clone();
    w.put(0, "patient/p2", json!({"name": "of a gateway that is gone"}));
    w.sync_all();
    w.hub = backup.restored(false, Epoch(77), 0);
    // Nothing else tells of it: the turns of the lost time were given again.
    let state = w.gateways[1].state().unwrap();
    let known = hub::Snapshot::gateway(&mut w.hub, state.device).unwrap().unwrap();
    let known = hub::Gateway { turn: state.turn + 1, turn_first: state.turn, ..known };
    hub::Store::set_gateway(&mut w.hub, &known).unwrap();
    assert!(state.cursor < hub::Snapshot::head(&mut w.hub).unwrap());
    settle(&mut w.gateways[1], &mut w.hub, &mut w.link, w.now_ms as u64, 20).unwrap();
    assert_eq!(w.hub_record("patient/p2").cells.len(), 2, "what only this gateway holds is asked for");
    assert_eq!(render(&w.hub_record("patient/p2"))["name"], "of a gateway that is gone");
}

#[test]
fn what_only_another_gateway_holds_comes_back_although_an_older_copy_of_its_author_took_its_number() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    let (backup, image) = (w.hub.clone(), w.gateways[0].clone());
    w.edit(0, "patient/p1", json!({"phone": "1"}));
    w.put(0, "patient/p2", json!({"name": "Bina"}));
    w.sync_all();
    // The hub is put back, and what its author goes on with is an older image of its card.
    w.hub = backup.restored(true, Epoch(77), 0);
    w.gateways[0] = image;
    w.edit(0, "patient/p1", json!({"village": "Chilomoni"}));
    w.put(0, "patient/p3", json!({"name": "Chikondi"}));
    for at in [0, 1, 0, 1] {
        settle(&mut w.gateways[at], &mut w.hub, &mut w.link, w.now_ms as u64, 20).unwrap();
    }
    for at in 0..2 {
        let p1 = object(json!({"name": "Asha", "phone": "1", "village": "Chilomoni"}));
        assert_eq!(w.body(at, "patient/p1"), p1, "gateway {at}");
        assert_eq!(w.body(at, "patient/p2")["name"], "Bina", "gateway {at}");
        assert_eq!(w.body(at, "patient/p3")["name"], "Chikondi", "gateway {at}");
        assert!(w.gateways[at].state().unwrap().recovers.is_none(), "gateway {at} is done");
    }
}

#[test]
fn a_record_that_a_person_dropped_from_the_quarantine_of_a_restored_hub_is_not_asked_for_again() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.sync_all();
    let backup = w.hub.clone();
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    w.hub = backup.restored(true, Epoch(77), 0);
    let device = w.gateways[0].state().unwrap().device;
    w.hub.revoke(device);
    settle(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64, 20).unwrap();
    let dot = w.hub.quarantine()[0].op.stamp.dot;
    assert!(hub::discard(&mut w.hub, dot, "not ours").unwrap());
    for _ in 0..2 {
        settle(&mut w.gateways[1], &mut w.hub, &mut w.link, w.now_ms as u64, 20).unwrap();
    }
    let state = w.gateways[1].state().unwrap();
    assert!(state.recovers.is_none() && state.wanted.is_empty(), "it came to an end");
}

#[test]
fn who_has_only_a_later_write_of_a_record_again_has_seen_nothing_of_the_rest() {
    let mut w = World::new(RULES, &["mw", "mw/c", "mw/b"]);
    w.put(1, "patient/p1", json!({"name": "Asha"}));
    w.sync(1);
    w.sync(0);
    let backup = w.hub.clone();
    w.edit(0, "patient/p1", json!({"sex": "female"}));
    w.sync(0);
    // The record leaves, and then the hub is put back: of the record the gateway has its own lost write alone.
    w.assign(0, &["mw/b"], false);
    w.put(2, "patient/p2", json!({"name": "lost, too"}));
    w.sync(2);
    w.sync(0);
    w.hub = backup.restored(true, Epoch(77), 0);
    // While the hub asks for what it lost of others, the write is confirmed, and the rest of its record has yet to come.
    for _ in 0..2 {
        exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    }
    let wish = w.wish("patient/p1", Intent::Delete);
    let refused = gateway::capture(&mut w.gateways[0], wish).unwrap_err().to_string();
    assert!(refused.contains("not here"), "{refused}");
}

#[test]
fn a_hub_that_is_put_back_twice_and_told_neither_time_asks_again() {
    let mut w = World::new("version = 1\n", &["mw", "mw"]);
    w.sync_all();
    let backup = w.hub.clone();
    w.put(1, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    // Who wrote it is gone; the other gateway alone holds it.
    w.gateways.pop();
    for epoch in [77, 78] {
        w.hub = backup.clone().restored(false, Epoch(epoch), 0);
        w.sync(0);
        w.sync(0);
        assert_eq!(w.hub.records().count(), 1, "epoch {epoch}");
    }
}

#[test]
fn a_view_that_the_hub_lost_unnoticed_is_found_by_the_digest() {
    let mut w = World::new("version = 1\n", &["mw"]);
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    let state = w.gateways[0].state().unwrap();
    let lost = vec![Scope::new("mw/b").unwrap()];
    w.gateways[0].set_state(&gateway::GatewayState { scopes: lost, ..state }).unwrap();
    w.put(0, "patient/p2", json!({"name": "Bina"}));
    w.sync(0);
    let state = w.gateways[0].state().unwrap();
    assert_eq!(state.scopes, [Scope::new("mw").unwrap()]);
    assert_eq!(w.gateways[0].records().count(), 2);
}

#[test]
fn more_differences_than_can_be_named_at_once_are_compared_in_slices() {
    const LOST: usize = 14_000;
    let mut w = World::new(RULES, &["mw", "mw"]);
    let backup = w.hub.clone();
    for n in 0..LOST {
        w.put(1, &format!("note/n{n}"), json!({"n": n}));
    }
    (w.link.up_bytes, w.link.down_bytes) = (1 << 22, 1 << 22);
    w.sync(1);
    w.sync(0);
    assert_eq!(w.gateways[0].records().count(), LOST);
    // Who wrote them is gone.
    w.gateways.pop();
    w.hub = backup.restored(true, Epoch(77), 0);
    for _ in 0..400 {
        if w.gateways[0].state().unwrap().recovers.is_some() || w.gateways[0].state().unwrap().epoch != Epoch(77) {
            exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
        }
    }
    w.sync_all();
    assert_eq!(w.hub.records().count(), LOST);
}

#[test]
fn what_was_taken_out_stays_out_although_the_lost_adding_comes_later() {
    for said in [true, false] {
        let mut w = World::new(RECOVERY, &["mw", "mw", "mw"]);
        w.put(2, "case/c1", json!({"log": ["a"], "tags": ["z"]}));
        w.sync_all();
        let backup = w.hub.clone();
        w.edit(1, "case/c1", json!({"tags": ["x", "y", "z"]}));
        w.sync(1);
        w.sync(0);
        w.edit(0, "case/c1", json!({"tags": ["y", "z"]}));
        w.hub = backup.restored(said, Epoch(77), w.now_ms as u64);
        w.sync(0);
        w.sync(1);
        w.sync_all();
        for at in 0..3 {
            assert_eq!(w.body(at, "case/c1")["tags"], json!(["y", "z"]), "said: {said}, gateway {at}");
        }
        let record = w.hub_record("case/c1");
        let ahead = record.cells.values().filter_map(|cell| match &cell.state {
            State::Set(set) => Some(set.ahead.len()),
            _ => None,
        });
        assert_eq!(ahead.sum::<usize>(), 0, "it goes when the adding has come");
    }
}

#[test]
fn a_second_restore_during_the_recovery_lets_nobody_claim_more() {
    let mut w = World::new("version = 1\n[types.patient]\ndefault = \"keep-both\"\n", &["mw", "mw"]);
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    let backup = w.hub.clone();
    for n in 0..20 {
        w.put(1, &format!("note/n{n}"), json!({"n": n}));
    }
    w.sync_all();
    // By a gateway that is gone afterwards; it had seen numbers of the time that is lost.
    w.edit(1, "patient/p1", json!({"allergy": "none"}));
    w.sync_all();
    w.gateways.pop();
    w.hub = backup.restored(true, Epoch(77), 0);
    let wish = w.wish("patient/p1", Intent::Put(object(json!({"name": "Asha", "allergy": "penicillin"}))));
    hub::write(&mut w.hub, wish, &Scope::new("mw").unwrap()).unwrap();
    for n in 0..60 {
        let wish = w.wish(&format!("note/m{n}"), Intent::Put(object(json!({"n": n}))));
        hub::write(&mut w.hub, wish, &Scope::new("mw").unwrap()).unwrap();
    }
    // It hears of it, and the link breaks.
    exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    assert!(w.gateways[0].state().unwrap().recovers.is_some());
    let backup = w.hub.clone();
    w.hub = backup.restored(true, Epoch(78), 0);
    exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    w.sync_all();
    let record = w.hub_record("patient/p1");
    let mut all = rivals(&record, "allergy");
    all.push(render(&record)["allergy"].clone());
    assert!(all.contains(&json!("penicillin")) && all.contains(&json!("none")), "{all:?}");
}

#[test]
fn what_is_offered_fits_the_link() {
    let mut w = World::new(RULES, &["mw"]);
    w.sync_all();
    let backup = w.hub.clone();
    for n in 0..100u64 {
        let text = noise(n, 40);
        w.hub_write(&format!("note/n{n}"), Intent::Put(object(json!({"text": text}))));
    }
    w.assign(0, &[""], true);
    w.sync(0);
    w.sync(0);
    w.hub = backup.restored(true, Epoch(77), 0);
    w.link.up_bytes = 1_000;
    while w.gateways[0].state().unwrap().wanted.is_empty() {
        exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    }
    let clock = gateway::WallClock { now_ms: w.now_ms as u64, ahead_seconds: None };
    let mut packer = Packer::new(Effort::Quick).unwrap();
    let asked = gateway::request(&mut w.gateways[0], &mut packer, clock, 1_000, 1_000).unwrap();
    let bytes: usize = asked.frames.iter().map(Vec::len).sum();
    assert!(
        bytes < 10_000,
        "{bytes} bytes for a link of 1000, of {} records",
        w.gateways[0].state().unwrap().wanted.len()
    );
}

/// Such as from a hub without room, which takes no frames: it hears all else with every second exchange.
#[test]
fn who_heard_no_answer_to_what_it_offered_asks_before_it_offers_again() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.sync_all();
    let backup = w.hub.clone();
    w.put(1, "note/n", json!({"n": 1}));
    w.sync_all();
    w.hub = backup.restored(true, Epoch(77), 0);
    while w.gateways[0].state().unwrap().wanted.is_empty() {
        exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    }
    let clock = gateway::WallClock { now_ms: w.now_ms as u64, ahead_seconds: None };
    let mut packer = Packer::new(Effort::Quick).unwrap();
    let mut ask = |w: &mut World| gateway::request(&mut w.gateways[0], &mut packer, clock, 1_000, 1_000).unwrap();
    assert!(!ask(&mut w).frames.is_empty());
    let state = w.gateways[0].state().unwrap();
    w.gateways[0].set_state(&gateway::GatewayState { unsure: true, ..state }).unwrap();
    let asked = ask(&mut w);
    assert!(asked.frames.is_empty() && asked.head.asks);
    w.sync(0);
    let there = w.hub_record("note/n");
    assert_eq!(w.record(0, "note/n"), there);
}
