//! What is looked at before anything else: under which name the gateway was asked for, by whose page, and with which token.
//!
//! A page of a stranger can make a browser on the clinic's network, or on the box itself, ask anything of the gateway. It can
//! bind a name of its own to the gateway's address, but not an address, and not a name that is ours; and it cannot keep the
//! browser from saying whose page it is (Fetch, `Origin` and `Sec-Fetch-Site`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::App;
use super::caller::{AppCaller, Caller};
use super::patience::patiently;
use super::problem::Problem;
use super::write::AUTHOR_HEADER;
use crate::apps::Refused;
use crate::error::Error;

/// How long a browser may remember what it may ask.
const PREFLIGHT_KEPT: std::time::Duration = std::time::Duration::from_secs(600);
const FETCH_SITE: &str = "sec-fetch-site";
const FETCH_MODE: &str = "sec-fetch-mode";
const FETCH_DEST: &str = "sec-fetch-dest";

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source(pub(crate) IpAddr);

/// Under which names a listener answers, and to whose pages.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    scheme: &'static str,
    /// Besides addresses.
    names: Vec<String>,
    is_local: bool,
    origins: Vec<String>,
}

impl Manners {
    /// Of the listener for this machine.
    pub(crate) fn local() -> Manners {
        Manners { scheme: "http", names: vec!["localhost".to_owned()], is_local: true, origins: Vec::new() }
    }

    /// Of the listener for the network.
    pub(crate) fn network(names: Vec<String>, origins: Vec<String>) -> Manners {
        Manners { scheme: "https", names, is_local: false, origins }
    }

    /// Puts this before everything of a router.
    pub(crate) fn guard(self, router: Router) -> Router {
        let router = if self.origins.is_empty() { router } else { router.layer(self.cors()) };
        router.layer(middleware::from_fn_with_state(Arc::new(self), look))
    }

    fn cors(&self) -> CorsLayer {
        let origins = self.origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
        let names = ["idempotency-key", AUTHOR_HEADER, "last-event-id"].map(HeaderName::from_static);
        let known = [header::AUTHORIZATION, header::CONTENT_TYPE, header::IF_MATCH, header::IF_NONE_MATCH];
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([Method::GET, Method::PUT, Method::PATCH, Method::POST, Method::DELETE])
            .allow_headers(known.into_iter().chain(names).collect::<Vec<_>>())
            .expose_headers([header::ETAG, header::LOCATION])
            .allow_private_network(true)
            .max_age(PREFLIGHT_KEPT)
    }

    fn check(&self, request: &Request) -> Result<(), Problem> {
        let host = host(request)?;
        if !self.answers_to(host.host()) {
            return Err(Problem::misdirected(self.is_local));
        }
        let text = |name: &str| -> Result<Option<&str>, Problem> {
            let mut values = request.headers().get_all(name).iter();
            match (values.next().map(|value| value.to_str()), values.next()) {
                (None, _) => Ok(None),
                (Some(Ok(text)), None) => Ok(Some(text)),
                _ => Err(Problem::foreign_page(self.is_local)),
            }
        };
        let own = format!("{}://{}", self.scheme, host.as_str());
        let is_fine = match (text("origin")?, text(FETCH_SITE)?) {
            (Some(origin), _) => origin.eq_ignore_ascii_case(&own) || self.origins.iter().any(|known| known == origin),
            (None, site) => matches!(site, None | Some("none" | "same-origin")) || self.is_followed_link(request),
        };
        if is_fine { Ok(()) } else { Err(Problem::foreign_page(self.is_local)) }
    }

    /// Whether a person followed a link of another page to the page of the gateway. It is shown to that person, in no frame, and
    /// does nothing by being shown; the page with the link learns nothing of it.
    fn is_followed_link(&self, request: &Request) -> bool {
        let is = |name: &str, wanted: &str| request.headers().get(name).is_some_and(|value| value == wanted);
        let is_page = request.method() == Method::GET && request.uri().path() == "/";
        self.is_local && is_page && is(FETCH_MODE, "navigate") && is(FETCH_DEST, "document")
    }

    fn answers_to(&self, host: &str) -> bool {
        match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => !self.is_local || address.to_canonical().is_loopback(),
            Err(_) => self.names.iter().any(|name| name.eq_ignore_ascii_case(host)),
        }
    }
}

/// The one name under which the gateway was asked for.
fn host(request: &Request) -> Result<Authority, Problem> {
    let mut named = request.headers().get_all(header::HOST).iter();
    let (first, second) = (named.next(), named.next());
    let parsed = first.and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<Authority>().ok());
    let in_target = request.uri().authority();
    match (parsed, second) {
        (Some(host), None) if !host.as_str().contains('@') && in_target.is_none_or(|told| *told == host) => Ok(host),
        _ => Err(Problem::bad_request("A request has one Host header, with the name of the gateway.")),
    }
}

async fn look(State(manners): State<Arc<Manners>>, request: Request, next: Next) -> Result<Response, Problem> {
    manners.check(&request)?;
    Ok(next.run(request.map(|body| Body::new(patiently(body)))).await)
}

/// Everybody on this machine is let in.
pub(crate) async fn admit_machine(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Caller::Machine);
    next.run(request).await
}

/// Lets in who shows a token.
pub(crate) async fn admit_app(
    State(app): State<App>,
    Extension(Source(from)): Extension<Source>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let time = app.clock.bounds();
    let shown = bearer(request.headers()).unwrap_or_default();
    let token = app.door.admit(shown, from, Instant::now(), time).map_err(|refused| match refused {
        Refused::Wrong => Problem::not_admitted(),
        Refused::Slowed => Problem::slow_down("Too many wrong tokens came from there."),
    })?;
    if let Some(used) = app.door.note_use(&token, time) {
        let store = app.store.clone();
        // Nobody waits for it: if it is lost, it is noted again tomorrow.
        tokio::spawn(async move { store.write(move |tx| tx.note_app_use(&used)).await.map_err(log) });
    }
    let caller = AppCaller { token, door: app.door.clone(), clock: app.clock.clone() };
    request.extensions_mut().insert(Caller::App(caller));
    Ok(next.run(request).await)
}

fn log(error: Error) {
    tracing::warn!(error.class = error.class().name(), "the visit of an app could not be noted: {error}");
}

/// The token of the only `Authorization` header (RFC 6750).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let (scheme, token) = shown.next()?.to_str().ok()?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && shown.next().is_none()).then(|| token.trim())
}
