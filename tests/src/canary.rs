//! Canaries: what the tests hand to the programs as data of people or as secrets, and that must not turn up in a log or a refusal.
//!
//! Every test that starts a program takes part. What goes in through [`process`](crate::process) is noted; when a program ends, its
//! log is searched for all of it. Texts that may be names of things (ids, types, scopes) are left out: logs may name those.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// Shorter values are found by accident...
const VALUE_BYTES_MIN: usize = 6;
/// ...and so are shorter secrets, such as the six digits of a second factor.
const SECRET_BYTES_MIN: usize = 8;
/// Of the values of one test the first so many are looked for. Of secrets all are, those of other tests as well.
const VALUES_MAX: usize = 2_000;
/// How codes, keys and tokens begin.
const SECRETS_BEGIN: [&str; 4] = ["OP1-", "OPK-", "hub_", "opa_"];

/// By test, which is the name of its thread.
static VALUES: Mutex<BTreeMap<String, BTreeSet<String>>> = Mutex::new(BTreeMap::new());
static SECRETS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Threads of a test have no name; what they note counts for all.
fn test() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

/// Notes the values in the body of a write. Only what reads like words of people: with a space in it.
pub fn note_values(body: &Value) {
    values(body).into_iter().for_each(note);
}

fn values(body: &Value) -> Vec<String> {
    match body {
        Value::String(text) if text.len() >= VALUE_BYTES_MIN && text.contains(' ') => vec![text.clone()],
        Value::Array(list) => list.iter().flat_map(values).collect(),
        Value::Object(map) => map.values().flat_map(values).collect(),
        _ => Vec::new(),
    }
}

/// Notes a secret: a code, a token, a key, a passphrase.
pub fn note_secret(secret: &str) {
    if secret.len() >= SECRET_BYTES_MIN {
        SECRETS.lock().unwrap_or_else(PoisonError::into_inner).insert(secret.to_owned());
    }
}

/// Notes the secrets that are handed out or in, by the names of their fields.
pub fn note_secrets(body: &Value) {
    for key in ["code", "token", "secret", "password", "new_password", "recovery_key"] {
        body.get(key).and_then(Value::as_str).into_iter().for_each(note_secret);
    }
}

/// Notes the secrets in what a command prints for people.
pub fn note_printed(text: &str) {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | '(' | ')'));
    words.filter(|word| SECRETS_BEGIN.iter().any(|begin| word.starts_with(begin))).for_each(note_secret);
}

fn note(text: String) {
    let mut noted = VALUES.lock().unwrap_or_else(PoisonError::into_inner);
    let noted = noted.entry(test()).or_default();
    if noted.len() < VALUES_MAX {
        noted.insert(text);
    }
}

/// A refusal does not repeat what it refuses.
///
/// # Panics
/// If it does.
pub fn check_refusal(sent: &Value, refusal: &str) {
    for value in values(sent) {
        assert!(!refusal.contains(&value), "a refusal repeats {value:?}: {refusal}");
    }
}

/// Nothing that was noted is in this text.
///
/// # Panics
/// If something is.
pub fn check(what: &str, text: &str) {
    if let Some((canary, line)) = find(text) {
        panic!("{what} has {canary:?} in it: {line}");
    }
}

/// The first of what was noted that is in a text, and the line.
fn find(text: &str) -> Option<(String, String)> {
    let found = |canary: &String| {
        text.contains(canary.as_str()).then(|| {
            let line = text.lines().find(|line| line.contains(canary.as_str()));
            (canary.clone(), line.unwrap_or_default().to_owned())
        })
    };
    let secret = SECRETS.lock().unwrap_or_else(PoisonError::into_inner).iter().find_map(found);
    let values = VALUES.lock().unwrap_or_else(PoisonError::into_inner);
    let of_tests = [test(), String::new()];
    secret.or_else(|| of_tests.iter().filter_map(|test| values.get(test)).flatten().find_map(found))
}

/// Nothing that was noted is in this log.
///
/// # Panics
/// If something is.
pub fn check_log(log: &Path) {
    let text = std::fs::read(log).unwrap_or_default();
    check(&log.display().to_string(), &String::from_utf8_lossy(&text));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_noted_is_found_however_much_was_noted_before() {
        for n in 0..=VALUES_MAX {
            note_secret(&format!("secret-{n:08}"));
        }
        note_values(&json!({"name": "Asha of the canaries", "more": [{"note": "seen by a canary"}], "id": "p1"}));
        note_secrets(&json!({"code": "ABCD-EFGH", "password": "short"}));
        note_printed("code for a: OP1-CANARY-CODE (good once)\n{\"token\":\"hub_canarytoken\"}");
        for noted in
            ["secret-00000000", "secret-00002000", "of the canaries", "ABCD-EFGH", "OP1-CANARY-CODE", "hub_canarytoken"]
        {
            let text = format!("first line\nname={noted} as it stands\nAsha of the canaries");
            assert!(find(&text).is_some_and(|(canary, _)| text.contains(&canary)), "{noted}");
        }
        assert!(find("seen by a canary").is_some());
        assert!(find("p1 short canary").is_none());
    }
}
