//! Times of unsent ops, once the hub's time was heard.
//!
//! As long as nobody knows how good the time of an unsent op is, a request carries no ops (`awaits_time`). With its answer
//! comes the hub's time, and what has never left the box gets the time that [`crate::boot`] finds for it, in one
//! transaction with the answer. What has left is never changed.
//!
//! A long tail is corrected a part with each answer, because a full card has no room to write all of it at once, and a small
//! box none to hold it. A part is the ops that were captured first, over all streams. Its ops count as sent from then on:
//! nothing changes them again, and the next part, after a power cut too, goes on behind them. Nothing leaves, and the floor
//! stays where it was when they were captured, until all of them have their times.

use std::collections::{BTreeMap, VecDeque};

use super::{GatewayState, Store};
use crate::boot::{Moment, Repair, Written};
use crate::clock::{Hlc, TimeQuality};
use crate::id::{Dot, Origin, RecordKey, Seq, Stream};
use crate::limits::{CLOCK_AHEAD_MS_MAX, RESTAMP_BYTES_MAX, RESTAMP_OPS_MAX};
use crate::record::{Marker, Op};

/// The highest stamp that the hub leaves as it is at this time of its clock.
pub(super) fn latest(hub_ms: u64) -> Hlc {
    Hlc::at(hub_ms.saturating_add(CLOCK_AHEAD_MS_MAX))
}

/// Takes note of the hub's time at the end of an answer.
pub(super) fn hear_time<S: Store>(store: &mut S, hub_ms: u64) -> Result<(), S::Error> {
    let mut state = store.state()?;
    // A clock that one bad boot took to another year comes back, too.
    if (state.awaits_time || state.clock > latest(hub_ms)) && restamp(store, &mut state, hub_ms)? {
        return Ok(());
    }
    // Down as well: a hub whose clock was ahead for a day must not leave its gateways in that year.
    let floor_ms = i64::try_from(hub_ms).unwrap_or(i64::MAX);
    store.set_state(&GatewayState { floor_ms, ..state })
}

/// Lets what is unsent go with the times that it has.
///
/// # Errors
/// What the store reports.
pub fn leave_times<S: Store>(store: &mut S) -> Result<(), S::Error> {
    let mut state = store.state()?;
    for stream in Stream::ALL {
        let at = state.stream_mut(stream);
        at.sent = at.last;
    }
    store.set_state(&GatewayState { awaits_time: false, ..state })
}

/// Corrects the next part of the tail. Tells whether there is more; then the state says so as well.
fn restamp<S: Store>(store: &mut S, state: &mut GatewayState, hub_ms: u64) -> Result<bool, S::Error> {
    let (mut ends, mut clock) = (Vec::new(), state.heard);
    let mut settled: Vec<Written> = Vec::new();
    for stream in Stream::ALL {
        let at = *state.stream(stream);
        ends.extend(ends_of_boots(store, state.origin, stream, at.acked)?);
        // What keeps its stamp for ever; what follows it goes on from there.
        let before = Seq(at.sent.0.saturating_sub(LOOKED_BACK)).max(at.acked);
        for (op, written) in some_ops(store, stream, before, LOOKED_BACK as usize)? {
            if op.stamp.dot.seq <= at.sent {
                clock = clock.observe(op.stamp.hlc.min(latest(hub_ms)));
                settled.push(written);
            }
        }
    }
    ends.sort_by_key(|(marker, _)| *marker);
    let (part, is_more) = next_part(store, state)?;
    let now_ms = i64::try_from(hub_ms).unwrap_or(i64::MAX);
    let ends: Vec<Written> = ends.into_iter().map(|(_, written)| written).collect();
    let mut times = Repair::new(&store.boots()?, state.floor_ms, now_ms, &ends);
    if let Some((_, first)) = part.first() {
        // The part before this one ended with these.
        let is_before = |written: &&Written| written.moment.boot != 0 && written.moment < first.moment;
        let is_sure = |written: &&Written| written.quality != TimeQuality::Unknown && written.captured_ms <= now_ms;
        settled.iter().filter(is_before).filter(is_sure).for_each(|written| times.go_on_after(written.captured_ms));
    }
    let mut changed: BTreeMap<RecordKey, Vec<Op>> = BTreeMap::new();
    for (mut op, written) in part {
        let (captured_ms, quality) = times.time_of(&written);
        clock = clock.tick(u64::try_from(captured_ms).unwrap_or(0));
        let at = state.stream_mut(op.stamp.dot.stream);
        at.sent = at.sent.max(op.stamp.dot.seq);
        let before = (op.stamp.hlc, op.stamp.captured_ms, op.stamp.quality);
        if before != (clock, captured_ms, quality) {
            (op.stamp.hlc, op.stamp.captured_ms, op.stamp.quality) = (clock, captured_ms, quality);
            changed.entry(op.key.clone()).or_default().push(op);
        }
    }
    state.awaits_time = is_more;
    if !is_more {
        // As long as there are old stamps, what is captured meanwhile goes behind them.
        state.clock = clock;
    }
    store.set_state(state)?;
    let rules = store.rules()?;
    for (key, ops) in changed {
        let held = store.held(&key)?;
        store.restamp(&ops)?;
        if let Some(held) = held {
            let pending = store.pending(&key)?;
            store.keep(&key, &held.with_pending(&pending, &rules))?;
        }
    }
    Ok(is_more)
}

/// Ops at the end of what keeps its stamps that are looked at for the latest of those: their stamps grow with their numbers, and
/// some of them may be damaged.
const LOOKED_BACK: u64 = 64;

/// Ops of a stream that are read at once while a part of the tail is gathered.
const READ_AT_ONCE: usize = 32;

/// What of a stream waits for its time, read a little at a time.
struct Tail {
    stream: Stream,
    after: Seq,
    read: VecDeque<(Op, Written)>,
    is_over: bool,
}

impl Tail {
    fn fill<S: Store>(&mut self, store: &mut S) -> Result<(), S::Error> {
        if self.read.is_empty() && !self.is_over {
            self.read = some_ops(store, self.stream, self.after, READ_AT_ONCE)?.into();
            self.is_over = self.read.is_empty();
            self.after = self.read.back().map_or(self.after, |(op, _)| op.stamp.dot.seq);
        }
        Ok(())
    }

    /// The stamp of the next one. The clock went on with each op, so it tells the order of capture, whatever year it names.
    fn next(&self) -> Option<Marker> {
        self.read.front().map(|(op, _)| op.stamp.marker())
    }
}

/// Ops in the order of capture.
type Part = Vec<(Op, Written)>;

/// What is corrected at once, in the order of capture: at least one op, if there are any. Tells whether there are more.
fn next_part<S: Store>(store: &mut S, state: &GatewayState) -> Result<(Part, bool), S::Error> {
    let mut tails = Stream::ALL.map(|stream| {
        let at = state.stream(stream);
        Tail { stream, after: at.sent.max(at.acked), read: VecDeque::new(), is_over: false }
    });
    let (mut part, mut bytes) = (Vec::new(), 0);
    loop {
        for tail in &mut tails {
            tail.fill(store)?;
        }
        let first = tails.iter_mut().filter(|tail| tail.next().is_some()).min_by_key(|tail| tail.next());
        let Some(first) = first else { return Ok((part, false)) };
        if part.len() >= RESTAMP_OPS_MAX || bytes >= RESTAMP_BYTES_MAX {
            return Ok((part, true));
        }
        part.extend(first.read.pop_front().inspect(|(op, _)| bytes += op.canonical().len()));
    }
}

/// The last op of each boot in a stream: how long the boot lasted, and what its clock said then. One is enough, because what
/// a boot that never heard the time wrote is of one quality.
fn ends_of_boots<S: Store>(
    store: &mut S,
    origin: Origin,
    stream: Stream,
    after: Seq,
) -> Result<Vec<(Marker, Written)>, S::Error> {
    let mut ends = Vec::new();
    for (seq, moment) in store.last_moments(stream, after)? {
        // One that is damaged says how long the boot lasted all the same.
        ends.push(match store.own_op(Dot { origin, stream, seq })? {
            Some(op) => {
                let (captured_ms, quality) = (op.stamp.captured_ms, op.stamp.quality);
                (op.stamp.marker(), Written { moment, captured_ms, quality })
            }
            None => {
                let dot = Dot { origin, stream, seq };
                ((Hlc::default(), dot), Written { moment, captured_ms: 0, quality: TimeQuality::Good })
            }
        });
    }
    Ok(ends)
}

/// The ops that follow in a stream, over damaged ones.
fn some_ops<S: Store>(
    store: &mut S,
    stream: Stream,
    mut after: Seq,
    limit: usize,
) -> Result<Vec<(Op, Written)>, S::Error> {
    let mut next = Vec::new();
    while next.len() < limit {
        let ops = store.own_ops(stream, after, limit - next.len())?;
        let Some(last) = ops.last().map(|op| op.stamp.dot.seq) else { break };
        let moments = store.moments(stream, after, last)?;
        next.extend(ops.into_iter().map(|op| op_at(op, &moments)));
        after = last;
    }
    Ok(next)
}

fn op_at(op: Op, moments: &BTreeMap<Seq, Moment>) -> (Op, Written) {
    let moment = moments.get(&op.stamp.dot.seq).copied().unwrap_or_default();
    let written = Written { moment, captured_ms: op.stamp.captured_ms, quality: op.stamp.quality };
    (op, written)
}
