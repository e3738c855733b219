//! Fields that merge by their type: sets (`crdts::Orswot`), append-only lists (`crdts::GSet`), counters (`crdts::VClock`).
//!
//! A PN-counter is two grow-only clocks, one for what each origin added and one for what it subtracted. The crate's
//! `PNCounter` does not show its parts, so the two clocks are held directly.

use std::collections::{BTreeMap, BTreeSet};

use crdts::orswot::{Op as SetOp, Orswot};
use crdts::{CmRDT, CvRDT, GSet, VClock};

use super::Step;
use crate::clock::Hlc;
use crate::id::{Dot, HubSeq, Origin, Writer};
use crate::record::{Change, CounterState, Entry, LogState, Members, SetState, State, Touch};
use crate::rules::Rule;
use crate::value::Value;

impl Step<'_> {
    pub(super) fn apply_set(&self, state: Option<State>, change: &Change) -> SetState {
        let before = match state {
            Some(State::Set(set)) => Some(set),
            _ => None,
        };
        let mut set = before.as_ref().map(to_orswot).unwrap_or_default();
        let mut removed = before.as_ref().map(|set| set.ahead.clone()).unwrap_or_default();
        let (add, remove) = match change {
            Change::Members { add, remove } => (add.clone(), remove.as_slice()),
            other => (listed(other), [].as_slice()),
        };
        for (member, dots) in remove {
            set.apply(removal(member, dots));
            remember(&mut removed, member, dots);
        }
        let dot = crdts::Dot::new(self.stamp.dot.writer(), self.stamp.dot.seq.0);
        set.apply(SetOp::Add { dot, members: add });
        from_orswot(&set, self.touch(before.as_ref().map(|s| &s.touch)), removed)
    }

    pub(super) fn apply_log(&self, state: Option<State>, change: &Change) -> LogState {
        let before = match state {
            Some(State::Log(log)) => Some(log),
            _ => None,
        };
        let values = match change {
            Change::Append(values) => values.clone(),
            other => listed(other),
        };
        let (hlc, dot) = (self.stamp.hlc, self.stamp.dot);
        let added = (0u32..).zip(values).map(|(nth, value)| (hlc, dot, nth, value)).collect();
        let entries = united_entries(before.as_ref().map(|log| &log.entries), added);
        LogState { touch: self.touch(before.as_ref().map(|l| &l.touch)), entries }
    }

    pub(super) fn apply_counter(&self, state: Option<State>, change: &Change) -> CounterState {
        let before = match state {
            Some(State::Counter(counter)) => Some(counter),
            _ => None,
        };
        let totals = before.as_ref().map(|c| c.totals.clone()).unwrap_or_default();
        let mut plus: VClock<Origin> = totals.iter().map(|(o, (p, _))| crdts::Dot::new(*o, *p)).collect();
        let mut minus: VClock<Origin> = totals.iter().map(|(o, (_, m))| crdts::Dot::new(*o, *m)).collect();
        let origin = self.stamp.dot.origin;
        let (all_plus, all_minus) = match change {
            Change::Count { plus, minus } => (*plus, *minus),
            Change::Put { value: Some(Value::Int(n)), .. } => split(*n),
            _ => (0, 0),
        };
        plus.apply(crdts::Dot::new(origin, all_plus));
        minus.apply(crdts::Dot::new(origin, all_minus));
        let origins: BTreeSet<Origin> = totals.into_keys().chain([origin]).collect();
        let totals = origins.into_iter().map(|o| (o, (plus.get(&o), minus.get(&o)))).collect();
        CounterState { touch: self.touch(before.as_ref().map(|c| &c.touch)), totals }
    }
}

/// Whether a self-merging cell has this write in it already. A set may know a write from what somebody showed a hub that was put
/// back, and have members all the same that it took out: who does not hold all of a record cannot tell what is not in it.
pub(super) fn contains(state: &State, dot: Dot, change: &Change) -> bool {
    match (state, change) {
        (State::Set(set), Change::Members { remove, .. }) => {
            let is_in = |member: &Value, upto: &BTreeMap<Writer, u64>| {
                let mut known = set.members.get(member).into_iter().flatten();
                known.any(|(writer, seq)| upto.get(writer).is_some_and(|upto| seq <= upto))
            };
            set.clock.get(&dot.writer()).is_some_and(|seq| *seq >= dot.seq.0)
                && !remove.iter().any(|(member, upto)| is_in(member, upto))
        }
        (State::Log(log), Change::Append(_)) => log.entries.iter().any(|(_, known, _, _)| *known == dot),
        (State::Counter(counter), Change::Count { plus, minus }) => {
            counter.totals.get(&dot.origin).is_some_and(|(p, m)| p >= plus && m >= minus)
        }
        _ => false,
    }
}

type Entries = BTreeSet<(Hlc, Dot, u32, Value)>;

/// All entries of two lists, each once. The time of a write may have been repaired twice, because the card was put back to
/// before the first repair; then the entry that one number names stands under the earlier time.
pub(super) fn united_entries(ours: Option<&Entries>, theirs: Entries) -> Entries {
    let (mut all, mut known) = (GSet::new(), BTreeSet::new());
    let mut both = theirs;
    both.extend(ours.into_iter().flatten().cloned());
    for entry @ (_, dot, nth, value) in &both {
        if known.insert((dot, nth, value)) {
            all.insert(entry.clone());
        }
    }
    all.into()
}

/// A whole number as additions and subtractions.
fn split(n: i64) -> (u64, u64) {
    match n >= 0 {
        true => (n.unsigned_abs(), 0),
        false => (0, n.unsigned_abs()),
    }
}

/// What a change made under other rules means for a list.
fn listed(change: &Change) -> Vec<Value> {
    match change {
        Change::Put { value: Some(Value::List(items)), .. } => items.clone(),
        Change::Put { value: Some(value), .. } => vec![value.clone()],
        Change::Append(values) | Change::Members { add: values, .. } => values.clone(),
        Change::Put { value: None, .. } | Change::Count { .. } => Vec::new(),
    }
}

/// A register that has just become a set, list or counter: its shown value, as written by its author.
pub(super) fn from_values(state: State, rule: &Rule) -> State {
    let cell = crate::record::Cell { changed: HubSeq::NONE, state };
    let (Some(stamp), value) = (cell.stamp().cloned(), cell.value()) else { return cell.state };
    let step = Step {
        field: &crate::id::FieldName::scope(),
        stamp: &stamp,
        rule,
        changed_before: HubSeq::NONE,
        is_stranger: &|_| false,
    };
    let change = Change::Put { value, unseen: Vec::new() };
    match rule {
        Rule::Set => State::Set(step.apply_set(None, &change)),
        Rule::AppendOnly => State::Log(step.apply_log(None, &change)),
        Rule::Counter => State::Counter(step.apply_counter(None, &change)),
        _ => State::Register(vec![Entry { stamp: stamp.clone(), value: cell.value() }]),
    }
}

/// Rebuilds the set by its own operations: each dot with the members it added, in order.
fn to_orswot(state: &SetState) -> Orswot<Value, Writer> {
    let mut by_dot: BTreeMap<(Writer, u64), Vec<Value>> = BTreeMap::new();
    for (writer, seq) in &state.clock {
        by_dot.insert((*writer, *seq), Vec::new());
    }
    for (member, dots) in &state.members {
        for (writer, seq) in dots {
            by_dot.entry((*writer, *seq)).or_default().push(member.clone());
        }
    }
    let mut set = Orswot::new();
    for ((writer, seq), members) in by_dot {
        set.apply(SetOp::Add { dot: crdts::Dot::new(writer, seq), members });
    }
    for (member, dots) in &state.ahead {
        set.apply(removal(member, dots));
    }
    set
}

/// It waits within the set for what has not been added yet.
fn removal(member: &Value, dots: &BTreeMap<Writer, u64>) -> SetOp<Value, Writer> {
    let clock = dots.iter().map(|(writer, seq)| crdts::Dot::new(*writer, *seq)).collect();
    SetOp::Rm { clock, members: vec![member.clone()] }
}

fn remember(removed: &mut Members, member: &Value, dots: &BTreeMap<Writer, u64>) {
    let known = removed.entry(member.clone()).or_default();
    for (writer, seq) in dots {
        let upto = known.entry(*writer).or_default();
        *upto = (*upto).max(*seq);
    }
}

/// A set that has seen what both have seen.
pub(super) fn united_sets(ours: &SetState, theirs: &SetState, touch: Touch) -> SetState {
    let mut set = to_orswot(ours);
    set.merge(to_orswot(theirs));
    let mut removed = ours.ahead.clone();
    for (member, dots) in &theirs.ahead {
        remember(&mut removed, member, dots);
    }
    from_orswot(&set, touch, removed)
}

/// Of what was `removed` ahead, that is kept which has not come.
fn from_orswot(set: &Orswot<Value, Writer>, touch: Touch, mut removed: Members) -> SetState {
    let dots = |clock: &VClock<Writer>| clock.iter().map(|dot| (*dot.actor, dot.counter)).collect::<BTreeMap<_, _>>();
    let members = set.iter().map(|ctx| (ctx.val.clone(), dots(&ctx.rm_clock))).collect();
    let clock = dots(&set.clock());
    for dots in removed.values_mut() {
        dots.retain(|writer, seq| clock.get(writer).is_none_or(|known| known < seq));
    }
    removed.retain(|_, dots| !dots.is_empty());
    SetState { touch, clock, members, ahead: removed }
}
