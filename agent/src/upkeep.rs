//! Looking after the database beside serving: SQLite's own check at every start and before every scrub, a scrub of every row once
//! a month, mending what was met damaged, copies on a second medium, and forgetting old history.
//!
//! Nobody waits for it: what takes long runs on a thread for blocking work, on a connection of its own, and ends when the
//! program stops. What it finds is kept in the database, for status and doctor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::{BackupConfig, RetentionConfig};
use crate::error::{Class, Error};
use crate::read_only::is_read_only;
use crate::store::{BackupOutcome, Forgotten, Medium, PassAt, ScanAt, Store, Upkeep, Verdict};
use crate::sync::SyncHandle;

/// How often every row is read again.
const SCRUB_EVERY: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Rows that are read at once, and the pause after them: 100,000 records take some minutes, and nobody notices.
const SCRUB_ROWS: usize = 256;
const SCRUB_PAUSE: Duration = Duration::from_millis(200);
/// After this a card that only did not read for a moment reads again.
const HICCUP: Duration = Duration::from_secs(2);
/// How long the file is not checked again, whatever asks for it: a check reads all of it.
const CHECK_AGAIN: Duration = Duration::from_secs(3_600);
/// How often the history is gone through for what may be forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long a backup that failed is not tried again: each try writes most of a copy to the medium. One that is not there is looked for
/// whenever it is looked what is due.
const BACKUP_AGAIN: Duration = Duration::from_secs(3_600);
/// How often it is looked what is due.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// Damage seldom comes alone: what is met in a moment is mended together.
const MEND_LINGER: Duration = Duration::from_millis(500);

/// Looks after one store.
#[derive(Debug)]
pub struct Caretaker {
    store: Store,
    sync: SyncHandle,
    clock: Clock,
    backup: BackupConfig,
    retention: RetentionConfig,
    /// Set when long work has to end.
    stop: Arc<AtomicBool>,
    /// Whether a damaged database may be made anew.
    may_rebuild: bool,
}

/// Why the caretaker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to.
    Asked,
    /// The database must not be written to any more.
    Unsafe,
    /// Some of the database cannot be read. It is to be made anew of what can be.
    Damaged,
    /// The card takes no writes any more. Whoever starts again serves it from a copy in memory.
    ReadOnly,
}

impl Caretaker {
    /// A caretaker for an open store.
    pub fn new(store: Store, sync: SyncHandle, clock: Clock, backup: BackupConfig) -> Caretaker {
        let retention = RetentionConfig { history_days: 0 };
        Caretaker { store, sync, clock, backup, retention, stop: Arc::default(), may_rebuild: true }
    }

    /// The same, that forgets old history.
    #[must_use]
    pub fn forgetting(self, retention: RetentionConfig) -> Caretaker {
        Caretaker { retention, ..self }
    }

    /// The same, that goes on with what can be read of a damaged database, because it could not be made anew.
    #[must_use]
    pub fn making_do(self) -> Caretaker {
        Caretaker { may_rebuild: false, ..self }
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
        let (mut backup_failed, mut checked) = (None, None);
        loop {
            match self.check_if_due(&mut checked).await {
                Ok(Some(Verdict::Unsafe(_))) => return Ending::Unsafe,
                Ok(Some(Verdict::Damaged(_))) if self.may_rebuild && self.is_still_damaged().await => {
                    return Ending::Damaged;
                }
                Ok(_) => {}
                Err(error) => complain("the check of the database", &error),
            }
            if let Err(error) = self.scrub_if_due().await {
                complain("the scrub of the database", &error);
            }
            if let Err(error) = self.back_up_if_due(&mut backup_failed).await {
                complain("noting how the backup went", &error);
            }
            if let Err(error) = self.mend().await {
                complain("the mending of damaged rows", &error);
            }
            if let Err(error) = self.forget_if_due().await {
                complain("forgetting old history", &error);
            }
            tokio::select! {
                () = self.store.damage_met() => tokio::time::sleep(MEND_LINGER).await,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if is_read_only(self.store.home().dir()) {
                return Ending::ReadOnly;
            }
        }
    }

    /// Mends what was met damaged, and lets the hub send again what it has.
    async fn mend(&self) -> Result<(), Error> {
        let now_ms = self.clock.now().now_ms;
        let again = self.beside(move |store| store.mend(now_ms)).await?;
        if !again.is_empty() {
            tracing::warn!(
                records = again.len(),
                "damaged records were mended; the hub is asked for what it has of them"
            );
            self.sync.nudge();
        }
        Ok(())
    }

    /// SQLite's own check, of the whole file: at each start, before each scrub, which sees no pages but only rows, and where an
    /// exchange failed because of the database.
    async fn check_if_due(&self, checked: &mut Option<Instant>) -> Result<Option<Verdict>, Error> {
        let is_due = match checked {
            None => true,
            Some(at) if at.elapsed() < CHECK_AGAIN => false,
            Some(_) => {
                let report = self.store.read(|reader| reader.sync_report()).await?;
                // What cannot be read of how it went is a reason, too.
                self.is_scrub_due().await.unwrap_or(true) || report.error_class.as_deref() == Some(Class::Broken.name())
            }
        };
        if !is_due {
            return Ok(None);
        }
        *checked = Some(Instant::now());
        self.check().await.map(Some)
    }

    async fn is_scrub_due(&self) -> Result<bool, Error> {
        let last_ms = self.store.read(|reader| reader.upkeep()).await?.scrubbed_ms;
        Ok(is_due(last_ms, self.clock.now().now_ms, SCRUB_EVERY))
    }

    /// Reads every row and hashes it again, once a month, slowly.
    async fn scrub_if_due(&self) -> Result<(), Error> {
        if !self.is_scrub_due().await? {
            return Ok(());
        }
        let mut at = Some(ScanAt::default());
        while let Some(from) = at {
            at = self.store.read(move |reader| reader.scan(from, SCRUB_ROWS)).await?;
            tokio::time::sleep(SCRUB_PAUSE).await;
        }
        if !self.store.read(|reader| reader.sums_agree()).await? {
            tracing::warn!("the sum of a digest was wrong and is made anew");
            self.beside(|store| store.recount()).await?;
        }
        self.mend().await?;
        let damage = self.store.read(|reader| reader.damage()).await?;
        tracing::info!(scrub.damaged = damage.rows, "every row of the database has been read");
        let scrubbed_ms = self.clock.now().now_ms;
        self.note(move |upkeep| Upkeep { scrubbed_ms, ..upkeep }).await
    }

    /// Notes once a day what is safe at the hub, and once a week goes through the history for what may be forgotten.
    async fn forget_if_due(&self) -> Result<(), Error> {
        let Some(age_ms) = self.retention.age_ms() else { return Ok(()) };
        let now_ms = self.clock.now().now_ms;
        if self.store.read(move |reader| reader.is_milestone_due(now_ms)).await? {
            self.store.write(move |tx| tx.note_milestone(now_ms, age_ms)).await?;
        }
        let before = self.store.read(|reader| reader.retention()).await?;
        let is_idle = self.store.read(move |reader| reader.retention_reach(now_ms, age_ms)).await?.is_none();
        if is_idle || !is_due(before.passed_ms, now_ms, FORGET_EVERY) {
            return Ok(());
        }
        let mut sum = Forgotten::default();
        let mut at = Some(PassAt::default());
        while let Some(from) = at {
            let found = self.store.read(move |reader| match reader.retention_reach(now_ms, age_ms)? {
                Some(reach) => reader.forgettable(from, &reach, SCRUB_ROWS),
                // The hub was put back meanwhile: nothing is safe any more.
                None => Ok((Vec::new(), None)),
            });
            let (old, next) = found.await?;
            for old in old {
                let old = Arc::new(old);
                loop {
                    let one = Arc::clone(&old);
                    let gone = self.store.write(move |tx| tx.forget_old(now_ms, age_ms, &one)).await?;
                    sum = sum.and(gone);
                    if !gone.is_part() {
                        break;
                    }
                }
            }
            at = next;
            tokio::time::sleep(SCRUB_PAUSE).await;
        }
        if sum != Forgotten::default() {
            tracing::info!(
                retention.ops = sum.ops,
                retention.changes = sum.changes,
                "old history was forgotten that the hub has safe"
            );
        }
        self.store.write(move |tx| tx.note_pass(now_ms)).await
    }

    /// Copies the database to the second medium. That it is absent or fails is a warning: nothing here depends on it.
    async fn back_up_if_due(&self, failed: &mut Option<Instant>) -> Result<(), Error> {
        let before = self.store.read(|reader| reader.upkeep()).await?;
        let now_ms = self.clock.now().now_ms;
        let Some(folder) = self.backup.folder() else { return Ok(()) };
        let is_due = match failed {
            Some(at) => at.elapsed() >= BACKUP_AGAIN,
            None => before.backup_error.is_some() || is_due(before.backup_ms, now_ms, self.backup.interval()),
        };
        if !is_due {
            return Ok(());
        }
        *failed = None;
        let medium = Medium { folder: folder.to_owned(), may_be_the_same: false };
        let (keep, stop) = (self.backup.keep, Arc::clone(&self.stop));
        let error = match self.beside(move |store| store.back_up(&medium, keep, now_ms, &stop)).await {
            Ok(BackupOutcome::Made { file, damaged }) => {
                tracing::info!(file = %file.display(), "the database has been copied to the second medium");
                if damaged > 0 {
                    tracing::warn!(
                        rows = damaged,
                        "the copy has rows that the card has damaged, so the newest copy without any stays beside it"
                    );
                }
                return self.note(move |upkeep| Upkeep { backup_ms: now_ms, backup_error: None, ..upkeep }).await;
            }
            Ok(BackupOutcome::Stopped) => return Ok(()),
            Ok(BackupOutcome::Absent(reason)) => reason,
            Err(error) => {
                *failed = Some(Instant::now());
                match error {
                    Error::Corrupt(_) => {
                        "the copy is not sound, so older ones are kept; see: outpost doctor".to_owned()
                    }
                    error => error.to_string(),
                }
            }
        };
        if before.backup_error.as_ref() == Some(&error) {
            return Ok(());
        }
        tracing::warn!("no backup could be made: {error}");
        self.note(move |upkeep| Upkeep { backup_error: Some(error), ..upkeep }).await
    }

    /// Checks the whole file, and keeps what was found.
    async fn check(&self) -> Result<Verdict, Error> {
        let stop = Arc::clone(&self.stop);
        let verdict = self.beside(move |store| store.check(&stop)).await?;
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
        if let Err(error) = self.note(move |upkeep| Upkeep { checked_ms, faults, ..upkeep }).await {
            complain("noting what the check found", &error);
        }
        Ok(verdict)
    }

    /// Looks once more after a moment: a card that has a hiccup reads again.
    async fn is_still_damaged(&self) -> bool {
        tokio::time::sleep(HICCUP).await;
        matches!(self.check().await, Ok(Verdict::Damaged(_)))
    }

    /// Does something on a thread for blocking work.
    async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || work(&store)).await.unwrap_or(Err(Error::Closed))
    }

    async fn note(&self, change: impl FnOnce(Upkeep) -> Upkeep + Send + 'static) -> Result<(), Error> {
        let note = self.store.write(move |tx| {
            let before = tx.reader()?.upkeep()?;
            tx.set_upkeep(&change(before))
        });
        note.await
    }
}

/// Whether something is due that was done at `last_ms`. A clock that went back makes it due: better twice than never.
fn is_due(last_ms: i64, now_ms: i64, every: Duration) -> bool {
    last_ms == 0 || u128::from(now_ms.abs_diff(last_ms)) >= every.as_millis()
}

fn complain(what: &str, error: &Error) {
    tracing::error!(error.class = error.class().name(), "{what} failed: {error}. {}", error.hint());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrub_is_due_once_a_month_and_again_after_a_clock_that_went_back() {
        const DAY_MS: i64 = 24 * 3_600 * 1_000;
        let now_ms = 1_790_000_000_000;
        let after_days = |days: i64| is_due(now_ms - days * DAY_MS, now_ms, SCRUB_EVERY);
        assert!(is_due(0, now_ms, SCRUB_EVERY), "never done");
        assert_eq!([0, 1, 29, 30, 31, 400].map(after_days), [false, false, false, true, true, true]);
        assert_eq!([-29, -30].map(after_days), [false, true], "it was noted in a time that has not come yet");
    }
}
