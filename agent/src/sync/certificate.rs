//! The gateway's own key, and the certificate that its hub gave for it.
//!
//! The key is made on this box and never leaves it. Instead of a certificate request goes up the public key, with the code
//! signed by it: all else that a request could say, the hub knows better. Whether the certificate is still valid is for the
//! hub to judge, whose clock is right; here nobody looks at its times.

use ring::error::Unspecified;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use sync_protocol::digest::content_hash;
use zeroize::Zeroizing;

use super::transport::{Transport, Trust};
use crate::clock::Clock;
use crate::error::Error;
use crate::store::{Enrolling, Enrolment, Identity, Store};

/// What is signed before the code.
const PROOF_CONTEXT: &[u8] = b"outpost 2026-11 enrolment key v1\0";

/// A new key, with what shows the hub that it is held here.
pub(super) struct NewKey {
    /// PKCS #8.
    pub(super) secret: Zeroizing<Vec<u8>>,
    /// The point in hex digits.
    pub(super) public_key: String,
    /// The signature in hex digits.
    pub(super) proof: String,
}

/// What the hub gives for it.
#[derive(Deserialize)]
pub(super) struct Certified {
    certificate: String,
    authority: String,
    renew_ms: i64,
}

impl NewKey {
    /// The key for an enrolment: the one of the last try with this code, so that the hub knows who did not hear its answer, or
    /// a new one. It is on disk before it is used. What is kept tells for which code it is: a card that is copied then must not
    /// give one key to several gateways.
    pub(super) async fn for_code(store: &Store, code: &str) -> Result<NewKey, Error> {
        let mark = content_hash(&[PROOF_CONTEXT, code.as_bytes()].concat());
        let known = store.read(|reader| reader.enrolling()).await?.filter(|known| known.mark == mark);
        if let Some(Ok(key)) = known.map(|known| NewKey::of(known.key, code)) {
            return Ok(key);
        }
        let random = SystemRandom::new();
        let secret = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(failed)?;
        let key = NewKey::of(Zeroizing::new(secret.as_ref().to_vec()), code)?;
        let enrolling = Enrolling { mark: mark.to_vec(), key: key.secret.clone() };
        store.write(move |tx| tx.set_enrolling(Some(&enrolling))).await?;
        Ok(key)
    }

    fn of(secret: Zeroizing<Vec<u8>>, code: &str) -> Result<NewKey, Error> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &secret, &random);
        let pair = pair.map_err(|_| Error::Io(std::io::Error::other("the new key cannot be used")))?;
        let proof = pair.sign(&random, &[PROOF_CONTEXT, code.as_bytes()].concat()).map_err(failed)?;
        Ok(NewKey { secret, public_key: hex(pair.public_key().as_ref()), proof: hex(proof.as_ref()) })
    }
}

fn failed(_: Unspecified) -> Error {
    Error::Io(std::io::Error::other("no randomness from the operating system"))
}

impl Certified {
    /// What a gateway keeps.
    pub(super) fn identity(self, secret: Zeroizing<Vec<u8>>) -> Result<Identity, Error> {
        Ok(Identity {
            authority: unhex(&self.authority)?,
            key: secret,
            certificate: unhex(&self.certificate)?,
            renew_ms: self.renew_ms,
        })
    }
}

#[derive(Serialize)]
struct Nothing {}

/// Asks for the next certificate if it is time, which is known when the hub was just heard. Nothing is lost if it fails: there
/// is a third of the certificate's life left, and the hub's grace after it.
pub(super) async fn renew_in_time(store: &Store, clock: &Clock, enrolment: &Enrolment) -> Result<(), Error> {
    let Some(identity) = enrolment.identity.as_ref().filter(|known| known.renew_ms <= clock.now().now_ms) else {
        return Ok(());
    };
    let transport = Transport::new(&enrolment.hub_url, clock, &Trust::Member(identity.clone()))?;
    let certified: Certified = transport.post_json("/renew/v1", &Nothing {}).await?;
    let renewed = Enrolment { identity: Some(certified.identity(identity.key.clone())?), ..enrolment.clone() };
    let before = enrolment.clone();
    let write = store.write(move |tx| {
        // Unless somebody enrolled it anew meanwhile.
        match tx.reader()?.enrolment()? == Some(before) {
            true => tx.set_enrolment(&renewed),
            false => Ok::<_, Error>(()),
        }
    });
    write.await?;
    tracing::info!("the certificate of this gateway was renewed");
    Ok(())
}

/// Bytes as hex digits, as the hub reads them.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hex digits, as the hub sends them.
pub(super) fn unhex(text: &str) -> Result<Vec<u8>, Error> {
    let digit = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
    // In one place: one of a key that grows would leave parts of it where it was before.
    let mut bytes = Vec::with_capacity(text.len().div_ceil(2));
    let read = text.as_bytes().chunks(2).try_for_each(|two| digit(two).map(|byte| bytes.push(byte)));
    read.map(|()| bytes)
        .ok_or_else(|| Error::Rejected("the hub's answer is not in a form that this version reads".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DataKey, Home, Options};

    #[tokio::test]
    async fn the_key_of_a_try_is_that_of_the_next_with_the_same_code_and_of_no_other() {
        for data_key in [None, Some(DataKey::generate().unwrap())] {
            let dir = tempfile::tempdir().unwrap();
            let open = || Store::open(Home::new(dir.path(), data_key.clone()), Options::default()).unwrap();
            let store = open();
            let first = NewKey::for_code(&store, "CODE1").await.unwrap();
            drop(store);
            let store = open();
            let again = NewKey::for_code(&store, "CODE1").await.unwrap();
            assert_eq!(again.public_key, first.public_key, "the answer was not heard");
            let holds = |path: std::path::PathBuf| {
                std::fs::read(path).unwrap().windows(first.secret.len()).any(|part| part == &first.secret[..])
            };
            let is_plain = std::fs::read_dir(dir.path()).unwrap().any(|file| holds(file.unwrap().path()));
            assert_eq!(is_plain, data_key.is_none(), "an encrypted card tells nobody of it");
            let other = NewKey::for_code(&store, "CODE2").await.unwrap();
            assert_ne!(other.public_key, first.public_key, "a copied card is another gateway by then");
        }
    }
}
