//! What this process has met of a disk that is full or loses data. Shared by all connections of a store; what has to outlive
//! the process is written into the database by whoever takes care of it.
//!
//! Invariant: it only ever reports. Nothing is refused or repaired because of what stands here.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Damaged rows that are remembered at most; beyond, the card is beyond counting.
const PLACES_MAX: usize = 10_000;

/// A row that can be damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// `records.feed`.
    Record(i64),
    /// `history.number`.
    History(i64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Record(feed) => write!(f, "record {feed}"),
            Place::History(number) => write!(f, "history {number}"),
        }
    }
}

/// What has been met.
#[derive(Default)]
pub(super) struct Health {
    damaged: Mutex<BTreeSet<Place>>,
    news: Notify,
    is_full: AtomicBool,
}

impl Health {
    /// Remembers a row that could not be read, and wakes who mends. Tells whether it is the first time.
    pub(super) fn met_damage(&self, place: Place) -> bool {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = damaged.len() < PLACES_MAX && damaged.insert(place);
        if is_new {
            self.news.notify_one();
        }
        is_new
    }

    /// The rows that could not be read.
    pub(super) fn places(&self) -> Vec<Place> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// A row can be read again, or is gone.
    pub(super) fn forget(&self, place: Place) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
    }

    /// Waits until a row is met that could not be read.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Remembers whether there was room for what was written last.
    pub(super) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    /// Whether there was no room for what was written last.
    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }
}
