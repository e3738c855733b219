//! What the store tells: plain values for the API, the command line and the sync loop.

use std::path::PathBuf;

use serde_json::Value as Json;
use sync_protocol::gateway::GatewayState;
use sync_protocol::id::{Dot, FieldName, HubSeq, RecordId, RecordKey, RecordType, Scope, Stream};
use sync_protocol::merge::{Presence, Superseded};
use sync_protocol::record::{self, Op, Record};
use zeroize::Zeroizing;

use super::check::Damage;
use super::retention::Retention;
use super::upkeep::Upkeep;

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub key: RecordKey,
    /// What is shown of it.
    pub record: Record,
    /// Version tag of what is shown.
    pub etag: String,
    /// Whether it is there.
    pub presence: Presence,
    /// Whether own writes on it have yet to be confirmed.
    pub is_pending: bool,
    /// Whether the hub knows it.
    pub is_confirmed: bool,
    /// The hub's number of its last confirmed change; 0 if there is none.
    pub confirmed_changed: HubSeq,
    /// Where it belongs.
    pub scope: Scope,
    /// Its place in the change feed.
    pub feed: u64,
    /// Fields in which more than one value stands.
    pub conflicts: u64,
}

/// A record in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// It can be read.
    Stored(Stored),
    /// It is here, and the card has damaged it.
    Unreadable(RecordKey),
}

/// What to list.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The type.
    pub record_type: RecordType,
    /// All of these must hold.
    pub filters: Vec<Filter>,
    /// Begin after this id.
    pub after: Option<RecordId>,
    /// At most so many.
    pub limit: usize,
}

/// A field must have a value. Text is also compared with how a number or truth value is written, for query strings.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Keys from the top of the record.
    pub path: Vec<String>,
    /// The value.
    pub value: Json,
}

/// One step in the history of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A write of this gateway.
    Own(Box<OwnEntry>),
    /// A change that came from the hub and replaced something here.
    Hub(HubEntry),
    /// A row that cannot be read any more.
    Damaged {
        /// Its number in the table `history`.
        number: i64,
    },
}

/// A write of this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnEntry {
    /// The write, with who, when and what.
    pub op: Op,
    /// What became of it.
    pub fate: OpState,
    /// Why, if it was parked or discarded.
    pub reason: String,
    /// The hub's number; 0 until it is confirmed.
    pub hseq: HubSeq,
    /// The cells that it changed, as they were. A field that was absent has a register without entries.
    pub before: Record,
    /// Values that it did not just change but overruled, or that overruled it.
    pub superseded: Vec<Superseded>,
    /// Tag of the record before it; `None` if there was no such record.
    pub etag_before: Option<String>,
}

/// A change from the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubEntry {
    /// When it was integrated here, milliseconds since 1970 by the clock of this box.
    pub at_ms: i64,
    /// The cells that it changed, as they were.
    pub before: Record,
    /// Values that are no longer current, with what stands instead.
    pub superseded: Vec<Superseded>,
    /// Tag of the record before it; `None` if what is shown did not change.
    pub etag_before: Option<String>,
}

/// What became of an own op.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpState {
    /// Not known to the hub yet.
    Pending,
    /// Applied by the hub.
    Confirmed,
    /// In quarantine at the hub.
    Parked,
    /// Dropped by a person.
    Discarded,
}

impl OpState {
    /// Its name for apps.
    pub fn name(self) -> &'static str {
        match self {
            OpState::Pending => "pending",
            OpState::Confirmed => "confirmed",
            OpState::Parked => "parked",
            OpState::Discarded => "discarded",
        }
    }
}

/// One change in the feed. A record is in it once, at its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedItem {
    /// Where to go on from.
    pub feed: u64,
    /// The record.
    pub key: RecordKey,
    /// Its tag now; empty if it is gone.
    pub etag: String,
    /// Whether it is there.
    pub presence: Presence,
    /// It left this gateway's scopes.
    pub is_gone: bool,
}

/// Where a write is safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The record.
    pub key: RecordKey,
    /// The tag that the write was answered with.
    pub etag: String,
    /// It is stored here, or was and has been followed by others.
    pub is_here: bool,
    /// The hub has it.
    pub is_at_hub: bool,
    /// The hub keeps it, or one before it, in quarantine for this reason.
    pub parked: Option<String>,
}

/// A record that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The record.
    pub key: RecordKey,
    /// [`Presence::Review`] if a delete met an edit.
    pub presence: Presence,
    /// Fields with more than one value, the shown one first.
    pub fields: Vec<(FieldName, Vec<record::Entry>)>,
}

/// An own op in quarantine at the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The op.
    pub dot: Dot,
    /// Its record.
    pub key: RecordKey,
    /// Why.
    pub reason: String,
    /// Since when it is known here, milliseconds since 1970.
    pub since_ms: i64,
    /// What a person asked for and the hub has not been told yet: drop it, or try again.
    pub plea: Option<bool>,
}

/// An answer that was given under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Hash of the request, to tell a repetition from another request.
    pub hash: Vec<u8>,
    /// The answer, in the form that the API chose.
    pub body: Vec<u8>,
}

/// Where this gateway is enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The hub.
    pub hub_url: String,
    /// What the hub calls this gateway.
    pub name: String,
    /// The number it was given.
    pub device: u32,
    /// When, milliseconds since 1970.
    pub enrolled_ms: i64,
    /// By what it shows there who it is; `None` at a hub without TLS of its own.
    pub identity: Option<Identity>,
}

/// The key of a gateway, and what its hub gave for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate of the hub's authority, DER: whom the gateway trusts.
    pub authority: Vec<u8>,
    /// Its key, PKCS #8; never leaves this box.
    pub key: Zeroizing<Vec<u8>>,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// From when on it asks for the next, milliseconds since 1970.
    pub renew_ms: i64,
}

/// The key of an enrolment whose answer has not come yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Enrolling {
    /// For which code it is.
    pub mark: Vec<u8>,
    /// PKCS #8.
    pub key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("renew_ms", &self.renew_ms).finish_non_exhaustive()
    }
}

/// How the last syncs went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncReport {
    /// The last attempt, milliseconds since 1970; 0 if there was none.
    pub attempt_ms: i64,
    /// The last one that succeeded.
    pub success_ms: Option<i64>,
    /// Class of the last failure, if the last attempt failed.
    pub error_class: Option<String>,
    /// What failed.
    pub error: Option<String>,
    /// Bytes sent in all.
    pub bytes_up: u64,
    /// Bytes received in all.
    pub bytes_down: u64,
    /// Exchanges in all.
    pub exchanges: u64,
}

/// Everything that status shows, from the database alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Records that are there, by type.
    pub records: Vec<(RecordType, u64)>,
    /// The streams.
    pub streams: Vec<StreamStatus>,
    /// Own ops in quarantine.
    pub parked: u64,
    /// Records that wait for a person.
    pub conflicts: u64,
    /// Size of the database and its log.
    pub database_bytes: u64,
    /// What of the database is free, to be used before it grows.
    pub reusable_bytes: u64,
    /// Rows that cannot be read.
    pub damage: Damage,
    /// There was no room for what was written last; always `false` for a program that does not write.
    pub is_full: bool,
    /// How the last checks and the last backup went.
    pub upkeep: Upkeep,
    /// What was forgotten of the history.
    pub retention: Retention,
    /// Since when free pages of the file may hold what was erased, milliseconds since 1970.
    pub sweep_due_ms: Option<i64>,
    /// Databases that were broken and set aside.
    pub aside: Vec<PathBuf>,
    /// Ops captured in all under the present origin.
    pub captured: u64,
    /// The latest position of the change feed.
    pub feed: u64,
    /// Version of the rules in force.
    pub rules_version: u32,
    /// How the last syncs went.
    pub report: SyncReport,
    /// Where it is enrolled.
    pub enrolment: Option<Enrolment>,
    /// The sync state.
    pub state: GatewayState,
}

/// One stream in the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamStatus {
    /// The stream.
    pub stream: Stream,
    /// Ops that the hub does not have.
    pub unsent: u64,
    /// Ops that the hub has, and had in no backup when it told last.
    pub not_backed_up: u64,
    /// Ops in all.
    pub last: u64,
    /// When the oldest unsent one was captured, milliseconds since 1970.
    pub oldest_ms: Option<i64>,
}
