//! What a rural clinic sees, gives and counts: conditions with ICD-10 codes, medicines, vaccines, supplies, allergens.
//!
//! Plausible, not medical advice: doses and schedules are simplified.

use super::{person::Person, random::Random};

/// For whom a condition or vaccine is likely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Who {
    #[default]
    Anyone,
    Child,
    Adult,
    Woman,
}

impl Who {
    fn fits(self, person: &Person) -> bool {
        match self {
            Self::Anyone => true,
            Self::Child => person.is_child(),
            Self::Adult => person.age_years() >= 15,
            Self::Woman => person.female && (15..=45).contains(&person.age_years()),
        }
    }
}

/// A reason to come to the clinic.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Condition {
    pub(super) code: &'static str,
    pub(super) who: Who,
    /// With fever.
    pub(super) hot: bool,
    pub(super) complaint: &'static str,
    pub(super) medicines: &'static [&'static str],
}

/// The conditions that `person` may have.
pub(super) fn conditions(person: &Person) -> Vec<Condition> {
    CONDITIONS.iter().copied().filter(|one| one.who.fits(person)).collect()
}

const fn condition(
    code: &'static str,
    who: Who,
    hot: bool,
    complaint: &'static str,
    medicines: &'static [&'static str],
) -> Condition {
    Condition { code, who, hot, complaint, medicines }
}

#[rustfmt::skip]
const CONDITIONS: &[Condition] = &[
    condition("B54", Who::Anyone, true, "fever and chills", &["artemether-lumefantrine 20/120 mg", "paracetamol 500 mg"]),
    condition("B50.9", Who::Child, true, "fever and vomiting", &["artesunate 60 mg rectal", "paracetamol 120 mg/5 ml"]),
    condition("J18.9", Who::Child, true, "cough and fast breathing", &["amoxicillin 250 mg dispersible", "zinc 20 mg"]),
    condition("J06.9", Who::Anyone, false, "cough and runny nose", &["paracetamol 500 mg"]),
    condition("A09", Who::Child, false, "watery diarrhoea", &["oral rehydration salts", "zinc 20 mg"]),
    condition("A01.0", Who::Anyone, true, "fever with abdominal pain", &["ciprofloxacin 500 mg", "paracetamol 500 mg"]),
    condition("B65.9", Who::Anyone, false, "blood in the urine", &["praziquantel 600 mg"]),
    condition("B82.9", Who::Child, false, "worms in the stool", &["albendazole 400 mg"]),
    condition("E44.0", Who::Child, false, "poor feeding and weight loss", &["ready-to-use food", "vitamin A 200,000 IU"]),
    condition("H66.9", Who::Child, true, "discharge from the ear", &["amoxicillin 250 mg dispersible"]),
    condition("H10.9", Who::Anyone, false, "red and sticky eyes", &["tetracycline 1 % eye ointment"]),
    condition("L08.9", Who::Anyone, false, "boils on the skin", &["flucloxacillin 250 mg"]),
    condition("B86", Who::Anyone, false, "itching at night", &["benzyl benzoate 25 % lotion", "chlorphenamine 4 mg"]),
    condition("T14.1", Who::Anyone, false, "a cut from a hoe", &["povidone iodine 10 %", "tetanus toxoid 0.5 ml"]),
    condition("T30.0", Who::Child, false, "a burn from hot porridge", &["silver sulfadiazine 1 %", "paracetamol 120 mg/5 ml"]),
    condition("T63.0", Who::Anyone, false, "a snake bite on the foot", &["hydrocortisone 100 mg", "tetanus toxoid 0.5 ml"]),
    condition("Z20.3", Who::Anyone, false, "a dog bite", &["rabies vaccine 0.5 ml", "povidone iodine 10 %"]),
    condition("I10", Who::Adult, false, "headache and dizziness", &["hydrochlorothiazide 25 mg", "amlodipine 5 mg"]),
    condition("E11.9", Who::Adult, false, "thirst and frequent urination", &["metformin 500 mg"]),
    condition("J45.9", Who::Anyone, false, "wheezing at night", &["salbutamol inhaler 100 mcg", "prednisolone 5 mg"]),
    condition("K29.7", Who::Adult, false, "burning stomach pain", &["omeprazole 20 mg", "magnesium trisilicate 250 mg"]),
    condition("M54.5", Who::Adult, false, "low back pain after field work", &["ibuprofen 200 mg"]),
    condition("D50.9", Who::Woman, false, "tiredness and palpitations", &["ferrous sulfate 200 mg", "folic acid 5 mg"]),
    condition("N39.0", Who::Woman, true, "pain on passing urine", &["ciprofloxacin 500 mg"]),
    condition("Z34.9", Who::Woman, false, "antenatal visit", &["ferrous sulfate 200 mg", "sulfadoxine-pyrimethamine 525 mg"]),
    condition("Z30.4", Who::Woman, false, "contraceptive injection due", &["medroxyprogesterone 150 mg"]),
    condition("B20", Who::Adult, false, "collecting the next tablets", &["tenofovir/lamivudine/dolutegravir", "co-trimoxazole 960 mg"]),
    condition("A15.0", Who::Adult, true, "long cough and night sweats", &["rifampicin/isoniazid 150/75 mg"]),
];

/// A vaccine of the national schedule: name, doses, youngest and oldest age in days.
pub(super) type Vaccine = (&'static str, i64, i64, i64);

/// Any medicine that this clinic gives.
pub(super) fn medicine(random: &mut Random) -> &'static str {
    let condition = random.pick(CONDITIONS);
    random.pick(condition.medicines)
}

/// The vaccines that are due at the age of `person`.
pub(super) fn vaccines(person: &Person) -> Vec<Vaccine> {
    let due = |&&(name, _, youngest, oldest): &&Vaccine| {
        (youngest..=oldest).contains(&person.age_days) && (person.female || name != "HPV")
    };
    VACCINES.iter().filter(due).copied().collect()
}

#[rustfmt::skip]
pub(super) const VACCINES: &[Vaccine] = &[
    ("BCG", 1, 0, 364), ("bOPV", 4, 0, 1_824), ("IPV", 2, 98, 1_824), ("DTwP-HepB-Hib", 3, 42, 1_824), ("PCV13", 3, 42, 1_824),
    ("Rotavirus", 2, 42, 729), ("Measles-Rubella", 2, 270, 5_474), ("Malaria R21", 4, 150, 1_824),
    ("Typhoid conjugate", 1, 270, 5_474), ("HPV", 2, 3_285, 5_474), ("Td", 5, 3_650, 40_000), ("COVID-19", 2, 4_380, 40_000),
];

/// How often a medicine is taken.
pub(super) const FREQUENCIES: &[&str] = &["once a day", "twice a day", "3 times a day", "at night"];

/// Medicines of a single dose.
#[rustfmt::skip]
pub(super) const SINGLE_DOSES: &[&str] = &[
    "artesunate 60 mg rectal", "praziquantel 600 mg", "albendazole 400 mg", "vitamin A 200,000 IU", "tetanus toxoid 0.5 ml",
    "hydrocortisone 100 mg", "rabies vaccine 0.5 ml", "sulfadoxine-pyrimethamine 525 mg", "medroxyprogesterone 150 mg",
];

/// What is counted beside medicines and vaccines.
#[rustfmt::skip]
pub(super) const SUPPLIES: &[&str] = &[
    "malaria rapid test", "HIV test kit", "pregnancy test", "disposable syringe 5 ml", "auto-disable syringe 0.5 ml", "safety box",
    "examination gloves M", "cotton wool 500 g", "gauze bandage 10 cm", "giving set", "normal saline 1 l", "dextrose 5 % 1 l",
    "insecticide-treated net", "male condom", "chlorine 1 % solution", "MUAC tape",
];

/// What people react to.
#[rustfmt::skip]
pub(super) const ALLERGENS: &[&str] = &[
    "penicillin", "co-trimoxazole", "sulfadoxine-pyrimethamine", "aspirin", "ibuprofen", "nevirapine", "quinine", "groundnuts",
    "eggs", "bee stings", "latex", "iodine", "fish",
];

/// How bad an allergic reaction was.
pub(super) const SEVERITIES: &[&str] = &["mild", "moderate", "severe"];

/// Where a vaccine is injected.
pub(super) const SITES: &[&str] = &["left thigh", "right thigh", "left upper arm", "right upper arm"];

/// Where a visit stands, in the order in which it advances.
pub(super) const STATUSES: &[&str] = &["draft", "in-progress", "completed"];

/// The professions of those who see patients.
pub(super) const ROLES: &[&str] = &["nurse", "clinical officer", "medical assistant", "HSA", "midwife"];
