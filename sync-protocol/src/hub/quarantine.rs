//! What waits at the hub, what frees it, and what a person decides about it.
//!
//! Quarantine works by record and origin: once one op of an origin on a record is held, its later ops on that record join
//! it, and all are judged together. So a correction frees what it corrects, in order, and what is wrong after that keeps
//! nothing waiting that is before it. What names a parent that is not here waits for that parent.

use std::collections::BTreeSet;

use super::judge::{Objection, Trial, apply, objection_to_op, unmergeable};
use super::sitting::Sitting;
use super::{Arrived, Gateway, HeldOp, LogLine, Logged, Snapshot, Store, claims, copy, erase, revoked};
use crate::id::{Device, Dot, HubSeq, Origin, RecordKey};
use crate::limits::HELD_JUDGED_EACH_MAX;
use crate::payload::News;
use crate::record::Op;
use crate::rules::{OutsideRule, Rules};

/// Why an op waits before it was judged with those that it has joined, and after that if it is not the first.
pub(super) const JOINED: &str = "waits for an earlier change of this record";

/// Judges what has joined others. Tells how many of these ops go on waiting.
pub(super) fn judge_joined<S: Store>(store: &mut S, sitting: Sitting) -> Result<u64, S::Error> {
    let mut left = 0;
    for ((key, origin), joined) in sitting.joined {
        if reconsider(store, &key, origin)? {
            free_waiting(store, &key)?;
        }
        for HeldOp { op, hseq, device, reason, .. } in store.held_of(&key, origin)? {
            if joined.contains(&op.stamp.dot) {
                left += 1;
                // Of what has been given another reason it was told.
                if reason == JOINED {
                    log_news(store, device, &op, hseq, News::Held(reason))?;
                }
            }
        }
    }
    Ok(left)
}

/// Puts one new op into quarantine for a person, whatever it says. Tells whether it is held: what was erased is dropped.
pub(super) fn put_aside<S: Store>(
    store: &mut S,
    device: Device,
    arrived: &Arrived<'_>,
    reason: &str,
) -> Result<bool, S::Error> {
    if let Some(is_held) = erase::takes(store, Some(device), arrived)? {
        return Ok(is_held);
    }
    hold_for_person(store, Some(device), arrived, reason)?;
    Ok(true)
}

pub(super) fn hold_for_person<S: Store>(
    store: &mut S,
    device: Option<Device>,
    arrived: &Arrived<'_>,
    reason: &str,
) -> Result<(), S::Error> {
    let hseq = store.next()?;
    store.append(arrived, hseq, true)?;
    let (op, reason) = (arrived.op.clone(), reason.to_owned());
    hold(store, &HeldOp { op, hseq, device, reason, for_person: true }, &[], hseq)
}

pub(super) fn hold<S: Store>(
    store: &mut S,
    held: &HeldOp,
    waits_for: &[RecordKey],
    at: HubSeq,
) -> Result<(), S::Error> {
    store.hold(held, waits_for)?;
    log_news(store, held.device, &held.op, at, News::Held(held.reason.clone()))
}

pub(super) fn log_news<S: Store>(
    store: &mut S,
    device: Option<Device>,
    op: &Op,
    hseq: HubSeq,
    news: News,
) -> Result<(), S::Error> {
    match device {
        Some(device) => {
            store.log(&LogLine { hseq, key: op.key.clone(), what: Logged::News(device, op.stamp.dot, news) })
        }
        None => Ok(()),
    }
}

/// Judges all held ops of an origin on a record together, and what else waits on that record if any are applied. Tells whether any
/// were.
pub(super) fn reconsider<S: Store>(store: &mut S, key: &RecordKey, origin: Origin) -> Result<bool, S::Error> {
    let is_any_free = free_first(store, key, origin)?;
    if is_any_free {
        reconsider_all(store, key)?;
    }
    Ok(is_any_free)
}

/// Judges what waits on a record that has changed: what stood against it may not be shown any more, or the record was not here.
pub(super) fn reconsider_all<S: Store>(store: &mut S, key: &RecordKey) -> Result<(), S::Error> {
    let mut is_changed = true;
    while is_changed {
        is_changed = false;
        for origin in store.origins_held(key)? {
            is_changed |= free_first(store, key, origin)?;
        }
    }
    Ok(())
}

/// Applies as many of the held ops of an origin on a record as make one against which nothing stands, beginning with the first. What
/// is for a person stays, and all that came after it. Looked at is the record as each of the first ones leaves it, and as all do: a
/// record that is large is not looked at for each of thousands. Tells whether any were applied.
fn free_first<S: Store>(store: &mut S, key: &RecordKey, origin: Origin) -> Result<bool, S::Error> {
    let rules = store.rules()?;
    let held = store.held_of(key, origin)?;
    let held = found(store, held)?;
    let (mut trial, mut free, mut objection) = (Trial::of(store, key, &rules)?, 0, None);
    // What each of them waits for in turn: when it comes, those up to there may go.
    let mut waits_for = BTreeSet::new();
    for (at, waiting) in held.iter().enumerate() {
        if waiting.for_person {
            break;
        }
        let mut stands = objection_to_op(store, &waiting.op)?;
        if stands.is_none() && !trial.add_new(store, &waiting.op, waiting.hseq)? {
            stands = Some(unmergeable());
        }
        if stands.is_some() {
            // No later one mends that; and it is nothing against those before it.
            objection = objection.or(stands);
            break;
        }
        if at < HELD_JUDGED_EACH_MAX || at + 1 == held.len() {
            objection = trial.objection(store)?;
            match &objection {
                Some(objection) => waits_for.extend(objection.waits_for.iter().cloned()),
                None => free = at + 1,
            }
        }
    }
    for waiting in held.iter().take(free) {
        let_go(store, waiting, &rules)?;
    }
    // The rest is judged again.
    if let (0, Some(first), Some(Objection { reason, .. })) = (free, held.first(), objection) {
        let waits_for: Vec<RecordKey> = waits_for.into_iter().collect();
        if first.reason != reason {
            let hseq = store.next()?;
            hold(store, &HeldOp { reason, ..first.clone() }, &waits_for, hseq)?;
        } else if !waits_for.is_empty() {
            store.hold(first, &waits_for)?;
        }
    }
    Ok(free > 0)
}

/// Held ops as they count now that their record may be there, and elsewhere: what they say that they knew is believed as far as their
/// gateway can have read it, and what takes something away from a record that never was in its view waits for a person. Looked at are
/// those that came before their record or a parent of it, and those that came while their gateway was shut out: all others were as they
/// came, by what was in view then.
fn found<S: Store>(store: &mut S, held: Vec<HeldOp>) -> Result<Vec<HeldOp>, S::Error> {
    let Some(first) = held.first() else { return Ok(held) };
    let place = store.record(&first.op.key)?.map(|record| record.scope());
    if place.is_none() && store.rules()?.of(&first.op.key.record_type).outside == OutsideRule::Merge {
        return Ok(held);
    }
    let (mut sitting, mut made) = (Sitting::default(), None);
    let is_seen = |by: &Gateway| place.as_ref().is_some_and(|place| by.is_in_view(place));
    let mut all = Vec::with_capacity(held.len());
    for mut held in held {
        let by = held.device.filter(|_| !held.for_person).map(|device| store.gateway(device)).transpose()?.flatten();
        let came_shut_out = held.reason == revoked::REASON;
        if let Some(by) = by.filter(|by| came_shut_out || !is_seen(by)) {
            if made.is_none() {
                made = Some(made_as(store, &held.op.key)?);
            }
            let is_unjudged = came_shut_out || made.flatten().is_none_or(|made| held.hseq < made);
            // Where a record goes that is not here, the first one says.
            let is_told = place.is_some() || all.is_empty();
            let is_outside = is_unjudged && is_told && sitting.is_outside(store, &by, &held.op, place.as_ref())?;
            let is_unfounded = match &place {
                Some(place) => is_unjudged && !is_outside && sitting.is_unfounded(store, &by, &held.op, place)?,
                None => false,
            };
            if is_outside || is_unfounded && claims::takes_away(store, &by, &held.op)? {
                let reason = if is_outside { claims::OUTSIDE } else { claims::REASON };
                (held.reason, held.for_person) = (reason.to_owned(), true);
                let hseq = store.next()?;
                hold(store, &held, &[], hseq)?;
            } else if is_unfounded || came_shut_out {
                // What it waits for is said anew when it is judged.
                held.op = if is_unfounded { claims::blind(&held.op) } else { held.op };
                held.reason = JOINED.to_owned();
                store.hold(&held, &[])?;
            }
        }
        all.push(held);
    }
    Ok(all)
}

/// The number under which a record was made by an op; `None` if it was not.
fn made_as<S: Snapshot>(store: &mut S, key: &RecordKey) -> Result<Option<HubSeq>, S::Error> {
    let mut made = None;
    for known in store.writes_of(key)?.iter() {
        let applied = store.applied_as(known.stamp.dot)?;
        made = [made, applied].into_iter().flatten().min();
    }
    Ok(made)
}

/// Applies one held op under a new number, and says so.
fn let_go<S: Store>(store: &mut S, held: &HeldOp, rules: &Rules) -> Result<(), S::Error> {
    store.unhold(held.op.stamp.dot)?;
    if copy::is_applied(store, &held.op)? {
        copy::count_for_nothing(store, &held.op, copy::COUNTED_TWICE)?;
        let hseq = store.next()?;
        return log_news(store, held.device, &held.op, hseq, News::Discarded(copy::CAME_BEFORE.to_owned()));
    }
    let hseq = store.next()?;
    apply(store, &held.op, hseq, rules)?;
    let hseq_news = store.next()?;
    log_news(store, held.device, &held.op, hseq_news, News::Released(hseq))
}

/// Frees what waited for a record, and what waited for that, and so on.
pub(super) fn free_waiting<S: Store>(store: &mut S, key: &RecordKey) -> Result<(), S::Error> {
    let mut arrived = vec![key.clone()];
    let mut visited = BTreeSet::new();
    while let Some(parent) = arrived.pop() {
        let waiting = store.waiting_for(&parent)?;
        if waiting.is_empty() || store.record(&parent)?.is_none() || !visited.insert(parent) {
            continue;
        }
        for (child, origin) in waiting {
            if reconsider(store, &child, origin)? {
                arrived.push(child);
            }
        }
    }
    Ok(())
}

/// The first of the changes of one origin to one record that wait: each is decided on before those that came after it. What a later
/// one says of a set has the earlier ones behind it, so that they would count for nothing.
///
/// # Errors
/// What the store reports.
pub fn first_held<S: Snapshot>(store: &mut S, held: &HeldOp) -> Result<Dot, S::Error> {
    let all = store.held_of(&held.op.key, held.op.stamp.dot.origin)?;
    Ok(all.first().unwrap_or(held).op.stamp.dot)
}

/// Applies an op in quarantine although the rules object: a person decided so. It is the first that waits ([`first_held`]).
/// False if it is not there.
///
/// # Errors
/// What the store reports.
pub fn release<S: Store>(store: &mut S, dot: Dot) -> Result<bool, S::Error> {
    let rules = store.rules()?;
    let Some(held) = store.unhold(dot)? else { return Ok(false) };
    let_go(store, &held, &rules)?;
    reconsider_all(store, &held.op.key)?;
    free_waiting(store, &held.op.key)?;
    Ok(true)
}

/// Drops an op from quarantine: a person decided so. It stays in the history. False if it is not there.
///
/// # Errors
/// What the store reports.
pub fn discard<S: Store>(store: &mut S, dot: Dot, why: &str) -> Result<bool, S::Error> {
    let Some(held) = store.unhold(dot)? else { return Ok(false) };
    let key = &held.op.key;
    copy::count_for_nothing(store, &held.op, copy::DROPPED)?;
    let hseq = store.next()?;
    log_news(store, held.device, &held.op, hseq, News::Discarded(why.to_owned()))?;
    reconsider_all(store, key)?;
    free_waiting(store, key)?;
    Ok(true)
}

/// Judges everything in quarantine anew, after the rules changed. Tells of how many records something was freed.
///
/// # Errors
/// What the store reports.
pub fn review_all<S: Store>(store: &mut S) -> Result<u64, S::Error> {
    let mut freed = 0;
    for (key, origin) in store.all_held()? {
        if !store.held_of(&key, origin)?.is_empty() && reconsider(store, &key, origin)? {
            freed += 1;
            free_waiting(store, &key)?;
        }
    }
    Ok(freed)
}
