//! Plays schedules of the simulator, and tells the story of each kind of failure. `tests/simulate` builds and runs it. The last
//! line is JSON: what was played, what failed and the first seed that did.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use outpost_tests::sim::{Failure, Faults, Kind, On, Packers, Plan, Tally};
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

/// What came of the schedules so far, of all threads together.
#[derive(Default)]
struct Played {
    tally: Tally,
    schedules: u64,
    /// How often each kind failed, and the first that did.
    failures: BTreeMap<Kind, (u64, u64, Plan, Failure)>,
}

impl Played {
    fn first(&self) -> Option<u64> {
        self.failures.values().map(|(_, seed, ..)| *seed).min()
    }
}

/// Plays on all processors. The seeds are taken in order, and whoever finds a failure lets those before it be played to their end: so
/// what is told is the first, however many play.
struct Players {
    wish: Wish,
    next: AtomicU64,
    played: Mutex<Played>,
    began: Instant,
}

impl Players {
    fn take(&self) -> Option<u64> {
        let seed = self.next.fetch_add(1, Ordering::Relaxed);
        let is_over = !self.wish.keeps_going && self.lock().first().is_some_and(|first| first < seed);
        (seed < self.wish.seed.saturating_add(self.wish.count) && !is_over).then_some(seed)
    }

    fn play(&self) {
        let mut packers = Packers::on(self.wish.on);
        while let Some(seed) = self.take() {
            let plan = Plan::of(seed, self.wish.faults);
            let came = plan.play(&mut packers, self.wish.is_strict);
            self.note(seed, plan, came);
        }
    }

    fn note(&self, seed: u64, plan: Plan, came: Result<Tally, Failure>) {
        let mut played = self.lock();
        played.schedules += 1;
        match came {
            Ok(one) => played.tally = played.tally.and(one),
            Err(failure) => match played.failures.get_mut(&failure.kind) {
                Some((times, first, first_plan, first_failure)) => {
                    *times += 1;
                    if seed < *first {
                        (*first, *first_plan, *first_failure) = (seed, plan, failure);
                    }
                }
                None => drop(played.failures.insert(failure.kind, (1, seed, plan, failure))),
            },
        }
        if played.schedules % 100_000 == 0 {
            println!("{} schedules, {:.0} a minute", played.schedules, rate(played.schedules, self.began));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Played> {
        self.played.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn main() -> Result<()> {
    let wish = wish()?;
    println!("faults: {}", wish.faults);
    // A panic of the core is caught and told as the end of its story.
    std::panic::set_hook(Box::new(|_| {}));
    let (next, began) = (AtomicU64::new(wish.seed), Instant::now());
    let players = Players { wish, next, played: Mutex::default(), began };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(|| players.play()))));
    let Players { wish, played, .. } = players;
    let played = played.into_inner().unwrap_or_else(PoisonError::into_inner);
    let first = played.first();
    let Played { tally, schedules, mut failures } = played;
    if !wish.keeps_going {
        // Others were played beside it that come after it.
        failures.retain(|_, (_, seed, ..)| Some(*seed) == first);
    }
    for (_, seed, plan, failure) in failures.values() {
        tell(&wish, *seed, plan, failure);
    }
    println!("{schedules} schedules, {:.0} a minute on {threads} cores", rate(schedules, began));
    println!("{tally:?}");
    let failed: BTreeMap<_, _> = failures.iter().map(|(kind, (times, ..))| (format!("{kind:?}"), times)).collect();
    println!("{}", told(schedules, &tally, &json!({"failed": failed, "seed": first})));
    match failed.is_empty() {
        true => Ok(()),
        false => Err(anyhow!("failed: {failed:?}")),
    }
}

/// Tells the shortest story that fails in the same way.
fn tell(wish: &Wish, seed: u64, plan: &Plan, failure: &Failure) {
    let mut packers = Packers::on(wish.on);
    let (plan, failure) = plan.shrunk(failure, &mut packers, wish.is_strict);
    println!("\nseed {seed}: {failure}\n{plan}");
    if wish.wants_code {
        println!("{plan:?}\n");
    }
    if wish.is_told {
        plan.tell(&mut packers);
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
