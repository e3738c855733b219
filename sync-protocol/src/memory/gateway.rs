//! A gateway's store in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::MemoryError;
use crate::boot::{Boot, Moment};
use crate::digest::{Chain, item};
use crate::erase::{Erased, ErasedName, knows, name_of};
use crate::gateway::rescue::Old;
use crate::gateway::retention::{Reach, is_spent};
use crate::gateway::{Fate, GatewayState, Held, Store};
use crate::id::{Dot, FieldName, Origin, RecordKey, Scope, Seq, Stream};
use crate::merge::Superseded;
use crate::message::{About, Plea, Short};
use crate::record::{Cell, Op, State};
use crate::rules::Rules;

/// One own op and what became of it.
#[derive(Debug, Clone, PartialEq)]
struct Own {
    op: Op,
    moment: Moment,
    chain: Chain,
    fate: Option<Fate>,
    /// What its origin had counted in the record before it.
    counted: BTreeMap<FieldName, (u64, u64)>,
}

/// A gateway that remembers in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryGateway {
    state: GatewayState,
    rules: Arc<Rules>,
    records: BTreeMap<RecordKey, Held>,
    /// Where records belonged of which all is awaited ([`Held::awaits_whole`]).
    awaited: BTreeMap<RecordKey, Scope>,
    own: BTreeMap<Dot, Own>,
    replaced: Vec<(RecordKey, Superseded)>,
    /// Chains after own ops that were forgotten.
    forgotten: BTreeMap<Dot, Chain>,
    takes_gaps: bool,
    pleas: Vec<Plea>,
    erasures: BTreeMap<ErasedName, u64>,
    print: Short,
    boots: Vec<Boot>,
    /// Where in the life of the box it writes now.
    moment: Moment,
}

impl MemoryGateway {
    /// A record as it is shown; `None` if there is none, deleted ones included.
    pub fn record(&self, key: &RecordKey) -> Option<&Held> {
        self.records.get(key)
    }

    /// All records, deleted ones included.
    pub fn records(&self) -> impl Iterator<Item = (&RecordKey, &Held)> {
        self.records.iter()
    }

    /// Values that were replaced, oldest first.
    pub fn replaced(&self) -> &[(RecordKey, Superseded)] {
        &self.replaced
    }

    /// All own ops, of every origin it ever had, with what became of them.
    pub fn own(&self) -> impl Iterator<Item = (&Op, Option<&Fate>)> {
        self.own.values().map(|own| (&own.op, own.fate.as_ref()))
    }

    /// Own ops that the hub keeps in quarantine, with the reasons.
    pub fn parked(&self) -> Vec<(&Op, &str)> {
        let parked = self.own.values().filter_map(|own| match &own.fate {
            Some(Fate::Parked(reason)) => Some((&own.op, reason.as_str())),
            _ => None,
        });
        parked.collect()
    }

    /// Loses an own op, as a card with a damaged row does.
    pub fn lose(&mut self, dot: Dot) {
        self.own.remove(&dot);
    }

    /// Own ops that it has forgotten.
    pub fn forgotten(&self) -> impl Iterator<Item = Dot> {
        self.forgotten.keys().copied()
    }

    /// Whether its hub has said that it takes a stream over ops that were forgotten.
    pub fn may_forget(&self) -> bool {
        self.takes_gaps
    }

    /// Forgets what may be forgotten of its own ops; `reach` says how far. Gives how many.
    pub fn compact(&mut self, reach: &Reach) -> usize {
        let is_within = |dot: Dot| match dot.origin == self.state.origin {
            true => Some(&dot.seq) < reach.own.get(lane(dot)),
            false => reach.earlier,
        };
        // What contains a count is as safe as what may go.
        let is_safe = |dot: Dot| {
            is_within(dot) || (dot.origin == self.state.origin && Some(&dot.seq) == reach.own.get(lane(dot)))
        };
        let mut spent: BTreeSet<Dot> = BTreeSet::new();
        // The newest first: what contains a count stays.
        for (dot, own) in self.own.iter().rev().filter(|(dot, _)| is_within(**dot)) {
            let hseq = match &own.fate {
                Some(Fate::Confirmed(hseq)) => *hseq,
                _ => continue,
            };
            let later =
                self.own.values().filter(|later| later.op.key == own.op.key && !spent.contains(&later.op.stamp.dot));
            let later: Vec<Op> = later.map(|own| own.op.clone()).collect();
            if later.iter().all(|later| later.stamp.marker() <= own.op.stamp.marker()) {
                // The newest of a record stays.
                continue;
            }
            let safe: Vec<Op> = later.into_iter().filter(|later| is_safe(later.stamp.dot)).collect();
            let held = self.records.get(&own.op.key);
            if held.is_some_and(|held| is_spent(&own.op, hseq, held, &self.state, &safe)) {
                spent.insert(*dot);
            }
        }
        for dot in &spent {
            let own = self.own.remove(dot).filter(|_| dot.origin == self.state.origin);
            self.forgotten.extend(own.map(|own| (*dot, own.chain)));
        }
        spent.len()
    }

    /// Begins a boot, or learns more of one.
    pub fn set_boot(&mut self, boot: Boot) {
        self.boots.retain(|known| known.number != boot.number);
        self.boots.push(boot);
        self.boots.sort_by_key(|boot| boot.number);
    }

    /// What is written from now on is written here in the life of the box.
    pub fn set_moment(&mut self, moment: Moment) {
        self.moment = moment;
    }

    /// What an origin has counted in a record, as it is shown.
    fn counted(&self, key: &RecordKey, origin: Origin) -> BTreeMap<FieldName, (u64, u64)> {
        let cells = self.records.get(key).map(|held| held.visible.cells.iter());
        let total = |(field, cell): (&FieldName, &Cell)| match &cell.state {
            State::Counter(counter) => Some((field.clone(), *counter.totals.get(&origin)?)),
            _ => None,
        };
        cells.into_iter().flatten().filter_map(total).collect()
    }

    /// Moves it into another box.
    pub fn set_print(&mut self, print: Short) {
        self.print = print;
    }

    /// Asks for an op in quarantine to be tried again or dropped.
    pub fn plead(&mut self, plea: Plea) {
        self.pleas.push(plea);
    }
}

fn lane(dot: Dot) -> usize {
    usize::from(dot.stream.number())
}

fn in_scopes(scopes: &[Scope], held: &Held) -> bool {
    let scope = held.confirmed.as_ref().filter(|_| held.leaving.is_none()).map(|r| r.scope());
    scope.is_some_and(|scope| scopes.iter().any(|prefix| prefix.covers(&scope)))
}

impl Store for MemoryGateway {
    type Error = MemoryError;

    fn state(&mut self) -> Result<GatewayState, MemoryError> {
        Ok(self.state.clone())
    }

    fn set_state(&mut self, state: &GatewayState) -> Result<(), MemoryError> {
        self.state = state.clone();
        Ok(())
    }

    fn rules(&mut self) -> Result<Arc<Rules>, MemoryError> {
        Ok(Arc::clone(&self.rules))
    }

    fn set_rules(&mut self, rules: Arc<Rules>) -> Result<(), MemoryError> {
        self.rules = rules;
        Ok(())
    }

    fn held(&mut self, key: &RecordKey) -> Result<Option<Held>, MemoryError> {
        Ok(self.records.get(key).cloned())
    }

    fn keep(&mut self, key: &RecordKey, held: &Held) -> Result<(), MemoryError> {
        let before = self.records.insert(key.clone(), held.clone());
        if !held.awaits_whole {
            self.awaited.remove(key);
        } else if !self.awaited.contains_key(key) {
            let before = before.unwrap_or_default();
            self.awaited.insert(key.clone(), before.confirmed.as_ref().unwrap_or(&before.visible).scope());
        }
        Ok(())
    }

    fn forget(&mut self, key: &RecordKey) -> Result<(), MemoryError> {
        self.records.remove(key);
        self.awaited.remove(key);
        Ok(())
    }

    fn append(&mut self, op: &Op, chain: Chain, replaced: &[Superseded]) -> Result<(), MemoryError> {
        let counted = self.counted(&op.key, op.stamp.dot.origin);
        let own = Own { op: op.clone(), moment: self.moment, chain, fate: None, counted };
        self.own.insert(op.stamp.dot, own);
        self.remember(&op.key, replaced)
    }

    fn remember(&mut self, key: &RecordKey, replaced: &[Superseded]) -> Result<(), MemoryError> {
        self.replaced.extend(replaced.iter().map(|s| (key.clone(), s.clone())));
        Ok(())
    }

    fn own_op(&mut self, dot: Dot) -> Result<Option<Op>, MemoryError> {
        Ok(self.own.get(&dot).map(|own| own.op.clone()))
    }

    fn own_ops(&mut self, stream: Stream, after: Seq, limit: usize) -> Result<Vec<Op>, MemoryError> {
        let from = Dot { origin: self.state.origin, stream, seq: after.next() };
        let to = Dot { seq: Seq(u64::MAX), ..from };
        // As far as nothing is missing; behind that it goes on with the next call.
        let mut ops: Vec<Op> = Vec::new();
        for (dot, own) in self.own.range(from..=to).filter(|(_, own)| !own.op.is_erased()).take(limit) {
            if ops.last().is_some_and(|last| last.stamp.dot.seq.next() != dot.seq) {
                break;
            }
            ops.push(own.op.clone());
        }
        Ok(ops)
    }

    fn pending(&mut self, key: &RecordKey) -> Result<Vec<Op>, MemoryError> {
        let is_pending = |own: &&Own| matches!(own.fate, None | Some(Fate::Parked(_))) && own.op.key == *key;
        let number = self.erasure(key)?.unwrap_or(0);
        let mut ops: Vec<Op> = self.own.values().filter(is_pending).map(|own| own.op.clone()).collect();
        ops.retain(|op| !op.is_erased() && (number == 0 || knows(op, number)));
        ops.sort_by_key(|op| op.stamp.marker());
        Ok(ops)
    }

    fn own_of(&mut self, key: &RecordKey) -> Result<Vec<Op>, MemoryError> {
        let origin = self.state.origin;
        let is_one = |op: &&Op| op.key == *key && op.stamp.dot.origin == origin;
        Ok(self.own.values().map(|own| &own.op).filter(is_one).cloned().collect())
    }

    fn settle_fate(&mut self, dot: Dot, fate: &Fate) -> Result<(), MemoryError> {
        let waits = matches!(fate, Fate::Parked(_));
        if let Some(own) = self.own.get_mut(&dot).filter(|own| !waits || !own.op.is_erased()) {
            own.fate = Some(fate.clone()).filter(|fate| *fate != Fate::Unsent);
        }
        Ok(())
    }

    fn renumber(&mut self, ops: &[(Seq, Op, Chain)]) -> Result<(), MemoryError> {
        for (before, op, chain) in ops {
            let before = Dot { origin: self.state.origin, stream: op.stamp.dot.stream, seq: *before };
            let moment = self.own.remove(&before).map(|own| own.moment).unwrap_or_default();
            let own = Own { op: op.clone(), moment, chain: *chain, fate: None, counted: BTreeMap::new() };
            self.own.insert(op.stamp.dot, own);
        }
        Ok(())
    }

    fn restamp(&mut self, ops: &[Op]) -> Result<(), MemoryError> {
        for op in ops {
            if let Some(own) = self.own.get_mut(&op.stamp.dot) {
                own.op = op.clone();
            }
        }
        Ok(())
    }

    fn boots(&mut self) -> Result<Vec<Boot>, MemoryError> {
        Ok(self.boots.clone())
    }

    fn moments(&mut self, stream: Stream, after: Seq, upto: Seq) -> Result<BTreeMap<Seq, Moment>, MemoryError> {
        let from = Dot { origin: self.state.origin, stream, seq: after.next() };
        let own = self
            .own
            .range(from..)
            .take_while(|(dot, _)| (dot.origin, dot.stream) == (from.origin, stream) && dot.seq <= upto);
        Ok(own.map(|(dot, own)| (dot.seq, own.moment)).collect())
    }

    fn last_moments(&mut self, stream: Stream, after: Seq) -> Result<Vec<(Seq, Moment)>, MemoryError> {
        let known = self.moments(stream, after, Seq(u64::MAX))?.into_iter().filter(|(_, moment)| moment.boot != 0);
        let lasts: BTreeMap<u64, (Seq, Moment)> = known.map(|(seq, moment)| (moment.boot, (seq, moment))).collect();
        Ok(lasts.into_values().collect())
    }

    fn chain_at(&mut self, stream: Stream, seq: Seq) -> Result<Option<Short>, MemoryError> {
        let dot = Dot { origin: self.state.origin, stream, seq };
        Ok(self.own.get(&dot).map(|own| own.chain.short()))
    }

    fn chain_before(&mut self, stream: Stream, seq: Seq) -> Result<Option<Chain>, MemoryError> {
        let before = Dot { origin: self.state.origin, stream, seq: Seq(seq.0.saturating_sub(1)) };
        let erased = self.own.get(&before).filter(|own| own.op.is_erased()).map(|own| own.chain);
        // On a card it is kept with the op that follows.
        let forgotten = self.forgotten.get(&before).filter(|_| self.own.contains_key(&Dot { seq, ..before })).copied();
        Ok(forgotten.or(erased).filter(|_| self.takes_gaps))
    }

    fn gaps_are_taken(&mut self) -> Result<(), MemoryError> {
        self.takes_gaps = true;
        Ok(())
    }

    fn oldest_ms(&mut self, stream: Stream, after: Seq) -> Result<Option<i64>, MemoryError> {
        Ok(self.own_ops(stream, after, 1)?.first().map(|op| op.stamp.captured_ms))
    }

    fn digest(&mut self, scopes: &[Scope]) -> Result<u64, MemoryError> {
        Ok(self.items(scopes)?.into_iter().fold(0, u64::wrapping_add))
    }

    fn items(&mut self, scopes: &[Scope]) -> Result<Vec<u64>, MemoryError> {
        let held = self.records.iter().filter(|(_, held)| in_scopes(scopes, held));
        Ok(held.filter_map(|(key, held)| held.confirmed.as_ref().map(|record| item(key, record))).collect())
    }

    fn keys_of_items(&mut self, items: &[u64]) -> Result<Vec<RecordKey>, MemoryError> {
        let is_one = |(key, held): &(&RecordKey, &Held)| {
            held.leaving.is_none() && held.confirmed.as_ref().is_some_and(|record| items.contains(&item(key, record)))
        };
        Ok(self.records.iter().filter(is_one).map(|(key, _)| key.clone()).collect())
    }

    fn outside(&mut self, scopes: &[Scope], limit: usize) -> Result<Vec<RecordKey>, MemoryError> {
        let is_outside = |(key, held): &(&RecordKey, &Held)| match self.awaited.get(*key) {
            Some(scope) => !scopes.iter().any(|prefix| prefix.covers(scope)),
            None => held.confirmed.is_some() && held.leaving.is_none() && !in_scopes(scopes, held),
        };
        Ok(self.records.iter().filter(is_outside).take(limit).map(|(key, _)| key.clone()).collect())
    }

    fn awaited(&mut self, limit: usize) -> Result<Vec<RecordKey>, MemoryError> {
        let is_awaited = |(_, held): &(&RecordKey, &Held)| held.awaits_whole && !held.is_pending;
        Ok(self.records.iter().filter(is_awaited).take(limit).map(|(key, _)| key.clone()).collect())
    }

    fn erasure(&mut self, key: &RecordKey) -> Result<Option<u64>, MemoryError> {
        Ok(self.erasures.get(&name_of(key)).copied())
    }

    fn note_erasures(&mut self, erased: &[Erased]) -> Result<(), MemoryError> {
        for Erased { number, name } in erased {
            let known = self.erasures.entry(*name).or_default();
            *known = (*number).max(*known);
        }
        Ok(())
    }

    fn keys_named(&mut self, names: &BTreeSet<ErasedName>) -> Result<Vec<RecordKey>, MemoryError> {
        let written = self.own.values().map(|own| &own.op.key);
        let all = written.chain(self.records.keys()).chain(self.replaced.iter().map(|(key, _)| key));
        let keys: BTreeSet<&RecordKey> = all.collect();
        Ok(keys.into_iter().filter(|key| names.contains(&name_of(key))).cloned().collect())
    }

    fn erase(&mut self, key: &RecordKey) -> Result<(), MemoryError> {
        let number = self.erasure(key)?.unwrap_or(0);
        for own in self.own.values_mut().filter(|own| own.op.key == *key && own.fate.is_some()) {
            if !knows(&own.op, number) {
                own.op = own.op.erased();
                own.counted.clear();
            }
        }
        self.replaced.retain(|(of, _)| of != key);
        Ok(())
    }

    fn pleas(&mut self) -> Result<Vec<Plea>, MemoryError> {
        Ok(self.pleas.clone())
    }

    fn clear_pleas(&mut self, told: &[Plea]) -> Result<(), MemoryError> {
        self.pleas.retain(|plea| !told.contains(plea));
        Ok(())
    }

    fn about(&mut self) -> Result<About, MemoryError> {
        Ok(About {
            version: "memory".to_owned(),
            disk_free: 0,
            records: self.records.len() as u64,
            print: self.print,
            ..About::default()
        })
    }
}

/// What a gateway holds of one of its incarnations.
#[derive(Debug)]
pub struct MemoryOld<'a> {
    gateway: &'a MemoryGateway,
    origin: Origin,
}

impl MemoryGateway {
    /// What it holds of an incarnation.
    pub fn old(&self, origin: Origin) -> MemoryOld<'_> {
        MemoryOld { gateway: self, origin }
    }
}

impl MemoryOld<'_> {
    fn own(&self, stream: Stream, after: Seq) -> impl DoubleEndedIterator<Item = &Own> {
        let dot = |seq| Dot { origin: self.origin, stream, seq };
        self.gateway.own.range(dot(after.next())..=dot(Seq(u64::MAX))).map(|(_, own)| own)
    }

    /// The last op of each stream that is here.
    pub fn last(&self) -> [Seq; 3] {
        Stream::ALL.map(|stream| self.own(stream, Seq(0)).next_back().map_or(Seq(0), |own| own.op.stamp.dot.seq))
    }
}

impl Old for MemoryOld<'_> {
    type Error = MemoryError;

    fn ops(&mut self, stream: Stream, after: Seq, limit: usize) -> Result<Vec<Op>, MemoryError> {
        let ops = self.own(stream, after).map(|own| &own.op);
        Ok(ops.filter(|op| !op.is_erased()).take(limit).cloned().collect())
    }

    fn chain_at(&mut self, stream: Stream, seq: Seq) -> Result<Option<Short>, MemoryError> {
        let own = self.gateway.own.get(&Dot { origin: self.origin, stream, seq });
        Ok(own.map(|own| own.chain.short()))
    }

    fn counted_before(&mut self, op: &Op, field: &FieldName) -> Result<Option<(u64, u64)>, MemoryError> {
        Ok(self.gateway.own.get(&op.stamp.dot).and_then(|own| own.counted.get(field).copied()))
    }
}

/// What it holds of the present one.
impl Old for MemoryGateway {
    type Error = MemoryError;

    fn ops(&mut self, stream: Stream, after: Seq, limit: usize) -> Result<Vec<Op>, MemoryError> {
        self.old(self.state.origin).ops(stream, after, limit)
    }

    fn chain_at(&mut self, stream: Stream, seq: Seq) -> Result<Option<Short>, MemoryError> {
        self.old(self.state.origin).chain_at(stream, seq)
    }

    fn counted_before(&mut self, op: &Op, field: &FieldName) -> Result<Option<(u64, u64)>, MemoryError> {
        self.old(self.state.origin).counted_before(op, field)
    }
}
