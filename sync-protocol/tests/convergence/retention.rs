//! What a gateway may forget, and that a hub which goes back behind that gets everything all the same.

use serde_json::json;
use sync_protocol::frame::{Effort, Packer, split};
use sync_protocol::gateway::retention::{Milestone, Reach, is_worth_noting, milestone, reach};
use sync_protocol::gateway::{self, GatewayState, Store as _, StreamState};
use sync_protocol::hub::{self, Mark, Snapshot as _, Store as _};
use sync_protocol::id::{Dot, Epoch, FieldName, HubSeq, Origin, RecordKey, Seq, Stream};
use sync_protocol::loopback::exchange;
use sync_protocol::memory::{MemoryGateway, MemoryHub};
use sync_protocol::message::Bound;
use sync_protocol::payload::Payload;

use crate::world::{World, object, rivals};

const COUNTED: &str = r#"
version = 1
[types.stock.fields]
used = "counter"
[types.case.fields]
log = { rule = "append-only" }
tags = { rule = "set" }
[types.patient]
default = "keep-both"
"#;
const DAY_MS: i64 = 86_400_000;

/// Forgets all that may be forgotten as soon as it is acknowledged.
pub(crate) fn compact(gateway: &mut MemoryGateway) -> usize {
    let own = gateway.state().unwrap().streams.map(|stream| stream.acked);
    gateway.compact(&Reach { own, changes: 0, earlier: true })
}

fn dots(gateway: &MemoryGateway) -> Vec<u64> {
    gateway.own().map(|(op, _)| op.stamp.dot.seq.0).collect()
}

/// A gateway that wrote much, and forgot what nobody needs any more.
fn forgetful() -> (World, MemoryHub) {
    let mut w = World::new(COUNTED, &["mw", "mw"]);
    w.put(0, "patient/p1", json!({"name": "Asha", "phone": "0"}));
    w.sync_all();
    let backup = w.hub.clone();
    for n in 1..=4 {
        w.edit(0, "patient/p1", json!({"phone": n.to_string()}));
        w.put(0, "stock/s1", json!({"used": 2 * n}));
        w.sync_all();
    }
    w.put(0, "case/c1", json!({"log": ["a"], "tags": ["x"]}));
    w.edit(0, "case/c1", json!({"log": ["a", "b"], "tags": ["y"]}));
    w.edit(1, "patient/p1", json!({"name": "Asha Phiri"}));
    w.sync_all();
    (w, backup)
}

#[test]
fn only_what_stands_nowhere_is_forgotten() {
    let (mut w, _) = forgetful();
    // Numbers 2 to 9 are phone and stock in turns; 10 and 11 the case.
    assert_eq!(compact(&mut w.gateways[0]), 5);
    assert_eq!(dots(&w.gateways[0]), [1, 3, 8, 9, 10, 11], "the first ones have scopes that stand");
    assert_eq!(compact(&mut w.gateways[0]), 0);
}

#[test]
fn what_lost_without_being_seen_and_what_waits_is_not_forgotten() {
    let mut w = World::new("version = 1\n[types.visit]\nparents = { patient = \"patient\" }\n", &["mw", "mw"]);
    w.put(0, "patient/p1", json!({"phone": "1"}));
    w.put(0, "visit/v1", json!({"patient": "nobody", "day": "1"}));
    w.sync_all();
    w.edit(0, "patient/p1", json!({"phone": "2"}));
    w.edit(1, "patient/p1", json!({"phone": "3"}));
    w.edit(0, "visit/v1", json!({"day": "2"}));
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "phone"), json!("3"), "the later one, by the rule");
    assert_eq!(compact(&mut w.gateways[0]), 0, "the loser was never seen by the winner");
    // A person who has seen both decides.
    w.edit(1, "patient/p1", json!({"phone": "4"}));
    w.sync_all();
    assert_eq!(compact(&mut w.gateways[0]), 0, "the newest of a record stays");
    w.edit(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    assert_eq!(compact(&mut w.gateways[0]), 1);
    assert_eq!(w.gateways[0].parked().len(), 2);
}

#[test]
fn nothing_is_forgotten_of_a_record_of_which_only_a_part_is_here() {
    let mut w = World::new(COUNTED, &["mw/a", "mw/b"]);
    w.put(0, "patient/p1", json!({"phone": "1"}));
    w.sync(0);
    // The other one does not hold it: it is elsewhere.
    w.put(1, "patient/p1", json!({"phone": "2"}));
    w.sync(1);
    w.put(1, "patient/p1", json!({"phone": "3"}));
    let held = hear_only_the_head(&mut w, 1);
    assert_eq!(held, Some(1), "of the phones that stand at the hub only the last is seen");
    assert_eq!(compact(&mut w.gateways[1]), 0);
    w.put(1, "patient/p1", json!({"phone": "4"}));
    w.sync(1);
    w.sync(0);
    let phones = rivals(&w.record(0, "patient/p1"), "phone").len() + 1;
    assert_eq!(phones, 3, "the last overrules what was shown, and neither of those that were not");
}

/// Exchanges, and the link breaks behind the head of the answer. Gives how many phones are then confirmed.
fn hear_only_the_head(w: &mut World, at: usize) -> Option<usize> {
    let clock = gateway::WallClock { now_ms: w.now_ms as u64, ahead_seconds: None };
    let mut packer = Packer::new(Effort::Quick).unwrap();
    let asked = gateway::request(&mut w.gateways[at], &mut packer, clock, 10_000, 10_000).unwrap();
    let hub::Opened::Ready(mut with) = hub::open(&mut w.hub, asked.head.clone(), w.now_ms as u64).unwrap() else {
        panic!("refused")
    };
    for frame in &asked.frames {
        let (inside, _) = split(frame).unwrap().unwrap();
        let Payload::Ops(ops) = Payload::decode(&packer.unpack(inside).unwrap()).unwrap() else { panic!("rows") };
        hub::receive(&mut w.hub, &mut with, &ops).unwrap();
    }
    let grant = hub::grant(&mut w.hub, &with, w.now_ms as u64).unwrap();
    let answer = hub::pull(&mut w.hub, &mut packer, &with.request, grant).unwrap();
    gateway::integrate_head(&mut w.gateways[at], &asked.head, &answer.head).unwrap();
    let key = RecordKey::parse("patient/p1").unwrap();
    let confirmed = w.gateways[at].record(&key)?.confirmed.clone()?;
    Some(confirmed.cells[&FieldName::new("phone").unwrap()].stamps().len())
}

#[test]
fn a_hub_from_before_it_was_forgotten_gets_everything_back_under_the_same_numbers() {
    for said in [true, false] {
        let (mut w, backup) = forgetful();
        compact(&mut w.gateways[0]);
        w.edit(0, "stock/s1", json!({"used": 11}));
        let origin = w.gateways[0].state().unwrap().origin;
        w.hub = backup.restored(said, Epoch(77), 0);
        // Nobody else is there to bring anything back.
        let other = w.gateways.pop();
        w.sync_all();
        assert_eq!(w.gateways[0].state().unwrap().origin, origin, "its history fits");
        assert_eq!(w.body(0, "patient/p1"), object(json!({"name": "Asha Phiri", "phone": "4"})));
        assert_eq!(w.body(0, "stock/s1")["used"], json!(11), "neither doubled nor less");
        assert_eq!(w.body(0, "case/c1"), object(json!({"log": ["a", "b"], "tags": ["y"]})));
        for key in ["patient/p1", "stock/s1", "case/c1"] {
            assert_eq!(w.record(0, key), w.hub_record(key), "{key}");
        }
        let came: Vec<u64> =
            w.hub.history().map(|op| op.stamp.dot).filter(|dot| dot.origin == origin).map(|dot| dot.seq.0).collect();
        assert_eq!(came, [1, 3, 8, 9, 10, 11, 12], "what was kept came as it was");
        let mark = w.hub.mark(origin, Stream::Normal).unwrap();
        assert_eq!(mark.chain, w.gateways[0].state().unwrap().streams[1].chain, "and the chains agree again");
        w.gateways.extend(other);
        w.sync_all();
        assert_eq!(w.body(1, "stock/s1")["used"], json!(11));
    }
}

#[test]
fn an_answer_that_is_lost_on_the_way_back_changes_nothing() {
    let (mut w, backup) = forgetful();
    compact(&mut w.gateways[0]);
    w.hub = backup.restored(true, Epoch(77), 0);
    w.gateways.pop();
    for _ in 0..40 {
        let mut before = w.gateways[0].clone();
        let traffic = exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
        // The hub took it, and the gateway does not know.
        let mut state = before.state().unwrap();
        w.gateways[0] = before;
        state.unsure = true;
        w.gateways[0].set_state(&state).unwrap();
        let again = exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
        if !traffic.again && !again.again {
            break;
        }
    }
    w.sync_all();
    assert_eq!(w.body(0, "stock/s1")["used"], json!(8));
}

#[test]
fn a_copy_of_a_card_that_has_forgotten_is_found() {
    let (mut w, _) = forgetful();
    compact(&mut w.gateways[0]);
    w.gateways[0].set_print([1; 8]);
    let mut clone = w.gateways[0].clone();
    clone.set_print([2; 8]);
    w.gateways.push(clone);
    for n in 0..3 {
        for at in [0, 2] {
            let used = w.body(at, "stock/s1")["used"].as_i64().unwrap();
            w.edit(at, "stock/s1", json!({"used": used + 1}));
            w.sync(at);
            compact(&mut w.gateways[at]);
            let mut state = w.gateways[at].state().unwrap();
            state.told &= n > 0;
            w.gateways[at].set_state(&state).unwrap();
        }
    }
    w.sync_all();
    w.sync_all();
    let [a, b] = [0, 2].map(|at| w.gateways[at].state().unwrap());
    assert!(a.origin != b.origin && a.device != b.device);
    assert_eq!(w.body(0, "stock/s1")["used"], json!(14), "each counted what it counted, once");
}

#[test]
fn a_hub_that_never_went_back_leaves_nothing_out() {
    let (mut w, _) = forgetful();
    let mut state = w.gateways[0].state().unwrap();
    w.gateways[0].lose(Dot { origin: state.origin, stream: Stream::Normal, seq: Seq(12) });
    w.put(0, "patient/p2", json!({"name": "Chikondi"}));
    // It says that it has forgotten what was never there.
    state = w.gateways[0].state().unwrap();
    let before = state.origin;
    let (common, upto) = (HubSeq(0), Seq(0));
    state.bounds = vec![Bound { stream: Stream::Normal, upto, common }];
    w.gateways[0].set_state(&state).unwrap();
    w.gateways[0].lose(Dot { origin: before, stream: Stream::Normal, seq: Seq(12) });
    w.put(0, "patient/p3", json!({"name": "Dalitso"}));
    w.sync_all();
    assert_ne!(w.gateways[0].state().unwrap().origin, before, "what is behind the gap came under another number");
    assert_eq!(w.body(0, "patient/p3")["name"], json!("Dalitso"));
}

#[test]
fn what_the_hub_does_not_know_of_a_number_is_not_taken_for_known() {
    let mut w = World::new(COUNTED, &["mw"]);
    w.put(0, "patient/p1", json!({"name": "Asha", "phone": "0"}));
    w.sync_all();
    let backup = w.hub.clone();
    let mut copy = w.gateways[0].clone();
    w.edit(0, "patient/p1", json!({"phone": "1"}));
    // Two boxes go on with one card, and the hub is put back.
    w.edit(0, "patient/p1", json!({"phone": "2"}));
    w.sync_all();
    assert_eq!(compact(&mut w.gateways[0]), 1);
    w.hub = backup.restored(true, Epoch(77), 0);
    w.sync_all();
    let wish = w.wish("patient/p2", gateway::Intent::Put(object(json!({"name": "Chikondi"}))));
    let origin = copy.state().unwrap().origin;
    gateway::capture(&mut copy, wish).unwrap();
    std::mem::swap(&mut w.gateways[0], &mut copy);
    w.sync_all();
    assert_ne!(w.gateways[0].state().unwrap().origin, origin, "the hub left out the number 2");
    assert_eq!(w.body(0, "patient/p2")["name"], json!("Chikondi"));
    let mut phones = rivals(&w.record(0, "patient/p1"), "phone");
    phones.push(w.shown("patient/p1", "phone"));
    assert!(phones.contains(&json!("2")), "{phones:?}");
}

/// A gateway that has forgotten the first two of three edits which the hub has, backups of before each of these, and a copy of its
/// card that knows of none.
fn forgot_edits() -> (World, [MemoryHub; 2], MemoryGateway) {
    let mut w = World::new(COUNTED, &["mw"]);
    w.put(0, "patient/p1", json!({"name": "Asha", "phone": "0"}));
    w.sync_all();
    let (copy, first) = (w.copy_of(0, 2), w.hub.clone());
    w.edit(0, "patient/p1", json!({"phone": "1"}));
    w.sync_all();
    let second = w.hub.clone();
    for phone in ["2", "3"] {
        w.edit(0, "patient/p1", json!({"phone": phone}));
        w.sync_all();
    }
    assert_eq!(compact(&mut w.gateways[0]), 2);
    (w, [first, second], copy)
}

#[test]
fn of_what_a_hub_has_that_was_put_back_into_a_gap_the_word_of_its_gateway_is_taken() {
    let (mut w, [_, backup], _) = forgot_edits();
    let origin = w.gateways[0].state().unwrap().origin;
    w.hub = backup.restored(true, Epoch(77), 0);
    w.sync_all();
    assert_eq!(w.gateways[0].state().unwrap().origin, origin, "its history fits");
    assert_eq!(w.shown("patient/p1", "phone"), json!("3"));
    assert!(rivals(&w.record(0, "patient/p1"), "phone").is_empty());
}

#[test]
fn what_a_copy_wrote_meanwhile_is_not_taken_for_what_was_forgotten() {
    let (mut w, [backup, _], copy) = forgot_edits();
    w.hub = backup.restored(true, Epoch(77), 0);
    let forgot = std::mem::replace(&mut w.gateways[0], copy);
    w.edit(0, "patient/p1", json!({"phone": "9"}));
    w.sync(0);
    w.gateways.push(forgot);
    w.sync_all();
    let now = [0, 1].map(|at| w.gateways[at].state().unwrap().origin);
    assert_ne!(now[0], now[1], "two boxes");
    let mut phones = rivals(&w.record(0, "patient/p1"), "phone");
    phones.push(w.shown("patient/p1", "phone"));
    phones.sort_by_key(ToString::to_string);
    assert_eq!(phones, [json!("3"), json!("9")], "neither had seen the other");
}

#[test]
fn what_it_sent_again_after_a_first_restore_is_its_own_after_a_second_one() {
    let mut w = World::new(COUNTED, &["mw"]);
    w.put(0, "patient/p1", json!({"name": "Asha", "phone": "0"}));
    w.sync_all();
    let origin = w.gateways[0].state().unwrap().origin;
    let first = w.hub.clone();
    for phone in ["1", "2"] {
        w.edit(0, "patient/p1", json!({"phone": phone}));
        w.sync_all();
    }
    w.hub = first.restored(true, Epoch(77), 0);
    w.sync_all();
    let second = w.hub.clone();
    for phone in ["3", "4"] {
        w.edit(0, "patient/p1", json!({"phone": phone}));
        w.sync_all();
    }
    // Also what the second backup has of it.
    assert_eq!(compact(&mut w.gateways[0]), 3);
    w.hub = second.restored(true, Epoch(78), 0);
    w.sync_all();
    assert_eq!(w.gateways[0].state().unwrap().origin, origin, "its history fits");
    assert_eq!(w.shown("patient/p1", "phone"), json!("4"));
    assert!(rivals(&w.record(0, "patient/p1"), "phone").is_empty());
}

/// The second time it is put back to a backup that knows nothing of the first.
#[test]
fn a_count_that_was_forgotten_counts_once_at_a_hub_that_is_put_back_to_one_backup_twice() {
    let mut w = World::new(COUNTED, &["mw"]);
    for used in [2, 4] {
        w.put(0, "stock/s1", json!({"used": used}));
    }
    w.sync_all();
    w.edit(0, "stock/s1", json!({"note": "first"}));
    let backup = w.hub.clone();
    w.edit(0, "stock/s1", json!({"used": 5}));
    w.edit(0, "stock/s1", json!({"note": "second"}));
    w.hub = backup.clone().restored(true, Epoch(77), 0);
    w.sync_all();
    assert_eq!(compact(&mut w.gateways[0]), 2);
    w.hub = backup.restored(true, Epoch(78), 0);
    w.sync_all();
    assert_eq!(w.shown("stock/s1", "used"), json!(5));
}

/// A count of long ago and one of today, and a hub that is put back to yesterday.
fn count_after_another_origin(compacts: bool) -> serde_json::Value {
    let mut w = World::new(COUNTED, &["mw"]);
    w.put(0, "stock/s1", json!({"used": 2}));
    w.edit(0, "stock/s1", json!({"used": 5}));
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    let backup = w.hub.clone();
    w.put(0, "patient/p2", json!({"name": "Bina"}));
    w.edit(0, "stock/s1", json!({"used": 6}));
    w.sync_all();
    if compacts {
        let reach = Reach { own: [Seq(0), Seq(3), Seq(0)], changes: 0, earlier: true };
        w.gateways[0].compact(&reach);
    }
    w.hub = backup.restored(true, Epoch(77), 0);
    // A row that the card lost brings another origin about.
    let origin = w.gateways[0].state().unwrap().origin;
    w.gateways[0].lose(Dot { origin, stream: Stream::Normal, seq: Seq(4) });
    w.sync(0);
    w.sync(0);
    assert_ne!(w.gateways[0].state().unwrap().origin, origin);
    w.body(0, "stock/s1")["used"].clone()
}

#[test]
fn a_count_goes_only_if_what_contains_it_has_been_safe_for_as_long() {
    assert_eq!(count_after_another_origin(false), json!(6));
    assert_eq!(count_after_another_origin(true), json!(6), "neither doubled nor less");
}

fn state(epoch: u32, acked: u64, durable: u64) -> GatewayState {
    let mut state = GatewayState { epoch: Epoch(epoch), origin: Origin(7), ..GatewayState::default() };
    state.streams[1] =
        StreamState { acked: Seq(acked), durable: Seq(durable), last: Seq(acked), ..StreamState::default() };
    state
}

#[test]
fn only_what_has_been_safe_for_long_and_still_is_may_go() {
    let note = |state: &GatewayState, changes, day: i64| milestone(state, changes, day * DAY_MS).unwrap();
    let known = [note(&state(1, 50, 40), 5, 0), note(&state(1, 90, 60), 9, 10)];
    let reach = |state: &GatewayState, day: i64| reach(&known, state, day * DAY_MS, 30 * DAY_MS);
    let now = state(1, 100, 95);
    assert_eq!(reach(&now, 29), None, "nothing is as old");
    assert_eq!(reach(&now, 30), Some(Reach { own: [Seq(0), Seq(40), Seq(0)], changes: 5, earlier: true }));
    assert_eq!(reach(&now, 45).unwrap().own[1], Seq(60));
    assert_eq!(reach(&state(1, 100, 20), 45).unwrap().own[1], Seq(20), "what is not safe any more stays");
    assert!(!reach(&state(1, 100, 0), 45).unwrap().earlier);
    assert_eq!(reach(&state(2, 100, 95), 45), None, "another hub, or the same one put back");
    assert_eq!(reach(&GatewayState { origin: Origin(8), ..now.clone() }, 45), None);
    assert_eq!(reach(&GatewayState { recovers: Some(HubSeq(1)), ..now.clone() }, 45), None);
    assert_eq!(reach(&GatewayState { origin: gateway::UNENROLLED, ..now }, 45), None);
    let acked = state(1, 30, 40);
    assert_eq!(milestone(&acked, 0, 0).unwrap().durable[1], Seq(30), "never more than is acknowledged");
}

#[test]
fn a_milestone_a_day_and_none_where_nothing_happens() {
    let first = milestone(&state(1, 50, 40), 5, 0).unwrap();
    assert!(is_worth_noting(None, &first));
    let at = |day_ms, durable| Milestone { at_ms: day_ms, durable: [Seq(0), Seq(durable), Seq(0)], ..first };
    assert!(!is_worth_noting(Some(&first), &at(DAY_MS - 1, 41)));
    assert!(is_worth_noting(Some(&first), &at(DAY_MS, 41)));
    assert!(!is_worth_noting(Some(&first), &at(100 * DAY_MS, 40)), "an idle gateway writes nothing");
    assert!(is_worth_noting(Some(&first), &Milestone { epoch: Epoch(2), ..at(1, 0) }));
}

#[test]
fn marks_of_the_hub_are_those_of_its_backup() {
    let mut w = World::new(COUNTED, &["mw"]);
    w.put(0, "stock/s1", json!({"used": 1}));
    w.sync_all();
    let origin = w.gateways[0].state().unwrap().origin;
    assert_eq!(w.gateways[0].state().unwrap().streams[1].durable, Seq(0), "acknowledged is not yet safe");
    let mark = w.hub.mark(origin, Stream::Normal).unwrap();
    w.hub.set_mark(origin, Stream::Normal, &Mark { durable: mark.acked, ..mark }).unwrap();
    w.put(0, "stock/s1", json!({"used": 2}));
    w.sync_all();
    let state = w.gateways[0].state().unwrap();
    assert_eq!((state.streams[1].acked, state.streams[1].durable), (Seq(2), Seq(1)));
}
