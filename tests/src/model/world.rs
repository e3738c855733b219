//! The state of the model, and what each action does to it.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use serde_json::{Value as Json, json};
use sync_protocol::clock::TimeQuality;
use sync_protocol::digest::op_hash;
use sync_protocol::edit::render;
use sync_protocol::gateway::{self, Capture, Intent, Store as _};
use sync_protocol::hub::Snapshot as _;
use sync_protocol::id::{Author, Dot, Epoch, RecordKey, Scope, Source};
use sync_protocol::identity::DeviceKey;
use sync_protocol::memory::{MemoryGateway, MemoryHub};
use sync_protocol::message::{Request, Short};
use sync_protocol::record::{Op, Stamp};
use sync_protocol::rules::Rules;

use super::link;
use super::rest::Rest;

/// It is always this late.
pub(super) const NOW_MS: u64 = 1_780_000_000_000;
const FIRST_EPOCH: Epoch = Epoch(1);

/// Every kind of merge that an op applied twice, or never, would show in.
const RULES: &str = r#"
version = 1
[types.chart.fields]
notes = "append-only"
given = "counter"
tags = "set"
name = "keep-both"
"#;

/// How often each thing may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Budget {
    /// Writes of apps.
    pub(crate) writes: u8,
    /// Exchanges until there is no news, without a mishap.
    pub(crate) syncs: u8,
    /// Requests that are followed step by step: they and their answers may be lost, and anything may come between.
    pub(crate) asks: u8,
    /// Of those: messages that arrive again or in part.
    pub(crate) mishaps: u8,
    /// Of those: requests that arrive after the answer to a later copy of them was taken, or after the next request.
    pub(crate) lates: u8,
    /// Copies of the first card that are started in another box.
    pub(crate) clones: u8,
    /// Times that the first card is put back to an image.
    pub(crate) put_backs: u8,
    /// Times that the hub is put back to a backup.
    pub(crate) restores: u8,
}

/// How the boxes and the copies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Setting {
    /// Whether the box that runs a copy of a card can be told from the first.
    pub(crate) has_prints: bool,
    /// Whether an image may be taken of a card with writes on it that have yet to be sent: then both copies have them.
    pub(crate) shares_unsent: bool,
}

/// What can happen. Gateways are numbered; the first is the one whose card is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// An app writes; it is on the card when it is answered.
    Write(usize),
    /// Exchanges until there is no news.
    Sync(usize),
    /// A request leaves. The one before it, and its answer, are waited for no longer.
    Ask(usize),
    /// The request reaches the hub, which answers. Once more, if it already did.
    Serve(usize),
    /// The request before the last reaches the hub; nobody waits for the answer.
    Late(usize),
    /// The ops of the request reach the hub, and the connection ends before the answer is made.
    Cut(usize),
    /// The answer arrives.
    Take(usize),
    /// The head of the answer arrives, and the connection ends.
    TakeHead(usize),
    /// An image of the first card is taken.
    Image,
    /// The first card is put back to the image.
    PutBack,
    /// The image is started in a box of its own.
    Clone,
    /// The hub is backed up.
    Backup,
    /// The hub is put back to the backup; somebody says so, or nobody does.
    Restore(bool),
}

/// A value that is never changed in place, and a hash of all that is in it.
pub(super) struct Fixed<T> {
    pub(super) value: Arc<T>,
    hash: u64,
}

impl<T: fmt::Debug> Fixed<T> {
    pub(super) fn new(value: T) -> Fixed<T> {
        let mut hasher = HashText(DefaultHasher::new());
        let _ = fmt::Write::write_fmt(&mut hasher, format_args!("{value:?}"));
        Fixed { value: Arc::new(value), hash: hasher.0.finish() }
    }
}

impl<T> Clone for Fixed<T> {
    fn clone(&self) -> Fixed<T> {
        Fixed { value: Arc::clone(&self.value), hash: self.hash }
    }
}

/// Stores have no hash of their own; their text names everything in them but keys, which follow from the numbers of devices.
struct HashText(DefaultHasher);

impl fmt::Write for HashText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// A box with a card, and its link.
#[derive(Debug, Clone, Default)]
pub(super) struct Site {
    pub(super) card: MemoryGateway,
    /// The request to which it awaits the answer.
    pub(super) asked: Option<(Request, Vec<u8>)>,
    pub(super) is_served: bool,
    pub(super) answer: Option<Vec<u8>>,
    /// The request before it, which the link may still bring.
    pub(super) late: Option<Vec<u8>>,
}

/// A hub and its gateways.
#[derive(Clone)]
pub(crate) struct World {
    pub(super) hub: Fixed<MemoryHub>,
    pub(super) sites: Vec<Fixed<Site>>,
    image: Option<Fixed<MemoryGateway>>,
    backup: Option<Fixed<MemoryHub>>,
    /// Writes that were acknowledged to an app, a bit each; without those of which the last copy went with an accident.
    pub(super) kept: u32,
    written: u8,
    pub(super) was_restored: bool,
    pub(super) setting: Setting,
    /// What ever stood at the hub under each dot.
    contents: Arc<BTreeMap<Dot, Short>>,
    is_forged: bool,
    /// Nothing is true of it any more.
    has_panicked: bool,
    /// A card or the hub is not any more what it was.
    pub(super) was_harmed: bool,
    left: Budget,
    rest: OnceLock<Rest>,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.hub.hash.hash(to);
        self.sites.iter().for_each(|site| site.hash.hash(to));
        self.image.as_ref().map(|image| image.hash).hash(to);
        self.backup.as_ref().map(|backup| backup.hash).hash(to);
        (self.kept, self.written, self.was_restored, self.is_forged, self.has_panicked, self.left).hash(to);
        self.contents.values().for_each(|content| content.hash(to));
    }
}

impl PartialEq for World {
    fn eq(&self, other: &World) -> bool {
        let hash = |world: &World| {
            let mut hasher = DefaultHasher::new();
            world.hash(&mut hasher);
            hasher.finish()
        };
        hash(self) == hash(other)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states: Vec<_> = self.sites.iter().map(|site| site.value.card.clone().state()).collect();
        write!(f, "{:?} {states:?} {:?}", self.left, self.rest)
    }
}

impl World {
    /// Two gateways that have just been enrolled.
    pub(super) fn enrolled(budget: Budget, setting: Setting) -> World {
        let rules = Arc::new(Rules::parse(RULES).unwrap());
        let mut hub = MemoryHub::default();
        hub.publish(Arc::clone(&rules));
        hub.set_epoch(FIRST_EPOCH);
        let mut site = |key: u8| {
            let known = hub.enroll(vec![Scope::new("mw").unwrap()], Source::CLINIC, DeviceKey([key; 32]));
            let mut card = MemoryGateway::default();
            card.set_print([key; 8]);
            let mut state = card.state().unwrap();
            (state.device, state.origin, state.key) = (known.device, known.origin, known.key);
            (state.scopes, state.epoch) = (known.scopes, FIRST_EPOCH);
            card.set_state(&state).unwrap();
            card.set_rules(Arc::clone(&rules)).unwrap();
            Fixed::new(Site { card, ..Site::default() })
        };
        let sites = vec![site(1), site(2)];
        World {
            hub: Fixed::new(hub),
            sites,
            image: None,
            backup: None,
            kept: 0,
            written: 0,
            was_restored: false,
            setting,
            contents: Arc::default(),
            is_forged: false,
            has_panicked: false,
            was_harmed: false,
            left: budget,
            rest: OnceLock::new(),
        }
    }

    /// Two gateways that have each written and synced.
    pub(super) fn running(budget: Budget, setting: Setting) -> World {
        let mut world = World::enrolled(budget, setting);
        for at in [0, 1] {
            world.write(at);
            world.sync(at);
        }
        world.sync(0);
        world
    }

    /// All that can happen now.
    pub(super) fn possible(&self, actions: &mut Vec<Action>) {
        let left = &self.left;
        if self.has_panicked {
            return;
        }
        for (at, site) in self.sites.iter().map(|site| &site.value).enumerate() {
            let mut may = |is_possible: bool, action| {
                if is_possible {
                    actions.push(action);
                }
            };
            may(left.writes > 0, Action::Write(at));
            may(left.syncs > 0, Action::Sync(at));
            may(left.asks > 0, Action::Ask(at));
            may(site.asked.is_some() && (!site.is_served || left.mishaps > 0), Action::Serve(at));
            may(site.asked.is_some() && left.mishaps > 0, Action::Cut(at));
            may(site.late.is_some() && left.lates > 0, Action::Late(at));
            may(site.answer.is_some(), Action::Take(at));
            may(site.answer.is_some() && left.mishaps > 0, Action::TakeHead(at));
        }
        let copies = left.clones + left.put_backs > 0;
        match &self.image {
            Some(_) => {
                actions.extend((left.clones > 0).then_some(Action::Clone));
                actions.extend((left.put_backs > 0).then_some(Action::PutBack));
            }
            None if copies && (self.setting.shares_unsent || !self.has_unsent()) => actions.push(Action::Image),
            None => {}
        }
        match self.backup.is_some() {
            true if left.restores > 0 => actions.extend([Action::Restore(true), Action::Restore(false)]),
            false if left.restores > 0 => actions.push(Action::Backup),
            _ => {}
        }
    }

    fn has_unsent(&self) -> bool {
        self.sites[0].value.card.clone().state().is_ok_and(|state| state.unsent() > 0)
    }

    /// The world after an action.
    pub(super) fn after(&self, action: Action) -> World {
        let mut world = World { rest: OnceLock::new(), ..self.clone() };
        let went_well = catch_unwind(AssertUnwindSafe(|| world.happen(action))).is_ok();
        world.has_panicked |= !went_well;
        world.note_contents();
        world
    }

    fn happen(&mut self, action: Action) {
        match action {
            Action::Write(at) => {
                self.left.writes -= 1;
                self.write(at);
            }
            Action::Sync(at) => {
                self.left.syncs -= 1;
                self.sync(at);
            }
            Action::Ask(at) => {
                self.left.asks -= 1;
                self.change(at, link::ask);
            }
            Action::Serve(at) => {
                let is_again = self.sites[at].value.is_served;
                self.left.mishaps -= u8::from(is_again);
                let Some((_, body)) = self.sites[at].value.asked.clone() else { return };
                let answer = self.hear(&body, false);
                self.change(at, |site| (site.is_served, site.answer) = (true, answer));
            }
            Action::Late(at) => {
                self.left.lates -= 1;
                let late = self.sites[at].value.late.clone();
                self.change(at, |site| site.late = None);
                drop(late.map(|body| self.hear(&body, false)));
            }
            Action::Cut(at) => {
                self.left.mishaps -= 1;
                let Some((_, body)) = self.sites[at].value.asked.clone() else { return };
                drop(self.hear(&body, true));
            }
            Action::Take(at) => self.change(at, |site| {
                link::take(site, false);
            }),
            Action::TakeHead(at) => {
                self.left.mishaps -= 1;
                self.change(at, |site| {
                    link::take(site, true);
                });
            }
            Action::Image => self.image = Some(Fixed::new(self.sites[0].value.card.clone())),
            Action::PutBack => {
                self.left.put_backs -= 1;
                self.was_harmed = true;
                let card = self.started(None);
                self.change(0, |site| *site = Site { card, late: site.late.take(), ..Site::default() });
                self.forgive();
            }
            Action::Clone => {
                self.left.clones -= 1;
                self.was_harmed = true;
                let card = self.started(self.setting.has_prints.then_some([3; 8]));
                self.sites.push(Fixed::new(Site { card, ..Site::default() }));
            }
            Action::Backup => self.backup = Some(self.hub.clone()),
            Action::Restore(is_told) => {
                self.left.restores -= 1;
                let Some(backup) = &self.backup else { return };
                let epoch = Epoch(self.hub.value.as_ref().clone().epoch().unwrap().0 + 1);
                self.hub = Fixed::new(backup.value.as_ref().clone().restored(is_told, epoch, 0));
                (self.was_restored, self.was_harmed) = (true, true);
                self.forgive();
            }
        }
    }

    /// The image as a program finds it that is started on it, in this box.
    fn started(&self, print: Option<Short>) -> MemoryGateway {
        let mut card = self.image.as_ref().map(|image| image.value.as_ref().clone()).unwrap_or_default();
        let mut state = card.state().unwrap();
        state.told = false;
        card.set_state(&state).unwrap();
        print.into_iter().for_each(|print| card.set_print(print));
        card
    }

    fn change(&mut self, at: usize, change: impl FnOnce(&mut Site)) {
        let mut site = self.sites[at].value.as_ref().clone();
        change(&mut site);
        self.sites[at] = Fixed::new(site);
    }

    fn hear(&mut self, body: &[u8], is_cut: bool) -> Option<Vec<u8>> {
        let mut hub = self.hub.value.as_ref().clone();
        let answer = link::hear(&mut hub, body, is_cut);
        self.hub = Fixed::new(hub);
        answer
    }

    fn sync(&mut self, at: usize) {
        let (mut hub, mut site) = (self.hub.value.as_ref().clone(), self.sites[at].value.as_ref().clone());
        link::sync(&mut site, &mut hub);
        (self.hub, self.sites[at]) = (Fixed::new(hub), Fixed::new(site));
    }

    fn write(&mut self, at: usize) {
        let id = self.written;
        self.written += 1;
        self.kept |= 1 << id;
        self.change(at, |site| write(&mut site.card, id));
    }

    /// Nobody can be asked to keep what only stood on a card, or at a hub, that is no more.
    fn forgive(&mut self) {
        let cards = self.sites.iter().map(|site| ids(site.value.card.own().map(|(op, _)| op)));
        self.kept &= cards.fold(ids(self.hub.value.history()), |all, some| all | some);
    }

    /// Remembers what stands under each dot. What an op says it had seen may count less than it says, after a restore.
    fn note_contents(&mut self) {
        let news = self.hub.value.history().filter(|op| !self.contents.contains_key(&op.stamp.dot)).count();
        let mut contents = (news > 0).then(|| self.contents.as_ref().clone());
        for op in self.hub.value.history() {
            let plain = Op { stamp: Stamp { seen: Default::default(), ..op.stamp.clone() }, ..op.clone() };
            let hash = op_hash(&plain);
            match self.contents.get(&op.stamp.dot) {
                Some(known) => self.is_forged |= *known != hash,
                None => drop(contents.as_mut().map(|contents| contents.insert(op.stamp.dot, hash))),
            }
        }
        self.contents = contents.map_or_else(|| Arc::clone(&self.contents), Arc::new);
    }

    /// Acknowledged writes that are neither at the hub nor about to be sent.
    pub(super) fn lost(&self) -> u32 {
        let mut safe = ids(self.hub.value.history());
        for site in &self.sites {
            let state = site.value.card.clone().state().unwrap();
            let is_unsent = |op: &&Op| {
                let dot = op.stamp.dot;
                dot.origin == state.origin && dot.seq > state.stream(dot.stream).acked
            };
            let own = site.value.card.own().map(|(op, _)| op);
            // What the hub lost is in the histories of the gateways, until they hear of it.
            safe |= if self.was_restored { ids(own) } else { ids(own.filter(is_unsent)) };
        }
        self.kept & !safe
    }

    /// Whether a write is at the hub under two dots.
    pub(super) fn is_doubled(&self) -> bool {
        let history = || self.hub.value.history();
        history().count() != ids(history()).count_ones() as usize
    }

    /// Whether something else ever stood under one dot.
    pub(super) fn is_forged(&self) -> bool {
        self.is_forged
    }

    /// Whether the core could not go on.
    pub(super) fn has_panicked(&self) -> bool {
        self.has_panicked || self.rested().has_panicked
    }

    /// Whether a copy of the first card has a name of its own.
    pub(super) fn has_parted(&self) -> bool {
        let device = |at: usize| self.sites[at].value.card.clone().state().map(|state| state.device).ok();
        self.sites.len() > 2 && device(0) != device(2)
    }

    /// Whether a gateway is not any more what it was enrolled as.
    pub(super) fn has_new_origin(&self) -> bool {
        self.sites.iter().any(|site| site.value.card.clone().state().is_ok_and(|state| state.origin.0 > 2))
    }

    /// Whether the hub has begun another epoch.
    pub(super) fn has_new_epoch(&self) -> bool {
        self.hub.value.as_ref().clone().epoch().is_ok_and(|epoch| epoch != FIRST_EPOCH)
    }

    /// What the world comes to if accidents end here.
    pub(super) fn rested(&self) -> &Rest {
        self.rest.get_or_init(|| Rest::of(self))
    }
}

/// The one record that everybody writes to.
pub(super) fn key() -> RecordKey {
    RecordKey::new("chart", "c1").unwrap()
}

fn write(card: &mut MemoryGateway, id: u8) {
    let mut body = card.record(&key()).map(|held| render(&held.visible)).unwrap_or_default();
    let mine = json!(id);
    for list in ["notes", "tags"] {
        let more = body.get(list).and_then(Json::as_array).cloned().unwrap_or_default();
        body.insert(list.to_owned(), more.into_iter().chain([mine.clone()]).collect());
    }
    let given = body.get("given").and_then(Json::as_i64).unwrap_or_default();
    body.insert("given".to_owned(), json!(given + 1));
    body.insert("name".to_owned(), mine);
    let author = Some(Author::new(&id.to_string()).unwrap());
    let (intent, quality) = (Intent::Put(body), TimeQuality::Good);
    let wish = Capture { key: key(), intent, base: None, author, now_ms: NOW_MS as i64, quality };
    gateway::capture(card, wish).unwrap();
}

/// Which writes these ops are, a bit each.
pub(super) fn ids<'a>(ops: impl Iterator<Item = &'a Op>) -> u32 {
    let id = |op: &Op| op.stamp.author.as_ref()?.as_str().parse::<u32>().ok();
    ops.filter_map(id).fold(0, |all, id| all | 1 << id)
}
