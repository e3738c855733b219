//! What encryption of the database costs: the same gateway with it and without, in turns. Plain is the baseline.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::client::save_all;
use super::sample::{Kind, samples};
use super::table::{Goal, Line, Table};
use super::{Setting, machine, median};
use crate::process::{Gateway, Hub, must};

const ONE: usize = 2_000;
const MANY: usize = 6_400;
const CLIENTS: usize = 32;

/// What the runs of one of both gave, one number a run.
#[derive(Default)]
struct Figures {
    lone: Vec<f64>,
    p50: Vec<f64>,
    many: Vec<f64>,
    processor_us: Vec<f64>,
    sync: Vec<f64>,
    start_ms: Vec<f64>,
    kept: Vec<f64>,
    resident: Vec<f64>,
}

pub(super) fn run(setting: &Setting, table: &mut Table) -> Result<()> {
    let stick = setting.fresh("stick")?;
    let key = std::env::current_dir()?.join(stick).join("outpost.key");
    must("outpost", &["key", "make", &key.to_string_lossy()]);
    let sealed_config = format!("[encryption]\nkey = \"file\"\nkey_file = \"{}\"\n", key.display());
    let (mut plain, mut sealed) = (Figures::default(), Figures::default());
    for run in 0..setting.runs() {
        measure(setting, "", run as u64, &mut plain)?;
        measure(setting, &sealed_config, run as u64, &mut sealed)?;
    }
    let mut line = |name: &str, unit, sealed: Vec<f64>, plain: Vec<f64>, goal: Option<Goal>| {
        let line = Line::new(format!("encrypted: {name}"), unit, median(sealed)).against(median(plain));
        table.push(match goal {
            Some(goal) => line.goal(goal),
            None => line,
        });
    };
    line("capture, 1 client", "/s", sealed.lone, plain.lone, Some(Goal::ratio_at_least(0.8, None)));
    line("capture p50, 1 client", "us", sealed.p50, plain.p50, None);
    line("capture, 32 clients", "/s", sealed.many, plain.many, Some(Goal::ratio_at_least(0.8, None)));
    line("processor time a captured record", "us", sealed.processor_us, plain.processor_us, None);
    line("records synced to a hub", "/s", sealed.sync, plain.sync, Some(Goal::ratio_at_least(0.8, None)));
    line("start to first answer", "ms", sealed.start_ms, plain.start_ms, None);
    line("kept on disk a record", "KB", sealed.kept, plain.kept, None);
    line("resident", "MB", sealed.resident, plain.resident, None);
    Ok(())
}

/// Captures by one client and by many, then sends all to a hub, then starts anew.
fn measure(setting: &Setting, config: &str, run: u64, figures: &mut Figures) -> Result<()> {
    let dir = setting.fresh("gateway")?;
    std::fs::write(dir.join("outpost.toml"), config)?;
    let hub = Hub::start(&setting.fresh("hub")?);
    let mut gateway = Gateway::start(&dir);
    let address = gateway.url().replace("http://", "");
    let records = samples(Kind::Visit, ONE + MANY, 9_000 + run);
    let (lone, many) = records.split_at(ONE);
    let before = machine::cpu_seconds(gateway.id())?;
    let driven = save_all(&address, 1, lone)?;
    figures.lone.push(driven.records_a_second);
    figures.p50.push(driven.quantile_us(0.5));
    figures.many.push(save_all(&address, CLIENTS, many)?.records_a_second);
    let spent = machine::cpu_seconds(gateway.id())? - before;
    figures.processor_us.push(spent * 1e6 / records.len() as f64);
    gateway.enroll(&hub, "a", "mw");
    let began = Instant::now();
    gateway.sync();
    figures.sync.push(records.len() as f64 / began.elapsed().as_secs_f64());
    figures.resident.push(machine::resident_mb(gateway.id())?);
    gateway.kill();
    let began = Instant::now();
    gateway.restart();
    gateway.status();
    figures.start_ms.push(began.elapsed().as_secs_f64() * 1e3);
    gateway.kill();
    figures.kept.push(kept(&dir)? / 1e3 / records.len() as f64);
    Ok(())
}

/// Bytes of the database and its log.
fn kept(dir: &Path) -> Result<f64> {
    let size = |name: &str| std::fs::metadata(dir.join(name)).map_or(0, |facts| facts.len());
    Ok((size("outpost.db") + size("outpost.db-wal")) as f64)
}
