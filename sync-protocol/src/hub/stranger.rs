//! Writes of another history under numbers of this one: copies of a card give one number to several writes, and what a gateway
//! shows a hub that was put back may be of any of them.

use std::collections::BTreeSet;

use super::{Snapshot, names};
use crate::id::{Dot, FieldName};
use crate::record::{Entry, Op, Record, State};

/// Of the values that stand where an op writes, those that its author cannot know although their numbers are of its origin and
/// come before its own: under these numbers something else arrived here. `tried` are ops that wait with it and were put into the record
/// just before.
pub(super) fn strangers<S: Snapshot>(
    store: &mut S,
    op: &Op,
    record: &Record,
    tried: &BTreeSet<Dot>,
) -> Result<BTreeSet<Dot>, S::Error> {
    let mut doubted = BTreeSet::new();
    for (_, entry) in values(record, |field| op.changes.contains_key(field)) {
        let dot = entry.stamp.dot;
        // What arrived as an op and was applied stands under the number that this had.
        let is_own = dot.origin == op.stamp.dot.origin && !tried.contains(&dot);
        if is_own && store.applied_as(dot)? != Some(entry.stamp.hseq) {
            doubted.insert(dot);
        }
    }
    if !doubted.is_empty() {
        for known in store.writes_of(&op.key)?.iter() {
            if doubted.contains(&known.stamp.dot) && names::wrote_in(known, record) {
                doubted.remove(&known.stamp.dot);
            }
        }
    }
    Ok(doubted)
}

/// The values that stand in registers of some fields.
fn values(record: &Record, is_one: impl Fn(&FieldName) -> bool) -> impl Iterator<Item = (&FieldName, &Entry)> {
    let cells = record.cells.iter().filter(move |(field, _)| is_one(field));
    cells.flat_map(|(field, cell)| {
        let entries = match &cell.state {
            State::Register(entries) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(move |entry| (field, entry))
    })
}
