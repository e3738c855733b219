//! The beginning of an exchange, and the ops that come up in it.

use std::collections::{BTreeMap, BTreeSet};

use super::clamp::clamped;
use super::copy::{self, Copies};
use super::judge::take_in;
use super::lost;
use super::quarantine::{judge_joined, put_aside};
use super::rescue::{self, Rescuing};
use super::revoked::{self, is_shut_out};
use super::sitting::Sitting;
use super::twins::{are_too_many, is_a_copy_shut_out, line_of};
use super::{Arrived, Gateway, Mark, Snapshot, Store, told};
use crate::digest::op_hash;
use crate::gateway::bounded;
use crate::id::{Dot, Epoch, HubSeq, Origin, RecordKey, Seq, Stream};
use crate::message::{Ack, Gap, Request, Response, Short, Status, StreamHead};
use crate::record::Op;

/// An exchange under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// With whom.
    pub gateway: Gateway,
    /// What it said.
    pub request: Request,
    /// The hub's clock when it began, milliseconds since 1970.
    pub now_ms: u64,
    /// Whether it speaks as its gateway does at present, or as it once did.
    pub standing: Standing,
    /// Streams in which its history turned out not to be ours.
    pub forked: BTreeSet<Stream>,
    /// How far each stream is the same at both ends, as far as this exchange has shown.
    pub agreed: BTreeMap<Stream, Seq>,
    /// The caller could not read all frames of the request: there was more than was received.
    pub is_cut: bool,
    /// Records that it offered and that were joined with ours.
    pub joined: Vec<RecordKey>,
    /// How many more ops may wait of it, and how many bytes of them, if it was shut out.
    pub room: (u64, u64),
}

/// How who speaks stands to the gateway that the hub knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is its present self.
    Member,
    /// It knows the key, but speaks as the gateway was some time ago: a card that was put back or copied, or a message that
    /// comes late. What it wrote is compared and taken under its old numbers, so that nobody who has a copy of the same
    /// writes doubles them; then it is told how to go on.
    Guest,
    /// An admin has shut it out. What it sends waits for a person.
    ShutOut,
}

impl Conversation {
    pub(super) fn new(gateway: Gateway, request: Request, now_ms: u64, standing: Standing) -> Conversation {
        let (forked, agreed, joined) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
        Conversation { gateway, request, now_ms, standing, forked, agreed, is_cut: false, joined, room: (0, 0) }
    }
}

/// How an exchange begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It may go on.
    Ready(Box<Conversation>),
    /// It ends here, with this answer.
    Refused(Box<Response>),
    /// It is no exchange of the gateway, but a file that hands in what it still holds.
    Rescue(Box<Rescuing>),
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
    if let Some(kind) = request.rescue {
        return rescue::open(store, request, kind, now_ms);
    }
    let mut gateway = match store.gateway(request.device)? {
        Some(gateway) => gateway,
        None => match lost::twin(store, &request, now_ms)? {
            Ok(gateway) => gateway,
            Err(reason) => return denied(store, &request, now_ms, reason),
        },
    };
    let is_its_key = gateway.key.proves(request.turn, &request.proof);
    if (gateway.is_revoked || !is_its_key) && is_shut_out(store, gateway.device, request.turn, &request.proof)? {
        return revoked::open(store, gateway, request, now_ms);
    }
    if !is_its_key {
        return denied(store, &request, now_ms, told::WRONG_KEY);
    }
    let (mut epoch, head) = (store.epoch()?, store.head()?);
    if request.turn > gateway.turn {
        // Genuine and from the future: this hub was put back to an older state. That holds if it comes from a later epoch, too: it
        // may have spoken in this one already, and would have nothing to show then.
        if request.epoch == epoch || gateway.epoch == epoch {
            let Some(begun) = begin_epoch(store, &gateway, now_ms)? else {
                return denied(store, &request, now_ms, told::TOO_MANY_LOSSES);
            };
            epoch = begun;
        }
        (gateway.turn, gateway.turn_before, gateway.turn_first) = (request.turn, request.turn, request.turn);
        store.set_gateway(&gateway)?;
    }
    if gateway.offered == Some(request.origin) {
        // It goes on as it was told. The turn that it shows may be an old one, because nobody gave it another.
        gateway.goes_on_as(request.origin);
        gateway.turn_before = request.turn;
        store.set_gateway(&gateway)?;
    }
    let is_stale = !gateway.expects(request.turn);
    let is_given = request.cursor <= head && store.given(request.cursor)? == request.cursor;
    let knows_more = !is_given || lost::is_forgotten(store, &gateway, &request)?;
    if request.epoch == epoch && knows_more {
        let Some(begun) = begin_epoch(store, &gateway, now_ms)? else {
            return denied(store, &request, now_ms, told::TOO_MANY_LOSSES);
        };
        epoch = begun;
    }
    if request.epoch != epoch {
        return rebase(store, &gateway, &request, now_ms);
    }
    if !is_stale && lost::is_of_lost_time(store, &request)? {
        if !store.may_take_in(gateway.device)? {
            return denied(store, &request, now_ms, told::TOO_MANY_CLAIMS);
        }
        let after = lost::origin_before(store, &gateway, request.origin)?;
        store.claim_origin(gateway.device, request.origin, after)?;
        gateway.goes_on_as(request.origin);
        store.set_gateway(&gateway)?;
    }
    if store.device_of(request.origin)? != Some(gateway.device) {
        let response = go_on_differently(store, &gateway, &request, now_ms)?;
        return Ok(Opened::Refused(Box::new(response)));
    }
    let mut with = Conversation::new(gateway, request, now_ms, Standing::Guest);
    let (request, mut fits) = (&with.request, true);
    for stream in Stream::ALL {
        let mark = store.mark(request.origin, stream)?;
        let Some(at) = request.streams.iter().find(|at| at.stream == stream) else {
            // It says nothing of a stream from which ops arrived: the card is older than they are.
            fits &= mark.acked == Seq(0);
            continue;
        };
        // Only this hub acknowledges, and what it has acknowledged it has: unless it was put back. Copies of a card may have
        // brought others under these numbers since.
        if at.acked > mark.acked || !is_on_chain(store, request.origin, at, &mark)? {
            return match begin_epoch(store, &with.gateway, now_ms)? {
                Some(_) => rebase(store, &with.gateway, request, now_ms),
                None => denied(store, request, now_ms, told::TOO_MANY_LOSSES),
            };
        }
        fits &= at.last >= mark.acked;
        with.agreed.insert(stream, at.acked);
    }
    if !is_stale && request.origin == with.gateway.origin && fits {
        with.standing = Standing::Member;
    }
    if with.standing == Standing::Guest && !is_in_its_box(&with) && is_a_copy_shut_out(store, &with.gateway)? {
        // Before anything of it is taken.
        let response = go_on_differently(store, &with.gateway, &with.request, now_ms)?;
        return Ok(Opened::Refused(Box::new(response)));
    }
    Ok(Opened::Ready(Box::new(with)))
}

/// Whether who speaks said that it is in the box that this gateway was in last, as far as that is known.
fn is_in_its_box(with: &Conversation) -> bool {
    with.request.about.as_ref().is_some_and(|about| is_box_of(&with.gateway, about.print))
}

fn is_box_of(gateway: &Gateway, print: Short) -> bool {
    print == gateway.print || gateway.print == Short::default()
}

/// Begins another epoch on the word of a gateway, unless boxes with its card have done so too often.
pub(super) fn begin_epoch<S: Store>(store: &mut S, gateway: &Gateway, now_ms: u64) -> Result<Option<Epoch>, S::Error> {
    let card = line_of(store, gateway.device)?.last().copied().unwrap_or(gateway.device);
    store.new_epoch(card, now_ms)
}

fn denied<S: Snapshot>(store: &mut S, request: &Request, now_ms: u64, reason: &str) -> Result<Opened, S::Error> {
    let response = Response::new(Status::Denied, store.epoch()?, now_ms, request.cursor);
    Ok(Opened::Refused(Box::new(Response { reason: Some(reason.to_owned()), ..response })))
}

/// Whether the chain where the gateway says it was acknowledged is the one computed here.
pub(super) fn is_on_chain<S: Snapshot>(
    store: &mut S,
    origin: Origin,
    at: &StreamHead,
    mark: &Mark,
) -> Result<bool, S::Error> {
    if at.acked == Seq(0) {
        return Ok(true);
    }
    let dot = Dot { origin, stream: at.stream, seq: at.acked };
    let known = if at.acked == mark.acked { Some(mark.chain.short()) } else { store.chain_at(dot)? };
    Ok(known.is_none_or(|chain| chain == at.chain))
}

/// Tells a guest how to go on: under another origin, and as another gateway if it is in another box than the one that
/// spoke last. Nothing changes here but that the number is kept for it, so that a message that only came late does no harm.
pub(super) fn go_on_differently<S: Store>(
    store: &mut S,
    gateway: &Gateway,
    request: &Request,
    now_ms: u64,
) -> Result<Response, S::Error> {
    let response = Response::new(Status::NewOrigin, store.epoch()?, now_ms, store.head()?);
    let Some(print) = request.about.as_ref().map(|about| about.print) else {
        // Whether it is a twin can only be told from its box, and it has yet to say which one that is.
        return Ok(Response { status: Status::Compared, more: true, ..response });
    };
    if is_box_of(gateway, print) {
        return offer(store, gateway, request, response);
    }
    if is_a_copy_shut_out(store, gateway)? {
        return Ok(Response { status: Status::Denied, reason: Some(told::COPY_SHUT_OUT.to_owned()), ..response });
    }
    if are_too_many(store, gateway, Some(print))? {
        return Ok(Response { status: Status::Denied, reason: Some(told::TOO_MANY_COPIES.to_owned()), ..response });
    }
    let twin = store.part(gateway, request.origin, print)?;
    Ok(Response {
        origin: Some(twin.origin),
        device: Some(twin.device),
        reason: Some("another box speaks under this identity: two have copies of one card".to_owned()),
        ..response
    })
}

fn offer<S: Store>(
    store: &mut S,
    gateway: &Gateway,
    request: &Request,
    response: Response,
) -> Result<Response, S::Error> {
    let known = store.gateway(gateway.device)?.unwrap_or_else(|| gateway.clone());
    let origin = match known.offered {
        Some(origin) => origin,
        None => {
            if !store.may_begin_anew(gateway.device)? {
                let reason = Some(told::TOO_MANY_MISFITS.to_owned());
                return Ok(Response { status: Status::Denied, reason, ..response });
            }
            let origin = store.new_origin(gateway.device, request.origin)?;
            store.set_gateway(&Gateway { offered: Some(origin), ..known })?;
            origin
        }
    };
    let reason = "the history of this gateway does not fit the hub's".to_owned();
    Ok(Response { origin: Some(origin), reason: Some(reason), ..response })
}

pub(super) fn rebase<S: Store>(
    store: &mut S,
    gateway: &Gateway,
    request: &Request,
    now_ms: u64,
) -> Result<Opened, S::Error> {
    let common = store.common(request.epoch)?.min(request.cursor);
    let common = store.given(common)?;
    let mut response = Response::new(Status::Rebase, store.epoch()?, now_ms, common);
    let is_known = store.device_of(request.origin)? == Some(gateway.device);
    for at in &request.streams {
        let mark = store.mark(request.origin, at.stream)?;
        response.acks.push(match is_known && is_on_chain(store, request.origin, at, &mark)? {
            true => ack(store, request.origin, at.stream, at.acked, None)?,
            false => Ack::nothing(at.stream),
        });
    }
    response.reason = Some("the hub is of another epoch than this gateway last spoke with".to_owned());
    Ok(Opened::Refused(Box::new(response)))
}

/// News of a stream for a gateway that knows of acknowledgement up to `known`. With `upto`, no more than that, and with the
/// numbers of the ops.
pub(super) fn ack<S: Snapshot>(
    store: &mut S,
    origin: Origin,
    stream: Stream,
    known: Seq,
    upto: Option<Seq>,
) -> Result<Ack, S::Error> {
    let mark = store.mark(origin, stream)?;
    let acked = upto.map_or(mark.acked, |upto| mark.acked.min(upto));
    let chain = match acked == mark.acked {
        true => mark.chain.short(),
        false => store.chain_at(Dot { origin, stream, seq: acked })?.unwrap_or_default(),
    };
    let ranges = match upto.is_some() && acked > known {
        true => store.ranges(origin, stream, known, acked)?,
        false => Vec::new(),
    };
    Ok(Ack { stream, acked, chain, durable: mark.durable.min(acked), ranges })
}

/// The ops before this one and after `acked` that its gateway has forgotten, if they were written in an epoch that is gone. What
/// this hub never had and nobody has lost is not left out.
fn gap_before(with: &Conversation, dot: Dot, acked: Seq) -> Option<Gap> {
    let bounds = with.request.bounds.iter().filter(|bound| bound.stream == dot.stream);
    let upto = bounds.map(|bound| bound.upto).max()?;
    let fits =
        |gap: &&Gap| gap.stream == dot.stream && gap.upto.next() == dot.seq && acked < gap.upto && dot.seq <= upto;
    with.request.gaps.iter().find(fits).copied()
}

/// Whether an op arrived after this hub was put back to a time that the gateway knows. Then another copy of its card has brought it,
/// and nobody can tell whether the gateway had the same under that number.
fn came_since<S: Snapshot>(store: &mut S, with: &Conversation, dot: Dot) -> Result<bool, S::Error> {
    let (mut common, head) = (None, store.head()?);
    for bound in with.request.bounds.iter().filter(|bound| bound.stream == dot.stream && dot.seq <= bound.upto) {
        // What came before the last time that it was put back came to the gateway's knowledge. A number that this hub has not given
        // is of an epoch that it knows nothing of.
        if bound.common <= head && store.given(bound.common)? == bound.common {
            common = common.max(Some(bound.common));
        }
    }
    Ok(store.arrived_as(dot)? > common)
}

/// Up to where a stream is the same at both ends.
pub(super) fn agreed_upto(with: &Conversation, stream: Stream, acked: Seq) -> Seq {
    with.agreed.get(&stream).copied().unwrap_or(acked)
}

/// Takes one frame of ops: applies what is new, in order, and moves the watermark with it.
///
/// An op that came before is compared by content; a difference means two gateways under one identity, and ends the stream
/// ([`Conversation::forked`]). So does a gap: the gateway has an op no more that it once wrote, and what is behind the gap can
/// only come under other numbers; unless the ops in it were forgotten because this hub had them safe, before it was put back
/// ([`crate::message::Gap`]), and nobody has brought another one's under their numbers since.
///
/// # Errors
/// What the store reports; the caller rolls back then.
pub fn receive<S: Store>(store: &mut S, with: &mut Conversation, ops: &[Op]) -> Result<Received, S::Error> {
    let mut result = Received::default();
    let Some(first) = ops.first() else { return Ok(result) };
    let stream = first.stamp.dot.stream;
    let origin = with.request.origin;
    // Where it said nothing of a stream it agrees with nothing, and has nothing to send.
    let Some(mut agreed) = with.agreed.get(&stream).copied().filter(|_| !with.forked.contains(&stream)) else {
        return Ok(result);
    };
    let mut mark = store.mark(origin, stream)?;
    let (before, copies) = (mark.acked, Copies::of(store, origin, stream)?);
    let (head, mut sitting) = (store.head()?, Sitting::default());
    for op in ops {
        let dot = op.stamp.dot;
        if dot.origin != origin || dot.stream != stream || op.stamp.hseq != HubSeq::NONE {
            break;
        }
        if dot.seq <= mark.acked {
            result.repeated += 1;
            // Of what lies in a gap nobody knows whether it was the same, so it can only come under another number.
            if store.op_hash(dot)?.is_none_or(|hash| hash != op_hash(op)) {
                with.forked.insert(stream);
                break;
            }
            agreed = agreed.max(dot.seq);
            continue;
        }
        // It may begin before the watermark: what was forgotten there cannot be shown, and all that could be was the same.
        if let Some(gap) = gap_before(with, dot, mark.acked) {
            if agreed < mark.acked && came_since(store, with, Dot { seq: mark.acked, ..dot })? {
                with.forked.insert(stream);
                break;
            }
            (mark.acked, mark.chain, agreed) = (gap.upto, gap.chain, gap.upto);
        }
        if dot.seq != mark.acked.next() || agreed != mark.acked {
            with.forked.insert(stream);
            break;
        }
        // The chain is over what was written; what it says it saw counts as far as that still means the same, and a time as
        // far as it has come.
        let written = Arrived::after(mark.chain, op);
        if with.standing == Standing::ShutOut && !revoked::takes(&mut with.room, written.canonical.len()) {
            break;
        }
        let bounded = bounded(op, &with.request.bounds);
        let counted = clamped(bounded.as_ref().unwrap_or(op), with.now_ms, head).or(bounded);
        let arrived = Arrived { op: counted.as_ref().unwrap_or(op), ..written };
        (mark.acked, mark.chain, agreed) = (dot.seq, arrived.chain, dot.seq);
        result.new += 1;
        let is_held = match with.standing {
            Standing::ShutOut => put_aside(store, with.gateway.device, &arrived, revoked::REASON)?,
            Standing::Member | Standing::Guest => {
                let device = with.gateway.device;
                match copies.as_ref().map(|copies| copies.find(store, op)).transpose()?.flatten() {
                    Some(known) => copy::admit(store, device, &arrived, known).map(|()| false)?,
                    None => take_in(store, Some(&with.gateway), &arrived, &mut sitting)?,
                }
            }
        };
        result.held += u64::from(is_held);
    }
    result.held += judge_joined(store, sitting)?;
    with.agreed.insert(stream, agreed);
    if mark.acked > before {
        store.set_mark(origin, stream, &mark)?;
    }
    Ok(result)
}
