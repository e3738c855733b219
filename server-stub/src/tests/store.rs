//! The store alone: groups that share a commit, codes that expire, plans of queries.

use sync_protocol::clock::{Hlc, TimeQuality};
use sync_protocol::digest::Chain;
use sync_protocol::hub::{Arrived, HeldOp, Snapshot, Store, first_number};
use sync_protocol::id::{Device, Dot, HubSeq, Origin, RecordKey, Seq, Source, Stream};
use sync_protocol::identity::DeviceKey;
use sync_protocol::record::{Op, Stamp};

use crate::HubError;
use crate::error::StoreError;
use crate::hub::{add_gateway, new_gateway, open_database};
use crate::store::{Database, Tx, Writer};

const NOW_MS: i64 = 1_790_000_000_000;

fn database(dir: &tempfile::TempDir) -> Database {
    open_database(dir.path()).unwrap()
}

#[test]
fn a_code_expires() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = database(&dir);
    let new = new_gateway("a", &["mw"], "clinic").unwrap();
    database.write(NOW_MS, |tx| add_gateway(tx, &new, "ABCD-EFGH-JKMN", 24)).unwrap();
    let late = NOW_MS + 24 * 3_600_000;
    let redeem =
        |tx: &mut Tx<'_>| tx.redeem("ABCDEFGHJKMN", "{}", "", DeviceKey([1; 32])).map(|enrolled| enrolled.name);
    assert!(matches!(database.write(late, redeem), Err(HubError::Code("this code has expired"))));
    assert_eq!(database.write(late - 1, redeem).unwrap(), "a");
}

#[test]
fn epochs_have_an_end_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = database(&dir);
    let lineage: Vec<(u32, u64)> = (1..=0x8000).map(|epoch| (epoch, 0)).collect();
    let lineage = serde_json::to_string(&lineage).unwrap();
    let file = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
    file.execute("UPDATE hub SET lineage = ?1", [lineage]).unwrap();
    let error = HubError::from(database.write(NOW_MS, |tx| tx.begin_epoch(0)).unwrap_err());
    assert!(matches!(error, HubError::Store(StoreError::Epochs)), "{error}");
    assert!(error.hint().contains("--new-hub"));
}

#[test]
fn a_gateway_that_is_enrolled_after_a_restore_gets_no_number_that_was_given_in_the_lost_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = database(&dir);
    let add = |database: &mut Database, name: &str| {
        let new = new_gateway(name, &["mw"], "clinic").unwrap();
        database.write(NOW_MS, |tx| tx.add_gateway(&new)).unwrap()
    };
    assert_eq!(["a", "b"].map(|name| add(&mut database, name)), [Device(1), Device(2)]);
    let epoch = database.write(NOW_MS, |tx| tx.begin_epoch(0)).unwrap();
    let first = Device::before(epoch).0 + 1;
    assert_eq!(["c", "d"].map(|name| add(&mut database, name)), [Device(first), Device(first + 1)]);
}

#[test]
fn when_the_numbers_of_an_epoch_have_come_to_an_end_another_one_begins() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = database(&dir);
    let a = database.write(NOW_MS, |tx| tx.add_gateway(&new_gateway("a", &["mw"], "clinic").unwrap())).unwrap();
    let epoch = database.write(NOW_MS, |tx| tx.epoch()).unwrap();
    database.write(NOW_MS, |tx| tx.claim_origin(a, Origin(0xfffe), Origin(1))).unwrap();
    let next = |database: &mut Database| database.write(NOW_MS, |tx| tx.new_origin(a, Origin(1))).unwrap();
    assert_eq!(next(&mut database), Origin(0xffff), "the last one");
    let first = next(&mut database);
    let later = database.write(NOW_MS, |tx| tx.epoch()).unwrap();
    assert_ne!(later, epoch);
    assert_eq!([first, next(&mut database)], [1, 2].map(|nth| Origin(Origin::before(later).0 + nth)));
    let told = database.write(NOW_MS, |tx| tx.audit_after(0, 100)).unwrap();
    let told: Vec<_> = told.iter().map(|entry| entry.what.as_str()).collect();
    assert_eq!(told, ["claim-origin", "begin-epoch"]);
}

/// The hub may have been started on an older copy of its file, and then others were given those that come next.
#[test]
fn numbers_go_on_where_the_clock_stands_whenever_the_hub_is_started_and_those_left_out_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = database(&dir);
    let before = database.write(NOW_MS, |tx| tx.next()).unwrap();
    let own = |tx: &mut Tx<'_>| tx.mark(Origin::HUB, Stream::Normal).map(|mark| mark.acked);
    database.write(NOW_MS, |tx| tx.note_start()).unwrap();
    let last = HubSeq(first_number(before.0, NOW_MS as u64));
    assert_eq!(
        database.read(NOW_MS, |tx| Ok::<_, StoreError>((tx.head()?, own(tx)?.0))).unwrap(),
        (last, first_number(0, NOW_MS as u64))
    );
    // A day later, on a copy of the file as it was.
    let next = database.write(NOW_MS, |tx| tx.next()).unwrap();
    database.write(NOW_MS + 86_400_000, |tx| tx.note_start()).unwrap();
    let head = database.read(NOW_MS, |tx| tx.head()).unwrap();
    assert!(head.0 - next.0 > 16 * 86_000, "no number of that day is given again");
    let asked = [1, 2, last.0 - 1, last.0, next.0, next.0 + 1, head.0 - 1, head.0];
    let given = [1, 1, 1, last.0, next.0, next.0, next.0, head.0];
    assert_eq!(asked.map(|n| database.read(NOW_MS, |tx| tx.given(HubSeq(n))).unwrap().0), given);
}

/// The simulator takes from this what a power cut can leave: a commit that returned is synced.
#[test]
fn every_commit_is_synced_to_a_write_ahead_log() {
    let dir = tempfile::tempdir().unwrap();
    let database = database(&dir);
    assert_eq!(database.pragma("synchronous").unwrap(), "2");
    assert_eq!(database.pragma("journal_mode").unwrap(), "wal");
}

#[tokio::test]
async fn jobs_in_one_commit_fail_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::start(database(&dir)).unwrap();
    let add = |name: &str, fails: bool| {
        let (writer, new) = (writer.clone(), new_gateway(name, &["mw"], "clinic").unwrap());
        tokio::spawn(async move {
            let act = move |tx: &mut Tx<'_>| {
                tx.add_gateway(&new)?;
                tx.next()?;
                if fails { Err(HubError::Invalid("on purpose".to_owned())) } else { Ok(()) }
            };
            writer.write(act).await
        })
    };
    let jobs: Vec<_> = (0..100).map(|n| add(&format!("g{n}"), n % 3 == 0)).collect();
    let mut done = 0;
    for (n, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.await.unwrap().is_err(), n % 3 == 0);
        done += u64::from(n % 3 != 0);
    }
    let (fleet, head) = database(&dir).read(NOW_MS, |tx| Ok::<_, StoreError>((tx.fleet()?, tx.head()?))).unwrap();
    assert_eq!((fleet.len() as u64, head), (done, HubSeq(done)));
}

#[test]
fn a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(database(&dir));
    let conn = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(open_database(dir.path()), Err(HubError::Store(StoreError::Newer { found: 99, .. }))));
}

#[test]
fn queries_of_an_exchange_use_their_indexes() {
    let dir = tempfile::tempdir().unwrap();
    drop(database(&dir));
    let conn = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
    for (sql, index) in [
        (
            "SELECT rev, scope, type, id FROM records INDEXED BY records_rev WHERE rev > 1 ORDER BY rev LIMIT 9",
            "COVERING INDEX records_rev",
        ),
        ("SELECT hseq, kind FROM log WHERE hseq > 1 ORDER BY hseq, kind LIMIT 9", "SEARCH log USING PRIMARY KEY"),
        (
            "SELECT seq, hseq FROM history WHERE origin = 1 AND stream = 1 AND seq > 1 AND seq <= 9 AND applied = hseq ORDER BY seq",
            "COVERING INDEX history_dot",
        ),
        (
            "SELECT q.type FROM waits w JOIN quarantine q USING (origin, stream, seq) WHERE w.type = 'a' AND w.id = 'b'",
            "waits_for",
        ),
    ] {
        let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> = explain.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        assert!(plan.iter().any(|step| step.contains(index)), "{plan:?}");
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE") || step.starts_with("SCAN")), "{plan:?}");
    }
}

/// Else it would replace, once it is released, what its author has never seen.
#[test]
fn an_op_in_quarantine_claims_no_more_than_when_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let dot = Dot { origin: Origin(1), stream: Stream::Normal, seq: Seq(1) };
    let stamp = Stamp {
        dot,
        hlc: Hlc::at(1_790_000_000_000),
        seen: HubSeq(900),
        hseq: HubSeq::NONE,
        captured_ms: NOW_MS,
        quality: TimeQuality::Good,
        source: Source::CLINIC,
        author: None,
        settles: None,
    };
    let written = Op { stamp, key: RecordKey::parse("visit/v1").unwrap(), changes: Default::default() };
    // 900 was a number of a hub that is gone; both had the same up to 7.
    let counted = Op { stamp: Stamp { seen: HubSeq(7), ..written.stamp.clone() }, ..written.clone() };
    let arrived = Arrived { op: &counted, ..Arrived::after(Chain::default(), &written) };
    let held = HeldOp {
        op: counted.clone(),
        hseq: HubSeq(8),
        device: None,
        reason: "no patient".to_owned(),
        for_person: false,
    };
    let hold = |tx: &mut Tx<'_>| -> Result<(), StoreError> {
        tx.append(&arrived, HubSeq(8), true)?;
        tx.hold(&held, &[])
    };
    database(&dir).write(NOW_MS, hold).unwrap();
    let release =
        |tx: &mut Tx<'_>| -> Result<_, StoreError> { Ok((tx.held_of(&counted.key, Origin(1))?, tx.unhold(dot)?)) };
    assert_eq!(database(&dir).write(NOW_MS, release).unwrap(), (vec![held.clone()], Some(held)));
}
