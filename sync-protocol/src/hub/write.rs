//! A write at the centre: the same desk as at a gateway, with the hub as the origin.

use super::judge::admit;
use super::{Arrived, Mark, Store};
use crate::clock::{Hlc, TimeQuality};
use crate::digest::etag;
use crate::edit::{Changes, Desk, EditError};
use crate::gateway::{Capture, Captured, Refusal, changes_name};
use crate::id::{Dot, HubSeq, Origin, RecordKey, Scope, Source};
use crate::merge::{Presence, presence};
use crate::record::{Cell, Op, Record, Stamp};

/// What a write at the centre did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// As at a gateway.
    pub captured: Captured,
    /// Whether it waits in quarantine, for a parent that is not here.
    pub is_held: bool,
}

/// Writes a record at the centre.
///
/// # Errors
/// [`Refusal`]; nothing was changed then, as long as the caller rolls back.
pub fn write<S: Store>(store: &mut S, wish: Capture, home: &Scope) -> Result<Written, Refusal<S::Error>> {
    let rules = store.rules().map_err(Refusal::Store)?;
    let before = store.record(&wish.key).map_err(Refusal::Store)?;
    let type_rules = rules.of(&wish.key.record_type);
    let created = before.as_ref().is_none_or(|r| presence(r, type_rules) == Presence::Deleted);
    let desk = Desk {
        rules: &rules,
        record_type: &wish.key.record_type,
        origin: Origin::HUB,
        source: Source::HUB,
        home,
        current: before.as_ref(),
        base: wish.base.as_ref().or(before.as_ref()),
    };
    let (Changes { mut changes, conflicts }, settles) = crate::gateway::changes_of(&desk, &wish.intent)?;
    // Own writes that wait in quarantine are not to be seen.
    let held = store.held_of(&wish.key, Origin::HUB).map_err(Refusal::Store)?;
    let waiting: Vec<Op> = held.into_iter().map(|held| held.op).collect();
    if !waiting.is_empty() && crate::gateway::is_delete(&wish.intent) {
        return Err(EditError::OwnWait.into());
    }
    crate::gateway::own_up(&mut changes, &waiting, before.as_ref(), Origin::HUB);
    if changes.is_empty() {
        let record = before.unwrap_or_default();
        let captured = Captured { op: None, created: false, etag: etag(&record), conflicts, record };
        return Ok(Written { captured, is_held: false });
    }
    let stream = type_rules.stream;
    let mark = store.mark(Origin::HUB, stream).map_err(Refusal::Store)?;
    // Later than everything that it overwrites, whatever the clock says.
    let known = before.iter().flat_map(|r| r.cells.values()).filter_map(Cell::stamp).map(|s| s.hlc).max();
    let stamp = Stamp {
        dot: Dot { origin: Origin::HUB, stream, seq: mark.acked.next() },
        hlc: known.unwrap_or_default().max(Hlc::default()).tick(u64::try_from(wish.now_ms).unwrap_or(0)),
        seen: if before.is_some() { store.head().map_err(Refusal::Store)? } else { HubSeq::NONE },
        hseq: HubSeq::NONE,
        captured_ms: wish.now_ms,
        quality: wish.quality.max(TimeQuality::Good),
        source: Source::HUB,
        author: wish.author,
        settles,
    };
    let erasure = |key: &RecordKey| store.erasure(key);
    changes_name(&wish.key, before.as_ref(), &mut changes, &stamp, &rules, erasure).map_err(Refusal::Store)?;
    let op = Op { stamp, key: wish.key, changes };
    let arrived = Arrived::after(mark.chain, &op);
    let mark = Mark { acked: op.stamp.dot.seq, chain: arrived.chain, ..mark };
    store.set_mark(Origin::HUB, stream, &mark).map_err(Refusal::Store)?;
    let is_held = admit(store, None, &arrived).map_err(Refusal::Store)?;
    let record: Record = store.record(&op.key).map_err(Refusal::Store)?.unwrap_or_default();
    let captured = Captured { op: Some(op.stamp.dot), created, etag: etag(&record), conflicts, record };
    Ok(Written { captured, is_held })
}
