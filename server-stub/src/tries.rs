//! Slowing down those who guess: tries are counted by where they come from, and those for a password also by the name they are
//! for. They count before anything is looked at, so that many at once are no way around it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::sources::source;

/// How long tries count by where they come from.
const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const OF_ONE_MAX: u32 = 5;
/// So many that a few addresses do not keep everybody out.
pub(crate) const OF_ALL_MAX: u32 = 600;
/// How long they count by the name.
const QUARTER: Duration = Duration::from_secs(15 * 60);
pub(crate) const OF_NAME_MAX: u32 = 10;

/// Tries of a time that began somewhen.
#[derive(Debug)]
struct Counted<K> {
    since: Option<Instant>,
    lasts: Duration,
    /// At most as many as there were tries.
    of: BTreeMap<K, u32>,
    of_all: u32,
}

impl<K: Ord> Counted<K> {
    fn new(lasts: Duration) -> Counted<K> {
        Counted { since: None, lasts, of: BTreeMap::new(), of_all: 0 }
    }

    fn begin(&mut self, now: Instant) {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= self.lasts) {
            *self = Counted { since: Some(now), ..Counted::new(self.lasts) };
        }
    }

    fn tries(&self, key: &K) -> u32 {
        self.of.get(key).copied().unwrap_or(0)
    }

    fn add(&mut self, key: Option<K>) {
        self.of_all += 1;
        if let Some(key) = key {
            *self.of.entry(key).or_default() += 1;
        }
    }

    fn take_back(&mut self, key: Option<K>) {
        self.of_all = self.of_all.saturating_sub(1);
        let Some(key) = key else { return };
        match self.of.get_mut(&key) {
            Some(tries) if *tries > 1 => *tries -= 1,
            // Nothing is kept of who did nothing wrong, however many they are.
            _ => drop(self.of.remove(&key)),
        }
    }
}

/// Enrolment codes that were not right, or that nobody knows of yet.
#[derive(Debug)]
pub(crate) struct Codes(Counted<IpAddr>);

impl Default for Codes {
    fn default() -> Codes {
        Codes(Counted::new(MINUTE))
    }
}

impl Codes {
    /// Counts a code. Tells whether it may be looked at, if so many wrong ones of all are too many. An address that nobody told
    /// counts with all only: else whoever guesses would shut out everybody behind the same proxy.
    pub(crate) fn begin(&mut self, from: Option<IpAddr>, of_all_max: u32, now: Instant) -> bool {
        self.0.begin(now);
        let from = from.map(source);
        let may = self.0.of_all < of_all_max && from.is_none_or(|from| self.0.tries(&from) < OF_ONE_MAX);
        if may {
            self.0.add(from);
        }
        may
    }

    /// It was right, or was not looked at: it does not count.
    pub(crate) fn forgive(&mut self, from: Option<IpAddr>) {
        self.0.take_back(from.map(source));
    }
}

/// Tries to log in that were not right, or that nobody knows of yet.
#[derive(Debug)]
pub(crate) struct Tries {
    sources: Counted<IpAddr>,
    names: Counted<String>,
}

impl Default for Tries {
    fn default() -> Tries {
        Tries { sources: Counted::new(MINUTE), names: Counted::new(QUARTER) }
    }
}

impl Tries {
    /// Counts a try for a name, whether or not there is such an account. Tells whether it may be made. Where nobody told from
    /// where it comes, it counts by the name and with all others.
    pub(crate) fn begin(&mut self, from: Option<IpAddr>, name: &str, now: Instant) -> bool {
        let from = from.map(source);
        self.sources.begin(now);
        self.names.begin(now);
        let may = self.sources.of_all < OF_ALL_MAX
            && from.is_none_or(|from| self.sources.tries(&from) < OF_ONE_MAX)
            && self.names.tries(&name.to_owned()) < OF_NAME_MAX;
        if may {
            self.sources.add(from);
            self.names.add(Some(name.to_owned()));
        }
        may
    }

    /// It was right, or was not looked at: it does not count.
    pub(crate) fn forgive(&mut self, from: Option<IpAddr>, name: &str) {
        self.sources.take_back(from.map(source));
        self.names.take_back(Some(name.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_source_a_name_and_all_together_are_slowed() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        for n in 0..OF_ONE_MAX {
            assert!(tries.begin(of("10.0.0.1"), &format!("name{n}"), now));
        }
        assert!(!tries.begin(of("10.0.0.1"), "other", now) && !tries.begin(of("::ffff:10.0.0.1"), "other", now));
        tries.forgive(of("10.0.0.1"), "name0");
        assert!(tries.begin(of("10.0.0.1"), "other", now), "a right one does not count");
        for n in 0..OF_NAME_MAX {
            assert!(tries.begin(of(&format!("10.0.1.{n}")), "asha", now));
        }
        assert!(!tries.begin(of("10.0.2.1"), "asha", now), "from wherever it comes");
        assert!(!tries.begin(of("10.0.2.1"), "asha", now + MINUTE));
        assert!(tries.begin(of("10.0.2.1"), "asha", now + QUARTER));
        let mut tries = Tries::default();
        for n in 0..1_000 {
            assert!(tries.begin(of("10.0.0.1"), &format!("name{n}"), now));
            tries.forgive(of("10.0.0.1"), &format!("name{n}"));
        }
        assert!(tries.names.of.is_empty() && tries.sources.of.is_empty());
        for n in 0..OF_ALL_MAX {
            assert!(tries.begin(of(&format!("10.{}.{}.1", n / 250, n % 250)), &format!("name{n}"), now));
        }
        assert!(!tries.begin(of("10.9.0.1"), "one more", now) && tries.begin(of("10.9.0.1"), "one more", now + MINUTE));
    }

    #[test]
    fn codes_of_one_source_are_slowed_and_others_are_not_until_all_are() {
        let (mut codes, now, max) = (Codes::default(), Instant::now(), 3 * OF_ONE_MAX);
        for n in 0..OF_ONE_MAX {
            assert!(codes.begin(of(&format!("2001:db8::{n}")), max, now));
        }
        assert!(!codes.begin(of("2001:db8::ffff"), max, now), "a machine with many addresses is one source");
        for _ in 0..OF_ONE_MAX {
            assert!(codes.begin(of("::ffff:192.0.2.1"), max, now));
        }
        assert!(!codes.begin(of("192.0.2.1"), max, now));
        for _ in 0..OF_ONE_MAX {
            assert!(codes.begin(None, max, now));
        }
        assert!(!codes.begin(of("192.0.2.2"), max, now));
        codes.forgive(None);
        assert!(codes.begin(of("192.0.2.2"), max, now), "a right one does not count");
        assert!(!codes.begin(of("192.0.2.3"), max, now) && codes.begin(of("192.0.2.1"), max, now + MINUTE));
    }

    #[test]
    fn a_machine_with_many_addresses_is_one_source() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        for n in 0..OF_ONE_MAX {
            assert!(tries.begin(of(&format!("fd00::{n}")), &format!("{n}"), now));
        }
        assert!(!tries.begin(of("fd00::ffff"), "x", now) && tries.begin(of("fd00:0:0:1::1"), "x", now));
    }
}
