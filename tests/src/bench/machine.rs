//! What Linux knows of a process: memory, bytes written, processor time.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Linux counts processor time in hundredths of a second on every machine that we know (`sysconf(_SC_CLK_TCK)`).
const TICKS_A_SECOND: f64 = 100.0;

fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
}

/// What a process has in memory, megabytes (10^6).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// All of it.
    pub(crate) resident_mb: f64,
    /// Without the pages of files, which the system can take back.
    pub(crate) own_mb: f64,
}

/// The memory of a process.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the status of a process")?;
    let mb = |name: &str| {
        Ok::<_, anyhow::Error>(number_after(&status, name).context(name.to_owned())? as f64 * 1_024.0 / 1e6)
    };
    Ok(Memory { resident_mb: mb("VmRSS")?, own_mb: mb("RssAnon")? })
}

/// Resident memory, megabytes (10^6).
pub(crate) fn resident_mb(pid: u32) -> Result<f64> {
    Ok(memory(pid)?.resident_mb)
}

/// How often each of its threads has gone to sleep, which is how often it woke.
pub(crate) fn switches(pid: u32) -> Result<BTreeMap<u32, u64>> {
    let mut counts = BTreeMap::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).context("the threads of a process")? {
        let thread = thread?;
        // One that ended meanwhile has no count any more.
        let Ok(status) = std::fs::read_to_string(thread.path().join("status")) else { continue };
        let id = thread.file_name().to_string_lossy().parse()?;
        counts.insert(id, number_after(&status, "voluntary_ctxt_switches").unwrap_or(0));
    }
    Ok(counts)
}

/// The most it ever had resident, megabytes.
pub(crate) fn peak_mb(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the status of a process")?;
    Ok(number_after(&status, "VmHWM").context("VmHWM")? as f64 * 1_024.0 / 1e6)
}

/// Bytes that it has caused to be written to the disk, in pages of the cache.
pub(crate) fn written_bytes(pid: u32) -> Result<f64> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).context("the io of a process")?;
    Ok(number_after(&io, "write_bytes").context("write_bytes")? as f64)
}

/// Processor time of all its threads, seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the stat of a process")?;
    // The name, in brackets, may hold anything; user and system time are the 12th and 13th field after it.
    let (_, fields) = stat.rsplit_once(')').context("a stat")?;
    let ticks: f64 = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_A_SECOND)
}

/// The machine, for the report.
pub(crate) fn describe() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo")
        .lines()
        .find_map(|l| l.strip_prefix("model name").map(|m| m.trim_matches([' ', '\t', ':']).to_owned()));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    json!({"cores": cores, "processor": model, "kernel": read("/proc/sys/kernel/osrelease").trim(), "load": read("/proc/loadavg").trim()})
}
