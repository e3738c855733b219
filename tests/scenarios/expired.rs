//! A gateway that was without a link for longer than its certificate is valid.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outpost_tests::preload::Later;
use outpost_tests::process::{Gateway, Hub};
use serde_json::{Value, json};

const DAY: Duration = Duration::from_secs(86_400);
/// As they are by default.
const VALID: u32 = 90;
const GRACE: u32 = 180;

/// The certificate that it would show, and what the hub's admin sees of it.
fn certificate(gateway: &Gateway) -> Vec<u8> {
    let file = format!("{}/outpost.db", gateway.data_dir());
    let db = rusqlite::Connection::open_with_flags(file, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    db.query_row("SELECT certificate FROM enrolment", [], |row| row.get(0)).unwrap()
}

/// So much later, in a new boot of the box, and at the hub.
fn pass(days: u32, hub: &mut Hub, gateway: &mut Gateway, later: &Later) {
    let ahead = DAY * days;
    hub.restart_in(later.by(ahead));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + ahead;
    gateway.boot(&format!("after-{days}-days"), i64::try_from(now.as_millis()).unwrap());
}

fn save(gateway: &Gateway, id: &str) {
    gateway.put(&format!("patient/{id}"), &json!({"name": "Asha"}));
}

/// The centre has these; its commands know what time it is there.
fn assert_at_centre(hub: &Hub, ids: &[&str]) {
    for id in ids {
        assert!(hub.command(&["records", "show", &format!("patient/{id}")]).contains("Asha"), "{id}");
    }
}

#[test]
fn an_expired_certificate_renews_itself_within_the_grace_and_takes_a_new_code_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let later = Later::build(folder.path());
    let mut hub = Hub::start(&folder.path().join("hub"));
    let mut gateway = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    gateway.sync();
    let first = certificate(&gateway);
    save(&gateway, "drawer-1");

    let within = VALID + GRACE - 1;
    pass(within, &mut hub, &mut gateway, &later);
    save(&gateway, "drawer-2");
    gateway.sync();
    assert_at_centre(&hub, &["drawer-1", "drawer-2"]);
    let second = certificate(&gateway);
    assert_ne!(second, first, "it renewed itself");
    let audit = hub.command(&["audit", "export"]);
    assert_eq!(audit.matches("renew-certificate").count(), 1, "{audit}");
    gateway.sync();
    assert_eq!(certificate(&gateway), second, "once");

    pass(within + VALID + GRACE + 1, &mut hub, &mut gateway, &later);
    save(&gateway, "drawer-3");
    let (refused, told) = gateway.ask("POST", "/v1/sync", &[], None);
    let told: Value = serde_json::from_str(&told).unwrap();
    let detail = told["detail"].as_str().unwrap();
    assert_eq!((refused, &told["type"]), (502, &json!("denied")), "{told}");
    assert!(detail.contains("expired too long ago") && detail.contains("outpost-hub gateway code"), "{detail}");
    let status = gateway.command(&["status"]);
    assert!(status.contains("expired too long ago"), "{status}");
    assert_eq!(gateway.get("patient/drawer-3"), Some(json!({"name": "Asha"})), "it goes on saving");
    assert_eq!(gateway.count("unsent"), 1, "{status}");
    assert_eq!(certificate(&gateway), second);

    let code: Value = serde_json::from_str(&hub.command(&["gateway", "code", "a", "--json"])).unwrap();
    gateway.command(&["enroll", &hub.proxied(), code["code"].as_str().unwrap()]);
    gateway.sync();
    assert_at_centre(&hub, &["drawer-3"]);
    assert_ne!(certificate(&gateway), second);
    for id in ["drawer-1", "drawer-2", "drawer-3"] {
        assert_eq!(gateway.get(&format!("patient/{id}")), Some(json!({"name": "Asha"})));
    }
}
