//! What of its history a gateway may forget.
//!
//! An own op may go when nothing of it stands any more, and when it has been safe at the hub for long. Whatever still stands
//! stays as an op for ever: it can be sent again to a hub that was put back to before it, in its place, with its number and its
//! chain ([`crate::message::Gap`]). How long it has been safe is told by the hub's time alone, from notes that are made once a day
//! ([`Milestone`]): a gateway that does not reach its hub forgets nothing, and a hub that was put back begins the count anew.
//!
//! Nothing here reads or writes: the caller brings what it knows, and removes what it is told may go.

use super::{GatewayState, Held, UNENROLLED};
use crate::id::{Epoch, HubSeq, Origin, Seq};
use crate::record::{Cell, Change, Op, Record, Stamp, State};

/// Time between two milestones, milliseconds.
pub const MILESTONE_EVERY_MS: i64 = 24 * 3_600 * 1_000;

/// What was safe at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Milestone {
    /// When, by the hub's clock, milliseconds since 1970.
    pub at_ms: i64,
    /// The hub's epoch then.
    pub epoch: Epoch,
    /// The gateway's origin then.
    pub origin: Origin,
    /// In each stream this op and all before it survived the loss of the hub.
    pub durable: [Seq; 3],
    /// The number of the last change from the hub that was in the history.
    pub changes: u64,
}

/// How far the history may be gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// In each stream: up to this op, and not this one itself.
    pub own: [Seq; 3],
    /// Changes from the hub before this number, and not this one itself.
    pub changes: u64,
    /// Whether anything at all of the present origin was safe. What was written under an earlier one is so, too, then: the hub
    /// had it before.
    pub earlier: bool,
}

/// What the gateway would note now; `None` while it says nothing that would hold: before the enrolment, and until it has made
/// good what a hub that was put back had lost.
pub fn milestone(state: &GatewayState, changes: u64, now_ms: i64) -> Option<Milestone> {
    let is_settled = state.origin != UNENROLLED && state.recovers.is_none() && state.open_bounds().next().is_none();
    let (epoch, origin) = (state.epoch, state.origin);
    let durable = state.streams.map(|stream| stream.durable.min(stream.acked));
    is_settled.then_some(Milestone { at_ms: now_ms, epoch, origin, durable, changes })
}

/// Whether a milestone says anything after the last one that was noted.
pub fn is_worth_noting(last: Option<&Milestone>, now: &Milestone) -> bool {
    last.is_none_or(|last| {
        let is_same = Milestone { at_ms: last.at_ms, ..*now } == *last;
        let is_of_now = (last.epoch, last.origin) == (now.epoch, now.origin);
        // A clock that went back makes it due.
        !is_same && (!is_of_now || now.at_ms.abs_diff(last.at_ms) >= MILESTONE_EVERY_MS.unsigned_abs())
    })
}

/// How far the history may be gone through now, if what was safe `age_ms` ago may go.
pub fn reach(milestones: &[Milestone], state: &GatewayState, now_ms: i64, age_ms: i64) -> Option<Reach> {
    let now = milestone(state, u64::MAX, now_ms)?;
    let is_of_now = |known: &&Milestone| (known.epoch, known.origin) == (now.epoch, now.origin);
    let is_old = |known: &&Milestone| known.at_ms <= now_ms.saturating_sub(age_ms);
    let known = milestones.iter().filter(is_of_now).filter(is_old).max_by_key(|known| known.at_ms)?;
    let mut own = known.durable;
    for (own, durable) in own.iter_mut().zip(now.durable) {
        *own = (*own).min(durable);
    }
    Some(Reach { own, changes: known.changes, earlier: own.iter().any(|seq| *seq > Seq(0)) })
}

/// Whether nothing of an own op stands any more: each value that it set was overruled by somebody who knew it, and each count is
/// contained in one of `newer`, which are later own ops of the same record that stay and have been safe as long as what may go: else
/// a hub that is put back to yesterday has the op and not what contains it. `hseq` is the hub's number of the op.
///
/// What was added to lists and to sets stays, and what was taken out of a set: others may bring it back.
///
/// The record has to be here whole. Of one that was not held, and to which an own write was just confirmed, the rest has yet to come:
/// what stands at the hub is not seen, and an own write that is to be named as unseen has to be known.
pub fn is_spent(op: &Op, hseq: HubSeq, held: &Held, state: &GatewayState, newer: &[Op]) -> bool {
    let is_whole = held.leaving.is_none() && held.seen(state) != HubSeq::NONE;
    // One that was erased stays, with its place in the chain.
    let Some(confirmed) = held.confirmed.as_ref().filter(|_| is_whole && !op.is_erased()) else { return false };
    let stamp = Stamp { hseq, ..op.stamp.clone() };
    op.changes.iter().all(|(field, change)| match change {
        Change::Put { .. } => {
            let is_overruled = |record: &Record| record.cells.get(field).is_some_and(|cell| overrules(cell, &stamp));
            is_overruled(confirmed) && is_overruled(&held.visible)
        }
        Change::Count { .. } => newer.iter().any(|newer| {
            newer.stamp.dot.origin == stamp.dot.origin
                && newer.stamp.saw(&stamp)
                && matches!(newer.changes.get(field), Some(Change::Count { .. }))
        }),
        Change::Members { .. } | Change::Append(_) => false,
    })
}

fn overrules(cell: &Cell, stamp: &Stamp) -> bool {
    let State::Register(entries) = &cell.state else { return false };
    entries.iter().all(|entry| entry.stamp.dot != stamp.dot) && entries.iter().any(|entry| entry.stamp.saw(stamp))
}
