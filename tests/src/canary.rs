//! Canaries: what the tests hand to the programs as data of people or as secrets, and that must not turn up in a log or a refusal.
//!
//! Every test that starts a program takes part. What goes in through [`process`](crate::process) is noted; when a program ends, its
//! log is searched for all of it.
//!
//! Of a record these are all texts in its values: words of people wherever they stand, and as whole words what has no space in it
//! and is still no ordinary word (names, phone numbers, dates of birth, numbers of identity cards). Left out are words in small
//! letters only, because lists of choices are made of them and so are logs, and what a test has used as the name of a thing (record,
//! type, gateway, scope), or could have (UUIDs): logs may name those.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// Shorter texts are found by accident...
const TEXT_BYTES_MIN: usize = 6;
/// ...and so are shorter words...
const WORD_BYTES_MIN: usize = 4;
/// ...shorter numbers, among counts, ports and times...
const DIGITS_MIN: usize = 7;
/// ...and shorter secrets, such as the six digits of a second factor.
const SECRET_BYTES_MIN: usize = 8;
/// Of the values of one test the first so many are looked for. Of secrets all are, those of other tests as well.
const VALUES_MAX: usize = 2_000;
/// How codes, keys and tokens begin.
const SECRETS_BEGIN: [&str; 4] = ["OP1-", "OPK-", "hub_", "opa_"];

/// By test, which is the name of its thread.
static VALUES: Mutex<BTreeMap<String, BTreeSet<String>>> = Mutex::new(BTreeMap::new());
static SECRETS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
/// Of all tests.
static NAMES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Threads of a test have no name; what they note counts for all.
fn test() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

/// Notes the values in the body of a write.
pub fn note_values(body: &Value) {
    values(body).into_iter().for_each(note);
}

/// Notes the records of a batch: what they are called, and their values.
pub fn note_batch(batch: &Value) {
    let Some(records) = batch.get("records").and_then(Value::as_array) else { return note_values(batch) };
    for record in records {
        ["type", "id"].iter().filter_map(|key| record.get(key)).filter_map(Value::as_str).for_each(note_name);
        record.get("body").into_iter().for_each(note_values);
    }
}

/// Notes what a thing is called: logs may say that.
pub fn note_name(name: &str) {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
}

fn values(body: &Value) -> Vec<String> {
    match body {
        Value::String(text) if is_told(text) => vec![text.clone()],
        Value::Number(number) if number.to_string().len() >= DIGITS_MIN => vec![number.to_string()],
        Value::Array(list) => list.iter().flat_map(values).collect(),
        Value::Object(map) => map.values().flat_map(values).collect(),
        _ => Vec::new(),
    }
}

/// Whether a text tells something of a person by itself.
fn is_told(text: &str) -> bool {
    if text.contains(' ') {
        return text.len() >= TEXT_BYTES_MIN;
    }
    let is_ordinary = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_punctuation());
    let is_number = text.chars().all(|c| c.is_ascii_digit());
    let bytes_min = if is_number { DIGITS_MIN } else { WORD_BYTES_MIN };
    text.len() >= bytes_min && !is_ordinary && !is_uuid(text)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
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

/// A refusal does not repeat what it refuses: words of people, whatever it was that they were sent as.
///
/// # Panics
/// If it does.
pub fn check_refusal(sent: &Value, refusal: &str) {
    check_repeated(values(sent).into_iter().filter(|value| value.contains(' ')), refusal);
}

/// The refusal of a record does not repeat any value of it.
///
/// # Panics
/// If it does.
pub fn check_refused_record(sent: &Value, refusal: &str) {
    check_repeated(values(sent).into_iter().filter(|value| !is_name(value)), refusal);
}

fn check_repeated(mut values: impl Iterator<Item = String>, refusal: &str) {
    let repeated = values.find(|value| is_in(refusal, value));
    assert!(repeated.is_none(), "a refusal repeats {repeated:?}: {refusal}");
}

fn is_name(value: &str) -> bool {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner).contains(value)
}

/// Whether a text has a value in it: as it stands if there is a space in it, else as a word.
fn is_in(text: &str, value: &str) -> bool {
    let is_apart = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    text.match_indices(value).any(|(at, _)| {
        let (before, after) = (text.get(..at).unwrap_or_default(), text.get(at + value.len()..).unwrap_or_default());
        value.contains(' ') || (is_apart(before.chars().next_back()) && is_apart(after.chars().next()))
    })
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
    let told = |canary: &String, is_in: fn(&str, &str) -> bool| {
        let line = text.lines().find(|line| is_in(line, canary)).unwrap_or_default();
        is_in(text, canary).then(|| (canary.clone(), line.to_owned()))
    };
    let secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    let secret = secrets.iter().find_map(|secret| told(secret, |text, secret| text.contains(secret)));
    let values = VALUES.lock().unwrap_or_else(PoisonError::into_inner);
    let of_tests = [test(), String::new()];
    let mut noted = of_tests.iter().filter_map(|test| values.get(test)).flatten().filter(|value| !is_name(value));
    secret.or_else(|| noted.find_map(|value| told(value, is_in)))
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

    #[test]
    fn what_tells_of_a_person_without_a_space_is_found_as_a_word_and_ordinary_words_and_names_are_not() {
        let told = ["Chikondi", "1998-07-21", "0999123456", "MW-77-A12", "Zoé1", "265888001122"];
        let body = json!({
            "name": told[0], "born": told[1], "phones": [told[2]], "card": {"number": told[3]}, "nick": told[4],
            "mobile": 265_888_001_122_u64, "sex": "female", "stage": "2", "count": "2026", "visits": 12,
            "patient": "019c8f2e-7a4b-7000-8000-0123456789ab", "ward": "Ward-7", "facility": "mw/zomba/chingale",
        });
        note_values(&body);
        note_name("Ward-7");
        for value in told {
            let line = format!("INFO saved field={value}, and more");
            assert_eq!(find(&line), Some((value.to_owned(), line.clone())));
            assert_eq!(find(&format!("INFO saved hash=x{value}7")), None, "not as a word of its own");
        }
        let allowed = "female 2 2026 12 019c8f2e-7a4b-7000-8000-0123456789ab Ward-7 mw/zomba/chingale name born";
        assert_eq!(find(allowed), None);
        let batch = json!({"records": [{"type": "Patient", "id": "Patient-1", "body": {"name": "Mphatso"}}]});
        note_batch(&batch);
        assert!(find("Patient/Patient-1").is_none() && find("of Mphatso").is_some());
    }
}
