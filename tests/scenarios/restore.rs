//! Scenario g: the hub is put back to an older state, and nothing that was acknowledged is lost.

use std::path::Path;

use outpost_tests::process::{Gateway, Hub};
use serde_json::json;

fn save(gateway: &Gateway, name: &str, count: usize) {
    for n in 0..count {
        gateway.put(&format!("form/{name}-{n}"), &json!({"n": n, "by": name}));
    }
}

/// Three gateways work for a week; the hub is then as it was at its beginning, and `put_back` has done that. Two bring back what
/// the hub had acknowledged, one of them with work that is not sent yet. The third burned down meanwhile: what it sent in that
/// week comes back from one that holds it.
fn a_lost_week(put_back: impl FnOnce(&mut Hub, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&folder.path().join("hub"));
    let a = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    let mut b = Gateway::enrolled(&folder.path().join("b"), &hub, "b", "mw");
    let c = Gateway::enrolled(&folder.path().join("c"), &hub, "c", "mw");
    save(&a, "before", 10);
    a.sync();
    b.sync();
    let backup = folder.path().join("backup.db");
    hub.command(&["backup", &backup.to_string_lossy()]);
    save(&a, "week-a", 20);
    save(&b, "week-b", 20);
    a.put("form/before-3", &json!({"n": 3, "by": "changed in the lost week"}));
    save(&c, "week-c", 20);
    a.sync();
    assert_eq!(a.count("not_backed_up"), 20 + 1, "what only the hub's own disk has is told from what a backup has");
    b.sync();
    c.sync();
    a.sync();
    // The second gateway burns down; what it sent is at the first one and, until now, at the hub.
    b.kill();
    save(&a, "unsent", 5);
    put_back(&mut hub, &backup);
    for n in 0..3 {
        let (status, answer) =
            hub.ask("PUT", &format!("/admin/v1/records/form/centre-{n}?scope=mw"), Some(&json!({"n": n})));
        assert!(status == 200 || status == 201, "{status} {answer}");
    }
    for gateway in [&a, &c, &a] {
        gateway.sync();
    }
    let central = hub.export("form");
    assert_eq!(central.lines().count(), 10 + 20 + 20 + 20 + 5 + 3, "{central}");
    assert!(central.contains("changed in the lost week"));
    for gateway in [&a, &c] {
        let idle = gateway.sync();
        assert_eq!((idle["exchanges"].as_u64(), idle["agrees"].as_bool()), (Some(1), Some(true)), "{idle}");
        assert_eq!(gateway.export("form"), central);
        assert_eq!(gateway.count("repairs"), 0, "a restore is no bug");
    }
}

#[test]
fn g_the_hub_is_restored_from_last_weeks_backup_and_gets_back_what_it_lost() {
    a_lost_week(|hub, backup| {
        hub.kill();
        let told = hub.command(&["restore", &backup.to_string_lossy()]);
        assert!(told.contains("each gateway brings back the rest"), "{told}");
        hub.restart();
    });
}

#[test]
fn g_the_hub_is_put_back_by_hand_notices_it_and_gets_back_what_it_lost() {
    a_lost_week(|hub, backup| {
        hub.kill();
        let place = Path::new(&hub.data_dir()).join("hub.db");
        for beside in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{beside}", place.display()));
        }
        std::fs::copy(backup, &place).unwrap();
        hub.restart();
    });
}

#[test]
fn g_a_gateway_that_came_in_the_lost_week_comes_again_with_a_code_and_brings_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&folder.path().join("hub"));
    let backup = folder.path().join("backup.db");
    hub.command(&["backup", &backup.to_string_lossy()]);
    let a = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    save(&a, "week-a", 5);
    a.sync();
    save(&a, "unsent", 2);
    hub.kill();
    hub.command(&["restore", &backup.to_string_lossy()]);
    hub.restart();
    // The hub knows nothing of it, and may be anybody's: a person says that it is the one.
    a.command(&["enroll", "--new-hub", &hub.proxied(), &hub.code("a", "mw")]);
    a.sync();
    assert_eq!(hub.export("form").lines().count(), 7);
    assert_eq!(hub.export("form"), a.export("form"));
}
