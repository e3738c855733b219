//! Scenario f: one record that the hub cannot accept, with three that depend on it, among five thousand.

use outpost_tests::process::{Gateway, Hub, wait_for};
use serde_json::{Value, json};

#[test]
fn f_one_bad_record_holds_up_only_its_three_dependants_among_five_thousand() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let a = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    hub.proxy.set_down(true);
    let rules = "version = 1\n[types.visit]\nparents = { patient = \"patient\" }\n[types.patient.fields]\nsex = { required = true }\n";
    hub.publish(rules);
    let mut lines = String::new();
    for n in 0..2_499 {
        lines.push_str(&format!("{}\n", json!({"type": "patient", "id": format!("p{n}"), "body": {"sex": "female"}})));
        lines.push_str(&format!(
            "{}\n",
            json!({"type": "visit", "id": format!("v{n}"), "body": {"patient": format!("p{n}")}})
        ));
        if n == 1_000 {
            lines.push_str(&format!("{}\n", json!({"type": "patient", "id": "bad", "body": {"name": "x"}})));
            for m in 0..3 {
                lines.push_str(&format!(
                    "{}\n",
                    json!({"type": "visit", "id": format!("bad{m}"), "body": {"patient": "bad"}})
                ));
            }
        }
    }
    let headers = [("content-type", "application/x-ndjson")];
    let (status, answer) = a.ask("POST", "/v1/batch", &headers, Some(&Value::String(lines)));
    assert_eq!((status, answer.lines().count()), (200, 5_002));
    hub.proxy.set_down(false);
    a.sync();
    a.sync();
    assert_eq!(hub.export("patient").lines().count() + hub.export("visit").lines().count(), 4_998);
    assert_eq!(a.count("parked"), 4);
    let here = a.command(&["parked", "list"]);
    assert!(here.contains("patient/bad   sex is required"), "{here}");
    assert!(here.contains("visit/bad0   waits for patient/bad"), "{here}");
    let there = hub.command(&["quarantine", "list"]);
    assert!(there.contains("patient/bad") && there.contains("sex is required"), "{there}");

    a.put("patient/bad", &json!({"name": "x", "sex": "male"}));
    wait_for("the rest to be freed", || {
        a.sync();
        (a.count("parked") == 0).then_some(())
    });
    assert_eq!(hub.export("patient").lines().count() + hub.export("visit").lines().count(), 5_002);
    assert_eq!(a.sync()["agrees"], json!(true));
    assert_eq!(a.count("repairs"), 0);
}
