//! When a write really was, if the clock of its box was wrong or unknown.
//!
//! A box without a battery for its clock wakes up in any year. It cannot know the time before somebody tells it, but it
//! knows two things for certain: how long it has been running ([`Moment`]), and which times have passed already. So a write
//! keeps the run of the box ("boot") that it belongs to and the time in it, and [`Repair`] says afterwards when that was:
//!
//! - in a boot that heard the hub's time, exactly: that fixes when the boot began;
//! - in a boot that never did, within bounds: not before what was certain when it began, not after the next one began;
//! - where the clock was right all along, nothing moves.
//!
//! # Invariants
//! - Times come out in the order in which the writes were captured, and as far apart within a boot as they were.
//! - A time moves by whole multiples of [`REPAIR_STEP_MS`] only. What remains of a time after division by it belongs to
//!   the identity of the write ([`crate::record::Op::identity`]), so a repaired write is still known for the same.

use crate::clock::TimeQuality;
use crate::limits::{CLOCK_AGREES_MS, CLOCK_AHEAD_MS_MAX, REPAIR_STEP_MS};
use crate::released::RELEASED_MS;

/// Where in the life of a box a write was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment {
    /// Which boot, counted up at each; 0 if that is not known.
    pub boot: u64,
    /// Time since it began, milliseconds. It goes on while the box sleeps.
    pub mono_ms: i64,
}

/// What is known of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Boot {
    /// Its number.
    pub number: u64,
    /// A time that certainly had passed when it began, milliseconds since 1970.
    pub floor_ms: i64,
    /// When it began by the hub's clock; `None` if it never heard of that.
    pub start_ms: Option<i64>,
}

/// A write as far as its time is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Where in the life of the box.
    pub moment: Moment,
    /// What its clock said.
    pub captured_ms: i64,
    /// How good that is.
    pub quality: TimeQuality,
}

/// One boot with the writes in it, on its way to a beginning.
struct Run {
    number: u64,
    floor_ms: i64,
    start_ms: Option<i64>,
    /// When it began by its own clock, as that stood at its last write.
    claimed_ms: Option<i64>,
    /// How long it certainly lasted.
    lasted_ms: i64,
}

/// When writes were whose time nobody knew, asked in the order of their capture.
#[derive(Debug)]
pub struct Repair {
    placed: Vec<Placed>,
    floor_ms: i64,
    now_ms: i64,
    last_ms: i64,
}

impl Repair {
    /// `boots` are in order; `floor_ms` is what had passed before any of the writes, `now_ms` what has by now. `ends` are of
    /// each boot the last writes at least, in the order of their capture.
    pub fn new(boots: &[Boot], floor_ms: i64, now_ms: i64, ends: &[Written]) -> Repair {
        let floor_ms = possible(floor_ms, now_ms);
        Repair { placed: place(boots, floor_ms, now_ms, ends), floor_ms, now_ms, last_ms: i64::MIN }
    }

    /// No write that is asked for from now on was before this time.
    pub(crate) fn go_on_after(&mut self, time_ms: i64) {
        self.last_ms = self.last_ms.max(time_ms);
    }

    /// When the next write was, and how good that is. What has a good, bounded or repaired time keeps it, unless that lies ahead.
    pub fn time_of(&mut self, written: &Written) -> (i64, TimeQuality) {
        if written.quality != TimeQuality::Unknown && !is_ahead(written.captured_ms, self.now_ms) {
            return (written.captured_ms, written.quality);
        }
        let (time_ms, quality) = match self.placed.iter().find(|place| place.number == written.moment.boot) {
            Some(place) => place.time_of(written),
            None => {
                let claimed_ms = written.captured_ms;
                (within(claimed_ms, claimed_ms, self.floor_ms, self.now_ms), TimeQuality::Bounded)
            }
        };
        self.last_ms = if time_ms < self.last_ms { steps_up(time_ms, self.last_ms) } else { time_ms };
        (self.last_ms, quality)
    }
}

/// A boot whose beginning is settled.
#[derive(Debug)]
struct Placed {
    number: u64,
    start_ms: i64,
    is_known: bool,
    low_ms: i64,
    high_ms: i64,
}

impl Placed {
    fn time_of(&self, written: &Written) -> (i64, TimeQuality) {
        let (claimed_ms, true_ms) = (written.captured_ms, self.start_ms.saturating_add(written.moment.mono_ms));
        match self.is_known {
            true if claimed_ms.abs_diff(true_ms) <= CLOCK_AGREES_MS => (claimed_ms, TimeQuality::Good),
            true => (nearest(claimed_ms, true_ms), TimeQuality::Repaired),
            false => {
                let low_ms = self.low_ms.saturating_add(written.moment.mono_ms);
                (within(claimed_ms, true_ms, low_ms, self.high_ms.max(low_ms)), TimeQuality::Bounded)
            }
        }
    }
}

fn place(boots: &[Boot], floor_ms: i64, now_ms: i64, writes: &[Written]) -> Vec<Placed> {
    let mut runs: Vec<Run> = boots.iter().map(|boot| Run::of(boot, now_ms)).collect();
    for written in writes.iter().filter(|written| written.moment.boot != 0) {
        let Moment { boot, mono_ms } = written.moment;
        let at = match runs.binary_search_by_key(&boot, |run| run.number) {
            Ok(at) => at,
            Err(at) => {
                runs.insert(at, Run::of(&Boot { number: boot, floor_ms, start_ms: None }, now_ms));
                at
            }
        };
        if let Some(run) = runs.get_mut(at) {
            run.lasted_ms = run.lasted_ms.max(mono_ms.min(LASTED_MS_MAX));
            if written.quality == TimeQuality::Unknown {
                run.claimed_ms = Some(written.captured_ms.saturating_sub(mono_ms));
            }
        }
    }
    // From behind: when each must have begun at the latest, with room for a step between one and the next.
    let mut latest_ms = now_ms;
    let mut ends: Vec<i64> = Vec::with_capacity(runs.len());
    for run in runs.iter().rev() {
        ends.push(latest_ms);
        latest_ms = run.start_ms.unwrap_or(latest_ms.saturating_sub(run.lasted_ms + REPAIR_STEP_MS));
    }
    let mut low_ms = floor_ms;
    let mut placed = Vec::with_capacity(runs.len());
    for (run, high_ms) in runs.iter().zip(ends.into_iter().rev()) {
        low_ms = low_ms.max(run.floor_ms);
        let start_ms = match run.start_ms {
            Some(start_ms) => start_ms,
            None => {
                let last_start_ms = high_ms.saturating_sub(run.lasted_ms + REPAIR_STEP_MS).max(low_ms);
                run.claimed_ms.unwrap_or(low_ms).clamp(low_ms, last_start_ms)
            }
        };
        placed.push(Placed { number: run.number, start_ms, is_known: run.start_ms.is_some(), low_ms, high_ms });
        low_ms = low_ms.max(start_ms.saturating_add(run.lasted_ms));
    }
    placed
}

impl Run {
    /// What it was told by a hub whose clock was ahead does not count.
    fn of(boot: &Boot, now_ms: i64) -> Run {
        let Boot { number, floor_ms, start_ms } = *boot;
        let start_ms = start_ms.filter(|start_ms| !is_ahead(*start_ms, now_ms));
        Run { number, floor_ms: possible(floor_ms, now_ms), start_ms, claimed_ms: None, lasted_ms: 0 }
    }
}

/// Whether only a hub whose clock was ahead can have said so: by more than it takes to hear the time.
fn is_ahead(time_ms: i64, now_ms: i64) -> bool {
    time_ms.saturating_sub(now_ms) > CLOCK_AHEAD_MS_MAX as i64
}

/// A floor, or what is certain all the same if it was told by a hub whose clock was ahead.
fn possible(floor_ms: i64, now_ms: i64) -> i64 {
    if is_ahead(floor_ms, now_ms) { RELEASED_MS.min(now_ms) } else { floor_ms }
}

/// No box runs for longer than a century.
const LASTED_MS_MAX: i64 = 100 * 365 * 86_400_000;

/// The time nearest to `wanted_ms` that lies whole steps away from `claimed_ms`.
fn nearest(claimed_ms: i64, wanted_ms: i64) -> i64 {
    let over = wanted_ms.saturating_sub(claimed_ms).rem_euclid(REPAIR_STEP_MS);
    let below = wanted_ms.saturating_sub(over);
    if over * 2 > REPAIR_STEP_MS { below.saturating_add(REPAIR_STEP_MS) } else { below }
}

/// As [`nearest`], and between these bounds if they are a step apart.
fn within(claimed_ms: i64, wanted_ms: i64, low_ms: i64, high_ms: i64) -> i64 {
    let time_ms = nearest(claimed_ms, wanted_ms.min(high_ms).max(low_ms));
    match (time_ms < low_ms, time_ms > high_ms) {
        (true, _) => time_ms.saturating_add(REPAIR_STEP_MS),
        (_, true) if time_ms.saturating_sub(REPAIR_STEP_MS) >= low_ms => time_ms.saturating_sub(REPAIR_STEP_MS),
        _ => time_ms,
    }
}

/// The first time not before `least_ms` that lies whole steps above `time_ms`.
fn steps_up(time_ms: i64, least_ms: i64) -> i64 {
    let short = least_ms.saturating_sub(time_ms);
    time_ms.saturating_add(short.saturating_add(REPAIR_STEP_MS - 1) / REPAIR_STEP_MS * REPAIR_STEP_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = RELEASED_MS + 400 * DAY;
    const DAY: i64 = 86_400_000;
    const YEAR_2038: i64 = 2_147_000_000_000;

    fn repair(boots: &[Boot], floor_ms: i64, now_ms: i64, writes: &[Written]) -> Vec<(i64, TimeQuality)> {
        let mut repair = Repair::new(boots, floor_ms, now_ms, writes);
        writes.iter().map(|written| repair.time_of(written)).collect()
    }

    fn written(boot: u64, mono_ms: i64, captured_ms: i64) -> Written {
        Written { moment: Moment { boot, mono_ms }, captured_ms, quality: TimeQuality::Unknown }
    }

    #[test]
    fn a_boot_that_heard_the_time_is_repaired_to_the_second() {
        let boots = [Boot { number: 1, floor_ms: 0, start_ms: Some(NOW - DAY) }];
        let times = repair(&boots, 0, NOW, &[written(1, 1_000, 1_000), written(1, 61_000, 61_000)]);
        for ((time, quality), mono) in times.iter().zip([1_000, 61_000]) {
            assert_eq!(*quality, TimeQuality::Repaired);
            assert!(time.abs_diff(NOW - DAY + mono) <= REPAIR_STEP_MS as u64 / 2, "{time}");
        }
        assert_eq!(times[1].0 - times[0].0, 60_000);
    }

    #[test]
    fn a_clock_that_was_right_keeps_its_times_to_the_millisecond() {
        let boots = [Boot { number: 1, floor_ms: 0, start_ms: Some(NOW) }];
        let times = repair(&boots, 0, NOW + DAY, &[written(1, 5_000, NOW + 5_000 - 20_000)]);
        assert_eq!(times, [(NOW - 15_000, TimeQuality::Good)]);
    }

    #[test]
    fn what_a_hub_said_whose_clock_was_ahead_is_forgotten_once_it_is_right() {
        let boots = [
            Boot { number: 1, floor_ms: NOW - 90 * DAY, start_ms: Some(YEAR_2038) },
            Boot { number: 2, floor_ms: YEAR_2038, start_ms: None },
            Boot { number: 3, floor_ms: YEAR_2038, start_ms: Some(NOW - DAY) },
        ];
        let ahead =
            |boot, mono_ms| Written { quality: TimeQuality::Good, ..written(boot, mono_ms, YEAR_2038 + mono_ms) };
        let writes = [ahead(1, DAY), written(2, DAY, YEAR_2038 + 3 * DAY), ahead(3, 0), written(3, DAY / 2, 0)];
        let times = repair(&boots, YEAR_2038, NOW, &writes);
        assert!(times.is_sorted() && times[0].0 >= NOW - 89 * DAY && times[1].0 <= NOW - DAY, "{times:?}");
        let step = REPAIR_STEP_MS as u64;
        assert!(times[2].0.abs_diff(NOW - DAY) <= step && times[3].0.abs_diff(NOW - DAY / 2) <= step, "{times:?}");
        let (bounded, repaired) = (TimeQuality::Bounded, TimeQuality::Repaired);
        let qualities: Vec<_> = times.iter().map(|(_, quality)| *quality).collect();
        assert_eq!(qualities, [bounded, bounded, repaired, repaired]);
    }

    #[test]
    fn boots_in_1970_and_2038_lie_between_what_was_certain_and_the_next_boot() {
        let boots = [
            Boot { number: 1, floor_ms: NOW - 90 * DAY, start_ms: None },
            Boot { number: 2, floor_ms: NOW - 90 * DAY, start_ms: None },
            Boot { number: 3, floor_ms: NOW - 90 * DAY, start_ms: Some(NOW - DAY) },
        ];
        let writes = [written(1, DAY, DAY), written(2, 0, YEAR_2038), written(2, DAY, YEAR_2038 + DAY)];
        let times = repair(&boots, 0, NOW, &writes);
        assert!(times.iter().all(|(_, quality)| *quality == TimeQuality::Bounded));
        assert!(times[0].0 >= NOW - 89 * DAY, "not before a day after what was certain");
        assert!(times[0].0 < times[1].0 && times[2].0 - times[1].0 == DAY);
        assert!(times[2].0 <= NOW - DAY, "not after the boot that knew the time");
    }
}
