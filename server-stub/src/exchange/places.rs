//! Room for exchanges: for so many at once, and of these for a few of one gateway, so that one alone never keeps the others out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sync_protocol::id::Device;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::pki::KeyHash;

/// A gateway has one exchange at a time; the hub may not have noticed yet that the connections of a few before are gone.
const OF_ONE_MAX: usize = 4;

/// Who speaks: by the key that the connection showed, because a rescue names any gateway, or by name where none is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Speaker {
    Key(KeyHash),
    Named(Device),
}

/// What there is room for.
#[derive(Debug)]
pub(crate) struct Places {
    free: Semaphore,
    of_each: Mutex<BTreeMap<Speaker, usize>>,
}

/// One of those of a gateway, until it is dropped.
#[derive(Debug)]
pub(crate) struct OwnPlace<'a> {
    places: &'a Places,
    of: Speaker,
}

impl Places {
    pub(crate) fn new(exchanges_max: usize) -> Places {
        Places { free: Semaphore::new(exchanges_max), of_each: Mutex::default() }
    }

    /// A place, if one is free.
    pub(super) fn take(&self) -> Option<SemaphorePermit<'_>> {
        self.free.try_acquire().ok()
    }

    /// One of the places of a gateway that has shown that it is that, if one is free.
    pub(crate) fn take_own(&self, of: Speaker) -> Option<OwnPlace<'_>> {
        let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = of_each.entry(of).or_default();
        (*taken < OF_ONE_MAX).then(|| {
            *taken += 1;
            OwnPlace { places: self, of }
        })
    }
}

impl Drop for OwnPlace<'_> {
    fn drop(&mut self) {
        let mut of_each = self.places.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = of_each.get_mut(&self.of) {
            *taken -= 1;
            if *taken == 0 {
                of_each.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gateway_has_few_places_and_gives_them_back() {
        let places = Places::new(64);
        let one = Speaker::Named(Device(1));
        let held: Vec<_> = (0..OF_ONE_MAX).map(|_| places.take_own(one).unwrap()).collect();
        assert!(places.take_own(one).is_none());
        assert!(places.take_own(Speaker::Key([1; 32])).is_some(), "others have their own");
        drop(held);
        assert!(places.take_own(one).is_some());
        assert!(places.of_each.lock().unwrap().is_empty(), "nothing is kept of who is gone");
    }
}
