//! One write under two numbers.
//!
//! Whoever goes on under another origin renumbers what the hub has not acknowledged, and so does every box that runs with a copy
//! of its card: what they had in common when the card was copied comes once from each. Box 1 has taken the old number with a
//! write of its own, box 2 and box 3 each bring the same write under an origin of their own. The later one counts for nothing.
//!
//! # Invariants
//! - A copy is acknowledged like any write, so that its sender holds no more of it than the hub does: it confirms it, and gets
//!   every cell that it names as it stands here.
//! - Totals of a counter are those of an origin, and later ones have the copy in them. So its count is taken, and as much taken
//!   back by a write of the hub.

use std::collections::{BTreeMap, BTreeSet};

use super::judge::{claimed_scope, keep, try_on};
use super::own::write_as_hub;
use super::quarantine::log_news;
use super::{Arrived, LogLine, Logged, Snapshot, Store};
use crate::clock::TimeQuality;
use crate::digest::op_hash;
use crate::id::{Device, Dot, FieldName, HubSeq, Origin, Seq, Stream};
use crate::limits::REPAIR_STEP_MS;
use crate::merge::{Presence, presence};
use crate::payload::News;
use crate::record::{Change, Op, Record, Stamp, State};
use crate::rules::{Rule, Rules, TypeRules};
use crate::value::Value;

/// Why the hub takes back what a counter got twice.
pub(super) const COUNTED_TWICE: &str = "counted twice: two copies of one card brought it";
/// Why the hub takes back what an op counted that a person dropped.
pub(super) const DROPPED: &str = "counted by a change that was dropped";
/// Why an op is dropped whose first copy waits in quarantine, or one in quarantine when another was applied.
pub(super) const CAME_BEFORE: &str = "another copy of this card has brought it already";

/// Where the copy of an op is that counts.
pub(super) enum Copy {
    /// It was applied, under this number.
    Applied(Dot),
    /// It waits in quarantine.
    Waiting,
}

/// What is known of an origin under which copies may come. There are none of what was written under the first origin of an
/// enrolment, unless another copy of the card has gone on from it, or handed it in.
pub(super) struct Copies {
    /// The first origin of the family.
    first: Origin,
    /// The number under which its first op arrived. Who has seen that wrote after it had gone on under this origin.
    began: Option<HubSeq>,
}

impl Copies {
    /// Whether copies may come in this stream of an origin.
    ///
    /// # Errors
    /// What the store reports.
    pub(super) fn of<S: Snapshot>(store: &mut S, origin: Origin, stream: Stream) -> Result<Option<Copies>, S::Error> {
        let began = match store.origin_before(origin)? {
            Some(_) => store.ranges(origin, stream, Seq(0), Seq(1))?.first().map(|range| range.hseq),
            None if store.is_followed(origin)? => None,
            None => return Ok(None),
        };
        Ok(Some(Copies { first: first_of(store, origin)?, began }))
    }

    /// The copy of an op that counts: one that was applied, or else one that waits in quarantine. What waits because its sender
    /// was shut out does not count; it may be a thief's.
    ///
    /// # Errors
    /// What the store reports.
    pub(super) fn find<S: Snapshot>(&self, store: &mut S, op: &Op) -> Result<Option<Copy>, S::Error> {
        let mut waiting = None;
        if self.began.is_some_and(|began| op.stamp.seen >= began) {
            return Ok(None);
        }
        for dot in same_writes(store, op)? {
            if dot.origin == op.stamp.dot.origin || first_of(store, dot.origin)? != self.first {
                continue;
            }
            if store.applied_as(dot)?.is_some() {
                return Ok(Some(Copy::Applied(dot)));
            }
            let held = store.held_of(&op.key, dot.origin)?;
            if held.iter().any(|held| held.op.stamp.dot == dot && !held.for_person) {
                waiting = Some(Copy::Waiting);
            }
        }
        Ok(waiting)
    }
}

/// The op without items of lists that stand in its record already, because somebody who had read them showed them to a hub that had
/// lost the op; `None` if there are none.
///
/// # Errors
/// What the store reports.
pub(super) fn without_shown<S: Snapshot>(store: &mut S, op: &Op, record: &Record) -> Result<Option<Op>, S::Error> {
    let dot = op.stamp.dot;
    if !op.changes.values().any(|change| matches!(change, Change::Append(_))) {
        return Ok(None);
    }
    let Some(copies) = Copies::of(store, dot.origin, dot.stream)? else { return Ok(None) };
    let came: Vec<Dot> = store.writes_of(&op.key)?.iter().map(|op| op.stamp.dot).collect();
    let mut rest = op.clone();
    for (name, change) in &mut rest.changes {
        let Some(State::Log(log)) = record.cells.get(name).map(|cell| &cell.state) else { continue };
        let Change::Append(values) = change else { continue };
        let mut shown = Vec::new();
        for (hlc, of, _, value) in &log.entries {
            let is_shown = *hlc == op.stamp.hlc && of.origin != dot.origin && !came.contains(of);
            if is_shown && first_of(store, of.origin)? == copies.first {
                shown.push(value);
            }
        }
        values.retain(|value| !shown.contains(&value));
    }
    Ok(Some(rest).filter(|rest| rest != op))
}

/// The op with what it says of other writes of its own origin said of their copies, too: these count instead of them, while a
/// record that somebody showed to a hub that was put back may hold them under their own numbers. `None` if none has a copy.
///
/// # Errors
/// What the store reports.
pub(super) fn renamed<S: Snapshot>(store: &mut S, op: &Op) -> Result<Option<Op>, S::Error> {
    let dot = op.stamp.dot;
    if !op.changes.values().any(|change| names_origin(change, dot.origin)) {
        return Ok(None);
    }
    let Some(copies) = Copies::of(store, dot.origin, dot.stream)? else { return Ok(None) };
    let all = store.writes_of(&op.key)?;
    let own = || all.iter().filter(|own| own.stamp.dot.origin == dot.origin);
    let mut renamed = op.clone();
    for change in renamed.changes.values_mut() {
        change.rename(|dot| {
            let own = own().find(|own| own.stamp.dot == dot);
            Ok(match own.map(|own| copies.find(store, own)).transpose()?.flatten() {
                Some(Copy::Applied(first)) => vec![dot, first],
                Some(Copy::Waiting) | None => vec![dot],
            })
        })?;
    }
    Ok(Some(renamed).filter(|renamed| renamed != op))
}

/// Whether a change says something of other writes of this origin.
fn names_origin(change: &Change, origin: Origin) -> bool {
    match change {
        Change::Put { unseen, .. } => unseen.iter().any(|dot| dot.origin == origin),
        _ => change.removed().iter().flat_map(|(_, writes)| writes.keys()).any(|(o, _)| *o == origin),
    }
}

/// Whether an op in quarantine counts for nothing if it is let go, because another copy of it was applied meanwhile.
///
/// # Errors
/// What the store reports.
pub(super) fn is_applied<S: Snapshot>(store: &mut S, op: &Op) -> Result<bool, S::Error> {
    let dot = op.stamp.dot;
    let Some(copies) = Copies::of(store, dot.origin, dot.stream)? else { return Ok(false) };
    Ok(matches!(copies.find(store, op)?, Some(Copy::Applied(_))))
}

/// An origin and those that it goes on from, up to the first. What a gateway said that it went on from may be a number that was
/// given later, so it may come back to where it began; there it ends.
///
/// # Errors
/// What the store reports.
pub fn lineage<S: Snapshot>(store: &mut S, origin: Origin) -> Result<Vec<Origin>, S::Error> {
    let (mut line, mut seen, mut at) = (vec![origin], BTreeSet::from([origin]), origin);
    while let Some(before) = store.origin_before(at)?.filter(|before| seen.insert(*before)) {
        line.push(before);
        at = before;
    }
    Ok(line)
}

/// The first origin of those that go on from each other.
fn first_of<S: Snapshot>(store: &mut S, origin: Origin) -> Result<Origin, S::Error> {
    Ok(lineage(store, origin)?.last().copied().unwrap_or(origin))
}

/// Whether two origins go back to the same one.
pub(super) fn are_of_one_card<S: Snapshot>(store: &mut S, one: Origin, other: Origin) -> Result<bool, S::Error> {
    Ok(first_of(store, one)? == first_of(store, other)?)
}

/// Takes in an op of which the hub has another copy.
///
/// # Errors
/// What the store reports.
pub(super) fn admit<S: Store>(
    store: &mut S,
    device: Device,
    arrived: &Arrived<'_>,
    copy: Copy,
) -> Result<(), S::Error> {
    let op = arrived.op;
    let hseq = store.next()?;
    let before = match copy {
        Copy::Applied(_) => store.record(&op.key)?.unwrap_or_default(),
        Copy::Waiting => {
            store.append(arrived, hseq, true)?;
            log_news(store, Some(device), op, hseq, News::Discarded(CAME_BEFORE.to_owned()))?;
            return count_for_nothing(store, op, COUNTED_TWICE);
        }
    };
    store.append(arrived, hseq, false)?;
    let rules = store.rules()?;
    let counts = counts(op, &before, rules.of(&op.key.record_type));
    let Some(mut applied) = try_on(store, &counts, hseq, &rules)? else { return Ok(()) };
    // With its place the record counts as new to whoever was behind, and is sent whole.
    for (name, cell) in &mut applied.record.cells {
        if op.changes.contains_key(name) || *name == FieldName::scope() {
            cell.changed = hseq;
        }
    }
    applied.merged.changed = true;
    if let Some(claimed) = claimed_scope(op).filter(|claimed| *claimed != applied.record.scope()) {
        store.log(&LogLine { hseq, key: op.key.clone(), what: Logged::Left(claimed) })?;
    }
    let back = compensation(&counts, &before, &applied.record, rules.of(&op.key.record_type));
    keep(store, &counts, hseq, applied, &rules)?;
    match back.is_empty() {
        true => Ok(()),
        false => write_as_hub(store, &op.key, back, COUNTED_TWICE, &rules),
    }
}

/// Has an op that is dropped count for nothing also in what its origin counts later: that has it in its totals. So it is counted, and
/// as much taken back by a write of the hub. Where the record is not here, that is done when it comes ([`count_dropped`]).
///
/// # Errors
/// What the store reports.
pub(super) fn count_for_nothing<S: Store>(store: &mut S, op: &Op, why: &str) -> Result<(), S::Error> {
    let Some(before) = store.record(&op.key)? else { return Ok(()) };
    let rules = store.rules()?;
    let counts = counts(op, &before, rules.of(&op.key.record_type));
    if counts.changes.is_empty() {
        return Ok(());
    }
    let hseq = store.next()?;
    let Some(applied) = try_on(store, &counts, hseq, &rules)? else { return Ok(()) };
    let back = compensation(&counts, &before, &applied.record, rules.of(&op.key.record_type));
    if back.is_empty() {
        return Ok(());
    }
    keep(store, &counts, hseq, applied, &rules)?;
    write_as_hub(store, &op.key, back, why, &rules)
}

/// Has what was dropped before this op made its record count for nothing, as [`count_for_nothing`] does it. What the origin of the op itself
/// had counted is in its totals by now.
pub(super) fn count_dropped<S: Store>(store: &mut S, op: &Op, rules: &Rules) -> Result<(), S::Error> {
    if !rules.of(&op.key.record_type).counts() {
        return Ok(());
    }
    let (mut dropped, mut contained) = (Vec::new(), BTreeMap::new());
    for known in store.writes_of(&op.key)?.iter().filter(|known| known.stamp.dot != op.stamp.dot) {
        let (dot, counts) =
            (known.stamp.dot, known.changes.values().any(|change| matches!(change, Change::Count { .. })));
        if counts && store.applied_as(dot)?.is_none() {
            let held = store.held_of(&op.key, dot.origin)?;
            if !held.iter().any(|held| held.op.stamp.dot == dot) {
                dropped.push(known.clone());
            }
        }
    }
    let Some(record) = store.record(&op.key)?.filter(|_| !dropped.is_empty()) else { return Ok(()) };
    for known in dropped.iter().filter(|known| known.stamp.dot.origin == op.stamp.dot.origin) {
        let own = counts(known, &record, rules.of(&op.key.record_type));
        for (name, change) in own.changes.into_iter().filter(|(name, _)| op.changes.contains_key(name)) {
            if let Change::Count { plus, minus } = change {
                let total: &mut (u64, u64) = contained.entry(name).or_default();
                *total = (total.0.max(plus), total.1.max(minus));
            }
        }
    }
    let back: BTreeMap<_, _> =
        contained.into_iter().map(|(name, (plus, minus))| (name, Change::Count { plus: minus, minus: plus })).collect();
    if !back.is_empty() {
        write_as_hub(store, &op.key, back, DROPPED, rules)?;
    }
    dropped.iter().try_for_each(|known| count_for_nothing(store, known, DROPPED))
}

/// The op as far as it adds to counters of this record. One whose rule is another now is converted by the next write, and has no totals
/// then.
fn counts(op: &Op, record: &Record, rules: &TypeRules) -> Op {
    let is_counter = |name: &FieldName| {
        let is_one = record.cells.get(name).is_none_or(|cell| matches!(cell.state, State::Counter(_)));
        *rules.rule(name) == Rule::Counter && is_one
    };
    let mut counts = op.clone();
    counts.changes.retain(|name, change| matches!(change, Change::Count { .. }) && is_counter(name));
    counts
}

/// What the hub has to count so that the counters show again what they showed before the op; and a record that was deleted stays so:
/// nobody has counted anything that whoever deleted it did not know of.
fn compensation(op: &Op, before: &Record, after: &Record, rules: &TypeRules) -> BTreeMap<FieldName, Change> {
    let total = |record: &Record, name: &FieldName, origin: Origin| match record.cells.get(name).map(|cell| &cell.state)
    {
        Some(State::Counter(counter)) => counter.totals.get(&origin).copied().unwrap_or_default(),
        _ => (0, 0),
    };
    let mut back = BTreeMap::new();
    for name in op.changes.keys() {
        let (was, is) = (total(before, name, op.stamp.dot.origin), total(after, name, op.stamp.dot.origin));
        let hub = total(after, name, Origin::HUB);
        let plus = hub.0.saturating_add(is.1.saturating_sub(was.1));
        let minus = hub.1.saturating_add(is.0.saturating_sub(was.0));
        if was != is {
            back.insert(name.clone(), Change::Count { plus, minus });
        }
    }
    if !back.is_empty() && presence(before, rules) == Presence::Deleted {
        back.insert(FieldName::deleted(), Change::put(Value::Bool(true)));
    }
    back
}

/// Where an op is that says the same, under whatever number; its own number if it is there, too.
pub(super) fn find<S: Snapshot>(store: &mut S, op: &Op) -> Result<Option<Dot>, S::Error> {
    // Of what was erased since only the hash is here; and who hands in what an op alone counted shows another.
    let is_erased =
        |known: &Op| known.is_erased() && (known.stamp.dot, known.stamp.hlc) == (op.stamp.dot, op.stamp.hlc);
    if store.op_hash(op.stamp.dot)? == Some(op_hash(op)) || store.writes_of(&op.key)?.iter().any(is_erased) {
        return Ok(Some(op.stamp.dot));
    }
    let dots = same_writes(store, op)?;
    Ok(dots.iter().find(|dot| **dot == op.stamp.dot).or(dots.first()).copied())
}

/// The numbers under which a write arrived, in order of arrival.
fn same_writes<S: Snapshot>(store: &mut S, op: &Op) -> Result<Vec<Dot>, S::Error> {
    let all = store.writes_of(&op.key)?;
    Ok(all.iter().filter(|known| is_same_write(known, op)).map(|known| known.stamp.dot).collect())
}

/// Whether two ops are one write that was given two numbers. A clock of a gateway never shows the same twice; what depends on the
/// number is left out, and so is where it belongs, which an enrolment decides.
///
/// Two copies of a card in boxes without a clock go on from the same time, though, and may do the same as their first thing. So
/// what is not the same when done twice must also have been captured at the same moment.
fn is_same_write(one: &Op, other: &Op) -> bool {
    let adds_up = |change: &Change| matches!(change, Change::Count { .. } | Change::Append(_));
    let (this, that) = (&one.stamp, &other.stamp);
    let (apart_ms, adds) = (this.captured_ms.abs_diff(that.captured_ms), one.changes.values().any(adds_up));
    let same_time = this.hlc == that.hlc && (apart_ms == 0 || !adds);
    let same_circumstances = (same_time || may_be_repaired(Captured::of(this), Captured::of(that)))
        && one.stamp.author == other.stamp.author
        && one.stamp.settles == other.stamp.settles
        && one.changes.len() == other.changes.len();
    same_circumstances
        && one.changes.iter().zip(&other.changes).all(|((field, a), (other_field, b))| {
            field == other_field && (*field == FieldName::scope() || is_same_change(a, b))
        })
}

/// When a write was captured, and how good that time is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Captured {
    pub(super) ms: i64,
    pub(super) quality: TimeQuality,
}

impl Captured {
    pub(super) fn of(stamp: &Stamp) -> Captured {
        Captured { ms: stamp.captured_ms, quality: stamp.quality }
    }
}

/// Whether two times may be of one write, because each copy of the card has repaired for itself what it has: what a repair leaves as
/// it was is the same then.
pub(super) fn may_be_repaired(one: Captured, other: Captured) -> bool {
    let is_good = one.quality == TimeQuality::Good || other.quality == TimeQuality::Good;
    !is_good && one.ms.abs_diff(other.ms) % REPAIR_STEP_MS.unsigned_abs() == 0
}

fn is_same_change(one: &Change, other: &Change) -> bool {
    match (one, other) {
        (Change::Put { value, .. }, Change::Put { value: other, .. }) => value == other,
        (Change::Append(values), Change::Append(others)) => values == others,
        (Change::Count { .. }, Change::Count { .. }) => true,
        (Change::Members { add, remove }, Change::Members { add: added, remove: removed }) => {
            add == added && remove.iter().map(|(member, _)| member).eq(removed.iter().map(|(member, _)| member))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryHub;

    #[test]
    fn origins_that_go_on_from_each_other_in_a_circle_have_an_end() {
        let mut hub = MemoryHub::default();
        let [one, two] = [Origin(1), Origin(2)];
        // Somebody speaks under a number that was not given yet, and later it is.
        assert_eq!(hub.new_origin(Device(1), two).unwrap(), one);
        assert_eq!(hub.new_origin(Device(1), one).unwrap(), two);
        assert!([one, two].contains(&first_of(&mut hub, one).unwrap()));
        assert!(Copies::of(&mut hub, two, Stream::Normal).unwrap().is_some());
    }
}
