//! How soon after its start a gateway with many records takes the next one.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::client::Client;
use super::fill::fill;
use super::sample::{Kind, samples};
use super::table::{Goal, Line, Table};
use super::{Setting, median};
use crate::process::Gateway;

/// The goal is for so many records.
const GOAL_OF: usize = 100_000;

pub(super) fn run(setting: &Setting, table: &mut Table) -> Result<()> {
    let sizes: &[usize] = if setting.is_long { &[10_000, 100_000, 1_000_000] } else { &[10_000, 100_000] };
    for size in sizes {
        let dir = setting.fresh("gateway")?;
        fill(&dir, *size, 6_000)?;
        let mut gateway = Gateway::start(&dir);
        let mut starts_ms = Vec::new();
        for sample in samples(Kind::Visit, setting.runs(), 6_500_000) {
            gateway.kill();
            let began = Instant::now();
            gateway.restart();
            let mut client = Client::connect(&gateway.url().replace("http://", ""))?;
            let (status, _) = client.ask("PUT", &sample.path(), "application/json", sample.json.as_bytes())?;
            ensure!(status == 201, "{status}");
            starts_ms.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let start = Line::new(format!("start to first 201, {size} records"), "ms", median(starts_ms));
        table.push(if *size == GOAL_OF { start.goal(Goal::figure_at_most(300.0, Some(100.0))) } else { start });
    }
    Ok(())
}
