//! What can go wrong in the agent, and what follows from it.
//!
//! Every error has a [`Class`], told from its type and never from its text. A class has one action of the sync loop, one exit
//! code and one kind of HTTP problem; the hint says what a person can do next.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use rusqlite::ErrorCode;
use sync_protocol::error::{DecodeError, MergeError};
use sync_protocol::gateway::Refusal;

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The hub cannot be reached now: try again later, by itself.
    Offline,
    /// The other side, or the app, was told something it cannot take.
    Rejected,
    /// This gateway is not allowed in any more: a person has to act at the hub.
    Denied,
    /// The disk, the database or the program is at fault.
    Broken,
    /// The configuration or the command line is at fault.
    Config,
    /// The program is older than what it finds: another one has to be installed, and trying again is of no use.
    Outdated,
}

impl Class {
    /// The exit code of the program.
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

    /// Its name in status, logs and problems.
    pub fn name(self) -> &'static str {
        match self {
            Class::Offline => "offline",
            Class::Rejected => "rejected",
            Class::Denied => "denied",
            Class::Broken => "broken",
            Class::Config => "config",
            Class::Outdated => "outdated",
        }
    }

    /// The class of this name.
    pub(crate) fn named(name: &str) -> Option<Class> {
        let all = [Class::Offline, Class::Rejected, Class::Denied, Class::Broken, Class::Config, Class::Outdated];
        all.into_iter().find(|class| class.name() == name)
    }
}

/// Any failure of the agent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer from the hub: no network, no route, a timeout, a connection that broke.
    #[error("the hub could not be reached")]
    Offline(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something answered that is not a hub: most likely a sign-in page of the network.
    #[error("something answered that is not a hub (HTTP {0}); perhaps a sign-in page of this network")]
    Portal(u16),
    /// The hub is there but cannot serve now.
    #[error("the hub cannot serve now: {0}")]
    Busy(String),
    /// The hub is there, and takes nothing until there is room on its disk.
    #[error("the hub has no room now: {0}")]
    HubFull(String),
    /// The gateway itself did not do it, and said why and what to do next.
    #[error("{detail}")]
    Told {
        /// What kind of trouble it is.
        class: Class,
        /// What it said.
        detail: String,
    },
    /// The hub understood and did not take it.
    #[error("the hub did not take the request: {0}")]
    Rejected(String),
    /// The hub does not speak our version of the protocol.
    #[error("the hub speaks another version of the protocol: {0}")]
    Upgrade(String),
    /// The hub does not know this gateway, or no longer.
    #[error("the hub refused this gateway: {0}")]
    Denied(String),
    /// An admin has shut this gateway out.
    #[error("the hub has shut this gateway out")]
    Revoked,
    /// No hub knows this gateway yet.
    #[error("this gateway is not enrolled yet")]
    NotEnrolled,
    /// The configuration cannot be used.
    #[error("the configuration cannot be used: {0}")]
    Config(String),
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// A file that the command line names cannot be read.
    #[error("{} cannot be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder holds no gateway.
    #[error("there is no gateway in {}", .0.display())]
    NoGateway(PathBuf),
    /// Somebody else works on the folder, and goes on doing so.
    #[error("{} is in use: {who}", data_dir.display())]
    InUse {
        /// Which.
        data_dir: PathBuf,
        /// By whom.
        who: String,
    },
    /// The gateway's own program does not answer.
    #[error("the gateway that should listen on {address} does not answer")]
    NoAnswer {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Nothing more fits on the disk. What was not confirmed was not stored.
    #[error("the disk is full")]
    DiskFull(#[source] rusqlite::Error),
    /// Another program holds the database for too long.
    #[error("the database is in use by another program")]
    Locked(#[source] rusqlite::Error),
    /// The database file is damaged.
    #[error("the database is damaged")]
    Corrupt(#[source] rusqlite::Error),
    /// A record that is here cannot be read: the card has damaged it.
    #[error("the record is damaged and cannot be read")]
    Unreadable {
        /// Whether the hub has it, and will send it again.
        is_at_hub: bool,
    },
    /// SQLite failed otherwise.
    #[error("the database failed")]
    Database(#[source] rusqlite::Error),
    /// The database was written by a newer program.
    #[error(
        "the database was written by a newer version of outpost (format {found}; this program knows up to {known})"
    )]
    NewerDatabase {
        /// Format of the file.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// What opens the database was written by a newer program.
    #[error(
        "the key of the database was put away by a newer version of outpost (format {found} of {}; this program knows up to {known})",
        file.display()
    )]
    NewerSlots {
        /// Where it is.
        file: PathBuf,
        /// Format of the file.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// The database was written by an older program, and nobody has brought it up to date yet.
    #[error("the database was written by an older version of outpost (format {found}; this program needs {known})")]
    OlderDatabase {
        /// Format of the file.
        found: i64,
        /// The format that this program needs.
        known: i64,
    },
    /// The file is a database of something else.
    #[error("{} is not a database of outpost", .0.display())]
    NotOurs(PathBuf),
    /// The file is encrypted, and there is no key at hand.
    #[error("{} is encrypted, and nothing says where its key is", .0.display())]
    KeyNeeded(PathBuf),
    /// The key at hand is another one's.
    #[error("the key at hand is not the key of {}", .0.display())]
    WrongKey(PathBuf),
    /// The configuration asks for encryption, and the file is plain.
    #[error("{} is not encrypted, and the configuration says that it is to be", .0.display())]
    NotEncrypted(PathBuf),
    /// The key is not there now, and may come: a stick, a person, a link.
    #[error("{0}")]
    KeyAbsent(String),
    /// Another write that was to be committed together with this one made the disk fail; none of them was stored.
    #[error("nothing was stored, because the disk failed during the same commit")]
    GroupLost,
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// A file could not be read or written.
    #[error("a file could not be read or written")]
    Io(#[from] io::Error),
    /// Bytes from the hub or from disk that are not what they should be.
    #[error("a message or a stored value cannot be read")]
    Decode(#[from] DecodeError),
    /// Two gateways write under one identity.
    #[error("two gateways share one identity")]
    Twin(#[from] MergeError),
}

impl Error {
    /// Something that was not done, with the reason and what to do next.
    pub fn refused(detail: impl Into<String>) -> Self {
        Error::Told { class: Class::Rejected, detail: detail.into() }
    }

    /// A failure of the network.
    pub fn offline(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Error::Offline(Box::new(source))
    }

    /// What kind of trouble it is.
    pub fn class(&self) -> Class {
        match self {
            Error::Offline(_) | Error::Portal(_) | Error::Busy(_) | Error::HubFull(_) => Class::Offline,
            Error::Told { class, .. } => *class,
            Error::Rejected(_) | Error::Upgrade(_) | Error::InUse { .. } | Error::OlderDatabase { .. } => {
                Class::Rejected
            }
            Error::Denied(_) | Error::Revoked | Error::Twin(_) => Class::Denied,
            Error::Config(_)
            | Error::Usage(_)
            | Error::File { .. }
            | Error::NoGateway(_)
            | Error::Listen { .. }
            | Error::NotEnrolled
            | Error::KeyNeeded(_)
            | Error::KeyAbsent(_)
            | Error::WrongKey(_)
            | Error::NotEncrypted(_)
            | Error::NotOurs(_) => Class::Config,
            Error::NewerDatabase { .. } | Error::NewerSlots { .. } => Class::Outdated,
            Error::DiskFull(_)
            | Error::Locked(_)
            | Error::Corrupt(_)
            | Error::Unreadable { .. }
            | Error::Database(_)
            | Error::GroupLost
            | Error::Closed
            | Error::NoAnswer { .. }
            | Error::Io(_)
            | Error::Decode(_) => Class::Broken,
        }
    }

    /// The exit code of the program.
    pub fn exit_code(&self) -> u8 {
        self.class().exit_code()
    }

    /// What a person can do next, in one sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Error::Portal(_) => "Open a web page on this network and sign in, or use another network.",
            Error::Offline(_) | Error::Busy(_) => {
                "Nothing is lost: records are kept here and sent when there is a connection again."
            }
            Error::HubFull(_) => "Nothing is lost: records are kept here and sent when the hub has room again.",
            Error::Told { .. } => "",
            Error::Rejected(_) => "Nothing is lost. Tell the hub's admin what this message says.",
            Error::Upgrade(_) => "Install the version of outpost that the hub's admin offers.",
            Error::Denied(_) => {
                "Ask the hub's admin to enrol this gateway again; captured records stay here until then."
            }
            Error::Revoked => {
                "What is saved here is kept, and waits at the hub for its admin, who can let the gateway in again or give a new code."
            }
            Error::Twin(_) => "A card was copied or restored: ask the hub's admin which gateway is the real one.",
            Error::NotEnrolled => "Ask the hub's admin for a code, then: outpost enroll CODE",
            Error::Config(_) => "Correct the configuration file and start again.",
            Error::Usage(_) => "--help after the command shows how it is used.",
            Error::File { .. } => "Check the path, and who may read there.",
            Error::NoGateway(_) => {
                "Check --data-dir. The service has its own in /var/lib/outpost; without the package `outpost run` makes a gateway in a new folder."
            }
            Error::InUse { .. } => "Wait until it has ended, or stop it, or name another folder with --data-dir.",
            Error::NoAnswer { .. } => {
                "Stop the program outpost, and start it again: sudo systemctl restart outpost, or outpost run"
            }
            Error::Listen { .. } => {
                "Stop the program that has this address (perhaps another outpost), or name another with --listen."
            }
            Error::NotOurs(_) => "Give the directory in which outpost keeps its data, or an empty one.",
            Error::KeyNeeded(_) => {
                "Say in [encryption] of the configuration where its key comes from. If the key is lost: outpost key recover"
            }
            Error::KeyAbsent(_) => "The service waits for it: bring the stick or the link, or run: outpost unlock",
            Error::WrongKey(_) => {
                "Nothing was changed. Give the key that it was encrypted with; if that is lost: outpost key recover"
            }
            Error::NotEncrypted(_) => {
                "Encrypt it: outpost key encrypt. Or take [encryption] out of the configuration, to go on as it is."
            }
            Error::DiskFull(_) | Error::GroupLost => "Free some space on the card and write again.",
            Error::Locked(_) => "Close other programs that have the database open, and try again.",
            Error::Corrupt(_) => {
                "Keep the card. When outpost is started, it sets a broken database aside and goes on with a new one; see `outpost doctor`."
            }
            Error::Unreadable { is_at_hub: true } => {
                "The hub has it and sends it again at the next sync. Read it then."
            }
            Error::Unreadable { is_at_hub: false } => {
                "It had not been sent, so only this card holds it. Keep the card, see `outpost doctor`, and write the record again from the paper."
            }
            Error::NewerDatabase { .. } => {
                "To use it, install the newer outpost again; the older one has not touched this database."
            }
            Error::NewerSlots { .. } => "Install the newer outpost again; the older one has changed nothing here.",
            Error::OlderDatabase { .. } => {
                "Start outpost, which brings it up to date, and try again: sudo systemctl start outpost, or outpost run"
            }
            Error::Closed => "The program is stopping; try again when it has started.",
            Error::Io(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                "The card takes no writes any more. Replace it: docs/swap-a-card.md says how. All on it can still be read."
            }
            Error::Database(_) | Error::Io(_) => "Check the card and its free space, then try again.",
            Error::Decode(_) => "Run `outpost doctor`; if it finds nothing, report this with the log.",
        }
    }

    /// Whether the database file itself is no good, so that opening it again will not help.
    pub(crate) fn is_broken_file(&self) -> bool {
        use rusqlite::ffi::{SQLITE_IOERR_CORRUPTFS, SQLITE_IOERR_DATA, SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ};
        let unreadable = [SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_DATA, SQLITE_IOERR_CORRUPTFS];
        match self {
            Error::Corrupt(_) | Error::Decode(_) => true,
            Error::Database(error) => error.sqlite_error().is_some_and(|code| unreadable.contains(&code.extended_code)),
            _ => false,
        }
    }

    /// Whether the card did not read, which it may do a moment later.
    pub(crate) fn is_unread(&self) -> bool {
        let Error::Database(error) = self else { return false };
        error.sqlite_error().is_some_and(|code| code.extended_code == rusqlite::ffi::SQLITE_IOERR_READ)
    }

    /// The disk was too full for what somebody else wrote in the same commit.
    pub(crate) fn no_room() -> Error {
        Error::DiskFull(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None))
    }

    /// Something about a key that a person has to put right.
    pub(crate) fn key_trouble(detail: impl Into<String>) -> Error {
        Error::Told { class: Class::Config, detail: detail.into() }
    }

    /// The card stopped to take writes while the program was running.
    pub(crate) fn read_only_card() -> Error {
        let detail = "the card takes no writes any more: start outpost again, and it serves and sends what is on it from memory; replace \
                      the card now";
        Error::Told { class: Class::Broken, detail: detail.to_owned() }
    }

    /// SQLite could not be given a key: this program was built with another one.
    pub(crate) fn unkeyed() -> Error {
        let detail = "this program was built without encryption of the database".to_owned();
        Error::Told { class: Class::Broken, detail }
    }

    /// What SQLite read without a complaint cannot stand in a sound database.
    pub(crate) fn corrupt() -> Error {
        Error::Corrupt(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None))
    }

    /// The same failure once more, for each of those that it befell together.
    pub(crate) fn again(&self) -> Error {
        let copy = |error: &rusqlite::Error| match error {
            rusqlite::Error::SqliteFailure(code, text) => rusqlite::Error::SqliteFailure(*code, text.clone()),
            _ => rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT), None),
        };
        match self {
            Error::DiskFull(e) => Error::DiskFull(copy(e)),
            Error::Locked(e) => Error::Locked(copy(e)),
            Error::Corrupt(e) => Error::Corrupt(copy(e)),
            Error::Database(e) => Error::Database(copy(e)),
            Error::Io(e) => Error::Io(io::Error::from(e.kind())),
            _ => Error::GroupLost,
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        if error.sqlite_error().is_some_and(|code| code.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE) {
            // The file by which connections share what they know of the log could not grow.
            return Error::DiskFull(error);
        }
        if let rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..) = &error
        {
            // The tables are strict: a value that is not of its column's type was not written by us.
            return Error::Corrupt(error);
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Error::DiskFull(error),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Locked(error),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Corrupt(error),
            _ => Error::Database(error),
        }
    }
}

impl From<Error> for Refusal<Error> {
    fn from(error: Error) -> Self {
        Refusal::Store(error)
    }
}
