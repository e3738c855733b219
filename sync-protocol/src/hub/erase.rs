//! Erasing what is known of a record, and of those that belong to it.
//!
//! # Invariants
//! - Numbers, chains and what has been acknowledged stay as they are; of what was written the hash is kept, so that a repeat is known.
//! - An op that did not know of the erasure has lost its values before it is stored, and its sender is told that it was dropped.
//! - What belongs to an erased record and was not here yet goes with it when it comes. A record that was here on its own is never erased
//!   because somebody says now that it belongs to one: that waits for a person. So it is if a write of it waits in quarantine.

use std::collections::BTreeMap;

use super::judge::{log_news, try_on};
use super::own::hub_op;
use super::{Arrived, HeldOp, Snapshot, Store};
use crate::digest::op_hash;
use crate::erase::{self, Erasure, is_after, knows, mark, unnamed_parent};
use crate::id::{Device, FieldName, RecordKey};
use crate::merge;
use crate::payload::News;
use crate::record::{Change, Op, Record};
use crate::rules::Rules;
use crate::value::Value;

/// Why an op is dropped that did not know of an erasure.
const ERASED: &str = "this record was erased at the centre; what was written without knowing that was dropped";

/// What an erasure came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wiped {
    /// Records.
    pub records: u64,
    /// Ops in the history that lost their values.
    pub ops: u64,
    /// Those of them that were in quarantine.
    pub held: u64,
}

/// A record and what belongs to it by the rules, and to that, and so on; also what waits in quarantine and is not here otherwise.
///
/// # Errors
/// What the store reports.
pub fn family<S: Store>(store: &mut S, key: &RecordKey) -> Result<Vec<RecordKey>, S::Error> {
    let rules = store.rules()?;
    let waiting = store.all_held()?;
    let (mut all, mut looked) = (vec![key.clone()], 0);
    while let Some(parent) = all.get(looked).cloned() {
        looked += 1;
        for child in store.dependants(&parent)? {
            if !all.contains(&child) {
                all.push(child);
            }
        }
        for (child, origin) in &waiting {
            if !all.contains(child) && store.record(child)?.is_none() {
                let held = store.held_of(child, *origin)?;
                if names(store, &held, &parent, &rules)? {
                    all.push(child.clone());
                }
            }
        }
    }
    Ok(all)
}

/// Whether ops in quarantine make a record that belongs to this one.
fn names<S: Store>(store: &mut S, held: &[HeldOp], parent: &RecordKey, rules: &Rules) -> Result<bool, S::Error> {
    let trial: Vec<_> = held.iter().map(|held| (&held.op, held.hseq)).collect();
    Ok(try_on(store, &trial, rules)?.is_some_and(|applied| applied.parents.contains(parent)))
}

/// Erases a record with all that belongs to it. `number` is the least number that the erasure may get; it gets one that is above all others.
///
/// # Errors
/// What the store reports; the caller rolls back then.
pub fn erase<S: Store>(store: &mut S, key: &RecordKey, number: u64) -> Result<(u64, Wiped), S::Error> {
    let cause = number.max(store.last_erasure()?.saturating_add(1));
    let mut wiped = Wiped::default();
    for (nth, key) in (0..).zip(family(store, key)?) {
        carry_out(store, &Erasure { number: cause.saturating_add(nth), key, cause }, &mut wiped)?;
    }
    Ok((cause, wiped))
}

/// Carries out one erasure of which nothing here knows: for the first time, or because the hub was put back to before it. So whatever is
/// here of the record was written before, also what claims to have known of it.
///
/// # Errors
/// What the store reports; the caller rolls back then.
pub fn carry_out<S: Store>(store: &mut S, erasure: &Erasure, wiped: &mut Wiped) -> Result<(), S::Error> {
    let Erasure { number, key, .. } = erasure;
    store.forget_replaced(key)?;
    for (_, origin) in store.all_held()?.into_iter().filter(|(held, _)| held == key) {
        for held in store.held_of(key, origin)? {
            store.unhold(held.op.stamp.dot)?;
            let hseq = store.next()?;
            log_news(store, held.device, &held.op, hseq, News::Discarded(ERASED.to_owned()))?;
            wiped.held += 1;
        }
    }
    store.note_erasure(erasure)?;
    for op in store.writes_of(key)?.iter().filter(|op| !op.is_erased()) {
        let hash = store.op_hash(op.stamp.dot)?.unwrap_or_else(|| op_hash(op));
        store.erase_op(&op.erased(), hash)?;
        wiped.ops += 1;
    }
    if let Some(record) = store.record(key)? {
        wiped.records += 1;
        replace(store, key, &record, *number)?;
    }
    Ok(())
}

/// Puts into the place of a record what is left of it: that it is deleted, where it belonged, and by which number it was erased.
fn replace<S: Store>(store: &mut S, key: &RecordKey, record: &Record, number: u64) -> Result<(), S::Error> {
    let rules = store.rules()?;
    let mut changes =
        BTreeMap::from([(FieldName::deleted(), Change::put(Value::Bool(true))), (FieldName::erased(), mark(number))]);
    if record.cells.contains_key(FieldName::SCOPE) {
        changes.insert(FieldName::scope(), Change::put(Value::Text(record.scope().as_str().to_owned())));
    }
    let (op, hseq) = hub_op(store, key, Some(record), changes, "erased", &rules)?;
    let mut left = Record::default();
    // Nothing stands in it that could be in the way.
    let _ = merge::apply(&mut left, &op, hseq, rules.of(&key.record_type));
    store.keep(key, left, &[])
}

/// Takes an op in if it did not know of an erasure of its record; then it was dropped.
///
/// # Errors
/// What the store reports.
pub(super) fn takes<S: Store>(store: &mut S, device: Option<Device>, arrived: &Arrived<'_>) -> Result<bool, S::Error> {
    let is_erased = match store.erasure(&arrived.op.key)? {
        Some(number) => !knows(arrived.op, number),
        // One without changes lost them by an erasure that this hub does not know of; there is nothing in it to be applied.
        None => arrived.op.is_erased(),
    };
    if is_erased {
        drop_op(store, device, arrived)?;
    }
    Ok(is_erased)
}

/// Takes in an op that makes a record which belongs to an erased one, and did not know that: the record is erased with it.
///
/// # Errors
/// What the store reports.
pub(super) fn takes_child<S: Store>(
    store: &mut S,
    device: Option<Device>,
    arrived: &Arrived<'_>,
    record: &Record,
    parents: &[RecordKey],
) -> Result<bool, S::Error> {
    let Some(cause) = unnamed_parent(record, parents, |parent| store.erasure(parent))? else { return Ok(false) };
    if store.all_held()?.iter().any(|(key, _)| *key == arrived.op.key) {
        // What waits of it may have known. Then this waits, too.
        return Ok(false);
    }
    let number = store.last_erasure()?.saturating_add(1);
    store.note_erasure(&Erasure { number, key: arrived.op.key.clone(), cause })?;
    drop_op(store, device, arrived)?;
    Ok(true)
}

/// Acknowledges an op, without its values, and tells its sender that it was dropped.
fn drop_op<S: Store>(store: &mut S, device: Option<Device>, arrived: &Arrived<'_>) -> Result<(), S::Error> {
    let hseq = store.next()?;
    let written = Op::from_canonical(&arrived.canonical).unwrap_or_else(|_| arrived.op.clone());
    let bare = written.erased();
    store.append(&Arrived { op: &bare, canonical: bare.canonical(), chain: arrived.chain }, hseq, true)?;
    store.erase_op(&bare, op_hash(&written))?;
    log_news(store, device, &bare, hseq, News::Discarded(ERASED.to_owned()))
}

/// Whether a write names an erasure that this hub never decided. Believed, it would outlive every erasure to come.
///
/// # Errors
/// What the store reports.
pub(super) fn claims_too_much<S: Snapshot>(store: &mut S, op: &Op) -> Result<bool, S::Error> {
    if !op.changes.contains_key(FieldName::ERASED) {
        return Ok(false);
    }
    let last = store.last_erasure()?;
    Ok(knows(op, last.saturating_add(1)))
}

/// Whether an offered record may be joined: not if what stands in it was written by who did not know of an erasure of it, or of one that
/// it belongs to; nor if it claims to know of one that there never was.
///
/// # Errors
/// What the store reports.
pub(super) fn may_join<S: Store>(
    store: &mut S,
    key: &RecordKey,
    offered: &Record,
    parents: &[RecordKey],
) -> Result<bool, S::Error> {
    let number = erase::number_to_name(key, offered, parents, |key| store.erasure(key))?;
    let Some(number) = number else { return Ok(true) };
    let last = store.last_erasure()?;
    Ok(is_after(offered, number) && !is_after(offered, last.saturating_add(1)))
}
