//! Letting apps in and throwing them out.

use std::io::{Read, Write};

use serde_json::json;

use super::{Open, request};
use crate::acts::Who;
use crate::apps::Fingerprint;
use crate::config::NetworkConfig;

const PATIENT: &str = "/v1/records/patient/p1";

#[test]
fn an_app_is_let_in_by_a_code_and_speaks_with_its_token() {
    let gateway = Open::start();
    let token = gateway.pair(json!({"name": "tablet 1"}));
    let saved = gateway.ask(&token, "PUT", PATIENT, &["outpost-author: Grace"], r#"{"name": "Asha"}"#);
    assert_eq!(saved.status, 201, "{saved:?}");
    let read = gateway.ask(&token, "GET", &format!("{PATIENT}?meta=true"), &[], "");
    assert_eq!(read.json()["fields"]["name"]["author"], "Grace");
    gateway.ask(&token, "PUT", PATIENT, &[], r#"{"name": "Asha B."}"#);
    let read = gateway.ask(&token, "GET", &format!("{PATIENT}?meta=true"), &[], "");
    assert_eq!(read.json()["fields"]["name"]["author"], "tablet 1", "without a person it is the app");
}

#[test]
fn the_invitation_says_where_who_and_how() {
    let name = NetworkConfig { name: "192.168.4.1".to_owned(), ..NetworkConfig::default() };
    let gateway = Open::start_with(name, None);
    let invited = gateway.ask_local("POST", "/v1/pairings", &[], r#"{"name": "tablet 1"}"#).json();
    let (code, pin) = (invited["code"].as_str().unwrap(), gateway.pin.base64url());
    let port = gateway.network.port();
    assert_eq!(invited["invitation"], format!("outpost://192.168.4.1:{port}/pair?code={code}&pin={pin}"));
    let listed = gateway.ask_local("GET", "/v1/apps", &[], "").json();
    assert_eq!(listed["network"]["pin"], pin);
}

#[test]
fn without_a_token_the_network_gets_nothing() {
    let gateway = Open::start();
    gateway.ask_local("PUT", PATIENT, &[], r#"{"name": "Canary7"}"#);
    for (method, path) in [
        ("GET", PATIENT),
        ("PUT", PATIENT),
        ("GET", "/v1/records/patient"),
        ("GET", "/v1/changes"),
        ("POST", "/v1/batch"),
        ("GET", "/v1/status"),
        ("GET", "/openapi.json"),
        ("GET", "/healthz"),
        ("GET", "/"),
        ("POST", "/pair"),
        ("GET", "/v1/apps"),
        ("POST", "/v1/pairings"),
        ("POST", "/v1/sync"),
        ("GET", "/nowhere"),
    ] {
        for token in ["", "opa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            let answer = gateway.ask(token, method, path, &[], "");
            assert!(
                matches!((token, answer.status), (_, 401) | ("opa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 429)),
                "{method} {path}: {answer:?}"
            );
            assert!(!answer.body.contains("Canary7"));
        }
    }
}

#[test]
fn with_a_token_the_network_does_not_get_what_is_for_technicians() {
    let gateway = Open::start();
    let token = gateway.pair(json!({"name": "tablet"}));
    for (method, path) in [
        ("GET", "/"),
        ("POST", "/pair"),
        ("POST", "/revoke"),
        ("GET", "/v1/apps"),
        ("DELETE", "/v1/apps/tablet"),
        ("POST", "/v1/pairings"),
        ("POST", "/v1/sync"),
        ("POST", "/v1/enroll"),
    ] {
        let answer = gateway.ask(&token, method, path, &[], r#"{"name": "mine"}"#);
        assert_eq!((answer.status, answer.kind().as_str()), (404, "not-found"), "{method} {path}");
    }
    let document = gateway.ask(&token, "GET", "/openapi.json", &[], "").json();
    assert!(document["paths"]["/v1/pair"].is_object() && document["paths"]["/v1/pairings"].is_null());
}

#[test]
fn a_code_is_good_once() {
    let gateway = Open::start();
    let code = json!({"code": gateway.code(json!({"name": "tablet"}))}).to_string();
    assert_eq!(gateway.ask("", "POST", "/v1/pair", &[], &code).status, 201);
    let again = gateway.ask("", "POST", "/v1/pair", &[], &code);
    assert_eq!((again.status, again.kind().as_str()), (403, "wrong-code"));
}

#[test]
fn guessing_codes_is_slowed_also_when_the_guess_is_right() {
    let gateway = Open::start();
    let code = gateway.code(json!({"name": "tablet"}));
    for _ in 0..5 {
        assert_eq!(gateway.ask("", "POST", "/v1/pair", &[], r#"{"code": "0000-0000"}"#).status, 403);
    }
    let right = gateway.ask("", "POST", "/v1/pair", &[], &json!({"code": code}).to_string());
    assert_eq!((right.status, right.kind().as_str()), (429, "slow-down"));
}

#[test]
fn guessing_tokens_is_slowed_and_who_has_one_is_not() {
    let gateway = Open::start();
    let token = gateway.pair(json!({"name": "tablet"}));
    for _ in 0..5 {
        let answer = gateway.ask("opa_guess", "GET", PATIENT, &[], "");
        assert_eq!((answer.status, answer.kind().as_str()), (401, "not-paired"));
        assert!(answer.head.contains("www-authenticate: bearer"), "{answer:?}");
    }
    assert_eq!(gateway.ask("opa_guess", "GET", PATIENT, &[], "").status, 429);
    assert_eq!(gateway.ask(&token, "GET", PATIENT, &[], "").status, 404);
}

#[test]
fn a_stolen_token_is_worth_nothing_once_it_is_revoked_and_stays_so() {
    let gateway = Open::start();
    let token = gateway.pair(json!({"name": "tablet 1"}));
    let other = gateway.pair(json!({"name": "tablet 2"}));
    assert_eq!(gateway.ask(&token, "GET", PATIENT, &[], "").status, 404);
    assert_eq!(gateway.ask_local("DELETE", "/v1/apps/tablet%201", &[], "").status, 204);
    assert_eq!(gateway.ask(&token, "GET", PATIENT, &[], "").status, 401);
    assert_eq!(gateway.ask_local("DELETE", "/v1/apps/tablet%201", &[], "").status, 404);
    let gateway = Open::start_in(gateway.stop(), NetworkConfig::default(), None);
    assert_eq!(gateway.ask(&token, "GET", PATIENT, &[], "").status, 401);
    assert_eq!(gateway.ask(&other, "GET", PATIENT, &[], "").status, 404, "and after a start the others are let in");
}

#[test]
fn a_stream_that_is_open_ends_with_its_token() {
    let gateway = Open::start();
    let token = gateway.pair(json!({"name": "tablet"}));
    gateway.ask_local("PUT", "/v1/records/patient/before", &[], r#"{"a": 1}"#);
    let headers = [&format!("authorization: Bearer {token}"), "accept: text/event-stream"];
    let mut stream = gateway.connect();
    let ask = request(&gateway.network.to_string(), "GET", "/v1/changes", &headers, "");
    stream.write_all(ask.as_bytes()).unwrap();
    let mut seen = Vec::new();
    let mut goes_on_until = |word: &str| {
        while !String::from_utf8_lossy(&seen).contains(word) {
            let mut some = [0; 1_024];
            match stream.read(&mut some) {
                Ok(read) if read > 0 => seen.extend_from_slice(&some[..read]),
                _ => return false,
            }
        }
        true
    };
    assert!(goes_on_until("before"));
    gateway.ask_local("DELETE", "/v1/apps/tablet", &[], "");
    gateway.ask_local("PUT", "/v1/records/patient/after", &[], r#"{"a": 1}"#);
    assert!(!goes_on_until("after"));
}

#[test]
fn a_write_whose_body_is_still_coming_when_the_token_is_revoked_is_refused() {
    let gateway = Open::start();
    let token = gateway.pair(json!({"name": "tablet"}));
    let bearer = format!("authorization: Bearer {token}");
    let whole =
        request(&gateway.network.to_string(), "PUT", PATIENT, &[&bearer, "expect: 100-continue"], r#"{"a": 1}"#);
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    let mut stream = gateway.connect();
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).unwrap();
    // The gateway asks for the body: it has let the request in.
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).unwrap();
    assert!(asked.starts_with(b"HTTP/1.1 100"));
    gateway.ask_local("DELETE", "/v1/apps/tablet", &[], "");
    stream.write_all(body.as_bytes()).unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    assert!(String::from_utf8_lossy(&said).starts_with("HTTP/1.1 401"), "{}", String::from_utf8_lossy(&said));
    assert_eq!(gateway.ask_local("GET", PATIENT, &[], "").status, 404);
}

#[test]
fn pairing_a_name_again_ends_its_token_when_the_new_code_is_used() {
    let gateway = Open::start();
    let first = gateway.pair(json!({"name": "tablet"}));
    let code = gateway.code(json!({"name": "tablet"}));
    assert_eq!(gateway.ask(&first, "GET", PATIENT, &[], "").status, 404);
    assert_eq!(gateway.ask("", "POST", "/v1/pair", &[], &json!({"code": code}).to_string()).status, 201);
    assert_eq!(gateway.ask(&first, "GET", PATIENT, &[], "").status, 401);
    assert_eq!(gateway.ask_local("GET", "/v1/apps", &[], "").json()["apps"].as_array().unwrap().len(), 1);
}

#[test]
fn the_key_of_the_gateway_stays_and_another_one_is_noticed_before_anything_is_said() {
    let gateway = Open::start();
    let pin = gateway.pin;
    assert!(gateway.connect_to(Fingerprint([7; 32])).is_err(), "somebody in the middle");
    let gateway = Open::start_in(gateway.stop(), NetworkConfig::default(), None);
    assert!(gateway.pin.is(&pin));
}

#[test]
fn what_is_kept_of_a_token_does_not_open() {
    let gateway = Open::start();
    let token = gateway.pair(json!({"name": "tablet"}));
    let dir = gateway.stop();
    let bytes = std::fs::read(dir.path().join("outpost.db")).unwrap();
    let is_in_it = bytes.windows(token.len()).any(|window| window == token.as_bytes());
    assert!(!is_in_it, "the token is in the database");
}

#[test]
fn a_gateway_that_is_closed_says_how_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let config = crate::config::Config::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let problem = runtime.block_on(async {
        let app = crate::run::Gateway::open(folder.path(), &config).unwrap().app;
        crate::api::apps::open_code(&app, Default::default(), &Who::page()).await.unwrap_err()
    });
    assert!(problem.status == 409 && problem.detail.contains("[network]"), "{problem:?}");
}
