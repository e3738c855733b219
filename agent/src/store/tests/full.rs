//! A disk without room: intake is refused politely, nothing breaks, and it goes on by itself.
//!
//! SQLite's own limit on pages stands for the disk: it fails in the same places with the same code.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;
use sync_protocol::boot::Moment;
use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::{GatewayState, Store as _};
use sync_protocol::loopback::{LoopError, exchange};
use tower::ServiceExt;

use super::*;
use crate::api::{App, router};
use crate::apps::Door;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::status;
use crate::store::Tx;
use crate::sync::sync_loop;

impl Clinic {
    /// Leaves room for so many pages more.
    fn leave_pages(&self, more: i64) {
        let limit = move |tx: &mut Tx<'_>| -> Result<(), Error> {
            let pages: i64 = tx.db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            Ok(tx.db.query_row(&format!("PRAGMA max_page_count = {}", pages + more), [], |_| Ok(()))?)
        };
        self.store.blocking_write(limit).unwrap();
    }

    fn api(&self, reserve_bytes: u64) -> Router {
        let clock = Clock::default();
        let (sync, _) = sync_loop(self.store.clone(), clock.clone(), std::time::Duration::from_secs(300));
        let disk = Disk::new(self.path(), reserve_bytes);
        router(App { store: self.store.clone(), clock, disk, sync, door: Door::default(), entrance: None })
    }

    fn status(&self, disk: &Disk) -> status::Status {
        status::Status::new(&self.store.blocking_read(|reader| reader.status()).unwrap(), disk, NOW_MS)
    }
}

/// Text that does not compress.
fn noise(seed: u32, words: u32) -> Json {
    let word = |n: u32| (n ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(2_654_435_761).rotate_left(n % 31);
    json!((0..words).map(word).collect::<Vec<_>>())
}

fn ask(api: &Router, method: &str, path: &str, body: Json) -> (StatusCode, Json) {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = request.body(Body::from(if body.is_null() { String::new() } else { body.to_string() })).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = api.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    })
}

#[test]
fn a_database_without_room_refuses_politely_and_goes_on_when_there_is_room() {
    let clinic = Clinic::new();
    let (api, disk) = (clinic.api(0), Disk::new(clinic.path(), 0));
    let put = |id: u32| (format!("/v1/records/visit/v{id}"), json!({"n": id, "note": noise(id, 900)}));
    let mut acknowledged = Vec::new();
    clinic.leave_pages(40);
    let refused = loop {
        let (path, body) = put(acknowledged.len() as u32);
        match ask(&api, "PUT", &path, body.clone()) {
            (StatusCode::CREATED, _) => acknowledged.push((path, body)),
            (status, problem) => break (status, problem),
        }
    };
    assert_eq!((refused.0, &refused.1["type"]), (StatusCode::INSUFFICIENT_STORAGE, &json!("disk-nearly-full")));
    assert!(!acknowledged.is_empty() && clinic.status(&disk).disk_nearly_full);
    assert!(clinic.status(&disk).text(NOW_MS).contains("FULL"));
    assert_eq!(ask(&api, "GET", "/healthz", Json::Null).0, StatusCode::INSUFFICIENT_STORAGE);
    for (path, body) in &acknowledged {
        assert_eq!(ask(&api, "GET", path, Json::Null), (StatusCode::OK, body.clone()));
    }
    assert_eq!(clinic.status(&disk).unsent, acknowledged.len() as u64);

    clinic.leave_pages(1_000_000);
    let (path, body) = put(acknowledged.len() as u32);
    assert_eq!(ask(&api, "PUT", &path, body).0, StatusCode::CREATED);
    assert!(!clinic.status(&disk).disk_nearly_full);
    assert_eq!(ask(&api, "GET", "/healthz", Json::Null).0, StatusCode::OK);
    assert_eq!(clinic.status(&disk).unsent, acknowledged.len() as u64 + 1);
    assert_eq!(clinic.store.blocking_read(|reader| reader.quick_check()).unwrap(), Vec::<String>::new());
}

#[test]
fn whoever_shared_the_commit_is_told_of_the_full_disk_too() {
    let clinic = Clinic::new();
    clinic.leave_pages(60);
    let writers: Vec<_> = (0..24u32)
        .map(|n| {
            let store = clinic.store.clone();
            let words = if n % 3 == 0 { 20_000 } else { 5 };
            let wish =
                wish(&format!("Visit/v{n}"), Intent::Put(object(json!({"note": noise(n, words)}))), None, NOW_MS);
            std::thread::spawn(move || {
                store.blocking_write(|tx| -> Result<_, Refusal<Error>> { gateway::capture(tx, wish) })
            })
        })
        .collect();
    let mut kept = 0;
    for writer in writers {
        match writer.join().unwrap() {
            Ok(_) => kept += 1,
            Err(error) => assert!(matches!(error, Refusal::Store(Error::DiskFull(_))), "{error:?}"),
        }
    }
    assert_eq!(clinic.sql::<i64>("SELECT count(*) FROM records"), kept);
    assert_eq!(clinic.store.blocking_write(|tx| tx.state()).unwrap().unsent(), kept as u64);
}

#[test]
fn intake_keeps_a_reserve_that_sync_may_use() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.put("visit/a", json!({"n": 1}));
    // More than any disk has, so the reserve is touched.
    let (api, disk) = (clinic.api(u64::MAX), Disk::new(clinic.path(), u64::MAX));
    let refused = ask(&api, "PUT", "/v1/records/visit/b", json!({"n": 2}));
    assert_eq!((refused.0, &refused.1["type"]), (StatusCode::INSUFFICIENT_STORAGE, &json!("disk-nearly-full")));
    assert_eq!(ask(&api, "GET", "/v1/records/visit/a", Json::Null), (StatusCode::OK, json!({"n": 1})));
    assert!(clinic.status(&disk).disk_nearly_full);
    clinic.sync(&mut hub);
    assert_eq!(clinic.status(&disk).unsent, 0);
    drop(api);
    let api = clinic.api(0);
    let made = ask(&api, "PUT", "/v1/records/visit/b", json!({"n": 2}));
    assert_eq!(made.0, StatusCode::CREATED);
}

/// What a box that wakes up in 2038 captures as long as nobody tells it the time.
fn put_in_2038(clinic: &Clinic, count: i64, words: fn(u32) -> u32) {
    let boot = clinic.store.boot().number;
    let capture = move |tx: &mut Tx<'_>| -> Result<(), Refusal<Error>> {
        for n in 1..=count {
            let body = json!({"n": n, "note": noise(n as u32, words(n as u32))});
            let wish = wish(&format!("Visit/v{n}"), Intent::Put(object(body)), None, 2_147_000_000_000 + n);
            tx.set_moment(Moment { boot, mono_ms: n }, wish.now_ms);
            gateway::capture(tx, Capture { quality: TimeQuality::Unknown, author: None, ..wish })?;
        }
        Ok(())
    };
    clinic.store.blocking_write(capture).unwrap();
}

/// One exchange, in a transaction of its own.
fn hear(clinic: &Clinic, hub: &mut MemoryHub) -> Result<Traffic, Error> {
    let (mut with, now_ms) = (hub.clone(), NOW_MS as u64);
    let (after, traffic) = clinic.store.blocking_write(move |tx| {
        let heard = exchange(tx, &mut with, &mut Link::new().unwrap(), now_ms);
        let traffic = heard.map_err(|error| match error {
            LoopError::Gateway(error) => error,
            other => panic!("{other}"),
        })?;
        Ok::<_, Error>((with, traffic))
    })?;
    *hub = after;
    Ok(traffic)
}

#[test]
fn where_there_is_no_room_to_correct_times_what_waits_goes_as_it_is() {
    let mut hub = MemoryHub::default();
    let mut clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.put("Visit/known", json!({"n": 0}));
    clinic.sync(&mut hub);
    put_in_2038(&clinic, 3_000, |n| n % 50);
    // The boot began before what the hub has, so stamp and time of capture are apart, and each op takes more than before.
    let (boot, start_ms) = (clinic.store.boot().number, NOW_MS - 86_400_000);
    clinic.store.blocking_write(move |tx| tx.set_boot_start(boot, start_ms)).unwrap();
    clinic.leave_pages(0);
    let refused = (0..4).find_map(|_| hear(&clinic, &mut hub).err());
    assert!(matches!(refused, Some(Error::DiskFull(_))), "{refused:?}");
    let state = clinic.store.blocking_read(|reader| reader.state()).unwrap();
    assert!(state.awaits_time && hub.records().count() == 1, "it is the times that find no room");

    // Nothing goes with the next one, so that what it takes is what the time takes.
    let leave = |tx: &mut Tx<'_>| {
        gateway::leave_times(tx)?;
        let state = GatewayState { unsure: true, ..tx.state()? };
        tx.set_state(&state)
    };
    clinic.store.blocking_write(leave).unwrap();
    assert_eq!(hear(&clinic, &mut hub).unwrap().ops, 0);
    let state = clinic.store.blocking_read(|reader| reader.state()).unwrap();
    assert_eq!((state.awaits_time, state.floor_ms, state.unsent()), (false, NOW_MS, 3_000));
}

#[test]
fn correcting_the_times_of_a_long_tail_takes_no_more_room_than_a_part_of_it() {
    const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;
    let mut hub = MemoryHub::default();
    let clinic = Clinic::enrolled(&mut hub, "mw");
    put_in_2038(&clinic, 5_000, |_| 250);
    // Closing folds the log back.
    let clinic = clinic.reopen();
    let log = || std::fs::metadata(clinic.path().join("outpost.db-wal")).map_or(0, |log| log.len());
    let mut answers = 0;
    while clinic.store.blocking_read(|reader| reader.state()).unwrap().awaits_time {
        assert_eq!(hear(&clinic, &mut hub).unwrap().ops, 0);
        assert!(log() < LOG_BYTES_MAX, "{} bytes after {answers} answers", log());
        answers += 1;
    }
    assert!(answers > 2, "{answers}");
    let size: i64 = clinic.sql("SELECT sum(length(op)) FROM history");
    assert!(size as u64 > LOG_BYTES_MAX, "{size}");
}
