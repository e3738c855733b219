//! What the service manager hears of the hub (systemd with `Type=notify`): that it is ready, once it listens and its writer
//! has answered, and then that it is alive, each time after the writer has answered again.
//!
//! A hub whose writer or runtime hangs is silent, and is started again. A write that fails is an answer: starting again
//! mends no full disk. Nothing is written for it to the disk.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;

use sd_notify::NotifyState;
use tokio::time::sleep;

use crate::error::StoreError;
use crate::hub::Hub;

/// Signs of life in the time after which the service manager gives up; one may come late, and one may be lost.
const SIGNS: u32 = 4;

/// Vouches for a hub that listens at `address`, for as long as it is polled.
pub(crate) async fn vouch(hub: &Hub, address: SocketAddr) -> Infallible {
    answered(hub).await;
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("serving gateways on {address}"))]);
    let Some(patience) = sd_notify::watchdog_enabled() else { return pending().await };
    loop {
        tell(&[NotifyState::Watchdog]);
        sleep(patience / SIGNS).await;
        answered(hub).await;
    }
}

/// Says that the hub ends because it was asked to.
pub(crate) fn ending() {
    tell(&[NotifyState::Stopping]);
}

async fn answered(hub: &Hub) {
    if let Err(error) = hub.write(|_| Ok::<(), StoreError>(())).await {
        tracing::warn!(%error, "the store answers with a failure");
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
