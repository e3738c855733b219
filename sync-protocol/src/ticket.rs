//! The enrolment code of a hub with certificates: where the hub is, how to know it, and the secret that opens it once.
//!
//! One word that can be copied, read out, or shown as a QR code: `OP1-` and Crockford's base 32 in groups of five. What
//! people confuse is put right, and a checksum finds what else was mistyped, before anything is sent.

use zeroize::Zeroizing;

/// Bytes of the secret: 80 bits, which nobody guesses at some ten tries a minute.
pub const SECRET_BYTES: usize = 10;
/// Bytes of the fingerprint: who wanted another key under one needs 2^128 tries.
pub const FINGERPRINT_BYTES: usize = 16;
/// Longest address.
pub const ADDRESS_BYTES_MAX: usize = 255;

const PREFIX: &str = "OP1";
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUP_LETTERS: usize = 5;
const SUM_BYTES: usize = 4;

/// What an enrolment code says.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The secret, good for one enrolment.
    pub secret: [u8; SECRET_BYTES],
    /// The beginning of the SHA-256 of the public key (SubjectPublicKeyInfo) of the hub's own authority.
    pub fingerprint: [u8; FINGERPRINT_BYTES],
    /// Host and port, such as `hub.example.org:8480`.
    pub address: String,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("address", &self.address).finish_non_exhaustive()
    }
}

impl std::fmt::Display for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = [&self.secret[..], &self.fingerprint, self.address.as_bytes()].concat();
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        f.write_str(&grouped(PREFIX, &bytes))
    }
}

impl Ticket {
    /// The secret as letters.
    pub fn secret_letters(&self) -> String {
        letters(&self.secret)
    }

    /// Whether somebody means to give a ticket, right or wrong.
    pub fn is_meant(typed: &str) -> bool {
        is_prefixed(typed, PREFIX)
    }

    /// Reads a code as it was typed; `None` if it is not one, or a letter of it is wrong or missing.
    pub fn parse(typed: &str) -> Option<Ticket> {
        let rest = Ticket::is_meant(typed).then(|| typed.trim().get(PREFIX.len()..)).flatten()?;
        let bytes = bytes(rest)?;
        let (said, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM_BYTES)?)?;
        if crc32fast::hash(said).to_be_bytes() != sum {
            return None;
        }
        let (secret, said) = said.split_first_chunk()?;
        let (fingerprint, address) = said.split_first_chunk()?;
        let address = std::str::from_utf8(address).ok()?.to_owned();
        let is_fine = !address.is_empty() && address.len() <= ADDRESS_BYTES_MAX;
        is_fine.then_some(Ticket { secret: *secret, fingerprint: *fingerprint, address })
    }
}

/// Bytes as letters in groups, behind what tells what they are.
pub(crate) fn grouped(prefix: &str, bytes: &[u8]) -> String {
    let letters = Zeroizing::new(letters(bytes));
    // Never made longer: what it was before would stay in memory.
    let mut text = String::with_capacity(prefix.len() + letters.len() * 2);
    text.push_str(prefix);
    for (at, letter) in letters.chars().enumerate() {
        if at % GROUP_LETTERS == 0 {
            text.push('-');
        }
        text.push(letter);
    }
    text
}

/// Whether somebody means to give what begins so.
pub(crate) fn is_prefixed(typed: &str, prefix: &str) -> bool {
    typed.trim().get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
}

fn letters(bytes: &[u8]) -> String {
    let (mut text, mut bits, mut held) = (String::with_capacity(bytes.len() * 2), 0u32, 0u32);
    let letter = |n: u32| LETTERS.get((n & 31) as usize).copied().map_or('0', char::from);
    for byte in bytes {
        (held, bits) = ((held << 8 | u32::from(*byte)) & 0xffff, bits + 8);
        while bits >= 5 {
            bits -= 5;
            text.push(letter(held >> bits));
        }
    }
    if bits > 0 {
        text.push(letter(held << (5 - bits)));
    }
    text
}

/// The bytes of letters, whatever stands between them.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len()), 0u32, 0u32);
    for c in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
        let meant = match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            c => c,
        };
        let n = LETTERS.iter().position(|letter| char::from(*letter) == meant)?;
        (held, bits) = ((held << 5 | u32::try_from(n).ok()?) & 0xffff, bits + 5);
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    (bits < 5 && held & ((1 << bits) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket { secret: [7; 10], fingerprint: [0xa5; 16], address: "hub.example.org:8480".to_owned() }
    }

    #[test]
    fn a_code_is_read_as_it_was_written_and_however_it_was_typed() {
        for length in 1..30 {
            let ticket = Ticket { address: "h".repeat(length), ..ticket() };
            assert_eq!(Ticket::parse(&ticket.to_string()), Some(ticket));
        }
        let code = ticket().to_string();
        assert_eq!(Ticket::parse(&code.to_lowercase().replace('0', "o").replace('1', "l")), None, "op1 is no letter");
        let rest =
            code.strip_prefix(PREFIX).unwrap().to_lowercase().replace('0', "o").replace('1', "l").replace('-', " ");
        assert_eq!(Ticket::parse(&format!(" op1{rest}\n")), Some(ticket()));
    }

    #[test]
    fn every_single_wrong_missing_or_swapped_letter_is_noticed() {
        let code: Vec<char> = ticket().to_string().chars().collect();
        for at in 4..code.len() {
            let mut wrong = code.clone();
            wrong[at] = if code[at] == 'Z' { 'Y' } else { 'Z' };
            let missing: Vec<char> = code.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, c)| *c).collect();
            for typed in [wrong, missing].iter().filter(|_| code[at] != '-') {
                assert_eq!(Ticket::parse(&typed.iter().collect::<String>()), None, "{at}");
            }
            if at + 1 < code.len() && code[at] != code[at + 1] && code[at] != '-' && code[at + 1] != '-' {
                let mut swapped = code.clone();
                swapped.swap(at, at + 1);
                assert_eq!(Ticket::parse(&swapped.iter().collect::<String>()), None, "{at}");
            }
        }
        assert_eq!(Ticket::parse("OP1-"), None);
        assert_eq!(Ticket::parse("ABCD-EFGH-JKMN"), None);
    }
}
