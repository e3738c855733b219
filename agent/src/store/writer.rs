//! The writer thread: the one that commits, and what it is asked for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError};
use std::time::Duration;

use rusqlite::Connection;
use sync_protocol::gateway::Refusal;
use sync_protocol::rules::Rules;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::Options;
use super::codec::Codec;
use super::erase;
use super::group::GroupCommit;
use super::renew::Renewal;
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

/// What the writer is asked for.
pub(super) enum Call {
    /// To commit what a closure does.
    Work(Box<dyn Job>),
    /// To put the database under another key.
    Renew(Box<Renewal>),
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
    pub(super) is_kept: bool,
    /// Whether it failed because there was no room.
    pub(super) is_disk_full: bool,
    /// Sends the closure's result, or this failure instead.
    pub(super) answer: Answer,
}

/// How a caller is told what became of its closure: what it returned, or this failure instead.
pub(super) type Answer = Box<dyn FnOnce(Option<Error>) + Send>;

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

    /// Tells what a commit has changed.
    pub(super) fn publish(&self, cache: &Cache) {
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
    pub(super) group: GroupCommit,
    /// The file was not found too large or the disk too full for a sweep.
    may_sweep: bool,
}

/// How long nobody may have written before the file is swept.
const QUIET: Duration = Duration::from_secs(2);

impl Writer {
    /// Takes over the connection and reads what is kept in memory of it.
    pub(super) fn new(
        db: Connection,
        codec: Codec,
        dir: &Path,
        options: Options,
        news: News,
        commits: Arc<AtomicU64>,
    ) -> Result<Writer, Error> {
        let group = GroupCommit::new(&db, codec, dir, options, news, commits)?;
        Ok(Writer { db, group, may_sweep: true })
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, calls: &Receiver<Call>) {
        while let Ok(call) = self.next(calls) {
            match call {
                Call::Work(first) => self.group.serve(&self.db, calls, first),
                Call::Renew(renewal) => {
                    if self.renew(*renewal, calls).is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// What is asked for next. In a quiet moment before it the file is swept, if that is due.
    fn next(&mut self, calls: &Receiver<Call>) -> Result<Call, RecvError> {
        if let Some(call) = self.group.later() {
            return Ok(call);
        }
        if self.may_sweep && self.group.cache().is_some_and(|cache| cache.is_sweep_due) {
            match calls.recv_timeout(QUIET) {
                Ok(call) => return Ok(call),
                Err(RecvTimeoutError::Timeout) => self.sweep(),
                Err(RecvTimeoutError::Disconnected) => {}
            }
        }
        calls.recv()
    }

    fn sweep(&mut self) {
        match erase::sweep(&self.db) {
            Ok(true) => {
                tracing::info!("the database was written anew, without what was erased");
                if let Some(cache) = self.group.cache() {
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
}
