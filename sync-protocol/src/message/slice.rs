//! A part of all digest items, for what differs in more places than can be named at once.

use crate::cbor::{In, Out};
use crate::error::DecodeError;
use crate::limits::SLICES_MAX;

/// How much finer the slices become where one holds too many differences.
const FINER: u32 = 64;

/// The digest items that leave the remainder `nth` when they are divided by `of`. Items are hashes, so slices are of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    of: u32,
    nth: u32,
}

impl Default for Slice {
    /// All items.
    fn default() -> Slice {
        Slice { of: 1, nth: 0 }
    }
}

impl Slice {
    /// The slice of a divisor, at most [`SLICES_MAX`], and a remainder; `None` if there is none.
    pub fn new(of: u32, nth: u32) -> Option<Slice> {
        (nth < of && of <= SLICES_MAX).then_some(Slice { of, nth })
    }

    /// Whether an item is in it.
    pub fn holds(&self, item: u64) -> bool {
        item % u64::from(self.of) == u64::from(self.nth)
    }

    /// The one after it; `None` after the last.
    pub(crate) fn next(&self) -> Option<Slice> {
        Slice::new(self.of, self.nth + 1)
    }

    /// The first of the slices of which each has a part of this; `None` if they do not become finer.
    pub(crate) fn finer(&self) -> Option<Slice> {
        Slice::new(self.of.saturating_mul(FINER), 0)
    }

    pub(super) fn encode(self, out: &mut Out) {
        out.array(2).uint(u64::from(self.of)).uint(u64::from(self.nth));
    }

    pub(super) fn decode(input: &mut In<'_>) -> Result<Slice, DecodeError> {
        input.tuple(2)?;
        Slice::new(input.u32()?, input.u32()?).ok_or(DecodeError::Shape("slice of items"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slices_of_a_divisor_have_each_item_once_and_finer_ones_too() {
        let mut slice = Slice::default().finer().unwrap();
        let mut held = vec![0; 1_000];
        loop {
            (0..1_000).filter(|item| slice.holds(*item)).for_each(|item| held[item as usize] += 1);
            match slice.next() {
                Some(next) => slice = next,
                None => break,
            }
        }
        assert!(held.iter().all(|times| *times == 1), "{held:?}");
        assert!(slice.finer().unwrap().finer().is_none());
    }

    #[test]
    fn no_slice_has_a_remainder_that_cannot_be() {
        assert!(Slice::new(0, 0).is_none() && Slice::new(8, 8).is_none() && Slice::new(SLICES_MAX + 1, 0).is_none());
    }
}
