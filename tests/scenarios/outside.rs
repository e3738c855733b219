//! Types that only their own place writes to, with the real programs and the commands of who decides.

use outpost_tests::process::{Gateway, Hub};
use serde_json::json;

const RULES: &str = r#"
version = 1
[types.patient]
scope = "facility"
outside = "hold"
"#;

#[test]
fn what_another_place_writes_to_a_shut_type_waits_until_somebody_at_the_centre_lets_it_go() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    hub.publish(RULES);
    let [zomba, balaka] =
        ["zomba", "balaka"].map(|name| Gateway::enrolled(&folder.path().join(name), &hub, name, &format!("mw/{name}")));
    zomba.sync();
    zomba.put("patient/n-77", &json!({"facility": "mw/zomba", "name": "Asha", "blood": "A"}));
    zomba.sync();
    let before = hub.export("patient");

    balaka.sync();
    balaka.put("patient/n-77", &json!({"facility": "mw/balaka", "name": "Asha B.", "blood": "0"}));
    balaka.put("patient/n-78", &json!({"facility": "mw/balaka", "name": "Bina"}));
    balaka.sync();
    let there = hub.command(&["quarantine", "list"]);
    assert!(there.contains("patient/n-77") && there.contains("outside of the scopes"), "{there}");
    assert!(!there.contains("n-78"), "its own are no matter of anybody: {there}");
    let here = balaka.command(&["parked", "list"]);
    assert!(here.contains("patient/n-77") && here.contains("outside of the scopes"), "{here}");
    let others: Vec<_> = before.lines().collect();
    assert!(others.iter().all(|line| hub.export("patient").contains(line)), "nothing of it is at the centre");
    zomba.sync();
    assert_eq!(zomba.get("patient/n-77").unwrap()["blood"], "A");

    let change = there.split_whitespace().next().expect("how the change is named");
    hub.command(&["quarantine", "release", change]);
    zomba.sync();
    let shown = zomba.command(&["conflicts", "show", "patient/n-77"]);
    assert!(
        shown.contains("Asha B.") && shown.contains("\"A\""),
        "both values are there, and somebody decides: {shown}"
    );
}
