//! What holds for all records together.

use std::collections::BTreeSet;

use super::*;

fn bytes(records: &[Generated]) -> String {
    records.iter().map(|record| format!("{} {} {}\n", record.record_type, record.id, record.json())).collect()
}

fn some_of_everything(seed: u64) -> Vec<Generated> {
    let mut generator = Generator::new(seed);
    let mut records = generator.clinic_day(50);
    records.extend((0..20).flat_map(|_| [generator.reference_visit(), generator.reference_coded()]));
    let mut edited: Vec<Generated> = records.iter().take(20).cloned().collect();
    for record in &mut edited {
        let (field, value) = generator.edit(&record.body, record.record_type);
        record.body.insert(field.to_owned(), value);
    }
    records.extend(edited);
    records
}

/// The version and the milliseconds of a UUID in its canonical form; none for any other text.
fn parse_uuid(text: &str) -> Option<(u32, u64)> {
    let dashes: Vec<usize> = text.match_indices('-').map(|(at, _)| at).collect();
    let digits: String = text.chars().filter(|sign| *sign != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok()?;
    let well_formed = dashes == [8, 13, 18, 23] && text.len() == 36 && text == text.to_lowercase();
    let variant_rfc = number >> 62 & 0b11 == 0b10;
    let version = u32::try_from(number >> 76 & 0xf).ok()?;
    let millis = u64::try_from(number >> 80).ok()?;
    (well_formed && variant_rfc).then_some((version, millis))
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    assert_eq!(bytes(&some_of_everything(42)), bytes(&some_of_everything(42)));
    assert_ne!(bytes(&some_of_everything(42)), bytes(&some_of_everything(43)));
}

#[test]
fn ids_are_unique_version_7_and_in_order() {
    const OPENING: u64 = 1_772_436_600_000;
    let mut generator = Generator::new(7);
    let mut last = String::new();
    let mut seen = BTreeSet::new();
    while seen.len() < 10_000 {
        for record in generator.clinic_day(200) {
            let parsed = parse_uuid(&record.id);
            assert!(parsed.is_some_and(|(version, millis)| version == 7 && millis > OPENING), "{}", record.id);
            assert!(record.id > last);
            last.clone_from(&record.id);
            assert!(seen.insert(record.id));
        }
    }
    let other = Generator::new(8).clinic_day(200);
    assert!(other.iter().all(|record| !seen.contains(&record.id)));
}

#[test]
fn a_clinic_day_has_every_type_and_parents_first() {
    let day = Generator::new(21).clinic_day(150);
    let mut patients = BTreeSet::new();
    for record in &day {
        let parent = record.body.get("patient").and_then(Value::as_str);
        match record.record_type {
            "patient" => assert!(patients.insert(record.id.as_str())),
            "stock" => assert_eq!(parent, None),
            _ => assert!(parent.is_some_and(|parent| patients.contains(parent))),
        }
    }
    assert_eq!(patients.len(), 150);
    let types: BTreeSet<&str> = day.iter().map(|record| record.record_type).collect();
    assert_eq!(types.len(), 5);
    assert!((300..=420).contains(&day.len()), "{} records", day.len());
}

#[test]
fn every_record_names_its_facility() {
    for scope in facilities().chain(["mw/balaka/utale"]) {
        let mut generator = Generator::at(1, scope);
        assert_eq!(generator.facility(), scope);
        let day = generator.clinic_day(10);
        let elsewhere = |record: &&Generated| record.body.get("facility").and_then(Value::as_str) != Some(scope);
        assert_eq!(day.iter().find(elsewhere), None);
    }
}

#[test]
fn children_are_small_and_have_no_identity_card() {
    let mut generator = Generator::new(4);
    for _ in 0..500 {
        let patient = generator.patient();
        let person = Person::of(&patient.id);
        let visit = generator.visit(&patient.id);
        let weight = visit.body.get("weight_kg").and_then(Value::as_f64).unwrap_or_default();
        if person.is_child() {
            assert!(!patient.body.contains_key("national_id"));
            assert!((2.0..25.0).contains(&weight), "{weight} kg");
        } else {
            assert!((10.0..90.0).contains(&weight), "{weight} kg");
        }
    }
}
