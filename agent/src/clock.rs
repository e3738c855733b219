//! The time: what the box believes, how long it has been running, and what the hub said. The only place of the program that
//! asks what time it is.
//!
//! A box without a battery for its clock wakes up in any year. Until the hub's time was heard in a boot, its time is a guess
//! that is never before what has certainly passed; afterwards it is the hub's time, carried on by the clock that counts how
//! long the box runs. `sync_protocol::boot` repairs what was written before.

mod machine;

use std::sync::{Arc, Mutex, PoisonError};

use sync_protocol::boot::{self, Boot};
use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::WallClock;
use sync_protocol::limits::CLOCK_AGREES_MS;

pub use machine::Machine;
pub use sync_protocol::released::RELEASED_MS;

/// A wall clock that is further ahead of what has certainly passed is not even a guess: five years, longer than a box lies
/// in a cupboard.
const PLAUSIBLE_AHEAD_MS: i64 = 5 * 365 * 86_400_000;
/// How much a clock that counts drifts at most: one part in this many.
const DRIFT: u64 = 10_000;

/// The time of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970, as well as it is known.
    pub now_ms: i64,
    /// How good that is.
    pub quality: TimeQuality,
    /// Where in the life of the box that is.
    pub at: boot::Moment,
}

/// What is known about the time for those who check certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// What the time is, or may be.
    pub likely_ms: i64,
    /// It is not earlier, by all that the hub has said so far.
    pub floor_ms: i64,
    /// The earliest that anybody tells: the floor, or a wall clock before it that is possible. A hub whose clock was ahead for a
    /// day takes the floor with it, and is not to be out of reach afterwards.
    pub earliest_ms: i64,
    /// Whether the hub's time was not heard in this boot yet.
    pub is_guess: bool,
}

/// What hearing the hub's time changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The boot.
    pub boot: u64,
    /// When it began, by the hub's clock.
    pub start_ms: i64,
    /// What the time was a moment ago.
    pub before_ms: i64,
    /// How far it moved.
    pub step_ms: i64,
}

/// The clock of this boot. Clones share it.
#[derive(Debug, Clone)]
pub struct Clock {
    machine: &'static Machine,
    boot: u64,
    /// What had certainly passed when the boot began.
    floor_ms: i64,
    start: Arc<Mutex<Option<Start>>>,
}

/// When the boot began, and how well that is known.
#[derive(Debug, Clone, Copy)]
struct Start {
    start_ms: i64,
    error_ms: u64,
    heard_at_ms: i64,
}

impl Default for Clock {
    /// A clock of which nothing is kept.
    fn default() -> Self {
        Clock::new(Machine::this(), Boot { floor_ms: RELEASED_MS, ..Boot::default() })
    }
}

impl Clock {
    /// The clock of a boot, as far as it is known from before.
    pub fn of_boot(boot: Boot) -> Clock {
        Clock::new(Machine::this(), boot)
    }

    pub(crate) fn new(machine: &'static Machine, boot: Boot) -> Clock {
        let Boot { number, floor_ms, start_ms } = boot;
        let start = start_ms.map(|start_ms| Start { start_ms, error_ms: CLOCK_AGREES_MS, heard_at_ms: 0 });
        Clock { machine, boot: number, floor_ms, start: Arc::new(Mutex::new(start)) }
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        let (wall_ms, mono_ms) = (self.machine.wall_ms(), self.machine.mono_ms());
        let (now_ms, quality) = match self.start() {
            Some(start) => (agreed(wall_ms, start.start_ms.saturating_add(mono_ms)), TimeQuality::Good),
            None => (plausible(wall_ms, self.floor_ms.saturating_add(mono_ms)), TimeQuality::Unknown),
        };
        Moment { now_ms, quality, at: boot::Moment { boot: self.boot, mono_ms } }
    }

    /// What the hub is told of it.
    pub fn wall(&self) -> WallClock {
        let now_ms = u64::try_from(self.now().now_ms).unwrap_or(0);
        let ahead_ms = |start: Start| {
            let true_ms = start.start_ms.saturating_add(self.machine.mono_ms());
            self.machine.wall_ms().saturating_sub(true_ms)
        };
        WallClock { now_ms, ahead_seconds: self.start().map(|start| ahead_ms(start) / 1000) }
    }

    /// What the time may be.
    pub fn bounds(&self) -> Bounds {
        let (likely_ms, wall_ms, is_guess) = (self.now().now_ms, self.machine.wall_ms(), self.start().is_none());
        let floor_ms = if is_guess { self.floor_ms.saturating_add(self.machine.mono_ms()) } else { likely_ms };
        let earliest_ms = if wall_ms >= RELEASED_MS { floor_ms.min(wall_ms) } else { floor_ms };
        Bounds { likely_ms, floor_ms, earliest_ms, is_guess }
    }

    /// Takes note of the hub's time, which was heard just now in an exchange of this length.
    pub fn hear(&self, hub_ms: u64, round_trip_ms: u64) -> Heard {
        let before_ms = self.now().now_ms;
        let mono_ms = self.machine.mono_ms();
        let error_ms = round_trip_ms / 2;
        let now_ms = i64::try_from(hub_ms.saturating_add(error_ms)).unwrap_or(i64::MAX);
        let heard = Start { start_ms: now_ms.saturating_sub(mono_ms), error_ms, heard_at_ms: mono_ms };
        let mut start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        // A long upload says less than what was heard in a short exchange before, until that has drifted: as long as both can be
        // true. The hub's clock may have been set.
        let kept = start.filter(|known| {
            let known_error_ms = known.error_ms + known.heard_at_ms.abs_diff(mono_ms) / DRIFT;
            let is_between = known.start_ms.abs_diff(heard.start_ms) <= known_error_ms.saturating_add(error_ms);
            known_error_ms < error_ms && is_between
        });
        let start_ms = start.insert(kept.unwrap_or(heard)).start_ms;
        drop(start);
        Heard { boot: self.boot, start_ms, before_ms, step_ms: self.now().now_ms.saturating_sub(before_ms) }
    }

    fn start(&self) -> Option<Start> {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wall clock where it is right, so that a box that keeps time does not jump.
fn agreed(wall_ms: i64, true_ms: i64) -> i64 {
    if wall_ms.abs_diff(true_ms) <= CLOCK_AGREES_MS { wall_ms } else { true_ms }
}

/// The wall clock where it may be right.
fn plausible(wall_ms: i64, floor_ms: i64) -> i64 {
    let is_plausible = wall_ms >= floor_ms && wall_ms <= floor_ms.saturating_add(PLAUSIBLE_AHEAD_MS);
    if is_plausible { wall_ms } else { floor_ms }
}

/// What the box believes, milliseconds since 1970; negative before.
pub fn unix_ms() -> i64 {
    Machine::this().wall_ms()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: i64 = RELEASED_MS;
    const DAY: i64 = 86_400_000;

    fn clock(wall_ms: i64) -> Clock {
        let machine = Box::leak(Box::new(Machine::pretending("test", wall_ms)));
        Clock::new(machine, Boot { number: 7, floor_ms: FLOOR, start_ms: None })
    }

    #[test]
    fn before_the_hub_was_heard_the_time_is_a_guess_that_is_possible() {
        for (wall_ms, guess_ms) in [(0, FLOOR), (2_147_000_000_000, FLOOR), (FLOOR + DAY, FLOOR + DAY)] {
            let now = clock(wall_ms).now();
            assert!(now.now_ms.abs_diff(guess_ms) < 60_000, "{wall_ms}: {}", now.now_ms);
            assert_eq!((now.quality, now.at.boot), (TimeQuality::Unknown, 7));
        }
    }

    #[test]
    fn once_the_hub_was_heard_its_time_holds_whatever_the_wall_clock_says() {
        let hub_ms = FLOOR + 90 * DAY;
        for wall_ms in [0, 2_147_000_000_000, hub_ms + 120_000] {
            let clock = clock(wall_ms);
            let heard = clock.hear(hub_ms as u64, 200);
            assert!(clock.now().now_ms.abs_diff(hub_ms) < 60_000 && clock.now().quality == TimeQuality::Good);
            assert_eq!(heard.step_ms > 0, heard.before_ms < hub_ms);
            assert_eq!(clock.wall().ahead_seconds.unwrap() > 60, wall_ms > hub_ms);
        }
        // One that is right goes on by itself.
        let right = clock(hub_ms - 20_000);
        right.hear(hub_ms as u64, 200);
        assert!(right.now().now_ms < hub_ms - 10_000);
    }

    #[test]
    fn a_long_upload_does_not_spoil_what_a_short_exchange_said() {
        let (clock, hub_ms) = (clock(0), FLOOR + DAY);
        let short = clock.hear(hub_ms as u64, 100);
        assert_eq!(clock.hear((hub_ms - 300_000) as u64, 600_000).start_ms, short.start_ms);
        // A hub whose clock was set in between is heard again, however long that took.
        let set_back = clock.hear((hub_ms - DAY - 300_000) as u64, 600_000);
        assert!(set_back.start_ms.abs_diff(short.start_ms - DAY) < 1_000);
    }
}
