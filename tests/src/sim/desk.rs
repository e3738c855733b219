//! What is done at the hub, as its admins and `server-stub` do it, and what befalls it.

use rusqlite::ErrorCode;
use server_stub::{HubError, StoreError};
use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::{Captured, Store as _};
use sync_protocol::hub::{self, Gateway, HeldOp, Mark, Snapshot as _, Store as _, ViewNews};
use sync_protocol::id::{Dot, Epoch, Origin, RecordKey, Scope, Seq, Stream};

use super::centre::room;
use super::event::Act;
use super::oracle::{self, Standing};
use super::world::{World, wish};
use super::{Failure, Fault, Kind, app, fleet};

const DAY_MS: i64 = 86_400_000;

/// Why waits what came of a gateway that was shut out.
const CAME_OUT: &str = "came from a gateway that was revoked";

impl World<'_> {
    pub(super) fn hub_write(&mut self, id: u8, key: RecordKey, act: Act) -> Result<(), Failure> {
        let read = self.hub.store.record(&key).unwrap();
        let waits = |held: &&HeldOp| held.op.key == key && held.op.stamp.dot.origin == Origin::HUB;
        if !self.faults.has(Fault::Blind) && self.hub.store.quarantine().iter().any(waits) {
            return Ok(());
        }
        let Some(intent) = app::intent(act, id, &key, read.as_ref(), fleet::PLACES[0]) else { return Ok(()) };
        let ops = self.with_lost(&key, self.hub.store.history().collect());
        let mut saw = read.as_ref().map(|record| self.oracle.contained(record, &ops)).unwrap_or_default();
        self.with_losers(&mut saw, &key, self.hub.store.replaced());
        self.with_losers(&mut saw, &key, &self.lost);
        let wish = wish(id, &key, intent, (self.now_ms, TimeQuality::Good), None);
        let home = Scope::new(fleet::PLACES[0]).unwrap();
        let before = self.hub.store.clone();
        let written = self.hub.now(self.now_ms as u64, |store| Ok(hub::write(store, wish, &home)?));
        if written.is_err() {
            self.hub.store = before;
        }
        let Captured { op, .. } = match written {
            Ok(written) => written.captured,
            Err(HubError::Edit(_)) => return Ok(()),
            Err(HubError::Store(StoreError::Sql(error))) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                return Ok(());
            }
            Err(error) => return Err(Failure::new(Kind::Refused, format!("hub, w{id}: {error}"))),
        };
        if let Some(dot) = op {
            let op = self.hub.store.history().find(|op| op.stamp.dot == dot).cloned().expect("the op just written");
            self.promise(id, op, act, saw, Standing::Kept);
        }
        Ok(())
    }

    pub(super) fn publish(&mut self, nth: usize) {
        self.hub.version += 1;
        if let Some(shelf) = &mut self.hub.shelf {
            shelf.store().publish(self.now_ms, &fleet::rules_text(nth, self.hub.version)).unwrap();
        }
        self.hub.store.publish(fleet::rules(nth, self.hub.version));
        hub::review_all(&mut self.hub.store).unwrap();
    }

    /// As the hub's desk does it. What is dropped nobody can be asked to keep any more.
    pub(super) fn decide(&mut self, nth: usize, lets_go: bool) {
        let waiting: Vec<&HeldOp> =
            self.hub.store.quarantine().into_iter().filter(|held| held.device.is_some()).collect();
        let Some(held) = waiting.get(nth % waiting.len().max(1)).map(|held| (*held).clone()) else { return };
        let first = hub::first_held(&mut self.hub.store, &held).unwrap();
        let decided = self.hub.now(self.now_ms as u64, |store| match lets_go {
            true => hub::release(store, first),
            false => hub::discard(store, first, "dropped"),
        });
        let dropped = self.hub.store.history().find(|op| op.stamp.dot == first).and_then(|op| oracle::id_of(&op.stamp));
        if let (Some(_), Some(id), false) = (room(decided), dropped, lets_go) {
            self.oracle.set(id, Standing::Dropped);
        }
    }

    /// As the hub's desk does it.
    pub(super) fn revoke(&mut self, at: usize, is_out: bool) {
        let device = self.sites[at].store.state().unwrap().device;
        let Some(known) = self.hub.store.gateway(device).unwrap().filter(|known| known.is_revoked != is_out) else {
            return;
        };
        let done = self.hub.now(self.now_ms as u64, |store| match is_out {
            true => store.set_gateway(&Gateway { is_revoked: true, ..known }),
            false => hub::allow(store, device).map(drop),
        });
        self.is_any_out |= room(done).is_some() && is_out;
    }

    /// Everybody is let in again; and what came of a card under a number that it has given up since, a person lets go.
    pub(super) fn allow_all(&mut self) {
        let fleet = self.hub.store.gateways().unwrap();
        for known in fleet.iter().filter(|known| known.is_revoked) {
            self.hub.now(self.now_ms as u64, |store| hub::allow(store, known.device)).unwrap();
        }
        let came_out = |held: &&HeldOp| held.for_person && held.reason == CAME_OUT;
        while let Some(dot) = self.hub.store.quarantine().into_iter().find(came_out).map(|held| held.op.stamp.dot) {
            let let_go = self.hub.now(self.now_ms as u64, |store| hub::release(store, dot));
            assert!(let_go.unwrap(), "it waits");
        }
        self.is_any_out = false;
    }

    /// As `server-stub` does it.
    pub(super) fn assign(&mut self, at: usize, view: usize) {
        let device = self.sites[at].store.state().unwrap().device;
        let Some(mut known) = self.hub.store.gateway(device).unwrap() else { return };
        let scopes = fleet::scopes(view);
        known.backfill |= scopes.iter().any(|scope| !known.scopes.iter().any(|old| old.covers(scope)));
        (known.view, known.scopes) = (ViewNews::Changed, scopes);
        self.hub.now(self.now_ms as u64, |store| store.set_gateway(&known)).unwrap();
    }

    /// As `outpost-hub backup` does it: what it holds survives the loss of the hub.
    pub(super) fn back_up(&mut self) {
        self.hub.backup = Some(self.hub.store.clone());
        if let Some(shelf) = &mut self.hub.shelf {
            shelf.back_up(self.now_ms);
        }
        let store = &mut self.hub.store;
        let dots: Vec<Dot> = store.history().map(|op| op.stamp.dot).collect();
        // The hub's own streams may have skipped numbers without an op.
        let own = Stream::ALL.map(|stream| Dot { origin: Origin::HUB, stream, seq: Seq(0) });
        for dot in dots.into_iter().chain(own) {
            let mark = store.mark(dot.origin, dot.stream).unwrap();
            store.set_mark(dot.origin, dot.stream, &Mark { durable: mark.acked, ..mark }).unwrap();
        }
    }

    pub(super) fn restore(&mut self, is_told: bool) -> Result<(), Failure> {
        let Some(store) = self.hub.backup.clone() else { return Ok(()) };
        // Nobody has a backup there at once.
        self.now_ms += DAY_MS;
        let epoch = Epoch(self.hub.store.epoch().unwrap().0 + 1);
        self.lost.extend_from_slice(self.hub.store.replaced());
        self.hub.store = store.restored(is_told, epoch, self.now_ms as u64);
        if let Some(shelf) = &mut self.hub.shelf {
            shelf.restore(self.now_ms, is_told.then_some(epoch));
        }
        self.hub.check_shelf()?;
        self.hub.paused.clear();
        self.was_restored = true;
        self.sites.iter_mut().for_each(|site| site.is_suspect = true);
        self.forgive();
        Ok(())
    }
}
