//! Cards that are copied, put back, moved or damaged.

use serde_json::json;
use sync_protocol::edit::render;
use sync_protocol::gateway::{self, GatewayState, Store as _, WallClock};
use sync_protocol::hub::Snapshot as _;
use sync_protocol::id::{Scope, Source};
use sync_protocol::identity::DeviceKey;
use sync_protocol::limits::TWINS_MAX;
use sync_protocol::loopback::{exchange, settle};
use sync_protocol::memory::MemoryGateway;
use sync_protocol::message::{Response, Status};

use crate::world::{World, two};

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
            settle(&mut w.gateways[at], &mut w.hub, &mut w.link, w.now_ms as u64, 20).unwrap();
        }
    }
    assert_ne!(w.gateways[0].state().unwrap().device, w.gateways[2].state().unwrap().device);
}

/// A thief has a copy of a card, and says of ever other boxes that they have one as well; also of those that he was given.
#[test]
fn ever_more_boxes_with_copies_of_one_card_are_not_taken_in() {
    let mut w = two();
    w.gateways[0].set_print([255; 8]);
    w.sync_all();
    let image = w.gateways[0].clone();
    for _ in 0..2 {
        exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    }
    let mut cards = vec![image];
    for n in 0..3 * TWINS_MAX {
        let mut copy = cards[n * 7 % cards.len()].clone();
        copy.set_print([n as u8 + 1; 8]);
        let mut state = copy.state().unwrap();
        state.told = false;
        copy.set_state(&state).unwrap();
        // An answer that does not let it in is no answer to settle on.
        let _ = settle(&mut copy, &mut w.hub, &mut w.link, w.now_ms as u64, 20);
        if copy.state().unwrap().device == w.gateways[0].state().unwrap().device {
            continue;
        }
        cards.push(copy.clone());
        for _ in 0..2 {
            exchange(&mut copy, &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
        }
    }
    let parted = w.hub.gateways().unwrap().iter().filter(|gateway| gateway.twin_of.is_some()).count();
    assert_eq!(parted, TWINS_MAX);
    // Whom it had before is served as before.
    w.put(0, "patient/p9", json!({"name": "Asha"}));
    w.sync_all();
    assert_eq!(w.hub_record("patient/p9"), w.record(0, "patient/p9"));
}

#[test]
fn a_write_of_a_card_that_was_put_back_is_not_taken_for_the_one_whose_number_it_has() {
    let mut w = two();
    w.sync_all();
    let image = w.gateways[0].clone();
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    w.gateways[0] = image;
    w.put(0, "patient/p2", json!({"name": "Chikondi"}));
    let mut state = w.gateways[0].state().unwrap();
    // It sent this write and heard no answer, so it asks what arrived.
    state.unsure = true;
    w.gateways[0].set_state(&state).unwrap();
    w.sync(0);
    w.sync(1);
    for (at, key) in [(0, "patient/p1"), (0, "patient/p2"), (1, "patient/p1"), (1, "patient/p2")] {
        assert_eq!(w.record(at, key), w.hub_record(key), "gateway {at}, {key}");
    }
}

#[test]
fn a_card_that_moves_to_another_box_goes_on_as_it_was() {
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
    assert_eq!((after.origin, after.device), (before.origin, before.device));
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
    let mut w = World::new("version = 1\n[types.patient.fields]\nlog = \"append-only\"\n", &["mw"]);
    w.put(0, "patient/p0", json!({"name": "n0"}));
    w.sync_all();
    let dots: Vec<_> =
        (1..6).map(|n| w.put(0, &format!("patient/p{n}"), json!({"log": [format!("n{n}")]})).op.unwrap()).collect();
    w.gateways[0].lose(dots[2]);
    w.sync_all();
    let arrived: Vec<String> = w.hub.records().map(|(key, _)| key.to_string()).collect();
    assert_eq!(arrived, ["patient/p0", "patient/p1", "patient/p2", "patient/p4", "patient/p5"]);
    assert_ne!(w.gateways[0].state().unwrap().origin, dots[2].origin, "it goes on under another origin");
    assert_eq!(w.body(0, "patient/p1")["log"], json!(["n1"]), "what arrived before the gap is not there twice");
}

#[test]
fn months_of_work_before_enrolment_go_on_as_they_were() {
    let mut w = two();
    w.gateways.push(MemoryGateway::default());
    let rules = w.gateways[0].rules().unwrap();
    w.gateways[2].set_rules(rules).unwrap();
    let patients = ["patient/p1", "patient/p2", "patient/p3"];
    // Many more than are renumbered at a time: later ones name earlier ones, and counts go on from them.
    for n in 0..400 {
        let key = patients[n % 3];
        let allergies = json!(["latex", format!("a{}", n % 7)]);
        match n < 3 {
            true => drop(w.put(2, key, json!({"visits": 0, "allergies": allergies}))),
            false => w.edit(2, key, json!({"visits": n / 3, "allergies": allergies, "phone": n.to_string()})),
        };
    }
    let before = patients.map(|key| w.body(2, key));
    let home = Scope::new("mw").unwrap();
    let known = w.hub.enroll(vec![home], Source::CLINIC, DeviceKey([9; 32]));
    let state = w.gateways[2].state().unwrap();
    assert_eq!(state.unsent(), 400);
    let state = GatewayState { device: known.device, key: known.key, scopes: known.scopes, ..state };
    w.gateways[2].set_state(&state).unwrap();
    gateway::adopt_origin(&mut w.gateways[2], known.origin).unwrap();
    assert_eq!(patients.map(|key| w.body(2, key)), before);
    assert_eq!(w.gateways[2].state().unwrap().unsent(), 400);
    w.sync_all();
    for (key, before) in patients.iter().zip(&before) {
        let merged = render(&w.hub_record(key));
        assert_eq!(merged["visits"], before["visits"]);
        assert_eq!(merged["allergies"], before["allergies"]);
        assert_eq!(w.body(2, key), merged);
    }
}

#[test]
fn an_answer_that_comes_when_the_gateway_was_enrolled_anew_is_for_who_it_was() {
    let mut w = two();
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    w.edit(0, "patient/p1", json!({"name": "Asha B."}));
    let clock = WallClock { now_ms: w.now_ms as u64, ahead_seconds: Some(0) };
    let asked = gateway::request(&mut w.gateways[0], &mut w.link.up, clock, 1 << 20, 1 << 20).unwrap();
    let mut state = w.gateways[0].state().unwrap();
    (state.key, state.turn) = (DeviceKey([9; 32]), 0);
    w.gateways[0].set_state(&state).unwrap();
    let mut answer = Response::new(Status::Ok, state.epoch, w.now_ms as u64, state.cursor);
    answer.turn = Some(asked.head.turn + 1);
    let taken = gateway::integrate_head(&mut w.gateways[0], &asked.head, &answer).unwrap();
    assert!(taken.is_for_another);
    assert_eq!(w.gateways[0].state().unwrap().turn, 0, "or the hub would take itself for one that was put back");
}
