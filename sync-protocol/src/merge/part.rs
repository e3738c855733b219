//! Of a record, what some origins wrote.

use std::collections::BTreeSet;

use crate::id::Origin;
use crate::record::{Cell, Record, State};

/// The origins of all that stands in a record.
pub fn origins(record: &Record) -> BTreeSet<Origin> {
    let mut found = BTreeSet::new();
    for cell in record.cells.values() {
        match &cell.state {
            State::Register(entries) => found.extend(entries.iter().map(|entry| entry.stamp.dot.origin)),
            State::Set(set) => found.extend(set.clock.keys().map(|(origin, _)| *origin)),
            State::Log(log) => found.extend(log.entries.iter().map(|(_, dot, _, _)| dot.origin)),
            State::Counter(counter) => found.extend(counter.totals.keys()),
        }
    }
    found
}

/// The record with no more in it than these origins wrote. What they took out of a set that others had put in is not told.
pub fn part(record: &Record, of: &BTreeSet<Origin>) -> Record {
    let cells = record.cells.iter().filter_map(|(name, cell)| Some((name.clone(), part_of_cell(cell, of)?)));
    Record { cells: cells.collect() }
}

fn part_of_cell(cell: &Cell, of: &BTreeSet<Origin>) -> Option<Cell> {
    let mut part = cell.clone();
    let is_empty = match &mut part.state {
        State::Register(entries) => {
            entries.retain(|entry| of.contains(&entry.stamp.dot.origin));
            entries.is_empty()
        }
        State::Set(set) => {
            set.clock.retain(|(origin, _), _| of.contains(origin));
            for writers in set.members.values_mut() {
                writers.retain(|(origin, _), _| of.contains(origin));
            }
            set.members.retain(|_, writers| !writers.is_empty());
            set.ahead.clear();
            set.clock.is_empty()
        }
        State::Log(log) => {
            log.entries.retain(|(_, dot, _, _)| of.contains(&dot.origin));
            log.entries.is_empty()
        }
        State::Counter(counter) => {
            counter.totals.retain(|origin, _| of.contains(origin));
            counter.totals.is_empty()
        }
    };
    (!is_empty).then_some(part)
}
