//! A small seeded source of randomness (SplitMix64, Steele, Lea and Flood 2014).
//!
//! Not for secrets. Our own, because its numbers must stay the same: a failing seed of today has to fail
//! in the same way after any update of a dependency.

/// A stream of numbers that its seed determines.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The stream of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The stream that belongs to `text`, whoever asks: the seed is its FNV-1a hash.
    pub(crate) fn of_text(text: &str) -> Self {
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(hash)
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both included; `low` where the two are the wrong way round.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = u128::from(high.saturating_sub(low).max(0).unsigned_abs()) + 1;
        // The upper half of the product spreads 64 bits evenly over the span, without a division.
        let offset = (u128::from(self.bits()) * span) >> 64;
        low + i64::try_from(offset).unwrap_or(0)
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn chance(&mut self, percent: i64) -> bool {
        self.between(1, 100) <= percent
    }

    /// One of the list; the default of the type where the list is empty.
    pub(crate) fn pick<T: Clone + Default>(&mut self, list: &[T]) -> T {
        self.index(list.len()).and_then(|index| list.get(index).cloned()).unwrap_or_default()
    }

    /// Puts the list in a random order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            if let Some(index) = self.index(last + 1) {
                list.swap(index, last);
            }
        }
    }

    /// `pattern` with each `#` replaced by a digit and each `@` by a letter that nobody takes for a digit.
    pub(crate) fn fill(&mut self, pattern: &str) -> String {
        const LETTERS: &[char] = &['A', 'C', 'E', 'F', 'H', 'J', 'K', 'M', 'N', 'P', 'R', 'T', 'W', 'X'];
        const DIGITS: &[char] = &['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'];
        pattern
            .chars()
            .map(|sign| match sign {
                '#' => self.pick(DIGITS),
                '@' => self.pick(LETTERS),
                other => other,
            })
            .collect()
    }

    /// A place in a list of `len`; none where it is empty.
    fn index(&mut self, len: usize) -> Option<usize> {
        let last = i64::try_from(len).ok()?.checked_sub(1).filter(|last| *last >= 0)?;
        usize::try_from(self.between(0, last)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_first_numbers() {
        let mut random = Random::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn stays_in_the_range_and_reaches_both_ends() {
        let mut random = Random::new(1);
        let drawn: Vec<i64> = (0..1_000).map(|_| random.between(-2, 2)).collect();
        assert_eq!(drawn.iter().min(), Some(&-2));
        assert_eq!(drawn.iter().max(), Some(&2));
        assert_eq!(random.pick::<&str>(&[]), "");
    }
}
