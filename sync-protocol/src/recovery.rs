//! The recovery key of an encrypted gateway, as people write it down: the key of its database itself, in letters.
//!
//! `OPK-` and Crockford's base 32 in groups of five, as [`crate::ticket`] has it, with the same checksum. The hub prints it
//! and a gateway takes it, so both know its form.

use zeroize::Zeroizing;

use crate::ticket::{bytes, grouped, is_prefixed};

/// Bytes of the key.
pub const KEY_BYTES: usize = 32;

const PREFIX: &str = "OPK";
const SUM_BYTES: usize = 4;

/// The letters of a key.
pub fn to_letters(key: &[u8; KEY_BYTES]) -> Zeroizing<String> {
    let mut said = Zeroizing::new(Vec::with_capacity(KEY_BYTES + SUM_BYTES));
    said.extend_from_slice(key);
    said.extend(crc32fast::hash(key).to_be_bytes());
    Zeroizing::new(grouped(PREFIX, &said))
}

/// Whether somebody means to give a recovery key, right or wrong.
pub fn is_meant(typed: &str) -> bool {
    is_prefixed(typed, PREFIX)
}

/// Reads the letters as they were typed; `None` if one of them is wrong or missing.
pub fn from_letters(typed: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let rest = is_meant(typed).then(|| typed.trim().get(PREFIX.len()..)).flatten()?;
    let said = Zeroizing::new(bytes(rest)?);
    let (key, sum) = said.split_first_chunk::<KEY_BYTES>()?;
    (crc32fast::hash(key).to_be_bytes() == *sum).then(|| Zeroizing::new(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_however_it_was_typed() {
        let key: [u8; KEY_BYTES] = std::array::from_fn(|n| (n * 37) as u8);
        let letters = to_letters(&key);
        assert_eq!(letters.len(), 3 + 12 + 58, "{}", *letters);
        assert_eq!(from_letters(&letters).as_deref(), Some(&key));
        let typed = letters.to_lowercase().replace('-', " ").replacen("opk ", "OPK-", 1).replace('1', "l");
        assert_eq!(from_letters(&format!(" {typed}\n")).as_deref(), Some(&key));
    }

    #[test]
    fn a_wrong_letter_is_noticed() {
        let letters = to_letters(&[9; KEY_BYTES]);
        for at in 4..letters.len() {
            let mut wrong: Vec<char> = letters.chars().collect();
            if wrong[at] == '-' {
                continue;
            }
            wrong[at] = if wrong[at] == 'Z' { 'Y' } else { 'Z' };
            assert!(from_letters(&wrong.iter().collect::<String>()).is_none(), "{at}");
            wrong.remove(at);
            assert!(from_letters(&wrong.iter().collect::<String>()).is_none(), "{at}");
        }
        assert!(from_letters("OPK-").is_none() && !is_meant("correct horse battery staple"));
    }
}
