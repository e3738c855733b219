//! What people copy from paper and scan: enrolment codes and recovery keys.

use sync_protocol::limits::FRAME_UNPACKED_BYTES_LIMIT;
use sync_protocol::recovery;
use sync_protocol::ticket::Ticket;

const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Letters as they were typed, and bytes under a checksum that is right, of which most would not be a code.
pub(super) fn ticket(bytes: &[u8]) {
    if let Ok(typed) = std::str::from_utf8(bytes) {
        read(typed);
    }
    if bytes.len() < FRAME_UNPACKED_BYTES_LIMIT {
        let sum = crc32fast::hash(bytes).to_be_bytes();
        let letters = letters(&[bytes, &sum[..]].concat());
        read(&format!("OP1-{letters}"));
        read(&format!("OPK-{letters}"));
    }
}

/// A code, what it says, and a recovery key.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let ticket = Ticket { secret: [7; 10], fingerprint: [0xa5; 16], address: "hub.example.org:8480".to_owned() };
    let said = [&ticket.secret[..], &ticket.fingerprint, ticket.address.as_bytes()].concat();
    let key = recovery::to_letters(&[9; recovery::KEY_BYTES]);
    vec![ticket.to_string().into_bytes(), said, key.as_bytes().to_vec(), vec![9; recovery::KEY_BYTES]]
}

/// What is read is written as a code that reads as the same.
fn read(typed: &str) {
    if let Some(ticket) = Ticket::parse(typed) {
        assert!(Ticket::is_meant(typed) && !ticket.address.is_empty());
        assert!(Ticket::parse(&ticket.to_string()).as_ref() == Some(&ticket), "{ticket:?} reads otherwise");
        let told = format!("{ticket:?}");
        assert!(!told.contains(&ticket.secret_letters()), "its secret is told");
    }
    if let Some(key) = recovery::from_letters(typed) {
        assert!(recovery::is_meant(typed));
        assert!(recovery::from_letters(&recovery::to_letters(&key)).as_ref() == Some(&key), "a key reads otherwise");
    }
}

/// Bytes in letters of five bits each.
fn letters(bytes: &[u8]) -> String {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let letter = |five: &[u8]| {
        let number = (0..5).fold(0, |number, at| number << 1 | five.get(at).copied().unwrap_or_default());
        char::from(LETTERS[usize::from(number)])
    };
    bits.chunks(5).map(letter).collect()
}
