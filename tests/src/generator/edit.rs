//! Plausible changes of one field, for tests of edits and of conflicts.

use serde_json::{Map, Value};

use super::{
    Generator,
    clinical::{self, ALLERGENS, SEVERITIES, SITES},
    person::{self, Person},
};

impl Generator {
    /// A change that somebody could make to one field of `body`: the field's name and its new value, which differs.
    ///
    /// A field that `body` lacks counts as empty. A type that this generator does not make gets a longer `notes`.
    pub fn edit(&mut self, body: &Map<String, Value>, record_type: &str) -> (&'static str, Value) {
        loop {
            let field = self.random.pick(fields(record_type));
            let now = body.get(field).unwrap_or(&Value::Null);
            let value = self.changed(field, now, body);
            if value != *now {
                return (field, value);
            }
        }
    }

    /// A new value for `field`; the same as `now` where this draw has nothing to change.
    fn changed(&mut self, field: &str, now: &Value, body: &Map<String, Value>) -> Value {
        let text = now.as_str().unwrap_or_default();
        let patient_id = body.get("patient").and_then(Value::as_str).unwrap_or_default();
        let person = Person::of(patient_id);
        let condition = self.random.pick(&clinical::conditions(&person));
        let random = &mut self.random;
        match field {
            "alive" if random.chance(10) => "dead".into(),
            "alive" => now.clone(),
            "allergies" => longer(now, random.pick(ALLERGENS)),
            "birth_date" => match text.rsplit_once('-') {
                // Earlier in the month, so that nobody is born in the future.
                Some((month, day)) => {
                    let day = random.between(1, day.parse().unwrap_or(28));
                    format!("{month}-{day:02}").into()
                }
                None => self.clock.date(-random.between(30, 20_000)).into(),
            },
            "confirmed" => (!now.as_bool().unwrap_or(false)).into(),
            "date" => self.clock.date(-random.between(0, 6)).into(),
            "diagnosis" => longer(now, condition.code),
            "dose_number" => random.between(1, 4).into(),
            "doses_given" => random.between(1, 30).into(),
            "expiry" => self.clock.date(random.between(0, 900)).into(),
            "given_by" => self.worker().into(),
            "lot" => random.fill("@@##@###").into(),
            "min_level" => (random.between(2, 40) * 10).into(),
            "arm_circumference_mm" => random.between(118, 168).into(),
            "name" => {
                let female = body.get("sex").and_then(Value::as_str) == Some("female");
                with(now, "given", self.home.country.given(female, random))
            }
            "address" => with(now, "chief", random.pick(self.home.chiefs)),
            "national_id" => self.home.country.national_id(random).into(),
            "visit_outcome" => random.pick(&["HOME", "REVW", "REFR"]).into(),
            "phone" => self.home.country.phone(random).into(),
            "prescribed" => {
                let medicine = random.pick(condition.medicines);
                longer(now, &self.prescription(medicine))
            }
            "pulse" => person.pulse(condition.hot, random).into(),
            "quantity" => now.as_i64().unwrap_or(0).saturating_add(random.between(-30, 30)).max(0).into(),
            "severity" => random.pick(SEVERITIES).into(),
            "site" if text == "oral" => now.clone(),
            "site" => random.pick(SITES).into(),
            "status" => match text {
                "draft" => "in-progress".into(),
                "in-progress" => "completed".into(),
                _ => now.clone(),
            },
            "substance" => random.pick(ALLERGENS).into(),
            "temperature" | "temperature_celsius" => person::temperature(condition.hot, random),
            "village" => random.pick(self.home.villages()).into(),
            "weight_kg" => person::nudged(now, random),
            _ => {
                let finding = self.about(&person, condition).finding(&mut self.random);
                format!("{text} {finding}").trim_start().into()
            }
        }
    }
}

/// The fields that people change, the frequent ones several times.
fn fields(record_type: &str) -> &'static [&'static str] {
    match record_type {
        "patient" => {
            &["phone", "phone", "village", "address", "allergies", "birth_date", "national_id", "name", "alive"]
        }
        "visit" => &["notes", "notes", "status", "prescribed", "diagnosis", "temperature", "weight_kg", "pulse"],
        "immunization" => &["lot", "site", "date", "dose_number", "given_by"],
        "allergy" => &["severity", "confirmed", "substance"],
        "stock" => &["quantity", "quantity", "quantity", "min_level", "expiry"],
        "coded" => &["temperature_celsius", "weight_kg", "arm_circumference_mm", "doses_given", "visit_outcome"],
        _ => &["notes"],
    }
}

/// The list `now` with `item` at its end, if it is not in it yet.
fn longer(now: &Value, item: &str) -> Value {
    let mut list = now.as_array().cloned().unwrap_or_default();
    if !list.iter().any(|one| one.as_str() == Some(item)) {
        list.push(item.into());
    }
    list.into()
}

/// The object `now` with `member` set to `text`.
fn with(now: &Value, member: &str, text: &str) -> Value {
    let mut object = now.as_object().cloned().unwrap_or_default();
    object.insert(member.to_owned(), text.into());
    object.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_edit_changes_one_field_of_any_record() {
        let mut generator = Generator::new(11);
        let mut edited = BTreeSet::new();
        let mut records = generator.clinic_day(40);
        records.extend((0..40).map(|_| generator.reference_coded()));
        for record in &records {
            let mut body = record.body.clone();
            for _ in 0..20 {
                let (field, value) = generator.edit(&body, record.record_type);
                assert!(value != Value::Null);
                assert_ne!(body.insert(field.to_owned(), value.clone()), Some(value));
                edited.insert((record.record_type, field));
            }
            assert!(body.len() <= record.body.len() + 1, "only a national id may be new");
        }
        let types: BTreeSet<&str> = edited.iter().map(|(record_type, _)| *record_type).collect();
        let expected = ["allergy", "coded", "immunization", "patient", "stock", "visit"];
        assert_eq!(types.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(edited.len(), 8 + 7 + 5 + 3 + 3 + 5, "{edited:?}");
    }

    #[test]
    fn an_edit_of_an_unknown_type_writes_a_note() {
        let (field, value) = Generator::new(1).edit(&Map::new(), "referral");
        assert_eq!(field, "notes");
        assert!(value.as_str().is_some_and(|note| !note.is_empty()));
    }
}
