//! Who comes from the same place, so that one place cannot take what is there for all.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Wrong codes of one source in a minute.
const WRONG_OF_ONE_MAX: u32 = 5;
/// How long wrong codes count.
const WINDOW: Duration = Duration::from_secs(60);

/// Whom an address belongs to: a machine has a whole /64 of IPv6.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// Wrong codes of the present minute.
#[derive(Debug, Default)]
pub(crate) struct WrongCodes {
    since: Option<Instant>,
    of_all: u32,
    /// At most as many as there are wrong codes.
    of_one: BTreeMap<IpAddr, u32>,
}

impl WrongCodes {
    /// Whether somebody may try a code, if so many wrong ones of all are too many. An address that nobody told counts with
    /// all only: else whoever guesses would shut out everybody behind the same proxy.
    pub(crate) fn may(&mut self, from: Option<IpAddr>, of_all_max: u32, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            *self = WrongCodes { since: Some(now), ..WrongCodes::default() };
        }
        let of_one = from.and_then(|from| self.of_one.get(&source(from)));
        self.of_all < of_all_max && of_one.is_none_or(|wrong| *wrong < WRONG_OF_ONE_MAX)
    }

    /// Counts a wrong code.
    pub(crate) fn note(&mut self, from: Option<IpAddr>) {
        self.of_all = self.of_all.saturating_add(1);
        if let Some(from) = from {
            *self.of_one.entry(source(from)).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn one_source_is_slowed_and_others_are_not_until_all_are() {
        let (mut wrong, now, max) = (WrongCodes::default(), Instant::now(), 3 * WRONG_OF_ONE_MAX);
        for n in 0..WRONG_OF_ONE_MAX {
            assert!(wrong.may(of("2001:db8::1"), max, now));
            wrong.note(of(&format!("2001:db8::{n}")));
        }
        assert!(!wrong.may(of("2001:db8::ffff"), max, now), "a machine with many addresses is one source");
        assert!(wrong.may(of("2001:db8:0:1::1"), max, now) && wrong.may(None, max, now));
        for _ in 0..WRONG_OF_ONE_MAX {
            wrong.note(of("::ffff:192.0.2.1"));
        }
        assert!(!wrong.may(of("192.0.2.1"), max, now) && wrong.may(of("192.0.2.2"), max, now));
        for _ in 0..WRONG_OF_ONE_MAX {
            assert!(wrong.may(None, max, now));
            wrong.note(None);
        }
        assert!(!wrong.may(of("192.0.2.2"), max, now) && wrong.may(of("192.0.2.1"), max, now + WINDOW));
    }
}
