//! Heads as bytes. `docs/protocol.md`, chapter 7, has the layout.

use std::sync::Arc;

use super::condition::{decode_condition, encode_condition};
use super::{
    About, Ack, AckRange, Bound, Gap, PROTOCOL, Plea, Request, Rescue, Rescued, Response, Slice, Status, StreamHead,
    View,
};
use crate::cbor::{In, Out};
use crate::codec::{decode_dot, encode_dot};
use crate::digest::Chain;
use crate::erase::Erased;
use crate::error::DecodeError;
use crate::id::{Device, Epoch, HubSeq, Origin, Scope, Seq, Source, Stream};
use crate::limits::{BOUNDS_MAX, GAPS_MAX, SCOPES_MAX, VERSION_CHARS_MAX};

/// The map at the end of a head, under construction: entries are counted, so that the absent ones cost nothing.
struct Keys {
    out: Out,
    count: usize,
}

impl Keys {
    fn new() -> Self {
        Keys { out: Out::new(), count: 0 }
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

    /// Appends the map to the items, which are then complete.
    fn finish(self, mut head: Out) -> Vec<u8> {
        head.map(self.count).raw(&self.out.finish());
        head.finish()
    }
}

/// Items of a request before the map, and of a response.
const REQUEST_ITEMS: usize = 9;
const RESPONSE_ITEMS: usize = 4;

impl Request {
    /// A head that says nothing, by nobody.
    pub(crate) fn empty() -> Request {
        Request {
            device: Device(0),
            origin: Origin(0),
            turn: 0,
            proof: [0; 8],
            epoch: Epoch::NONE,
            cursor: HubSeq::NONE,
            rules: [0; 4],
            streams: Vec::new(),
            ahead_seconds: None,
            budget_frames: 0,
            backfill: None,
            repair: None,
            pleas: Vec::new(),
            about: None,
            repairs: 0,
            bounds: Vec::new(),
            recovers: None,
            asks: false,
            rescue: None,
            condition: None,
            gaps: Vec::new(),
            slice: None,
            complete: None,
            erased: None,
        }
    }

    /// The bytes of the head.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = Out::new();
        head.array(REQUEST_ITEMS + 1).uint(PROTOCOL);
        head.uint(u64::from(self.device.0)).uint(u64::from(self.origin.0)).uint(self.turn).bytes(&self.proof);
        head.uint(u64::from(self.epoch.0)).uint(self.cursor.0).bytes(&self.rules);
        head.list(self.streams.iter(), encode_stream_head);
        let mut keys = Keys::new();
        if let Some(ahead) = self.ahead_seconds {
            keys.key(0).int(ahead);
        }
        keys.key_if(self.budget_frames != 0, 1, |out| out.uint(self.budget_frames).done());
        if let Some(reach) = self.backfill {
            keys.key(2).uint(reach.0);
        }
        if let Some(symbols) = &self.repair {
            keys.key(3).bytes(symbols);
        }
        keys.key_if(!self.pleas.is_empty(), 4, |out| {
            out.list(self.pleas.iter(), |out, plea| {
                encode_dot(out.array(2), plea.dot);
                out.bool(plea.discard);
            });
        });
        if let Some(about) = &self.about {
            let out = keys.key(5).array(5).text(&about.version).uint(about.disk_free).uint(about.records);
            out.bytes(&about.print).bytes(&about.view);
        }
        keys.key_if(self.repairs != 0, 6, |out| out.uint(self.repairs).done());
        keys.key_if(!self.bounds.is_empty(), 7, |out| {
            out.list(self.bounds.iter(), |out, bound| {
                out.array(3).uint(u64::from(bound.stream.number())).uint(bound.upto.0).uint(bound.common.0);
            });
        });
        if let Some(common) = self.recovers {
            keys.key(8).uint(common.0);
        }
        keys.key_if(self.asks, 9, |out| out.bool(true).done());
        if let Some(rescue) = self.rescue {
            keys.key(10).uint(rescue.number());
        }
        if let Some(condition) = &self.condition {
            encode_condition(keys.key(11), condition);
        }
        keys.key_if(!self.gaps.is_empty(), 12, |out| {
            out.list(self.gaps.iter(), |out, gap| {
                out.array(3).uint(u64::from(gap.stream.number())).uint(gap.upto.0).bytes(&gap.chain.0);
            });
        });
        if let Some(slice) = self.slice {
            slice.encode(keys.key(13));
        }
        if let Some(complete) = self.complete {
            keys.key(14).uint(complete.0);
        }
        if let Some(number) = self.erased {
            keys.key(15).uint(number);
        }
        keys.finish(head)
    }

    /// Reads the bytes of a head.
    ///
    /// # Errors
    /// Any [`DecodeError`]; [`DecodeError::Version`] if it speaks another, whatever else is in it.
    pub fn decode(bytes: &[u8]) -> Result<Request, DecodeError> {
        let mut input = In::new(bytes);
        let items = input.array()?;
        let version = input.uint()?;
        if version != PROTOCOL {
            return Err(DecodeError::Version(version));
        }
        if items != REQUEST_ITEMS + 1 {
            return Err(DecodeError::Shape("head of another length"));
        }
        let mut head = Request {
            device: Device(input.u32()?),
            origin: Origin(input.u32()?),
            turn: input.uint()?,
            proof: exactly(&mut input)?,
            epoch: Epoch(input.u32()?),
            cursor: HubSeq(input.uint()?),
            rules: exactly(&mut input)?,
            streams: input.list(decode_stream_head)?,
            ..Request::empty()
        };
        for _ in 0..input.map()? {
            match input.uint()? {
                0 => head.ahead_seconds = Some(input.int()?),
                1 => head.budget_frames = input.uint()?,
                2 => head.backfill = Some(HubSeq(input.uint()?)),
                3 => head.repair = Some(input.bytes()?.to_vec()),
                4 => {
                    head.pleas = input.list(|input| {
                        input.tuple(2)?;
                        Ok(Plea { dot: decode_dot(input)?, discard: input.bool()? })
                    })?;
                }
                5 => {
                    input.tuple(5)?;
                    let version = input.text()?.chars().filter(|c| !c.is_control()).take(VERSION_CHARS_MAX).collect();
                    let (disk_free, records) = (input.uint()?, input.uint()?);
                    let (print, view) = (exactly(&mut input)?, exactly(&mut input)?);
                    head.about = Some(About { version, disk_free, records, print, view });
                }
                6 => head.repairs = input.uint()?,
                7 => head.bounds = decode_bounds(&mut input)?,
                8 => head.recovers = Some(HubSeq(input.uint()?)),
                9 => head.asks = input.bool()?,
                10 => head.rescue = Some(Rescue::from_number(input.uint()?)?),
                11 => head.condition = Some(decode_condition(&mut input)?),
                12 => head.gaps = decode_gaps(&mut input)?,
                13 => head.slice = Some(Slice::decode(&mut input)?),
                14 => head.complete = Some(HubSeq(input.uint()?)),
                15 => head.erased = Some(input.uint()?),
                _ => input.skip()?,
            }
        }
        input.end()?;
        Ok(head)
    }
}

fn decode_bounds(input: &mut In<'_>) -> Result<Vec<Bound>, DecodeError> {
    let bounds = input.list(decode_bound)?;
    match bounds.len() <= BOUNDS_MAX {
        true => Ok(bounds),
        false => Err(DecodeError::TooLarge { what: "list of bounds", limit: BOUNDS_MAX }),
    }
}

fn decode_bound(input: &mut In<'_>) -> Result<Bound, DecodeError> {
    input.tuple(3)?;
    let (stream, upto) = (Stream::from_number(input.u8()?)?, Seq(input.uint()?));
    Ok(Bound { stream, upto, common: HubSeq(input.uint()?) })
}

fn decode_gaps(input: &mut In<'_>) -> Result<Vec<Gap>, DecodeError> {
    let gaps = input.list(|input| {
        input.tuple(3)?;
        let (stream, upto) = (Stream::from_number(input.u8()?)?, Seq(input.uint()?));
        Ok(Gap { stream, upto, chain: Chain(exactly(input)?) })
    })?;
    match gaps.len() <= GAPS_MAX {
        true => Ok(gaps),
        false => Err(DecodeError::Shape("too many gaps")),
    }
}

fn exactly<const LEN: usize>(input: &mut In<'_>) -> Result<[u8; LEN], DecodeError> {
    input.bytes()?.try_into().map_err(|_| DecodeError::Shape("bytes of another length"))
}

/// `[stream, acked, chain, waiting, age]`; what is 0 at the end is left out.
fn encode_stream_head(out: &mut Out, head: &StreamHead) {
    let tail = [head.last.0.saturating_sub(head.acked.0), head.age_seconds];
    let written = tail.iter().rposition(|n| *n > 0).map_or(0, |at| at + 1);
    out.array(3 + written).uint(u64::from(head.stream.number())).uint(head.acked.0).bytes(&head.chain);
    for n in tail.iter().take(written) {
        out.uint(*n);
    }
}

fn decode_stream_head(input: &mut In<'_>) -> Result<StreamHead, DecodeError> {
    let len = input.array()?;
    if !(3..=5).contains(&len) {
        return Err(DecodeError::Shape("stream head of another length"));
    }
    let stream = Stream::from_number(input.u8()?)?;
    let (acked, chain) = (Seq(input.uint()?), exactly(input)?);
    let waiting = if len > 3 { input.uint()? } else { 0 };
    let age_seconds = if len > 4 { input.uint()? } else { 0 };
    let last = Seq(acked.0.checked_add(waiting).ok_or(DecodeError::Shape("sequence number"))?);
    Ok(StreamHead { stream, acked, chain, last, age_seconds })
}

impl Rescue {
    fn number(self) -> u64 {
        match self {
            Rescue::InPlace => 0,
            Rescue::Apart => 1,
        }
    }

    fn from_number(n: u64) -> Result<Rescue, DecodeError> {
        match n {
            0 => Ok(Rescue::InPlace),
            1 => Ok(Rescue::Apart),
            _ => Err(DecodeError::Shape("unknown kind of rescue")),
        }
    }
}

/// `[known, taken, held, waiting, [stream, agreed, stream, agreed…]]`.
fn encode_rescued(out: &mut Out, rescued: &Rescued) {
    out.array(5).uint(rescued.known).uint(rescued.taken).uint(rescued.held).uint(rescued.waiting);
    out.array(rescued.agreed.len() * 2);
    for (stream, seq) in &rescued.agreed {
        out.uint(u64::from(stream.number())).uint(seq.0);
    }
}

fn decode_rescued(input: &mut In<'_>) -> Result<Rescued, DecodeError> {
    input.tuple(5)?;
    let (known, taken, held, waiting) = (input.uint()?, input.uint()?, input.uint()?, input.uint()?);
    let len = input.array()?;
    if len % 2 != 0 || len > 2 * Stream::ALL.len() {
        return Err(DecodeError::Shape("streams of a rescue"));
    }
    let mut agreed = Vec::new();
    for _ in 0..len / 2 {
        agreed.push((Stream::from_number(input.u8()?)?, Seq(input.uint()?)));
    }
    Ok(Rescued { known, taken, held, waiting, agreed })
}

impl Status {
    fn number(self) -> u64 {
        match self {
            Status::Ok => 0,
            Status::NewOrigin => 1,
            Status::Denied => 2,
            Status::Rebase => 3,
            Status::Upgrade => 4,
            Status::Compared => 5,
            Status::Revoked => 6,
        }
    }

    fn from_number(n: u64) -> Result<Status, DecodeError> {
        match n {
            0 => Ok(Status::Ok),
            1 => Ok(Status::NewOrigin),
            2 => Ok(Status::Denied),
            3 => Ok(Status::Rebase),
            4 => Ok(Status::Upgrade),
            5 => Ok(Status::Compared),
            6 => Ok(Status::Revoked),
            _ => Err(DecodeError::Shape("unknown status")),
        }
    }
}

impl Response {
    /// The bytes of the head.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = Out::new();
        head.array(RESPONSE_ITEMS + 1).uint(self.status.number()).uint(u64::from(self.epoch.0));
        head.uint(self.hub_ms).uint(self.cursor.0);
        let mut keys = Keys::new();
        if let Some(turn) = self.turn {
            keys.key(0).uint(turn);
        }
        keys.key_if(!self.acks.is_empty(), 1, |out| out.list(self.acks.iter(), encode_ack).done());
        if let Some(digest) = self.digest {
            keys.key(2).bytes(&digest.to_le_bytes());
        }
        keys.key_if(self.more, 3, |out| out.bool(true).done());
        if let Some(rules) = &self.rules {
            keys.key(4).text(rules);
        }
        if let Some(origin) = self.origin {
            keys.key(5).uint(u64::from(origin.0));
        }
        if let Some(view) = &self.view {
            let out = keys.key(6).array(3);
            out.list(view.scopes.iter(), |out, scope| out.text(scope.as_str()).done());
            out.uint(u64::from(view.source.0)).bool(view.backfill);
        }
        keys.key_if(!self.drop.is_empty(), 7, |out| encode_items(out, &self.drop));
        if let Some(symbols) = self.symbols {
            keys.key(8).uint(u64::from(symbols));
        }
        if let Some(reason) = &self.reason {
            keys.key(9).text(reason);
        }
        if let Some(device) = self.device {
            keys.key(10).uint(u64::from(device.0));
        }
        keys.key_if(!self.want.is_empty(), 11, |out| encode_items(out, &self.want));
        if let Some(rescued) = &self.rescued {
            encode_rescued(keys.key(12), rescued);
        }
        keys.key_if(self.takes_gaps, 13, |out| out.bool(true).done());
        if let Some(slice) = self.slice {
            slice.encode(keys.key(14));
        }
        keys.key_if(!self.erased.is_empty(), 15, |out| {
            out.list(self.erased.iter(), |out, erased| out.array(2).uint(erased.number).bytes(&erased.name).done());
        });
        keys.finish(head)
    }

    /// Reads the bytes of a head.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Response, DecodeError> {
        let mut input = In::new(bytes);
        input.tuple(RESPONSE_ITEMS + 1)?;
        let (status, epoch) = (Status::from_number(input.uint()?)?, Epoch(input.u32()?));
        let mut head = Response::new(status, epoch, input.uint()?, HubSeq(input.uint()?));
        for _ in 0..input.map()? {
            match input.uint()? {
                0 => head.turn = Some(input.uint()?),
                1 => head.acks = input.list(decode_ack)?,
                2 => head.digest = Some(u64::from_le_bytes(exactly(&mut input)?)),
                3 => head.more = input.bool()?,
                4 => head.rules = Some(Arc::from(input.text()?)),
                5 => head.origin = Some(Origin(input.u32()?)),
                6 => {
                    input.tuple(3)?;
                    let scopes = input.list(|input| Scope::new(input.text()?))?;
                    if scopes.len() > SCOPES_MAX {
                        return Err(DecodeError::Shape("too many scopes"));
                    }
                    let (source, backfill) = (Source(input.u8()?), input.bool()?);
                    head.view = Some(View { scopes, source, backfill });
                }
                7 => head.drop = input.list(|input| exactly(input).map(u64::from_le_bytes))?,
                8 => head.symbols = Some(input.u32()?),
                9 => head.reason = Some(input.text()?.to_owned()),
                10 => head.device = Some(Device(input.u32()?)),
                11 => head.want = input.list(|input| exactly(input).map(u64::from_le_bytes))?,
                12 => head.rescued = Some(decode_rescued(&mut input)?),
                13 => head.takes_gaps = input.bool()?,
                14 => head.slice = Some(Slice::decode(&mut input)?),
                15 => head.erased = input.list(decode_erased)?,
                _ => input.skip()?,
            }
        }
        input.end()?;
        Ok(head)
    }
}

fn decode_erased(input: &mut In<'_>) -> Result<Erased, DecodeError> {
    input.tuple(2)?;
    Ok(Erased { number: input.uint()?, name: exactly(input)? })
}

fn encode_items(out: &mut Out, items: &[u64]) {
    out.list(items.iter(), |out, item| out.bytes(&item.to_le_bytes()).done());
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
    let chain = exactly(input)?;
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
