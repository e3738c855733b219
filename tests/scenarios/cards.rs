//! Scenario e: cards are copied, put back and moved, and nobody loses a record.

use std::path::Path;

use outpost_tests::process::{Gateway, Hub};
use serde_json::{Value, json};

/// What lies on a card: the whole folder, with the program switched off.
fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn save(gateway: &Gateway, box_name: &str, from: usize, count: usize) {
    for n in from..from + count {
        gateway.put(&format!("form/{box_name}-{n}"), &json!({"n": n}));
    }
}

fn fleet(hub: &Hub) -> Vec<Value> {
    let listed: Value = serde_json::from_str(&hub.command(&["gateway", "list", "--json"])).unwrap();
    listed.as_array().or_else(|| listed["items"].as_array()).unwrap().clone()
}

fn names(hub: &Hub) -> Vec<String> {
    fleet(hub).iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn e_both_cards_run_at_once_in_two_boxes_and_no_record_of_either_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    let mut a = Gateway::enrolled(&first, &hub, "a", "mw");
    save(&a, "both", 0, 5);
    a.sync();
    // Work that only the card knows of goes onto both.
    save(&a, "unsent", 0, 3);
    a.kill();
    copy(&first, &second);
    a.restart();
    let b = Gateway::start_in_box(&second, "b");
    for round in 0..4 {
        save(&a, "a", round * 5, 5);
        a.sync();
        save(&b, "b", round * 5, 5);
        b.sync();
    }
    a.sync();
    b.sync();
    let central = hub.export("form");
    assert_eq!(central.lines().count(), 5 + 3 + 20 + 20);
    assert_eq!(a.export("form"), central);
    assert_eq!(b.export("form"), central);
    let [one, other] = fleet(&hub).try_into().expect("the admins see two");
    // By these a technician tells which box is which; who came first after the copy keeps the name.
    for gateway in [&a, &b] {
        let is_here = |row: &Value| row["box"] == gateway.status()["box"];
        let (here, there) = if is_here(&one) { (&one, &other) } else { (&other, &one) };
        assert!(is_here(here) && !is_here(there), "{here} {there}");
        let told = format!("{} (box {})", there["name"].as_str().unwrap(), there["box"].as_str().unwrap());
        assert_eq!(here["twins"], told);
    }
    // And nobody has to look for it.
    let audit = hub.command(&["audit", "export"]);
    let alarm = audit.lines().find(|line| line.contains("\"what\":\"part-twin\"")).expect("an alarm");
    for gateway in [&a, &b] {
        assert!(alarm.contains(gateway.status()["box"].as_str().unwrap()), "{alarm}");
    }
    let list = hub.command(&["gateway", "list"]);
    assert!(list.lines().all(|line| line.contains("card")), "{list}");
}

#[test]
fn e_yesterdays_card_is_put_back_and_new_records_sync_under_no_old_number() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let (card, image) = (folder.path().join("a"), folder.path().join("image"));
    let mut a = Gateway::enrolled(&card, &hub, "a", "mw");
    save(&a, "old", 0, 5);
    a.sync();
    a.kill();
    copy(&card, &image);
    a.restart();
    for day in 0..3 {
        save(&a, "today", day * 5, 5);
        a.sync();
    }
    a.kill();
    copy(&image, &card);
    a.restart();
    save(&a, "after", 0, 5);
    a.sync();
    let central = hub.export("form");
    assert_eq!(central.lines().count(), 5 + 15 + 5);
    assert_eq!(a.export("form"), central);
    assert_eq!(names(&hub), ["a"], "it is one box, and stays one");
}

#[test]
fn e_what_a_card_wrote_before_it_was_put_back_comes_back_to_a_restored_hub_write_by_write() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&folder.path().join("hub"));
    let (card, image) = (folder.path().join("a"), folder.path().join("image"));
    let mut a = Gateway::enrolled(&card, &hub, "a", "mw");
    a.sync();
    let backup = folder.path().join("backup.db");
    hub.command(&["backup", &backup.to_string_lossy()]);
    for n in 1..=3 {
        a.put("form/course", &json!({"n": n}));
    }
    a.sync();
    a.kill();
    copy(&card, &image);
    a.restart();
    save(&a, "today", 0, 5);
    a.sync();
    a.kill();
    copy(&image, &card);
    a.restart();
    save(&a, "after", 0, 5);
    a.sync();
    hub.kill();
    hub.command(&["restore", &backup.to_string_lossy()]);
    hub.restart();
    a.sync();
    assert_eq!(hub.export("form").lines().count(), 1 + 5 + 5);
    // Shown with its record alone, only the last of the three would be known.
    let (_, told) = hub.ask("GET", "/admin/v1/records/form/course/history", None);
    let told: Value = serde_json::from_str(&told).unwrap();
    let values: Vec<_> =
        told["history"].as_array().unwrap().iter().map(|write| &write["changes"]["n"]["value"]).collect();
    assert_eq!(values, [3, 2, 1], "{told}");
    let idle = a.sync();
    assert_eq!((idle["exchanges"].as_u64(), idle["agrees"].as_bool()), (Some(1), Some(true)), "{idle}");
}
