//! Everything that can go wrong at the hub, and what class it is of.
//!
//! The class decides the exit code, the HTTP status and what a person is told to do next. It comes from types, never from text.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::ErrorCode;
use sync_protocol::edit::EditError;
use sync_protocol::error::{DecodeError, MergeError};
use sync_protocol::gateway::Refusal;
use sync_protocol::rules::RulesError;
use thiserror::Error;

use crate::oidc::{Refused, Trouble};

/// What the database reports.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// SQLite itself.
    #[error("the database failed")]
    Sql(#[source] Arc<rusqlite::Error>),
    /// Somebody else keeps the database for too long.
    #[error("the database is in use by another program")]
    Locked(#[source] Arc<rusqlite::Error>),
    /// Bytes on disk that do not decode.
    #[error("the database holds bytes that are not what they should be")]
    Damaged(#[source] Arc<DecodeError>),
    /// A rules document on disk that does not parse.
    #[error("the stored rules document does not parse")]
    Rules(#[from] RulesError),
    /// The compressor, or the file system.
    #[error("input or output failed")]
    Io(#[source] Arc<io::Error>),
    /// The database was written by a newer program.
    #[error(
        "the database was written by a newer version of outpost-hub (format {found}; this program knows up to {known})"
    )]
    Newer {
        /// What the file says.
        found: i64,
        /// What this program knows.
        known: i64,
    },
    /// It was put back as often as its numbers allow.
    #[error("this hub has had all the epochs that there are for it")]
    Epochs,
    /// The thread that writes has ended.
    #[error("the hub is shutting down")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked(Arc::new(error)),
            _ => StoreError::Sql(Arc::new(error)),
        }
    }
}

impl From<DecodeError> for StoreError {
    fn from(error: DecodeError) -> Self {
        StoreError::Damaged(Arc::new(error))
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        StoreError::Io(Arc::new(error))
    }
}

/// What an action at the hub can fail with.
#[derive(Debug, Error)]
pub enum HubError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file that cannot be read or written.
    #[error("{} cannot be used", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A configuration that cannot be used.
    #[error("configuration: {0}")]
    Config(String),
    /// A certificate that the hub was given ends in a few days, or cannot be used.
    #[error("{0}")]
    Ending(String),
    /// The directory holds no hub.
    #[error("there is no hub in {}", .0.display())]
    NoHub(PathBuf),
    /// Another program serves the directory.
    #[error("another outpost-hub serves {}", .0.display())]
    Served(PathBuf),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// A name, id, scope or path that is not well-formed.
    #[error(transparent)]
    Name(#[from] DecodeError),
    /// A rules document that cannot be used.
    #[error("the rules document was refused:\n{0}")]
    Rules(RulesError),
    /// A rules document that is not newer than the one in force.
    #[error("version {given} is not higher than version {present}, which is in force")]
    RulesVersion {
        /// Of the document.
        given: u32,
        /// In force.
        present: u32,
    },
    /// A rules document that gives a source another place.
    #[error("the sources must begin with those in force, in this order: {0}")]
    RulesSources(String),
    /// A write that breaks the rules.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A merge that is not possible.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// There is no such thing.
    #[error("there is no {0}")]
    Missing(String),
    /// There is one already, or it is not in the state that was expected.
    #[error("{0}")]
    Conflict(String),
    /// A gateway of this name is there already.
    #[error("a gateway named {0} exists already; a new code for it: outpost-hub gateway code {0}")]
    NameTaken(String),
    /// The code is for another gateway than the one that shows it.
    #[error("this code is for the gateway {wanted}, and the one that is to be enrolled is {known_as}")]
    OtherName {
        /// Whom the code is for.
        wanted: String,
        /// Who shows it.
        known_as: String,
    },
    /// A gateway shows what another hub confirmed, and nobody said that this one stands in its place.
    #[error("this hub does not know this gateway, which holds what another hub confirmed")]
    Stranger,
    /// There is nothing to settle there.
    #[error("{0}")]
    NotInConflict(String),
    /// A value that cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// An enrolment code that does not open anything.
    #[error("{0}")]
    Code(&'static str),
    /// A gateway does something more often in a day than it may.
    #[error("of one gateway so much is taken in a day, and no more")]
    TooOften,
    /// More wait already than may.
    #[error("too many people log in at this moment")]
    Busy,
    /// Too many wrong names, passwords or codes.
    #[error("too many tries to log in")]
    TooManyTries,
    /// A name, password or code that is wrong, or an account that is closed: which of them is not told.
    #[error("the name, the password or the code is wrong")]
    NotLoggedIn,
    /// A login at the provider that is refused.
    #[error(transparent)]
    Login(#[from] Refused),
    /// The login provider does not do what it should.
    #[error(transparent)]
    Provider(#[from] Trouble),
    /// Something that the role or the scopes of an account do not allow.
    #[error("{0}")]
    NotAllowed(String),
    /// There is no certificate, where one is needed.
    #[error("this connection shows no certificate of a gateway")]
    NoCertificate,
    /// A certificate that is not of this hub, or of another gateway.
    #[error("this is not the certificate of this gateway")]
    ForeignCertificate,
    /// A key that several boxes may hold, of which one was shut out: it does not tell which of them asks.
    #[error(
        "a gateway with this card, or with a copy of it, was revoked, so that its key shows nothing by itself any more"
    )]
    RevokedCard,
    /// A certificate that expired longer ago than the hub puts up with.
    #[error("the certificate of this gateway expired too long ago")]
    ExpiredCertificate,
    /// A request did not come as a proxy passes them on.
    #[error("{0}")]
    Proxied(&'static str),
    /// The audit is not what was written.
    #[error("the audit is not what was written:\n{0}")]
    Audit(String),
    /// Certificates cannot be made or used.
    #[error("certificates: {0}")]
    Certificate(String),
    /// The clock of this machine says what cannot be.
    #[error("the clock of the hub's machine says a time before this program was made")]
    Clock,
    /// The system has no randomness to give.
    #[error("no randomness from the operating system")]
    Random(#[source] getrandom::Error),
}

/// What to do about an error: one action, one exit code, one kind of HTTP answer for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Correct the configuration. Exit code 2.
    Config,
    /// Try again later. Exit code 3.
    Offline,
    /// Correct the input. Exit code 4.
    Rejected,
    /// Get permission. Exit code 5.
    Denied,
    /// Call somebody. Exit code 6.
    Broken,
    /// Install the newer program; trying again is of no use. Exit code 7.
    Outdated,
}

impl Class {
    /// The program's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Class::Config => 2,
            Class::Offline => 3,
            Class::Rejected => 4,
            Class::Denied => 5,
            Class::Broken => 6,
            Class::Outdated => 7,
        }
    }
}

impl HubError {
    /// The class of the error.
    pub fn class(&self) -> Class {
        match self {
            HubError::Config(_)
            | HubError::Ending(_)
            | HubError::Listen { .. }
            | HubError::File { .. }
            | HubError::Clock
            | HubError::NoHub(_) => Class::Config,
            HubError::Store(StoreError::Closed | StoreError::Locked(_))
            | HubError::Busy
            | HubError::TooManyTries
            | HubError::TooOften
            | HubError::Provider(_) => Class::Offline,
            HubError::Store(StoreError::Newer { .. }) => Class::Outdated,
            HubError::Store(_) | HubError::Random(_) | HubError::Certificate(_) | HubError::Audit(_) => Class::Broken,
            HubError::Code(_)
            | HubError::NotLoggedIn
            | HubError::Login(_)
            | HubError::NotAllowed(_)
            | HubError::NoCertificate
            | HubError::ForeignCertificate
            | HubError::RevokedCard
            | HubError::ExpiredCertificate
            | HubError::Proxied(_) => Class::Denied,
            _ => Class::Rejected,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            HubError::Config(_) => "`outpost-hub config default` prints a file that works",
            HubError::Ending(_) => "do it now: without a certificate that gateways take, nothing syncs",
            HubError::Listen { .. } => "choose another --listen address, or stop the program that uses it",
            HubError::File { .. } => "check the path and who may read and write it",
            HubError::Store(StoreError::Newer { .. }) => {
                "install the newer outpost-hub again; the older one has not touched this database"
            }
            HubError::Store(StoreError::Epochs) => {
                "revoke the gateway that says again and again that the hub was put back; or set up another hub in its place, and enrol \
                 its gateways there: outpost enroll --new-hub CODE"
            }
            HubError::Clock => {
                "set it, and let it be kept right (NTP): what gateways are told to be the time is the time of their records"
            }
            HubError::NoHub(_) => "check --data-dir; `outpost-hub serve` makes a hub in a new folder",
            HubError::Served(_) => "stop it first, or name another folder with --data-dir",
            HubError::Store(StoreError::Closed | StoreError::Locked(_)) | HubError::Busy => "try again in a moment",
            HubError::TooOften => {
                "the gateway is served again tomorrow; if it was not in good faith: outpost-hub gateway revoke NAME"
            }
            HubError::TooManyTries => "wait a quarter of an hour, then try again",
            HubError::NotLoggedIn => {
                "try again, or by the login provider if the account is linked to one; a new password is given at the hub's machine: outpost-hub admin password NAME"
            }
            HubError::Login(refusal) => refusal.hint(),
            HubError::Provider(trouble) => trouble.hint(),
            HubError::NotAllowed(_) => "ask somebody whose account may",
            HubError::Store(_) => "check the disk, then restore the newest backup of hub.db if it is damaged",
            HubError::Random(_) => "the operating system is broken; nothing was changed",
            HubError::Rules(_) => "correct what is listed; docs/rules.md tells what there can be",
            HubError::RulesSources(_) => {
                "put new sources at the end of `sources`; one that is not used any more stays in it"
            }
            HubError::RulesVersion { .. } => "raise `version` in the document",
            HubError::Code(_) => "ask the centre for a new code: outpost-hub gateway code NAME",
            HubError::NoCertificate
            | HubError::ForeignCertificate
            | HubError::RevokedCard
            | HubError::ExpiredCertificate => "the gateway has to be enrolled again: outpost-hub gateway code NAME",
            HubError::Proxied(_) => "check the proxy, and trusted_proxies in the configuration of the hub",
            HubError::Audit(_) => {
                "keep this file and its backups as they are, and compare: docs/operations.md says what can be told from what"
            }
            HubError::Certificate(_) => "nothing was changed; check the names that were given",
            HubError::Missing(_) => "check the spelling; lists show what there is",
            HubError::NameTaken(_) => "ask for its new code, or choose another name",
            HubError::OtherName { .. } => {
                "if it shall have the new name: outpost enroll --again CODE; the code still works"
            }
            HubError::Stranger => {
                "if this hub was put back to an older state, or stands in the place of one that is lost: outpost enroll --new-hub \
                 CODE, and it is shown all that is held; for the hub of somebody else begin with an empty data folder; the code \
                 still works"
            }
            HubError::NotInConflict(_) => "lists of conflicts show what waits; other fields are changed by an edit",
            HubError::Conflict(_) => "read it again, then decide",
            HubError::Name(_) | HubError::Edit(_) | HubError::Merge(_) | HubError::Invalid(_) => {
                "correct it and send it again"
            }
        }
    }
}

// Not as a source: what is wrong stands in the message, and a list is read once.
impl From<RulesError> for HubError {
    fn from(error: RulesError) -> Self {
        HubError::Rules(error)
    }
}

impl From<Refusal<StoreError>> for HubError {
    fn from(refusal: Refusal<StoreError>) -> Self {
        match refusal {
            Refusal::Edit(error) => HubError::Edit(error),
            Refusal::Merge(error) => HubError::Merge(error),
            Refusal::Store(error) => HubError::Store(error),
        }
    }
}
