//! Under what numbers the writes that stand in an offered record are known here.
//!
//! Copies of a card give one number to several writes, and one write several numbers. What a hub lost that was put back may
//! therefore be offered under a number that means something else here by now, or be here already under another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::copy::are_of_one_card;
use super::{HeldOp, Snapshot, Store};
use crate::clock::Hlc;
use crate::id::{Dot, FieldName, Origin, RecordKey, Seq, Stream};
use crate::record::{Change, Op, Record, Stamp, State};
use crate::value::Value;

/// What is known of the writes of an offered record.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// They came here as ops and were applied, under this number or another.
    pub(super) applied: BTreeSet<Dot>,
    /// Numbers of these origins mean other writes here than to the one who offers.
    pub(super) forked: BTreeSet<Origin>,
}

/// One value as it stands in a record.
#[derive(Debug)]
enum Stands {
    Put(Option<Value>),
    Member(Value),
    Item(Value),
}

/// What stands in a record under one number.
#[derive(Debug, Default)]
struct Said {
    values: Vec<(FieldName, Stands)>,
    hlc: Option<Hlc>,
    captured_ms: Option<i64>,
}

/// Finds out what is known here of an offered record, and gives what stands under the number of another write one of its own.
///
/// # Errors
/// What the store reports.
pub(super) fn settle<S: Store>(store: &mut S, key: &RecordKey, offered: &mut Record) -> Result<Names, S::Error> {
    let ops = store.writes_of(key)?;
    let (mut names, mut renamed) = (Names::default(), BTreeMap::new());
    for (dot, said) in said(offered) {
        let here = ops.iter().find(|op| op.stamp.dot == dot);
        if here.is_some_and(|op| wrote(op, &said)) {
            let is_held = |held: &HeldOp| held.op.stamp.dot == dot;
            if !store.held_of(key, dot.origin)?.iter().any(is_held) {
                names.applied.insert(dot);
            }
        } else if came_otherwise(store, &ops, dot, &said)? {
            names.applied.insert(dot);
            names.forked.insert(dot.origin);
        } else if store.op_hash(dot)?.is_some() {
            names.forked.insert(dot.origin);
            renamed.extend(lost_origin(store, dot)?.map(|origin| (dot, Dot { origin, ..dot })));
        }
    }
    rename(offered, &renamed);
    Ok(names)
}

/// Gives what stands where an op writes, and under its number, another number, if it is not from this op: it was lost, others showed
/// it, and a copy of the card has given the number to something else since.
///
/// # Errors
/// What the store reports.
pub(super) fn make_way<S: Store>(store: &mut S, op: &Op, record: &mut Record) -> Result<(), S::Error> {
    let dot = op.stamp.dot;
    let written = || record.cells.iter().filter(|(name, _)| op.changes.contains_key(*name));
    if !written().any(|(_, cell)| names(&cell.state, dot)) {
        return Ok(());
    }
    let mut part = Record { cells: written().map(|(name, cell)| (name.clone(), cell.clone())).collect() };
    if wrote_in(op, &part) {
        return Ok(());
    }
    let Some(origin) = lost_origin(store, dot)? else { return Ok(()) };
    rename(&mut part, &BTreeMap::from([(dot, Dot { origin, ..dot })]));
    for cell in part.cells.values_mut() {
        if let State::Set(set) = &mut cell.state {
            set.clock.entry(dot.writer()).and_modify(|seq| *seq = (*seq).min(dot.seq.0.saturating_sub(1)));
            set.clock.retain(|_, seq| *seq > 0);
        }
    }
    record.cells.extend(part.cells);
    Ok(())
}

/// Whether a write came under another number: its author had gone on under another origin before it could send it again.
fn came_otherwise<S: Snapshot>(store: &mut S, ops: &[Op], dot: Dot, said: &Said) -> Result<bool, S::Error> {
    for op in ops.iter().filter(|op| op.stamp.dot != dot) {
        let is_same = said.hlc == Some(op.stamp.hlc) && said.captured_ms.is_none_or(|ms| ms == op.stamp.captured_ms);
        if is_same
            && wrote(op, said)
            && are_of_one_card(store, op.stamp.dot.origin, dot.origin)?
            && store.applied_as(op.stamp.dot)?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The origin for what was lost under numbers that another copy of the card has used since. It is found by a number that no write has.
fn lost_origin<S: Store>(store: &mut S, dot: Dot) -> Result<Option<Origin>, S::Error> {
    let mark = Dot { origin: dot.origin, stream: Stream::Normal, seq: Seq(0) };
    if let Some(known) = store.rescued_as(mark)?.first() {
        return Ok(Some(known.origin));
    }
    let Some(device) = store.device_of(dot.origin)? else { return Ok(None) };
    let origin = store.rescue_origin(device, dot.origin)?;
    store.note_rescued(mark, Dot { origin, ..mark })?;
    Ok(Some(origin))
}

/// Whether a value stands under this number.
fn names(state: &State, dot: Dot) -> bool {
    match state {
        State::Register(entries) => entries.iter().any(|entry| entry.stamp.dot == dot),
        State::Set(set) => set.members.values().any(|writes| writes.get(&dot.writer()) == Some(&dot.seq.0)),
        State::Log(log) => log.entries.iter().any(|(_, known, ..)| *known == dot),
        State::Counter(_) => false,
    }
}

fn said(record: &Record) -> BTreeMap<Dot, Said> {
    let mut all: BTreeMap<Dot, Said> = BTreeMap::new();
    for (name, cell) in &record.cells {
        let mut stands = |dot, what| all.entry(dot).or_default().values.push((name.clone(), what));
        match &cell.state {
            State::Register(entries) => {
                entries.iter().for_each(|entry| stands(entry.stamp.dot, Stands::Put(entry.value.clone())));
            }
            State::Set(set) => {
                for (member, writes) in &set.members {
                    for ((origin, stream), seq) in writes {
                        let Ok(stream) = Stream::from_number(*stream) else { continue };
                        stands(Dot { origin: *origin, stream, seq: Seq(*seq) }, Stands::Member(member.clone()));
                    }
                }
            }
            State::Log(log) => {
                log.entries.iter().for_each(|(_, dot, _, value)| stands(*dot, Stands::Item(value.clone())));
            }
            State::Counter(_) => {}
        }
    }
    for cell in record.cells.values() {
        for stamp in cell.stamps() {
            if let Some(said) = all.get_mut(&stamp.dot) {
                (said.hlc, said.captured_ms) = (Some(stamp.hlc), Some(stamp.captured_ms));
            }
        }
        if let State::Log(log) = &cell.state {
            for (hlc, dot, ..) in &log.entries {
                all.entry(*dot).or_default().hlc = Some(*hlc);
            }
        }
    }
    all
}

/// Whether it was this op that wrote all that stands in a record under its number.
pub(super) fn wrote_in(op: &Op, record: &Record) -> bool {
    said(record).get(&op.stamp.dot).is_none_or(|said| wrote(op, said))
}

/// Whether it was this op that wrote what is said. What it wrote under other rules cannot be compared.
fn wrote(op: &Op, said: &Said) -> bool {
    said.values.iter().all(|(field, stands)| match (op.changes.get(field), stands) {
        (Some(Change::Put { value, .. }), Stands::Put(stands)) => value == stands,
        (Some(Change::Append(values)), Stands::Item(stands)) => values.contains(stands),
        (Some(Change::Members { add, .. }), Stands::Member(stands)) => add.contains(stands),
        (Some(_), _) => true,
        (None, _) => false,
    })
}

/// Puts other numbers into a record.
fn rename(record: &mut Record, names: &BTreeMap<Dot, Dot>) {
    if names.is_empty() {
        return;
    }
    let new = |stamp: &mut Arc<Stamp>| {
        if let Some(dot) = names.get(&stamp.dot) {
            *stamp = Arc::new(Stamp { dot: *dot, ..(**stamp).clone() });
        }
    };
    for cell in record.cells.values_mut() {
        match &mut cell.state {
            State::Register(entries) => entries.iter_mut().for_each(|entry| new(&mut entry.stamp)),
            State::Set(set) => {
                new(&mut set.touch.last);
                for writes in set.members.values_mut() {
                    for (old, to) in names {
                        if writes.get(&old.writer()) == Some(&old.seq.0) {
                            writes.remove(&old.writer());
                            writes.insert(to.writer(), to.seq.0);
                        }
                    }
                }
            }
            State::Log(log) => {
                new(&mut log.touch.last);
                let entries = std::mem::take(&mut log.entries);
                let renamed = entries
                    .into_iter()
                    .map(|(hlc, dot, nth, value)| (hlc, names.get(&dot).copied().unwrap_or(dot), nth, value));
                log.entries = renamed.collect();
            }
            State::Counter(counter) => new(&mut counter.touch.last),
        }
    }
}
