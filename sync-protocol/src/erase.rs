//! Erasure: the values of a record go everywhere, because a law demands it, and merging goes on being right.
//!
//! The hub gives an erasure a number and tells every gateway of it by a hash of the record's name. A write **knew** of it if it says
//! so itself, in the reserved field [`FieldName::ERASED`]. What did not know of it has lost its values wherever it turns up, however
//! late; what knew of it is the beginning of a new life of the id. Neither clocks nor the hub's numbers are asked: those of a box
//! that was offline for a year may be wrong, and those of a hub that was put back mean something else.
//!
//! # Invariants
//! - An op that was erased keeps its number and its circumstances and has no changes any more. No other op is without changes.
//! - What knew of an erasure is never touched by it.

use crate::id::{FieldName, RecordKey};
use crate::record::{Cell, Change, Op, Record, Stamp};
use crate::value::Value;

/// Key of the hash, so that it cannot be confused with other hashes of the same bytes.
const NAME_CONTEXT: &str = "outpost 2026-11 name of an erased record v1";

/// A hash of the name of a record: whoever does not hold the record does not learn which one it is.
pub type ErasedName = [u8; 16];

/// An erasure as the hub remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Its number: milliseconds since 1970 when it was decided, or more, so that none is given twice, not even by a hub that was put back.
    pub number: u64,
    /// The record.
    pub key: RecordKey,
    /// The number of the erasure that brought it about, because this record belongs to another; its own if people asked for it.
    pub cause: u64,
}

/// An erasure as gateways hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Erased {
    /// Its number.
    pub number: u64,
    /// Which record it is.
    pub name: ErasedName,
}

/// The hash by which gateways know a record that was erased.
pub fn name_of(key: &RecordKey) -> ErasedName {
    let mut hasher = blake3::Hasher::new_derive_key(NAME_CONTEXT);
    for name in [key.record_type.as_str(), key.id.as_str()] {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
    }
    let mut short = ErasedName::default();
    hasher.finalize_xof().fill(&mut short);
    short
}

/// The change by which a write says that it knew of an erasure.
pub fn mark(number: u64) -> Change {
    Change::put(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)))
}

/// Whether a write knew of an erasure of its record.
pub fn knows(op: &Op, number: u64) -> bool {
    let said = match op.changes.get(FieldName::ERASED) {
        Some(Change::Put { value: Some(Value::Int(said)), .. }) => u64::try_from(*said).ok(),
        _ => None,
    };
    said.is_some_and(|said| said >= number)
}

/// Whether all that stands in a record was written by those who knew of an erasure.
pub fn is_after(record: &Record, number: u64) -> bool {
    record.cells.get(FieldName::ERASED).and_then(said).is_some_and(|said| said >= number)
}

/// The number that stands in the cell.
pub(crate) fn said(cell: &Cell) -> Option<u64> {
    match cell.value() {
        Some(Value::Int(said)) => u64::try_from(said).ok(),
        _ => None,
    }
}

/// The number that a write has to name so that it is not taken for one from before: that of its own record, or that of a record it
/// belongs to by the rules, unless what stands in it has named it already. `after` is the record with the write in it.
///
/// # Errors
/// What `erasure` reports.
pub fn number_to_name<E>(
    key: &RecordKey,
    after: &Record,
    parents: &[RecordKey],
    mut erasure: impl FnMut(&RecordKey) -> Result<Option<u64>, E>,
) -> Result<Option<u64>, E> {
    let own = erasure(key)?;
    Ok(own.max(unnamed_parent(after, parents, erasure)?))
}

/// The last erasure of a parent that a record does not name; `None` if there is none.
///
/// # Errors
/// What `erasure` reports.
pub fn unnamed_parent<E>(
    record: &Record,
    parents: &[RecordKey],
    mut erasure: impl FnMut(&RecordKey) -> Result<Option<u64>, E>,
) -> Result<Option<u64>, E> {
    let mut last = None;
    for parent in parents {
        last = last.max(erasure(parent)?.filter(|number| !is_after(record, *number)));
    }
    Ok(last)
}

impl Op {
    /// The op without its values, without the names of its fields, which may be values, and without what a person wrote to settle it.
    #[must_use]
    pub fn erased(&self) -> Op {
        let stamp = Stamp { settles: None, ..self.stamp.clone() };
        Op { stamp, key: self.key.clone(), changes: Default::default() }
    }

    /// Whether its values were erased.
    pub fn is_erased(&self) -> bool {
        self.changes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_different_records_differ_wherever_the_type_ends() {
        let name = |text: &str| name_of(&RecordKey::parse(text).unwrap());
        assert_eq!(name("visit/v1"), name("visit/v1"));
        assert_ne!(name("visit/v1"), name("visit/v2"));
        assert_ne!(name("visit/v1"), name("visi/tv1"));
        assert_eq!(name("visit/v1")[..4], [135, 114, 241, 186]);
    }
}
