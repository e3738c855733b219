//! What a gateway costs its card: in an hour in which nothing happens, and in a day of ordinary use.
//!
//! The hour is its exchanges, made at once: between them a gateway writes nothing (`tests/scenarios/quiet.rs`). The day is a clinic's: each
//! record is saved alone and sent at once, as it is where minutes lie between patients; then the exchanges of the rest of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::disk::{Traced, syncs_in};
use super::table::{Goal, Line, Table};
use super::{Setting, machine};
use crate::generator::{Generated, Generator};
use crate::process::{Gateway, Hub, ask, wait_for};

/// Exchanges of an hour by the timer (`sync_interval_seconds`).
const EXCHANGES_AN_HOUR: usize = 12;
const PATIENTS: usize = 60;

/// A gateway with its hub, under strace.
struct Clinic {
    traced: Traced,
    log: PathBuf,
}

/// What it has cost up to now.
#[derive(Clone, Copy)]
struct Cost {
    syncs: usize,
    written: f64,
}

pub(super) fn run(setting: &Setting, table: &mut Table) -> Result<()> {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        table.note_missing("an idle hour, and a day: strace is not installed");
        return Ok(());
    }
    let hub = Hub::start_plain(&setting.fresh("hub")?);
    let dir = setting.fresh("gateway")?;
    Gateway::enrolled(&dir, &hub, "clinic", "mw").kill();
    let gateway = Clinic::start(&dir, &setting.fresh("strace")?)?;
    gateway.sync()?;
    gateway.settle(&dir);

    let before = gateway.cost()?;
    (0..EXCHANGES_AN_HOUR).try_for_each(|_| gateway.sync())?;
    let hour = gateway.cost()?.since(before);
    let goal = Goal::figure_at_most(EXCHANGES_AN_HOUR as f64, None);
    table.push(Line::new("syncs of an idle hour", "", hour.syncs as f64).goal(goal));
    table.push(Line::new("written in an idle hour", "KB", hour.written / 1e3));

    let records = Generator::at(3_000, "mw/zomba/chingale").clinic_day(PATIENTS);
    let json: f64 = records.iter().map(|made| made.json().len() as f64).sum();
    let before = gateway.cost()?;
    for made in &records {
        gateway.save(made)?;
    }
    (0..EXCHANGES_AN_HOUR * 24).try_for_each(|_| gateway.sync())?;
    let day = gateway.cost()?.since(before);
    table.push(Line::new(format!("syncs of a day, {} records", records.len()), "", day.syncs as f64));
    table.push(
        Line::new(format!("written in a day, {} records", records.len()), "MB", day.written / 1e6).against(json / 1e6),
    );
    Ok(())
}

impl Clinic {
    fn start(dir: &Path, logs: &Path) -> Result<Clinic> {
        let log = logs.join("syncs");
        Ok(Clinic { traced: Traced::start(dir, &log)?, log })
    }

    fn cost(&self) -> Result<Cost> {
        let id = self.traced.id().context("the gateway under strace")?;
        Ok(Cost { syncs: syncs_in(&self.log)?, written: machine::written_bytes(id)? })
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, answer) = ask(method, &format!("http://{}{path}", self.traced.address), &[], body);
        ensure!(status == 200 || status == 201, "{status} {answer}");
        Ok(serde_json::from_str(&answer)?)
    }

    /// Waits until the check and the scrub that follow the first start have been noted.
    fn settle(&self, dir: &Path) {
        let checked = "SELECT count(*) FROM upkeep WHERE checked_ms > 0 AND scrubbed_ms > 0";
        wait_for("the first check and scrub", || {
            let db = rusqlite::Connection::open(dir.join("outpost.db")).ok()?;
            db.query_row(checked, [], |row| row.get::<_, bool>(0)).ok()?.then_some(())
        });
    }

    fn sync(&self) -> Result<()> {
        self.ask("POST", "/v1/sync", None).map(drop)
    }

    /// Saves a record and waits until the gateway has sent it by itself.
    fn save(&self, made: &Generated) -> Result<()> {
        let path = format!("/v1/records/{}/{}", made.record_type, made.id);
        self.ask("PUT", &path, Some(&Value::Object(made.body.clone())))?;
        wait_for("the record to be sent", || {
            let status = self.ask("GET", "/v1/status", None).ok()?;
            (status.get("unsent").and_then(Value::as_u64) == Some(0)).then_some(())
        });
        Ok(())
    }
}

impl Cost {
    fn since(self, before: Cost) -> Cost {
        Cost { syncs: self.syncs - before.syncs, written: self.written - before.written }
    }
}
