//! A gateway that says of its writes what is not true.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use sync_protocol::clock::{Hlc, TimeQuality};
use sync_protocol::edit::render;
use sync_protocol::gateway::{self, Intent, Store as _, WallClock};
use sync_protocol::hub::{self, Snapshot as _};
use sync_protocol::id::{Dot, Epoch, FieldName, HubSeq, Origin, RecordKey, Scope, Seq, Source, Stream};
use sync_protocol::loopback::exchange;
use sync_protocol::merge::{Presence, presence};
use sync_protocol::payload::{Row, Rows};
use sync_protocol::record::{Cell, Change, Entry, Op, Record, SetState, Stamp, State, Touch};
use sync_protocol::value::Value;

use crate::world::{World, enrolled, object, rivals};

const RULES: &str = r#"
version = 1
[types.patient]
scope = "facility"
delete = "delete-wins"
[types.patient.fields]
allergies = "set"
"#;

/// A write of a gateway that says that it had seen everything, with a clock that is ahead of all.
pub(crate) fn claim(w: &mut World, at: usize, key: &str, changes: &[(&str, Change)]) {
    let gateway = &mut w.gateways[at];
    let mut state = gateway.state().unwrap();
    let (origin, stream) = (state.origin, Stream::Normal);
    let seq = state.stream(stream).last.next();
    let stamp = Stamp {
        dot: Dot { origin, stream, seq },
        hlc: Hlc::at(w.now_ms as u64 + 30_000),
        seen: HubSeq(1_000),
        hseq: HubSeq::NONE,
        captured_ms: w.now_ms,
        quality: TimeQuality::Good,
        source: Source::default(),
        author: None,
        settles: None,
    };
    let changes: BTreeMap<FieldName, Change> =
        changes.iter().map(|(name, change)| (FieldName::new(name).unwrap(), change.clone())).collect();
    let op = Op { stamp, key: RecordKey::parse(key).unwrap(), changes };
    let chain = state.stream(stream).chain.extend(&op);
    (state.stream_mut(stream).last, state.stream_mut(stream).chain) = (seq, chain);
    gateway.set_state(&state).unwrap();
    gateway.append(&op, chain, &[]).unwrap();
}

pub(crate) fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn patient_elsewhere() -> World {
    let mut w = World::new(RULES, &["mw/a", "mw/b"]);
    w.put(0, "patient/p1", json!({"facility": "mw/a", "name": "Asha", "allergies": ["penicillin"]}));
    w.sync_all();
    w
}

#[test]
fn what_a_gateway_cannot_have_read_it_does_not_overrule() {
    let mut w = patient_elsewhere();
    let changes = [
        ("name", Change::put(text("somebody else"))),
        ("@scope", Change::put(text("mw/b"))),
        ("facility", Change::put(text("mw/b"))),
    ];
    claim(&mut w, 1, "patient/p1", &changes);
    w.sync_all();
    let record = w.hub_record("patient/p1");
    assert_eq!(record.scope(), Scope::new("mw/a").unwrap(), "it is not moved to where the writer can read it");
    // The value that was there stands beside the other one, and people see that.
    let mut names = rivals(&record, "name");
    names.push(w.body(0, "patient/p1")["name"].clone());
    assert!(names.contains(&json!("Asha")) && names.len() == 2, "{names:?}");
    assert!(w.gateways[1].record(&RecordKey::parse("patient/p1").unwrap()).is_none());
}

#[test]
fn who_was_not_taken_at_his_word_is_not_believed_for_having_given_it() {
    let mut w = patient_elsewhere();
    // That the record is in its place was not taken, but it is in the history.
    claim(&mut w, 1, "patient/p1", &[("@scope", Change::put(text("mw/b")))]);
    w.sync(1);
    claim(&mut w, 1, "patient/p1", &[("@scope", Change::put(text("mw/b"))), ("name", Change::put(text("another")))]);
    w.sync_all();
    let record = w.hub_record("patient/p1");
    assert_eq!(record.scope(), Scope::new("mw/a").unwrap());
    let shown = w.body(0, "patient/p1")["name"].clone();
    assert!(shown == "Asha" || rivals(&record, "name").contains(&json!("Asha")), "{shown}");
}

#[test]
fn what_takes_something_away_there_waits_for_a_person() {
    let delete = [("@deleted", Change::put(Value::Bool(true)))];
    let writes = BTreeMap::from([((Origin(1), Stream::Normal.number()), 9)]);
    let remove = [("allergies", Change::Members { add: Vec::new(), remove: vec![(text("penicillin"), writes)] })];
    for changes in [delete, remove] {
        let mut w = patient_elsewhere();
        claim(&mut w, 1, "patient/p1", &changes);
        w.sync(1);
        w.sync(0);
        assert_eq!(w.body(0, "patient/p1")["allergies"], json!(["penicillin"]));
        let [held] = w.hub.quarantine()[..] else { panic!("one waits") };
        assert!(held.for_person && held.reason.contains("never was in the view"), "{held:?}");
        assert_eq!(w.gateways[1].parked().len(), 1, "its author is told");
    }
}

#[test]
fn what_it_could_not_have_read_waits_for_a_person_also_when_it_came_while_it_was_shut_out() {
    let mut w = patient_elsewhere();
    w.put(0, "patient/p3", json!({"facility": "mw/a", "name": "Chisomo"}));
    w.sync_all();
    let device = w.gateways[1].state().unwrap().device;
    w.hub.revoke(device);
    claim(&mut w, 1, "patient/p3", &[("name", Change::put(text("somebody else")))]);
    claim(&mut w, 1, "patient/p1", &[("@deleted", Change::put(Value::Bool(true)))]);
    w.put(1, "patient/p2", json!({"facility": "mw/b", "name": "Bina"}));
    w.sync(1);
    assert_eq!(w.hub.quarantine().len(), 3);
    hub::allow(&mut w.hub, device).unwrap();
    let [held] = w.hub.quarantine()[..] else { panic!("one goes on waiting") };
    assert!(held.for_person && held.reason.contains("never was in the view"), "{held:?}");
    w.sync(0);
    assert_eq!(w.body(0, "patient/p1")["name"], "Asha");
    let record = w.hub_record("patient/p3");
    let mut names = rivals(&record, "name");
    names.push(w.body(0, "patient/p3")["name"].clone());
    assert!(names.contains(&json!("Chisomo")) && names.len() == 2, "it overrules nothing: {names:?}");
}

const CHILDREN: &str = r#"
version = 1
[types.patient]
scope = "facility"
[types.dose]
parents = { patient = "patient", given_to = "patient" }
scope = { parent = "patient" }
[types.dose.fields]
patient = "RULE"
"#;

/// A dose of a patient of mw/a, and one who is known in mw/b only.
fn dose_elsewhere(rule: &str) -> World {
    let mut w = World::new(&CHILDREN.replace("RULE", rule), &["mw/a", "mw/b"]);
    w.put(0, "patient/p1", json!({"facility": "mw/a", "name": "Asha"}));
    w.put(0, "dose/d1", json!({"patient": "p1", "vaccine": "measles"}));
    w.put(1, "patient/px", json!({"facility": "mw/b", "name": "of the hostile one"}));
    w.sync_all();
    assert_eq!(w.hub_record("dose/d1").scope(), Scope::new("mw/a").unwrap());
    w
}

/// A write of the second gateway that claims to have seen nothing, with this clock.
fn name_parent(w: &mut World, hlc: Hlc, field: &str) {
    claim(w, 1, "dose/d1", &[(field, Change::put(text("px")))]);
    let gateway = &mut w.gateways[1];
    let state = gateway.state().unwrap();
    let last = state.stream(Stream::Normal).last;
    let op = gateway.own_op(Dot { origin: state.origin, stream: Stream::Normal, seq: last }).unwrap().unwrap();
    let blind = Op { stamp: Stamp { hlc, seen: HubSeq::NONE, ..op.stamp.clone() }, ..op };
    // As if it had been written so.
    let before = state.stream(Stream::Normal).acked;
    assert_eq!(before.next(), last, "all before it is at the hub");
    let head = w.hub.mark(state.origin, Stream::Normal).unwrap();
    let mut state = state;
    state.stream_mut(Stream::Normal).chain = head.chain.extend(&blind);
    gateway.set_state(&state).unwrap();
    gateway.lose(blind.stamp.dot);
    gateway.append(&blind, state.stream(Stream::Normal).chain, &[]).unwrap();
}

#[test]
fn nobody_has_a_record_of_others_follow_a_parent_of_ones_own() {
    for (rule, hlc) in [("immutable", Hlc::at(1)), ("first-write", Hlc::at(1)), ("lww", Hlc::at(1_780_000_900_000))] {
        let mut w = dose_elsewhere(rule);
        name_parent(&mut w, hlc, "patient");
        w.sync(1);
        w.sync(0);
        assert_eq!(w.hub_record("dose/d1").scope(), Scope::new("mw/a").unwrap(), "{rule}");
        let key = RecordKey::parse("dose/d1").unwrap();
        assert!(
            w.gateways[1].record(&key).is_none_or(|held| held.confirmed.is_none()),
            "{rule}: nothing is shown to it"
        );
        let [held] = w.hub.quarantine()[..] else { panic!("one waits") };
        assert!(held.for_person && held.reason.contains("never was in the view"), "{held:?}");
        assert_eq!(w.body(0, "dose/d1")["patient"], "p1");
    }
}

#[test]
fn a_record_follows_the_parent_that_says_where_it_is_and_no_other_of_the_same_type() {
    let mut w = dose_elsewhere("lww");
    name_parent(&mut w, Hlc::at(1_780_000_900_000), "given_to");
    w.sync_all();
    assert_eq!(w.hub_record("dose/d1").scope(), Scope::new("mw/a").unwrap());
    // Nor does it go along when that one moves.
    w.edit(1, "patient/px", json!({"facility": "mw/b/x"}));
    w.sync_all();
    assert_eq!(w.hub_record("patient/px").scope(), Scope::new("mw/b/x").unwrap());
    assert_eq!(w.hub_record("dose/d1").scope(), Scope::new("mw/a").unwrap());
}

#[test]
fn what_waited_for_a_record_to_come_has_it_follow_no_other_parent_either() {
    let mut w = World::new(&CHILDREN.replace("RULE", "first-write"), &["mw/a", "mw/b"]);
    w.put(0, "patient/p1", json!({"facility": "mw/a", "name": "Asha"}));
    // It waits for a parent who is nowhere, on a record that is nowhere yet.
    w.put(1, "dose/d1", json!({"patient": "p9"}));
    w.sync(1);
    w.sync(0);
    w.put(0, "dose/d1", json!({"patient": "p1", "vaccine": "measles"}));
    w.sync(0);
    w.put(1, "patient/p9", json!({"facility": "mw/b"}));
    w.sync(1);
    w.sync(0);
    assert_eq!(w.hub_record("dose/d1").scope(), Scope::new("mw/a").unwrap());
    let [held] = w.hub.quarantine()[..] else { panic!("one waits") };
    assert!(held.for_person && held.reason.contains("never was in the view"), "{held:?}");
}

#[test]
fn who_had_a_record_in_view_has_read_it_although_it_left() {
    let mut w = patient_elsewhere();
    for place in ["mw/b", "mw/a"] {
        let body = json!({"facility": place, "name": "Bina", "allergies": ["latex", "dust"]});
        w.hub_write("patient/p2", Intent::Put(object(body)));
        if place == "mw/b" {
            w.sync_all();
        }
    }
    // It has not heard of the move.
    w.edit(1, "patient/p2", json!({"name": "Bina Phiri", "allergies": ["latex"]}));
    w.sync_all();
    assert_eq!(w.body(0, "patient/p2")["name"], json!("Bina Phiri"));
    assert_eq!(w.body(0, "patient/p2")["allergies"], json!(["latex"]));
    assert!(rivals(&w.hub_record("patient/p2"), "name").is_empty() && w.hub.quarantine().is_empty());
}

#[test]
fn nobody_has_seen_a_number_that_was_not_given() {
    let mut w = World::new("version = 1\n[types.patient]\ndefault = \"keep-both\"\n", &["mw", "mw"]);
    w.put(0, "patient/p1", json!({"name": "Asha", "allergy": "unknown"}));
    w.sync_all();
    claim(&mut w, 0, "patient/p1", &[("allergy", Change::put(text("none")))]);
    w.sync(0);
    w.sync(1);
    // What is written now without having seen that would count as seen by it.
    w.hub_write("patient/p1", Intent::Put(object(json!({"name": "Asha", "allergy": "none"}))));
    w.edit(1, "patient/p1", json!({"allergy": "penicillin"}));
    w.sync(1);
    let record = w.hub_record("patient/p1");
    let mut all = rivals(&record, "allergy");
    all.push(render(&record)["allergy"].clone());
    assert!(all.contains(&json!("penicillin")), "{all:?}");
}

#[test]
fn nothing_is_taken_under_the_name_of_another_or_out_of_its_stream() {
    let mut w = World::new("version = 1\n", &["mw", "mw"]);
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.put(1, "patient/p2", json!({"name": "of the hostile one"}));
    let theirs = w.gateways[0].state().unwrap().origin;
    let [own] = &w.gateways[1].own_ops(Stream::Normal, Seq(0), 9).unwrap()[..] else { panic!("one op") };
    let forged = |dot: Dot, hseq: HubSeq| Op { stamp: Stamp { dot, hseq, ..own.stamp.clone() }, ..own.clone() };
    let dot = own.stamp.dot;
    let clock = WallClock { now_ms: w.now_ms as u64, ahead_seconds: Some(0) };
    let head = gateway::request(&mut w.gateways[1], &mut w.link.up, clock, 1 << 20, 1 << 20).unwrap().head;
    for op in [
        forged(Dot { origin: theirs, ..dot }, HubSeq::NONE),
        forged(Dot { origin: Origin::HUB, ..dot }, HubSeq::NONE),
        forged(Dot { origin: Origin(77), ..dot }, HubSeq::NONE),
        forged(dot, HubSeq(9)),
    ] {
        let opened = hub::open(&mut w.hub, head.clone(), w.now_ms as u64).unwrap();
        let hub::Opened::Ready(mut with) = opened else { panic!("it has shown who it is") };
        assert_eq!(hub::receive(&mut w.hub, &mut with, std::slice::from_ref(&op)).unwrap().new, 0, "{op:?}");
        // Behind one of its own as well.
        let opened = hub::open(&mut w.hub, head.clone(), w.now_ms as u64).unwrap();
        let hub::Opened::Ready(mut with) = opened else { panic!("it has shown who it is") };
        let second = Dot { seq: dot.seq.next(), ..op.stamp.dot };
        let behind = Op { stamp: Stamp { dot: second, ..op.stamp.clone() }, ..op };
        let mut hub = w.hub.clone();
        assert_eq!(hub::receive(&mut hub, &mut with, &[own.clone(), behind]).unwrap().new, 1);
        assert!(w.hub.record(&own.key).unwrap().is_none());
    }
    for stream in Stream::ALL {
        assert_eq!(w.hub.mark(theirs, stream).unwrap().acked, Seq(0));
    }
    w.sync_all();
    assert_eq!(w.body(1, "patient/p1")["name"], "Asha", "whose numbers were taken in vain is heard as before");
    assert_eq!(w.body(0, "patient/p2")["name"], "of the hostile one");
}

#[test]
fn what_is_shown_to_a_restored_hub_claims_no_more_than_a_write_may() {
    let mut w = World::new("version = 1\n", &["mw", "mw"]);
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    let backup = w.hub.clone();
    w.edit(1, "patient/p1", json!({"name": "forged"}));
    w.sync_all();
    w.hub = backup.restored(true, Epoch(77), 0);
    let key = RecordKey::parse("patient/p1").unwrap();
    for _ in 0..8 {
        // It says that it had seen whatever will ever be written, in the year 2096, and that the hub lost nothing.
        let mut held = w.gateways[1].held(&key).unwrap().unwrap();
        for cell in held.confirmed.as_mut().unwrap().cells.values_mut() {
            let State::Register(entries) = &mut cell.state else { continue };
            for entry in entries {
                let stamp = Arc::make_mut(&mut entry.stamp);
                (stamp.seen, stamp.hlc, stamp.captured_ms) = (HubSeq(u64::MAX), Hlc::at(4_000_000_000_000), i64::MAX);
            }
        }
        w.gateways[1].keep(&key, &held).unwrap();
        let mut state = w.gateways[1].state().unwrap();
        state.recovers = state.recovers.map(|_| HubSeq(u64::MAX));
        w.gateways[1].set_state(&state).unwrap();
        exchange(&mut w.gateways[1], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    }
    assert_eq!(
        w.hub_record("patient/p1").cells[&FieldName::new("name").unwrap()].value(),
        Some(text("forged")),
        "it came"
    );
    w.sync_all();
    w.sync_all();
    w.edit(0, "patient/p1", json!({"name": "Asha Phiri"}));
    w.sync_all();
    let record = w.hub_record("patient/p1");
    assert_eq!(render(&record)["name"], json!("Asha Phiri"), "who has read it can correct it");
    let latest = Hlc::at(w.now_ms as u64 + 120_000);
    let stamps: Vec<_> = record.cells.values().flat_map(|cell| cell.stamps().into_iter().cloned()).collect();
    assert!(stamps.iter().all(|stamp| stamp.hlc < latest), "{stamps:?}");
}

#[test]
fn a_number_of_ones_own_that_somebody_shows_is_believed_up_to_what_a_card_writes_in_its_life() {
    let mut w = World::new("version = 1\n", &["mw", "mw"]);
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    let key = RecordKey::parse("patient/p1").unwrap();
    let mut held = w.gateways[0].held(&key).unwrap().unwrap();
    let origin = w.gateways[0].state().unwrap().origin;
    for cell in held.visible.cells.values_mut() {
        let State::Register(entries) = &mut cell.state else { continue };
        for entry in entries {
            Arc::make_mut(&mut entry.stamp).dot = Dot { origin, stream: Stream::Normal, seq: Seq(u64::MAX) };
        }
    }
    w.gateways[0].keep(&key, &held).unwrap();
    w.edit(0, "patient/p1", json!({"phone": "1"}));
    assert_eq!(w.gateways[0].state().unwrap().stream(Stream::Normal).last, Seq(2));
}

/// The second gateway shows this hub, which was put back, a record as it wishes that it were: what it says was written by itself, under
/// this number and by this clock, and by somebody who had read everything.
pub(crate) fn show(w: &mut World, (seq, hlc): (Seq, Hlc), key: &str, fields: &[(&str, Value)]) {
    let stamp = Arc::new(stamp_of(w, (seq, hlc)));
    let cells = fields.iter().map(|(name, value)| {
        let entry = Entry { stamp: Arc::clone(&stamp), value: Some(value.clone()) };
        let cell = Cell { changed: HubSeq::NONE, state: State::Register(vec![entry]) };
        (FieldName::new(name).unwrap(), cell)
    });
    show_record(w, key, Record { cells: cells.collect() });
}

/// Of a write of the second gateway that has seen everything.
fn stamp_of(w: &World, (seq, hlc): (Seq, Hlc)) -> Stamp {
    let origin = w.gateways[1].clone().state().unwrap().origin;
    Stamp {
        dot: Dot { origin, stream: Stream::Normal, seq },
        hlc,
        seen: HubSeq(u64::MAX),
        hseq: HubSeq::NONE,
        captured_ms: w.now_ms,
        quality: TimeQuality::Good,
        source: Source::default(),
        author: None,
        settles: None,
    }
}

fn show_record(w: &mut World, key: &str, record: Record) {
    while w.gateways[1].state().unwrap().wanted.is_empty() {
        exchange(&mut w.gateways[1], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    }
    let rows =
        Rows { rows: vec![Row::Cells { key: RecordKey::parse(key).unwrap(), record, whole: true }], ..Rows::default() };
    let clock = WallClock { now_ms: w.now_ms as u64, ahead_seconds: Some(0) };
    let mut head = gateway::request(&mut w.gateways[1], &mut w.link.up, clock, 1 << 20, 1 << 20).unwrap().head;
    head.recovers = Some(HubSeq(u64::MAX));
    let opened = hub::open(&mut w.hub, head, w.now_ms as u64).unwrap();
    let hub::Opened::Ready(mut with) = opened else { panic!("it has shown who it is") };
    hub::receive_offers(&mut w.hub, &mut with, &rows).unwrap();
}

/// The same, and a hub that has lost something which the second gateway holds.
fn put_back_elsewhere(rule: &str) -> World {
    let mut w = dose_elsewhere(rule);
    let backup = w.hub.clone();
    w.edit(1, "patient/px", json!({"name": "of the time that was lost"}));
    w.sync_all();
    w.hub = backup.restored(true, Epoch(77), 0);
    w
}

#[test]
fn who_shows_a_restored_hub_a_record_of_others_neither_moves_nor_deletes_nor_overrules_it() {
    let mut w = put_back_elsewhere("lww");
    let late = (Seq(900), Hlc::at(w.now_ms as u64 + 30_000));
    let deleted = (FieldName::DELETED, Value::Bool(true));
    show(&mut w, late, "patient/p1", &[("name", text("forged")), (FieldName::SCOPE, text("mw/b")), deleted.clone()]);
    show(&mut w, late, "dose/d1", &[("patient", text("px")), ("vaccine", text("none")), deleted]);
    let there = Scope::new("mw/a").unwrap();
    for (key, field, value) in [("patient/p1", "name", "Asha"), ("dose/d1", "vaccine", "measles")] {
        let record = w.hub_record(key);
        let type_rules = w.hub.rules().unwrap().of(&RecordKey::parse(key).unwrap().record_type).clone();
        assert_eq!(record.scope(), there, "{key}");
        assert_ne!(presence(&record, &type_rules), Presence::Deleted, "{key}");
        let mut all = rivals(&record, field);
        all.push(render(&record)[field].clone());
        assert!(all.contains(&json!(value)), "{key}: {all:?}");
        assert!(all.len() == 2, "{key}: what was shown is there, and held against nobody: {all:?}");
    }
    assert_eq!(render(&w.hub_record("dose/d1"))["patient"], "p1");
    w.sync_all();
}

/// It shows something under the number that its next write will have: what stands there makes way when that comes.
#[test]
fn nobody_hides_a_move_behind_what_he_has_shown_under_its_number() {
    let mut w = put_back_elsewhere("keep-both");
    let next = w.gateways[1].state().unwrap().stream(Stream::Normal).last.next();
    show(&mut w, (next, Hlc::at(1)), "dose/d1", &[("patient", text("pz"))]);
    assert_eq!(rivals(&w.hub_record("dose/d1"), "patient"), [json!("pz")]);
    w.sync_all();
    name_parent(&mut w, Hlc::at(1_780_000_900_000), "patient");
    w.sync(1);
    assert_eq!(w.hub_record("dose/d1").scope(), Scope::new("mw/a").unwrap());
    let [held] = w.hub.quarantine()[..] else { panic!("one waits") };
    assert!(held.for_person && held.reason.contains("never was in the view"), "{held:?}");
}

/// What cannot be merged is looked at by nobody but a person: it could be merged later.
#[test]
fn what_cannot_be_merged_with_what_was_shown_waits_for_a_person() {
    let mut w = put_back_elsewhere("lww");
    let next = w.gateways[1].state().unwrap().stream(Stream::Normal).last.next();
    show(&mut w, (next, Hlc::at(1)), "dose/d1", &[("site", text("left"))]);
    w.sync_all();
    let deleted = (FieldName::DELETED, Change::put(Value::Bool(true)));
    claim(&mut w, 1, "dose/d1", &[("site", Change::Append(vec![text("arm")])), deleted]);
    w.sync(1);
    let [held] = w.hub.quarantine()[..] else { panic!("one waits") };
    assert!(held.for_person && held.reason.contains("never was in the view"), "{held:?}");
}

/// The centre made it in a time that was lost, and no op of it is here.
#[test]
fn who_writes_first_to_a_record_that_was_shown_has_not_made_it() {
    let mut w = World::new(RULES, &["mw/a", "mw/b"]);
    w.sync_all();
    let backup = w.hub.clone();
    w.hub_write("patient/r", Intent::Put(object(json!({"facility": "mw/a", "name": "Asha"}))));
    w.sync_all();
    w.hub = backup.restored(true, Epoch(77), 0);
    w.sync_all();
    assert_eq!(w.hub_record("patient/r").scope(), Scope::new("mw/a").unwrap());
    w.put(1, "patient/r", json!({"facility": "mw/b", "name": "forged"}));
    claim(&mut w, 1, "patient/r", &[(FieldName::DELETED, Change::put(Value::Bool(true)))]);
    w.sync(1);
    let [held] = w.hub.quarantine()[..] else { panic!("one waits") };
    assert!(held.for_person, "{held:?}");
}

#[test]
fn nobody_shows_numbers_that_have_yet_to_be_given() {
    let mut w = World::new(RULES, &["mw/a", "mw/b"]);
    w.put(0, "patient/p1", json!({"facility": "mw/a", "name": "Asha"}));
    w.sync_all();
    let backup = w.hub.clone();
    w.put(1, "patient/px", json!({"facility": "mw/b", "name": "of the time that was lost"}));
    w.sync_all();
    w.hub = backup.restored(true, Epoch(77), 0);
    let rules = w.hub.rules().unwrap();
    let next = enrolled(&mut w.hub.clone(), &rules, "mw/a").state().unwrap().origin;
    let stamp = stamp_of(&w, (Seq(900), Hlc::at(w.now_ms as u64)));
    let set = SetState {
        touch: Touch { last: Arc::new(stamp), basis: HubSeq::NONE },
        clock: BTreeMap::from([((next, Stream::Normal.number()), 1 << 60)]),
        members: BTreeMap::new(),
        ahead: BTreeMap::new(),
    };
    let cell = Cell { changed: HubSeq::NONE, state: State::Set(set) };
    let cells = BTreeMap::from([(FieldName::new("allergies").unwrap(), cell)]);
    show_record(&mut w, "patient/p1", Record { cells });
    let newcomer = enrolled(&mut w.hub, &rules, "mw/a");
    w.gateways.push(newcomer);
    assert_eq!(w.gateways[2].state().unwrap().origin, next);
    w.sync(2);
    w.edit(2, "patient/p1", json!({"allergies": ["penicillin"]}));
    w.sync_all();
    assert_eq!(render(&w.hub_record("patient/p1"))["allergies"], json!(["penicillin"]));
}
