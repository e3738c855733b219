//! Kind to the card: what a gateway writes when there is nothing to write.

use std::path::{Path, PathBuf};

use outpost_tests::log::Log;
use outpost_tests::process::{Gateway, Hub, wait_for};
use serde_json::json;

/// Exchanges of an hour, as the timer makes them.
const EXCHANGES: usize = 12;

fn database(gateway: &Gateway) -> PathBuf {
    PathBuf::from(gateway.data_dir()).join("outpost.db")
}

/// A gateway that does not note once a day what is safe at the hub, which it may begin with at any moment.
fn quiet(folder: &Path, hub: &Hub) -> Gateway {
    let card = folder.join("a");
    std::fs::create_dir(&card).unwrap();
    std::fs::write(card.join("outpost.toml"), "[retention]\nhistory_days = 0\n").unwrap();
    Gateway::enrolled(&card, hub, "a", "mw")
}

/// The check and the scrub after the first start have been noted, and what was to be told has been told.
fn settled(gateway: &Gateway) -> Log {
    gateway.sync();
    let file = database(gateway);
    let checked = "SELECT count(*) FROM upkeep WHERE checked_ms > 0 AND scrubbed_ms > 0";
    wait_for("the first check and scrub", || {
        let db = rusqlite::Connection::open(&file).unwrap();
        db.query_row(checked, [], |row| row.get::<_, bool>(0)).unwrap().then_some(())
    });
    Log::of(&file).unwrap()
}

#[test]
fn an_idle_exchange_costs_one_sync_and_two_pages() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let gateway = quiet(folder.path(), &hub);
    gateway.put("form/f1", &json!({"n": 1}));
    gateway.sync();
    let before = settled(&gateway);
    let exchanges = gateway.status()["last_success_ms"].as_i64().unwrap();
    for _ in 0..EXCHANGES {
        assert_eq!(gateway.sync()["exchanges"], json!(1));
    }
    let wrote = Log::of(&database(&gateway)).unwrap().since(before);
    assert_eq!((wrote.commits, wrote.pages), (EXCHANGES, 2 * EXCHANGES));
    assert!(gateway.status()["last_success_ms"].as_i64().unwrap() > exchanges, "and it is known that they were made");
    // What was counted with the answers is all that there was.
    let db = rusqlite::Connection::open(database(&gateway)).unwrap();
    let counted: i64 = db.query_row("SELECT exchanges FROM sync_report", [], |row| row.get(0)).unwrap();
    let one_more = gateway.sync()["exchanges"].as_i64().unwrap();
    let after: i64 = db.query_row("SELECT exchanges FROM sync_report", [], |row| row.get(0)).unwrap();
    assert_eq!(after, counted + one_more);
}

#[test]
fn a_record_that_is_saved_and_sent_alone_costs_four_syncs() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let gateway = quiet(folder.path(), &hub);
    gateway.put("form/first", &json!({"n": 0}));
    let before = settled(&gateway);
    gateway.put("form/f1", &json!({"n": 1}));
    // It may have been sent by itself before that was asked for, which is an idle exchange more.
    let asked_too_late = usize::from(gateway.sync()["sent"] == json!(0));
    // Saved; about to be sent; acknowledged; the end, with what is kept for status.
    assert_eq!(Log::of(&database(&gateway)).unwrap().since(before).commits, 4 + asked_too_late);
}

#[test]
fn a_link_that_stays_down_is_noted_once() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let gateway = quiet(folder.path(), &hub);
    settled(&gateway);
    hub.proxy.set_down(true);
    let try_it = || gateway.ask("POST", "/v1/sync", &[], None).0;
    assert_ne!(try_it(), 200);
    assert_eq!(gateway.status()["error_class"], json!("offline"));
    let before = Log::of(&database(&gateway)).unwrap();
    for _ in 0..EXCHANGES {
        assert_ne!(try_it(), 200);
    }
    assert_eq!(Log::of(&database(&gateway)).unwrap().since(before).commits, 0);
    hub.proxy.set_down(false);
    gateway.sync();
    assert_eq!(gateway.status()["error_class"], json!(null));
}

#[test]
fn looking_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let gateway = quiet(folder.path(), &hub);
    gateway.put("form/f1", &json!({"n": 1}));
    let before = settled(&gateway);
    for path in
        ["/v1/status", "/v1/records/form", "/v1/records/form/f1", "/v1/conflicts", "/v1/parked", "/healthz", "/"]
    {
        assert_eq!(gateway.ask("GET", path, &[], None).0, 200, "{path}");
    }
    gateway.command(&["status"]);
    gateway.command(&["records", "list", "form"]);
    assert_eq!(Log::of(&database(&gateway)).unwrap().since(before), Log::default());
}

#[test]
fn what_is_saved_while_an_exchange_ends_is_sent_at_once_and_not_by_the_timer() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let gateway = quiet(folder.path(), &hub);
    // Each is saved in the moment in which the hub has just taken the one before; the timer is minutes away.
    for n in 0..30 {
        gateway.put(&format!("form/f{n}"), &json!({ "n": n }));
        wait_for("the record to be sent", || (gateway.count("unsent") == 0).then_some(()));
    }
}
