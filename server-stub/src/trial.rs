//! What other rules would have decided: the recorded history of contested records, merged again under both documents.
//!
//! Only names leave this module, never values: a report can be sent around.

use std::collections::BTreeMap;

use serde::Serialize;
use sync_protocol::edit::render;
use sync_protocol::hub::Snapshot;
use sync_protocol::id::{FieldName, HubSeq, RecordKey};
use sync_protocol::merge::{self, Presence, presence};
use sync_protocol::record::{Cell, Op, Record};
use sync_protocol::rules::Rules;

use crate::error::StoreError;
use crate::store::Tx;

const EXAMPLES_MAX: usize = 5;
const STEP: usize = 500;

/// What a trial found.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// Records in which values had met that did not know of each other.
    pub(crate) contested: u64,
    /// Those that would be shown differently.
    pub(crate) different: u64,
    /// What would be different, by `type.field`.
    pub(crate) fields: BTreeMap<String, Difference>,
    /// Records that would be deleted or not, or be up for review or not, by type.
    pub(crate) presence: BTreeMap<String, Difference>,
    /// Changes that were applied and would now be in quarantine, by type.
    pub(crate) refused: BTreeMap<String, Difference>,
}

/// How often, and where for example.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// Records whose shown value differs.
    pub(crate) shown: u64,
    /// Records in which a conflict would be open that is not.
    pub(crate) opened: u64,
    /// Records in which an open conflict would not be.
    pub(crate) closed: u64,
    /// Some of them.
    pub(crate) examples: Vec<String>,
}

/// Merges everything contested again, under the rules in force and under `new`.
pub(crate) fn run(tx: &mut Tx<'_>, new: &Rules) -> Result<Report, StoreError> {
    let present = tx.rules()?;
    let mut report = Report::default();
    let mut after: Option<RecordKey> = None;
    loop {
        let keys = tx.contested(after.as_ref(), STEP)?;
        let Some(last) = keys.last() else { return Ok(report) };
        after = Some(last.clone());
        for key in keys {
            let ops = applied(tx, &key)?;
            compare(&mut report, &key, &replay(&ops, &present), &present, &replay(&ops, new), new);
        }
    }
}

/// What was applied to a record, in the order in which it was.
fn applied(tx: &mut Tx<'_>, key: &RecordKey) -> Result<Vec<(Op, HubSeq)>, StoreError> {
    let past = tx.history_of(key)?.into_iter().filter(|past| past.applied != HubSeq::NONE);
    let mut ops: Vec<_> = past.map(|past| (past.op, past.applied)).collect();
    ops.sort_by_key(|(_, applied)| *applied);
    Ok(ops)
}

fn replay(ops: &[(Op, HubSeq)], rules: &Rules) -> Record {
    let mut record = Record::default();
    for (op, hseq) in ops {
        // An op that cannot be merged was not merged then either.
        let _ = merge::apply(&mut record, op, *hseq, rules.of(&op.key.record_type));
    }
    record
}

fn compare(report: &mut Report, key: &RecordKey, old: &Record, present: &Rules, new: &Record, rules: &Rules) {
    report.contested += 1;
    let mut differs = false;
    let names: std::collections::BTreeSet<&FieldName> = old.cells.keys().chain(new.cells.keys()).collect();
    for name in names.into_iter().filter(|name| !name.is_reserved()) {
        let (was, is) = (old.cells.get(name), new.cells.get(name));
        let shown = was.and_then(Cell::value) != is.and_then(Cell::value);
        let contested = |cell: Option<&Cell>| cell.is_some_and(|cell| !cell.rivals().is_empty());
        if shown || contested(was) != contested(is) {
            differs = true;
            let entry = report.fields.entry(format!("{}.{name}", key.record_type)).or_default();
            note(entry, key, shown, contested(was), contested(is));
        }
    }
    let state = |record, rules: &Rules| presence(record, rules.of(&key.record_type));
    let (was, is) = (state(old, present), state(new, rules));
    if was != is {
        differs = true;
        let entry = report.presence.entry(key.record_type.to_string()).or_default();
        let shown = (was == Presence::Deleted) != (is == Presence::Deleted);
        note(entry, key, shown, was == Presence::Review, is == Presence::Review);
    }
    let breaks = |record, rules: &Rules| {
        state(record, rules) != Presence::Deleted && !rules.check(&key.record_type, &render(record)).is_empty()
    };
    if breaks(new, rules) && !breaks(old, present) {
        note(report.refused.entry(key.record_type.to_string()).or_default(), key, true, false, false);
    }
    report.different += u64::from(differs);
}

fn note(difference: &mut Difference, key: &RecordKey, shown: bool, was_open: bool, is_open: bool) {
    difference.shown += u64::from(shown);
    difference.opened += u64::from(is_open && !was_open);
    difference.closed += u64::from(was_open && !is_open);
    if difference.examples.len() < EXAMPLES_MAX {
        difference.examples.push(key.to_string());
    }
}
