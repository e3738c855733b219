//! What an app developer meets: answers, refusals, versions, feeds; all by HTTP.

use std::io::{BufRead, BufReader, Write};

use outpost_tests::process::{Gateway, Hub, wait_for};
use serde_json::{Value, json};

const RULES: &str = r#"
version = 1
[types.patient.fields]
sex = { one_of = ["female", "male"], required = true }
blood_group = "immutable"
"#;

fn alone() -> (tempfile::TempDir, Gateway) {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&folder.path().join("a"));
    (folder, gateway)
}

fn problem(answer: &str) -> (u64, String) {
    let problem: Value = serde_json::from_str(answer).unwrap_or_else(|e| panic!("{answer}: {e}"));
    (problem["status"].as_u64().unwrap(), problem["type"].as_str().unwrap().to_owned())
}

#[test]
fn refusals_are_problem_documents_that_say_what_to_do() {
    let (_folder, gateway) = alone();
    let text = |t: &str| Value::String(t.to_owned());
    let json_type = [("content-type", "application/json")];
    for (method, path, headers, body, status, kind) in [
        ("PUT", "/v1/records/patient/p1", &json_type[..], Some(text("{")), 400, "malformed-request"),
        ("PUT", "/v1/records/patient/p1", &json_type, Some(text("[1]")), 400, "malformed-request"),
        ("PUT", "/v1/records/1x/p1", &json_type, Some(json!({})), 400, "malformed-request"),
        (
            "PUT",
            "/v1/records/patient/p1",
            &[("content-type", "text/plain")],
            Some(text("x")),
            415,
            "unsupported-media-type",
        ),
        ("PUT", "/v1/records/patient/p1", &json_type, Some(json!({"x": "y".repeat(300_000)})), 413, "too-large"),
        ("PATCH", "/v1/records/patient/p1", &json_type, Some(json!({})), 415, "unsupported-media-type"),
        ("GET", "/v1/records/patient/none", &[], None, 404, "not-found"),
        ("GET", "/v1/nowhere", &[], None, 404, "not-found"),
        ("GET", "/v1/records/patient?limit=0", &[], None, 400, "malformed-request"),
    ] {
        let (got, answer) = gateway.ask(method, path, headers, body.as_ref());
        assert_eq!((u64::from(got), kind.to_owned()), (status, problem(&answer).1), "{method} {path}: {answer}");
        assert_eq!(problem(&answer).0, status);
    }
}

#[test]
fn rules_are_held_at_the_desk_with_the_field_named_and_no_value() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    hub.publish(RULES);
    let gateway = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    let (status, answer) = gateway.ask("PUT", "/v1/records/patient/p1", &[], Some(&json!({"sex": "Canary7"})));
    assert_eq!(status, 422, "{answer}");
    assert!(answer.contains("\"field\":\"sex\"") && answer.contains("one of female, male"), "{answer}");
    assert!(!answer.contains("Canary7"), "{answer}");
    gateway.put("patient/p1", &json!({"sex": "female", "blood_group": "A"}));
    let (status, answer) =
        gateway.ask("PUT", "/v1/records/patient/p1", &[], Some(&json!({"sex": "female", "blood_group": "B"})));
    assert_eq!(status, 422, "{answer}");
    assert!(answer.contains("blood_group"), "{answer}");
}

#[test]
fn versions_protect_from_lost_updates_and_merge_what_does_not_clash() {
    let (_folder, gateway) = alone();
    let first = gateway.put("patient/p1", &json!({"name": "Asha", "phone": "1"}));
    let tag = format!("\"{}\"", first["etag"].as_str().unwrap());
    gateway.put("patient/p1", &json!({"name": "Asha", "phone": "2"}));
    let stale = [("if-match", tag.as_str())];
    let (status, answer) =
        gateway.ask("PUT", "/v1/records/patient/p1", &stale, Some(&json!({"name": "Asha B.", "phone": "1"})));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(gateway.get("patient/p1").unwrap(), json!({"name": "Asha B.", "phone": "2"}));
    let (_, answer) =
        gateway.ask("PUT", "/v1/records/patient/p1", &stale, Some(&json!({"name": "Asha", "phone": "3"})));
    assert!(answer.contains("\"conflicts\":[\"phone\"]"), "{answer}");
    let (status, _) = gateway.ask("PUT", "/v1/records/patient/p1", &[("if-none-match", "*")], Some(&json!({})));
    assert_eq!(status, 412);
    let (status, _) = gateway.ask("PUT", "/v1/records/patient/p2", &[("if-none-match", "*")], Some(&json!({"a": 1})));
    assert_eq!(status, 201);
    let (status, _) =
        gateway.ask("PUT", "/v1/records/patient/p1", &[("if-match", "\"0000000000000000\"")], Some(&json!({})));
    assert_eq!(status, 412);
}

#[test]
fn a_repeated_post_gives_the_same_answer_and_one_record() {
    let (_folder, gateway) = alone();
    let key = [("idempotency-key", "tablet-7-000123")];
    let (status, first) = gateway.ask("POST", "/v1/records/visit", &key, Some(&json!({"a": 1, "b": 2})));
    assert_eq!(status, 201);
    let (status, again) = gateway.ask("POST", "/v1/records/visit", &key, Some(&json!({"b": 2, "a": 1})));
    assert_eq!((status, &again), (201, &first));
    let (status, answer) = gateway.ask("POST", "/v1/records/visit", &key, Some(&json!({"a": 3})));
    assert_eq!((status, problem(&answer).1.as_str()), (409, "idempotency-key-reused"));
    let (_, listed) = gateway.ask("GET", "/v1/records/visit", &[], None);
    assert_eq!(listed.matches("\"id\"").count(), 1, "{listed}");
}

#[test]
fn numbers_and_unknown_fields_come_back_as_they_were() {
    let (_folder, gateway) = alone();
    let text =
        r#"{"big":123456789012345678901234567890,"deep":{"a":[1,{"b":null}]},"exact":0.1234567890123456789,"x.y":1}"#;
    let (status, _) = gateway.ask(
        "PUT",
        "/v1/records/form/f1",
        &[("content-type", "application/json")],
        Some(&Value::String(text.to_owned())),
    );
    assert_eq!(status, 201);
    assert_eq!(gateway.ask("GET", "/v1/records/form/f1", &[], None).1, text);
}

#[test]
fn a_long_poll_and_a_stream_tell_of_a_neighbours_write() {
    let (_folder, gateway) = alone();
    gateway.put("patient/p1", &json!({"name": "Asha"}));
    let (_, feed) = gateway.ask("GET", "/v1/changes?since=0", &[], None);
    let next = serde_json::from_str::<Value>(&feed).unwrap()["next"].as_u64().unwrap();

    let stream = std::net::TcpStream::connect(gateway.url().trim_start_matches("http://")).unwrap();
    let mut request = stream.try_clone().unwrap();
    write!(request, "GET /v1/changes?since={next} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n")
        .unwrap();
    let mut events = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(events.any(|line| line.starts_with("content-type: text/event-stream")));

    let url = gateway.url();
    let poll = std::thread::spawn(move || {
        outpost_tests::process::ask("GET", &format!("{url}/v1/changes?since={next}&wait=30"), &[], None).1
    });
    gateway.put("patient/p2", &json!({"name": "Banda"}));
    assert!(poll.join().unwrap().contains("\"p2\""));
    let event = events.find(|line| line.starts_with("data:")).unwrap();
    assert!(event.contains("\"p2\""), "{event}");
}

#[test]
fn receipts_tell_here_from_at_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let gateway = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    hub.proxy.set_down(true);
    let saved = gateway.put("patient/p1", &json!({"name": "Asha"}));
    let question = json!({"records": [{"type": "patient", "id": "p1", "etag": saved["etag"]}, {"type": "patient", "id": "p9", "etag": "x"}]});
    let ask = || {
        let (_, answer) = gateway.ask("POST", "/v1/receipts", &[], Some(&question));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let of = |n: usize| {
            (answer["records"][n]["here"].as_bool().unwrap(), answer["records"][n]["at_hub"].as_bool().unwrap())
        };
        (of(0), of(1))
    };
    assert_eq!(ask(), ((true, false), (false, false)));
    hub.proxy.set_down(false);
    gateway.sync();
    wait_for("the hub to have it", || (ask() == ((true, true), (false, false))).then_some(()));
}

#[test]
fn an_app_is_told_when_a_record_belongs_to_another_catchment() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    hub.publish("version = 1\n[types.patient]\nscope = \"facility\"\n");
    let gateway = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw/zomba");
    let here = gateway.put("patient/p1", &json!({"name": "Asha", "facility": "mw/zomba/chingale"}));
    let mistyped = gateway.put("patient/p2", &json!({"name": "Bina", "facility": "mw/zmoba/chingale"}));
    assert_eq!((here.get("leaves_for"), mistyped["leaves_for"].as_str()), (None, Some("mw/zmoba/chingale")));
    gateway.sync();
    assert!(gateway.get("patient/p1").is_some() && gateway.get("patient/p2").is_none());
    assert_eq!(hub.export("patient").lines().count(), 2, "it is not lost");
}

#[test]
fn the_document_names_every_path_that_answers() {
    let (_folder, gateway) = alone();
    let (_, text) = gateway.ask("GET", "/openapi.json", &[], None);
    let document: Value = serde_json::from_str(&text).unwrap();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    for path in [
        "/v1/records/{type}/{id}",
        "/v1/records/{type}",
        "/v1/batch",
        "/v1/changes",
        "/v1/receipts",
        "/v1/status",
        "/healthz",
    ] {
        assert!(paths.iter().any(|p| *p == path), "{path} is not in {paths:?}");
    }
    // Every path of the document answers something else than "no such path".
    for path in paths {
        let url = path.replace("{type}", "patient").replace("{id}", "p1");
        let (status, answer) = gateway.ask("OPTIONS", &url, &[], None);
        assert_eq!(status, 405, "{path}: {answer}");
    }
}
