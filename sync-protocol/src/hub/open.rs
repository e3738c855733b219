//! The beginning of an exchange, and the ops that come up in it.

use super::judge::admit;
use super::{Arrived, Gateway, Mark, Snapshot, Store, ViewNews};
use crate::digest::op_hash;
use crate::edit::render;
use crate::gateway::bounded;
use crate::id::{Dot, HubSeq, RecordKey, Seq, Stream};
use crate::merge::{Joining, join};
use crate::message::{Ack, Request, Response, Short, Status, StreamHead};
use crate::payload::{Row, Rows};
use crate::record::Op;

/// An exchange under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// With whom.
    pub gateway: Gateway,
    /// What it said.
    pub request: Request,
    /// Set when its history turned out not to fit in the middle of it.
    pub is_forked: bool,
    /// Records that it offered and that were joined with ours.
    pub joined: Vec<RecordKey>,
}

/// How an exchange begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It may go on.
    Ready(Box<Conversation>),
    /// It ends here, with this answer.
    Refused(Box<Response>),
}

/// What a frame of ops did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// Ops that were new.
    pub new: u64,
    /// Ops that had come before.
    pub repeated: u64,
    /// Ops that went into quarantine.
    pub held: u64,
}

/// Decides whether this is a gateway we know, and whether its history fits ours.
///
/// # Errors
/// What the store reports.
pub fn open<S: Store>(store: &mut S, request: Request, now_ms: u64) -> Result<Opened, S::Error> {
    let mut epoch = store.epoch()?;
    let head = store.head()?;
    let refuse = |status, reason: &str| {
        let response = Response { reason: Some(reason.to_owned()), ..Response::new(status, epoch, now_ms, head) };
        Ok(Opened::Refused(Box::new(response)))
    };
    let Some(mut gateway) = store.gateway(request.device)? else {
        return refuse(Status::Denied, "this gateway is not enrolled here");
    };
    if !gateway.key.proves(request.turn, &request.proof) {
        return refuse(Status::Denied, "this is not the key that this gateway was given");
    }
    if gateway.is_revoked {
        return refuse(Status::Denied, "this gateway has been revoked");
    }
    if request.turn > gateway.turn {
        // Genuine and from the future: this hub was put back to an older state.
        (gateway.turn, gateway.turn_before) = (request.turn, request.turn);
        store.set_gateway(&gateway)?;
        if request.epoch == epoch {
            epoch = store.new_epoch()?;
        }
    } else if request.turn != gateway.turn && request.turn != gateway.turn_before {
        return stale(store, gateway, &request, now_ms);
    }
    if gateway.view == ViewNews::Told {
        // The newest turn came with the news; whoever shows it has heard them.
        let heard = request.turn == gateway.turn;
        gateway.view = if heard { ViewNews::Known } else { ViewNews::Changed };
        gateway.backfill &= !heard;
        store.set_gateway(&gateway)?;
    }
    if let Some(about) = request.about.as_ref().filter(|about| about.print != gateway.print) {
        let is_first = gateway.print == Short::default();
        gateway.print = about.print;
        store.set_gateway(&gateway)?;
        if !is_first {
            // The card is in another box; the one it came from may still run with a copy.
            return new_origin(store, gateway, &request, now_ms);
        }
    }
    if request.origin != gateway.origin {
        return new_origin(store, gateway, &request, now_ms);
    }
    if request.epoch == epoch && request.cursor > head {
        epoch = store.new_epoch()?;
    }
    if request.epoch != epoch {
        return rebase(store, gateway, &request, now_ms);
    }
    if gateway.recovers && request.repair.is_none() && request.offers.is_none() {
        // It has heard that nothing more is wanted of it.
        gateway.recovers = false;
        store.set_gateway(&gateway)?;
    }
    for stream in Stream::ALL {
        let mark = store.mark(gateway.origin, stream)?;
        let Some(at) = request.streams.iter().find(|at| at.stream == stream) else {
            // It says nothing of a stream from which ops arrived: the card is older than they are.
            if mark.acked > Seq(0) {
                return new_origin(store, gateway, &request, now_ms);
            }
            continue;
        };
        if at.acked > mark.acked {
            store.new_epoch()?;
            return rebase(store, gateway, &request, now_ms);
        }
        if !fits(store, &gateway, at, &mark)? {
            return new_origin(store, gateway, &request, now_ms);
        }
    }
    Ok(Opened::Ready(Box::new(Conversation { gateway, request, is_forked: false, joined: Vec::new() })))
}

/// A genuine turn that was given long ago: the card is an older image of itself, or there are two of it. In the box that
/// spoke last it was put back, and goes on under another origin. In any other box it is a twin, and becomes a gateway of
/// its own: nothing that either writes is lost, and the admins see two.
fn stale<S: Store>(store: &mut S, gateway: Gateway, request: &Request, now_ms: u64) -> Result<Opened, S::Error> {
    let print = request.about.as_ref().map(|about| about.print).unwrap_or_default();
    if print == gateway.print {
        return new_origin(store, Gateway { turn_before: request.turn, ..gateway }, request, now_ms);
    }
    let acks = proven(store, &gateway, request)?;
    let twin = store.part(&gateway, request.origin, print)?;
    Ok(Opened::Refused(Box::new(Response {
        acks,
        origin: Some(twin.origin),
        device: Some(twin.device),
        reason: Some("another box speaks under this identity: two have copies of one card".to_owned()),
        ..Response::new(Status::NewOrigin, store.epoch()?, now_ms, store.head()?)
    })))
}

/// Whether what the gateway says of a stream agrees with what arrived here: the chain where it was acknowledged, and
/// that it still has everything that arrived. A card that was put back to an older state has not.
fn fits<S: Snapshot>(store: &mut S, gateway: &Gateway, at: &StreamHead, mark: &Mark) -> Result<bool, S::Error> {
    if at.last < mark.acked {
        return Ok(false);
    }
    if at.acked == Seq(0) {
        return Ok(true);
    }
    let dot = Dot { origin: gateway.origin, stream: at.stream, seq: at.acked };
    let known = if at.acked == mark.acked { Some(mark.chain.short()) } else { store.chain_at(dot)? };
    Ok(known.is_none_or(|chain| chain == at.chain))
}

fn new_origin<S: Store>(store: &mut S, gateway: Gateway, request: &Request, now_ms: u64) -> Result<Opened, S::Error> {
    let acks = proven(store, &gateway, request)?;
    let origin = store.new_origin(gateway.device, request.origin)?;
    store.set_gateway(&Gateway { origin, ..gateway })?;
    Ok(Opened::Refused(Box::new(Response {
        origin: Some(origin),
        acks,
        reason: Some("the history of this gateway does not fit the hub's".to_owned()),
        ..Response::new(Status::NewOrigin, store.epoch()?, now_ms, store.head()?)
    })))
}

/// What arrived of the origin under which the gateway speaks. If the chain there is also its own, it has these ops and knows
/// by this that they need no other number; else it is another card that wrote them.
pub(super) fn proven<S: Snapshot>(store: &mut S, gateway: &Gateway, request: &Request) -> Result<Vec<Ack>, S::Error> {
    let mut acks = Vec::new();
    if request.epoch == store.epoch()? && store.device_of(request.origin)? == Some(gateway.device) {
        let then = Gateway { origin: request.origin, ..gateway.clone() };
        for at in &request.streams {
            let news = ack(store, &then, at.stream, at.acked, true)?;
            if news.acked > at.acked && news.acked <= at.last {
                acks.push(news);
            }
        }
    }
    Ok(acks)
}

fn rebase<S: Store>(store: &mut S, gateway: Gateway, request: &Request, now_ms: u64) -> Result<Opened, S::Error> {
    let common = store.common(request.epoch)?;
    let mut response = Response::new(Status::Rebase, store.epoch()?, now_ms, common);
    for at in &request.streams {
        response.acks.push(ack(store, &gateway, at.stream, at.acked, false)?);
    }
    store.set_gateway(&Gateway { recovers: true, ..gateway })?;
    response.reason = Some("the hub is of another epoch than this gateway last spoke with".to_owned());
    Ok(Opened::Refused(Box::new(response)))
}

/// News of a stream for a gateway that knows of acknowledgement up to `known`.
pub(super) fn ack<S: Snapshot>(
    store: &mut S,
    gateway: &Gateway,
    stream: Stream,
    known: Seq,
    with_ranges: bool,
) -> Result<Ack, S::Error> {
    let mark = store.mark(gateway.origin, stream)?;
    let ranges = match with_ranges && mark.acked > known {
        true => store.ranges(gateway.origin, stream, known, mark.acked)?,
        false => Vec::new(),
    };
    Ok(Ack { stream, acked: mark.acked, chain: mark.chain.short(), durable: mark.durable, ranges })
}

/// Takes one frame of ops: applies what is new, in order, and moves the watermark with it.
///
/// An op that came before is compared by content; a difference means two gateways under one identity, and ends the
/// exchange ([`Conversation::is_forked`]). So does a gap: the gateway has an op no more that it once wrote, and what is
/// behind the gap can only come under other numbers.
///
/// # Errors
/// What the store reports; the caller rolls back then.
pub fn receive<S: Store>(store: &mut S, with: &mut Conversation, ops: &[Op]) -> Result<Received, S::Error> {
    let mut result = Received::default();
    let Some(first) = ops.first() else { return Ok(result) };
    let stream = first.stamp.dot.stream;
    let origin = with.gateway.origin;
    let mut mark = store.mark(origin, stream)?;
    let before = mark.acked;
    for op in ops {
        let dot = op.stamp.dot;
        if dot.origin != origin || dot.stream != stream || op.stamp.hseq != HubSeq::NONE {
            break;
        }
        if dot.seq <= mark.acked {
            result.repeated += 1;
            if store.op_hash(dot)?.is_some_and(|hash| hash != op_hash(op)) {
                with.is_forked = true;
                break;
            }
            continue;
        }
        if dot.seq != mark.acked.next() {
            with.is_forked = true;
            break;
        }
        // The chain is over what was written; what it says it saw counts as far as that still means the same.
        let written = Arrived::after(mark.chain, op);
        let counted = bounded(op, &with.request.bounds);
        let arrived = Arrived { op: counted.as_ref().unwrap_or(op), ..written };
        (mark.acked, mark.chain) = (dot.seq, arrived.chain);
        let is_held = admit(store, Some(with.gateway.device), &arrived)?;
        result.new += 1;
        result.held += u64::from(is_held);
    }
    if mark.acked > before {
        store.set_mark(origin, stream, &mark)?;
    }
    Ok(result)
}

/// Takes one frame of records that this hub asked for after it was put back: what the gateway holds of the time that was lost
/// is joined with what is here. Others may have written since, and whose it is may never come back.
///
/// # Errors
/// What the store reports; the caller rolls back then.
pub fn receive_offers<S: Store>(store: &mut S, with: &mut Conversation, rows: &Rows) -> Result<(), S::Error> {
    let Some(common) = with.request.offers.filter(|_| with.gateway.recovers) else { return Ok(()) };
    let rules = store.rules()?;
    for row in &rows.rows {
        let Row::Cells { key, record: offered, .. } = row else { continue };
        let mut record = store.record(key)?.unwrap_or_default();
        let scope = if record.cells.is_empty() { offered.scope() } else { record.scope() };
        if !with.gateway.is_in_view(&scope) {
            continue;
        }
        let type_rules = rules.of(&key.record_type);
        let hseq = store.next()?;
        let merged = join(&mut record, key, offered, Joining { hseq, common }, type_rules);
        store.remember(key, &merged.superseded)?;
        if merged.changed {
            let parents = rules.parents(&key.record_type, &render(&record));
            store.keep(key, record, &parents)?;
        }
        with.joined.push(key.clone());
    }
    Ok(())
}
