//! The daemon: local API and sync loop on one store, until a signal.
//!
//! One daemon runs on a data folder: it holds the [`Lock`].

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api::{App, router, serve};
use crate::clock::Clock;
use crate::config::Config;
use crate::disk::Disk;
use crate::error::{Class, Error};
use crate::lock::Lock;
use crate::service;
use crate::store::{Options, Store, set_aside};
use crate::sync::{SyncLoop, sync_loop};
use crate::upkeep::{Caretaker, Ending};

/// How often, and how many times, it is looked whether the database is in use before it is set aside.
const CLOSE_LOOK: Duration = Duration::from_millis(50);
const CLOSE_LOOKS: u32 = 600;

/// A gateway that is ready to serve: everything but the listener.
#[derive(Debug)]
pub struct Gateway {
    /// What the API works on.
    pub app: App,
    /// The sync loop, to be run.
    pub sync: SyncLoop,
    /// Looks after the database, to be run.
    pub caretaker: Caretaker,
}

impl Gateway {
    /// Opens the store, and prepares the sync loop.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub fn open(data_dir: &Path, config: &Config) -> Result<Gateway, Error> {
        let store = Store::open(data_dir, Options::default())?;
        let clock = Clock::of_boot(store.boot());
        let (handle, sync) = sync_loop(store.clone(), clock.clone(), config.sync_interval());
        let disk = Disk::new(data_dir, config.disk_reserve_bytes());
        let caretaker = Caretaker::new(store.clone(), handle.clone(), clock.clone(), config.backup.clone());
        Ok(Gateway { app: App { store, clock, disk, sync: handle }, sync, caretaker })
    }

    /// Serves apps and syncs until `shutdown`, or until the database must not be used any more.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Ending {
        let (stop, stopped) = watch::channel(false);
        let mut told = stopped.clone();
        let sync = tokio::spawn(self.sync.run(async move {
            let _ = told.changed().await;
        }));
        let mut care = tokio::spawn(self.caretaker.run(stopped));
        let mut ending = Ending::Asked;
        let until = async {
            tokio::select! {
                () = shutdown => {}
                ended = &mut care => ending = ended.unwrap_or(Ending::Asked),
            }
        };
        serve(listener, router(self.app), until).await;
        let _ = stop.send(true);
        let _ = sync.await;
        if ending == Ending::Asked && !care.is_finished() {
            let _ = care.await;
        }
        ending
    }
}

/// Runs the daemon in a data folder. `announce` is told the address before anything is served.
///
/// # Errors
/// [`Error::InUse`] if another daemon runs there; [`Error::Listen`] if the address is taken; [`Error`] of the store.
pub async fn run(
    data_dir: &Path,
    config: &Config,
    announce: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut lock = Lock::for_daemon(data_dir).await?;
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|source| Error::Listen { address: config.listen, source })?;
    let (address, listener) = (listener.local_addr()?, listener.into_std()?);
    let mut gateway = Gateway::open(data_dir, config)?;
    lock.publish(address)?;
    announce(address);
    tokio::pin!(shutdown);
    loop {
        let store = gateway.app.store.clone();
        // The address stays ours while the database is changed: apps that come then wait a moment.
        let listener = TcpListener::from_std(listener.try_clone()?)?;
        let ending = tokio::select! {
            // Serving first, which listens for the end: whoever is told that we are ready may ask for it at once.
            biased;
            ending = gateway.serve(listener, &mut shutdown) => ending,
            never = service::vouch(&store, address) => match never {},
        };
        if ending == Ending::Asked {
            service::ending();
            return Ok(());
        }
        close(store).await?;
        set_aside(data_dir)?;
        gateway = Gateway::open(data_dir, config)?;
    }
}

/// Closes a store that others may still be working with. SQLite removes its log by name when the last connection goes, so
/// the files must not have other names by then.
async fn close(store: Store) -> Result<(), Error> {
    for _ in 0..CLOSE_LOOKS {
        if store.is_last() {
            drop(store);
            return Ok(());
        }
        tokio::time::sleep(CLOSE_LOOK).await;
    }
    Err(Error::Told {
        class: Class::Broken,
        detail: "the database must not be used any more, and something still uses it; start outpost again".to_owned(),
    })
}
