//! What is too large, too deep, bent or doubled, at the hub's own door.

use serde_json::json;
use sync_protocol::limits::{DEPTH_MAX, FIELDS_MAX, RECORD_BYTES_MAX};

use super::{Json, World};

/// The answer to a request that is written out, or 0 if the hub hung up while more was coming.
async fn status_of(world: &World, request: &[u8]) -> u16 {
    world.send(request.to_vec(), false).await.map_or(0, |reply| reply.status)
}

/// What is still on its way when the hub ends the connection can cost the sender the answer.
fn is_refused(status: u16, with: u16) -> bool {
    status == with || status == 0
}

#[tokio::test]
async fn heads_of_requests_have_an_end() {
    let world = World::start().await;
    let certificate = "y".repeat(16 * 1024);
    assert_eq!(world.ask("GET", "/healthz", &[("x-client-cert", &certificate)], b"").await.status, 200);
    let y = "y".repeat(200_000);
    for (line, header) in [(y.as_str(), ""), ("", y.as_str())] {
        let whole = format!("GET /healthz?{line} HTTP/1.1\r\nhost: hub\r\nconnection: close\r\nx: {header}\r\n\r\n");
        assert!(is_refused(status_of(&world, whole.as_bytes()).await, 431), "in the first line: {}", header.is_empty());
    }
    let endless = format!("GET /healthz HTTP/1.1\r\nhost: hub\r\nx: {}", y.repeat(30));
    assert!(is_refused(status_of(&world, endless.as_bytes()).await, 431));
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let many = format!("GET /healthz HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n{many}\r\n");
    assert_eq!(status_of(&world, many.as_bytes()).await, 431);
    assert_eq!(world.ask("GET", "/healthz", &[], b"").await.status, 200, "others are served");
}

#[tokio::test]
async fn two_lengths_or_a_length_and_chunks_do_not_smuggle_a_request() {
    let world = World::start().await;
    let inner = "GET /healthz HTTP/1.1\r\nhost: hub\r\n\r\n";
    for lengths in [
        "content-length: 2\r\ncontent-length: 40\r\n",
        "content-length: 2\r\ntransfer-encoding: chunked, x\r\n",
        "transfer-encoding: x\r\n",
        "content-length: +2\r\n",
        "content-length: 0x2\r\n",
        "content-length : 2\r\n",
        "content-length: 2\r\n folded: x\r\n",
    ] {
        let request = format!("POST /enroll/v1 HTTP/1.1\r\nhost: hub\r\n{lengths}\r\n{{}}{inner}");
        let answer = world.send(request.into_bytes(), false).await.unwrap();
        assert_eq!(answer.status, 400, "{lengths:?}: {answer:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("200 OK"), "one answer and no second: {lengths:?}");
    }
}

#[tokio::test]
async fn bent_paths_lead_nowhere() {
    let world = World::start().await;
    let name = json!({ "name": "Canary7" });
    assert_eq!(world.admin("PUT", "/records/patient/p1?scope=mw", name).await.status, 201);
    let token = format!("Bearer {}", world.hub.admin_token());
    for path in [
        "/admin/v1/records/visit/../patient/p1",
        "/admin/v1/records/visit/%2e%2e/patient/p1",
        "/admin/v1/records/visit/..%2fpatient%2fp1",
        "/admin/v1/records/visit%2f..%2fpatient/p1",
        "//admin/v1/records/patient/p1",
        "/admin//v1/records/patient/p1",
        "/admin/v1/records/patient/p1%00",
        "/admin/v1/records/patient%00/p1",
        "/ADMIN/v1/records/patient/p1",
        "/admin/v1/records/patient/p1/",
        "/login/../admin/v1/records/patient/p1",
        "/healthz;/admin/v1/records/patient/p1",
        "/admin/v1/records/visit/p1?type=patient",
        "/hub.db",
        "/../hub.db",
        "/%2e%2e/hub.db",
    ] {
        for headers in [&[][..], &[("authorization", token.as_str())]] {
            let answer = world.ask("GET", path, headers, b"").await;
            assert!(matches!(answer.status, 400 | 401 | 404), "{path}: {answer:?}");
            assert!(!String::from_utf8_lossy(&answer.body).contains("Canary7"), "{path}");
        }
    }
    for headers in [
        &[("authorization", "Bearer x"), ("authorization", token.as_str())][..],
        &[("authorization", &token.replace("Bearer", "BEARER"))],
        &[("authorization", &token.replace("Bearer", "Basic"))],
        &[("x-forwarded-for", "127.0.0.1"), ("cookie", &format!("session={}", world.hub.admin_token()))],
    ] {
        assert_eq!(world.ask("GET", "/admin/v1/gateways", headers, b"").await.status, 401, "{:?}", headers[0].0);
    }
    let asked = format!("/admin/v1/gateways?token={}", world.hub.admin_token());
    assert_eq!(world.ask("GET", &asked, &[], b"").await.status, 401);
}

/// A browser that was told that the hub's address is an attacker's name sends no cookie of the hub there.
#[tokio::test]
async fn a_name_that_is_bound_to_the_hub_opens_nothing() {
    let world = World::start().await;
    let own = "host: evil.example\r\norigin: http://evil.example\r\nsec-fetch-site: same-origin\r\n";
    for path in ["/admin/v1/gateways", "/admin/v1/records/patient", "/admin/v1/session"] {
        let request = format!("GET {path} HTTP/1.1\r\n{own}connection: close\r\n\r\n");
        assert_eq!(status_of(&world, request.as_bytes()).await, 401, "{path}");
    }
    let request = format!("GET / HTTP/1.1\r\n{own}connection: close\r\n\r\n");
    let page = world.send(request.into_bytes(), false).await.unwrap();
    assert!(!String::from_utf8_lossy(&page.body).contains("not sent"), "{page:?}");
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let world = World::start().await;
    let large = vec![b' '; 1024 * 1024 + 1];
    let token = format!("Bearer {}", world.hub.admin_token());
    let admin = [("authorization", token.as_str())];
    for (method, path) in
        [("PUT", "/admin/v1/records/patient/p1"), ("POST", "/admin/v1/gateways"), ("PUT", "/admin/v1/rules")]
    {
        assert_eq!(world.ask(method, path, &admin, &large).await.status, 413, "{path}");
    }
    for path in
        ["/login", "/password", "/admin/v1/session", "/admin/v1/password", "/escrow/v1", "/escrow/v1/fetch", "/acts/v1"]
    {
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
        let answer = world.ask("POST", path, &headers, &large).await;
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
    }
    let mut deep = json!("x");
    for _ in 0..DEPTH_MAX {
        deep = json!([deep]);
    }
    let wide: serde_json::Map<String, Json> = (0..=FIELDS_MAX).map(|n| (format!("f{n}"), json!(n))).collect();
    for (what, body) in [
        ("deep", json!({ "a": deep })),
        ("wide", Json::Object(wide)),
        ("large", json!({ "a": "y".repeat(RECORD_BYTES_MAX) })),
    ] {
        let answer = world.admin("PUT", "/records/patient/p1?scope=mw", body).await;
        assert!(matches!(answer.status, 400 | 413 | 422), "{what}: {}", answer.head);
        assert!(answer.json()["title"].is_string(), "{what}: it says what is wrong");
    }
    assert_eq!(world.admin("GET", "/records/patient/p1", Json::Null).await.status, 404, "nothing of it was taken");
    let fields = |n: usize| (0..n).map(|n| format!("f{n}=x&")).collect::<String>();
    assert_eq!(world.admin("GET", &format!("/records/patient?{}", fields(16)), Json::Null).await.status, 200);
    assert_eq!(world.admin("GET", &format!("/records/patient?{}", fields(17)), Json::Null).await.status, 400);
}
