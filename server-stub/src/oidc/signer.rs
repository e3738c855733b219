//! Tokens for tests, by one key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value as Json, json};

use super::keys::Keys;
use super::settings::Oidc;
use super::token::install;
use crate::clock::now_ms;

pub(super) const ISSUER: &str = "https://id.example.org";

/// Who signs, what the hub is configured with, and what time it is.
pub(super) struct Signer {
    id: &'static str,
    pair: Ed25519KeyPair,
    pub(super) settings: Oidc,
    pub(super) now: i64,
}

impl Signer {
    pub(super) fn new(id: &'static str) -> Signer {
        install();
        let bytes = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(bytes.as_ref()).unwrap();
        let settings = Oidc { issuer: ISSUER.to_owned(), client_id: "hub".to_owned(), ..Oidc::default() };
        Signer { id, pair, settings, now: now_ms() / 1_000 }
    }

    /// Its keys as a provider publishes them.
    pub(super) fn published(&self) -> Json {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.id }] })
    }

    pub(super) fn keys(&self) -> Keys {
        Keys::parse(self.published().to_string().as_bytes()).unwrap()
    }

    /// Claims that prove who `s-1` is.
    pub(super) fn claims(&self, nonce: &str) -> Json {
        json!({ "iss": ISSUER, "aud": "hub", "sub": "s-1", "nonce": nonce, "iat": self.now, "exp": self.now + 60 })
    }

    pub(super) fn sign(&self, header: &Json, claims: &Json) -> String {
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let message = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}
