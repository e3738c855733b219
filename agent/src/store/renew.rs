//! The database under another key, while it is used.
//!
//! SQLite's backup copies page after page into a file beside, which is opened under the new key, some at a time between the
//! writer's commits. What is committed meanwhile SQLite writes into both, because the copy is made on the writer's own
//! connection. When only a few pages are left and the log is folded into the file, so that the file alone is all there is, the
//! last pages are copied, and between two commits the copy takes the place of the database. Who reads the old file reads on, and
//! whoever begins to read from then on reads the new one.
//!
//! # Invariants
//! - Until the copy has the name of the database, the old file is whole and nothing but it is written to by anybody else.
//! - When it has the name, it is whole and on the medium, and no log of the old file is there that could be taken for its own.
//! - Nothing is committed between the last page and the first use of the new file.
//! - The old file is overwritten only after the new one was checked, and when nobody reads it any more.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rustix::fs::{FlockOperation, fcntl_lock};
use tracing::error;

use super::aside::{keep_aside, with_suffix};
use super::convert::{NEW, OLD, Step, remove, remove_new, sync_folder, wipe_unless};
use super::group::GroupCommit;
use super::key::{DataKey, Home, Sealing, sealing};
use super::pool::{Pool, Share};
use super::writer::{Call, Writer};
use super::{Store, open};
use crate::error::Error;

/// Pages in one step, and how long it is waited for closures before the next.
const STEP_PAGES: i32 = 256;
const PAUSE: Duration = Duration::from_millis(10);
/// How often what is copied is put on the medium, so that little is left for the moment in which everybody waits.
const SYNC_EVERY: Duration = Duration::from_millis(250);
/// How often it is looked whether somebody still reads the old file.
const LOOK_EVERY: Duration = Duration::from_millis(50);

type At = Box<dyn FnMut(Step) -> Result<(), Error> + Send>;

/// What the writer is asked to do.
pub(super) struct Renewal {
    to: DataKey,
    readers: Arc<Pool>,
    at: At,
    reply: mpsc::Sender<Result<Replaced, Error>>,
}

/// The old file of a database that has another key now. Who reads it may still do so.
#[derive(Debug)]
pub struct Replaced {
    dir: PathBuf,
    file: File,
    /// It has a name, by which it is found again after a power cut.
    is_linked: bool,
    share: Share,
}

/// The database cannot be written to any more before it is opened anew.
pub(super) struct Lost;

impl Store {
    /// Puts the database under another key while it is read and written. `at` hears of each step, from the writer's thread, and
    /// can end it until [`Step::Linked`]. For a thread for blocking work.
    ///
    /// # Errors
    /// What SQLite and the file system report, and what `at` returns; then the old key is in force. [`Error::Closed`] if the
    /// new file is in its place and could not be opened: the program is to be started again.
    pub fn renew_key(
        &self,
        to: &DataKey,
        at: impl FnMut(Step) -> Result<(), Error> + Send + 'static,
    ) -> Result<Replaced, Error> {
        let _one = self.inner.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let new = with_suffix(&self.inner.path, NEW);
        remove_new(&self.inner.path)?;
        open::keep_private(&new)?;
        let copied = File::open(&new)?;
        let (reply, answer) = mpsc::channel();
        let (to, readers) = (to.clone(), Arc::clone(&self.inner.readers));
        self.send(Call::Renew(Box::new(Renewal { to, readers, at: Box::new(at), reply })))?;
        loop {
            match answer.recv_timeout(SYNC_EVERY) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Closed),
                // That it cannot be put there is seen again when the writer asks for it.
                Err(RecvTimeoutError::Timeout) => drop(copied.sync_data()),
            }
        }
    }
}

impl Writer {
    /// Does what was asked for, and goes on on the new file or on the old one.
    pub(super) fn renew(&mut self, renewal: Renewal, calls: &Receiver<Call>) -> Result<(), Lost> {
        let Renewal { to, readers, mut at, reply } = renewal;
        let (from, to) = (readers.home(), readers.home().under(&to));
        let copied = self.copy(&from, &to, calls, &mut at).and_then(|()| OldFile::keep(&from, &mut at));
        let result = match copied {
            Ok(old) => self.replace(&to, &readers, old, &mut at),
            Err(error) => {
                let _ = remove_new(&from.file());
                Ok(Err(error))
            }
        };
        let (result, lost) = match result {
            Ok(result) => (result, Ok(())),
            Err(Lost) => (Err(Error::Closed), Err(Lost)),
        };
        // Who asked may have gone away; what was done stays done.
        let _ = reply.send(result);
        lost
    }

    /// Copies all pages, and those that are written meanwhile.
    fn copy(&mut self, from: &Home, to: &Home, calls: &Receiver<Call>, at: &mut At) -> Result<(), Error> {
        let new = with_suffix(&from.file(), NEW);
        let key = to.key().ok_or_else(|| Error::KeyNeeded(from.file()))?;
        let mut target = open::to_be_copied_to(&new, key)?;
        let backup = Backup::new(&self.db, &mut target)?;
        // How many there are is known after a first step.
        let mut done = backup.step(0)?;
        while done != StepResult::Done {
            let left = backup.progress();
            at(Step::Copying { pages: left.pagecount - left.remaining, of: left.pagecount })?;
            if left.remaining > STEP_PAGES || is_folded(&self.db)? {
                done = backup.step(STEP_PAGES)?;
            }
            if done != StepResult::Done {
                serve_meanwhile(&mut self.group, &self.db, calls)?;
            }
        }
        drop(backup);
        target.pragma_update(None, "journal_mode", "delete")?;
        target.close().map_err(|(_, error)| error)?;
        File::open(&new)?.sync_all()?;
        is_copy(&self.db, &new, key)?;
        sync_folder(from.dir())?;
        at(Step::Copied)?;
        // Again, now that nobody can commit any more: a log that is not in the file would be lost.
        match is_folded(&self.db)? {
            true => at(Step::Folded),
            false => Err(Error::corrupt()),
        }
    }

    /// Puts the copy in the place of the database. What fails in here leaves a folder that opens, but not by this connection.
    fn replace(
        &mut self,
        to: &Home,
        readers: &Pool,
        old: OldFile,
        at: &mut At,
    ) -> Result<Result<Replaced, Error>, Lost> {
        let (database, dir) = (to.file(), to.dir().to_owned());
        let put = || {
            for suffix in ["-wal", "-shm"] {
                remove(&with_suffix(&database, suffix))?;
            }
            sync_folder(&dir)?;
            let _ = at(Step::Unlogged);
            fs::rename(with_suffix(&database, NEW), &database)?;
            sync_folder(&dir)?;
            let _ = at(Step::Replaced);
            let db = open::for_writing(to)?;
            // Its log has no name any more, and must not take the new one's along.
            self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            self.db = db;
            self.group.move_to(&self.db)
        };
        let share = readers.replace(to.clone(), put).map_err(|error| {
            error!(error = &error as &dyn std::error::Error, "the database got another key and could not be opened");
            Lost
        })?;
        Ok(Ok(Replaced { dir, file: old.file, is_linked: old.is_linked, share }))
    }
}

/// The file that is to be replaced, held by a second name.
struct OldFile {
    file: File,
    is_linked: bool,
}

impl OldFile {
    fn keep(home: &Home, at: &mut At) -> Result<OldFile, Error> {
        let (database, old) = (home.file(), with_suffix(&home.file(), OLD));
        remove(&old)?;
        let file = File::options().write(true).open(&database)?;
        // As in a conversion: on a file system without second names, what is open is wiped, unless the power fails.
        let is_linked = fs::hard_link(&database, &old).is_ok();
        sync_folder(home.dir())?;
        at(Step::Linked)?;
        Ok(OldFile { file, is_linked })
    }
}

impl Replaced {
    /// Overwrites the old file when nobody reads it any more, and takes its name away. Tells whether it came to that before
    /// `stop` was set; if not, the next start does it.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn wipe(self, stop: &AtomicBool) -> Result<bool, Error> {
        while self.is_read() {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        if !wipe_unless(&self.file, stop)? {
            return Ok(false);
        }
        if self.is_linked {
            remove(&with_suffix(&Home::new(&self.dir, None).file(), OLD))?;
            sync_folder(&self.dir)?;
        }
        Ok(true)
    }

    /// Keeps the old file as one that was set aside, because the new one has faults. `None` if it has no name to be kept by.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn keep(self) -> Result<Option<PathBuf>, Error> {
        match self.is_linked {
            true => keep_aside(&with_suffix(&Home::new(&self.dir, None).file(), OLD), &self.dir).map(Some),
            false => Ok(None),
        }
    }

    /// Whether anybody here or another program, such as a command that shows the status, has it open for reading.
    fn is_read(&self) -> bool {
        Arc::strong_count(&self.share) > 1 || fcntl_lock(&self.file, FlockOperation::NonBlockingLockExclusive).is_err()
    }
}

/// Whether all that is committed is in the file, and what is in the log is there twice. Not while somebody reads what was before.
fn is_folded(db: &Connection) -> Result<bool, Error> {
    let counts = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let (is_busy, in_log, in_file) = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], counts)?;
    Ok(is_busy == 0 && in_log == in_file)
}

/// Whether a file opens with a key and has as many pages: what can be seen at once. The whole of it is checked beside serving.
fn is_copy(db: &Connection, new: &Path, key: &DataKey) -> Result<(), Error> {
    let pages = |db: &Connection| db.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0));
    let is_sealed = matches!(sealing(new)?, Sealing::Sealed(id) if id == key.id());
    match is_sealed && pages(&open::copy_for_reading(new, Some(key))?)? == pages(db)? {
        true => Ok(()),
        false => Err(Error::corrupt()),
    }
}

/// Commits what waits, or waits a moment for it.
fn serve_meanwhile(group: &mut GroupCommit, db: &Connection, calls: &Receiver<Call>) -> Result<(), Error> {
    let call = group.later().map_or_else(|| calls.recv_timeout(PAUSE), Ok);
    match call {
        Ok(Call::Work(first)) => group.serve(db, calls, first),
        // One is asked for at a time.
        Ok(Call::Renew(_)) | Err(RecvTimeoutError::Timeout) => {}
        Err(RecvTimeoutError::Disconnected) => return Err(Error::Closed),
    }
    Ok(())
}
