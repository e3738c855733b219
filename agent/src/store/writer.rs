//! The writer thread and its group commit.
//!
//! A commit costs a sync of the card, 4 ms and more, whatever is in it. So the thread takes everything that waits, runs each
//! closure under a savepoint, commits once and answers all. If several came last time, it waits up to a millisecond for
//! as many again; a lone client never waits.
//!
//! For a savepoint SQLite keeps every page as it was before it, in memory, because no temporary file may hold what is
//! encrypted elsewhere. So a closure that is alone has none, and one that changes as much as there is of something, such as
//! the names of all that is unsent, is always alone: then what is too much for the cache goes to the log, and the box needs no
//! more memory for it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use sync_protocol::gateway::Refusal;
use sync_protocol::rules::Rules;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tracing::error;

use super::Options;
use super::codec::Codec;
use super::erase;
use super::soundness::try_writing;
use super::tx::{Cache, Tx};
use crate::error::Error;

/// What a closure can fail with.
pub trait Failure: From<Error> {
    /// Whether it failed because nothing more fits on the disk. Those whose writes were undone with it are told the same.
    fn is_disk_full(&self) -> bool;
}

impl Failure for Error {
    fn is_disk_full(&self) -> bool {
        matches!(self, Error::DiskFull(_))
    }
}

impl Failure for Refusal<Error> {
    fn is_disk_full(&self) -> bool {
        matches!(self, Refusal::Store(error) if error.is_disk_full())
    }
}

/// A closure that waits for the writer.
pub(super) trait Job: Send {
    /// Runs it.
    fn run(self: Box<Self>, tx: &mut Tx<'_>) -> Outcome;
    /// Whether it may change so much that it has to have a transaction to itself.
    fn is_large(&self) -> bool;
    /// Answers it without running it.
    fn refuse(self: Box<Self>, error: Error);
}

/// What a closure did, and how to tell its caller.
pub(super) struct Outcome {
    /// Whether what it did shall stay.
    is_kept: bool,
    /// Whether it failed because there was no room.
    is_disk_full: bool,
    /// Sends the closure's result, or this failure instead.
    answer: Box<dyn FnOnce(Option<Error>) + Send>,
}

/// A closure with the way back to its caller.
pub(super) struct Work<F, T, E> {
    pub(super) f: F,
    pub(super) reply: oneshot::Sender<Result<T, E>>,
    /// Its place in the queue, free again when it was answered.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    /// It changes as much as there is of something, and not one record or a frame of them.
    pub(super) is_large: bool,
}

impl<F, T, E> Job for Work<F, T, E>
where
    F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send,
    T: Send + 'static,
    E: Failure + Send + 'static,
{
    fn run(self: Box<Self>, tx: &mut Tx<'_>) -> Outcome {
        let Work { f, reply, permit, .. } = *self;
        let result = f(tx);
        let is_kept = result.is_ok();
        let is_disk_full = result.as_ref().is_err_and(Failure::is_disk_full);
        let answer = move |failure: Option<Error>| {
            drop(permit);
            // A caller that went away does not undo its write.
            let _ = reply.send(match failure {
                Some(error) if is_kept => Err(error.into()),
                _ => result,
            });
        };
        Outcome { is_kept, is_disk_full, answer: Box::new(answer) }
    }

    fn is_large(&self) -> bool {
        self.is_large
    }

    fn refuse(self: Box<Self>, error: Error) {
        let _ = self.reply.send(Err(error.into()));
    }
}

/// What is published after a commit.
pub(super) struct News {
    feed: watch::Sender<u64>,
    outbox: watch::Sender<u64>,
    rules: watch::Sender<Arc<Rules>>,
    is_revoked: watch::Sender<bool>,
}

/// The other ends of [`News`].
pub(super) struct NewsReceivers {
    pub(super) feed: watch::Receiver<u64>,
    pub(super) outbox: watch::Receiver<u64>,
    pub(super) rules: watch::Receiver<Arc<Rules>>,
    pub(super) is_revoked: watch::Receiver<bool>,
}

impl News {
    /// New channels.
    pub(super) fn channels() -> (News, NewsReceivers) {
        let (feed, feed_receiver) = watch::channel(0);
        let (outbox, outbox_receiver) = watch::channel(0);
        let (rules, rules_receiver) = watch::channel(Arc::new(Rules::default()));
        let (is_revoked, is_revoked_receiver) = watch::channel(false);
        let receivers = NewsReceivers {
            feed: feed_receiver,
            outbox: outbox_receiver,
            rules: rules_receiver,
            is_revoked: is_revoked_receiver,
        };
        (News { feed, outbox, rules, is_revoked }, receivers)
    }

    fn publish(&self, cache: &Cache) {
        set_if_new(&self.feed, cache.feed());
        set_if_new(&self.outbox, cache.state().unsent());
        set_if_new(&self.is_revoked, cache.state().is_revoked);
        let rules = cache.rules();
        self.rules.send_if_modified(|known| {
            let is_new = known.hash() != rules.hash();
            if is_new {
                *known = Arc::clone(rules);
            }
            is_new
        });
    }
}

fn set_if_new<T: Copy + PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|known| std::mem::replace(known, value) != value);
}

/// The thread's belongings.
pub(super) struct Writer {
    pub(super) db: Connection,
    codec: Codec,
    dir: PathBuf,
    options: Options,
    news: News,
    commits: Arc<AtomicU64>,
    /// What is in memory of the database; `None` after a commit failed.
    cache: Option<Cache>,
    /// SQLite's sign that another program has written.
    data_version: i64,
    /// The file was not found too large or the disk too full for a sweep.
    may_sweep: bool,
}

/// How long nobody may have written before the file is swept.
const QUIET: Duration = Duration::from_secs(2);

impl Writer {
    /// Takes over the connection and reads what it keeps in memory.
    pub(super) fn new(
        db: Connection,
        codec: Codec,
        dir: &Path,
        options: Options,
        news: News,
        commits: Arc<AtomicU64>,
    ) -> Result<Writer, Error> {
        let mut writer = Writer {
            db,
            codec,
            dir: dir.to_owned(),
            options,
            news,
            commits,
            cache: None,
            data_version: 0,
            may_sweep: true,
        };
        let cache = writer.fresh_cache()?;
        try_writing(&writer.db, &cache)?;
        writer.news.publish(&cache);
        writer.cache = Some(cache);
        Ok(writer)
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, jobs: &Receiver<Box<dyn Job>>) {
        let mut expected = 1;
        while let Ok(first) = self.next(jobs) {
            let mut group = self.gather(jobs, first, expected);
            expected = group.len();
            while !group.is_empty() {
                self.commit(&mut group);
            }
        }
    }

    /// The next closure. In a quiet moment before it the file is swept, if that is due.
    fn next(&mut self, jobs: &Receiver<Box<dyn Job>>) -> Result<Box<dyn Job>, RecvError> {
        if self.may_sweep && self.cache.as_ref().is_some_and(|cache| cache.is_sweep_due) {
            match jobs.recv_timeout(QUIET) {
                Ok(job) => return Ok(job),
                Err(RecvTimeoutError::Timeout) => self.sweep(),
                Err(RecvTimeoutError::Disconnected) => {}
            }
        }
        jobs.recv()
    }

    fn sweep(&mut self) {
        match erase::sweep(&self.db) {
            Ok(true) => {
                tracing::info!("the database was written anew, without what was erased");
                if let Some(cache) = &mut self.cache {
                    cache.is_sweep_due = false;
                }
            }
            // Somebody read meanwhile; the next quiet moment comes.
            Ok(false) | Err(Error::Locked(_)) => {}
            Err(error) => {
                self.may_sweep = false;
                tracing::warn!("the database could not be written anew after an erasure: {error}. See: outpost doctor");
            }
        }
    }

    fn gather(&self, jobs: &Receiver<Box<dyn Job>>, first: Box<dyn Job>, expected: usize) -> VecDeque<Box<dyn Job>> {
        let max = self.options.group_max.max(1);
        let mut group = VecDeque::from([first]);
        let deadline = Instant::now() + self.options.linger;
        while group.len() < max {
            let next = match jobs.try_recv() {
                Ok(job) => Ok(job),
                Err(_) if group.len() >= expected => break,
                Err(_) => jobs.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            };
            match next {
                Ok(job) => group.push_back(job),
                Err(_) => break,
            }
        }
        group
    }

    /// Takes closures off the group and commits them; leaves those that a failing disk took the transaction away from.
    fn commit(&mut self, jobs: &mut VecDeque<Box<dyn Job>>) {
        let mut group = match self.begin_group() {
            Ok(group) => group,
            Err(error) => {
                jobs.drain(..).for_each(|job| job.refuse(error.again()));
                return;
            }
        };
        let is_large = |job: Option<&Box<dyn Job>>| job.is_some_and(|job| job.is_large());
        let is_alone = jobs.len() == 1 || is_large(jobs.front());
        let mut failure = None;
        while let Some(job) = jobs.pop_front() {
            failure = self.add(&mut group, job, is_alone).err();
            if failure.is_some() || is_alone || is_large(jobs.front()) {
                break;
            }
        }
        // Everybody was told, and the error is in the log.
        let _ = self.end_group(group, failure);
    }

    /// Begins a transaction for closures that will share it.
    pub(super) fn begin_group(&mut self) -> Result<Group, Error> {
        match self.begin() {
            Ok(cache) => Ok(Group { cache, written: self.db.total_changes(), done: Vec::new(), is_full: false }),
            Err(error) => {
                let _ = self.db.execute_batch("ROLLBACK");
                Err(error)
            }
        }
    }

    /// Runs one closure in the transaction of a group. An error if the transaction is lost; then the group is to be ended
    /// with it. Nothing else may come into the transaction of one that `is_alone`.
    pub(super) fn add(&self, group: &mut Group, job: Box<dyn Job + '_>, is_alone: bool) -> Result<(), Error> {
        let mut failure = None;
        match self.run_one(job, &mut group.cache, is_alone) {
            Ok(Ran::Kept(answer)) => group.done.push(answer),
            Ok(Ran::Undone) => {}
            Ok(Ran::NoRoom) => group.is_full = true,
            Err(error) => failure = Some(error),
        }
        if self.db.is_autocommit() {
            // A full or failing disk makes SQLite undo the whole transaction at once.
            failure.get_or_insert_with(|| if group.is_full { Error::no_room() } else { Error::GroupLost });
        }
        failure.map_or(Ok(()), Err)
    }

    /// Commits a group and answers its callers; or tells them this failure, which took the transaction away.
    pub(super) fn end_group(&mut self, group: Group, failure: Option<Error>) -> Result<(), Error> {
        let Group { mut cache, written, done, is_full } = group;
        let result = match failure {
            Some(error) => Err(error),
            None if done.is_empty() => self.db.execute_batch("ROLLBACK").map_err(Error::from),
            None => self.end(&mut cache),
        };
        match &result {
            Ok(()) => {
                if is_full || self.db.total_changes() > written {
                    self.codec.health().set_full(is_full);
                }
                self.news.publish(&cache);
                self.cache = Some(cache);
                done.into_iter().for_each(|answer| answer(None));
            }
            Err(error) => {
                if error.is_disk_full() {
                    self.codec.health().set_full(true);
                }
                error!(error = error as &dyn std::error::Error, lost = done.len(), "a commit failed");
                if !self.db.is_autocommit() {
                    let _ = self.db.execute_batch("ROLLBACK");
                }
                done.into_iter().for_each(|answer| answer(Some(error.again())));
            }
        }
        result
    }

    /// Runs a closure under a savepoint, unless it `is_alone`: then the end of the group undoes it. An error if the savepoint
    /// could not be handled, in which case the closure's caller has been told so.
    fn run_one(&self, job: Box<dyn Job + '_>, cache: &mut Cache, is_alone: bool) -> Result<Ran, Error> {
        let before = cache.clone();
        let savepoint = |sql: &str| if is_alone { Ok(()) } else { self.sql(sql) };
        if let Err(error) = savepoint("SAVEPOINT one") {
            job.refuse(error.again());
            return Err(error);
        }
        let mut tx = Tx::new(&self.db, &self.codec, cache, &self.dir, self.options.version);
        let Outcome { is_kept, mut is_disk_full, answer } = job.run(&mut tx);
        let flushed = if is_kept { tx.end() } else { Ok(()) };
        let failure = match (is_kept, flushed) {
            (true, Ok(())) => match savepoint("RELEASE one") {
                Ok(()) => return Ok(Ran::Kept(answer)),
                Err(error) => {
                    answer(Some(error.again()));
                    return Err(error);
                }
            },
            (_, flushed) => flushed.err(),
        };
        *cache = before;
        let undone = match self.db.is_autocommit() {
            true => Ok(()),
            false => savepoint("ROLLBACK TO one").and_then(|()| savepoint("RELEASE one")),
        };
        is_disk_full |= failure.as_ref().is_some_and(Failure::is_disk_full);
        if is_disk_full {
            // Before the answer: whoever is told finds the same in the status.
            self.codec.health().set_full(true);
        }
        answer(failure);
        undone.map(|()| if is_disk_full { Ran::NoRoom } else { Ran::Undone })
    }

    fn begin(&mut self) -> Result<Cache, Error> {
        self.sql("BEGIN IMMEDIATE")?;
        let version = self.current_version()?;
        match self.cache.take() {
            Some(cache) if version == self.data_version => Ok(cache),
            _ => self.fresh_cache(),
        }
    }

    fn end(&mut self, cache: &mut Cache) -> Result<(), Error> {
        cache.write(&self.db)?;
        self.sql("COMMIT")?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn fresh_cache(&mut self) -> Result<Cache, Error> {
        self.data_version = self.current_version()?;
        Cache::load(&self.db)
    }

    fn current_version(&self) -> Result<i64, Error> {
        let mut statement = self.db.prepare_cached("PRAGMA data_version")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    fn sql(&self, sql: &str) -> Result<(), Error> {
        Ok(self.db.prepare_cached(sql)?.execute([]).map(|_| ())?)
    }
}

/// Closures that share a transaction.
pub(super) struct Group {
    cache: Cache,
    /// Rows that the connection had changed before.
    written: u64,
    /// How to answer those that wait for the commit.
    done: Vec<Answer>,
    /// There was no room for what one of them wrote.
    is_full: bool,
}

/// What became of one closure.
enum Ran {
    /// It waits for the commit, and then for this.
    Kept(Answer),
    /// It failed by itself and was answered.
    Undone,
    /// The same, because there was no room for what it wrote.
    NoRoom,
}

type Answer = Box<dyn FnOnce(Option<Error>) + Send>;
