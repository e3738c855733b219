//! What an old card still holds is handed in, once, whatever happened to card, hub and gateway meanwhile.

use serde_json::{Value, json};
use sync_protocol::gateway::rescue::{Rescuer, Tally};
use sync_protocol::gateway::{GatewayState, Store as _};
use sync_protocol::hub::Snapshot as _;
use sync_protocol::id::{Dot, Epoch, Origin, RecordKey, Seq, Source};
use sync_protocol::identity::DeviceKey;
use sync_protocol::loopback;
use sync_protocol::memory::{MemoryGateway, MemoryHub};
use sync_protocol::message::Status;
use sync_protocol::rules::Rules;

use crate::world::{World, object, rivals};

const RULES: &str = r#"
version = 1
[types.stock.fields]
used = "counter"
[types.case.fields]
log = "append-only"
tags = "set"
[types.patient.fields]
allergy = "keep-both"
[types.visit]
parents = { patient = "patient" }
"#;

/// One clinic that has synced once and then worked without a link.
fn clinic() -> World {
    let mut w = World::new(RULES, &["mw"]);
    w.put(0, "stock/s1", json!({"used": 3}));
    w.put(0, "case/c1", json!({"log": ["a"], "tags": ["x"]}));
    w.sync_all();
    work(&mut w, 0, &["u1", "u2", "u3"]);
    w
}

/// Each adds 2 to the counter, a line to the list, a tag that takes the place of another, and a record.
fn work(w: &mut World, at: usize, names: &[&str]) -> Vec<Dot> {
    let mut dots = Vec::new();
    for name in names {
        let used = w.body(at, "stock/s1")["used"].as_i64().unwrap();
        dots.push(w.put(at, "stock/s1", json!({"used": used + 2})).op.unwrap());
        let mut log = w.body(at, "case/c1")["log"].as_array().unwrap().clone();
        log.push(json!(name));
        dots.push(w.put(at, "case/c1", json!({"log": log, "tags": [name]})).op.unwrap());
        dots.push(w.put(at, &format!("patient/{name}"), json!({"name": name})).op.unwrap());
    }
    dots
}

/// Hands in what a file holds. The hub's picture of its gateways must not change by it.
fn rescue(w: &mut World, file: &MemoryGateway) -> Tally {
    let mut file = file.clone();
    let rescuer = Rescuer::new(&file.state().unwrap(), [Seq(0); 3]);
    hand_in(w, &mut file, rescuer)
}

fn hand_in(w: &mut World, file: &mut MemoryGateway, mut rescuer: Rescuer) -> Tally {
    let before = file.state().unwrap();
    let known = gateways(&mut w.hub);
    for _ in 0..200 {
        match loopback::rescue(&mut rescuer, file, &mut w.hub, &mut w.link, w.now_ms as u64).unwrap() {
            Some(answer) => assert_eq!(answer.status, Status::Ok, "{:?}", answer.reason),
            None => {
                assert_eq!(gateways(&mut w.hub), known, "nobody's turn, origin or view changed");
                assert_eq!(file.state().unwrap(), before);
                return rescuer.tally();
            }
        }
    }
    panic!("it has no end")
}

fn gateways(hub: &mut MemoryHub) -> Vec<sync_protocol::hub::Gateway> {
    (1..10).filter_map(|device| hub.gateway(sync_protocol::id::Device(device)).unwrap()).collect()
}

/// The card is gone, and a new one was enrolled under the same name.
fn replace_card(w: &mut World, at: usize) -> MemoryGateway {
    let old = w.gateways[at].clone();
    let device = old.clone().state().unwrap().device;
    let known = w.hub.enroll_again(device, DeviceKey([0x55; 32])).unwrap();
    let mut new = MemoryGateway::default();
    let state = new.state().unwrap();
    let (origin, key, scopes) = (known.origin, known.key, known.scopes);
    new.set_state(&GatewayState { device, origin, key, scopes, epoch: w.hub.epoch().unwrap(), ..state }).unwrap();
    new.set_rules(std::sync::Arc::new(Rules::parse(RULES).unwrap())).unwrap();
    w.gateways[at] = new;
    old
}

fn state_of(w: &mut World, key: &str) -> Value {
    Value::Object(sync_protocol::edit::render(&w.hub_record(key)))
}

fn log_of(w: &mut World) -> Vec<String> {
    let list = state_of(w, "case/c1")["log"].as_array().unwrap().clone();
    list.iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

fn used(w: &mut World) -> i64 {
    state_of(w, "stock/s1")["used"].as_i64().unwrap()
}

#[test]
fn what_only_the_old_card_had_arrives_under_its_own_numbers_and_only_once() {
    let mut w = clinic();
    let old = replace_card(&mut w, 0);
    assert_eq!(rescue(&mut w, &old), Tally { in_place: 9, ..Tally::default() });
    assert_eq!((used(&mut w), log_of(&mut w)), (9, vec!["a".into(), "u1".into(), "u2".into(), "u3".into()]));
    assert_eq!(state_of(&mut w, "case/c1")["tags"], json!(["u3"]));
    let again = rescue(&mut w, &old);
    assert_eq!(again, Tally { known: 9, ..Tally::default() });
    assert_eq!((used(&mut w), log_of(&mut w).len()), (9, 4));
    // The card turns out to be alive after all: what it sends is known.
    let origin = old.clone().state().unwrap().origin;
    assert!(w.hub.history().all(|op| op.stamp.dot.origin == origin));
    w.sync_all();
    assert_eq!(w.body(0, "stock/s1")["used"], json!(9));
}

#[test]
fn two_copies_of_one_card_are_one_card() {
    let mut w = clinic();
    let earlier = w.gateways[0].clone();
    work(&mut w, 0, &["u4", "u5"]);
    let later = replace_card(&mut w, 0);
    assert_eq!(rescue(&mut w, &earlier).in_place, 9);
    assert_eq!(rescue(&mut w, &later), Tally { known: 9, in_place: 6, ..Tally::default() });
    assert_eq!(rescue(&mut w, &earlier), Tally { known: 9, ..Tally::default() });
    assert_eq!((used(&mut w), log_of(&mut w).len()), (13, 6));
}

#[test]
fn what_cannot_be_read_keeps_nothing_else_back_and_may_turn_up_later() {
    let mut w = clinic();
    let whole = replace_card(&mut w, 0);
    let ops: Vec<Dot> = whole.own().map(|(op, _)| op.stamp.dot).filter(|dot| dot.seq > Seq(2)).collect();
    let (lost_count, lost_line) = (ops[3], ops[4]);
    let mut damaged = whole.clone();
    damaged.lose(lost_count);
    damaged.lose(lost_line);
    assert_eq!(rescue(&mut w, &damaged), Tally { in_place: 3, apart: 4, ..Tally::default() });
    assert_eq!((used(&mut w), log_of(&mut w)), (7, vec!["a".into(), "u1".into(), "u3".into()]));
    assert_eq!(rescue(&mut w, &damaged), Tally { known: 7, ..Tally::default() });
    // In another copy it can be read.
    let tally = rescue(&mut w, &whole);
    assert_eq!((tally.known, tally.in_place + tally.apart), (7, 2));
    assert_eq!(log_of(&mut w), ["a", "u1", "u2", "u3"]);
    for file in [&damaged, &whole, &damaged] {
        rescue(&mut w, file);
    }
    assert_eq!((used(&mut w), log_of(&mut w).len()), (9, 4));
    // When it was taken out nobody here knew of it. That it stands is the safe side.
    assert_eq!(state_of(&mut w, "case/c1")["tags"], json!(["u2", "u3"]));
    w.sync_all();
}

/// Yesterday's image goes on while the newer file lies in a drawer. Both had work of their own and some in common.
fn image_put_back(link_before: bool) -> (World, MemoryGateway) {
    let mut w = clinic();
    if link_before {
        w.sync_all();
    }
    let image = w.gateways[0].clone();
    work(&mut w, 0, &["newer1"]);
    if link_before {
        w.sync_all();
        work(&mut w, 0, &["newer2"]);
    }
    w.put(0, "patient/u1", json!({"name": "u1", "allergy": "penicillin"}));
    let newer = std::mem::replace(&mut w.gateways[0], image);
    (w, newer)
}

#[test]
fn the_newer_file_of_a_card_that_was_put_back_hands_in_what_the_card_never_had() {
    let (mut w, newer) = image_put_back(true);
    work(&mut w, 0, &["live1"]);
    w.put(0, "patient/u1", json!({"name": "u1", "allergy": "nuts"}));
    w.sync_all();
    let tally = rescue(&mut w, &newer);
    assert_eq!(tally.in_place + tally.apart, 4, "{tally:?}");
    assert_eq!(rescue(&mut w, &newer), Tally { known: 4, ..Tally::default() });
    assert_eq!(used(&mut w), 3 + 2 * 6);
    let mut lines = log_of(&mut w);
    lines.sort();
    assert_eq!(lines, ["a", "live1", "newer1", "newer2", "u1", "u2", "u3"]);
    let stands = w.hub_record("patient/u1");
    assert_eq!(rivals(&stands, "allergy").len(), 1, "both allergies stand");
    let live = w.gateways[0].state().unwrap().origin;
    w.sync_all();
    work(&mut w, 0, &["live2"]);
    w.sync_all();
    assert_eq!(w.gateways[0].state().unwrap().origin, live);
    assert_eq!(w.body(0, "stock/s1")["used"], json!(17));
}

#[test]
fn what_a_gateway_may_still_send_itself_is_left_to_it() {
    // There was no link in all that time, so the hub does not know that the card was put back.
    let (mut w, newer) = image_put_back(false);
    work(&mut w, 0, &["live1"]);
    let tally = rescue(&mut w, &newer);
    assert_eq!((tally.waiting, tally.in_place + tally.apart), (13, 0), "{tally:?}");
    let live = w.gateways[0].state().unwrap().origin;
    w.sync_all();
    let tally = rescue(&mut w, &newer);
    assert_eq!((tally.known, tally.apart, tally.waiting), (9, 4, 0), "{tally:?}");
    assert_eq!(rescue(&mut w, &newer), Tally { known: 13, ..Tally::default() });
    assert_eq!(used(&mut w), 3 + 2 * 5);
    let mut lines = log_of(&mut w);
    lines.sort();
    assert_eq!(lines, ["a", "live1", "newer1", "u1", "u2", "u3"]);
    work(&mut w, 0, &["live2"]);
    w.sync_all();
    assert_eq!(w.gateways[0].state().unwrap().origin, live, "the gateway goes on as it did");
}

#[test]
fn two_cards_whose_clock_stood_still_did_two_things() {
    // Boxes without a clock: the hybrid clock only counts, so the first writes of both cards have the same time.
    let mut w = clinic();
    w.sync_all();
    let dose = |w: &mut World, now_ms: i64| {
        w.now_ms = now_ms;
        let used = w.body(0, "stock/s1")["used"].as_i64().unwrap();
        w.put(0, "stock/s1", json!({"used": used + 1}));
    };
    let mut file = w.gateways[0].clone();
    std::mem::swap(&mut w.gateways[0], &mut file);
    dose(&mut w, 70_000);
    std::mem::swap(&mut w.gateways[0], &mut file);
    dose(&mut w, 10_000);
    let hlc = |card: &MemoryGateway| card.own().map(|(op, _)| op.stamp.hlc).max();
    assert_eq!(hlc(&w.gateways[0]), hlc(&file));
    w.now_ms = 1_780_000_900_000;
    w.sync_all();
    let before = used(&mut w);
    assert_eq!(rescue(&mut w, &file).apart, 1);
    assert_eq!((used(&mut w), rescue(&mut w, &file).known), (before + 1, 1));
}

#[test]
fn a_file_that_grew_after_its_rescue_goes_on_where_it_was() {
    let (mut w, mut newer) = image_put_back(false);
    work(&mut w, 0, &["live1"]);
    w.sync_all();
    assert_eq!(rescue(&mut w, &newer).apart, 4);
    let rescued: Vec<Origin> = w.hub.history().map(|op| op.stamp.dot.origin).collect();
    // Somebody used that card once more.
    std::mem::swap(&mut w.gateways[0], &mut newer);
    w.put(0, "patient/u1", json!({"name": "u1", "allergy": "latex"}));
    work(&mut w, 0, &["newer9"]);
    std::mem::swap(&mut w.gateways[0], &mut newer);
    let tally = rescue(&mut w, &newer);
    assert_eq!((tally.known, tally.apart), (13, 4), "{tally:?}");
    assert!(w.hub.history().all(|op| rescued.contains(&op.stamp.dot.origin)), "under the same origin as before");
    assert_eq!(used(&mut w), 15);
    let stands = w.hub_record("patient/u1");
    assert_eq!(rivals(&stands, "allergy"), Vec::<Value>::new(), "who corrected it knew what stood there");
    // Another copy, from before that, was used elsewhere: a history of its own.
    let (_, mut other) = image_put_back(false);
    std::mem::swap(&mut w.gateways[0], &mut other);
    work(&mut w, 0, &["other"]);
    std::mem::swap(&mut w.gateways[0], &mut other);
    let tally = rescue(&mut w, &other);
    assert_eq!((tally.known, tally.apart), (13, 3), "{tally:?}");
    assert_eq!(used(&mut w), 17);
    assert_eq!(rescue(&mut w, &other).apart, 0);
    w.sync_all();
}

#[test]
fn a_hub_that_was_put_back_gets_what_the_file_has_of_the_time_it_lost() {
    let mut w = World::new(RULES, &["mw"]);
    w.put(0, "stock/s1", json!({"used": 3}));
    w.put(0, "case/c1", json!({"log": ["a"], "tags": ["x"]}));
    w.sync_all();
    let backup = w.hub.clone();
    work(&mut w, 0, &["u1", "u2"]);
    w.sync_all();
    work(&mut w, 0, &["u3"]);
    w.hub = backup.restored(true, Epoch(77), 0);
    let old = replace_card(&mut w, 0);
    // The numbers of the lost time are given to other changes.
    for n in 0..30 {
        w.put(0, &format!("patient/after{n}"), json!({"n": n}));
    }
    w.sync(0);
    w.put(0, "patient/u1", json!({"name": "someone else's"}));
    w.sync(0);
    assert_eq!(rescue(&mut w, &old), Tally { in_place: 9, ..Tally::default() });
    assert_eq!(rescue(&mut w, &old), Tally { known: 3, ..Tally::default() }, "of the rest it knows that it arrived");
    assert_eq!((used(&mut w), log_of(&mut w).len()), (9, 4));
    w.sync_all();
    // What it says it had seen are numbers of an epoch that is gone: it overrules nothing by them.
    let common = w.hub.common(Epoch(0)).unwrap();
    let origin = old.clone().state().unwrap().origin;
    assert!(w.hub.history().filter(|op| op.stamp.dot.origin == origin).all(|op| op.stamp.seen <= common));
}

#[test]
fn what_was_written_before_any_enrolment_is_handed_in_by_another_gateway() {
    let mut w = World::new(RULES, &["mw/zomba", "mw/zomba"]);
    w.gateways.push(MemoryGateway::default());
    w.gateways[2].set_rules(std::sync::Arc::new(Rules::parse(RULES).unwrap())).unwrap();
    w.put(2, "stock/s1", json!({"used": 3}));
    w.put(2, "case/c1", json!({"log": ["a"], "tags": ["x"]}));
    work(&mut w, 2, &["u1"]);
    let mut file = w.gateways.pop().unwrap();
    let of = file.state().unwrap();
    for known in [0, 5] {
        let by = w.gateways[0].state().unwrap();
        let tally = hand_in(&mut w, &mut file, Rescuer::of_unenrolled(&by, &of, [Seq(0); 3]));
        assert_eq!(tally, Tally { known, apart: 5 - known, ..Tally::default() });
    }
    assert_eq!((used(&mut w), log_of(&mut w)), (5, vec!["a".into(), "u1".into()]));
    assert_eq!(w.hub_record("case/c1").scope().as_str(), "mw/zomba");
    assert_eq!(state_of(&mut w, "case/c1")["tags"], json!(["u1"]), "what was taken out is named by its new number");
    w.sync_all();
    // Another gateway hands in the same file.
    let by = w.gateways[1].state().unwrap();
    assert_eq!(hand_in(&mut w, &mut file, Rescuer::of_unenrolled(&by, &of, [Seq(0); 3])).known, 5);
    assert_eq!(used(&mut w), 5);
}

#[test]
fn a_long_file_goes_in_many_requests_and_comes_out_the_same() {
    let mut w = clinic();
    let names: Vec<String> = (0..60).map(|n| format!("w{n}")).collect();
    let dots = work(&mut w, 0, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut old = replace_card(&mut w, 0);
    old.lose(dots[5]);
    w.link.up_bytes = 1;
    let tally = rescue(&mut w, &old);
    assert_eq!((tally.in_place, tally.apart, tally.known), (14, 174, 0));
    assert_eq!(rescue(&mut w, &old), Tally { known: 188, ..Tally::default() });
    assert_eq!((used(&mut w), log_of(&mut w).len()), (3 + 2 * 63, 1 + 63));
}

#[test]
fn who_is_shut_out_or_has_no_key_hands_in_nothing() {
    let mut w = clinic();
    let old = replace_card(&mut w, 0);
    let state = old.clone().state().unwrap();
    let refused = |state: &GatewayState, w: &mut World| {
        let mut rescuer = Rescuer::new(state, [Seq(0); 3]);
        let now_ms = w.now_ms as u64;
        let answer =
            loopback::rescue(&mut rescuer, &mut old.clone(), &mut w.hub, &mut w.link, now_ms).unwrap().unwrap();
        assert_eq!(answer.status, Status::Denied);
        answer.reason.unwrap()
    };
    let stolen = GatewayState { key: DeviceKey([9; 32]), ..state.clone() };
    assert!(refused(&stolen, &mut w).contains("key"));
    let other = w.hub.enroll(state.scopes.clone(), Source::CLINIC, DeviceKey([8; 32]));
    let foreign = GatewayState { origin: other.origin, ..state.clone() };
    assert!(refused(&foreign, &mut w).contains("origin"));
    let nobody = GatewayState { device: sync_protocol::id::Device(77), ..state };
    assert!(refused(&nobody, &mut w).contains("not enrolled"));
    assert!(w.hub.records().all(|(key, _)| *key != RecordKey::parse("patient/u1").unwrap()));
    assert_eq!(object(state_of(&mut w, "stock/s1"))["used"], json!(3));
}
