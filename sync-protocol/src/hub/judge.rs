//! Whether an op can be applied, and what waits when it cannot.
//!
//! Quarantine works by record and origin: once one op of an origin on a record is held, its later ops on that record join
//! it, and all are judged together. So a correction frees what it corrects, in order. A record whose declared parent is
//! not here waits for that parent and for nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use super::stranger::strangers;
use super::{Arrived, Gateway, HeldOp, LogLine, Logged, Snapshot, Store};
use super::{claims, copy, erase, names, own};
use crate::edit::render;
use crate::erase::unnamed_parent;
use crate::id::{Device, Dot, FieldName, HubSeq, Origin, RecordKey, Scope, Source};
use crate::limits::RECORD_KEPT_BYTES_MAX;
use crate::merge::{self, Merged, Presence, presence};
use crate::payload::News;
use crate::record::{Change, Op, Record, Stamp};
use crate::rules::Rules;
use crate::value::Value;

/// Why an op waits before it was judged with those that it has joined, and after that if it is not the first.
const JOINED: &str = "waits for an earlier change of this record";
/// Why the hub takes back what an op counted that a person dropped.
const DROPPED: &str = "counted by a change that was dropped";

/// Why ops cannot be applied, in words for people, and the records whose arrival would change that.
struct Objection {
    reason: String,
    waits_for: Vec<RecordKey>,
}

/// A record with ops applied to it, before anything of that is stored.
pub(super) struct Applied {
    /// Its scope before; `None` if there was no such record.
    was: Option<Scope>,
    pub(super) record: Record,
    pub(super) merged: Merged,
    /// As an app sees it; empty if the rules of its type do not look at that.
    body: Map<String, Json>,
    pub(super) parents: Vec<RecordKey>,
    /// The one of them where it is.
    place: Option<RecordKey>,
}

/// What is done once for a frame of ops, and not for each of them.
#[derive(Debug, Default)]
pub(super) struct Sitting {
    /// Ops that have joined others in quarantine and have yet to be judged with them: each judgement is of all that wait on the record.
    joined: BTreeMap<(RecordKey, Origin), Vec<HeldOp>>,
    /// Whether records that are out of the view of the gateway once were in it.
    read: BTreeMap<RecordKey, bool>,
}

impl Sitting {
    /// Whether an op says that it knew something of a record, which is in this place, that its gateway cannot know.
    fn is_unfounded<S: Snapshot>(
        &mut self,
        store: &mut S,
        by: &Gateway,
        op: &Op,
        place: &Scope,
    ) -> Result<bool, S::Error> {
        if by.is_in_view(place) || !claims::claims_more(store, by, op)? {
            return Ok(false);
        }
        Ok(!match self.read.get(&op.key) {
            Some(has_read) => *has_read,
            None => {
                let has_read = claims::has_read(store, by, &op.key, op.stamp.dot.origin)?;
                self.read.insert(op.key.clone(), has_read);
                has_read
            }
        })
    }
}

/// Takes one new op in: applies it, or puts it into quarantine. Tells whether it is held. `by` is whose it is; the hub's own is nobody's.
///
/// # Errors
/// What the store reports.
pub fn admit<S: Store>(store: &mut S, by: Option<&Gateway>, arrived: &Arrived<'_>) -> Result<bool, S::Error> {
    let mut sitting = Sitting::default();
    let is_held = take_in(store, by, arrived, &mut sitting)?;
    Ok(is_held || judge_joined(store, sitting)? > 0)
}

/// The same, and an op that joins others is judged later. Tells whether it is held for itself.
pub(super) fn take_in<S: Store>(
    store: &mut S,
    by: Option<&Gateway>,
    arrived: &Arrived<'_>,
    sitting: &mut Sitting,
) -> Result<bool, S::Error> {
    let (op, device) = (arrived.op, by.map(|gateway| gateway.device));
    if let Some(is_held) = erase::takes(store, device, arrived)? {
        return Ok(is_held);
    }
    let (rules, origin) = (store.rules()?, op.stamp.dot.origin);
    if !store.is_any_held(&op.key, origin)? {
        let at = store.head()?.next();
        let trial = [(op, at)];
        let applied = try_new(store, &trial, &rules)?;
        let place = applied.as_ref().and_then(|applied| applied.was.as_ref());
        if let Some((by, place)) = by.zip(place) {
            if sitting.is_unfounded(store, by, op, place)? {
                return take_in_unfounded(store, by, arrived, sitting);
            }
        }
        let hseq = store.next()?;
        let objection = objection(store, &trial, applied.as_ref(), &rules)?;
        store.append(arrived, hseq, objection.is_some())?;
        if let Some(Objection { reason, waits_for }) = objection {
            hold(store, &HeldOp { op: op.clone(), hseq, device, reason, for_person: false }, &waits_for, hseq)?;
            return Ok(true);
        }
        if let Some(applied) = applied {
            keep(store, op, hseq, applied, &rules)?;
            reconsider_all(store, &op.key)?;
        }
        free_waiting(store, &op.key)?;
        return Ok(false);
    }
    if let Some((by, record)) = by.zip(store.record(&op.key)?) {
        if sitting.is_unfounded(store, by, op, &record.scope())? {
            return take_in_unfounded(store, by, arrived, sitting);
        }
    }
    let hseq = store.next()?;
    store.append(arrived, hseq, true)?;
    let waiting = HeldOp { op: op.clone(), hseq, device, reason: JOINED.to_owned(), for_person: false };
    store.hold(&waiting, &[])?;
    sitting.joined.entry((op.key.clone(), origin)).or_default().push(waiting);
    Ok(false)
}

/// Takes in an op that says that it knew what its gateway cannot know.
fn take_in_unfounded<S: Store>(
    store: &mut S,
    by: &Gateway,
    arrived: &Arrived<'_>,
    sitting: &mut Sitting,
) -> Result<bool, S::Error> {
    match claims::takes_away(store, by, arrived.op)? {
        true => put_aside(store, by.device, arrived, claims::REASON),
        false => take_in(store, Some(by), &Arrived { op: &claims::blind(arrived.op), ..arrived.clone() }, sitting),
    }
}

/// Judges what has joined others. Tells how many of these ops go on waiting.
pub(super) fn judge_joined<S: Store>(store: &mut S, sitting: Sitting) -> Result<u64, S::Error> {
    let mut left = 0;
    for ((key, origin), ops) in sitting.joined {
        if !reconsider(store, &key, origin)? {
            left += ops.len() as u64;
            for HeldOp { op, hseq, device, reason, .. } in ops {
                log_news(store, device, &op, hseq, News::Held(reason))?;
            }
        }
        free_waiting(store, &key)?;
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

/// What ops make of their record; `None` if one of them cannot be merged.
pub(super) fn try_on<S: Snapshot>(
    store: &mut S,
    ops: &[(&Op, HubSeq)],
    rules: &Rules,
) -> Result<Option<Applied>, S::Error> {
    let Some((first, _)) = ops.first() else { return Ok(None) };
    let before = store.record(&first.key)?;
    try_on_record(store, before, ops, rules)
}

/// The same of ops that were never applied: what stands under their numbers and is not from them makes way, and what they add
/// to lists does not come a second time.
fn try_new<S: Store>(store: &mut S, ops: &[(&Op, HubSeq)], rules: &Rules) -> Result<Option<Applied>, S::Error> {
    let Some((first, _)) = ops.first() else { return Ok(None) };
    let Some(mut record) = store.record(&first.key)? else { return try_on_record(store, None, ops, rules) };
    let mut rest = Vec::with_capacity(ops.len());
    for (op, at) in ops {
        rest.push(copy::without_shown(store, op, &record)?);
        names::make_way(store, op, &mut record, *at)?;
    }
    let ops: Vec<_> = ops.iter().zip(&rest).map(|((op, at), rest)| (rest.as_ref().unwrap_or(op), *at)).collect();
    try_on_record(store, Some(record), &ops, rules)
}

/// The same, given their record as it is.
fn try_on_record<S: Snapshot>(
    store: &mut S,
    before: Option<Record>,
    ops: &[(&Op, HubSeq)],
    rules: &Rules,
) -> Result<Option<Applied>, S::Error> {
    let Some((first, _)) = ops.first() else { return Ok(None) };
    let type_rules = rules.of(&first.key.record_type);
    let was = before.as_ref().map(Record::scope);
    let mut record = before.unwrap_or_default();
    let (mut merged, mut tried) = (Merged::default(), BTreeSet::new());
    for (op, hseq) in ops {
        let renamed = copy::renamed(store, op)?;
        let op = renamed.as_ref().unwrap_or(op);
        let strangers = strangers(store, op, &record, &tried)?;
        tried.insert(op.stamp.dot);
        let is_stranger = |standing: &Stamp| strangers.contains(&standing.dot);
        let Ok(one) = merge::apply_among(&mut record, op, *hseq, type_rules, &is_stranger) else {
            return Ok(None);
        };
        merged.changed |= one.changed;
        merged.superseded.extend(one.superseded);
    }
    let body = if type_rules.asks_for_body() { render(&record) } else { Map::new() };
    let parents = rules.parents(&first.key.record_type, &body);
    let place = rules.place(&first.key.record_type, &body);
    Ok(Some(Applied { was, record, merged, body, parents, place }))
}

/// What stands against ops, given what they make of their record.
fn objection<S: Snapshot>(
    store: &mut S,
    ops: &[(&Op, HubSeq)],
    applied: Option<&Applied>,
    rules: &Rules,
) -> Result<Option<Objection>, S::Error> {
    let Some((first, _)) = ops.first() else { return Ok(None) };
    let key = &first.key;
    let against = |reason: &str| Ok(Some(Objection { reason: reason.to_owned(), waits_for: Vec::new() }));
    for (op, _) in ops {
        if claims_another_source(store, &op.stamp)? {
            return against("claims to come from another kind of place than its gateway is");
        }
        if erase::claims_too_much(store, op)? {
            return against("names an erasure that this hub does not know; is its list of erasures missing?");
        }
    }
    let Some(Applied { record, body, parents, .. }) = applied else {
        return against("this number was used twice: two gateways share one identity");
    };
    if record.size() > RECORD_KEPT_BYTES_MAX {
        return against("the record would be larger than any record may be");
    }
    if presence(record, rules.of(&key.record_type)) == Presence::Deleted {
        return Ok(None);
    }
    let violations = rules.check(&key.record_type, body);
    if !violations.is_empty() {
        let told: Vec<_> = violations.iter().map(|v| format!("{} {}", v.field, v.message)).collect();
        return against(&told.join("; "));
    }
    if unnamed_parent(record, parents, |parent| store.erasure(parent))?.is_some() {
        return against("says that it belongs to a record that was erased");
    }
    let mut missing = Vec::new();
    for parent in parents {
        if parent != key && store.record(parent)?.is_none() {
            missing.push(parent.clone());
        }
    }
    if missing.is_empty() {
        return Ok(None);
    }
    let named: Vec<_> = missing.iter().map(RecordKey::to_string).collect();
    Ok(Some(Objection { reason: format!("waits for {}", named.join(", ")), waits_for: missing }))
}

/// Whether a write names a kind of place that its gateway was not enrolled as. The clinic, which is what every place is
/// unless it was enrolled as something else, may be named by all.
fn claims_another_source<S: Snapshot>(store: &mut S, stamp: &Stamp) -> Result<bool, S::Error> {
    if stamp.source == Source::CLINIC || stamp.dot.origin == Origin::HUB {
        return Ok(false);
    }
    let device = store.device_of(stamp.dot.origin)?;
    let gateway = device.map(|device| store.gateway(device)).transpose()?.flatten();
    Ok(gateway.is_none_or(|gateway| gateway.source != stamp.source))
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

/// Applies one op for good. One that cannot be merged never comes here: it was tried before.
pub(super) fn apply<S: Store>(store: &mut S, op: &Op, hseq: HubSeq, rules: &Rules) -> Result<(), S::Error> {
    match try_new(store, &[(op, hseq)], rules)? {
        Some(applied) => keep(store, op, hseq, applied, rules),
        None => Ok(()),
    }
}

/// Stores what one op made of its record, and lets what follows this record follow it.
pub(super) fn keep<S: Store>(
    store: &mut S,
    op: &Op,
    hseq: HubSeq,
    applied: Applied,
    rules: &Rules,
) -> Result<(), S::Error> {
    let Applied { was, mut record, mut merged, parents, place, .. } = applied;
    if let Some(claimed) = refused_scope(&mut record, op, hseq) {
        merged.changed = true;
        store.log(&LogLine { hseq, key: op.key.clone(), what: Logged::Left(claimed) })?;
    }
    store.remember(&op.key, &merged.superseded)?;
    if !merged.changed {
        return Ok(());
    }
    let (is, is_placed) = (record.scope(), record.is_placed());
    store.keep(&op.key, record, &parents)?;
    let has_moved = was.as_ref() != Some(&is);
    if let (Some(was), true) = (was, has_moved) {
        store.log(&LogLine { hseq, key: op.key.clone(), what: Logged::Left(was) })?;
    }
    // A move that did not take, because another scope stands, is not made again for ever.
    if !own::is_move(op) {
        follow_parent(store, &op.key, &is, place.as_ref(), rules)?;
    }
    if has_moved && is_placed {
        take_along(store, &op.key, &is, rules)?;
    }
    Ok(())
}

/// Moves what follows a record to where that is now.
pub(super) fn take_along<S: Store>(store: &mut S, key: &RecordKey, is: &Scope, rules: &Rules) -> Result<(), S::Error> {
    for child in store.children(key)? {
        // It may name this one as another parent than the one where it is.
        let place = store.record(&child)?.and_then(|record| rules.place(&child.record_type, &render(&record)));
        if place.as_ref() == Some(key) {
            own::move_to(store, &child, is, rules)?;
        }
    }
    Ok(())
}

/// The scope that an op claimed for a record whose scope stands, if it did: its author took the record for a new one. The
/// cell counts as changed now, so that the author gets the whole record if it is in its view, and lets go of it if not.
fn refused_scope(record: &mut Record, op: &Op, hseq: HubSeq) -> Option<Scope> {
    let claimed = claimed_scope(op)?;
    let cell = record.cells.get_mut(FieldName::SCOPE)?;
    if cell.stamps().iter().any(|stamp| stamp.dot == op.stamp.dot) {
        return None;
    }
    cell.changed = hseq;
    Some(claimed).filter(|claimed| *claimed != record.scope())
}

/// The scope that an op puts its record into.
pub(super) fn claimed_scope(op: &Op) -> Option<Scope> {
    let Some(Change::Put { value: Some(Value::Text(claimed)), .. }) = op.changes.get(FieldName::SCOPE) else {
        return None;
    };
    Scope::new(claimed).ok()
}

/// A record whose type takes its scope from a parent goes where that parent is, but not to nowhere: of a parent that a hub lost which
/// was put back, a later change may come first.
pub(super) fn follow_parent<S: Store>(
    store: &mut S,
    key: &RecordKey,
    scope: &Scope,
    place: Option<&RecordKey>,
    rules: &Rules,
) -> Result<(), S::Error> {
    let Some(parent) = place else { return Ok(()) };
    match store.record(parent)? {
        Some(parent) if parent.is_placed() && parent.scope() != *scope => {
            own::move_to(store, key, &parent.scope(), rules)
        }
        _ => Ok(()),
    }
}

/// Judges all held ops of an origin on a record together, and applies them if nothing stands against them any more. None of
/// them is freed as long as one is for a person.
pub(super) fn reconsider<S: Store>(store: &mut S, key: &RecordKey, origin: Origin) -> Result<bool, S::Error> {
    let rules = store.rules()?;
    let held = store.held_of(key, origin)?;
    let held = found(store, held)?;
    if held.iter().any(|held| held.for_person) {
        return Ok(false);
    }
    let trial: Vec<_> = held.iter().map(|h| (&h.op, h.hseq)).collect();
    let applied = try_new(store, &trial, &rules)?;
    match objection(store, &trial, applied.as_ref(), &rules)? {
        None => {
            for waiting in &held {
                let_go(store, waiting, &rules)?;
            }
            if !held.is_empty() {
                reconsider_all(store, key)?;
            }
            Ok(true)
        }
        Some(objection) => {
            let Some(first) = held.first() else { return Ok(false) };
            if first.reason != objection.reason {
                let hseq = store.next()?;
                let changed = HeldOp { reason: objection.reason, ..first.clone() };
                hold(store, &changed, &objection.waits_for, hseq)?;
            }
            Ok(false)
        }
    }
}

/// Held ops as they count now that their record may be there, and elsewhere: what they say that they knew is believed as far as their
/// gateway can have read it, and what takes something away from a record that never was in its view waits for a person.
fn found<S: Store>(store: &mut S, held: Vec<HeldOp>) -> Result<Vec<HeldOp>, S::Error> {
    let Some(record) = held.first().map(|held| store.record(&held.op.key)).transpose()?.flatten() else {
        return Ok(held);
    };
    let (place, mut sitting) = (record.scope(), Sitting::default());
    let mut all = Vec::with_capacity(held.len());
    for mut held in held {
        let by = held.device.filter(|_| !held.for_person).map(|device| store.gateway(device)).transpose()?.flatten();
        if let Some(by) = by.filter(|by| !by.is_in_view(&place)) {
            if sitting.is_unfounded(store, &by, &held.op, &place)? {
                if claims::takes_away(store, &by, &held.op)? {
                    (held.reason, held.for_person) = (claims::REASON.to_owned(), true);
                    let hseq = store.next()?;
                    hold(store, &held, &[], hseq)?;
                } else {
                    // What it waits for is said anew when it is judged.
                    (held.op, held.reason) = (claims::blind(&held.op), JOINED.to_owned());
                    store.hold(&held, &[])?;
                }
            }
        }
        all.push(held);
    }
    Ok(all)
}

/// Judges what waits on a record that has changed: what stood against it may not be shown any more, or the record was not here.
fn reconsider_all<S: Store>(store: &mut S, key: &RecordKey) -> Result<(), S::Error> {
    for origin in store.origins_held(key)? {
        reconsider(store, key, origin)?;
    }
    Ok(())
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
    copy::count_for_nothing(store, &held.op, DROPPED)?;
    let hseq = store.next()?;
    log_news(store, held.device, &held.op, hseq, News::Discarded(why.to_owned()))?;
    reconsider_all(store, key)?;
    free_waiting(store, key)?;
    Ok(true)
}

/// Judges everything in quarantine anew, after the rules changed. Tells how many records were freed.
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
