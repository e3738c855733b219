//! Who gets in over TLS, and who does not: each attack over a real socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use serde_json::{Value as Json, json};
use sync_protocol::frame::{Effort, Packer};
use sync_protocol::gateway::{GatewayState, Store as _};
use sync_protocol::hub::Snapshot;
use sync_protocol::id::{Device, Epoch};
use sync_protocol::identity::DeviceKey;
use sync_protocol::message::{Rescue, Status, body};
use sync_protocol::ticket::Ticket;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Clinic;
use crate::account::Sight;
use crate::clock::now_ms;
use crate::hub::give_code;
use crate::pem;
use crate::pki::{self, Authority};
use crate::secret::{self, hex, unhex};
use crate::{Config, Hub, serve_tls};

const DAY_MS: i64 = 86_400_000;

/// A key of a gateway, and what it shows.
pub(super) struct Card {
    key: Vec<u8>,
    pub(super) point: Vec<u8>,
    pub(super) certificate: Vec<u8>,
}

impl Card {
    pub(super) fn new() -> Card {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap().as_ref().to_vec();
        let point = Card::pair(&key).public_key().as_ref().to_vec();
        Card { key, point, certificate: Vec::new() }
    }

    fn pair(key: &[u8]) -> EcdsaKeyPair {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key, &SystemRandom::new()).unwrap()
    }

    pub(super) fn proof(&self, code: &str) -> String {
        let signed = [b"outpost 2026-11 enrolment key v1\0", code.as_bytes()].concat();
        hex(Card::pair(&self.key).sign(&SystemRandom::new(), &signed).unwrap().as_ref())
    }
}

pub(super) type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr, client: ClientConfig) -> Stream {
    let connection = ClientConnection::new(Arc::new(client), ServerName::try_from("127.0.0.1").unwrap()).unwrap();
    StreamOwned::new(connection, TcpStream::connect(address).unwrap())
}

/// A hub with TLS on a free port.
pub(super) struct Fort {
    _dir: TempDir,
    pub(super) hub: Hub,
    address: SocketAddr,
    _end: oneshot::Sender<()>,
    _served: JoinHandle<()>,
}

impl Fort {
    pub(super) async fn start() -> Fort {
        Fort::start_with(Config::default()).await
    }

    pub(super) async fn start_with(config: Config) -> Fort {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::open_with(dir.path(), Config { read_timeout_seconds: 1, ..config }).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        hub.write(move |tx| tx.set_address(&address.to_string())).await.unwrap();
        let (end, ended) = oneshot::channel::<()>();
        let serving = hub.clone();
        let served = tokio::spawn(async move {
            serve_tls(listener, serving, async move { drop(ended.await) }).await.unwrap();
        });
        Fort { _dir: dir, hub, address, _end: end, _served: served }
    }

    pub(super) fn authority(&self) -> &Authority {
        self.hub.authority().unwrap()
    }

    /// Who comes without a certificate.
    pub(super) fn stranger(&self) -> impl FnOnce() -> Stream + Send + use<> {
        let (address, client) = (self.address, self.client(None, &rustls::version::TLS13));
        move || connect(address, client)
    }

    fn client(&self, card: Option<&Card>, version: &'static SupportedProtocolVersion) -> ClientConfig {
        let provider = Arc::new(default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.authority().certificate().to_vec())).unwrap();
        let trusted = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let config = config.with_webpki_verifier(trusted.unwrap());
        match card {
            Some(card) => {
                let chain = vec![CertificateDer::from(card.certificate.clone())];
                config.with_client_auth_cert(chain, PrivateKeyDer::Pkcs8(card.key.clone().into())).unwrap()
            }
            None => config.with_no_client_auth(),
        }
    }

    /// One request; `None` if there was no answer.
    pub(super) async fn ask(&self, card: Option<&Card>, path: &str, kind: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
        let (address, client) = (self.address, self.client(card, &rustls::version::TLS13));
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: hub\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        let talk = move || {
            let mut stream = connect(address, client);
            stream.write_all(&request).ok()?;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            let at = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
            let status = String::from_utf8(answer[..at].to_vec()).unwrap().split(' ').nth(1)?.parse().ok()?;
            Some((status, answer[at + 4..].to_vec()))
        };
        tokio::task::spawn_blocking(talk).await.unwrap()
    }

    pub(super) async fn enroll(&self, card: &Card, code: &str) -> (u16, Json) {
        let wish = json!({ "code": code, "public_key": hex(&card.point), "proof": card.proof(code) });
        let (status, body) =
            self.ask(None, "/enroll/v1", "application/json", wish.to_string().as_bytes()).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub(super) async fn code(&self, name: &str) -> String {
        let told = self.hub.add_gateway(name, &["mw"], "clinic").await.unwrap();
        Ticket::parse(&told).unwrap().secret_letters()
    }

    /// An enrolled gateway.
    pub(super) async fn clinic(&self, name: &str) -> (Clinic, Card) {
        let (mut card, code) = (Card::new(), self.code(name).await);
        let (status, granted) = self.enroll(&card, &code).await;
        assert_eq!(status, 200, "{granted}");
        card.certificate = unhex(granted["certificate"].as_str().unwrap()).unwrap();
        (Clinic::new(&granted), card)
    }

    /// The answer to an exchange: the status in its head, or that of HTTP.
    pub(super) async fn sync(&self, clinic: &mut Clinic, card: Option<&Card>) -> Option<Result<Status, u16>> {
        self.sync_saying(clinic, card, "").await
    }

    /// The same with more headers, each behind a line break.
    async fn sync_saying(&self, clinic: &mut Clinic, card: Option<&Card>, more: &str) -> Option<Result<Status, u16>> {
        let outgoing = clinic.request();
        let message = body(&outgoing.head.encode(), outgoing.frames);
        let (status, answer) =
            self.ask(card, "/sync/v1", &format!("application/vnd.outpost.sync{more}"), &message).await?;
        if status != 200 {
            return Some(Err(status));
        }
        Some(Ok(clinic.integrate(&outgoing.head, &answer).status))
    }
}

#[tokio::test]
async fn only_the_certificate_of_this_gateway_opens_an_exchange() {
    let fort = Fort::start().await;
    let (mut a, card) = fort.clinic("a").await;
    let (_, other) = fort.clinic("b").await;
    assert_eq!(fort.sync(&mut a, None).await, Some(Err(403)), "none");
    assert_eq!(fort.sync(&mut a, Some(&other)).await, Some(Err(403)), "another gateway's");
    let said = pem::encode("CERTIFICATE", &card.certificate);
    let said: String = said.lines().filter(|line| !line.starts_with('-')).collect();
    let forged = format!("\r\nclient-cert: :{said}:");
    assert_eq!(fort.sync_saying(&mut a, None, &forged).await, Some(Err(403)), "of a certificate that was only named");
    assert_eq!(fort.sync(&mut a, Some(&card)).await, Some(Ok(Status::Ok)));
    let foreign = Authority::open(&pki::make("", now_ms()).unwrap(), None).unwrap();
    let certificate = foreign.issue(&card.point, "a", now_ms(), 90).unwrap().certificate;
    let forged = Card { certificate, key: card.key.clone(), point: card.point.clone() };
    assert_eq!(fort.sync(&mut a, Some(&forged)).await, None, "of another authority, over the same key");
}

#[tokio::test]
async fn a_file_is_handed_in_by_any_gateway_of_the_fleet_and_by_nobody_else() {
    let fort = Fort::start().await;
    let (mut a, card) = fort.clinic("a").await;
    let (_, other) = fort.clinic("b").await;
    a.put("patient/p1", json!({ "name": "Asha" }));
    let mut outgoing = a.request();
    outgoing.head.rescue = Some(Rescue::Apart);
    let file = body(&outgoing.head.encode(), outgoing.frames);
    let hand_in = async |card| fort.ask(card, "/sync/v1", "application/vnd.outpost.sync", &file).await.unwrap().0;
    assert_eq!(hand_in(None).await, 403, "without a certificate");
    assert_eq!((hand_in(Some(&other)).await, hand_in(Some(&card)).await), (200, 200));
    fort.hub.write(|tx| tx.revoke("b")).await.unwrap();
    assert_eq!(hand_in(Some(&other)).await, 403, "one that was revoked");
}

#[tokio::test]
async fn an_expired_certificate_is_good_within_the_grace_and_not_after() {
    let fort = Fort::start().await;
    let (mut a, card) = fort.clinic("a").await;
    let expired = |days: i64| {
        let issued = fort.authority().issue(&card.point, "a", now_ms() - (90 + days) * DAY_MS, 90).unwrap();
        Card { certificate: issued.certificate, key: card.key.clone(), point: card.point.clone() }
    };
    assert_eq!(fort.sync(&mut a, Some(&expired(179))).await, Some(Ok(Status::Ok)));
    assert_eq!(fort.sync(&mut a, Some(&expired(181))).await, Some(Err(403)));
    let (status, renewed) = fort.ask(Some(&expired(179)), "/renew/v1", "application/json", b"{}").await.unwrap();
    let renewed: Json = serde_json::from_slice(&renewed).unwrap();
    assert_eq!(status, 200, "{renewed}");
    let certificate = unhex(renewed["certificate"].as_str().unwrap()).unwrap();
    let fresh = Card { certificate, key: card.key.clone(), point: card.point.clone() };
    fort.authority().judge(&CertificateDer::from(fresh.certificate.clone()), now_ms(), 0).unwrap();
    assert_eq!(fort.sync(&mut a, Some(&fresh)).await, Some(Ok(Status::Ok)));
    assert_eq!(fort.ask(Some(&expired(181)), "/renew/v1", "application/json", b"{}").await.unwrap().0, 403);
    assert_eq!(fort.ask(None, "/renew/v1", "application/json", b"{}").await.unwrap().0, 403);
}

#[tokio::test]
async fn a_revoked_card_hears_it_at_its_next_contact_also_after_it_was_replaced() {
    let fort = Fort::start().await;
    let (mut a, card) = fort.clinic("a").await;
    assert_eq!(fort.sync(&mut a, Some(&card)).await, Some(Ok(Status::Ok)));
    fort.hub.write(|tx| tx.revoke("a")).await.unwrap();
    let renewed = async || fort.ask(Some(&card), "/renew/v1", "application/json", b"{}").await.unwrap().0;
    assert_eq!(fort.sync(&mut a, Some(&card)).await, Some(Ok(Status::Revoked)));
    assert_eq!(renewed().await, 403);
    let (new_card, code) = (Card::new(), secret::code().unwrap());
    let given = code.clone();
    fort.hub.write(move |tx| give_code(tx, "a", &given, 1)).await.unwrap();
    let (status, granted) = fort.enroll(&new_card, &secret::normal_code(&code)).await;
    assert_eq!(status, 200, "{granted}");
    a.put("patient/forged", json!({ "name": "Asha" }));
    assert_eq!(fort.sync(&mut a, Some(&card)).await, Some(Ok(Status::Revoked)));
    assert_eq!(renewed().await, 403);
    assert_eq!(fort.hub.read(|tx| tx.held_count(&Sight::everything())).await.unwrap(), 1);
    let contact = async || fort.hub.read(|tx| tx.gateway_named("a")).await.unwrap().unwrap().contact_ms;
    let before = contact().await;
    let mut state = a.store.state().unwrap();
    state.epoch = Epoch(77);
    a.store.set_state(&state).unwrap();
    assert_eq!(fort.sync(&mut a, Some(&card)).await, Some(Ok(Status::Rebase)));
    assert_eq!(contact().await, before, "what it says of itself is not said of its successor");
    let mut new = Clinic::new(&granted);
    assert_eq!(fort.sync(&mut new, Some(&card)).await, Some(Err(403)), "nor with the new key");
}

#[tokio::test]
async fn a_code_is_good_once_for_who_holds_the_key_and_guessing_is_slowed() {
    let fort = Fort::start().await;
    let (card, code) = (Card::new(), fort.code("a").await);
    let stolen = Card { key: Card::new().key, point: card.point.clone(), certificate: Vec::new() };
    assert_eq!(fort.enroll(&stolen, &code).await.0, 400, "another's public key; the code stays good");
    assert_eq!(fort.enroll(&card, &code).await.0, 200);
    assert_eq!(fort.enroll(&Card::new(), &code).await.0, 403, "replayed");
    for _ in 0..4 {
        assert_eq!(fort.enroll(&card, "0000000000000000").await.0, 403);
    }
    assert_eq!(fort.enroll(&card, "0000000000000000").await.0, 429);
    let good = fort.code("b").await;
    assert_eq!(fort.enroll(&card, &good).await.0, 429, "also with the right one, for a minute");
}

#[tokio::test]
async fn who_did_not_hear_the_answer_to_its_code_gets_it_again_until_it_speaks() {
    let fort = Fort::start().await;
    let (mut card, code) = (Card::new(), fort.code("a").await);
    let (status, first) = fort.enroll(&card, &code).await;
    let (again, second) = fort.enroll(&card, &code).await;
    assert_eq!((status, again), (200, 200), "{second}");
    for key in ["device", "origin", "key", "epoch", "name", "scopes"] {
        assert_eq!(first[key], second[key], "{key}");
    }
    card.certificate = unhex(second["certificate"].as_str().unwrap()).unwrap();
    assert_eq!(fort.sync(&mut Clinic::new(&second), Some(&card)).await, Some(Ok(Status::Ok)));
    assert_eq!(fort.enroll(&card, &code).await.0, 403, "it has heard it");
    let (other, given) = (Card::new(), secret::code().unwrap());
    let code = secret::normal_code(&given);
    fort.hub.write(move |tx| give_code(tx, "a", &given, 1)).await.unwrap();
    assert_eq!(fort.enroll(&other, &code).await.0, 200);
    fort.hub.write(|tx| tx.revoke("a")).await.unwrap();
    assert_eq!(fort.enroll(&other, &code).await.0, 403, "revoked meanwhile");
}

#[tokio::test]
async fn an_older_tls_is_refused_and_who_is_slow_to_shake_hands_is_cut_off() {
    let fort = Fort::start().await;
    let (address, old) = (fort.address, fort.client(None, &rustls::version::TLS12));
    let talk = move || {
        let mut stream = connect(address, old);
        assert!(stream.write_all(b"GET / HTTP/1.1\r\n\r\n").is_err(), "TLS 1.2");
        let mut silent = TcpStream::connect(address).unwrap();
        silent.write_all(&[0x16, 3, 1]).unwrap();
        assert_eq!(silent.read(&mut [0; 64]).unwrap(), 0, "cut off");
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
}

#[tokio::test]
async fn a_code_says_where_the_hub_is_and_never_everywhere() {
    let fort = Fort::start().await;
    fort.hub.write(|tx| tx.set_address("")).await.unwrap();
    fort.hub.write(|tx| tx.note_bound("0.0.0.0:8480")).await.unwrap();
    let told = fort.hub.add_gateway("a", &["mw"], "clinic").await.unwrap_err().to_string();
    assert!(told.contains("outpost-hub init"), "{told}");
    fort.hub.write(|tx| tx.set_address("hub.example.org:8480")).await.unwrap();
    let told = fort.hub.add_gateway("b", &["mw"], "clinic").await.unwrap();
    assert_eq!(Ticket::parse(&told).unwrap().address, "hub.example.org:8480");
}

#[tokio::test]
async fn what_holds_keys_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let fort = Fort::start().await;
    let (file, copy) = (fort._dir.path().join("hub.db"), fort._dir.path().join("copy.db"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    crate::hub::open_database(fort._dir.path()).unwrap().back_up(&copy, now_ms()).unwrap();
    for path in [file, copy] {
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn a_hub_that_was_put_back_has_the_authority_that_it_had() {
    let fort = Fort::start().await;
    let (mut a, card) = fort.clinic("a").await;
    let file = fort._dir.path().join("copy");
    std::fs::create_dir(&file).unwrap();
    crate::hub::open_database(fort._dir.path()).unwrap().back_up(&file.join("hub.db"), now_ms()).unwrap();
    let again = Hub::open_with(&file, Config::default()).unwrap();
    assert_eq!(again.authority().unwrap().certificate(), fort.authority().certificate());
    again.authority().unwrap().judge(&CertificateDer::from(card.certificate.clone()), now_ms(), 0).unwrap();
    assert_eq!(fort.sync(&mut a, Some(&card)).await, Some(Ok(Status::Ok)));
}

#[tokio::test]
async fn a_twin_that_a_restored_hub_does_not_know_is_taken_in_by_the_certificate_of_its_card_only() {
    let fort = Fort::start().await;
    let (mut a, card) = fort.clinic("a").await;
    let (_, other) = fort.clinic("b").await;
    assert_eq!(fort.sync(&mut a, Some(&card)).await, Some(Ok(Status::Ok)));
    let mut twin = Clinic { store: a.store.clone(), packer: Packer::new(Effort::Quick).unwrap(), ..a };
    let state = twin.store.state().unwrap();
    let speak_with = |twin: &mut Clinic, key: DeviceKey| {
        let (device, epoch) = (Device(9), Epoch(77));
        twin.store.set_state(&GatewayState { device, epoch, key, turn: 0, ..state.clone() }).unwrap();
    };
    let is_known = async || fort.hub.read(|tx| tx.gateway(Device(9))).await.unwrap().is_some();
    speak_with(&mut twin, state.key.part(9));
    assert_eq!(fort.sync(&mut twin, None).await, Some(Err(403)));
    assert_eq!(fort.sync(&mut twin, Some(&other)).await, Some(Err(403)), "with the certificate of another gateway");
    assert!(!is_known().await, "nothing of that is kept");
    speak_with(&mut twin, state.key.part(8));
    assert_eq!(fort.sync(&mut twin, Some(&card)).await, Some(Ok(Status::Denied)), "with the key of another twin");
    speak_with(&mut twin, state.key.part(9));
    fort.hub.write(|tx| tx.revoke("a")).await.unwrap();
    assert_eq!(fort.sync(&mut twin, Some(&card)).await, Some(Err(403)), "of a card that was revoked");
    fort.hub.write(|tx| tx.allow("a")).await.unwrap();
    assert!(!is_known().await);
    assert_eq!(fort.sync(&mut twin, Some(&card)).await, Some(Ok(Status::Rebase)));
    assert!(is_known().await);
    twin.put("patient/of-the-twin", json!({ "name": "Asha" }));
    for _ in 0..10 {
        fort.sync(&mut twin, Some(&card)).await.unwrap().unwrap();
    }
    assert_eq!(fort.hub.read(|tx| tx.counts(&Sight::everything())).await.unwrap().0, 1, "what it wrote has come");
    assert_eq!(fort.sync(&mut twin, Some(&other)).await, Some(Err(403)), "it is bound to the key of its card");
}
