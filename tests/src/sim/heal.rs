//! The end of every schedule: links work, programs are of one build, everybody syncs until nobody has news, and then all must be equal.

use sync_protocol::edit::render;
use sync_protocol::gateway::{Fate, GatewayState, Store as _};
use sync_protocol::hub::{Snapshot as _, review_all};
use sync_protocol::id::{FieldName, HubSeq, RecordKey};
use sync_protocol::record::Record;
use sync_protocol::rules::ScopeKey;

use super::builds::Build;
use super::exchange::room;
use super::oracle;
use super::world::World;
use super::{Failure, Fault, Kind};

/// Rounds in which everybody must have come to rest.
const ROUNDS_MAX: usize = 8;

impl World<'_> {
    /// Everybody syncs until nobody has news.
    pub(super) fn heal(&mut self) -> Result<(), Failure> {
        self.hub.paused.clear();
        self.hub.leave_pages(None);
        self.hub.build = Build::This;
        self.allow_all();
        for at in 0..self.sites.len() {
            self.leave_pages(at, None);
            self.commit(at);
            self.sites[at].build = Build::This;
            if self.faults.has(Fault::Restores) {
                self.tell_anew(at);
            }
        }
        for round in 0..ROUNDS_MAX {
            let before = self.standings();
            for at in 0..self.sites.len() {
                self.now_ms += 1_000;
                self.sync(at)?;
                self.check_status(at)?;
                self.check_step()?;
            }
            // An answer with a view has no digest, by which what is awaited is asked for; and to a copy of a card it is told once more.
            let is_awaited =
                round < 2 && self.sites.iter().any(|site| site.store.records().any(|(_, held)| held.awaits_whole));
            if self.standings() == before && !is_awaited {
                return Ok(());
            }
        }
        Err(Failure::new(Kind::Endless, format!("there is still news after {ROUNDS_MAX} rounds")))
    }

    /// A gateway says once a day what it is, so that a hub which lost its view unnoticed hears of it.
    fn tell_anew(&mut self, at: usize) {
        let told = self.sites[at].now(|store| {
            let state = store.state()?;
            store.set_state(&GatewayState { told: false, ..state })
        });
        let _ = room(told, &mut self.tally.full);
    }

    fn standings(&mut self) -> (HubSeq, Vec<(HubSeq, u64, u64)>) {
        let head = self.hub.store.head().unwrap();
        let of = |site: &mut super::site::Site| {
            let state = site.store.state().unwrap();
            (state.cursor, state.unsent(), state.repairs)
        };
        (head, self.sites.iter_mut().map(of).collect())
    }

    /// Nothing waits for what is there, and what follows a record is where that is.
    fn check_hub(&self) -> Result<(), Failure> {
        let says = |what: String| Err(Failure::new(Kind::Diverged, format!("hub: {what}")));
        let waiting = self.hub.store.quarantine().len();
        let mut anew = self.hub.store.clone();
        review_all(&mut anew).unwrap();
        if anew.quarantine().len() < waiting {
            return says(format!("{} of {waiting} wait for nothing", waiting - anew.quarantine().len()));
        }
        let rules = anew.rules().unwrap();
        for (key, record) in self.hub.store.records() {
            let ScopeKey::Parent(_) = rules.of(&key.record_type).scope else { continue };
            // Which of two places is right a person has to say.
            let is_settled = record.cells.get(FieldName::SCOPE).is_some_and(|cell| cell.rivals().is_empty());
            for parent in rules.parents(&key.record_type, &render(record)) {
                let place = anew.record(&parent).unwrap().filter(Record::is_placed).map(|parent| parent.scope());
                if is_settled && place.is_some_and(|place| place != record.scope()) {
                    return says(format!("{key} is not where {parent} is"));
                }
            }
        }
        Ok(())
    }

    /// Each gateway has of its scopes what the hub has, and nothing else but what waits in quarantine.
    pub(super) fn check_equal(&mut self) -> Result<(), Failure> {
        self.hub.check_shelf()?;
        self.check_hub()?;
        let held_at_hub = oracle::writes(self.hub.store.quarantine().into_iter().map(|held| &held.op));
        for at in 0..self.sites.len() {
            self.sites[at].check_card()?;
            // By now every copy of a card is told apart, and every gateway has heard that the hub was put back.
            self.check_acknowledged(at)?;
            let is_suspect = self.sites[at].is_suspect;
            let diverged = |what: String| Err(Failure::new(Kind::Diverged, format!("gateway {at}: {what}")));
            let store = &mut self.sites[at].store;
            let state = store.state().unwrap();
            self.tally.repairs += state.repairs;
            let was_held = |key: &RecordKey| self.hub.store.once_held().any(|op| op.key == *key);
            let is_excused = |key: &RecordKey| !self.faults.has(Fault::Freed) && was_held(key);
            for (key, record) in self.hub.store.records() {
                let held = store.record(key);
                match (state.is_in_view(&record.scope()), held) {
                    (true, None) => return diverged(format!("lacks {key}")),
                    (true, Some(held)) if held.confirmed.as_ref() != Some(record) => {
                        let fields = differing(held.confirmed.as_ref(), record);
                        return diverged(format!("{key} differs from the hub's in {fields}"));
                    }
                    (true, Some(held)) if !held.is_pending && held.visible != *record => {
                        return diverged(format!("{key} shows something else than is confirmed"));
                    }
                    (false, Some(held)) if !held.is_pending && !is_excused(key) => {
                        return diverged(format!("holds {key}"));
                    }
                    _ => {}
                }
            }
            let known = |key: &_| self.hub.store.records().any(|(k, _)| k == key);
            if let Some((key, _)) = store.records().find(|(key, held)| !held.is_pending && !known(key)) {
                return diverged(format!("holds {key}, which the hub does not have"));
            }
            let keys: Vec<_> = store.records().map(|(key, held)| (key.clone(), held.is_pending)).collect();
            for (key, is_pending) in keys {
                if store.pending(&key).unwrap().is_empty() == is_pending {
                    return diverged(format!("{key} counts as pending: {is_pending}"));
                }
            }
            let parked = store.own().filter(|(_, fate)| matches!(fate, Some(Fate::Parked(_)))).map(|(op, _)| op);
            let unheld = oracle::writes(parked) & !held_at_hub;
            if unheld != 0 && !is_suspect {
                return diverged(format!("counts {} as parked, which the hub does not hold", oracle::told(unheld)));
            }
            if store.digest(&state.scopes).unwrap() != self.hub.store.digest(&state.scopes).unwrap() {
                return diverged("the digests differ".to_owned());
            }
            if state.unsent() > 0 || state.unsure {
                return diverged("something is unsent".to_owned());
            }
        }
        Ok(())
    }
}

impl World<'_> {
    /// In which records a gateway differs from the hub now; for people.
    pub(super) fn difference(&mut self, at: usize) -> String {
        let store = &mut self.sites[at].store;
        let scopes = store.state().unwrap().scopes;
        let in_view = |record: &Record| scopes.iter().any(|scope| scope.covers(&record.scope()));
        let mut told = Vec::new();
        for (key, there) in self.hub.store.records().filter(|(_, record)| in_view(record)) {
            let here = store.record(key).and_then(|held| held.confirmed.as_ref());
            if here != Some(there) {
                told.push(format!("{key} in {}", differing(here, there)));
            }
        }
        let there = |key: &RecordKey| self.hub.store.records().any(|(k, record)| k == key && in_view(record));
        for (key, held) in store.records() {
            if held.confirmed.as_ref().is_some_and(in_view) && !there(key) {
                told.push(format!("{key}, which is not its own, pending: {}", held.is_pending));
            }
        }
        format!("gateway {at} differed: {}", told.join("; "))
    }
}

fn differing(here: Option<&Record>, there: &Record) -> String {
    let Some(here) = here else { return "everything: it is not confirmed".to_owned() };
    let names = here.cells.keys().chain(there.cells.keys());
    let mut names: Vec<_> =
        names.filter(|name| here.cells.get(*name) != there.cells.get(*name)).map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    names.join(", ")
}
