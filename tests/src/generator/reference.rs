//! The two reference records of the benchmarks, whose mean sizes are part of their definition.

use super::{
    Generated, Generator, clinical,
    person::{self, Person},
    records::object,
};

/// The mean size of a reference visit, in bytes of compact JSON.
const VISIT_BYTES: i64 = 1_046;

impl Generator {
    /// A visit of 1,046 bytes of compact JSON on average (780 to 1,310), with a long free-text note.
    ///
    /// It refers to one of the last patients that this generator has made; if there is none, to an id of its own making.
    pub fn reference_visit(&mut self) -> Generated {
        let id = self.mint();
        let mut patient_id = self.random.pick(&self.known);
        if patient_id.is_empty() {
            patient_id = self.mint();
        }
        let person = Person::of(&patient_id);
        let condition = self.random.pick(&clinical::conditions(&person));
        let body = self.visit_body(&patient_id, &person, condition);
        let mut visit = Generated::new("visit", id, body);

        // Two draws, so that most are near the middle; the note fills what the other fields leave.
        let size = VISIT_BYTES + self.random.between(-120, 120) + self.random.between(-120, 120);
        let taken = visit.json().len() + r#","notes":"""#.len();
        let bytes = usize::try_from(size).unwrap_or(0).saturating_sub(taken);
        let note = self.about(&person, condition).write(bytes, &mut self.random);
        visit.body.insert("notes".to_owned(), note.into());
        visit
    }

    /// A line of an outpatient register: 16 short coded fields, 400 bytes of compact JSON on average, no free text.
    pub fn reference_coded(&mut self) -> Generated {
        let id = self.mint();
        let person = Person::of(&id);
        let condition = self.random.pick(&clinical::conditions(&person));
        let random = &mut self.random;
        let age_band = match person.age_years() {
            0 => "00-00Y",
            1..=4 => "01-04Y",
            5..=14 => "05-14Y",
            15..=49 => "15-49Y",
            _ => "50-99Y",
        };
        let malaria = matches!(condition.code, "B54" | "B50.9");
        let (test, drug, doses) = match (malaria, condition.hot) {
            (true, _) => ("positive", "ALU-20-120", random.pick(&[6, 12, 18, 24])),
            (_, true) => ("negative", random.pick(&["AMX-250-DT", "CIP-500-TB"]), 10),
            _ => ("not-done", random.pick(&["PCM-500-TB", "ORS-ZN-KIT", "NONE-GIVEN"]), 12),
        };
        let body = object([
            ("facility", self.scope.clone().into()),
            ("health_passport", random.fill("@@####-####").into()),
            ("visit_date", self.clock.date(0).into()),
            ("client_number", random.fill("OP-26-#####").into()),
            ("age_band", age_band.into()),
            ("sex", if person.female { "F" } else { "M" }.into()),
            ("attendance_kind", random.pick(&["first", "first", "again"]).into()),
            ("main_diagnosis", condition.code.into()),
            ("malaria_rapid_test", test.into()),
            ("temperature_celsius", person::temperature(condition.hot, random)),
            ("weight_kg", person.weight(random)),
            ("arm_circumference_mm", random.between(118, 168).into()),
            ("first_drug_code", drug.into()),
            ("doses_given", doses.into()),
            ("visit_outcome", random.pick(&["HOME", "HOME", "HOME", "HOME", "REVW", "REFR"]).into()),
            ("worker_code", format!("HSA-{:03}", random.between(1, 6)).into()),
        ]);
        Generated::new("coded", id, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn mean_bytes(seed: u64, mut make: impl FnMut(&mut Generator) -> Generated) -> f64 {
        let mut generator = Generator::new(seed);
        let bytes: usize = (0..1_000).map(|_| make(&mut generator).json().len()).sum();
        bytes as f64 / 1_000.0
    }

    #[test]
    fn reference_records_have_their_size_at_every_facility() {
        for seed in 0..30 {
            let visit = mean_bytes(seed, Generator::reference_visit);
            assert!((visit / 1_046.0 - 1.0).abs() < 0.03, "seed {seed}: {visit} bytes a visit");
            let coded = mean_bytes(seed, Generator::reference_coded);
            assert!((coded / 400.0 - 1.0).abs() < 0.03, "seed {seed}: {coded} bytes a coded record");
        }
    }

    #[test]
    fn coded_records_have_sixteen_short_fields() {
        let mut generator = Generator::new(8);
        for _ in 0..200 {
            let record = generator.reference_coded();
            assert_eq!(record.body.len(), 16);
            assert!(record.body.values().all(|value| value.to_string().len() <= 30));
        }
    }

    #[test]
    fn notes_use_many_words() {
        let mut generator = Generator::new(9);
        let mut words = BTreeSet::new();
        for _ in 0..500 {
            let visit = generator.reference_visit();
            let note = visit.body.get("notes").and_then(|note| note.as_str()).unwrap_or_default();
            let letters = note.split(|sign: char| !sign.is_alphabetic()).filter(|word| word.len() > 1);
            words.extend(letters.map(str::to_lowercase));
        }
        assert!(words.len() > 300, "{} words", words.len());
    }
}
