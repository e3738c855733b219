//! The heads of one exchange, and how head and frames make a body.
//!
//! A body is `head length varint | head | frames`. A head is a CBOR array of what is always there, and at its end a map with
//! small integer keys for what is there sometimes. Unknown keys are skipped, so that a newer build can add some. Absent
//! keys have the defaults documented with each field.

mod condition;
mod head;
mod slice;

use std::sync::Arc;

pub use self::condition::{Condition, Reserve, WORN_PERCENT};
pub use self::slice::Slice;
use crate::digest::Chain;
use crate::erase::Erased;
use crate::error::DecodeError;
use crate::frame::{read_varint, write_varint};
use crate::id::{Device, Dot, Epoch, HubSeq, Origin, Scope, Seq, Source, Stream};
use crate::limits::HEAD_BYTES_MAX;

/// Major version of the protocol, also in the path `/sync/v1`.
pub const PROTOCOL: u64 = 1;

/// Short chain value.
pub type Short = [u8; 8];

/// The beginning of the hash of a rules document. It only has to tell the documents of one hub from each other.
pub type RulesHash = [u8; 4];

/// What a gateway says first: the protocol version, the items, and a map with the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Item 1: which enrolled gateway.
    pub device: Device,
    /// Item 2: which incarnation of it.
    pub origin: Origin,
    /// Item 3: the number that the hub gave it for this exchange ([`crate::identity`]).
    pub turn: u64,
    /// Item 4: that it is who it says.
    pub proof: Short,
    /// Item 5: the hub's epoch as last heard.
    pub epoch: Epoch,
    /// Item 6: everything in view up to here has been integrated.
    pub cursor: HubSeq,
    /// Item 7: hash of the rules it works by.
    pub rules: RulesHash,
    /// Item 8: one for each stream that was ever used.
    pub streams: Vec<StreamHead>,
    /// Key 0: how far its wall clock was ahead of the hub's at the last answer, seconds; absent if there was none since it
    /// started.
    pub ahead_seconds: Option<i64>,
    /// Key 1: how many full frames of [`crate::limits::FRAME_BYTES_MAX`] it wants at most in the response; absent is 0, no more than the
    /// hub's own limit.
    pub budget_frames: u64,
    /// Key 2: the back-fill it is in: what has been received of the scopes that are new to it.
    pub backfill: Option<HubSeq>,
    /// Key 3: coded symbols of what it holds, after the digests disagreed ([`crate::difference`]).
    pub repair: Option<Vec<u8>>,
    /// Key 4: ops in quarantine that a person at the gateway wants tried again or dropped.
    pub pleas: Vec<Plea>,
    /// Key 5: a word about itself for the admins; sent when it changed.
    pub about: Option<About>,
    /// Key 6: digest repairs so far; absent is 0.
    pub repairs: u64,
    /// Key 7: own ops that were captured under the numbers of an epoch that is gone.
    pub bounds: Vec<Bound>,
    /// Key 8: the hub was put back, and what is held here has not been compared yet; the last number that means the same to
    /// both. Frames of rows are what the hub asked for.
    pub recovers: Option<HubSeq>,
    /// Key 9: it may have ops to send, but sends none before it has heard something: what arrived, or what time it is; absent
    /// is false.
    pub asks: bool,
    /// Key 10: no exchange of a gateway, but what a database that is out of use still holds ([`crate::gateway::rescue`]).
    pub rescue: Option<Rescue>,
    /// Key 11: how its box is; sent with `about`, and when it changed.
    pub condition: Option<Condition>,
    /// Key 12: where ops are missing in the frames because they were forgotten ([`crate::gateway::retention`]).
    pub gaps: Vec<Gap>,
    /// Key 13: of which items the symbols are; sent while it recovers.
    pub slice: Option<Slice>,
    /// Key 14: the cursor when a pull last reached the head, if a later one broke off since.
    pub complete: Option<HubSeq>,
    /// Key 15: it has carried out every erasure up to this number; sent with `about`, and always once there was one. A program that
    /// cannot carry any out says nothing.
    pub erased: Option<u64>,
}

/// Ops that a gateway sent once and has no more: they were safe at the hub for long, and nothing of them stood any more, so that it
/// has forgotten them; or they were erased. The hub was put back to before it had them. The stream goes on behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The stream.
    pub stream: Stream,
    /// The last of these ops.
    pub upto: Seq,
    /// Chain there, whole.
    pub chain: Chain,
}

/// How the ops of a rescue are to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescue {
    /// Under their own numbers, as far as they follow on what the hub has.
    InPlace,
    /// Each for itself: what the hub does not have gets another number. A change of a counter says what this op alone added and
    /// subtracted.
    Apart,
}

/// What became of the ops of a rescue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rescued {
    /// Ops that had arrived before.
    pub known: u64,
    /// Ops that were new.
    pub taken: u64,
    /// Those of them that went into quarantine.
    pub held: u64,
    /// Ops that were not taken, because a gateway still speaks under their origin and may send them itself.
    pub waiting: u64,
    /// Up to where the file and the hub have the same ops, for each stream in the request.
    pub agreed: Vec<(Stream, Seq)>,
}

/// Ops of a stream up to one of them were written when the hub was of another epoch. Of what they saw, the numbers up to
/// `common` mean the same in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The stream.
    pub stream: Stream,
    /// The last of these ops.
    pub upto: Seq,
    /// The last number that both epochs share.
    pub common: HubSeq,
}

/// Where a gateway stands with one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamHead {
    /// The stream.
    pub stream: Stream,
    /// The last op that the hub has acknowledged.
    pub acked: Seq,
    /// Chain at `acked`.
    pub chain: Short,
    /// The last op that exists here. What lies between is waiting.
    pub last: Seq,
    /// How long ago the oldest waiting op was captured, by the gateway's clock; 0 if none waits.
    pub age_seconds: u64,
}

/// A wish about an op in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plea {
    /// The op.
    pub dot: Dot,
    /// Drop it instead of trying again.
    pub discard: bool,
}

/// What admins want to know of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// Program version.
    pub version: String,
    /// Free space on its card, bytes.
    pub disk_free: u64,
    /// Records held.
    pub records: u64,
    /// A hash of what tells this box from another; zeros if nothing does.
    pub print: Short,
    /// What it takes for its view ([`view_hash`]).
    pub view: ViewHash,
}

/// The beginning of a hash of scopes and source: it only has to tell one view of a gateway from the one before.
pub type ViewHash = [u8; 4];

/// What tells views apart.
pub fn view_hash(scopes: &[Scope], source: Source) -> ViewHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[source.0]);
    for scope in scopes {
        hasher.update(scope.as_str().as_bytes()).update(b"\n");
    }
    let mut hash = ViewHash::default();
    for (to, from) in hash.iter_mut().zip(hasher.finalize().as_bytes()) {
        *to = *from;
    }
    hash
}

/// What the hub answers first: the items, and a map with the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Item 0.
    pub status: Status,
    /// Item 1: the hub's epoch.
    pub epoch: Epoch,
    /// Item 2: the hub's clock, milliseconds since 1970.
    pub hub_ms: u64,
    /// Item 3: where the gateway stands once all frames of this response are applied.
    pub cursor: HubSeq,
    /// Key 0: the turn of the next request; absent keeps the present one.
    pub turn: Option<u64>,
    /// Key 1: streams about which there is news.
    pub acks: Vec<Ack>,
    /// Key 2: digest of the gateway's view at the hub's head; only if the frames reach it.
    pub digest: Option<u64>,
    /// Key 3: more waits at the hub than the budget allowed.
    pub more: bool,
    /// Key 4: a new rules document.
    pub rules: Option<Arc<str>>,
    /// Key 5: the incarnation to go on under; with [`Status::NewOrigin`].
    pub origin: Option<Origin>,
    /// Key 6: what the gateway is subscribed to; sent when it changed.
    pub view: Option<View>,
    /// Key 7: items that the gateway holds as confirmed and the hub does not have.
    pub drop: Vec<u64>,
    /// Key 8: the symbols did not suffice; send this many.
    pub symbols: Option<u32>,
    /// Key 9: a sentence for the log when the status is not ok.
    pub reason: Option<String>,
    /// Key 10: the enrolment to go on as; with [`Status::NewOrigin`], if another box speaks under the present one.
    pub device: Option<Device>,
    /// Key 11: items whose records the gateway is to send: this hub was put back, and they may be from the time it lost.
    pub want: Vec<u64>,
    /// Key 12: what became of the ops of a rescue; only in the answer to one.
    pub rescued: Option<Rescued>,
    /// Key 13: this hub reads key 12 of a request; said to who says something about itself. Absent is false.
    pub takes_gaps: bool,
    /// Key 14: of which items the next symbols shall be; absent keeps the present ones.
    pub slice: Option<Slice>,
    /// Key 15: erasures that it has yet to carry out, in order.
    pub erased: Vec<Erased>,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Normally.
    Ok,
    /// The gateway's history does not fit the hub's: go on under the origin given; nothing was applied.
    NewOrigin,
    /// The gateway is not enrolled here, or this is not its key.
    Denied,
    /// The hub's epoch is another one than the gateway's.
    Rebase,
    /// The hub does not speak this protocol version.
    Upgrade,
    /// It speaks as its gateway did some time ago. Its ops were compared and taken, and nothing comes down. It says in the
    /// next request what box it is, and goes on until the hub has seen all its ops; then it is told how to go on
    /// ([`Status::NewOrigin`]).
    Compared,
    /// An admin has shut this gateway out: nothing goes down to it. What it sent waits at the hub for a person, and is
    /// acknowledged.
    Revoked,
}

/// News of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The stream.
    pub stream: Stream,
    /// The hub has this op and all before it.
    pub acked: Seq,
    /// Chain at `acked`, as the hub computed it.
    pub chain: Short,
    /// This op and all before it survive the loss of the hub.
    pub durable: Seq,
    /// The hub's numbers for the ops after the request's `acked` up to `acked`. An op that no range covers is in quarantine.
    pub ranges: Vec<AckRange>,
}

impl Ack {
    /// The hub has nothing of this stream.
    pub fn nothing(stream: Stream) -> Ack {
        let chain = Chain::default().short();
        Ack { stream, acked: Seq(0), chain, durable: Seq(0), ranges: Vec::new() }
    }
}

/// Consecutive ops with consecutive hub numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckRange {
    /// First op.
    pub first: Seq,
    /// How many.
    pub count: u64,
    /// The hub's number of the first.
    pub hseq: HubSeq,
}

/// What a gateway is subscribed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Scopes; the first is its home.
    pub scopes: Vec<Scope>,
    /// What kind of place it is.
    pub source: Source,
    /// Some scopes are new: begin a back-fill from 0.
    pub backfill: bool,
}

/// Puts a head and frames together.
pub fn body(head: &[u8], frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let frames: Vec<Vec<u8>> = frames.into_iter().collect();
    let mut body = Vec::with_capacity(head.len() + 5 + frames.iter().map(Vec::len).sum::<usize>());
    write_varint(&mut body, head.len() as u64);
    body.extend_from_slice(head);
    // Each frame goes when it is there, so that the box does not need room for all of them twice.
    frames.into_iter().for_each(|frame| body.extend_from_slice(&frame));
    body
}

/// Splits the head off a body: its bytes and where the frames begin. `None` if it is not complete yet.
///
/// # Errors
/// [`DecodeError::TooLarge`] before anything that large is waited for.
pub fn split_head(buffer: &[u8]) -> Result<Option<(&[u8], usize)>, DecodeError> {
    let Some((len, start)) = read_varint(buffer)? else { return Ok(None) };
    if len > HEAD_BYTES_MAX as u64 {
        return Err(DecodeError::TooLarge { what: "head", limit: HEAD_BYTES_MAX });
    }
    let end = start + len as usize;
    Ok(buffer.get(start..end).map(|head| (head, end)))
}

impl Response {
    /// A response without news.
    pub fn new(status: Status, epoch: Epoch, hub_ms: u64, cursor: HubSeq) -> Response {
        Response {
            status,
            epoch,
            turn: None,
            acks: Vec::new(),
            hub_ms,
            cursor,
            digest: None,
            more: false,
            rules: None,
            origin: None,
            view: None,
            drop: Vec::new(),
            symbols: None,
            reason: None,
            device: None,
            want: Vec::new(),
            rescued: None,
            takes_gaps: false,
            slice: None,
            erased: Vec::new(),
        }
    }
}
