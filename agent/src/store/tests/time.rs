//! Boots and repaired times on a real file.

use serde_json::json;
use sync_protocol::boot::Moment;
use sync_protocol::clock::TimeQuality;
use sync_protocol::limits::REPAIR_STEP_MS;

use super::*;
use crate::clock::RELEASED_MS;
use crate::store::{Answer, Tx, boots};

const DAY_MS: i64 = 86_400_000;

/// Captures in a boot whose clock begins in 1970.
fn put_at(clinic: &Clinic, key: &str, body: Json, moment: Moment) -> Captured {
    let wish = wish(key, Intent::Put(object(body)), None, moment.mono_ms);
    let wish = Capture { quality: TimeQuality::Unknown, ..wish };
    let capture = move |tx: &mut Tx<'_>| -> Result<Captured, Refusal<Error>> {
        tx.set_moment(moment, moment.mono_ms);
        gateway::capture(tx, wish)
    };
    clinic.store.blocking_write(capture).unwrap()
}

fn times(clinic: &Clinic, key: &str) -> Vec<(i64, TimeQuality)> {
    let record = clinic.get(key).unwrap().record;
    let stamps = record.cells.iter().filter(|(name, _)| !name.is_reserved()).filter_map(|(_, cell)| cell.stamp());
    stamps.map(|stamp| (stamp.captured_ms, stamp.quality)).collect()
}

/// One exchange whose answer tells the time, in one transaction that ends as told.
fn hear(clinic: &Clinic, hub: &MemoryHub, start_ms: i64, is_cut: bool) -> Result<MemoryHub, Error> {
    let (mut with, boot, now_ms) = (hub.clone(), clinic.store.boot().number, clinic.now_ms as u64);
    clinic.store.blocking_write(move |tx| {
        tx.set_boot_start(boot, start_ms)?;
        let traffic = sync_protocol::loopback::exchange(tx, &mut with, &mut Link::new().unwrap(), now_ms).unwrap();
        assert_eq!(traffic.ops, 0);
        if is_cut { Err(Error::Closed) } else { Ok(with) }
    })
}

#[test]
fn unsent_writes_get_their_times_with_the_first_answer_or_not_at_all() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.sync(&mut hub);
    let boot = clinic.store.boot().number;
    put_at(&clinic, "Visit/once", json!({"n": 1}), Moment { boot, mono_ms: 60_000 });
    let first = put_at(&clinic, "Visit/twice", json!({"n": 1, "m": 1}), Moment { boot, mono_ms: 61_000 });
    let second = put_at(&clinic, "Visit/twice", json!({"n": 2, "m": 1}), Moment { boot, mono_ms: 62_000 });
    let tags: Vec<String> = ["Visit/once", "Visit/twice"].map(|key| clinic.get(key).unwrap().etag).into();
    let start_ms = clinic.now_ms - DAY_MS;

    assert!(hear(&clinic, &hub, start_ms, true).is_err());
    let mut clinic = clinic.reopen();
    assert_eq!(times(&clinic, "Visit/once"), [(60_000, TimeQuality::Unknown)]);
    assert!(clinic.store.blocking_read(|reader| reader.state()).unwrap().awaits_time);

    let mut hub = hear(&clinic, &hub, start_ms, false).unwrap();
    for clinic in [&clinic] {
        for (key, mono_ms) in [("Visit/once", 60_000), ("Visit/twice", 61_000)] {
            for (captured_ms, quality) in times(clinic, key) {
                assert_eq!(quality, TimeQuality::Repaired);
                assert!(captured_ms.abs_diff(start_ms + mono_ms) <= 1_000 + REPAIR_STEP_MS as u64 / 2, "{key}");
            }
        }
    }
    let after: Vec<String> = ["Visit/once", "Visit/twice"].map(|key| clinic.get(key).unwrap().etag).into();
    assert_eq!(tags, after, "an app finds its writes under the tags that it was promised");
    clinic = clinic.reopen();
    assert_eq!(times(&clinic, "Visit/once")[0].1, TimeQuality::Repaired);
    clinic.sync(&mut hub);
    assert_eq!(hub.records().count(), 2);
    let asked = [first, second].map(|done| (key_of("Visit/twice"), done.etag));
    let receipts = clinic.store.blocking_read(|reader| reader.receipts(&asked)).unwrap();
    assert!(receipts.iter().all(|receipt| receipt.is_here && receipt.is_at_hub), "{receipts:?}");
    let state = clinic.store.blocking_read(|reader| reader.state()).unwrap();
    assert_eq!((state.unsent(), state.repairs, state.awaits_time), (0, 0, false));
    assert!(clinic.store.blocking_read(|reader| reader.sums_agree()).unwrap());
}

#[test]
fn a_boot_is_known_again_and_the_next_begins_after_what_it_wrote() {
    let clinic = Clinic::new();
    let boot = clinic.store.boot().number;
    put_at(&clinic, "Visit/a", json!({"n": 1}), Moment { boot, mono_ms: 5 * DAY_MS });
    let clinic = clinic.reopen();
    assert_eq!(clinic.store.boot().number, boot, "the program was started again in the same boot");
    let mut db = super::raw(clinic.store.path());
    let next = boots::begin(&mut db, "after a power cut", RELEASED_MS).unwrap();
    assert_eq!((next.number, next.start_ms), (boot + 1, None));
    assert_eq!(next.floor_ms, clinic.store.boot().floor_ms + 5 * DAY_MS);
    assert_eq!(boots::begin(&mut db, "after a power cut", 0).unwrap(), next);
}

#[test]
fn an_answer_under_an_idempotency_key_outlasts_the_repair_of_the_clock() {
    let clinic = Clinic::new();
    let answer = Answer { hash: vec![1], body: vec![2] };
    let (kept, before_ms, step_ms) = (answer.clone(), RELEASED_MS, 90 * DAY_MS);
    let repair = move |tx: &mut Tx<'_>| -> Result<(), Error> {
        tx.idempotent_put("k", &kept, before_ms, before_ms + DAY_MS)?;
        tx.set_clock_forward(step_ms, before_ms)
    };
    clinic.store.blocking_write(repair).unwrap();
    let known = |now_ms: i64| clinic.store.blocking_read(move |reader| reader.idempotent("k", now_ms)).unwrap();
    assert_eq!(known(before_ms + step_ms + DAY_MS - 1), Some(answer));
    assert_eq!(known(before_ms + step_ms + DAY_MS), None);
}

#[test]
fn what_an_older_program_captured_counts_as_sent() {
    let dir = tempfile::tempdir().unwrap();
    let db = super::raw(dir.path().join(crate::store::FILE_NAME));
    for step in [include_str!("../migrations/0001_initial.sql"), include_str!("../migrations/0002_upkeep.sql")] {
        db.execute_batch(step).unwrap();
    }
    db.execute_batch(
        "INSERT INTO stream_state (stream, acked, acked_chain, durable, last, chain, clock) \
         VALUES (1, 3, zeroblob(8), 0, 9, zeroblob(32), 0); PRAGMA application_id = 1333097584; PRAGMA user_version = 2;",
    )
    .unwrap();
    drop(db);
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let state = store.blocking_read(|reader| reader.state()).unwrap();
    assert_eq!(state.streams[1].sent, state.streams[1].last);
}
