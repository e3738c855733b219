//! What the programs weigh: the file that is installed. Those for the boards as well, where `cross/build.sh` has made them.

use std::path::Path;

use anyhow::Result;

use super::Setting;
use super::table::{Goal, Line, Table};
use crate::process::program;

/// Where `cross/build.sh` puts them, and for which boards.
const CROSS: &str = "target/cross";
const BOARDS: [&str; 4] = ["amd64", "aarch64", "armv7", "armv6"];

pub(super) fn run(_: &Setting, table: &mut Table) -> Result<()> {
    for name in ["outpost", "outpost-hub"] {
        weigh(table, name, &format!("program {name}"), &program(name))?;
        for board in BOARDS {
            let path = Path::new(CROSS).join(board).join(name);
            if path.is_file() {
                weigh(table, name, &format!("program {name}, {board}, static"), &path)?;
            }
        }
    }
    Ok(())
}

/// The hub runs on larger machines.
fn weigh(table: &mut Table, name: &str, what: &str, path: &Path) -> Result<()> {
    let line = Line::new(what, "MB", std::fs::metadata(path)?.len() as f64 / 1e6);
    table.push(if name == "outpost" { line.goal(Goal::figure_at_most(8.0, Some(5.0))) } else { line });
    Ok(())
}
