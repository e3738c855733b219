//! What is done at a gateway that decides about who gets in comes into the audit of the hub, whenever there is a link again.

use std::path::{Path, PathBuf};

use outpost_tests::process::{Gateway, Hub, must};
use serde_json::{Value, json};

use crate::pairing::{curl, status};

/// A card whose key lies on a stick, open to a network, which is this machine.
fn card(folder: &Path) -> (PathBuf, PathBuf) {
    let (card, stick) = (folder.join("a"), folder.join("outpost.key"));
    std::fs::create_dir(&card).unwrap();
    let named = stick.to_string_lossy();
    must("outpost", &["key", "make", &named]);
    let config = format!("[network]\nlisten = \"127.0.0.1:0\"\n[encryption]\nkey = \"file\"\nkey_file = \"{named}\"\n");
    std::fs::write(card.join("outpost.toml"), config).unwrap();
    (card, stick)
}

/// An app uses a code as `outpost pair` shows it; gives the code and the token.
fn pair(gateway: &Gateway, name: &str) -> (String, String) {
    let shown: Value = serde_json::from_str(&gateway.command(&["pair", name, "--json"])).unwrap();
    let told = |key: &str| shown[key].as_str().unwrap().to_owned();
    let url = format!("https://{}/v1/pair", told("address"));
    let body = json!({ "code": told("code") }).to_string();
    let answer = curl(&told("pin"), &[&url, "-H", "content-type: application/json", "-d", &body]);
    assert_eq!(status(&answer), 201, "{answer:?}");
    let welcome: Value = serde_json::from_str(String::from_utf8_lossy(&answer.stdout).lines().next().unwrap()).unwrap();
    (told("code"), welcome["token"].as_str().unwrap().to_owned())
}

/// What the audit has of gateways: each `who did`, and what it was done on.
fn audited(hub: &Hub) -> Vec<(String, Value)> {
    let lines = hub.command(&["audit", "export"]);
    let entries = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_gateways = entries.filter(|entry| entry["what"] == "gateway-act");
    let told = of_gateways.map(|entry| {
        let on: Value = serde_json::from_str(entry["on"].as_str().unwrap()).unwrap();
        assert_eq!((&entry["from"], &on["gateway"]), (&json!("127.0.0.1"), &json!("a")), "{entry}");
        assert!(on["at"].as_str().unwrap().starts_with("20") && on["name"].as_str().unwrap().len() == 16, "{on}");
        (format!("{} {}", entry["who"].as_str().unwrap(), on["did"].as_str().unwrap()), on["on"].clone())
    });
    told.collect()
}

fn names(told: &[(String, Value)]) -> Vec<&str> {
    told.iter().map(|(name, _)| name.as_str()).collect()
}

/// As the programs name whoever runs this test.
fn keyboard(hub: &Hub) -> String {
    let lines = hub.command(&["audit", "export"]);
    let entries = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut who = entries.filter_map(|entry| entry["who"].as_str().map(str::to_owned));
    who.find(|who| who.starts_with("cli:")).expect("a command of the hub")
}

#[test]
fn what_was_done_at_a_gateway_without_a_link_is_in_the_audit_of_the_hub_after_the_next_sync() {
    let folder = tempfile::tempdir().unwrap();
    let (card, stick) = card(folder.path());
    let hub = Hub::start(&folder.path().join("hub"));
    let gateway = Gateway::enrolled(&card, &hub, "a", "mw");
    gateway.sync();
    let who = keyboard(&hub);
    let by = |what: &str| format!("gateway:a/{who} {what}");
    let first = ["gateway:a encrypt".to_owned(), by("enrol"), "gateway:a deposit-key".to_owned()];
    let before = audited(&hub);
    assert!(names(&before).iter().all(|told| first.iter().any(|known| known == told)), "{before:?}");

    hub.proxy.set_down(true);
    let (code, token) = pair(&gateway, "tablet 1");
    gateway.command(&["apps", "revoke", "tablet 1"]);
    gateway.command(&["key", "renew"]);
    let other = folder.path().join("other.key").to_string_lossy().into_owned();
    must("outpost", &["key", "make", &other]);
    gateway.command(&["key", "add", "file", "--key-file", &other]);
    gateway.command(&["key", "remove", "3"]);
    let listed: Value = serde_json::from_str(&gateway.command(&["acts", "--json"])).unwrap();
    let untold = listed["acts"].as_array().unwrap().iter().filter(|act| act["told"] == false).count();
    assert!(untold >= 7, "{listed}");
    assert!(gateway.command(&["acts"]).contains("the hub has not heard of it"));
    assert_eq!(audited(&hub).len(), before.len(), "there is no link");

    hub.proxy.set_down(false);
    gateway.sync();
    let after = audited(&hub);
    let new = &after[before.len()..];
    let has = |name: &str| {
        let found = new.iter().find(|(told, _)| told == name);
        found.map(|(_, on)| on.clone()).unwrap_or_else(|| panic!("{name}: {new:?}"))
    };
    assert_eq!(has(&by("invite-app"))["app"], "tablet 1");
    assert_eq!(has("gateway:a/app:tablet 1 pair-app"), json!({"app": "tablet 1", "address": "127.0.0.1"}));
    assert_eq!(has(&by("revoke-app")), json!({"app": "tablet 1"}));
    let renewed = has(&by("renew-key"));
    assert_eq!(has("gateway:a key-in-force")["key"], renewed["key"]);
    assert_eq!(has(&by("add-key-slot"))["slot"], 3);
    assert_eq!(has(&by("remove-key-slot")), json!({"slot": 3, "by": "file"}));
    hub.command(&["audit", "verify"]);
    let all = hub.command(&["audit", "export"]);
    let key = std::fs::read(&stick).unwrap();
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    for secret in [code, token, hex] {
        assert!(!all.contains(&secret), "a secret is in the audit");
    }
    assert!(!gateway.command(&["acts"]).contains("has not heard"));
    // The copy of the new key goes with the next sync at the latest; then nothing is told any more.
    gateway.sync();
    let settled = audited(&hub).len();
    gateway.sync();
    gateway.sync();
    assert_eq!(audited(&hub).len(), settled, "and once");
}

#[test]
fn a_hub_that_was_put_back_is_told_again_and_a_gateway_that_is_shut_out_tells_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&folder.path().join("hub"));
    let card = folder.path().join("a");
    std::fs::create_dir(&card).unwrap();
    std::fs::write(card.join("outpost.toml"), "[network]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let gateway = Gateway::enrolled(&card, &hub, "a", "mw");
    gateway.sync();
    let copy = folder.path().join("backup.db").to_string_lossy().into_owned();
    hub.command(&["backup", &copy]);
    let known = audited(&hub).len();
    pair(&gateway, "tablet 1");
    gateway.sync();
    let told = audited(&hub);
    assert_eq!(told.len(), known + 2, "{told:?}");
    hub.kill();
    hub.command(&["restore", &copy]);
    hub.restart();
    assert_eq!(audited(&hub).len(), known, "they are gone");
    gateway.sync();
    gateway.sync();
    assert_eq!(names(&audited(&hub)), names(&told), "and back, once");

    hub.command(&["gateway", "revoke", "a"]);
    gateway.command(&["apps", "revoke", "tablet 1"]);
    let (refused, _) = gateway.ask("POST", "/v1/sync", &[], None);
    assert_ne!(refused, 200);
    assert_eq!(audited(&hub).len(), told.len());
    hub.command(&["gateway", "allow", "a"]);
    gateway.sync();
    assert!(audited(&hub).last().unwrap().0.ends_with("revoke-app"));
}

#[test]
fn without_certificates_acts_stay_at_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start_plain(&folder.path().join("hub"));
    let gateway = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    gateway.sync();
    assert!(audited(&hub).is_empty());
    assert!(gateway.command(&["acts"]).contains("enrol"));
    // Also without a gateway that runs.
    let dir = gateway.data_dir();
    drop(gateway);
    assert!(must("outpost", &["acts", "--data-dir", &dir]).contains("enrol"));
}
