//! The HTTP server: connections, their limits, and an orderly end.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{self, DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::clock::possible_ms;
use crate::config::Tls;
use crate::error::HubError;
use crate::hub::Hub;
use crate::patience::{PatientStream, TAKE_SECONDS, patiently};
use crate::peer::{self, Peer};
use crate::problem::Problem;
use crate::refusals::Refusals;
use crate::sources::Connections;
use crate::strangers::with_a_small_body;
use crate::{acts, api, enroll, escrow, exchange, gate, oidc, page, proxy};

/// How long a handshake may take.
const HANDSHAKE_SECONDS: u64 = 15;
const HEADER_SECONDS: u64 = 30;
/// The head of a request, with a client's certificate that a proxy puts there. It is also what is read ahead on a connection.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// What a request may bring, but for a sync.
pub(crate) const JSON_BYTES_MAX: usize = 1024 * 1024;
/// How long exchanges under way may go on after the end was asked for.
const FAREWELL_SECONDS: u64 = 10;

fn router(hub: Hub) -> Router {
    let for_strangers = Router::new()
        .route("/enroll/v1", post(enroll::enroll))
        .route("/escrow/v1", post(escrow::deposit))
        .route("/escrow/v1/fetch", post(escrow::fetch))
        .layer(from_fn(with_a_small_body));
    let for_gateways = Router::new()
        .route("/sync/v1", post(exchange::sync))
        .route("/sync/{version}", post(exchange::sync_of_another))
        .route("/renew/v1", post(peer::renew))
        .route("/acts/v1", post(acts::take))
        .merge(for_strangers)
        .layer(from_fn(only_at_a_possible_time));
    let pages = Router::new()
        .route("/", get(page::page))
        .route("/login", get(gate::login_form).post(gate::log_in))
        .route("/login/oidc", post(oidc::start))
        .route("/login/oidc/code", post(oidc::code))
        .route(oidc::BACK, get(oidc::back))
        .route("/logout", post(gate::log_out))
        .route("/second-factor", get(gate::show_factor_form).post(gate::set_factor))
        .route("/password", get(gate::show_password_form).post(gate::set_password))
        .route("/healthz", get(healthz))
        .layer(from_fn(with_a_small_body));
    Router::new()
        .merge(pages)
        .merge(for_gateways)
        .nest("/admin/v1", api::router(&hub))
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX))
        .with_state(hub)
}

/// Says that the hub serves. It does so without room as well, so the status stays: what asks here may be a proxy, which would send
/// nobody any more.
async fn healthz(State(hub): State<Hub>) -> &'static str {
    match hub.room().is_short() {
        true => "ok, but nothing is taken from gateways: the disk is nearly full\n",
        false => "ok\n",
    }
}

/// Gateways give their records the hub's time, once: one that is certainly wrong is worse than none.
async fn only_at_a_possible_time(request: extract::Request, next: Next) -> Response {
    match possible_ms() {
        Ok(_) => next.run(request).await,
        Err(error) => {
            tracing::error!(%error, "a gateway was sent away");
            exchange::drain_a_little(request.into_body()).await;
            Problem::from(error).into_response()
        }
    }
}

/// The addresses from which proxies are believed, if requests come through one.
type Proxies = Option<Arc<[IpAddr]>>;

/// Where requests go, and by which way they may come.
#[derive(Clone)]
struct Door {
    service: TowerToHyperService<Router>,
    proxies: Proxies,
    /// How long a sender may be silent.
    patience: Duration,
}

/// How hands are shaken.
#[derive(Clone)]
struct Acceptor {
    tls: TlsAcceptor,
    patience: Duration,
}

/// Serves plain HTTP until `shutdown` is ready, then lets what is under way end.
pub async fn serve(listener: TcpListener, hub: Hub, shutdown: impl Future<Output = ()>) {
    serve_over(listener, None, hub, shutdown).await;
}

/// Serves TLS with the hub's own certificates.
///
/// # Errors
/// [`HubError::Certificate`] if one cannot be made, [`HubError::Config`] if the hub is one without TLS.
pub async fn serve_tls(listener: TcpListener, hub: Hub, shutdown: impl Future<Output = ()>) -> Result<(), HubError> {
    let bound =
        listener.local_addr().map_err(|source| HubError::Listen { address: "this socket".to_owned(), source })?;
    let Some(authority) = hub.authority().cloned() else { return Err(HubError::Config("tls is off".to_owned())) };
    let address = hub.read(|tx| tx.authority()).await?.map(|kept| kept.address).unwrap_or_default();
    let patience = Duration::from_secs(hub.config().read_timeout_seconds.min(HANDSHAKE_SECONDS));
    let config = authority.listener(hub.config(), &address, bound.ip())?;
    serve_over(listener, Some(Acceptor { tls: TlsAcceptor::from(Arc::new(config)), patience }), hub, shutdown).await;
    Ok(())
}

async fn serve_over(listener: TcpListener, acceptor: Option<Acceptor>, hub: Hub, shutdown: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(hub.config().connections_max));
    let proxies: Proxies = (hub.config().tls == Tls::Proxy).then(|| hub.config().trusted_proxies.clone().into());
    let patience = Duration::from_secs(hub.config().read_timeout_seconds);
    // All that comes through a proxy comes from it.
    let of_one_max = if proxies.is_some() { usize::MAX } else { hub.config().connections_of_one_max };
    let connections = Connections::default();
    let clerk = hub.clone();
    let service = TowerToHyperService::new(router(hub));
    let door = Door { service, proxies, patience };
    let (end, ending) = watch::channel(false);
    tokio::spawn(Refusals::tell_hourly(clerk.clone(), ending.clone()));
    tokio::pin!(shutdown);
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = &mut shutdown => break,
        };
        let Ok(place) = place else { break };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match stream {
            Ok((stream, from)) => {
                let Some(of_source) = connections.enter(from.ip(), of_one_max) else {
                    tracing::debug!(address = %from.ip(), "too many connections from there");
                    continue;
                };
                let (door, acceptor, ending) = (door.clone(), acceptor.clone(), ending.clone());
                tokio::spawn(async move {
                    welcome(stream, from.ip(), acceptor, door, ending).await;
                    drop((place, of_source));
                });
            }
            Err(error) => {
                // Out of file descriptors: it passes when connections end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(ending);
    let _ = end.send(true);
    let _ = timeout(Duration::from_secs(FAREWELL_SECONDS), end.closed()).await;
    // After those that were under way: they may have been refused.
    Refusals::tell(&clerk).await;
}

/// Shakes hands, if that is wanted, and goes on with who did in time.
async fn welcome(
    stream: TcpStream,
    address: IpAddr,
    acceptor: Option<Acceptor>,
    door: Door,
    ending: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = acceptor else {
        return converse(stream, address, None, door, ending).await;
    };
    match timeout(acceptor.patience, acceptor.tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let certificate = shown.map(|certificate| Arc::new(certificate.clone().into_owned()));
            converse(stream, address, certificate, door, ending).await;
        }
        Ok(Err(error)) => tracing::debug!(%address, %error, "no handshake"),
        Err(_) => tracing::debug!(%address, "the handshake took too long"),
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    from: IpAddr,
    certificate: Option<Arc<CertificateDer<'static>>>,
    Door { service, proxies, patience }: Door,
    mut ending: watch::Receiver<bool>,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        let peer = match &proxies {
            Some(trusted) => proxy::peer(from, request.headers(), trusted),
            None => Ok(Peer { address: Some(from), certificate: certificate.clone() }),
        };
        let service = service.clone();
        async move {
            match peer {
                Ok(peer) => {
                    request.extensions_mut().insert(peer);
                    let (parts, body) = request.into_parts();
                    let (body, lateness) = patiently(body, patience);
                    let answer = service.call(Request::from_parts(parts, body)).await;
                    // Whoever read the body knows only that it did not end well.
                    let says_so = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE];
                    let is_cut = answer.as_ref().is_ok_and(|answer| says_so.contains(&answer.status()));
                    if is_cut && lateness.is_too_slow() { Ok(Problem::too_slow().into_response()) } else { answer }
                }
                Err(refused) => {
                    // Anybody may knock: not one line in the log for each.
                    tracing::debug!(error = %refused, "request refused");
                    Ok(Problem::from(refused).into_response())
                }
            }
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(HEADER_SECONDS));
    server.max_buf_size(HEADER_BYTES_MAX);
    let stream = PatientStream::new(stream, Duration::from_secs(TAKE_SECONDS));
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A connection that breaks is nothing to write about: the link is like that.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ending.wait_for(|is_ending| *is_ending) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
