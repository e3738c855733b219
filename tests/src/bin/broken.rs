//! Breaks the product on purpose and tells which seed of the simulator catches each break. `tests/broken` builds and runs it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use outpost_tests::broken::{self, Break};
use serde_json::{Value, json};

/// Schedules after which a break counts as not caught.
const SCHEDULES_MAX: u64 = 100_000;

fn main() -> Result<()> {
    let root = std::env::current_dir()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let breaks = broken::all(&root)?;
    if let Some(unknown) = wanted.iter().find(|name| breaks.iter().all(|b| b.name != **name)) {
        bail!("no break {unknown} in tests/broken.d");
    }
    let simulator = build(&breaks, &root, &target.join("broken"))?;
    let (mut caught, mut missed) = (Vec::new(), Vec::new());
    for one in breaks.iter().filter(|b| wanted.is_empty() || wanted.contains(&b.name)) {
        match catch(&simulator, one)? {
            Some((seed, kind)) => {
                println!("{}: caught by seed {seed} ({kind}). {}", one.name, one.what);
                let Break { name, what, faults, on, .. } = one;
                caught
                    .push(json!({"name": name, "what": what, "faults": faults, "on": on, "seed": seed, "kind": kind}));
            }
            None => {
                println!("{}: NOT CAUGHT in {SCHEDULES_MAX} schedules. {}", one.name, one.what);
                missed.push(one.name.clone());
            }
        }
    }
    let often = format!("{} broken builds, {} caught", caught.len() + missed.len(), caught.len());
    println!("{}", json!({"often": often, "breaks": caught, "missed": missed}));
    ensure!(missed.is_empty(), "not caught: {}", missed.join(", "));
    Ok(())
}

/// Builds the simulator with all breaks, in a copy, and in a build folder of its own: cargo tells packages by where they are in
/// their workspace, so in a shared one it would take the broken library for the honest one.
fn build(breaks: &[Break], root: &Path, place: &Path) -> Result<PathBuf> {
    let (copy, target) = (place.join("tree"), place.join("build"));
    broken::copy(breaks, root, &copy)?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked", "--quiet", "-p", "outpost-tests", "--bin", "simulate"]);
    let built = cargo.current_dir(&copy).env("CARGO_TARGET_DIR", &target).output()?;
    let told = String::from_utf8_lossy(&built.stderr);
    ensure!(built.status.success(), "the simulator does not build with the breaks in it:\n{told}");
    Ok(target.join("debug/simulate"))
}

/// The first seed that fails with the break and passes without it, and how it fails.
fn catch(simulator: &Path, one: &Break) -> Result<Option<(u64, String)>> {
    let mut from = 1;
    while from <= SCHEDULES_MAX {
        let found = play(simulator, one, &one.name, from, SCHEDULES_MAX + 1 - from)?;
        let Some(seed) = found["seed"].as_u64() else { return Ok(None) };
        if play(simulator, one, "", seed, 1)?["seed"].is_null() {
            let kinds = found["failed"].as_object().context("what failed")?;
            return Ok(Some((seed, kinds.keys().cloned().collect::<Vec<_>>().join(", "))));
        }
        from = seed + 1;
    }
    Ok(None)
}

/// Plays until one schedule fails, and gives the last line.
fn play(simulator: &Path, one: &Break, made: &str, seed: u64, count: u64) -> Result<Value> {
    let mut command = Command::new(simulator);
    command.args([&count.to_string(), "--seed", &seed.to_string(), "--faults", &one.faults, "--on", &one.on]);
    if one.is_strict {
        command.arg("--strict");
    }
    let output = command.env(broken::VARIABLE, made).output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    let last = told.lines().last().context("its last line")?;
    serde_json::from_str(last).with_context(|| format!("{}: {last}", one.name))
}
