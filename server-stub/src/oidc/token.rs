//! Whether an ID token proves who somebody is: its signature by ring, and each claim by what it has to be.
//!
//! `jsonwebtoken` takes the token apart, checks the signature by what is installed here, and the times, issuer and audience. What
//! it does not ask for, or takes in more than one form, is asked for here.

use jsonwebtoken::crypto::{CryptoProvider, JwkUtils, JwtVerifier};
use jsonwebtoken::errors::{Error, ErrorKind, new_error};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Validation, decode, decode_header};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde_json::{Map, Value as Json};

use super::keys::{Keys, family};
use super::settings::Oidc;
use crate::secret::is_same;
use crate::staff::is_subject;

/// How far the provider's clock may be from the hub's.
pub(super) const LEEWAY_SECONDS: i64 = 60;
/// A token is asked for, and comes at once: an older one is another's.
const AGE_SECONDS_MAX: i64 = 10 * 60;
const TOKEN_BYTES_MAX: usize = 32 * 1024;

/// Who somebody is at the provider.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) subject: String,
    /// What he is called there, for the name of an account.
    pub(super) name: String,
    /// The values of the claim that gives roles.
    pub(super) values: Vec<String>,
}

/// Why a token proves nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It may have been signed by a key that the provider did not have when it was asked last.
    Key,
    /// What is wrong, in one word.
    Of(&'static str),
}

static RING: CryptoProvider = CryptoProvider {
    // Nothing is signed here.
    signer_factory: |_, _| Err(new_error(ErrorKind::InvalidAlgorithm)),
    verifier_factory: judge,
    jwk_utils: JwkUtils::new_unimplemented(),
};

/// Gives `jsonwebtoken` ring to check by. Once for the process; a second call finds it set, which is as good.
pub(super) fn install() {
    let _ = RING.install_default();
}

struct Judge {
    algorithm: Algorithm,
    key: DecodingKey,
}

fn judge(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    match family(*algorithm) == key.family() {
        true => Ok(Box::new(Judge { algorithm: *algorithm, key: key.clone() })),
        false => Err(new_error(ErrorKind::InvalidKeyFormat)),
    }
}

impl Verifier<Vec<u8>> for Judge {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        use DecodingKeyKind::{RsaModulusExponent, SecretOrDer};
        let judged = match (self.algorithm, self.key.kind()) {
            (Algorithm::RS256, RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            (Algorithm::PS256, RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PSS_2048_8192_SHA256, message, signature)
            }
            (Algorithm::ES256, SecretOrDer(point)) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Algorithm::EdDSA, SecretOrDer(point)) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature)
            }
            _ => Err(ring::error::Unspecified),
        };
        judged.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Judge {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// Who it is, if the token proves it. `nonce` is what the provider was shown for this login, and `now_seconds` the hub's time.
pub(super) fn person(
    token: &str,
    keys: &Keys,
    settings: &Oidc,
    nonce: &str,
    now_seconds: i64,
) -> Result<Person, Doubt> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Doubt::Of("size"));
    }
    // Names of algorithms that are not known, `none` among them, do not get further than this.
    let header = decode_header(token).map_err(|_| Doubt::Of("form"))?;
    if !settings.algorithms.contains(&format!("{:?}", header.alg)) {
        return Err(Doubt::Of("algorithm"));
    }
    // Something that has to be understood, or a token for another purpose that is signed with the same key.
    if header.crit.is_some() || header.typ.as_ref().is_some_and(|kind| !kind.eq_ignore_ascii_case("JWT")) {
        return Err(Doubt::Of("header"));
    }
    let key = keys.find(&header).ok_or(Doubt::Key)?;
    let mut wanted = Validation::new(header.alg);
    wanted.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    wanted.set_issuer(&[&settings.issuer]);
    wanted.set_audience(&[&settings.client_id]);
    wanted.leeway = LEEWAY_SECONDS.unsigned_abs();
    wanted.validate_nbf = true;
    let judged = decode::<Map<String, Json>>(token, key, &wanted).map_err(|error| match error.kind() {
        // It does not say by which key, so it may be by another one than the only one that was known.
        ErrorKind::InvalidSignature if header.kid.is_none() => Doubt::Key,
        kind => Doubt::Of(in_what(kind)),
    })?;
    claimed(&judged.claims, settings, nonce, now_seconds)
}

fn in_what(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "signature",
        ErrorKind::ExpiredSignature => "expired",
        ErrorKind::ImmatureSignature => "time",
        ErrorKind::InvalidIssuer => "issuer",
        ErrorKind::InvalidAudience => "audience",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => "claims",
        _ => "form",
    }
}

/// What is asked of the claims beyond that, each of its one type: a claim of another type is not one that is absent.
fn claimed(claims: &Map<String, Json>, settings: &Oidc, nonce: &str, now_seconds: i64) -> Result<Person, Doubt> {
    let text = |name: &str| claims.get(name).map(|value| value.as_str().ok_or(Doubt::Of("claims"))).transpose();
    if text("iss")? != Some(&settings.issuer) {
        return Err(Doubt::Of("issuer"));
    }
    let audiences = match claims.get("aud") {
        Some(Json::String(_)) => 1,
        Some(Json::Array(all)) if all.iter().all(Json::is_string) => all.len(),
        _ => return Err(Doubt::Of("audience")),
    };
    match text("azp")? {
        Some(party) if party != settings.client_id => return Err(Doubt::Of("audience")),
        None if audiences != 1 => return Err(Doubt::Of("audience")),
        _ => {}
    }
    if !text("nonce")?.is_some_and(|shown| is_same(shown, nonce)) {
        return Err(Doubt::Of("nonce"));
    }
    let issued = claims.get("iat").and_then(Json::as_f64).ok_or(Doubt::Of("claims"))? as i64;
    let age = now_seconds.saturating_sub(issued);
    if !(-LEEWAY_SECONDS..=AGE_SECONDS_MAX + LEEWAY_SECONDS).contains(&age) {
        return Err(Doubt::Of("time"));
    }
    let subject = text("sub")?.filter(|subject| is_subject(subject)).ok_or(Doubt::Of("subject"))?;
    let name = claims.get("preferred_username").and_then(Json::as_str).unwrap_or_default();
    Ok(Person { subject: subject.to_owned(), name: name.to_owned(), values: settings.values(claims) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oidc::signer::{ISSUER, Signer};

    fn judge(signer: &Signer, header: Json, claims: &Json) -> Result<String, Doubt> {
        let token = signer.sign(&header, claims);
        person(&token, &signer.keys(), &signer.settings, "n", signer.now).map(|person| person.subject)
    }

    #[test]
    fn claims_of_another_type_are_not_taken_for_absent_ones() {
        let signer = Signer::new("k");
        let good = signer.claims("n");
        let header = json!({ "alg": "EdDSA", "typ": "JWT" });
        assert_eq!(judge(&signer, header.clone(), &good).as_deref(), Ok("s-1"));
        let late = signer.now - 3_600;
        for (claim, value, doubt) in [
            ("exp", json!("never"), "claims"),
            ("exp", Json::Null, "claims"),
            ("exp", json!(late), "expired"),
            ("nbf", json!("now"), "claims"),
            ("nbf", json!(signer.now + 600), "time"),
            ("iat", json!("now"), "claims"),
            ("iat", json!(late), "time"),
            ("iat", json!(signer.now + 600), "time"),
            ("iss", json!([ISSUER]), "claims"),
            ("iss", json!("https://id.example.org/"), "issuer"),
            ("aud", json!(["hub", "other"]), "audience"),
            ("aud", json!({ "hub": 1 }), "claims"),
            ("aud", json!("other"), "audience"),
            ("azp", json!("other"), "audience"),
            ("azp", json!(["hub"]), "claims"),
            ("nonce", json!("m"), "nonce"),
            ("nonce", json!(["n"]), "claims"),
            ("nonce", Json::Null, "claims"),
            ("sub", json!(""), "subject"),
            ("sub", json!("a\nb"), "subject"),
            ("sub", json!("x".repeat(256)), "subject"),
            ("sub", json!(1), "claims"),
        ] {
            let mut claims = good.clone();
            claims[claim] = value.clone();
            assert_eq!(judge(&signer, header.clone(), &claims), Err(Doubt::Of(doubt)), "{claim}: {value}");
        }
        for absent in ["exp", "iat", "iss", "aud", "nonce", "sub"] {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().remove(absent);
            assert!(judge(&signer, header.clone(), &claims).is_err(), "without {absent}");
        }
        let mut several = good.clone();
        (several["aud"], several["azp"]) = (json!(["hub", "other"]), json!("hub"));
        assert_eq!(judge(&signer, header, &several).as_deref(), Ok("s-1"));
    }

    #[test]
    fn a_token_of_another_kind_or_algorithm_or_that_was_changed_proves_nothing() {
        let signer = Signer::new("k");
        let claims = signer.claims("n");
        for (header, doubt) in [
            (json!({ "alg": "none" }), Doubt::Of("form")),
            (json!({ "alg": "HS256" }), Doubt::Of("algorithm")),
            (json!({ "alg": "RS512" }), Doubt::Of("algorithm")),
            (json!({ "alg": "ES256" }), Doubt::Key),
            (json!({ "alg": "EdDSA", "kid": "other" }), Doubt::Key),
            (json!({ "alg": "EdDSA", "typ": "at+jwt" }), Doubt::Of("header")),
            (json!({ "alg": "EdDSA", "crit": ["b64"] }), Doubt::Of("header")),
        ] {
            assert_eq!(judge(&signer, header.clone(), &claims), Err(doubt), "{header}");
        }
        let header = json!({ "alg": "EdDSA", "kid": "k" });
        let token = signer.sign(&header, &claims);
        let (message, signature) = token.rsplit_once('.').unwrap();
        let mut other = claims.clone();
        other["sub"] = json!("s-2");
        let forged = signer.sign(&header, &other);
        let forged = format!("{}.{signature}", forged.rsplit_once('.').unwrap().0);
        let stripped = format!("{message}.");
        for (token, doubt) in [(forged, "signature"), (stripped, "signature"), ("a.b".to_owned(), "form")] {
            let judged = person(&token, &signer.keys(), &signer.settings, "n", signer.now);
            assert_eq!(judged, Err(Doubt::Of(doubt)), "{token}");
        }
        let others = Signer::new("k").keys();
        assert_eq!(person(&token, &others, &signer.settings, "n", signer.now), Err(Doubt::Of("signature")));
        let silent = signer.sign(&json!({ "alg": "EdDSA" }), &claims);
        assert_eq!(person(&silent, &others, &signer.settings, "n", signer.now), Err(Doubt::Key), "by a newer one?");
        let mut fewer = signer.settings.clone();
        fewer.algorithms = vec!["ES256".to_owned()];
        assert_eq!(person(&token, &signer.keys(), &fewer, "n", signer.now), Err(Doubt::Of("algorithm")));
    }
}
