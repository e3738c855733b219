//! A gateway comes to another hub: that of somebody else, or one that stands where a lost one stood.

use std::fs;
use std::path::Path;

use outpost_tests::process::{Gateway, Hub, command};
use serde_json::{Value, json};

const RULES: &str = r#"
version = 1
[types.patient.fields]
alive = "keep-both"
allergies = "set"
visits = "counter"
"#;

fn save(gateway: &Gateway, name: &str, count: usize) {
    for n in 0..count {
        gateway.put(&format!("form/{name}-{n}"), &json!({"n": n, "by": name}));
    }
}

/// Tries to enrol a gateway that the hub refuses; what it is told.
fn refused(gateway: &Gateway, hub: &Hub, code: &str) -> String {
    let output = command("outpost", &["enroll", &hub.proxied(), code, "--data-dir", &gateway.data_dir()]);
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn bring(gateway: &Gateway, hub: &Hub, code: &str) {
    gateway.command(&["enroll", "--new-hub", &hub.proxied(), code]);
}

/// The hub's disk is gone, and with it every copy; another one is set up under its address.
fn burn_down(hub: &mut Hub) {
    hub.kill();
    let folder = hub.data_dir();
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir_all(&folder).unwrap();
    fs::write(Path::new(&folder).join("config.toml"), "").unwrap();
    hub.restart();
}

#[test]
fn what_one_hub_confirmed_is_not_shown_to_another_unless_a_person_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let there = Hub::start(&folder.path().join("there"));
    let here = Hub::start(&folder.path().join("here"));
    let a = Gateway::enrolled(&folder.path().join("a"), &there, "a", "mw");
    save(&a, "there", 3);
    a.sync();
    let code = here.code("a", "mw");
    let told = refused(&a, &here, &code);
    assert!(told.contains("--new-hub") && told.contains("empty data folder"), "{told}");
    save(&a, "then", 2);
    a.sync();
    assert_eq!((here.export("form"), there.export("form")), (String::new(), a.export("form")), "it is where it was");
    bring(&a, &here, &code);
    a.sync();
    assert_eq!(here.export("form"), a.export("form"));
}

#[test]
fn nothing_that_a_gateway_has_seen_at_one_hub_counts_as_seen_at_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut here = Hub::start(&folder.path().join("here"));
    let desk = |hub: &Hub, alive: &str| {
        let (status, told) = hub.ask("PUT", "/admin/v1/records/patient/asha?scope=mw", Some(&json!({"alive": alive})));
        assert_eq!(status, 201, "{told}");
    };
    here.publish(RULES);
    desk(&here, "no");
    here.restart();
    let there = Hub::start(&folder.path().join("there"));
    there.publish(RULES);
    desk(&there, "unknown");
    let a = Gateway::enrolled(&folder.path().join("a"), &there, "a", "mw");
    a.sync();
    there.proxy.set_down(true);
    a.put("patient/asha", &json!({"alive": "yes"}));
    bring(&a, &here, &here.code("a", "mw"));
    a.sync();
    let told = here.command(&["conflicts", "list"]);
    assert!(told.contains("alive"), "who said yes had not read the no: {told}");
}

#[test]
fn a_gateway_of_which_no_hub_has_anything_may_go_to_any() {
    let folder = tempfile::tempdir().unwrap();
    let there = Hub::start(&folder.path().join("there"));
    let here = Hub::start(&folder.path().join("here"));
    let a = Gateway::start(&folder.path().join("a"));
    a.enroll(&there, "a", "mw");
    there.proxy.set_down(true);
    save(&a, "form", 3);
    a.enroll(&here, "a", "mw");
    a.sync();
    save(&a, "more", 3);
    a.sync();
    assert_eq!(here.export("form").lines().count(), 6);
    assert_eq!(here.export("form"), a.export("form"));
}

#[test]
fn a_hub_that_is_lost_with_every_copy_gets_everything_from_its_gateways() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&folder.path().join("hub"));
    hub.publish(RULES);
    let a = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    let b = Gateway::enrolled(&folder.path().join("b"), &hub, "b", "mw");
    let patient = |at: &Gateway, allergies: &[&str], visits: u32| {
        at.put("patient/asha", &json!({"allergies": allergies, "visits": visits}));
    };
    for n in 1..=5 {
        patient(&a, &["aspirin", "penicillin"][..1 + usize::from(n > 2)], n);
    }
    a.sync();
    b.sync();
    patient(&b, &["aspirin", "latex", "penicillin"], 7);
    save(&b, "b", 3);
    b.sync();
    a.sync();
    // The one work, of which the hub has yet to hear, goes under numbers that a new hub would give again from the first.
    save(&a, "unsent", 2);
    burn_down(&mut hub);
    hub.publish(RULES);
    let code = hub.code("a", "mw");
    assert!(refused(&a, &hub, &code).contains("--new-hub"));
    bring(&a, &hub, &code);
    patient(&a, &["aspirin", "latex", "peanut", "penicillin"], 8);
    a.sync();
    save(&b, "late", 2);
    bring(&b, &hub, &hub.code("b", "mw"));
    patient(&b, &["aspirin", "egg", "latex", "penicillin"], 9);
    for gateway in [&b, &a, &b] {
        gateway.sync();
    }
    let wanted = json!({"allergies": ["aspirin", "egg", "latex", "peanut", "penicillin"], "visits": 10});
    for gateway in [&a, &b] {
        assert_eq!(gateway.get("patient/asha"), Some(wanted.clone()));
        assert_eq!(gateway.export("form"), hub.export("form"));
        let idle: Value = gateway.sync();
        assert_eq!((idle["exchanges"].as_u64(), idle["agrees"].as_bool()), (Some(1), Some(true)), "{idle}");
        assert_eq!((gateway.count("repairs"), gateway.count("conflicts")), (0, 0));
    }
    assert_eq!(hub.export("form").lines().count(), 3 + 2 + 2);
    // What it has now comes back to it as ever.
    let backup = folder.path().join("backup.db");
    hub.command(&["backup", &backup.to_string_lossy()]);
    save(&a, "after", 2);
    a.sync();
    let before = hub.export("form");
    hub.kill();
    hub.command(&["restore", &backup.to_string_lossy()]);
    hub.restart();
    a.sync();
    assert_eq!(hub.export("form"), before);
}
