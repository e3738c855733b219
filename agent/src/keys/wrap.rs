//! How a key is wrapped by what somebody keeps: ChaCha20-Poly1305 (RFC 8439) under a key that is derived from it, by HKDF
//! (RFC 5869) where it is random, by Argon2id (RFC 9106) where a person made it up. Each slot has a salt of its own, so no
//! wrapping key is used twice.

use argon2::{Algorithm, Argon2, Params, Version};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::slots::{Bytes, Way};
use crate::error::Error;
use crate::store::{DataKey, KEY_BYTES, KeyId};

const CONTEXT: &[u8] = b"outpost 2026-11 key slot v1";
const SALT_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

/// How much work it is to try a passphrase. RFC 9106 recommends the default where 2 GiB are not to be had: a Pi 4 takes half a
/// second for it, a Pi Zero some five, and a thief as much memory for each try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stretch {
    pub(crate) memory_kib: u32,
    pub(crate) passes: u32,
    pub(crate) lanes: u32,
}

impl Default for Stretch {
    fn default() -> Self {
        Stretch { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

impl Stretch {
    /// What a file may ask for, so that a bent one takes neither the memory nor the day.
    fn is_bearable(self) -> bool {
        self.memory_kib <= 96 * 1024 && self.passes <= 16 && self.lanes <= 16
    }
}

/// What a slot is opened with.
#[derive(Clone)]
pub(crate) enum Secret {
    /// The content of a key file.
    File(Zeroizing<Vec<u8>>),
    /// The content of a credential.
    Credential(Zeroizing<Vec<u8>>),
    /// A passphrase.
    Passphrase(Zeroizing<String>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A slot with this key in it.
    pub(crate) fn wrap(&self, key: &DataKey) -> Result<Way, Error> {
        self.wrap_with(key, Stretch::default())
    }

    /// The content of a file as that of the credential which is made of it.
    pub(crate) fn to_credential(&self) -> Secret {
        match self {
            Secret::File(content) => Secret::Credential(content.clone()),
            other => other.clone(),
        }
    }

    pub(crate) fn wrap_with(&self, key: &DataKey, stretch: Stretch) -> Result<Way, Error> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|e| Error::Io(std::io::Error::from(e)))?;
        let wrapping = self.wrapping_key(&salt, stretch)?;
        let mut sealed = Zeroizing::new(Vec::with_capacity(KEY_BYTES + TAG_BYTES));
        sealed.extend_from_slice(key.bytes());
        let aad = Aad::from(name_of(key.id()));
        wrapping.seal_in_place_append_tag(nonce(), aad, &mut *sealed).map_err(|_| Error::unkeyed())?;
        let (salt, sealed) = (Bytes::from(&salt[..]), Bytes(sealed));
        Ok(match self {
            Secret::File(_) => Way::File { salt, sealed },
            Secret::Credential(_) => Way::Credential { salt, sealed },
            Secret::Passphrase(_) => Way::Passphrase { salt, stretch, sealed },
        })
    }

    /// The key of this name in a slot; `None` if this does not open it.
    pub(crate) fn unwrap(&self, way: &Way, name: KeyId) -> Result<Option<DataKey>, Error> {
        let (salt, stretch, sealed) = match (self, way) {
            (Secret::File(_), Way::File { salt, sealed })
            | (Secret::Credential(_), Way::Credential { salt, sealed }) => (salt, Stretch::default(), sealed),
            (Secret::Passphrase(_), Way::Passphrase { salt, stretch, sealed }) if stretch.is_bearable() => {
                (salt, *stretch, sealed)
            }
            _ => return Ok(None),
        };
        let wrapping = self.wrapping_key(&salt.0, stretch)?;
        let mut sealed = sealed.0.clone();
        let opened = wrapping.open_in_place(nonce(), Aad::from(name_of(name)), &mut sealed);
        let bytes = opened.ok().and_then(|bytes| <[u8; KEY_BYTES]>::try_from(&*bytes).ok()).map(Zeroizing::new);
        Ok(bytes.map(DataKey::new).filter(|key| key.id() == name))
    }

    fn wrapping_key(&self, salt: &[u8], stretch: Stretch) -> Result<LessSafeKey, Error> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        match self {
            Secret::File(content) | Secret::Credential(content) => {
                let random = Salt::new(HKDF_SHA256, salt).extract(content);
                let derived = random.expand(&[CONTEXT], HKDF_SHA256).and_then(|okm| okm.fill(bytes.as_mut_slice()));
                derived.map_err(|_| Error::unkeyed())?;
            }
            Secret::Passphrase(text) => {
                let Stretch { memory_kib, passes, lanes } = stretch;
                let params = Params::new(memory_kib, passes, lanes, Some(KEY_BYTES)).map_err(|_| Error::unkeyed())?;
                let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                let done = argon.hash_password_into(text.as_bytes(), salt, bytes.as_mut_slice());
                done.map_err(|_| Error::unkeyed())?;
            }
        }
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes.as_slice()).map_err(|_| Error::unkeyed())?;
        Ok(LessSafeKey::new(key))
    }
}

/// The key is used once, so its nonce may be any.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn name_of(id: KeyId) -> Vec<u8> {
    [CONTEXT, &id.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Stretch = Stretch { memory_kib: 64, passes: 1, lanes: 1 };

    #[test]
    fn only_what_wrapped_a_key_unwraps_it() {
        let key = DataKey::generate().unwrap();
        let passphrase = |text: &str| Secret::Passphrase(Zeroizing::new(text.to_owned()));
        let file = |byte: u8| Secret::File(Zeroizing::new(vec![byte; 64]));
        let credential = Secret::Credential(Zeroizing::new(vec![1; 64]));
        for (right, wrong) in [
            (passphrase("amai ndi abambo"), passphrase("amai ndi abamb0")),
            (file(1), file(2)),
            (file(1), credential.clone()),
            (credential, file(1)),
        ] {
            let way = right.wrap_with(&key, QUICK).unwrap();
            assert_eq!(right.unwrap(&way, key.id()).unwrap().unwrap().bytes(), key.bytes());
            assert!(wrong.unwrap(&way, key.id()).unwrap().is_none());
            assert!(right.unwrap(&way, KeyId([0; 16])).unwrap().is_none(), "under another name");
            assert_ne!(right.wrap_with(&key, QUICK).unwrap(), way, "a salt of its own");
        }
    }

    #[test]
    fn a_bent_file_does_not_take_all_memory() {
        let key = DataKey::generate().unwrap();
        let secret = Secret::Passphrase(Zeroizing::new("x".to_owned()));
        let Way::Passphrase { salt, sealed, .. } = secret.wrap_with(&key, QUICK).unwrap() else { panic!("not that") };
        let stretch = Stretch { memory_kib: u32::MAX, passes: 1, lanes: 1 };
        assert!(secret.unwrap(&Way::Passphrase { salt, stretch, sealed }, key.id()).unwrap().is_none());
    }

    #[test]
    fn nothing_secret_is_shown() {
        let secret = Secret::Passphrase(Zeroizing::new("canary".to_owned()));
        let way = secret.wrap_with(&DataKey::generate().unwrap(), QUICK).unwrap();
        let told = format!("{secret:?} {way:?} {:?}", DataKey::generate().unwrap());
        assert!(!told.contains("canary") && told.contains("Bytes(48)"), "{told}");
    }
}
