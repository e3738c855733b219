//! Connections for reading, beside the writer.

use std::sync::{Arc, Mutex, PoisonError};

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

/// A connection for reading with what it needs.
pub(super) struct ReadConnection {
    db: Connection,
    codec: Codec,
    home: Home,
}

impl ReadConnection {
    pub(super) fn open(home: &Home, health: &Arc<Health>) -> Result<ReadConnection, Error> {
        let (db, codec) = (open::for_reading(home)?, Codec::new(Arc::clone(health))?);
        Ok(ReadConnection { db, codec, home: home.clone() })
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
    home: Home,
    health: Arc<Health>,
}

impl Pool {
    pub(super) fn open(home: &Home, size: usize, health: &Arc<Health>) -> Result<Pool, Error> {
        let first = ReadConnection::open(home, health)?;
        let room = Arc::new(Semaphore::new(size));
        Ok(Pool { idle: Mutex::new(vec![first]), size, room, home: home.clone(), health: Arc::clone(health) })
    }

    /// Bounds how many read at once, for callers that are async.
    pub(super) fn room(&self) -> Arc<Semaphore> {
        Arc::clone(&self.room)
    }

    /// Closes the connections that wait.
    pub(super) fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Takes an idle connection, or opens one.
    pub(super) fn read<T, E: From<Error>>(&self, f: impl FnOnce(&Reader<'_>) -> Result<T, E>) -> Result<T, E> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => ReadConnection::open(&self.home, &self.health)?,
        };
        let result = connection.read(f);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.size {
            idle.push(connection);
        }
        result
    }
}
