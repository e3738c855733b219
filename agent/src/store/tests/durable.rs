//! What was answered is there after the program is started again.

use serde_json::json;
use sync_protocol::gateway::{Store as _, adopt_origin};
use sync_protocol::id::{Origin, Stream};

use super::*;
use crate::store::{Answer, Enrolment, SyncReport};

#[test]
fn captured_records_the_outbox_and_the_state_survive_a_restart() {
    let mut clinic = Clinic::new();
    clinic.put("Patient/p1", json!({"name": "Grace", "age": 31}));
    let edited = clinic.edit("Patient/p1", json!({"age": 32}));
    let before = clinic.store.blocking_write(|tx| tx.state()).unwrap();
    let clinic = clinic.reopen();
    assert_eq!(clinic.body("Patient/p1"), json!({"name": "Grace", "age": 32}));
    assert_eq!(clinic.get("Patient/p1").unwrap().etag, edited.etag);
    let after = clinic.store.blocking_write(|tx| tx.state()).unwrap();
    assert_eq!(before, after);
    let ops = clinic.store.blocking_write(|tx| tx.own_ops(Stream::Normal, Default::default(), 10)).unwrap();
    assert_eq!(ops.len(), 2);
    assert_eq!(*clinic.store.outbox().borrow(), 2);
    assert_eq!(*clinic.store.feed().borrow(), 2);
}

#[test]
fn what_is_owed_of_former_incarnations_survives_a_restart() {
    let clinic = Clinic::new();
    let write = move |tx: &mut crate::store::Tx<'_>| -> Result<_, Error> {
        // One is the beginning of another.
        for origin in [1, 11, 111, 2] {
            adopt_origin(tx, Origin(origin))?;
        }
        let mut state = tx.state()?;
        state.former.iter_mut().for_each(|former| former.is_owed = former.origin != Origin(11));
        tx.set_state(&state)?;
        Ok(state.former)
    };
    let former = clinic.store.blocking_write(write).unwrap();
    let clinic = clinic.reopen();
    let read = clinic.store.blocking_read(|reader| reader.state()).unwrap().former;
    assert_eq!(read, former);
    let read: Vec<_> = read.iter().map(|former| (former.origin.0, former.is_owed)).collect();
    assert_eq!(read, [(1, true), (11, false), (111, true)]);
}

#[test]
fn small_things_survive_a_restart() {
    let clinic = Clinic::new();
    let enrolment =
        Enrolment { hub_url: "https://hub".into(), name: "zomba-1".into(), device: 7, enrolled_ms: 5, identity: None };
    let report =
        SyncReport { attempt_ms: 9, error_class: Some("offline".into()), bytes_up: 3, ..SyncReport::default() };
    let answer = Answer { hash: vec![1, 2], body: vec![3] };
    let (e, r, a) = (enrolment.clone(), report.clone(), answer.clone());
    let write = move |tx: &mut crate::store::Tx<'_>| -> Result<(), Error> {
        tx.set_enrolment(&e)?;
        tx.set_sync_report(&r)?;
        tx.idempotent_put("k", &a, 100, 200)
    };
    clinic.store.blocking_write(write).unwrap();
    let clinic = clinic.reopen();
    let read = clinic.store.blocking_read(|reader| -> Result<_, Error> {
        Ok((reader.enrolment()?, reader.sync_report()?, reader.idempotent("k", 199)?, reader.idempotent("k", 200)?))
    });
    assert_eq!(read.unwrap(), (Some(enrolment), report, Some(answer), None));
}

#[test]
fn an_answer_is_kept_only_with_the_write_that_it_answers() {
    let mut clinic = Clinic::new();
    clinic.put("Patient/p1", json!({"name": "Grace"}));
    let failing = |tx: &mut crate::store::Tx<'_>| -> Result<(), Error> {
        tx.idempotent_put("k", &Answer { hash: vec![], body: vec![] }, 1, 10)?;
        Err(Error::Closed)
    };
    assert!(matches!(clinic.store.blocking_write(failing), Err(Error::Closed)));
    assert_eq!(clinic.store.blocking_read(|reader| reader.idempotent("k", 2)).unwrap(), None);
}

#[test]
fn out_of_date_answers_make_room() {
    let clinic = Clinic::new();
    for n in 0..40 {
        let answer = Answer { hash: vec![], body: vec![] };
        clinic.store.blocking_write(move |tx| tx.idempotent_put(&n.to_string(), &answer, n, n + 5)).unwrap();
    }
    assert!(clinic.sql::<i64>("SELECT count(*) FROM idempotency") < 16);
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let clinic = Clinic::new();
    let Clinic { dir, store, .. } = clinic;
    let path = store.path().to_owned();
    drop(store);
    super::raw(&path).pragma_update(None, "user_version", 99).unwrap();
    let refused = Store::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(refused, Error::NewerDatabase { found: 99, known: 9 }), "{refused}");
    assert!(matches!(Store::open_read_only(dir.path()), Err(Error::NewerDatabase { .. })));
}

#[test]
fn a_database_of_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let db = super::raw(dir.path().join(crate::store::FILE_NAME));
    db.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
    assert!(matches!(Store::open(dir.path(), Options::default()), Err(Error::NotOurs(_))));
}

#[test]
fn status_needs_no_running_program_and_bears_one() {
    let mut clinic = Clinic::new();
    clinic.put("Patient/p1", json!({"name": "Grace"}));
    let beside = Store::open_read_only(clinic.path()).unwrap();
    let status = beside.read(|reader| reader.status()).unwrap();
    assert_eq!(status.records, vec![(key_of("Patient/p1").record_type, 1)]);
    assert_eq!(status.streams[1].unsent, 1);
    assert_eq!(status.streams[1].oldest_ms, Some(NOW_MS + 1_000));
    assert!(status.database_bytes > 0);
    clinic.put("Patient/p2", json!({"name": "Mary"}));
    assert_eq!(beside.read(|reader| reader.status()).unwrap().captured, 2);
    let Clinic { dir, store, .. } = clinic;
    drop(store);
    let alone = Store::open_read_only(dir.path()).unwrap();
    assert_eq!(alone.read(|reader| reader.status()).unwrap().captured, 2);
}

#[test]
fn a_second_program_may_write_too() {
    let mut clinic = Clinic::new();
    clinic.put("Patient/p1", json!({"name": "Grace"}));
    let other = Store::open(clinic.path(), Options::default()).unwrap();
    let wish = wish("Patient/p2", Intent::Put(object(json!({"name": "Mary"}))), None, NOW_MS);
    other.blocking_write(|tx| -> Result<_, Refusal<Error>> { gateway::capture(tx, wish) }).unwrap();
    clinic.put("Patient/p3", json!({"name": "Ruth"}));
    let state = clinic.store.blocking_write(|tx| tx.state()).unwrap();
    assert_eq!(state.unsent(), 3);
    assert_eq!(*clinic.store.feed().borrow(), 3);
}
