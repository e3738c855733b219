//! What gateways hand in of incarnations that are over, after the hub was put back.

use std::fmt::Debug;
use std::io;
use sync_protocol::gateway::Store as _;

use sync_protocol::gateway::former::{hand_in, handed_in, owed};
use sync_protocol::gateway::rescue::{Old, Rescuer, Tally};
use sync_protocol::id::Origin;
use sync_protocol::message::{Response, Status, body, split_head};

use super::builds::Build;
use super::centre::Heard;
use super::event::Shape;
use super::exchange::room;
use super::world::World;
use super::{Failure, Kind};

/// Requests after which an incarnation must have been handed in.
const REQUESTS_MAX: usize = 100;
/// Bytes of ops in a request.
const UP_BYTES: usize = 1_000;

impl World<'_> {
    /// Hands in one after the other, as far as the hub takes them. Tells whether the hub has got something new by it.
    pub(super) fn hand_in(&mut self, at: usize) -> Result<bool, Failure> {
        let mut is_news = false;
        if self.sites[at].build == Build::This && self.hub.build == Build::This {
            for origin in owed(&self.sites[at].store.state().unwrap()) {
                let tally = self.hand_in_one(at, origin)?;
                is_news |= tally.in_place + tally.apart > 0;
            }
        }
        Ok(is_news)
    }

    /// Hands in one incarnation, as it is on the card or in memory.
    fn hand_in_one(&mut self, at: usize, origin: Origin) -> Result<Tally, Failure> {
        let site = &mut self.sites[at];
        let state = site.store.state().unwrap();
        let tally = match &site.card {
            Some(card) => {
                let (old, last) = card.old(origin);
                self.hand_in_all(at, old, hand_in(&state, origin, last))?
            }
            None => {
                let memory = site.store.clone();
                let old = memory.old(origin);
                let last = old.last();
                self.hand_in_all(at, old, hand_in(&state, origin, last))?
            }
        };
        if self.is_told {
            println!("  g{at} hands in origin {}: {tally:?}", origin.0);
        }
        if tally.waiting == 0 {
            let _ = room(self.sites[at].now(|store| handed_in(store, origin)), &mut self.tally.full);
        }
        Ok(tally)
    }

    fn hand_in_all<O: Old>(&mut self, at: usize, mut old: O, mut rescuer: Rescuer) -> Result<Tally, Failure>
    where
        O::Error: From<io::Error> + Debug,
    {
        for _ in 0..REQUESTS_MAX {
            let outgoing = rescuer.request(&mut old, &mut self.packers.up, UP_BYTES).unwrap();
            let Some(outgoing) = outgoing else { return Ok(rescuer.tally()) };
            let message = body(&outgoing.head.encode(), outgoing.frames);
            let now_ms = self.now_ms as u64;
            let heard = self.hub.hear(&mut self.packers.down, (at, 0), (&message, Shape::Whole), now_ms, None);
            // The hub has no room: it is done once more after the next sync.
            let Heard::Answer(answer) = heard else { return Ok(Tally { waiting: 1, ..rescuer.tally() }) };
            let answer = Response::decode(split_head(&answer).unwrap().unwrap().0).unwrap();
            if answer.status != Status::Ok && self.is_any_out {
                return Ok(Tally { waiting: 1, ..rescuer.tally() });
            }
            if answer.status != Status::Ok {
                return Err(Failure::new(Kind::Lost, format!("gateway {at} may not hand in: {:?}", answer.reason)));
            }
            rescuer.answered(&mut old, &answer).unwrap();
        }
        Err(Failure::new(Kind::Endless, format!("gateway {at} does not come to an end with what it was")))
    }
}
