//! When to speak, and how much at once. Pure: the caller passes the time that passed and the randomness.
//!
//! After a success the next exchange waits for news or the timer; after a failure for a back-off that doubles, with jitter,
//! so that a fleet whose hub returns does not come back in one instant. A person who asks never waits. How much goes into
//! one exchange follows the link: about [`EXCHANGE_SECONDS`] of what it carried lately, half after each failure.

/// An exchange should take about this long on the measured link, so that waiting for round trips is rare and a cut costs little.
pub const EXCHANGE_SECONDS: u64 = 5;
/// The first bytes over an unknown link.
const BYTES_FIRST: u64 = 16 * 1024;
const BYTES_MIN: u64 = 4 * 1024;
/// More would only take memory: what is packed stands there, for a moment twice, until it has been sent, and what is acknowledged is
/// one transaction.
const BYTES_MAX: u64 = 256 * 1024;
const BACKOFF_FIRST_MS: u64 = 2_000;
const BACKOFF_MAX_MS: u64 = 15 * 60_000;
/// A gateway that was shut out asks again, but rarely.
const DENIED_MS: u64 = 60 * 60_000;

/// Why the loop may go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The timer.
    Timer,
    /// Something new waits to be sent.
    News,
    /// The machine has a route again that it had not.
    LinkUp,
    /// A person asked.
    Person,
}

/// How an exchange went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Done {
        /// Bytes both ways.
        bytes: u64,
        /// How long it took.
        elapsed_ms: u64,
        /// More waits on either side.
        again: bool,
    },
    /// No answer, or none of ours.
    Offline,
    /// It was answered, but the hub has no room for what we bring.
    Full,
    /// The hub shut us out; a person has to act.
    Denied,
}

/// The pace of one gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    interval_ms: u64,
    failures: u32,
    exchange_bytes: u64,
    is_denied: bool,
}

impl Session {
    /// A session that asks the hub at least every `interval_ms`.
    pub fn new(interval_ms: u64) -> Self {
        Session { interval_ms, failures: 0, exchange_bytes: BYTES_FIRST, is_denied: false }
    }

    /// Bytes to put into the next exchange, each way.
    pub fn exchange_bytes(&self) -> u64 {
        self.exchange_bytes
    }

    /// Whether the last attempt failed.
    pub fn is_failing(&self) -> bool {
        self.failures > 0 || self.is_denied
    }

    /// Whether this reason may go before the wait is over. New data may not while the link fails: it would only fail again.
    pub fn may_go(&self, wake: Wake) -> bool {
        match wake {
            Wake::Person | Wake::Timer => true,
            Wake::LinkUp => !self.is_denied,
            Wake::News => !self.is_failing(),
        }
    }

    /// Takes note of an exchange and tells how long to wait until the next, in milliseconds. `jitter` is any random number.
    pub fn report(&mut self, outcome: Outcome, jitter: u16) -> u64 {
        match outcome {
            Outcome::Done { bytes, elapsed_ms, again } => {
                self.failures = 0;
                self.is_denied = false;
                self.learn(bytes, elapsed_ms);
                if again { 0 } else { spread(self.interval_ms, jitter) }
            }
            Outcome::Offline => {
                self.exchange_bytes = (self.exchange_bytes / 2).max(BYTES_MIN);
                let doubled = BACKOFF_FIRST_MS << self.failures.min(16);
                self.failures = self.failures.saturating_add(1);
                spread(doubled.min(BACKOFF_MAX_MS), jitter)
            }
            // The link is good, so what comes down is asked for as ever; news would only be refused again.
            Outcome::Full => {
                self.failures = self.failures.max(1);
                spread(self.interval_ms, jitter)
            }
            Outcome::Denied => {
                self.is_denied = true;
                spread(DENIED_MS, jitter)
            }
        }
    }

    /// Only an exchange of some size says something about the link; the rest is round trip.
    fn learn(&mut self, bytes: u64, elapsed_ms: u64) {
        if bytes < self.exchange_bytes / 2 {
            return;
        }
        let fits = bytes.saturating_mul(EXCHANGE_SECONDS * 1000) / elapsed_ms.max(1);
        self.exchange_bytes = fits.clamp(self.exchange_bytes / 2, self.exchange_bytes * 4).clamp(BYTES_MIN, BYTES_MAX);
    }
}

/// Between three and five quarters of a wait.
fn spread(wait_ms: u64, jitter: u16) -> u64 {
    wait_ms * 3 / 4 + wait_ms * u64::from(jitter) / u64::from(u16::MAX) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOTS: Outcome = Outcome::Done { bytes: 16 * 1024, elapsed_ms: 100, again: false };

    #[test]
    fn failures_wait_longer_and_longer_up_to_a_limit() {
        let mut session = Session::new(60_000);
        let waits: Vec<u64> = (0..12).map(|_| session.report(Outcome::Offline, u16::MAX / 2)).collect();
        assert!(waits.windows(2).all(|w| w[0] <= w[1]), "{waits:?}");
        assert!(waits[0] < 3_000 && *waits.last().unwrap() <= BACKOFF_MAX_MS * 5 / 4);
        session.report(LOTS, 0);
        assert!(session.report(Outcome::Offline, 0) < 3_000, "a success begins anew");
    }

    #[test]
    fn a_person_never_waits_and_new_data_does_not_beat_on_a_dead_link() {
        let mut session = Session::new(60_000);
        assert!(session.may_go(Wake::News));
        session.report(Outcome::Offline, 0);
        assert!(!session.may_go(Wake::News));
        assert!(session.may_go(Wake::LinkUp) && session.may_go(Wake::Person));
        session.report(Outcome::Denied, 0);
        assert!(!session.may_go(Wake::LinkUp) && session.may_go(Wake::Person));
    }

    #[test]
    fn a_hub_without_room_is_asked_as_often_as_one_that_has_room_and_not_for_each_new_write() {
        let mut session = Session::new(60_000);
        let bytes = session.exchange_bytes();
        for _ in 0..5 {
            session.report(Outcome::Done { bytes: 100, elapsed_ms: 100, again: true }, 0);
            let wait = session.report(Outcome::Full, u16::MAX / 2);
            assert!((59_000..61_000).contains(&wait), "{wait}");
            assert!(!session.may_go(Wake::News) && session.may_go(Wake::Person) && session.may_go(Wake::Timer));
        }
        assert_eq!(session.exchange_bytes(), bytes, "it says nothing of the link");
        session.report(LOTS, 0);
        assert!(session.may_go(Wake::News), "there is room again");
    }

    #[test]
    fn the_size_of_an_exchange_follows_the_link() {
        let mut session = Session::new(60_000);
        // 8,000 bytes a second: five seconds of it.
        for _ in 0..10 {
            let bytes = session.exchange_bytes();
            session.report(Outcome::Done { bytes, elapsed_ms: bytes * 1000 / 8_000, again: true }, 0);
        }
        assert_eq!(session.exchange_bytes(), 40_000);
        session.report(Outcome::Offline, 0);
        assert_eq!(session.exchange_bytes(), 20_000);
        session.report(Outcome::Done { bytes: 100, elapsed_ms: 2_000, again: false }, 0);
        assert_eq!(session.exchange_bytes(), 20_000, "an idle exchange teaches nothing");
    }

    #[test]
    fn a_fast_link_carries_no_more_at_once_than_a_small_box_has_room_for() {
        let mut session = Session::new(60_000);
        for _ in 0..10 {
            let bytes = session.exchange_bytes();
            session.report(Outcome::Done { bytes, elapsed_ms: 1, again: true }, 0);
        }
        assert_eq!(session.exchange_bytes(), 256 * 1024);
    }
}
