//! Joining what a gateway holds with what a hub from a backup has: state with state, not op by op, because whose ops they
//! were may never come back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Merged, apply_among, collections, fit};
use crate::id::{Dot, FieldName, HubSeq, Origin, RecordKey, Writer};
use crate::record::{Cell, Change, CounterState, LogState, Op, Record, SetState, Stamp, State, Touch};
use crate::rules::TypeRules;

/// Under what numbers a record is joined.
#[derive(Debug, Clone)]
pub struct Joining {
    /// What it becomes here. The numbers that the lost hub gave mean nothing any more.
    pub hseq: HubSeq,
    /// The last number that both hubs share: of what a write says it had seen, this much counts.
    pub common: HubSeq,
    /// Writes that came here as ops and were applied. An op says more than the value that is left of it, such as what its
    /// author had not seen, so it is not made again from that value.
    pub applied: BTreeSet<Dot>,
    /// Origins of which one number means different writes here and there. That the other one contains a number says nothing of ours then.
    pub forked: BTreeSet<Origin>,
    /// Whether the other one had all of the record. What a set does not have counts as taken out of it only then.
    pub is_whole: bool,
}

/// Joins an offered record into ours. A value of a register takes part as if it was written anew by its author; what merges
/// by its type is united.
pub fn join(record: &mut Record, key: &RecordKey, offered: &Record, at: &Joining, rules: &TypeRules) -> Merged {
    let mut merged = Merged::default();
    // What came since under numbers of the same origin may be of another copy of its card.
    let came_since = |standing: &Stamp| standing.hseq > at.common;
    for op in writes(key, offered, at) {
        // A dot that stands with another value is a twin's; it is found where its ops meet.
        let Ok(one) = apply_among(record, &op, at.hseq, rules, &came_since) else { continue };
        merged.changed |= one.changed;
        merged.superseded.extend(one.superseded);
    }
    for (name, cell) in &offered.cells {
        let rule = rules.rule(name);
        let before = record.cells.get(name);
        let state = before.map(|cell| fit(cell.state.clone(), rule, cell.changed));
        let Some(united) = unite(state.as_ref(), &cell.state, at) else { continue };
        merged.changed = true;
        record.cells.insert(name.clone(), Cell { changed: at.hseq, state: united });
    }
    merged
}

/// The registers of a record as the writes that made them, oldest first.
fn writes(key: &RecordKey, offered: &Record, at: &Joining) -> Vec<Op> {
    let mut by_dot = BTreeMap::new();
    for (name, cell) in &offered.cells {
        let State::Register(entries) = &cell.state else { continue };
        for entry in entries.iter().filter(|entry| !at.applied.contains(&entry.stamp.dot)) {
            let op = by_dot.entry(entry.stamp.marker()).or_insert_with(|| Op {
                stamp: renumbered(&entry.stamp, at),
                key: key.clone(),
                changes: BTreeMap::<FieldName, Change>::new(),
            });
            // Those that stand beside it had not been seen, even if they are of the same origin.
            let unseen = entries.iter().map(|e| e.stamp.dot).filter(|dot| *dot != entry.stamp.dot).collect();
            op.changes.insert(name.clone(), Change::Put { value: entry.value.clone(), unseen });
        }
    }
    by_dot.into_values().collect()
}

fn renumbered(stamp: &Stamp, at: &Joining) -> Stamp {
    Stamp { hseq: HubSeq::NONE, seen: stamp.seen.min(at.common), ..stamp.clone() }
}

/// The touch of a cell that is not here at all. Numbers of the lost hub become ours: they would say of a deletion that was made here
/// since that it had seen this. Where there was one writer there is one.
fn taken_over(touch: &Touch, at: &Joining) -> Touch {
    let ours = |number: HubSeq| if number > at.common { at.hseq } else { number };
    // One without a number would count as the last for ever.
    let hseq = Some(ours(touch.last.hseq)).filter(|hseq| *hseq != HubSeq::NONE).unwrap_or(at.hseq);
    let last = Stamp { hseq, seen: touch.last.seen.min(at.common), ..Stamp::clone(&touch.last) };
    Touch { last: Arc::new(last), basis: ours(touch.basis) }
}

/// A set, list or counter with what another one knows more; `None` if that is nothing.
fn unite(ours: Option<&State>, theirs: &State, at: &Joining) -> Option<State> {
    let touch = |touch: &Touch| {
        let last = Stamp { hseq: at.hseq, ..renumbered(&touch.last, at) };
        // Nobody else has computed this, so everybody is sent it.
        Touch { last: Arc::new(last), basis: at.hseq }
    };
    let united = match (ours, theirs) {
        (_, State::Register(_)) => return None,
        (Some(State::Set(ours)), State::Set(theirs)) => {
            let mut theirs = theirs.clone();
            for (member, writes) in &ours.members {
                let is_told = |(writer, seq): &(&Writer, &u64)| {
                    let is_kept = !at.is_whole || at.forked.contains(&writer.0);
                    is_kept && theirs.clock.get(writer).is_some_and(|told| *seq <= told)
                };
                let told: Vec<(Writer, u64)> = writes.iter().filter(is_told).map(|(w, seq)| (*w, *seq)).collect();
                if !told.is_empty() {
                    theirs.members.entry(member.clone()).or_default().extend(told);
                }
            }
            State::Set(collections::united_sets(ours, &theirs, touch(&theirs.touch)))
        }
        (Some(State::Log(ours)), State::Log(theirs)) => {
            let theirs_alone =
                theirs.entries.iter().filter(|(_, dot, ..)| !at.applied.contains(dot)).cloned().collect();
            let entries = collections::united_entries(Some(&ours.entries), theirs_alone);
            State::Log(LogState { touch: touch(&theirs.touch), entries })
        }
        (Some(State::Counter(ours)), State::Counter(theirs)) => {
            let mut totals = ours.totals.clone();
            for (origin, (plus, minus)) in &theirs.totals {
                let known = totals.entry(*origin).or_default();
                *known = (known.0.max(*plus), known.1.max(*minus));
            }
            State::Counter(CounterState { touch: touch(&theirs.touch), totals })
        }
        (None, State::Set(theirs)) => State::Set(SetState { touch: taken_over(&theirs.touch, at), ..theirs.clone() }),
        (None, State::Log(theirs)) => State::Log(LogState { touch: taken_over(&theirs.touch, at), ..theirs.clone() }),
        (None, State::Counter(theirs)) => {
            State::Counter(CounterState { touch: taken_over(&theirs.touch, at), ..theirs.clone() })
        }
        // The rules of the field were changed in between: ours stands, and theirs is in the history of its gateway.
        (Some(_), _) => return None,
    };
    let is_more = match (ours, &united) {
        (Some(State::Set(a)), State::Set(b)) => (&a.clock, &a.members, &a.ahead) != (&b.clock, &b.members, &b.ahead),
        (Some(State::Log(a)), State::Log(b)) => a.entries != b.entries,
        (Some(State::Counter(a)), State::Counter(b)) => a.totals != b.totals,
        _ => true,
    };
    is_more.then_some(united)
}
