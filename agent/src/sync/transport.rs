//! The way to the hub: HTTPS by reqwest. The only place of the program that speaks over the network to anyone but an app.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sync_protocol::limits::RULES_BYTES_MAX;
use sync_protocol::ticket::FINGERPRINT_BYTES;
use tokio::time::timeout;

use super::patience::{Patience, until_answered};
use super::tls;
use crate::acts::Who;
use crate::api::WHO_HEADER;
use crate::clock::Clock;
use crate::error::{Class, Error};
use crate::store::Identity;

/// What an exchange is labelled with; whatever answers with something else is not a hub.
pub(super) const SYNC_TYPE: &str = "application/vnd.outpost.sync";
const JSON_TYPE: &str = "application/json";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// What was sent and is not acknowledged for so long will not be: the link is gone.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);
/// What a hub answers in JSON: at most its rules, of which JSON may make twice as much, and certificates.
const JSON_BYTES_MAX: usize = 4 * RULES_BYTES_MAX;
/// How long such an answer may take in all: whoever vouches for the daemon hears nothing meanwhile.
const JSON_SECONDS_MAX: u64 = 5 * 60;
/// What is kept of a reason that a hub gives.
const REASON_CHARS_MAX: usize = 500;

/// Whom a client trusts, and who it is itself.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Whom the system trusts, as for a hub behind a proxy; without a certificate of its own.
    System,
    /// The hub whose authority's key has this fingerprint: the first contact.
    Fingerprint([u8; FINGERPRINT_BYTES]),
    /// The hub that gave this.
    Member(Identity),
}

/// A client for one hub.
#[derive(Debug, Clone)]
pub struct Transport {
    client: reqwest::Client,
    base: String,
}

/// An answer that is still arriving.
#[derive(Debug)]
pub struct Incoming {
    response: reqwest::Response,
    patience: Patience,
}

impl Transport {
    /// A client for the hub at `base`, such as `https://hub.example.org`.
    ///
    /// # Errors
    /// [`Error::Config`] if that is no address of a hub, [`Error::Told`] if everybody could read what is said there.
    pub fn new(base: &str, clock: &Clock, trust: &Trust) -> Result<Transport, Error> {
        let url = reqwest::Url::parse(base)
            .map_err(|_| Error::Config(format!("{base} is not an address such as https://hub.example.org")))?;
        let tls = match (url.scheme(), url.host_str(), trust) {
            ("https", Some(_), Trust::System) => Some(tls::of_system(clock)?),
            ("https", Some(_), Trust::Fingerprint(fingerprint)) => Some(tls::of_fingerprint(clock, *fingerprint)?),
            ("https", Some(_), Trust::Member(identity)) => Some(tls::of_member(clock, identity)?),
            ("http", Some(host), Trust::System) if is_this_machine(host) => None,
            ("http", Some(_), _) => return Err(in_the_clear(base)),
            _ => return Err(Error::Config(format!("{base} is not an address such as https://hub.example.org"))),
        };
        let builder = match tls {
            Some(tls) => builder().tls_backend_preconfigured(tls),
            // A proxy of the system would be elsewhere.
            None => builder().no_proxy(),
        };
        let client = builder
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(UNACKNOWLEDGED_MAX)
            // A captive portal redirects; a hub does not.
            .redirect(Policy::none())
            .user_agent(concat!("outpost/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(Error::offline)?;
        Ok(Transport { client, base: base.trim_end_matches('/').to_owned() })
    }

    /// Sends one exchange; the answer is read frame by frame as it comes.
    ///
    /// # Errors
    /// [`Error::Offline`] if nobody answered, or something that is not a hub did.
    pub async fn exchange(&self, body: Vec<u8>) -> Result<Incoming, Error> {
        self.post("/sync/v1", SYNC_TYPE, body).await
    }

    /// Sends JSON and reads JSON.
    ///
    /// # Errors
    /// [`Error::Offline`] as above; [`Error::Denied`] with the hub's words if it refused.
    pub async fn post_json<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|e| Error::Config(e.to_string()))?;
        let answer = self.post(path, JSON_TYPE, body).await?.whole(JSON_BYTES_MAX);
        let bytes = timeout(Duration::from_secs(JSON_SECONDS_MAX), answer).await.map_err(Error::offline)??;
        serde_json::from_slice(&bytes)
            .map_err(|_| Error::Rejected("the hub's answer is not in a form that this version reads".to_owned()))
    }

    /// Sends something, to which the answer is of the same type.
    async fn post(&self, path: &str, content_type: &'static str, body: Vec<u8>) -> Result<Incoming, Error> {
        let patience = until_answered(body.len());
        let request = self.client.post(format!("{}{path}", self.base)).header(CONTENT_TYPE, content_type).body(body);
        let response = timeout(patience, request.send()).await.map_err(Error::offline)?.map_err(Error::offline)?;
        let incoming = Incoming { response, patience: Patience::new() };
        match incoming.content_type() == content_type {
            true => Ok(incoming),
            false => Err(incoming.not_a_hub().await),
        }
    }
}

/// Whether a host of an address is the machine itself, so that what is said to it goes over no wire.
fn is_this_machine(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn in_the_clear(base: &str) -> Error {
    let detail = format!(
        "{base} would have records go over the network for everybody to read: use an https:// address, or enrol this gateway with \
         a code of its hub (outpost-hub gateway code NAME); http:// is for a hub on this machine that gave no certificate"
    );
    Error::Told { class: Class::Config, detail }
}

fn builder() -> reqwest::ClientBuilder {
    // Set once for the process; a second call finds it set, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}

impl Incoming {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Offline`] if the link was cut, or too little comes over it.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let began = Instant::now();
        let chunk = timeout(self.patience.left(), self.response.chunk()).await.map_err(Error::offline)?;
        let chunk = chunk.map_err(Error::offline)?;
        self.patience.earn(chunk.as_ref().map_or(0, |bytes| bytes.len()), began.elapsed());
        Ok(chunk.map(Into::into))
    }

    /// All that comes, of at most `bytes_max`.
    ///
    /// # Errors
    /// As [`chunk`](Self::chunk), and [`Error::Rejected`] if it is more.
    pub async fn whole(mut self, bytes_max: usize) -> Result<Vec<u8>, Error> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            whole.extend_from_slice(&chunk);
            if whole.len() > bytes_max {
                return Err(Error::Rejected("the hub's answer is larger than any answer may be".to_owned()));
            }
        }
        Ok(whole)
    }

    fn content_type(&self) -> &str {
        let value = self.response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim()
    }

    /// What something that is not the expected answer means: a problem document is the hub's refusal, all else no link.
    async fn not_a_hub(self) -> Error {
        let status = self.response.status().as_u16();
        if self.content_type() != "application/problem+json" {
            return Error::Portal(status);
        }
        let bytes = self.whole(JSON_BYTES_MAX).await.unwrap_or_default();
        let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let detail = body.get("detail").and_then(|d| d.as_str()).unwrap_or("no reason given");
        let detail = detail.chars().take(REASON_CHARS_MAX).collect();
        match status {
            401 | 403 => Error::Denied(detail),
            507 => Error::HubFull(detail),
            429 | 500..=599 => Error::Busy(detail),
            // Some other program with an API: a hub has all the paths that are asked for.
            404 | 405 => Error::Portal(status),
            _ => Error::Rejected(detail),
        }
    }
}

/// Asks the daemon of this machine over its local API, and gives status and body.
///
/// # Errors
/// [`Error::Offline`] if it does not answer.
pub async fn ask_daemon(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    content_type: &str,
    body: Vec<u8>,
) -> Result<(u16, Vec<u8>), Error> {
    let client = builder().no_proxy().redirect(Policy::none()).build().map_err(Error::offline)?;
    let method = reqwest::Method::from_bytes(method.as_bytes()).map_err(Error::offline)?;
    let request = client.request(method, format!("http://{address}{path}"));
    let who = Who::at_the_keyboard();
    let request = request.header(CONTENT_TYPE, content_type).header(WHO_HEADER, who.as_str()).body(body);
    let response = request.send().await.map_err(Error::offline)?;
    let status = response.status().as_u16();
    Ok((status, response.bytes().await.map_err(Error::offline)?.into()))
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    use super::*;

    /// Whether something answers on this port of this machine over TLS.
    pub(in super::super) async fn answers_over(tls: rustls::ClientConfig, port: u16) -> bool {
        let client = builder().no_proxy().tls_backend_preconfigured(tls).build().unwrap();
        client.get(format!("https://localhost:{port}/")).send().await.is_ok()
    }

    /// Something that answers once, with this head and body.
    pub(in super::super) async fn answering(head: &str, body: &[u8]) -> (Transport, JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let answer = [format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").as_bytes(), body].concat();
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 4_096];
            let _ = stream.read(&mut asked).await.unwrap();
            // Who has read enough hangs up.
            let _ = stream.write_all(&answer).await;
        });
        (Transport::new(&base, &Clock::default(), &Trust::System).unwrap(), answering)
    }

    /// What comes of asking something that answers with this head, and a body of so many bytes.
    async fn ask(head: &str, bytes: usize) -> Error {
        let body = format!("{{\"detail\": \"{}\"}}", "x".repeat(bytes));
        let (transport, answering) = answering(head, body.as_bytes()).await;
        let told = transport.post_json::<Vec<u8>>("/renew/v1", &()).await.unwrap_err();
        answering.await.unwrap();
        told
    }

    #[tokio::test]
    async fn what_a_hub_answers_has_an_end() {
        let json = "200 OK\r\ncontent-type: application/json";
        let Error::Rejected(told) = ask(json, JSON_BYTES_MAX).await else { panic!("it was read to the end") };
        assert!(told.contains("larger"), "{told}");
        let Error::Rejected(told) = ask(json, JSON_BYTES_MAX / 2).await else { panic!("it is not what was asked for") };
        assert!(told.contains("form"), "{told}");
        let problem = "403 Forbidden\r\ncontent-type: application/problem+json";
        let Error::Denied(told) = ask(problem, 10_000).await else { panic!("it was refused") };
        assert_eq!(told.len(), REASON_CHARS_MAX);
        assert!(matches!(ask("200 OK\r\ncontent-type: text/html", 10).await, Error::Portal(200)));
    }

    #[test]
    fn nothing_goes_over_a_network_in_the_clear() {
        let identity = Identity { authority: Vec::new(), key: Vec::new().into(), certificate: Vec::new(), renew_ms: 0 };
        let speaks = |base: &str, trust: &Trust| Transport::new(base, &Clock::default(), trust).map(|_| ());
        for base in ["http://127.0.0.1:8480", "http://localhost:8480", "http://[::1]:8480/"] {
            speaks(base, &Trust::System).unwrap();
            for trust in [Trust::Member(identity.clone()), Trust::Fingerprint([0; FINGERPRINT_BYTES])] {
                assert!(
                    matches!(speaks(base, &trust), Err(Error::Told { .. })),
                    "what it trusts is not forgotten: {base}"
                );
            }
        }
        for base in
            ["http://10.0.0.5:8480", "http://hub.example.org", "http://localhost.example.org", "http://[fd00::1]"]
        {
            let Err(Error::Told { class: Class::Config, detail }) = speaks(base, &Trust::System) else {
                panic!("{base}")
            };
            assert!(detail.contains(base) && detail.contains("https://"), "{detail}");
        }
        for base in ["ftp://localhost", "file:///etc", "hub.example.org"] {
            assert!(matches!(speaks(base, &Trust::System), Err(Error::Config(_))), "{base}");
        }
    }
}
