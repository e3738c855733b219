//! What is wrong with a box is seen at the box, and at the hub by whoever can send somebody there.

use std::fs;
use std::path::Path;
use std::process::Command;

use outpost_tests::process::{Gateway, Hub, program};
use serde_json::{Value, json};

fn set(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

const ALARM: &str = "sys/class/hwmon/hwmon0/in0_lcrit_alarm";

/// A compute module with a weak supply and a worn card.
fn board(root: &Path) {
    set(root, "proc/device-tree/model", "Raspberry Pi Compute Module 4 Rev 1.1\0");
    set(root, "sys/class/hwmon/hwmon0/name", "rpi_volt\n");
    set(root, ALARM, "1\n");
    set(root, "sys/block/mmcblk0/device/name", "BJTD4R\n");
    set(root, "sys/block/mmcblk0/device/life_time", "0x09 0x02\n");
    set(root, "sys/block/mmcblk0/device/pre_eol_info", "0x01\n");
}

fn at_hub(hub: &Hub) -> Value {
    let listed: Value = serde_json::from_str(&hub.command(&["gateway", "list", "--json"])).unwrap();
    listed[0].clone()
}

fn doctor(gateway: &Gateway, root: &Path) -> String {
    let mut command = Command::new(program("outpost"));
    command.args(["doctor", "--data-dir", &gateway.data_dir()]).env("OUTPOST_TEST_ROOT", root);
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

#[test]
fn a_weak_supply_and_a_worn_card_are_seen_at_the_box_and_at_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("system");
    board(&root);
    let hub = Hub::start(&folder.path().join("hub"));
    let mut gateway = Gateway::start_on_board(&folder.path().join("a"), &root);
    gateway.enroll(&hub, "a", "mw");
    gateway.sync();
    assert_eq!(gateway.status()["board"]["power"]["weak_now"], json!(true));
    assert_eq!(gateway.status()["board"]["cards"][0]["worn_percent"], json!(90));
    let (_, page) = gateway.ask("GET", "/", &[], None);
    assert!(page.contains("WARNING    power supply: it is too weak now"), "{page}");
    let told = doctor(&gateway, &root);
    assert!(
        told.contains("warn  power supply: it is too weak now") && told.contains("official power supply"),
        "{told}"
    );
    assert!(told.contains("warn  card: BJTD4R is worn, 90 % of its life is used"), "{told}");

    let seen = at_hub(&hub);
    let weak = "the power supply is too weak: use the board's official one";
    let worn = "the card is worn, 90 %: replace it at the next visit";
    assert_eq!((&seen["box_warnings"], &seen["card_worn_percent"]), (&json!([weak, worn]), &json!(90)), "{seen}");
    assert!(hub.command(&["gateway", "list"]).contains(weak));

    // Nothing changed: an idle exchange is as small as ever.
    let idle = gateway.sync()["bytes_up"].as_u64().unwrap();
    // It has been weak since the start, until somebody mends it and starts the box again.
    set(&root, ALARM, "0\n");
    assert_eq!(gateway.sync()["bytes_up"].as_u64().unwrap(), idle);
    assert_eq!(at_hub(&hub)["box_warnings"], json!([weak, worn]));
    let told = doctor(&gateway, &root);
    assert!(told.contains("warn  power supply: it has been too weak"), "the gateway remembers it: {told}");
    gateway.restart();
    gateway.sync();
    assert_eq!(at_hub(&hub)["box_warnings"], json!([worn]));
    // What changes between two starts is told at the next exchange.
    set(&root, ALARM, "1\n");
    assert!(gateway.sync()["bytes_up"].as_u64().unwrap() > idle);
    assert_eq!(at_hub(&hub)["box_warnings"], json!([weak, worn]));
    assert_eq!(gateway.sync()["bytes_up"].as_u64().unwrap(), idle);
}
