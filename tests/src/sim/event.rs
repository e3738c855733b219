//! What can happen in a simulated world, and how it is told.
//!
//! Everything that chance decides stands in the event, so that any part of a schedule can be played alone: an event that
//! makes no sense where it comes does nothing. The `Debug` form of an event is Rust that makes it again.

use std::fmt;

use super::builds::Build;
use super::fleet::{KEYS, PLACES, VIEWS};

/// One event. `at` is a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An app writes. `id` is never used twice: it is in the value and in the author.
    Write {
        /// Where.
        at: usize,
        /// Number of the write.
        id: u8,
        /// Which of [`KEYS`].
        key: usize,
        /// What.
        act: Act,
        /// The app edits a copy that it read before the last write.
        is_stale: bool,
        /// The commit follows at once. Otherwise the app waits for its answer, until something else commits.
        is_synced: bool,
    },
    /// Somebody at the centre writes.
    HubWrite {
        /// Number of the write.
        id: u8,
        /// Which of [`KEYS`].
        key: usize,
        /// What.
        act: Act,
    },
    /// Exchanges until there is no news, over a link that works.
    Sync {
        /// Who.
        at: usize,
    },
    /// The gateway makes a request and waits for the answer; one it waited for before is given up.
    Ask {
        /// Who.
        at: usize,
        /// Few bytes, both ways.
        is_thin: bool,
    },
    /// A request of the gateway arrives: the newest, or one before it.
    Serve {
        /// Whose.
        at: usize,
        /// How many newer ones there are.
        nth: usize,
        /// In which form it comes.
        shape: Shape,
        /// The hub pauses after so many steps (opened, each frame, granted), while others speak.
        pause: Option<u8>,
    },
    /// The hub goes on with a request over which it paused.
    GoOn {
        /// Whose.
        at: usize,
    },
    /// An answer to the request for which the gateway waits arrives.
    Take {
        /// Who.
        at: usize,
        /// How many newer ones there are.
        nth: usize,
        /// In which form it comes.
        shape: Shape,
        /// The power fails after so many commits.
        cut: Option<u8>,
    },
    /// The power fails at a gateway.
    PowerCut {
        /// Where.
        at: usize,
    },
    /// The power fails at the hub.
    HubPowerCut,
    /// The next power cut at the gateway falls into a sync of its card. In memory a commit has no middle.
    Torn {
        /// Where.
        at: usize,
        /// Decides what is left of what was being written.
        tear: u32,
    },
    /// The next power cut at the hub falls into a sync of its disk.
    HubTorn {
        /// Decides what is left of what was being written.
        tear: u32,
    },
    /// The card of a gateway has room for so many pages more. In memory there is always room.
    Full {
        /// Where.
        at: usize,
        /// Pages.
        pages: u8,
    },
    /// There is room again.
    Space {
        /// Where.
        at: usize,
    },
    /// The hub's disk has room for so many pages more. In memory there is always room.
    HubFull {
        /// Pages.
        pages: u8,
    },
    /// The hub's disk has room again.
    HubSpace,
    /// The gateway's wall clock jumps to this many days after 1970.
    Clock {
        /// Where.
        at: usize,
        /// Days.
        days: u32,
    },
    /// The gateway is started with a program of another build.
    Build {
        /// Where.
        at: usize,
        /// Which.
        build: Build,
    },
    /// The hub is started with a program of another build.
    HubBuild {
        /// Which.
        build: Build,
    },
    /// Other rules are published: one of three documents.
    Publish {
        /// Which.
        nth: usize,
    },
    /// A person at the centre decides on what waits in quarantine: on the first change of the same gateway to the same record.
    Decide {
        /// Which of those that wait.
        nth: usize,
        /// It is let go, and dropped otherwise.
        lets_go: bool,
    },
    /// An admin shuts a gateway out, or lets it in again.
    Revoke {
        /// Whom.
        at: usize,
        /// It is out from now on.
        is_out: bool,
    },
    /// An admin gives a gateway other scopes.
    Assign {
        /// Whom.
        at: usize,
        /// Which of [`VIEWS`].
        view: usize,
    },
    /// Somebody makes an image of the card.
    Image {
        /// Where.
        at: usize,
    },
    /// The image is put back.
    PutBack {
        /// Where.
        at: usize,
    },
    /// The image is started in another box.
    Clone {
        /// Whose.
        at: usize,
    },
    /// The gateway forgets of its own ops what may be forgotten.
    Forget {
        /// Where.
        at: usize,
        /// All that the hub has, and not only what is in a backup: as if the backup were as old as what is forgotten.
        is_early: bool,
    },
    /// The card damages a record that the hub has, and the program finds it.
    Damage {
        /// Where.
        at: usize,
        /// Which of [`KEYS`].
        key: usize,
        /// What is shown of it can still be read.
        is_shown: bool,
    },
    /// The hub is backed up.
    Backup,
    /// The hub is restored from its last backup.
    Restore {
        /// Whether its epoch is counted up.
        is_told: bool,
    },
}

/// What somebody does to a record. Values have the number of the write in them, except where a domain is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A new text in a field.
    Set(&'static str),
    /// One of few values.
    Pick(&'static str, u8),
    /// Takes a field away.
    Clear(&'static str),
    /// Adds a member to `tags`.
    Add,
    /// Takes the nth member out of `tags`.
    Take(u8),
    /// Appends to `log`.
    Append,
    /// Changes `stock` by so much.
    Count(i8),
    /// A text of a few kilobytes.
    Long,
    /// The record belongs to another of [`PLACES`].
    Move(usize),
    /// Deletes it.
    Delete,
    /// A person settles a field.
    Settle(&'static str),
    /// A person settles whether it is deleted.
    SettleDelete(bool),
}

/// In which form a message arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Whole.
    Whole,
    /// Cut after so many thousandths, and the connection with it.
    Torn(u16),
    /// With a bit flipped in the frames, at so many thousandths of them.
    Flipped(u16),
}

impl Event {
    /// The gateway that it is about.
    pub fn at(&self) -> Option<usize> {
        self.clone().at_mut().copied()
    }

    /// The gateway that it is about, to be exchanged.
    pub fn at_mut(&mut self) -> Option<&mut usize> {
        match self {
            Event::Write { at, .. }
            | Event::Sync { at }
            | Event::Ask { at, .. }
            | Event::Serve { at, .. }
            | Event::GoOn { at }
            | Event::Take { at, .. }
            | Event::PowerCut { at }
            | Event::Torn { at, .. }
            | Event::Full { at, .. }
            | Event::Space { at }
            | Event::Clock { at, .. }
            | Event::Build { at, .. }
            | Event::Revoke { at, .. }
            | Event::Assign { at, .. }
            | Event::Image { at }
            | Event::PutBack { at }
            | Event::Clone { at }
            | Event::Forget { at, .. }
            | Event::Damage { at, .. } => Some(at),
            Event::HubWrite { .. }
            | Event::HubPowerCut
            | Event::HubTorn { .. }
            | Event::HubFull { .. }
            | Event::HubSpace
            | Event::HubBuild { .. }
            | Event::Publish { .. }
            | Event::Decide { .. }
            | Event::Backup
            | Event::Restore { .. } => None,
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Set(field) => write!(f, "put {field}"),
            Act::Pick(field, n) => write!(f, "put {field} {n}"),
            Act::Clear(field) => write!(f, "remove {field}"),
            Act::Add => f.write_str("add to tags"),
            Act::Take(n) => write!(f, "take number {n} out of tags"),
            Act::Append => f.write_str("append to log"),
            Act::Count(n) => write!(f, "stock {n:+}"),
            Act::Long => f.write_str("put a long text"),
            Act::Move(place) => write!(f, "move to {}", PLACES[*place % PLACES.len()]),
            Act::Delete => f.write_str("delete"),
            Act::Settle(field) => write!(f, "settle {field}"),
            Act::SettleDelete(true) => f.write_str("settle: deleted"),
            Act::SettleDelete(false) => f.write_str("settle: not deleted"),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Whole => Ok(()),
            Shape::Torn(at) => write!(f, ", cut after {at}/1000"),
            Shape::Flipped(at) => write!(f, ", a bit flipped after {at}/1000 of the frames"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Write { at, id, key, act, is_stale, is_synced } => {
                let stale = if *is_stale { " on a stale copy" } else { "" };
                let synced = if *is_synced { "" } else { ", not yet synced" };
                write!(f, "gateway {at}: {} {act}{stale}{synced} (w{id})", KEYS[*key % KEYS.len()])
            }
            Event::HubWrite { id, key, act } => write!(f, "hub: {} {act} (w{id})", KEYS[*key % KEYS.len()]),
            Event::Sync { at } => write!(f, "gateway {at}: syncs until there is no news"),
            Event::Ask { at, is_thin } => {
                write!(f, "gateway {at}: asks{}", if *is_thin { " over a thin link" } else { "" })
            }
            Event::Serve { at, nth, shape, pause } => {
                write!(f, "link {at}: ")?;
                match nth {
                    0 => f.write_str("the request arrives")?,
                    n => write!(f, "the request before the last {n} arrives")?,
                }
                write!(f, "{shape}")?;
                pause.map_or(Ok(()), |n| write!(f, "; the hub pauses after {n} steps"))
            }
            Event::GoOn { at } => write!(f, "hub: goes on with gateway {at}"),
            Event::Take { at, nth, shape, cut } => {
                write!(f, "link {at}: ")?;
                match nth {
                    0 => f.write_str("the answer arrives")?,
                    n => write!(f, "the answer before the last {n} arrives")?,
                }
                write!(f, "{shape}")?;
                cut.map_or(Ok(()), |n| write!(f, "; power cut after {n} commits"))
            }
            Event::PowerCut { at } => write!(f, "gateway {at}: power cut, back to the last commit"),
            Event::HubPowerCut => f.write_str("hub: power cut, back to the last commit"),
            Event::Torn { at, tear } => write!(f, "gateway {at}: its next power cut falls into a sync (tear {tear})"),
            Event::HubTorn { tear } => write!(f, "hub: its next power cut falls into a sync (tear {tear})"),
            Event::Full { at, pages } => write!(f, "gateway {at}: its card has room for {pages} pages"),
            Event::HubFull { pages } => write!(f, "hub: its disk has room for {pages} pages"),
            Event::HubSpace => f.write_str("hub: its disk has room again"),
            Event::Space { at } => write!(f, "gateway {at}: its card has room again"),
            Event::Clock { at, days } => write!(f, "gateway {at}: its clock jumps to the year {}", 1970 + days / 365),
            Event::Build { at, build } => write!(f, "gateway {at}: goes on with {}", build.told()),
            Event::HubBuild { build } => write!(f, "hub: goes on with {}", build.told()),
            Event::Publish { nth } => write!(f, "hub: publishes rules {nth}"),
            Event::Decide { nth, lets_go: true } => write!(f, "hub: number {nth} of what waits is let go"),
            Event::Decide { nth, lets_go: false } => write!(f, "hub: number {nth} of what waits is dropped"),
            Event::Revoke { at, is_out: true } => write!(f, "hub: shuts gateway {at} out"),
            Event::Revoke { at, is_out: false } => write!(f, "hub: lets gateway {at} in again"),
            Event::Assign { at, view } => write!(f, "hub: gives gateway {at} {}", VIEWS[*view % VIEWS.len()].join(" ")),
            Event::Image { at } => write!(f, "gateway {at}: an image of the card is made"),
            Event::PutBack { at } => write!(f, "gateway {at}: the image is put back"),
            Event::Clone { at } => write!(f, "gateway {at}: the image is started in another box"),
            Event::Forget { at, is_early } => {
                let whose = if *is_early { "the hub has" } else { "a backup of the hub has" };
                write!(f, "gateway {at}: forgets old history that {whose}")
            }
            Event::Damage { at, key, is_shown } => {
                let what = if *is_shown { "what the hub confirmed" } else { "all" };
                write!(f, "gateway {at}: the card damages {what} of {}", KEYS[*key % KEYS.len()])
            }
            Event::Backup => f.write_str("hub: is backed up"),
            Event::Restore { is_told: true } => f.write_str("hub: restored from the backup, in a new epoch"),
            Event::Restore { is_told: false } => f.write_str("hub: restored from the backup, and nobody says so"),
        }
    }
}
