//! The store alone: groups that share a commit, codes that expire, and that it does what the plain store in memory does.

use serde_json::json;
use sync_protocol::gateway::{self, Capture, Intent};
use sync_protocol::hub::{self, Gateway, Store};
use sync_protocol::id::{HubSeq, RecordKey, Scope, Source};
use sync_protocol::loopback::{Link, exchange};
use sync_protocol::memory::{MemoryGateway, MemoryHub};
use sync_protocol::rules::Rules;

use super::object;
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
    let redeem = |tx: &mut Tx<'_>| tx.redeem("ABCDEFGHJKMN", "{}", "", [1; 8]).map(|enrolled| enrolled.name);
    assert!(matches!(database.write(late, redeem), Err(HubError::Code("this code has expired"))));
    assert_eq!(database.write(late - 1, redeem).unwrap(), "a");
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

/// A random walk of writes and syncs, on this store and on the plain one in memory side by side.
#[test]
fn it_does_what_the_store_in_memory_does() {
    const RULES: &str = r#"
version = 1
[types.patient]
scope = "facility"
[types.patient.fields]
name = { rule = "keep-both", required = true }
tags = "set"
count = "counter"
[types.visit]
scope = { parent = "patient" }
parents = { patient = "patient" }
[types.visit.fields]
patient = { rule = "lww", required = true }
"#;
    for seed in 1..=12u64 {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = database(&dir);
        let mut plain = MemoryHub::default();
        plain.publish(std::sync::Arc::new(Rules::parse(RULES).unwrap()));
        let conn = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
        conn.execute("UPDATE hub SET epoch = 0", []).unwrap();
        disk.write(NOW_MS, |tx| tx.publish(RULES)).unwrap();
        let scopes = ["mw/a", "mw/b", "mw"];
        let mut sides: Vec<(MemoryGateway, MemoryGateway)> = Vec::new();
        for (at, scope) in scopes.iter().enumerate() {
            let scope = Scope::new(scope).unwrap();
            let gateway = plain.enroll(vec![scope.clone()], Source::CLINIC, [at as u8 + 1; 8]);
            disk.write(NOW_MS, |tx| add_like(tx, &gateway, at)).unwrap();
            let store = enrolled(&gateway, RULES);
            sides.push((store.clone(), store));
        }
        let (mut link, mut other) = (Link::new().unwrap(), Link::new().unwrap());
        let mut random = seed;
        let mut roll = |n: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % n
        };
        for step in 0..120i64 {
            let (one, two) = &mut sides[roll(3) as usize];
            let now_ms = NOW_MS + step * 1_000;
            match roll(3) {
                0 => {
                    let traffic = exchange(one, &mut plain, &mut link, now_ms as u64).unwrap();
                    let same = disk
                        .write(now_ms, |tx| Ok::<_, StoreError>(exchange(two, tx, &mut other, now_ms as u64).unwrap()));
                    assert_eq!(same.unwrap(), traffic, "seed {seed}, step {step}");
                }
                _ => {
                    let patient = format!("p{}", roll(4));
                    let (key, body) = match roll(4) {
                        0 => (format!("visit/v{}", roll(5)), json!({ "patient": patient, "n": roll(9) })),
                        1 => (
                            format!("patient/{patient}"),
                            json!({ "facility": scopes[roll(2) as usize], "count": roll(5) }),
                        ),
                        _ => {
                            let body = json!({ "name": format!("n{}", roll(3)), "facility": scopes[roll(2) as usize], "tags": [roll(3)] });
                            (format!("patient/{patient}"), body)
                        }
                    };
                    let intent = if roll(8) == 0 { Intent::Delete } else { Intent::Put(object(body)) };
                    let wish = Capture {
                        key: RecordKey::parse(&key).unwrap(),
                        intent,
                        base: None,
                        author: None,
                        now_ms,
                        quality: sync_protocol::clock::TimeQuality::Good,
                    };
                    assert_eq!(gateway::capture(one, wish.clone()).is_ok(), gateway::capture(two, wish).is_ok());
                }
            }
        }
        compare(&mut disk, &mut plain, seed);
    }
}

fn add_like(tx: &mut Tx<'_>, gateway: &Gateway, at: usize) -> Result<(), HubError> {
    let name = format!("g{at}");
    let scopes: Vec<_> = gateway.scopes.iter().map(Scope::as_str).collect();
    let code = "ABCD-EFGH-JKMN";
    add_gateway(tx, &new_gateway(&name, &scopes, "clinic")?, code, 1)?;
    let enrolled = tx.redeem(&crate::secret::normal_code(code), "{}", "", gateway.token)?;
    assert_eq!(enrolled.gateway, *gateway);
    Ok(())
}

fn enrolled(gateway: &Gateway, rules: &str) -> MemoryGateway {
    use sync_protocol::gateway::Store as _;
    let mut store = MemoryGateway::default();
    store.set_rules(std::sync::Arc::new(Rules::parse(rules).unwrap())).unwrap();
    let mut state = store.state().unwrap();
    state.device = gateway.device;
    state.token = gateway.token;
    state.scopes = gateway.scopes.clone();
    store.set_state(&state).unwrap();
    gateway::adopt_origin(&mut store, gateway.origin).unwrap();
    store
}

fn compare(disk: &mut Database, plain: &mut MemoryHub, seed: u64) {
    disk.read(NOW_MS, |tx| {
        assert_eq!(tx.head()?, plain.head().unwrap(), "seed {seed}");
        let mut count = 0;
        for (key, record) in plain.records() {
            assert_eq!(tx.record(key)?.as_ref(), Some(record), "seed {seed}, {key}");
            count += 1;
        }
        assert_eq!(tx.counts()?.0, count);
        for scopes in [vec!["mw/a"], vec!["mw/b"], vec!["mw", "mw/a"], vec![""]] {
            let scopes: Vec<_> = scopes.into_iter().map(|scope| Scope::new(scope).unwrap()).collect();
            assert_eq!(tx.digest(&scopes)?, plain.digest(&scopes).unwrap(), "seed {seed}, {scopes:?}");
            let (mut ours, mut theirs) = (tx.items(&scopes)?, plain.items(&scopes).unwrap());
            ours.sort();
            theirs.sort();
            assert_eq!(ours, theirs);
        }
        assert_eq!(tx.all_held()?, plain.all_held().unwrap(), "seed {seed}");
        for limit in [1, 3, 1_000] {
            assert_eq!(sorted(tx.log_after(HubSeq(0), limit)?), sorted(plain.log_after(HubSeq(0), limit).unwrap()));
        }
        Ok::<_, StoreError>(())
    })
    .unwrap();
}

/// Lines of one number have no order of their own.
fn sorted(mut lines: Vec<hub::LogLine>) -> Vec<String> {
    lines.sort_by_key(|line| line.hseq);
    let mut told: Vec<String> = lines.iter().map(|line| format!("{:08} {line:?}", line.hseq.0)).collect();
    told.sort();
    told
}
