//! The store without its thread: what a simulation steps through, in its own time.
//!
//! It is the same writer: closures share a transaction, each under a savepoint of its own, and [`Inline::commit`] is the only
//! moment at which anything reaches the disk. What the thread adds, who shares a commit and when, is the caller's to decide here.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::codec::Codec;
use super::group::Group;
use super::health::Health;
use super::pool::ReadConnection;
use super::writer::{Failure, News, Work, Writer};
use super::{Home, Options, Reader, Tx, open, open_or_set_aside};
use crate::error::Error;

/// An open store that belongs to one thread.
pub struct Inline {
    // Closed before the writer, so that it is the writer that folds the log back.
    reader: ReadConnection,
    writer: Writer,
    group: Option<Group>,
}

impl std::fmt::Debug for Inline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inline")
    }
}

impl Inline {
    /// Opens the store in a directory, as [`super::Store::open`] does.
    ///
    /// # Errors
    /// As [`super::Store::open`].
    pub fn open(home: impl Into<Home>, options: Options) -> Result<Inline, Error> {
        let home = home.into();
        open_or_set_aside(&home, || {
            let db = open::for_writing(&home)?;
            let health = Arc::new(Health::default());
            let (news, _) = News::channels();
            let writer = Writer::new(db, Codec::new(Arc::clone(&health))?, home.dir(), options, news, Arc::default())?;
            Ok(Inline { reader: ReadConnection::open(&home, &health)?, writer, group: None })
        })
    }

    /// Runs a closure in the transaction that is under way, or begins one. Nothing is on the disk before [`Inline::commit`].
    ///
    /// # Errors
    /// What the closure returns; it left nothing behind then. If [`Inline::is_under_way`] says `false` after it, neither did
    /// those before it: a full disk took the transaction away.
    pub fn write<T, E, F>(&mut self, f: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send,
        T: Send,
        E: Failure + Send + 'static,
    {
        let mut group = match self.group.take() {
            Some(group) => group,
            None => self.writer.group.begin_group(&self.writer.db)?,
        };
        let mut written = None;
        let (reply, mut answer) = oneshot::channel::<Result<(), E>>();
        let f = |tx: &mut Tx<'_>| f(tx).map(|value| written = Some(value));
        let work = Box::new(Work { f, reply, permit: None, is_large: false });
        match self.writer.group.add(&self.writer.db, &mut group, work, false) {
            Ok(()) => self.group = Some(group),
            // The callers are told; here they are those who ask whether the group is still under way.
            Err(error) => drop(self.writer.group.end_group(&self.writer.db, group, Some(error))),
        }
        match (answer.try_recv(), written) {
            (Ok(Err(error)), _) => Err(error),
            (_, Some(value)) => Ok(value),
            (_, None) => Err(Error::Closed.into()),
        }
    }

    /// Commits what is under way; when it returns, it is on the disk.
    ///
    /// # Errors
    /// [`Error::DiskFull`] and the like. What was under way left nothing behind then.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.group.take().map_or(Ok(()), |group| self.writer.group.end_group(&self.writer.db, group, None))
    }

    /// Whether anything waits for a commit.
    pub fn is_under_way(&self) -> bool {
        self.group.is_some()
    }

    /// Runs a closure on a snapshot of what is committed.
    ///
    /// # Errors
    /// What the closure returns, or what SQLite reports.
    pub fn read<T, E: From<Error>>(&self, f: impl FnOnce(&Reader<'_>) -> Result<T, E>) -> Result<T, E> {
        self.reader.read(f)
    }

    /// Leaves room for so many pages more, as a disk that is nearly full does; `None` for a disk that has enough. SQLite's own
    /// limit on pages fails where a disk without room fails, with the same code.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn leave_pages(&mut self, more: Option<u32>) -> Result<(), Error> {
        let pages: i64 = self.writer.db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let limit = more.map_or(i64::from(u32::MAX - 1), |more| pages + i64::from(more));
        Ok(self.writer.db.query_row(&format!("PRAGMA max_page_count = {limit}"), [], |_| Ok(()))?)
    }
}
