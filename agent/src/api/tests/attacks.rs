//! Pages of strangers, names that are bound to the gateway, and requests that are bent.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use sync_protocol::limits::{DEPTH_MAX, FIELDS_MAX};

use super::{Open, PATIENCE, request};
use crate::config::NetworkConfig;

const PATIENT: &str = "/v1/records/patient/p1";

#[test]
fn a_name_that_is_bound_to_the_gateway_is_not_answered_to() {
    let gateway = Open::start();
    let token = gateway.pair(json!({"name": "tablet"}));
    let bearer = format!("authorization: Bearer {token}");
    let port = gateway.local.port();
    for host in ["evil.example", "evil.example:8470", "localhost.evil.example", "192.168.4.1", "localhost."] {
        for (method, path) in [("GET", "/v1/status"), ("POST", "/v1/sync"), ("GET", "/")] {
            let answer = gateway.raw_local(request(host, method, path, &[], "").as_bytes());
            assert_eq!((answer.status, answer.kind().as_str()), (421, "misdirected"), "{host}");
        }
    }
    for host in
        [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}"), "LOCALHOST".to_owned()]
    {
        assert_eq!(gateway.raw_local(request(&host, "GET", "/v1/status", &[], "").as_bytes()).status, 200, "{host}");
    }
    for (host, status) in [("evil.example", 421), ("192.168.4.1:8471", 404), ("[fd00::1]", 404), ("localhost", 404)] {
        let answer = gateway.raw(request(host, "GET", PATIENT, &[&bearer], "").as_bytes());
        assert_eq!(answer.status, status, "{host}: {answer:?}");
    }
}

#[test]
fn a_name_that_is_configured_is_answered_to() {
    let named = NetworkConfig { name: "outpost.lan".to_owned(), ..NetworkConfig::default() };
    let gateway = Open::start_with(named, None);
    let token = gateway.pair(json!({"name": "tablet"}));
    let bearer = format!("authorization: Bearer {token}");
    let answer = gateway.raw(request("outpost.lan:8471", "GET", PATIENT, &[&bearer], "").as_bytes());
    assert_eq!(answer.status, 404, "{answer:?}");
}

#[test]
fn requests_with_no_host_or_two_or_bent_ones_are_refused() {
    let gateway = Open::start();
    let own = gateway.local;
    for head in [
        "GET /v1/status HTTP/1.1\r\n".to_owned(),
        "GET /v1/status HTTP/1.0\r\n".to_owned(),
        format!("GET /v1/status HTTP/1.1\r\nhost: {own}\r\nhost: evil.example\r\n"),
        format!("GET http://evil.example/v1/status HTTP/1.1\r\nhost: {own}\r\n"),
        format!("GET /v1/status HTTP/1.1\r\nhost: evil@{own}\r\n"),
        format!("GET /v1/status HTTP/1.1\r\nhost: {own}\r\nhost : x\r\n"),
        format!("GET /v1/status HTTP/1.1\r\nhost: {own}\r\nx: a\r\n b\r\n"),
    ] {
        let answer = gateway.raw_local(format!("{head}connection: close\r\n\r\n").as_bytes());
        assert!(matches!(answer.status, 400 | 421), "{head:?}: {answer:?}");
    }
}

#[test]
fn a_page_of_a_stranger_cannot_make_a_browser_on_the_box_do_anything() {
    let gateway = Open::start();
    let form = "content-type: application/x-www-form-urlencoded";
    let own = format!("origin: http://{}", gateway.local);
    let pair = "name=evil&read=*&write=*";
    for headers in [
        vec!["origin: https://evil.example"],
        vec!["origin: null"],
        vec!["origin: http://localhost:3000", "sec-fetch-site: same-site"],
        vec!["origin: http://localhost"],
        vec!["sec-fetch-site: cross-site"],
        vec!["sec-fetch-site: same-site"],
        vec![own.as_str(), "origin: https://evil.example"],
    ] {
        for (method, path) in [
            ("POST", "/v1/sync"),
            ("POST", "/pair"),
            ("POST", "/revoke"),
            ("POST", "/v1/pairings"),
            ("GET", "/v1/status"),
        ] {
            let headers = [&headers[..], &[form]].concat();
            let answer = gateway.ask_local(method, path, &headers, pair);
            assert_eq!((answer.status, answer.kind().as_str()), (403, "foreign-page"), "{headers:?} {path}");
        }
    }
    assert_eq!(gateway.ask_local("POST", "/pair", &[form], pair).kind(), "foreign-page", "a form says whose it is");
    let link = ["sec-fetch-site: cross-site", "sec-fetch-mode: navigate", "sec-fetch-dest: document"];
    assert_eq!(gateway.ask_local("GET", "/", &link, "").status, 200, "a person followed a link");
    let frame = ["sec-fetch-site: cross-site", "sec-fetch-mode: navigate", "sec-fetch-dest: iframe"];
    for (method, path, headers) in [("GET", "/", &frame), ("GET", "/v1/status", &link), ("POST", "/pair", &link)] {
        let answer = gateway.ask_local(method, path, headers, pair);
        assert_eq!((answer.status, answer.kind().as_str()), (403, "foreign-page"), "{method} {path}");
        assert!(!answer.body.contains("network.origins"), "which is not for this listener: {answer:?}");
    }
    let answer = gateway.ask_local("POST", "/pair", &[form, &own, "sec-fetch-site: same-origin"], pair);
    assert!(answer.status == 200 && answer.body.contains("<svg"), "{answer:?}");
    assert!(answer.head.contains("frame-ancestors 'none'") && answer.head.contains("no-store"));
}

#[test]
fn the_page_lets_an_app_in_and_out_and_shows_names_as_text() {
    let gateway = Open::start();
    let token = gateway.pair(json!({"name": "<script>alert(1)</script>"}));
    let page = gateway.ask_local("GET", "/", &[], "");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("&lt;script&gt;") && !page.body.contains("<script>"), "{page:?}");
    let own = format!("origin: http://{}", gateway.local);
    let form = ["content-type: application/x-www-form-urlencoded", own.as_str()];
    let answer = gateway.ask_local("POST", "/revoke", &form, "name=%3Cscript%3Ealert(1)%3C%2Fscript%3E");
    assert_eq!(answer.status, 303, "{answer:?}");
    assert_eq!(gateway.ask(&token, "GET", PATIENT, &[], "").status, 401);
}

#[test]
fn pages_are_let_to_the_network_only_from_where_they_are_configured() {
    let origins = vec!["https://clinic.example.org".to_owned()];
    let gateway = Open::start_with(NetworkConfig { origins, ..NetworkConfig::default() }, None);
    let token = gateway.pair(json!({"name": "web"}));
    let (known, foreign) = ("origin: https://clinic.example.org", "origin: https://evil.example");
    let cross = "sec-fetch-site: cross-site";
    let asks = ["access-control-request-method: PUT", "access-control-request-headers: authorization,outpost-author"];
    let preflight = gateway.ask("", "OPTIONS", PATIENT, &[known, asks[0], asks[1]], "");
    assert_eq!(preflight.status, 200, "{preflight:?}");
    assert!(preflight.head.contains("access-control-allow-origin: https://clinic.example.org"), "{preflight:?}");
    assert!(preflight.head.contains("authorization") && preflight.head.contains("outpost-author"), "{preflight:?}");
    let saved = gateway.ask(&token, "PUT", PATIENT, &[known, cross], r#"{"a": 1}"#);
    assert!(saved.status == 201 && saved.head.contains("access-control-allow-origin"), "{saved:?}");
    for headers in [&[foreign, asks[0]][..], &["origin: null"], &[foreign, cross], &[cross]] {
        let method = if headers.contains(&asks[0]) { "OPTIONS" } else { "GET" };
        let answer = gateway.ask(&token, method, PATIENT, headers, "");
        assert_eq!(answer.kind(), "foreign-page", "{headers:?}");
        assert!(!answer.head.contains("access-control"), "{answer:?}");
    }
    let nowhere = Open::start();
    let answer = nowhere.ask("", "OPTIONS", PATIENT, &[known, asks[0]], "");
    assert_eq!(answer.kind(), "foreign-page", "closed unless configured");
    let local = gateway.ask_local("GET", "/v1/status", &[known], "");
    assert_eq!(local.kind(), "foreign-page", "without a token nobody's page is let in");
}

#[test]
fn paths_and_headers_that_are_bent_lead_nowhere() {
    let gateway = Open::start();
    let token = gateway.pair(json!({"name": "visits", "read": ["visit"]}));
    gateway.ask_local("PUT", PATIENT, &[], r#"{"name": "Canary7"}"#);
    for path in [
        "/v1/records/visit/../patient/p1",
        "/v1/records/visit/%2e%2e/patient/p1",
        "/v1/records/visit/..%2fpatient%2fp1",
        "/v1/records/visit%2f..%2fpatient/p1",
        "//v1/records/patient/p1",
        "/v1//records/patient/p1",
        "/v1/records/patient/p1%00",
        "/v1/records/patient%00/p1",
        "/V1/records/patient/p1",
        "/v1/records/patient/p1/",
        "/v1/pair/../records/patient/p1",
        "/v1/pair;/v1/apps",
        "/v1/records/visit/p1?type=patient",
    ] {
        let answer = gateway.ask(&token, "GET", path, &[], "");
        assert!(matches!(answer.status, 400 | 403 | 404), "{path}: {answer:?}");
        assert!(!answer.body.contains("Canary7"), "{path}");
    }
    let bearer = format!("authorization: Bearer {token}");
    let shown = |headers: &[&str]| gateway.ask("", "GET", "/v1/records/visit", headers, "").status;
    assert_eq!(shown(&[&bearer]), 200);
    assert_eq!(shown(&[&bearer.to_ascii_lowercase().replace("bearer", "BEARER")]), 401, "a token is as it is");
    assert_eq!(shown(&["authorization: Bearer x", &bearer]), 401);
    assert_eq!(shown(&[&format!("authorization: Basic {token}")]), 401);
    assert_eq!(shown(&[&format!("x-forwarded-for: 127.0.0.1\r\ncookie: token={token}")]), 401);
    assert_eq!(gateway.ask("", "GET", &format!("/v1/records/visit?token={token}"), &[], "").status, 401);
}

#[test]
fn two_lengths_or_a_length_and_chunks_do_not_smuggle_a_request() {
    let gateway = Open::start();
    let token = gateway.pair(json!({"name": "tablet"}));
    let head = format!(
        "POST /v1/records/visit HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n",
        gateway.network
    );
    for lengths in
        ["content-length: 2\r\ncontent-length: 40\r\n", "content-length: 2\r\ntransfer-encoding: chunked, x\r\n"]
    {
        let answer = gateway.raw(format!("{head}{lengths}\r\n{{}}").as_bytes());
        assert_eq!(answer.status, 400, "{lengths:?}: {answer:?}");
    }
}

#[test]
fn what_is_too_large_is_refused() {
    let gateway = Open::start();
    let token = gateway.pair(json!({"name": "tablet"}));
    let large = json!({"x": "y".repeat(300_000)}).to_string();
    assert_eq!(gateway.ask(&token, "PUT", PATIENT, &[], &large).status, 413);
    assert_eq!(gateway.ask("", "POST", "/v1/pair", &[], &large).status, 413);
    assert_eq!(gateway.ask_local("PUT", PATIENT, &[], &large).status, 413);
    // What is still on its way when the gateway ends the connection can cost the sender the answer: then it hears nothing.
    let is_refused = |answer: u16, with: u16| answer == with || answer == 0;
    assert!(is_refused(gateway.ask(&token, "PUT", PATIENT, &[], &large.repeat(10)).status, 413));
    let wide = format!("x-wide: {}", "y".repeat(300_000));
    assert!(is_refused(gateway.ask(&token, "GET", PATIENT, &[&wide], "").status, 431));
    assert_eq!(gateway.ask(&token, "GET", PATIENT, &[], "").status, 404, "nothing of it was taken");
    let (mut deep, wide) = (json!("x"), (0..=FIELDS_MAX).map(|n| (format!("f{n}"), json!(n))));
    for _ in 0..DEPTH_MAX {
        deep = json!([deep]);
    }
    for body in [json!({ "a": deep }), serde_json::Value::Object(wide.collect())] {
        let refused = gateway.ask(&token, "PUT", PATIENT, &[], &body.to_string());
        assert_eq!((refused.status, refused.kind().as_str()), (422, "invalid-record"), "{refused:?}");
    }
    assert_eq!(gateway.ask(&token, "GET", PATIENT, &[], "").status, 404, "nothing of it was taken");
    let list = |fields: usize| {
        let fields: String = (0..fields).map(|n| format!("f{n}=x&")).collect();
        gateway.ask(&token, "GET", &format!("/v1/records/patient?{fields}"), &[], "").status
    };
    assert_eq!((list(16), list(17)), (200, 400));
    let many: Vec<String> = (0..200).map(|n| format!("x-{n}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(gateway.ask(&token, "GET", PATIENT, &many, "").status, 431);
}

#[test]
fn of_who_has_no_token_little_is_read() {
    let gateway = Open::start();
    let pair = |bytes: usize| gateway.ask("", "POST", "/v1/pair", &[], &" ".repeat(bytes));
    let (fits, refused) = (pair(16 * 1024), pair(16 * 1024 + 1));
    assert_eq!((fits.status, refused.status, refused.kind().as_str()), (400, 413, "too-large"));
    for (method, path) in [("PUT", PATIENT), ("POST", "/v1/batch"), ("POST", "/v1/receipts"), ("POST", "/v1/parked")] {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n",
            gateway.network
        );
        let answer = gateway.raw(head.as_bytes());
        assert_eq!(answer.status, 401, "{path}: nothing of the body has come, and none is waited for");
    }
}

#[test]
fn who_is_still_sending_when_it_is_too_much_is_heard_out_before_it_is_told() {
    let gateway = Open::start();
    let whole = request(&gateway.local.to_string(), "PUT", PATIENT, &[], &"y".repeat(300_000));
    let (first, rest) = whole.split_at(280_000);
    let mut stream = TcpStream::connect(gateway.local).unwrap();
    stream.write_all(first.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let told = stream.read(&mut [0; 64]);
    assert!(told.is_err(), "an answer now could be lost with the connection: {told:?}");
    stream.write_all(rest.as_bytes()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut told = [0; 12];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 413");
}
