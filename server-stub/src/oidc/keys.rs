//! The provider's public keys (JWK set, RFC 7517): those that are for signatures which can be checked here; all others are passed over.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header};
use serde::Deserialize;
use serde_json::Value as Json;

/// More keys are no provider's.
const KEYS_MAX: usize = 64;

#[derive(Deserialize)]
struct Set {
    keys: Vec<Json>,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// The only algorithm that it is for, if it says so.
    algorithm: Option<String>,
    key: DecodingKey,
}

/// Keys by which tokens are judged.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// Reads a set; `None` if it is none.
    pub(super) fn parse(text: &[u8]) -> Option<Keys> {
        let Set { keys } = serde_json::from_slice(text).ok()?;
        if keys.len() > KEYS_MAX {
            return None;
        }
        // Each by itself: one that nobody here knows must not hide the others.
        Some(Keys(keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).filter_map(usable).collect()))
    }

    /// The key that a token says it was signed with. One that does not say fits if there is only one.
    pub(super) fn find(&self, header: &Header) -> Option<&DecodingKey> {
        let algorithm = format!("{:?}", header.alg);
        let is_for = |key: &&Key| {
            family(header.alg) == key.key.family() && key.algorithm.as_ref().is_none_or(|only| *only == algorithm)
        };
        let mut fitting = self.0.iter().filter(is_for);
        match &header.kid {
            Some(id) => fitting.find(|key| key.id.as_ref() == Some(id)).map(|key| &key.key),
            None => fitting.next().filter(|_| fitting.next().is_none()).map(|key| &key.key),
        }
    }
}

/// Which keys an algorithm is used with.
pub(super) fn family(algorithm: Algorithm) -> AlgorithmFamily {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => AlgorithmFamily::Hmac,
        Algorithm::ES256 | Algorithm::ES384 => AlgorithmFamily::Ec,
        Algorithm::EdDSA => AlgorithmFamily::Ed,
        _ => AlgorithmFamily::Rsa,
    }
}

fn usable(jwk: Jwk) -> Option<Key> {
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let key = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            // Some write a zero before the number, which ring takes for another way to write the key, and refuses.
            let number = |text: &str| -> Option<Vec<u8>> {
                Some(URL_SAFE_NO_PAD.decode(text).ok()?.into_iter().skip_while(|byte| *byte == 0).collect())
            };
            DecodingKey::from_rsa_raw_components(&number(&rsa.n)?, &number(&rsa.e)?)
        }
        AlgorithmParameters::EllipticCurve(point) if point.curve == EllipticCurve::P256 => {
            DecodingKey::from_ec_components(&point.x, &point.y).ok()?
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            DecodingKey::from_ed_components(&pair.x).ok()?
        }
        // A secret that both know has no place among public keys.
        _ => return None,
    };
    let algorithm = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
    Some(Key { id: jwk.common.key_id, algorithm, key })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn header(algorithm: Algorithm, id: Option<&str>) -> Header {
        Header { kid: id.map(str::to_owned), ..Header::new(algorithm) }
    }

    #[test]
    fn only_keys_for_signatures_that_are_known_are_kept() {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        let set = json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "x": x, "y": x, "kid": "a", "use": "sig", "alg": "ES256" },
            { "kty": "EC", "crv": "P-256", "x": x, "y": x, "kid": "enc", "use": "enc" },
            { "kty": "EC", "crv": "secp256k1", "x": x, "y": x, "kid": "k1" },
            { "kty": "oct", "k": x, "kid": "shared" },
            { "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "ed" },
            { "kty": "new", "z": 1, "kid": "new" },
            { "kty": "RSA", "n": "AAEB", "e": "AQAB", "kid": "rsa", "alg": "PS256" },
            7,
        ] });
        let keys = Keys::parse(set.to_string().as_bytes()).unwrap();
        let ids: Vec<_> = keys.0.iter().filter_map(|key| key.id.as_deref()).collect();
        assert_eq!(ids, ["a", "ed", "rsa"]);
        let found = |algorithm, id| keys.find(&header(algorithm, id)).is_some();
        assert!(
            found(Algorithm::ES256, Some("a")) && found(Algorithm::ES256, None) && found(Algorithm::EdDSA, Some("ed"))
        );
        assert!(!found(Algorithm::ES256, Some("ed")) && !found(Algorithm::HS256, Some("a")));
        assert!(
            !found(Algorithm::RS256, Some("rsa")) && found(Algorithm::PS256, Some("rsa")),
            "a key is for what it says"
        );
        assert!(!found(Algorithm::HS256, None));
        let many: Vec<_> = (0..=KEYS_MAX).map(|n| json!({ "kty": "oct", "k": "AA", "kid": n.to_string() })).collect();
        assert!(Keys::parse(json!({ "keys": many }).to_string().as_bytes()).is_none());
        assert!(Keys::parse(b"[]").is_none());
    }

    #[test]
    fn a_token_without_a_key_id_does_not_choose_between_two() {
        let key = |x: u8| json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([x; 32]), "kid": x.to_string() });
        let two = Keys::parse(json!({ "keys": [key(1), key(2)] }).to_string().as_bytes()).unwrap();
        assert!(two.find(&header(Algorithm::EdDSA, None)).is_none());
        assert!(two.find(&header(Algorithm::EdDSA, Some("2"))).is_some());
    }
}
