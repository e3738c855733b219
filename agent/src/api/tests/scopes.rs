//! An app gets the record types that it was let in for, and no others, whichever way it asks.

use serde_json::{Value, json};

use super::{Answer, Open};
use crate::error::Error;
use crate::store::{Enrolment, SyncReport, Tx};

/// A gateway with a patient, and an app that may read and write visits only.
fn visits_only() -> (Open, String) {
    let gateway = Open::start();
    let saved = gateway.ask_local("PUT", "/v1/records/patient/p1", &[], r#"{"name": "Canary7", "phone": "1"}"#);
    assert_eq!(saved.status, 201, "{saved:?}");
    let token = gateway.pair(json!({"name": "visits", "read": ["visit"], "write": ["visit"]}));
    (gateway, token)
}

fn refused(answer: &Answer) {
    assert_eq!((answer.status, answer.kind().as_str()), (403, "not-allowed"), "{answer:?}");
    assert!(!answer.body.contains("Canary7"));
}

#[test]
fn one_by_one() {
    let (gateway, token) = visits_only();
    let merge = ["content-type: application/merge-patch+json"];
    refused(&gateway.ask(&token, "GET", "/v1/records/patient/p1", &[], ""));
    refused(&gateway.ask(&token, "GET", "/v1/records/patient/p1?meta=true", &[], ""));
    refused(&gateway.ask(&token, "GET", "/v1/records/patient/p1/history", &[], ""));
    refused(&gateway.ask(&token, "GET", "/v1/records/patient", &[], ""));
    refused(&gateway.ask(&token, "GET", "/v1/records/patient?name=Canary7", &[], ""));
    refused(&gateway.ask(&token, "PUT", "/v1/records/patient/p1", &[], r#"{"name": "x"}"#));
    refused(&gateway.ask(&token, "PUT", "/v1/records/patient/p2", &[], r#"{"name": "x"}"#));
    refused(&gateway.ask(&token, "PATCH", "/v1/records/patient/p1", &merge, r#"{"name": "x"}"#));
    refused(&gateway.ask(&token, "DELETE", "/v1/records/patient/p1", &[], ""));
    refused(&gateway.ask(&token, "POST", "/v1/records/patient", &[], r#"{"name": "x"}"#));
    refused(&gateway.ask(&token, "GET", "/v1/records/%70atient/p1", &[], ""));
    refused(&gateway.ask(&token, "GET", "/v1/records/Patient/p1", &[], ""));
    assert_eq!(gateway.ask(&token, "PUT", "/v1/records/visit/v1", &[], r#"{"n": 1}"#).status, 201);
    assert_eq!(gateway.ask(&token, "GET", "/v1/records/visit/v1", &[], "").status, 200);
    let untouched = gateway.ask_local("GET", "/v1/records/patient/p1", &[], "").json();
    assert_eq!(untouched, json!({"name": "Canary7", "phone": "1"}));
}

#[test]
fn who_is_refused_is_told_the_command_that_keeps_what_it_may_already() {
    let (gateway, token) = visits_only();
    let told = |token: &str, method: &str, path: &str| {
        let answer = gateway.ask(token, method, path, &[], "{}");
        answer.json()["detail"].as_str().unwrap().split_once("gateway: ").unwrap().1.to_owned()
    };
    let patient = "/v1/records/patient/p1";
    assert_eq!(told(&token, "GET", patient), "outpost pair 'visits' --read 'patient,visit' --write 'visit'");
    assert_eq!(told(&token, "PUT", patient), "outpost pair 'visits' --read 'visit' --write 'patient,visit'");
    let board = gateway.pair(json!({"name": "nurse's $board", "read": ["*"]}));
    assert_eq!(told(&board, "PUT", patient), "outpost pair 'nurse'\\''s $board' --read '*' --write 'patient'");
}

#[test]
fn the_status_for_an_app_says_nothing_of_hub_files_and_errors() {
    let (gateway, token) = visits_only();
    let enrol = |tx: &mut Tx<'_>| -> Result<(), Error> {
        let report = SyncReport {
            attempt_ms: 9,
            error_class: Some("offline".to_owned()),
            error: Some("Canary7".to_owned()),
            ..SyncReport::default()
        };
        tx.set_sync_report(&report)?;
        let (hub_url, name) = ("https://canary7.example".to_owned(), "zomba-1".to_owned());
        tx.set_enrolment(&Enrolment { hub_url, name, device: 7, enrolled_ms: 5, identity: None })
    };
    gateway.store.as_ref().unwrap().blocking_write(enrol).unwrap();
    let (own, app) =
        (gateway.ask_local("GET", "/v1/status", &[], ""), gateway.ask(&token, "GET", "/v1/status", &[], ""));
    assert_eq!(own.json()["hub"], "https://canary7.example");
    assert!(own.body.contains("Canary7"));
    assert!(!app.body.to_lowercase().contains("canary7"), "{app:?}");
    assert_eq!((&app.json()["gateway"], &app.json()["error_class"]), (&json!("zomba-1"), &json!("offline")));
}

#[test]
fn in_a_batch_a_line_fails_alone() {
    let (gateway, token) = visits_only();
    let lines = "{\"type\":\"patient\",\"id\":\"p1\",\"body\":{\"name\":\"x\"}}\n\
                 {\"type\":\"visit\",\"id\":\"v1\",\"body\":{\"n\":1}}\n\
                 {\"op\":\"delete\",\"type\":\"patient\",\"id\":\"p1\"}\n";
    let headers = ["content-type: application/x-ndjson", "outpost-author: Grace"];
    let answer = gateway.ask(&token, "POST", "/v1/batch", &headers, lines);
    let statuses: Vec<u64> = answer
        .body
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| line.get("status").and_then(Value::as_u64))
        .collect();
    assert_eq!(statuses, [403, 201, 403], "{answer:?}");
    let visit = gateway.ask(&token, "GET", "/v1/records/visit/v1?meta=true", &[], "").json();
    assert_eq!(visit["fields"]["n"]["author"], "Grace");
}

#[test]
fn in_lists_of_several_types_the_others_are_left_out() {
    let (gateway, token) = visits_only();
    let feed = gateway.ask(&token, "GET", "/v1/changes", &[], "").json();
    assert_eq!(feed["changes"], json!([]), "{feed}");
    assert!(feed["next"].as_u64() > Some(0), "it does not look at them again");
    gateway.ask(&token, "PUT", "/v1/records/visit/v1", &[], r#"{"n": 1}"#);
    let feed = gateway.ask(&token, "GET", "/v1/changes?wait=60", &[], "").json();
    assert_eq!(feed["changes"].as_array().unwrap().len(), 1);
    assert_eq!(feed["changes"][0]["type"], "visit");
    let status = gateway.ask(&token, "GET", "/v1/status", &[], "").json();
    assert_eq!(status["records"], json!([{"type": "visit", "count": 1}]));
    assert_eq!(gateway.ask(&token, "GET", "/v1/parked", &[], "").json(), json!({"parked": []}));
}

#[test]
fn conflicts_of_other_types_are_left_out() {
    let gateway = Open::start();
    gateway.rule("version = 1\n[types.patient.fields]\nname = \"keep-both\"\n");
    let put = |headers: &[&str], body: &str| gateway.ask_local("PUT", "/v1/records/patient/p1", headers, body).json();
    let read = put(&[], r#"{"name": "Canary7"}"#);
    put(&[], r#"{"name": "Canary7 B."}"#);
    put(&[&format!("if-match: \"{}\"", read["etag"].as_str().unwrap())], r#"{"name": "Canary7 C."}"#);
    let conflicts = |types: &str| {
        let token = gateway.pair(json!({"name": types, "read": [types]}));
        gateway.ask(&token, "GET", "/v1/conflicts", &[], "")
    };
    assert_eq!(conflicts("patient").json()["conflicts"][0]["id"], "p1");
    assert_eq!(conflicts("visit").json(), json!({"conflicts": []}));
}

#[test]
fn settling_and_receipts_are_for_the_types_too() {
    let (gateway, token) = visits_only();
    let settle = r#"{"type": "patient", "id": "p1", "field": "name", "value": "x", "why": "y"}"#;
    refused(&gateway.ask(&token, "POST", "/v1/conflicts/settle", &[], settle));
    let about = |name: &str| json!({"records": [{"type": name, "id": "p1", "etag": "0000000000000000"}]}).to_string();
    refused(&gateway.ask(&token, "POST", "/v1/receipts", &[], &about("patient")));
    assert_eq!(gateway.ask(&token, "POST", "/v1/receipts", &[], &about("visit")).status, 200);
}

#[test]
fn who_may_only_write_does_not_read_and_who_may_only_read_does_not_write() {
    let gateway = Open::start();
    let kiosk = gateway.pair(json!({"name": "kiosk", "write": ["visit"]}));
    let board = gateway.pair(json!({"name": "board", "read": ["*"]}));
    let saved = gateway.ask(&kiosk, "PUT", "/v1/records/visit/v1", &[], r#"{"n": 1}"#);
    assert_eq!(saved.status, 201);
    refused(&gateway.ask(&kiosk, "GET", "/v1/records/visit/v1", &[], ""));
    let (etag, id) = (saved.json()["etag"].clone(), "v1");
    let about = json!({"records": [{"type": "visit", "id": id, "etag": etag}]}).to_string();
    let receipt = gateway.ask(&kiosk, "POST", "/v1/receipts", &[], &about).json();
    assert_eq!(receipt["records"][0]["here"], true, "but it learns that what it wrote is safe");
    assert_eq!(gateway.ask(&board, "GET", "/v1/records/visit/v1", &[], "").status, 200);
    refused(&gateway.ask(&board, "DELETE", "/v1/records/visit/v1", &[], ""));
}

/// Every path of the document is asked by an app that may do nothing: none of them knows of the patient.
#[test]
fn an_app_without_any_right_learns_nothing_on_any_path() {
    let (gateway, _) = visits_only();
    let token = gateway.pair(json!({"name": "nothing", "read": [], "write": []}));
    let document = gateway.ask(&token, "GET", "/openapi.json", &[], "").json();
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{type}", "patient").replace("{id}", "p1");
        for method in methods.as_object().unwrap().keys().map(|method| method.to_ascii_uppercase()) {
            let answer = gateway.ask(&token, &method, &path, &[], r#"{"name": "x"}"#);
            let body = answer.body.to_ascii_lowercase();
            assert!(!body.contains("canary7") && !body.contains("p1"), "{method} {path}: {answer:?}");
            assert!(answer.status != 201, "{method} {path}");
            asked += 1;
        }
    }
    assert!(asked >= 16, "{asked}");
    let untouched = gateway.ask_local("GET", "/v1/records/patient/p1", &[], "").json();
    assert_eq!(untouched["name"], "Canary7");
}
