//! What is forgotten of the history, and what never is.

use std::collections::BTreeMap;

use serde_json::json;
use sync_protocol::gateway::Store as _;
use sync_protocol::gateway::retention::Reach;
use sync_protocol::hub::{Mark, Snapshot as _, Store as _};
use sync_protocol::id::{Epoch, Seq, Stream};

use super::*;
use crate::store::{Answer, Entry, Forgotten, OpState, PassAt};

const DAY_MS: i64 = 86_400_000;

/// All that was told to the hub so far is in its backup.
fn back_up(hub: &mut MemoryHub) {
    let dots: Vec<_> = hub.history().map(|op| op.stamp.dot).collect();
    for dot in dots {
        let mark = hub.mark(dot.origin, dot.stream).unwrap();
        hub.set_mark(dot.origin, dot.stream, &Mark { durable: mark.acked, ..mark }).unwrap();
    }
}

impl Clinic {
    /// A day passes, and the hub's clock is heard.
    fn next_day(&mut self, hub: &mut MemoryHub) {
        self.now_ms += DAY_MS;
        self.sync(hub);
    }

    fn is_due(&self) -> bool {
        let now_ms = self.now_ms;
        self.store.blocking_read(|reader| reader.is_milestone_due(now_ms)).unwrap()
    }

    fn note(&self, days: i64) {
        let now_ms = self.now_ms;
        self.store.blocking_write(move |tx| tx.note_milestone(now_ms, days * DAY_MS)).unwrap();
    }

    /// Goes through the history once, in steps of a few rows.
    fn forget(&self, days: i64) -> Forgotten {
        let (now_ms, age_ms) = (self.now_ms, days * DAY_MS);
        let reach = |reader: &crate::store::Reader<'_>| reader.retention_reach(now_ms, age_ms);
        let (mut at, mut sum) = (Some(PassAt::default()), Forgotten::default());
        while let Some(from) = at {
            let Some(reach): Option<Reach> = self.store.blocking_read(reach).unwrap() else { break };
            let (old, next) = self.store.blocking_read(|reader| reader.forgettable(from, &reach, 7)).unwrap();
            for old in old {
                loop {
                    let one = old.clone();
                    let gone = self.store.blocking_write(move |tx| tx.forget_old(now_ms, age_ms, &one)).unwrap();
                    assert!(gone.ops + gone.changes <= 64, "{gone:?} at once");
                    sum = sum.and(gone);
                    if !gone.is_part() {
                        break;
                    }
                }
            }
            at = next;
        }
        self.store.blocking_write(move |tx| tx.note_pass(now_ms)).unwrap();
        sum
    }

    fn rows(&self) -> i64 {
        self.sql("SELECT count(*) FROM history")
    }

    fn assert_sound(&self) {
        let faults = self.store.blocking_read(|reader| reader.quick_check()).unwrap();
        assert!(faults.is_empty(), "{faults:?}");
    }
}

/// A gateway whose phone number was edited so often, all of it safe at the hub.
fn edited(hub: &mut MemoryHub, times: usize) -> Clinic {
    let mut clinic = Clinic::enrolled(hub, "mw");
    clinic.put("Patient/p", json!({"name": "Asha", "phone": "0"}));
    for n in 1..=times {
        clinic.edit("Patient/p", json!({"phone": n.to_string()}));
    }
    clinic.sync(hub);
    back_up(hub);
    // How far it is safe comes with the next acknowledgement.
    clinic.put("Patient/q", json!({"name": "Chikondi"}));
    clinic.next_day(hub);
    clinic
}

#[test]
fn what_has_been_safe_for_long_and_stands_nowhere_is_forgotten_and_nothing_else() {
    let mut hub = MemoryHub::default();
    let mut clinic = edited(&mut hub, 10);
    clinic.note(90);
    for _ in 0..89 {
        clinic.next_day(&mut hub);
        assert_eq!(clinic.forget(90), Forgotten::default());
    }
    clinic.next_day(&mut hub);
    let (body, before) = (clinic.body("Patient/p"), clinic.rows());
    // The first op has the name; the last phone stands, and the newest that is safe stays, too.
    assert_eq!(clinic.forget(90), Forgotten { ops: 9, changes: 0 });
    assert_eq!(clinic.rows(), before - 9);
    let clinic = clinic.reopen();
    assert_eq!(clinic.body("Patient/p"), body);
    clinic.assert_sound();
    assert_eq!(clinic.forget(90), Forgotten::default(), "and once is enough");
    let history = clinic.store.blocking_read(|reader| reader.history(&key_of("Patient/p"), 0, 100)).unwrap();
    assert_eq!(history.len(), 2, "{history:?}");
    let retention = clinic.store.blocking_read(|reader| reader.retention()).unwrap();
    assert_eq!((retention.ops, retention.changes, retention.passed_ms), (9, 0, clinic.now_ms));
}

#[test]
fn what_is_only_acknowledged_or_waits_or_was_dropped_stays() {
    let mut hub = MemoryHub::default();
    let rules = "version = 1\n[types.Visit]\nparents = { patient = \"Patient\" }\n";
    hub.publish(std::sync::Arc::new(sync_protocol::rules::Rules::parse(rules).unwrap()));
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.sync(&mut hub);
    for n in 0..5 {
        clinic.put("Visit/v", json!({"patient": "nobody", "n": n}));
        clinic.put("Patient/p", json!({"n": n}));
    }
    clinic.sync(&mut hub);
    clinic.note(0);
    clinic.next_day(&mut hub);
    assert_eq!(clinic.forget(0), Forgotten::default(), "acknowledged is not safe");
    back_up(&mut hub);
    clinic.put("Patient/q", json!({}));
    clinic.next_day(&mut hub);
    clinic.note(0);
    assert_eq!(clinic.forget(0), Forgotten { ops: 3, changes: 0 }, "of the patient: not the first, nor the last");
    let parked = clinic.store.blocking_read(|reader| reader.parked(0, 10)).unwrap().0;
    assert_eq!(parked.len(), 5, "what waits for its parent is all there");
    assert_eq!(clinic.body("Visit/v")["n"], json!(4));
    clinic.assert_sound();
}

#[test]
fn a_hub_that_was_put_back_begins_the_count_anew() {
    let mut hub = MemoryHub::default();
    let mut clinic = edited(&mut hub, 10);
    clinic.note(90);
    let backup = hub.clone();
    for _ in 0..100 {
        clinic.next_day(&mut hub);
    }
    hub = backup.restored(true, Epoch(77), clinic.now_ms as u64);
    clinic.next_day(&mut hub);
    assert_eq!(clinic.forget(90), Forgotten::default(), "nobody knows which backups are left");
    assert!(clinic.is_due());
    clinic.note(90);
    assert_eq!(clinic.sql::<i64>("SELECT count(*) FROM milestones"), 1, "those of the other time mean nothing");
    for _ in 0..90 {
        clinic.next_day(&mut hub);
    }
    assert_eq!(clinic.forget(90).ops, 9);
}

#[test]
fn a_hub_put_back_to_before_what_was_forgotten_gets_the_rest_in_its_place() {
    let mut hub = MemoryHub::default();
    hub.publish(std::sync::Arc::new(
        sync_protocol::rules::Rules::parse("version = 1\n[types.Stock.fields]\nused = \"counter\"\n").unwrap(),
    ));
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.sync(&mut hub);
    let ancient = hub.clone();
    for n in 1..=6 {
        clinic.put("Patient/p", json!({"name": "Asha", "phone": n.to_string()}));
        clinic.put("Stock/s", json!({"used": n}));
    }
    clinic.sync(&mut hub);
    back_up(&mut hub);
    clinic.put("Patient/q", json!({}));
    clinic.next_day(&mut hub);
    clinic.note(0);
    assert_eq!(clinic.forget(0).ops, 8);
    let origin = clinic.store.blocking_read(|reader| reader.state()).unwrap().origin;
    // Older than any backup that anybody was promised.
    hub = ancient.restored(true, Epoch(77), clinic.now_ms as u64);
    let mut clinic = clinic.reopen();
    let traffic = clinic.sync(&mut hub);
    assert!(traffic.agrees);
    let state = clinic.store.blocking_read(|reader| reader.state()).unwrap();
    assert_eq!((state.origin, state.repairs), (origin, 0), "it goes on as it was");
    for (key, field, value) in [("Patient/p", "phone", json!("6")), ("Stock/s", "used", json!(6))] {
        assert_eq!(clinic.body(key)[field], value);
        let record = hub.record(&key_of(key)).unwrap().unwrap();
        assert_eq!(render(&record)[field], value, "{key}");
    }
    let mark = hub.mark(origin, Stream::Normal).unwrap();
    assert_eq!((mark.acked, mark.chain), (state.streams[1].last, state.streams[1].chain));
    clinic.assert_sound();
}

#[test]
fn changes_of_others_are_forgotten_and_what_an_app_had_read_before_is_told_to_be_unknown() {
    let mut hub = MemoryHub::default();
    let mut here = Clinic::enrolled(&mut hub, "mw");
    let mut there = Clinic::enrolled(&mut hub, "mw");
    let mut tags = vec![here.put("Visit/a", json!({"n": 0})).etag];
    here.sync(&mut hub);
    for n in 1..=8 {
        there.now_ms = here.now_ms;
        there.sync(&mut hub);
        there.edit("Visit/a", json!({"n": n}));
        there.sync(&mut hub);
        here.next_day(&mut hub);
        tags.push(here.get("Visit/a").unwrap().etag);
        if n == 5 {
            here.note(0);
        }
    }
    let rows = here.rows();
    let gone = here.forget(1);
    assert_eq!((gone.ops, gone.changes), (0, 4), "of five that came before the note the last one stays");
    assert_eq!(here.rows(), rows - 4);
    let here = here.reopen();
    let at = |tag: &str| {
        let read = here.store.blocking_read(|reader| reader.record_at_etag(&key_of("Visit/a"), tag)).unwrap();
        read.map(|record| Json::Object(render(&record)))
    };
    assert_eq!(here.body("Visit/a"), json!({"n": 8}));
    assert_eq!(at(&tags[5]), Some(json!({"n": 5})));
    assert_eq!(at(&tags[4]), Some(json!({"n": 4})), "as far as the rows go");
    for (n, tag) in tags.iter().enumerate().take(4) {
        assert_eq!(at(tag), None, "nothing wrong is made up for {n}");
    }
    let history = here.store.blocking_read(|reader| reader.history(&key_of("Visit/a"), 0, 100)).unwrap();
    let is_own = |entry: &Entry| matches!(entry, Entry::Own(own) if own.fate == OpState::Confirmed);
    assert!(history.iter().any(is_own), "the newest own write is still in the list: {history:?}");
    here.assert_sound();
}

#[test]
fn a_clock_that_is_wrong_makes_nothing_older() {
    let mut hub = MemoryHub::default();
    let mut clinic = edited(&mut hub, 5);
    clinic.note(90);
    // The box believes that years have passed, and has not heard so from the hub.
    clinic.now_ms += 4_000 * DAY_MS;
    assert_eq!(clinic.forget(90), Forgotten::default());
    assert!(!clinic.is_due());
    // The hub does, and the box has begun in 1970.
    let mut state = clinic.store.blocking_read(|reader| reader.state()).unwrap();
    state.floor_ms = clinic.now_ms;
    clinic.store.blocking_write(move |tx| tx.set_state(&state)).unwrap();
    clinic.now_ms = 5;
    assert_eq!(clinic.forget(90), Forgotten::default());
}

#[test]
fn a_long_list_goes_a_few_rows_at_once_and_a_program_that_ends_in_between_loses_nothing() {
    let mut hub = MemoryHub::default();
    let clinic = edited(&mut hub, 300);
    clinic.note(0);
    let now_ms = clinic.now_ms;
    let reach = clinic.store.blocking_read(|reader| reader.retention_reach(now_ms, 0)).unwrap().unwrap();
    let at = clinic.store.blocking_read(|reader| {
        let (_, urgent) = reader.forgettable(PassAt::default(), &reach, 1_000)?;
        reader.forgettable(urgent.unwrap(), &reach, 1_000)
    });
    let (old, _) = at.unwrap();
    assert_eq!((old.len(), old[0].rows()), (1, 299));
    let one = old[0].clone();
    let gone = clinic.store.blocking_write(move |tx| tx.forget_old(now_ms, 0, &one)).unwrap();
    assert_eq!(gone, Forgotten { ops: 64, changes: 0 });
    let clinic = clinic.reopen();
    clinic.assert_sound();
    assert_eq!(clinic.forget(0).ops, 299 - 64);
    assert_eq!(clinic.sql::<i64>("SELECT count(*) FROM gaps"), 1, "one gap, however it came about");
}

#[test]
fn a_year_of_ordinary_use_takes_no_more_room_than_its_records() {
    const AGE: i64 = 90;
    let mut hub = MemoryHub::default();
    let mut here = Clinic::enrolled(&mut hub, "mw");
    let mut there = Clinic::enrolled(&mut hub, "mw");
    here.sync(&mut hub);
    let mut rows = BTreeMap::new();
    let mut pages = BTreeMap::new();
    for day in 0..365 {
        // Six people come again and again; each is seen here and by another clinic.
        let key = format!("Patient/p{}", day % 6);
        there.now_ms = here.now_ms;
        for (clinic, field) in [(&mut here, "weight"), (&mut there, "pressure")] {
            match clinic.get(&key) {
                Some(_) => clinic.edit(&key, json!({field: day.to_string()})),
                None => clinic.put(&key, json!({field: day.to_string()})),
            };
            clinic.sync(&mut hub);
        }
        back_up(&mut hub);
        here.next_day(&mut hub);
        assert!(here.is_due());
        here.note(AGE);
        if day % 7 == 0 {
            here.forget(AGE);
        }
        rows.insert(day, here.rows());
        pages.insert(day, here.sql::<i64>("PRAGMA page_count"));
    }
    assert!(here.sql::<i64>("SELECT count(*) FROM milestones") <= AGE + 2);
    let before = rows[&90];
    let most = rows.range(120..).map(|(_, rows)| *rows).max().unwrap();
    assert!(before >= 170, "{before} rows in the first months");
    assert!(most <= before + 60, "{most} rows after {before}: it goes on growing");
    let (half, end) = (pages[&180], pages[&364]);
    assert!(end <= half + half / 20, "{end} pages at the end, {half} in the middle");
    here.assert_sound();
    let state = here.store.blocking_read(|reader| reader.state()).unwrap();
    assert_eq!(state.repairs, 0);
    assert!(state.streams[1].durable > Seq(300));
}

#[test]
fn a_count_of_long_ago_goes_only_if_a_later_one_of_long_ago_contains_it() {
    let mut hub = MemoryHub::default();
    let rules = "version = 1\n[types.Stock.fields]\nused = \"counter\"\n";
    hub.publish(std::sync::Arc::new(sync_protocol::rules::Rules::parse(rules).unwrap()));
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.sync(&mut hub);
    clinic.put("Stock/s", json!({"used": 1}));
    for used in 2..=4 {
        clinic.edit("Stock/s", json!({"used": used}));
    }
    clinic.put("Patient/p", json!({"name": "Asha"}));
    clinic.sync(&mut hub);
    back_up(&mut hub);
    clinic.put("Patient/q", json!({"name": "Chikondi"}));
    clinic.next_day(&mut hub);
    clinic.note(0);
    // Safe as well, but only since today.
    clinic.edit("Stock/s", json!({"used": 5}));
    clinic.sync(&mut hub);
    assert_eq!(clinic.forget(0).ops, 2, "the first has the scope, the fourth contains the second and the third");
    assert_eq!(clinic.forget(0), Forgotten::default());
}

#[test]
fn what_lies_around_an_op_that_was_erased_is_forgotten_and_the_stream_goes_on_over_both() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.put("Patient/p", json!({"name": "Asha", "phone": "0"}));
    for n in 1..=9 {
        clinic.edit("Patient/p", json!({"phone": n.to_string()}));
        if n == 4 {
            clinic.put("Patient/e", json!({"name": "secret"}));
        }
    }
    let before = hub.clone();
    clinic.sync(&mut hub);
    back_up(&mut hub);
    clinic.put("Patient/q", json!({}));
    clinic.next_day(&mut hub);
    clinic.note(0);
    let erased = RecordKey::parse("Patient/e").unwrap();
    sync_protocol::hub::erase(&mut hub, &erased, clinic.now_ms as u64).unwrap();
    clinic.sync(&mut hub);
    assert_eq!(clinic.forget(0).ops, 8, "all but the name, and the last phone");
    assert_eq!(clinic.forget(0), Forgotten::default());
    clinic.assert_sound();
    assert_eq!(clinic.store.mend(clinic.now_ms).unwrap(), []);
    let origin = clinic.store.blocking_read(|reader| reader.state()).unwrap().origin;
    hub = before.restored(true, Epoch(77), clinic.now_ms as u64);
    clinic.sync(&mut hub);
    let state = clinic.store.blocking_read(|reader| reader.state()).unwrap();
    assert_eq!((state.origin, state.unsent()), (origin, 0));
    let mark = hub.mark(origin, Stream::Normal).unwrap();
    assert_eq!((mark.acked, mark.chain), (state.streams[1].last, state.streams[1].chain));
}

#[test]
fn what_requests_were_compared_by_goes_with_the_record_that_they_wrote() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    let answer = |hash: u8, body: &str| Answer { hash: vec![hash], body: body.as_bytes().to_vec() };
    let kept = [
        ("a", answer(1, r#"{"type":"Patient","id":"e","etag":"1"}"#)),
        ("b", answer(2, r#"{"type":"Visit","id":"e","etag":"1"}"#)),
        ("c", answer(3, r#"{"type":"Patient","id":"ee","of":"e"}"#)),
        ("d", answer(4, "\"e\" and no JSON")),
    ];
    let all = kept.clone();
    let keep = move |tx: &mut super::super::Tx<'_>| {
        all.iter().try_for_each(|(key, one)| tx.idempotent_put(key, one, 0, i64::MAX))
    };
    clinic.store.blocking_write(keep).unwrap();
    clinic.put("Patient/e", json!({"name": "secret"}));
    clinic.sync(&mut hub);
    let erased = RecordKey::parse("Patient/e").unwrap();
    sync_protocol::hub::erase(&mut hub, &erased, clinic.now_ms as u64).unwrap();
    clinic.sync(&mut hub);
    for (key, mut expected) in kept {
        if key == "a" {
            expected.hash.clear();
        }
        let found = clinic.store.blocking_read(|reader| reader.idempotent(key, 0)).unwrap();
        assert_eq!(found, Some(expected), "{key}");
    }
}
