//! Looking after the database beside serving: SQLite's own check at every start.
//!
//! Nobody waits for it: what takes long runs on a thread for blocking work, on a connection of its own, and ends when the
//! program stops. What it finds is kept in the database, for status and doctor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::clock::Clock;
use crate::error::Error;
use crate::store::{Store, Upkeep, Verdict};

/// Looks after one store.
#[derive(Debug)]
pub struct Caretaker {
    store: Store,
    clock: Clock,
    /// Set when long work has to end.
    stop: Arc<AtomicBool>,
}

/// Why the caretaker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to.
    Asked,
    /// The database must not be written to any more.
    Unsafe,
}

impl Caretaker {
    /// A caretaker for an open store.
    pub fn new(store: Store, clock: Clock) -> Caretaker {
        Caretaker { store, clock, stop: Arc::default() }
    }

    /// Works until told to stop, or until the database must not be used any more.
    pub async fn run(self, mut stopped: watch::Receiver<bool>) -> Ending {
        let stop = Arc::clone(&self.stop);
        let work = self.work();
        tokio::pin!(work);
        tokio::select! {
            ending = &mut work => ending,
            _ = stopped.changed() => {
                stop.store(true, Ordering::Relaxed);
                Ending::Asked
            }
        }
    }

    async fn work(self) -> Ending {
        match self.check().await {
            Ok(Verdict::Unsafe(_)) => return Ending::Unsafe,
            Ok(_) => {}
            Err(error) => tracing::error!("the check of the database failed: {error}. {}", error.hint()),
        }
        std::future::pending().await
    }

    /// Checks the whole file, and keeps what was found.
    async fn check(&self) -> Result<Verdict, Error> {
        let (store, stop) = (self.store.clone(), Arc::clone(&self.stop));
        let check = tokio::task::spawn_blocking(move || store.check(&stop));
        let verdict = check.await.unwrap_or(Err(Error::Closed))?;
        let faults = match &verdict {
            Verdict::Stopped => return Ok(verdict),
            Verdict::Sound => Vec::new(),
            Verdict::Damaged(faults) | Verdict::Unsafe(faults) => faults.clone(),
        };
        if let Some(first) = faults.first() {
            let count = faults.len();
            tracing::error!(
                faults = count,
                "the database is damaged, first: {first}. Keep this card and replace it soon"
            );
        }
        let checked_ms = self.clock.now().now_ms;
        self.note(move |upkeep| Upkeep { checked_ms, faults, ..upkeep }).await?;
        Ok(verdict)
    }

    async fn note(&self, change: impl FnOnce(Upkeep) -> Upkeep + Send + 'static) -> Result<(), Error> {
        let note = self.store.write(move |tx| {
            let before = tx.reader()?.upkeep()?;
            tx.set_upkeep(&change(before))
        });
        note.await
    }
}
