//! What was promised: every write that somebody was told is safe, and what its author had in front of them.
//!
//! It knows a write by its author's name, `w7`, which stays with it wherever it goes and under whatever number. It computes
//! nothing by the rules of merging: it only knows what went in, and which writes each copy of a record contains.

use std::collections::BTreeMap;

use sync_protocol::id::{FieldName, RecordKey};
use sync_protocol::record::{Change, Op, Record, Stamp, State};
use sync_protocol::value::Value;

/// A set of writes, one bit each. A schedule has fewer than 128.
pub(super) type Writes = u128;

/// How many writes a schedule can have.
pub(super) const WRITES_MAX: u8 = 127;

/// One write.
#[derive(Debug, Clone)]
pub(super) struct Promise {
    /// The record.
    pub(super) key: RecordKey,
    /// What changed.
    pub(super) changes: BTreeMap<FieldName, Change>,
    /// By how much `stock` was to change.
    pub(super) count: i64,
    /// For each field the writes that its author had before them, or that those had replaced.
    pub(super) saw: BTreeMap<FieldName, Writes>,
    /// What was promised.
    pub(super) standing: Standing,
}

/// What was promised about a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing yet: the app waits for its answer.
    Asked,
    /// That it is safe.
    Kept,
    /// Nothing any more: the only copy went with its card, or it was never answered.
    Void,
    /// Nothing any more: a person dropped it from quarantine.
    Dropped,
}

/// All writes of a schedule.
#[derive(Debug, Clone, Default)]
pub(super) struct Oracle {
    promises: BTreeMap<u8, Promise>,
}

/// The bit of one write.
pub(super) fn bit(id: u8) -> Writes {
    1 << id
}

/// The name under which a write is known.
pub(super) fn author(id: u8) -> String {
    format!("w{id}")
}

/// The write of a stamp; `None` if the hub wrote it by itself.
pub(super) fn id_of(stamp: &Stamp) -> Option<u8> {
    stamp.author.as_ref()?.as_str().strip_prefix('w')?.parse().ok()
}

/// The writes in these ops.
pub(super) fn writes<'a>(ops: impl IntoIterator<Item = &'a Op>) -> Writes {
    ops.into_iter().filter_map(|op| id_of(&op.stamp)).fold(0, |all, id| all | bit(id))
}

/// For people: `w1 w5`.
pub(super) fn told(writes: Writes) -> String {
    let names: Vec<_> = (0..=WRITES_MAX).filter(|id| writes & bit(*id) != 0).map(author).collect();
    names.join(" ")
}

impl Oracle {
    pub(super) fn add(&mut self, id: u8, promise: Promise) {
        self.promises.insert(id, promise);
    }

    pub(super) fn set(&mut self, id: u8, standing: Standing) {
        if let Some(promise) = self.promises.get_mut(&id) {
            promise.standing = standing;
        }
    }

    pub(super) fn get(&self, id: u8) -> Option<&Promise> {
        self.promises.get(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (u8, &Promise)> {
        self.promises.iter().map(|(id, promise)| (*id, promise))
    }

    /// The writes of which this was said.
    pub(super) fn with(&self, standing: Standing) -> Writes {
        self.all().filter(|(_, p)| p.standing == standing).fold(0, |all, (id, _)| all | bit(id))
    }

    /// What the author of a write had seen of a field.
    pub(super) fn saw(&self, id: u8, field: &FieldName) -> Writes {
        self.get(id).and_then(|p| p.saw.get(field)).copied().unwrap_or_default()
    }

    /// Whether one of these writes, and not `new`, had seen `old`, so that `old` does not stand in any case.
    pub(super) fn is_replaced_by_another(&self, old: u8, new: u8, field: &FieldName, of: Writes) -> bool {
        let mut others = self.all().filter(|(id, _)| *id != new && of & bit(*id) != 0);
        others.any(|(id, _)| self.saw(id, field) & bit(old) != 0)
    }

    /// For each field of a copy of a record, the writes that are in it or were replaced by one of those. `ops` are all that
    /// may be in it.
    pub(super) fn contained(&self, record: &Record, ops: &[&Op]) -> BTreeMap<FieldName, Writes> {
        record.cells.iter().map(|(name, cell)| (name.clone(), self.contained_in(name, &cell.state, ops))).collect()
    }

    fn contained_in(&self, name: &FieldName, state: &State, ops: &[&Op]) -> Writes {
        let with_ancestors = |id: u8| bit(id) | self.saw(id, name);
        let of = |op: &&Op| if op.changes.contains_key(name) { id_of(&op.stamp) } else { None };
        match state {
            State::Register(entries) => {
                entries.iter().filter_map(|e| id_of(&e.stamp)).fold(0, |all, id| all | with_ancestors(id))
            }
            State::Log(log) => log.entries.iter().filter_map(|(.., v)| number(v)).fold(0, |all, id| all | bit(id)),
            State::Set(set) => {
                let is_in = |op: &&&Op| {
                    let dot = op.stamp.dot;
                    set.clock.get(&dot.writer()).is_some_and(|seq| *seq >= dot.seq.0)
                };
                ops.iter().filter(is_in).filter_map(of).fold(0, |all, id| all | bit(id))
            }
            State::Counter(counter) => {
                let is_in = |op: &&&Op| match (op.changes.get(name), counter.totals.get(&op.stamp.dot.origin)) {
                    (Some(Change::Count { plus, minus }), Some((p, m))) => p >= plus && m >= minus,
                    _ => false,
                };
                ops.iter().filter(is_in).filter_map(of).fold(0, |all, id| all | bit(id))
            }
        }
    }
}

/// The write that made a value such as `v7`.
pub(super) fn number(value: &Value) -> Option<u8> {
    value.as_text()?.get(1..)?.parse().ok()
}
