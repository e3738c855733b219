//! The hub's half: deciding who may speak, ordering and merging what comes up, and choosing what goes down.
//!
//! One exchange is [`open`] (who is it, where does it stand), [`receive`] for each frame of ops, [`grant`] (what has to be
//! remembered before the gateway hears of it) and [`pull()`] (what goes down). Each but the last is one transaction of the
//! caller, so that an interruption between two loses nothing that was reported; the pull only reads, on one snapshot that
//! has the grant in it, beside whoever writes. A write by an admin is [`write()`]: the hub is an origin like any other.
//!
//! The hub never refuses an op for its content. What breaks a rule, or whose parent is not there yet, is stored in
//! quarantine (`quarantine`), acknowledged, and reported back with a reason.
//!
//! Nothing here touches a disk, a clock or a network: a [`Store`] remembers, the caller passes the time.

mod claims;
mod clamp;
mod copy;
mod erase;
mod grant;
mod judge;
mod lost;
mod names;
mod offer;
mod open;
mod own;
mod pull;
mod quarantine;
mod rescue;
mod revoked;
mod sitting;
mod stranger;
mod told;
mod twins;
mod upgrade;
mod write;

use std::sync::Arc;

pub use clamp::clamped;
pub use copy::lineage;
pub use erase::{Wiped, carry_out, erase, family};
pub use grant::{Grant, grant};
pub use judge::admit;
pub use lost::first_number;
pub use offer::receive_offers;
pub use open::{Conversation, Opened, Received, Standing, open, receive};
pub use pull::{Answer, pull};
pub use quarantine::{discard, first_held, release, review_all};
pub use rescue::{Rescuing, rescue, rescued};
pub use revoked::{allow, is_shut_out};
pub use upgrade::upgrade;
pub use write::{Written, write};

use crate::digest::Chain;
use crate::erase::Erasure;
use crate::id::{Device, Dot, Epoch, HubSeq, Origin, RecordKey, Scope, Seq, Source, Stream};
use crate::identity::DeviceKey;
use crate::merge::Superseded;
use crate::message::{AckRange, Short, ViewHash, view_hash};
use crate::payload::News;
use crate::record::{Op, Record};
use crate::rules::Rules;

/// An enrolled gateway as the hub knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its enrolment.
    pub device: Device,
    /// Its present incarnation.
    pub origin: Origin,
    /// The secret of its enrolment.
    pub key: DeviceKey,
    /// The turn it was given last.
    pub turn: u64,
    /// The turn it showed when it was given that: it shows it again if the answer was lost.
    pub turn_before: u64,
    /// The first that it was given for showing that one. There are several if answers were lost, or if a message came twice.
    pub turn_first: u64,
    /// What it last said tells its box from others; zeros if it said nothing.
    pub print: Short,
    /// What it is subscribed to; the first is its home.
    pub scopes: Vec<Scope>,
    /// What kind of place it is.
    pub source: Source,
    /// Whether an admin has shut it out.
    pub is_revoked: bool,
    /// Whether it knows its present scopes and source.
    pub view: ViewNews,
    /// New scopes await a back-fill: it begins one when it is told of its view.
    pub backfill: bool,
    /// Own writes up to here are sent back to it, because it merged by other rules than the hub.
    pub echo_until: HubSeq,
    /// The gateway from whose card its card was copied: what becomes of writes that both have is told to both.
    pub twin_of: Option<Device>,
    /// The epoch in which it last spoke, with nothing left to compare. In a later one it may show what this hub has lost.
    pub epoch: Epoch,
    /// The origin that was offered to who spoke under an older one. It becomes the present one when it is used.
    pub offered: Option<Origin>,
    /// It has carried out every erasure up to this number; `None` if its program cannot.
    pub erased: Option<u64>,
}

/// Whether a gateway knows its view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewNews {
    /// It does.
    Known,
    /// It changed, and the gateway has to be told.
    Changed,
    /// It was told in the last answer, but has not shown yet that it heard.
    Told,
}

impl Gateway {
    /// Whether its present self may show this turn: one that it was given last, or the one that it showed for it.
    pub fn expects(&self, turn: u64) -> bool {
        turn == self.turn_before || (self.turn_first..=self.turn).contains(&turn)
    }

    /// Whether what becomes of this gateway's writes is news to it.
    pub fn hears_of(&self, device: Device) -> bool {
        self.device == device || self.twin_of == Some(device)
    }

    /// It goes on under another origin. What this one has heard in the present epoch is another matter than what the one before
    /// had, so it may have something to offer.
    pub(super) fn goes_on_as(&mut self, origin: Origin) {
        (self.origin, self.offered, self.epoch) = (origin, None, Epoch::NONE);
    }

    /// A gateway that turned out to be two: the other one, which has yet to speak.
    #[must_use]
    pub fn twin(&self, device: Device, origin: Origin, print: Short) -> Gateway {
        Gateway {
            device,
            origin,
            key: self.key.part(device.0),
            turn: 0,
            turn_before: 0,
            turn_first: 0,
            print,
            offered: None,
            erased: None,
            twin_of: Some(self.device),
            epoch: Epoch::NONE,
            ..self.clone()
        }
    }

    /// What tells whether both ends have the same in mind.
    pub fn view_hash(&self) -> ViewHash {
        view_hash(&self.scopes, self.source)
    }

    /// Whether records of this scope belong to it.
    pub fn is_in_view(&self, scope: &Scope) -> bool {
        self.scopes.iter().any(|prefix| prefix.covers(scope))
    }
}

/// How far one stream of one origin has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// All ops up to here are applied or in quarantine.
    pub acked: Seq,
    /// Chain at `acked`, computed here.
    pub chain: Chain,
    /// All ops up to here are in a backup.
    pub durable: Seq,
}

/// One line of the hub's order of changes, as far as it concerns what is sent down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its number.
    pub hseq: HubSeq,
    /// The record.
    pub key: RecordKey,
    /// What happened.
    pub what: Logged,
}

/// What a log line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logged {
    /// The record changed, and is in this scope now.
    Changed(Scope),
    /// The record left this scope.
    Left(Scope),
    /// News for one device of an op in quarantine.
    News(Device, Dot, News),
}

/// An op in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldOp {
    /// The op.
    pub op: Op,
    /// The number under which it arrived.
    pub hseq: HubSeq,
    /// Whose it is.
    pub device: Option<Device>,
    /// Why it waits.
    pub reason: String,
    /// Only a person frees it, whatever the rules say and whatever comes.
    pub for_person: bool,
}

/// An op as it goes into the history, with what is computed from its canonical bytes: they are made once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived<'a> {
    /// The op.
    pub op: &'a Op,
    /// Its canonical bytes.
    pub canonical: Vec<u8>,
    /// The chain of its stream, with it.
    pub chain: Chain,
}

impl<'a> Arrived<'a> {
    /// An op that follows on a chain.
    pub fn after(chain: Chain, op: &'a Op) -> Arrived<'a> {
        let canonical = op.canonical();
        Arrived { op, chain: chain.extend(op), canonical }
    }
}

/// What can be asked of the hub's memory. All that is asked in one transaction is of one moment.
pub trait Snapshot {
    /// What can go wrong on the disk.
    type Error;

    /// The present epoch.
    fn epoch(&mut self) -> Result<Epoch, Self::Error>;
    /// The last number that this lineage shares with an epoch; none for one that is not of this lineage.
    fn common(&mut self, epoch: Epoch) -> Result<HubSeq, Self::Error>;
    /// The last number at or before this one that this hub can have given: this one itself, unless it is one of those that were
    /// left out ([`first_number`]). Who has one of them has it from a time that this hub lost.
    fn given(&mut self, number: HubSeq) -> Result<HubSeq, Self::Error>;
    /// The number of the last change.
    fn head(&mut self) -> Result<HubSeq, Self::Error>;
    /// The rules in force.
    fn rules(&mut self) -> Result<Arc<Rules>, Self::Error>;
    /// A gateway by its enrolment.
    fn gateway(&mut self, device: Device) -> Result<Option<Gateway>, Self::Error>;
    /// All gateways that are enrolled, with the key of each.
    fn gateways(&mut self) -> Result<Vec<Gateway>, Self::Error>;
    /// The device of an origin.
    fn device_of(&mut self, origin: Origin) -> Result<Option<Device>, Self::Error>;
    /// The origin that this one goes on from; none for the first of an enrolment, and where it is not known any more.
    fn origin_before(&mut self, origin: Origin) -> Result<Option<Origin>, Self::Error>;
    /// How far a stream has come.
    fn mark(&mut self, origin: Origin, stream: Stream) -> Result<Mark, Self::Error>;
    /// Short chain after an op; `None` if it is not known.
    fn chain_at(&mut self, dot: Dot) -> Result<Option<Short>, Self::Error>;
    /// Hash of an op that arrived; `None` if it did not, or is not kept any more.
    fn op_hash(&mut self, dot: Dot) -> Result<Option<Short>, Self::Error>;
    /// The numbers of the ops after `after` up to `upto` that were applied as they arrived.
    fn ranges(&mut self, origin: Origin, stream: Stream, after: Seq, upto: Seq) -> Result<Vec<AckRange>, Self::Error>;
    /// The number under which an op arrived; `None` if it did not.
    fn arrived_as(&mut self, dot: Dot) -> Result<Option<HubSeq>, Self::Error>;
    /// The number under which an op was applied, when it arrived or when it was let go; `None` if it was not.
    fn applied_as(&mut self, dot: Dot) -> Result<Option<HubSeq>, Self::Error>;
    /// A record, deleted or not.
    fn record(&mut self, key: &RecordKey) -> Result<Option<Record>, Self::Error>;
    /// Records that name this one as a parent and whose scope follows it.
    fn children(&mut self, parent: &RecordKey) -> Result<Vec<RecordKey>, Self::Error>;
    /// The log after `after`, in order, of each record only its last change: at most `limit` lines, and only fewer if there
    /// are no more, except that lines of one number are never parted.
    fn log_after(&mut self, after: HubSeq, limit: usize) -> Result<Vec<LogLine>, Self::Error>;
    /// Ops of one origin on one record in quarantine, in order of arrival.
    fn held_of(&mut self, key: &RecordKey, origin: Origin) -> Result<Vec<HeldOp>, Self::Error>;
    /// Whether there are any.
    fn is_any_held(&mut self, key: &RecordKey, origin: Origin) -> Result<bool, Self::Error>;
    /// How many ops of a device wait for a person, and their bytes.
    fn held_for_person(&mut self, device: Device) -> Result<(u64, u64), Self::Error>;
    /// Records and origins with ops in quarantine that wait for this record.
    fn waiting_for(&mut self, key: &RecordKey) -> Result<Vec<(RecordKey, Origin)>, Self::Error>;
    /// Origins with ops in quarantine on this record.
    fn origins_held(&mut self, key: &RecordKey) -> Result<Vec<Origin>, Self::Error>;
    /// All records and origins with ops in quarantine.
    fn all_held(&mut self) -> Result<Vec<(RecordKey, Origin)>, Self::Error>;
    /// Sum of the digest items of all records in these scopes.
    fn digest(&mut self, scopes: &[Scope]) -> Result<u64, Self::Error>;
    /// All digest items in these scopes, with their records.
    fn items(&mut self, scopes: &[Scope]) -> Result<Vec<(u64, RecordKey)>, Self::Error>;
    /// All ops on a record that arrived, as they were written, in order of arrival; those in quarantine included.
    fn writes_of(&mut self, key: &RecordKey) -> Result<Arc<Vec<Op>>, Self::Error>;
    /// Keys that an enrolment had before it was made anew; none of a gateway that was revoked.
    fn former_keys(&mut self, device: Device) -> Result<Vec<DeviceKey>, Self::Error>;
    /// Keys of cards of this enrolment that were revoked and replaced since.
    fn revoked_keys(&mut self, device: Device) -> Result<Vec<DeviceKey>, Self::Error>;
    /// The numbers under which ops are here that a rescued file has under this one.
    fn rescued_as(&mut self, dot: Dot) -> Result<Vec<Dot>, Self::Error>;
    /// The number of the last erasure of a record.
    fn erasure(&mut self, key: &RecordKey) -> Result<Option<u64>, Self::Error>;
    /// Erasures after a number, in order, at most `limit`.
    fn erasures_after(&mut self, after: u64, limit: usize) -> Result<Vec<Erasure>, Self::Error>;
    /// The highest number that an erasure has; 0 if there was none.
    fn last_erasure(&mut self) -> Result<u64, Self::Error>;
    /// Records that name this one as a parent.
    fn dependants(&mut self, parent: &RecordKey) -> Result<Vec<RecordKey>, Self::Error>;
    /// Whether an origin was made for rescued ops.
    fn is_for_rescue(&mut self, origin: Origin) -> Result<bool, Self::Error>;
    /// Whether another origin goes on from this one, be it one that was made for rescued ops.
    fn is_followed(&mut self, origin: Origin) -> Result<bool, Self::Error>;
}

/// What the hub remembers on disk. Calls between two commits of the caller are one transaction.
pub trait Store: Snapshot {
    /// Begins another epoch, because a gateway showed that this hub was put back to an older state and nobody had said so. It
    /// began where this program found the numbers when it was started. `card` is the gateway, or the one whose card it is a copy
    /// of; `None` if boxes with its card have said so as often as they may for now, since all gateways pay for it.
    fn new_epoch(&mut self, card: Device, now_ms: u64) -> Result<Option<Epoch>, Self::Error>;
    /// Counts that a gateway is to go on under another origin because its history does not fit. Whether it may: boxes with copies
    /// of one card that nothing tells apart send each other on like that for ever, and numbers are not without end.
    fn may_begin_anew(&mut self, device: Device) -> Result<bool, Self::Error>;
    /// Counts that an origin of a gateway which this hub has forgotten is taken in, or one is made for what a file of its card holds.
    /// Whether it may be: both can be made up.
    fn may_take_in(&mut self, device: Device) -> Result<bool, Self::Error>;
    /// Takes the next number.
    fn next(&mut self) -> Result<HubSeq, Self::Error>;
    /// A new origin number, never given before.
    fn new_origin(&mut self, device: Device, after: Origin) -> Result<Origin, Self::Error>;
    /// Takes down whose an origin is that was given in a time which this hub has lost, and one from which it goes on.
    fn claim_origin(&mut self, device: Device, origin: Origin, after: Origin) -> Result<(), Self::Error>;
    /// Takes in again a gateway that was parted from another in a time which this hub has lost.
    fn claim_twin(&mut self, twin: &Gateway) -> Result<(), Self::Error>;
    /// A new origin number for rescued ops: no gateway speaks under it.
    fn rescue_origin(&mut self, device: Device, after: Origin) -> Result<Origin, Self::Error>;
    /// Notes under which number an op is here that a rescued file has under another.
    fn note_rescued(&mut self, old: Dot, new: Dot) -> Result<(), Self::Error>;
    /// Parts a twin from a gateway: a new enrolment with the same view, the key of [`DeviceKey::part`], this print, and an
    /// origin after `after`. One that was made for the same print and never spoke is given again.
    fn part(&mut self, gateway: &Gateway, after: Origin, print: Short) -> Result<Gateway, Self::Error>;
    /// Replaces what is known of a gateway.
    fn set_gateway(&mut self, gateway: &Gateway) -> Result<(), Self::Error>;
    /// Moves a stream on.
    fn set_mark(&mut self, origin: Origin, stream: Stream, mark: &Mark) -> Result<(), Self::Error>;
    /// Adds an op to the history under its number.
    fn append(&mut self, arrived: &Arrived<'_>, hseq: HubSeq, is_held: bool) -> Result<(), Self::Error>;
    /// Adds to the history what an op replaced.
    fn remember(&mut self, key: &RecordKey, replaced: &[Superseded]) -> Result<(), Self::Error>;
    /// Replaces a record, its line in the log and its part in the digest of its scope. `parents` are those it names.
    fn keep(&mut self, key: &RecordKey, record: Record, parents: &[RecordKey]) -> Result<(), Self::Error>;
    /// Notes in the log that a record left a scope, or news for a device.
    fn log(&mut self, line: &LogLine) -> Result<(), Self::Error>;
    /// Puts an op into quarantine, or changes why it is there. `waits_for` are the records whose arrival frees it.
    fn hold(&mut self, held: &HeldOp, waits_for: &[RecordKey]) -> Result<(), Self::Error>;
    /// Takes an op out of quarantine.
    fn unhold(&mut self, dot: Dot) -> Result<Option<HeldOp>, Self::Error>;
    /// Remembers an erasure, for ever.
    fn note_erasure(&mut self, erasure: &Erasure) -> Result<(), Self::Error>;
    /// Puts an op that was erased in the place of what the history has under its number. Chain and number stay, and
    /// [`Snapshot::op_hash`] goes on telling this hash of what was written.
    fn erase_op(&mut self, erased: &Op, hash: Short) -> Result<(), Self::Error>;
    /// Forgets which values of a record were replaced, and why its ops were held.
    fn forget_replaced(&mut self, key: &RecordKey) -> Result<(), Self::Error>;
}
