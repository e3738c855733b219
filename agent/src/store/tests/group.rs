//! Group commit: few commits for many writers, and each for itself.

use serde_json::json;
use sync_protocol::gateway::Store as _;

use super::*;

#[test]
fn many_writers_share_commits() {
    let clinic = Clinic::new();
    let before = clinic.store.commits();
    let writers: Vec<_> = (0..32)
        .map(|writer| {
            let store = clinic.store.clone();
            std::thread::spawn(move || {
                for nth in 0..10 {
                    let body = object(json!({"writer": writer, "nth": nth}));
                    let wish = wish(&format!("Visit/v-{writer}-{nth}"), Intent::Put(body), None, NOW_MS + nth);
                    store.blocking_write(|tx| -> Result<_, Refusal<Error>> { gateway::capture(tx, wish) }).unwrap();
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let commits = clinic.store.commits() - before;
    assert!(commits <= 100, "{commits} commits for 320 writes");
    let state = clinic.store.blocking_write(|tx| tx.state()).unwrap();
    assert_eq!(state.unsent(), 320);
    assert_eq!(clinic.reopen().sql::<i64>("SELECT count(*) FROM records WHERE presence = 0"), 320);
}

#[test]
fn a_write_that_fails_is_undone_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let clinic = Clinic::new();
    let results = runtime.block_on(async {
        let mut writes = Vec::new();
        for n in 0..20_i64 {
            let store = clinic.store.clone();
            let wish = wish(&format!("Visit/v{n}"), Intent::Put(object(json!({"n": n}))), None, NOW_MS + n);
            writes.push(async move {
                let write = move |tx: &mut crate::store::Tx<'_>| -> Result<(), Refusal<Error>> {
                    gateway::capture(tx, wish)?;
                    if n % 2 == 0 { Ok(()) } else { Err(Error::Closed.into()) }
                };
                store.write(write).await
            });
        }
        let tasks = tokio::task::LocalSet::new();
        let handles: Vec<_> = writes.into_iter().map(|write| tasks.spawn_local(write)).collect();
        tasks.await;
        let mut results = Vec::new();
        for handle in handles {
            results.push(handle.await.unwrap().is_ok());
        }
        results
    });
    assert_eq!(results, (0..20).map(|n| n % 2 == 0).collect::<Vec<_>>());
    let state = clinic.store.blocking_write(|tx| tx.state()).unwrap();
    assert_eq!(state.unsent(), 10);
    let ops = clinic.store.blocking_write(|tx| tx.own_ops(sync_protocol::id::Stream::Normal, Default::default(), 50));
    let seqs: Vec<u64> = ops.unwrap().iter().map(|op| op.stamp.dot.seq.0).collect();
    assert_eq!(seqs, (1..=10).collect::<Vec<_>>());
    assert_eq!(clinic.sql::<i64>("SELECT count(*) FROM records"), 10);
    assert_eq!(clinic.sql::<i64>("SELECT count(*) FROM scopes"), 1);
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing_behind() {
    let mut clinic = Clinic::new();
    clinic.put("Visit/v1", json!({"n": 1}));
    let refused = clinic.store.blocking_write(|tx| -> Result<(), Error> {
        let pages: i64 = tx.db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        tx.db.query_row(&format!("PRAGMA max_page_count = {}", pages + 2), [], |_| Ok(()))?;
        Ok(())
    });
    refused.unwrap();
    let noise: Vec<u32> = (0..20_000u32).map(|n| n.wrapping_mul(2_654_435_761)).collect();
    let body = object(json!({"note": noise}));
    let wish = wish("Visit/v2", Intent::Put(body), None, NOW_MS);
    let result = clinic.store.blocking_write(|tx| -> Result<_, Refusal<Error>> { gateway::capture(tx, wish) });
    assert!(matches!(result, Err(Refusal::Store(Error::DiskFull(_)))), "{result:?}");
    assert!(clinic.get("Visit/v2").is_none());
    clinic
        .store
        .blocking_write(|tx| -> Result<(), Error> {
            Ok(tx.db.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(()))?)
        })
        .unwrap();
    clinic.put("Visit/v3", json!({"n": 3}));
    assert_eq!(clinic.store.blocking_write(|tx| tx.state()).unwrap().unsent(), 2);
}

#[test]
fn waiting_readers_are_woken_by_a_commit() {
    let mut clinic = Clinic::new();
    let (mut feed, mut outbox) = (clinic.store.feed(), clinic.store.outbox());
    feed.mark_unchanged();
    clinic.put("Visit/v1", json!({"n": 1}));
    assert!(feed.has_changed().unwrap() && outbox.has_changed().unwrap());
    assert_eq!((*feed.borrow_and_update(), *outbox.borrow_and_update()), (1, 1));
    clinic.put("Visit/v1", json!({"n": 1}));
    assert!(!feed.has_changed().unwrap());
}

#[test]
fn a_write_that_fails_alone_leaves_nothing_behind() {
    let mut clinic = Clinic::new();
    clinic.put("Visit/v1", json!({"n": 1}));
    let (before, commits) = (clinic.store.blocking_write(|tx| tx.state()).unwrap(), clinic.store.commits());
    let wish = wish("Visit/v2", Intent::Put(object(json!({"n": 2}))), None, NOW_MS + 5_000);
    let failed = clinic.store.blocking_write(|tx| -> Result<(), Refusal<Error>> {
        gateway::capture(tx, wish)?;
        Err(Error::Closed.into())
    });
    assert!(failed.is_err() && clinic.store.commits() == commits);
    assert_eq!(clinic.store.blocking_write(|tx| tx.state()).unwrap(), before);
    assert_eq!(clinic.sql::<i64>("SELECT count(*) FROM records"), 1);
    clinic.put("Visit/v3", json!({"n": 3}));
    assert_eq!(clinic.reopen().store.blocking_write(|tx| tx.state()).unwrap().unsent(), 2);
}

#[test]
fn a_large_write_has_a_commit_to_itself() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let clinic = Clinic::new();
    let ((gate, open), (begins, begun)) = (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel::<()>());
    let store = clinic.store.clone();
    let first = std::thread::spawn(move || {
        store.blocking_write(move |tx| {
            begins.send(()).unwrap();
            // Until all others wait behind it.
            let _ = open.recv();
            tx.state()
        })
    });
    begun.recv().unwrap();
    let before = clinic.store.commits();
    runtime.block_on(async {
        let one = |n: i64, is_large: bool| {
            let store = clinic.store.clone();
            let wish = wish(&format!("Visit/v{n}"), Intent::Put(object(json!({"n": n}))), None, NOW_MS + n);
            let write =
                move |tx: &mut crate::store::Tx<'_>| -> Result<_, Refusal<Error>> { gateway::capture(tx, wish) };
            async move {
                match is_large {
                    true => store.write_large(write).await.unwrap(),
                    false => store.write(write).await.unwrap(),
                };
            }
        };
        let tasks = tokio::task::LocalSet::new();
        for (n, is_large) in [(1, false), (2, false), (3, true), (4, false), (5, false)] {
            tasks.spawn_local(one(n, is_large));
        }
        tasks.spawn_local(async move { gate.send(()).unwrap() });
        tasks.await;
    });
    first.join().unwrap().unwrap();
    // The first, the two before the large one, the large one, the two behind it.
    assert_eq!(clinic.store.commits() - before, 4);
    assert_eq!(clinic.sql::<i64>("SELECT count(*) FROM records"), 5);
}
