//! What a gateway hears of its own ops: that the hub has them, what became of those that waited there.

use super::integrate::{leave, refresh};
use super::{Fate, GatewayState, Held, Store, bounded, bounds, erase, show};
use crate::clock::Hlc;
use crate::erase::knows;
use crate::id::{Dot, HubSeq, Seq};
use crate::merge;
use crate::message::Ack;
use crate::payload::{News, Notice};
use crate::record::Op;
use crate::rules::Rules;

/// Whether the hub has other ops than those here under the numbers that it acknowledges: then it took this gateway, with its
/// old turn, for one that another copy of the card has become.
pub(super) fn is_for_another<S: Store>(store: &mut S, state: &GatewayState, acks: &[Ack]) -> Result<bool, S::Error> {
    for ack in acks {
        let acked = ack.acked.min(state.stream(ack.stream).last);
        if store.known_chain(ack.stream, acked)?.is_some_and(|chain| chain != ack.chain) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The hub has applied an own op: it becomes part of the confirmed record. Gives its stamp.
fn confirm<S: Store>(
    store: &mut S,
    state: &GatewayState,
    dot: Dot,
    hseq: HubSeq,
    rules: &Rules,
) -> Result<Hlc, S::Error> {
    let op = store.own_op(dot)?;
    store.settle_fate(dot, &Fate::Confirmed(hseq))?;
    let Some(op) = op.filter(|op| op.stamp.dot == dot) else { return Ok(Hlc::default()) };
    if erase::settled(store, Some(&op))? {
        return Ok(op.stamp.hlc);
    }
    let op = bounded(&op, &state.bounds).unwrap_or(op);
    let held = store.held(&op.key)?.unwrap_or_default();
    if held.awaits_whole {
        // What the hub has of the record, this op in it, is on its way.
        refresh(store, &op.key, rules)?;
        return Ok(op.stamp.hlc);
    }
    let mut confirmed = held.confirmed.unwrap_or_default();
    if let Some(common) = state.recovers {
        // What stands here of the lost time names numbers that are given again now.
        bounds::bound_record(&mut confirmed, common);
    }
    // The same function on the same input as at the hub; where the input differed, the hub sends its cells.
    let _ = merge::apply(&mut confirmed, &op, hseq, rules.of(&op.key.record_type));
    let pending = store.pending(&op.key)?;
    if pending.is_empty() && held.leaving.is_some() {
        store.forget(&op.key)?;
        return Ok(op.stamp.hlc);
    }
    let (visible, _) = show(Some(&confirmed), &pending, rules);
    let (is_pending, leaving) = (!pending.is_empty(), held.leaving);
    store.keep(&op.key, &Held { confirmed: Some(confirmed), visible, is_pending, leaving, awaits_whole: false })?;
    Ok(op.stamp.hlc)
}

/// Whether it was heard already what became of an own op: news of one that no longer waits can come before it is acknowledged.
fn is_settled<S: Store>(store: &mut S, op: Option<&Op>) -> Result<bool, S::Error> {
    let Some(op) = op else { return Ok(false) };
    if store.erasure(&op.key)?.is_some_and(|number| !knows(op, number)) {
        return Ok(false);
    }
    Ok(!store.pending(&op.key)?.iter().any(|pending| pending.stamp.dot == op.stamp.dot))
}

/// Takes an acknowledgement of one stream. `latest` is the highest stamp that the hub leaves as it is.
pub(super) fn acknowledge<S: Store>(
    store: &mut S,
    state: &mut GatewayState,
    ack: &Ack,
    rules: &Rules,
    latest: Hlc,
) -> Result<u64, S::Error> {
    let before = state.stream(ack.stream).acked;
    let last = state.stream(ack.stream).last;
    let acked = ack.acked.min(last);
    let chain = store.known_chain(ack.stream, acked)?;
    if chain.is_some_and(|chain| chain != ack.chain) {
        // Another card with this identity wrote these. Ours are sent all the same, and the hub sees the difference.
        return Ok(0);
    }
    let chain = chain.unwrap_or(ack.chain);
    let mut touched = Vec::new();
    for seq in before.0 + 1..=acked.0 {
        let dot = Dot { origin: state.origin, stream: ack.stream, seq: Seq(seq) };
        let number = ack.ranges.iter().find_map(|range| {
            let nth = seq.checked_sub(range.first.0).filter(|nth| *nth < range.count)?;
            Some(HubSeq(range.hseq.0.saturating_add(nth)))
        });
        let stamp = match number {
            Some(hseq) => confirm(store, state, dot, hseq, rules)?,
            None => {
                let op = store.own_op(dot)?;
                if !is_settled(store, op.as_ref())? {
                    store.settle_fate(dot, &Fate::Parked("waiting at the hub".to_owned()))?;
                }
                erase::settled(store, op.as_ref())?;
                op.map(|op| op.stamp.hlc).unwrap_or_default()
            }
        };
        // What waits there keeps its place before what is written after it, too.
        state.heard = state.heard.observe(stamp.min(latest));
        touched.push(seq);
    }
    let stream = state.stream_mut(ack.stream);
    stream.durable = stream.durable.max(ack.durable);
    if acked > stream.acked {
        stream.acked = acked;
        stream.acked_chain = chain;
    }
    let scopes = state.scopes.clone();
    if !touched.is_empty() {
        for key in store.outside(&scopes, touched.len() + 64)? {
            leave(store, &key, state)?;
        }
    }
    Ok(touched.len() as u64)
}

/// Takes news of an own op that waited.
pub(super) fn take_notice<S: Store>(store: &mut S, notice: &Notice, rules: &Rules) -> Result<(), S::Error> {
    // News of what another copy of this card wrote under the same number comes here as well.
    if store.own_op(notice.dot)?.is_some_and(|op| op.key != notice.key) {
        return Ok(());
    }
    match &notice.news {
        News::Held(reason) => {
            store.settle_fate(notice.dot, &Fate::Parked(reason.clone()))?;
            erase::settled_at(store, notice.dot)?;
            refresh(store, &notice.key, rules)
        }
        News::Released(hseq) => {
            let state = store.state()?;
            confirm(store, &state, notice.dot, *hseq, rules).map(|_| ())
        }
        News::Discarded(reason) => {
            let fate = Fate::Discarded(reason.clone());
            store.settle_fate(notice.dot, &fate)?;
            erase::settled_at(store, notice.dot)?;
            // Erasing it took the reasons along that were there before.
            store.settle_fate(notice.dot, &fate)?;
            refresh(store, &notice.key, rules)
        }
    }
}
