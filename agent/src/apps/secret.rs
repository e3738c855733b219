//! Everything random that apps are given: tokens and pairing codes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::Error;

/// What a token begins with, so that one which lies about is recognised.
const TOKEN_PREFIX: &str = "opa_";
const TOKEN_BYTES: usize = 32;
/// As long as its text is at most, so that no copy of it is left behind while it is made.
const TOKEN_CHARS: usize = 64;
/// Crockford's base 32: no I, L, O, U, so that a code survives being read out.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CODE_LETTERS: usize = 8;
const GROUP_LETTERS: usize = 4;
/// With what stands between the groups.
const CODE_CHARS: usize = CODE_LETTERS + CODE_LETTERS / GROUP_LETTERS;

/// The SHA-256 of a secret. Enough for one of 256 random bits: there is nothing to guess.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// What an app shows with each request. Kept nowhere but in the app.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fingerprint")
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Fingerprint {
    /// Of some bytes.
    pub fn of(bytes: &[u8]) -> Fingerprint {
        Fingerprint(digest(&SHA256, bytes).as_ref().try_into().unwrap_or_default())
    }

    /// Whether both are equal, in a time that does not depend on where they differ.
    pub fn is(&self, other: &Fingerprint) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// [`Error::Io`] if the system has no random bytes.
    pub fn make() -> Result<Token, Error> {
        let bytes = Zeroizing::new(random::<TOKEN_BYTES>()?);
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_CHARS));
        text.push_str(TOKEN_PREFIX);
        URL_SAFE_NO_PAD.encode_string(*bytes, &mut text);
        Ok(Token(text))
    }

    /// As the app keeps it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.0.as_bytes())
    }
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| Error::Io(std::io::Error::from(e)))?;
    Ok(bytes)
}

/// A new pairing code such as `K7QM-3XNP`: 40 bits.
pub(super) fn new_code() -> Result<Zeroizing<String>, Error> {
    let mut code = Zeroizing::new(String::with_capacity(CODE_CHARS));
    let bytes = Zeroizing::new(random::<CODE_LETTERS>()?);
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 && at % GROUP_LETTERS == 0 {
            code.push('-');
        }
        code.push(LETTERS.get(usize::from(byte & 31)).copied().map_or('0', char::from));
    }
    Ok(code)
}

/// A code as it was meant: what people confuse put right, and anything between the letters left out.
pub(super) fn meant(typed: &str) -> Zeroizing<String> {
    let mut code = Zeroizing::new(String::with_capacity(CODE_CHARS));
    let letters = typed.chars().filter(char::is_ascii_alphanumeric).take(CODE_LETTERS + 1);
    code.extend(letters.map(|c| match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        c => c,
    }));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_eight_letters_and_survive_typing() {
        let code = new_code().unwrap();
        assert_eq!(code.len(), 9);
        assert_eq!(meant(&code), meant(&code.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l")));
        assert_eq!(meant(&code).len(), CODE_LETTERS);
        assert_ne!(meant(&format!("{}X", code.as_str())), meant(&code));
    }

    #[test]
    fn what_is_made_is_overwritten_when_it_goes_and_leaves_no_shorter_copy() {
        fn is_overwritten(_: &impl zeroize::ZeroizeOnDrop) {}
        let (code, token) = (new_code().unwrap(), Token::make().unwrap());
        for (text, room) in [(&code, CODE_CHARS), (&meant(&code), CODE_CHARS), (&token.0, TOKEN_CHARS)] {
            is_overwritten(text);
            assert_eq!(text.capacity(), room, "it has the room that it was given at first");
        }
    }

    #[test]
    fn a_token_says_what_it_is_and_shows_itself_nowhere() {
        let token = Token::make().unwrap();
        assert_eq!((token.as_str().len(), token.as_str().get(..4)), (47, Some("opa_")));
        assert_eq!(format!("{token:?} {:?}", token.fingerprint()), "Token Fingerprint");
        assert!(!token.fingerprint().is(&Token::make().unwrap().fingerprint()));
    }
}
