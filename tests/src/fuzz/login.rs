//! A login provider that says anything to the hub: where its endpoints are, its keys, and a token.
//!
//! The first byte of an input says which of the three it is, the others are as they should be. Nobody but `s-1` has a token here,
//! so nobody else may be let in by one; and where an input is the content of a token, it is signed as it should be.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value as Json, json};
use server_stub::{Config, Oidc, Said};

use super::bytes::is_silent;

const ISSUER: &str = "https://id.example.org";
const CLIENT: &str = "hub";
const NONCE: &str = "n";
const SUBJECT: &str = "s-1";
const NOW_SECONDS: i64 = 1_780_000_000;
/// Whether a token is out of date is told by the clock of the machine: 2096.
const EXPIRES_SECONDS: i64 = 4_000_000_000;

static SETTINGS: LazyLock<Oidc> = LazyLock::new(|| {
    let text =
        format!("[oidc]\nissuer = \"{ISSUER}\"\nclient_id = \"{CLIENT}\"\nclient_secret_file = \"/etc/secret\"\n");
    Config::parse(&text).expect("a configuration").oidc
});
static PAIR: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key of as many bytes"));

/// Where the endpoints are.
fn discovery() -> Vec<u8> {
    let at = |path: &str| format!("{ISSUER}/{path}");
    json!({ "issuer": ISSUER, "authorization_endpoint": at("auth"), "token_endpoint": at("token"), "jwks_uri": at("keys") })
        .to_string()
        .into_bytes()
}

/// The keys.
fn keys() -> Vec<u8> {
    let x = URL_SAFE_NO_PAD.encode(PAIR.public_key());
    json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k", "use": "sig", "alg": "EdDSA" }] })
        .to_string()
        .into_bytes()
}

/// Header and claims of a token that is good, a line each.
fn content() -> Vec<u8> {
    let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": "k" });
    let claims = json!({ "iss": ISSUER, "aud": CLIENT, "sub": SUBJECT, "nonce": NONCE, "iat": NOW_SECONDS,
        "exp": EXPIRES_SECONDS, "preferred_username": "s" });
    format!("{header}\n{claims}").into_bytes()
}

/// A token of any content, signed as it should be.
fn signed(content: &[u8]) -> String {
    let at = content.iter().position(|byte| *byte == b'\n').unwrap_or(content.len());
    let [header, claims] =
        [&content[..at], content.get(at + 1..).unwrap_or_default()].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = format!("{header}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(PAIR.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn answer(token: &str) -> Vec<u8> {
    json!({ "id_token": token, "token_type": "Bearer" }).to_string().into_bytes()
}

/// Each of them as it should be, and what a provider says that refuses.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let token = signed(&content());
    let good = Said { discovery: &discovery(), keys: &keys(), answer: (200, &answer(&token)) };
    assert_eq!(judged(good).as_deref(), Some(SUBJECT), "what all begin with lets nobody in");
    let refused = json!({ "error": "invalid_grant" }).to_string().into_bytes();
    let said = [discovery(), keys(), answer(&token), refused, token.into_bytes(), content()];
    (0u8..).zip(said).map(|(which, said)| [&[which][..], &said].concat()).collect()
}

/// One login.
pub(super) fn login(bytes: &[u8]) {
    let Some((which, said)) = bytes.split_first() else { return };
    let (discovery, keys, good) = (discovery(), keys(), answer(&signed(&content())));
    let as_it_should = Said { discovery: &discovery, keys: &keys, answer: (200, &good) };
    match which % 6 {
        0 => is_s_1(Said { discovery: said, ..as_it_should }),
        1 => is_s_1(Said { keys: said, ..as_it_should }),
        2 => is_s_1(Said { answer: (200, said), ..as_it_should }),
        3 => is_s_1(Said { answer: (400, said), ..as_it_should }),
        4 => is_s_1(Said { answer: (200, &answer(&String::from_utf8_lossy(said))), ..as_it_should }),
        _ => {
            let subject = judged(Said { answer: (200, &answer(&signed(said))), ..as_it_should });
            if let Some(subject) = subject {
                is_claimed(said, &subject);
            }
        }
    }
}

fn judged(said: Said<'_>) -> Option<String> {
    SETTINGS.subject(said, NONCE, NOW_SECONDS).inspect_err(|error| is_silent(error)).ok()
}

fn is_s_1(said: Said<'_>) {
    let subject = judged(said);
    assert!(subject.as_deref().is_none_or(|subject| subject == SUBJECT), "{subject:?} is let in without a token");
}

/// Whoever is let in is the one of whom the claims speak, and they speak to this hub, of this login, now.
fn is_claimed(content: &[u8], subject: &str) {
    let at = content.iter().position(|byte| *byte == b'\n').expect("two parts");
    let claims: Json = serde_json::from_slice(&content[at + 1..]).expect("claims that were read");
    let is_for_us = claims["aud"] == CLIENT || claims["aud"].as_array().is_some_and(|all| all.contains(&json!(CLIENT)));
    assert!(claims["sub"] == subject && claims["iss"] == ISSUER && claims["nonce"] == NONCE && is_for_us, "{claims}");
    let seconds = |name: &str| claims[name].as_f64().expect("a time") as i64;
    assert!(seconds("exp") >= NOW_SECONDS - 60 && (seconds("iat") - NOW_SECONDS).abs() <= 660, "{claims}");
}
