//! What a record costs the card: syncs, counted by strace, and bytes that stay.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Setting;
use super::client::save_all;
use super::sample::{Kind, Sample, json_bytes, samples};
use super::table::{Goal, Line, Table};
use crate::process::{Gateway, program};

pub(super) fn run(setting: &Setting, table: &mut Table) -> Result<()> {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        for (clients, records, goal) in
            [(1, 500, Goal::figure_at_most(1.0, None)), (32, 6_400, Goal::figure_at_most(0.1, Some(0.05)))]
        {
            let name = if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") };
            let syncs = syncs_a_record(setting, clients, records)?;
            table.push(Line::new(format!("syncs a record, {name}"), "", syncs).goal(goal));
        }
    } else {
        table.note_missing("syncs a record: strace is not installed");
    }
    for kind in [Kind::Visit, Kind::Coded] {
        let records = samples(kind, 10_000, 2_000);
        let kept = kept_bytes(setting, &records)? / 1e3 / records.len() as f64;
        let json = json_bytes(&records) / 1e3 / records.len() as f64;
        let line = Line::new(format!("kept on disk a captured {} record", kind.name()), "KB", kept);
        table.push(line.against(json).goal(Goal::ratio_at_most(0.5, Some(0.36))));
    }
    Ok(())
}

/// A gateway under strace. The filter stops it at syncs only, so the rest runs at full speed.
pub(super) struct Traced {
    strace: Child,
    pub(super) address: String,
}

impl Traced {
    pub(super) fn start(dir: &Path, log: &Path) -> Result<Traced> {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-o"]).arg(log);
        command.arg(program("outpost")).args(["run", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir);
        let mut strace =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("strace")?;
        let stdout = strace.stdout.take().context("its standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().split_once("http://").map(|(_, address)| address.to_owned());
        let traced = Traced { strace, address: address.unwrap_or_default() };
        ensure!(!traced.address.is_empty(), "outpost did not start under strace: {line:?}");
        Ok(traced)
    }
}

impl Traced {
    /// The process id of the gateway itself.
    pub(super) fn id(&self) -> Option<u32> {
        let id = self.strace.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        children.split_whitespace().next().and_then(|child| child.parse().ok())
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // The traced program is a child of strace and would outlive a killed one.
        if let Some(child) = self.id() {
            let _ = Command::new("kill").arg(child.to_string()).status();
        }
        let _ = self.strace.wait();
    }
}

fn syncs_a_record(setting: &Setting, clients: usize, count: usize) -> Result<f64> {
    let log = setting.fresh("strace")?.join("syncs");
    let syncs = || syncs_in(&log);
    let traced = Traced::start(&setting.fresh("gateway")?, &log)?;
    let before = syncs()?;
    save_all(&traced.address, clients, &samples(Kind::Visit, count, 2_001))?;
    Ok((syncs()? - before) as f64 / count as f64)
}

/// The syncs that strace has seen.
pub(super) fn syncs_in(log: &Path) -> Result<usize> {
    Ok(std::fs::read_to_string(log)?.lines().filter(|line| line.contains("sync(")).count())
}

/// Bytes of the database with these records captured, once its log is folded back.
fn kept_bytes(setting: &Setting, records: &[Sample]) -> Result<f64> {
    let dir = setting.fresh("gateway")?;
    let mut gateway = Gateway::start(&dir);
    save_all(&gateway.url().replace("http://", ""), 32, records)?;
    gateway.kill();
    database_bytes(&dir.join("outpost.db"))
}

/// Size of a database that nobody has open, its log folded back.
pub(super) fn database_bytes(path: &Path) -> Result<f64> {
    let db = rusqlite::Connection::open(path)?;
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    drop(db);
    Ok(std::fs::metadata(path)?.len() as f64)
}
