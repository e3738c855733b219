//! A bad sector must not keep a clinic from working.

use serde_json::json;
use sync_protocol::gateway::Store as _;
use sync_protocol::id::Stream;

use super::*;
use crate::store::Entry;

impl Clinic {
    /// Changes bytes behind the store's back.
    fn damage(self, sql: &str) -> Clinic {
        let Clinic { dir, store, now_ms } = self;
        let path = store.path().to_owned();
        drop(store);
        assert!(rusqlite::Connection::open(&path).unwrap().execute(sql, []).unwrap() > 0);
        let store = Store::open(dir.path(), Options::default()).unwrap();
        Clinic { dir, store, now_ms }
    }
}

const FLIP: &str = "substr(op, 1, length(op) - 6) || x'ff' || substr(op, length(op) - 4)";

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
    let damaged = clinic.store.blocking_write(|tx| tx.own_op(Stream::Normal, sync_protocol::id::Seq(3))).unwrap();
    assert_eq!(damaged, None);
    let history = clinic.store.blocking_read(|reader| reader.history(&key_of("Visit/a"), 10)).unwrap();
    assert!(matches!(history[2], Entry::Damaged { .. }) && history.len() == 5);
    assert!(clinic.store.blocking_read(|reader| reader.status()).unwrap().damaged > 0);
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
    assert!(clinic.get("Visit/a").is_none());
    assert_eq!(clinic.store.blocking_write(|tx| tx.scrub()).unwrap(), [key_of("Visit/a")]);
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
