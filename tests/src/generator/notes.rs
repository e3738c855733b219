//! Free-text notes, put together from the sentences and words of [`super::phrases`].

use super::{
    clinical::Condition,
    person::{self, Person},
    phrases::{FINDINGS, OPENINGS, PLANS, words},
    places::Facility,
    random::Random,
};

/// What a note is about.
pub(super) struct Note<'a> {
    pub(super) person: &'a Person,
    pub(super) condition: Condition,
    pub(super) place: Facility,
}

impl Note<'_> {
    /// A note of about `bytes` bytes: an opening, findings, a plan. No sentence pattern comes twice.
    ///
    /// Stops at the sentence end that is nearest to `bytes`, so notes are neither too long nor too short on average.
    pub(super) fn write(&self, bytes: usize, random: &mut Random) -> String {
        let mut note = self.sentence(random.pick(OPENINGS), random);
        let plan = self.sentence(random.pick(PLANS), random);
        let mut findings = FINDINGS.to_vec();
        random.shuffle(&mut findings);
        for pattern in findings {
            let finding = self.sentence(pattern, random);
            let without = note.len() + 1 + plan.len();
            if without + finding.len().div_ceil(2) > bytes {
                break;
            }
            note.push(' ');
            note.push_str(&finding);
        }
        note.push(' ');
        note.push_str(&plan);
        note
    }

    /// One more line under an existing note.
    pub(super) fn finding(&self, random: &mut Random) -> String {
        self.sentence(random.pick(FINDINGS), random)
    }

    fn sentence(&self, pattern: &str, random: &mut Random) -> String {
        let mut sentence = String::with_capacity(2 * pattern.len());
        let mut rest = pattern;
        while let Some((before, after)) = rest.split_once('{') {
            let (slot, behind) = after.split_once('}').unwrap_or((after, ""));
            sentence.push_str(before);
            sentence.push_str(&self.slot(slot, random));
            rest = behind;
        }
        sentence.push_str(rest);
        sentence
    }

    fn pronoun(&self) -> &'static str {
        if self.person.female { "She" } else { "He" }
    }

    /// The words for one slot; with a capital where the slot's name has one.
    fn slot(&self, slot: &str, random: &mut Random) -> String {
        match slot {
            "complaint" => self.condition.complaint.to_owned(),
            "clinic" => self.place.name.to_owned(),
            "hospital" => format!("{} hospital", self.place.city),
            "village" => random.pick(self.place.villages()).to_owned(),
            "given" => self.place.country.given(random.chance(50), random).to_owned(),
            "family" => self.place.country.family(random).to_owned(),
            "Teller" if self.person.is_child() => random.pick(words("teller child")).to_owned(),
            "Teller" => random.pick(&["Patient", "Client", self.pronoun()]).to_owned(),
            "span" => match random.between(1, 4) {
                1 => format!("since {}", random.pick(words("weekday"))),
                2 => format!("for {} weeks", random.between(2, 5)),
                _ => format!("for {} days", random.between(2, 9)),
            },
            "ago" => match random.between(1, 4) {
                1 => format!("last {}", random.pick(words("weekday"))),
                2 => format!("in {}", random.pick(words("month"))),
                _ => format!("{} days ago", random.between(2, 12)),
            },
            "when" => match random.between(1, 4) {
                1 => "tomorrow".to_owned(),
                2 => format!("on {}", random.pick(words("weekday"))),
                _ => format!("in {} days", random.between(2, 14)),
            },
            "number" => random.between(2, 9).to_string(),
            "fever" => person::tenths(random.between(372, 398)).to_string(),
            "hb" => person::tenths(random.between(68, 149)).to_string(),
            "size" => person::tenths(random.between(5, 90)).to_string(),
            "rate" => random.between(16, 58).to_string(),
            "pulse" => random.between(58, 130).to_string(),
            "muac" => random.between(112, 168).to_string(),
            other if other.starts_with(char::is_uppercase) => capital(random.pick(words(&other.to_lowercase()))),
            other => random.pick(words(other)).to_owned(),
        }
    }
}

/// `text` with a capital first letter.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_words() {
        let mut random = Random::new(5);
        let note = Note {
            person: &Person::of("someone"),
            condition: Condition { complaint: "cough", ..Condition::default() },
            place: Facility { city: "Zomba", name: "Chingale Health Centre", ..Facility::default() },
        };
        for pattern in OPENINGS.iter().chain(FINDINGS).chain(PLANS) {
            for slot in pattern.split('{').skip(1).filter_map(|part| part.split('}').next()) {
                assert_ne!(note.slot(slot, &mut random), "", "{slot} in {pattern}");
            }
        }
        assert!(!words("teller child").is_empty());
    }
}
