//! Benches: what the programs reach on this machine, beside a baseline measured in the same run.
//!
//! Rates differ manifold between machines and moments, so each stands beside raw SQLite (WAL, `synchronous = FULL`, the same
//! records as plain JSON) or a bare HTTP server that ran in turns with it, and the target is on the ratio. Each figure is the
//! median of its runs. Nothing here is part of the test suite's verdict. `docs/benchmarks.md` says what each line means.

mod apply;
mod bare;
mod capture;
mod card;
mod client;
mod disk;
mod fill;
mod hub;
mod idle;
mod instructions;
mod machine;
mod memory;
mod push;
mod raw;
mod sample;
mod sealed;
mod size;
mod start;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

pub use self::bare::serve_bare;
use self::table::Table;
use crate::process;

/// Where the benches keep their databases; on the disk that is measured, and made anew each time.
const FOLDER: &str = "target/bench";
const REPORT: &str = "target/bench.json";

/// The parts that can be run alone, by name.
const PARTS: [(&str, Part); 11] = [
    ("capture", capture::run),
    ("disk", disk::run),
    ("card", card::run),
    ("apply", apply::run),
    ("hub", hub::run),
    ("size", size::run),
    ("memory", memory::run),
    ("start", start::run),
    ("idle", idle::run),
    ("instructions", instructions::run),
    ("sealed", sealed::run),
];

/// Parts of minutes each, most of them waiting or valgrind's: they run where they are named, and with `--long`.
const SLOW: [&str; 4] = ["memory", "start", "idle", "instructions"];

/// How a part ends that broke off, as any program that panicked.
const BROKE_OFF: i32 = 101;

type Part = fn(&Setting, &mut Table) -> Result<()>;

/// How much to do, and where.
#[derive(Debug)]
pub(crate) struct Setting {
    is_long: bool,
    folder: PathBuf,
}

impl Setting {
    /// How often each measurement is repeated.
    fn runs(&self) -> usize {
        if self.is_long { 7 } else { 3 }
    }

    /// Numbers of records that stores are filled to.
    fn sizes(&self) -> &[usize] {
        if self.is_long { &[10_000, 100_000] } else { &[10_000] }
    }

    /// An empty folder; what an earlier run left there is removed.
    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }
}

/// Runs the parts that are named, or all that are quick; prints the table and keeps it as JSON in `target/bench.json`. One that
/// fails leaves what it had measured, and the others go on.
///
/// # Errors
/// Parts that are not known, and those that failed; what the disk reports.
pub fn run(is_long: bool, names: &[String]) -> Result<()> {
    for name in names {
        ensure!(PARTS.iter().any(|(known, _)| known == name), "no part {name}: {:?}", PARTS.map(|(known, _)| known));
    }
    let is_wanted = |part: &str| match names.is_empty() {
        true => is_long || !SLOW.contains(&part),
        false => names.iter().any(|name| name == part),
    };
    std::fs::create_dir_all(FOLDER)?;
    let (mut table, mut failed) = (Table::default(), Vec::new());
    for (name, _) in PARTS.into_iter().filter(|(name, _)| is_wanted(name)) {
        eprintln!("{name} ...");
        std::fs::write(notes(name), "")?;
        // In a process of its own, because what is wrong with a program that it asks is a panic, which ends the process.
        let mut part = Command::new(std::env::current_exe()?);
        part.args(["--apart", name]).args(is_long.then_some("--long"));
        let is_done = part.status().with_context(|| format!("starting the part {name}"))?.success();
        table.take_over(&notes(name))?;
        if !is_done {
            table.note_missing(&format!("what follows in the part {name}, which failed"));
            failed.push(name);
        }
    }
    println!("{}", table.text());
    table.write_json(Path::new(REPORT), is_long)?;
    eprintln!("kept in {REPORT}");
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Runs one part for [`run`], which reads what this notes. Whatever was started is ended, however it goes.
///
/// # Errors
/// What a program or the disk reports; a part that is not known.
pub fn run_apart(is_long: bool, name: &str) -> Result<()> {
    let (_, part) = PARTS.into_iter().find(|(known, _)| *known == name).with_context(|| format!("no part {name}"))?;
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |what| {
        tell(what);
        process::end_all(BROKE_OFF)
    }));
    part(&Setting { is_long, folder: PathBuf::from(FOLDER) }, &mut Table::noted_in(&notes(name))?)
}

/// Where a part notes its lines.
fn notes(part: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{part}.lines"))
}

/// The middle one; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
