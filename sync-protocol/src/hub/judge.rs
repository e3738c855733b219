//! Whether an op can be applied, and what it makes of its record. One that cannot waits ([`super::quarantine`]).

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

use super::own::{follow_parent, take_along};
use super::quarantine::{JOINED, free_waiting, hold, judge_joined, put_aside, reconsider_all};
use super::sitting::Sitting;
use super::stranger::strangers;
use super::{Arrived, Gateway, HeldOp, LogLine, Logged, Snapshot, Store};
use super::{claims, copy, erase, names, own};
use crate::edit::render;
use crate::erase::unnamed_parent;
use crate::id::{Dot, FieldName, HubSeq, Origin, RecordKey, Scope, Source};
use crate::limits::RECORD_KEPT_BYTES_MAX;
use crate::merge::{self, Merged, Presence, presence};
use crate::record::{Change, Op, Record, Stamp};
use crate::rules::Rules;
use crate::value::Value;

/// Why ops cannot be applied, in words for people, and the records whose arrival would change that.
pub(super) struct Objection {
    pub(super) reason: String,
    pub(super) waits_for: Vec<RecordKey>,
}

/// A record with ops applied to it, before anything of that is stored.
pub(super) struct Applied {
    /// Its scope before; `None` if there was no such record.
    was: Option<Scope>,
    pub(super) record: Record,
    pub(super) merged: Merged,
    pub(super) shown: Shown,
}

/// What the rules see of a record.
pub(super) struct Shown {
    /// As an app sees it; empty if the rules of its type do not look at that.
    body: Map<String, Json>,
    pub(super) parents: Vec<RecordKey>,
    /// The one of them where it is.
    pub(super) place: Option<RecordKey>,
}

impl Shown {
    fn of(record: &Record, key: &RecordKey, rules: &Rules) -> Shown {
        let body = if rules.of(&key.record_type).asks_for_body() { render(record) } else { Map::new() };
        let parents = rules.parents(&key.record_type, &body);
        let place = rules.place(&key.record_type, &body);
        Shown { body, parents, place }
    }
}

/// A record on which ops are tried, one after the other.
pub(super) struct Trial<'a> {
    key: &'a RecordKey,
    rules: &'a Rules,
    was: Option<Scope>,
    record: Record,
    merged: Merged,
    tried: BTreeSet<Dot>,
}

impl<'a> Trial<'a> {
    pub(super) fn of<S: Snapshot>(store: &mut S, key: &'a RecordKey, rules: &'a Rules) -> Result<Trial<'a>, S::Error> {
        let record = store.record(key)?;
        let was = record.as_ref().map(Record::scope);
        let (record, merged) = (record.unwrap_or_default(), Merged::default());
        Ok(Trial { key, rules, was, record, merged, tried: BTreeSet::new() })
    }

    /// Adds an op. False if it cannot be merged; nothing can be said of the record any more then.
    pub(super) fn add<S: Snapshot>(&mut self, store: &mut S, op: &Op, hseq: HubSeq) -> Result<bool, S::Error> {
        let renamed = copy::renamed(store, op)?;
        let op = renamed.as_ref().unwrap_or(op);
        let strangers = strangers(store, op, &self.record, &self.tried)?;
        self.tried.insert(op.stamp.dot);
        let is_stranger = |standing: &Stamp| strangers.contains(&standing.dot);
        let type_rules = self.rules.of(&self.key.record_type);
        let Ok(one) = merge::apply_among(&mut self.record, op, hseq, type_rules, &is_stranger) else {
            return Ok(false);
        };
        self.merged.changed |= one.changed;
        self.merged.superseded.extend(one.superseded);
        Ok(true)
    }

    /// Adds an op that was never applied: what stands under its number and is not from it makes way, and what it adds to lists does
    /// not come a second time.
    pub(super) fn add_new<S: Store>(&mut self, store: &mut S, op: &Op, hseq: HubSeq) -> Result<bool, S::Error> {
        if self.was.is_none() {
            return self.add(store, op, hseq);
        }
        let rest = copy::without_shown(store, op, &self.record)?;
        names::make_way(store, op, &mut self.record, hseq)?;
        self.add(store, rest.as_ref().unwrap_or(op), hseq)
    }

    /// What stands against the record as it is now.
    pub(super) fn objection<S: Snapshot>(&self, store: &mut S) -> Result<Option<Objection>, S::Error> {
        let shown = Shown::of(&self.record, self.key, self.rules);
        objection_to_record(store, self.key, &self.record, &shown, self.rules)
    }

    pub(super) fn applied(self) -> Applied {
        let shown = Shown::of(&self.record, self.key, self.rules);
        Applied { was: self.was, record: self.record, merged: self.merged, shown }
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
        let applied = try_new(store, op, at, &rules)?;
        let place = match &applied {
            Some(applied) => applied.was.clone(),
            None => store.record(&op.key)?.map(|record| record.scope()),
        };
        if let Some(by) = by {
            if sitting.is_outside(store, by, op, place.as_ref())? {
                return put_aside(store, by.device, arrived, claims::OUTSIDE);
            }
        }
        if let Some((by, place)) = by.zip(place) {
            if sitting.is_unfounded(store, by, op, &place)? {
                return take_in_unfounded(store, by, arrived, sitting);
            }
        }
        let hseq = store.next()?;
        let objection = objection(store, op, applied.as_ref(), &rules)?;
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
        if sitting.is_outside(store, by, op, Some(&record.scope()))? {
            return put_aside(store, by.device, arrived, claims::OUTSIDE);
        }
        if sitting.is_unfounded(store, by, op, &record.scope())? {
            return take_in_unfounded(store, by, arrived, sitting);
        }
    }
    let hseq = store.next()?;
    store.append(arrived, hseq, true)?;
    let waiting = HeldOp { op: op.clone(), hseq, device, reason: JOINED.to_owned(), for_person: false };
    store.hold(&waiting, &[])?;
    sitting.joined.entry((op.key.clone(), origin)).or_default().insert(op.stamp.dot);
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

/// What an op makes of its record; `None` if it cannot be merged.
pub(super) fn try_on<S: Snapshot>(
    store: &mut S,
    op: &Op,
    hseq: HubSeq,
    rules: &Rules,
) -> Result<Option<Applied>, S::Error> {
    let mut trial = Trial::of(store, &op.key, rules)?;
    Ok(trial.add(store, op, hseq)?.then(|| trial.applied()))
}

/// The same of an op that was never applied.
pub(super) fn try_new<S: Store>(
    store: &mut S,
    op: &Op,
    hseq: HubSeq,
    rules: &Rules,
) -> Result<Option<Applied>, S::Error> {
    let mut trial = Trial::of(store, &op.key, rules)?;
    Ok(trial.add_new(store, op, hseq)?.then(|| trial.applied()))
}

fn against(reason: &str) -> Objection {
    Objection { reason: reason.to_owned(), waits_for: Vec::new() }
}

/// What stands against an op that cannot be merged.
pub(super) fn unmergeable() -> Objection {
    against("this number was used twice: two gateways share one identity")
}

/// What stands against an op whatever comes after it.
pub(super) fn objection_to_op<S: Snapshot>(store: &mut S, op: &Op) -> Result<Option<Objection>, S::Error> {
    if claims_another_source(store, &op.stamp)? {
        return Ok(Some(against("claims to come from another kind of place than its gateway is")));
    }
    if erase::claims_too_much(store, op)? {
        return Ok(Some(against("names an erasure that this hub does not know; is its list of erasures missing?")));
    }
    Ok(None)
}

/// What stands against a record. A later op may mend that.
fn objection_to_record<S: Snapshot>(
    store: &mut S,
    key: &RecordKey,
    record: &Record,
    shown: &Shown,
    rules: &Rules,
) -> Result<Option<Objection>, S::Error> {
    if record.size() > RECORD_KEPT_BYTES_MAX {
        return Ok(Some(against("the record would be larger than any record may be")));
    }
    if presence(record, rules.of(&key.record_type)) == Presence::Deleted {
        return Ok(None);
    }
    let violations = rules.check(&key.record_type, &shown.body);
    if !violations.is_empty() {
        let told: Vec<_> = violations.iter().map(|v| format!("{} {}", v.field, v.message)).collect();
        return Ok(Some(against(&told.join("; "))));
    }
    if unnamed_parent(record, &shown.parents, |parent| store.erasure(parent))?.is_some() {
        return Ok(Some(against("says that it belongs to a record that was erased")));
    }
    let mut missing = Vec::new();
    for parent in &shown.parents {
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

fn objection<S: Snapshot>(
    store: &mut S,
    op: &Op,
    applied: Option<&Applied>,
    rules: &Rules,
) -> Result<Option<Objection>, S::Error> {
    if let Some(objection) = objection_to_op(store, op)? {
        return Ok(Some(objection));
    }
    match applied {
        Some(applied) => objection_to_record(store, &op.key, &applied.record, &applied.shown, rules),
        None => Ok(Some(unmergeable())),
    }
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

/// Applies one op for good. One that cannot be merged never comes here: it was tried before.
pub(super) fn apply<S: Store>(store: &mut S, op: &Op, hseq: HubSeq, rules: &Rules) -> Result<(), S::Error> {
    match try_new(store, op, hseq, rules)? {
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
    let Applied { was, mut record, mut merged, shown } = applied;
    let Shown { parents, place, .. } = shown;
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
    let (has_moved, is_new) = (was.as_ref() != Some(&is), was.is_none());
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
    match is_new {
        true => copy::count_dropped(store, op, rules),
        false => Ok(()),
    }
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
