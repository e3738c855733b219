//! Of a record, what some origins wrote.

use std::collections::BTreeSet;

use crate::id::{Dot, Origin, Seq, Writer};
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

/// The highest number in a record of a stream of an origin; 0 if there is none.
pub fn highest(record: &Record, writer: Writer) -> Seq {
    let of_writer = |dot: &Dot| if dot.writer() == writer { dot.seq } else { Seq(0) };
    let numbers = record.cells.values().map(|cell| {
        let within = match &cell.state {
            State::Register(_) | State::Counter(_) => Seq(0),
            State::Set(set) => set.clock.get(&writer).map_or(Seq(0), |seq| Seq(*seq)),
            State::Log(log) => log.entries.iter().map(|(_, dot, ..)| of_writer(dot)).max().unwrap_or_default(),
        };
        cell.stamps().into_iter().map(|stamp| of_writer(&stamp.dot)).fold(within, Seq::max)
    });
    numbers.max().unwrap_or_default()
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
