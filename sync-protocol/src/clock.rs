//! A hybrid logical clock in 64 bits (Kulkarni et al., "Logical Physical Clocks", 2014).
//!
//! The upper 48 bits are milliseconds since 1970, the lower 16 a counter. It never goes back and never refuses: a
//! wrong wall clock gives wrong times, not lost records. It orders concurrent writes and nothing else; causality is
//! decided by [`crate::merge`] from what a write had seen. The caller keeps the last value on disk and passes the time.

use serde::{Deserialize, Serialize};

use crate::error::DecodeError;

/// A hybrid logical timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Hlc(pub u64);

const COUNTER_BITS: u32 = 16;
const MILLIS_MAX: u64 = (1 << (64 - COUNTER_BITS)) - 1;

impl Hlc {
    /// The clock at a wall time in milliseconds since 1970, counter zero.
    pub fn at(unix_ms: u64) -> Hlc {
        Hlc(unix_ms.min(MILLIS_MAX) << COUNTER_BITS)
    }

    /// Milliseconds since 1970.
    pub fn unix_ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The stamp for a new event at wall time `now_ms`: later than `self` in any case.
    #[must_use]
    pub fn tick(self, now_ms: u64) -> Hlc {
        Hlc::at(now_ms).max(Hlc(self.0.saturating_add(1)))
    }

    /// Takes note of a stamp from elsewhere, so that what is written next is ordered after it.
    #[must_use]
    pub fn observe(self, other: Hlc) -> Hlc {
        self.max(other)
    }
}

/// How good the wall clock was when a value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeQuality {
    /// The clock of a boot that has not heard the true time yet.
    #[default]
    Unknown,
    /// Between two known times, because that boot never heard the true one.
    Bounded,
    /// Repaired from the monotonic clock after the first contact of that boot.
    Repaired,
    /// Set by NTP, a real-time clock or the hub before the write.
    Good,
    /// Lay in the future and was clamped by the hub.
    Clamped,
}

impl TimeQuality {
    /// The number on the wire and on disk.
    pub fn number(self) -> u8 {
        match self {
            TimeQuality::Unknown => 0,
            TimeQuality::Bounded => 1,
            TimeQuality::Repaired => 2,
            TimeQuality::Good => 3,
            TimeQuality::Clamped => 4,
        }
    }

    /// The quality of a number.
    ///
    /// # Errors
    /// [`DecodeError::Shape`] for a number that this version does not have. Reading it as another would change the hash of
    /// the write that it belongs to.
    pub fn from_number(n: u8) -> Result<TimeQuality, DecodeError> {
        match n {
            0 => Ok(TimeQuality::Unknown),
            1 => Ok(TimeQuality::Bounded),
            2 => Ok(TimeQuality::Repaired),
            3 => Ok(TimeQuality::Good),
            4 => Ok(TimeQuality::Clamped),
            _ => Err(DecodeError::Shape("quality of a clock")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_grow_even_when_the_wall_clock_falls_back() {
        let mut clock = Hlc::default();
        let mut last = clock;
        for now in [1_000, 1_000, 500, 0, 2_000, 1_999] {
            clock = clock.tick(now);
            assert!(clock > last);
            last = clock;
        }
        assert_eq!(clock.unix_ms(), 2_000);
    }

    #[test]
    fn what_is_written_after_seeing_a_value_is_later_than_it() {
        let far = Hlc::at(9_999_999_999_999);
        let mine = Hlc::at(1_000).observe(far).tick(2_000);
        assert!(mine > far);
    }
}
