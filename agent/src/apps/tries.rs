//! Slowing down those who guess: wrong tries are counted by where they come from, for a minute.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How long tries count.
const WINDOW: Duration = Duration::from_secs(60);
/// Wrong tries of one source within it.
pub(super) const OF_ONE_MAX: u32 = 5;
/// Wrong tries of all sources within it.
pub(super) const OF_ALL_MAX: u32 = 30;

/// Wrong tries of the present minute.
#[derive(Debug, Default)]
pub(super) struct Tries {
    since: Option<Instant>,
    of_all: u32,
    /// At most as many as there are tries.
    of_one: BTreeMap<IpAddr, u32>,
}

/// Whom an address belongs to: a machine has a whole /64 of IPv6.
pub(crate) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

impl Tries {
    /// Whether somebody may try.
    pub(super) fn may(&mut self, from: IpAddr, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            *self = Tries { since: Some(now), ..Tries::default() };
        }
        self.of_all < OF_ALL_MAX && self.of_one.get(&source(from)).is_none_or(|tries| *tries < OF_ONE_MAX)
    }

    /// Counts a wrong try.
    pub(super) fn note(&mut self, from: IpAddr) {
        if self.of_all < OF_ALL_MAX {
            self.of_all += 1;
            *self.of_one.entry(source(from)).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_source_is_slowed_and_others_are_not_until_all_are() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        for _ in 0..OF_ONE_MAX {
            assert!(tries.may(of("10.0.0.1"), now));
            tries.note(of("10.0.0.1"));
        }
        assert!(!tries.may(of("10.0.0.1"), now) && !tries.may(of("::ffff:10.0.0.1"), now));
        assert!(tries.may(of("10.0.0.2"), now));
        for n in OF_ONE_MAX..OF_ALL_MAX {
            tries.note(of(&format!("10.0.1.{n}")));
        }
        assert!(!tries.may(of("10.0.0.2"), now));
        assert!(tries.may(of("10.0.0.1"), now + WINDOW));
    }

    #[test]
    fn a_machine_with_many_addresses_is_one_source() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        for n in 0..OF_ONE_MAX {
            assert!(tries.may(of(&format!("fd00::{n}")), now));
            tries.note(of(&format!("fd00::{n}")));
        }
        assert!(!tries.may(of("fd00::ffff"), now) && tries.may(of("fd00:0:0:1::1"), now));
    }
}
