//! The small world that every schedule plays in: records, places, rules.

use std::sync::Arc;

use sync_protocol::id::{RecordKey, Scope};
use sync_protocol::rules::Rules;

/// The records.
pub const KEYS: [&str; 5] = ["patient/p0", "patient/p1", "visit/v0", "visit/v1", "form/f0"];

/// Where a patient can belong.
pub const PLACES: [&str; 3] = ["mw/a", "mw/b", "mw/c"];

/// What a gateway can be subscribed to.
pub const VIEWS: [&[&str]; 4] = [&["mw/a"], &["mw/b"], &["mw/a", "mw/b"], &["mw"]];

/// Fields that merge by size: nothing else than the largest, smallest or furthest may be shown.
pub const BY_SIZE: [&str; 3] = ["top", "low", "stage"];

/// Fields that the app fills with a text of its own.
pub const TEXTS: [&str; 5] = ["phone", "first", "fixed", "rank", "note"];

/// Fields that a person settles. Not those by size: what a settlement overruled at the hub, a gateway with an own write on
/// the way still compares with, which costs a repair.
pub const SETTLED: [&str; 5] = ["phone", "alive", "first", "fixed", "rank"];

const RULES: &str = r#"
[types.patient]
scope = "facility"
delete = "PATIENT"
[types.patient.fields]
facility = "lww"
phone = "PHONE"
alive = ALIVE
tags = "set"
log = "append-only"
stock = "counter"
top = "max"
low = "min"
stage = { rule = "ordered", values = [0, 1, 2, 3] }
first = "first-write"
fixed = "immutable"
rank = { rule = "priority", sources = ["hub", "clinic"] }
[types.visit]
stream = "urgent"
scope = { parent = "patient" }
parents = { patient = "patient" }
delete = "edit-wins"
[types.visit.fields]
patient = { rule = "lww", required = true }
log = "append-only"
[types.form]
stream = "bulk"
delete = "delete-wins"
[types.form.fields]
tags = "set"
log = "append-only"
stock = "counter"
"#;

/// A document as it is published.
pub(super) fn rules(nth: usize, version: u32) -> Arc<Rules> {
    Arc::new(Rules::parse(&rules_text(nth, version)).unwrap())
}

/// A document: the first is in force at the beginning, the second does not allow every value, the third merges otherwise.
pub(super) fn rules_text(nth: usize, version: u32) -> String {
    let (patient, phone, alive) = match nth % 3 {
        0 => ("keep-and-review", "lww", "\"keep-both\""),
        1 => ("keep-and-review", "lww", "{ rule = \"keep-both\", one_of = [\"yes\", \"no\"] }"),
        _ => ("edit-wins", "keep-both", "\"lww\""),
    };
    let text = RULES.replace("PATIENT", patient).replace("PHONE", phone).replace("ALIVE", alive);
    format!("version = {version}\n{text}")
}

/// A record's key.
pub(super) fn key(nth: usize) -> RecordKey {
    RecordKey::parse(KEYS[nth % KEYS.len()]).unwrap()
}

/// The scopes of a view.
pub(super) fn scopes(view: usize) -> Vec<Scope> {
    VIEWS[view % VIEWS.len()].iter().map(|scope| Scope::new(scope).unwrap()).collect()
}
