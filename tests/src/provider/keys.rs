//! The provider's keys, and how it signs with them, or as none should.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding,
};
use serde_json::{Value, json};

use super::coded;

/// A key of RSA, made for these tests by `openssl genpkey` and known to everybody: it protects nothing. It stands here because ring
/// makes none, and what does has no place in this project.
const RSA_FOR_TESTS: &str = "\
    MIIEogIBAAKCAQEApFEsKtiWeeB+kW5x4QXVB5Sl9MZReC98fNddbYeDWoLgpLi9gltM3OqHxQ11zWzykgRULe6ijIS1buIcnefcE1J6r3jCoywwvIPL\
    VheJZk4ulg2sAzH/37cl2qfU4Wynx1drFeg4VmGAuO00dbd8bVockWqsnWkPCesp/5KtTtKWJQ4hPKSMGnGcjgZy9EgL8acbfpq/gJW31tRVew6YE0cq\
    3ruzEEKkUeOfZ8U+HXThb5ZGB8ElW1bJjk+kL0gJimb6ok+UuGbYCmOuTiFWG+kapBSuT4F1nBQLOYpJ7lotdrVIUQ4YnyKL3/3LKq0b7wmmbjaHaPyF\
    u0rOh45+gQIDAQABAoIBAAfWg+T00SO15s+s3SOC1dUvXOWyxozVNgrV8pPQjp5VBx5wXgDPdliE2u5WPKfsghsfN/07aHdLtsRX5o3NMykcSnQfjmg+\
    acI6RqsgAwq1YMFBXHLIEiijmbuG/S92EYA/niDsw3AyZTOdA/83/ghQz7NLi3mUOvaKCEYzws7TRutgF65bUmbw5wGNfzZ9uqxHH3v3XG1MdIlAo/g/\
    dt8hH0uR1HJaT5Yi2CkHvqJIXaWjJxBl8jyxZM2RWWRN3Iuygr+/UuP5e2462ZdgL1NwbSOMWiVHhqH8imRVsP1uxsYwmcGkvwOlFfOqkaS946KRTYYY\
    h0tGZmKHhVFKYHkCgYEAzUiXXDyaXjNiXpUy88S6C8OObfqqyjk1juD2r4vY3JqoQ0j/w8999lpVwjp1vmZuSBo4QxG/VvU52u6rxgA4K3j40yqFngGf\
    DniLp4KhVyHffGY33SglE6DXe6MvPk/2AXsUcidZaorBaOi33cyh/sT4af3Cxht3p6lmS3vTVakCgYEAzOmbPKV39oskqSj83ugRqs8B6+X+UXQ4Z8tc\
    Q3CCm4QV/Wc7BGBDyfJ7jCLYuUWBTBRp6541l0Zw/joVWdtO5P5GBaBB4Y/SOdg/KW0mVHCVistztxIy1zolHpQQ7ag3gQoKgA41+OKiDCDnDVnSyIi1\
    B7XHSD5nkXoyutlkuRkCgYBjyJVKUGr4vyFhuEQ8GbQVY8knzGCYS5atDMzcJ64SDVsc2a75DzK7PM3Sy3fQRRn2Ekim0UmgizLEKJ92b0TeXL8WZeTt\
    GPynnBDGK8khAWYQod8lsQ3UrKoRfxDHyTZbIeieVGIyV6ALzpMRTRaxMC1P1/mFMnTHGqCOsHHZgQKBgAbU7wkJl0NQBkvhgvTHlfc06aJ8y4rZrhu/\
    yvawpJocwELvkyclMn1kKTxV2RXsPFBWCeYCI1VE0vWW6ClTx4CY/aqoWin0CpVFIW33JqUAD+xNtjDvWWSVmrE3TI0v45HYzNrSHniKzc5Ltohaa02m\
    SSrVo6xD8F4ITfKu1s3ZAoGAdZfsyVwvMVaQOMIUqs9iI79fqbTaZeLeF/A5sxvajM56NFh9D8uakqWUFhHtwreIh45NdR9ICbKVxCguW4lLgeRyVyjU\
    rcbmW2HOlyOugBIIrGuYUbHrVP8SC0k8SLKixhTT+99uFJtDy99P2wyhXE2z+dV15DqRXIPprdHs+b0=";

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// As it should be, by the key `es`.
    Es256,
    /// As it should be, by the key `ed`.
    EdDsa,
    /// As it should be, by the key `rs`.
    Rs256,
    /// As it should be, by the same.
    Ps256,
    /// By the key `rs` in the one way, and saying that it was the other.
    PsAsRs,
    /// Not at all, and saying so.
    None,
    /// With the public key as if it were a secret both know.
    Hs256,
    /// By a key that is not the provider's, under the name of one that is.
    Stranger,
    /// By a key that is under no name.
    Unnamed,
}

#[derive(Debug)]
pub(super) struct Keyring {
    es: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    rs: RsaKeyPair,
    stranger: EcdsaKeyPair,
}

impl Keyring {
    /// # Panics
    /// If there is no randomness.
    pub(super) fn new() -> Keyring {
        let random = SystemRandom::new();
        let pair = || {
            let bytes = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes.as_ref(), &random).expect("the same key")
        };
        let ed = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        let ed = Ed25519KeyPair::from_pkcs8(ed.as_ref()).expect("the same key");
        let rs = RsaKeyPair::from_der(&STANDARD.decode(RSA_FOR_TESTS).expect("base64")).expect("the key above");
        Keyring { es: pair(), ed, rs, stranger: pair() }
    }

    /// What everybody may know of them (RFC 7517).
    pub(super) fn published(&self) -> Vec<Value> {
        let (x, y) = self.es.public_key().as_ref()[1..].split_at(32);
        let PublicKeyComponents { n, e }: PublicKeyComponents<Vec<u8>> = self.rs.public().into();
        vec![
            json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "enc", "use": "enc", "alg": "RSA-OAEP" }),
            json!({ "kty": "EC", "crv": "P-256", "x": coded(x), "y": coded(y), "kid": "es", "use": "sig", "alg": "ES256" }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": coded(self.ed.public_key()), "kid": "ed" }),
            json!({ "kty": "RSA", "n": coded(n), "e": coded(e), "kid": "rs", "use": "sig" }),
        ]
    }

    /// A token of these claims.
    pub(super) fn signed(&self, claims: &Value, sign: Sign) -> String {
        let header = match sign {
            Sign::Es256 | Sign::Stranger => json!({ "alg": "ES256", "typ": "JWT", "kid": "es" }),
            Sign::EdDsa => json!({ "alg": "EdDSA", "typ": "JWT", "kid": "ed" }),
            Sign::Rs256 | Sign::PsAsRs => json!({ "alg": "RS256", "typ": "JWT", "kid": "rs" }),
            Sign::Ps256 => json!({ "alg": "PS256", "typ": "JWT", "kid": "rs" }),
            Sign::None => json!({ "alg": "none" }),
            Sign::Hs256 => json!({ "alg": "HS256", "kid": "es" }),
            Sign::Unnamed => json!({ "alg": "ES256", "kid": "nobody's" }),
        };
        let message = format!("{}.{}", coded(header.to_string()), coded(claims.to_string()));
        let (random, bytes) = (SystemRandom::new(), message.as_bytes());
        let by = |pair: &EcdsaKeyPair| pair.sign(&random, bytes).map(|s| s.as_ref().to_vec()).unwrap_or_default();
        let by_rsa = |way: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rs.public().modulus_len()];
            self.rs.sign(way, &random, bytes, &mut signature).expect("a signature");
            signature
        };
        let signature = match sign {
            Sign::Es256 | Sign::Unnamed => by(&self.es),
            Sign::Stranger => by(&self.stranger),
            Sign::EdDsa => self.ed.sign(bytes).as_ref().to_vec(),
            Sign::Rs256 => by_rsa(&RSA_PKCS1_SHA256),
            Sign::Ps256 | Sign::PsAsRs => by_rsa(&RSA_PSS_SHA256),
            Sign::None => Vec::new(),
            Sign::Hs256 => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.es.public_key().as_ref());
                hmac::sign(&key, bytes).as_ref().to_vec()
            }
        };
        format!("{message}.{}", coded(signature))
    }
}
