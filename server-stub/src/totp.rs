//! The second factor: codes of six digits that change every 30 seconds (TOTP, RFC 6238, with SHA-1, as every app has it).

use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};
use subtle::ConstantTimeEq;

const STEP_MS: i64 = 30_000;
/// Steps before and after the present one whose code is taken: telephones are not on time.
const STEPS_ASIDE: i64 = 1;
const DIGITS: usize = 6;
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The number behind the code of a step (RFC 4226, section 5.3).
fn number(key: &[u8], step: i64) -> u32 {
    let tag = sign(&Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, key), &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag.last().copied().unwrap_or(0) & 15);
    let four = tag.get(at..at + 4).and_then(|four| four.try_into().ok()).unwrap_or_default();
    u32::from_be_bytes(four) & 0x7fff_ffff
}

/// What an app shows at a step.
pub(crate) fn code(key: &[u8], step: i64) -> String {
    format!("{:06}", number(key, step) % 1_000_000)
}

/// The step of which this is the code, if it is good now and none of it or a later one was taken before.
pub(crate) fn step_of(typed: &str, key: &[u8], taken: i64, now_ms: i64) -> Option<i64> {
    let typed: String = typed.chars().filter(char::is_ascii_digit).take(DIGITS + 1).collect();
    let now = now_ms / STEP_MS;
    let mut found = None;
    for step in now - STEPS_ASIDE..=now + STEPS_ASIDE {
        let is_it = bool::from(code(key, step).as_bytes().ct_eq(typed.as_bytes()));
        if is_it && step > taken {
            found = Some(step);
        }
    }
    found
}

/// A secret as apps take it (RFC 4648, section 6).
pub(crate) fn base32(key: &[u8]) -> String {
    let bits = |at: usize| key.get(at).copied().map_or(0, u64::from);
    let mut text = String::new();
    for (group, bytes) in key.chunks(5).enumerate() {
        let five = (0..5).fold(0u64, |five, at| five << 8 | bits(group * 5 + at));
        for at in 0..(bytes.len() * 8).div_ceil(5) {
            let letter = LETTERS.get((five >> (35 - 5 * at)) as usize & 31);
            text.push(letter.copied().map_or('=', char::from));
        }
    }
    text
}

/// The other way; `None` if it is none.
pub(crate) fn unbase32(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for letter in text.bytes().filter(|byte| *byte != b' ') {
        let digit = LETTERS.iter().position(|known| *known == letter.to_ascii_uppercase())?;
        (bits, held) = ((bits << 5 | u32::try_from(digit).ok()?) & 0xfff, held + 5);
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// What an app scans.
pub(crate) fn url(name: &str, secret: &str) -> String {
    format!("otpauth://totp/Outpost:{name}?secret={secret}&issuer=Outpost")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"12345678901234567890";

    #[test]
    fn codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, of which the last six digits.
        for (seconds, wanted) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")]
        {
            assert_eq!(code(KEY, seconds / 30), wanted);
        }
        // RFC 4648, section 10, without padding.
        for (plain, coded) in [("", ""), ("f", "MY"), ("fooba", "MZXW6YTB"), ("foobar", "MZXW6YTBOI")] {
            assert_eq!(base32(plain.as_bytes()), coded);
            assert_eq!(unbase32(coded).unwrap(), plain.as_bytes());
        }
    }

    #[test]
    fn a_secret_is_read_as_people_copy_it() {
        assert_eq!(unbase32("mzxw 6ytb oi").unwrap(), b"foobar");
        assert_eq!((unbase32("MZXW1"), unbase32("MZ=")), (None, None));
    }

    #[test]
    fn a_code_is_good_in_its_time_and_once() {
        let now = 1_111_111_109_000;
        let step = step_of("081 804", KEY, 0, now).unwrap();
        assert_eq!(step_of("081804", KEY, step, now), None, "again");
        assert_eq!(step_of("081804", KEY, 0, now + STEP_MS), Some(step), "a little late");
        assert_eq!(step_of("081804", KEY, 0, now + 2 * STEP_MS), None, "too late");
        for wrong in ["", "081805", "0818040", "81804"] {
            assert_eq!(step_of(wrong, KEY, 0, now), None, "{wrong}");
        }
    }
}
