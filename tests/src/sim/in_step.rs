//! Stores on disk with a witness in memory: whatever the core asks or says, both are asked and told, and must answer the same.
//!
//! The witness is what the oracle looks into. It is a fair one, because after every power cut and in the end the disk is compared
//! with it as a whole (`same`), and because no answer of the disk ever differed from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use agent::error::Error;
use agent::store::PassAt;
use sync_protocol::boot::{Boot, Moment};
use sync_protocol::digest::Chain;
use sync_protocol::erase::{Erased, ErasedName, Erasure};
use sync_protocol::gateway::retention::Reach;
use sync_protocol::gateway::{self, Fate, GatewayState, Held};
use sync_protocol::hub::{self, Arrived, Gateway, HeldOp, LogLine, Mark};
use sync_protocol::id::{Device, Dot, Epoch, HubSeq, Origin, RecordKey, Scope, Seq, Stream};
use sync_protocol::identity::DeviceKey;
use sync_protocol::memory::{MemoryError, MemoryGateway, MemoryHub};
use sync_protocol::merge::Superseded;
use sync_protocol::message::{About, AckRange, Plea, Short};
use sync_protocol::record::{Op, Record, State};
use sync_protocol::rules::Rules;

use server_stub::StoreError;

/// A gateway's store, in a transaction.
pub(super) struct OnCard<'a, 'b> {
    pub(super) disk: Option<&'a mut agent::store::Tx<'b>>,
    pub(super) memory: &'a mut MemoryGateway,
}

/// The hub's store, in a transaction.
pub(super) struct AtCentre<'a, 'b> {
    pub(super) disk: Option<&'a mut server_stub::Tx<'b>>,
    pub(super) memory: &'a mut MemoryHub,
}

fn same<T: PartialEq + Debug>(what: &str, disk: T, memory: T) -> T {
    assert_eq!(disk, memory, "{what}: the disk on the left, memory on the right");
    disk
}

fn sorted<T: Ord, E>(list: Result<Vec<T>, E>) -> Result<Vec<T>, E> {
    list.map(|mut list| {
        list.sort();
        list
    })
}

fn by_marker(mut ops: Vec<Op>) -> Vec<Op> {
    ops.sort_by_key(|op| op.stamp.marker());
    ops
}

/// A record without the dots of what is not confirmed. Under a new origin a record that is one op has its new name on disk at
/// once, in memory when it is kept again.
pub(super) fn nameless(held: Option<Held>) -> Option<Held> {
    let mut held = held?;
    let registers = held.visible.cells.values_mut().filter_map(|cell| match &mut cell.state {
        State::Register(entries) => Some(entries),
        _ => None,
    });
    for entry in registers.flatten().filter(|entry| entry.stamp.hseq == HubSeq::NONE) {
        Arc::make_mut(&mut entry.stamp).dot = Dot { origin: Origin(0), stream: Stream::Urgent, seq: Seq(0) };
    }
    Some(held)
}

/// Memory has room for everything.
fn sure<T>(answer: Result<T, MemoryError>) -> T {
    answer.expect("a store in memory")
}

/// Asks the disk first, because a full one undoes what it was told; memory is put back by the caller then.
macro_rules! ask {
    ($self:ident, $name:ident($($arg:expr),*)) => {
        match &mut $self.disk {
            Some(disk) => Ok(same(stringify!($name), disk.$name($($arg),*)?, sure($self.memory.$name($($arg),*)))),
            None => Ok(sure($self.memory.$name($($arg),*))),
        }
    };
    (sorted $self:ident, $name:ident($($arg:expr),*)) => {
        match &mut $self.disk {
            Some(disk) => {
                Ok(same(stringify!($name), sorted(disk.$name($($arg),*))?, sure(sorted($self.memory.$name($($arg),*)))))
            }
            None => Ok(sure($self.memory.$name($($arg),*))),
        }
    };
}

impl gateway::Store for OnCard<'_, '_> {
    type Error = Error;

    fn state(&mut self) -> Result<GatewayState, Error> {
        ask!(self, state())
    }
    fn set_state(&mut self, state: &GatewayState) -> Result<(), Error> {
        ask!(self, set_state(state))
    }
    fn rules(&mut self) -> Result<Arc<Rules>, Error> {
        ask!(self, rules())
    }
    fn set_rules(&mut self, rules: Arc<Rules>) -> Result<(), Error> {
        ask!(self, set_rules(Arc::clone(&rules)))
    }
    fn held(&mut self, key: &RecordKey) -> Result<Option<Held>, Error> {
        let memory = sure(self.memory.held(key));
        match &mut self.disk {
            Some(disk) => {
                let disk = disk.held(key)?;
                same("held", nameless(disk.clone()), nameless(memory));
                Ok(disk)
            }
            None => Ok(memory),
        }
    }
    fn keep(&mut self, key: &RecordKey, held: &Held) -> Result<(), Error> {
        ask!(self, keep(key, held))
    }
    fn forget(&mut self, key: &RecordKey) -> Result<(), Error> {
        ask!(self, forget(key))
    }
    fn append(&mut self, op: &Op, chain: Chain, replaced: &[Superseded]) -> Result<(), Error> {
        ask!(self, append(op, chain, replaced))
    }
    fn remember(&mut self, key: &RecordKey, replaced: &[Superseded]) -> Result<(), Error> {
        ask!(self, remember(key, replaced))
    }
    fn own_op(&mut self, dot: Dot) -> Result<Option<Op>, Error> {
        ask!(self, own_op(dot))
    }
    fn own_of(&mut self, key: &RecordKey) -> Result<Vec<Op>, Error> {
        let memory = by_marker(sure(self.memory.own_of(key)));
        match &mut self.disk {
            Some(disk) => Ok(same("own_of", by_marker(disk.own_of(key)?), memory)),
            None => Ok(memory),
        }
    }
    fn unreadable_own(&mut self, key: &RecordKey) -> Result<Vec<Dot>, Error> {
        ask!(self, unreadable_own(key))
    }
    fn restamp(&mut self, ops: &[Op]) -> Result<(), Error> {
        ask!(self, restamp(ops))
    }
    /// Boots are of the machine, and not part of a story.
    fn boots(&mut self) -> Result<Vec<Boot>, Error> {
        Ok(sure(self.memory.boots()))
    }
    fn moments(&mut self, stream: Stream, after: Seq, upto: Seq) -> Result<BTreeMap<Seq, Moment>, Error> {
        Ok(sure(self.memory.moments(stream, after, upto)))
    }
    fn last_moments(&mut self, stream: Stream, after: Seq) -> Result<Vec<(Seq, Moment)>, Error> {
        Ok(sure(self.memory.last_moments(stream, after)))
    }
    fn own_ops(&mut self, stream: Stream, after: Seq, limit: usize) -> Result<Vec<Op>, Error> {
        ask!(self, own_ops(stream, after, limit))
    }
    fn pending(&mut self, key: &RecordKey) -> Result<Vec<Op>, Error> {
        ask!(self, pending(key))
    }
    fn settle_fate(&mut self, dot: Dot, fate: &Fate) -> Result<(), Error> {
        ask!(self, settle_fate(dot, fate))
    }
    fn renumber(&mut self, ops: &[(Seq, Op, Chain)]) -> Result<(), Error> {
        ask!(self, renumber(ops))
    }
    fn chain_at(&mut self, stream: Stream, seq: Seq) -> Result<Option<Short>, Error> {
        ask!(self, chain_at(stream, seq))
    }
    fn chain_before(&mut self, stream: Stream, seq: Seq) -> Result<Option<Chain>, Error> {
        ask!(self, chain_before(stream, seq))
    }
    fn gaps_are_taken(&mut self) -> Result<(), Error> {
        ask!(self, gaps_are_taken())
    }
    fn oldest_ms(&mut self, stream: Stream, after: Seq) -> Result<Option<i64>, Error> {
        ask!(self, oldest_ms(stream, after))
    }
    fn digest(&mut self, scopes: &[Scope]) -> Result<u64, Error> {
        ask!(self, digest(scopes))
    }
    fn items(&mut self, scopes: &[Scope]) -> Result<Vec<u64>, Error> {
        ask!(sorted self, items(scopes))
    }
    fn keys_of_items(&mut self, items: &[u64]) -> Result<Vec<RecordKey>, Error> {
        ask!(sorted self, keys_of_items(items))
    }
    fn outside(&mut self, scopes: &[Scope], limit: usize) -> Result<Vec<RecordKey>, Error> {
        ask!(sorted self, outside(scopes, limit))
    }
    fn awaited(&mut self, limit: usize) -> Result<Vec<RecordKey>, Error> {
        ask!(sorted self, awaited(limit))
    }
    fn erasure(&mut self, key: &RecordKey) -> Result<Option<u64>, Error> {
        ask!(self, erasure(key))
    }
    fn note_erasures(&mut self, erased: &[Erased]) -> Result<(), Error> {
        ask!(self, note_erasures(erased))
    }
    fn keys_named(&mut self, names: &BTreeSet<ErasedName>) -> Result<Vec<RecordKey>, Error> {
        ask!(sorted self, keys_named(names))
    }
    fn erase(&mut self, key: &RecordKey) -> Result<(), Error> {
        ask!(self, erase(key))
    }
    fn pleas(&mut self) -> Result<Vec<Plea>, Error> {
        ask!(self, pleas())
    }
    fn clear_pleas(&mut self, told: &[Plea]) -> Result<(), Error> {
        ask!(self, clear_pleas(told))
    }
    /// What the machine says of itself is not part of a story.
    fn about(&mut self) -> Result<About, Error> {
        if let Some(disk) = &mut self.disk {
            disk.about()?;
        }
        Ok(sure(self.memory.about()))
    }
}

impl OnCard<'_, '_> {
    /// Forgets what may be forgotten of own ops, and of what changes from the hub replaced.
    pub(super) fn compact(&mut self, is_early: bool) -> Result<(), Error> {
        let state = gateway::Store::state(self)?;
        if state.recovers.is_some() || state.open_bounds().next().is_some() {
            return Ok(());
        }
        let own = state.streams.map(|at| if is_early { at.acked } else { at.durable.min(at.acked) });
        let reach = Reach { own, changes: u64::MAX, earlier: is_early };
        let mut forgotten = 0;
        if let Some(disk) = &mut self.disk {
            let reach = Reach { changes: disk.reader()?.last_change()?, ..reach };
            let mut at = Some(PassAt::default());
            while let Some(from) = at {
                let (old, next) = disk.reader()?.forgettable(from, &reach, STEP)?;
                for old in old {
                    forgotten += disk.forget_history(&reach, &old)?.ops;
                }
                at = next;
            }
            disk.note_pass(state.floor_ms)?;
        }
        let expected = self.memory.compact(&reach) as u64;
        if self.disk.is_some() {
            same("forgotten", forgotten, expected);
        }
        Ok(())
    }
}

/// Rows that are looked at together when something is forgotten: few, so that lists end in the middle of a step.
const STEP: usize = 3;

/// Lines of one number have no order of their own.
fn lines(mut lines: Vec<LogLine>) -> Vec<LogLine> {
    lines.sort_by_cached_key(|line| (line.hseq, format!("{line:?}")));
    lines
}

impl hub::Snapshot for AtCentre<'_, '_> {
    type Error = StoreError;

    fn epoch(&mut self) -> Result<Epoch, StoreError> {
        ask!(self, epoch())
    }
    fn common(&mut self, epoch: Epoch) -> Result<HubSeq, StoreError> {
        ask!(self, common(epoch))
    }
    fn head(&mut self) -> Result<HubSeq, StoreError> {
        ask!(self, head())
    }
    fn rules(&mut self) -> Result<Arc<Rules>, StoreError> {
        ask!(self, rules())
    }
    fn gateway(&mut self, device: Device) -> Result<Option<Gateway>, StoreError> {
        ask!(self, gateway(device))
    }
    fn gateways(&mut self) -> Result<Vec<Gateway>, StoreError> {
        ask!(self, gateways())
    }
    fn device_of(&mut self, origin: Origin) -> Result<Option<Device>, StoreError> {
        ask!(self, device_of(origin))
    }
    fn origin_before(&mut self, origin: Origin) -> Result<Option<Origin>, StoreError> {
        ask!(self, origin_before(origin))
    }
    fn mark(&mut self, origin: Origin, stream: Stream) -> Result<Mark, StoreError> {
        ask!(self, mark(origin, stream))
    }
    fn chain_at(&mut self, dot: Dot) -> Result<Option<Short>, StoreError> {
        ask!(self, chain_at(dot))
    }
    fn op_hash(&mut self, dot: Dot) -> Result<Option<Short>, StoreError> {
        ask!(self, op_hash(dot))
    }
    fn ranges(&mut self, origin: Origin, stream: Stream, after: Seq, upto: Seq) -> Result<Vec<AckRange>, StoreError> {
        ask!(self, ranges(origin, stream, after, upto))
    }
    fn record(&mut self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        ask!(self, record(key))
    }
    fn children(&mut self, parent: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
        ask!(sorted self, children(parent))
    }
    fn log_after(&mut self, after: HubSeq, limit: usize) -> Result<Vec<LogLine>, StoreError> {
        let memory = sure(self.memory.log_after(after, limit));
        match &mut self.disk {
            Some(disk) => Ok(same("log_after", lines(disk.log_after(after, limit)?), lines(memory))),
            None => Ok(memory),
        }
    }
    fn held_of(&mut self, key: &RecordKey, origin: Origin) -> Result<Vec<HeldOp>, StoreError> {
        ask!(self, held_of(key, origin))
    }
    fn is_any_held(&mut self, key: &RecordKey, origin: Origin) -> Result<bool, StoreError> {
        ask!(self, is_any_held(key, origin))
    }
    fn held_for_person(&mut self, device: Device) -> Result<(u64, u64), StoreError> {
        ask!(self, held_for_person(device))
    }
    fn waiting_for(&mut self, key: &RecordKey) -> Result<Vec<(RecordKey, Origin)>, StoreError> {
        let mut memory = sure(self.memory.waiting_for(key));
        match &mut self.disk {
            Some(disk) => {
                let disk = disk.waiting_for(key)?;
                // One line for each op here, one for each record there.
                memory.sort();
                memory.dedup();
                same("waiting_for", sorted(Ok::<_, StoreError>(disk.clone()))?, memory);
                Ok(disk)
            }
            None => Ok(memory),
        }
    }
    fn origins_held(&mut self, key: &RecordKey) -> Result<Vec<Origin>, StoreError> {
        ask!(self, origins_held(key))
    }
    fn all_held(&mut self) -> Result<Vec<(RecordKey, Origin)>, StoreError> {
        ask!(self, all_held())
    }
    fn digest(&mut self, scopes: &[Scope]) -> Result<u64, StoreError> {
        ask!(self, digest(scopes))
    }
    fn items(&mut self, scopes: &[Scope]) -> Result<Vec<(u64, RecordKey)>, StoreError> {
        ask!(sorted self, items(scopes))
    }
    fn arrived_as(&mut self, dot: Dot) -> Result<Option<HubSeq>, StoreError> {
        ask!(self, arrived_as(dot))
    }
    fn applied_as(&mut self, dot: Dot) -> Result<Option<HubSeq>, StoreError> {
        ask!(self, applied_as(dot))
    }
    fn writes_of(&mut self, key: &RecordKey) -> Result<Arc<Vec<Op>>, StoreError> {
        let sorted = |ops| by_marker(Arc::unwrap_or_clone(ops));
        let memory = sorted(sure(self.memory.writes_of(key)));
        Ok(Arc::new(match &mut self.disk {
            Some(disk) => same("writes_of", sorted(disk.writes_of(key)?), memory),
            None => memory,
        }))
    }
    fn revoked_keys(&mut self, device: Device) -> Result<Vec<DeviceKey>, StoreError> {
        ask!(self, revoked_keys(device))
    }

    fn former_keys(&mut self, device: Device) -> Result<Vec<DeviceKey>, StoreError> {
        ask!(self, former_keys(device))
    }
    fn rescued_as(&mut self, dot: Dot) -> Result<Vec<Dot>, StoreError> {
        ask!(self, rescued_as(dot))
    }
    fn erasure(&mut self, key: &RecordKey) -> Result<Option<u64>, StoreError> {
        ask!(self, erasure(key))
    }
    fn erasures_after(&mut self, after: u64, limit: usize) -> Result<Vec<Erasure>, StoreError> {
        ask!(self, erasures_after(after, limit))
    }
    fn given(&mut self, number: HubSeq) -> Result<HubSeq, StoreError> {
        ask!(self, given(number))
    }
    fn last_erasure(&mut self) -> Result<u64, StoreError> {
        ask!(self, last_erasure())
    }
    fn dependants(&mut self, parent: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
        ask!(sorted self, dependants(parent))
    }
    fn is_for_rescue(&mut self, origin: Origin) -> Result<bool, StoreError> {
        ask!(self, is_for_rescue(origin))
    }
    fn is_followed(&mut self, origin: Origin) -> Result<bool, StoreError> {
        ask!(self, is_followed(origin))
    }
}

impl hub::Store for AtCentre<'_, '_> {
    /// The number of an epoch is random on disk; here the witness gives it.
    fn new_epoch(&mut self, card: Device, now_ms: u64) -> Result<Option<Epoch>, StoreError> {
        let epoch = sure(self.memory.new_epoch(card, now_ms));
        match (&mut self.disk, epoch) {
            (Some(disk), Some(epoch)) => disk.enter_epoch(epoch, now_ms).map(|()| Some(epoch)),
            _ => Ok(epoch),
        }
    }
    fn next(&mut self) -> Result<HubSeq, StoreError> {
        ask!(self, next())
    }
    fn may_begin_anew(&mut self, device: Device) -> Result<bool, StoreError> {
        ask!(self, may_begin_anew(device))
    }

    fn may_take_in(&mut self, device: Device) -> Result<bool, StoreError> {
        ask!(self, may_take_in(device))
    }
    fn new_origin(&mut self, device: Device, after: Origin) -> Result<Origin, StoreError> {
        ask!(self, new_origin(device, after))
    }
    fn claim_origin(&mut self, device: Device, origin: Origin, after: Origin) -> Result<(), StoreError> {
        ask!(self, claim_origin(device, origin, after))
    }
    fn claim_twin(&mut self, twin: &Gateway) -> Result<(), StoreError> {
        ask!(self, claim_twin(twin))
    }
    fn rescue_origin(&mut self, device: Device, after: Origin) -> Result<Origin, StoreError> {
        ask!(self, rescue_origin(device, after))
    }
    fn note_rescued(&mut self, old: Dot, new: Dot) -> Result<(), StoreError> {
        ask!(self, note_rescued(old, new))
    }
    fn part(&mut self, gateway: &Gateway, after: Origin, print: Short) -> Result<Gateway, StoreError> {
        ask!(self, part(gateway, after, print))
    }
    fn set_gateway(&mut self, gateway: &Gateway) -> Result<(), StoreError> {
        ask!(self, set_gateway(gateway))
    }
    fn set_mark(&mut self, origin: Origin, stream: Stream, mark: &Mark) -> Result<(), StoreError> {
        ask!(self, set_mark(origin, stream, mark))
    }
    fn append(&mut self, arrived: &Arrived<'_>, hseq: HubSeq, is_held: bool) -> Result<(), StoreError> {
        ask!(self, append(arrived, hseq, is_held))
    }
    fn remember(&mut self, key: &RecordKey, replaced: &[Superseded]) -> Result<(), StoreError> {
        ask!(self, remember(key, replaced))
    }
    fn keep(&mut self, key: &RecordKey, record: Record, parents: &[RecordKey]) -> Result<(), StoreError> {
        ask!(self, keep(key, record.clone(), parents))
    }
    fn log(&mut self, line: &LogLine) -> Result<(), StoreError> {
        ask!(self, log(line))
    }
    fn hold(&mut self, held: &HeldOp, waits_for: &[RecordKey]) -> Result<(), StoreError> {
        ask!(self, hold(held, waits_for))
    }
    fn note_erasure(&mut self, erasure: &Erasure) -> Result<(), StoreError> {
        ask!(self, note_erasure(erasure))
    }
    fn erase_op(&mut self, erased: &Op, hash: Short) -> Result<(), StoreError> {
        ask!(self, erase_op(erased, hash))
    }
    fn forget_replaced(&mut self, key: &RecordKey) -> Result<(), StoreError> {
        ask!(self, forget_replaced(key))
    }
    fn unhold(&mut self, dot: Dot) -> Result<Option<HeldOp>, StoreError> {
        ask!(self, unhold(dot))
    }
}
