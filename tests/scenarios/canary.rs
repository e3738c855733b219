//! No data of people and no secret in what the programs say of themselves, however much they are asked to say. Every other scenario
//! takes part as well, with the log as it is by default: see `outpost_tests::canary`.

use outpost_tests::canary;
use outpost_tests::process::{Gateway, Hub, command};
use serde_json::{Value, json};

const RULES: &str = r#"
version = 1
[types.patient]
stream = "urgent"
[types.patient.fields]
alive = { rule = "keep-both", one_of = ["yes", "no"] }
allergies = "set"
log = "append-only"
[types.visit]
parents = { patient = "patient" }
"#;

/// A patient of whom every word would be recognised.
fn patient(name: &str) -> Value {
    json!({
        "name": name, "alive": "yes", "allergies": ["canary penicillin allergy"], "log": ["canary was seen by nurse"],
        "address": {"street": "canary street 7", "phones": ["0999 canary 1", "0999 canary 2"]},
        "surname": "Nkhalamba", "born": "1961-07-21", "phone": "0888123456", "id_card": "MW77A12", "mobile": 265_888_123_456_u64,
    })
}

#[test]
fn logs_errors_and_status_never_repeat_what_is_in_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&folder.path().join("hub"));
    hub.publish(RULES);
    hub.restart_telling_all();
    let mut a = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw/zomba");
    let mut b = Gateway::enrolled(&folder.path().join("b"), &hub, "b", "mw/zomba");
    a.restart_telling_all();
    b.restart_telling_all();
    let person = [("outpost-author", "canary nurse Mary")];
    canary::note_values(&json!(["canary nurse Mary"]));

    // What is taken, edited on both sides, settled, deleted.
    for (gateway, name) in [(&a, "canary Asha Banda"), (&b, "canary Bina Phiri")] {
        gateway.put("patient/p1", &patient(name));
        let (status, told) = gateway.ask("PUT", "/v1/records/patient/p2", &person, Some(&patient("canary Chisomo")));
        assert_eq!(status, 201, "{told}");
    }
    a.sync();
    b.sync();
    a.sync();
    a.ask("DELETE", "/v1/records/patient/p2", &person, None);
    b.put("patient/p2", &json!({"name": "canary edited meanwhile", "alive": "no"}));
    let central = json!({"name": "canary of the centre", "alive": "no"});
    let (status, told) = hub.ask("PUT", "/admin/v1/records/patient/p1", Some(&central));
    assert_eq!(status, 200, "{told}");
    a.sync();
    b.sync();

    // What is refused, and what waits.
    for (method, path, body) in [
        ("PUT", "/v1/records/patient/p3", json!({"alive": "canary perhaps alive"})),
        ("PUT", "/v1/records/patient/p3", json!({"alive": "Perhaps", "born": "1961-07-22"})),
        ("PUT", "/v1/records/patient/canary%20id%20with%20spaces", patient("canary D")),
        ("PUT", "/v1/records/patient/p3", json!("{\"name\": \"canary that is cut off")),
        ("PATCH", "/v1/records/patient/p1", json!({"alive": ["canary in a list"]})),
        (
            "POST",
            "/v1/batch",
            json!({"records": [{"type": "patient", "id": "p4", "body": {"alive": "canary in a batch"}}]}),
        ),
        ("POST", "/v1/settle", json!({"canary of no use": "canary of no use"})),
    ] {
        let (status, told) = a.ask(method, path, &person, Some(&body));
        canary::note_values(&body);
        assert!(status >= 400 || path == "/v1/batch", "{method} {path}: {status} {told}");
    }
    a.put("visit/v1", &json!({"patient": "p9", "note": "canary visit that waits"}));
    a.sync();
    let file = folder.path().join("import.ndjson");
    std::fs::write(
        &file,
        "{\"id\": \"p5\", \"name\": \"canary in a file\", \"alive\": \"canary neither\"}\n{\"canary broken",
    )
    .unwrap();
    canary::note_values(&json!(["canary in a file", "canary neither", "canary broken"]));
    command("outpost", &["import", "patient", &file.to_string_lossy(), "--data-dir", &a.data_dir()]);

    // What people and machines read about the programs.
    for (gateway, path) in
        [(&a, "/v1/status"), (&b, "/v1/status"), (&a, "/healthz"), (&a, "/v1/conflicts?limit=no"), (&a, "/nothing")]
    {
        let (_, told) = gateway.ask("GET", path, &[], None);
        canary::check(path, &told);
    }
    for path in ["/admin/v1/gateways", "/admin/v1/digest", "/admin/v1/nothing", "/"] {
        let (_, told) = hub.ask("GET", path, None);
        canary::check(path, &told);
    }
    canary::check(
        "doctor",
        &String::from_utf8_lossy(&command("outpost", &["doctor", "--data-dir", &a.data_dir()]).stdout),
    );

    for name in ["hub", "a", "b"] {
        let log = folder.path().join(name).join("log");
        let told = std::fs::read_to_string(&log).unwrap();
        assert!(told.contains("INFO"), "{name} has a log: {told}");
        canary::check_log(&log);
    }
}

/// The check itself, of what has no space in it.
#[test]
#[should_panic(expected = "has \"1944-02-29\" in it")]
fn a_date_of_birth_in_a_log_is_found() {
    canary::note_values(&json!({"born": "1944-02-29"}));
    let log = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(log.path(), "INFO saved\nINFO saved born=1944-02-29\n").unwrap();
    canary::check_log(log.path());
}

/// The check itself: a log with a value or a secret in it is found.
#[test]
#[should_panic(expected = "has \"canary of the check itself\" in it")]
fn a_value_in_a_log_is_found() {
    canary::note_values(&json!({"list": [{"deep": "canary of the check itself"}]}));
    let log = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(log.path(), "INFO saved\nINFO saved canary of the check itself\n").unwrap();
    canary::check_log(log.path());
}
