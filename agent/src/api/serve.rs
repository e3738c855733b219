//! The listeners: connections within a limit, slow ones cut off, and a shutdown that lets running requests end.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use futures_util::future::join_all;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::guard::Source;
use super::patience::PatientStream;
use crate::apps::source;

/// Connections at once from this machine; more wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// The same from the network, and from one address of it.
const CONNECTIONS_NETWORK_MAX: usize = 128;
const CONNECTIONS_OF_ONE_MAX: usize = 24;
/// The same from one /64 of IPv6. One neighbour can have all its addresses, but all tablets on a network may have addresses of the
/// same one, so it is neither all nor few.
const CONNECTIONS_OF_PREFIX_MAX: usize = 96;
/// A client that has not shaken hands by then is cut off.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A client that has not sent its headers by then is cut off.
const HEADER: Duration = Duration::from_secs(15);
/// Bytes of the headers of a request.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// How long running requests may go on after the shutdown began.
const GRACE: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener with what it serves.
pub struct Entry {
    listener: TcpListener,
    router: Router,
    tls: Option<TlsAcceptor>,
    of_one_max: usize,
    of_prefix_max: usize,
    all_max: usize,
    handshake: Duration,
    header: Duration,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Entry {
    /// For this machine.
    pub fn local(listener: TcpListener, router: Router) -> Entry {
        let (all_max, of_one_max, of_prefix_max) = (CONNECTIONS_MAX, CONNECTIONS_MAX, CONNECTIONS_MAX);
        let (handshake, header) = (HANDSHAKE, HEADER);
        Entry { listener, router, tls: None, of_one_max, of_prefix_max, all_max, handshake, header }
    }

    /// For the network.
    pub fn network(listener: TcpListener, router: Router, tls: TlsAcceptor) -> Entry {
        let (all_max, of_one_max) = (CONNECTIONS_NETWORK_MAX, CONNECTIONS_OF_ONE_MAX);
        let (of_prefix_max, handshake, header) = (CONNECTIONS_OF_PREFIX_MAX, HANDSHAKE, HEADER);
        Entry { listener, router, tls: Some(tls), of_one_max, of_prefix_max, all_max, handshake, header }
    }

    /// With less patience, for tests.
    #[cfg(test)]
    pub(crate) fn hurried(self, patience: Duration) -> Entry {
        Entry { handshake: patience, header: patience, ..self }
    }

    async fn run(self, mut stopped: watch::Receiver<bool>) {
        let permits = Arc::new(Semaphore::new(self.all_max));
        let (sources, entry) = (Sources::default(), Arc::new(self));
        loop {
            let permit = tokio::select! {
                permit = Arc::clone(&permits).acquire_owned() => permit,
                () = ends(&mut stopped) => break,
            };
            let accepted = tokio::select! {
                accepted = entry.listener.accept() => accepted,
                () = ends(&mut stopped) => break,
            };
            let (stream, from) = match accepted {
                Ok((stream, from)) => (stream, from.ip().to_canonical()),
                Err(error) => {
                    // Out of file descriptors, most likely: it passes when connections end.
                    tracing::warn!(error = %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = sources.enter(from, entry.of_one_max, entry.of_prefix_max) else { continue };
            let (entry, stopped) = (Arc::clone(&entry), stopped.clone());
            tokio::spawn(async move {
                let _places = (permit, place);
                entry.welcome(stream, from, stopped).await;
            });
        }
        // Every connection holds a permit; when all are back, all have ended.
        let _ = timeout(GRACE, permits.acquire_many(u32::try_from(entry.all_max).unwrap_or(u32::MAX))).await;
    }

    async fn welcome(&self, stream: TcpStream, from: IpAddr, stopped: watch::Receiver<bool>) {
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.converse(stream, from, stopped).await };
        match timeout(self.handshake, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.converse(stream, from, stopped).await,
            Ok(Err(error)) => tracing::debug!(%from, %error, "no handshake"),
            Err(_) => tracing::debug!(%from, "the handshake took too long"),
        }
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        from: IpAddr,
        mut stopped: watch::Receiver<bool>,
    ) {
        let service = TowerToHyperService::new(self.router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Source(from));
            service.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header)
            .max_buf_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(PatientStream::new(stream)), service);
        tokio::pin!(connection);
        tokio::select! {
            _ = &mut connection => {}
            () = ends(&mut stopped) => {
                connection.as_mut().graceful_shutdown();
                let _ = timeout(GRACE, connection).await;
            }
        }
    }
}

async fn ends(stopped: &mut watch::Receiver<bool>) {
    // An error says that nobody is there any more to say it.
    let _ = stopped.wait_for(|is_stopped| *is_stopped).await.map(|_| ());
}

/// How many connections each address has, and each prefix.
#[derive(Debug, Clone, Default)]
struct Sources(Arc<Mutex<BTreeMap<Of, usize>>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Address(IpAddr),
    Prefix(IpAddr),
}

/// A connection; given back on drop.
struct Place(Sources, [Of; 2]);

impl Sources {
    fn enter(&self, from: IpAddr, of_one_max: usize, of_prefix_max: usize) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = [Of::Address(from), Of::Prefix(source(from))];
        let is_full =
            of.iter().zip([of_one_max, of_prefix_max]).any(|(of, max)| counts.get(of).is_some_and(|n| *n >= max));
        (!is_full).then(|| {
            of.iter().for_each(|of| *counts.entry(*of).or_default() += 1);
            Place(self.clone(), of)
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        for of in &self.1 {
            if let Some(count) = counts.get_mut(of) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(of);
                }
            }
        }
    }
}

/// Serves all of them until `shutdown`.
pub async fn serve(entries: Vec<Entry>, shutdown: impl Future<Output = ()>) {
    let (stop, stopped) = watch::channel(false);
    let running = join_all(entries.into_iter().map(|entry| entry.run(stopped.clone())));
    let stops = async {
        shutdown.await;
        let _ = stop.send(true);
    };
    tokio::join!(running, stops);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_with_many_addresses_does_not_get_all_connections() {
        let sources = Sources::default();
        let enter = |text: &str| sources.enter(text.parse().unwrap(), 1, 2);
        let held = [enter("fd00::1"), enter("fd00::2")];
        assert!(held.iter().all(Option::is_some) && enter("fd00::3").is_none());
        assert!(enter("fd00:0:0:1::1").is_some() && enter("10.0.0.1").is_some());
        drop(held);
        let held = enter("fd00::3");
        assert!(held.is_some() && enter("fd00::3").is_none(), "one address");
        drop(held);
        assert!(sources.0.lock().unwrap().is_empty());
    }
}
