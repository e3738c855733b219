//! A gateway that an admin shut out: what it sends waits for a person, and nothing goes down to it.

use serde_json::json;
use sync_protocol::gateway::{self, Intent, Store as _};
use sync_protocol::hub::{self, Snapshot as _};
use sync_protocol::id::{Device, Epoch};
use sync_protocol::identity::DeviceKey;
use sync_protocol::limits::{RECORD_KEPT_BYTES_MAX, REVOKED_BYTES_MAX};
use sync_protocol::loopback::{exchange, settle};
use sync_protocol::message::Status;

use crate::world::{World, object, two};

/// One of two gateways is shut out, and does not know it yet.
fn shut_out() -> (World, Device) {
    let mut w = two();
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    let device = w.gateways[0].state().unwrap().device;
    w.hub.revoke(device);
    w.put(1, "patient/others", json!({"name": "Bina"}));
    w.sync(1);
    w.put(0, "patient/p1", json!({"name": "Asha Banda"}));
    w.put(0, "patient/p2", json!({"name": "Chisomo"}));
    w.put(0, "patient/p2", json!({"name": "Chisomo Phiri"}));
    (w, device)
}

fn is_revoked(w: &mut World) -> bool {
    w.gateways[0].state().unwrap().is_revoked
}

#[test]
fn what_it_sends_waits_and_is_judged_when_it_is_allowed_again() {
    let (mut w, device) = shut_out();
    let told = w.sync(0);
    assert_eq!((told.status, told.rows), (Some(Status::Revoked), 0), "nothing comes down");
    assert!(is_revoked(&mut w) && w.gateways[0].state().unwrap().unsent() == 0, "it knows, and has sent all");
    assert_eq!(w.hub.quarantine().len(), 3);
    assert_eq!(w.hub_record("patient/p1"), w.record(1, "patient/p1"), "the record is as it was");
    let missing = w.gateways[0].record(&sync_protocol::id::RecordKey::parse("patient/others").unwrap());
    assert!(missing.is_none());

    assert_eq!(hub::review_all(&mut w.hub).unwrap(), 0, "no rule frees it");
    w.put(0, "patient/p2", json!({"name": "Chisomo P."}));
    w.sync(0);
    assert_eq!(w.hub.quarantine().len(), 4, "nor does what comes after it");
    let first = w.hub.quarantine()[0].op.stamp.dot;
    assert!(hub::release(&mut w.hub, first).unwrap(), "a person does");
    assert_eq!(w.hub.quarantine().len(), 3);

    assert_eq!(hub::allow(&mut w.hub, device).unwrap(), 1);
    assert!(w.hub.quarantine().is_empty());
    w.sync_all();
    assert!(!is_revoked(&mut w) && w.gateways[0].parked().is_empty());
    assert_eq!(w.body(1, "patient/p1")["name"], "Asha Banda");
    assert_eq!(w.body(1, "patient/p2")["name"], "Chisomo P.");
    assert_eq!(w.body(0, "patient/others")["name"], "Bina");
}

#[test]
fn a_card_that_was_replaced_since_is_still_shut_out_and_moves_nothing_of_the_new_one() {
    let (mut w, device) = shut_out();
    let new = w.hub.enroll_again(device, DeviceKey([99; 32])).unwrap();
    let told = w.sync(0);
    assert_eq!((told.status, told.rows), (Some(Status::Revoked), 0));
    assert!(is_revoked(&mut w));
    assert_eq!(w.hub.gateway(device).unwrap().unwrap(), new);
    assert_eq!(w.hub.quarantine().len(), 3);
    hub::allow(&mut w.hub, device).unwrap();
    assert_eq!(w.hub.quarantine().len(), 3, "that the new card is good does not vouch for the old one");
}

#[test]
fn it_cannot_make_the_hub_believe_that_it_was_put_back() {
    let (mut w, _) = shut_out();
    let epoch = w.hub.epoch().unwrap();
    let mut state = w.gateways[0].state().unwrap();
    (state.cursor, state.turn) = (sync_protocol::id::HubSeq(1_000_000), 9_999);
    w.gateways[0].set_state(&state).unwrap();
    w.sync(0);
    assert!(is_revoked(&mut w));
    assert_eq!(w.hub.epoch().unwrap(), epoch);
}

#[test]
fn a_hub_that_was_put_back_hears_from_it_what_it_lost() {
    let mut w = two();
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    let before = w.hub.clone();
    w.put(0, "patient/p2", json!({"name": "Bina"}));
    w.sync(0);
    w.hub = before.restored(true, Epoch(77), 0);
    let device = w.gateways[0].state().unwrap().device;
    w.hub.revoke(device);
    w.sync(0);
    assert!(is_revoked(&mut w));
    let waiting: Vec<_> = w.hub.quarantine().iter().map(|held| held.op.key.to_string()).collect();
    assert_eq!(waiting, ["patient/p2"]);
}

#[test]
fn the_key_of_a_card_that_was_replaced_does_not_speak_for_the_new_one() {
    let (mut w, device) = shut_out();
    let new = w.hub.enroll_again(device, DeviceKey([99; 32])).unwrap();
    gateway::adopt_origin(&mut w.gateways[0], new.origin).unwrap();
    let told = w.sync(0);
    assert_eq!(told.status, Some(Status::Revoked));
    assert!(w.hub.quarantine().is_empty() && w.hub.history().all(|op| op.stamp.dot.origin != new.origin));
}

#[test]
fn what_it_sends_under_an_origin_that_it_was_offered_is_its_own_when_it_is_allowed_again() {
    let mut w = two();
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    let image = w.gateways[0].clone();
    w.put(0, "patient/p2", json!({"name": "Bina"}));
    w.sync(0);
    // Its card is put back, and is told how to go on; then it is shut out, before it could say that it does.
    w.gateways[0] = image;
    w.put(0, "patient/p3", json!({"name": "Chisomo"}));
    let before = w.gateways[0].state().unwrap();
    while w.gateways[0].state().unwrap().origin == before.origin {
        exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    }
    w.hub.revoke(before.device);
    w.sync(0);
    assert_eq!(w.hub.quarantine().len(), 1);
    assert_eq!(hub::allow(&mut w.hub, before.device).unwrap(), 1);
    w.sync_all();
    w.sync_all();
    assert_eq!(w.body(1, "patient/p3")["name"], "Chisomo");
}

#[test]
fn what_waits_of_it_has_an_end_and_what_was_not_taken_stays_with_it() {
    let (mut w, device) = shut_out();
    let long = "x".repeat(900_000);
    for n in 0..80 {
        w.put(0, &format!("note/n{n}"), json!({"text": long}));
    }
    for _ in 0..40 {
        w.sync(0);
    }
    let (_, bytes) = w.hub.held_for_person(device).unwrap();
    let limit = REVOKED_BYTES_MAX as u64;
    assert!((limit..limit + RECORD_KEPT_BYTES_MAX as u64).contains(&bytes), "{bytes}");
    let unsent = w.gateways[0].state().unwrap().unsent();
    assert!(unsent > 0 && is_revoked(&mut w));

    hub::allow(&mut w.hub, device).unwrap();
    for _ in 0..20 {
        w.sync(0);
    }
    assert_eq!(w.gateways[0].state().unwrap().unsent(), 0, "it sends on when what waited was let go");
}

/// A card was copied, and the box with the copy was shut out. Somebody puts an older image of it on a box, from before the two were
/// told apart.
#[test]
fn an_older_image_of_a_copy_that_was_revoked_is_not_taken_in_as_another_copy() {
    let mut w = two();
    w.gateways[0].set_print([1; 8]);
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    let (mut copy, older) = (w.copy_of(0, 2), w.copy_of(0, 2));
    let first = older.clone().state().unwrap().device;
    for _ in 0..2 {
        exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    }
    settle(&mut copy, &mut w.hub, &mut w.link, w.now_ms as u64, 20).unwrap();
    let device = copy.state().unwrap().device;
    assert_ne!(device, first, "a gateway of its own");
    w.hub.revoke(device);
    let comes = |w: &mut World, print: u8| {
        let mut image = older.clone();
        image.set_print([print; 8]);
        let wish = w.wish("patient/p2", Intent::Put(object(json!({"name": "Bina"}))));
        gateway::capture(&mut image, wish).unwrap();
        let told = settle(&mut image, &mut w.hub, &mut w.link, w.now_ms as u64, 20).unwrap();
        let state = image.state().unwrap();
        (told.status, state.device, state.unsent())
    };
    for print in [2, 3] {
        assert_eq!(comes(&mut w, print), (Some(Status::Denied), first, 1), "in box {print}");
    }
    w.hub.enroll_again(device, DeviceKey([99; 32])).unwrap();
    assert_eq!(comes(&mut w, 3), (Some(Status::Denied), first, 1), "although another card has its name");
    assert_eq!(w.hub.gateways().unwrap().iter().filter(|gateway| gateway.twin_of.is_some()).count(), 1);
    assert!(w.hub.records().all(|(key, _)| key.id.as_str() != "p2"), "nothing of it is taken");
    // The one that stays goes on.
    w.put(0, "patient/p3", json!({"name": "Chisomo"}));
    w.sync_all();
    assert_eq!(w.hub_record("patient/p3"), w.record(0, "patient/p3"));
}

#[test]
fn that_a_copy_was_revoked_after_it_had_a_card_of_its_own_is_nothing_to_the_first() {
    let mut w = two();
    w.gateways[0].set_print([1; 8]);
    w.sync_all();
    let (mut copy, mut another) = (w.copy_of(0, 2), w.copy_of(0, 3));
    for _ in 0..2 {
        exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    }
    settle(&mut copy, &mut w.hub, &mut w.link, w.now_ms as u64, 20).unwrap();
    let device = copy.state().unwrap().device;
    w.hub.enroll_again(device, DeviceKey([99; 32])).unwrap();
    w.hub.revoke(device);
    settle(&mut another, &mut w.hub, &mut w.link, w.now_ms as u64, 20).unwrap();
    let another = another.state().unwrap().device;
    assert!(another != device && another != w.gateways[0].state().unwrap().device, "it is a copy as any");
}
