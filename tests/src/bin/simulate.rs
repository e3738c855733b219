//! Plays schedules of the simulator, and tells the story of each kind of failure. `tests/simulate` builds and runs it. The last
//! line is JSON: what was played, what failed and the first seed that did.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use outpost_tests::sim::{Faults, Kind, On, Packers, Plan, Tally};
use serde_json::{Value, json};

const USAGE: &str =
    "tests/simulate [COUNT] [--seed N] [--on memory|disk] [--faults LIST] [--strict] [--keep-going] [--code] [--tell]";

struct Wish {
    count: u64,
    seed: u64,
    on: On,
    faults: Faults,
    is_strict: bool,
    keeps_going: bool,
    wants_code: bool,
    is_told: bool,
}

fn wish() -> Result<Wish> {
    let faults = Faults::default();
    let mut wish = Wish {
        count: 10_000,
        seed: 1,
        on: On::Memory,
        faults,
        is_strict: false,
        keeps_going: false,
        wants_code: false,
        is_told: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value: {USAGE}"));
        match arg.as_str() {
            "--seed" => wish.seed = value()?.parse().context("the seed is a number")?,
            "--on" => wish.on = value()?.parse().map_err(|what: String| anyhow!(what))?,
            "--faults" => wish.faults = value()?.parse().map_err(|what: String| anyhow!(what))?,
            "--strict" => wish.is_strict = true,
            "--keep-going" => wish.keeps_going = true,
            "--code" => wish.wants_code = true,
            "--tell" => wish.is_told = true,
            count => wish.count = count.replace(['_', ','], "").parse().with_context(|| USAGE.to_owned())?,
        }
    }
    Ok(wish)
}

fn main() -> Result<()> {
    let wish = wish()?;
    let mut packers = Packers::on(wish.on);
    let (mut tally, mut failures) = (Tally::default(), BTreeMap::<Kind, u64>::new());
    let (began, mut played, mut caught) = (Instant::now(), 0u64, None);
    println!("faults: {}", wish.faults);
    // A panic of the core is caught and told as the end of its story.
    std::panic::set_hook(Box::new(|_| {}));
    for seed in wish.seed..wish.seed.saturating_add(wish.count) {
        let plan = Plan::of(seed, wish.faults);
        played += 1;
        match plan.play(&mut packers, wish.is_strict) {
            Ok(one) => tally = tally.and(one),
            Err(failure) => {
                caught = caught.or(Some(seed));
                let times = failures.entry(failure.kind).or_default();
                *times += 1;
                if *times == 1 {
                    let (plan, failure) = plan.shrunk(&failure, &mut packers, wish.is_strict);
                    println!("\nseed {seed}: {failure}\n{plan}");
                    if wish.wants_code {
                        println!("{plan:?}\n");
                    }
                    if wish.is_told {
                        plan.tell(&mut packers);
                    }
                }
                if !wish.keeps_going {
                    break;
                }
            }
        }
        if played % 100_000 == 0 {
            println!("{played} schedules, {:.0} a minute", rate(played, began));
        }
    }
    println!("{played} schedules, {:.0} a minute on one core", rate(played, began));
    println!("{tally:?}");
    let failed: BTreeMap<_, _> = failures.iter().map(|(kind, times)| (format!("{kind:?}"), times)).collect();
    println!("{}", told(played, &tally, &json!({"failed": failed, "seed": caught})));
    match failures.is_empty() {
        true => Ok(()),
        false => Err(anyhow!("failed: {failures:?}")),
    }
}

/// For programs. Whoever plays on after a failure is told of all; `lost` and `doubled` are those of acknowledged writes.
fn told(played: u64, tally: &Tally, more: &Value) -> Value {
    let count = |kind: &str| more["failed"][kind].as_u64().unwrap_or_default();
    json!({
        "schedules": played, "writes": tally.writes, "exchanges": tally.exchanges,
        "failed": more["failed"], "seed": more["seed"],
        "often": format!("{played} schedules, {} writes, {} exchanges", tally.writes, tally.exchanges),
        "lost": count("Lost") + count("Vanished"), "doubled": count("Twice"),
    })
}

fn rate(played: u64, began: Instant) -> f64 {
    played as f64 * 60.0 / began.elapsed().as_secs_f64().max(0.001)
}
