//! What is asked of the provider over the network: where its endpoints are, its keys, and a token for a code.
//!
//! The only place where the hub calls somebody. What comes back is bounded in size and time, and no redirect is followed; nothing of
//! it is logged.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Url};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use serde::Deserialize;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::keys::Keys;
use super::refusal::{Refused, Trouble};
use super::settings::Oidc;
use crate::error::HubError;

const DISCOVERY_BYTES_MAX: usize = 64 * 1024;
const KEYS_BYTES_MAX: usize = 256 * 1024;
const TOKEN_BYTES_MAX: usize = 64 * 1024;
/// How long what the provider said is believed.
const FRESH: Duration = Duration::from_secs(3_600);
/// How often keys are asked for again because one is not known.
const KEYS_AGAIN: Duration = Duration::from_secs(60);
/// How long nobody asks again after a failure.
const PAUSE: Duration = Duration::from_secs(10);
/// Codes that are changed for tokens at a time.
const EXCHANGES_MAX: usize = 8;

/// An address of a provider: `https`, or plain on this machine if the issuer is there as well.
pub(super) fn address(text: &str, issuer: &str) -> Option<Url> {
    let is_here = |url: &Url| {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let url = Url::parse(text).ok()?;
    let is_safe = match url.scheme() {
        "https" => true,
        "http" => is_here(&url) && Url::parse(issuer).is_ok_and(|issuer| issuer.scheme() == "http" && is_here(&issuer)),
        _ => false,
    };
    let has_person = !url.username().is_empty() || url.password().is_some();
    (is_safe && url.host_str().is_some() && !has_person && url.fragment().is_none()).then_some(url)
}

/// Where the provider's endpoints are.
#[derive(Debug)]
pub(super) struct Endpoints {
    pub(super) authorization: Url,
    token: Url,
    keys: Url,
    /// The secret goes into the body, because the provider does not take it in the header.
    by_post: bool,
}

/// As the provider says it (OpenID Connect Discovery 1.0).
#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

#[derive(Deserialize)]
struct Answer {
    id_token: Option<Zeroizing<String>>,
    error: Option<String>,
}

#[derive(Debug, Default)]
struct Known {
    endpoints: Option<(Arc<Endpoints>, Instant)>,
    keys: Option<(Arc<Keys>, Instant)>,
    failed: Option<Instant>,
}

/// The provider, as the hub knows it.
#[derive(Debug)]
pub(super) struct Provider {
    client: Client,
    issuer: String,
    known: Mutex<Known>,
    exchanges: Semaphore,
    /// How long a code waits for its turn.
    patience: Duration,
}

/// Everything is there for a code to be changed.
#[derive(Debug)]
pub(super) struct Ready<'p> {
    endpoints: Arc<Endpoints>,
    _place: SemaphorePermit<'p>,
}

impl Provider {
    /// Nothing is asked yet: a hub starts without its provider.
    pub(super) fn open(settings: &Oidc) -> Result<Provider, HubError> {
        let patience = Duration::from_secs(settings.timeout_seconds);
        let is_plain = settings.issuer.starts_with("http:");
        let builder = match is_plain {
            // A proxy of the system would be elsewhere.
            true => Client::builder().no_proxy(),
            false => Client::builder().https_only(true),
        };
        let client = builder
            .tls_backend_preconfigured(trusting(&settings.ca_file)?)
            .timeout(patience)
            .redirect(Policy::none())
            .user_agent(concat!("outpost-hub/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| HubError::Config("[oidc] cannot be used with this system's TLS".to_owned()))?;
        let exchanges = Semaphore::new(EXCHANGES_MAX);
        Ok(Provider { client, issuer: settings.issuer.clone(), known: Mutex::default(), exchanges, patience })
    }

    /// The endpoints, asked for if they are not known or were long ago.
    pub(super) async fn endpoints(&self, now: Instant) -> Result<Arc<Endpoints>, HubError> {
        let mut known = self.known.lock().await;
        if let Some(endpoints) = fresh(&known.endpoints, FRESH, now) {
            return Ok(endpoints);
        }
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let read = |body: &[u8]| endpoints(body, &self.issuer);
        let endpoints = self.ask(&mut known, (&url, DISCOVERY_BYTES_MAX), now, read).await?;
        known.endpoints = Some((Arc::clone(&endpoints), now));
        Ok(endpoints)
    }

    /// The keys. `is_unknown`: a token was signed by one that is not among them; they are asked for again then, at most once a minute.
    pub(super) async fn keys(
        &self,
        endpoints: &Endpoints,
        is_unknown: bool,
        now: Instant,
    ) -> Result<Arc<Keys>, HubError> {
        let mut known = self.known.lock().await;
        let lasts = if is_unknown { KEYS_AGAIN } else { FRESH };
        if let Some(keys) = fresh(&known.keys, lasts, now) {
            return Ok(keys);
        }
        let keys = self.ask(&mut known, (endpoints.keys.as_str(), KEYS_BYTES_MAX), now, Keys::parse).await?;
        known.keys = Some((Arc::clone(&keys), now));
        Ok(keys)
    }

    /// Asks for a document, not again right after a failure.
    async fn ask<T>(
        &self,
        known: &mut Known,
        (url, bytes_max): (&str, usize),
        now: Instant,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Arc<T>, HubError> {
        if known.failed.is_some_and(|at| now.saturating_duration_since(at) < PAUSE) {
            return Err(Trouble::Unreachable.into());
        }
        known.failed = None;
        let began = Instant::now();
        let answered = match fetch(self.client.get(url).header(ACCEPT, "application/json"), bytes_max).await {
            Ok((200, body)) => read(&body).ok_or(Trouble::Odd),
            Ok(_) => Err(Trouble::Odd),
            Err(trouble) => Err(trouble),
        };
        if let Err(error) = answered.as_ref() {
            // From its end on: whoever waited for the same hears of it at once.
            known.failed = Some(now + began.elapsed());
            tracing::warn!(%error, "login provider");
        }
        Ok(Arc::new(answered?))
    }

    /// Sees to it that a code can be changed: the endpoint is known, and it is its turn. Nothing of the code is shown for that.
    pub(super) async fn ready(&self, now: Instant) -> Result<Ready<'_>, HubError> {
        let endpoints = self.endpoints(now).await?;
        Ok(Ready { endpoints, _place: self.place().await? })
    }

    /// A place among those who ask for a token; waited for as long as for an answer.
    async fn place(&self) -> Result<SemaphorePermit<'_>, HubError> {
        let place = timeout(self.patience, self.exchanges.acquire()).await;
        place.ok().and_then(Result::ok).ok_or(HubError::Busy)
    }

    /// Changes a code for an ID token. The code is of use to nobody without the proof.
    pub(super) async fn token(
        &self,
        ready: Ready<'_>,
        (client_id, secret): (&str, &str),
        (code, redirect, proof): (&str, &str, &str),
    ) -> Result<(Arc<Endpoints>, Zeroizing<String>), HubError> {
        let Ready { endpoints, _place } = ready;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", proof),
        ];
        let mut request = self.client.post(endpoints.token.clone());
        match endpoints.by_post {
            true => fields.extend([("client_id", client_id), ("client_secret", secret)]),
            false => request = request.basic_auth(escaped(client_id), Some(escaped(secret))),
        }
        let request =
            request.header(ACCEPT, "application/json").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let (status, body) = fetch(request.body(form(&fields)), TOKEN_BYTES_MAX).await?;
        Ok((endpoints, id_token(status, &body)?))
    }
}

/// What a document says, if it is the provider's own and leads nowhere else than over TLS.
pub(super) fn endpoints(document: &[u8], issuer: &str) -> Option<Endpoints> {
    let document: Document =
        serde_json::from_slice(document).ok().filter(|document: &Document| document.issuer == issuer)?;
    let at = |text: &str| address(text, issuer);
    let ways = &document.token_endpoint_auth_methods_supported;
    let takes = |way: &str| ways.iter().any(|known| known == way);
    let by_post = takes("client_secret_post") && !takes("client_secret_basic");
    Some(Endpoints {
        authorization: at(&document.authorization_endpoint)?,
        token: at(&document.token_endpoint)?,
        keys: at(&document.jwks_uri)?,
        by_post,
    })
}

/// The token in the answer to a code.
pub(super) fn id_token(status: u16, answer: &[u8]) -> Result<Zeroizing<String>, HubError> {
    let answer = serde_json::from_slice::<Answer>(answer).map_err(|_| Trouble::Odd)?;
    match (status, answer.id_token, answer.error.as_deref()) {
        (200, Some(token), _) => Ok(token),
        (400..=499, _, Some("invalid_grant")) => Err(Refused::NotLetIn.into()),
        // All else that RFC 6749 (5.2) has is about the hub, and the same for whoever logs in.
        (400..=499, _, Some(error)) => {
            let known =
                ["invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_request", "invalid_scope"];
            let said = known.into_iter().find(|name| error == *name);
            tracing::warn!(said = said.unwrap_or("something else"), "the login provider refuses this hub");
            Err(Trouble::Client.into())
        }
        _ => Err(Trouble::Odd.into()),
    }
}

/// What the provider said, if that was not too long ago.
fn fresh<T>(said: &Option<(Arc<T>, Instant)>, lasts: Duration, now: Instant) -> Option<Arc<T>> {
    let said = said.as_ref().filter(|(_, at)| now.saturating_duration_since(*at) < lasts);
    said.map(|(said, _)| Arc::clone(said))
}

/// Sends a request, and reads an answer that is not too large.
async fn fetch(request: RequestBuilder, bytes_max: usize) -> Result<(u16, Zeroizing<Vec<u8>>), Trouble> {
    let told = |error: reqwest::Error| if error.is_timeout() { Trouble::Silent } else { Trouble::Unreachable };
    let mut answer = request.send().await.map_err(told)?;
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = answer.chunk().await.map_err(told)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(Trouble::Overlong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok((answer.status().as_u16(), body))
}

/// Fields as a form sends them.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    let Ok(mut url) = Url::parse("form:") else { return String::new() };
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

/// One word as a form sends it, which RFC 6749 asks for before the two are put into a header.
fn escaped(word: &str) -> String {
    form(&[("", word)]).trim_start_matches('=').to_owned()
}

/// TLS with who has a certificate from this authority, or else from one that the system trusts.
fn trusting(ca_file: &Path) -> Result<ClientConfig, HubError> {
    let unusable = |why: &str| HubError::Config(format!("[oidc] ca_file {why}"));
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|_| unusable("needs TLS"))?;
    if ca_file.as_os_str().is_empty() {
        let config = config.with_platform_verifier();
        let config = config.map_err(|_| unusable("is empty, and the system has no authorities to trust"))?;
        return Ok(config.with_no_client_auth());
    }
    let read = fs::read(ca_file).map_err(|source| HubError::File { path: ca_file.to_owned(), source })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&read) {
        let certificate = certificate.map_err(|_| unusable("holds something that is no certificate"))?;
        roots.add(certificate).map_err(|_| unusable("holds a certificate that is no authority's"))?;
    }
    match roots.is_empty() {
        true => Err(unusable("holds no certificate")),
        false => Ok(config.with_root_certificates(roots).with_no_client_auth()),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    #[test]
    fn nobody_is_asked_in_the_clear_but_on_this_machine() {
        let (far, here) = ("https://id.example.org", "http://127.0.0.1:9");
        for (text, issuer, is_taken) in [
            ("https://other.example.org/token", far, true),
            ("http://id.example.org/token", far, false),
            ("http://127.0.0.1:9/token", far, false),
            ("http://127.0.0.1:9/token", here, true),
            ("http://[::1]:9/token", here, true),
            ("http://localhost.example.org/", here, false),
            ("http://id.example.org/token", here, false),
            ("https://a:b@id.example.org/token", far, false),
            ("https://id.example.org/token#x", far, false),
            ("file:///etc/passwd", far, false),
            ("token", far, false),
        ] {
            assert_eq!(address(text, issuer).is_some(), is_taken, "{text} of {issuer}");
        }
    }

    #[tokio::test]
    async fn a_code_waits_for_its_turn_as_long_as_for_an_answer() {
        let with = |patience: Duration| {
            let settings = Oidc { issuer: "http://127.0.0.1:9".to_owned(), ..Oidc::default() };
            Provider { patience, ..Provider::open(&settings).unwrap() }
        };
        let provider = with(Duration::from_secs(600));
        let all = provider.exchanges.acquire_many(EXCHANGES_MAX as u32).await.unwrap();
        let mut waiting = pin!(provider.place());
        assert!(poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
        drop(all);
        drop(waiting.await.unwrap());
        let provider = with(Duration::from_millis(1));
        let _all = provider.exchanges.acquire_many(EXCHANGES_MAX as u32).await.unwrap();
        assert!(matches!(provider.place().await, Err(HubError::Busy)));
    }

    #[test]
    fn fields_cannot_break_out_of_a_form() {
        assert_eq!(form(&[("a", "b&c=d"), ("e", "ü +")]), "a=b%26c%3Dd&e=%C3%BC+%2B");
        assert_eq!(escaped("a:b="), "a%3Ab%3D");
    }
}
