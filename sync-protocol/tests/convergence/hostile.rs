//! A gateway that says of its writes what is not true.

use std::collections::BTreeMap;

use serde_json::json;
use sync_protocol::clock::{Hlc, TimeQuality};
use sync_protocol::edit::render;
use sync_protocol::gateway::{self, Intent, Store as _, WallClock};
use sync_protocol::hub::{self, Snapshot as _};
use sync_protocol::id::{Dot, FieldName, HubSeq, Origin, RecordKey, Scope, Seq, Source, Stream};
use sync_protocol::record::{Change, Op, Stamp};
use sync_protocol::value::Value;

use crate::world::{World, object, rivals};

const RULES: &str = r#"
version = 1
[types.patient]
scope = "facility"
delete = "delete-wins"
[types.patient.fields]
allergies = "set"
"#;

/// A write of a gateway that says that it had seen everything, with a clock that is ahead of all.
fn claim(w: &mut World, at: usize, key: &str, changes: &[(&str, Change)]) {
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

fn text(value: &str) -> Value {
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
