//! One gateway: a card, a program on it, and a link to the hub.
//!
//! Invariants: what leaves the box or is promised to an app is on the card. A power cut takes the program back to the card.

use std::collections::BTreeMap;

use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::{GatewayState, Store as _};
use sync_protocol::hub::Gateway;
use sync_protocol::id::{Epoch, RecordKey};
use sync_protocol::memory::MemoryGateway;
use sync_protocol::message::Request;
use sync_protocol::record::Record;
use sync_protocol::rules::Rules;

/// Requests and answers that a link can still bring.
const KEPT_MAX: usize = 4;

/// A gateway.
#[derive(Debug, Clone, Default)]
pub(super) struct Site {
    /// What tells its box from others.
    number: u8,
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
    /// The hub does not let it in.
    pub(super) is_denied: bool,
    /// Its card was exchanged for an older one, or runs twice: it may have to be enrolled anew.
    pub(super) is_suspect: bool,
}

/// A request under way.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) number: u32,
    pub(super) head: Request,
}

impl Site {
    /// A gateway that has just been enrolled.
    pub(super) fn enrolled(known: &Gateway, epoch: Epoch, rules: std::sync::Arc<Rules>) -> Site {
        let number = known.device.0 as u8;
        let mut site = Site { number, quality: TimeQuality::Good, ..Site::default() };
        site.insert(MemoryGateway::default());
        let mut state = site.store.state().unwrap();
        (state.device, state.origin, state.key) = (known.device, known.origin, known.key);
        (state.scopes, state.source, state.epoch) = (known.scopes.clone(), known.source, epoch);
        site.store.set_state(&state).unwrap();
        site.store.set_rules(rules).unwrap();
        site
    }

    /// A second box with an image of the card of another.
    pub(super) fn twin(number: u8, image: MemoryGateway, quality: TimeQuality) -> Site {
        let mut site = Site { number, quality, is_suspect: true, ..Site::default() };
        site.insert(image);
        site
    }

    /// Puts a card into this box, and starts it: a program tells the hub what box it is in when it was started.
    pub(super) fn insert(&mut self, card: MemoryGateway) {
        self.store = card;
        self.store.set_print([self.number; 8]);
        let state = self.store.state().unwrap();
        self.store.set_state(&GatewayState { told: false, ..state }).unwrap();
    }

    /// The program is about to write without syncing at once.
    pub(super) fn begin(&mut self) {
        if self.synced.is_none() {
            self.synced = Some(Box::new(self.store.clone()));
        }
    }

    /// All that was written is on the card. Gives the writes that can now be answered.
    pub(super) fn commit(&mut self) -> Vec<u8> {
        self.synced = None;
        std::mem::take(&mut self.waiting)
    }

    /// Back to the card. Gives the writes that nobody was promised.
    pub(super) fn power_cut(&mut self) -> Vec<u8> {
        if let Some(synced) = self.synced.take() {
            self.store = *synced;
        }
        self.asked = None;
        self.read.clear();
        std::mem::take(&mut self.waiting)
    }

    /// What is on the card.
    pub(super) fn card(&self) -> &MemoryGateway {
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
