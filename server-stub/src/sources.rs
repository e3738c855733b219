//! Who comes from the same place, so that one place cannot take what is there for all.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Whom an address belongs to: a machine has a whole /64 of IPv6.
pub(crate) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
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
