//! What is said in a schedule, printed: for whoever looks for the cause of a failure.

use std::fmt::Display;

use sync_protocol::gateway::Outgoing;
use sync_protocol::id::Dot;
use sync_protocol::message::{Ack, Response};
use sync_protocol::payload::{Payload, Row, Rows};
use sync_protocol::record::{Cell, Change, Op, Record, Stamp, State};

use super::oracle;
use super::wire::{Packers, frames};
use super::world::World;

/// A request, and what goes with it.
pub(super) fn request(packers: &mut Packers, at: usize, asked: &Outgoing) {
    let head = &asked.head;
    let streams: Vec<_> =
        head.streams.iter().map(|s| format!("{} acked {} of {}", s.stream.number(), s.acked.0, s.last.0)).collect();
    println!(
        "  g{at} > device {} origin {} turn {} epoch {} cursor {} [{}]{}{}{}{}{}",
        head.device.0,
        head.origin.0,
        head.turn,
        head.epoch.0,
        head.cursor.0,
        streams.join(", "),
        if head.about.is_some() { " about" } else { "" },
        if head.asks { " asks" } else { "" },
        if head.repair.is_some() { " symbols" } else { "" },
        head.recovers.map(|common| format!(" recovers from {}", common.0)).unwrap_or_default(),
        head.backfill.map(|at| format!(" back-fills from {}", at.0)).unwrap_or_default(),
    );
    for bound in &head.bounds {
        println!("       bound {bound:?}");
    }
    for gap in &head.gaps {
        println!("       gap {gap:?}");
    }
    for frame in &asked.frames {
        for inside in frames(frame).0 {
            match packers.down.unpack(&inside).and_then(|bytes| Payload::decode(&bytes)) {
                Ok(Payload::Ops(ops)) => ops.iter().for_each(|op| println!("       {}", of_op(op))),
                Ok(Payload::Rows(offered)) => rows(&offered),
                Err(error) => println!("       {error}"),
            }
        }
    }
}

/// The head of an answer.
pub(super) fn answer(at: usize, head: &Response) {
    let ack = |ack: &Ack| format!("{} acked {} durable {}", ack.stream.number(), ack.acked.0, ack.durable.0);
    println!(
        "  g{at} < {:?} turn {:?} epoch {} cursor {} [{}]{}{}{}{}",
        head.status,
        head.turn,
        head.epoch.0,
        head.cursor.0,
        head.acks.iter().map(ack).collect::<Vec<_>>().join(", "),
        head.origin.map(|origin| format!(" origin {}", origin.0)).unwrap_or_default(),
        head.device.map(|device| format!(" device {}", device.0)).unwrap_or_default(),
        if head.want.is_empty() { String::new() } else { format!(" wants {}", head.want.len()) },
        if head.more { " more" } else { "" },
    );
    if !head.drop.is_empty() {
        println!("       drop {:?}", head.drop);
    }
}

/// Rows, up or down.
pub(super) fn rows(rows: &Rows) {
    for row in &rows.rows {
        match row {
            Row::Cells { key, record, whole } => {
                println!("       {key}{} {}", if *whole { ", whole:" } else { ":" }, of_record(record));
            }
            Row::Evict(key) => println!("       {key} leaves"),
            Row::Notice(notice) => println!("       {}: {} {:?}", notice.key, of_dot(notice.dot), notice.news),
        }
    }
}

fn of_dot(dot: Dot) -> String {
    format!("{}.{}.{}", dot.origin.0, dot.stream.number(), dot.seq.0)
}

fn of_stamp(stamp: &Stamp) -> String {
    let id = oracle::id_of(stamp).map(|id| format!("w{id} ")).unwrap_or_default();
    format!("{id}{} seen {} as {}", of_dot(stamp.dot), stamp.seen.0, stamp.hseq.0)
}

fn of_op(op: &Op) -> String {
    let changes = op.changes.iter().map(|(name, change)| {
        let what = match change {
            Change::Put { value, unseen } if unseen.is_empty() => format!("{value:?}"),
            other => format!("{other:?}"),
        };
        format!("{} {what}", name.as_str())
    });
    format!("{} [{}] {}", op.key, of_stamp(&op.stamp), changes.collect::<Vec<_>>().join(", "))
}

fn of_cell(cell: &Cell) -> String {
    let what = match &cell.state {
        State::Register(entries) => {
            let entries = entries.iter().map(|entry| format!("{:?} [{}]", entry.value, of_stamp(&entry.stamp)));
            entries.collect::<Vec<_>>().join(" | ")
        }
        other => format!("{other:?}"),
    };
    format!("{what} changed {}", cell.changed.0)
}

fn of_record(record: &Record) -> String {
    let cells = record.cells.iter().map(|(name, cell)| format!("{} = {}", name.as_str(), of_cell(cell)));
    cells.collect::<Vec<_>>().join("; ")
}

impl World<'_> {
    /// What comes next, if it is to be told.
    pub(super) fn tell(&self, what: &dyn Display) {
        if self.is_told {
            println!("\n* {what}");
        }
    }

    /// What all have in the end.
    pub(super) fn tell_end(&mut self) {
        for (at, site) in self.sites.iter().enumerate() {
            println!("\ngateway {at}");
            for (op, fate) in site.store.own() {
                println!("  own {} {fate:?}", of_op(op));
            }
            for (key, held) in site.store.records() {
                println!("  {key}: {}", held.confirmed.as_ref().map(of_record).unwrap_or_default());
            }
        }
        println!("\nhub");
        for (op, hseq) in self.hub.store.arrivals() {
            println!("  {} {}", hseq.0, of_op(op));
        }
        for held in self.hub.store.quarantine() {
            println!("  held {} because it {}", of_op(&held.op), held.reason);
        }
        for (key, record) in self.hub.store.records() {
            println!("  {key}: {}", of_record(record));
        }
    }
}
