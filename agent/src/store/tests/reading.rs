//! What apps ask: records, lists, the change feed, receipts, conflicts, parked ops.

use std::ops::ControlFlow;

use serde_json::json;
use sync_protocol::gateway::{Fate, Store as _};
use sync_protocol::id::{Dot, HubSeq, RecordId, RecordType};
use sync_protocol::merge::Presence;

use super::*;
use crate::store::{Filter, Listing, Query};

fn query(filters: &[(&str, Json)], after: Option<&str>, limit: usize) -> Query {
    let filter = |(path, value): &(&str, Json)| Filter {
        path: path.split('.').map(str::to_owned).collect(),
        value: value.clone(),
    };
    Query {
        record_type: RecordType::new("Visit").unwrap(),
        filters: filters.iter().map(filter).collect(),
        after: after.map(|id| RecordId::new(id).unwrap()),
        limit,
    }
}

fn ids(clinic: &Clinic, query: Query) -> Vec<String> {
    let mut found = Vec::new();
    let take = |listing: Listing| {
        let Listing::Stored(stored) = listing else { panic!("{listing:?}") };
        found.push(stored.key.id.to_string());
        ControlFlow::Continue(())
    };
    clinic.store.blocking_read(|reader| reader.list_each(&query, take)).unwrap();
    found
}

#[test]
fn lists_are_by_id_filtered_and_without_deleted_records() {
    let mut clinic = Clinic::new();
    for n in [3, 1, 2, 5, 4] {
        let kind = if n % 2 == 0 { "home" } else { "clinic" };
        clinic.put(&format!("Visit/v{n}"), json!({"n": n, "place": {"kind": kind}}));
    }
    clinic.put("Patient/v0", json!({"n": 1}));
    clinic.write("Visit/v5", Intent::Delete, None);
    assert_eq!(ids(&clinic, query(&[], None, 9)), ["v1", "v2", "v3", "v4"]);
    assert_eq!(ids(&clinic, query(&[], Some("v1"), 2)), ["v2", "v3"]);
    assert_eq!(ids(&clinic, query(&[("place.kind", json!("clinic"))], None, 9)), ["v1", "v3"]);
    assert_eq!(ids(&clinic, query(&[("n", json!("2"))], None, 9)), ["v2"]);
    assert_eq!(ids(&clinic, query(&[("n", json!(2.0)), ("place.kind", json!("home"))], None, 9)), ["v2"]);
    let types = clinic.store.blocking_read(|reader| reader.types()).unwrap();
    assert_eq!(types.iter().map(|(t, n)| (t.as_str(), *n)).collect::<Vec<_>>(), [("Patient", 1), ("Visit", 4)]);
    assert_eq!(clinic.get("Visit/v5").unwrap().presence, Presence::Deleted);
}

#[test]
fn pages_of_a_list_go_over_ids_of_both_kinds() {
    let mut clinic = Clinic::new();
    let uuids: Vec<String> = (0..3).map(|n| format!("0197ad3c-5a0{n}-7000-8000-0123456789ab")).collect();
    let all: Vec<String> = ["a", "zz"].into_iter().map(str::to_owned).chain(uuids).collect();
    for id in all.iter().rev() {
        clinic.put(&format!("Visit/{id}"), json!({"n": 1}));
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = ids(&clinic, query(&[], after.as_deref(), 2));
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page);
    }
    assert_eq!(seen, all);
}

#[test]
fn the_feed_has_each_record_once_at_its_last_change() {
    let mut clinic = Clinic::new();
    clinic.put("Visit/a", json!({"n": 1}));
    clinic.put("Visit/b", json!({"n": 1}));
    clinic.put("Visit/a", json!({"n": 2}));
    let changes = clinic.store.blocking_read(|reader| reader.changes(0, 10)).unwrap();
    let seen: Vec<_> = changes.iter().map(|item| (item.feed, item.key.id.to_string())).collect();
    assert_eq!(seen, [(2, "b".to_owned()), (3, "a".to_owned())]);
    assert_eq!(changes[1].etag, clinic.get("Visit/a").unwrap().etag);
    let later = clinic.store.blocking_read(|reader| reader.changes(2, 10)).unwrap();
    assert_eq!(later.len(), 1);
    clinic.store.blocking_write(|tx| tx.forget(&key_of("Visit/a"))).unwrap();
    let gone = clinic.store.blocking_read(|reader| reader.changes(3, 10)).unwrap();
    assert!(gone[0].is_gone && gone[0].feed == 4);
    assert!(clinic.get("Visit/a").is_none());
    let history = clinic.store.blocking_read(|reader| reader.history(&key_of("Visit/a"), 0, 10)).unwrap();
    assert_eq!(history.len(), 2);
}

#[test]
fn confirming_a_record_changes_neither_its_tag_nor_its_place_in_the_feed() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    let captured = clinic.put("Visit/a", json!({"n": 1}));
    let before = clinic.get("Visit/a").unwrap();
    clinic.sync(&mut hub);
    let after = clinic.get("Visit/a").unwrap();
    assert!(before.is_pending && !before.is_confirmed && !after.is_pending && after.is_confirmed);
    assert_eq!((after.etag.as_str(), after.feed), (captured.etag.as_str(), before.feed));
    assert_ne!(after.confirmed_changed, HubSeq::NONE);
}

#[test]
fn receipts_say_how_far_a_write_has_come() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    let first = clinic.put("Visit/a", json!({"n": 1})).etag;
    clinic.sync(&mut hub);
    let second = clinic.put("Visit/a", json!({"n": 2})).etag;
    let third = clinic.put("Visit/a", json!({"n": 3})).etag;
    let ask = |clinic: &Clinic, etag: &str| {
        let asked = [(key_of("Visit/a"), etag.to_owned())];
        let receipt = clinic.store.blocking_read(|reader| reader.receipts(&asked)).unwrap().remove(0);
        (receipt.is_here, receipt.is_at_hub, receipt.parked)
    };
    assert_eq!(ask(&clinic, &first), (true, true, None));
    assert_eq!(ask(&clinic, &second), (true, false, None));
    assert_eq!(ask(&clinic, &third), (true, false, None));
    assert_eq!(ask(&clinic, "0123456789abcdef"), (false, false, None));
    clinic.sync(&mut hub);
    assert_eq!(ask(&clinic, &second), (true, true, None));
    assert_eq!(ask(&clinic, &third), (true, true, None));
    let dot = clinic.put("Visit/a", json!({"n": 4})).op.unwrap();
    park(&clinic, dot, "no such patient");
    let etag = clinic.get("Visit/a").unwrap().etag;
    assert_eq!(ask(&clinic, &etag), (true, false, Some("no such patient".to_owned())));
    assert_eq!(ask(&clinic, &third), (true, true, None));
}

fn park(clinic: &Clinic, dot: Dot, reason: &str) {
    let fate = Fate::Parked(reason.to_owned());
    clinic.store.blocking_write(move |tx| tx.settle_fate(dot, &fate)).unwrap();
}

#[test]
fn parked_ops_are_listed_until_they_are_settled() {
    let mut clinic = Clinic::new();
    let dot = clinic.put("Visit/a", json!({"n": 1})).op.unwrap();
    park(&clinic, dot, "no such patient");
    clinic.store.blocking_write(move |tx| tx.plea(dot, true)).unwrap();
    let parked = clinic.store.blocking_read(|reader| reader.parked(0, 10)).unwrap().0;
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].dot, parked[0].reason.as_str(), parked[0].plea), (dot, "no such patient", Some(true)));
    assert_eq!(clinic.store.blocking_write(|tx| tx.pending(&key_of("Visit/a"))).unwrap().len(), 1);
    let pleas = clinic.store.blocking_write(|tx| tx.pleas()).unwrap();
    clinic.store.blocking_write(move |tx| tx.clear_pleas(&pleas)).unwrap();
    assert!(clinic.store.blocking_write(|tx| tx.pleas()).unwrap().is_empty());
    clinic.store.blocking_write(move |tx| tx.settle_fate(dot, &Fate::Discarded("a slip".into()))).unwrap();
    assert!(clinic.store.blocking_read(|reader| reader.parked(0, 10)).unwrap().0.is_empty());
    assert!(clinic.store.blocking_write(|tx| tx.pending(&key_of("Visit/a"))).unwrap().is_empty());
}

#[test]
fn conflicts_are_listed_with_all_values() {
    let mut hub = MemoryHub::default();
    let mut here = Clinic::enrolled(&mut hub, "mw");
    let mut there = Clinic::enrolled(&mut hub, "mw");
    here.put("Visit/a", json!({"n": 1, "m": 1}));
    here.sync(&mut hub);
    there.sync(&mut hub);
    here.edit("Visit/a", json!({"n": 2}));
    there.edit("Visit/a", json!({"n": 3}));
    here.sync(&mut hub);
    there.sync(&mut hub);
    here.sync(&mut hub);
    let conflicts = here.store.blocking_read(|reader| reader.conflicts(0, 10)).unwrap().0;
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].fields.len(), 1);
    assert_eq!(conflicts[0].fields[0].1.len(), 2);
    assert_eq!(here.store.blocking_read(|reader| reader.status()).unwrap().conflicts, 1);
}
