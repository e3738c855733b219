//! A card that takes no writes any more: what is on it is served and sent, nothing new is taken, and nothing is lost or doubled.

use std::process::Output;

use outpost_tests::process::{Gateway, Hub, may_mount, say, wait_for};
use serde_json::{Value, json};

const PASSPHRASE: &str = "moto nyumba mvula njinga";

#[test]
fn what_is_on_it_is_served_and_sent_and_nothing_is_doubled_on_the_next_card() {
    if !may_mount() {
        println!("skipped: this machine lets nobody mount anything");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let memory = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let other = Gateway::enrolled(&folder.path().join("other"), &hub, "other", "mw");
    let mut gateway = Gateway::enrolled(&folder.path().join("gateway"), &hub, "chingale", "mw");
    gateway.put("visit/sent", &json!({"n": 1}));
    gateway.sync();
    gateway.put("visit/unsent", &json!({"n": 2}));
    // The second time the card is as it was the first time, and the hub further.
    for round in 0..2 {
        gateway.restart_read_only(memory.path());
        assert_eq!(gateway.get("visit/unsent"), Some(json!({"n": 2})), "round {round}");
        let (status, answer) = gateway.ask("PUT", "/v1/records/visit/new", &[], Some(&json!({"n": 3})));
        assert!(status == 507 && answer.contains("card-read-only"), "{status} {answer}");
        assert_eq!(gateway.get("visit/new"), None);
        assert_eq!(gateway.status()["board"]["card_read_only"], json!(true));
        other.put(&format!("visit/other-{round}"), &json!({"n": round}));
        other.sync();
        gateway.sync();
        assert_eq!(gateway.get(&format!("visit/other-{round}")), Some(json!({"n": round})));
        assert_eq!(visits(&hub), 3 + round, "round {round}");
    }
    let list: Value = serde_json::from_str(&hub.command(&["gateway", "list", "--json"])).unwrap();
    assert!(list.to_string().contains("the card is at its end"), "the hub's admin is told: {list}");
    // What the first, which was killed, left behind is gone.
    assert_eq!(std::fs::read_dir(memory.path()).unwrap().count(), 1);
    gateway.restart();
    gateway.put("visit/new", &json!({"n": 3}));
    gateway.sync();
    assert_eq!(visits(&hub), 5);
    assert_eq!(gateway.status()["unsent"], json!(0));
    for key in ["visit/sent", "visit/unsent", "visit/new", "visit/other-0", "visit/other-1"] {
        assert!(gateway.get(key).is_some(), "{key}");
    }
}

#[test]
fn an_encrypted_one_is_unlocked_where_it_waits_and_its_commands_find_it() {
    if !may_mount() {
        println!("skipped: this machine lets nobody mount anything");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let memory = tempfile::tempdir().unwrap();
    let card = folder.path().join("card");
    std::fs::create_dir(&card).unwrap();
    std::fs::write(card.join("outpost.toml"), "[encryption]\nkey = \"passphrase\"\n").unwrap();
    let (dir, said) = (card.to_string_lossy().into_owned(), format!("{PASSPHRASE}\n"));
    let on_card =
        |args: &[&str]| say("outpost", &[args, &["--data-dir", &dir, "--passphrase-fd", "0"]].concat(), &said);
    must_be_done(&on_card(&["key", "encrypt", "--new"]));
    let mut gateway = Gateway::start(&card);
    wait_until(&gateway, 503);
    must_be_done(&on_card(&["unlock"]));
    wait_until(&gateway, 200);
    gateway.put("visit/kept", &json!({"n": 1}));
    gateway.kill();
    let slots = std::fs::read(card.join("outpost.db-keys")).unwrap();
    gateway.restart_read_only(memory.path());
    wait_until(&gateway, 503);
    let wrong = gateway.say_read_only(memory.path(), &["unlock"], "moto nyumba mvula njingo\n");
    assert!(wrong.status.code() == Some(4) && told(&wrong).contains("nothing was changed"), "{wrong:?}");
    for args in [&["key", "recover"][..], &["key", "rotate"], &["key", "decrypt"], &["key", "renew"]] {
        let refused = gateway.say_read_only(memory.path(), args, &said);
        assert_eq!(refused.status.code(), Some(4), "{args:?}: {refused:?}");
        assert!(told(&refused).contains("takes no writes") && told(&refused).contains("outpost unlock"), "{refused:?}");
    }
    must_be_done(&gateway.say_read_only(memory.path(), &["unlock"], &said));
    wait_until(&gateway, 200);
    assert_eq!(gateway.get("visit/kept"), Some(json!({"n": 1})));
    // At another address than the card says.
    let status = gateway.say_read_only(memory.path(), &["status", "--json"], "");
    must_be_done(&status);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["board"]["card_read_only"], json!(true), "{status}");
    let listed = gateway.say_read_only(memory.path(), &["records", "list", "visit"], "");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("kept"), "{listed:?}");
    gateway.kill();
    // What has ended serves nothing; only one that runs makes itself a copy.
    let alone = gateway.say_read_only(memory.path(), &["sync"], "");
    assert!(!alone.status.success() && told(&alone).contains("start outpost again"), "{alone:?}");
    assert_eq!(std::fs::read(card.join("outpost.db-keys")).unwrap(), slots);
}

fn wait_until(gateway: &Gateway, status: u16) {
    let asked = || (gateway.ask("GET", "/v1/status", &[], None).0 == status).then_some(());
    wait_for("the gateway to wait, or to be open", asked);
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn must_be_done(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

fn visits(hub: &Hub) -> usize {
    hub.export("visit").lines().count()
}
