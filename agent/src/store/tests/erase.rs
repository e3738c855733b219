//! What is left of an own op that was erased: its place, over which a hub that is put back goes on.

use serde_json::json;
use sync_protocol::hub::{self, Snapshot as _, Wiped};
use sync_protocol::id::{Dot, Epoch, Seq, Stream};

use super::*;

impl Clinic {
    fn state(&self) -> gateway::GatewayState {
        self.store.blocking_read(|reader| reader.state()).unwrap()
    }

    fn is_erased(&self, seq: u64) -> bool {
        let dot = Dot { origin: self.state().origin, stream: Stream::Normal, seq: Seq(seq) };
        self.store.blocking_write(move |tx| tx.own_op(dot)).unwrap().unwrap().is_erased()
    }
}

fn erase(hub: &mut MemoryHub, clinic: &Clinic, key: &str) {
    hub::erase(hub, &key_of(key), clinic.now_ms as u64).unwrap();
}

/// The hub as it is put back from a backup, with its list of erasures carried out again.
fn put_back(hub: &mut MemoryHub, backup: MemoryHub) {
    let kept = hub.erasures_after(0, usize::MAX).unwrap();
    *hub = backup.restored(true, Epoch(77), NOW_MS as u64);
    for erasure in &kept {
        hub::carry_out(hub, erasure, &mut Wiped::default()).unwrap();
    }
}

#[test]
fn a_hub_that_was_put_back_goes_on_over_what_was_erased() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.put("Patient/p", json!({"name": "Asha"}));
    clinic.sync(&mut hub);
    let backup = hub.clone();
    for n in 0..3 {
        clinic.put(&format!("Visit/{n}"), json!({"n": n}));
        clinic.put("Patient/e", json!({"name": format!("secret-{n}")}));
        clinic.put("Patient/f", json!({"name": format!("secret-{n}")}));
    }
    clinic.put("Visit/3", json!({"n": 3}));
    clinic.sync(&mut hub);
    let before = clinic.state();
    erase(&mut hub, &clinic, "Patient/f");
    clinic.sync(&mut hub);
    let mut clinic = clinic.reopen();
    erase(&mut hub, &clinic, "Patient/e");
    clinic.sync(&mut hub);
    assert!([3, 4, 6, 7, 9, 10].into_iter().all(|seq| clinic.is_erased(seq)));
    put_back(&mut hub, backup);
    let mut clinic = clinic.reopen();
    clinic.sync(&mut hub);
    let state = clinic.state();
    assert_eq!((state.origin, state.unsent()), (before.origin, 0));
    let came: Vec<u64> =
        hub.history().map(|op| op.stamp.dot).filter(|dot| dot.origin == before.origin).map(|dot| dot.seq.0).collect();
    assert_eq!(came, [1, 2, 5, 8, 11]);
    assert_eq!(hub.mark(before.origin, Stream::Normal).unwrap().chain, before.streams[1].chain);
    assert_eq!(
        clinic.store.blocking_read(|reader| reader.status()).unwrap().parked,
        0,
        "what was erased waits for nobody"
    );
}

#[test]
fn erased_ops_at_the_end_do_not_count_as_unsent_also_after_a_restart() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.put("Patient/p", json!({"name": "Asha"}));
    clinic.sync(&mut hub);
    let backup = hub.clone();
    clinic.put("Patient/e", json!({"name": "secret"}));
    clinic.sync(&mut hub);
    erase(&mut hub, &clinic, "Patient/e");
    clinic.sync(&mut hub);
    put_back(&mut hub, backup);
    let traffic = clinic.sync(&mut hub);
    assert!(!traffic.again, "{traffic:?}");
    let mut clinic = clinic.reopen();
    let state = clinic.state();
    assert_eq!((state.unsent(), state.streams[1].acked, state.streams[1].last), (0, Seq(1), Seq(2)));
    let streams = clinic.store.blocking_read(|reader| reader.status()).unwrap().streams;
    assert!(streams.iter().all(|stream| stream.unsent == 0));
    clinic.put("Visit/a", json!({"n": 1}));
    assert_eq!(clinic.state().streams[1].last, Seq(3), "no number is given twice");
    clinic.sync(&mut hub);
    assert_eq!(clinic.state().unsent(), 0);
    assert!(hub.records().any(|(key, _)| *key == key_of("Visit/a")));
}

#[test]
fn what_lies_behind_a_row_that_the_card_lost_is_erased_as_well() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.put("Patient/e", json!({"name": "secret-1"}));
    clinic.put("Visit/a", json!({"n": 1}));
    clinic.put("Patient/e", json!({"name": "secret-2"}));
    clinic.put("Patient/e", json!({"name": "secret-3"}));
    clinic.sync(&mut hub);
    let third = "(SELECT number FROM history WHERE op <> x'' ORDER BY number LIMIT 1 OFFSET 2)";
    let mut clinic = clinic.damage(&format!("DELETE FROM history WHERE number = {third}"));
    erase(&mut hub, &clinic, "Patient/e");
    clinic.sync(&mut hub);
    assert!(clinic.is_erased(4) && clinic.is_erased(1));
    assert!(!clinic.is_erased(2));
}
