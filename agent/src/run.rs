//! The daemon: local API and sync loop on one store, until a signal.
//!
//! One daemon runs on a data folder: it holds the [`Lock`].

use std::future::Future;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::api::{self, App, Entry, serve};
use crate::apps::Door;
use crate::board;
use crate::clock::{Clock, Machine};
use crate::config::{Config, NetworkConfig};
use crate::disk::Disk;
use crate::error::{Class, Error};
use crate::keys::{self, wait_for_key};
use crate::lock::Lock;
use crate::network::{Ahead, Announcement, Entrance};
use crate::read_only::Copy;
use crate::service::{self, Places};
use crate::store::{DataKey, Home, Options, Store, begin_anew, files_aside, rebuild};
use crate::sync::{SyncLoop, sync_loop};
use crate::upkeep::{Caretaker, Ending};

/// How often, and how many times, it is looked whether the database is in use before it is set aside.
const CLOSE_LOOK: Duration = Duration::from_millis(50);
const CLOSE_LOOKS: u32 = 600;

/// Broken databases that are kept beside the one in use, before a damaged one is no longer made anew.
const ASIDE_MAX: usize = 3;

/// A gateway that is ready to serve: everything but the listener.
#[derive(Debug)]
pub struct Gateway {
    /// What the API works on.
    pub app: App,
    /// The sync loop, to be run.
    pub sync: SyncLoop,
    /// Looks after the database, to be run.
    pub caretaker: Caretaker,
    network: Option<Network>,
}

/// What is needed to serve the network.
struct Network {
    listener: TcpListener,
    tls: TlsAcceptor,
    entrance: Arc<Entrance>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Opens the store, and prepares the sync loop.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub fn open(home: impl Into<Home>, config: &Config) -> Result<Gateway, Error> {
        let store = Store::open(home, Options::default())?;
        let home = store.home();
        let clock = Clock::of_boot(store.boot());
        let (handle, mut sync) = sync_loop(store.clone(), clock.clone(), config.sync_interval());
        sync.keep_at_hub(config.encryption.escrow);
        let disk = Disk::new(home.dir(), config.disk_reserve_bytes());
        let caretaker = Caretaker::new(store.clone(), handle.clone(), clock.clone(), config.backup.clone())
            .forgetting(config.retention);
        let door = door(&store);
        let app = App { store, clock, disk, sync: handle, door, entrance: None };
        Ok(Gateway { app, sync, caretaker, network: None })
    }

    /// Opens it to the clinic's network as well.
    ///
    /// # Errors
    /// [`Error`] of the store, and if the key of the gateway cannot be used.
    pub async fn open_to_network(&mut self, listener: TcpListener, config: &NetworkConfig) -> Result<(), Error> {
        let (entrance, tls) = Entrance::open(&self.app.store, listener.local_addr()?, config).await?;
        let entrance = Arc::new(entrance);
        self.app.entrance = Some(Arc::clone(&entrance));
        self.network = Some(Network { listener, tls, entrance });
        Ok(())
    }

    /// Its listeners, with what they serve.
    pub(crate) fn entries(&mut self, listener: TcpListener) -> Vec<Entry> {
        let local = Entry::local(listener, api::local(self.app.clone()));
        let network = self.network.take().map(|Network { listener, tls, entrance }| {
            Entry::network(listener, api::network(self.app.clone(), &entrance), tls)
        });
        [Some(local), network].into_iter().flatten().collect()
    }

    /// Serves apps and syncs until `shutdown`, or until the database must not be used any more.
    pub async fn serve(mut self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Ending {
        let entries = self.entries(listener);
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
        let announcement = self.app.entrance.as_deref().filter(|entrance| entrance.is_announced());
        let announcement = announcement.and_then(Announcement::make);
        serve(entries, until).await;
        drop(announcement);
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
    announce: impl FnOnce(SocketAddr, Option<SocketAddr>),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut lock = Lock::for_daemon(data_dir).await?;
    board::watch_supply();
    let copy = Copy::if_needed(data_dir, lock.is_fixed())?;
    let (data_dir, is_copy) = (copy.as_ref().map_or(data_dir, Copy::folder), copy.is_some());
    tokio::pin!(shutdown);
    let (address, listener) = listen(config.listen).await?;
    let network = config.network.listen.map(Ahead::bind).transpose()?;
    let places = Places { local: address, network: network.as_ref().map(|network| network.address) };
    let mut tell = Some(|lock: &mut Lock| {
        lock.publish(address, copy.as_ref().map(Copy::folder))?;
        announce(address, places.network);
        Ok::<_, Error>(())
    });
    let mut has_waited = false;
    let home = match keys::open(data_dir, &config.encryption).await {
        Err(error @ Error::KeyAbsent(_)) => {
            // Who waits is there, too: apps are answered, and a command finds it.
            tell.take().map_or(Ok(()), |tell| tell(&mut lock))?;
            let listener = TcpListener::from_std(listener.try_clone()?)?;
            has_waited = true;
            tokio::select! {
                home = wait_for_key(data_dir, &config.encryption, listener, error) => home?,
                () = &mut shutdown => {
                    service::ending();
                    return Ok(());
                }
            }
        }
        opened => opened?,
    };
    // Not before: at the network there is nothing to say without the database, not even who says it.
    let network = network.map(Ahead::listen).transpose()?;
    let mut gateway = match has_waited {
        true => open_vouching(home, config, is_copy).await?,
        false => open(home, config, is_copy)?,
    };
    tell.take().map_or(Ok(()), |tell| tell(&mut lock))?;
    loop {
        let (store, pulse) = (gateway.app.store.clone(), gateway.app.sync.pulse());
        forget_other_keys(&store);
        // The address stays ours while the database is changed: apps that come then wait a moment.
        let listener = TcpListener::from_std(listener.try_clone()?)?;
        if let Some(network) = &network {
            gateway.open_to_network(TcpListener::from_std(network.try_clone()?)?, &config.network).await?;
        }
        let app = gateway.app.clone();
        let ending = tokio::select! {
            // Serving first, which listens for the end: whoever is told that we are ready may ask for it at once.
            biased;
            ending = gateway.serve(listener, &mut shutdown) => ending,
            never = service::vouch(&store, &pulse, places) => match never {},
            lost = keys::renew_when_asked(&app) => return Err(lost),
        };
        let disk = app.disk.clone();
        drop(app);
        match ending {
            Ending::Asked => {
                service::ending();
                return Ok(());
            }
            Ending::ReadOnly => return Err(Error::read_only_card()),
            Ending::Unsafe | Ending::Damaged => {}
        }
        let (home, file) = (store.home(), store.path().to_owned());
        close(store).await?;
        match ending {
            Ending::Damaged => make_anew(&home, file, disk).await,
            _ => drop(begin_anew(&home)?),
        }
        gateway = open_vouching(home, config, is_copy).await?;
        if ending == Ending::Damaged {
            // Once is enough: a card that damages what was just written is to be replaced.
            gateway.caretaker = gateway.caretaker.making_do();
        }
    }
}

/// Opens the gateway of a data folder, or of its copy in memory.
fn open(home: Home, config: &Config, is_copy: bool) -> Result<Gateway, Error> {
    let mut gateway = Gateway::open(home, config)?;
    gateway.app.disk = gateway.app.disk.in_memory(is_copy);
    if is_copy {
        // It is on the card as it was, and memory has no room for two.
        gateway.caretaker = gateway.caretaker.making_do();
    }
    Ok(gateway)
}

/// The same for one that the service manager was told is ready: it looks for signs of life, and the step to another layout, or to a
/// file without what was erased, may take many minutes on a slow card.
async fn open_vouching(home: Home, config: &Config, is_copy: bool) -> Result<Gateway, Error> {
    let config = config.clone();
    let work = tokio::task::spawn_blocking(move || open(home, &config, is_copy));
    tokio::select! {
        opened = work => opened.unwrap_or(Err(Error::Closed)),
        never = service::vouch_waiting("the database is opened") => match never {},
    }
}

/// Makes a database anew of which some cannot be read. If that cannot be done, it stays, to be served as far as it goes.
async fn make_anew(home: &Home, file: PathBuf, disk: Disk) {
    let (home, now_ms) = (home.clone(), Machine::this().wall_ms());
    let work = tokio::task::spawn_blocking(move || {
        // Each keeps what was broken: a card that damages one after the other is not to be full of them.
        if files_aside(home.dir()).len() >= ASIDE_MAX {
            let told = "three broken databases lie beside it already: hand in what they hold (outpost rescue), and move them away";
            return Err(Error::refused(told));
        }
        disk.check_room_for_copy(std::fs::metadata(file)?.len())?;
        rebuild(&home, now_ms)
    });
    let made = tokio::select! {
        made = work => made.unwrap_or(Err(Error::Closed)),
        never = service::vouch_waiting("a damaged database is made anew of what can be read of it") => match never {},
    };
    match made {
        Ok(Some(made)) => {
            let (file, records, unsent) = (made.aside.display(), made.lost.named, made.lost.unsent);
            tracing::error!(
                %file,
                lost.records = records,
                lost.unsent = unsent,
                "some of the database could not be read: it was made anew of the rest, and the hub is asked for the records that are \
                 missing. Changes that were not sent are only in the damaged file now, which is kept: if there were any, try outpost \
                 rescue on it. Replace the card soon"
            );
        }
        Ok(None) => tracing::error!(
            "the database is served as it is, and was not made anew: who the gateway is cannot be read in it, or another program has \
             it open, or nothing was wrong at another look. See outpost doctor, and replace the card"
        ),
        Err(error) => {
            tracing::error!(
                "the damaged database could not be made anew, so what can be read of it is served: {error}"
            );
        }
    }
}

/// Slots for a key that was to be the next one, or was the last one, when the power failed.
fn forget_other_keys(store: &Store) {
    let Some(key) = store.home().key().map(DataKey::id) else { return };
    if let Err(error) = keys::keep_only(store.path(), key) {
        tracing::warn!("slots for another key could not be taken away: {error}");
    }
}

async fn listen(address: SocketAddr) -> Result<(SocketAddr, StdListener), Error> {
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    Ok((listener.local_addr()?, listener.into_std()?))
}

/// The apps that are paired. If they cannot be read, nobody is let in, and everything else goes on.
fn door(store: &Store) -> Door {
    let known = store.blocking_read(|reader| reader.apps()).unwrap_or_else(|error: Error| {
        tracing::error!("the list of paired apps cannot be read, so they have to be paired again: {error}");
        Vec::new()
    });
    Door::new(known)
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
