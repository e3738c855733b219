//! Erasing what is known of a record, and of those that belong to it.
//!
//! # Invariants
//! - Numbers, chains and what has been acknowledged stay as they are; of what was written the hash is kept, so that a repeat is known.
//! - An op that did not know of the erasure has lost its values before it is stored, and its sender is told that it was dropped.
//! - What belongs to an erased record and was not here yet waits when it comes, and goes when its gateway has shown all that it wrote: it may
//!   have been put under another record since. What is here on its own is never erased because somebody says now that it belongs to an
//!   erased one, and what says that it belongs to somebody else never because another record of its id was: these wait for a person.

use std::collections::BTreeMap;

use super::judge::{Applied, Trial};
use super::own::hub_op;
use super::quarantine::{hold_for_person, log_news};
use super::{Arrived, Conversation, HeldOp, Snapshot, Store};
use crate::digest::op_hash;
use crate::edit::render;
use crate::erase::{self, Erasure, is_after, knows, mark, unnamed_parent};
use crate::id::{Device, FieldName, HubSeq, RecordKey};
use crate::merge;
use crate::payload::News;
use crate::record::{Change, Op, Record};
use crate::rules::Rules;
use crate::value::Value;

/// Why an op is dropped that did not know of an erasure.
const ERASED: &str = "this record was erased at the centre; what was written without knowing that was dropped";

/// Why one waits that says that its record belongs to another one than that with which it was erased.
const OF_ANOTHER: &str = "an erased record had this id; this write says that it belongs to somebody else: release it if that is so, else discard it";

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
                let made = would_make(store, child, &held, &rules)?;
                if made.is_some_and(|made| made.shown.parents.contains(&parent)) {
                    all.push(child.clone());
                }
            }
        }
    }
    Ok(all)
}

/// The record that ops in quarantine would make, of which nothing else is here.
fn would_make<S: Snapshot>(
    store: &mut S,
    key: &RecordKey,
    held: &[HeldOp],
    rules: &Rules,
) -> Result<Option<Applied>, S::Error> {
    let mut trial = Trial::of(store, key, rules)?;
    for waiting in held {
        if !trial.add(store, &waiting.op, waiting.hseq)? {
            return Ok(None);
        }
    }
    Ok(Some(trial.applied()))
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
    for origin in store.origins_held(key)? {
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
    if record.is_placed() {
        changes.insert(FieldName::scope(), Change::put(Value::Text(record.scope().as_str().to_owned())));
    }
    let (op, hseq) = hub_op(store, key, Some(record), changes, "erased", &rules)?;
    let mut left = Record::default();
    // Nothing stands in it that could be in the way.
    let _ = merge::apply(&mut left, &op, hseq, rules.of(&key.record_type));
    store.keep(key, left, &[])
}

/// Takes an op in if it did not know of an erasure of its record: drops it. One that says that the record belongs to another one, which
/// was not erased, may be of somebody else, and waits for a person. `None` if there is nothing of that; else whether it is held.
///
/// # Errors
/// What the store reports.
pub(super) fn takes<S: Store>(
    store: &mut S,
    device: Option<Device>,
    arrived: &Arrived<'_>,
) -> Result<Option<bool>, S::Error> {
    let op = arrived.op;
    let number = store.erasure(&op.key)?;
    let is_erased = match number {
        Some(number) => !knows(op, number),
        // One without changes lost them by an erasure that this hub does not know of; there is nothing in it to be applied.
        None => op.is_erased(),
    };
    if !is_erased {
        return Ok(None);
    }
    let erasure = number.map(|number| store.erasures_after(number.saturating_sub(1), 1)).transpose()?;
    let is_child = erasure.iter().flatten().any(|erasure| erasure.cause != erasure.number);
    if is_child && belongs_to_another(store, op)? {
        hold_for_person(store, device, arrived, OF_ANOTHER)?;
        return Ok(Some(true));
    }
    drop_op(store, device, arrived)?;
    Ok(Some(false))
}

/// Whether an op by itself says which records its own belongs to, and none of them was erased.
fn belongs_to_another<S: Store>(store: &mut S, op: &Op) -> Result<bool, S::Error> {
    let rules = store.rules()?;
    let mut alone = Record::default();
    let _ = merge::apply(&mut alone, op, HubSeq::NONE, rules.of(&op.key.record_type));
    let parents = rules.parents(&op.key.record_type, &render(&alone));
    Ok(!parents.is_empty() && unnamed_parent(&alone, &parents, |parent| store.erasure(parent))?.is_none())
}

/// Erases what a gateway had made of records that belong to erased ones, without knowing that: when it has shown all that it wrote, so that
/// it is sure that it did not put it under another record later. What others wrote to as well, or what is of a time that this hub has
/// lost, is left to people.
///
/// # Errors
/// What the store reports; the caller rolls back then.
pub(super) fn erase_children<S: Store>(store: &mut S, with: &Conversation) -> Result<(), S::Error> {
    let origin = with.request.origin;
    for at in &with.request.streams {
        if store.mark(origin, at.stream)?.acked < at.last {
            return Ok(());
        }
    }
    if with.is_cut || !with.request.bounds.is_empty() || store.last_erasure()? == 0 {
        return Ok(());
    }
    let (rules, mut wiped) = (store.rules()?, Wiped::default());
    for (key, of) in store.all_held()? {
        if of != origin || store.record(&key)?.is_some() {
            continue;
        }
        let held = store.held_of(&key, origin)?;
        let Some(made) = would_make(store, &key, &held, &rules)? else { continue };
        let cause = unnamed_parent(&made.record, &made.shown.parents, |parent| store.erasure(parent))?;
        let is_alone = store.writes_of(&key)?.iter().all(|op| op.stamp.dot.origin == origin);
        if let Some(cause) = cause.filter(|_| is_alone && !held.iter().any(|held| held.for_person)) {
            let number = store.last_erasure()?.saturating_add(1).max(with.now_ms);
            carry_out(store, &Erasure { number, key, cause }, &mut wiped)?;
        }
    }
    Ok(())
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
/// it belongs to; nor if it claims to know of one that is yet to come. One of which this hub does not know there may have been: its list
/// may be lost.
///
/// # Errors
/// What the store reports.
pub(super) fn may_join<S: Store>(
    store: &mut S,
    key: &RecordKey,
    offered: &Record,
    parents: &[RecordKey],
    now_ms: u64,
) -> Result<bool, S::Error> {
    let number = erase::number_to_name(key, offered, parents, |key| store.erasure(key))?;
    let last = store.last_erasure()?.max(now_ms);
    // Nobody knows of one that has yet to come.
    let is_early = is_after(offered, last.saturating_add(1));
    Ok(!is_early && number.is_none_or(|number| is_after(offered, number)))
}
