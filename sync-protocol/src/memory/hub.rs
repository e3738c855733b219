//! The hub's store in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::MemoryError;
use crate::digest::{Chain, item, op_hash};
use crate::edit::render;
use crate::erase::Erasure;
use crate::hub::{Arrived, Gateway, HeldOp, LogLine, Logged, Mark, Snapshot, Store, ViewNews, first_number};
use crate::id::{Device, Dot, Epoch, HubSeq, Origin, RecordKey, Scope, Seq, Source, Stream};
use crate::identity::DeviceKey;
use crate::merge::Superseded;
use crate::message::{AckRange, Short};
use crate::payload::News;
use crate::record::{Op, Record};
use crate::rules::{Rules, ScopeKey};

#[derive(Debug, Clone)]
struct Kept {
    /// What counts of it.
    op: Op,
    written: Op,
    hseq: HubSeq,
    chain: Chain,
    is_held: bool,
}

#[derive(Debug, Clone)]
struct Waiting {
    held: HeldOp,
    waits_for: Vec<RecordKey>,
}

/// A hub that remembers in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryHub {
    epoch: Epoch,
    /// Epochs that ended, and the last number that each shares with the next.
    lineage: Vec<(Epoch, HubSeq)>,
    /// The head when the program was started.
    started: HubSeq,
    /// Numbers that were left out: the last before them, and the last of them.
    skipped: Vec<(HubSeq, HubSeq)>,
    head: HubSeq,
    rules: Arc<Rules>,
    origins: BTreeMap<Origin, Device>,
    /// Which origin goes on from which.
    before: BTreeMap<Origin, Origin>,
    gateways: BTreeMap<Device, Gateway>,
    marks: BTreeMap<(Origin, Stream), Mark>,
    history: BTreeMap<Dot, Kept>,
    replaced: Vec<(RecordKey, Superseded)>,
    records: BTreeMap<RecordKey, (Record, Vec<RecordKey>)>,
    log: Vec<LogLine>,
    quarantine: Vec<Waiting>,
    former_keys: BTreeMap<Device, Vec<DeviceKey>>,
    revoked_keys: BTreeMap<Device, Vec<DeviceKey>>,
    /// Origins for rescued ops.
    rescues: BTreeSet<Origin>,
    rescued: BTreeMap<Dot, Vec<Dot>>,
    erasures: Vec<Erasure>,
    /// Hashes of ops that lost their values.
    hashes: BTreeMap<Dot, Short>,
}

impl MemoryHub {
    /// Enrolls a gateway: gives it a device number and an origin. The key is the caller's, fresh from a source of randomness.
    pub fn enroll(&mut self, scopes: Vec<Scope>, source: Source, key: DeviceKey) -> Gateway {
        let before = Device::before(self.epoch);
        let last =
            self.gateways.keys().rev().find(|device| device.0 <= before.0 + 0xffff).map_or(before, |d| before.max(*d));
        let device = Device(last.0 + 1);
        let origin = self.mint_origin(device);
        let gateway = Gateway {
            device,
            origin,
            key,
            turn: 0,
            turn_before: 0,
            turn_first: 0,
            print: Short::default(),
            scopes,
            source,
            is_revoked: false,
            view: ViewNews::Known,
            backfill: false,
            echo_until: HubSeq::NONE,
            twin_of: None,
            epoch: Epoch::NONE,
            offered: None,
            erased: None,
        };
        self.gateways.insert(device, gateway.clone());
        gateway
    }

    /// Shuts a gateway out.
    pub fn revoke(&mut self, device: Device) {
        if let Some(gateway) = self.gateways.get_mut(&device) {
            gateway.is_revoked = true;
        }
    }

    /// Enrols a known gateway anew, on another card: it gets another key and origin, and keeps its name.
    pub fn enroll_again(&mut self, device: Device, key: DeviceKey) -> Option<Gateway> {
        let origin = self.mint_origin(device);
        let gateway = self.gateways.get_mut(&device)?;
        self.before.insert(origin, gateway.origin);
        let keys = if gateway.is_revoked { &mut self.revoked_keys } else { &mut self.former_keys };
        keys.entry(device).or_default().push(gateway.key.clone());
        gateway.is_revoked = false;
        (gateway.origin, gateway.key, gateway.turn, gateway.turn_before) = (origin, key, 0, 0);
        Some(gateway.clone())
    }

    /// What a program finds that is started on an older copy of a hub; with `said`, by somebody who says that it is one.
    pub fn restored(mut self, said: bool, epoch: Epoch, now_ms: u64) -> MemoryHub {
        self.start(now_ms);
        if said {
            self.begin_epoch(epoch, now_ms);
        }
        self
    }

    /// The program begins to serve.
    pub fn start(&mut self, now_ms: u64) {
        self.started = self.head;
        self.skip(now_ms);
    }

    fn skip(&mut self, now_ms: u64) {
        let before = self.head;
        self.head = HubSeq(first_number(before.0, now_ms));
        self.skipped.push((before, self.head));
        for stream in Stream::ALL {
            let mark = self.marks.entry((Origin::HUB, stream)).or_default();
            mark.acked = Seq(first_number(mark.acked.0, now_ms));
        }
    }

    fn begin_epoch(&mut self, epoch: Epoch, now_ms: u64) {
        self.lineage.push((self.epoch, self.started));
        self.epoch = epoch;
        self.skip(now_ms);
    }

    /// Puts other rules in force.
    pub fn publish(&mut self, rules: Arc<Rules>) {
        for (key, (record, parents)) in &mut self.records {
            *parents = rules.parents(&key.record_type, &render(record));
        }
        self.rules = rules;
    }

    /// All records, deleted ones included.
    pub fn records(&self) -> impl Iterator<Item = (&RecordKey, &Record)> {
        self.records.iter().map(|(key, (record, _))| (key, record))
    }

    /// All ops that ever arrived, by dot, those in quarantine included.
    pub fn history(&self) -> impl Iterator<Item = &Op> {
        self.history.values().map(|kept| &kept.op)
    }

    /// All of them with the number under which each arrived.
    pub fn arrivals(&self) -> impl Iterator<Item = (&Op, HubSeq)> {
        self.history.values().map(|kept| (&kept.op, kept.hseq))
    }

    /// Those of them that went into quarantine when they arrived, whatever became of them.
    pub fn once_held(&self) -> impl Iterator<Item = &Op> {
        self.history.values().filter(|kept| kept.is_held).map(|kept| &kept.op)
    }

    /// Goes on in another epoch, as a hub does that was restored from a backup.
    pub fn set_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// Ops in quarantine.
    pub fn quarantine(&self) -> Vec<&HeldOp> {
        self.quarantine.iter().map(|w| &w.held).collect()
    }

    /// Values that were replaced, oldest first.
    pub fn replaced(&self) -> &[(RecordKey, Superseded)] {
        &self.replaced
    }

    fn mint_origin(&mut self, device: Device) -> Origin {
        let last = self.origins.keys().rev().find(|origin| origin.is_of(self.epoch)).copied();
        let origin = Origin(last.unwrap_or(Origin::before(self.epoch)).0 + 1);
        self.origins.insert(origin, device);
        origin
    }

    fn in_scopes(&self, scopes: &[Scope]) -> Vec<(u64, RecordKey)> {
        let inside = |r: &Record| scopes.iter().any(|prefix| prefix.covers(&r.scope()));
        self.records().filter(|(_, r)| inside(r)).map(|(key, r)| (item(key, r), key.clone())).collect()
    }
}

impl Snapshot for MemoryHub {
    type Error = MemoryError;

    fn epoch(&mut self) -> Result<Epoch, MemoryError> {
        Ok(self.epoch)
    }

    fn common(&mut self, epoch: Epoch) -> Result<HubSeq, MemoryError> {
        let ends = self.lineage.iter().skip_while(|(known, _)| *known != epoch).map(|(_, end)| *end);
        Ok(ends.min().unwrap_or(HubSeq::NONE))
    }

    fn given(&mut self, number: HubSeq) -> Result<HubSeq, MemoryError> {
        let left_out = self.skipped.iter().find(|(before, last)| *before < number && number < *last);
        Ok(left_out.map_or(number, |(before, _)| *before))
    }

    fn head(&mut self) -> Result<HubSeq, MemoryError> {
        Ok(self.head)
    }

    fn rules(&mut self) -> Result<Arc<Rules>, MemoryError> {
        Ok(Arc::clone(&self.rules))
    }

    fn gateway(&mut self, device: Device) -> Result<Option<Gateway>, MemoryError> {
        Ok(self.gateways.get(&device).cloned())
    }

    fn gateways(&mut self) -> Result<Vec<Gateway>, MemoryError> {
        Ok(self.gateways.values().cloned().collect())
    }

    fn device_of(&mut self, origin: Origin) -> Result<Option<Device>, MemoryError> {
        Ok(self.origins.get(&origin).copied())
    }

    fn origin_before(&mut self, origin: Origin) -> Result<Option<Origin>, MemoryError> {
        Ok(self.before.get(&origin).copied())
    }

    fn mark(&mut self, origin: Origin, stream: Stream) -> Result<Mark, MemoryError> {
        Ok(self.marks.get(&(origin, stream)).copied().unwrap_or_default())
    }

    fn chain_at(&mut self, dot: Dot) -> Result<Option<Short>, MemoryError> {
        Ok(self.history.get(&dot).map(|kept| kept.chain.short()))
    }

    fn op_hash(&mut self, dot: Dot) -> Result<Option<Short>, MemoryError> {
        let written = self.history.get(&dot).map(|kept| op_hash(&kept.written));
        Ok(self.hashes.get(&dot).copied().or(written))
    }

    fn ranges(&mut self, origin: Origin, stream: Stream, after: Seq, upto: Seq) -> Result<Vec<AckRange>, MemoryError> {
        let dot = |seq| Dot { origin, stream, seq };
        let mut ranges: Vec<AckRange> = Vec::new();
        for (dot, kept) in self.history.range(dot(after.next())..=dot(upto)).filter(|(_, kept)| !kept.is_held) {
            match ranges.last_mut() {
                Some(r) if r.first.0 + r.count == dot.seq.0 && r.hseq.0 + r.count == kept.hseq.0 => r.count += 1,
                _ => ranges.push(AckRange { first: dot.seq, count: 1, hseq: kept.hseq }),
            }
        }
        Ok(ranges)
    }

    fn arrived_as(&mut self, dot: Dot) -> Result<Option<HubSeq>, MemoryError> {
        Ok(self.history.get(&dot).map(|kept| kept.hseq))
    }

    fn applied_as(&mut self, dot: Dot) -> Result<Option<HubSeq>, MemoryError> {
        let let_go = |line: &LogLine| match &line.what {
            Logged::News(_, at, News::Released(hseq)) if *at == dot => Some(*hseq),
            _ => None,
        };
        let Some(kept) = self.history.get(&dot) else { return Ok(None) };
        Ok(Some(kept.hseq).filter(|_| !kept.is_held).or_else(|| self.log.iter().find_map(let_go)))
    }

    fn record(&mut self, key: &RecordKey) -> Result<Option<Record>, MemoryError> {
        Ok(self.records.get(key).map(|(record, _)| record.clone()))
    }

    fn children(&mut self, parent: &RecordKey) -> Result<Vec<RecordKey>, MemoryError> {
        let follows = |key: &RecordKey| matches!(self.rules.of(&key.record_type).scope, ScopeKey::Parent(_));
        let children = self.records.iter().filter(|(key, (_, parents))| parents.contains(parent) && follows(key));
        Ok(children.map(|(key, _)| key.clone()).collect())
    }

    fn log_after(&mut self, after: HubSeq, limit: usize) -> Result<Vec<LogLine>, MemoryError> {
        let changed = self.records.iter().map(|(key, (record, _))| LogLine {
            hseq: record.changed(),
            key: key.clone(),
            what: Logged::Changed(record.scope()),
        });
        let mut lines: Vec<LogLine> = changed.chain(self.log.iter().cloned()).filter(|l| l.hseq > after).collect();
        lines.sort_by_key(|line| line.hseq);
        let mut end = limit.min(lines.len());
        while end > 0 && lines.get(end).is_some_and(|next| lines.get(end - 1).is_some_and(|l| l.hseq == next.hseq)) {
            end += 1;
        }
        lines.truncate(end);
        Ok(lines)
    }

    fn held_of(&mut self, key: &RecordKey, origin: Origin) -> Result<Vec<HeldOp>, MemoryError> {
        let theirs = |h: &&HeldOp| h.op.key == *key && h.op.stamp.dot.origin == origin;
        let mut held: Vec<HeldOp> = self.quarantine.iter().map(|w| &w.held).filter(theirs).cloned().collect();
        held.sort_by_key(|h| h.hseq);
        Ok(held)
    }

    fn is_any_held(&mut self, key: &RecordKey, origin: Origin) -> Result<bool, MemoryError> {
        let mut held = self.quarantine.iter().map(|waiting| &waiting.held.op);
        Ok(held.any(|op| op.key == *key && op.stamp.dot.origin == origin))
    }

    fn held_for_person(&mut self, device: Device) -> Result<(u64, u64), MemoryError> {
        let held = self.quarantine.iter().map(|waiting| &waiting.held);
        let ops: Vec<&Op> = held.filter(|h| h.for_person && h.device == Some(device)).map(|h| &h.op).collect();
        let bytes =
            ops.iter().filter_map(|op| self.history.get(&op.stamp.dot)).map(|kept| kept.written.canonical().len());
        Ok((ops.len() as u64, bytes.sum::<usize>() as u64))
    }

    fn waiting_for(&mut self, key: &RecordKey) -> Result<Vec<(RecordKey, Origin)>, MemoryError> {
        let waiting = self.quarantine.iter().filter(|w| w.waits_for.contains(key));
        Ok(waiting.map(|w| (w.held.op.key.clone(), w.held.op.stamp.dot.origin)).collect())
    }

    fn origins_held(&mut self, key: &RecordKey) -> Result<Vec<Origin>, MemoryError> {
        let held = self.quarantine.iter().filter(|w| w.held.op.key == *key);
        let origins: BTreeSet<Origin> = held.map(|w| w.held.op.stamp.dot.origin).collect();
        Ok(origins.into_iter().collect())
    }

    fn all_held(&mut self) -> Result<Vec<(RecordKey, Origin)>, MemoryError> {
        let mut all: Vec<_> =
            self.quarantine.iter().map(|w| (w.held.op.key.clone(), w.held.op.stamp.dot.origin)).collect();
        all.sort();
        all.dedup();
        Ok(all)
    }

    fn digest(&mut self, scopes: &[Scope]) -> Result<u64, MemoryError> {
        Ok(self.in_scopes(scopes).into_iter().fold(0, |sum, (item, _)| sum.wrapping_add(item)))
    }

    fn items(&mut self, scopes: &[Scope]) -> Result<Vec<(u64, RecordKey)>, MemoryError> {
        Ok(self.in_scopes(scopes))
    }

    fn writes_of(&mut self, key: &RecordKey) -> Result<Arc<Vec<Op>>, MemoryError> {
        let mut writes: Vec<&Kept> = self.history.values().filter(|kept| kept.op.key == *key).collect();
        writes.sort_by_key(|kept| kept.hseq);
        Ok(Arc::new(writes.into_iter().map(|kept| kept.written.clone()).collect()))
    }

    fn former_keys(&mut self, device: Device) -> Result<Vec<DeviceKey>, MemoryError> {
        Ok(self.former_keys.get(&device).cloned().unwrap_or_default())
    }

    fn revoked_keys(&mut self, device: Device) -> Result<Vec<DeviceKey>, MemoryError> {
        Ok(self.revoked_keys.get(&device).cloned().unwrap_or_default())
    }

    fn rescued_as(&mut self, dot: Dot) -> Result<Vec<Dot>, MemoryError> {
        Ok(self.rescued.get(&dot).cloned().unwrap_or_default())
    }

    fn erasure(&mut self, key: &RecordKey) -> Result<Option<u64>, MemoryError> {
        Ok(self.erasures.iter().filter(|erasure| erasure.key == *key).map(|erasure| erasure.number).max())
    }

    fn erasures_after(&mut self, after: u64, limit: usize) -> Result<Vec<Erasure>, MemoryError> {
        let mut later: Vec<_> = self.erasures.iter().filter(|erasure| erasure.number > after).cloned().collect();
        later.sort_by_key(|erasure| erasure.number);
        later.truncate(limit);
        Ok(later)
    }

    fn last_erasure(&mut self) -> Result<u64, MemoryError> {
        Ok(self.erasures.iter().map(|erasure| erasure.number).max().unwrap_or(0))
    }

    fn dependants(&mut self, parent: &RecordKey) -> Result<Vec<RecordKey>, MemoryError> {
        let children = self.records.iter().filter(|(_, (_, parents))| parents.contains(parent));
        Ok(children.map(|(key, _)| key.clone()).collect())
    }

    fn is_for_rescue(&mut self, origin: Origin) -> Result<bool, MemoryError> {
        Ok(self.rescues.contains(&origin))
    }

    fn is_followed(&mut self, origin: Origin) -> Result<bool, MemoryError> {
        Ok(self.before.values().any(|before| *before == origin))
    }
}

impl Store for MemoryHub {
    fn new_epoch(&mut self, _: Device, now_ms: u64) -> Result<Option<Epoch>, MemoryError> {
        let epoch = Epoch(self.epoch.0 + 1_000);
        self.begin_epoch(epoch, now_ms);
        Ok(Some(epoch))
    }

    fn may_begin_anew(&mut self, _: Device) -> Result<bool, MemoryError> {
        Ok(true)
    }

    fn may_take_in(&mut self, _: Device) -> Result<bool, MemoryError> {
        Ok(true)
    }

    fn next(&mut self) -> Result<HubSeq, MemoryError> {
        self.head = self.head.next();
        Ok(self.head)
    }

    fn new_origin(&mut self, device: Device, after: Origin) -> Result<Origin, MemoryError> {
        let origin = self.mint_origin(device);
        self.before.insert(origin, after);
        Ok(origin)
    }

    fn claim_origin(&mut self, device: Device, origin: Origin, after: Origin) -> Result<(), MemoryError> {
        self.origins.insert(origin, device);
        if after != origin {
            self.before.insert(origin, after);
        }
        Ok(())
    }

    fn claim_twin(&mut self, twin: &Gateway) -> Result<(), MemoryError> {
        self.set_gateway(twin)
    }

    fn rescue_origin(&mut self, device: Device, after: Origin) -> Result<Origin, MemoryError> {
        let origin = self.new_origin(device, after)?;
        self.rescues.insert(origin);
        Ok(origin)
    }

    fn note_rescued(&mut self, old: Dot, new: Dot) -> Result<(), MemoryError> {
        self.rescued.entry(old).or_default().push(new);
        Ok(())
    }

    fn part(&mut self, gateway: &Gateway, after: Origin, print: Short) -> Result<Gateway, MemoryError> {
        let is_it =
            |twin: &&Gateway| twin.key == gateway.key.part(twin.device.0) && twin.print == print && twin.turn == 0;
        if let Some(twin) = self.gateways.values().find(is_it) {
            return Ok(twin.clone());
        }
        let Gateway { device, origin, .. } = self.enroll(gateway.scopes.clone(), gateway.source, gateway.key.clone());
        self.before.insert(origin, after);
        let twin = gateway.twin(device, origin, print);
        self.gateways.insert(twin.device, twin.clone());
        Ok(twin)
    }

    fn set_gateway(&mut self, gateway: &Gateway) -> Result<(), MemoryError> {
        self.gateways.insert(gateway.device, gateway.clone());
        Ok(())
    }

    fn set_mark(&mut self, origin: Origin, stream: Stream, mark: &Mark) -> Result<(), MemoryError> {
        self.marks.insert((origin, stream), *mark);
        Ok(())
    }

    fn append(&mut self, arrived: &Arrived<'_>, hseq: HubSeq, is_held: bool) -> Result<(), MemoryError> {
        let Arrived { op, chain, canonical } = arrived;
        let written = Op::from_canonical(canonical).unwrap_or_else(|_| (*op).clone());
        self.history.insert(op.stamp.dot, Kept { op: (*op).clone(), written, hseq, chain: *chain, is_held });
        Ok(())
    }

    fn remember(&mut self, key: &RecordKey, replaced: &[Superseded]) -> Result<(), MemoryError> {
        self.replaced.extend(replaced.iter().map(|s| (key.clone(), s.clone())));
        Ok(())
    }

    fn keep(&mut self, key: &RecordKey, record: Record, parents: &[RecordKey]) -> Result<(), MemoryError> {
        self.records.insert(key.clone(), (record, parents.to_vec()));
        Ok(())
    }

    fn log(&mut self, line: &LogLine) -> Result<(), MemoryError> {
        self.log.push(line.clone());
        Ok(())
    }

    fn hold(&mut self, held: &HeldOp, waits_for: &[RecordKey]) -> Result<(), MemoryError> {
        let waiting = Waiting { held: held.clone(), waits_for: waits_for.to_vec() };
        match self.quarantine.iter_mut().find(|w| w.held.op.stamp.dot == held.op.stamp.dot) {
            Some(known) => *known = waiting,
            None => self.quarantine.push(waiting),
        }
        Ok(())
    }

    fn unhold(&mut self, dot: Dot) -> Result<Option<HeldOp>, MemoryError> {
        let at = self.quarantine.iter().position(|w| w.held.op.stamp.dot == dot);
        Ok(at.map(|at| self.quarantine.remove(at).held))
    }

    fn note_erasure(&mut self, erasure: &Erasure) -> Result<(), MemoryError> {
        self.erasures.push(erasure.clone());
        Ok(())
    }

    fn erase_op(&mut self, erased: &Op, hash: Short) -> Result<(), MemoryError> {
        let dot = erased.stamp.dot;
        self.hashes.insert(dot, hash);
        if let Some(kept) = self.history.get_mut(&dot) {
            (kept.op, kept.written) = (erased.clone(), erased.clone());
        }
        Ok(())
    }

    fn forget_replaced(&mut self, key: &RecordKey) -> Result<(), MemoryError> {
        self.replaced.retain(|(of, _)| of != key);
        for line in self.log.iter_mut().filter(|line| line.key == *key) {
            if let Logged::News(_, _, News::Held(reason) | News::Discarded(reason)) = &mut line.what {
                reason.clear();
            }
        }
        Ok(())
    }
}
