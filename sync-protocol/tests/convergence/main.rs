//! Two gateways and a hub in memory: what the protocol promises, each rule by name.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

mod copies;
mod erase;
mod histories;
mod hostile;
mod identity;
mod outside;
mod recovery;
mod rescue;
mod retention;
mod revoked;
mod times;
mod waiting;
mod world;

use serde_json::{Value, json};
use std::sync::Arc;
use sync_protocol::digest::etag;
use sync_protocol::gateway::{self, Intent, Store as _};
use sync_protocol::hub;
use sync_protocol::id::{FieldName, RecordKey, Scope, Source};
use sync_protocol::loopback::exchange;
use sync_protocol::memory::MemoryGateway;
use sync_protocol::merge::{Presence, presence};
use sync_protocol::rules::Rules;

use crate::world::{RULES, World, object, rivals, two, two_with};

#[test]
fn different_fields_edited_on_both_sides_both_survive() {
    let mut w =
        two_with(json!({"name": "Asha", "village": "Chingale", "address": {"city": "Zomba", "chief": "Mlumbe"}}));
    w.edit(0, "patient/p1", json!({"village": "Thondwe"}));
    w.edit(1, "patient/p1", json!({"name": "Asha B.", "address": {"city": "Domasi", "chief": "Mlumbe"}}));
    w.sync_all();
    let body = Value::Object(w.body(1, "patient/p1"));
    assert_eq!(
        body,
        json!({"name": "Asha B.", "village": "Thondwe", "address": {"city": "Domasi", "chief": "Mlumbe"}})
    );
    assert!(w.record(0, "patient/p1").conflicts().is_empty());
}

#[test]
fn lww_shows_the_later_value_and_keeps_the_other() {
    let mut w = two_with(json!({"phone": "1"}));
    w.edit(1, "patient/p1", json!({"phone": "2"}));
    w.edit(0, "patient/p1", json!({"phone": "3"}));
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "phone"), json!("3"));
    assert_eq!(rivals(&w.record(1, "patient/p1"), "phone"), [json!("2")]);
    w.hub_write(
        "patient/p1",
        Intent::Settle { field: FieldName::new("phone").unwrap(), value: Some(json!("2")), why: "called it".into() },
    );
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "phone"), json!("2"));
    assert!(w.record(0, "patient/p1").conflicts().is_empty());
    assert!(w.record(1, "patient/p1").conflicts().is_empty());
    let lost: Vec<_> = w.hub.replaced().iter().map(|(_, s)| s.entry.value.clone().unwrap().to_json()).collect();
    assert!(lost.contains(&json!("3")), "the loser of the settlement is in the history: {lost:?}");
}

#[test]
fn keep_both_keeps_both_until_a_person_settles_at_a_gateway() {
    let mut w = two_with(json!({"alive": "alive"}));
    w.edit(0, "patient/p1", json!({"alive": "dead"}));
    w.edit(1, "patient/p1", json!({"alive": "unknown"}));
    w.sync_all();
    assert_eq!(w.hub_record("patient/p1").conflicts().len(), 1);
    let settle =
        Intent::Settle { field: FieldName::new("alive").unwrap(), value: Some(json!("alive")), why: "met her".into() };
    let wish = w.wish("patient/p1", settle);
    w.capture(1, wish);
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "alive"), json!("alive"));
    assert!(w.hub_record("patient/p1").conflicts().is_empty());
}

#[test]
fn a_set_keeps_a_concurrent_add_and_honours_a_remove() {
    let mut w = two_with(json!({"allergies": ["penicillin", "latex"]}));
    w.edit(0, "patient/p1", json!({"allergies": ["penicillin", "latex", "peanut"]}));
    w.edit(1, "patient/p1", json!({"allergies": ["penicillin"]}));
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "allergies"), json!(["peanut", "penicillin"]));
    // Removed here, added again there without knowing of the removal: the add wins.
    w.edit(0, "patient/p1", json!({"allergies": ["peanut"]}));
    w.edit(1, "patient/p1", json!({"allergies": ["peanut"]}));
    w.edit(1, "patient/p1", json!({"allergies": ["peanut", "penicillin"]}));
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "allergies"), json!(["peanut", "penicillin"]));
}

#[test]
fn append_only_keeps_every_entry_of_both_sides() {
    let mut w = two_with(json!({"notes": ["a"]}));
    w.edit(0, "patient/p1", json!({"notes": ["a", "b"]}));
    w.edit(1, "patient/p1", json!({"notes": ["a", "c"]}));
    w.edit(1, "patient/p1", json!({"notes": []}));
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "notes"), json!(["a", "b", "c"]));
}

#[test]
fn a_counter_adds_up_what_both_sides_did() {
    let mut w = two_with(json!({"visits": 10}));
    w.edit(0, "patient/p1", json!({"visits": 15}));
    w.edit(1, "patient/p1", json!({"visits": 7}));
    w.edit(1, "patient/p1", json!({"visits": 9}));
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "visits"), json!(14));
}

#[test]
fn max_min_and_ordered_go_one_way_only() {
    let mut w = two_with(json!({"weight_max": 9.5, "weight_min": 9.5, "status": "draft"}));
    w.edit(0, "patient/p1", json!({"weight_max": 12, "weight_min": 8, "status": "completed"}));
    w.edit(1, "patient/p1", json!({"weight_max": 11, "weight_min": 7, "status": "in-progress"}));
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "weight_max"), json!(12));
    assert_eq!(w.shown("patient/p1", "weight_min"), json!(7));
    assert_eq!(w.shown("patient/p1", "status"), json!("completed"));
    let back = w.wish("patient/p1", Intent::Put(object(json!({"status": "draft"}))));
    let refused = gateway::capture(&mut w.gateways[0], back).unwrap_err();
    assert!(matches!(refused, gateway::Refusal::Edit(_)), "{refused}");
}

#[test]
fn first_write_and_immutable_keep_the_first_and_show_the_other() {
    let mut w = two();
    w.put(0, "patient/p1", json!({"registered": "2026-01-02", "blood_group": "A"}));
    w.put(1, "patient/p1", json!({"registered": "2026-01-03", "blood_group": "B"}));
    // The later gateway syncs first: the order of arrival decides nothing.
    w.sync(1);
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "registered"), json!("2026-01-02"));
    assert_eq!(w.shown("patient/p1", "blood_group"), json!("A"));
    assert_eq!(rivals(&w.record(1, "patient/p1"), "blood_group"), [json!("B")]);
    w.hub_write(
        "patient/p1",
        Intent::Settle {
            field: FieldName::new("blood_group").unwrap(),
            value: Some(json!("B")),
            why: "lab slip".into(),
        },
    );
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "blood_group"), json!("B"));
}

#[test]
fn priority_lets_the_system_of_record_win_over_a_later_clinic() {
    let mut w = two_with(json!({"national_id": "1"}));
    w.hub_write("patient/p1", Intent::Put(object(json!({"national_id": "2"}))));
    w.edit(0, "patient/p1", json!({"national_id": "3"}));
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "national_id"), json!("2"));
    assert_eq!(rivals(&w.record(1, "patient/p1"), "national_id"), [json!("3")]);
}

#[test]
fn a_delete_meets_an_edit_by_the_rule_of_the_type() {
    for (key, expected) in
        [("patient/p1", Presence::Review), ("form/f1", Presence::Deleted), ("draft/d1", Presence::Alive)]
    {
        let mut w = two();
        w.put(0, key, json!({"a": 1, "b": 1}));
        w.sync_all();
        w.delete(0, key);
        w.edit(1, key, json!({"a": 2}));
        w.sync_all();
        let rules = w.gateways[1].rules().unwrap();
        let key = RecordKey::parse(key).unwrap();
        assert_eq!(presence(&w.record(1, &key.to_string()), rules.of(&key.record_type)), expected, "{key}");
    }
}

#[test]
fn a_delete_that_knew_everything_deletes_whatever_the_rule_of_the_type() {
    for key in ["patient/p1", "form/f1", "draft/d1"].map(|key| RecordKey::parse(key).unwrap()) {
        let mut w = two();
        w.put(0, &key.to_string(), json!({"name": "x"}));
        w.sync_all();
        w.delete(1, &key.to_string());
        w.sync_all();
        let rules = Rules::parse(RULES).unwrap();
        assert_eq!(presence(&w.record(0, &key.to_string()), rules.of(&key.record_type)), Presence::Deleted, "{key}");
    }
}

#[test]
fn a_delete_that_knew_everything_deletes_and_a_new_put_brings_back() {
    let mut w = two_with(json!({"name": "Asha"}));
    w.delete(1, "patient/p1");
    w.sync_all();
    let rules = w.gateways[0].rules().unwrap();
    let key = RecordKey::parse("patient/p1").unwrap();
    assert_eq!(presence(&w.record(0, "patient/p1"), rules.of(&key.record_type)), Presence::Deleted);
    w.put(0, "patient/p1", json!({"name": "Asha"}));
    w.sync_all();
    assert_eq!(presence(&w.record(1, "patient/p1"), rules.of(&key.record_type)), Presence::Alive);
}

#[test]
fn an_edit_of_a_stale_copy_at_one_gateway_merges_field_by_field() {
    let mut w = two_with(json!({"name": "Asha", "phone": "1", "alive": "alive"}));
    let read = w.record(0, "patient/p1");
    w.edit(0, "patient/p1", json!({"phone": "2", "alive": "dead"}));
    let mut stale =
        w.wish("patient/p1", Intent::Put(object(json!({"name": "Asha B.", "phone": "1", "alive": "unknown"}))));
    stale.base = Some(read);
    let done = w.capture(0, stale);
    assert_eq!(done.conflicts, [FieldName::new("alive").unwrap()]);
    w.sync_all();
    assert_eq!(w.shown("patient/p1", "phone"), json!("2"));
    assert_eq!(w.shown("patient/p1", "name"), json!("Asha B."));
    assert_eq!(rivals(&w.hub_record("patient/p1"), "alive").len(), 1);
}

#[test]
fn an_idle_exchange_is_small_and_own_writes_never_come_back() {
    let mut w = two_with(json!({"name": "Asha", "visits": 1, "allergies": ["latex"], "notes": ["a"]}));
    w.edit(0, "patient/p1", json!({"name": "B", "visits": 2, "allergies": ["latex", "dust"], "notes": ["a", "b"]}));
    let pushed = w.sync(0);
    assert_eq!((pushed.ops, pushed.rows), (1, 0), "own writes were sent back");
    w.sync(1);
    w.assert_equal();
    let idle = exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    assert!(!idle.again);
    assert!(idle.up_bytes + idle.down_bytes <= 110, "idle exchange of {} + {} bytes", idle.up_bytes, idle.down_bytes);
}

#[test]
fn one_bad_record_holds_up_only_its_dependants() {
    let mut w = World::new("version = 1\n", &["mw", "mw"]);
    let newer = Rules::parse(&RULES.replace("version = 1", "version = 2")).unwrap();
    w.hub.publish(Arc::new(newer));
    w.put(0, "patient/bad", json!({"sex": "x"}));
    for n in 0..3 {
        w.put(0, &format!("visit/v{n}"), json!({"patient": "bad"}));
    }
    w.put(0, "patient/good", json!({"sex": "female"}));
    w.sync(0);
    assert_eq!(w.hub.quarantine().len(), 4);
    assert_eq!(w.hub.records().count(), 1);
    let parked: Vec<String> = w.gateways[0].parked().iter().map(|(op, why)| format!("{}: {why}", op.key)).collect();
    assert!(parked[0].contains("patient/bad: sex must be one of"), "{parked:?}");
    assert!(parked[1].contains("waits for patient/bad"), "{parked:?}");
    w.edit(0, "patient/bad", json!({"sex": "male"}));
    w.sync_all();
    assert_eq!(w.hub.quarantine().len(), 0);
    assert_eq!(w.hub.records().count(), 5);
    assert!(w.gateways[0].parked().is_empty());
}

#[test]
fn a_delete_at_the_centre_does_not_take_along_its_own_writes_that_wait() {
    let mut w = two();
    w.put(0, "patient/here", json!({"name": "Asha"}));
    w.sync_all();
    w.put(0, "visit/v1", json!({"patient": "here"}));
    w.sync_all();
    w.hub_write("visit/v1", Intent::Put(object(json!({"patient": "not-here", "note": "central"}))));
    assert_eq!(w.hub.quarantine().len(), 1);
    let wish = w.wish("visit/v1", Intent::Delete);
    let refused = hub::write(&mut w.hub, wish, &Scope::new("mw").unwrap()).unwrap_err();
    assert!(refused.to_string().contains("let them go or drop them first"), "{refused}");
    let waiting = w.hub.quarantine()[0].op.stamp.dot;
    hub::discard(&mut w.hub, waiting, "not meant").unwrap();
    w.hub_write("visit/v1", Intent::Delete);
}

#[test]
fn a_record_that_leaves_the_catchment_leaves_the_box_and_a_late_write_still_arrives() {
    let mut w = World::new("version = 1\n[types.patient]\nscope = \"facility\"\n", &["mw/zomba/a", "mw/zomba/b", "mw"]);
    w.put(0, "patient/p1", json!({"facility": "mw/zomba/a", "name": "Asha"}));
    w.sync_all();
    assert!(w.gateways[1].records().next().is_none());
    w.hub_write("patient/p1", Intent::Put(object(json!({"facility": "mw/zomba/b", "name": "Asha"}))));
    // Written before the news of the move arrives.
    w.edit(0, "patient/p1", json!({"phone": "1"}));
    w.sync_all();
    assert!(w.gateways[0].records().next().is_none());
    assert_eq!(w.body(1, "patient/p1")["phone"], json!("1"));
    // Written by somebody who only knows the id.
    w.put(0, "patient/p1", json!({"facility": "mw/zomba/b", "phone": "2"}));
    w.sync_all();
    assert_eq!(w.hub_record("patient/p1").scope().as_str(), "mw/zomba/b");
}

#[test]
fn a_difference_is_found_by_digest_and_mended_record_by_record() {
    let mut w = two();
    for n in 0..200 {
        w.put(0, &format!("patient/p{n}"), json!({"name": format!("n{n}")}));
    }
    w.sync_all();
    let mut damaged = MemoryGateway::clone(&w.gateways[1]);
    for n in 0..20 {
        damaged.forget(&RecordKey::parse(&format!("patient/p{n}")).unwrap()).unwrap();
    }
    w.gateways[1] = damaged;
    let first = exchange(&mut w.gateways[1], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    assert!(!first.agrees && first.again);
    let second = exchange(&mut w.gateways[1], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    assert_eq!(second.rows, 20);
    assert!(second.agrees);
    assert_eq!(w.gateways[1].records().count(), 200);
    assert_eq!(w.gateways[1].state().unwrap().repairs, 1);
}

#[test]
fn nobody_speaks_as_a_kind_of_place_that_it_is_not() {
    let rules = "version = 1\nsources = [\"lab\"]\n";
    let mut w = World::new(rules, &["mw", "mw"]);
    let mut state = w.gateways[1].state().unwrap();
    state.source = Source(2);
    w.gateways[1].set_state(&state).unwrap();
    w.put(1, "test/t1", json!({"result": "forged"}));
    w.sync_all();
    assert!(w.hub.records().next().is_none());
    let [(_, reason)] = w.gateways[1].parked()[..] else { panic!("one is parked") };
    assert!(reason.contains("another kind of place"), "{reason}");
}

#[test]
fn a_record_does_not_outgrow_a_frame() {
    let mut w = World::new("version = 1\n[types.case.fields]\nlog = { rule = \"append-only\" }\n", &["mw"]);
    let chapter = "x".repeat(200_000);
    for n in 0..5 {
        w.put(0, "case/c1", json!({"log": [format!("{n}{chapter}")]}));
    }
    let wish = w.wish("case/c1", Intent::Put(object(json!({"log": [format!("6{chapter}")]}))));
    let refused = gateway::capture(&mut w.gateways[0], wish).unwrap_err();
    assert!(refused.to_string().contains("at most 1048576 bytes"), "{refused}");
}

#[test]
fn an_etag_stays_the_same_when_the_hub_confirms() {
    let mut w = two();
    let done = w.put(0, "patient/p1", json!({"name": "Asha", "visits": 3, "allergies": ["x"]}));
    w.sync_all();
    assert_eq!(etag(&w.record(0, "patient/p1")), done.etag);
}

#[test]
fn urgent_records_go_first_and_do_not_break_the_watermark_of_the_others() {
    let mut w = World::new("version = 1\n[types.alert]\nstream = \"urgent\"\n", &["mw", "mw"]);
    // It has told what box it is.
    w.sync(0);
    for n in 0..500 {
        w.put(0, &format!("visit/v{n}"), json!({"n": n, "text": format!("visit number {n} of this long day")}));
    }
    w.put(0, "alert/a1", json!({"what": "referral"}));
    w.link.up_bytes = 1;
    exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    let arrived: Vec<String> = w.hub.records().map(|(key, _)| key.to_string()).collect();
    assert_eq!(arrived, ["alert/a1"]);
    w.link.up_bytes = 1 << 20;
    w.sync_all();
    assert_eq!(w.hub.records().count(), 501);
}

#[test]
fn a_gateway_that_gets_another_catchment_loads_it_and_one_that_loses_it_lets_go() {
    let mut w = World::new("version = 1\n[types.patient]\nscope = \"facility\"\n", &["mw/a", "mw/b"]);
    for n in 0..300 {
        w.put(0, &format!("patient/a{n}"), json!({"facility": "mw/a", "n": n}));
        w.put(1, &format!("patient/b{n}"), json!({"facility": "mw/b", "n": n}));
    }
    w.sync_all();
    assert_eq!(w.gateways[0].records().count(), 300);
    w.assign(0, &["mw/a", "mw/b"], true);
    // In small steps, and with a change in the middle: nothing may be missed between the two lanes.
    w.link.down_bytes = 1_000;
    for _ in 0..4 {
        exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    }
    w.edit(1, "patient/b299", json!({"n": -1}));
    w.sync(1);
    w.link.down_bytes = 1 << 20;
    w.sync_all();
    assert_eq!(w.gateways[0].records().count(), 600);
    assert_eq!(w.gateways[0].state().unwrap().backfill, None);
    w.assign(0, &["mw/b"], true);
    w.sync_all();
    assert_eq!(w.gateways[0].records().count(), 300);
}

#[test]
fn after_a_lost_answer_nothing_is_sent_twice_without_asking() {
    let mut w = two();
    for n in 0..50 {
        w.put(0, &format!("patient/p{n}"), json!({"name": format!("n{n}")}));
    }
    let before = MemoryGateway::clone(&w.gateways[0]);
    exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    // The answer never arrived: the gateway is as it was, but knows that something was under way.
    w.gateways[0] = before;
    let mut state = w.gateways[0].state().unwrap();
    state.unsure = true;
    w.gateways[0].set_state(&state).unwrap();
    let asked = exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    assert_eq!(asked.ops, 0);
    assert_eq!(w.gateways[0].state().unwrap().unsent(), 0);
    w.sync_all();
    assert_eq!(w.hub.records().count(), 50);
}
