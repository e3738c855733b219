//! What follows from who a patient is: age, sex, weight.
//!
//! Everything is drawn from the patient's id, so that a patient and all its visits agree, even if different generators
//! made them, and nothing has to be remembered.

use serde_json::Value;

use super::random::Random;

/// The body behind a patient id.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) female: bool,
    /// Age on the day of registration.
    pub(super) age_days: i64,
    weight_tenths: i64,
}

impl Person {
    /// The person with this patient id; always the same.
    pub(super) fn of(patient_id: &str) -> Self {
        let mut random = Random::of_text(patient_id);
        let female = random.chance(58);
        // A clinic sees far more small children than the village has.
        let age_days = match random.between(1, 100) {
            1..=14 => random.between(7, 364),
            15..=38 => random.between(365, 1_824),
            39..=55 => random.between(1_825, 5_474),
            56..=90 => random.between(5_475, 17_000),
            _ => random.between(17_000, 30_000),
        };
        let typical = match age_days {
            ..365 => 33 + age_days / 6,
            365..5_475 => 80 + age_days * 20 / 365,
            _ => 580,
        };
        let weight_tenths = typical + typical * random.between(-18, 18) / 100;
        Self { female, age_days, weight_tenths }
    }

    pub(super) fn age_years(&self) -> i64 {
        self.age_days / 365
    }

    /// Under five: comes with a mother, is vaccinated.
    pub(super) fn is_child(&self) -> bool {
        self.age_years() < 5
    }

    /// The weight on one day, in kg.
    pub(super) fn weight(&self, random: &mut Random) -> Value {
        tenths(self.weight_tenths + random.between(-4, 4))
    }

    /// Heart beats a minute.
    pub(super) fn pulse(&self, hot: bool, random: &mut Random) -> i64 {
        let resting = match self.age_years() {
            0 => random.between(110, 145),
            1..=4 => random.between(95, 130),
            5..=14 => random.between(78, 110),
            _ => random.between(60, 96),
        };
        resting + if hot { random.between(6, 22) } else { 0 }
    }
}

/// Body temperature in degrees Celsius.
pub(super) fn temperature(hot: bool, random: &mut Random) -> Value {
    let (low, high) = if hot { (377, 401) } else { (360, 373) };
    tenths(random.between(low, high))
}

/// The measure `now`, taken again: up to 0.9 more or less, never under 0.1.
pub(super) fn nudged(now: &Value, random: &mut Random) -> Value {
    let count = (now.as_f64().unwrap_or(0.0) * 10.0).round() as i64;
    tenths(count.saturating_add(random.between(-9, 9)).max(1))
}

/// A number with one decimal, written as JavaScript writes it: `36.8`, but `37` and not `37.0`.
pub(super) fn tenths(count: i64) -> Value {
    if count % 10 == 0 { Value::from(count / 10) } else { Value::from(count as f64 / 10.0) }
}
