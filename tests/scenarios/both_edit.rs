//! Scenario b: clinic and centre edit one record without knowing of each other.

use outpost_tests::process::{Gateway, Hub};
use serde_json::{Value, json};

const RULES: &str = r#"
version = 1
[types.patient.fields]
allergies = "set"
"#;

/// Both have the patient; then the link goes, the clinic writes one body and the centre the other, and the link returns.
fn both_edit(first: &Value, at_clinic: &Value, at_centre: &Value) -> (tempfile::TempDir, Hub, Gateway) {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    hub.publish(RULES);
    let clinic = Gateway::enrolled(&folder.path().join("clinic"), &hub, "clinic", "mw");
    clinic.put("patient/p1", first);
    clinic.sync();
    hub.proxy.set_down(true);
    clinic.put("patient/p1", at_clinic);
    let (status, answer) = hub.ask("PUT", "/admin/v1/records/patient/p1", Some(at_centre));
    assert_eq!(status, 200, "{answer}");
    hub.proxy.set_down(false);
    clinic.sync();
    assert_eq!(clinic.sync()["agrees"], json!(true));
    assert_eq!(clinic.export("patient"), hub.export("patient"), "both show the same");
    assert_eq!(clinic.count("repairs"), 0);
    (folder, hub, clinic)
}

#[test]
fn b_one_field_is_edited_at_clinic_and_centre_and_neither_value_is_lost() {
    let patient = |phone: &str| json!({"name": "Asha", "phone": phone});
    let (_folder, hub, clinic) = both_edit(&patient("1"), &patient("2 (clinic)"), &patient("3 (centre)"));
    assert_eq!(clinic.count("conflicts"), 1);
    let shown = clinic.command(&["conflicts", "show", "patient/p1"]);
    assert!(shown.contains("2 (clinic)") && shown.contains("3 (centre)"), "both stand side by side: {shown}");

    // A person at the clinic decides; the centre follows, and the other number stays in the history.
    clinic.command(&["conflicts", "settle", "patient/p1", "phone", "--value", "\"2 (clinic)\"", "--why", "called her"]);
    clinic.sync();
    assert_eq!(hub.command(&["conflicts", "list"]).trim(), "none");
    assert!(hub.export("patient").contains("2 (clinic)"));
    let (_, history) = clinic.ask("GET", "/v1/records/patient/p1/history", &[], None);
    assert!(history.contains("3 (centre)"), "{history}");
}

#[test]
fn b_an_item_is_removed_on_one_side_and_edited_on_the_other_and_the_edit_stays() {
    let mild = json!({"substance": "peanut", "reaction": "rash"});
    let severe = json!({"substance": "peanut", "reaction": "anaphylaxis"});
    let patient = |allergies: &[&Value]| json!({"name": "Asha", "allergies": allergies});
    let latex = json!({"substance": "latex"});
    // The clinic takes the entry off the list; the centre learns how bad it is.
    let (_folder, hub, clinic) =
        both_edit(&patient(&[&latex, &mild]), &patient(&[&latex]), &patient(&[&latex, &severe]));
    let allergies = clinic.get("patient/p1").unwrap()["allergies"].clone();
    let allergies = allergies.as_array().unwrap();
    assert_eq!(allergies.len(), 2, "{allergies:?}");
    assert!(allergies.contains(&latex) && allergies.contains(&severe), "what was learned is there: {allergies:?}");
    assert!(hub.export("patient").contains("anaphylaxis"));
}

#[test]
fn b_a_list_without_a_rule_keeps_both_versions_of_it_for_a_person() {
    let patient = |drugs: &[&str]| json!({"name": "Asha", "drugs": drugs});
    let (_folder, _hub, clinic) =
        both_edit(&patient(&["amoxicillin 250", "zinc"]), &patient(&["zinc"]), &patient(&["amoxicillin 500", "zinc"]));
    assert_eq!(clinic.count("conflicts"), 1);
    let shown = clinic.command(&["conflicts", "show", "patient/p1"]);
    let shown = serde_json::from_str::<Value>(&shown).unwrap().to_string();
    assert!(shown.contains(r#"["amoxicillin 500","zinc"]"#) && shown.contains(r#"["zinc"]"#), "{shown}");
}
