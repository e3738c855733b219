//! Whether the sync loop still goes on. It says at each step by when the next is due; whoever vouches for the daemon looks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A step of the loop is over by then. Each wait for the network in it ends after a minute, or is told of, as when much
/// goes over a slow link; what remains is room for a card that takes its time.
const STEP_MAX: Duration = Duration::from_secs(10 * 60);

/// When the next sign of the loop is due. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Pulse(Arc<Mutex<Option<Instant>>>);

impl Pulse {
    /// Of a loop that begins now.
    pub(super) fn new() -> Pulse {
        Pulse(Arc::new(Mutex::new(Instant::now().checked_add(STEP_MAX))))
    }

    /// The loop goes on, and does so again after a wait of at most so long.
    pub(super) fn beat(&self, wait: Duration) {
        // After a wait that never ends nothing is due.
        let due = Instant::now().checked_add(wait.saturating_add(STEP_MAX));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = due;
    }

    /// Whether it has not been heard of for too long.
    pub(crate) fn is_late(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|due| due <= Instant::now())
    }

    /// As if that had just happened.
    #[cfg(test)]
    pub(crate) fn stop(&self) {
        *self.0.lock().unwrap() = Some(Instant::now());
    }
}
