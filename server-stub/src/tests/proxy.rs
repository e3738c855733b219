//! A hub behind a proxy: whose certificate it was shown is believed from the proxy, and from nobody else.

use std::net::IpAddr;

use serde_json::{Value as Json, json};
use sync_protocol::gateway::Outgoing;
use sync_protocol::message::{Response, Status, body, split_head};
use sync_protocol::ticket::Ticket;

use super::tls::Card;
use super::{Clinic, SYNC, World};
use crate::audit::Entry;
use crate::clock::now_ms;
use crate::error::HubError;
use crate::hub::open_existing;
use crate::pki::{self, Authority};
use crate::secret::{hex, unhex};
use crate::{Config, Tls, pem};

async fn behind(proxy: &str) -> World {
    let trusted_proxies = vec![proxy.parse::<IpAddr>().unwrap()];
    let world = World::start_with(Config { tls: Tls::Proxy, trusted_proxies, ..Config::default() }).await;
    world.hub.write(|tx| tx.set_address("hub.example.org:443")).await.unwrap();
    world
}

/// What a proxy says of a certificate.
fn said(certificate: &[u8]) -> String {
    let text = pem::encode("CERTIFICATE", certificate);
    format!(":{}:", text.lines().filter(|line| !line.starts_with('-')).collect::<String>())
}

async fn enrolled(world: &World, name: &str) -> (Clinic, Card) {
    let told = world.hub.add_gateway(name, &["mw"], "clinic").await.unwrap();
    let (mut card, code) = (Card::new(), Ticket::parse(&told).unwrap().secret_letters());
    let wish = json!({ "code": code, "public_key": hex(&card.point), "proof": card.proof(&code) });
    let granted = world.ask("POST", "/enroll/v1", &[], wish.to_string().as_bytes()).await;
    assert_eq!(granted.status, 200, "{granted:?}");
    let granted = granted.json();
    card.certificate = unhex(granted["certificate"].as_str().unwrap()).unwrap();
    (Clinic::new(&granted), card)
}

async fn sync(world: &World, outgoing: &Outgoing, says: &[&str]) -> Result<Status, u16> {
    let message = body(&outgoing.head.encode(), outgoing.frames.clone());
    let headers: Vec<_> = says.iter().map(|value| ("client-cert", *value)).chain([SYNC]).collect();
    let reply = world.ask("POST", "/sync/v1", &headers, &message).await;
    match reply.status {
        200 => Ok(Response::decode(split_head(&reply.body).unwrap().unwrap().0).unwrap().status),
        status => Err(status),
    }
}

#[tokio::test]
async fn a_certificate_counts_as_the_proxy_says_it_and_in_no_other_way() {
    let world = behind("127.0.0.1").await;
    let (mut a, card) = enrolled(&world, "a").await;
    let (_, other) = enrolled(&world, "b").await;
    let outgoing = a.request();
    assert_eq!(sync(&world, &outgoing, &[]).await, Err(403), "none");
    assert_eq!(sync(&world, &outgoing, &[""]).await, Err(403), "none, in other words");
    assert_eq!(sync(&world, &outgoing, &[&said(&other.certificate)]).await, Err(403), "another gateway's");
    let foreign = Authority::open(&pki::make("", now_ms()).unwrap(), None).unwrap();
    let forged = foreign.issue(&card.point, "a", now_ms(), 90).unwrap().certificate;
    assert_eq!(sync(&world, &outgoing, &[&said(&forged)]).await, Err(403), "of another authority, over the same key");
    assert_eq!(sync(&world, &outgoing, &[":AAAA:"]).await, Err(403), "none at all");
    let two = [said(&card.certificate), said(&other.certificate)];
    assert_eq!(sync(&world, &outgoing, &[&two[0], &two[1]]).await, Err(403), "the client's beside the proxy's");
    assert_eq!(sync(&world, &outgoing, &[&said(&card.certificate)]).await, Ok(Status::Ok));
}

#[tokio::test]
async fn nobody_but_the_proxy_gets_in() {
    let world = behind("192.0.2.1").await;
    for path in ["/healthz", "/", "/admin/v1/gateways"] {
        assert_eq!(world.ask("GET", path, &[("client-cert", ":AAAA:")], b"").await.status, 403, "{path}");
    }
}

async fn wrong_code(world: &World, from: &str) -> u16 {
    let wish = json!({ "code": "0000000000000000" }).to_string();
    // What a client says of itself stands before what the proxy adds.
    let from = format!("198.51.100.1, {from}");
    world.ask("POST", "/enroll/v1", &[("x-forwarded-for", &from)], wish.as_bytes()).await.status
}

#[tokio::test]
async fn who_guesses_codes_is_told_by_the_address_that_the_proxy_saw() {
    let world = behind("127.0.0.1").await;
    for _ in 0..5 {
        assert_eq!(wrong_code(&world, "203.0.113.1").await, 403);
    }
    assert_eq!((wrong_code(&world, "203.0.113.1").await, wrong_code(&world, "203.0.113.2").await), (429, 403));
}

#[tokio::test]
async fn codes_guessed_from_many_addresses_are_few_entries_of_the_audit_and_all_are_counted() {
    let world = behind("127.0.0.1").await;
    for n in 0..300 {
        assert_eq!(wrong_code(&world, &format!("203.0.{}.{}", n / 100, n % 100)).await, 403);
    }
    let own = world.audited().await.len();
    let dir = world.stop().await;
    let mut database = open_existing(dir.path()).unwrap();
    let (entries, verdict) = database
        .read(now_ms(), |tx| Ok::<_, HubError>((tx.audit_after(0, 1_000)?, tx.audit_verdict(Vec::new())?)))
        .unwrap();
    assert_eq!((own, entries.len()), (100, 151), "one for each of fifty sources, and one for the others");
    assert_eq!(verdict.findings, Vec::<String>::new());
    assert!(entries.iter().all(|entry| entry.what == "enrol-refused" && entry.who == "nobody"));
    let on = |entry: &Entry| serde_json::from_str::<Json>(&entry.target).unwrap();
    let counted: u64 = entries[own..].iter().map(|entry| on(entry)["times"].as_u64().unwrap()).sum();
    assert_eq!(counted, 200);
    let others = entries.iter().find(|entry| entry.source == "several").unwrap();
    assert_eq!((&on(others)["why"], &on(others)["times"]), (&json!("this code is not known"), &json!(150)));
    assert!(entries.iter().any(|entry| entry.source == "203.0.1.49"), "the last whose address is named");
}
