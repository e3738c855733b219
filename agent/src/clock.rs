//! The wall clock and what is known of its quality. The only place of the program that asks what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sync_protocol::clock::TimeQuality;

/// How far the hub's clock and ours may differ for ours to count as good.
const SKEW_MS_MAX: u64 = 30_000;

/// The time of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970, by the wall clock.
    pub now_ms: i64,
    /// How good that is.
    pub quality: TimeQuality,
}

/// The wall clock of this boot.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    quality: Arc<AtomicU8>,
}

impl Clock {
    /// The present moment.
    pub fn now(&self) -> Moment {
        Moment { now_ms: unix_ms(), quality: TimeQuality::from_number(self.quality.load(Ordering::Relaxed)) }
    }

    /// Takes note of the hub's clock, as heard at the end of an exchange.
    pub fn compare(&self, hub_ms: u64) {
        let skew = u64::try_from(unix_ms()).unwrap_or(0).abs_diff(hub_ms);
        let quality = if skew <= SKEW_MS_MAX { TimeQuality::Good } else { TimeQuality::Unknown };
        self.quality.store(quality.number(), Ordering::Relaxed);
    }
}

/// Milliseconds since 1970; negative before.
pub fn unix_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}
