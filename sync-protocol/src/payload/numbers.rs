//! Columns of numbers: what varies takes no more bits than its range.
//!
//! A column is one number if all are equal, else `[least, width, bits]` of the numbers, or `[first, least, width, bits]` of
//! the differences between neighbours where these range less. Bits are packed from the lowest of the first byte on. All
//! arithmetic is modulo 2^64, so that any 64 bits come back.

use minicbor::data::Type;

use crate::cbor::{In, Out};
use crate::error::DecodeError;

/// Writes a column of numbers.
pub(super) fn write_numbers(out: &mut Out, column: &[u64]) {
    let Some((&first, rest)) = column.split_first() else { return out.int(0).done() };
    if rest.iter().all(|n| *n == first) {
        return out.int(first as i64).done();
    }
    let plain = Range::of(column.iter().map(|n| *n as i64));
    let steps: Vec<i64> = column.iter().zip(rest).map(|(last, n)| n.wrapping_sub(*last) as i64).collect();
    let stepped = Range::of(steps.iter().copied());
    if plain.bytes(column.len()) <= stepped.bytes(steps.len()) + FIRST_BYTES {
        plain.write(out.array(3), column.iter().map(|n| *n as i64));
    } else {
        stepped.write(out.array(4).int(first as i64), steps.into_iter());
    }
}

/// What the first number costs when the differences are written.
const FIRST_BYTES: usize = 8;

/// About how many bytes [`write_numbers`] takes.
pub(super) fn numbers_weight(numbers: &[u64]) -> usize {
    6 + Range::of(numbers.iter().map(|n| *n as i64)).bytes(numbers.len())
}

/// Reads a column of `len` numbers.
pub(super) fn read_numbers(input: &mut In<'_>, len: usize) -> Result<Vec<u64>, DecodeError> {
    if input.kind()? != Type::Array {
        return Ok(vec![input.int()? as u64; len]);
    }
    match (input.array()?, len.checked_sub(1)) {
        (3, _) => read_range(input, len),
        (4, Some(steps)) => {
            let first = input.int()? as u64;
            let steps = read_range(input, steps)?;
            let rest = steps.into_iter().scan(first, |at, step| {
                *at = at.wrapping_add(step);
                Some(*at)
            });
            Ok(std::iter::once(first).chain(rest).collect())
        }
        _ => Err(DecodeError::Shape("a column of numbers")),
    }
}

/// The least of some numbers, and how many bits the others are above it.
struct Range {
    least: i64,
    width: u32,
}

impl Range {
    fn of(numbers: impl Iterator<Item = i64> + Clone) -> Range {
        let (least, most) = (numbers.clone().min().unwrap_or(0), numbers.max().unwrap_or(0));
        Range { least, width: 64 - (most.wrapping_sub(least) as u64).leading_zeros() }
    }

    fn bytes(&self, count: usize) -> usize {
        (count * self.width as usize).div_ceil(8)
    }

    fn write(&self, out: &mut Out, numbers: impl Iterator<Item = i64>) {
        let bits = numbers.map(|n| u128::from(n.wrapping_sub(self.least) as u64));
        out.int(self.least).uint(u64::from(self.width)).bytes(&pack_bits(bits, self.width));
    }
}

fn read_range(input: &mut In<'_>, len: usize) -> Result<Vec<u64>, DecodeError> {
    let least = input.int()? as u64;
    let width = u32::from(input.u8()?);
    if width > 64 {
        return Err(DecodeError::Shape("a column of numbers"));
    }
    let bits = unpack_bits(input.bytes()?, width, len)?;
    Ok(bits.into_iter().map(|n| least.wrapping_add(n as u64)).collect())
}

/// Packs numbers of at most `width` bits, itself at most 120.
pub(super) fn pack_bits(numbers: impl Iterator<Item = u128>, width: u32) -> Vec<u8> {
    let (mut bytes, mut held, mut filled) = (Vec::new(), 0u128, 0);
    for n in numbers {
        held |= n << filled;
        filled += width;
        while filled >= 8 {
            bytes.push(held as u8);
            held >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        bytes.push(held as u8);
    }
    bytes
}

/// Reads what [`pack_bits`] wrote of `len` numbers.
pub(super) fn unpack_bits(bytes: &[u8], width: u32, len: usize) -> Result<Vec<u128>, DecodeError> {
    if bytes.len() != (len * width as usize).div_ceil(8) {
        return Err(DecodeError::Shape("a column of another length"));
    }
    let (mut bytes, mut held, mut filled) = (bytes.iter(), 0u128, 0);
    let mask = (1u128 << width) - 1;
    let mut next = || {
        while filled < width {
            held |= u128::from(bytes.next().copied().unwrap_or(0)) << filled;
            filled += 8;
        }
        let n = held & mask;
        held >>= width;
        filled -= width;
        n
    };
    Ok((0..len).map(|_| next()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let wide = [1, u64::MAX, 0, 7, 1 << 63];
        let steps: Vec<u64> = (0..40).map(|n| (u64::MAX - 20_000).wrapping_add(n * 1_000 + n % 3)).collect();
        for column in [&[][..], &[5], &[5, 5, 5], &[3, 4], &wide, &steps] {
            let mut out = Out::new();
            write_numbers(&mut out, column);
            let bytes = out.finish();
            assert_eq!(read_numbers(&mut In::new(&bytes), column.len()).unwrap(), column);
        }
    }

    #[test]
    fn a_column_of_another_length_is_refused() {
        let mut out = Out::new();
        write_numbers(&mut out, &[3, 4, 9]);
        let bytes = out.finish();
        for len in [0, 1, 2, 6] {
            assert!(read_numbers(&mut In::new(&bytes), len).is_err(), "{len}");
        }
    }
}
