//! Carrying out erasures, and writing so that nobody takes it for what was written before one.
//!
//! An own op that may have reached the hub is never changed: it is shown no more, sent as it is, dropped there, and loses its values here
//! when that was heard. What was acknowledged loses them at once.

use std::collections::{BTreeMap, BTreeSet};

use super::integrate::refresh;
use super::{GatewayState, Store};
use crate::clock::Hlc;
use crate::edit::render;
use crate::erase::{self, Erased, ErasedName, is_after, knows, mark, name_of};
use crate::id::{Dot, FieldName, HubSeq, RecordKey};
use crate::merge;
use crate::record::{Change, Op, Record, Stamp};
use crate::rules::Rules;

/// Carries out erasures that the hub told of, after what it acknowledged was taken. Tells how many records left.
///
/// # Errors
/// What the store reports.
pub(super) fn carry_out<S: Store>(store: &mut S, state: &mut GatewayState, told: &[Erased]) -> Result<u64, S::Error> {
    let news: Vec<Erased> = told.iter().copied().filter(|erased| erased.number > state.erased).collect();
    let Some(last) = news.iter().map(|erased| erased.number).max() else { return Ok(0) };
    store.note_erasures(&news)?;
    let numbers: BTreeMap<ErasedName, u64> = news.iter().map(|erased| (erased.name, erased.number)).collect();
    let names: BTreeSet<ErasedName> = numbers.keys().copied().collect();
    let (rules, mut left) = (store.rules()?, 0);
    for key in store.keys_named(&names)? {
        let number = numbers.get(&name_of(&key)).copied().unwrap_or_default();
        let confirmed = store.held(&key)?.and_then(|held| held.confirmed);
        // What is left of it at the hub comes as a change, and may have come before the news. It names nothing that is yet to come.
        match confirmed.is_some_and(|record| is_after(&record, number) && !is_after(&record, last.saturating_add(1))) {
            true => refresh(store, &key, &rules)?,
            false => {
                store.forget(&key)?;
                left += 1;
            }
        }
        store.erase(&key)?;
        if store.held(&key)?.is_none() && !store.pending(&key)?.is_empty() {
            // What was written here since, and knew of it, is shown.
            refresh(store, &key, &rules)?;
        }
    }
    state.erased = state.erased.max(last);
    Ok(left)
}

/// An own op was settled: if it did not know of an erasure of its record, nothing of it stays here. Tells whether that is so.
///
/// # Errors
/// What the store reports.
pub(super) fn settled<S: Store>(store: &mut S, op: Option<&Op>) -> Result<bool, S::Error> {
    let Some(op) = op else { return Ok(false) };
    let is_erased = !op.is_erased() && store.erasure(&op.key)?.is_some_and(|number| !knows(op, number));
    if is_erased {
        store.erase(&op.key)?;
    }
    Ok(is_erased || op.is_erased())
}

/// As [`settled`], of an op by its number.
///
/// # Errors
/// What the store reports.
pub(super) fn settled_at<S: Store>(store: &mut S, dot: Dot) -> Result<(), S::Error> {
    if store.state()?.erased == 0 {
        return Ok(());
    }
    let op = store.own_op(dot)?;
    settled(store, op.as_ref()).map(drop)
}

/// Adds to changes of a record which erasure their author knows of, if that of the record or of one that it belongs to has to be named.
///
/// # Errors
/// What `erasure` reports.
pub(crate) fn changes_name<E>(
    key: &RecordKey,
    before: Option<&Record>,
    changes: &mut BTreeMap<FieldName, Change>,
    stamp: &Stamp,
    rules: &Rules,
    erasure: impl FnMut(&RecordKey) -> Result<Option<u64>, E>,
) -> Result<(), E> {
    let type_rules = rules.of(&key.record_type);
    let mut after = before.cloned().unwrap_or_default();
    let mut parents = Vec::new();
    if !type_rules.parents.is_empty() {
        let stamp = Stamp { hlc: Hlc(u64::MAX), ..stamp.clone() };
        let op = Op { stamp, key: key.clone(), changes: changes.clone() };
        let _ = merge::apply(&mut after, &op, HubSeq::NONE, type_rules);
        parents = rules.parents(&key.record_type, &render(&after));
    }
    if let Some(number) = erase::number_to_name(key, &after, &parents, erasure)? {
        changes.insert(FieldName::erased(), mark(number));
    }
    Ok(())
}
