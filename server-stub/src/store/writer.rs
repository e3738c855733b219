//! One thread that writes, and commits in groups.
//!
//! Jobs that wait together share one commit: each runs in a savepoint of its own, then all are committed, then all are
//! answered. So a job that fails undoes itself only, and nobody hears of success before it is on disk.

use std::thread;

use rusqlite::TransactionBehavior;
use tokio::sync::{mpsc, oneshot};

use super::audit::Audited;
use super::{Database, Tx};
use crate::clock::now_ms;
use crate::error::StoreError;

/// Jobs that share a commit at most.
const GROUP_MAX: usize = 128;
/// Jobs that wait at most; beyond, callers wait.
const QUEUE_MAX: usize = 1024;

type Told = Box<dyn FnOnce(Option<StoreError>) + Send>;

/// What a job leaves: whether its changes stay, and how to answer once they are on disk.
struct Outcome {
    is_kept: bool,
    tell: Told,
    audited: Audited,
    is_list_new: bool,
}

type Job = Box<dyn FnOnce(Result<&mut Tx<'_>, StoreError>) -> Outcome + Send>;

/// A handle to the thread. The thread ends when the last one is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(database: Database) -> Result<Writer, StoreError> {
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        thread::Builder::new().name("store".to_owned()).spawn(move || run(database, queue))?;
        Ok(Writer { jobs })
    }

    /// Runs `act` in a transaction and answers once it is on disk. If `act` fails, nothing of it stays.
    pub(crate) async fn write<T, E, F>(&self, act: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            let (mut audited, mut is_list_new) = (Audited::No, false);
            let result = tx.map_err(E::from).and_then(|tx| {
                let result = act(tx)?;
                tx.finish()?;
                (audited, is_list_new) = (tx.audited, tx.is_list_new);
                Ok(result)
            });
            let is_kept = result.is_ok();
            let tell: Told = Box::new(move |failure| {
                // Nobody listens any more if the caller's connection broke.
                let _ = tell.send(match failure {
                    None => result,
                    Some(error) => Err(E::from(error)),
                });
            });
            Outcome { is_kept, tell, audited, is_list_new }
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        told.await.map_err(|_| StoreError::Closed)?
    }
}

fn run(mut database: Database, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::new();
    while queue.blocking_recv_many(&mut jobs, GROUP_MAX) > 0 {
        let mut outcomes = Vec::with_capacity(jobs.len());
        let failure = commit_all(&mut database, &mut jobs, &mut outcomes).err();
        if let Some(failure) = &failure {
            tracing::error!(error = %failure, source = ?std::error::Error::source(failure).map(ToString::to_string), "the store cannot write");
        }
        for job in jobs.drain(..) {
            outcomes.push(job(Err(failure.clone().unwrap_or(StoreError::Closed))));
        }
        for outcome in outcomes {
            (outcome.tell)(failure.clone());
        }
    }
}

fn commit_all(database: &mut Database, jobs: &mut Vec<Job>, outcomes: &mut Vec<Outcome>) -> Result<(), StoreError> {
    let Database { conn, rules, .. } = database;
    let (mut audited, mut is_list_new) = (Audited::No, false);
    let mut transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in jobs.drain(..) {
        let savepoint = transaction.savepoint()?;
        let mut tx = Tx::new(&savepoint, rules, now_ms());
        let outcome = job(Ok(&mut tx));
        let is_kept = outcome.is_kept;
        audited = audited.max(outcome.audited);
        is_list_new |= outcome.is_list_new;
        outcomes.push(outcome);
        if is_kept {
            savepoint.commit()?;
        } else {
            savepoint.finish()?;
        }
    }
    transaction.commit()?;
    database.tell_head(audited);
    database.tell_list(is_list_new);
    Ok(())
}
