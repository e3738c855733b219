//! What several boxes with copies of one card have in common counts once.

use serde_json::{Value, json};
use sync_protocol::gateway::{self, Store as _};
use sync_protocol::hub;
use sync_protocol::loopback::{exchange, settle};

use crate::world::{World, noise};

const RULES: &str = r#"
version = 1
[types.stock.fields]
used = "counter"
[types.case.fields]
log = "append-only"
tags = "set"
[types.visit]
parents = { patient = "patient" }
"#;

/// Three boxes with cards of one making: the first is older than what the other two had captured, unsent, when they were copied.
/// It has since given its first number to a write of its own.
fn three_boxes(common: impl FnOnce(&mut World)) -> World {
    let mut w = World::new(RULES, &["mw"]);
    w.put(0, "stock/s1", json!({"used": 5}));
    w.put(0, "case/c1", json!({"log": ["first"], "tags": ["x"]}));
    w.sync_all();
    let older = w.copy_of(0, 1);
    common(&mut w);
    let newer = w.copy_of(0, 2);
    w.gateways.extend([older, newer]);
    w.put(1, "patient/of-1", json!({"name": "Asha"}));
    w.sync(1);
    w
}

fn bring(w: &mut World, at: usize) {
    for _ in 0..3 {
        settle(&mut w.gateways[at], &mut w.hub, &mut w.link, w.now_ms as u64, 20).unwrap();
    }
}

/// What all see in the end, if all see the same, without a repair.
fn seen_by_all(w: &mut World, key: &str) -> Value {
    w.sync_all();
    w.sync_all();
    let shown = w.body(0, key);
    for at in 0..3 {
        assert_eq!(w.record(at, key), w.hub_record(key), "gateway {at}");
        assert_eq!(w.gateways[at].state().unwrap().repairs, 0, "gateway {at} was sent what it lacked");
    }
    Value::Object(shown)
}

#[test]
fn what_two_boxes_bring_under_two_numbers_counts_once_and_what_is_their_own_counts_too() {
    let mut w = three_boxes(|w| {
        w.put(0, "stock/s1", json!({"used": 7}));
        w.put(0, "case/c1", json!({"log": ["first", "common"], "tags": ["x", "y"]}));
        w.put(0, "patient/common", json!({"name": "Bina"}));
    });
    for (at, word) in [(0, "zero"), (2, "two")] {
        w.put(at, "stock/s1", json!({"used": 8}));
        w.put(at, "case/c1", json!({"log": ["first", "common", word], "tags": ["x", "y", word]}));
        bring(&mut w, at);
    }
    assert_eq!(seen_by_all(&mut w, "stock/s1")["used"], json!(9), "5, 2 in common, 1 of each");
    let case = seen_by_all(&mut w, "case/c1");
    assert_eq!(case["log"].as_array().unwrap().len(), 4, "{case}");
    assert_eq!(case["tags"], json!(["two", "x", "y", "zero"]));
    assert_eq!(seen_by_all(&mut w, "patient/common")["name"], "Bina");
    // Each goes on counting from what it is shown now.
    w.put(2, "stock/s1", json!({"used": 12}));
    bring(&mut w, 2);
    assert_eq!(seen_by_all(&mut w, "stock/s1")["used"], json!(12));
}

#[test]
fn what_a_box_takes_out_of_a_set_is_out_although_another_copy_of_its_card_brought_it() {
    let mut w = three_boxes(|w| {
        w.put(0, "case/c1", json!({"log": ["first"], "tags": ["x", "y"]}));
    });
    w.put(2, "case/c1", json!({"log": ["first"], "tags": ["x"]}));
    bring(&mut w, 0);
    bring(&mut w, 2);
    assert_eq!(seen_by_all(&mut w, "case/c1")["tags"], json!(["x"]));
}

#[test]
fn what_the_box_that_came_first_takes_out_of_a_set_is_out() {
    let mut w = three_boxes(|w| {
        w.put(0, "case/c1", json!({"log": ["first"], "tags": ["x", "y"]}));
    });
    bring(&mut w, 0);
    bring(&mut w, 2);
    w.put(0, "case/c1", json!({"log": ["first"], "tags": ["x"]}));
    bring(&mut w, 0);
    assert_eq!(seen_by_all(&mut w, "case/c1")["tags"], json!(["x"]));
}

#[test]
fn a_common_write_that_waits_for_its_parent_comes_in_once_when_that_arrives() {
    let mut w = three_boxes(|w| {
        w.put(0, "visit/v1", json!({"patient": "p9", "log": ["seen"]}));
    });
    bring(&mut w, 0);
    bring(&mut w, 2);
    assert_eq!(w.hub.quarantine().len(), 1, "one of the two waits");
    w.put(1, "patient/p9", json!({"name": "Chikondi"}));
    bring(&mut w, 1);
    assert!(w.hub.quarantine().is_empty());
    assert_eq!(seen_by_all(&mut w, "visit/v1")["patient"], "p9");
    for at in 0..3 {
        assert!(w.gateways[at].parked().is_empty(), "gateway {at}: nobody is asked to look at it");
    }
}

#[test]
fn what_a_box_brought_while_it_was_shut_out_is_dropped_if_another_copy_was_applied() {
    let mut w = three_boxes(|w| {
        w.put(0, "case/c1", json!({"log": ["first", "common"], "tags": ["x"]}));
    });
    // It learns its new name, and is shut out before it can send.
    bring(&mut w, 0);
    settle(&mut w.gateways[2], &mut w.hub, &mut w.link, w.now_ms as u64, 1).unwrap();
    let device = w.gateways[2].state().unwrap().device;
    w.hub.revoke(device);
    bring(&mut w, 2);
    hub::allow(&mut w.hub, device).unwrap();
    bring(&mut w, 2);
    let case = seen_by_all(&mut w, "case/c1");
    assert_eq!(case["log"], json!(["first", "common"]));
}

#[test]
fn two_copies_with_a_long_tail_come_to_an_end() {
    let mut w = World::new(RULES, &["mw"]);
    w.gateways[0].set_print([1; 8]);
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync(0);
    for n in 0..200u64 {
        // Nothing that could be packed.
        let text = noise(n, 20);
        w.put(0, &format!("note/n{n}"), json!({"text": text}));
    }
    let mut copy = w.copy_of(0, 2);
    let state = copy.state().unwrap();
    copy.set_state(&gateway::GatewayState { told: true, ..state }).unwrap();
    // The first box sends all in one exchange.
    w.put(0, "note/of-1", json!({"text": "of the first"}));
    w.link.up_bytes = 1 << 20;
    exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    assert_eq!(w.gateways[0].state().unwrap().unsent(), 0);
    w.gateways.push(copy);
    w.put(1, "note/of-2", json!({"text": "of the second"}));
    w.link.up_bytes = 1_000;
    for _ in 0..300 {
        exchange(&mut w.gateways[1], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    }
    let unsent = w.gateways[1].state().unwrap().unsent();
    assert_eq!(unsent, 0);
}
