//! The seeded simulator: a fleet of gateways and a hub on the real cores, with everything that goes wrong in the field.
//!
//! A [`Plan`] is a list of events that a seed decides ([`Plan::of`]). [`Plan::play`] plays it without a runtime and in virtual
//! time; then the links heal, everybody syncs, and all is compared. A plan that fails is made shorter event by event
//! ([`Plan::shrunk`]) and told as a story.
//!
//! # Where the stores are
//! [`On::Memory`]: each call of the core is one transaction, and a crash falls between two calls; fast, for the core alone.
//!
//! [`On::Disk`]: each gateway and the hub has a folder, opened by the code of the products. Beside each store is a witness
//! in memory, which answers every question of the core too, and must answer the same (`in_step`); the oracle looks into the
//! witnesses. A power cut leaves the files as they were at the last sync with any part of what was written since (`torn`, which
//! says why that is faithful and what it does not cover). Then the store is opened again, and must hold exactly what its
//! witness held before or after the commit that was under way. Images and clones of cards are copies of the files; the hub's
//! backup and restore are the product's own, a restore that nobody speaks of is a file copied back. A full disk is SQLite's own
//! limit on pages.
//!
//! Sockets and processes are not here: `tests/scenarios` kills those.
//!
//! # What is checked
//! After each event (`check`): every acknowledged write is at the hub or about to be sent; none is there twice; none left
//! its box before it was safe; a gateway that has synced holds nothing outside of its scopes; messages are bounded; who did
//! nothing wrong is not shut out; who speaks another version is told so, and nobody else; what a gateway says is unsent, in quarantine, at the hub or safe from its loss is so. After
//! healing (`heal`, `verdict`): the fleet comes to rest, gateways and hub are equal,
//! digests agree, and every promise was kept, told from what was promised and not by the rules of merging.
//!
//! `tests/simulate` plays as many schedules as one likes.

mod app;
pub mod builds;
pub(crate) mod card;
mod centre;
mod check;
mod desk;
pub mod event;
mod exchange;
pub mod faults;
pub mod fleet;
mod former;
mod heal;
mod in_step;
mod on;
mod oracle;
mod same;
mod schedule;
mod shelf;
mod shrink;
mod site;
pub(crate) mod torn;
mod trace;
mod verdict;
mod wire;
mod world;

#[cfg(test)]
mod found;
#[cfg(test)]
mod tests;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use event::Event;
pub use faults::{Fault, Faults};
pub use on::On;
pub use wire::Packers;
use world::World;

/// A schedule: gateways with what they are subscribed to, and what happens to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// For each gateway which of [`fleet::VIEWS`].
    pub views: Vec<usize>,
    /// What happens.
    pub events: Vec<Event>,
    /// What may happen by itself.
    pub faults: Faults,
}

/// What a schedule came to, if nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Writes that were taken.
    pub writes: u64,
    /// Requests made.
    pub exchanges: u64,
    /// Repairs by difference. Each is a bug somewhere.
    pub repairs: u64,
    /// Ops in quarantine at the end.
    pub held: u64,
    /// Times that a gateway went on under a new origin.
    pub new_origins: u64,
    /// Times that a gateway went back to where the hub is.
    pub rebases: u64,
    /// New origins and rebases of gateways whose card and hub had never been put back.
    pub needless: u64,
    /// Transactions for which a card had no room. This and the next two happen on disk only.
    pub full: u64,
    /// Commits into whose middle a power cut fell, and that were not made.
    pub torn: u64,
    /// Commits into whose middle a power cut fell, and that were made although nobody was told.
    pub survived: u64,
    /// Times that a gateway or the hub was told that the other speaks another version.
    pub upgrades: u64,
    /// Values that stand in conflict with one whose author had seen them.
    pub needless_rivals: u64,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Tally) -> Tally {
        Tally {
            writes: self.writes + other.writes,
            exchanges: self.exchanges + other.exchanges,
            repairs: self.repairs + other.repairs,
            held: self.held + other.held,
            new_origins: self.new_origins + other.new_origins,
            rebases: self.rebases + other.rebases,
            needless: self.needless + other.needless,
            full: self.full + other.full,
            torn: self.torn + other.torn,
            survived: self.survived + other.survived,
            upgrades: self.upgrades + other.upgrades,
            needless_rivals: self.needless_rivals + other.needless_rivals,
        }
    }
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An acknowledged write is gone.
    Lost,
    /// A write was applied twice.
    Twice,
    /// A write left its box before it was on the card.
    Early,
    /// A value, an entry or a part of a sum is gone, or too many of them are there.
    Vanished,
    /// A write replaced what its author had never seen.
    Claim,
    /// A deleted record is back, or one is deleted that should not be.
    Presence,
    /// A gateway holds what is outside of its scopes.
    View,
    /// A message is larger than any may be.
    Bounds,
    /// The fleet does not come to rest.
    Endless,
    /// Gateway and hub differ in the end.
    Diverged,
    /// A gateway that did nothing wrong is shut out.
    ShutOut,
    /// A head cannot be read; or who speaks another major version is not told so, or one who speaks the same is told that, or
    /// something changes with it.
    Version,
    /// The core would not take a write, although nothing is wrong with it.
    Refused,
    /// A store on disk holds something else than it was told, or is unsound.
    Store,
    /// What a gateway says of itself is not so.
    Status,
    /// The core panicked.
    Panic,
    /// Records had to be repaired. Fails only where that is asked for.
    Repair,
    /// A gateway had to go on under a new origin, or back, without a reason. Fails only where that is asked for.
    Needless,
    /// A conflict that is none. Fails only where that is asked for.
    Rival,
}

/// A failure: what, and at which event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which promise was broken.
    pub kind: Kind,
    /// In words.
    pub what: String,
    /// After so many events; all of them if it was in the end.
    pub after: usize,
}

impl Failure {
    fn new(kind: Kind, what: String) -> Failure {
        Failure { kind, what, after: 0 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

impl Plan {
    /// Plays the schedule, and fails also for what costs nothing but bytes if `is_strict`.
    ///
    /// # Errors
    /// The first [`Failure`].
    pub fn play(&self, packers: &mut Packers, is_strict: bool) -> Result<Tally, Failure> {
        let mut after = 0;
        let played = catch_unwind(AssertUnwindSafe(|| self.play_through(packers, &mut after)));
        let result = played.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(Failure::new(Kind::Panic, said.unwrap_or_default()))
        });
        let with_place = |failure| Failure { after, ..failure };
        let (tally, mismatch) = result.map_err(with_place)?;
        let fail = |kind, what: String| Err(with_place(Failure::new(kind, what)));
        match (mismatch, tally) {
            (Some(what), _) if is_strict => fail(Kind::Repair, what),
            (_, Tally { needless: 1.., .. }) if is_strict => fail(Kind::Needless, "without a reason".to_owned()),
            (_, Tally { needless_rivals: 1.., .. }) if is_strict => fail(Kind::Rival, "not a conflict".to_owned()),
            _ => Ok(tally),
        }
    }

    /// Plays the schedule once more and prints what is said in it: each event, request and answer, and in the end each gateway's
    /// records and the hub's. For whoever looks for the cause of a failure.
    pub fn tell(&self, packers: &mut Packers) {
        let told = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(&self.views, self.faults, packers);
            world.is_told = true;
            let ended = self.play_in(&mut world, &mut 0);
            world.tell_end();
            ended
        }));
        match told {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => println!("\n{failure}"),
            Err(_) => println!("\nthe core panicked"),
        }
    }

    fn play_through(&self, packers: &mut Packers, after: &mut usize) -> Result<(Tally, Option<String>), Failure> {
        let mut world = World::new(&self.views, self.faults, packers);
        self.play_in(&mut world, after)?;
        Ok((world.tally, world.mismatch))
    }

    fn play_in(&self, world: &mut World<'_>, after: &mut usize) -> Result<(), Failure> {
        for event in &self.events {
            *after += 1;
            world.tell(event);
            world.step(event)?;
        }
        world.tell(&"all heals");
        world.heal()?;
        world.check_equal()?;
        world.check_records()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, view) in self.views.iter().enumerate() {
            writeln!(f, "  gateway {at} has {}", fleet::VIEWS[view % fleet::VIEWS.len()].join(" "))?;
        }
        self.events.iter().try_for_each(|event| writeln!(f, "  {event}"))
    }
}
