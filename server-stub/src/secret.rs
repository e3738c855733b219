//! Everything random: keys of gateways, enrolment codes and the admin token, from the operating system. Each is overwritten when it
//! goes, and no text of one is made longer while it is written: what it was before would stay in memory.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;
use sync_protocol::identity::DeviceKey;
use sync_protocol::ticket::SECRET_BYTES;
use zeroize::Zeroizing;

use crate::error::{HubError, StoreError};

/// Crockford's base 32: no I, L, O, U, so that a code survives a telephone.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CODE_LETTERS: usize = 16;
const GROUP_LETTERS: usize = 4;

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, HubError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(HubError::Random)?;
    Ok(bytes)
}

/// The key of a new gateway.
pub(crate) fn device_key() -> Result<DeviceKey, HubError> {
    random().map(|bytes| DeviceKey(*bytes))
}

/// A number for an epoch.
pub(crate) fn epoch() -> Result<u32, StoreError> {
    random::<4>().map(|bytes| u32::from_be_bytes(*bytes)).map_err(|_| StoreError::Closed)
}

/// A new enrolment code such as `ABCD-EFGH-JKMN-PQRS`: 80 bits.
pub(crate) fn code() -> Result<Zeroizing<String>, HubError> {
    let mut code = Zeroizing::new(String::with_capacity(CODE_LETTERS + CODE_LETTERS / GROUP_LETTERS));
    for (at, byte) in random::<CODE_LETTERS>()?.iter().enumerate() {
        if at > 0 && at % GROUP_LETTERS == 0 {
            code.push('-');
        }
        code.push(letter(*byte));
    }
    Ok(code)
}

fn letter(byte: u8) -> char {
    LETTERS.get(usize::from(byte & 31)).copied().map_or('0', char::from)
}

/// A code as it was meant: what people confuse put right, anything between the letters left out.
pub(crate) fn normal_code(typed: &str) -> Zeroizing<String> {
    let mut code = Zeroizing::new(String::with_capacity(CODE_LETTERS * 2));
    let letters = typed.chars().filter(char::is_ascii_alphanumeric).take(CODE_LETTERS * 2);
    code.extend(letters.map(|c| match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        c => c,
    }));
    code
}

/// The bytes that the letters of a code stand for.
pub(crate) fn code_bytes(code: &str) -> [u8; SECRET_BYTES] {
    let digit = |c| LETTERS.iter().position(|letter| char::from(*letter) == c).unwrap_or(0);
    let number = normal_code(code).chars().fold(0u128, |number, c| number << 5 | digit(c) as u128);
    number.to_be_bytes().last_chunk().copied().unwrap_or_default()
}

/// What is kept of a secret that is random enough not to be guessed from it.
pub(crate) type Sha256 = [u8; 32];

pub(crate) fn sha256(secret: &[u8]) -> Sha256 {
    digest(&SHA256, secret).as_ref().try_into().unwrap_or_default()
}

/// What a session or a program comes in with: 256 bits, in hex digits.
pub(crate) fn pass() -> Result<Zeroizing<String>, HubError> {
    Ok(Zeroizing::new(hex(random::<32>()?.as_slice())))
}

/// Salt for a password.
pub(crate) fn salt() -> Result<[u8; 16], HubError> {
    random().map(|bytes| *bytes)
}

/// The secret of a second factor: as long as the hash that it is used with.
pub(crate) fn totp_key() -> Result<Zeroizing<[u8; 20]>, HubError> {
    random()
}

/// Bytes from hex digits.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
    digits.collect()
}

/// Bytes as hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    text.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|n| char::from_digit(n.into(), 16)));
    text
}

/// Whether two secrets are equal, in a time that does not depend on where they differ.
pub(crate) fn is_same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// The admin token of a data directory, made with the first use; readable by its owner only.
pub(crate) fn admin_token(dir: &Path) -> Result<Zeroizing<String>, HubError> {
    let path = dir.join("admin.token");
    let file = |source| HubError::File { path: path.clone(), source };
    let mut options = std::fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut new) => {
            let token = pass()?;
            new.write_all(token.as_bytes()).and_then(|()| new.sync_all()).map_err(file)?;
            Ok(token)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let kept = Zeroizing::new(std::fs::read_to_string(&path).map_err(file)?);
            let token = Zeroizing::new(kept.trim().to_owned());
            match token.len() >= 32 {
                true => Ok(token),
                false => Err(HubError::Config(format!("{} is too short; delete it to get a new one", path.display()))),
            }
        }
        Err(error) => Err(file(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_four_groups_and_survive_typing() {
        let code = code().unwrap();
        assert_eq!(code.len(), 19);
        assert_eq!(code.split('-').map(str::len).collect::<Vec<_>>(), [4, 4, 4, 4]);
        assert_eq!(normal_code(&code), normal_code(&code.to_lowercase().replace('-', " ")));
        assert_eq!(normal_code("oIl0-1111-2222").as_str(), "011011112222");
    }

    #[test]
    fn what_is_made_is_overwritten_when_it_goes_and_leaves_no_shorter_copy() {
        fn is_overwritten(_: &impl zeroize::ZeroizeOnDrop) {}
        let (code, pass) = (code().unwrap(), pass().unwrap());
        let meant = normal_code(&code);
        is_overwritten(&totp_key().unwrap());
        for (text, room) in [(&code, 20), (&pass, 64), (&meant, 32)] {
            is_overwritten(text);
            assert_eq!(text.capacity(), room, "it has the room that it was given at first");
        }
        assert_eq!(hex(&[0, 0x0f, 0xa0, 0xff]), "000fa0ff");
    }

    #[test]
    fn the_admin_token_is_made_once_and_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let token = admin_token(dir.path()).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(admin_token(dir.path()).unwrap(), token);
        let mode = std::fs::metadata(dir.path().join("admin.token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
