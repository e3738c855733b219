//! What the gateway remembers: one SQLite file, one writer, readers beside it. The only SQL of the agent is in here.
//!
//! [`Store::write`] hands a closure to the thread that owns the write connection. The thread takes all closures that wait,
//! gives each a savepoint of its own, commits once and only then answers (`writer.rs`). [`Store::read`] runs a closure on a
//! read-only connection, on a snapshot. The closures get a [`Tx`] or a [`Reader`]; SQLite does not leave this module.
//!
//! # Invariants
//! - What was answered with `Ok` is on the disk. What failed, alone or with its commit, left nothing behind.
//! - A row that is damaged is skipped, counted and logged. A file that takes no writes any more is set aside whole, never
//!   deleted, and a new one begins under no identity: opening succeeds whenever the disk can be written.
//! - The digest of a scope is the sum over its confirmed records, in the same transaction as those.
//! - It decides nothing about merging: that is `sync_protocol`, which calls back through [`sync_protocol::gateway::Store`].

mod acts;
mod aside;
mod backup;
mod boots;
mod chain;
mod check;
mod codec;
mod convert;
mod erase;
mod group;
mod health;
mod history;
mod inline;
mod keep;
mod key;
mod lists;
mod mend;
mod model;
mod name;
mod number;
mod old;
mod open;
mod paired;
mod pool;
mod reader;
mod rebuild;
mod renew;
mod retention;
mod row;
mod salvage;
mod side;
mod soundness;
mod sync;
mod tail;
mod tx;
mod upkeep;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use sync_protocol::boot::Boot;
use sync_protocol::rules::Rules;
use tokio::sync::{Semaphore, oneshot, watch};

pub use self::acts::{ACTS_MAX, keep_acts};
pub(crate) use self::aside::with_suffix;
pub use self::aside::{files_aside, set_aside};
pub use self::backup::{Medium, Outcome as BackupOutcome, copies_before};
pub use self::check::{Damage, ScanAt};
use self::codec::Codec;
pub use self::convert::{Step, convert};
use self::health::Health;
pub use self::inline::Inline;
pub use self::key::{DataKey, Home, KEY_BYTES, KeyId, Sealing, sealing};
pub use self::model::{
    Answer, Conflict, Enrolling, Enrolment, Entry, FeedItem, Filter, HubEntry, Identity, Listing, OpState, OwnEntry,
    Parked, Query, Receipt, Status, Stored, StreamStatus, SyncReport,
};
pub use self::old::{Gap, Left, OldDatabase};
pub use self::open::FILE_NAME;
pub use self::paired::begin_anew;
pub use self::pool::ReadOnly;
use self::pool::{Pool, ReadConnection};
pub use self::reader::Reader;
pub use self::rebuild::{Lost, Rebuilt, rebuild};
pub use self::renew::Replaced;
pub use self::retention::{Forgettable, Forgotten, PassAt, Retention};
pub use self::salvage::{Copied, copy_old};
pub use self::soundness::Verdict;
pub use self::tx::Tx;
pub use self::upkeep::Upkeep;
pub use self::writer::Failure;
use self::writer::{Call, News, Work, Writer};
use crate::clock::{Machine, RELEASED_MS};
use crate::error::Error;

/// How the store works. The defaults suit a card in a small box.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Closures in one commit at most.
    pub group_max: usize,
    /// How long a commit waits for as many closures as came in the last one; a lone writer never waits.
    pub linger: Duration,
    /// Closures that wait at most; further callers wait to be let in.
    pub queue_max: usize,
    /// Connections for reading.
    pub readers: usize,
    /// Version of the program, for the admins of the hub.
    pub version: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            group_max: 128,
            linger: Duration::from_millis(1),
            queue_max: 1_024,
            readers: 2,
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// The open store. Clones share it; the last one to go waits until everything queued is committed.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    /// `None` only while it is being closed.
    queue: Option<mpsc::Sender<Call>>,
    thread: Option<JoinHandle<()>>,
    room: Arc<Semaphore>,
    readers: Arc<Pool>,
    /// Held while the database gets another key.
    renewing: Mutex<()>,
    feed: watch::Receiver<u64>,
    outbox: watch::Receiver<u64>,
    rules: watch::Receiver<Arc<Rules>>,
    is_revoked: watch::Receiver<bool>,
    commits: Arc<AtomicU64>,
    health: Arc<Health>,
    boot: Boot,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in a directory and starts its writer. Directory and database are made if they are not there, and an
    /// older database is brought up to date. One that is broken is set aside ([`set_aside`]) and a new one begins; so nobody
    /// else may be working in the directory.
    ///
    /// # Errors
    /// [`Error::NewerDatabase`], [`Error::NotOurs`], [`Error::Locked`], or what SQLite and the file system report.
    pub fn open(home: impl Into<Home>, options: Options) -> Result<Store, Error> {
        let home = home.into();
        open_or_set_aside(&home, || Store::open_as_it_is(&home, options))
    }

    fn open_as_it_is(home: &Home, options: Options) -> Result<Store, Error> {
        let mut db = erase::swept(home, open::for_writing(home)?)?;
        let boot = boots::begin(&mut db, Machine::this().boot_id(), RELEASED_MS)?;
        let health = Arc::new(Health::default());
        let commits = Arc::new(AtomicU64::new(0));
        let (news, receivers) = News::channels();
        let codec = Codec::new(Arc::clone(&health))?;
        let writer = Writer::new(db, codec, home.dir(), options, news, Arc::clone(&commits))?;
        if let Err(error) = convert::tidy(home) {
            tracing::warn!("what a conversion left behind could not be removed: {error}");
        }
        let readers = Arc::new(Pool::open(home, options.readers.max(1), &health)?);
        let (queue, jobs) = mpsc::channel();
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || writer.run(&jobs))?;
        let inner = Inner {
            path: home.file(),
            queue: Some(queue),
            thread: Some(thread),
            room: Arc::new(Semaphore::new(options.queue_max.max(1))),
            readers,
            renewing: Mutex::new(()),
            feed: receivers.feed,
            outbox: receivers.outbox,
            rules: receivers.rules,
            is_revoked: receivers.is_revoked,
            commits,
            health,
            boot,
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// Opens an existing store for reading only, beside a program that may have it open, for status at the command line.
    ///
    /// # Errors
    /// As [`Store::open`]; what SQLite reports if there is no database.
    pub fn open_read_only(home: impl Into<Home>) -> Result<ReadOnly, Error> {
        Ok(ReadOnly::new(ReadConnection::open(&home.into(), &Arc::default())?))
    }

    /// Runs a closure in a transaction of its own, and returns when it is on the disk, together with those that came at
    /// the same time. An `Err` of the closure undoes what it did, and only that.
    ///
    /// # Errors
    /// What the closure returns; [`Error::DiskFull`] and the like if the commit failed, [`Error::Closed`].
    pub async fn write<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Failure + Send + 'static,
    {
        self.queue(f, false).await
    }

    /// [`Store::write`] for what changes as much as there is of something: it takes no more memory for that.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_large<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Failure + Send + 'static,
    {
        self.queue(f, true).await
    }

    async fn queue<T, E, F>(&self, f: F, is_large: bool) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Failure + Send + 'static,
    {
        let permit = Arc::clone(&self.inner.room).acquire_owned().await.map_err(|_| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.send(Call::Work(Box::new(Work { f, reply, permit: Some(permit), is_large })))?;
        answer.await.unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    /// [`Store::write`] for code that is not async. Must not be called from async code.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn blocking_write<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Failure + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.send(Call::Work(Box::new(Work { f, reply, permit: None, is_large: false })))?;
        answer.blocking_recv().unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    /// Runs a closure on a snapshot, on a thread for blocking work. Beside the writer: neither waits for the other.
    ///
    /// # Errors
    /// What the closure returns, or what SQLite reports.
    pub async fn read<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnOnce(&Reader<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let permit = self.inner.readers.room().acquire_owned().await.map_err(|_| Error::Closed)?;
        let store = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let result = store.inner.readers.read(f);
            drop(permit);
            result
        });
        work.await.unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    /// [`Store::read`] for code that is not async.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn blocking_read<T, E: From<Error>>(&self, f: impl FnOnce(&Reader<'_>) -> Result<T, E>) -> Result<T, E> {
        self.inner.readers.read(f)
    }

    /// The latest committed position of the change feed; wakes whoever waits for changes.
    pub fn feed(&self) -> watch::Receiver<u64> {
        self.inner.feed.clone()
    }

    /// How many own ops the hub does not have yet, as committed; wakes the sync loop.
    pub fn outbox(&self) -> watch::Receiver<u64> {
        self.inner.outbox.clone()
    }

    /// The rules in force, as committed.
    pub fn rules(&self) -> watch::Receiver<Arc<Rules>> {
        self.inner.rules.clone()
    }

    /// Whether the hub has shut this gateway out, as committed.
    pub fn is_revoked(&self) -> bool {
        *self.inner.is_revoked.borrow()
    }

    /// Commits since it was opened.
    pub fn commits(&self) -> u64 {
        self.inner.commits.load(Ordering::Relaxed)
    }

    /// The boot in which it was opened, as far as it was known then.
    pub fn boot(&self) -> Boot {
        self.inner.boot
    }

    /// Whether there was no room for what was written last. The next write may find room again.
    pub fn is_full(&self) -> bool {
        self.inner.health.is_full()
    }

    /// SQLite's own check of the whole file, on a connection of its own: takes seconds, blocks nobody, ends when `stop` is set.
    ///
    /// # Errors
    /// What SQLite reports, other than damage.
    pub fn check(&self, stop: &Arc<AtomicBool>) -> Result<Verdict, Error> {
        let (db, _share) = self.inner.readers.beside(open::for_reading)?;
        soundness::check(&db, stop)
    }

    /// Waits until a row is met that cannot be read.
    pub async fn damage_met(&self) {
        self.inner.health.news().await;
    }

    /// Whether this is the only clone: when it goes, the files are closed.
    pub fn is_last(&self) -> bool {
        Arc::strong_count(&self.inner) == 1
    }

    fn dir(&self) -> &Path {
        self.inner.path.parent().unwrap_or(&self.inner.path)
    }

    /// The folder of the database, with the key that is in force now.
    pub fn home(&self) -> Home {
        self.inner.readers.home()
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    fn send(&self, call: Call) -> Result<(), Error> {
        let queue = self.inner.queue.as_ref().ok_or(Error::Closed)?;
        queue.send(call).map_err(|_| Error::Closed)
    }
}

/// What a card that had a hiccup is given, so that it does not cost a clinic its database: half a minute in all if it does not read,
/// another try at once if what it reads is not good.
const PATIENCE: &[Duration] = &[
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];

/// Opens what is in a directory; sets it aside and opens a new one if it is broken.
fn open_or_set_aside<T>(home: &Home, open: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    patiently_or_set_aside(PATIENCE, home, open)
}

fn patiently_or_set_aside<T>(
    patience: &[Duration],
    home: &Home,
    open: impl Fn() -> Result<T, Error>,
) -> Result<T, Error> {
    aside::keep_orphaned_log(home.dir())?;
    for (tries, pause) in patience.iter().map(Some).chain([None]).enumerate() {
        match open() {
            Err(error) if error.is_broken_file() => {
                tracing::error!(error = &error as &dyn std::error::Error, "the database cannot be used");
                match pause {
                    Some(pause) if tries == 0 || error.is_unread() => std::thread::sleep(*pause),
                    _ => break,
                }
            }
            other => return other,
        }
    }
    begin_anew(home)?;
    open()
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer is the last to close, because only it can fold the log back into the file.
        self.readers.clear();
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A closure may hold the last clone; the writer cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}
