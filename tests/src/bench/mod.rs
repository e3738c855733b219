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

use anyhow::{Context, Result};

pub use self::bare::serve_bare;
use self::table::Table;

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

/// Runs the parts that are named, or all; prints the table and keeps it as JSON in `target/bench.json`.
///
/// # Errors
/// What a program or the disk reports; a part that is not known.
pub fn run(is_long: bool, names: &[String]) -> Result<()> {
    for name in names {
        anyhow::ensure!(
            PARTS.iter().any(|(known, _)| known == name),
            "no part {name}: {:?}",
            PARTS.map(|(known, _)| known)
        );
    }
    let setting = Setting { is_long, folder: PathBuf::from(FOLDER) };
    let mut table = Table::default();
    for (name, part) in PARTS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            eprintln!("{name} ...");
            part(&setting, &mut table).with_context(|| format!("the part {name}"))?;
        }
    }
    println!("{}", table.text());
    table.write_json(Path::new(REPORT), is_long)?;
    eprintln!("kept in {REPORT}");
    Ok(())
}

/// The middle one; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
