//! The HTTP server: connections, their limits, and an orderly end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::hub::Hub;
use crate::{api, enroll, exchange, page};

const HEADER_SECONDS: u64 = 30;
const JSON_BYTES_MAX: usize = 1024 * 1024;
/// How long exchanges under way may go on after the end was asked for.
const FAREWELL_SECONDS: u64 = 10;

fn router(hub: Hub) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/healthz", get(async || "ok\n"))
        .route("/sync/v1", post(exchange::sync))
        .route("/enroll/v1", post(enroll::enroll))
        .nest("/admin/v1", api::router(&hub))
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX))
        .with_state(hub)
}

/// Serves until `shutdown` is ready, then lets what is under way end.
pub async fn serve(listener: TcpListener, hub: Hub, shutdown: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(hub.config().connections_max));
    let service = TowerToHyperService::new(router(hub));
    let (end, ending) = watch::channel(false);
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
            Ok((stream, _)) => {
                let (service, ending) = (service.clone(), ending.clone());
                tokio::spawn(async move {
                    converse(stream, service, ending).await;
                    drop(place);
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
}

async fn converse(stream: TcpStream, service: TowerToHyperService<Router>, mut ending: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(HEADER_SECONDS));
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A connection that breaks is nothing to write about: the link is like that.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ending.wait_for(|is_ending| *is_ending) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
