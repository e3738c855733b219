//! A model checker over the real cores: every order of a few writes, exchanges and accidents, not only those that a seed
//! happens to choose.
//!
//! The state of the model ([`World`]) is a hub and its gateways on the stores in memory, with the messages that a link may
//! still bring; a step is a call of `sync-protocol` as the programs make it. Nothing is abstracted but time, which stands
//! still. What bounds the space is a [`Budget`]: how often each thing may happen. Within it everything happens at every
//! moment at which it can.
//!
//! # What is checked in every state
//! - No acknowledged write is lost, none is at the hub twice, and no dot ever stands for two contents at the hub.
//! - If accidents end here, the fleet comes to rest (`rest`): after that gateways and hub hold the same, every write counts
//!   exactly once, and no two boxes share an identity. This is checked from each state instead of as a property of whole
//!   paths, because it says more: wherever the accidents stop, ordinary exchanges are enough, and nobody has to be enrolled anew.
//!
//! # What the bounds cover
//! Each test of `tests` names its budget and how many states that came to. `tests/model` goes further.
//!
//! Not covered: time and clocks, views that change, quarantine, more than one record, requests whose steps at the hub are
//! overtaken by another's. The simulator (`sim`) plays those.

mod link;
mod rest;
mod tests;
mod world;

use stateright::Property;

use world::{Action, Budget, Setting, World};

/// What is checked: everything that this budget allows, from gateways that are freshly enrolled and from some that have
/// synced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fleet {
    /// What may happen, and how often.
    pub(crate) budget: Budget,
    /// How the boxes and the copies are.
    pub(crate) setting: Setting,
}

impl stateright::Model for Fleet {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::enrolled(self.budget, self.setting), World::running(self.budget, self.setting)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.possible(actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        Some(world.after(action))
    }

    fn properties(&self) -> Vec<Property<Fleet>> {
        vec![
            Property::always("no acknowledged write is lost", |_, world: &World| world.lost() == 0),
            Property::always("no write is at the hub twice", |_, world: &World| !world.is_doubled()),
            Property::always("no dot has two contents", |_, world: &World| !world.is_forged()),
            Property::always("the core does not panic", |_, world: &World| !world.has_panicked()),
            Property::always("who did nothing wrong keeps its name", |_, world: &World| world.rested().keeps_names),
            Property::always("nobody is shut out", |_, world: &World| world.rested().is_let_in),
            Property::always("the fleet comes to rest", |_, world: &World| world.rested().is_quiet),
            Property::always("at rest all hold the same", |_, world: &World| world.rested().is_equal),
            Property::always("at rest every write counts once", |_, world: &World| world.rested().is_exact),
            Property::always("at rest no two boxes share an identity", |_, world: &World| world.rested().is_told_apart),
            Property::sometimes("a copy becomes a gateway of its own", |_, world: &World| world.has_parted()),
            Property::sometimes("a gateway goes on under a new origin", |_, world: &World| world.has_new_origin()),
            Property::sometimes("the hub is in another epoch", |_, world: &World| world.has_new_epoch()),
        ]
    }
}
