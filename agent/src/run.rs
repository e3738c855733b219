//! The daemon: local API and sync loop on one store, until a signal.
//!
//! One daemon runs on a data folder: it holds the lock file, in which it writes where its API listens, so that the commands
//! of a technician find it.

use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api::{App, router, serve};
use crate::clock::Clock;
use crate::config::Config;
use crate::disk::Disk;
use crate::error::Error;
use crate::store::{Options, Store};
use crate::sync::{SyncLoop, sync_loop};

const LOCK_FILE: &str = "outpost.lock";

/// The right to work on a data folder. Given back when it is dropped, also by a crash.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock, or tells where the daemon that holds it listens.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be written.
    pub fn take(data_dir: &Path) -> Result<Result<Lock, Option<SocketAddr>>, Error> {
        std::fs::create_dir_all(data_dir)?;
        let path = data_dir.join(LOCK_FILE);
        let file = File::options().create(true).read(true).write(true).truncate(false).open(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                file.set_len(0)?;
                Ok(Ok(Lock(file)))
            }
            Err(_) => Ok(Err(std::fs::read_to_string(&path)?.trim().parse().ok())),
        }
    }

    fn publish(&mut self, address: SocketAddr) -> Result<(), Error> {
        self.0.set_len(0)?;
        writeln!(self.0, "{address}")?;
        Ok(())
    }
}

/// A gateway that is ready to serve: everything but the listener.
#[derive(Debug)]
pub struct Gateway {
    /// What the API works on.
    pub app: App,
    /// The sync loop, to be run.
    pub sync: SyncLoop,
}

impl Gateway {
    /// Opens the store, and prepares the sync loop.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub fn open(data_dir: &Path, config: &Config) -> Result<Gateway, Error> {
        let store = Store::open(data_dir, Options::default())?;
        let clock = Clock::default();
        let (handle, sync) = sync_loop(store.clone(), clock.clone(), config.sync_interval());
        let disk = Disk::new(data_dir, config.disk_reserve_bytes());
        Ok(Gateway { app: App { store, clock, disk, sync: handle }, sync })
    }

    /// Serves apps and syncs until `shutdown`.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let (stop, stopped) = watch::channel(false);
        let mut told = stopped;
        let sync = tokio::spawn(self.sync.run(async move {
            let _ = told.changed().await;
        }));
        serve(listener, router(self.app), shutdown).await;
        let _ = stop.send(true);
        let _ = sync.await;
    }
}

/// Runs the daemon in a data folder. `announce` is told the address before anything is served.
///
/// # Errors
/// [`Error::Config`] if another daemon runs there or the address is taken; [`Error`] of the store.
pub async fn run(
    data_dir: &Path,
    config: &Config,
    announce: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let Ok(mut lock) = Lock::take(data_dir)? else {
        return Err(Error::Config(format!("another outpost is running on {}", data_dir.display())));
    };
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|e| Error::Config(format!("cannot listen on {}: {e}", config.listen)))?;
    let address = listener.local_addr()?;
    let gateway = Gateway::open(data_dir, config)?;
    lock.publish(address)?;
    announce(address);
    gateway.serve(listener, shutdown).await;
    Ok(())
}
