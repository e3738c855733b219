//! Merging one op into one record: the decision that both ends must make alike.
//!
//! Causality comes first: a write overrules what its author had seen ([`Stamp::saw`]). Only between writes that did not
//! know of each other does the field's rule decide, and whatever does not win stays beside the winner until a later write
//! or a person overrules it. The clock is asked last.
//!
//! The work on values is done by the types of the `crdts` crate, built from our state for the one step and read back
//! (`register`, `collections`); their own encodings never leave this module.
//!
//! # Invariants
//! - Applying an op twice changes nothing the second time; a dot that comes back with other content is an error.
//! - A value that is replaced, or that did not win, is returned as [`Superseded`] or stays in the cell. None vanishes.
//! - The result depends on record, op, number and rules only. No clock, no randomness, no map order.

mod collections;
mod join;
mod part;
mod register;

use std::cmp::Reverse;
use std::sync::Arc;

pub use join::{Joining, join};
pub use part::{highest, origins, part};

use crate::erase;
use crate::error::MergeError;
use crate::id::{FieldName, HubSeq};
use crate::record::{Cell, Change, Entry, Op, Record, Stamp, State, Touch};
use crate::rules::{DeleteRule, Rule, TypeRules};
use crate::value::Value;

/// A value that is no longer current, or never became so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superseded {
    /// Its field.
    pub field: FieldName,
    /// The value and who wrote it.
    pub entry: Entry,
    /// What stands instead.
    pub by: Arc<Stamp>,
    /// Why.
    pub why: Why,
}

/// Why a value is not current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The author of the new value had seen it: an ordinary change.
    Seen,
    /// The rule decided between values that did not know of each other, or refused a later one.
    Rule,
    /// More than [`crate::limits::VALUES_KEPT_MAX`] values stood in the field.
    Limit,
}

/// What applying an op did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Merged {
    /// Whether anything in the record is different now.
    pub changed: bool,
    /// Values that are no longer current.
    pub superseded: Vec<Superseded>,
}

/// Applies `op` to `record` as the hub's change number `hseq`, or as a not yet confirmed change if that is 0.
///
/// # Errors
/// [`MergeError::DotReused`] if this dot is in the record already with another value. The record is then unchanged.
pub fn apply(record: &mut Record, op: &Op, hseq: HubSeq, rules: &TypeRules) -> Result<Merged, MergeError> {
    apply_among(record, op, hseq, rules, &|_| false)
}

/// [`apply`] where values may stand that are of another history although they have the origin of the op: for these
/// `is_stranger` is true, and neither write can have seen the other.
///
/// # Errors
/// As [`apply`].
pub fn apply_among(
    record: &mut Record,
    op: &Op,
    hseq: HubSeq,
    rules: &TypeRules,
    is_stranger: &dyn Fn(&Stamp) -> bool,
) -> Result<Merged, MergeError> {
    let stamp = Arc::new(Stamp { hseq, ..op.stamp.clone() });
    let mut merged = Merged::default();
    // Put into the record only at the end, when nothing can go wrong any more.
    let mut cells = Vec::with_capacity(op.changes.len());
    for (field, change) in &op.changes {
        if field.as_str() == FieldName::ERASED {
            let named = name_erasure(record, &stamp, change);
            merged.changed |= named.is_some();
            cells.extend(named.map(|cell| (field.clone(), cell)));
            continue;
        }
        let rule = rules.rule(field);
        let before = record.cells.get(field);
        let changed_before = before.map(|c| c.changed).unwrap_or_default();
        let state = before.map(|c| fit(c.state.clone(), rule, c.changed));
        let step = Step { field, stamp: &stamp, rule, changed_before, is_stranger };
        let after = step.run(state, change, &mut merged.superseded)?;
        let is_new = before.map(|c| &c.state) != Some(&after);
        merged.changed |= is_new;
        let changed = if is_new && hseq != HubSeq::NONE { hseq } else { changed_before };
        cells.push((field.clone(), Cell { changed, state: after }));
    }
    record.cells.extend(cells);
    Ok(merged)
}

/// The cell that says which erasure the authors of a record knew of, if this write changes it: the highest number stands, and of
/// those who named it the one with the least marker, so that not every later write changes the cell.
fn name_erasure(record: &Record, stamp: &Arc<Stamp>, change: &Change) -> Option<Cell> {
    let Change::Put { value, .. } = change else { return None };
    let entry = Entry { stamp: Arc::clone(stamp), value: value.clone() };
    let before = record.cells.get(FieldName::ERASED);
    let changed = stamp.hseq.max(before.map(|cell| cell.changed).unwrap_or_default());
    let cell = Cell { changed, state: State::Register(vec![entry]) };
    let order = |cell: &Cell| (erase::said(cell), Reverse(cell.stamp().map(|stamp| stamp.marker())));
    before.is_none_or(|known| order(&cell) > order(known)).then_some(cell)
}

/// One field of one op.
struct Step<'a> {
    field: &'a FieldName,
    stamp: &'a Arc<Stamp>,
    rule: &'a Rule,
    changed_before: HubSeq,
    is_stranger: &'a dyn Fn(&Stamp) -> bool,
}

impl Step<'_> {
    fn run(
        &self,
        state: Option<State>,
        change: &Change,
        superseded: &mut Vec<Superseded>,
    ) -> Result<State, MergeError> {
        // What came before is contained already, and must not look like the last touch again.
        if let Some(known) = state.as_ref().filter(|state| collections::contains(state, self.stamp.dot, change)) {
            return Ok(known.clone());
        }
        match self.rule {
            Rule::Set => Ok(State::Set(self.apply_set(state, change))),
            Rule::AppendOnly => Ok(State::Log(self.apply_log(state, change))),
            Rule::Counter => Ok(State::Counter(self.apply_counter(state, change))),
            _ => {
                let entries = match state {
                    Some(State::Register(entries)) => entries,
                    _ => Vec::new(),
                };
                self.apply_register(entries, change, superseded).map(State::Register)
            }
        }
    }

    /// The touch of a self-merging cell after this write; `before` is that of the cell until now.
    fn touch(&self, before: Option<&Touch>) -> Touch {
        match before {
            Some(touch) if touch.last.dot.origin == self.stamp.dot.origin => {
                Touch { last: self.later(&touch.last), basis: touch.basis }
            }
            Some(touch) => Touch { last: self.later(&touch.last), basis: self.changed_before },
            None => Touch { last: Arc::clone(self.stamp), basis: HubSeq::NONE },
        }
    }

    /// The newer of two stamps by hub order, then clock: a replay of an old op must not look like the last touch.
    fn later(&self, other: &Arc<Stamp>) -> Arc<Stamp> {
        let order = |s: &Stamp| (s.hseq == HubSeq::NONE, s.hseq, s.marker());
        match order(other) > order(self.stamp) {
            true => Arc::clone(other),
            false => Arc::clone(self.stamp),
        }
    }
}

/// Brings a cell into the form that its rule works on. It differs only after the rules of a field were changed.
fn fit(state: State, rule: &Rule, changed: HubSeq) -> State {
    match (rule, &state) {
        (Rule::Set, State::Set(_)) | (Rule::AppendOnly, State::Log(_)) | (Rule::Counter, State::Counter(_)) => state,
        (Rule::Set | Rule::AppendOnly | Rule::Counter, _) => collections::from_values(state, rule),
        (_, State::Register(_)) => state,
        (_, _) => {
            let cell = Cell { changed, state };
            let entry = cell.stamp().map(|stamp| Entry { stamp: Arc::clone(stamp), value: cell.value() });
            State::Register(entry.into_iter().collect())
        }
    }
}

/// Whether a record is there, by the tombstone and the type's delete rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    Alive,
    /// It was deleted by someone who did not know of an edit; it is still there and waits for a person.
    Review,
    /// It is deleted.
    Deleted,
}

/// Tells whether a record is there. Derived from the cells, so it cannot depend on the order in which they came.
pub fn presence(record: &Record, rules: &TypeRules) -> Presence {
    let tombstone = match record.cells.get(FieldName::DELETED).map(|c| &c.state) {
        Some(State::Register(entries)) => entries.iter().find(|e| e.value == Some(Value::Bool(true))),
        _ => None,
    };
    let Some(tombstone) = tombstone else { return Presence::Alive };
    let knew = |stamp: &Stamp| tombstone.stamp.saw(stamp) || stamp.dot == tombstone.stamp.dot;
    // A cell that merges by itself holds the writes of many and names only the last; `basis` tells of the others.
    let knew_all = |cell: &Cell| {
        let others = match &cell.state {
            State::Set(set) => set.touch.basis,
            State::Log(log) => log.touch.basis,
            State::Counter(counter) => counter.touch.basis,
            State::Register(_) => HubSeq::NONE,
        };
        cell.stamps().into_iter().all(|stamp| knew(stamp)) && others <= tombstone.stamp.seen
    };
    let fields = record.cells.iter().filter(|(name, _)| !name.is_reserved());
    let edited_unseen = !fields.map(|(_, cell)| cell).all(knew_all);
    let revived = record.cells.get(FieldName::DELETED).is_some_and(|c| c.value() != Some(Value::Bool(true)));
    match rules.delete {
        DeleteRule::DeleteWins => Presence::Deleted,
        DeleteRule::EditWins if edited_unseen || revived => Presence::Alive,
        DeleteRule::KeepAndReview if edited_unseen || revived => Presence::Review,
        _ => Presence::Deleted,
    }
}
