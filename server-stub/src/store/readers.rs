//! Connections that read beside the writer, each query on one snapshot.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::{Database, Tx};
use crate::clock::now_ms;
use crate::error::StoreError;

const READERS_MAX: usize = 4;

/// A handle to the connections.
#[derive(Debug, Clone)]
pub(crate) struct Readers(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    path: PathBuf,
    idle: Mutex<Vec<Database>>,
    places: Semaphore,
}

impl Readers {
    /// A pool that opens connections as they are needed.
    pub(crate) fn new(path: PathBuf) -> Readers {
        Readers(Arc::new(Pool { path, idle: Mutex::new(Vec::new()), places: Semaphore::new(READERS_MAX) }))
    }

    /// Runs `look` on one snapshot, off the async threads.
    pub(crate) async fn read<T, E, F>(&self, look: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let pool = Arc::clone(&self.0);
        let _place = self.0.places.acquire().await.map_err(|_| StoreError::Closed)?;
        let work = tokio::task::spawn_blocking(move || {
            let idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut database = match idle {
                Some(database) => database,
                None => Database::open_to_read(&pool.path)?,
            };
            let result = database.read(now_ms(), look);
            pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(database);
            result
        });
        work.await.map_err(|_| StoreError::Closed)?
    }
}
