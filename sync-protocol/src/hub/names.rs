//! Under what numbers the writes that stand in an offered record are known here.
//!
//! Copies of a card give one number to several writes, and one write several numbers. What a hub lost that was put back may
//! therefore be offered under a number that means something else here by now, or be here already under another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::copy::{Captured, are_of_one_card, lineage, may_be_repaired};
use super::{HeldOp, Snapshot, Store};
use crate::clock::{Hlc, TimeQuality};
use crate::id::{Dot, FieldName, HubSeq, Origin, RecordKey, Seq, Stream};
use crate::record::{Cell, Change, Op, Record, Stamp, State};
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
#[derive(Debug, PartialEq)]
enum Stands {
    Put(Option<Value>),
    Member(Value),
    Item(Value),
}

/// A number and a stamp: two writes to one record can have one number, if a copy of the card gave it as well. No stamp is known of
/// members of a set, if the record names several under their number.
type Named = (Dot, Option<Hlc>);

/// What one write left in a record, and when it was made, if that is known.
#[derive(Debug, Default)]
struct Said {
    values: Vec<(FieldName, Stands)>,
    time: Option<Captured>,
}

/// The writes that a record names, by their numbers and stamps.
type Stamps = BTreeMap<Dot, BTreeMap<Hlc, Option<Captured>>>;

/// Finds out what is known here of an offered record, and gives what stands under the number of another write one of its own.
///
/// # Errors
/// What the store reports.
pub(super) fn settle<S: Store>(store: &mut S, key: &RecordKey, offered: &mut Record) -> Result<Names, S::Error> {
    let ops = store.writes_of(key)?;
    let standing = said(&store.record(key)?.unwrap_or_default());
    let (mut names, mut renamed) = (Names::default(), BTreeMap::new());
    for (named, said) in said(offered) {
        let (dot, hlc) = named;
        let here = ops.iter().find(|op| op.stamp.dot == dot);
        if here.is_some_and(|op| wrote(op, hlc, &said)) {
            let is_held = |held: &HeldOp| held.op.stamp.dot == dot;
            if !store.held_of(key, dot.origin)?.iter().any(is_held) {
                names.applied.insert(dot);
            }
        } else if came_otherwise(store, &ops, (dot, hlc), &said)? {
            names.applied.insert(dot);
            names.forked.insert(dot.origin);
        } else if store.op_hash(dot)?.is_some() {
            names.forked.insert(dot.origin);
            // What was shown before the number meant something else stands under it.
            let here = standing.get(&named).map(|here| here.values.as_slice()).unwrap_or_default();
            if !said.values.iter().all(|value| here.contains(value)) {
                renamed.extend(lost_origin(store, dot)?.map(|origin| (named, Dot { origin, ..dot })));
            }
        }
    }
    rename(offered, &renamed);
    Ok(names)
}

/// Gives what stands under the number of an op another number, if it is not from this op: it was lost, others showed it, and a copy
/// of the card has given the number to something else since. `at` is the number of the change.
///
/// # Errors
/// What the store reports.
pub(super) fn make_way<S: Store>(store: &mut S, op: &Op, record: &mut Record, at: HubSeq) -> Result<(), S::Error> {
    let dot = op.stamp.dot;
    uncover(store, op, record, at)?;
    keep_out(store, op, record)?;
    if !record.cells.values().any(|cell| names(&cell.state, dot)) {
        return Ok(());
    }
    let strange = strange_to(op, record);
    if strange.is_empty() {
        return Ok(());
    }
    let Some(origin) = lost_origin(store, dot)? else { return Ok(()) };
    let before = record.clone();
    rename(record, &strange.into_iter().map(|named| (named, Dot { origin, ..dot })).collect());
    for (name, cell) in &mut record.cells {
        if before.cells.get(name) != Some(cell) {
            cell.changed = at;
        }
        if let (State::Set(set), true) = (&mut cell.state, op.changes.contains_key(name)) {
            set.clock.entry(dot.writer()).and_modify(|seq| *seq = (*seq).min(dot.seq.0.saturating_sub(1)));
            set.clock.retain(|_, seq| *seq > 0);
        }
    }
    Ok(())
}

/// Lets a set take what an op adds although the set counts its number as contained: somebody showed the set, and the numbers in it
/// are those of another copy of the card. What an op took out by this number stays out, and so does all where no copy is known:
/// whoever took it out had read it.
fn uncover<S: Store>(store: &mut S, op: &Op, record: &mut Record, at: HubSeq) -> Result<(), S::Error> {
    let (dot, writer) = (op.stamp.dot, op.stamp.dot.writer());
    let is_covered = |(name, cell): &(&FieldName, &mut Cell)| match (&cell.state, op.changes.get(*name)) {
        (State::Set(set), Some(Change::Members { add, .. })) => {
            let stands = |member: &Value| set.members.get(member).is_some_and(|writes| writes.contains_key(&writer));
            set.clock.get(&writer).is_some_and(|seq| *seq >= dot.seq.0) && !add.iter().all(stands)
        }
        _ => false,
    };
    let covered: Vec<_> = record.cells.iter_mut().filter(is_covered).collect();
    if covered.is_empty() || !is_copied(store, dot.origin)? {
        return Ok(());
    }
    let ops = store.writes_of(&op.key)?;
    // What waits has not come in yet, nor has this op, which may be let go just now.
    let waiting: BTreeSet<Dot> = store.held_of(&op.key, dot.origin)?.iter().map(|held| held.op.stamp.dot).collect();
    let is_here = |known: &Dot| known.writer() == writer && *known != dot && !waiting.contains(known);
    let arrived: BTreeSet<u64> = ops.iter().map(|known| known.stamp.dot).filter(is_here).map(|dot| dot.seq.0).collect();
    let mut takers = Vec::new();
    for known in ops.iter() {
        takers.extend(store.applied_as(known.stamp.dot)?.map(|_| known));
    }
    let Some(origin) = lost_origin(store, dot)? else { return Ok(()) };
    let lost = (origin, writer.1);
    for (name, cell) in covered {
        let State::Set(set) = &mut cell.state else { continue };
        // What somebody has taken out by this number stays out: they had read it.
        let changes = takers.iter().filter_map(|known| known.changes.get(name));
        for (member, writes) in changes.flat_map(Change::removed) {
            if let Some(upto) = writes.get(&writer) {
                let known = set.ahead.entry(member.clone()).or_default().entry(writer).or_default();
                *known = (*known).max(*upto);
            }
        }
        cell.changed = at;
        for writes in set.members.values_mut() {
            if let Some(seq) = writes.get(&writer).copied().filter(|seq| !arrived.contains(seq)) {
                writes.remove(&writer);
                writes.insert(lost, seq);
            }
        }
        let upto = set.clock.remove(&writer).unwrap_or_default();
        set.clock.entry(lost).and_modify(|seq| *seq = upto.max(*seq)).or_insert(upto);
        set.clock.extend(arrived.last().map(|seq| (writer, *seq)));
    }
    Ok(())
}

/// Keeps out of a set what somebody took out by the number that a file has for a write, if that write is handed in and got another
/// number here: they had read it, in a time that this hub lost.
fn keep_out<S: Store>(store: &mut S, op: &Op, record: &mut Record) -> Result<(), S::Error> {
    let dot = op.stamp.dot;
    let added = |name: &FieldName| match op.changes.get(name) {
        Some(Change::Members { add, .. }) => add.as_slice(),
        _ => &[],
    };
    if op.changes.keys().all(|name| added(name).is_empty()) || !store.is_for_rescue(dot.origin)? {
        return Ok(());
    }
    let Some(origin) = store.origin_before(dot.origin)? else { return Ok(()) };
    for known in store.writes_of(&op.key)?.iter() {
        if store.applied_as(known.stamp.dot)?.is_none() {
            continue;
        }
        for (name, change) in &known.changes {
            let Some(State::Set(set)) = record.cells.get_mut(name).map(|cell| &mut cell.state) else { continue };
            for (member, writes) in change.removed().iter().filter(|(member, _)| added(name).contains(member)) {
                let Some(seq) = writes.get(&Dot { origin, ..dot }.writer()) else { continue };
                let old = Dot { origin, seq: Seq(*seq), ..dot };
                // Unless another write has that number here.
                if store.op_hash(old)?.is_none() && store.rescued_as(old)?.iter().all(|name| *name == dot) {
                    set.ahead.entry(member.clone()).or_default().insert(dot.writer(), dot.seq.0);
                }
            }
        }
    }
    Ok(())
}

/// Whether somebody else speaks, or goes on, from where this origin was.
fn is_copied<S: Snapshot>(store: &mut S, origin: Origin) -> Result<bool, S::Error> {
    let device = store.device_of(origin)?;
    for gateway in store.gateways()? {
        let goes_on = gateway.origin != origin && lineage(store, gateway.origin)?.contains(&origin);
        if goes_on || (device.is_some() && gateway.twin_of == device) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a write came under another number: its author had gone on under another origin before it could send it again.
fn came_otherwise<S: Snapshot>(store: &mut S, ops: &[Op], (dot, hlc): Named, said: &Said) -> Result<bool, S::Error> {
    for op in ops.iter().filter(|op| op.stamp.dot != dot) {
        let is_same = hlc == Some(op.stamp.hlc) && said.time.is_none_or(|time| time.ms == op.stamp.captured_ms);
        if is_same
            && wrote(op, hlc, said)
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

/// The stamps that a record has under each number.
fn stamps(record: &Record) -> Stamps {
    let mut all = Stamps::new();
    for cell in record.cells.values() {
        for stamp in cell.stamps() {
            all.entry(stamp.dot).or_default().insert(stamp.hlc, Some(Captured::of(stamp)));
        }
        if let State::Log(log) = &cell.state {
            for (hlc, dot, ..) in &log.entries {
                all.entry(*dot).or_default().entry(*hlc).or_default();
            }
        }
    }
    all
}

/// How the write of a member is named, of which the set knows the number only.
fn of_member(stamps: &Stamps, dot: Dot) -> Named {
    let mut known = stamps.get(&dot).into_iter().flatten();
    match (known.next(), known.next()) {
        (Some((hlc, _)), None) => (dot, Some(*hlc)),
        _ => (dot, None),
    }
}

fn said(record: &Record) -> BTreeMap<Named, Said> {
    let stamps = stamps(record);
    let mut all: BTreeMap<Named, Said> = BTreeMap::new();
    for (name, cell) in &record.cells {
        let mut stands = |named, what| all.entry(named).or_default().values.push((name.clone(), what));
        match &cell.state {
            State::Register(entries) => {
                for entry in entries {
                    stands((entry.stamp.dot, Some(entry.stamp.hlc)), Stands::Put(entry.value.clone()));
                }
            }
            State::Set(set) => {
                for (member, writes) in &set.members {
                    for ((origin, stream), seq) in writes {
                        let Ok(stream) = Stream::from_number(*stream) else { continue };
                        let dot = Dot { origin: *origin, stream, seq: Seq(*seq) };
                        stands(of_member(&stamps, dot), Stands::Member(member.clone()));
                    }
                }
            }
            State::Log(log) => {
                for (hlc, dot, _, value) in &log.entries {
                    stands((*dot, Some(*hlc)), Stands::Item(value.clone()));
                }
            }
            State::Counter(_) => {}
        }
    }
    for ((dot, hlc), said) in &mut all {
        let known = stamps.get(dot).zip(*hlc).and_then(|(known, hlc)| known.get(&hlc));
        said.time = known.copied().flatten();
    }
    all
}

/// Whether it was this op that wrote all that stands in a record under its number.
pub(super) fn wrote_in(op: &Op, record: &Record) -> bool {
    strange_to(op, record).is_empty()
}

/// What stands in a record under the number of this op, and is not from it.
fn strange_to(op: &Op, record: &Record) -> Vec<Named> {
    let is_strange = |((dot, hlc), said): &(Named, Said)| *dot == op.stamp.dot && !wrote(op, *hlc, said);
    let strange = said(record).into_iter().filter(is_strange);
    strange.map(|(named, _)| named).collect()
}

/// Whether it was this op that wrote what is said. What it wrote under other rules cannot be compared.
fn wrote(op: &Op, hlc: Option<Hlc>, said: &Said) -> bool {
    if hlc != Some(op.stamp.hlc) && said.time.is_some_and(|time| is_of_another_time(&op.stamp, time)) {
        return false;
    }
    said.values.iter().all(|(field, stands)| match (op.changes.get(field), stands) {
        (Some(Change::Put { value, .. }), Stands::Put(stands)) => value == stands,
        (Some(Change::Append(values)), Stands::Item(stands)) => values.contains(stands),
        (Some(Change::Members { add, .. }), Stands::Member(stands)) => add.contains(stands),
        (Some(_), _) => true,
        (None, _) => false,
    })
}

/// Whether a write was made at another time than this one, for certain: neither did the hub clamp it, nor can both be one write whose
/// time two copies of a card have repaired. A copy puts a write into another order, too, and leaves the time as it was.
fn is_of_another_time(stamp: &Stamp, time: Captured) -> bool {
    let here = Captured::of(stamp);
    time.quality != TimeQuality::Clamped && time.ms != here.ms && !may_be_repaired(here, time)
}

/// Puts other numbers into a record.
fn rename(record: &mut Record, names: &BTreeMap<Named, Dot>) {
    if names.is_empty() {
        return;
    }
    let stamps = stamps(record);
    let new = |stamp: &mut Arc<Stamp>| {
        if let Some(dot) = names.get(&(stamp.dot, Some(stamp.hlc))) {
            *stamp = Arc::new(Stamp { dot: *dot, ..(**stamp).clone() });
        }
    };
    for cell in record.cells.values_mut() {
        cell.stamps_mut().into_iter().for_each(new);
        match &mut cell.state {
            State::Set(set) => {
                for writes in set.members.values_mut() {
                    for ((old, hlc), to) in names {
                        if of_member(&stamps, *old) == (*old, *hlc) && writes.get(&old.writer()) == Some(&old.seq.0) {
                            writes.remove(&old.writer());
                            writes.insert(to.writer(), to.seq.0);
                        }
                    }
                }
            }
            State::Log(log) => {
                let entries = std::mem::take(&mut log.entries);
                let renamed = entries.into_iter().map(|(hlc, dot, nth, value)| {
                    let dot = names.get(&(dot, Some(hlc))).copied().unwrap_or(dot);
                    (hlc, dot, nth, value)
                });
                log.entries = renamed.collect();
            }
            State::Register(_) | State::Counter(_) => {}
        }
    }
}
