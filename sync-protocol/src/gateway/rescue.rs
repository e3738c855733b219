//! Handing in what a database that is out of use still holds: what to send of it, and how to go on after each answer.
//!
//! First the hub is asked how far it has come, and everything is skipped that the chain proves to be there. Then the ops that
//! follow are sent as they are ([`Rescue::InPlace`]). Where that ends, because an op cannot be read or the hub has another
//! history under these numbers, all others are sent for themselves ([`Rescue::Apart`]), and the hub finds out which it has.
//!
//! # Invariants
//! - The old database is only read. Nothing is remembered of a rescue: one that broke off is begun again, and does no harm.
//! - The turn stays: the gateway of this database may go on elsewhere, under another origin.

use std::collections::BTreeMap;
use std::io;
use std::ops::AddAssign;

use super::exchange::{cut, next_guess};
use super::{GatewayState, UNENROLLED};
use crate::frame::Packer;
use crate::gateway::Outgoing;
use crate::id::{FieldName, RecordKey, Scope, Seq, Source, Stream};
use crate::limits::FRAME_ITEMS_MAX;
use crate::message::{Ack, Request, Rescue, Response, Short, Status, StreamHead};
use crate::record::{Change, Op};
use crate::value::Value;

/// A database that is out of use, as far as it can be read.
pub trait Old {
    /// What can go wrong with the disk, other than that something cannot be read.
    type Error;

    /// Own ops of the last origin after `after`, in order, at most `limit`: only those that can be read.
    fn ops(&mut self, stream: Stream, after: Seq, limit: usize) -> Result<Vec<Op>, Self::Error>;
    /// Short chain after an own op; `None` if it is not known.
    fn chain_at(&mut self, stream: Stream, seq: Seq) -> Result<Option<Short>, Self::Error>;
    /// What its origin had counted in a field just before an op, if that was written down.
    fn counted_before(&mut self, op: &Op, field: &FieldName) -> Result<Option<(u64, u64)>, Self::Error>;
}

/// What became of the ops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Ops that the hub had.
    pub known: u64,
    /// Ops that it took under their own numbers.
    pub in_place: u64,
    /// Ops that it took under other numbers.
    pub apart: u64,
    /// Those of all that it took that are in quarantine.
    pub held: u64,
    /// Ops that it did not take, because a gateway still speaks under their origin.
    pub waiting: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Tally) {
        self.known += more.known;
        self.in_place += more.in_place;
        self.apart += more.apart;
        self.held += more.held;
        self.waiting += more.waiting;
    }
}

/// Where a rescue stands with one stream.
#[derive(Debug, Clone)]
enum Stage {
    /// It has yet to hear how far the hub has come.
    Asking,
    /// Up to `at` both have the same.
    InPlace {
        at: Seq,
        chain: Short,
    },
    /// Each for itself.
    Apart(Apart),
    Done,
}

#[derive(Debug, Clone, Default)]
struct Apart {
    /// Both have the same up to here.
    agreed: Seq,
    chain: Short,
    /// Read up to here.
    read: Seq,
    /// Read and not sent.
    queue: Vec<Op>,
    /// The one sent last: it goes first again, so that the hub knows where the next has its place.
    last: Option<Op>,
    /// What the counters of records had come to.
    totals: BTreeMap<(RecordKey, FieldName), (u64, u64)>,
}

#[derive(Debug, Clone)]
struct Lane {
    stream: Stream,
    /// Acknowledged, as the old database knows it.
    acked: Seq,
    acked_chain: Short,
    last: Seq,
    stage: Stage,
    /// The last op in place of the request under way.
    sent: Seq,
    /// The hub has the same up to here.
    agreed: Seq,
}

/// A rescue under way.
#[derive(Debug, Clone)]
pub struct Rescuer {
    head: Request,
    lanes: Vec<Lane>,
    kind: Rescue,
    /// Ops in the request under way that went before and only show the place.
    repeated: u64,
    /// For what was written before an enrolment: where it belongs now, and what kind of place it is.
    settles: Option<(Scope, Source)>,
    tally: Tally,
}

impl Rescuer {
    /// Begins a rescue of what an enrolled gateway left; `old` is its state, `last` the last op of each stream that the
    /// database shows traces of.
    pub fn new(old: &GatewayState, last: [Seq; 3]) -> Rescuer {
        Rescuer::begin(old, old, last, Stage::Asking)
    }

    /// Begins a rescue of what was captured before any enrolment: it is handed in by `by`, an enrolled gateway.
    pub fn of_unenrolled(by: &GatewayState, old: &GatewayState, last: [Seq; 3]) -> Rescuer {
        let settles = Some((by.home(), by.source));
        Rescuer { settles, ..Rescuer::begin(by, old, last, Stage::Apart(Apart::default())) }
    }

    fn begin(by: &GatewayState, old: &GatewayState, last: [Seq; 3], stage: Stage) -> Rescuer {
        let lane = |(stream, last): (Stream, Seq)| {
            let at = old.stream(stream);
            let (acked, acked_chain, stage) = (at.acked, at.acked_chain, stage.clone());
            Lane { stream, acked, acked_chain, last: last.max(at.last), stage, sent: Seq(0), agreed: Seq(0) }
        };
        let lanes = Stream::ALL.into_iter().zip(last).map(lane).filter(|lane| lane.last > Seq(0));
        let head = Request {
            device: by.device,
            origin: old.origin,
            turn: by.turn,
            proof: by.key.proof(by.turn),
            epoch: by.epoch,
            bounds: old.bounds.clone(),
            ..Request::empty()
        };
        let (kind, settles) = (Rescue::InPlace, None);
        Rescuer { head, lanes: lanes.collect(), kind, repeated: 0, settles, tally: Tally::default() }
    }

    /// What became of the ops so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Each stream, up to where the hub has all of it, and the last op that ever was. What cannot be read in between is lost.
    pub fn reach(&self) -> Vec<(Stream, Seq, Seq)> {
        self.lanes.iter().map(|lane| (lane.stream, lane.agreed, lane.last)).collect()
    }

    /// The next request with about `up_bytes` of ops; `None` when all that can be read was handed in.
    ///
    /// # Errors
    /// What the old database reports.
    pub fn request<O: Old>(
        &mut self,
        old: &mut O,
        packer: &mut Packer,
        up_bytes: usize,
    ) -> Result<Option<Outgoing>, O::Error>
    where
        O::Error: From<io::Error>,
    {
        loop {
            let is_at = |stage: fn(&Stage) -> bool| self.lanes.iter().any(|lane| stage(&lane.stage));
            self.kind = match () {
                () if is_at(|stage| matches!(stage, Stage::Asking)) => Rescue::InPlace,
                () if is_at(|stage| matches!(stage, Stage::InPlace { .. })) => Rescue::InPlace,
                () if is_at(|stage| matches!(stage, Stage::Apart(_))) => Rescue::Apart,
                () => return Ok(None),
            };
            let is_asking = is_at(|stage| matches!(stage, Stage::Asking));
            let outgoing = self.outgoing(old, packer, if is_asking { 0 } else { up_bytes })?;
            // A stream of which nothing more can be read may have been all that was left.
            if is_asking || outgoing.ops > 0 {
                return Ok(Some(outgoing));
            }
        }
    }

    fn outgoing<O: Old>(&mut self, old: &mut O, packer: &mut Packer, up_bytes: usize) -> Result<Outgoing, O::Error>
    where
        O::Error: From<io::Error>,
    {
        let mut head = Request { rescue: Some(self.kind), streams: Vec::new(), ..self.head.clone() };
        let (mut frames, mut ops, mut bytes) = (Vec::new(), 0, 0);
        self.repeated = 0;
        let settles = self.settles.clone();
        for lane in &mut self.lanes {
            head.streams.extend(lane.head());
            if bytes >= up_bytes {
                continue;
            }
            let (tail, repeated) = lane.tail(old, self.kind, settles.as_ref())?;
            let (mut at, mut guess) = (0, 32);
            // What only shows the place is no use alone.
            while bytes < up_bytes || at <= repeated {
                let rest = tail.get(at..).unwrap_or_default();
                let Some(first) = rest.first() else { break };
                // A frame numbers its ops from the first.
                let before = Seq(first.stamp.dot.seq.0.saturating_sub(1));
                let run = rest.get(..contiguous(before, rest)).unwrap_or_default();
                let (frame, taken) = cut(packer, run, guess)?;
                guess = next_guess(taken, frame.len());
                bytes += frame.len();
                at += taken;
                frames.push(frame);
            }
            ops += at;
            self.repeated += if at > 0 { repeated as u64 } else { 0 };
            lane.sent(tail.get(..at).unwrap_or_default(), repeated);
        }
        Ok(Outgoing { head, frames, ops })
    }

    /// Takes the answer to the last request.
    ///
    /// # Errors
    /// What the old database reports.
    pub fn answered<O: Old>(&mut self, old: &mut O, answer: &Response) -> Result<(), O::Error> {
        let Some(rescued) = answer.rescued.as_ref().filter(|_| answer.status == Status::Ok) else { return Ok(()) };
        self.tally.known += rescued.known.saturating_sub(self.repeated);
        self.tally.held += rescued.held;
        self.tally.waiting += rescued.waiting;
        match self.kind {
            Rescue::InPlace => self.tally.in_place += rescued.taken,
            Rescue::Apart => self.tally.apart += rescued.taken,
        }
        for lane in &mut self.lanes {
            let ack = answer.acks.iter().find(|ack| ack.stream == lane.stream);
            let agreed = rescued.agreed.iter().find(|(stream, _)| *stream == lane.stream).map(|(_, seq)| *seq);
            match (&lane.stage, self.kind) {
                (Stage::Asking, _) => self.tally.known += lane.begin(old, ack)?,
                (Stage::InPlace { .. }, Rescue::InPlace) => lane.go_on(old, agreed.unwrap_or_default())?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Lane {
    fn head(&self) -> Option<StreamHead> {
        let (acked, chain) = match &self.stage {
            Stage::Asking => (self.acked, self.acked_chain),
            Stage::InPlace { at, chain } => (*at, *chain),
            Stage::Apart(apart) => (apart.agreed, apart.chain),
            Stage::Done => return None,
        };
        Some(StreamHead { stream: self.stream, acked, chain, last: self.last.max(acked), age_seconds: 0 })
    }

    /// The next ops to send, and how many of them were sent before. None ends the stage.
    fn tail<O: Old>(
        &mut self,
        old: &mut O,
        kind: Rescue,
        settles: Option<&(Scope, Source)>,
    ) -> Result<(Vec<Op>, usize), O::Error> {
        match (&mut self.stage, kind) {
            (Stage::InPlace { at, chain }, Rescue::InPlace) => {
                let (at, chain) = (*at, *chain);
                let mut tail = old.ops(self.stream, at, FRAME_ITEMS_MAX)?;
                tail.truncate(contiguous(at, &tail));
                if tail.is_empty() {
                    self.part(old, at, chain)?;
                }
                Ok((tail, 0))
            }
            (Stage::Apart(apart), Rescue::Apart) => {
                if apart.queue.is_empty() {
                    apart.queue = old.ops(self.stream, apart.read, FRAME_ITEMS_MAX)?;
                    apart.read = apart.queue.last().map_or(apart.read, |op| op.stamp.dot.seq);
                    for op in &mut apart.queue {
                        alone(old, op, &mut apart.totals, settles)?;
                    }
                }
                if apart.queue.is_empty() {
                    self.stage = Stage::Done;
                    return Ok((Vec::new(), 0));
                }
                let mut tail: Vec<Op> = apart.last.iter().cloned().collect();
                let repeated = tail.len();
                tail.extend(apart.queue.iter().cloned());
                Ok((tail, repeated))
            }
            _ => Ok((Vec::new(), 0)),
        }
    }

    /// These are under way, the first of them once more.
    fn sent(&mut self, ops: &[Op], repeated: usize) {
        let Some(last) = ops.last() else { return };
        match &mut self.stage {
            Stage::InPlace { .. } => self.sent = last.stamp.dot.seq,
            Stage::Apart(apart) => {
                apart.queue.drain(..ops.len().saturating_sub(repeated).min(apart.queue.len()));
                apart.last = Some(last.clone());
            }
            Stage::Asking | Stage::Done => {}
        }
    }

    /// From here on each op goes for itself.
    fn part<O: Old>(&mut self, old: &mut O, agreed: Seq, chain: Short) -> Result<(), O::Error> {
        self.stage = Stage::Done;
        if !old.ops(self.stream, agreed, 1)?.is_empty() {
            let mut apart = Apart { agreed, chain, read: agreed, ..Apart::default() };
            apart.count_up_to(old, self.stream, agreed)?;
            self.stage = Stage::Apart(apart);
        }
        Ok(())
    }

    /// Finds where to begin, now that the hub said how far it has come. Gives how many ops it has for certain.
    fn begin<O: Old>(&mut self, old: &mut O, ack: Option<&Ack>) -> Result<u64, O::Error> {
        let (mark, there) = ack.map_or((Seq(0), Short::default()), |ack| (ack.acked, ack.chain));
        let is_same = mark > Seq(0) && old.chain_at(self.stream, mark)? == Some(there);
        let (at, chain) = match () {
            () if is_same => (mark, there),
            // It acknowledged this once, and still has it.
            () if self.acked <= mark => (self.acked, self.acked_chain),
            () => (Seq(0), Short::default()),
        };
        self.stage = Stage::InPlace { at, chain };
        self.agreed = at;
        let mut proven = 0;
        let mut from = self.acked.min(at);
        while from < at {
            let ops = old.ops(self.stream, from, FRAME_ITEMS_MAX)?;
            let Some(last) = ops.last() else { break };
            proven += ops.iter().filter(|op| op.stamp.dot.seq <= at).count() as u64;
            from = last.stamp.dot.seq;
        }
        Ok(proven)
    }

    fn go_on<O: Old>(&mut self, old: &mut O, agreed: Seq) -> Result<(), O::Error> {
        let Stage::InPlace { at, chain } = &self.stage else { return Ok(()) };
        let (at, chain) = match agreed > *at {
            true => (agreed, old.chain_at(self.stream, agreed)?.unwrap_or_default()),
            false => (*at, *chain),
        };
        self.agreed = at;
        if agreed < self.sent {
            return self.part(old, at, chain);
        }
        self.stage = Stage::InPlace { at, chain };
        Ok(())
    }
}

impl Apart {
    /// Learns what the counters had come to before what is to be sent.
    fn count_up_to<O: Old>(&mut self, old: &mut O, stream: Stream, upto: Seq) -> Result<(), O::Error> {
        let mut from = Seq(0);
        while from < upto {
            let ops = old.ops(stream, from, FRAME_ITEMS_MAX)?;
            let Some(last) = ops.last() else { break };
            from = last.stamp.dot.seq;
            for mut op in ops {
                if op.stamp.dot.seq <= upto {
                    alone(old, &mut op, &mut self.totals, None)?;
                }
            }
        }
        Ok(())
    }
}

/// How many of these ops follow on each other, and the first on `after`.
fn contiguous(after: Seq, ops: &[Op]) -> usize {
    ops.iter().zip(after.0 + 1..).take_while(|(op, seq)| op.stamp.dot.seq.0 == *seq).count()
}

/// Makes an op say what it did itself: counters stand in ops as the totals of their origin.
fn alone<O: Old>(
    old: &mut O,
    op: &mut Op,
    totals: &mut BTreeMap<(RecordKey, FieldName), (u64, u64)>,
    settles: Option<&(Scope, Source)>,
) -> Result<(), O::Error> {
    let counters: Vec<FieldName> =
        op.changes.iter().filter(|(_, c)| matches!(c, Change::Count { .. })).map(|(field, _)| field.clone()).collect();
    for field in counters {
        let told = old.counted_before(op, &field)?.unwrap_or_default();
        let known = totals.entry((op.key.clone(), field.clone())).or_default();
        if let Some(Change::Count { plus, minus }) = op.changes.get_mut(&field) {
            // What was written down may still be by the name of an earlier origin, and then is too little.
            let before = (known.0.max(told.0), known.1.max(told.1));
            *known = (*plus, *minus);
            (*plus, *minus) = (plus.saturating_sub(before.0), minus.saturating_sub(before.1));
        }
    }
    if let Some((home, source)) = settles {
        op.stamp.source = *source;
        if let Some(Change::Put { value: Some(scope), .. }) = op.changes.get_mut(&FieldName::scope()) {
            if scope.as_text() == Some(Scope::root().as_str()) {
                *scope = Value::Text(home.as_str().to_owned());
            }
        }
    }
    debug_assert!(settles.is_none() || op.stamp.dot.origin == UNENROLLED);
    Ok(())
}
