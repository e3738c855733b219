//! Going back: what an app had read can be rebuilt, whoever changed the record since.

use serde_json::json;

use super::*;
use crate::store::{Entry, OpState};

fn at(clinic: &Clinic, key: &str, etag: &str) -> Option<Json> {
    let record = clinic.store.blocking_read(|reader| reader.record_at_etag(&key_of(key), etag)).unwrap();
    record.map(|record| Json::Object(render(&record)))
}

#[test]
fn a_record_is_rebuilt_as_it_was_before_local_edits() {
    let mut clinic = Clinic::new();
    let mut seen = vec![clinic.put("Visit/a", json!({"n": 0, "old": true}))];
    for n in 1..5 {
        seen.push(clinic.put("Visit/a", json!({"n": n, "new": n})));
    }
    seen.push(clinic.write("Visit/a", Intent::Delete, None));
    let clinic = clinic.reopen();
    for captured in &seen {
        let rebuilt = clinic.store.blocking_read(|reader| reader.record_at_etag(&key_of("Visit/a"), &captured.etag));
        assert_eq!(rebuilt.unwrap().as_ref(), Some(&captured.record));
    }
    assert_eq!(at(&clinic, "Visit/a", "0123456789abcdef"), None);
    assert_eq!(at(&clinic, "Visit/b", &seen[0].etag), None);
}

#[test]
fn a_record_is_rebuilt_as_it_was_before_the_hub_changed_it() {
    let mut hub = MemoryHub::default();
    let mut here = Clinic::enrolled(&mut hub, "mw");
    let mut there = Clinic::enrolled(&mut hub, "mw");
    let first = here.put("Visit/a", json!({"n": 1, "m": 1})).etag;
    here.sync(&mut hub);
    there.sync(&mut hub);
    there.edit("Visit/a", json!({"m": 2, "k": [1]}));
    there.sync(&mut hub);
    here.sync(&mut hub);
    let second = here.get("Visit/a").unwrap().etag;
    here.edit("Visit/a", json!({"n": 5}));
    here.sync(&mut hub);
    there.sync(&mut hub);
    there.edit("Visit/a", json!({"n": 6}));
    there.sync(&mut hub);
    here.sync(&mut hub);
    assert_eq!(at(&here, "Visit/a", &first), Some(json!({"n": 1, "m": 1})));
    assert_eq!(at(&here, "Visit/a", &second), Some(json!({"n": 1, "m": 2, "k": [1]})));
    let history = here.store.blocking_read(|reader| reader.history(&key_of("Visit/a"), 0, 10)).unwrap();
    let kinds: Vec<&str> = history
        .iter()
        .map(|entry| match entry {
            Entry::Own(own) if own.fate == OpState::Confirmed => "own",
            Entry::Hub(_) => "hub",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["hub", "own", "hub", "own"]);
}

#[test]
fn a_stale_edit_meets_what_it_had_not_seen() {
    let mut clinic = Clinic::new();
    let read = clinic.put("Visit/a", json!({"n": 1, "m": 1})).etag;
    clinic.edit("Visit/a", json!({"n": 2}));
    let base = clinic.store.blocking_read(|reader| reader.record_at_etag(&key_of("Visit/a"), &read)).unwrap();
    let merged = clinic.write("Visit/a", Intent::Put(object(json!({"n": 1, "m": 9}))), base.clone());
    assert!(merged.conflicts.is_empty());
    assert_eq!(clinic.body("Visit/a"), json!({"n": 2, "m": 9}));
    let rival = clinic.write("Visit/a", Intent::Put(object(json!({"n": 7, "m": 1}))), base);
    assert_eq!(rival.conflicts.len(), 1);
    assert_eq!(clinic.store.blocking_read(|reader| reader.conflicts(0, 10)).unwrap().0.len(), 1);
}

#[test]
fn a_long_tail_that_is_renumbered_has_the_same_history() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::new();
    let keys = ["Visit/a", "Visit/b", "Visit/c"];
    // More than are renumbered at a time, so that the history of a record is moved in parts.
    let seen: Vec<_> = (0..300).map(|n| clinic.put(keys[n % 3], json!({"n": n, "m": n / 9}))).collect();
    let bodies = keys.map(|key| clinic.body(key));
    clinic.enrol(&mut hub, "mw");
    assert_eq!(keys.map(|key| clinic.body(key)), bodies);
    let incarnation = clinic.sql::<i64>("SELECT max(n) FROM incarnations");
    let moved = format!("SELECT count(*) FROM history WHERE number >> 38 = {incarnation}");
    // One row more for each record: it belongs to where the gateway stands now.
    assert_eq!((clinic.sql::<i64>(&moved), clinic.sql::<i64>("SELECT count(*) FROM history")), (303, 303));
    for (n, captured) in seen.iter().enumerate() {
        let rebuilt = at(&clinic, keys[n % 3], &captured.etag);
        assert_eq!(rebuilt, Some(json!({"n": n, "m": n / 9})), "{n}");
    }
    let mut clinic = clinic.reopen();
    clinic.sync(&mut hub);
    assert_eq!(hub.records().count(), 3);
    assert_eq!(keys.map(|key| clinic.body(key)), bodies);
}
