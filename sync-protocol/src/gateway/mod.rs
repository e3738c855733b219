//! The gateway's half: capturing writes, saying what is unsent, and integrating what the hub answers.
//!
//! What a gateway shows of a record is always the same thing: the record as the hub confirmed it, and on top of that its
//! own writes that the hub has not confirmed yet, applied in order ([`Held`]). When the hub's cells or an acknowledgement
//! arrive, the confirmed part moves and the rest is applied again. So both ends compute one result by one function, and a
//! gateway with other rules than the hub cannot diverge for good.
//!
//! Nothing here touches a disk, a clock or a network: a [`Store`] remembers, the caller passes the time and carries the
//! bytes. Each call that writes is one transaction of the caller.

mod adopt;
mod bounds;
mod capture;
mod erase;
mod exchange;
pub mod former;
mod heard;
mod integrate;
mod reopened;
pub mod rescue;
mod restamp;
pub mod retention;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use adopt::adopt_origin;
pub(crate) use bounds::bounded;
pub use capture::{Capture, Captured, Intent, Refusal, capture};
pub(crate) use capture::{changes_of, is_delete, own_up};
pub(crate) use erase::changes_name;
pub use exchange::{Outgoing, WallClock, request};
pub(crate) use exchange::{cut_frame, next_guess};
pub use former::Former;
pub use integrate::{Integrated, finish, integrate_head, integrate_rows};
pub use restamp::leave_times;

use crate::boot::{Boot, Moment};
use crate::clock::Hlc;
use crate::digest::Chain;
use crate::erase::{Erased, ErasedName};
use crate::id::{Device, Dot, Epoch, HubSeq, Origin, RecordKey, Scope, Seq, Source, Stream};
use crate::identity::DeviceKey;
use crate::merge::{self, Superseded, origins};
use crate::message::{About, Bound, Condition, Plea, Short, Slice, ViewHash, view_hash};
use crate::record::{Cell, Op, Record, Stamp, State};
use crate::rules::Rules;

/// The origin of a gateway that is not enrolled yet. Nothing leaves it; at enrolment its ops are renumbered.
pub const UNENROLLED: Origin = Origin(u32::MAX);

/// All that a gateway remembers about its sync, in one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayState {
    /// Its enrolment; 0 before it.
    pub device: Device,
    /// Its incarnation, or [`UNENROLLED`].
    pub origin: Origin,
    /// The secret of its enrolment.
    pub key: DeviceKey,
    /// The number of its next exchange.
    pub turn: u64,
    /// The hub's epoch as last heard.
    pub epoch: Epoch,
    /// Everything in view up to here is integrated.
    pub cursor: HubSeq,
    /// The cursor when a pull last reached the head.
    pub complete: HubSeq,
    /// How far the back-fill of new scopes has come; `None` if there is none.
    pub backfill: Option<HubSeq>,
    /// What it is subscribed to; the first is its home.
    pub scopes: Vec<Scope>,
    /// What kind of place it is.
    pub source: Source,
    /// The highest stamp ever given or seen.
    pub clock: Hlc,
    /// The highest stamp that stands at the hub, as far as known here: of what was acknowledged and of what came from it.
    pub heard: Hlc,
    /// A time that certainly has passed, by the hub's clock; milliseconds since 1970.
    pub floor_ms: i64,
    /// Unsent ops have a time of which nobody knows how good it is. Nothing is sent until the hub's time was heard.
    pub awaits_time: bool,
    /// The streams, by number.
    pub streams: [StreamState; 3],
    /// Coded symbols to send with the next request, because the digests disagreed.
    pub repair_symbols: Option<u32>,
    /// How often records had to be repaired. Each is a bug somewhere.
    pub repairs: u64,
    /// An exchange with frames began and no answer was heard: ask what arrived, and hear what there is, before sending more.
    pub unsure: bool,
    /// Whether the hub knows the present [`About`].
    pub told: bool,
    /// The hub was put back to an older state: what it lost is compared with what is here, before anything is taken. The last
    /// number that both states share.
    pub recovers: Option<HubSeq>,
    /// Which items are compared at the moment. Not kept over a restart: what agrees already is soon compared again.
    pub slice: Slice,
    /// Items of records that the hub asked for meanwhile.
    pub wanted: Vec<u64>,
    /// Own ops that were written under the numbers of an epoch that is gone. They stay: the hub may be put back to before it
    /// had these ops once more.
    pub bounds: Vec<Bound>,
    /// The incarnations that it was before, oldest first. What it wrote as one of them is in its history.
    pub former: Vec<Former>,
    /// Every erasure up to this number was carried out here.
    pub erased: u64,
    /// The hub has shut this gateway out. It shows its records to nobody until it is let in or enrolled again.
    pub is_revoked: bool,
}

/// Where the gateway stands with one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamState {
    /// The hub has this op and all before it.
    pub acked: Seq,
    /// Chain at `acked`.
    pub acked_chain: Short,
    /// This op and all before it survive the loss of the hub.
    pub durable: Seq,
    /// This op and all before it have left the box, and are never changed. None of them may have arrived.
    pub sent: Seq,
    /// The last op that exists.
    pub last: Seq,
    /// No op after `acked` up to this one can be sent: they were erased, or cannot be read. Not kept over a restart; each request finds it
    /// out anew.
    pub barren: Seq,
    /// Chain at `last`.
    pub chain: Chain,
}

impl StreamState {
    /// Ops that the hub does not have yet. If none of them can be sent there are none; until then those in between count as well.
    pub fn unsent(&self) -> u64 {
        match self.barren >= self.last {
            true => 0,
            false => self.last.0.saturating_sub(self.acked.0),
        }
    }
}

impl Default for GatewayState {
    fn default() -> Self {
        GatewayState {
            device: Device(0),
            origin: UNENROLLED,
            key: DeviceKey::NONE,
            turn: 0,
            epoch: Epoch::NONE,
            cursor: HubSeq::NONE,
            complete: HubSeq::NONE,
            backfill: None,
            scopes: vec![Scope::root()],
            source: Source::CLINIC,
            clock: Hlc::default(),
            heard: Hlc::default(),
            floor_ms: 0,
            awaits_time: false,
            streams: [StreamState::default(); 3],
            repair_symbols: None,
            repairs: 0,
            unsure: false,
            told: false,
            recovers: None,
            slice: Slice::default(),
            wanted: Vec::new(),
            bounds: Vec::new(),
            former: Vec::new(),
            erased: 0,
            is_revoked: false,
        }
    }
}

impl GatewayState {
    /// One stream.
    pub fn stream(&self, stream: Stream) -> &StreamState {
        let [urgent, normal, bulk] = &self.streams;
        match stream {
            Stream::Urgent => urgent,
            Stream::Normal => normal,
            Stream::Bulk => bulk,
        }
    }

    /// One stream, to change it.
    pub fn stream_mut(&mut self, stream: Stream) -> &mut StreamState {
        let [urgent, normal, bulk] = &mut self.streams;
        match stream {
            Stream::Urgent => urgent,
            Stream::Normal => normal,
            Stream::Bulk => bulk,
        }
    }

    /// What tells whether both ends have the same view of it in mind.
    pub fn view_hash(&self) -> ViewHash {
        view_hash(&self.scopes, self.source)
    }

    /// Whether it writes under this origin, or did as an incarnation before this one.
    fn has_been(&self, origin: Origin) -> bool {
        origin == self.origin || self.former.iter().any(|former| former.origin == origin)
    }

    fn wrote(&self, stamp: &Stamp) -> bool {
        self.has_been(stamp.dot.origin)
    }

    /// Whether records of this scope belong here.
    pub fn is_in_view(&self, scope: &Scope) -> bool {
        self.scopes.iter().any(|prefix| prefix.covers(scope))
    }

    /// The scope of new records.
    pub fn home(&self) -> Scope {
        self.scopes.first().cloned().unwrap_or_else(Scope::root)
    }

    /// Takes note of a stamp that stands at the hub.
    pub(crate) fn hear(&mut self, stamp: Hlc) {
        (self.clock, self.heard) = (self.clock.observe(stamp), self.heard.observe(stamp));
    }

    /// The bounds under which ops have yet to arrive once more; of all others the hub knows how much counts.
    pub fn open_bounds(&self) -> impl Iterator<Item = &Bound> {
        self.bounds.iter().filter(|bound| self.stream(bound.stream).acked < bound.upto)
    }

    /// Ops that the hub does not have yet.
    pub fn unsent(&self) -> u64 {
        self.streams.iter().map(StreamState::unsent).sum()
    }
}

/// A record as a gateway has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// As the hub confirmed it; `None` if the hub does not know it yet.
    pub confirmed: Option<Record>,
    /// What is shown: the confirmed record with own unconfirmed ops on top.
    pub visible: Record,
    /// Whether there are such ops.
    pub is_pending: bool,
    /// The record is not in view any more, and only those ops hold it here: it is no part of the digest, and nothing new of it
    /// comes. All of it up to this number is here.
    pub leaving: Option<HubSeq>,
    /// What the hub confirmed of it cannot be read any more. It is no part of the digest, so the hub sends all of it again; until then
    /// what is shown stays as it is, with own writes on top, and no part of a record is taken for the whole of it.
    pub awaits_whole: bool,
}

impl Held {
    /// Whether nothing of it can be read: no record is without any cell.
    pub fn is_unreadable(&self) -> bool {
        self.visible.cells.is_empty()
    }

    /// The same with these of its own writes waiting.
    fn with_pending(self, pending: &[Op], rules: &Rules) -> Held {
        let visible = match self.awaits_whole {
            true => self.visible,
            false => show(self.confirmed.as_ref(), pending, rules).0,
        };
        Held { visible, is_pending: !pending.is_empty(), ..self }
    }

    /// Whether the hub has just confirmed a write to a record that was not here: what else there is of it has yet to come.
    fn may_be_part(&self, state: &GatewayState) -> bool {
        let is_blind = |stamp: &Stamp| stamp.seen == HubSeq::NONE && stamp.hseq > state.complete && state.wrote(stamp);
        let is_one = |confirmed: &Record| {
            // A later write to a record that had left, confirmed once more by a hub that was put back, does not say where it belongs.
            let is_placed = confirmed.is_placed();
            !is_placed || confirmed.cells.values().flat_map(Cell::stamps).any(|stamp| is_blind(stamp))
        };
        self.confirmed.as_ref().is_some_and(is_one)
    }

    /// What a hub that was put back is shown of the record, and whether that is certainly all that was here of it: it may be
    /// a part that was written here alone, or a set may count an own write as contained that waits at the hub.
    fn offered(self, state: &GatewayState, pending: &[Op]) -> Option<(Record, bool)> {
        let confirmed = self.confirmed.as_ref()?;
        let is_own = |origin: &Origin| state.has_been(*origin);
        let is_part = self.may_be_part(state) && origins(confirmed).iter().all(is_own);
        let is_whole = !is_part && !pending.iter().any(|op| counts_as_contained(confirmed, op));
        self.confirmed.map(|record| (record, is_whole))
    }

    /// The number up to which everything that the hub had of the record is here. A write may say that it had seen that much
    /// and no more.
    ///
    /// A record comes once, at its last change: as long as a pull has not reached the head, the cursor may be past a change of
    /// which the record has yet to come. What has come of it by then tells how far it is.
    pub fn seen(&self, state: &GatewayState) -> HubSeq {
        let Some(confirmed) = &self.confirmed else { return HubSeq::NONE };
        let stamps = || confirmed.cells.values().flat_map(Cell::stamps);
        if self.may_be_part(state) {
            return HubSeq::NONE;
        }
        // What others wrote is here because the hub sent it; what was written here, because it was computed.
        let foreign = stamps().filter(|stamp| !state.wrote(stamp)).map(|stamp| stamp.hseq);
        let is_foreign = |cell: &&Cell| cell.stamps().iter().all(|stamp| !state.wrote(stamp));
        let came = confirmed.cells.values().filter(is_foreign).map(|cell| cell.changed).chain(foreign);
        // While it recovers some of it may have numbers of the lost time.
        let is_known = |changed: &HubSeq| state.recovers.is_none() || *changed <= state.cursor;
        let here = came.filter(is_known).max().unwrap_or_default().max(state.complete);
        self.leaving.map_or(here, |upto| upto.min(here))
    }
}

/// Whether a set of the record has a later write of the same author, and so looks as if somebody had taken out what this one added.
fn counts_as_contained(record: &Record, op: &Op) -> bool {
    let dot = op.stamp.dot;
    op.changes.keys().any(|name| match record.cells.get(name).map(|cell| &cell.state) {
        Some(State::Set(set)) => set.clock.get(&dot.writer()).is_some_and(|seq| *seq >= dot.seq.0),
        _ => false,
    })
}

/// What became of an own op.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Nothing is known of it any more: the hub that had it was put back to before.
    Unsent,
    /// The hub applied it under this number.
    Confirmed(HubSeq),
    /// The hub keeps it in quarantine, for this reason.
    Parked(String),
    /// A person dropped it.
    Discarded(String),
}

/// What a gateway remembers on disk. Calls between two commits of the caller are one transaction.
pub trait Store {
    /// What can go wrong on the disk.
    type Error;

    /// The sync state.
    fn state(&mut self) -> Result<GatewayState, Self::Error>;
    /// Replaces the sync state.
    fn set_state(&mut self, state: &GatewayState) -> Result<(), Self::Error>;
    /// The rules in force.
    fn rules(&mut self) -> Result<Arc<Rules>, Self::Error>;
    /// Replaces the rules.
    fn set_rules(&mut self, rules: Arc<Rules>) -> Result<(), Self::Error>;
    /// A record, deleted or not.
    fn held(&mut self, key: &RecordKey) -> Result<Option<Held>, Self::Error>;
    /// Replaces a record, and keeps the digest of its scope in step with its confirmed part.
    fn keep(&mut self, key: &RecordKey, held: &Held) -> Result<(), Self::Error>;
    /// Removes a record and its part in the digest. Its history stays.
    fn forget(&mut self, key: &RecordKey) -> Result<(), Self::Error>;
    /// Adds an own op to the history, which is the outbox, with the chain after it and what it replaced.
    fn append(&mut self, op: &Op, chain: Chain, replaced: &[Superseded]) -> Result<(), Self::Error>;
    /// Adds to the history what a change from the hub replaced here.
    fn remember(&mut self, key: &RecordKey, replaced: &[Superseded]) -> Result<(), Self::Error>;
    /// An own op, of the present origin or one before it; `None` if it is not there or damaged.
    fn own_op(&mut self, dot: Dot) -> Result<Option<Op>, Self::Error>;
    /// Own ops of the present origin after `after`, in order, at most `limit`. One that was erased is as one that is not there: under
    /// its number the hub would take it for another write. It is left out like one that was forgotten.
    fn own_ops(&mut self, stream: Stream, after: Seq, limit: usize) -> Result<Vec<Op>, Self::Error>;
    /// Own ops of one record that are neither confirmed nor discarded, in the order of their stamps; without those that did not know
    /// of an erasure of it, which the hub will drop.
    fn pending(&mut self, key: &RecordKey) -> Result<Vec<Op>, Self::Error>;
    /// All own ops of the present origin on one record that are still known, whatever became of them.
    fn own_of(&mut self, key: &RecordKey) -> Result<Vec<Op>, Self::Error>;
    /// Own ops of the present origin on one record that are here and cannot be read. A store that loses nothing has none.
    fn unreadable_own(&mut self, key: &RecordKey) -> Result<Vec<Dot>, Self::Error> {
        let _ = key;
        Ok(Vec::new())
    }
    /// Notes what became of an own op. One that was erased waits for nobody: it stays as it is where the hub has gone on over it.
    fn settle_fate(&mut self, dot: Dot, fate: &Fate) -> Result<(), Self::Error>;
    /// Puts these in the place of own ops of the present origin, each of which is named by its number; with the chain after each.
    /// Their dots are those of the origin that the state will name once all parts are renumbered.
    fn renumber(&mut self, ops: &[(Seq, Op, Chain)]) -> Result<(), Self::Error>;
    /// Replaces own ops by the same with other times. They have never left the box.
    fn restamp(&mut self, ops: &[Op]) -> Result<(), Self::Error>;
    /// The boots that are known, in order.
    fn boots(&mut self) -> Result<Vec<Boot>, Self::Error>;
    /// Where in the life of the box the own ops after `after`, up to `upto`, were written, as far as known.
    fn moments(&mut self, stream: Stream, after: Seq, upto: Seq) -> Result<BTreeMap<Seq, Moment>, Self::Error>;
    /// The last op of each boot among the own ops after `after`, where the boot is known.
    fn last_moments(&mut self, stream: Stream, after: Seq) -> Result<Vec<(Seq, Moment)>, Self::Error>;
    /// Short chain after an own op; `None` if it is not known any more.
    fn chain_at(&mut self, stream: Stream, seq: Seq) -> Result<Option<Short>, Self::Error>;
    /// The whole chain before an own op, if the ops right before it were forgotten ([`retention`]) or erased, and the hub takes a stream
    /// over that. A store that forgets none knows of none.
    fn chain_before(&mut self, stream: Stream, seq: Seq) -> Result<Option<Chain>, Self::Error> {
        let _ = (stream, seq);
        Ok(None)
    }
    /// The same after an own op that is here no more, if the one that follows it says so.
    fn known_chain(&mut self, stream: Stream, seq: Seq) -> Result<Option<Short>, Self::Error> {
        match self.chain_at(stream, seq)? {
            None => Ok(self.chain_before(stream, seq.next())?.map(|chain| chain.short())),
            known => Ok(known),
        }
    }
    /// The hub takes a stream over ops that were forgotten or erased.
    fn gaps_are_taken(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
    /// When the first own op after `after` was captured, milliseconds since 1970.
    fn oldest_ms(&mut self, stream: Stream, after: Seq) -> Result<Option<i64>, Self::Error>;
    /// Sum of the digest items of all confirmed records in these scopes that are not leaving.
    fn digest(&mut self, scopes: &[Scope]) -> Result<u64, Self::Error>;
    /// All digest items that are in that sum.
    fn items(&mut self, scopes: &[Scope]) -> Result<Vec<u64>, Self::Error>;
    /// The confirmed records of some digest items.
    fn keys_of_items(&mut self, items: &[u64]) -> Result<Vec<RecordKey>, Self::Error>;
    /// Confirmed records outside of these scopes that are not leaving, and those of which all is awaited, at most `limit`.
    fn outside(&mut self, scopes: &[Scope], limit: usize) -> Result<Vec<RecordKey>, Self::Error>;
    /// Records that the hub had, of which all is awaited and no own op waits, at most `limit`.
    fn awaited(&mut self, limit: usize) -> Result<Vec<RecordKey>, Self::Error>;
    /// The number of the last erasure of a record, as far as the hub has told.
    fn erasure(&mut self, key: &RecordKey) -> Result<Option<u64>, Self::Error>;
    /// Remembers erasures, for ever.
    fn note_erasures(&mut self, erased: &[Erased]) -> Result<(), Self::Error>;
    /// The records of these names of which anything is here, and be it their history.
    fn keys_named(&mut self, names: &BTreeSet<ErasedName>) -> Result<Vec<RecordKey>, Self::Error>;
    /// Erases the history of a record: own ops that did not know of its erasure, as far as the hub has heard of them, and what
    /// changes from the hub replaced; whatever else is kept of it as well.
    fn erase(&mut self, key: &RecordKey) -> Result<(), Self::Error>;
    /// Wishes about parked ops that the hub has not been told.
    fn pleas(&mut self) -> Result<Vec<Plea>, Self::Error>;
    /// The wishes were told.
    fn clear_pleas(&mut self, told: &[Plea]) -> Result<(), Self::Error>;
    /// What to tell the admins; the view is filled in by who asks.
    fn about(&mut self) -> Result<About, Self::Error>;
    /// How the box is, if the hub has to hear of it: because that changed, or `anew`. A store that knows of no box says nothing.
    fn condition(&mut self, anew: bool) -> Result<Option<Condition>, Self::Error> {
        let _ = anew;
        Ok(None)
    }
    /// The hub has heard that the box is so.
    fn condition_told(&mut self, told: Condition) -> Result<(), Self::Error> {
        let _ = told;
        Ok(())
    }
}

/// The record that is shown: `confirmed` with `pending` on top.
///
/// An op that cannot be merged (its dot was used twice) is left out here; it is in the history, and the twin alarm is
/// raised where the dots meet.
pub fn show(confirmed: Option<&Record>, pending: &[Op], rules: &Rules) -> (Record, Vec<Superseded>) {
    let mut visible = confirmed.cloned().unwrap_or_default();
    let mut superseded = Vec::new();
    for op in pending {
        let type_rules = rules.of(&op.key.record_type);
        if let Ok(merged) = merge::apply(&mut visible, op, HubSeq::NONE, type_rules) {
            superseded.extend(merged.superseded);
        }
    }
    (visible, superseded)
}
