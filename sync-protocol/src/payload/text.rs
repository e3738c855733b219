//! Short forms of texts that are numbers in disguise: UUIDs, dates, codes of one pattern. All come back to the letter,
//! because a text counts as one of these only if what is made of its number is that text again.

use jiff::Span;
use jiff::civil::{Date, date};

use crate::error::DecodeError;

/// Bits of a UUID of version 7 (RFC 9562) beside its time, version and variant.
pub(super) const UUID_7_BITS: u32 = 74;

/// The milliseconds and the other bits of a UUID of version 7.
pub(super) fn uuid_7_of(text: &str) -> Option<(u64, u128)> {
    let uuid = u128::from_be_bytes(uuid_bytes(text)?);
    let (ms, rest) = ((uuid >> 80) as u64, (uuid >> 64 & 0xfff) << 62 | uuid & ((1 << 62) - 1));
    (uuid_7(ms, rest) == text).then_some((ms, rest))
}

/// The UUID that [`uuid_7_of`] took apart.
pub(super) fn uuid_7(ms: u64, rest: u128) -> String {
    let uuid = u128::from(ms) << 80 | 7 << 76 | (rest >> 62 & 0xfff) << 64 | 2 << 62 | rest & ((1 << 62) - 1);
    uuid::Uuid::from_u128(uuid).hyphenated().to_string()
}

/// The bytes of a UUID that is written exactly as we would write it back.
pub(super) fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let uuid = (text.len() == 36).then(|| uuid::Uuid::try_parse(text).ok())??;
    (uuid.hyphenated().to_string() == text).then(|| uuid.into_bytes())
}

/// 1970-01-01, from which tag 100 counts (RFC 8943).
const EPOCH: Date = date(1970, 1, 1);

/// Days since the epoch of a date that is written exactly as we would write it back.
pub(super) fn days_of(text: &str) -> Option<i64> {
    let date: Date = (text.len() == 10).then(|| text.parse().ok())??;
    (date.to_string() == text).then(|| date.duration_since(EPOCH).as_hours() / 24)
}

/// The date that [`days_of`] counted.
pub(super) fn date_of(days: i64) -> Option<String> {
    let span = Span::new().try_days(days).ok()?;
    EPOCH.checked_add(span).ok().map(|date| date.to_string())
}

/// Longest texts that are looked at as a pattern, bytes.
pub(super) const PATTERN_BYTES_MAX: usize = 40;

/// Texts of one length as numbers: place by place a letter out of `counts` from `least` on, the last place the lowest.
pub(super) struct Pattern {
    pub(super) least: Vec<u8>,
    pub(super) counts: Vec<u8>,
}

impl Pattern {
    /// The pattern of some texts, and their numbers.
    pub(super) fn of(texts: &[&str]) -> Option<(Pattern, Vec<u64>)> {
        let len = texts.first()?.len();
        if len > PATTERN_BYTES_MAX || texts.iter().any(|text| text.len() != len || !text.is_ascii()) {
            return None;
        }
        let place = |at: usize| letters(texts.iter().filter_map(move |text| text.as_bytes().get(at).copied()));
        let (least, counts) = (0..len).map(place).unzip();
        let pattern = Pattern { least, counts };
        pattern.check().ok()?;
        let numbers = texts.iter().map(|text| {
            let places = text.bytes().zip(&pattern.least).zip(&pattern.counts);
            places.fold(0, |n, ((letter, least), count)| n * u64::from(*count) + u64::from(letter - least))
        });
        let numbers = numbers.collect();
        Some((pattern, numbers))
    }

    /// Whether all are ASCII and 64 bits hold the numbers.
    pub(super) fn check(&self) -> Result<(), DecodeError> {
        let is_ascii =
            |(least, count): (&u8, &u8)| *count > 0 && least.checked_add(count - 1).is_some_and(|c| c.is_ascii());
        let all = self.counts.iter().try_fold(1u64, |all, count| all.checked_mul(u64::from(*count)));
        let fits = all.is_some() && self.least.len() == self.counts.len() && self.least.len() <= PATTERN_BYTES_MAX;
        match fits && self.least.iter().zip(&self.counts).all(is_ascii) {
            true => Ok(()),
            false => Err(DecodeError::Shape("pattern of a column")),
        }
    }

    /// The text of a number. What is above the highest place is ignored.
    pub(super) fn text(&self, mut n: u64) -> String {
        let mut text = Vec::with_capacity(self.least.len());
        for (least, count) in self.least.iter().zip(&self.counts).rev() {
            text.push(char::from(least + (n % u64::from(*count)) as u8));
            n /= u64::from(*count);
        }
        text.into_iter().rev().collect()
    }
}

/// The least of some letters and how many there are from it on. Digits and letters count as whole alphabets, so that the
/// pattern of a field is the same in every frame.
fn letters(place: impl Iterator<Item = u8> + Clone) -> (u8, u8) {
    let (least, most) = (place.clone().min().unwrap_or(0), place.max().unwrap_or(0));
    for (first, last) in [(b'0', b'9'), (b'A', b'Z'), (b'a', b'z')] {
        if least != most && first <= least && most <= last {
            return (first, last - first + 1);
        }
    }
    (least, most - least + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_four_centuries_is_a_date_and_back() {
        for days in -62_000..84_000 {
            assert_eq!(days_of(&date_of(days).unwrap()), Some(days));
        }
    }

    #[test]
    fn a_pattern_of_more_than_64_bits_is_none() {
        assert!(Pattern::of(&["AAAAAAAAAAAAA", "ZZZZZZZZZZZZZ"]).is_some());
        assert!(Pattern::of(&["AAAAAAAAAAAAAA", "ZZZZZZZZZZZZZZ"]).is_none());
    }
}
