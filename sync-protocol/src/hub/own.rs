//! What the hub writes of its own accord: nobody asked for it, and it follows from what others wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::judge::apply;
use super::{Arrived, Store};
use crate::clock::TimeQuality;
use crate::edit::render;
use crate::id::{Dot, FieldName, HubSeq, Origin, RecordKey, Scope, Source};
use crate::record::{Cell, Change, Op, Record, Stamp};
use crate::rules::Rules;
use crate::value::Value;

/// Why the hub moves a record whose scope follows a parent.
const FOLLOWS: &str = "follows its parent";

/// Whether an op is a move that the hub made because a parent moved.
pub(super) fn is_move(op: &Op) -> bool {
    op.stamp.dot.origin == Origin::HUB && op.stamp.settles.as_deref() == Some(FOLLOWS)
}

/// Moves a record to another scope, as a write of the hub.
pub(super) fn move_to<S: Store>(store: &mut S, key: &RecordKey, scope: &Scope, rules: &Rules) -> Result<(), S::Error> {
    if store.record(key)?.is_none_or(|record| record.scope() == *scope) {
        return Ok(());
    }
    let changes = BTreeMap::from([(FieldName::scope(), Change::put(Value::Text(scope.as_str().to_owned())))]);
    write_as_hub(store, key, changes, FOLLOWS, rules)
}

/// Moves what follows a record to where that is now.
pub(super) fn take_along<S: Store>(store: &mut S, key: &RecordKey, is: &Scope, rules: &Rules) -> Result<(), S::Error> {
    for child in store.children(key)? {
        // It may name this one as another parent than the one where it is.
        let place = store.record(&child)?.and_then(|record| rules.place(&child.record_type, &render(&record)));
        if place.as_ref() == Some(key) {
            move_to(store, &child, is, rules)?;
        }
    }
    Ok(())
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
        Some(parent) if parent.is_placed() && parent.scope() != *scope => move_to(store, key, &parent.scope(), rules),
        _ => Ok(()),
    }
}

/// Applies changes of a record that the hub makes of its own accord. `why` is kept with them.
pub(super) fn write_as_hub<S: Store>(
    store: &mut S,
    key: &RecordKey,
    changes: BTreeMap<FieldName, Change>,
    why: &str,
    rules: &Rules,
) -> Result<(), S::Error> {
    let record = store.record(key)?;
    let (op, hseq) = hub_op(store, key, record.as_ref(), changes, why, rules)?;
    apply(store, &op, hseq, rules)
}

/// Puts an op of the hub into the history: later than all that stands in its record. It has yet to be applied.
pub(super) fn hub_op<S: Store>(
    store: &mut S,
    key: &RecordKey,
    record: Option<&Record>,
    changes: BTreeMap<FieldName, Change>,
    why: &str,
    rules: &Rules,
) -> Result<(Op, HubSeq), S::Error> {
    let cells = record.into_iter().flat_map(|record| record.cells.values());
    let clock = cells.filter_map(Cell::stamp).map(|s| s.hlc).max().unwrap_or_default();
    let seen = store.head()?;
    let stream = rules.of(&key.record_type).stream;
    let mut mark = store.mark(Origin::HUB, stream)?;
    mark.acked = mark.acked.next();
    let stamp = Stamp {
        dot: Dot { origin: Origin::HUB, stream, seq: mark.acked },
        hlc: clock.tick(0),
        seen,
        hseq: HubSeq::NONE,
        captured_ms: clock.unix_ms() as i64,
        quality: TimeQuality::Unknown,
        source: Source::HUB,
        author: None,
        settles: Some(Arc::from(why)),
    };
    let op = Op { stamp, key: key.clone(), changes };
    let arrived = Arrived::after(mark.chain, &op);
    mark.chain = arrived.chain;
    store.set_mark(Origin::HUB, stream, &mark)?;
    let hseq = store.next()?;
    store.append(&arrived, hseq, false)?;
    Ok((op, hseq))
}
