//! What the programs reach on this machine. `tests/bench` builds and runs it; `docs/benchmarks.md` explains the table.

use anyhow::Result;
use outpost_tests::bench;

fn main() -> Result<()> {
    let (flags, parts): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|arg| arg.starts_with("--"));
    if flags.iter().any(|flag| flag == "--bare") {
        return Ok(bench::serve_bare()?);
    }
    if let Some(unknown) = flags.iter().find(|flag| !["--long", "--apart"].contains(&flag.as_str())) {
        anyhow::bail!("no flag {unknown}: tests/bench [--long] [part ...]");
    }
    let has = |wanted: &str| flags.iter().any(|flag| flag == wanted);
    match parts.as_slice() {
        [part] if has("--apart") => bench::run_apart(has("--long"), part),
        parts => bench::run(has("--long"), parts),
    }
}
