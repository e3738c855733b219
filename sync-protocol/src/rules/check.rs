//! Holds a record, as an app sees it, against the checks of its type.
//!
//! Deliberately not here: what to do about a violation. A desk refuses the write; the hub, which must not, notes it.
//!
//! # Invariants
//! - A message never contains a value of the record: messages reach logs and notices, and values are patients' data.
//! - Fields that the document does not name are not looked at.

use serde_json::{Map, Value as Json};

use super::{Check, FieldRules, Kind, Rule, Rules, ScopeKey};
use crate::id::{FieldName, RecordKey, RecordType};
use crate::value::Value;

/// A field that is not as the rules want it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field, in the written form of [`FieldName`].
    pub field: String,
    /// What it must be, to be read after the field's name: `must be at most 500`.
    pub message: String,
}

impl Rules {
    /// Everything in a whole record body that breaks a check: at most one violation a field, in the order of the fields.
    ///
    /// `null` counts as absent. Fields whose rule asks for a form (a list, a whole number, a value of an order) must have it.
    pub fn check(&self, record_type: &RecordType, body: &Map<String, Json>) -> Vec<Violation> {
        let violation = |(name, field): (&FieldName, &FieldRules)| {
            let message = match lookup(body, name) {
                None | Some(Json::Null) => field.required.then(|| "is required".to_owned()),
                Some(json) => field.demand(&Value::from_json(json)),
            };
            message.map(|message| Violation { field: name.to_string(), message })
        };
        self.of(record_type).fields.iter().filter_map(violation).collect()
    }

    /// The records that a body names as its parents.
    ///
    /// A reference is a bare id, `type/id`, or `urn:uuid:id`. References to another type than the declared one, and
    /// those that are not of these forms (such as a URL of another server), are left out.
    pub fn parents(&self, record_type: &RecordType, body: &Map<String, Json>) -> Vec<RecordKey> {
        let parents = self.of(record_type).parents.iter();
        parents.filter_map(|(field, parent)| reference(lookup(body, field)?, parent)).collect()
    }

    /// The one of them in whose scope a record of this type is, if it is where a parent is.
    pub fn place(&self, record_type: &RecordType, body: &Map<String, Json>) -> Option<RecordKey> {
        let rules = self.of(record_type);
        let ScopeKey::Parent(field) = &rules.scope else { return None };
        reference(lookup(body, field)?, rules.parents.get(field)?)
    }

    /// Whether a cell may say which that is, alone or with others.
    pub fn gives_place(&self, record_type: &RecordType, cell: &FieldName) -> bool {
        matches!(&self.of(record_type).scope, ScopeKey::Parent(field) if field.path().first() == cell.path().first())
    }
}

/// The value of a field in a record body, found by walking its path through objects.
pub fn lookup<'a>(body: &'a Map<String, Json>, field: &FieldName) -> Option<&'a Json> {
    let path = field.path();
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(body.get(first)?, |json, key| json.as_object()?.get(key))
}

fn reference(json: &Json, parent: &RecordType) -> Option<RecordKey> {
    let text = match json {
        Json::String(text) => text.as_str(),
        Json::Number(number) => number.as_str(),
        _ => return None,
    };
    let id = match text.split_once('/') {
        Some((stated, id)) if stated.eq_ignore_ascii_case(parent.as_str()) => id,
        Some(_) => return None,
        None => text.strip_prefix("urn:uuid:").unwrap_or(text),
    };
    RecordKey::new(parent.as_str(), id).ok()
}

impl FieldRules {
    /// What a value must be and is not.
    fn demand(&self, value: &Value) -> Option<String> {
        let broken = |kind: Kind| (!kind.holds(value)).then(|| kind.demand().to_owned());
        if let Some(message) = self.rule.kind().and_then(broken) {
            return Some(message);
        }
        match &self.rule {
            Rule::Ordered(values) if !values.contains(value) => Some(must_be_one_of(values)),
            _ => self.check.kind.and_then(broken).or_else(|| self.check.demand(value)),
        }
    }
}

impl Check {
    fn demand(&self, value: &Value) -> Option<String> {
        let Check { kind: _, min, max, one_of, chars_max } = self;
        if let Some(values) = one_of.as_ref().filter(|values| !values.contains(value)) {
            return Some(must_be_one_of(values));
        }
        if let Some(min) = min.as_ref().filter(|min| is_beyond(min, value)) {
            let words = if min.as_text().is_some() { "must not be before" } else { "must be at least" };
            return Some(format!("{words} {}", written(min)));
        }
        if let Some(max) = max.as_ref().filter(|max| is_beyond(value, max)) {
            let words = if max.as_text().is_some() { "must not be after" } else { "must be at most" };
            return Some(format!("{words} {}", written(max)));
        }
        let is_long = |max: &&usize| value.as_text().is_some_and(|text| text.chars().count() > **max);
        chars_max.as_ref().filter(is_long).map(|max| format!("must not be longer than {max} characters"))
    }
}

fn must_be_one_of(values: &[Value]) -> String {
    let words: Vec<String> = values.iter().map(written).collect();
    format!("must be one of {}", words.join(", "))
}

/// A value of the rules document, as it stands in a sentence.
fn written(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => other.to_json().to_string(),
    }
}

/// Whether `value` is larger or later than `limit`. Dates are compared as far as both are known: 2026 is not after 2026-03.
pub(super) fn is_beyond(value: &Value, limit: &Value) -> bool {
    match (value, limit) {
        (Value::Text(a), Value::Text(b)) => a.bytes().zip(b.bytes()).find(|(a, b)| a != b).is_some_and(|(a, b)| a > b),
        _ => value.by_size(limit).is_gt(),
    }
}

impl Rule {
    /// The kind of value that the rule asks for.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Rule::Set | Rule::AppendOnly => Some(Kind::List),
            Rule::Counter => Some(Kind::Integer),
            _ => None,
        }
    }
}

impl Kind {
    /// Whether a value is of this kind.
    pub(super) fn holds(self, value: &Value) -> bool {
        match self {
            Kind::Text => matches!(value, Value::Text(_)),
            Kind::Number => matches!(value, Value::Int(_) | Value::Float(_) | Value::Decimal(_)),
            Kind::Integer => matches!(value, Value::Int(_)),
            Kind::Boolean => matches!(value, Value::Bool(_)),
            Kind::List => matches!(value, Value::List(_)),
            Kind::Object => matches!(value, Value::Map(_)),
            Kind::Date => value.as_text().is_some_and(is_date),
        }
    }

    /// The kind as a demand.
    pub(super) fn demand(self) -> &'static str {
        match self {
            Kind::Text => "must be text",
            Kind::Number => "must be a number",
            Kind::Integer => "must be a whole number",
            Kind::Boolean => "must be true or false",
            Kind::List => "must be a list",
            Kind::Object => "must be a group of fields",
            Kind::Date => "must be a date like 2026-03-14, or 2026-03, or 2026",
        }
    }
}

/// `YYYY`, `YYYY-MM` or `YYYY-MM-DD`, a day that exists.
fn is_date(text: &str) -> bool {
    let part = |digits: &str, len: usize| -> Option<u32> {
        let is_number = digits.len() == len && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.parse().ok())?
    };
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next(), parts.next(), parts.next());
    if parts.next().is_some() {
        return false;
    }
    let Some(year) = year.and_then(|year| part(year, 4)) else { return false };
    let Some(month) = month.map_or(Some(1), |month| part(month, 2)) else { return false };
    let Some(day) = day.map_or(Some(1), |day| part(day, 2)) else { return false };
    (1..=12).contains(&month) && (1..=days(year, month)).contains(&day)
}

/// Days of a month in the Gregorian calendar.
fn days(year: u32, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const RULES: &str = r#"
        version = 1
        [types.patient]
        parents = { mother = "patient", "subject.reference" = "Household", ward = "ward" }
        [types.patient.fields]
        name = { required = true, kind = "text", chars_max = 5 }
        sex = { rule = "keep-both", required = true, one_of = ["female", "male", "other", "unknown"] }
        born = { kind = "date", min = "1900-01-01", max = "2030-06" }
        weight_kg = { min = 0, max = 500.5 }
        dose = { kind = "integer", one_of = [1, 2] }
        alive = { kind = "boolean" }
        allergies = "set"
        log = "append-only"
        visits = "counter"
        status = { rule = "ordered", values = ["draft", "done"] }
        "address.city" = { required = true, kind = "text" }
        address = { kind = "object" }
    "#;

    fn violations(body: serde_json::Value) -> Vec<(String, String)> {
        let rules = Rules::parse(RULES).unwrap();
        let found = rules.check(&RecordType::new("patient").unwrap(), body.as_object().unwrap());
        found.into_iter().map(|v| (v.field, v.message)).collect()
    }

    /// The one message about `field` when it has this value and all else is right; empty if it is right too.
    fn about(field: &str, value: serde_json::Value) -> String {
        let mut body = json!({"name": "Ada", "sex": "female", "address": {"city": "Zomba"}});
        body[field] = value;
        let found = violations(body);
        assert!(found.iter().all(|(name, _)| name.split('.').next() == Some(field)), "{found:?}");
        found.into_iter().map(|(_, message)| message).collect()
    }

    #[test]
    fn absent_and_null_fields_are_missed_where_required() {
        let expected = [("address.city", "is required"), ("name", "is required"), ("sex", "is required")];
        let expected: Vec<_> = expected.iter().map(|(f, m)| (f.to_string(), m.to_string())).collect();
        assert_eq!(violations(json!({"name": null, "address": {"city": null}})), expected);
        assert_eq!(violations(json!({"address": {}})), expected);
    }

    #[test]
    fn messages_say_what_a_value_must_be() {
        for (field, value, expected) in [
            ("name", json!("Adaeze"), "must not be longer than 5 characters"),
            ("name", json!("äöüßé"), ""),
            ("name", json!(5), "must be text"),
            ("sex", json!("secret"), "must be one of female, male, other, unknown"),
            ("born", json!("1899-12-31"), "must not be before 1900-01-01"),
            ("born", json!("2030-07-01"), "must not be after 2030-06"),
            ("born", json!("2030-06-30"), ""),
            ("born", json!("1900"), ""),
            ("born", json!("2023-02-29"), "must be a date like 2026-03-14, or 2026-03, or 2026"),
            ("weight_kg", json!(-0.5), "must be at least 0"),
            ("weight_kg", json!(500.5), ""),
            ("weight_kg", json!(501), "must be at most 500.5"),
            ("weight_kg", json!("70"), "must be a number"),
            ("dose", json!(3), "must be one of 1, 2"),
            ("dose", json!(1.0), ""),
            ("dose", json!(1.5), "must be a whole number"),
            ("alive", json!("yes"), "must be true or false"),
            ("allergies", json!("penicillin"), "must be a list"),
            ("log", json!({}), "must be a list"),
            ("visits", json!(1.5), "must be a whole number"),
            ("status", json!("secret"), "must be one of draft, done"),
            ("status", json!(["draft"]), "must be one of draft, done"),
            ("unknown", json!({"any": "thing"}), ""),
        ] {
            assert_eq!(about(field, value.clone()), expected, "{field} {value}");
        }
    }

    #[test]
    fn a_path_needs_the_object_that_it_goes_through() {
        assert_eq!(about("address", json!("Zomba")), "must be a group of fieldsis required");
        assert_eq!(about("address", json!({"city": 1})), "must be text");
    }

    #[test]
    fn types_that_are_not_named_are_not_checked() {
        let rules = Rules::parse(RULES).unwrap();
        assert!(rules.check(&RecordType::new("visit").unwrap(), json!({"sex": 1}).as_object().unwrap()).is_empty());
    }

    #[test]
    fn parents_are_found_in_every_form_of_reference() {
        let rules = Rules::parse(RULES).unwrap();
        let parents = |body: serde_json::Value| -> Vec<String> {
            let found = rules.parents(&RecordType::new("patient").unwrap(), body.as_object().unwrap());
            found.iter().map(RecordKey::to_string).collect()
        };
        assert_eq!(parents(json!({"mother": "p-1"})), ["patient/p-1"]);
        assert_eq!(parents(json!({"mother": "Patient/p-1"})), ["patient/p-1"]);
        assert_eq!(parents(json!({"mother": 17, "ward": "urn:uuid:0b-1"})), ["patient/17", "ward/0b-1"]);
        assert_eq!(parents(json!({"subject": {"reference": "Household/9", "display": "x"}})), ["Household/9"]);
        for skipped in ["Group/1", "http://x/Patient/1", "Patient/1/_history/2", "#inner", "", "Patient?identifier=1"] {
            assert!(parents(json!({"mother": skipped})).is_empty(), "{skipped}");
        }
        assert!(parents(json!({"mother": null, "subject": "x", "ward": ["a"]})).is_empty());
    }

    #[test]
    fn dates_must_exist() {
        for date in ["2024-02-29", "2000-02-29", "2026-12-31", "2026-03", "0001"] {
            assert!(is_date(date), "{date}");
        }
        for text in [
            "1900-02-29",
            "2026-13",
            "2026-00",
            "2026-04-31",
            "26",
            "2026-3-1",
            "2026-03-14T10:00",
            "2026-",
            "+026",
            "-1-1",
        ] {
            assert!(!is_date(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_message_contains_a_value(secret in "[k-z]{8,20}[A-Z]{4}") {
            let inner = json!({"city": [secret]});
            let body = json!({"name": secret, "sex": secret, "born": secret, "weight_kg": secret, "status": secret,
                "allergies": secret, "visits": secret, "alive": secret, "address": inner});
            for (field, message) in violations(body) {
                prop_assert!(!message.contains(&secret) && !field.contains(&secret));
            }
        }

        #[test]
        fn any_text_can_be_held_against_a_date(text in "\\PC*") {
            is_date(&text);
        }
    }
}
