//! A record that the card has damaged is there, says so, and is never taken for gone, for new, or for whole.

use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::json;
use sync_protocol::edit::EditError;
use sync_protocol::gateway::Held;
use sync_protocol::id::{HubSeq, RecordType};
use sync_protocol::payload::{News, Notice, Reach, Row, Rows};
use sync_protocol::rules::Rules;

use super::damage::FLIP;
use super::*;
use crate::store::{Listing, Query};

const CHILD: &str = "Child/c";

impl Clinic {
    /// The record is at the hub, and its row here is damaged.
    fn with_damaged_child(hub: &mut MemoryHub) -> Clinic {
        let mut there = Clinic::enrolled(hub, "mw/zomba");
        there.put(CHILD, json!({"name": "Chikondi", "allergies": ["penicillin"], "weight": 7}));
        there.sync(hub);
        let mut here = Clinic::enrolled(hub, "mw");
        here.put("Child/other", json!({"name": "Thoko"}));
        here.sync(hub);
        here.damage_body()
    }

    fn damage_body(self) -> Clinic {
        let child = "type = (SELECT n FROM types WHERE name = 'Child') AND id = 'c'";
        // The sum at its end is another one.
        let spoilt = "CAST(substr(body, 1, length(body) - 4) || x'00ff00ff' AS BLOB)";
        self.damage(&format!("UPDATE records SET body = {spoilt} WHERE {child}"))
    }

    fn listed(&self) -> (Vec<String>, Vec<String>) {
        let record_type = RecordType::new("Child").unwrap();
        let query = Query { record_type, filters: Vec::new(), after: None, limit: 10 };
        let (mut shown, mut unreadable) = (Vec::new(), Vec::new());
        let take = |listing: Listing| {
            match listing {
                Listing::Stored(stored) => shown.push(stored.key.id.to_string()),
                Listing::Unreadable(key) => unreadable.push(key.id.to_string()),
            }
            ControlFlow::Continue(())
        };
        self.store.blocking_read(|reader| reader.list_each(&query, take)).unwrap();
        (shown, unreadable)
    }

    /// What another clinic's change of one field looks like on its way to here.
    fn hears_of(&self, hub: &MemoryHub, field: &str) {
        let key = key_of(CHILD);
        let record = hub.records().find(|(known, _)| **known == key).unwrap().1;
        let cells = record.cells.iter().filter(|(name, _)| name.as_str() == field);
        let record = Record { cells: cells.map(|(name, cell)| (name.clone(), cell.clone())).collect() };
        self.takes(Row::Cells { key, record, whole: false });
    }

    fn takes(&self, row: Row) {
        let rows = Rows { rows: vec![row], reaches: Reach::default() };
        self.store.blocking_write(move |tx| gateway::integrate_rows(tx, &rows)).unwrap();
    }
}

#[test]
fn it_is_there_and_says_so_until_the_hub_has_sent_it() {
    let mut hub = MemoryHub::default();
    let clinic = Clinic::with_damaged_child(&mut hub);
    let seen = clinic.store.blocking_read(|reader| reader.feed()).unwrap();
    let is_as_promised = |clinic: &Clinic| {
        assert_eq!(clinic.unreadable(CHILD), Some(true));
        assert_eq!(clinic.listed(), (vec!["other".to_owned()], vec!["c".to_owned()]));
        let feed = clinic.store.blocking_read(|reader| reader.changes(0, 10)).unwrap();
        assert!(feed.iter().all(|item| !item.is_gone && item.feed <= seen), "{feed:?}");
    };
    is_as_promised(&clinic);
    assert_eq!(clinic.mend(), [key_of(CHILD)]);
    is_as_promised(&clinic);
    assert_eq!(clinic.mend(), [], "it is asked for once");
    // It stays in the ledger, also over a start.
    let mut clinic = clinic.reopen();
    assert_eq!(clinic.count().rows, 1);
    is_as_promised(&clinic);
    clinic.edit("Child/other", json!({"weight": 9}));
    clinic.sync(&mut hub);
    assert_eq!(clinic.body(CHILD), json!({"name": "Chikondi", "allergies": ["penicillin"], "weight": 7}));
    assert_eq!((clinic.mend(), clinic.count().rows), (vec![], 0));
    assert!(clinic.get(CHILD).unwrap().is_confirmed);
    assert_eq!(clinic.store.blocking_read(|reader| reader.quick_check()).unwrap(), Vec::<String>::new());
}

#[test]
fn a_part_of_it_is_not_taken_for_the_whole() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::with_damaged_child(&mut hub);
    clinic.hears_of(&hub, "weight");
    assert_eq!(clinic.unreadable(CHILD), Some(true), "before it was met");
    assert_eq!(clinic.mend(), [key_of(CHILD)]);
    clinic.hears_of(&hub, "weight");
    assert_eq!(clinic.unreadable(CHILD), Some(true), "while it is awaited");
    clinic.sync(&mut hub);
    assert_eq!(clinic.body(CHILD)["allergies"], json!(["penicillin"]));
    // The same of one that can be read, and is not what its tag says.
    let spoilt = clinic.damage("UPDATE records SET etag = x'00', item = item + 1");
    assert_eq!(spoilt.scrub().len(), 2);
    spoilt.hears_of(&hub, "weight");
    assert_eq!(spoilt.body(CHILD)["allergies"], json!(["penicillin"]));
}

#[test]
fn a_whole_body_is_taken_and_merges_with_what_the_hub_has() {
    for is_mended in [false, true] {
        let mut hub = MemoryHub::default();
        let mut clinic = Clinic::with_damaged_child(&mut hub);
        if is_mended {
            assert_eq!(clinic.scrub(), [key_of(CHILD)]);
        }
        let done = clinic.put(CHILD, json!({"name": "Chikondi", "weight": 8}));
        assert!(!done.created, "it is no new record");
        assert_eq!(clinic.body(CHILD), json!({"name": "Chikondi", "weight": 8}));
        clinic.mend();
        clinic.edit(CHILD, json!({"height": 70}));
        clinic.sync(&mut hub);
        let merged = json!({"name": "Chikondi", "allergies": ["penicillin"], "weight": 8, "height": 70});
        assert_eq!(clinic.body(CHILD), merged, "mended: {is_mended}");
        // It stays where it belongs, though it was written elsewhere.
        assert_eq!(clinic.get(CHILD).unwrap().scope.as_str(), "mw/zomba");
        assert_eq!((clinic.mend(), clinic.count().rows), (vec![], 0));
        assert!(clinic.get(CHILD).unwrap().is_confirmed);
    }
}

#[test]
fn what_depends_on_what_stood_there_is_refused() {
    let mut hub = MemoryHub::default();
    let rules = "version = 1\n[types.Child.fields]\ndoses = \"counter\"\nvisits = \"append-only\"\n";
    hub.publish(Arc::new(Rules::parse(rules).unwrap()));
    let mut clinic = Clinic::with_damaged_child(&mut hub);
    let adds = |field: &str, value: Json| Intent::Put(object(json!({ field: value })));
    let settles = Intent::SettleDelete { delete: false, why: "seen".to_owned() };
    for intent in [adds("doses", json!(3)), adds("visits", json!(["Monday"])), Intent::Delete, settles] {
        let wish = wish(CHILD, intent, None, NOW_MS);
        let capture =
            |tx: &mut crate::store::Tx<'_>| -> Result<Captured, Refusal<Error>> { gateway::capture(tx, wish) };
        let refused = clinic.store.blocking_write(capture);
        assert!(matches!(refused, Err(Refusal::Edit(EditError::Unreadable))), "{refused:?}");
    }
    // Nor after a body without them was put over it.
    clinic.put(CHILD, json!({"name": "Chikondi"}));
    for (field, value) in [("doses", json!(3)), ("visits", json!(["Monday"]))] {
        let wish = wish(CHILD, Intent::Put(object(json!({"name": "Chikondi", field: value}))), None, NOW_MS);
        let capture =
            |tx: &mut crate::store::Tx<'_>| -> Result<Captured, Refusal<Error>> { gateway::capture(tx, wish) };
        let refused = clinic.store.blocking_write(capture);
        assert!(matches!(refused, Err(Refusal::Edit(EditError::Unreadable))), "{refused:?}");
    }
    clinic.sync(&mut hub);
    clinic.edit("Child/other", json!({"doses": 3}));
    assert_eq!(clinic.body("Child/other")["doses"], json!(3), "elsewhere it adds");
}

#[test]
fn one_that_was_never_sent_stays_and_can_be_put_anew() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.put(CHILD, json!({"name": "Chikondi"}));
    let mut clinic = clinic.damage(&format!("UPDATE history SET op = CAST({FLIP} AS BLOB)"));
    assert_eq!(clinic.unreadable(CHILD), Some(false));
    assert_eq!(clinic.mend(), [], "nobody else has it");
    clinic.sync(&mut hub);
    assert_eq!(clinic.unreadable(CHILD), Some(false));
    clinic.put(CHILD, json!({"name": "Chikondi", "weight": 7}));
    clinic.sync(&mut hub);
    assert_eq!(clinic.body(CHILD), json!({"name": "Chikondi", "weight": 7}));
    assert_eq!(clinic.get(CHILD).unwrap().scope.as_str(), "mw");
    assert_eq!(hub.records().count(), 1);
}

#[test]
fn one_of_which_only_the_name_is_left_is_told_of_also_when_the_hub_never_had_it() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.put("Child/other", json!({"name": "Thoko"}));
    clinic.sync(&mut hub);
    // As a database that was made anew has it.
    let clinic = clinic.damage(
        "INSERT INTO records (feed, type, id, scope, etag, presence, conflicts, is_confirmed, item, changed, is_pending, unsettled, \
         newest, body, confirmed) \
         SELECT feed + 1, type, 'c', scope, x'', 0, 0, 3, 0, 0, 0, 0, 0, x'00', x'' FROM records",
    );
    let mut clinic = clinic.damage("INSERT INTO damage (place, number, found_ms) SELECT 0, max(feed), 0 FROM records");
    clinic.edit("Child/other", json!({"weight": 9}));
    clinic.sync(&mut hub);
    assert_eq!(clinic.unreadable(CHILD), Some(true));
    assert_eq!(
        (clinic.listed().1, clinic.count().rows),
        (vec!["c".to_owned()], 1),
        "somebody can look for it on the card"
    );
    // One that the hub had is not named any more once both have the same.
    let mut clinic = clinic.damage("UPDATE records SET etag = x'00' WHERE id = 'c'");
    clinic.edit("Child/other", json!({"weight": 10}));
    clinic.sync(&mut hub);
    assert_eq!(clinic.listed().1, Vec::<String>::new());
}

#[test]
fn own_writes_on_top_of_it_are_sent_and_what_is_heard_of_them_does_not_end_it() {
    let mut hub = MemoryHub::default();
    let mut there = Clinic::enrolled(&mut hub, "mw");
    there.put(CHILD, json!({"name": "Chikondi", "allergies": ["penicillin"]}));
    there.sync(&mut hub);
    let mut here = Clinic::enrolled(&mut hub, "mw");
    here.sync(&mut hub);
    let dots = [8, 9].map(|weight| here.edit(CHILD, json!({"weight": weight})).op.unwrap());
    let mut here = here.damage_body();
    assert_eq!(here.scrub(), [key_of(CHILD)]);
    assert_eq!(here.unreadable(CHILD), Some(true));
    let held = here.store.blocking_write(|tx| tx.held(&key_of(CHILD))).unwrap().unwrap();
    assert_eq!(held, Held { is_pending: true, awaits_whole: true, ..Held::default() });
    for (dot, news) in dots.into_iter().zip([News::Held("waits".to_owned()), News::Released(HubSeq(3))]) {
        here.takes(Row::Notice(Notice { dot, key: key_of(CHILD), news }));
        assert_eq!(here.unreadable(CHILD), Some(true));
    }
    here.sync(&mut hub);
    assert_eq!(here.body(CHILD), json!({"name": "Chikondi", "allergies": ["penicillin"], "weight": 9}));
    assert_eq!(here.store.blocking_write(|tx| tx.state()).unwrap().unsent(), 0);
}

#[test]
fn what_stood_in_an_op_that_cannot_be_read_is_not_overruled_unseen() {
    let mut hub = MemoryHub::default();
    let rules = "version = 1\n[types.Child.fields]\nallergies = \"keep-both\"\n";
    hub.publish(Arc::new(Rules::parse(rules).unwrap()));
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.put(CHILD, json!({"allergies": "penicillin"}));
    clinic.sync(&mut hub);
    let mut clinic =
        clinic.damage("UPDATE history SET op = CAST(substr(op, 1, length(op) - 4) || x'00ff00ff' AS BLOB)");
    assert_eq!(clinic.unreadable(CHILD), Some(true));
    clinic.put(CHILD, json!({"allergies": "none known"}));
    clinic.sync(&mut hub);
    assert_eq!(clinic.get(CHILD).unwrap().conflicts, 1, "a person decides");
}

#[test]
fn it_leaves_with_its_scope() {
    let mut hub = MemoryHub::default();
    let clinic = Clinic::with_damaged_child(&mut hub);
    assert_eq!(clinic.scrub(), [key_of(CHILD)]);
    let elsewhere = [Scope::new("mw/blantyre").unwrap()];
    let outside = clinic.store.blocking_write(move |tx| tx.outside(&elsewhere, 10)).unwrap();
    assert!(outside.contains(&key_of(CHILD)), "{outside:?}");
    clinic.takes(Row::Evict(key_of(CHILD)));
    assert_eq!((clinic.unreadable(CHILD), clinic.get(CHILD).is_some()), (None, false));
    let feed = clinic.store.blocking_read(|reader| reader.changes(0, 10)).unwrap();
    assert!(feed.iter().any(|item| item.key == key_of(CHILD) && item.is_gone));
    assert!(clinic.store.blocking_read(|reader| reader.sums_agree()).unwrap());
}
