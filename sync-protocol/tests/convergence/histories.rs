//! Who knew of what, where numbers mean more than one thing: after a hub was put back, and where cards were copied.

use serde_json::{Value, json};
use sync_protocol::gateway::{self, GatewayState, Store as _};
use sync_protocol::hub::Snapshot as _;
use sync_protocol::id::{Epoch, HubSeq, Origin, RecordKey, Scope};
use sync_protocol::loopback::{Link, exchange};
use sync_protocol::payload::{News, Notice, Reach, Row, Rows};

use crate::world::{World, object, rivals};

const RULES: &str = r#"
version = 1
[types.visit]
default = "keep-both"
scope = "facility"
[types.visit.fields]
used = "counter"
tags = "set"
log = "append-only"
"#;

/// All values of a field at the hub, in a fixed order.
fn values(w: &mut World, key: &str, field: &str) -> Vec<Value> {
    let record = w.hub_record(key);
    let mut all = rivals(&record, field);
    all.extend(sync_protocol::edit::render(&record).get(field).cloned());
    all.sort_by_key(Value::to_string);
    all
}

fn put_back(w: &mut World, backup: &sync_protocol::memory::MemoryHub, epoch: u32) {
    w.hub = backup.clone().restored(true, Epoch(epoch), 0);
}

#[test]
fn a_blind_write_confirmed_under_an_origin_that_is_over_has_seen_nothing() {
    let mut w = World::new(RULES, &["mw/a", "mw/b"]);
    w.put(1, "visit/v1", json!({"note": "theirs"}));
    w.sync(1);
    w.sync(0);
    w.gateways[0].set_print([1; 8]);
    let copy = w.copy_of(0, 2);
    w.sync(0);
    w.sync(0);
    w.gateways.push(copy);
    w.put(2, "visit/v1", json!({"note": "blind"}));
    let mut is_new = false;
    for _ in 0..5 {
        if !is_new {
            exchange(&mut w.gateways[2], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
            is_new = w.gateways[2].state().unwrap().origin != Origin(1);
        }
    }
    assert!(is_new);
    // It has heard that its write arrived, and nothing of what it wrote to.
    w.put(2, "visit/v1", json!({"note": "blind again"}));
    w.sync(2);
    assert!(values(&mut w, "visit/v1", "note").contains(&json!("theirs")));
}

#[test]
fn an_answer_for_what_another_copy_wrote_tells_an_older_card_nothing() {
    let mut w = World::new(RULES, &["mw"]);
    let image = w.gateways[0].clone();
    w.put(0, "visit/v1", json!({"note": "of the newer card"}));
    w.sync(0);
    w.gateways[0] = image;
    w.put(0, "visit/v1", json!({"note": "of the older card"}));
    // Its clock is wrong, so it only asks; its turn is the one that is shown again when an answer was lost.
    let state = w.gateways[0].state().unwrap();
    w.gateways[0].set_state(&GatewayState { unsure: true, ..state }).unwrap();
    exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    w.edit(0, "visit/v1", json!({"note": "later on the older card"}));
    w.sync_all();
    assert_eq!(values(&mut w, "visit/v1", "note"), [json!("later on the older card"), json!("of the newer card")]);
}

#[test]
fn in_the_middle_of_a_pull_a_write_knows_what_came_beside_an_own_value() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.put(0, "visit/v1", json!({"note": "own"}));
    w.put(1, "visit/v1", json!({"note": "theirs"}));
    w.sync(0);
    w.sync(1);
    // The answer breaks off behind the record.
    let (record, head) = (w.hub_record("visit/v1"), w.hub.head().unwrap());
    let key = RecordKey::parse("visit/v1").unwrap();
    let reaches = Reach { cursor: head, ..Reach::default() };
    let rows = Rows { reaches, rows: vec![Row::Cells { key, record, whole: false }] };
    gateway::integrate_rows(&mut w.gateways[0], &rows).unwrap();
    assert!(w.gateways[0].state().unwrap().complete < head);
    // A record that a repair brings whole is known as far as it came, wherever the cursor is.
    let state = w.gateways[0].state().unwrap();
    w.gateways[0].set_state(&GatewayState { cursor: state.complete, ..state }).unwrap();
    w.edit(0, "visit/v1", json!({"note": "of both"}));
    w.sync_all();
    assert_eq!(values(&mut w, "visit/v1", "note"), [json!("of both")]);
}

#[test]
fn what_was_written_before_a_restore_claims_no_more_after_the_next_one() {
    let mut w = World::new(RULES, &["mw", "mw", "mw"]);
    let empty = w.hub.clone();
    w.put(0, "visit/v1", json!({"note": "first"}));
    w.sync(0);
    w.sync(1);
    w.edit(1, "visit/v1", json!({"note": "second"}));
    w.sync(1);
    put_back(&mut w, &empty, 77);
    w.put(2, "visit/v1", json!({"note": "apart"}));
    w.sync(2);
    let later = w.hub.clone();
    w.sync(1);
    put_back(&mut w, &later, 78);
    w.sync(1);
    // The number that the second write names was that of the first one, and is now that of a write that nobody had seen.
    let all = values(&mut w, "visit/v1", "note");
    assert!(all.contains(&json!("apart")) && all.contains(&json!("second")), "{all:?}");
}

#[test]
fn a_lost_value_is_no_later_one_of_another_copy_that_has_its_number() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    let (backup, image) = (w.hub.clone(), w.copy_of(0, 2));
    w.put(0, "visit/v1", json!({"note": "a"}));
    w.edit(0, "visit/v1", json!({"note": "lost"}));
    w.sync_all();
    put_back(&mut w, &backup, 77);
    // The box is gone; one with an older copy of its card goes on, and gives its numbers to other writes.
    w.gateways[0] = image;
    w.put(0, "visit/v1", json!({"note": "of the copy"}));
    w.sync(0);
    w.sync(1);
    assert_eq!(values(&mut w, "visit/v1", "note"), [json!("lost"), json!("of the copy")]);
}

#[test]
fn a_write_of_a_copy_is_no_later_one_than_a_lost_value_under_a_number_before_it() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    let (backup, image) = (w.hub.clone(), w.copy_of(0, 2));
    w.put(0, "visit/v1", json!({"note": "lost"}));
    w.sync_all();
    put_back(&mut w, &backup, 77);
    w.sync(1);
    w.gateways[0] = image;
    w.put(0, "visit/v2", json!({"note": "under the number of the lost one"}));
    w.put(0, "visit/v1", json!({"note": "of the copy"}));
    w.sync(0);
    w.sync_all();
    assert_eq!(values(&mut w, "visit/v1", "note"), [json!("lost"), json!("of the copy")]);
}

#[test]
fn an_author_who_shows_his_second_value_after_others_did_overrules_his_first_with_it() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    let backup = w.hub.clone();
    w.put(0, "visit/v1", json!({"note": "first"}));
    let with_first = w.gateways[0].clone();
    w.edit(0, "visit/v1", json!({"note": "second"}));
    let with_both = std::mem::replace(&mut w.gateways[0], with_first);
    w.gateways.push(with_both);
    w.sync(2);
    w.sync(1);
    put_back(&mut w, &backup, 77);
    // Its first write arrives again; then somebody else shows the second one, and then it comes itself.
    w.sync(0);
    w.sync(1);
    assert_eq!(values(&mut w, "visit/v1", "note"), [json!("first"), json!("second")]);
    w.sync(2);
    assert_eq!(values(&mut w, "visit/v1", "note"), [json!("second")]);
}

#[test]
fn own_lost_writes_come_back_to_a_record_that_left_the_view_meanwhile() {
    let mut w = World::new(RULES, &["mw/a"]);
    w.put(0, "visit/v1", json!({"facility": "mw/a", "used": 1}));
    w.sync_all();
    let (backup, image) = (w.hub.clone(), w.gateways[0].clone());
    w.edit(0, "visit/v1", json!({"used": 5}));
    w.sync(0);
    // A copy of it goes on under another origin, with what the first one had sent.
    let newer = w.copy_of(0, 3);
    w.gateways[0] = image;
    w.put(0, "visit/v2", json!({"facility": "mw/a"}));
    w.sync(0);
    w.gateways[0] = newer;
    w.sync(0);
    assert_ne!(w.gateways[0].state().unwrap().origin, Origin(1));
    put_back(&mut w, &backup, 77);
    w.hub_write("visit/v1", gateway::Intent::Put(object(json!({"facility": "mw/c", "used": 1}))));
    w.sync(0);
    assert_eq!(w.hub_record("visit/v1").scope(), Scope::new("mw/c").unwrap());
    assert_eq!(values(&mut w, "visit/v1", "used"), [json!(5)]);
    w.assert_equal();
}

#[test]
fn who_holds_a_part_of_a_record_takes_nothing_out_of_its_sets() {
    let mut w = World::new(RULES, &["mw", "mw/b"]);
    w.put(0, "visit/v1", json!({"facility": "mw", "tags": ["x"]}));
    w.sync(0);
    let backup = w.hub.clone();
    w.assign(0, &["mw/b"], false);
    w.sync(0);
    assert!(w.gateways[0].record(&RecordKey::parse("visit/v1").unwrap()).is_none());
    // While the hub asks for what it lost of others, the write is confirmed.
    w.put(1, "visit/v2", json!({"note": "of a gateway that is gone"}));
    w.sync(1);
    w.sync(0);
    put_back(&mut w, &backup, 77);
    w.put(0, "visit/v1", json!({"tags": ["y"]}));
    w.sync(0);
    assert_eq!(values(&mut w, "visit/v1", "tags"), [json!(["x", "y"])]);
}

#[test]
fn what_stands_here_of_a_lost_time_saw_no_number_that_is_given_anew() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.put(0, "visit/v1", json!({"note": "first"}));
    w.sync(0);
    let backup = w.hub.clone();
    // Of a gateway that is gone: the hub asks for these first.
    w.put(1, "visit/v2", json!({"note": "other"}));
    w.put(1, "visit/v3", json!({"note": "other"}));
    w.sync(1);
    w.sync(0);
    w.edit(0, "visit/v1", json!({"note": "second"}));
    w.sync(0);
    put_back(&mut w, &backup, 77);
    w.edit(0, "visit/v1", json!({"note": "third"}));
    // The hub gives the third the number of one that the second had seen.
    for _ in 0..2 {
        exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
        assert_eq!(w.body(0, "visit/v1")["note"], json!("third"));
    }
}

#[test]
fn news_of_what_another_copy_wrote_under_a_number_is_none_of_the_own_write() {
    let mut w = World::new(RULES, &["mw"]);
    w.put(0, "visit/v1", json!({"note": "own"}));
    w.sync(0);
    let (dot, _) = w.gateways[0].own().map(|(op, fate)| (op.stamp.dot, fate)).next().unwrap();
    let about = |key: &str, news| Notice { dot, key: RecordKey::parse(key).unwrap(), news };
    for news in [News::Held("waits".to_owned()), News::Released(HubSeq(9)), News::Discarded("no".to_owned())] {
        let rows = Rows { reaches: Reach::default(), rows: vec![Row::Notice(about("visit/of-the-copy", news))] };
        gateway::integrate_rows(&mut w.gateways[0], &rows).unwrap();
    }
    assert!(w.gateways[0].parked().is_empty());
    w.sync_all();
    // About the write itself it counts, and what is shown says so.
    let rows =
        Rows { reaches: Reach::default(), rows: vec![Row::Notice(about("visit/v1", News::Held("waits".to_owned())))] };
    gateway::integrate_rows(&mut w.gateways[0], &rows).unwrap();
    assert!(w.gateways[0].record(&RecordKey::parse("visit/v1").unwrap()).unwrap().is_pending);
}

#[test]
fn what_was_put_into_a_set_under_an_origin_that_is_over_comes_back_to_a_hub_that_was_put_back() {
    let mut w = World::new(RULES, &["mw"]);
    let (backup, image) = (w.hub.clone(), w.gateways[0].clone());
    w.sync(0);
    w.sync(0);
    // A card that was put back: what it brings is taken, and then it goes on under another origin.
    w.gateways[0] = image;
    w.put(0, "visit/v1", json!({"tags": ["x"]}));
    w.edit(0, "visit/v1", json!({"tags": ["x", "y"]}));
    w.sync(0);
    assert_ne!(w.gateways[0].state().unwrap().origin, Origin(1));
    put_back(&mut w, &backup, 77);
    w.sync_all();
    assert_eq!(values(&mut w, "visit/v1", "tags"), [json!(["x", "y"])]);
}

#[test]
fn what_goes_again_under_another_origin_is_not_shown_under_the_old_one_as_well() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.put(0, "visit/v1", json!({"used": 1, "tags": ["x"], "log": ["a"]}));
    w.sync_all();
    let (backup, copy) = (w.hub.clone(), w.copy_of(0, 2));
    w.edit(1, "visit/v1", json!({"note": "of a gateway that is gone"}));
    w.sync(1);
    w.edit(0, "visit/v1", json!({"used": 4, "tags": ["x", "y"], "log": ["a", "b"]}));
    w.sync(0);
    w.gateways.pop();
    w.hub = backup.restored(false, Epoch(77), 0);
    w.gateways.push(copy);
    w.put(1, "visit/v2", json!({"note": "of the copy"}));
    w.sync(1);
    w.sync(0);
    w.sync_all();
    assert_eq!(values(&mut w, "visit/v1", "used"), [json!(4)]);
    assert_eq!(values(&mut w, "visit/v1", "log"), [json!(["a", "b"])]);
    assert_eq!(values(&mut w, "visit/v1", "tags"), [json!(["x", "y"])]);
    assert_eq!(values(&mut w, "visit/v1", "note"), [json!("of a gateway that is gone")]);
}

#[test]
fn what_was_counted_in_a_lost_time_counts_again_under_another_origin() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.put(0, "visit/v1", json!({"used": 1}));
    w.sync_all();
    let (backup, copy) = (w.hub.clone(), w.copy_of(0, 2));
    w.edit(0, "visit/v1", json!({"used": 4}));
    w.sync(0);
    w.gateways.pop();
    put_back(&mut w, &backup, 77);
    // A copy of the card comes first, and its next number is that of what was counted.
    w.gateways.push(copy);
    w.put(1, "visit/v2", json!({"note": "of the copy"}));
    w.sync(1);
    w.sync(0);
    w.sync_all();
    assert_eq!(values(&mut w, "visit/v1", "used"), [json!(4)]);
}

#[test]
fn a_pull_that_broke_off_brings_the_next_time_what_had_changed_before_it_did() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.put(1, "visit/v1", json!({"note": "first"}));
    w.sync_all();
    w.edit(1, "visit/v1", json!({"note": "second"}));
    w.put(1, "visit/v2", json!({"note": "in between"}));
    w.edit(1, "visit/v1", json!({"place": "ward"}));
    w.sync(1);
    // All that arrives of the answer is the frame with the record in between.
    let (key, head) = (RecordKey::parse("visit/v2").unwrap(), w.hub.head().unwrap());
    let (record, cursor) = (w.hub_record("visit/v2"), HubSeq(head.0 - 1));
    let rows =
        Rows { reaches: Reach { cursor, ..Reach::default() }, rows: vec![Row::Cells { key, record, whole: false }] };
    gateway::integrate_rows(&mut w.gateways[0], &rows).unwrap();
    exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    assert_eq!(w.body(0, "visit/v1"), object(json!({"note": "second", "place": "ward"})));
    w.sync_all();
}

#[test]
fn what_was_lost_under_a_number_that_a_copy_gave_away_gets_another_one() {
    let mut w = World::new(RULES, &["mw", "mw", "mw"]);
    let (backup, image) = (w.hub.clone(), w.copy_of(0, 2));
    w.put(0, "visit/v1", json!({"note": "lost", "tags": ["lost"], "log": ["lost"]}));
    w.sync_all();
    put_back(&mut w, &backup, 77);
    // The box is gone; an older copy of its card writes to the same record, under the same number.
    w.gateways[0] = image;
    w.put(0, "visit/v1", json!({"note": "copy", "tags": ["copy"], "log": ["copy"]}));
    w.sync(0);
    // Two have read what was lost.
    w.sync(1);
    w.sync(2);
    w.sync_all();
    assert_eq!(values(&mut w, "visit/v1", "note"), [json!("copy"), json!("lost")]);
    assert_eq!(values(&mut w, "visit/v1", "tags"), [json!(["copy", "lost"])]);
    let log = w.body(0, "visit/v1")["log"].clone();
    assert_eq!(log.as_array().map(Vec::len), Some(2), "{log}");
}

#[test]
fn what_its_author_sends_under_a_new_number_is_no_second_one_of_what_others_show() {
    for shown_first in [false, true] {
        let mut w = World::new(RULES, &["mw", "mw"]);
        let (backup, image) = (w.hub.clone(), w.copy_of(0, 2));
        w.put(0, "visit/v1", json!({"note": "lost", "tags": ["lost"], "log": ["lost", "too"]}));
        w.sync_all();
        put_back(&mut w, &backup, 77);
        if shown_first {
            w.sync(1);
        }
        // A copy of the card uses the number, so that the box has to go on under another origin.
        w.gateways.push(image);
        w.put(2, "visit/v2", json!({"note": "copy"}));
        w.sync(2);
        w.sync(0);
        assert_ne!(w.gateways[0].state().unwrap().origin, Origin(1));
        w.sync_all();
        let body = w.body(1, "visit/v1");
        assert_eq!((&body["log"], &body["tags"]), (&json!(["lost", "too"]), &json!(["lost"])), "{shown_first}");
        assert_eq!(values(&mut w, "visit/v1", "note"), [json!("lost")]);
    }
}

#[test]
fn what_others_showed_under_a_number_makes_way_for_what_a_copy_writes_under_it() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.put(0, "visit/v1", json!({"note": "first", "tags": ["first"], "log": ["first"]}));
    w.sync_all();
    for field in ["note", "tags", "log"] {
        let (mut w, image) = {
            let mut w = World {
                hub: w.hub.clone(),
                gateways: w.gateways.clone(),
                link: Link::new().unwrap(),
                now_ms: w.now_ms,
            };
            let image = w.copy_of(0, 2);
            (w, image)
        };
        let backup = w.hub.clone();
        let edit = |value: &str| match field {
            "note" => json!({"note": value}),
            _ => json!({field: ["first", value]}),
        };
        w.edit(0, "visit/v1", edit("lost"));
        w.sync_all();
        put_back(&mut w, &backup, 77);
        w.sync(1);
        w.gateways[0] = image;
        w.edit(0, "visit/v1", edit("copy"));
        w.sync_all();
        let shown = w.body(1, "visit/v1")[field].to_string() + &values(&mut w, "visit/v1", field).len().to_string();
        assert!(w.hub.quarantine().is_empty());
        match field {
            "note" => assert_eq!(values(&mut w, "visit/v1", "note"), [json!("copy"), json!("lost")]),
            _ => assert!(["first", "lost", "copy"].iter().all(|value| shown.contains(value)), "{field}: {shown}"),
        }
    }
}
