//! The hub: records taken in durably, from one gateway and from ten at once, and exchanges in which nothing is said.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::client::Client;
use super::push::{Message, Pusher};
use super::raw;
use super::sample::{Kind, Sample, samples};
use super::table::{Goal, Line, Table};
use super::{Setting, machine, median};
use crate::process::{Hub, Running};

/// Records of one run, however many gateways share them.
const RECORDS: usize = 5_000;
const GATEWAYS: usize = 10;
/// Gateways that exchange at once while nothing is new.
const IDLE_GATEWAYS: usize = 8;
const IDLE_EXCHANGES: usize = 500;
/// Records that a commit of the baseline holds.
const RAW_GROUP: usize = 1_000;

pub(super) fn run(setting: &Setting, table: &mut Table) -> Result<()> {
    let goal = Goal::ratio_at_least(0.25, Some(0.35));
    for kind in [Kind::Coded, Kind::Visit] {
        let (mut raw, mut one, mut many) = (Vec::new(), Vec::new(), Vec::new());
        for run in 0..setting.runs() {
            let records = samples(kind, RECORDS, 3_000 + run as u64);
            raw.push(raw::insert(&setting.fresh("raw")?, &records, RAW_GROUP)?.records_a_second);
            one.push(pushed_a_second(&setting.fresh("hub")?, &records, 1)?);
            many.push(pushed_a_second(&setting.fresh("hub")?, &records, GATEWAYS)?);
        }
        let (raw, one) = (median(raw), median(one));
        let name = kind.name();
        table.push(Line::new(format!("hub takes in {name} records, 1 gateway"), "/s", one).against(raw).goal(goal));
        let line =
            Line::new(format!("hub takes in {name} records, {GATEWAYS} gateways (baseline: 1)"), "/s", median(many));
        table.push(line.against(one).goal(Goal::ratio_at_least(1.0, Some(2.0))));
    }
    idle(setting, table)
}

/// How many records a new hub merges and stores in a second. What a gateway does to make its message is not timed.
fn pushed_a_second(dir: &Path, records: &[Sample], gateways: usize) -> Result<f64> {
    let hub = Hub::start_plain(dir);
    let mut ready: Vec<(Pusher, Message)> = Vec::new();
    for (at, part) in records.chunks(records.len().div_ceil(gateways)).enumerate() {
        // Each at a place of its own, so that none is sent what the others send.
        let mut pusher = Pusher::enroll(&hub, &format!("gateway-{at}"), &format!("mw/place-{at}"))?;
        pusher.exchange()?;
        pusher.capture(part)?;
        let message = pusher.prepare()?;
        ready.push((pusher, message));
    }
    let began = Instant::now();
    let answers: Vec<Result<Vec<u8>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = ready.iter_mut().map(|(pusher, message)| scope.spawn(|| pusher.send(message))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a gateway panicked")))).collect()
    });
    let seconds = began.elapsed().as_secs_f64();
    for ((mut pusher, message), answer) in ready.into_iter().zip(answers) {
        pusher.take(&message, &answer?)?;
        ensure!(pusher.unsent()? == 0, "the hub did not take everything");
    }
    Ok(records.len() as f64 / seconds)
}

/// Exchanges a second, by the clock and by the processor time of the server.
#[derive(Debug, Default)]
struct Rates {
    by_clock: Vec<f64>,
    by_core: Vec<f64>,
}

impl Rates {
    fn note(&mut self, pid: u32, work: impl FnOnce() -> Result<usize>) -> Result<()> {
        let (cpu, began) = (machine::cpu_seconds(pid)?, Instant::now());
        let count = work()? as f64;
        self.by_clock.push(count / began.elapsed().as_secs_f64());
        self.by_core.push(count / (machine::cpu_seconds(pid)? - cpu).max(0.01));
        Ok(())
    }
}

fn idle(setting: &Setting, table: &mut Table) -> Result<()> {
    let dir = setting.fresh("hub")?;
    let bare = Running::start("outpost-bench", &["--bare"], &dir.join("bare.log"));
    let hub = Hub::start_plain(&dir);
    let mut pushers: Vec<Pusher> =
        (0..IDLE_GATEWAYS).map(|at| Pusher::enroll(&hub, &format!("gateway-{at}"), "mw")).collect::<Result<_>>()?;
    let (mut plain, mut empty) = (Rates::default(), Rates::default());
    for _ in 0..setting.runs() {
        plain.note(bare.id(), || post_all(&bare.address))?;
        empty.note(hub.id(), || exchange_all(&mut pushers))?;
    }
    let goal = Goal::figure_at_least(2_000.0, Some(5_000.0));
    let line = Line::new(format!("idle exchanges, {IDLE_GATEWAYS} gateways"), "/s", median(empty.by_clock));
    table.push(line.against(median(plain.by_clock)).goal(goal));
    let by_core = median(empty.by_core);
    let line = Line::new("idle exchanges a second of the hub's processor time", "/s", by_core);
    table.push(line.against(median(plain.by_core)).goal(goal));

    for size in setting.sizes() {
        let mut filler = Pusher::enroll(&hub, &format!("filler-{size}"), "mw")?;
        for part in samples(Kind::Coded, *size, 3_100 + *size as u64).chunks(10_000) {
            filler.capture(part)?;
            filler.exchange()?;
        }
        catch_up(&mut pushers)?;
        let mut full = Rates::default();
        for _ in 0..setting.runs() {
            full.note(hub.id(), || exchange_all(&mut pushers))?;
        }
        let what = format!("idle exchanges a second of processor time, {size} records (baseline: empty hub)");
        table.push(Line::new(what, "/s", median(full.by_core)).against(by_core).goal(Goal::ratio_at_least(0.8, None)));
        table.push(Line::new(
            format!("hub resident, {size} more records, {} gateways", IDLE_GATEWAYS + 1),
            "MB",
            machine::resident_mb(hub.id())?,
        ));
        table.push(Line::new(format!("hub resident at most, {size} more records"), "MB", machine::peak_mb(hub.id())?));
    }
    Ok(())
}

/// Hears, and forgets, everything that the hub has for them.
fn catch_up(pushers: &mut [Pusher]) -> Result<()> {
    for pusher in pushers {
        while pusher.exchange()? {}
    }
    Ok(())
}

fn exchange_all(pushers: &mut [Pusher]) -> Result<usize> {
    let exchanges = |pusher: &mut Pusher| -> Result<()> {
        for _ in 0..IDLE_EXCHANGES {
            pusher.exchange()?;
        }
        Ok(())
    };
    let count = pushers.len() * IDLE_EXCHANGES;
    std::thread::scope(|scope| {
        let threads: Vec<_> = pushers.iter_mut().map(|pusher| scope.spawn(move || exchanges(pusher))).collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a gateway panicked"))))
    })?;
    Ok(count)
}

fn post_all(address: &str) -> Result<usize> {
    let posts = || -> Result<()> {
        let mut client = Client::connect(address)?;
        for _ in 0..IDLE_EXCHANGES {
            client.ask("POST", "/", "application/octet-stream", &[0; 70])?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..IDLE_GATEWAYS).map(|_| scope.spawn(posts)).collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked"))))
    })?;
    Ok(IDLE_GATEWAYS * IDLE_EXCHANGES)
}
