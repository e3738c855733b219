//! The API as it is met from outside: real sockets, and requests as bytes, also such as no library would send.

mod acts;
mod attacks;
mod document;
mod pages;
mod pairing;
mod retries;
mod scopes;
mod slow;
mod unreadable;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError, SignatureScheme, StreamOwned};
use serde_json::{Value, json};
use sync_protocol::gateway::Store as _;
use sync_protocol::rules::Rules;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::Entry;
use crate::apps::Fingerprint;
use crate::config::{Config, NetworkConfig};
use crate::error::Error;
use crate::run::Gateway;
use crate::store::{Store, Tx};

/// Whoever has not answered by then does not.
const PATIENCE: Duration = Duration::from_secs(60);
/// Less than a handshake may take.
const HURRY: Duration = Duration::from_secs(8);

/// A gateway that is open to a network, which is this machine.
pub(super) struct Open {
    pub(super) local: SocketAddr,
    pub(super) network: SocketAddr,
    pub(super) pin: Fingerprint,
    pub(super) dir: TempDir,
    /// `None` when it is being ended.
    store: Option<Store>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Answer {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(super) fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap_or_default().to_owned()
    }
}

/// Trusts the key with this fingerprint, as an app does: nothing else of the certificate is looked at.
#[derive(Debug)]
struct Pinned(Fingerprint);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        match Fingerprint::of(&key).is(&self.0) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(TlsError::General("another key".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &default_provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

pub(super) type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Open {
    pub(super) fn start() -> Open {
        Open::start_with(NetworkConfig::default(), None)
    }

    /// As configured; with listeners that have only so much patience.
    pub(super) fn start_with(network: NetworkConfig, patience: Option<Duration>) -> Open {
        Open::start_in(tempfile::tempdir().unwrap(), network, patience)
    }

    pub(super) fn start_in(dir: TempDir, network: NetworkConfig, patience: Option<Duration>) -> Open {
        let config = Config { network: NetworkConfig { announce: false, ..network }, ..Config::default() };
        let (end, ended) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let data_dir = dir.path().to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listen = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let (local, network) = (listen().await, listen().await);
                let mut gateway = Gateway::open(&data_dir, &config).unwrap();
                let addresses = (local.local_addr().unwrap(), network.local_addr().unwrap());
                gateway.open_to_network(network, &config.network).await.unwrap();
                let pin = gateway.app.entrance.as_ref().unwrap().pin;
                let entries = gateway.entries(local).into_iter();
                let entries: Vec<Entry> = match patience {
                    Some(patience) => entries.map(|entry| entry.hurried(patience)).collect(),
                    None => entries.collect(),
                };
                tell.send((addresses, pin, gateway.app.store.clone())).unwrap();
                super::serve(entries, async move {
                    let _ = ended.await;
                })
                .await;
            });
        });
        let ((local, network), pin, store) = told.recv().unwrap();
        Open { local, network, pin, dir, store: Some(store), end: Some(end), thread: Some(thread) }
    }

    /// Ends it, and gives its folder.
    pub(super) fn stop(mut self) -> TempDir {
        self.end();
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    /// What it keeps, to bring about what only a hub brings about.
    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Puts rules in force, as a hub would.
    pub(super) fn rule(&self, text: &str) {
        let rules = Arc::new(Rules::parse(text).unwrap());
        let set = |tx: &mut Tx<'_>| -> Result<(), Error> { tx.set_rules(rules) };
        self.store().blocking_write(set).unwrap();
    }

    fn end(&mut self) {
        self.store = None;
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// A connection over TLS to who has this key.
    pub(super) fn connect_to(&self, pin: Fingerprint) -> std::io::Result<Stream> {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Pinned(pin))).with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1").unwrap()).unwrap();
        let socket = TcpStream::connect(self.network)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut stream = StreamOwned::new(connection, socket);
        stream.flush()?;
        Ok(stream)
    }

    pub(super) fn connect(&self) -> Stream {
        self.connect_to(self.pin).unwrap()
    }

    /// Bytes to the network listener; a connection of its own.
    pub(super) fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        Answer::parse(&answer)
    }

    /// Bytes to the local listener.
    pub(super) fn raw_local(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.local).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        Answer::parse(&answer)
    }

    /// A request as an app sends it.
    pub(super) fn ask(&self, token: &str, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let token = if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}") };
        let headers = [&[token.as_str()], headers].concat();
        self.raw(request(&self.network.to_string(), method, path, &headers, body).as_bytes())
    }

    /// A request of this machine.
    pub(super) fn ask_local(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        self.raw_local(request(&self.local.to_string(), method, path, headers, body).as_bytes())
    }

    /// Lets an app in, and gives its token.
    pub(super) fn pair(&self, wish: Value) -> String {
        let code = self.code(wish);
        let answer = self.ask("", "POST", "/v1/pair", &[], &json!({"code": code}).to_string());
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    pub(super) fn code(&self, wish: Value) -> String {
        let answer = self.ask_local("POST", "/v1/pairings", &[], &wish.to_string());
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["code"].as_str().unwrap().to_owned()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.end();
    }
}

/// A request in its written form.
pub(super) fn request(host: &str, method: &str, path: &str, headers: &[&str], body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for header in headers.iter().filter(|header| !header.is_empty()) {
        text.push_str(&format!("{header}\r\n"));
    }
    if !headers.iter().any(|header| header.starts_with("content-type")) {
        text.push_str("content-type: application/json\r\n");
    }
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    text
}
