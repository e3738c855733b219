//! Boxes that wake up in any year: their times are repaired or bounded before they are sent, and nothing is refused.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use sync_protocol::boot::{Boot, Moment};
use sync_protocol::clock::{Hlc, TimeQuality};
use sync_protocol::gateway::{self, Intent, Store as _};
use sync_protocol::id::{RecordKey, Stream};
use sync_protocol::limits::{CLOCK_AHEAD_MS_MAX, REPAIR_STEP_MS, RESTAMP_OPS_MAX};
use sync_protocol::loopback::exchange;
use sync_protocol::record::{Op, Stamp};

use crate::world::{RULES, World, object};

const DAY_MS: i64 = 86_400_000;
const YEAR_2038_MS: i64 = 2_147_000_000_000;

/// A write in a boot whose clock says anything.
fn put_at(w: &mut World, key: &str, body: serde_json::Value, moment: Moment, claimed_ms: i64) {
    w.gateways[0].set_moment(moment);
    let wish = w.wish(key, Intent::Put(object(body)));
    let wish = gateway::Capture { now_ms: claimed_ms, quality: TimeQuality::Unknown, ..wish };
    w.capture(0, wish);
}

fn stamp_of(w: &mut World, key: &str) -> Stamp {
    let record = w.hub_record(key);
    record.cells.values().find_map(|cell| cell.stamp()).unwrap().as_ref().clone()
}

fn latest(w: &World) -> Hlc {
    Hlc::at(w.now_ms as u64 + CLOCK_AHEAD_MS_MAX)
}

#[test]
fn unsent_records_of_boots_in_1970_and_2038_arrive_bounded_and_nothing_is_refused() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.sync_all();
    let heard_ms = w.now_ms;
    let moment = |boot, mono_ms| Moment { boot, mono_ms };
    w.gateways[0].set_boot(Boot { number: 1, floor_ms: heard_ms, start_ms: None });
    put_at(&mut w, "patient/a", json!({"name": "A"}), moment(1, 60_000), 60_000);
    w.gateways[0].set_boot(Boot { number: 2, floor_ms: heard_ms, start_ms: None });
    put_at(&mut w, "patient/b", json!({"name": "B"}), moment(2, 60_000), YEAR_2038_MS);
    // Months later, in a third boot, there is a link.
    w.now_ms += 90 * DAY_MS;
    let began_ms = w.now_ms - DAY_MS;
    w.gateways[0].set_boot(Boot { number: 3, floor_ms: heard_ms, start_ms: Some(began_ms) });
    put_at(&mut w, "patient/c", json!({"name": "C"}), moment(3, 60_000), 60_000);
    let first = exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    assert_eq!(first.ops, 0, "nothing with a wrong time leaves");
    w.sync_all();
    let [a, b, c] = ["patient/a", "patient/b", "patient/c"].map(|key| stamp_of(&mut w, key));
    assert_eq!([a.quality, b.quality, c.quality], [TimeQuality::Bounded, TimeQuality::Bounded, TimeQuality::Repaired]);
    assert!(heard_ms < a.captured_ms && a.captured_ms < b.captured_ms && b.captured_ms <= began_ms);
    assert!(c.captured_ms.abs_diff(began_ms + 60_000) <= REPAIR_STEP_MS as u64 / 2);
    assert!(a.hlc < b.hlc && b.hlc < c.hlc);
    assert!(w.hub.quarantine().is_empty());
    assert!(w.gateways[0].state().unwrap().clock <= latest(&w), "2038 is over");
}

#[test]
fn a_card_put_back_to_before_the_repair_doubles_nothing() {
    let mut w = World::new("version = 1\n[types.stock.fields]\nused = \"counter\"\n", &["mw"]);
    w.sync_all();
    put_at(&mut w, "stock/s1", json!({"used": 1}), Moment { boot: 1, mono_ms: 5_000 }, 5_000);
    let image = w.gateways[0].clone();
    w.sync_all();
    w.gateways[0] = image;
    put_at(&mut w, "stock/s1", json!({"used": 3}), Moment { boot: 2, mono_ms: 9_000 }, 9_000);
    w.sync_all();
    assert_eq!(w.body(0, "stock/s1")["used"], json!(3), "the first one counts once");
}

#[test]
fn what_has_left_the_box_keeps_its_stamp() {
    let mut w = World::new(RULES, &["mw"]);
    w.sync_all();
    put_at(&mut w, "patient/a", json!({"name": "A"}), Moment { boot: 1, mono_ms: 4_000 }, 4_000);
    // A program that does not wait for the time sends it; it may have arrived or not, because the answer was lost.
    let mut state = w.gateways[0].state().unwrap();
    state.awaits_time = false;
    w.gateways[0].set_state(&state).unwrap();
    let clock = gateway::WallClock { now_ms: w.now_ms as u64, ahead_seconds: None };
    let asked = gateway::request(&mut w.gateways[0], &mut w.link.up, clock, 4_096, 4_096).unwrap();
    assert_eq!(asked.ops, 1);
    put_at(&mut w, "patient/b", json!({"name": "B"}), Moment { boot: 1, mono_ms: 5_000 }, YEAR_2038_MS);
    let before: Vec<Op> = w.gateways[0].own_ops(Stream::Normal, Default::default(), 1).unwrap();
    w.sync_all();
    assert_eq!(w.gateways[0].own_ops(Stream::Normal, Default::default(), 1).unwrap(), before);
    assert_eq!(stamp_of(&mut w, "patient/b").quality, TimeQuality::Bounded);
}

#[test]
fn a_stamp_of_the_future_is_clamped_and_flagged_and_its_author_hears_of_it() {
    let mut w = World::new(RULES, &["mw", "mw"]);
    w.sync_all();
    for (key, later) in [("patient/a", 0), ("patient/b", 1)] {
        let wish = w.wish(key, Intent::Put(object(json!({"name": key, "notes": ["n"], "allergies": ["penicillin"]}))));
        // A program that is sure of its clock, and wrong.
        w.capture(0, gateway::Capture { now_ms: YEAR_2038_MS + later, ..wish });
    }
    w.sync_all();
    let [a, b] = ["patient/a", "patient/b"].map(|key| stamp_of(&mut w, key));
    assert_eq!([a.quality, b.quality], [TimeQuality::Clamped; 2]);
    assert!(a.hlc <= b.hlc && b.hlc <= latest(&w) && a.captured_ms <= w.now_ms + CLOCK_AHEAD_MS_MAX as i64);
    assert!(w.hub.quarantine().is_empty());
    assert_eq!(w.record(0, "patient/a"), w.hub_record("patient/a"));
    w.put(0, "patient/c", json!({"name": "C"}));
    w.sync_all();
    assert_eq!(stamp_of(&mut w, "patient/c").quality, TimeQuality::Good, "the clock came back");
}

/// One boot: what it certainly lasted, whether it hears the time, and what its clock says.
#[derive(Debug, Clone)]
struct Life {
    claims_ms: i64,
    hears: bool,
    gaps_ms: Vec<i64>,
}

fn life() -> impl Strategy<Value = Life> {
    let claims = prop_oneof![Just(0), Just(YEAR_2038_MS), 1_700_000_000_000i64..1_900_000_000_000];
    (claims, any::<bool>(), prop::collection::vec(0i64..DAY_MS, 1..6)).prop_map(|(claims_ms, hears, gaps_ms)| Life {
        claims_ms,
        hears,
        gaps_ms,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_clocks_said_order_stays_and_times_are_possible(lives in prop::collection::vec(life(), 1..5)) {
        let mut w = World::new(RULES, &["mw"]);
        w.sync_all();
        let heard_ms = w.now_ms;
        let mut truth: BTreeMap<String, (i64, bool)> = BTreeMap::new();
        let mut now_ms = heard_ms;
        for (boot, life) in (1..).zip(&lives) {
            now_ms += DAY_MS;
            let began_ms = now_ms;
            for (nth, gap) in life.gaps_ms.iter().enumerate() {
                now_ms += gap;
                let (mono_ms, kind) = (now_ms - began_ms, if nth % 2 == 0 { "patient" } else { "form" });
                let key = format!("{kind}/b{boot}n{nth}");
                put_at(&mut w, &key, json!({"name": key}), Moment { boot, mono_ms }, life.claims_ms + mono_ms);
                truth.insert(key, (now_ms, life.hears));
            }
            let start_ms = life.hears.then_some(began_ms);
            w.gateways[0].set_boot(Boot { number: boot, floor_ms: heard_ms, start_ms });
        }
        w.now_ms = now_ms + DAY_MS;
        w.sync_all();
        let mut stamps: Vec<(i64, Stamp)> = Vec::new();
        for (key, (true_ms, hears)) in &truth {
            let stamp = stamp_of(&mut w, key);
            let off_ms = stamp.captured_ms.abs_diff(*true_ms);
            match hears {
                true => prop_assert!(off_ms <= 2 * REPAIR_STEP_MS as u64 || stamp.quality == TimeQuality::Good, "{key} is {off_ms} ms off"),
                false => prop_assert_eq!(stamp.quality, TimeQuality::Bounded),
            }
            prop_assert!(stamp.captured_ms >= heard_ms && stamp.captured_ms <= w.now_ms);
            stamps.push((*true_ms, stamp));
        }
        stamps.sort_by_key(|(true_ms, stamp)| (*true_ms, stamp.hlc));
        for pair in stamps.windows(2) {
            prop_assert!(pair[0].1.hlc < pair[1].1.hlc);
            prop_assert!(pair[0].1.captured_ms <= pair[1].1.captured_ms);
        }
        prop_assert!(w.hub.quarantine().is_empty());
        prop_assert!(w.gateways[0].state().unwrap().clock <= latest(&w));
        prop_assert!(w.gateways[0].record(&RecordKey::parse("patient/b1n0").unwrap()).is_some());
    }
}

#[test]
fn a_long_tail_is_corrected_a_part_with_each_answer_and_a_power_cut_in_between_changes_nothing() {
    let mut w = World::new(RULES, &["mw"]);
    w.sync_all();
    let heard_ms = w.now_ms;
    w.gateways[0].set_boot(Boot { number: 1, floor_ms: heard_ms, start_ms: None });
    let count = RESTAMP_OPS_MAX as i64 + 200;
    for n in 1..=count {
        let kind = if n % 3 == 0 { "form" } else { "patient" };
        put_at(&mut w, &format!("{kind}/n{n}"), json!({"name": n}), Moment { boot: 1, mono_ms: n * 1_000 }, n * 1_000);
    }
    w.now_ms += 90 * DAY_MS;
    // In a later boot, another one is captured before the time is known, and one between the parts, when it is.
    w.gateways[0].set_boot(Boot { number: 2, floor_ms: heard_ms, start_ms: Some(w.now_ms - DAY_MS) });
    put_at(&mut w, "patient/late", json!({"name": "late"}), Moment { boot: 2, mono_ms: 7_000 }, 7_000);
    let before = w.gateways[0].state().unwrap();
    let first = exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    let state = w.gateways[0].state().unwrap();
    assert!(state.awaits_time && first.again, "there is more to correct");
    assert_eq!((state.floor_ms, state.clock), (before.floor_ms, before.clock), "as long as some have the old ones");
    let corrected: u64 = state.streams.iter().map(|at| at.sent.0 - at.acked.0).sum();
    assert_eq!(corrected, RESTAMP_OPS_MAX as u64);
    w.gateways[0].set_moment(Moment { boot: 2, mono_ms: DAY_MS });
    w.put(0, "patient/n1", json!({"name": "newer"}));
    assert_eq!(w.body(0, "patient/n1")["name"], json!("newer"));

    let second = exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, w.now_ms as u64).unwrap();
    assert_eq!((first.ops, second.ops, w.gateways[0].state().unwrap().awaits_time), (0, 0, false));
    w.sync_all();
    let ops: Vec<Op> = w.gateways[0].own().map(|(op, _)| op.clone()).collect();
    let mut stamps: Vec<Stamp> = ops.into_iter().map(|op| op.stamp).collect();
    stamps.sort_by_key(|stamp| stamp.hlc);
    assert_eq!(stamps.len() as i64, count + 2);
    for pair in stamps.windows(2) {
        assert!(pair[0].captured_ms <= pair[1].captured_ms, "{pair:?}");
    }
    let good = stamps.iter().filter(|stamp| stamp.quality != TimeQuality::Bounded).count();
    assert_eq!(good, 2);
    assert_eq!(w.body(0, "patient/n1")["name"], json!("newer"));
    assert_eq!(w.gateways[0].state().unwrap().unsent(), 0);
}

#[test]
fn what_follows_a_write_in_quarantine_stays_behind_it() {
    let mut w = World::new(RULES, &["mw"]);
    w.sync_all();
    w.now_ms += 60_000;
    let (start_ms, now_ms) = (w.now_ms - 30_000, w.now_ms);
    w.gateways[0].set_boot(Boot { number: 1, floor_ms: now_ms - DAY_MS, start_ms: Some(start_ms) });
    // Both times are repaired by whole steps: the first to a little after it was, the second to a little before.
    let years = REPAIR_STEP_MS * 100_000_000;
    for (mono_ms, off_ms) in [(10_000, 2_000), (10_500, -2_000)] {
        let moment = Moment { boot: 1, mono_ms };
        let body = json!({"patient": "nobody", "note": mono_ms});
        put_at(&mut w, "visit/v1", body, moment, start_ms + mono_ms + years + off_ms);
        w.now_ms = now_ms;
        for _ in 0..2 {
            exchange(&mut w.gateways[0], &mut w.hub, &mut w.link, now_ms as u64).unwrap();
        }
    }
    assert_eq!(w.gateways[0].parked().len(), 2);
    let stamps: Vec<Hlc> = w.gateways[0].own().map(|(op, _)| op.stamp.hlc).collect();
    assert!(stamps[0] < stamps[1], "{stamps:?}");
}
