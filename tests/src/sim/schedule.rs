//! A schedule from a seed.

use super::Plan;
use super::builds::Build;
use super::event::{Act, Event, Shape};
use super::faults::{Fault, Faults};
use super::fleet::{KEYS, PLACES, SETTLED, TEXTS, VIEWS};
use super::oracle::WRITES_MAX;
use super::world::SITES_MAX;
use crate::generator::random::Random;

impl Plan {
    /// The schedule of a seed. The same for ever, until this file changes.
    pub fn of(seed: u64, faults: Faults) -> Plan {
        let mut dice = Dice { random: Random::new(seed), faults, ids: 0, sites: 0 };
        dice.sites = 1 + dice.below(4);
        let views = (0..dice.sites).map(|_| dice.view()).collect();
        let length = 20 + dice.below(61);
        let mut events = Vec::with_capacity(length);
        while events.len() < length {
            dice.next(&mut events);
        }
        let events = with_disks(events, seed, dice.sites, faults);
        let events = with_builds(events, seed, dice.sites, faults);
        let events = with_forgetting(events, seed, dice.sites, faults);
        let events = with_damage(events, seed, dice.sites, faults);
        let events = with_decisions(events, seed, faults);
        let mut events = with_revocations(events, seed, dice.sites, faults);
        if !faults.has(Fault::Recounts) {
            leave_out_recounts(&mut events);
        }
        Plan { views, events, faults }
    }
}

/// Adds what can happen to disks. Its dice are its own, so that the rest of a schedule is the same with and without.
fn with_disks(events: Vec<Event>, seed: u64, sites: usize, faults: Faults) -> Vec<Event> {
    let mut random = Random::new(!seed);
    let mut all = Vec::with_capacity(events.len() + 8);
    for event in events {
        let at = random.between(0, sites as i64 - 1) as usize;
        let (tear, pages) = (random.bits() as u32, random.between(0, 12) as u8);
        let (is_torn, is_full, is_freed) = (random.chance(70), random.chance(2), random.chance(8));
        let is_hub = random.chance(20);
        match &event {
            Event::PowerCut { at } | Event::Take { at, cut: Some(_), .. } if is_torn => {
                all.push(Event::Torn { at: *at, tear });
            }
            Event::HubPowerCut if is_torn => all.push(Event::HubTorn { tear }),
            _ => {}
        }
        match (faults.has(Fault::Full), is_hub) {
            (true, true) if is_full => all.push(Event::HubFull { pages }),
            (true, true) if is_freed => all.push(Event::HubSpace),
            (true, false) if is_full => all.push(Event::Full { at, pages }),
            (true, false) if is_freed => all.push(Event::Space { at }),
            _ => {}
        }
        all.push(event);
    }
    all
}

/// Adds programs of other builds. Its dice are its own, too.
fn with_builds(events: Vec<Event>, seed: u64, sites: usize, faults: Faults) -> Vec<Event> {
    if !faults.has(Fault::Builds) {
        return events;
    }
    let mut random = Random::of_text(&format!("builds {seed}"));
    let mut all = Vec::with_capacity(events.len() + 4);
    for event in events {
        let at = random.between(0, sites as i64 - 1) as usize;
        let build = match random.between(0, 99) {
            0..=29 => Build::This,
            30..=54 => Build::Newer,
            55..=69 => Build::Older,
            70..=84 => Build::OldRules,
            _ => Build::OtherVersion,
        };
        match random.between(0, 99) {
            0..=3 => all.push(Event::Build { at, build }),
            4 => all.push(Event::HubBuild { build }),
            _ => {}
        }
        all.push(event);
    }
    all
}

/// Adds that gateways forget. Its dice are its own, too.
fn with_forgetting(events: Vec<Event>, seed: u64, sites: usize, faults: Faults) -> Vec<Event> {
    if !faults.has(Fault::Forget) {
        return events;
    }
    let mut random = Random::of_text(&format!("forget {seed}"));
    let mut all = Vec::with_capacity(events.len() + 8);
    for event in events {
        let at = random.between(0, sites as i64 - 1) as usize;
        let (is_due, is_early) = (random.chance(10), random.chance(60));
        all.extend(is_due.then_some(Event::Forget { at, is_early }));
        all.push(event);
    }
    all
}

/// Adds that cards damage records. Its dice are its own, too.
fn with_damage(events: Vec<Event>, seed: u64, sites: usize, faults: Faults) -> Vec<Event> {
    if !faults.has(Fault::Damage) {
        return events;
    }
    let mut random = Random::of_text(&format!("damage {seed}"));
    let mut all = Vec::with_capacity(events.len() + 8);
    for event in events {
        let (at, key) =
            (random.between(0, sites as i64 - 1) as usize, random.between(0, KEYS.len() as i64 - 1) as usize);
        let (is_due, is_shown) = (random.chance(6), random.chance(30));
        all.extend(is_due.then_some(Event::Damage { at, key, is_shown }));
        all.push(event);
    }
    all
}

/// Adds decisions on what waits in quarantine. Its dice are its own, too.
fn with_decisions(events: Vec<Event>, seed: u64, faults: Faults) -> Vec<Event> {
    if !faults.has(Fault::Decided) {
        return events;
    }
    let mut random = Random::of_text(&format!("decided {seed}"));
    let mut all = Vec::with_capacity(events.len() + 8);
    for event in events {
        let (is_due, nth, lets_go) = (random.chance(8), random.between(0, 5) as usize, random.chance(50));
        all.extend(is_due.then_some(Event::Decide { nth, lets_go }));
        all.push(event);
    }
    all
}

/// Adds that gateways are shut out and let in again. Its dice are its own, too.
fn with_revocations(events: Vec<Event>, seed: u64, sites: usize, faults: Faults) -> Vec<Event> {
    let mut random = Random::of_text(&format!("revoked {seed}"));
    // Most fleets never see it, so that what else can happen is not hidden behind it.
    if !faults.has(Fault::Revoked) || !random.chance(25) {
        return events;
    }
    let mut all = Vec::with_capacity(events.len() + 8);
    for event in events {
        let (is_due, at) = (random.chance(12), random.between(0, sites as i64 - 1) as usize);
        let is_out = random.chance(50);
        all.extend(is_due.then_some(Event::Revoke { at, is_out }));
        all.push(event);
    }
    all
}

/// Leaves out counts where it cannot be told of which writes a total is made: of apps, where copies of a card give one number to
/// several writes and the hub forgets which; and of the hub after it was put back, which goes on from what the backup had.
fn leave_out_recounts(events: &mut Vec<Event>) {
    let is_copied = events.iter().any(|event| matches!(event, Event::PutBack { .. } | Event::Clone { .. }));
    let is_restored = events.iter().any(|event| matches!(event, Event::Restore { .. }));
    let mut has_gone_back = false;
    events.retain(|event| {
        has_gone_back |= matches!(event, Event::Restore { .. });
        !(has_gone_back && matches!(event, Event::HubWrite { act: Act::Count(_), .. }))
    });
    if is_copied && is_restored {
        events.retain(|event| !matches!(event, Event::Write { act: Act::Count(_), .. }));
    }
}

struct Dice {
    random: Random,
    faults: Faults,
    ids: u8,
    sites: usize,
}

/// Days after 1970 to which a clock can jump: 1970, 2020, 2026, 2038, 2099.
const DAYS: [u32; 5] = [0, 18_262, 20_600, 24_837, 47_117];

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.random.between(0, n as i64 - 1) as usize
    }

    fn in_100(&mut self, percent: i64) -> bool {
        self.random.chance(percent)
    }

    fn id(&mut self) -> u8 {
        self.ids = (self.ids + 1).min(WRITES_MAX);
        self.ids
    }

    fn key(&mut self) -> usize {
        match self.below(KEYS.len()) {
            child @ 2..=3 if !self.faults.has(Fault::Children) => child - 2,
            key => key,
        }
    }

    fn view(&mut self) -> usize {
        let any = self.below(VIEWS.len());
        if self.in_100(30) || !self.faults.has(Fault::Views) { VIEWS.len() - 1 } else { any }
    }

    fn at(&mut self) -> usize {
        self.below(self.sites)
    }

    /// One event, or a few that belong together.
    fn next(&mut self, events: &mut Vec<Event>) {
        let at = self.at();
        match self.below(100) {
            0..=43 => events.push(self.write(at)),
            44..=48 => {
                let (id, key) = (self.id(), self.key());
                events.push(Event::HubWrite { id, key, act: self.act(key) });
            }
            49..=62 => events.push(Event::Sync { at }),
            63..=87 => self.exchange(at, events),
            88.. => events.extend(self.accident(at)),
        }
    }

    fn write(&mut self, at: usize) -> Event {
        let (id, key) = (self.id(), self.key());
        let is_synced = !self.faults.has(Fault::Power) || self.in_100(70);
        Event::Write { at, id, key, act: self.act(key), is_stale: self.in_100(12), is_synced }
    }

    fn act(&mut self, key: usize) -> Act {
        let is_patient = KEYS[key].starts_with("patient");
        let text = if is_patient { self.below(4) } else { 4 };
        match self.below(100) {
            0..=27 => Act::Set(TEXTS[text]),
            28..=33 if is_patient => Act::Pick("alive", self.below(3) as u8),
            34..=42 if is_patient => {
                let field = ["top", "low", "stage"][self.below(3)];
                Act::Pick(field, self.below(4) as u8)
            }
            43..=47 => Act::Clear(if is_patient { "phone" } else { "note" }),
            48..=55 => Act::Add,
            56..=60 => Act::Take(self.below(3) as u8),
            61..=68 => Act::Append,
            69..=76 => Act::Count(self.below(9) as i8 - 4),
            77..=79 => Act::Long,
            80..=84 if self.faults.has(Fault::Scopes) => Act::Move(self.below(PLACES.len())),
            85..=90 if self.faults.has(Fault::Deletes) => Act::Delete,
            91..=95 if self.faults.has(Fault::Settles) && is_patient => Act::Settle(SETTLED[self.below(SETTLED.len())]),
            96..=97 if self.faults.has(Fault::Settles) && self.faults.has(Fault::Deletes) => {
                Act::SettleDelete(self.in_100(50))
            }
            _ => Act::Set(TEXTS[text]),
        }
    }

    /// An exchange, or a part of one, and what comes between its steps.
    fn exchange(&mut self, at: usize, events: &mut Vec<Event>) {
        let late = self.faults.has(Fault::Late);
        if !(late && self.in_100(15)) {
            events.push(Event::Ask { at, is_thin: self.in_100(40) });
        }
        self.meanwhile(at, events);
        if self.faults.has(Fault::Loss) && self.in_100(12) {
            return;
        }
        let pause = (self.faults.has(Fault::Beside) && self.in_100(20)).then(|| self.below(4) as u8);
        let nth = if late && self.in_100(15) { 1 + self.below(2) } else { 0 };
        events.push(Event::Serve { at, nth, shape: self.shape(), pause });
        if late && self.in_100(12) {
            events.push(Event::Serve { at, nth: 0, shape: self.shape(), pause: None });
        }
        self.meanwhile(at, events);
        if pause.is_some() {
            events.push(Event::GoOn { at });
        }
        if self.faults.has(Fault::Loss) && self.in_100(15) {
            return;
        }
        let cut = (self.faults.has(Fault::Power) && self.in_100(12)).then(|| 1 + self.below(3) as u8);
        let nth = if late && self.in_100(20) { 1 } else { 0 };
        events.push(Event::Take { at, nth, shape: self.shape(), cut });
    }

    /// While one exchange is under way others speak and write.
    fn meanwhile(&mut self, at: usize, events: &mut Vec<Event>) {
        while self.in_100(25) {
            let other = self.at();
            match self.below(4) {
                0 if other != at => events.push(Event::Sync { at: other }),
                1 if self.faults.has(Fault::Power) && self.in_100(30) => events.push(Event::HubPowerCut),
                _ => {
                    let writer = if self.in_100(50) { at } else { other };
                    events.push(self.write(writer));
                }
            }
        }
    }

    fn shape(&mut self) -> Shape {
        let part = self.below(1_000) as u16;
        match self.below(100) {
            0..=11 if self.faults.has(Fault::Torn) => Shape::Torn(part),
            12..=15 if self.faults.has(Fault::Torn) => Shape::Flipped(part),
            _ => Shape::Whole,
        }
    }

    fn accident(&mut self, at: usize) -> Option<Event> {
        let has = |fault| self.faults.has(fault);
        let (power, clocks, rules) = (has(Fault::Power), has(Fault::Clocks), has(Fault::Rules));
        let (scopes, rollback, clones) = (has(Fault::Scopes), has(Fault::Rollback), has(Fault::Clones));
        let restores = has(Fault::Restores) || has(Fault::Forgotten);
        match self.below(24) {
            0..=4 if power => Some(Event::PowerCut { at }),
            5..=6 if clocks => Some(Event::Clock { at, days: DAYS[self.below(DAYS.len())] }),
            7..=8 if rules => Some(Event::Publish { nth: self.below(3) }),
            9..=11 if scopes => Some(Event::Assign { at, view: self.view() }),
            12..=13 if rollback || clones => Some(Event::Image { at }),
            14..=15 if rollback => Some(Event::PutBack { at }),
            16..=17 if clones => {
                // The second box is used, too.
                self.sites = (self.sites + 1).min(SITES_MAX);
                Some(Event::Clone { at })
            }
            18..=20 if restores => Some(Event::Backup),
            21..=23 if restores => {
                let is_told = match (self.faults.has(Fault::Restores), self.faults.has(Fault::Forgotten)) {
                    (true, true) => self.in_100(50),
                    (is_told, _) => is_told,
                };
                Some(Event::Restore { is_told })
            }
            _ => None,
        }
    }
}
