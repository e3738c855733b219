//! Those who are slow, or many, from the network.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::Open;
use crate::config::NetworkConfig;

const SHORT: Duration = Duration::from_secs(2);

/// Whether the other end ends it: nothing to read is not the same.
fn is_hung_up_on(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(super::HURRY)).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[test]
fn who_does_not_shake_hands_or_sends_no_request_is_cut_off() {
    let gateway = Open::start_with(NetworkConfig::default(), Some(SHORT));
    let mut silent = TcpStream::connect(gateway.network).unwrap();
    silent.write_all(&[0x16, 3, 1]).unwrap();
    assert!(is_hung_up_on(&mut silent), "no handshake");
    let mut stream = gateway.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nhost:").unwrap();
    let mut said = Vec::new();
    let ended = stream.read_to_end(&mut said);
    assert!(!matches!(ended, Err(error) if error.kind() == ErrorKind::WouldBlock), "no headers");
    let mut plain = TcpStream::connect(gateway.network).unwrap();
    plain.write_all(b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("HTTP/1.1"), "nothing is said without TLS");
}

#[test]
fn one_neighbour_cannot_take_all_connections() {
    let gateway = Open::start();
    let mut held: Vec<TcpStream> = (0..24).map(|_| TcpStream::connect(gateway.network).unwrap()).collect();
    let mut one_more = TcpStream::connect(gateway.network).unwrap();
    assert!(is_hung_up_on(&mut one_more), "refused");
    assert_eq!(gateway.ask_local("GET", "/v1/status", &[], "").status, 200, "others are served");
    held.clear();
    let served = (0..200).any(|_| {
        gateway.connect_to(gateway.pin).is_ok_and(|mut stream| {
            let ask = format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", gateway.network);
            stream.write_all(ask.as_bytes()).is_ok() && stream.read(&mut [0; 16]).is_ok_and(|read| read > 0)
        })
    });
    assert!(served, "and places are given back");
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let gateway = Open::start();
    let token = gateway.pair(json!({"name": "tablet"}));
    let mut stream = gateway.connect();
    let head = format!(
        "PUT /v1/records/visit/v1 HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\ncontent-type: \
         application/json\r\ncontent-length: 100\r\n\r\n{{",
        gateway.network
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    assert!(said.starts_with("HTTP/1.1 408") && said.contains("too-slow"), "{said}");
}
