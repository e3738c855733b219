//! Captures: how fast the gateway answers "it is on disk", with one client and with many.

use anyhow::Result;

use super::client::save_all;
use super::raw;
use super::sample::{Kind, samples};
use super::table::{Goal, Line, Table};
use super::{Setting, machine, median};
use crate::process::Gateway;

/// One way of saving, with the targets of its lines.
struct Case {
    clients: usize,
    records: usize,
    rate: Goal,
    written: Goal,
}

/// What the runs of a case gave, one number a run.
#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    written: Vec<f64>,
    raw_rate: Vec<f64>,
    raw_p50: Vec<f64>,
    raw_written: Vec<f64>,
}

pub(super) fn run(setting: &Setting, table: &mut Table) -> Result<()> {
    let cases = [
        Case {
            clients: 1,
            records: 3_000,
            rate: Goal::ratio_at_least(0.45, Some(0.65)),
            written: Goal::figure_at_most(11.0, Some(8.2)),
        },
        Case {
            clients: 32,
            records: 12_800,
            rate: Goal::ratio_at_least(0.30, Some(0.45)),
            written: Goal::figure_at_most(3.75, Some(1.9)),
        },
    ];
    for case in &cases {
        let mut figures = Figures::default();
        for run in 0..setting.runs() {
            measure(setting, case, run as u64, &mut figures)?;
        }
        let name = match case.clients {
            1 => "1 client".to_owned(),
            many => format!("{many} clients"),
        };
        let raw_rate = median(figures.raw_rate);
        table.push(Line::new(format!("capture, {name}"), "/s", median(figures.rate)).against(raw_rate).goal(case.rate));
        let raw_p50 = median(figures.raw_p50);
        let p50 = Line::new(format!("capture p50, {name}"), "us", median(figures.p50)).against(raw_p50);
        let p99 = Line::new(format!("capture p99, {name}"), "us", median(figures.p99));
        let is_lone = case.clients == 1;
        table.push(if is_lone { p50.goal(Goal::surplus_at_most(150.0)) } else { p50 });
        // Where the disk takes milliseconds for a sync, five syncs.
        let p99_max = (raw_p50 * 5.0).max(6_000.0);
        table.push(if is_lone { p99 } else { p99.goal(Goal::figure_at_most(p99_max, None)) });
        let written = Line::new(format!("written a record, {name}"), "KB", median(figures.written) / 1e3);
        table.push(written.against(median(figures.raw_written) / 1e3).goal(case.written));
    }
    Ok(())
}

/// The baseline and then the program, each on an empty database.
fn measure(setting: &Setting, case: &Case, run: u64, figures: &mut Figures) -> Result<()> {
    let records = samples(Kind::Visit, case.records, 1_000 + run);
    let raw = raw::insert(&setting.fresh("raw")?, &records, case.clients)?;
    figures.raw_rate.push(raw.records_a_second);
    figures.raw_p50.push(raw.p50_us);
    figures.raw_written.push(raw.written_a_record);

    let gateway = Gateway::start(&setting.fresh("gateway")?);
    let address = gateway.url().replace("http://", "");
    let before = machine::written_bytes(gateway.id())?;
    let driven = save_all(&address, case.clients, &records)?;
    figures.written.push((machine::written_bytes(gateway.id())? - before) / case.records as f64);
    figures.rate.push(driven.records_a_second);
    figures.p50.push(driven.quantile_us(0.5));
    figures.p99.push(driven.quantile_us(0.99));
    Ok(())
}
