//! Measures upgrades of large databases: `tests/upgrade [RECORDS]`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use outpost_tests::frozen::measure;

const RECORDS: usize = 100_000;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let records = match args.as_slice() {
        [] => RECORDS,
        [count] => count.replace('_', "").parse().context("how many records")?,
        _ => bail!("usage: tests/upgrade [RECORDS]"),
    };
    // Beside the build, because a temporary folder may be in memory.
    let home = tempfile::tempdir_in(Path::new("target"))?;
    println!("{records} records, half of them unsent");
    for upgrade in measure::run(home.path(), records)? {
        println!(
            "{:>8} from layout {}: opened in {:>6.0} ms, usually {:.0} ms; every row is there; {} unsent changes sent after it; {} power cuts within its first commit cost nothing",
            format!("{:?}", upgrade.program).to_lowercase(),
            upgrade.from,
            upgrade.took.as_secs_f64() * 1e3,
            upgrade.usually.as_secs_f64() * 1e3,
            upgrade.sent,
            upgrade.cuts
        );
    }
    Ok(())
}
