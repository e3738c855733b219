//! How long the hub is waited for. Links are slow and go down for a while; one on which nothing arrives any more has to end, and so
//! has one over which an answer would take for ever, or the gateway would never try again.

use std::time::Duration;

/// Silence of this long is a link that is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The slowest link that is used for as long as something comes over it, in bytes per second; the hub is as patient.
const BYTES_PER_SECOND: u64 = 64;
/// The slowest by which a message is given its time to arrive. Nobody sees from here how far it has come, and what hangs at the
/// other end is waited for as well; what was given to the kernel goes on to the hub afterwards, if the link still carries it.
const SENT_PER_SECOND: u64 = 256;

/// How long an answer may take to begin, to a message of so many bytes. What was given to the kernel is not at the hub yet: a
/// large record over a satellite takes minutes to get there, and would never arrive if they were silence.
pub(super) fn until_answered(sent: usize) -> Duration {
    SILENCE_MAX.saturating_add(Duration::from_secs(sent as u64 / SENT_PER_SECOND))
}

/// How long the rest of an answer may take.
#[derive(Debug)]
pub(super) struct Patience {
    left: Duration,
}

impl Patience {
    pub(super) fn new() -> Patience {
        Patience { left: SILENCE_MAX }
    }

    /// How long the next bytes may take.
    pub(super) fn left(&self) -> Duration {
        self.left
    }

    /// So many bytes came, after a wait.
    pub(super) fn earn(&mut self, bytes: usize, waited: Duration) {
        let earned = Duration::from_millis((bytes as u64).saturating_mul(1_000) / BYTES_PER_SECOND);
        self.left = self.left.saturating_sub(waited).saturating_add(earned).min(SILENCE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether an answer of which so many bytes come every so many seconds is read for a day.
    fn is_heard(bytes: usize, seconds: u64) -> bool {
        let (mut patience, wait) = (Patience::new(), Duration::from_secs(seconds));
        (0..24 * 3_600 / seconds).all(|_| {
            let is_in_time = wait < patience.left();
            patience.earn(bytes, wait);
            is_in_time
        })
    }

    #[test]
    fn a_slow_link_is_used_and_one_that_drips_or_is_silent_is_not() {
        assert!(is_heard(64, 1) && is_heard(2_000, 30) && is_heard(64 * 1024, 59));
        assert!(!is_heard(1, 1), "an answer would take for ever");
        assert!(!is_heard(1, 59) && !is_heard(1 << 20, 61));
    }

    #[test]
    fn the_largest_record_gets_over_a_slow_link() {
        let record = sync_protocol::limits::RECORD_BYTES_MAX;
        assert!(until_answered(record) > Duration::from_secs(record as u64 / 300), "a modem of 2,400 baud");
        assert!(until_answered(record) < Duration::from_secs(20 * 60), "what hangs does not hold it for hours");
        assert_eq!(until_answered(0), SILENCE_MAX);
    }
}
