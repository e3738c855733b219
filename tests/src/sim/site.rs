//! One gateway: a card, a program on it, and a link to the hub.
//!
//! Invariants: what leaves the box or is promised to an app is on the card. A power cut takes the program back to the card.
//! With a [`Card`] its store is on disk, and the one in memory is the witness beside it ([`super::in_step`]).

use std::collections::BTreeMap;
use std::path::PathBuf;

use agent::store::Failure as Undone;
use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::{GatewayState, Store as _};
use sync_protocol::hub::Gateway;
use sync_protocol::id::{Epoch, RecordKey};
use sync_protocol::memory::MemoryGateway;
use sync_protocol::message::Request;
use sync_protocol::record::Record;
use sync_protocol::rules::Rules;

use super::builds::Build;
use super::card::Card;
use super::in_step::OnCard;
use super::{Failure, Kind, same};

/// Requests and answers that a link can still bring.
const KEPT_MAX: usize = 4;

/// A gateway.
#[derive(Debug, Default)]
pub(super) struct Site {
    /// What tells its box from others.
    number: u8,
    /// Its folder, if it has one.
    pub(super) card: Option<Card>,
    /// What its program was built from.
    pub(super) build: Build,
    /// What the program sees.
    pub(super) store: MemoryGateway,
    /// What is on the card, if the program has written more than was synced.
    synced: Option<Box<MemoryGateway>>,
    /// Writes whose apps wait for an answer.
    pub(super) waiting: Vec<u8>,
    /// An image of the card.
    pub(super) image: Option<Box<MemoryGateway>>,
    /// The request to which it expects the answer.
    pub(super) asked: Option<Asked>,
    /// Requests that may still arrive, and arrive again, oldest first.
    pub(super) requests: Vec<(u32, Vec<u8>)>,
    /// Answers that may still arrive, oldest first.
    pub(super) answers: Vec<(u32, Vec<u8>)>,
    /// How far its clock is off.
    pub(super) clock_off_ms: i64,
    pub(super) quality: TimeQuality,
    /// Records as apps have read them some time ago.
    pub(super) read: BTreeMap<RecordKey, Record>,
    /// Its card was exchanged for an older one, or runs twice, or the hub was put back: it may be told to go on differently.
    pub(super) is_suspect: bool,
}

/// A request under way.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) number: u32,
    pub(super) head: Request,
}

/// What came of a power cut.
pub(super) struct End {
    /// It fell into a commit.
    pub(super) is_torn: bool,
    /// The commit that was under way was made.
    pub(super) survived: bool,
    /// Writes that nobody was promised.
    pub(super) waiting: Vec<u8>,
}

impl Site {
    /// A gateway that has just been enrolled.
    pub(super) fn enrolled(known: &Gateway, epoch: Epoch, rules: std::sync::Arc<Rules>, home: Option<PathBuf>) -> Site {
        let number = known.device.0 as u8;
        let mut site = Site { number, card: home.map(Card::new), quality: TimeQuality::Good, ..Site::default() };
        let enrol = |store: &mut OnCard<'_, '_>| -> Result<(), agent::error::Error> {
            let mut state = store.state()?;
            (state.device, state.origin, state.key) = (known.device, known.origin, known.key.clone());
            (state.scopes, state.source, state.epoch) = (known.scopes.clone(), known.source, epoch);
            store.set_state(&state)?;
            store.set_rules(rules)
        };
        site.now(enrol).unwrap();
        site.start();
        site
    }

    /// A second box with an image of the card of another.
    pub(super) fn twin(number: u8, image: MemoryGateway, card: Option<Card>, quality: TimeQuality) -> Site {
        let mut site = Site { number, store: image, card, quality, is_suspect: true, ..Site::default() };
        site.start();
        site
    }

    /// Starts the program: it tells the hub what box it is in.
    pub(super) fn start(&mut self) {
        self.store.set_print([self.number; 8]);
        self.tell().unwrap();
    }

    /// The next request says what box it is.
    pub(super) fn tell(&mut self) -> Result<(), agent::error::Error> {
        self.now(|store: &mut OnCard<'_, '_>| {
            let state = store.state()?;
            store.set_state(&GatewayState { told: false, ..state })
        })
    }

    /// Runs a transaction. It is on the card only when [`Site::commit`] says so; if it fails, it left nothing behind.
    pub(super) fn write<T: Send, E: Undone + Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut OnCard<'_, '_>) -> Result<T, E> + Send,
    ) -> Result<T, E> {
        let before = self.store.clone();
        let memory = &mut self.store;
        let done = match &mut self.card {
            Some(card) => card.store().write(|tx| act(&mut OnCard { disk: Some(tx), memory })),
            None => act(&mut OnCard { disk: None, memory }),
        };
        if done.is_err() {
            self.store = before;
        }
        done
    }

    /// Runs a transaction and commits it, when nothing else waits for a commit.
    pub(super) fn now<T: Send, E: Undone + Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut OnCard<'_, '_>) -> Result<T, E> + Send,
    ) -> Result<T, E> {
        if self.card.is_none() {
            return act(&mut OnCard { disk: None, memory: &mut self.store });
        }
        let before = self.store.clone();
        let done = self.write(act)?;
        if let Some(Err(error)) = self.card.as_mut().map(|card| card.store().commit()) {
            self.store = before;
            return Err(error.into());
        }
        Ok(done)
    }

    /// Whether the transaction that was under way is gone, because a full disk took it away.
    pub(super) fn has_lost(&mut self) -> bool {
        let has_begun = self.synced.is_some();
        self.card.as_mut().is_some_and(|card| has_begun && !card.store().is_under_way())
    }

    /// The program is about to write without syncing at once.
    pub(super) fn begin(&mut self) {
        if self.synced.is_none() {
            self.synced = Some(Box::new(self.store.clone()));
        }
    }

    /// Puts all that was written onto the card. Gives the writes that can now be answered, or those that were undone because
    /// there was no room.
    pub(super) fn commit(&mut self) -> Result<Vec<u8>, Vec<u8>> {
        let is_lost = self.has_lost() || self.card.as_mut().is_some_and(|card| card.store().commit().is_err());
        let waiting = std::mem::take(&mut self.waiting);
        match (self.synced.take(), is_lost) {
            (Some(synced), true) => {
                self.store = *synced;
                Err(waiting)
            }
            _ => Ok(waiting),
        }
    }

    /// Back to the card. If the power failed in the middle of a commit, it was made or it was not, but as a whole.
    pub(super) fn power_cut(&mut self) -> Result<End, Failure> {
        let later = std::mem::take(&mut self.store);
        let mut end = End { is_torn: false, survived: false, waiting: std::mem::take(&mut self.waiting) };
        let is_under_way = self.synced.is_some();
        self.store = self.synced.take().map_or_else(|| later.clone(), |synced| *synced);
        if let Some(card) = &mut self.card {
            end.is_torn = is_under_way && card.tear.is_some();
            card.power_cut();
            end.survived = end.is_torn && same::gateway_differs(card, &later).is_none();
        }
        if end.survived {
            self.store = later;
        }
        self.check_card()?;
        self.asked = None;
        self.read.clear();
        Ok(end)
    }

    /// Holds the card against its witness.
    pub(super) fn check_card(&mut self) -> Result<(), Failure> {
        let Some(card) = &mut self.card else { return Ok(()) };
        let faults = same::unsound(card, &self.store);
        match same::gateway_differs(card, &self.store) {
            _ if !faults.is_empty() => Err(Failure::new(Kind::Store, faults.join("; "))),
            Some(what) => Err(Failure::new(Kind::Store, format!("a card: {what}"))),
            None => Ok(()),
        }
    }

    /// What is on the card.
    pub(super) fn on_card(&self) -> &MemoryGateway {
        self.synced.as_deref().unwrap_or(&self.store)
    }

    /// Whether an own op has yet to reach the hub.
    pub(super) fn unsent(&mut self) -> super::oracle::Writes {
        let state = self.store.state().unwrap();
        let is_unsent = |op: &&sync_protocol::record::Op| {
            let dot = op.stamp.dot;
            dot.origin == state.origin && dot.seq > state.stream(dot.stream).acked
        };
        super::oracle::writes(self.store.own().map(|(op, _)| op).filter(is_unsent))
    }
}

/// Keeps a message for later, and the last few before it.
pub(super) fn keep(messages: &mut Vec<(u32, Vec<u8>)>, number: u32, body: Vec<u8>) {
    messages.push((number, body));
    if messages.len() > KEPT_MAX {
        messages.remove(0);
    }
}
