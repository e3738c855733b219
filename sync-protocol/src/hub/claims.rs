//! What a gateway may say that it knew.
//!
//! A write overrules what it has seen, and its gateway says itself what that was. It is believed as far as it can be true: of a record
//! that never was in its view a gateway has read nothing. It may write to one all the same, because two places may use one id without
//! knowing of each other; then both values stand beside each other, and people see that.

use std::collections::BTreeMap;

use super::copy::are_of_one_card;
use super::judge::try_new;
use super::{Gateway, Snapshot, Store};
use crate::edit::render;
use crate::id::{FieldName, HubSeq, Origin, RecordKey, Scope};
use crate::record::{Cell, Change, Op, State};
use crate::rules::ScopeKey;
use crate::value::Value;

/// Why a write waits that takes something away which its gateway cannot have read.
pub(super) const REASON: &str = "takes something away from a record that never was in the view of its gateway: release it if that is right, else discard it";

/// Why a write waits where the rules let nobody write who has nothing to do with the record.
pub(super) const OUTSIDE: &str = "is about a record outside of the scopes of its gateway, which never was in its view: release it if that is right, else discard it";

/// Whether a write says more of what it knew than is said by one that knew nothing.
///
/// # Errors
/// What the store reports.
pub(super) fn claims_more<S: Store>(store: &mut S, gateway: &Gateway, op: &Op) -> Result<bool, S::Error> {
    Ok(op.stamp.seen != HubSeq::NONE || takes_away(store, gateway, op)?)
}

/// Whether a record was in the view of a gateway at some time, wherever it is now: who had it in view has read it, and may not have
/// heard yet that it left. `origin` is one of the gateway's own.
///
/// # Errors
/// What the store reports.
pub(super) fn has_read<S: Snapshot>(
    store: &mut S,
    gateway: &Gateway,
    key: &RecordKey,
    origin: Origin,
) -> Result<bool, S::Error> {
    let is_seen = |place: &Value| {
        place.as_text().and_then(|text| Scope::new(text).ok()).is_some_and(|scope| gateway.is_in_view(&scope))
    };
    let record = store.record(key)?.unwrap_or_default();
    if let Some(State::Register(entries)) = record.cells.get(FieldName::SCOPE).map(|cell| &cell.state) {
        if entries.iter().filter_map(|entry| entry.value.as_ref()).any(is_seen) {
            return Ok(true);
        }
    }
    // What stands here of an earlier number made it, though it came as no op.
    let oldest = record.cells.values().flat_map(Cell::stamps).map(|stamp| stamp.hseq).min().unwrap_or_default();
    let (mut is_first, mut of_card) = (true, BTreeMap::new());
    for known in store.writes_of(key)?.iter() {
        let dot = known.stamp.dot;
        let place = match known.changes.get(FieldName::SCOPE) {
            Some(Change::Put { value: Some(value), .. }) if is_seen(value) => Some(value),
            _ => None,
        };
        let is_own = match of_card.get(&dot.origin) {
            Some(is_own) => *is_own,
            None => {
                let is_own = are_of_one_card(store, dot.origin, origin)?;
                of_card.insert(dot.origin, is_own);
                is_own
            }
        };
        // Its own word counts only where it made the record: later it was perhaps not taken, and would open the door to the next write.
        let counts = place.is_some() && (is_first || !is_own);
        if !is_first && !counts {
            continue;
        }
        // What waits has made nothing.
        let applied = store.applied_as(dot)?;
        if applied.is_some() || dot.origin == Origin::HUB {
            if counts && (!is_own || applied.is_some_and(|applied| applied <= oldest)) {
                return Ok(true);
            }
            is_first = false;
        }
    }
    Ok(false)
}

/// Whether a write takes something away from where its record is: it deletes the record, takes out of a set what others put in, or
/// names another parent, to whose place the record would follow.
///
/// # Errors
/// What the store reports.
pub(super) fn takes_away<S: Store>(store: &mut S, gateway: &Gateway, op: &Op) -> Result<bool, S::Error> {
    if is_moved(store, op)? {
        return Ok(true);
    }
    for (name, change) in &op.changes {
        match change {
            Change::Put { value: Some(Value::Bool(true)), .. } if name.as_str() == FieldName::DELETED => {
                return Ok(true);
            }
            Change::Members { remove, .. } => {
                for (origin, _) in remove.iter().flat_map(|(_, writes)| writes.keys()) {
                    let of = store.device_of(*origin)?;
                    if of.is_none() || (of != Some(gateway.device) && of != gateway.twin_of) {
                        return Ok(true);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(false)
}

/// Whether a write has its record follow another parent than the one where it is. Of one that cannot be merged nobody can tell.
fn is_moved<S: Store>(store: &mut S, op: &Op) -> Result<bool, S::Error> {
    let (rules, record_type) = (store.rules()?, &op.key.record_type);
    let Some(record) = store.record(&op.key)? else { return Ok(false) };
    let at = store.head()?.next();
    // As it will be applied: what stands under its number makes way then.
    let Some(after) = try_new(store, op, at, &rules)? else { return Ok(true) };
    let follows = matches!(rules.of(record_type).scope, ScopeKey::Parent(_));
    Ok(follows && after.shown.place != rules.place(record_type, &render(&record)))
}

/// The write as one that knew nothing but what its own gateway had written.
pub(super) fn blind(op: &Op) -> Op {
    let mut blind = op.clone();
    blind.stamp.seen = HubSeq::NONE;
    blind
}
