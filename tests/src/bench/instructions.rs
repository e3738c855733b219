//! Instructions of the processor for one captured record, counted by valgrind: they do not depend on what else the machine does.
//!
//! Two gateways save records by one client, one of them more; the difference is what the records more took, start and end
//! aside. Those of the kernel are not in it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Setting;
use super::client::save_all;
use super::sample::{Kind, Sample, samples};
use super::table::{Line, Table};
use crate::process::program;

const FEW: usize = 200;
const MORE: usize = 1_000;

pub(super) fn run(setting: &Setting, table: &mut Table) -> Result<()> {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !version.is_ok_and(|status| status.success()) {
        table
            .note_missing("instructions for a record: valgrind is not installed (on Debian: apt-get install valgrind)");
        return Ok(());
    }
    for kind in [Kind::Visit, Kind::Coded] {
        let records = samples(kind, FEW + MORE, 8_000);
        let few = count(setting, records.get(..FEW).unwrap_or_default())?;
        let instructions = (count(setting, &records)? - few) / MORE as f64;
        table.push(Line::new(
            format!("instructions for a captured {} record", kind.name()),
            "thousand",
            instructions / 1e3,
        ));
    }
    Ok(())
}

/// Instructions of a gateway from its start to its end, with these records saved.
fn count(setting: &Setting, records: &[Sample]) -> Result<f64> {
    let (dir, counts) = (setting.fresh("gateway")?, setting.folder.join("instructions"));
    let counted = Counted::start(&dir, &counts)?;
    save_all(&counted.address, 1, records)?;
    counted.end()?;
    let text = std::fs::read_to_string(&counts).context("what valgrind counted")?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals:")).context("a sum")?;
    Ok(total.trim().parse()?)
}

/// A gateway under valgrind, which takes the place of the program: its process is the gateway's.
struct Counted {
    child: Child,
    address: String,
}

impl Counted {
    fn start(dir: &Path, counts: &Path) -> Result<Counted> {
        let log = File::create(counts.with_extension("log"))?;
        let mut command = Command::new("valgrind");
        command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", counts.display()));
        command.arg(program("outpost")).args(["run", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().context("valgrind")?;
        let mut counted = Counted { child, address: String::new() };
        let mut line = String::new();
        BufReader::new(counted.child.stdout.take().context("its standard output")?).read_line(&mut line)?;
        let address = line.trim().split_once("http://").map(|(_, address)| address.to_owned());
        counted.address = address.with_context(|| format!("outpost did not start under valgrind: {line:?}"))?;
        Ok(counted)
    }

    /// Asks it to end, because what is killed leaves no counts.
    fn end(mut self) -> Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        ensure!(self.child.wait()?.success(), "outpost failed under valgrind");
        Ok(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
