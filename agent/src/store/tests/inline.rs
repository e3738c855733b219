//! The store without its thread is the same store: one commit for what came before it, and nothing on the disk until then.

use serde_json::json;
use sync_protocol::gateway::Store as _;

use super::*;
use crate::store::{FILE_NAME, Inline, Options, Tx};

fn capture(store: &mut Inline, id: &str, words: u32) -> Result<(), Refusal<Error>> {
    let noise: Vec<u32> = (0..words).map(|n| n.wrapping_mul(2_654_435_761)).collect();
    let wish = wish(&format!("Visit/{id}"), Intent::Put(object(json!({"note": noise}))), None, NOW_MS);
    store.write(|tx| gateway::capture(tx, wish).map(drop))
}

fn on_disk(store: &Inline) -> u64 {
    store.read(|reader| reader.state()).unwrap().unsent()
}

#[test]
fn what_shares_a_commit_is_on_the_disk_with_it_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Inline::open(dir.path(), Options::default()).unwrap();
    capture(&mut store, "a", 1).unwrap();
    capture(&mut store, "b", 1).unwrap();
    let failed = store.write(|tx: &mut Tx<'_>| -> Result<(), Error> {
        let mut state = tx.state()?;
        state.repairs = 9;
        tx.set_state(&state)?;
        Err(Error::Closed)
    });
    assert!(matches!(failed, Err(Error::Closed)) && store.is_under_way());
    assert_eq!(on_disk(&store), 0);
    store.commit().unwrap();
    assert!(!store.is_under_way());
    assert_eq!((on_disk(&store), store.read(|reader| reader.state()).unwrap().repairs), (2, 0));

    capture(&mut store, "c", 1).unwrap();
    drop(store);
    assert_eq!(on_disk(&Inline::open(dir.path(), Options::default()).unwrap()), 2);
}

#[test]
fn a_full_disk_refuses_and_has_room_again_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Inline::open(dir.path(), Options::default()).unwrap();
    capture(&mut store, "a", 1).unwrap();
    store.commit().unwrap();
    store.leave_pages(Some(2)).unwrap();
    let refused = capture(&mut store, "b", 20_000);
    assert!(matches!(refused, Err(Refusal::Store(Error::DiskFull(_)))), "{refused:?}");
    let _ = store.commit();
    assert!(store.read(|reader| reader.status()).unwrap().is_full);
    assert_eq!(on_disk(&store), 1);

    store.leave_pages(None).unwrap();
    capture(&mut store, "b", 20_000).unwrap();
    store.commit().unwrap();
    assert_eq!((on_disk(&store), store.read(|reader| reader.status()).unwrap().is_full), (2, false));
}

/// The simulator takes from this what a power cut can leave: a commit that returned is synced, and only the log grew.
#[test]
fn every_commit_is_synced_to_a_write_ahead_log() {
    let clinic = Clinic::new();
    let told = |sql: &'static str| {
        clinic.store.blocking_write(move |tx| -> Result<rusqlite::types::Value, Error> {
            Ok(tx.db.query_row(sql, [], |row| row.get(0))?)
        })
    };
    assert_eq!(told("PRAGMA synchronous").unwrap(), rusqlite::types::Value::Integer(2));
    assert_eq!(told("PRAGMA journal_mode").unwrap(), rusqlite::types::Value::Text("wal".to_owned()));
    let database = || std::fs::read(clinic.path().join(FILE_NAME)).unwrap();
    let before = database();
    let again = |tx: &mut Tx<'_>| -> Result<(), Error> {
        let state = tx.state()?;
        tx.set_state(&state)
    };
    clinic.store.blocking_write(again).unwrap();
    assert!(database() == before);
}
