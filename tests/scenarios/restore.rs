//! The hub is put back to an older state, and nothing that was acknowledged is lost.

use std::path::Path;

use outpost_tests::process::{Gateway, Hub};
use serde_json::json;

fn save(gateway: &Gateway, name: &str, count: usize) {
    for n in 0..count {
        gateway.put(&format!("form/{name}-{n}"), &json!({"n": n, "by": name}));
    }
}

/// Two gateways work for a week; the hub is then as it was at its beginning, and `put_back` has done that. One gateway has
/// work that is not sent yet, and what another one sent in that week comes back from the one that holds it.
fn a_lost_week(put_back: impl FnOnce(&mut Hub, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&folder.path().join("hub"));
    let a = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    let mut b = Gateway::enrolled(&folder.path().join("b"), &hub, "b", "mw");
    save(&a, "before", 10);
    a.sync();
    b.sync();
    let backup = folder.path().join("backup.db");
    hub.command(&["backup", &backup.to_string_lossy()]);
    save(&a, "week-a", 20);
    save(&b, "week-b", 20);
    a.put("form/before-3", &json!({"n": 3, "by": "changed in the lost week"}));
    a.sync();
    b.sync();
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
    a.sync();
    let central = hub.export("form");
    assert_eq!(central.lines().count(), 10 + 20 + 20 + 5 + 3, "{central}");
    assert!(central.contains("changed in the lost week"));
    assert_eq!(a.export("form"), central);
    assert_eq!(a.count("repairs"), 0, "a restore is no bug");
    let idle = a.sync();
    assert_eq!((idle["exchanges"].as_u64(), idle["agrees"].as_bool()), (Some(1), Some(true)), "{idle}");
}

#[test]
fn a_hub_restored_by_its_command_gets_back_what_it_lost() {
    a_lost_week(|hub, backup| {
        hub.kill();
        let told = hub.command(&["restore", &backup.to_string_lossy()]);
        assert!(told.contains("each gateway brings back the rest"), "{told}");
        hub.restart();
    });
}

#[test]
fn a_hub_whose_file_was_copied_by_hand_notices_and_gets_back_what_it_lost() {
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
