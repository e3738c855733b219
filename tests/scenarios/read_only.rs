//! A card that takes no writes any more: what is on it is served and sent, nothing new is taken, and nothing is lost or doubled.

use outpost_tests::process::{Gateway, Hub, may_mount};
use serde_json::{Value, json};

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

fn visits(hub: &Hub) -> usize {
    hub.export("visit").lines().count()
}
