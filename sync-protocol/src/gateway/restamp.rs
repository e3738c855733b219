//! Times of unsent ops, once the hub's time was heard.
//!
//! As long as nobody knows how good the time of an unsent op is, a request carries no ops (`awaits_time`). With its answer
//! comes the hub's time, and all that has never left the box gets the time that [`crate::boot`] finds for it, in one
//! transaction with the answer. What has left is never changed.

use std::collections::BTreeMap;

use super::{GatewayState, Held, Store, show};
use crate::boot::{Moment, Written, repair};
use crate::clock::Hlc;
use crate::id::{RecordKey, Seq, Stream};
use crate::limits::CLOCK_AHEAD_MS_MAX;
use crate::record::Op;

/// The highest stamp that the hub leaves as it is at this time of its clock.
pub(super) fn latest(hub_ms: u64) -> Hlc {
    Hlc::at(hub_ms.saturating_add(CLOCK_AHEAD_MS_MAX))
}

/// Takes note of the hub's time at the end of an answer.
pub(super) fn hear_time<S: Store>(store: &mut S, hub_ms: u64) -> Result<(), S::Error> {
    let mut state = store.state()?;
    // A clock that one bad boot took to another year comes back, too.
    if state.awaits_time || state.clock > latest(hub_ms) {
        restamp(store, &mut state, hub_ms)?;
    }
    let floor_ms = state.floor_ms.max(i64::try_from(hub_ms).unwrap_or(i64::MAX));
    store.set_state(&GatewayState { floor_ms, ..state })
}

/// Lets what is unsent go with the times that it has.
///
/// # Errors
/// What the store reports.
pub fn leave_times<S: Store>(store: &mut S) -> Result<(), S::Error> {
    let state = store.state()?;
    store.set_state(&GatewayState { awaits_time: false, ..state })
}

fn restamp<S: Store>(store: &mut S, state: &mut GatewayState, hub_ms: u64) -> Result<(), S::Error> {
    let (mut tail, mut clock) = (Vec::new(), state.heard);
    for stream in Stream::ALL {
        let at = *state.stream(stream);
        let moments = store.moments(stream, at.acked)?;
        let mut from = at.acked;
        loop {
            let ops = store.own_ops(stream, from, 1_000)?;
            let Some(last) = ops.last() else { break };
            from = last.stamp.dot.seq;
            for op in ops {
                match op.stamp.dot.seq <= at.sent {
                    // It keeps its stamp for ever, and what follows it goes on from there.
                    true => clock = clock.observe(op.stamp.hlc.min(latest(hub_ms))),
                    false => tail.push(op_at(op, &moments)),
                }
            }
        }
    }
    // The clock went on with each op, so its stamps tell the order of capture, whatever year they name.
    tail.sort_by_key(|(op, _)| op.stamp.marker());
    let written: Vec<Written> = tail.iter().map(|(_, written)| *written).collect();
    let now_ms = i64::try_from(hub_ms).unwrap_or(i64::MAX);
    let times = repair(&store.boots()?, state.floor_ms, now_ms, &written);
    let mut changed: BTreeMap<RecordKey, Vec<Op>> = BTreeMap::new();
    for ((mut op, _), (captured_ms, quality)) in tail.into_iter().zip(times) {
        clock = clock.tick(u64::try_from(captured_ms).unwrap_or(0));
        let before = (op.stamp.hlc, op.stamp.captured_ms, op.stamp.quality);
        if before != (clock, captured_ms, quality) {
            (op.stamp.hlc, op.stamp.captured_ms, op.stamp.quality) = (clock, captured_ms, quality);
            changed.entry(op.key.clone()).or_default().push(op);
        }
    }
    (state.clock, state.awaits_time) = (clock, false);
    store.set_state(state)?;
    let rules = store.rules()?;
    for (key, ops) in changed {
        let held = store.held(&key)?;
        store.restamp(&ops)?;
        if let Some(held) = held {
            let pending = store.pending(&key)?;
            let (visible, _) = show(held.confirmed.as_ref(), &pending, &rules);
            store.keep(&key, &Held { visible, is_pending: !pending.is_empty(), ..held })?;
        }
    }
    Ok(())
}

fn op_at(op: Op, moments: &BTreeMap<Seq, Moment>) -> (Op, Written) {
    let moment = moments.get(&op.stamp.dot.seq).copied().unwrap_or_default();
    let written = Written { moment, captured_ms: op.stamp.captured_ms, quality: op.stamp.quality };
    (op, written)
}
