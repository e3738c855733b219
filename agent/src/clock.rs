//! The wall clock and what is known of its quality. The only place of the program that asks what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::WallClock;

/// How far the hub's clock and ours may differ for ours to count as good.
const AHEAD_MS_MAX: i64 = 30_000;

/// The time of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970, by the wall clock.
    pub now_ms: i64,
    /// How good that is.
    pub quality: TimeQuality,
}

/// The wall clock of this boot.
#[derive(Debug, Clone)]
pub struct Clock {
    /// How far it was ahead of the hub's when they were last compared, milliseconds.
    ahead_ms: Arc<AtomicI64>,
}

/// Never compared.
const UNKNOWN: i64 = i64::MIN;

impl Default for Clock {
    fn default() -> Self {
        Clock { ahead_ms: Arc::new(AtomicI64::new(UNKNOWN)) }
    }
}

impl Clock {
    /// The present moment.
    pub fn now(&self) -> Moment {
        let is_good = self.ahead_ms().is_some_and(|ahead| ahead.abs() <= AHEAD_MS_MAX);
        Moment { now_ms: unix_ms(), quality: if is_good { TimeQuality::Good } else { TimeQuality::Unknown } }
    }

    /// What the hub is told of it.
    pub fn wall(&self) -> WallClock {
        let now_ms = u64::try_from(unix_ms()).unwrap_or(0);
        WallClock { now_ms, ahead_seconds: self.ahead_ms().map(|ms| ms / 1000) }
    }

    /// Takes note of the hub's clock, as heard at the end of an exchange.
    pub fn compare(&self, hub_ms: u64) {
        let ahead_ms = unix_ms().saturating_sub(i64::try_from(hub_ms).unwrap_or(i64::MAX));
        self.ahead_ms.store(ahead_ms.max(-i64::MAX), Ordering::Relaxed);
    }

    fn ahead_ms(&self) -> Option<i64> {
        Some(self.ahead_ms.load(Ordering::Relaxed)).filter(|ms| *ms != UNKNOWN)
    }
}

/// Milliseconds since 1970; negative before.
pub fn unix_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}
