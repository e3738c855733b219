//! Those who are slow, or send what nobody wants.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sync_protocol::gateway::Store as _;
use sync_protocol::message::{Status, body};

use super::tls::Fort;
use super::{SYNC, World};
use crate::exchange::Speaker;
use crate::{Config, Tls};

/// How long it is waited for an answer before the next byte goes.
const GLANCE: Duration = Duration::from_millis(100);
/// More than is ever sent.
const BYTES: usize = 1_000;

async fn hurried() -> World {
    World::start_with(Config { tls: Tls::Off, read_timeout_seconds: 1, ..Config::default() }).await
}

/// Sends the head of a request, and the bytes of its body one by one until there is an answer, which has to come by then, or is
/// waited for after the only one.
fn drip(address: SocketAddr, path: &str, headers: &str, bytes: usize) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: hub\r\n{headers}content-length: {BYTES}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(GLANCE)).unwrap();
    let (mut said, mut buffer) = (Vec::new(), [0; 4_096]);
    for _ in 0..bytes {
        if stream.write_all(b"{").is_err() {
            break;
        }
        match stream.read(&mut buffer) {
            Ok(read) => said.extend_from_slice(&buffer[..read]),
            Err(_) => continue,
        }
        break;
    }
    if !said.is_empty() || bytes == 1 {
        stream.set_read_timeout(Some(GLANCE * 50)).unwrap();
        let _ = stream.read_to_end(&mut said);
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn a_body_that_does_not_come_or_comes_too_slowly_is_not_waited_for() {
    let world = hurried().await;
    let (address, token) = (world.address, format!("authorization: Bearer {}\r\n", world.hub.admin_token()));
    let sync = "content-type: application/vnd.outpost.sync\r\n".to_owned();
    let ask = move || {
        for (path, headers) in [("/enroll/v1", ""), ("/admin/v1/gateways", &token), ("/sync/v1", &sync)] {
            for bytes in [1, 100] {
                let said = drip(address, path, headers, bytes);
                assert!(said.starts_with("HTTP/1.1 408") && said.contains("too-slow"), "{path}: {said}");
            }
        }
    };
    tokio::task::spawn_blocking(ask).await.unwrap();
    let told = tokio::task::spawn_blocking(move || drip(address, "/sync/v2", "", 1)).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 200"), "what there is to say anyway is said: {told}");
    let large = world.ask("POST", "/enroll/v1", &[], &[b' '; 16 * 1024 + 1]).await;
    assert_eq!(large.status, 413, "of a stranger not much is read");
}

/// Begins a message of 30 MB to the exchange; the hub has begun to read it then.
fn begin<S: Read + Write>(mut stream: S, message: &[u8]) -> S {
    let head = "POST /sync/v1 HTTP/1.1\r\nhost: hub\r\ncontent-type: application/vnd.outpost.sync\r\n\
                expect: 100-continue\r\ncontent-length: 30000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).unwrap();
    assert!(asked.starts_with(b"HTTP/1.1 100"));
    stream.write_all(message).unwrap();
    stream
}

#[tokio::test]
async fn who_shows_no_certificate_takes_no_place_and_is_not_read_to_the_end() {
    let fort = Fort::start_with(Config { exchanges_max: 1, ..Config::default() }).await;
    let (mut clinic, card) = fort.clinic("a").await;
    let said = body(&clinic.request().head.encode(), []);
    let (stranger, message) = (fort.stranger(), said.clone());
    let held = tokio::task::spawn_blocking(move || begin(stranger(), &message)).await.unwrap();
    for _ in 0..5 {
        assert_eq!(fort.sync(&mut clinic, Some(&card)).await, Some(Ok(Status::Ok)), "others are served meanwhile");
    }
    drop(held);
    let (patient, stranger) = (fort.stranger(), fort.stranger());
    let talk = move || {
        let mut stream = begin(patient(), &said);
        let is_read = (0..450).all(|_| stream.write_all(&[0; 64 * 1024]).is_ok());
        assert!(!is_read, "it is not read to the end");
        let mut stream = begin(stranger(), &said);
        let _ = stream.write_all(&vec![0; 64 * 1024 - said.len()]);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    let told = tokio::task::spawn_blocking(talk).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 403"), "{told}");
    // Nor is a head awaited that says how long it is.
    let stranger = fort.stranger();
    let talk = move || {
        let head = [&500_000u32.to_be_bytes()[..], &[0; 64 * 1024 - 4]].concat();
        let mut stream = begin(stranger(), &head);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    let told = tokio::task::spawn_blocking(talk).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 403"), "{told}");
}

#[tokio::test]
async fn a_gateway_that_begins_many_exchanges_leaves_places_to_others() {
    let world = World::start_with(Config { tls: Tls::Off, exchanges_max: 6, ..Config::default() }).await;
    let (mut greedy, mut other) = (world.clinic("a", "mw").await, world.clinic("b", "mw").await);
    let (said, address) = (body(&greedy.request().head.encode(), []), world.address);
    let message = said.clone();
    let hold = move || (0..4).map(|_| begin(TcpStream::connect(address).unwrap(), &message)).collect::<Vec<_>>();
    let held = tokio::task::spawn_blocking(hold).await.unwrap();
    // The hub may still be reading the heads of those before; what is asked meanwhile would be served, and they be late.
    let device = greedy.store.state().unwrap().device;
    let are_begun = async {
        while world.hub.places().take_own(Speaker::Named(device)).is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), are_begun).await.unwrap();
    let told = world.ask("POST", "/sync/v1", &[SYNC], &said).await;
    assert_eq!(told.status, 503, "{told:?}");
    assert!(told.head.contains("retry-after"), "{}", told.head);
    world.sync(&mut other).await;
    drop(held);
    let mut is_served = false;
    for _ in 0..1_000 {
        is_served |= world.ask("POST", "/sync/v1", &[SYNC], &said).await.status == 200;
        if is_served {
            break;
        }
    }
    assert!(is_served, "its places are given back");
}

#[tokio::test]
async fn one_source_cannot_take_all_connections() {
    let world = World::start_with(Config { tls: Tls::Off, connections_of_one_max: 2, ..Config::default() }).await;
    let address = world.address;
    let talk = move || {
        let ask = |stream: &mut TcpStream| -> usize {
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: hub\r\n\r\n");
            stream.read(&mut [0; 16]).unwrap_or(0)
        };
        let mut held: Vec<_> = (0..2).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert!(held.iter_mut().all(|stream| ask(stream) > 0));
        assert_eq!(ask(&mut TcpStream::connect(address).unwrap()), 0, "hung up on");
        held.clear();
        assert!((0..1_000).any(|_| ask(&mut TcpStream::connect(address).unwrap()) > 0), "places are given back");
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
}
