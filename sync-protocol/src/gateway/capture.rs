//! Capture: from an app's wish to a durable op, in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::{Held, Store, changes_name, show};
use crate::clock::TimeQuality;
use crate::digest::etag;
use crate::edit::{Changes, Desk, EditError};
use crate::erase;
use crate::id::{Author, Dot, FieldName, HubSeq, Origin, RecordKey};
use crate::limits::{FIELDS_MAX, RECORD_KEPT_BYTES_MAX};
use crate::merge::{self, Presence, presence};
use crate::record::{Cell, Change, Op, Record, Stamp, State};
use crate::rules::ScopeKey;

/// More than a card writes in its life before it is put back: a number above that is somebody's joke, and would leave none to give.
const NUMBERS_LOST_MAX: u64 = 1 << 24;

/// What an app wants done to a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Intent {
    /// Make it equal to this body.
    Put(Map<String, Json>),
    /// Delete it.
    Delete,
    /// Settle a field on a value, overruling what stands there; the text says why.
    Settle {
        /// The field.
        field: FieldName,
        /// The value that shall stand; `None` removes the field.
        value: Option<Json>,
        /// Why, for those who read the history.
        why: String,
    },
    /// Settle a delete that met an edit: `true` deletes the record, `false` keeps it.
    SettleDelete {
        /// Whether it is deleted.
        delete: bool,
        /// Why, for those who read the history.
        why: String,
    },
}

/// One write at the desk.
#[derive(Debug, Clone, PartialEq)]
pub struct Capture {
    /// The record.
    pub key: RecordKey,
    /// What is wanted.
    pub intent: Intent,
    /// The record as the app had read it, if it is another than the present one.
    pub base: Option<Record>,
    /// Who held the tablet.
    pub author: Option<Author>,
    /// Wall clock, milliseconds since 1970.
    pub now_ms: i64,
    /// How good it is.
    pub quality: TimeQuality,
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The op; `None` if the record was like that already.
    pub op: Option<Dot>,
    /// Whether there was no such record before.
    pub created: bool,
    /// Tag of the record as it is now.
    pub etag: String,
    /// Fields that somebody else had changed since the version the app had read.
    pub conflicts: Vec<FieldName>,
    /// The record as it is now.
    pub record: Record,
}

/// A write that cannot be taken, or a disk that fails.
#[derive(Debug, thiserror::Error)]
pub enum Refusal<E> {
    /// The app or the person has to correct something.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// Two gateways write under one identity.
    #[error(transparent)]
    Merge(#[from] crate::error::MergeError),
    /// The store failed.
    #[error("the store failed")]
    Store(E),
}

/// Captures one write: validates, ticks the clock, merges it into what is shown, and puts the op into the outbox.
///
/// # Errors
/// [`Refusal`]; nothing was changed then, as long as the caller rolls back.
pub fn capture<S: Store>(store: &mut S, wish: Capture) -> Result<Captured, Refusal<S::Error>> {
    let mut state = store.state().map_err(Refusal::Store)?;
    let rules = store.rules().map_err(Refusal::Store)?;
    let held = store.held(&wish.key).map_err(Refusal::Store)?;
    let type_rules = rules.of(&wish.key.record_type);
    let current = held.as_ref().map(|h| &h.visible);
    let created = current.is_none_or(|r| presence(r, type_rules) == Presence::Deleted);
    let home = state.home();
    let desk = Desk {
        rules: &rules,
        record_type: &wish.key.record_type,
        origin: state.origin,
        source: state.source,
        home: &home,
        current,
        base: wish.base.as_ref().or(current),
    };
    let is_blind = held.as_ref().is_some_and(Held::is_unreadable);
    let (Changes { mut changes, conflicts }, settles) = match held.as_ref().filter(|_| is_blind) {
        Some(held) => (blind(&desk, &wish.intent, held.awaits_whole)?, None),
        None => changes_of(&desk, &wish.intent)?,
    };
    if held.as_ref().is_some_and(|held| held.awaits_whole && adds_to_the_unknown(&changes, &held.visible)) {
        return Err(EditError::Unreadable.into());
    }
    let mut held = held.unwrap_or_default();
    let seen = held.seen(&state);
    if seen == HubSeq::NONE {
        let mut own = store.own_of(&wish.key).map_err(Refusal::Store)?;
        let pending = store.pending(&wish.key).map_err(Refusal::Store)?;
        // One that waits is shown, unless a later one was confirmed before it: what stands in its place may not have known it. Where the
        // whole is awaited, one that waits again because the hub was put back is not shown either: there only what stands was seen.
        let standing: Vec<_> = held.confirmed.iter().flat_map(|r| r.cells.values()).flat_map(Cell::stamps).collect();
        let is_passed = |op: &Op| standing.iter().any(|later| later.saw(&op.stamp));
        own.retain(|op| {
            held.awaits_whole
                || is_blind
                || is_passed(op)
                || !pending.iter().any(|waiting| waiting.stamp.dot == op.stamp.dot)
        });
        // What did not know of an erasure counts for nothing in the new life.
        if let Some(number) = store.erasure(&wish.key).map_err(Refusal::Store)? {
            own.retain(|op| erase::knows(op, number));
        }
        if !own.is_empty() && is_delete(&wish.intent) {
            return Err(EditError::NotHeld.into());
        }
        own_up(&mut changes, &own, Some(&held.visible), state.origin);
        if is_blind {
            // Nobody had seen what waits, nor what cannot be read. What waits is shown from now on.
            held.visible = show(None, &pending, &rules).0;
            let lost = store.unreadable_own(&wish.key).map_err(Refusal::Store)?;
            for change in changes.values_mut() {
                if let Change::Put { unseen, .. } = change {
                    unseen.extend_from_slice(&lost);
                }
            }
        }
    }
    let Held { confirmed, mut visible, leaving, awaits_whole, .. } = held;
    if changes.is_empty() {
        return Ok(Captured { op: None, created: false, etag: etag(&visible), conflicts, record: visible });
    }
    let stream_id = type_rules.stream;
    state.awaits_time |= wish.quality == TimeQuality::Unknown;
    state.clock = state.clock.tick(u64::try_from(wish.now_ms).unwrap_or(0));
    let shown = merge::highest(&visible, (state.origin, stream_id.number()));
    let stream = state.stream_mut(stream_id);
    // Above that only if card and hub were both put back, and a third shows what was written in the lost time. Under such a number
    // a write would count as one that is there; the hub sees that some are missing, and gives this gateway another origin.
    let is_lost = shown.0 <= stream.last.0.saturating_add(NUMBERS_LOST_MAX);
    stream.last = if is_lost { stream.last.max(shown) } else { stream.last }.next();
    let (seq, chain) = (stream.last, stream.chain);
    let stamp = Stamp {
        dot: Dot { origin: state.origin, stream: stream_id, seq },
        hlc: state.clock,
        // It must never claim to have seen what it had not.
        seen,
        hseq: HubSeq::NONE,
        captured_ms: wish.now_ms,
        quality: wish.quality,
        source: state.source,
        author: wish.author,
        settles,
    };
    if state.erased > 0 {
        let erasure = |key: &RecordKey| store.erasure(key);
        changes_name(&wish.key, Some(&visible), &mut changes, &stamp, &rules, erasure).map_err(Refusal::Store)?;
    }
    let op = Op { stamp, key: wish.key, changes };
    let chain = chain.extend(&op);
    state.stream_mut(stream_id).chain = chain;
    let merged = merge::apply(&mut visible, &op, HubSeq::NONE, type_rules)?;
    if visible.cells.len() > FIELDS_MAX || op.changes.len() > FIELDS_MAX {
        return Err(
            EditError::Limit(format!("a record has at most {FIELDS_MAX} fields, three of which are ours")).into()
        );
    }
    if visible.size() > RECORD_KEPT_BYTES_MAX {
        return Err(EditError::Limit(format!("a record takes at most {RECORD_KEPT_BYTES_MAX} bytes")).into());
    }
    store.append(&op, chain, &merged.superseded).map_err(Refusal::Store)?;
    let held = Held { confirmed, visible, is_pending: true, leaving, awaits_whole };
    store.keep(&op.key, &held).map_err(Refusal::Store)?;
    store.set_state(&state).map_err(Refusal::Store)?;
    Ok(Captured { op: Some(op.stamp.dot), created, etag: etag(&held.visible), conflicts, record: held.visible })
}

/// The changes of a body that is put over a record of which nothing can be read. They merge with what the hub has of it, if it has
/// any.
fn blind(desk: &Desk<'_>, intent: &Intent, is_at_hub: bool) -> Result<Changes, EditError> {
    let Intent::Put(body) = intent else { return Err(EditError::Unreadable) };
    let mut put = Desk { current: None, base: None, ..*desk }.put(body)?;
    if is_at_hub && !matches!(desk.rules.of(desk.record_type).scope, ScopeKey::Field(_)) {
        // It stays where it is.
        put.changes.remove(FieldName::SCOPE);
    }
    Ok(put)
}

/// Whether a change adds to a counter or a list of which nothing is shown, although the hub may have one: an app that sends the whole
/// would double it.
fn adds_to_the_unknown(changes: &BTreeMap<FieldName, Change>, visible: &Record) -> bool {
    let adds = |change: &Change| matches!(change, Change::Count { .. } | Change::Append(_));
    changes.iter().any(|(name, change)| adds(change) && !visible.cells.contains_key(name))
}

pub(crate) fn is_delete(intent: &Intent) -> bool {
    matches!(intent, Intent::Delete | Intent::SettleDelete { delete: true, .. })
}

/// Takes into account what this gateway itself wrote to a record that it does not hold any more. Everybody takes for granted
/// that it knows its own writes: so those that are not to be seen have to be named, and a counter goes on from its own total.
pub(crate) fn own_up(
    changes: &mut BTreeMap<FieldName, Change>,
    unseen: &[Op],
    visible: Option<&Record>,
    origin: Origin,
) {
    for (field, change) in changes {
        let cell = visible.and_then(|record| record.cells.get(field));
        let before = unseen.iter().filter_map(|op| Some((op.stamp.dot, op.changes.get(field)?)));
        match change {
            Change::Put { unseen, .. } => {
                let stands: Vec<Dot> = cell.map(Cell::stamps).unwrap_or_default().iter().map(|s| s.dot).collect();
                unseen.extend(before.map(|(dot, _)| dot).filter(|dot| !stands.contains(dot)));
            }
            Change::Count { plus, minus } => {
                let here = match cell.map(|cell| &cell.state) {
                    Some(State::Counter(counter)) => counter.totals.get(&origin).copied().unwrap_or_default(),
                    _ => (0, 0),
                };
                let mut known = here;
                for (_, change) in before {
                    if let Change::Count { plus: p, minus: m } = change {
                        known = (known.0.max(*p), known.1.max(*m));
                    }
                }
                (*plus, *minus) = (plus.saturating_add(known.0 - here.0), minus.saturating_add(known.1 - here.1));
            }
            Change::Members { .. } | Change::Append(_) => {}
        }
    }
}

pub(crate) fn changes_of(desk: &Desk<'_>, intent: &Intent) -> Result<(Changes, Option<Arc<str>>), EditError> {
    Ok(match intent {
        Intent::Put(body) => (desk.put(body)?, None),
        Intent::Delete => (desk.delete(), None),
        Intent::Settle { field, value, why } => (desk.settle(field, value.as_ref())?, Some(Arc::from(why.as_str()))),
        Intent::SettleDelete { delete, why } => (desk.settle_delete(*delete)?, Some(Arc::from(why.as_str()))),
    })
}
