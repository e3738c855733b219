//! Telling the service manager how the daemon is, where there is one that asks (systemd with `Type=notify`): ready when the
//! writer has answered for the first time, and alive for as long as it goes on answering and the sync loop goes on.
//!
//! Each sign of life is a closure that went through the writer and back through the runtime, and is withheld if the sync loop
//! is late for its next step. A program that hangs in any of them is silent, and is started again. A write that fails is an
//! answer: starting again does not mend a full card. Nothing is written for it to the card.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::error::Error;
use crate::store::Store;
use crate::sync::Pulse;

/// Signs of life in the time after which the service manager gives up; one may come late, and one may be lost.
const SIGNS: u32 = 4;

/// Where apps reach the daemon.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    /// From this machine.
    pub(crate) local: SocketAddr,
    /// From the clinic's network, if it is open to it.
    pub(crate) network: Option<SocketAddr>,
}

impl Places {
    fn told(self) -> String {
        let network = self.network.map(|address| format!(", and paired apps on https://{address}"));
        format!("serving this machine on http://{}{}", self.local, network.unwrap_or_default())
    }
}

/// Vouches for the daemon on this store, with this sync loop, for as long as it is polled.
pub(crate) async fn vouch(store: &Store, pulse: &Pulse, places: Places) -> Infallible {
    answered(store).await;
    tell(&[NotifyState::Ready, NotifyState::Status(&places.told())]);
    let Some(patience) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    loop {
        if is_going_on(pulse) {
            tell(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(pause(patience)).await;
        answered(store).await;
    }
}

fn is_going_on(pulse: &Pulse) -> bool {
    let is_late = pulse.is_late();
    if is_late {
        tracing::error!("the sync loop hangs; a service manager that watches starts outpost again");
    }
    !is_late
}

/// The same for one that waits for something, which has no store yet. It is ready as far as it can be: what it waits for may take days.
pub(crate) async fn vouch_waiting(what: &str) -> Infallible {
    tell(&[NotifyState::Ready, NotifyState::Status(what)]);
    let Some(patience) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    loop {
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(pause(patience)).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::Options;
    use crate::sync::sync_loop;

    #[tokio::test]
    async fn a_sync_loop_that_hangs_is_not_vouched_for_and_one_that_goes_on_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let (handle, sync) = sync_loop(store, Clock::default(), Duration::from_secs(300));
        let pulse = handle.pulse();
        assert!(is_going_on(&pulse), "it has only begun");
        pulse.stop();
        assert!(!is_going_on(&pulse));
        let asks = async {
            // It is not enrolled: that is an answer, after which it waits for the next reason.
            assert!(matches!(handle.sync_now().await, Err(Error::NotEnrolled)));
            assert!(is_going_on(&pulse), "it went on");
        };
        tokio::select! {
            () = sync.run(std::future::pending()) => {}
            () = asks => {}
        }
    }

    #[test]
    fn the_status_says_where_apps_come_in() {
        let local = SocketAddr::from(([127, 0, 0, 1], 8470));
        assert_eq!(Places { local, network: None }.told(), "serving this machine on http://127.0.0.1:8470");
        let network = Some(SocketAddr::from(([0, 0, 0, 0], 8471)));
        assert!(Places { local, network }.told().ends_with(", and paired apps on https://0.0.0.0:8471"));
    }
}
