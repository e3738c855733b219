//! Fields decided by one value: a multi-value register (`crdts::MVReg`) in which the rule picks what is shown.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use crdts::mvreg::{MVReg, Op as PutOp};
use crdts::{CmRDT, CvRDT, LWWReg, VClock};

use super::{Step, Superseded, Why};
use crate::error::MergeError;
use crate::id::{Dot, FieldName, HubSeq};
use crate::limits::VALUES_KEPT_MAX;
use crate::record::{Change, Entry, Marker, Stamp};
use crate::rules::Rule;
use crate::value::Value;

impl Step<'_> {
    pub(super) fn apply_register(
        &self,
        entries: Vec<Entry>,
        change: &Change,
        superseded: &mut Vec<Superseded>,
    ) -> Result<Vec<Entry>, MergeError> {
        let (value, unseen) = match change {
            Change::Put { value, unseen } => (value.clone(), unseen.as_slice()),
            other => (plain_value(other), [].as_slice()),
        };
        let incoming = Entry { stamp: Arc::clone(self.stamp), value };
        let known = entries.iter().position(|e| e.stamp.dot == incoming.stamp.dot);
        if known.and_then(|at| entries.get(at)).is_some_and(|known| known.value != incoming.value) {
            return Err(MergeError::DotReused(incoming.stamp.dot));
        }
        let saw = |e: &Entry| self.is_comparable(e) && incoming.stamp.saw(&e.stamp) && !unseen.contains(&e.stamp.dot);
        // By size, having seen a value is no reason to overrule it: the largest ever written stays the largest.
        let overrules = |e: &&Entry| saw(e) && (!self.merges_by_size() || self.stamp.settles.is_some());
        if known.is_some() {
            // It came as a value before, of which nobody could tell all that its author had seen.
            let (gone, mut stand): (Vec<Entry>, Vec<Entry>) = entries
                .into_iter()
                .partition(|e| e.stamp.dot != incoming.stamp.dot && overrules(&e) && !self.may_not_replace(e));
            for entry in stand.iter_mut().filter(|e| e.stamp.dot == incoming.stamp.dot) {
                let seen = entry.stamp.seen.max(incoming.stamp.seen);
                entry.stamp = Arc::new(Stamp { seen, ..Stamp::clone(&entry.stamp) });
            }
            let other = gone.into_iter().filter(|entry| entry.value != incoming.value);
            superseded.extend(other.map(|entry| self.lost(entry, self.stamp, Why::Seen)));
            return Ok(stand);
        }
        let too_late = entries.iter().find(|e| {
            (self.is_comparable(e) && e.stamp.saw(&incoming.stamp))
                || (saw(e) && self.may_not_replace(e))
                || (!saw(e) && self.is_blind_move())
        });
        if let Some(standing) = too_late {
            superseded.push(self.lost(incoming.clone(), &standing.stamp, Why::Rule));
            return Ok(entries);
        }
        let seen: Vec<Dot> = entries.iter().filter(overrules).map(|e| e.stamp.dot).collect();
        for entry in entries.iter().filter(|e| seen.contains(&e.stamp.dot)) {
            if entry.value != incoming.value {
                superseded.push(self.lost(entry.clone(), self.stamp, Why::Seen));
            }
        }
        if seen.len() == entries.len() {
            // Nothing that stands is concurrent: the new value is alone, and there is nothing to put in order.
            return Ok(vec![incoming]);
        }
        let mut current = current_values(&entries, &incoming, &seen);
        self.sort(&mut current)?;
        let keep = if self.merges_by_size() { 1 } else { VALUES_KEPT_MAX };
        let why = if self.merges_by_size() { Why::Rule } else { Why::Limit };
        let winner = current.first().map_or_else(|| Arc::clone(self.stamp), |e| Arc::clone(&e.stamp));
        for entry in current.split_off(keep.min(current.len())) {
            superseded.push(self.lost(entry, &winner, why));
        }
        Ok(current)
    }

    fn is_comparable(&self, standing: &Entry) -> bool {
        standing.stamp.dot.origin != self.stamp.dot.origin || !(self.is_stranger)(&standing.stamp)
    }

    fn lost(&self, entry: Entry, by: &Arc<Stamp>, why: Why) -> Superseded {
        Superseded { field: self.field.clone(), entry, by: Arc::clone(by), why }
    }

    /// Whether the rule keeps a standing value although the author of the new one had seen it. A settlement overrules any rule.
    fn may_not_replace(&self, standing: &Entry) -> bool {
        if self.stamp.settles.is_some() {
            return false;
        }
        match self.rule {
            Rule::FirstWrite | Rule::Immutable => true,
            Rule::Priority(order) => rank(order, standing) < rank(order, &self.as_entry()),
            _ => false,
        }
    }

    /// A gateway that did not hold the record cannot have meant to move it: what it takes for a new record may be one
    /// that had left its catchment. The scope that stands stays.
    fn is_blind_move(&self) -> bool {
        self.stamp.seen == HubSeq::NONE && self.field.as_str() == FieldName::SCOPE
    }

    fn as_entry(&self) -> Entry {
        Entry { stamp: Arc::clone(self.stamp), value: None }
    }

    /// Rules under which the losing value is merged, not in conflict.
    fn merges_by_size(&self) -> bool {
        matches!(self.rule, Rule::Max | Rule::Min | Rule::Ordered(_))
    }

    /// Puts what the rule prefers first. The order is total, so both ends arrive at the same bytes.
    fn sort(&self, entries: &mut [Entry]) -> Result<(), MergeError> {
        match self.rule {
            Rule::FirstWrite | Rule::Immutable => entries.sort_by_key(|e| e.stamp.marker()),
            Rule::Priority(order) => entries.sort_by_key(|e| (rank(order, e), Reverse(e.stamp.marker()))),
            Rule::Max => entries.sort_by(|a, b| by_size(b, a, |b, a| b.by_size(a))),
            Rule::Min => entries.sort_by(|a, b| by_size(b, a, |b, a| a.by_size(b))),
            Rule::Ordered(order) => entries.sort_by_key(|e| Reverse((place(order, e), e.stamp.marker()))),
            _ => {
                entries.sort_by_key(|e| Reverse(e.stamp.marker()));
                return check_winner(entries);
            }
        }
        Ok(())
    }
}

/// The values that nobody has overruled: `entries` without those that `incoming` had seen, and `incoming`.
///
/// What a write had seen becomes its vector clock, with every dot an actor of its own; `MVReg` does the rest.
fn current_values(entries: &[Entry], incoming: &Entry, seen: &[Dot]) -> Vec<Entry> {
    let mut register: MVReg<Entry, Dot> = MVReg::new();
    for entry in entries {
        register.apply(PutOp::Put { clock: clock_of([entry.stamp.dot]), val: entry.clone() });
    }
    let clock = clock_of(seen.iter().copied().chain([incoming.stamp.dot]));
    register.apply(PutOp::Put { clock, val: incoming.clone() });
    register.read().val
}

fn clock_of(dots: impl IntoIterator<Item = Dot>) -> VClock<Dot> {
    dots.into_iter().map(|dot| crdts::Dot::new(dot, 1)).collect()
}

/// Folds the values into a `LWWReg`, which must arrive at the first: the crate diverges silently on an equal marker
/// with another value, so each step is validated. Such a pair means that two gateways write under one identity.
fn check_winner(entries: &[Entry]) -> Result<(), MergeError> {
    let mut registers = entries.iter().map(|e| LWWReg::<_, Marker> { val: &e.value, marker: e.stamp.marker() });
    let Some(mut winner) = registers.next() else { return Ok(()) };
    for register in registers {
        winner.validate_merge(&register).map_err(|_| MergeError::DotReused(register.marker.1))?;
        winner.merge(register);
    }
    Ok(())
}

/// Place of the entry's source in a priority list; sources that are not listed come last.
fn rank(order: &[crate::id::Source], entry: &Entry) -> usize {
    order.iter().position(|s| *s == entry.stamp.source).unwrap_or(order.len())
}

/// Place in an ordered enum; values outside of it come before all.
fn place(order: &[Value], entry: &Entry) -> Option<usize> {
    order.iter().position(|v| Some(v) == entry.value.as_ref())
}

/// Orders two entries for `max` and `min`: by size, then marker. A removed field yields to any value.
fn by_size(a: &Entry, b: &Entry, size: impl Fn(&Value, &Value) -> Ordering) -> Ordering {
    let order = match (&a.value, &b.value) {
        (Some(a), Some(b)) => size(a, b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    };
    order.then_with(|| a.stamp.marker().cmp(&b.stamp.marker()))
}

/// What a change made under other rules means for a register.
fn plain_value(change: &Change) -> Option<Value> {
    match change {
        Change::Put { value, .. } => value.clone(),
        Change::Members { add, .. } => Some(Value::List(add.clone())),
        Change::Append(values) => Some(Value::List(values.clone())),
        Change::Count { plus, minus } => Some(Value::Int((i128::from(*plus) - i128::from(*minus)) as i64)),
    }
}
