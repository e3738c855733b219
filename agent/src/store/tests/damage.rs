//! A bad sector must not keep a clinic from working.

use serde_json::json;
use sync_protocol::gateway::Store as _;
use sync_protocol::id::Stream;

use super::*;
use crate::apps::{Fingerprint, Grant, PairedApp, Types};
use crate::store::{Damage, Entry, ScanAt};

impl Clinic {
    /// Changes bytes behind the store's back.
    pub(super) fn damage(self, sql: &str) -> Clinic {
        let Clinic { dir, store, now_ms } = self;
        let path = store.path().to_owned();
        drop(store);
        assert!(super::raw(&path).execute(sql, []).unwrap() > 0);
        let store = Store::open(dir.path(), Options::default()).unwrap();
        Clinic { dir, store, now_ms }
    }
}

impl Clinic {
    /// What the caretaker does once damage was met.
    pub(super) fn mend(&self) -> Vec<RecordKey> {
        self.store.mend(NOW_MS).unwrap()
    }

    /// What it does once a month.
    pub(super) fn scrub(&self) -> Vec<RecordKey> {
        let mut at = Some(ScanAt::default());
        while let Some(from) = at {
            at = self.store.blocking_read(|reader| reader.scan(from, 7)).unwrap();
        }
        self.mend()
    }

    pub(super) fn count(&self) -> Damage {
        self.store.blocking_read(|reader| reader.damage()).unwrap()
    }
}

pub(super) const FLIP: &str = "substr(op, 1, length(op) - 6) || x'ff' || substr(op, length(op) - 4)";

#[test]
fn a_damaged_op_is_skipped_and_counted() {
    let mut clinic = Clinic::new();
    for n in 0..5 {
        clinic.put("Visit/a", json!({"n": n}));
    }
    let third = clinic.sql::<i64>("SELECT number FROM history ORDER BY number LIMIT 1 OFFSET 2");
    let clinic = clinic.damage(&format!("UPDATE history SET op = CAST({FLIP} AS BLOB) WHERE number = {third}"));
    let run = |after| clinic.store.blocking_write(move |tx| tx.own_ops(Stream::Normal, after, 10)).unwrap();
    let seqs = |ops: Vec<sync_protocol::record::Op>| ops.iter().map(|op| op.stamp.dot.seq.0).collect::<Vec<_>>();
    assert_eq!(seqs(run(sync_protocol::id::Seq(0))), [1, 2]);
    assert_eq!(seqs(run(sync_protocol::id::Seq(2))), [4, 5]);
    let damaged = clinic.store.blocking_write(|tx| {
        let (origin, stream, seq) = (tx.state()?.origin, Stream::Normal, sync_protocol::id::Seq(3));
        tx.own_op(sync_protocol::id::Dot { origin, stream, seq })
    });
    let damaged = damaged.unwrap();
    assert_eq!(damaged, None);
    let history = clinic.store.blocking_read(|reader| reader.history(&key_of("Visit/a"), 0, 10)).unwrap();
    assert!(matches!(history[2], Entry::Damaged { .. }) && history.len() == 5);
    assert!(clinic.store.blocking_read(|reader| reader.damage()).unwrap() == Damage { rows: 1, unsent: 1 });
    let found = clinic.store.blocking_read(|reader| reader.quick_check()).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(clinic.body("Visit/a"), json!({"n": 4}));
}

#[test]
fn a_damaged_record_comes_back_from_the_hub() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.put("Visit/a", json!({"n": 1}));
    clinic.put("Visit/b", json!({"n": 2}));
    clinic.sync(&mut hub);
    let mut clinic = clinic.damage(&format!("UPDATE history SET op = CAST({FLIP} AS BLOB) WHERE number % 2 = 1"));
    assert_eq!(clinic.unreadable("Visit/a"), Some(true));
    assert_eq!(clinic.mend(), [key_of("Visit/a")]);
    clinic.sync(&mut hub);
    assert_eq!(clinic.body("Visit/a"), json!({"n": 1}));
    assert_eq!(clinic.body("Visit/b"), json!({"n": 2}));
    let state = clinic.store.blocking_write(|tx| tx.state()).unwrap();
    assert_eq!(state.repairs, 1);
}

#[test]
fn a_damaged_record_can_be_written_anew() {
    let mut clinic = Clinic::new();
    clinic.put("Visit/a", json!({"n": 1}));
    let mut clinic = clinic.damage(&format!("UPDATE history SET op = CAST({FLIP} AS BLOB)"));
    clinic.put("Visit/a", json!({"n": 2}));
    assert_eq!(clinic.body("Visit/a"), json!({"n": 2}));
}

#[test]
fn what_was_met_is_mended_and_the_count_goes_back() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.put("Visit/a", json!({"n": 1}));
    clinic.edit("Visit/a", json!({"n": 2}));
    clinic.put("Visit/b", json!({"n": 3}));
    clinic.sync(&mut hub);
    let mut clinic = clinic.damage(&format!(
        "UPDATE records SET body = CAST({} AS BLOB) WHERE length(body) > 0",
        FLIP.replace("op", "body")
    ));
    assert_eq!(clinic.count(), Damage::default(), "nobody has met it yet");
    assert_eq!(clinic.unreadable("Visit/a"), Some(true));
    assert_eq!(clinic.count(), Damage { rows: 1, unsent: 0 });
    // Its history is whole and all of it is ours, so it is shown again before the hub is there.
    assert_eq!(clinic.mend(), [key_of("Visit/a")]);
    assert_eq!((clinic.body("Visit/a"), clinic.count()), (json!({"n": 2}), Damage::default()));
    clinic.sync(&mut hub);
    clinic.sync(&mut hub);
    assert_eq!((clinic.body("Visit/a"), clinic.scrub()), (json!({"n": 2}), vec![]));
    let clinic = clinic.reopen();
    assert_eq!(clinic.store.blocking_read(|reader| reader.quick_check()).unwrap(), Vec::<String>::new());
    assert!(clinic.get("Visit/a").unwrap().is_confirmed);
}

#[test]
fn a_record_that_is_shown_stays_shown_while_the_hub_is_asked_for_what_it_confirmed() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.put("Visit/a", json!({"n": 1}));
    clinic.sync(&mut hub);
    clinic.edit("Visit/a", json!({"n": 2}));
    let spoilt = format!("UPDATE records SET confirmed = CAST({} AS BLOB)", FLIP.replace("op", "confirmed"));
    let mut clinic = clinic.damage(&spoilt);
    assert_eq!(clinic.scrub(), [key_of("Visit/a")]);
    assert_eq!((clinic.body("Visit/a"), clinic.count()), (json!({"n": 2}), Damage::default()));
    clinic.sync(&mut hub);
    clinic.sync(&mut hub);
    let stored = clinic.get("Visit/a").unwrap();
    assert!(stored.is_confirmed && !stored.is_pending);
    assert_eq!((clinic.body("Visit/a"), clinic.scrub()), (json!({"n": 2}), vec![]));
}

#[test]
fn numbers_that_are_not_what_the_record_says_are_found_and_made_anew() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    for n in 0..20 {
        clinic.put(&format!("Visit/v{n}"), json!({"n": n}));
    }
    clinic.sync(&mut hub);
    for spoilt in [
        "UPDATE records SET item = item + 1 WHERE feed % 7 = 0",
        "UPDATE records SET etag = x'00' WHERE feed = (SELECT min(feed) FROM records)",
    ] {
        clinic = clinic.damage(spoilt);
        assert!(!clinic.scrub().is_empty(), "{spoilt}");
        clinic.sync(&mut hub);
        clinic.sync(&mut hub);
        assert_eq!((clinic.scrub(), clinic.count()), (vec![], Damage::default()), "{spoilt}");
        assert!((0..20).all(|n| clinic.body(&format!("Visit/v{n}")) == json!({"n": n})));
    }
    let mut clinic = clinic.damage("UPDATE scopes SET sum = sum + 1");
    assert!(!clinic.store.blocking_read(|reader| reader.sums_agree()).unwrap());
    clinic.store.recount().unwrap();
    assert!(clinic.store.blocking_read(|reader| reader.sums_agree()).unwrap());
    let repairs = clinic.store.blocking_write(|tx| tx.state()).unwrap().repairs;
    clinic.sync(&mut hub);
    assert_eq!(clinic.store.blocking_write(|tx| tx.state()).unwrap().repairs, repairs);
}

#[test]
fn a_record_whose_numbers_were_made_anew_goes_to_a_hub_that_was_put_back_and_has_it_no_more() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    let mut there = Clinic::enrolled(&mut hub, "mw");
    let backup = hub.clone();
    there.put("Visit/a", json!({"n": 1}));
    for of in [&mut there, &mut clinic] {
        of.sync(&mut hub);
    }
    let mut clinic = clinic.damage("UPDATE records SET item = item + 1");
    assert_eq!(clinic.scrub(), [key_of("Visit/a")]);
    // The box that wrote it is gone.
    hub = backup.restored(true, sync_protocol::id::Epoch(7_000), NOW_MS as u64);
    for _ in 0..4 {
        clinic.sync(&mut hub);
    }
    assert_eq!(clinic.body("Visit/a"), json!({"n": 1}));
    assert!(hub.records().any(|(key, _)| *key == key_of("Visit/a")), "the only one who still has it has shown it");
}

#[test]
fn an_unsent_change_that_cannot_be_read_stays_and_stays_counted() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.put("Visit/a", json!({"n": 1}));
    clinic.put("Visit/b", json!({"n": 2}));
    let first = "(SELECT min(number) FROM history)";
    let clinic = clinic.damage(&format!("UPDATE history SET op = CAST({FLIP} AS BLOB) WHERE number = {first}"));
    let broken: Vec<u8> = clinic.sql("SELECT op FROM history ORDER BY number LIMIT 1");
    assert_eq!(clinic.scrub(), []);
    assert_eq!(clinic.count(), Damage { rows: 2, unsent: 1 });
    // Status is true without the program that found it, and nothing has been thrown away.
    let mut clinic = clinic.reopen();
    assert_eq!(clinic.count(), Damage { rows: 2, unsent: 1 });
    assert_eq!(clinic.sql::<Vec<u8>>("SELECT op FROM history ORDER BY number LIMIT 1"), broken);
    clinic.sync(&mut hub);
    clinic.sync(&mut hub);
    assert_eq!(
        (clinic.body("Visit/b"), clinic.store.blocking_write(|tx| tx.state()).unwrap().unsent()),
        (json!({"n": 2}), 0)
    );
    assert_eq!(clinic.count().rows, 2);
    assert_eq!(clinic.sql::<i64>("SELECT count(*) FROM damage"), 2);
}

#[test]
fn damage_that_an_app_meets_is_mended_by_the_running_program() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.put("Visit/a", json!({"n": 1}));
    clinic.edit("Visit/a", json!({"n": 2}));
    let spoilt = format!("UPDATE records SET body = CAST({} AS BLOB)", FLIP.replace("op", "body"));
    let clinic = clinic.damage(&spoilt);
    let store = clinic.store.clone();
    let clock = crate::clock::Clock::default();
    let (sync, _loop) = crate::sync::sync_loop(store.clone(), clock.clone(), std::time::Duration::from_secs(300));
    let care = crate::upkeep::Caretaker::new(store.clone(), sync, clock, Default::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    runtime.block_on(async {
        let care = tokio::spawn(care.run(stopped));
        let read = || store.read(|reader| reader.get(&key_of("Visit/a")));
        while read().await.is_err() {
            tokio::task::yield_now().await;
        }
        while store.read(|reader| reader.status()).await.unwrap().upkeep.scrubbed_ms == 0 {
            tokio::task::yield_now().await;
        }
        stop.send(true).unwrap();
        care.await.unwrap();
    });
    assert_eq!((clinic.body("Visit/a"), clinic.count()), (json!({"n": 2}), Damage::default()));
}

#[test]
fn a_damaged_row_of_an_app_does_not_shut_out_the_others() {
    let mut clinic = Clinic::new();
    let tablet = |n: u8| PairedApp {
        name: format!("tablet {n}"),
        token: Fingerprint([n; 32]),
        grant: Grant { reads: Types::All, writes: Types::parse(["visit"]).unwrap() },
        paired_ms: NOW_MS,
        days: 365,
        expires_ms: NOW_MS + 1,
        used_ms: i64::from(n),
    };
    let pair =
        move |tx: &mut crate::store::Tx<'_>| -> Result<(), Error> { (0..5).try_for_each(|n| tx.set_app(&tablet(n))) };
    clinic.store.blocking_write(pair).unwrap();
    let damages = ["token = x'01'", "name = CAST(x'ff' AS TEXT)", "writes = 'visit \u{1}'", "days = -1"];
    for (n, damage) in (1..).zip(damages) {
        clinic = clinic.damage(&format!("UPDATE apps SET {damage} WHERE used_ms = {n}"));
    }
    let known = clinic.store.blocking_read(|reader| reader.apps()).unwrap();
    assert_eq!(known, [tablet(0)]);
}

#[test]
fn what_was_written_before_the_enrolment_is_sound_after_it() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::new();
    let promised: Vec<String> = (0..3).map(|n| clinic.put(&format!("Visit/{n}"), json!({"n": n})).etag).collect();
    clinic.enrol(&mut hub, "mw");
    assert_eq!((clinic.scrub(), clinic.count()), (Vec::new(), Damage::default()));
    assert_eq!(clinic.store.blocking_read(|reader| reader.quick_check()).unwrap(), Vec::<String>::new());
    let tags: Vec<String> = (0..3).map(|n| clinic.get(&format!("Visit/{n}")).unwrap().etag).collect();
    assert_eq!(tags, promised);
    clinic.sync(&mut hub);
    assert_eq!((clinic.scrub(), clinic.count()), (Vec::new(), Damage::default()));
}

#[test]
fn more_rows_are_mended_than_are_looked_at_at_once() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    for n in 0..300 {
        clinic.put(&format!("Visit/{n}"), json!({"n": n}));
    }
    clinic.sync(&mut hub);
    let clinic = clinic.damage("UPDATE records SET etag = x'00'");
    assert_eq!(clinic.scrub().len(), 300);
    assert_eq!(clinic.count(), Damage::default());
}
