//! What a gateway may say that it knew.
//!
//! A write overrules what it has seen, and its gateway says itself what that was. It is believed as far as it can be true: of a record
//! that never was in its view a gateway has read nothing. It may write to one all the same, because two places may use one id without
//! knowing of each other; then both values stand beside each other, and people see that.

use super::copy::are_of_one_card;
use super::{Gateway, Snapshot};
use crate::id::{FieldName, HubSeq, Scope};
use crate::record::{Change, Op, State};
use crate::value::Value;

/// Why a write waits that takes something away which its gateway cannot have read.
pub(super) const REASON: &str = "takes something away from a record that never was in the view of its gateway: release it if that is right, else discard it";

/// Whether a write says that it knew something of its record that its gateway cannot know. `scope` is where the record is.
///
/// # Errors
/// What the store reports.
pub(super) fn is_unfounded<S: Snapshot>(
    store: &mut S,
    gateway: &Gateway,
    op: &Op,
    scope: &Scope,
) -> Result<bool, S::Error> {
    if gateway.is_in_view(scope) || (op.stamp.seen == HubSeq::NONE && !takes_away(store, gateway, op)?) {
        return Ok(false);
    }
    // Wherever it was: who had it in view has read it, and may not have heard yet that it left.
    let standing = store.record(&op.key)?.and_then(|mut record| record.cells.remove(FieldName::SCOPE));
    let mut places = Vec::new();
    if let Some(State::Register(entries)) = standing.map(|cell| cell.state) {
        places.extend(entries.into_iter().filter_map(|entry| entry.value));
    }
    for (nth, known) in store.writes_of(&op.key)?.iter().enumerate() {
        let Some(Change::Put { value: Some(value), .. }) = known.changes.get(FieldName::SCOPE) else { continue };
        // Its own word counts only where it made the record: later it was perhaps not taken, and would open the door to the next write.
        if nth == 0 || !are_of_one_card(store, known.stamp.dot.origin, op.stamp.dot.origin)? {
            places.push(value.clone());
        }
    }
    let was_in_view = |place: &Value| {
        place.as_text().and_then(|text| Scope::new(text).ok()).is_some_and(|scope| gateway.is_in_view(&scope))
    };
    Ok(!places.iter().any(was_in_view))
}

/// Whether a write deletes its record, or takes out of a set what others put in.
///
/// # Errors
/// What the store reports.
pub(super) fn takes_away<S: Snapshot>(store: &mut S, gateway: &Gateway, op: &Op) -> Result<bool, S::Error> {
    for (name, change) in &op.changes {
        match change {
            Change::Put { value: Some(Value::Bool(true)), .. } if name.as_str() == FieldName::DELETED => {
                return Ok(true);
            }
            Change::Members { remove, .. } => {
                for (origin, _) in remove.iter().flat_map(|(_, writes)| writes.keys()) {
                    let of = store.device_of(*origin)?;
                    if of != Some(gateway.device) && of != gateway.twin_of {
                        return Ok(true);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(false)
}

/// The write as one that knew nothing but what its own gateway had written.
pub(super) fn blind(op: &Op) -> Op {
    let mut blind = op.clone();
    blind.stamp.seen = HubSeq::NONE;
    blind
}
