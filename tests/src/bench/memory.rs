//! What the programs weigh: resident memory, size on disk, and how soon a gateway with many records takes the next one.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::client::{Client, save_all};
use super::sample::{Kind, Sample, samples};
use super::table::{Goal, Line, Table};
use super::{Setting, machine, median};
use crate::process::{Gateway, Hub, program};

/// Lines in one request of the batch API.
const BATCH: usize = 2_000;
/// Records that come while the memory under load is taken.
const LOAD: usize = 6_400;

pub(super) fn run(setting: &Setting, table: &mut Table) -> Result<()> {
    for name in ["outpost", "outpost-hub"] {
        let line = Line::new(format!("program {name}"), "MB", std::fs::metadata(program(name))?.len() as f64 / 1e6);
        table.push(if name == "outpost" { line.goal(Goal::figure_at_most(8.0, Some(5.0))) } else { line });
    }
    let hub = Hub::start_plain(&setting.fresh("hub")?);
    table.push(Line::new("hub resident, idle and empty", "MB", machine::resident_mb(hub.id())?));

    let mut gateway = Gateway::start(&setting.fresh("gateway")?);
    gateway.status();
    let idle = Line::new("gateway resident, idle and empty", "MB", machine::resident_mb(gateway.id())?);
    table.push(idle.goal(Goal::figure_at_most(10.0, Some(7.0))));
    let mut filled = 0;
    for (at, size) in setting.sizes().iter().enumerate() {
        let records = samples(Kind::Visit, size - filled, 5_000 + at as u64);
        for part in records.chunks(BATCH) {
            save_batch(&gateway, part)?;
        }
        filled = *size;
        grown(setting, table, &mut gateway, filled)?;
    }
    Ok(())
}

/// Memory and start of a gateway that holds `filled` records.
fn grown(setting: &Setting, table: &mut Table, gateway: &mut Gateway, filled: usize) -> Result<()> {
    table.push(Line::new(
        format!("gateway resident, {filled} records in by batch"),
        "MB",
        machine::resident_mb(gateway.id())?,
    ));
    gateway.restart();
    save_all(&gateway.url().replace("http://", ""), 32, &samples(Kind::Visit, LOAD, 5_100 + filled as u64))?;
    let peak = Line::new(
        format!("gateway resident at most, {filled} records, 32 clients"),
        "MB",
        machine::peak_mb(gateway.id())?,
    );
    table.push(peak.goal(Goal::figure_at_most(20.0, Some(12.0))));
    let mut starts_ms = Vec::new();
    for sample in samples(Kind::Visit, setting.runs(), 5_200 + filled as u64) {
        gateway.kill();
        let began = Instant::now();
        gateway.restart();
        let mut client = Client::connect(&gateway.url().replace("http://", ""))?;
        let (status, _) = client.ask("PUT", &sample.path(), "application/json", sample.json.as_bytes())?;
        ensure!(status == 201, "{status}");
        starts_ms.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let start = Line::new(format!("start to first 201, {filled} records"), "ms", median(starts_ms));
    table.push(start.goal(Goal::figure_at_most(300.0, Some(100.0))));
    Ok(())
}

fn save_batch(gateway: &Gateway, part: &[Sample]) -> Result<()> {
    let line = |sample: &Sample| {
        format!("{}\n", json!({"type": sample.made.record_type, "id": sample.made.id, "body": sample.made.body}))
    };
    let lines: String = part.iter().map(line).collect();
    let (status, answer) =
        gateway.ask("POST", "/v1/batch", &[("content-type", "application/x-ndjson")], Some(&Value::String(lines)));
    let is_saved = |line: &str| -> Result<bool> {
        let line: Value = serde_json::from_str(line).context("a line of the answer")?;
        Ok(line.get("status") == Some(&json!(201)))
    };
    ensure!(status == 200 && answer.lines().count() == part.len(), "{status} {answer}");
    for line in answer.lines() {
        ensure!(is_saved(line)?, "{line}");
    }
    Ok(())
}
