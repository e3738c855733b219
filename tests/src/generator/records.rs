//! One method for each type of record that a clinic makes; visits are in [`super::visits`].

use serde_json::{Map, Value};

use super::{
    Generated, Generator,
    clinical::{self, ALLERGENS, ROLES, SEVERITIES, SITES, SUPPLIES},
    person::Person,
    random::Random,
};

impl Generator {
    /// A newly registered patient, of the home facility. Age and sex follow from the id.
    pub fn patient(&mut self) -> Generated {
        let id = self.mint();
        let person = Person::of(&id);
        let country = self.home.country;
        let random = &mut self.random;
        let village = random.pick(self.home.villages());
        let mut body = object([
            (
                "name",
                object([
                    ("given", country.given(person.female, random).into()),
                    ("family", country.family(random).into()),
                ])
                .into(),
            ),
            ("sex", if person.female { "female" } else { "male" }.into()),
            ("birth_date", self.clock.date(-person.age_days).into()),
            ("village", village.into()),
            ("phone", country.phone(random).into()),
            ("allergies", Value::Array(Vec::new())),
            (
                "address",
                object([
                    ("village", village.into()),
                    ("city", self.home.city.into()),
                    ("chief", random.pick(self.home.chiefs).into()),
                ])
                .into(),
            ),
            ("alive", "alive".into()),
            ("facility", self.scope.clone().into()),
            ("registered_on", self.clock.date(0).into()),
        ]);
        if random.chance(7) {
            let substance = random.pick(ALLERGENS);
            body.insert("allergies".to_owned(), Value::from(vec![substance]));
        }
        if person.age_years() >= 16 && random.chance(55) {
            body.insert("national_id".to_owned(), country.national_id(random).into());
        }
        self.remember(&id);
        Generated::new("patient", id, body)
    }

    /// A vaccine given to a patient, one that is due at its age.
    pub fn immunization(&mut self, patient_id: &str) -> Generated {
        let id = self.mint();
        let person = Person::of(patient_id);
        let (vaccine, doses, _, _) = self.random.pick(&clinical::vaccines(&person));
        let site = match vaccine {
            "bOPV" | "Rotavirus" => "oral",
            _ => self.random.pick(SITES),
        };
        let body = object([
            ("patient", patient_id.into()),
            ("vaccine", vaccine.into()),
            ("dose_number", self.random.between(1, doses).into()),
            ("lot", self.random.fill("@@##@###").into()),
            ("date", self.clock.date(0).into()),
            ("site", site.into()),
            ("given_by", self.worker().into()),
            ("facility", self.scope.clone().into()),
        ]);
        Generated::new("immunization", id, body)
    }

    /// An allergy of a patient.
    pub fn allergy(&mut self, patient_id: &str) -> Generated {
        let id = self.mint();
        let body = object([
            ("patient", patient_id.into()),
            ("substance", self.random.pick(ALLERGENS).into()),
            ("severity", self.random.pick(SEVERITIES).into()),
            ("confirmed", self.random.chance(35).into()),
            ("facility", self.scope.clone().into()),
        ]);
        Generated::new("allergy", id, body)
    }

    /// A batch of a medicine, vaccine or supply on the shelf of the home facility.
    pub fn stock_item(&mut self) -> Generated {
        let id = self.mint();
        let random = &mut self.random;
        let item = match random.between(1, 10) {
            1..=5 => clinical::medicine(random),
            6..=7 => random.pick(clinical::VACCINES).0,
            _ => random.pick(SUPPLIES),
        };
        let min_level = random.between(2, 40) * 10;
        let body = object([
            ("facility", self.scope.clone().into()),
            ("item", item.into()),
            ("batch", random.fill("@@####-##").into()),
            ("expiry", self.clock.date(random.between(-20, 900)).into()),
            ("quantity", random.between(0, min_level * 4).into()),
            ("min_level", min_level.into()),
        ]);
        Generated::new("stock", id, body)
    }

    /// The name and profession of somebody who works here.
    pub(super) fn worker(&mut self) -> String {
        let staff = self.random.between(1, 6);
        // The same few people every day: drawn from the place, not from the stream.
        let mut random = Random::of_text(&format!("{}#{staff}", self.scope));
        let country = self.home.country;
        let given = country.given(random.chance(60), &mut random);
        format!("{given} {}, {}", country.family(&mut random), random.pick(ROLES))
    }
}

/// A JSON object of these fields.
pub(super) fn object<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
