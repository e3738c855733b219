//! Canaries: what the tests hand to the programs as data of people or as secrets, and that must not turn up in a log or a refusal.
//!
//! Every test that starts a program takes part. What goes in through [`process`](crate::process) is noted; when a program ends, its
//! log is searched for all of it. Texts that may be names of things (ids, types, scopes) are left out: logs may name those.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// Shorter texts are found by accident.
const LEAST_BYTES: usize = 6;
/// The first so many are looked for.
const NOTED_MAX: usize = 2_000;

static NOTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Notes the values in the body of a write. Only what reads like words of people: with a space in it.
pub fn note_values(body: &Value) {
    values(body).into_iter().for_each(note);
}

fn values(body: &Value) -> Vec<String> {
    match body {
        Value::String(text) if text.len() >= LEAST_BYTES && text.contains(' ') => vec![text.clone()],
        Value::Array(list) => list.iter().flat_map(values).collect(),
        Value::Object(map) => map.values().flat_map(values).collect(),
        _ => Vec::new(),
    }
}

/// Notes a secret: a code, a token, a key.
pub fn note_secret(secret: &str) {
    if secret.len() >= LEAST_BYTES {
        note(secret.to_owned());
    }
}

/// Notes the secrets in an answer that hands them out.
pub fn note_secrets(answer: &Value) {
    for key in ["code", "token", "secret", "password"] {
        answer.get(key).and_then(Value::as_str).into_iter().for_each(note_secret);
    }
}

fn note(text: String) {
    let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
    if noted.len() < NOTED_MAX {
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
    let noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
    for canary in noted.iter() {
        if let Some(line) = text.lines().find(|line| line.contains(canary.as_str())) {
            let canary = canary.clone();
            drop(noted);
            panic!("{what} has {canary:?} in it: {line}");
        }
    }
}

/// Nothing that was noted is in this log.
///
/// # Panics
/// If something is.
pub fn check_log(log: &Path) {
    let text = std::fs::read(log).unwrap_or_default();
    check(&log.display().to_string(), &String::from_utf8_lossy(&text));
}
