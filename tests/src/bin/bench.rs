//! What the programs reach on this machine. `tests/bench` builds and runs it; `docs/benchmarks.md` explains the table.

use anyhow::Result;
use outpost_tests::bench;

fn main() -> Result<()> {
    let (flags, parts): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|arg| arg.starts_with("--"));
    if flags.iter().any(|flag| flag == "--bare") {
        return Ok(bench::serve_bare()?);
    }
    if let Some(unknown) = flags.iter().find(|flag| *flag != "--long") {
        anyhow::bail!("no flag {unknown}: tests/bench [--long] [part ...]");
    }
    bench::run(!flags.is_empty(), &parts)
}
