//! What a database that is out of use still holds: the ops of an incarnation that is over, handed in by whoever has the file.
//!
//! It is no exchange of the gateway: turn, origin, view and print stay as they are, and nothing is sent down. So a gateway that
//! goes on under the same enrolment does not notice, whatever is handed in, and however often.
//!
//! # Invariants
//! - An op that arrived is not taken again, under whatever number it came: it is told by its record, clock, author and content.
//! - An op gets its own number only if it follows on what the hub has. All others get numbers of an origin that was made for the
//!   rescue, and that no gateway speaks under. Within such an origin an op follows only ops of the same file that are before it.
//! - Nothing is taken that the gateway which hands it in may still send itself: it would stand here twice. What another copy of the
//!   card may send is taken, and is known when it comes ([`super::copy`]).

use std::collections::{BTreeMap, BTreeSet};

use super::clamp::clamped;
use super::copy::find;
use super::judge::take_in;
use super::open::ack;
use super::quarantine::judge_joined;
use super::sitting::Sitting;
use super::twins::line_of;
use super::{Arrived, Gateway, Mark, Opened, Snapshot, Store, lost, told};
use crate::digest::op_hash;
use crate::gateway::{UNENROLLED, bounded};
use crate::id::{Dot, FieldName, HubSeq, Origin, Seq, Stream};
use crate::identity::DeviceKey;
use crate::message::{Bound, Request, Rescue, Rescued, Response, Status};
use crate::record::{Change, Op};

/// A rescue under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescuing {
    /// Whose ops they are, as it was under the origin of the file.
    gateway: Gateway,
    request: Request,
    kind: Rescue,
    /// A gateway speaks under the origin of the file to this day.
    is_live: bool,
    /// It is the one that hands in the file.
    is_own: bool,
    bounds: Vec<Bound>,
    now_ms: u64,
    /// Up to where file and hub have the same, as far as it was shown.
    agreed: BTreeMap<Stream, Seq>,
    /// Streams in which the file is known to differ from what the hub has under its numbers.
    apart: BTreeSet<Stream>,
    /// Streams of which no more can be taken in place.
    ended: BTreeSet<Stream>,
    /// Where the op before has its place among rescued ones.
    cursors: BTreeMap<Stream, Dot>,
    sum: Rescued,
    /// No more is taken today.
    is_over: bool,
}

/// Decides whether this file may hand in what it holds. Changes nothing.
///
/// # Errors
/// What the store reports.
pub(super) fn open<S: Snapshot>(
    store: &mut S,
    request: Request,
    kind: Rescue,
    now_ms: u64,
) -> Result<Opened, S::Error> {
    let (epoch, head) = (store.epoch()?, store.head()?);
    let refuse = |reason: &str| {
        let reason = Some(reason.to_owned());
        Ok(Opened::Refused(Box::new(Response { reason, ..Response::new(Status::Denied, epoch, now_ms, head) })))
    };
    let Some(gateway) = store.gateway(request.device)? else {
        return refuse("the gateway of this database is not enrolled here");
    };
    let origin = request.origin;
    let is_proof = |key: &DeviceKey| key.proves(request.turn, &request.proof);
    // Who was enrolled anew, on another card, has another key since; the old card has the old one.
    let is_former = origin != UNENROLLED && store.former_keys(request.device)?.iter().any(is_proof);
    if !is_proof(&gateway.key) && !is_former {
        return refuse("this is not a key that this gateway was given");
    }
    if gateway.is_revoked {
        return refuse("this gateway has been revoked: what its card holds is not taken");
    }
    if origin == UNENROLLED && kind == Rescue::InPlace {
        return refuse("what was written before an enrolment has no numbers here");
    }
    let writer = store.device_of(origin)?;
    let line = line_of(store, request.device)?;
    let is_of_card = writer.is_some_and(|writer| line.contains(&writer));
    if origin != UNENROLLED && !is_of_card && !lost::is_of_lost_time(store, &request)? {
        return refuse("this hub never gave this origin to this gateway");
    }
    let writer = writer.map(|device| store.gateway(device)).transpose()?.flatten();
    let mut bounds = request.bounds.clone();
    if request.epoch != epoch {
        let (upto, common) = (Seq(u64::MAX), store.common(request.epoch)?);
        bounds.extend(Stream::ALL.map(|stream| Bound { stream, upto, common }));
    }
    let mut agreed = BTreeMap::new();
    for at in &request.streams {
        let known = store.chain_at(Dot { origin, stream: at.stream, seq: at.acked })?;
        if at.acked == Seq(0) || known == Some(at.chain) {
            agreed.insert(at.stream, at.acked);
        }
    }
    Ok(Opened::Rescue(Box::new(Rescuing {
        is_live: writer.is_some_and(|writer| writer.origin == origin),
        is_own: gateway.origin == origin,
        gateway: Gateway { origin, ..gateway },
        request,
        kind,
        bounds,
        now_ms,
        agreed,
        apart: BTreeSet::new(),
        ended: BTreeSet::new(),
        cursors: BTreeMap::new(),
        sum: Rescued::default(),
        is_over: false,
    })))
}

impl Rescuing {
    /// What became of the ops so far.
    pub fn so_far(&self) -> &Rescued {
        &self.sum
    }

    fn count(&mut self, is_held: bool) {
        self.sum.taken += 1;
        self.sum.held += u64::from(is_held);
    }

    fn agreed(&self, stream: Stream) -> Seq {
        self.agreed.get(&stream).copied().unwrap_or_default()
    }
}

/// Takes one frame of ops.
///
/// # Errors
/// What the store reports; the caller rolls back then.
pub fn rescue<S: Store>(store: &mut S, with: &mut Rescuing, ops: &[Op]) -> Result<(), S::Error> {
    take_in_origin(store, with)?;
    let mut sitting = Sitting::default();
    for op in ops {
        if with.is_over || op.stamp.dot.origin != with.gateway.origin || op.stamp.hseq != HubSeq::NONE {
            break;
        }
        match with.kind {
            Rescue::InPlace => in_place(store, with, op, &mut sitting)?,
            Rescue::Apart => apart(store, with, op, &mut sitting)?,
        }
    }
    with.sum.held += judge_joined(store, sitting)?;
    Ok(())
}

/// An origin that this hub gave in a time which it lost becomes known again.
fn take_in_origin<S: Store>(store: &mut S, with: &mut Rescuing) -> Result<(), S::Error> {
    let (device, origin) = (with.gateway.device, with.gateway.origin);
    if origin == UNENROLLED || store.device_of(origin)?.is_some() {
        return Ok(());
    }
    let Some(known) = store.gateway(device)? else { return Ok(()) };
    if !store.may_take_in(device)? {
        with.is_over = true;
        return Ok(());
    }
    let after = lost::origin_before(store, &known, origin)?;
    store.claim_origin(device, origin, after)
}

/// The answer to a rescue: what became of its ops, and how far the streams have come. Only reads.
///
/// # Errors
/// What the store reports.
pub fn rescued<S: Snapshot>(store: &mut S, with: Rescuing, now_ms: u64) -> Result<Response, S::Error> {
    if with.is_over {
        let denied = Response::new(Status::Denied, store.epoch()?, now_ms, with.request.cursor);
        return Ok(Response { reason: Some(told::TOO_MANY_RESCUES.to_owned()), ..denied });
    }
    let mut head = Response::new(Status::Ok, store.epoch()?, now_ms, with.request.cursor);
    let mut sum = with.sum.clone();
    for at in &with.request.streams {
        head.acks.push(ack(store, with.gateway.origin, at.stream, at.acked, None)?);
        sum.agreed.push((at.stream, with.agreed(at.stream)));
    }
    head.rescued = Some(sum);
    Ok(head)
}

/// An op under its own number: compared if that is taken, and taken if it is the next.
fn in_place<S: Store>(store: &mut S, with: &mut Rescuing, op: &Op, sitting: &mut Sitting) -> Result<(), S::Error> {
    let dot = op.stamp.dot;
    if with.ended.contains(&dot.stream) {
        return Ok(());
    }
    let mark = store.mark(dot.origin, dot.stream)?;
    let agreed = with.agreed(dot.stream);
    let is_next = dot.seq == agreed.next();
    if is_next && dot.seq <= mark.acked && store.op_hash(dot)? == Some(op_hash(op)) {
        with.agreed.insert(dot.stream, dot.seq);
        with.sum.known += 1;
        return Ok(());
    }
    let follows = is_next && agreed == mark.acked && !with.is_live;
    // The same card may have sent it under another origin, after it had been put back.
    if !follows || find(store, op)?.is_some() {
        with.ended.insert(dot.stream);
        return Ok(());
    }
    let is_held = take(store, with, op, mark, sitting)?;
    with.count(is_held);
    with.agreed.insert(dot.stream, dot.seq);
    Ok(())
}

/// An op for itself: if the hub does not have it, it gets a number of an origin that is for rescued ops only.
fn apart<S: Store>(store: &mut S, with: &mut Rescuing, op: &Op, sitting: &mut Sitting) -> Result<(), S::Error> {
    let (dot, device) = (op.stamp.dot, with.gateway.device);
    let found = find(store, op)?;
    let is_taken_number = dot.seq <= store.mark(dot.origin, dot.stream)?.acked;
    if let Some(at) = found {
        if store.is_for_rescue(at.origin)? {
            with.apart.insert(dot.stream);
            with.cursors.insert(dot.stream, at);
        }
        if at != dot {
            note(store, dot, at)?;
        }
    }
    if is_taken_number && found != Some(dot) {
        // Under this number the hub has something else: from here on the file is another history.
        with.apart.insert(dot.stream);
    }
    if found.is_some() {
        with.sum.known += 1;
        return Ok(());
    }
    if with.is_own && !with.apart.contains(&dot.stream) {
        with.sum.waiting += 1;
        return Ok(());
    }
    let after = match with.cursors.get(&dot.stream) {
        Some(cursor) if store.mark(cursor.origin, dot.stream)?.acked == cursor.seq => Some(cursor.origin),
        _ => None,
    };
    let origin = match after {
        Some(origin) if store.device_of(origin)? == Some(device) => origin,
        _ if store.may_take_in(device)? => store.rescue_origin(device, dot.origin)?,
        _ => {
            with.is_over = true;
            return Ok(());
        }
    };
    let mark = store.mark(origin, dot.stream)?;
    let to = Dot { origin, seq: mark.acked.next(), ..dot };
    let moved = renumbered(store, with, op, to)?;
    let is_held = take(store, with, &moved, mark, sitting)?;
    with.count(is_held);
    with.cursors.insert(dot.stream, to);
    note(store, dot, to)
}

fn take<S: Store>(
    store: &mut S,
    with: &Rescuing,
    op: &Op,
    mark: Mark,
    sitting: &mut Sitting,
) -> Result<bool, S::Error> {
    let (written, dot) = (Arrived::after(mark.chain, op), op.stamp.dot);
    store.set_mark(dot.origin, dot.stream, &Mark { acked: dot.seq, chain: written.chain, ..mark })?;
    let counted = counted(op, with);
    let counted = clamped(counted.as_ref().unwrap_or(op), with.now_ms, store.head()?).or(counted);
    let op = counted.as_ref().unwrap_or(op);
    take_in(store, Some(&with.gateway), &Arrived { op, ..written }, sitting)
}

/// The op as it counts, if its numbers are of another epoch. One that was moved was bounded under its own number.
fn counted(op: &Op, with: &Rescuing) -> Option<Op> {
    if op.stamp.dot.origin == with.gateway.origin { bounded(op, &with.bounds) } else { None }
}

fn note<S: Store>(store: &mut S, old: Dot, new: Dot) -> Result<(), S::Error> {
    match store.rescued_as(old)?.contains(&new) {
        true => Ok(()),
        false => store.note_rescued(old, new),
    }
}

/// The op under its new number, with what it says in terms of old numbers moved over.
fn renumbered<S: Store>(store: &mut S, with: &Rescuing, op: &Op, to: Dot) -> Result<Op, S::Error> {
    let mut moved = bounded(op, &with.bounds).unwrap_or_else(|| op.clone());
    moved.stamp.dot = to;
    let totals = totals(store, op, to.origin)?;
    for (field, change) in &mut moved.changes {
        change.rename(|dot| Ok(new_name(store, with, dot, to.origin)?.into_iter().collect()))?;
        if let Change::Count { plus, minus } = change {
            let (before_plus, before_minus) = totals.get(field).copied().unwrap_or_default();
            *plus = plus.saturating_add(before_plus);
            *minus = minus.saturating_add(before_minus);
        }
    }
    Ok(moved)
}

/// What an op of the file is called here; `None` if it is not here.
fn new_name<S: Snapshot>(store: &mut S, with: &Rescuing, old: Dot, to: Origin) -> Result<Option<Dot>, S::Error> {
    if old.origin != with.gateway.origin || old.seq <= with.agreed(old.stream) {
        return Ok(Some(old));
    }
    let names = store.rescued_as(old)?;
    let in_this = names.iter().find(|name| name.origin == to);
    Ok(match (in_this, names.as_slice()) {
        (Some(name), _) => Some(*name),
        (None, [only]) => Some(*only),
        // Two files used the number for different things, and it is not known which is meant.
        _ => None,
    })
}

/// What the ops of an origin on this record have counted so far; those in quarantine as well.
fn totals<S: Snapshot>(store: &mut S, op: &Op, of: Origin) -> Result<BTreeMap<FieldName, (u64, u64)>, S::Error> {
    let mut totals: BTreeMap<FieldName, (u64, u64)> = BTreeMap::new();
    if !op.changes.values().any(|change| matches!(change, Change::Count { .. })) {
        return Ok(totals);
    }
    for known in store.writes_of(&op.key)?.iter().filter(|known| known.stamp.dot.origin == of) {
        for (field, change) in &known.changes {
            if let Change::Count { plus, minus } = change {
                let total = totals.entry(field.clone()).or_default();
                *total = (total.0.max(*plus), total.1.max(*minus));
            }
        }
    }
    Ok(totals)
}
