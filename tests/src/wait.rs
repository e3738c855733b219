//! Waiting for what happens, and not for time to pass.

use std::time::{Duration, Instant};

/// Waits until `done` gives something.
///
/// # Panics
/// If it does not within a minute.
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < until, "waited a minute for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
