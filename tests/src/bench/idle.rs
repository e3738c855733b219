//! What a gateway costs while nothing happens: how often it wakes, and the processor time of that.
//!
//! A thread that waits for something is switched away from once for each time that it woke, and Linux counts that, so the count is
//! exact. What it wakes for is up to the time of day: the exchange with the hub every five minutes, the caretaker's look every ten.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::table::{Line, Table};
use super::{Setting, machine};
use crate::process::{Gateway, Hub, wait_for};

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(60);
const WATCHED_LONG: Duration = Duration::from_secs(15 * 60);
/// How often the counts are read: a thread that ends takes its count along.
const GLANCE: Duration = Duration::from_secs(1);
/// Threads for blocking work end after ten seconds without any.
const SETTLED: Duration = Duration::from_secs(12);

pub(super) fn run(setting: &Setting, table: &mut Table) -> Result<()> {
    let mut gateway = Gateway::start(&setting.fresh("gateway")?);
    watch(setting, table, "alone", &gateway)?;
    let mut hub = Hub::start(&setting.fresh("hub")?);
    gateway.enroll(&hub, "a", "mw");
    gateway.sync();
    watch(setting, table, "enrolled", &gateway)?;
    hub.kill();
    gateway.ask("POST", "/v1/sync", &[], None);
    watch(setting, table, "its hub away", &gateway)?;
    gateway.kill();
    hub.restart();
    std::fs::write(setting.folder.join("gateway/outpost.toml"), "[network]\nlisten = \"0.0.0.0:0\"\n")?;
    gateway.restart();
    gateway.sync();
    watch(setting, table, "open to the network", &gateway)
}

fn watch(setting: &Setting, table: &mut Table, name: &str, gateway: &Gateway) -> Result<()> {
    let id = gateway.id();
    gateway.status();
    wait_for("what follows a start to be over", || {
        let before = machine::switches(id).ok()?;
        std::thread::sleep(SETTLED);
        let now = machine::switches(id).ok()?;
        let woke: u64 = now.iter().map(|(thread, count)| count - before.get(thread).unwrap_or(&0)).sum();
        (woke < 100).then_some(())
    });
    let watched = if setting.is_long { WATCHED_LONG } else { WATCHED };
    let (first, processor, began) = (machine::switches(id)?, machine::cpu_seconds(id)?, Instant::now());
    let mut last: BTreeMap<u32, u64> = first.clone();
    while began.elapsed() < watched {
        std::thread::sleep(GLANCE);
        last.extend(machine::switches(id)?);
    }
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let woke: u64 = last.iter().map(|(thread, count)| count - first.get(thread).unwrap_or(&0)).sum();
    table.push(Line::new(format!("wake-ups a minute, {name}"), "", woke as f64 / minutes));
    let spent_ms = (machine::cpu_seconds(id)? - processor) * 1e3;
    table.push(Line::new(format!("processor time a minute, {name}"), "ms", spent_ms / minutes));
    Ok(())
}
