//! Two gateways edit one record while the link is down; people settle at the centre and at the clinic.

use outpost_tests::process::{Gateway, Hub};
use serde_json::{Value, json};

const RULES: &str = r#"
version = 1
[types.patient.fields]
alive = "keep-both"
allergies = "set"
visits = "counter"
"#;

struct World {
    _folder: tempfile::TempDir,
    hub: Hub,
    a: Gateway,
    b: Gateway,
}

/// Both gateways hold the patient, and the link is down.
fn offline_with(body: &Value) -> World {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    hub.publish(RULES);
    let a = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw/zomba");
    let b = Gateway::enrolled(&folder.path().join("b"), &hub, "b", "mw/zomba");
    a.put("patient/p1", body);
    a.sync();
    b.sync();
    assert_eq!(b.get("patient/p1").as_ref(), Some(body));
    hub.proxy.set_down(true);
    World { _folder: folder, hub, a, b }
}

impl World {
    fn reconnect(&self) {
        self.hub.proxy.set_down(false);
        for gateway in [&self.a, &self.b, &self.a, &self.b] {
            gateway.sync();
        }
    }

    fn patch(&self, at: &Gateway, patch: &Value) {
        let headers = [("content-type", "application/merge-patch+json"), ("outpost-author", "nurse")];
        let (status, answer) = at.ask("PATCH", "/v1/records/patient/p1", &headers, Some(patch));
        assert_eq!(status, 200, "{answer}");
    }
}

#[test]
fn different_fields_both_survive_and_the_same_field_is_settled_at_the_hub() {
    let w = offline_with(&json!({"name": "Asha", "phone": "1", "allergies": ["latex"], "visits": 2}));
    w.patch(&w.a, &json!({"name": "Asha B.", "phone": "2", "visits": 3}));
    w.patch(&w.b, &json!({"phone": "3", "allergies": ["latex", "peanut"], "visits": 4}));
    w.reconnect();
    for gateway in [&w.a, &w.b] {
        let body = gateway.get("patient/p1").unwrap();
        assert_eq!(body["name"], json!("Asha B."));
        assert_eq!(body["allergies"], json!(["latex", "peanut"]));
        assert_eq!(body["visits"], json!(5));
        assert_eq!(body["phone"], json!("3"), "the later write is shown");
        assert_eq!(gateway.count("conflicts"), 1);
    }
    let listed = w.hub.command(&["conflicts", "list"]);
    assert!(listed.contains("patient/p1") && listed.contains("phone"), "{listed}");
    w.hub.command(&["conflicts", "settle", "patient/p1", "phone", "--value", "\"2\"", "--why", "she was called"]);
    w.reconnect();
    for gateway in [&w.a, &w.b] {
        assert_eq!(gateway.get("patient/p1").unwrap()["phone"], json!("2"));
        assert_eq!(gateway.count("conflicts"), 0);
        let (_, history) = gateway.ask("GET", "/v1/records/patient/p1/history", &[], None);
        assert!(history.contains("\"value\":\"3\""), "the value that lost is in the history: {history}");
    }
}

#[test]
fn a_conflict_settled_at_a_clinic_reaches_the_other_and_the_hub() {
    let w = offline_with(&json!({"name": "Asha", "alive": "alive"}));
    w.patch(&w.a, &json!({"alive": "dead"}));
    w.patch(&w.b, &json!({"alive": "moved"}));
    w.reconnect();
    assert_eq!(w.a.count("conflicts"), 1);
    let slip = json!({"type": "patient", "id": "p1", "field": "name", "value": "x", "why": "a slip"});
    let (status, told) = w.b.ask("POST", "/v1/conflicts/settle", &[], Some(&slip));
    assert!(status == 409 && told.contains("In conflict: alive."), "{status} {told}");
    w.b.command(&["conflicts", "settle", "patient/p1", "alive", "--value", "\"moved\"", "--why", "visited her"]);
    w.reconnect();
    assert_eq!(w.a.get("patient/p1").unwrap()["alive"], json!("moved"));
    assert_eq!(w.a.count("conflicts"), 0);
    assert_eq!(w.hub.command(&["conflicts", "list"]).trim(), "none");
}

#[test]
fn a_delete_that_did_not_know_of_an_edit_waits_for_a_person() {
    let w = offline_with(&json!({"name": "Asha", "phone": "1"}));
    let (status, _) = w.a.ask("DELETE", "/v1/records/patient/p1", &[], None);
    assert_eq!(status, 200);
    w.patch(&w.b, &json!({"phone": "2"}));
    w.reconnect();
    assert_eq!(w.a.get("patient/p1").unwrap()["phone"], json!("2"), "the record is back for review");
    w.a.command(&["conflicts", "settle", "patient/p1", "--delete", "--why", "it was a duplicate"]);
    w.reconnect();
    assert_eq!(w.b.get("patient/p1"), None);
}

#[test]
fn an_edit_at_the_centre_is_an_edit_like_any_other() {
    let w = offline_with(&json!({"name": "Asha", "phone": "1"}));
    let (status, answer) =
        w.hub.ask("PUT", "/admin/v1/records/patient/p1", Some(&json!({"name": "Asha Banda", "phone": "1"})));
    assert_eq!(status, 200, "{answer}");
    w.patch(&w.b, &json!({"phone": "2"}));
    w.reconnect();
    assert_eq!(w.a.get("patient/p1").unwrap(), json!({"name": "Asha Banda", "phone": "2"}));
    assert_eq!(w.a.count("conflicts"), 0);
}
