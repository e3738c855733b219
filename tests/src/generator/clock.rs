//! The simulated clock of a clinic, its calendar, and the UUIDv7 ids (RFC 9562) that carry its time.
//!
//! It never reads the machine's clock. It only goes forward, so ids sort in the order in which they were made.

use super::random::Random;

const SECOND: i64 = 1_000;
const DAY: i64 = 86_400 * SECOND;
/// Doors open at 07:30 UTC and close at 16:30, Monday to Friday.
const OPENING: i64 = (7 * 60 + 30) * 60 * SECOND;
const CLOSING: i64 = (16 * 60 + 30) * 60 * SECOND;
/// 2026-03-02, a Monday, in days since 1970-01-01.
const FIRST_DAY: i64 = 20_514;

/// A time in milliseconds since 1970, always within opening hours.
#[derive(Clone, Debug)]
pub(super) struct Clock(i64);

impl Clock {
    /// 2026-03-02T07:30:00Z.
    pub(super) fn new() -> Self {
        Self(FIRST_DAY * DAY + OPENING)
    }

    /// Goes on by seconds (the same person, the next form) or minutes (the next person); after closing, to the
    /// next working morning.
    pub(super) fn advance(&mut self, random: &mut Random) {
        let step = if random.chance(65) {
            random.between(3 * SECOND, 40 * SECOND)
        } else {
            random.between(60 * SECOND, 300 * SECOND)
        };
        self.0 += step;
        if self.0 % DAY > CLOSING {
            self.next_morning();
            self.0 += step;
        }
    }

    /// Goes to the next opening of the doors; stays where the doors have just opened.
    pub(super) fn start_day(&mut self) {
        if self.0 % DAY != OPENING {
            self.next_morning();
        }
    }

    fn next_morning(&mut self) {
        let tomorrow = self.0 / DAY + 1;
        // 1970-01-01 was a Thursday, so days 2 and 3 of each seven are the weekend.
        let working = match tomorrow % 7 {
            2 => tomorrow + 2,
            3 => tomorrow + 1,
            _ => tomorrow,
        };
        self.0 = working * DAY + OPENING;
    }

    /// The date `days` from today, as `2026-03-02`.
    pub(super) fn date(&self, days: i64) -> String {
        civil(self.0 / DAY + days)
    }

    /// A UUIDv7 of this time; its 74 free bits come from `random`.
    pub(super) fn uuid(&self, random: &mut Random) -> String {
        let time = self.0.unsigned_abs() & 0xffff_ffff_ffff;
        let (high, low) = (random.bits(), random.bits());
        let rand_a = high & 0xfff;
        let rand_b = (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        format!(
            "{:08x}-{:04x}-7{rand_a:03x}-{:04x}-{:012x}",
            time >> 16,
            time & 0xffff,
            rand_b >> 48,
            rand_b & 0xffff_ffff_ffff
        )
    }
}

/// The proleptic Gregorian date of a day number (Hinnant, `civil_from_days`).
fn civil(day: i64) -> String {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day_of_month:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_of_the_calendar() {
        assert_eq!(civil(0), "1970-01-01");
        assert_eq!(civil(11_016), "2000-02-29");
        assert_eq!(civil(-1), "1969-12-31");
        assert_eq!(Clock::new().date(0), "2026-03-02");
    }

    #[test]
    fn the_doors_are_closed_at_night_and_at_the_weekend() {
        let (mut clock, mut random) = (Clock::new(), Random::new(3));
        for _ in 0..5_000 {
            let before = clock.0;
            clock.advance(&mut random);
            assert!(clock.0 > before);
            assert!((OPENING..=CLOSING).contains(&(clock.0 % DAY)));
            assert!(![2, 3].contains(&(clock.0 / DAY % 7)));
        }
    }
}
