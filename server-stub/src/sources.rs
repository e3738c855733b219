//! Who comes from the same place, so that one place cannot take what is there for all.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong codes of one source in a minute.
const WRONG_OF_ONE_MAX: u32 = 5;
/// How long wrong codes count.
const WINDOW: Duration = Duration::from_secs(60);

/// Whom an address belongs to: a machine has a whole /64 of IPv6.
pub(crate) fn source(address: IpAddr) -> IpAddr {
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

/// How many connections each source has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// A connection of a source; given back on drop.
#[derive(Debug)]
pub(crate) struct Place(Connections, IpAddr);

impl Connections {
    /// A place for one more, unless there are so many of the same source.
    pub(crate) fn enter(&self, from: IpAddr, of_one_max: usize) -> Option<Place> {
        let from = source(from);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(from).or_default();
        (*count < of_one_max).then(|| {
            *count += 1;
            Place(self.clone(), from)
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
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

    #[test]
    fn a_source_has_so_many_connections_and_gives_them_back() {
        let connections = Connections::default();
        let enter = |text: &str| connections.enter(text.parse().unwrap(), 2);
        let held = [enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(held.iter().all(Option::is_some) && enter("2001:db8::3").is_none());
        assert!(enter("2001:db8:0:1::1").is_some() && enter("192.0.2.1").is_some());
        drop(held);
        assert!(enter("2001:db8::3").is_some() && connections.0.lock().unwrap().is_empty());
    }
}
