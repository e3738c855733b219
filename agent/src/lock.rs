//! The right to work on a data folder: one program at a time, by a lock on a file.
//!
//! The daemon writes into the file where its API listens, so that the commands of a technician find it; on a card that takes no
//! writes any more, into one of the same name beside its copy in memory. Whoever starts while somebody else is just starting or
//! ending waits for that. The system gives the lock back when its holder ends, also by a crash.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tokio::net::TcpStream;

use crate::error::Error;
use crate::read_only::{copies, is_read_only};
use crate::store::FILE_NAME;

const LOCK_FILE: &str = "outpost.lock";
/// How often it is looked at while somebody waits.
const GLANCE: Duration = Duration::from_millis(50);
/// How long a command waits for a daemon that is starting, and a daemon for another that is ending.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a daemon waits for a command, which may be waiting for the hub.
const PATIENCE_WITH_COMMANDS: Duration = Duration::from_secs(60);
/// How long a command waits for a gateway to be made, by a daemon that was started just before it.
const PATIENCE_WITH_NOTHING: Duration = Duration::from_secs(2);

/// The lock, held.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// On a card that takes no writes any more the file says what it said before: nearly always the same address.
    is_fixed: bool,
}

/// Who works on a data folder.
#[derive(Debug)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// The daemon, whose API listens there.
    Daemon(SocketAddr),
    /// A command without a daemon, or a daemon that is just starting.
    Somebody,
}

/// What a command got.
#[derive(Debug)]
pub enum Access {
    /// The lock: there is no daemon.
    Here(Lock),
    /// The address of the daemon.
    Daemon(SocketAddr),
}

impl Lock {
    /// Takes the lock, or tells who has it. The folder has to be there.
    fn take(data_dir: &Path) -> Result<Result<Lock, Holder>, Error> {
        let path = data_dir.join(LOCK_FILE);
        let (file, is_fixed) = match File::options().create(true).read(true).write(true).truncate(false).open(&path) {
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => (File::open(&path)?, true),
            opened => (opened?, false),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let mut lock = Lock { file, is_fixed };
                match lock.empty() {
                    // Newer kernels let one open files on a file system that failed, and refuse each write.
                    Err(Error::Io(error)) if error.kind() == ErrorKind::ReadOnlyFilesystem => lock.is_fixed = true,
                    other => other?,
                }
                Ok(Ok(lock))
            }
            Err(_) => Ok(Err(holder(data_dir, &copies(data_dir))?)),
        }
    }

    /// The lock for the daemon, as soon as whoever has it is done.
    ///
    /// # Errors
    /// [`Error::InUse`] if that takes too long, and if another daemon goes on running.
    pub async fn for_daemon(data_dir: &Path) -> Result<Lock, Error> {
        std::fs::create_dir_all(data_dir)?;
        let began = Instant::now();
        let mut is_told = false;
        loop {
            let (who, patience) = match Lock::take(data_dir)? {
                Ok(lock) => return Ok(lock),
                Err(Holder::Daemon(address)) => (format!("another outpost runs there, on {address}"), PATIENCE),
                Err(_) => ("a command is working there".to_owned(), PATIENCE_WITH_COMMANDS),
            };
            if began.elapsed() >= patience {
                return Err(Error::InUse { data_dir: data_dir.to_owned(), who });
            }
            if !is_told {
                tracing::info!(data_dir = %data_dir.display(), "waiting: {who}");
                is_told = true;
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// The lock for a command, or where the daemon listens, as soon as either is known.
    ///
    /// # Errors
    /// [`Error::NoGateway`] if the folder holds none, [`Error::InUse`] if somebody else keeps the lock.
    pub async fn for_command(data_dir: &Path) -> Result<Access, Error> {
        Lock::for_command_if(data_dir, || is_gateway(data_dir)).await
    }

    /// The same for a command that may make a gateway.
    ///
    /// # Errors
    /// [`Error::InUse`] if somebody else keeps the lock, [`Error::Io`] if the folder cannot be made.
    pub async fn for_enrolment(data_dir: &Path) -> Result<Access, Error> {
        std::fs::create_dir_all(data_dir)?;
        Lock::for_command_if(data_dir, || true).await
    }

    async fn for_command_if(data_dir: &Path, is_wanted: impl Fn() -> bool) -> Result<Access, Error> {
        let began = Instant::now();
        loop {
            let error = match is_wanted() {
                false if began.elapsed() >= PATIENCE_WITH_NOTHING && matches!(look(data_dir)?, Holder::Nobody) => {
                    return Err(Error::NoGateway(data_dir.to_owned()));
                }
                false => Error::NoGateway(data_dir.to_owned()),
                true => match Lock::take(data_dir)? {
                    Ok(lock) => return Ok(Access::Here(lock)),
                    // One that does not listen was killed, and somebody else is just taking its place.
                    Err(Holder::Daemon(address)) => match TcpStream::connect(address).await {
                        Ok(_) => return Ok(Access::Daemon(address)),
                        Err(error) => Error::NoAnswer { address, source: error },
                    },
                    Err(_) => {
                        let who = "another outpost is starting or working there".to_owned();
                        Error::InUse { data_dir: data_dir.to_owned(), who }
                    }
                },
            };
            if began.elapsed() >= PATIENCE {
                return Err(error);
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Whether the card takes no writes.
    pub(crate) fn is_fixed(&self) -> bool {
        self.is_fixed
    }

    /// Writes down where the daemon listens. `copy` is where its copy in memory is, if the card takes no writes.
    pub(crate) fn publish(&mut self, address: SocketAddr, copy: Option<&Path>) -> Result<(), Error> {
        if let Some(copy) = copy {
            return Ok(std::fs::write(copy.join(LOCK_FILE), format!("{address}\n"))?);
        }
        self.empty()?;
        if !self.is_fixed {
            writeln!(self.file, "{address}")?;
        }
        Ok(())
    }

    fn empty(&self) -> Result<(), Error> {
        match self.is_fixed {
            true => Ok(()),
            false => Ok(self.file.set_len(0)?),
        }
    }
}

/// Whether a folder holds a gateway.
pub(crate) fn is_gateway(data_dir: &Path) -> bool {
    data_dir.join(FILE_NAME).is_file()
}

/// Who works on a folder, without taking anything: also for somebody who may only read there.
pub(crate) fn look(data_dir: &Path) -> Result<Holder, Error> {
    let path = data_dir.join(LOCK_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Holder::Nobody),
        Err(error) => return Err(error.into()),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Holder::Nobody),
        Err(_) => holder(data_dir, &copies(data_dir)),
    }
}

/// Whether the card takes no writes any more, as the system says or as the gateway found that runs: a file system that failed does
/// not say so, and the gateway has a copy in memory then.
pub(crate) fn takes_no_writes(data_dir: &Path) -> bool {
    is_read_only(data_dir) || (!copies(data_dir).is_empty() && !matches!(look(data_dir), Ok(Holder::Nobody)))
}

/// As [`look`], but waits a little for a gateway that is just being made or started.
pub(crate) async fn look_patiently(data_dir: &Path) -> Result<Holder, Error> {
    let began = Instant::now();
    loop {
        let holder = look(data_dir)?;
        let patience = match (is_gateway(data_dir), &holder) {
            (true, Holder::Nobody | Holder::Daemon(_)) => return Ok(holder),
            (false, Holder::Nobody) => PATIENCE_WITH_NOTHING,
            _ => PATIENCE,
        };
        match began.elapsed() >= patience {
            true if is_gateway(data_dir) => return Ok(holder),
            true => return Err(Error::NoGateway(data_dir.to_owned())),
            false => tokio::time::sleep(GLANCE).await,
        }
    }
}

/// Who has the lock, as it is written down: beside a copy in memory, if there is one. The card says then what it said before.
fn holder(data_dir: &Path, copies: &[PathBuf]) -> Result<Holder, Error> {
    let address = |text: String| text.trim().parse::<SocketAddr>().ok();
    let of_copy = |copy: &PathBuf| std::fs::read_to_string(copy.join(LOCK_FILE)).ok().and_then(address);
    let found = match copies.iter().find_map(of_copy) {
        Some(found) => Some(found),
        None => address(std::fs::read_to_string(data_dir.join(LOCK_FILE))?),
    };
    Ok(found.map_or(Holder::Somebody, Holder::Daemon))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(work: impl std::future::Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn a_command_waits_for_a_daemon_that_is_starting() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), "").unwrap();
        block_on(async {
            let mut daemon = Lock::for_daemon(folder.path()).await.unwrap();
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let starts = async {
                tokio::task::yield_now().await;
                daemon.publish(address, None).unwrap();
            };
            let (access, ()) = tokio::join!(Lock::for_command(folder.path()), starts);
            assert!(matches!(access.unwrap(), Access::Daemon(found) if found == address));
            assert!(matches!(look(folder.path()).unwrap(), Holder::Daemon(found) if found == address));
        });
    }

    #[test]
    fn beside_a_copy_in_memory_it_says_where_a_daemon_listens_whose_card_says_something_else() {
        let (card, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (before, now) = (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2)));
        let mut daemon = block_on(Lock::for_daemon(card.path())).unwrap();
        let found = || holder(card.path(), &[memory.path().join("nowhere"), memory.path().to_owned()]).unwrap();
        assert!(matches!(found(), Holder::Somebody));
        daemon.publish(before, None).unwrap();
        assert!(matches!(found(), Holder::Daemon(address) if address == before));
        daemon.publish(now, Some(memory.path())).unwrap();
        assert!(matches!(found(), Holder::Daemon(address) if address == now));
        assert!(matches!(look(card.path()).unwrap(), Holder::Daemon(address) if address == before));
    }

    #[test]
    fn a_daemon_waits_for_a_command_to_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), "").unwrap();
        block_on(async {
            let Access::Here(command) = Lock::for_command(folder.path()).await.unwrap() else { panic!("no daemon") };
            let ends = async move {
                tokio::task::yield_now().await;
                drop(command);
            };
            let (daemon, ()) = tokio::join!(Lock::for_daemon(folder.path()), ends);
            daemon.unwrap();
            assert!(matches!(look(folder.path()).unwrap(), Holder::Nobody));
        });
    }

    #[test]
    fn a_command_makes_no_gateway_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("chingael");
        let told = block_on(Lock::for_command(&nowhere)).unwrap_err();
        assert!(matches!(told, Error::NoGateway(_)), "{told}");
        assert!(!nowhere.exists());
    }
}
