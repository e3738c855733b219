//! What apps are told of a record that the card has damaged.

use serde_json::json;

use super::*;
use crate::store::FILE_NAME;

const CHILD: &str = "/v1/records/child/c";
const JSON: &str = "Content-Type: application/json";

/// A gateway with a record that is whole and one that was damaged before it was sent.
fn with_damaged_child() -> Open {
    let open = Open::start();
    for path in [CHILD, "/v1/records/child/d"] {
        assert_eq!(open.ask_local("PUT", path, &[JSON], r#"{"weight": 7}"#).status, 201);
    }
    let dir = open.stop();
    let db = rusqlite::Connection::open(dir.path().join(FILE_NAME)).unwrap();
    let spoilt = "UPDATE history SET op = CAST(substr(op, 1, length(op) - 4) || x'00ff00ff' AS BLOB) \
                  WHERE number = (SELECT newest FROM records WHERE id = 'c')";
    assert_eq!(db.execute(spoilt, []).unwrap(), 1);
    drop(db);
    Open::start_in(dir, NetworkConfig::default(), None)
}

#[test]
fn it_is_not_gone_and_not_new() {
    let open = with_damaged_child();
    let read = open.ask_local("GET", CHILD, &[], "");
    assert_eq!((read.status, read.kind().as_str()), (503, "unreadable"), "{read:?}");
    let list = open.ask_local("GET", "/v1/records/child", &[], "").json();
    let ids: Vec<&str> = list["records"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert_eq!((ids, &list["unreadable"]), (vec!["d"], &json!(["c"])));
    // A page ends at it, and the next goes on behind it.
    let first = open.ask_local("GET", "/v1/records/child?limit=1", &[], "").json();
    assert_eq!(first, json!({"records": [], "unreadable": ["c"], "next": "c"}));
    let next = open.ask_local("GET", "/v1/records/child?limit=1&after=c", &[], "").json();
    assert_eq!((next["records"].as_array().unwrap().len(), &next["unreadable"]), (1, &Value::Null));
    let feed = open.ask_local("GET", "/v1/changes", &[], "").json();
    assert!(feed["changes"].as_array().unwrap().iter().all(|change| change["gone"] == json!(false)), "{feed}");
    let history = open.ask_local("GET", &format!("{CHILD}/history"), &[], "");
    assert_eq!(history.status, 200);
}

#[test]
fn only_what_needs_nothing_of_it_is_taken() {
    let open = with_damaged_child();
    let patch = "Content-Type: application/merge-patch+json";
    for (method, headers, body) in [
        ("PATCH", &[patch][..], r#"{"weight": 8}"#),
        ("DELETE", &[], ""),
        ("PUT", &[JSON, "If-Match: \"0011223344556677\""], r#"{"weight": 8}"#),
    ] {
        let refused = open.ask_local(method, CHILD, headers, body);
        assert_eq!((refused.status, refused.kind().as_str()), (503, "unreadable"), "{method}: {refused:?}");
    }
    let lines = "{\"type\":\"child\",\"id\":\"c\",\"op\":\"delete\"}\n{\"type\":\"child\",\"id\":\"e\",\"body\":{}}\n";
    let batch = open.ask_local("POST", "/v1/batch", &["Content-Type: application/x-ndjson"], lines);
    let statuses: Vec<Value> = batch.body.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let statuses: Vec<&Value> = statuses.iter().filter_map(|line| line.get("status")).collect();
    assert_eq!(statuses, [&json!(503), &json!(201)], "{batch:?}");
    let new = open.ask_local("PUT", CHILD, &[JSON, "If-None-Match: *"], r#"{"weight": 8}"#);
    assert_eq!(new.status, 412, "there is one: {new:?}");
    let put = open.ask_local("PUT", CHILD, &[JSON], r#"{"weight": 8}"#);
    assert_eq!((put.status, &put.json()["result"]), (200, &json!("changed")), "{put:?}");
    assert_eq!(open.ask_local("GET", CHILD, &[], "").json(), json!({"weight": 8}));
    assert_eq!(open.ask_local("DELETE", CHILD, &[], "").status, 200);
}
