//! The heads of one exchange, and how head and frames make a body.
//!
//! A body is `head length varint | head | frames`. Heads are CBOR maps with small integer keys; unknown keys are skipped, so
//! that a minor version can add some. Absent keys have the defaults documented with each field.

use std::sync::Arc;

use minicbor::data::Type;

use crate::cbor::{In, Out};
use crate::codec::{decode_dot, decode_optional_text, encode_dot};
use crate::error::DecodeError;
use crate::frame::{read_varint, write_varint};
use crate::id::{Device, Dot, Epoch, HubSeq, Origin, Scope, Seq, Source, Stream};
use crate::limits::{HEAD_BYTES_MAX, SCOPES_MAX};

/// Major version of the protocol, also in the path `/sync/v1`.
pub const PROTOCOL: u64 = 1;

/// Short chain value.
pub type Short = [u8; 8];

/// What a gateway says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Key 1: which enrolled gateway.
    pub device: Device,
    /// Key 2: which incarnation of it.
    pub origin: Origin,
    /// Key 3: the token from the last response, or from enrolment.
    pub token: Short,
    /// Key 4: the hub's epoch as last heard.
    pub epoch: Epoch,
    /// Key 5: everything in view up to here has been integrated.
    pub cursor: HubSeq,
    /// Key 6: one for each stream that was ever used.
    pub streams: Vec<StreamHead>,
    /// Key 7: hash of the rules it works by.
    pub rules: Short,
    /// Key 8: the newest dictionary it can unpack; absent is 0, none.
    pub dictionary: u32,
    /// Key 9: its wall clock, milliseconds since 1970; absent is 0, unknown.
    pub wall_ms: u64,
    /// Key 10: bytes of frames it wants at most in the response; absent is 0, no more than the hub's own limit.
    pub budget: u64,
    /// Key 11: the back-fill it is in: what has been received of the scopes that are new to it.
    pub backfill: Option<HubSeq>,
    /// Key 12: coded symbols of what it holds, after the digests disagreed ([`crate::difference`]).
    pub repair: Option<Vec<u8>>,
    /// Key 13: ops in quarantine that a person at the gateway wants tried again or dropped.
    pub pleas: Vec<Plea>,
    /// Key 14: a word about itself for the admins; sent when it changed.
    pub about: Option<About>,
    /// Key 15: digest repairs so far; absent is 0.
    pub repairs: u64,
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
    /// When the oldest waiting op was captured, milliseconds since 1970; 0 if none waits.
    pub oldest_ms: u64,
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
}

/// What the hub answers first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Key 0.
    pub status: Status,
    /// Key 1: the hub's epoch.
    pub epoch: Epoch,
    /// Key 2: the token for the next request; absent keeps the present one.
    pub token: Option<Short>,
    /// Key 3: streams about which there is news.
    pub acks: Vec<Ack>,
    /// Key 4: the hub's clock, milliseconds since 1970.
    pub hub_ms: u64,
    /// Key 5: where the gateway stands once all frames of this response are applied.
    pub cursor: HubSeq,
    /// Key 6: digest of the gateway's view at the hub's head; only if the frames reach it.
    pub digest: Option<u64>,
    /// Key 7: more waits at the hub than the budget allowed.
    pub more: bool,
    /// Key 8: a new rules document.
    pub rules: Option<Arc<str>>,
    /// Key 9: the incarnation to go on under; with [`Status::NewOrigin`].
    pub origin: Option<Origin>,
    /// Key 10: what the gateway is subscribed to; sent when it changed.
    pub view: Option<View>,
    /// Key 11: items that the gateway holds as confirmed and the hub does not have.
    pub drop: Vec<u64>,
    /// Key 12: the symbols did not suffice; send this many.
    pub symbols: Option<u32>,
    /// Key 13: a sentence for the log when the status is not ok.
    pub reason: Option<String>,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Normally.
    Ok,
    /// The gateway's history does not fit the hub's: go on under the origin given; nothing was applied.
    NewOrigin,
    /// The gateway was revoked, or its token is not known.
    Denied,
    /// The hub's epoch is another one than the gateway's.
    Rebase,
    /// The hub does not speak this protocol version.
    Upgrade,
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
    let mut body = Vec::with_capacity(head.len() + 2);
    write_varint(&mut body, head.len() as u64);
    body.extend_from_slice(head);
    body.extend(frames.into_iter().flatten());
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

/// A CBOR map under construction: entries are counted, so that the absent ones cost nothing.
struct Fields {
    out: Out,
    count: usize,
}

impl Fields {
    fn new() -> Self {
        Fields { out: Out::new(), count: 0 }
    }

    fn key(&mut self, key: u64) -> &mut Out {
        self.count += 1;
        self.out.uint(key)
    }

    fn key_if(&mut self, present: bool, key: u64, write: impl FnOnce(&mut Out)) {
        if present {
            write(self.key(key));
        }
    }

    fn finish(self) -> Vec<u8> {
        let mut map = Out::new();
        map.map(self.count);
        map.raw(&self.out.finish());
        map.finish()
    }
}

impl Request {
    /// The bytes of the head.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = Fields::new();
        fields.key(0).uint(PROTOCOL);
        fields.key(1).uint(u64::from(self.device.0));
        fields.key(2).uint(u64::from(self.origin.0));
        fields.key(3).bytes(&self.token);
        fields.key(4).uint(u64::from(self.epoch.0));
        fields.key(5).uint(self.cursor.0);
        fields.key_if(!self.streams.is_empty(), 6, |out| out.list(self.streams.iter(), encode_stream_head).done());
        fields.key(7).bytes(&self.rules);
        fields.key_if(self.dictionary != 0, 8, |out| out.uint(u64::from(self.dictionary)).done());
        fields.key_if(self.wall_ms != 0, 9, |out| out.uint(self.wall_ms).done());
        fields.key_if(self.budget != 0, 10, |out| out.uint(self.budget).done());
        if let Some(reach) = self.backfill {
            fields.key(11).uint(reach.0);
        }
        if let Some(symbols) = &self.repair {
            fields.key(12).bytes(symbols);
        }
        fields.key_if(!self.pleas.is_empty(), 13, |out| {
            out.list(self.pleas.iter(), |out, plea| {
                encode_dot(out.array(2), plea.dot);
                out.bool(plea.discard);
            });
        });
        if let Some(about) = &self.about {
            fields.key(14).array(3).text(&about.version).uint(about.disk_free).uint(about.records);
        }
        fields.key_if(self.repairs != 0, 15, |out| out.uint(self.repairs).done());
        fields.finish()
    }

    /// Reads the bytes of a head.
    ///
    /// # Errors
    /// Any [`DecodeError`]; [`DecodeError::Shape`] with "protocol version" if it speaks another.
    pub fn decode(bytes: &[u8]) -> Result<Request, DecodeError> {
        let mut input = In::new(bytes);
        let mut head = Request {
            device: Device(0),
            origin: Origin(0),
            token: [0; 8],
            epoch: Epoch(0),
            cursor: HubSeq::NONE,
            streams: Vec::new(),
            rules: [0; 8],
            dictionary: 0,
            wall_ms: 0,
            budget: 0,
            backfill: None,
            repair: None,
            pleas: Vec::new(),
            about: None,
            repairs: 0,
        };
        let mut present = 0u64;
        for _ in 0..input.map()? {
            let key = input.uint()?;
            present |= 1u64.checked_shl(key as u32).unwrap_or(0);
            match key {
                0 if input.uint()? != PROTOCOL => return Err(DecodeError::Shape("protocol version")),
                0 => {}
                1 => head.device = Device(input.u32()?),
                2 => head.origin = Origin(input.u32()?),
                3 => head.token = short(&mut input)?,
                4 => head.epoch = Epoch(input.u32()?),
                5 => head.cursor = HubSeq(input.uint()?),
                6 => head.streams = input.list(decode_stream_head)?,
                7 => head.rules = short(&mut input)?,
                8 => head.dictionary = input.u32()?,
                9 => head.wall_ms = input.uint()?,
                10 => head.budget = input.uint()?,
                11 => head.backfill = Some(HubSeq(input.uint()?)),
                12 => head.repair = Some(input.bytes()?.to_vec()),
                13 => {
                    head.pleas = input.list(|input| {
                        input.tuple(2)?;
                        Ok(Plea { dot: decode_dot(input)?, discard: input.bool()? })
                    })?;
                }
                14 => {
                    input.tuple(3)?;
                    let version = input.text()?.chars().take(64).collect();
                    head.about = Some(About { version, disk_free: input.uint()?, records: input.uint()? });
                }
                15 => head.repairs = input.uint()?,
                _ => input.skip()?,
            }
        }
        input.end()?;
        require(present, &[0, 1, 2, 3, 4, 5, 7])?;
        Ok(head)
    }
}

fn require(present: u64, keys: &[u64]) -> Result<(), DecodeError> {
    match keys.iter().find(|key| present & (1 << **key) == 0) {
        Some(missing) => Err(DecodeError::Missing(*missing)),
        None => Ok(()),
    }
}

fn short(input: &mut In<'_>) -> Result<Short, DecodeError> {
    input.bytes()?.try_into().map_err(|_| DecodeError::Shape("8 bytes"))
}

/// `[stream, acked, chain]` when nothing waits, `[stream, acked, chain, waiting, oldest]` when something does.
fn encode_stream_head(out: &mut Out, head: &StreamHead) {
    let waiting = head.last.0.saturating_sub(head.acked.0);
    out.array(if waiting > 0 { 5 } else { 3 });
    out.uint(u64::from(head.stream.number())).uint(head.acked.0).bytes(&head.chain);
    if waiting > 0 {
        out.uint(waiting).uint(head.oldest_ms);
    }
}

fn decode_stream_head(input: &mut In<'_>) -> Result<StreamHead, DecodeError> {
    let len = input.array()?;
    let stream = Stream::from_number(input.u8()?)?;
    let acked = Seq(input.uint()?);
    let chain = short(input)?;
    let (waiting, oldest_ms) = match len {
        3 => (0, 0),
        5 => (input.uint()?, input.uint()?),
        _ => return Err(DecodeError::Shape("stream head of another length")),
    };
    let last = Seq(acked.0.checked_add(waiting).ok_or(DecodeError::Shape("sequence number"))?);
    Ok(StreamHead { stream, acked, chain, last, oldest_ms })
}

impl Status {
    fn number(self) -> u64 {
        match self {
            Status::Ok => 0,
            Status::NewOrigin => 1,
            Status::Denied => 2,
            Status::Rebase => 3,
            Status::Upgrade => 4,
        }
    }

    fn from_number(n: u64) -> Result<Status, DecodeError> {
        match n {
            0 => Ok(Status::Ok),
            1 => Ok(Status::NewOrigin),
            2 => Ok(Status::Denied),
            3 => Ok(Status::Rebase),
            4 => Ok(Status::Upgrade),
            _ => Err(DecodeError::Shape("unknown status")),
        }
    }
}

impl Response {
    /// A response without news.
    pub fn new(status: Status, epoch: Epoch, hub_ms: u64, cursor: HubSeq) -> Response {
        Response {
            status,
            epoch,
            token: None,
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
        }
    }

    /// The bytes of the head.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = Fields::new();
        fields.key_if(self.status != Status::Ok, 0, |out| out.uint(self.status.number()).done());
        fields.key(1).uint(u64::from(self.epoch.0));
        if let Some(token) = &self.token {
            fields.key(2).bytes(token);
        }
        fields.key_if(!self.acks.is_empty(), 3, |out| out.list(self.acks.iter(), encode_ack).done());
        fields.key(4).uint(self.hub_ms);
        fields.key(5).uint(self.cursor.0);
        if let Some(digest) = self.digest {
            fields.key(6).bytes(&digest.to_le_bytes());
        }
        fields.key_if(self.more, 7, |out| out.bool(true).done());
        if let Some(rules) = &self.rules {
            fields.key(8).text(rules);
        }
        if let Some(origin) = self.origin {
            fields.key(9).uint(u64::from(origin.0));
        }
        if let Some(view) = &self.view {
            let out = fields.key(10).array(3);
            out.list(view.scopes.iter(), |out, scope| out.text(scope.as_str()).done());
            out.uint(u64::from(view.source.0)).bool(view.backfill);
        }
        fields.key_if(!self.drop.is_empty(), 11, |out| {
            out.list(self.drop.iter(), |out, item| out.bytes(&item.to_le_bytes()).done());
        });
        if let Some(symbols) = self.symbols {
            fields.key(12).uint(u64::from(symbols));
        }
        if let Some(reason) = &self.reason {
            fields.key(13).text(reason);
        }
        fields.finish()
    }

    /// Reads the bytes of a head.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Response, DecodeError> {
        let mut input = In::new(bytes);
        let mut head = Response::new(Status::Ok, Epoch(0), 0, HubSeq::NONE);
        let mut present = 0u64;
        for _ in 0..input.map()? {
            let key = input.uint()?;
            present |= 1u64.checked_shl(key as u32).unwrap_or(0);
            match key {
                0 => head.status = Status::from_number(input.uint()?)?,
                1 => head.epoch = Epoch(input.u32()?),
                2 => head.token = Some(short(&mut input)?),
                3 => head.acks = input.list(decode_ack)?,
                4 => head.hub_ms = input.uint()?,
                5 => head.cursor = HubSeq(input.uint()?),
                6 => head.digest = Some(u64::from_le_bytes(short(&mut input)?)),
                7 => head.more = input.bool()?,
                8 => head.rules = Some(Arc::from(input.text()?)),
                9 => head.origin = Some(Origin(input.u32()?)),
                10 => {
                    input.tuple(3)?;
                    let scopes = input.list(|input| Scope::new(input.text()?))?;
                    if scopes.len() > SCOPES_MAX {
                        return Err(DecodeError::Shape("too many scopes"));
                    }
                    let (source, backfill) = (Source(input.u8()?), input.bool()?);
                    head.view = Some(View { scopes, source, backfill });
                }
                11 => head.drop = input.list(|input| short(input).map(u64::from_le_bytes))?,
                12 => head.symbols = Some(input.u32()?),
                13 => {
                    head.reason = match input.kind()? {
                        Type::Null => decode_optional_text(&mut input)?.map(str::to_owned),
                        _ => Some(input.text()?.to_owned()),
                    }
                }
                _ => input.skip()?,
            }
        }
        input.end()?;
        require(present, &[1, 4, 5])?;
        Ok(head)
    }
}

/// `[stream, acked, chain, durable, [first, count, hseq]…]` with the numbers of a range in one flat list.
fn encode_ack(out: &mut Out, ack: &Ack) {
    out.array(5).uint(u64::from(ack.stream.number())).uint(ack.acked.0).bytes(&ack.chain).uint(ack.durable.0);
    out.array(ack.ranges.len() * 3);
    for range in &ack.ranges {
        out.uint(range.first.0).uint(range.count).uint(range.hseq.0);
    }
}

fn decode_ack(input: &mut In<'_>) -> Result<Ack, DecodeError> {
    input.tuple(5)?;
    let stream = Stream::from_number(input.u8()?)?;
    let acked = Seq(input.uint()?);
    let chain = short(input)?;
    let durable = Seq(input.uint()?);
    let len = input.array()?;
    if len % 3 != 0 {
        return Err(DecodeError::Shape("ranges of an ack"));
    }
    let mut ranges = Vec::with_capacity((len / 3).min(1024));
    for _ in 0..len / 3 {
        ranges.push(AckRange { first: Seq(input.uint()?), count: input.uint()?, hseq: HubSeq(input.uint()?) });
    }
    Ok(Ack { stream, acked, chain, durable, ranges })
}
