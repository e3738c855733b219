//! What is too large, too deep, bent or doubled, at the hub's own door.

use std::sync::atomic::Ordering;

use serde_json::json;
use sync_protocol::frame::{Effort, Packer, split};
use sync_protocol::hub;
use sync_protocol::limits::{DEPTH_MAX, FIELDS_MAX, RECORD_BYTES_MAX};
use sync_protocol::payload::Payload;

use super::{Json, World};
use crate::HubError;
use crate::account::Role;
use crate::strangers::STRANGER_BYTES_MAX;

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

/// A browser sends no cookie of the hub to a name of an attacker's that is bound to the hub's address. If it did, that would open nothing.
#[tokio::test]
async fn a_name_that_is_bound_to_the_hub_opens_nothing() {
    let world = World::start().await;
    let browser = world.person("asha", Role::Admin, &[]).await;
    let get = async |host: &str, path: &str| {
        let own = format!("host: {host}\r\norigin: http://{host}\r\nsec-fetch-site: same-origin\r\n");
        let request = format!("GET {path} HTTP/1.1\r\n{own}cookie: {}\r\nconnection: close\r\n\r\n", browser.cookie);
        world.send(request.into_bytes(), false).await.unwrap()
    };
    for path in ["/admin/v1/gateways", "/admin/v1/records/patient", "/admin/v1/session"] {
        assert_eq!(get("hub", path).await.status, 200, "{path}");
        assert_eq!(get("HUB", path).await.status, 200, "{path}");
        for evil in ["evil.example", "hub:81", "hub.evil.example", ""] {
            assert_eq!(get(evil, path).await.status, 401, "{path}, as {evil:?}");
        }
    }
    let page = async |host: &str| String::from_utf8(get(host, "/").await.body).unwrap();
    assert!(page("hub").await.contains("asha"));
    let sent_away = get("evil.example", "/").await;
    assert!(sent_away.status == 303 && sent_away.head.contains("location: /login"), "{sent_away:?}");
    assert!(sent_away.body.is_empty(), "{sent_away:?}");
}

/// Whom nobody knows yet: where he may bring something, and what he hears when it is nothing but spaces.
const FOR_STRANGERS: [(&str, u16); 8] = [
    ("/enroll/v1", 400),
    ("/escrow/v1", 400),
    ("/escrow/v1/fetch", 400),
    ("/login", 422),
    ("/login/oidc/code", 422),
    ("/password", 422),
    ("/admin/v1/session", 400),
    ("/admin/v1/password", 400),
];

#[tokio::test]
async fn of_whom_nobody_knows_little_is_read() {
    let world = World::start().await;
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (path, as_small) in FOR_STRANGERS {
        let is_form = as_small == 422;
        let kind = if is_form { form } else { ("content-type", "application/json") };
        let headers = [kind, ("sec-fetch-site", "same-origin")];
        let ask = async |bytes: usize| world.ask("POST", path, &headers, &vec![b' '; bytes]).await;
        assert_eq!(ask(STRANGER_BYTES_MAX).await.status, as_small, "{path}");
        let refused = ask(STRANGER_BYTES_MAX + 1).await;
        assert_eq!((refused.status, refused.json()["type"].as_str()), (413, Some("too-large")), "{path}: {refused:?}");
        assert!(refused.head.contains("content-type: application/problem+json"), "{path}: {refused:?}");
        // What would come is not waited for.
        let head = format!("POST {path} HTTP/1.1\r\nhost: hub\r\ncontent-length: 1000000000\r\n\r\n");
        let some = [head.as_bytes(), &[b' '; 200 * 1024]].concat();
        assert!(is_refused(status_of(&world, &some).await, 413), "{path}");
    }
    // What may be larger is read after it is known who sends it.
    let head = "POST /acts/v1 HTTP/1.1\r\nhost: hub\r\nconnection: close\r\ncontent-length: 1000000\r\n\r\n";
    let more_than_any = [head.as_bytes(), &[b' '; 300 * 1024]].concat();
    assert!(is_refused(status_of(&world, &more_than_any).await, 403), "who it is comes before how much it is");
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
        let refused = world.ask(method, path, &admin, &large).await;
        assert_eq!((refused.status, refused.json()["type"].as_str()), (413, Some("too-large")), "{path}");
    }
    let mut deep = json!("x");
    for _ in 0..DEPTH_MAX {
        deep = json!([deep]);
    }
    let wide: serde_json::Map<String, Json> = (0..=FIELDS_MAX).map(|n| (format!("f{n}"), json!(n))).collect();
    for (what, body, status) in [
        ("deep", json!({ "a": deep }), 422),
        ("wide", Json::Object(wide), 422),
        ("large", json!({ "a": "y".repeat(RECORD_BYTES_MAX) }), 413),
    ] {
        let answer = world.admin("PUT", "/records/patient/p1?scope=mw", body).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.head);
        assert!(answer.json()["title"].is_string(), "{what}: it says what is wrong");
    }
    assert_eq!(world.admin("GET", "/records/patient/p1", Json::Null).await.status, 404, "nothing of it was taken");
    let fields = |n: usize| (0..n).map(|n| format!("f{n}=x&")).collect::<String>();
    assert_eq!(world.admin("GET", &format!("/records/patient?{}", fields(16)), Json::Null).await.status, 200);
    assert_eq!(world.admin("GET", &format!("/records/patient?{}", fields(17)), Json::Null).await.status, 400);
}

const VISITS: &str = "version = 1\n[types.visit]\nparents = { patient = \"patient\" }\n";

/// Steps of the database, in hundreds, for one frame with so many changes of a record that waits for its parent.
async fn steps_of_waiting(changes: usize) -> u64 {
    let world = World::start().await;
    world.hub.publish_rules(VISITS).await.unwrap();
    let mut clinic = world.clinic("a", "mw").await;
    clinic.put("visit/v1", json!({"patient": "nobody"}));
    world.exchange(&mut clinic).await;
    for n in 0..changes {
        clinic.put("visit/v1", json!({"patient": "nobody", "n": n}));
    }
    let outgoing = clinic.request();
    let mut packer = Packer::new(Effort::Quick).unwrap();
    let mut ops = |frame: &Vec<u8>| {
        let (inside, _) = split(frame).unwrap().unwrap();
        match Payload::decode(&packer.unpack(inside).unwrap()).unwrap() {
            Payload::Ops(ops) => ops,
            Payload::Rows(_) => panic!("rows of a gateway"),
        }
    };
    // As one frame, which it may be.
    let ops: Vec<_> = outgoing.frames.iter().flat_map(&mut ops).collect();
    assert_eq!(ops.len(), changes);
    let now_ms = clinic.now_ms as u64;
    let taken = world.hub.write(move |tx| {
        let hub::Opened::Ready(mut with) = hub::open(tx, outgoing.head, now_ms)? else { panic!("it is a member") };
        let steps = tx.count_steps()?;
        let received = hub::receive(tx, &mut with, &ops)?;
        assert_eq!((received.new, received.held), (changes as u64, changes as u64));
        Ok::<_, HubError>(steps.load(Ordering::Relaxed))
    });
    taken.await.unwrap()
}

/// All that wait on one record are judged together: with each of them once more it would be the square, and the cube if each had the
/// history read as well.
#[tokio::test]
async fn what_waits_on_one_record_costs_no_more_than_its_share() {
    let (few, many) = (steps_of_waiting(100).await, steps_of_waiting(800).await);
    assert!(many < few * 16, "{few} for 100, {many} for 800");
}
