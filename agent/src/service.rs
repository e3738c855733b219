//! Telling the service manager how the daemon is, where there is one that asks (systemd with `Type=notify`): ready when the
//! writer has answered for the first time, and alive for as long as it goes on answering.
//!
//! Each sign of life is a closure that went through the writer and back through the runtime. A program that hangs in either
//! is silent, and is started again. A write that fails is an answer: starting again does not mend a full card. Nothing is
//! written for it to the card.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::error::Error;
use crate::store::Store;

/// Signs of life in the time after which the service manager gives up; one may come late, and one may be lost.
const SIGNS: u32 = 4;

/// Vouches for the daemon on this store for as long as it is polled.
pub(crate) async fn vouch(store: &Store, address: SocketAddr) -> Infallible {
    answered(store).await;
    let told = format!("serving apps on http://{address}");
    tell(&[NotifyState::Ready, NotifyState::Status(&told)]);
    let Some(patience) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    loop {
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(pause(patience)).await;
        answered(store).await;
    }
}

/// Says that the daemon ends because it was asked to.
pub(crate) fn ending() {
    tell(&[NotifyState::Stopping]);
}

/// Waits until the writer has taken something up and answered.
async fn answered(store: &Store) {
    if let Err(error) = store.write(|_| Ok::<(), Error>(())).await {
        tracing::warn!(error.class = error.class().name(), "the store answers with a failure: {error}");
    }
}

fn pause(patience: Duration) -> Duration {
    patience / SIGNS
}

/// Without a service manager nobody is told. One that does not listen will start us again, which is its right.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
