//! Connections for reading, beside the writer; and which database it is that they read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::codec::Codec;
use super::health::Health;
use super::key::Home;
use super::open;
use super::reader::Reader;
use crate::error::Error;

/// A store that is only read, by a program that does not run the agent.
pub struct ReadOnly {
    one: Mutex<ReadConnection>,
}

impl ReadOnly {
    pub(super) fn new(one: ReadConnection) -> ReadOnly {
        ReadOnly { one: Mutex::new(one) }
    }

    /// Runs a closure on a snapshot.
    ///
    /// # Errors
    /// What the closure returns, or what SQLite reports.
    pub fn read<T, E: From<Error>>(&self, f: impl FnOnce(&Reader<'_>) -> Result<T, E>) -> Result<T, E> {
        self.one.lock().unwrap_or_else(PoisonError::into_inner).read(f)
    }
}

impl std::fmt::Debug for ReadOnly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadOnly")
    }
}

/// Held by whoever has a connection to one and the same file: who has the only one left knows that nobody else reads it.
pub(super) type Share = Arc<()>;

/// A connection for reading with what it needs.
pub(super) struct ReadConnection {
    db: Connection,
    codec: Codec,
    home: Home,
    /// `None` for one beside a program that may have it open.
    share: Option<Share>,
}

impl ReadConnection {
    pub(super) fn open(home: &Home, health: &Arc<Health>) -> Result<ReadConnection, Error> {
        let (db, codec) = (open::for_reading(home)?, Codec::new(Arc::clone(health))?);
        Ok(ReadConnection { db, codec, home: home.clone(), share: None })
    }

    pub(super) fn read<T, E: From<Error>>(&self, f: impl FnOnce(&Reader<'_>) -> Result<T, E>) -> Result<T, E> {
        let snapshot = self.db.unchecked_transaction().map_err(Error::from)?;
        let result = f(&Reader::new(&snapshot, &self.codec, self.home.dir()));
        // Nothing was written; and after a page that could not be read, SQLite would not commit.
        drop(snapshot);
        result
    }
}

/// Connections for reading that wait for work.
pub(super) struct Pool {
    idle: Mutex<Vec<ReadConnection>>,
    size: usize,
    room: Arc<Semaphore>,
    /// What is read. Locked while one is opened, so that no other file takes its place meanwhile.
    file: RwLock<OpenFile>,
    health: Arc<Health>,
}

/// The database that is under the name now.
struct OpenFile {
    home: Home,
    share: Share,
}

impl Pool {
    pub(super) fn open(home: &Home, size: usize, health: &Arc<Health>) -> Result<Pool, Error> {
        let file = RwLock::new(OpenFile { home: home.clone(), share: Share::default() });
        let room = Arc::new(Semaphore::new(size));
        let pool = Pool { idle: Mutex::new(Vec::new()), size, room, file, health: Arc::clone(health) };
        let first = pool.another()?;
        pool.idle().push(first);
        Ok(pool)
    }

    /// Bounds how many read at once, for callers that are async.
    pub(super) fn room(&self) -> Arc<Semaphore> {
        Arc::clone(&self.room)
    }

    /// Closes the connections that wait.
    pub(super) fn clear(&self) {
        self.idle().clear();
    }

    /// The folder, with the key that is in force.
    pub(super) fn home(&self) -> Home {
        self.file.read().unwrap_or_else(PoisonError::into_inner).home.clone()
    }

    /// Takes an idle connection, or opens one.
    pub(super) fn read<T, E: From<Error>>(&self, f: impl FnOnce(&Reader<'_>) -> Result<T, E>) -> Result<T, E> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.another()?,
        };
        let result = connection.read(f);
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        let mut idle = self.idle();
        // One to a file that was replaced meanwhile has done its last work.
        if idle.len() < self.size && connection.share.as_ref().is_some_and(|share| Arc::ptr_eq(share, &file.share)) {
            idle.push(connection);
        }
        result
    }

    /// Opens something on the database of now, which stays what it is as long as the share is held.
    pub(super) fn beside<T>(&self, open: impl FnOnce(&Home) -> Result<T, Error>) -> Result<(T, Share), Error> {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        Ok((open(&file.home)?, Arc::clone(&file.share)))
    }

    /// Lets another file take the place of the database while nobody opens it. Who reads the old one goes on with that; gives
    /// the share that all of them have.
    pub(super) fn replace<E>(&self, with: Home, put: impl FnOnce() -> Result<(), E>) -> Result<Share, E> {
        let mut file = self.file.write().unwrap_or_else(PoisonError::into_inner);
        put()?;
        file.home = with;
        let old = std::mem::take(&mut file.share);
        self.clear();
        Ok(old)
    }

    fn another(&self) -> Result<ReadConnection, Error> {
        let (connection, share) = self.beside(|home| ReadConnection::open(home, &self.health))?;
        Ok(ReadConnection { share: Some(share), ..connection })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<ReadConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
