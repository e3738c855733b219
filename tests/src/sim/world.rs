//! The simulated world, and what each event does to it; what is done at the hub is in `desk`.
//!
//! No runtime, no clock, no randomness: the same events give the same world. Time passes by a second with each event.

use std::collections::BTreeSet;

use agent::error::Error;
use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::{self, Capture, Fate, Held, Intent, Refusal, Store as _};
use sync_protocol::hub::Snapshot as _;
use sync_protocol::id::{Author, Dot, Epoch, FieldName, HubSeq, RecordKey, Source};
use sync_protocol::merge::{Superseded, Why};
use sync_protocol::record::{Cell, Op, Record};
use tempfile::TempDir;

use super::builds::Build;
use super::card::Card;
use super::centre::Centre;
use super::event::{Act, Event};
use super::exchange::room;
use super::in_step::OnCard;
use super::oracle::{self, Oracle, Promise, Standing, bit};
use super::site::Site;
use super::wire::Packers;
use super::{Failure, Fault, Faults, Kind, Tally, app, fleet};

/// When it begins: 2026-05-28.
const BEGIN_MS: i64 = 1_780_000_000_000;
const DAY_MS: i64 = 86_400_000;
/// How long the hub is away when it has no power.
const CUT_MS: i64 = 60_000;
/// More gateways than this there are never, clones included.
pub(super) const SITES_MAX: usize = 6;

/// A hub, gateways, the links between them, and what was promised.
#[derive(Debug)]
pub(super) struct World<'a> {
    pub(super) hub: Centre,
    pub(super) sites: Vec<Site>,
    pub(super) oracle: Oracle,
    pub(super) packers: &'a mut Packers,
    pub(super) now_ms: i64,
    pub(super) tally: Tally,
    /// Requests made so far.
    pub(super) requests: u32,
    /// The hub went back in time at least once.
    pub(super) was_restored: bool,
    /// Somebody may be shut out, or hear late that he was.
    pub(super) is_any_out: bool,
    /// Records that a card has damaged.
    pub(super) damaged: BTreeSet<RecordKey>,
    /// What had lost at the hub before it went back.
    pub(super) lost: Vec<(RecordKey, Superseded)>,
    pub(super) faults: Faults,
    /// In what a gateway differed from the hub when digests first disagreed.
    pub(super) mismatch: Option<String>,
    /// What is said is printed.
    pub(super) is_told: bool,
    /// Where the folders are. It goes last.
    folder: Option<TempDir>,
}

impl<'a> World<'a> {
    /// A world whose gateways have these of [`fleet::VIEWS`].
    pub(super) fn new(views: &[usize], faults: Faults, packers: &'a mut Packers) -> World<'a> {
        let folder = packers.on.folder();
        let home = |name: String| folder.as_ref().map(|folder| folder.path().join(name));
        let mut hub = Centre::new(home("hub".to_owned()));
        let rules = fleet::rules(0, 1);
        hub.store.publish(rules.clone());
        hub.store.set_epoch(Epoch(1));
        if let Some(shelf) = &mut hub.shelf {
            shelf.store().publish(BEGIN_MS, &fleet::rules_text(0, 1)).unwrap();
        }
        let mut enrol = |(nth, view): (usize, &usize)| {
            let (key, scopes) = (hub.new_key(), fleet::scopes(*view));
            let known = hub.store.enroll(scopes.clone(), Source::CLINIC, key.clone());
            if let Some(shelf) = &mut hub.shelf {
                assert_eq!(shelf.store().enroll(BEGIN_MS, &format!("g{nth}"), &scopes, key).unwrap(), known);
            }
            Site::enrolled(&known, Epoch(1), rules.clone(), home(format!("g{nth}")))
        };
        let sites = views.iter().enumerate().map(&mut enrol).collect();
        hub.start(BEGIN_MS);
        let (oracle, tally) = (Oracle::default(), Tally::default());
        let (now_ms, requests, was_restored) = (BEGIN_MS, 0, false);
        let (mismatch, is_told) = (None, false);
        let lost = Vec::new();
        World {
            hub,
            sites,
            oracle,
            packers,
            now_ms,
            tally,
            requests,
            was_restored,
            is_any_out: false,
            damaged: BTreeSet::new(),
            lost,
            faults,
            mismatch,
            is_told,
            folder,
        }
    }

    /// One event, and the checks that hold after each.
    pub(super) fn step(&mut self, event: &Event) -> Result<(), Failure> {
        self.now_ms += 1_000;
        self.happen(event)?;
        if let Some(at) = event.at() {
            self.check_status(at % self.sites.len().max(1))?;
        }
        self.check_step()
    }

    fn happen(&mut self, event: &Event) -> Result<(), Failure> {
        let len = self.sites.len();
        let of = |at: &usize| at % len.max(1);
        match event {
            Event::Write { at, id, key, act, is_stale, is_synced } => {
                self.write(of(at), *id, fleet::key(*key), *act, *is_stale)?;
                if *is_synced {
                    self.commit(of(at));
                }
            }
            Event::HubWrite { id, key, act } => self.hub_write(*id, fleet::key(*key), *act)?,
            Event::Sync { at } => self.sync(of(at))?,
            Event::Ask { at, is_thin } => self.ask(of(at), *is_thin)?,
            Event::Serve { at, nth, shape, pause } => self.serve(of(at), *nth, *shape, *pause)?,
            Event::GoOn { at } => self.go_on(of(at))?,
            Event::Take { at, nth, shape, cut } => drop(self.take(of(at), *nth, *shape, *cut)?),
            Event::PowerCut { at } => self.power_cut(of(at))?,
            Event::HubPowerCut => {
                self.now_ms += CUT_MS;
                self.hub.power_cut(&mut self.packers.down, self.now_ms)?;
            }
            Event::Torn { at, tear } => {
                if let Some(card) = &mut self.sites[of(at)].card {
                    card.tear = Some(*tear);
                }
            }
            Event::HubTorn { tear } => {
                if let Some(shelf) = &mut self.hub.shelf {
                    shelf.tear = Some(*tear);
                }
            }
            Event::Full { at, pages } => self.leave_pages(of(at), Some(u32::from(*pages))),
            Event::Space { at } => self.leave_pages(of(at), None),
            Event::HubFull { pages } => self.hub.leave_pages(Some(u32::from(*pages))),
            Event::HubSpace => self.hub.leave_pages(None),
            Event::Clock { at, days } => {
                let now_ms = self.now_ms;
                let site = &mut self.sites[of(at)];
                site.clock_off_ms = i64::from(*days) * DAY_MS - now_ms;
                site.quality = TimeQuality::Unknown;
            }
            Event::Build { at, build } => self.exchange_program(of(at), *build),
            Event::HubBuild { build } => {
                self.hub.paused.clear();
                self.hub.build = *build;
            }
            Event::Publish { nth } => self.publish(*nth),
            Event::Decide { nth, lets_go } => self.decide(*nth, *lets_go),
            Event::Revoke { at, is_out } => self.revoke(of(at), *is_out),
            Event::Assign { at, view } => self.assign(of(at), *view),
            Event::Image { at } => {
                let site = &mut self.sites[of(at)];
                site.image = Some(Box::new(site.on_card().clone()));
                if let Some(card) = &mut site.card {
                    card.take_image();
                }
            }
            Event::PutBack { at } => self.put_back(of(at))?,
            Event::Clone { at } => self.clone_card(of(at)),
            Event::Forget { at, is_early } => self.forget(of(at), *is_early),
            Event::Damage { at, key, is_shown } => self.damage(of(at), &fleet::key(*key), *is_shown),
            Event::Backup => self.back_up(),
            Event::Restore { is_told } => self.restore(*is_told)?,
        }
        Ok(())
    }

    fn write(&mut self, at: usize, id: u8, key: RecordKey, act: Act, is_stale: bool) -> Result<(), Failure> {
        let shown = self.sites[at].store.record(&key).map(|held| held.visible.clone());
        if !self.faults.has(Fault::Blind) && self.is_gone(at, &key) {
            return Ok(());
        }
        if !self.faults.has(Fault::Leaving) && self.is_leaving(at, &key) {
            return Ok(());
        }
        if !self.faults.has(Fault::Fetching) && self.sites[at].store.state().unwrap().backfill.is_some() {
            return Ok(());
        }
        let same = |stale: &Record, field| shown.as_ref().and_then(|r| r.cells.get(field)) == stale.cells.get(field);
        let puts = !matches!(act, Act::Settle(_) | Act::SettleDelete(_));
        // The API refuses to delete by a copy that is not the newest, and to change a copy of what was deleted since.
        let is_taken = |stale: &Record| act != Act::Delete && same(stale, FieldName::DELETED);
        let may_use =
            |stale: &&Record| is_taken(stale) && (self.faults.has(Fault::Stale) || same(stale, FieldName::SCOPE));
        // Of one that cannot be read an app is shown nothing, and the API takes no change of an older copy.
        let is_unreadable = shown.as_ref().is_some_and(|shown| shown.cells.is_empty());
        let may_be_stale = is_stale && puts && !is_unreadable;
        let stale = if may_be_stale { self.sites[at].read.get(&key).filter(may_use).cloned() } else { None };
        let read = stale.as_ref().or(shown.as_ref()).filter(|_| !is_unreadable);
        let home = self.sites[at].store.state().unwrap().home();
        let Some(intent) = app::intent(act, id, &key, read, home.as_str()) else { return Ok(()) };
        let saw = self.seen_at(at, &key, read);
        let site = &mut self.sites[at];
        let wish = wish(id, &key, intent, (self.now_ms + site.clock_off_ms, site.quality), stale);
        site.begin();
        let captured = match site.write(|store| gateway::capture(store, wish)) {
            Ok(captured) => captured,
            Err(Refusal::Edit(_)) => return Ok(()),
            Err(Refusal::Store(Error::DiskFull(_))) => {
                // The app is told so, and those whose writes went with it.
                self.tally.full += 1;
                if self.sites[at].has_lost() {
                    self.commit(at);
                }
                return Ok(());
            }
            Err(error) => return Err(Failure::new(Kind::Refused, format!("gateway {at}, w{id}: {error}"))),
        };
        site.read.extend(shown.map(|record| (key.clone(), record)));
        if let Some(dot) = captured.op {
            let op = site.store.own_op(dot).unwrap().expect("the op that was just written");
            site.waiting.push(id);
            self.promise(id, op, act, saw, Standing::Asked);
        }
        Ok(())
    }

    /// Whether a gateway does not hold a record any more of which the hub has confirmed writes of its own.
    fn is_gone(&self, at: usize, key: &RecordKey) -> bool {
        let store = &self.sites[at].store;
        let mut own = store.own().filter(|(op, _)| op.key == *key);
        let is_confirmed = store.record(key).is_some_and(|held| held.confirmed.is_some());
        !is_confirmed && own.any(|(_, fate)| matches!(fate, Some(Fate::Confirmed(_))))
    }

    /// Whether a gateway holds a record that is not its own any more and could know it, or holds a part of one because it
    /// wrote to it without having it.
    fn is_leaving(&mut self, at: usize, key: &RecordKey) -> bool {
        let store = &mut self.sites[at].store;
        let state = store.state().unwrap();
        let confirmed = store.record(key).and_then(|held| held.confirmed.clone());
        let (Some(here), Some(there)) = (confirmed, self.hub.store.record(key).unwrap()) else { return false };
        let is_told = there.cells.get(FieldName::SCOPE).is_none_or(|cell| cell.changed <= state.cursor);
        let is_part = || {
            let lacks =
                |(name, cell): (&FieldName, &Cell)| cell.changed <= state.cursor && !here.cells.contains_key(name);
            there.cells.iter().any(lacks)
        };
        let was_blind = || store.own().any(|(op, _)| op.key == *key && op.stamp.seen == HubSeq::NONE);
        let is_away = !state.is_in_view(&there.scope());
        (is_away && (is_told || was_blind())) || (was_blind() && is_part())
    }

    pub(super) fn promise(&mut self, id: u8, op: Op, act: Act, saw: Saw, standing: Standing) {
        self.tally.writes += 1;
        let count = if let Act::Count(n) = act { i64::from(n) } else { 0 };
        self.oracle.add(id, Promise { key: op.key, changes: op.changes, count, saw, standing });
    }

    /// What an author has seen who looks at a copy of a record at a gateway.
    fn seen_at(&self, at: usize, key: &RecordKey, read: Option<&Record>) -> Saw {
        let Some(read) = read else { return Saw::new() };
        let store = &self.sites[at].store;
        let ops = self.hub.store.history().chain(store.own().map(|(op, _)| op));
        let ops = self.with_lost(key, ops.collect());
        let mut saw = self.oracle.contained(read, &ops);
        self.with_losers(&mut saw, key, store.replaced());
        self.with_losers(&mut saw, key, self.hub.store.replaced());
        self.with_losers(&mut saw, key, &self.lost);
        saw
    }

    /// What a hub lost that was put back only its author has, and who read it has seen it nevertheless.
    /// `known` are all that he can have read otherwise: under the number of one of them a copy of a card may have written something else.
    pub(super) fn with_lost<'o>(&'o self, key: &RecordKey, known: Vec<&'o Op>) -> Vec<&'o Op> {
        let numbers: BTreeSet<Dot> = known.iter().map(|op| op.stamp.dot).collect();
        let elsewhere = self.sites.iter().flat_map(|site| site.store.own()).map(|(op, _)| op);
        let lost = elsewhere.filter(|op| !numbers.contains(&op.stamp.dot));
        known.into_iter().chain(lost).filter(|op| op.key == *key).collect()
    }

    /// What lost by a rule against something that was seen counts as seen: its author is shown the outcome.
    pub(super) fn with_losers(&self, saw: &mut Saw, key: &RecordKey, replaced: &[(RecordKey, Superseded)]) {
        for (_, lost) in replaced.iter().filter(|(k, lost)| k == key && lost.why != Why::Seen) {
            let (Some(loser), Some(by)) = (oracle::id_of(&lost.entry.stamp), oracle::id_of(&lost.by)) else { continue };
            if let Some(seen) = saw.get_mut(&lost.field).filter(|seen| **seen & bit(by) != 0) {
                *seen |= bit(loser);
            }
        }
    }

    /// What a gateway has written is on its card, and the apps are answered; or there was no room, and they are told that.
    pub(super) fn commit(&mut self, at: usize) {
        let (ids, standing) = match self.sites[at].commit() {
            Ok(ids) => (ids, Standing::Kept),
            Err(ids) => (ids, Standing::Void),
        };
        ids.into_iter().for_each(|id| self.oracle.set(id, standing));
    }

    pub(super) fn power_cut(&mut self, at: usize) -> Result<(), Failure> {
        let end = self.sites[at].power_cut()?;
        self.tally.survived += u64::from(end.survived);
        self.tally.torn += u64::from(end.is_torn && !end.survived);
        end.waiting.into_iter().for_each(|id| self.oracle.set(id, Standing::Void));
        Ok(())
    }

    /// In memory there is always room.
    pub(super) fn leave_pages(&mut self, at: usize, more: Option<u32>) {
        if let Some(card) = &mut self.sites[at].card {
            card.store().leave_pages(more).unwrap();
        }
    }

    /// The program ends in order and another one is started, which tells what box it is in, unless there is no room to note that.
    fn exchange_program(&mut self, at: usize, build: Build) {
        self.commit(at);
        let site = &mut self.sites[at];
        (site.build, site.asked) = (build, None);
        room(site.tell(), &mut self.tally.full);
    }

    /// As the gateway's caretaker does it, with no age.
    fn forget(&mut self, at: usize, is_early: bool) {
        self.commit(at);
        let site = &mut self.sites[at];
        if site.store.may_forget() {
            room(site.now(|store| store.compact(is_early)), &mut self.tally.full);
        }
        if self.was_restored {
            // It was overruled when the hub had it, and may be in no backup.
            self.forgive();
        }
    }

    /// What is left of a damaged record after the program has mended it.
    fn damage(&mut self, at: usize, key: &RecordKey, is_shown: bool) {
        self.commit(at);
        self.damaged.insert(key.clone());
        let damage = |store: &mut OnCard<'_, '_>| -> Result<(), agent::error::Error> {
            let Some(held) = store.held(key)?.filter(|held| held.confirmed.is_some() && held.leaving.is_none()) else {
                return Ok(());
            };
            if is_shown && !held.is_pending {
                // What is shown is what the hub confirmed, and is kept once.
                return Ok(());
            }
            let visible = if is_shown { held.visible.clone() } else { Record::default() };
            store.keep(key, &Held { confirmed: None, visible, awaits_whole: true, ..held })
        };
        room(self.sites[at].now(damage), &mut self.tally.full);
        if self.was_restored {
            // What the hub lost may have been in this copy of the record alone.
            self.forgive();
        }
    }

    fn put_back(&mut self, at: usize) -> Result<(), Failure> {
        let Some(image) = self.sites[at].image.clone() else { return Ok(()) };
        self.power_cut(at)?;
        let site = &mut self.sites[at];
        (site.store, site.is_suspect) = (*image, true);
        if let Some(card) = &mut site.card {
            card.put_back();
        }
        site.check_card()?;
        site.start();
        self.forgive();
        Ok(())
    }

    fn clone_card(&mut self, at: usize) {
        let Some(image) = self.sites[at].image.clone() else { return };
        if self.sites.len() < SITES_MAX {
            let quality = self.sites[at].quality;
            self.sites[at].is_suspect = true;
            let home = self.folder.as_ref().map(|folder| folder.path().join(format!("g{}", self.sites.len())));
            let card = home.zip(self.sites[at].card.as_ref()).and_then(|(home, card)| Card::of_image(home, card));
            // A box that nobody has seen yet.
            let number = 100 + self.sites.len() as u8;
            self.sites.push(Site::twin(number, *image, card, quality));
        }
    }

    /// Nobody can be asked to keep what only stood on a card, or at a hub, that is no more.
    pub(super) fn forgive(&mut self) {
        let mut left = oracle::writes(self.hub.store.history());
        for site in &self.sites {
            // What it wrote under an origin that it gave up since it hands in.
            left |= oracle::writes(site.store.own().map(|(op, _)| op));
        }
        let gone = self.oracle.with(Standing::Kept) & !left;
        for id in (0..=oracle::WRITES_MAX).filter(|id| gone & bit(*id) != 0) {
            self.oracle.set(id, Standing::Void);
        }
    }
}

type Saw = std::collections::BTreeMap<sync_protocol::id::FieldName, oracle::Writes>;

pub(super) fn wish(id: u8, key: &RecordKey, intent: Intent, when: (i64, TimeQuality), base: Option<Record>) -> Capture {
    let author = Some(Author::new(&oracle::author(id)).unwrap());
    let (now_ms, quality) = when;
    Capture { key: key.clone(), intent, base, author, now_ms, quality }
}
