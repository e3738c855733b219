//! Erasures, and hubs and cards that are put back to before them.

use serde_json::json;
use sync_protocol::edit::render;
use sync_protocol::erase::{Erased, name_of};
use sync_protocol::gateway::{self, Fate, Store as _};
use sync_protocol::hub::Snapshot as _;
use sync_protocol::id::{Dot, Seq, Stream};
use sync_protocol::loopback::rescue;
use sync_protocol::memory::MemoryGateway;

use super::{erase, is_anywhere, key, put_back};
use crate::world::{RULES, World, object, rivals, two, two_with};

#[test]
fn a_hub_that_was_put_back_gets_nothing_back_that_was_erased() {
    let mut w = World::new(RULES, &["mw", "mw", "mw"]);
    w.put(0, "patient/p1", json!({"name": "secret-1"}));
    w.put(1, "patient/p2", json!({"name": "Bina"}));
    w.sync_all();
    let backup = w.hub.clone();
    w.edit(0, "patient/p1", json!({"name": "secret-2"}));
    w.put(0, "visit/v1", json!({"patient": "p1", "note": "secret-3"}));
    w.put(0, "visit/v2", json!({"patient": "p2", "note": "a dose"}));
    w.sync_all();
    // Away from here on, with all of it and one more.
    w.edit(2, "patient/p1", json!({"name": "secret-4"}));
    erase(&mut w, "patient/p1");
    w.sync(0);
    w.put(0, "patient/p1", json!({"name": "knowingly"}));
    w.sync(0);
    w.edit(0, "patient/p2", json!({"phone": "1"}));
    put_back(&mut w, backup);
    w.sync_all();
    w.sync_all();
    assert!(!is_anywhere(&w, "secret"));
    assert_eq!(w.body(1, "visit/v2")["note"], "a dose");
    assert_eq!(w.body(1, "patient/p2"), object(json!({"name": "Bina", "phone": "1"})));
    assert_eq!(w.body(1, "patient/p1")["name"], "knowingly", "the new life is not lost with the hub's week");
}

#[test]
fn the_original_of_an_op_that_was_erased_is_known_when_it_comes_again() {
    let mut w = two_with(json!({"name": "secret-1"}));
    w.put(0, "note/n1", json!({"text": "after it"}));
    w.sync(0);
    let old = MemoryGateway::clone(&w.gateways[0]);
    erase(&mut w, "patient/p1");
    // The card as it was is put into the box again: a guest that shows what it wrote, and has more to send.
    w.sync(0);
    w.put(0, "note/n2", json!({"text": "of the newer card"}));
    w.sync(0);
    w.gateways[0] = old;
    let state = w.gateways[0].state().unwrap();
    w.gateways[0].set_state(&gateway::GatewayState { told: false, ..state }).unwrap();
    w.put(0, "note/n3", json!({"text": "of the older card"}));
    w.sync_all();
    w.sync_all();
    assert!(!is_anywhere(&w, "secret"));
    for (note, text) in [("n1", "after it"), ("n2", "of the newer card"), ("n3", "of the older card")] {
        assert_eq!(w.body(1, &format!("note/{note}"))["text"], text);
    }
    assert_eq!(w.hub.history().filter(|op| op.key == key("note/n1")).count(), 1);
}

#[test]
fn a_card_that_is_handed_in_later_is_the_same_history_and_brings_nothing_back() {
    let mut w = two_with(json!({"name": "secret-1"}));
    w.put(0, "note/n1", json!({"text": "arrived"}));
    w.sync(0);
    let mut old = MemoryGateway::clone(&w.gateways[0]);
    // Written on the old card, and never sent.
    w.edit(0, "patient/p1", json!({"name": "secret-2"}));
    w.put(0, "note/n2", json!({"text": "only there"}));
    std::mem::swap(&mut old, &mut w.gateways[0]);
    erase(&mut w, "patient/p1");
    let mut rescuer = gateway::rescue::Rescuer::new(&old.state().unwrap(), [Seq(0); 3]);
    let mut live = 0;
    while let Some(answer) = rescue(&mut rescuer, &mut old, &mut w.hub, &mut w.link, w.now_ms as u64).unwrap() {
        live += answer.rescued.map_or(0, |sum| sum.waiting);
    }
    assert_eq!(live, 2, "its gateway still speaks under this origin, so what is new in it waits");
    assert!(!format!("{:?}", w.hub).contains("secret"));
    assert_eq!(w.hub.history().filter(|op| op.key == key("note/n1")).count(), 1, "not taken apart");
}

#[test]
fn a_hub_that_asks_again_for_what_was_erased_goes_on_over_it() {
    let mut w = two();
    w.sync_all();
    let backup = w.hub.clone();
    w.put(0, "note/n1", json!({"text": "before"}));
    w.put(0, "patient/p1", json!({"name": "secret-1"}));
    w.put(0, "note/n2", json!({"text": "behind"}));
    w.sync_all();
    erase(&mut w, "patient/p1");
    w.sync_all();
    let before = w.gateways[0].state().unwrap().origin;
    put_back(&mut w, backup);
    w.put(0, "note/n3", json!({"text": "later"}));
    w.sync_all();
    w.sync_all();
    assert!(!is_anywhere(&w, "secret"));
    for (note, text) in [("n1", "before"), ("n2", "behind"), ("n3", "later")] {
        assert_eq!(w.body(1, &format!("note/{note}"))["text"], text);
        assert!(rivals(&w.record(1, &format!("note/{note}")), "text").is_empty());
    }
    assert!(w.gateways[0].parked().is_empty(), "what was erased waits for nobody");
    assert_eq!(w.gateways[0].state().unwrap().unsent(), 0);
    assert_eq!(w.gateways[0].state().unwrap().origin, before);
}

#[test]
fn what_was_erased_is_a_gap_only_for_a_hub_that_has_said_that_it_goes_on_over_one() {
    let mut w = two();
    w.put(0, "patient/p1", json!({"name": "secret"}));
    w.put(0, "note/n1", json!({"text": "behind"}));
    let gateway = &mut w.gateways[0];
    let dot = Dot { origin: gateway.state().unwrap().origin, stream: Stream::Normal, seq: Seq(1) };
    gateway.settle_fate(dot, &Fate::Discarded(String::new())).unwrap();
    gateway.note_erasures(&[Erased { number: 1, name: name_of(&key("patient/p1")) }]).unwrap();
    gateway.erase(&key("patient/p1")).unwrap();
    assert_eq!(gateway.chain_before(Stream::Normal, Seq(2)).unwrap(), None);
    gateway.gaps_are_taken().unwrap();
    let chain = gateway.chain_before(Stream::Normal, Seq(2)).unwrap().unwrap();
    assert_eq!(Some(chain.short()), gateway.chain_at(Stream::Normal, Seq(1)).unwrap());
    assert_eq!(gateway.chain_before(Stream::Normal, Seq(3)).unwrap(), None, "before it nothing is missing");
}

#[test]
fn nothing_counts_twice_at_a_hub_that_was_put_back_to_before_an_op_that_was_erased() {
    for erases in [false, true] {
        let mut w = two();
        w.put(0, "patient/p2", json!({"name": "Bina", "visits": 0}));
        w.sync_all();
        let backup = w.hub.clone();
        w.put(0, "patient/p1", json!({"name": "a test patient"}));
        w.edit(0, "patient/p2", json!({"visits": 3, "notes": ["dose at 9:00"]}));
        w.sync_all();
        if erases {
            erase(&mut w, "patient/p1");
        }
        w.sync_all();
        put_back(&mut w, backup);
        // The other one comes first, with what it has seen.
        w.sync(1);
        w.sync_all();
        w.sync_all();
        let body = w.body(1, "patient/p2");
        assert_eq!((&body["visits"], &body["notes"]), (&json!(3), &json!(["dose at 9:00"])), "erased: {erases}");
    }
}

#[test]
fn erased_ops_at_the_end_of_a_stream_are_not_waited_for() {
    let mut w = two();
    w.put(0, "patient/p2", json!({"name": "Bina", "visits": 1}));
    w.sync_all();
    let backup = w.hub.clone();
    w.edit(0, "patient/p2", json!({"visits": 3}));
    w.put(0, "patient/p1", json!({"name": "secret-1"}));
    w.edit(0, "patient/p1", json!({"name": "secret-2"}));
    w.sync_all();
    erase(&mut w, "patient/p1");
    w.sync_all();
    put_back(&mut w, backup);
    let traffic = w.sync(0);
    let state = w.gateways[0].state().unwrap();
    assert!(!traffic.again && state.unsent() == 0, "{traffic:?}");
    assert_eq!((state.stream(Stream::Normal).acked, state.stream(Stream::Normal).last), (Seq(2), Seq(4)));
    // What is written after them has a number of its own, and goes.
    w.edit(0, "patient/p2", json!({"visits": 4}));
    let state = w.gateways[0].state().unwrap();
    assert_eq!((state.stream(Stream::Normal).last, state.unsent()), (Seq(5), 3));
    w.sync(1);
    w.sync_all();
    w.sync_all();
    assert_eq!(w.body(1, "patient/p2")["visits"], json!(4));
    assert_eq!(w.gateways[0].state().unwrap().unsent(), 0);
    assert!(!is_anywhere(&w, "secret"));
}

#[test]
fn a_visit_corrected_to_another_patient_survives_a_hub_that_is_put_back() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.put(0, "patient/p1", json!({"name": "erased"}));
    w.put(0, "patient/p2", json!({"name": "Bina"}));
    w.sync_all();
    let backup = w.hub.clone();
    w.put(0, "visit/v1", json!({"patient": "p1", "note": "a dose for Bina"}));
    w.sync_all();
    w.edit(1, "visit/v1", json!({"patient": "p2"}));
    w.sync_all();
    let wiped = erase(&mut w, "patient/p1");
    assert_eq!(wiped.records, 1, "the visit is Bina's");
    w.sync_all();
    assert_eq!(w.body(0, "visit/v1")["note"], "a dose for Bina");
    put_back(&mut w, backup);
    w.sync_all();
    w.sync_all();
    let at_gateway = w.gateways[0].record(&key("visit/v1")).map(|held| render(&held.visible));
    assert_eq!(w.hub.erasure(&key("visit/v1")).unwrap(), None, "Bina's visit was erased everywhere: {at_gateway:?}");
}
