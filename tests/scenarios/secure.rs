//! Gateways and a hub over TLS, as they run by default: enrolled by a code alone, renewed, revoked, copied, and misled.

use std::path::Path;

use outpost_tests::process::{Gateway, Hub, command, must};
use outpost_tests::tls_proxy::Place;
use serde_json::{Value, json};

use crate::clock::now_ms;

/// A certificate that is to be renewed as soon as it is there would need a day; here its time is set back in the database.
fn make_due(card: &Path) {
    let db = rusqlite::Connection::open(card.join("outpost.db")).unwrap();
    assert_eq!(db.execute("UPDATE enrolment SET renew_ms = 1", []).unwrap(), 1);
}

fn certificate(card: &Path) -> Vec<u8> {
    let db = rusqlite::Connection::open(card.join("outpost.db")).unwrap();
    db.query_row("SELECT certificate FROM enrolment", [], |row| row.get(0)).unwrap()
}

fn code(hub: &Hub, name: &str) -> String {
    let added = hub.command(&["gateway", "add", name, "--scope", "mw", "--json"]);
    let added: Value = serde_json::from_str(&added).unwrap();
    added["code"].as_str().unwrap().to_owned()
}

#[test]
fn a_code_alone_enrols_and_records_go_both_ways_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let (a, b) = (Gateway::start(&folder.path().join("a")), Gateway::start(&folder.path().join("b")));
    let mistyped = code(&hub, "a").replacen("OP1-", "OP1-Z", 1);
    let told = command("outpost", &["enroll", &mistyped, "--data-dir", &a.data_dir()]);
    assert_eq!(told.status.code(), Some(2), "{told:?}");
    let printed = hub.command(&["gateway", "code", "a"]);
    let word = printed.lines().next().unwrap();
    assert!(printed.contains('█') && printed.contains(&format!("outpost enroll {word}")), "{printed}");
    a.command(&["enroll", word]);
    b.command(&["enroll", &code(&hub, "b")]);
    a.put("patient/p1", &json!({"name": "Asha"}));
    a.sync();
    b.sync();
    assert_eq!(b.get("patient/p1"), Some(json!({"name": "Asha"})));
    assert!(command("outpost", &["enroll", word, "--data-dir", &b.data_dir()]).status.code() == Some(5), "used");
}

#[test]
fn a_certificate_is_renewed_in_time_and_after_a_restart_of_the_hub_all_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&folder.path().join("hub"));
    let card = folder.path().join("a");
    let mut a = Gateway::enrolled(&card, &hub, "a", "mw");
    a.sync();
    let first = certificate(&card);
    // At two thirds of its 90 days, as far as the two clocks of this machine are one.
    let db = rusqlite::Connection::open(card.join("outpost.db")).unwrap();
    let renew_ms: i64 = db.query_row("SELECT renew_ms FROM enrolment", [], |row| row.get(0)).unwrap();
    drop(db);
    let in_days = (renew_ms - now_ms()) as f64 / 86_400_000.0;
    assert!((59.9..=60.0).contains(&in_days), "in {in_days} days");
    a.sync();
    assert_eq!(certificate(&card), first, "it is not time yet");
    a.kill();
    make_due(&card);
    a.restart();
    hub.restart();
    a.put("form/1", &json!({"n": 1}));
    a.sync();
    assert_ne!(certificate(&card), first);
    a.put("form/2", &json!({"n": 2}));
    a.sync();
    assert_eq!(a.count("unsent"), 0);
}

#[test]
fn e_a_twin_over_tls_becomes_a_gateway_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    let mut a = Gateway::enrolled(&first, &hub, "a", "mw");
    a.put("form/both", &json!({"n": 0}));
    a.sync();
    a.kill();
    std::fs::create_dir(&second).unwrap();
    for entry in std::fs::read_dir(&first).unwrap().flatten() {
        std::fs::copy(entry.path(), second.join(entry.file_name())).unwrap();
    }
    a.restart();
    let b = Gateway::start_in_box(&second, "b");
    for round in 0..3 {
        a.put(&format!("form/a-{round}"), &json!({"n": round}));
        a.sync();
        b.put(&format!("form/b-{round}"), &json!({"n": round}));
        b.sync();
    }
    a.sync();
    assert_eq!(a.export("form").lines().count(), 7);
    assert_eq!(a.export("form"), b.export("form"));
    assert!(hub.command(&["gateway", "list"]).contains("a-twin-1"));
}

#[test]
fn a_revoked_gateway_shows_nothing_and_what_it_saves_waits_at_the_hub_for_an_admin() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let mut a = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    a.put("form/1", &json!({"n": 1}));
    a.sync();
    hub.command(&["gateway", "revoke", "a"]);
    a.put("form/2", &json!({"n": 2}));
    let told = command("outpost", &["sync", "--data-dir", &a.data_dir()]);
    assert_eq!(told.status.code(), Some(5), "{told:?}");
    // Also after the box was off, and with no link at all.
    hub.proxy.set_down(true);
    a.restart();
    a.put("form/3", &json!({"n": 3}));
    for (method, path) in [
        ("GET", "/v1/records/form/1"),
        ("GET", "/v1/records/form"),
        ("GET", "/v1/records/form/1/history"),
        ("GET", "/v1/changes?since=0"),
        ("GET", "/v1/conflicts"),
        ("GET", "/v1/parked"),
    ] {
        let (status, answer) = a.ask(method, path, &[], None);
        assert!(status == 403 && answer.contains("\"revoked\""), "{path}: {status} {answer}");
    }
    assert_eq!(a.status()["revoked"], json!(true));
    assert!(a.command(&["status"]).contains("REVOKED"));
    a.kill();
    assert!(a.command(&["status"]).contains("REVOKED"), "from the database alone");
    let read = command("outpost", &["records", "list", "form", "--data-dir", &a.data_dir()]);
    assert!(!read.status.success() && read.stdout.is_empty(), "{read:?}");
    a.restart();
    hub.proxy.set_down(false);
    assert!(!command("outpost", &["sync", "--data-dir", &a.data_dir()]).status.success());
    assert_eq!((a.count("unsent"), hub.command(&["quarantine", "list"]).matches("revoked").count()), (0, 2));
    assert_eq!(hub.export("form").lines().count(), 1);
    hub.command(&["gateway", "allow", "a"]);
    a.sync();
    assert_eq!((a.get("form/3"), hub.export("form").lines().count()), (Some(json!({"n": 3})), 3));
    assert_eq!(a.status()["revoked"], json!(false));
}

#[test]
fn a_hub_that_is_not_the_one_of_the_code_hears_no_secret_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, other) = (Hub::start(&folder.path().join("hub")), Hub::start(&folder.path().join("other")));
    let (a, code) = (folder.path().join("a"), code(&hub, "a"));
    let dir = a.to_string_lossy().into_owned();
    let misled = command("outpost", &["enroll", &other.url(), &code, "--data-dir", &dir]);
    assert_eq!(misled.status.code(), Some(3), "{misled:?}");
    // The secret was not sent, so it was not used.
    must("outpost", &["enroll", &code, "--data-dir", &dir]);
}

#[test]
fn a_hub_behind_a_proxy_that_ends_tls_knows_its_gateways() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::take();
    let config = "tls = \"proxy\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let hub = Hub::start_as(&folder.path().join("hub"), "http", config);
    let unnamed = command("outpost-hub", &["certificate", "proxy", "--data-dir", &hub.data_dir()]);
    assert_eq!(unnamed.status.code(), Some(2), "{unnamed:?}");
    hub.command(&["init", "--name", &place.address().to_string()]);
    let (own, gateways) = (hub.command(&["certificate", "proxy"]), hub.command(&["certificate", "authority"]));
    place.serve(&own, &gateways, hub.url().replacen("http://", "", 1));
    let (a, b) = (Gateway::start(&folder.path().join("a")), Gateway::start(&folder.path().join("b")));
    a.command(&["enroll", &code(&hub, "a")]);
    b.command(&["enroll", &code(&hub, "b")]);
    a.put("patient/p1", &json!({"name": "Asha"}));
    a.sync();
    b.sync();
    assert_eq!(b.get("patient/p1"), Some(json!({"name": "Asha"})));
    hub.command(&["gateway", "revoke", "b"]);
    assert_eq!(command("outpost", &["sync", "--data-dir", &b.data_dir()]).status.code(), Some(5));
}

#[test]
fn plain_http_is_served_to_this_machine_only() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, "tls = \"off\"\n").unwrap();
    let (config, dir) = (config.to_string_lossy().into_owned(), folder.path().to_string_lossy().into_owned());
    let told = command("outpost-hub", &["serve", "--config", &config, "--data-dir", &dir, "--listen", "0.0.0.0:0"]);
    assert_eq!(told.status.code(), Some(2), "{told:?}");
}
