//! Going on differently: under another origin, or from an earlier number of a hub that was put back.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use super::integrate::refresh;
use super::reopened::take_back;
use super::{Fate, Former, GatewayState, Held, Store, UNENROLLED, bounded, bounds};
use crate::digest::Chain;
use crate::id::{Dot, FieldName, HubSeq, Origin, RecordKey, Scope, Seq, Stream};
use crate::limits::SYMBOLS_FIRST;
use crate::message::{Ack, Bound, Response, Short, Slice};
use crate::record::{Change, Op, State};
use crate::value::Value;

/// Own ops that are in memory at a time, however many there are.
const OPS_STEP: usize = 128;

/// The hub went back in time: what it no longer has is unsent again, what it lost of others is offered to it, and then the
/// pull begins where both agree.
pub(super) fn rebase<S: Store>(store: &mut S, mut state: GatewayState, response: &Response) -> Result<(), S::Error> {
    state.epoch = response.epoch;
    state.cursor = state.cursor.min(response.cursor);
    state.complete = state.complete.min(response.cursor);
    // What was not compared yet is of an epoch before: of its numbers no more is shared than was then.
    let common = state.recovers.map_or(response.cursor, |before| before.min(response.cursor));
    state.recovers = Some(common);
    state.repair_symbols = Some(SYMBOLS_FIRST as u32);
    state.wanted.clear();
    state.slice = Slice::default();
    state.former.iter_mut().for_each(|former| former.is_owed = true);
    for stream in Stream::ALL {
        let upto = state.stream(stream).last;
        if upto > Seq(0) {
            bounds::add(&mut state.bounds, Bound { stream, upto, common });
        }
        for former in &mut state.former {
            bounds::add(&mut former.bounds, Bound { stream, upto: Seq(u64::MAX), common });
        }
    }
    for ack in &response.acks {
        let (acked, chain) = shared(store, ack)?;
        let stream = state.stream_mut(ack.stream);
        stream.durable = stream.durable.min(acked);
        if acked < stream.acked {
            let upto = std::mem::replace(&mut stream.acked, acked);
            stream.barren = Seq(0);
            stream.acked_chain = chain;
            reopen(store, ack.stream, acked, upto)?;
        }
    }
    (state.told, state.unsure) = (false, false);
    store.set_state(&state)
}

/// Up to where a hub that was put back has the ops of this stream that are here. If what it has is of another history, because a
/// copy of the card has come since, or may be, because what was written there was forgotten here, all that is kept is shown again, and
/// the hub tells where the two part.
fn shared<S: Store>(store: &mut S, ack: &Ack) -> Result<(Seq, Short), S::Error> {
    if ack.acked == Seq(0) || store.known_chain(ack.stream, ack.acked)?.is_some_and(|chain| chain == ack.chain) {
        return Ok((ack.acked, ack.chain));
    }
    let first = store.own_ops(ack.stream, Seq(0), 1)?.first().map_or(Seq(1), |op| op.stamp.dot.seq);
    let before = Seq(first.0.saturating_sub(1));
    // A chain that is not known here would look to the hub as if it had been put back once more.
    Ok(store.chain_at(ack.stream, before)?.map_or((Seq(0), Short::default()), |chain| (before, chain)))
}

/// Own ops of which the hub knows nothing any more count as such, until it has them again.
fn reopen<S: Store>(store: &mut S, stream: Stream, after: Seq, upto: Seq) -> Result<(), S::Error> {
    let mut from = after;
    while from < upto {
        let ops = store.own_ops(stream, from, OPS_STEP)?;
        let Some(last) = ops.last() else { break };
        from = last.stamp.dot.seq;
        for op in ops.into_iter().filter(|op| op.stamp.dot.seq <= upto) {
            store.settle_fate(op.stamp.dot, &Fate::Unsent)?;
        }
    }
    refresh_all(store, stream, after, upto)
}

/// Shows the records anew that these own ops wrote to. One that comes again in a later part has not changed since.
fn refresh_all<S: Store>(store: &mut S, stream: Stream, after: Seq, upto: Seq) -> Result<(), S::Error> {
    let rules = store.rules()?;
    let mut from = after;
    while from < upto {
        let ops = store.own_ops(stream, from, OPS_STEP)?;
        let Some(last) = ops.last() else { break };
        from = last.stamp.dot.seq;
        let keys: BTreeSet<RecordKey> =
            ops.into_iter().filter(|op| op.stamp.dot.seq <= upto).map(|op| op.key).collect();
        for key in keys {
            refresh(store, &key, &rules)?;
        }
    }
    Ok(())
}

/// Goes on under another origin: everything that the hub has not acknowledged is renumbered under it, from 1. Nobody has
/// seen those ops, so nothing is lost and nothing doubled. They are taken a few at a time, because a gateway may have worked
/// for months before it was enrolled.
///
/// # Errors
/// What the store reports; the caller rolls back then.
pub fn adopt_origin<S: Store>(store: &mut S, origin: Origin) -> Result<(), S::Error> {
    let mut state = store.state()?;
    let old = state.origin;
    let mut names = Names::default();
    let mut totals = Totals::new();
    let mut bases: BTreeMap<RecordKey, Totals<FieldName>> = BTreeMap::new();
    let (bounds, home) = (std::mem::take(&mut state.bounds), state.home());
    let acked = state.streams.map(|stream| stream.acked);
    for stream_id in Stream::ALL {
        let (mut seq, mut chain) = (Seq(0), Chain::default());
        let mut from = state.stream(stream_id).acked;
        loop {
            let ops = store.own_ops(stream_id, from, OPS_STEP)?;
            let Some(last) = ops.last() else { break };
            from = last.stamp.dot.seq;
            let mut renumbered = Vec::with_capacity(ops.len());
            for mut op in ops {
                seq = seq.next();
                let counted =
                    if is_first_count(&op, &totals) { counted(store, &op, old, &acked)? } else { Totals::new() };
                if state.recovers.is_some() {
                    bases.entry(op.key.clone()).or_default().extend(counted.clone());
                }
                op = bounded(&op, &bounds).unwrap_or(op);
                if old == UNENROLLED {
                    settle_in(&mut op, &home);
                }
                let before = op.stamp.dot;
                op.stamp.dot = Dot { origin, stream: stream_id, seq };
                names.add(before, op.stamp.dot);
                op.stamp.source = state.source;
                rename(&mut op, &names, &counted, &mut totals);
                chain = chain.extend(&op);
                renumbered.push((before.seq, op, chain));
            }
            store.renumber(&renumbered)?;
        }
        let durable = Seq(0);
        *state.stream_mut(stream_id) = super::StreamState {
            acked_chain: Chain::default().short(),
            durable,
            last: seq,
            chain,
            ..Default::default()
        };
    }
    state.origin = origin;
    if old != UNENROLLED && old != origin {
        state.former.push(Former { origin: old, bounds, is_owed: state.recovers.is_some() });
    }
    store.set_state(&state)?;
    for (key, counted) in bases {
        let held = store.held(&key)?.filter(|held| held.confirmed.is_some());
        if let Some(Held { confirmed: Some(mut confirmed), visible, is_pending, leaving, awaits_whole }) = held {
            take_back(&mut confirmed, old, &acked, &counted);
            let confirmed = Some(confirmed).filter(|confirmed| !confirmed.cells.is_empty());
            // Of what is only written here it is not known yet where it belongs.
            let leaving = leaving.filter(|_| confirmed.is_some());
            store.keep(&key, &Held { confirmed, visible, is_pending, leaving, awaits_whole })?;
        }
    }
    Stream::ALL.into_iter().try_for_each(|of| refresh_all(store, of, Seq(0), state.stream(of).last))
}

/// What renumbered ops are called now. One run is enough for all ops of a stream between which none is damaged.
#[derive(Debug, Default)]
struct Names(BTreeMap<Dot, (Dot, u64)>);

impl Names {
    /// The next op of its stream.
    fn add(&mut self, before: Dot, now: Dot) {
        match self.0.range_mut(..before).next_back() {
            Some((first, (new, count))) if follows(*first, *count, before) && follows(*new, *count, now) => *count += 1,
            _ => drop(self.0.insert(before, (now, 1))),
        }
    }

    fn now(&self, before: Dot) -> Option<Dot> {
        let (first, (now, count)) = self.0.range(..=before).next_back()?;
        let nth = before.seq.0.checked_sub(first.seq.0).filter(|nth| nth < count)?;
        let is_there = (first.origin, first.stream) == (before.origin, before.stream);
        is_there.then_some(Dot { seq: Seq(now.seq.0 + nth), ..*now })
    }
}

/// Whether `next` comes right after so many ops that begin with `first`.
fn follows(first: Dot, count: u64, next: Dot) -> bool {
    next == Dot { seq: Seq(first.seq.0.saturating_add(count)), ..first }
}

/// A record that was written before the gateway knew where it stands belongs to where it stands.
fn settle_in(op: &mut Op, home: &Scope) {
    let Some(Change::Put { value: Some(scope), .. }) = op.changes.get_mut(&FieldName::scope()) else { return };
    if scope.as_text() == Some(Scope::root().as_str()) {
        *scope = Value::Text(home.as_str().to_owned());
    }
}

/// Whether an op is the first of those that are renumbered to count in a field of its record.
fn is_first_count(op: &Op, totals: &Totals<(RecordKey, FieldName)>) -> bool {
    let is_new = |name: &FieldName| !totals.contains_key(&(op.key.clone(), name.clone()));
    op.changes.iter().any(|(name, change)| matches!(change, Change::Count { .. }) && is_new(name))
}

/// What an op has in its counts that its origin had counted before, as far as that was acknowledged. The confirmed record alone
/// does not tell: what waits in quarantine is no part of it, and who did not hold the record went on from its own ops.
fn counted<S: Store>(store: &mut S, op: &Op, origin: Origin, acked: &[Seq]) -> Result<Totals<FieldName>, S::Error> {
    let mut totals = Totals::new();
    // What is confirmed here has in it what a hub that was put back does not have any more.
    let recovers = store.state()?.recovers.is_some();
    let held = store.held(&op.key)?.unwrap_or_default();
    let is_lost = held.awaits_whole || held.is_unreadable();
    let confirmed = held.confirmed.filter(|_| !recovers).unwrap_or_default();
    for (name, cell) in &confirmed.cells {
        if let State::Counter(counter) = &cell.state {
            totals.insert(name.clone(), counter.totals.get(&origin).copied().unwrap_or_default());
        }
    }
    let own = if recovers || is_lost || op.stamp.seen == HubSeq::NONE {
        store.own_of(&op.key)?
    } else {
        store.pending(&op.key)?
    };
    for own in own {
        let (dot, place) = (own.stamp.dot, usize::from(own.stamp.dot.stream.number()));
        let is_acked = dot.origin == origin && acked.get(place).is_some_and(|acked| dot.seq <= *acked);
        for (name, change) in own.changes.iter().filter(|_| is_acked) {
            if let Change::Count { plus, minus } = change {
                let known = totals.entry(name.clone()).or_default();
                *known = (known.0.max(*plus), known.1.max(*minus));
            }
        }
    }
    Ok(totals)
}

/// Sums of what was added and of what was taken away.
type Totals<K> = BTreeMap<K, (u64, u64)>;

/// Moves what an op says in terms of its origin's own numbers over to the new origin.
fn rename(op: &mut Op, names: &Names, counted: &Totals<FieldName>, totals: &mut Totals<(RecordKey, FieldName)>) {
    for (name, change) in &mut op.changes {
        let Ok(()) = change.rename(|dot| Ok::<_, Infallible>(vec![names.now(dot).unwrap_or(dot)]));
        if let Change::Count { plus, minus } = change {
            // Totals count from what the old origin had counted; the new one begins at nothing.
            let base = counted.get(name).copied().unwrap_or_default();
            let known = totals.entry((op.key.clone(), name.clone())).or_insert(base);
            *plus = plus.saturating_sub(known.0);
            *minus = minus.saturating_sub(known.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_renumbered_op_is_found_under_its_new_name_and_nothing_else_is() {
        let before = |seq| Dot { origin: Origin(3), stream: Stream::Normal, seq: Seq(seq) };
        let now = |seq| Dot { origin: Origin(9), stream: Stream::Normal, seq: Seq(seq) };
        let mut names = Names::default();
        // 7 is damaged.
        for (seq, new) in [(5, 1), (6, 2), (8, 3), (9, 4)] {
            names.add(before(seq), now(new));
        }
        let found: Vec<_> = (4..=10).map(|seq| names.now(before(seq)).map(|dot| dot.seq.0)).collect();
        assert_eq!(found, [None, Some(1), Some(2), None, Some(3), Some(4), None]);
        assert_eq!(names.0.len(), 2, "runs, not ops");
        assert_eq!(names.now(Dot { stream: Stream::Bulk, ..before(5) }), None);
        assert_eq!(names.now(Dot { origin: Origin(4), ..before(5) }), None);
    }
}
