//! A seeded generator of clinical-looking records, for scenarios, simulations and benches.
//!
//! The same seed and the same calls give the same bytes, on every machine, until the word lists change. All people
//! are fictional. The records carry what a rural clinic in Malawi, eastern Zambia or northern Mozambique writes down,
//! as plain JSON.
//!
//! It knows nothing of sync, rules or ops: it plays the health worker's app. It never reads a clock and draws no
//! randomness but the seed's.
//!
//! Invariants: every record has a unique UUIDv7 and a `facility`; ids sort in the order of making; visits,
//! immunizations and allergies name their `patient`.

mod clinical;
mod clock;
mod edit;
mod names;
mod notes;
mod person;
mod phrases;
mod places;
pub(crate) mod random;
mod records;
mod reference;
mod visits;

use serde_json::{Map, Value};

use self::{
    clock::Clock,
    person::Person,
    places::{FACILITIES, Facility},
    random::Random,
};

/// How many patients a generator remembers for [`Generator::reference_visit`].
const KNOWN_MAX: usize = 512;

/// A record as an app would send it.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// `patient`, `visit`, `immunization`, `allergy`, `stock` or `coded`.
    pub record_type: &'static str,
    /// A UUIDv7 in lower case.
    pub id: String,
    /// The fields; neither the id nor the type is among them.
    pub body: Map<String, Value>,
}

impl Generated {
    fn new(record_type: &'static str, id: String, body: Map<String, Value>) -> Self {
        Self { record_type, id, body }
    }

    /// The body as compact JSON, keys in order.
    pub fn json(&self) -> String {
        serde_json::to_string(&self.body).unwrap_or_default()
    }
}

/// A clinic that makes records, at one facility, on a simulated clock that starts at 2026-03-02T07:30:00Z.
#[derive(Clone, Debug)]
pub struct Generator {
    random: Random,
    clock: Clock,
    home: Facility,
    scope: String,
    known: Vec<String>,
}

impl Generator {
    /// A generator at a facility that the seed chooses.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let home = random.pick(FACILITIES);
        Self { random, clock: Clock::new(), home, scope: home.scope.to_owned(), known: Vec::new() }
    }

    /// A generator at the facility of this scope path, such as `mw/zomba/chingale`.
    ///
    /// Any path will do: one that is not among [`facilities`] gets the villages of a facility that the seed chooses.
    pub fn at(seed: u64, scope: &str) -> Self {
        let mut generator = Self::new(seed);
        if let Some(facility) = FACILITIES.iter().find(|facility| facility.scope == scope) {
            generator.home = *facility;
        }
        generator.scope = scope.to_owned();
        generator
    }

    /// The scope path of the facility, as in the field `facility` of each record.
    pub fn facility(&self) -> &str {
        &self.scope
    }

    /// A clinic day: the morning's stock count, then `patients` newly registered people, each followed by a visit, a
    /// vaccine or both, some by an allergy. About 2.3 records a patient.
    ///
    /// Several desks work at once, so children of one patient come between those of others, but never before their
    /// patient. Begins at the next opening of the doors; more than about 180 patients run into the days after.
    pub fn clinic_day(&mut self, patients: usize) -> Vec<Generated> {
        self.clock.start_day();
        let shelves = self.random.between(3, 6);
        let mut day: Vec<Generated> = (0..shelves).map(|_| self.stock_item()).collect();
        let mut waiting: Vec<String> = Vec::new();
        for _ in 0..patients {
            let patient = self.patient();
            waiting.push(patient.id.clone());
            day.push(patient);
            let queue = usize::try_from(self.random.between(0, 4)).unwrap_or(0);
            while waiting.len() > queue {
                let next = waiting.remove(0);
                self.consultation(&next, &mut day);
            }
        }
        for next in waiting {
            self.consultation(&next, &mut day);
        }
        day
    }

    /// What the clinic writes down for one patient.
    fn consultation(&mut self, patient_id: &str, day: &mut Vec<Generated>) {
        let vaccinated = self.random.chance(if Person::of(patient_id).is_child() { 65 } else { 12 });
        if vaccinated {
            day.push(self.immunization(patient_id));
        }
        if !vaccinated || self.random.chance(60) {
            day.push(self.visit(patient_id));
        }
        if self.random.chance(8) {
            day.push(self.allergy(patient_id));
        }
    }

    /// The next id: the clock goes on.
    fn mint(&mut self) -> String {
        self.clock.advance(&mut self.random);
        self.clock.uuid(&mut self.random)
    }

    fn remember(&mut self, patient_id: &str) {
        if self.known.len() >= KNOWN_MAX {
            self.known.remove(0);
        }
        self.known.push(patient_id.to_owned());
    }
}

/// The scope paths of all facilities that the generator knows.
pub fn facilities() -> impl Iterator<Item = &'static str> {
    FACILITIES.iter().map(|facility| facility.scope)
}

#[cfg(test)]
mod tests;
