//! Visits: what was found, what was given, and a note.

use serde_json::{Map, Value};

use super::{
    Generated, Generator,
    clinical::{self, Condition, FREQUENCIES, SINGLE_DOSES, STATUSES},
    notes::Note,
    person::{self, Person},
    records::object,
};

impl Generator {
    /// A visit of a patient, with a short note.
    pub fn visit(&mut self, patient_id: &str) -> Generated {
        let id = self.mint();
        let person = Person::of(patient_id);
        let condition = self.random.pick(&clinical::conditions(&person));
        let mut body = self.visit_body(patient_id, &person, condition);
        let bytes = usize::try_from(self.random.between(60, 320)).unwrap_or(0);
        let note = self.about(&person, condition).write(bytes, &mut self.random);
        body.insert("notes".to_owned(), note.into());
        Generated::new("visit", id, body)
    }

    /// All fields of a visit but the note.
    pub(super) fn visit_body(&mut self, patient_id: &str, person: &Person, condition: Condition) -> Map<String, Value> {
        let mut codes = vec![condition.code];
        if self.random.chance(15) {
            let second = self.random.pick(&clinical::conditions(person));
            codes.extend((second.code != condition.code).then_some(second.code));
        }
        let status = match self.random.between(1, 10) {
            1 => 0,
            2..=3 => 1,
            _ => 2,
        };
        let prescribed: Vec<String> = condition.medicines.iter().map(|medicine| self.prescription(medicine)).collect();
        object([
            ("patient", patient_id.into()),
            ("date", self.clock.date(0).into()),
            ("reason", condition.complaint.into()),
            ("diagnosis", codes.into()),
            ("temperature", person::temperature(condition.hot, &mut self.random)),
            ("weight_kg", person.weight(&mut self.random)),
            ("pulse", person.pulse(condition.hot, &mut self.random).into()),
            ("prescribed", prescribed.into()),
            ("status", STATUSES.get(status).copied().unwrap_or_default().into()),
            ("seen_by", self.worker().into()),
            ("facility", self.scope.clone().into()),
        ])
    }

    /// A medicine with how often and how long.
    pub(super) fn prescription(&mut self, medicine: &str) -> String {
        if SINGLE_DOSES.contains(&medicine) {
            return format!("{medicine}, once");
        }
        let frequency = self.random.pick(FREQUENCIES);
        let days = self.random.pick(&[3, 5, 7, 10, 14, 28]);
        format!("{medicine}, {frequency} for {days} days")
    }

    /// The means to write a note about this visit.
    pub(super) fn about<'a>(&self, person: &'a Person, condition: Condition) -> Note<'a> {
        Note { person, condition, place: self.home }
    }
}
