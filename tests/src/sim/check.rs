//! What must hold after every event.

use std::collections::BTreeSet;

use sync_protocol::gateway::{Store as _, StreamState};
use sync_protocol::id::{Dot, RecordKey, Seq};
use sync_protocol::record::{Op, State};

use super::oracle::{self, Standing, bit, id_of, number, told};
use super::world::World;
use super::{Failure, Fault, Kind, same};

impl World<'_> {
    /// What a gateway says of itself is so: what is unsent, in quarantine, at the hub, and safe from the loss of the hub.
    pub(super) fn check_status(&mut self, at: usize) -> Result<(), Failure> {
        // A copy of a card, or a hub that was put back, may not have been heard of yet.
        if !self.was_restored && !self.sites[at].is_suspect {
            self.check_acknowledged(at)?;
        }
        let says = |what: String| Err(Failure::new(Kind::Status, format!("gateway {at}: {what}")));
        let site = &mut self.sites[at];
        let mut memory = site.on_card().clone();
        let state = memory.state().unwrap();
        let is_left = |dot: Dot| {
            let at = state.stream(dot.stream);
            // Where nothing is left that can be sent, nothing counts.
            dot.origin == state.origin && dot.seq > at.acked && at.barren < at.last
        };
        let tail = memory.own().filter(|(op, _)| is_left(op.stamp.dot));
        // What the hub lost and was forgotten here counts until the hub has gone on over it.
        let gone = memory.forgotten().filter(|dot| is_left(*dot));
        let (left, told_left) = ((tail.count() + gone.count()) as u64, state.unsent());
        // Numbers that a card which was put back as well has left out, because somebody shows writes under them.
        let may_skip = self.was_restored && site.is_suspect && left > 0 && left < told_left;
        if left != told_left && !may_skip {
            return says(format!("{} count as unsent", state.unsent()));
        }
        match site.card.as_mut().and_then(|card| same::status_differs(card, &memory, may_skip)) {
            Some(what) => says(what),
            None => Ok(()),
        }
    }

    /// What counts as sent at a gateway is at the hub, and what counts as safe from the hub's loss is in its backup.
    pub(super) fn check_acknowledged(&mut self, at: usize) -> Result<(), Failure> {
        let says = |what: String| Err(Failure::new(Kind::Status, format!("gateway {at}: {what}")));
        let hub = oracle::writes(self.hub.store.history());
        let backup = self.hub.backup.as_ref().map_or(0, |backup| oracle::writes(backup.history()));
        // Over what another copy of the card has forgotten a hub that was put back goes on, for both.
        let passed: BTreeSet<Dot> = self.sites.iter().flat_map(|site| site.on_card().forgotten()).collect();
        let mut memory = self.sites[at].on_card().clone();
        let state = memory.state().unwrap();
        let upto = |which: fn(&StreamState) -> Seq| {
            let is_in = |op: &&Op| {
                let dot = op.stamp.dot;
                dot.origin == state.origin && dot.seq <= which(state.stream(dot.stream)) && !passed.contains(&dot)
            };
            oracle::writes(memory.own().map(|(op, _)| op).filter(is_in))
        };
        let (acked, durable) = (upto(|stream| stream.acked), upto(|stream| stream.durable));
        if acked & !hub != 0 {
            return says(format!("{} count as sent and are not at the hub", told(acked & !hub)));
        }
        if durable & !backup != 0 {
            return says(format!("{} count as safe and are in no backup", told(durable & !backup)));
        }
        Ok(())
    }

    /// Nothing acknowledged is lost, nothing is applied twice, nothing came that was never safe.
    pub(super) fn check_step(&mut self) -> Result<(), Failure> {
        let mut arrived = 0;
        for op in self.hub.store.history() {
            let Some(id) = id_of(&op.stamp) else { continue };
            if arrived & bit(id) != 0 && self.shows_twice(op, id) {
                return Err(Failure::new(
                    Kind::Twice,
                    format!("w{id} is at the hub under two numbers, and counts twice"),
                ));
            }
            arrived |= bit(id);
        }
        let early = arrived & self.oracle.with(Standing::Asked);
        if early != 0 {
            return Err(Failure::new(Kind::Early, format!("{} left before it was safe", told(early))));
        }
        let mut safe = arrived;
        for site in &mut self.sites {
            safe |= match self.was_restored {
                // What the hub lost is in the histories of the gateways, until they hear of it.
                true => oracle::writes(site.store.own().map(|(op, _)| op)),
                false => site.unsent(),
            };
        }
        let lost = self.oracle.with(Standing::Kept) & !safe;
        match lost {
            0 => Ok(()),
            lost => Err(Failure::new(Kind::Lost, format!("{}: neither at the hub nor about to be sent", told(lost)))),
        }
    }

    /// Whether a list shows what a write added more than once. Two boxes with copies of one card may bring the same write under
    /// two numbers, of which one must count for nothing; what that is for counters is told in the end.
    fn shows_twice(&self, op: &Op, id: u8) -> bool {
        let mut records = self.hub.store.records().filter(|(key, _)| **key == op.key);
        let cells = records.next().into_iter().flat_map(|(_, record)| record.cells.values());
        let mut logs = cells.filter_map(|cell| if let State::Log(log) = &cell.state { Some(log) } else { None });
        logs.any(|log| log.entries.iter().filter(|(.., value)| number(value) == Some(id)).count() > 1)
    }

    /// After a sync: no record outside of the scopes, unless own writes on it are pending.
    pub(super) fn check_view(&mut self, at: usize) -> Result<(), Failure> {
        let store = &mut self.sites[at].store;
        let state = store.state().unwrap();
        let was_held = |key: &RecordKey| self.hub.store.once_held().any(|op| op.key == *key);
        let is_excused = |key: &RecordKey| !self.faults.has(Fault::Freed) && was_held(key);
        for (key, held) in store.records() {
            let Some(confirmed) = &held.confirmed else { continue };
            if !state.is_in_view(&confirmed.scope()) && !held.is_pending && !is_excused(key) {
                let what = format!("gateway {at} holds {key}, which is in {}", confirmed.scope());
                return Err(Failure::new(Kind::View, what));
            }
        }
        Ok(())
    }
}
