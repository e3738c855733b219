//! The short form of the simulator, in the suite: schedules by seed, and by name those that failed once.

use super::{Faults, Packers, Plan};

/// Plays the schedules of some seeds, and tells the story of the first that fails.
fn play(seeds: std::ops::Range<u64>, faults: Faults) {
    let mut packers = Packers::default();
    for seed in seeds {
        let plan = Plan::of(seed, faults);
        if let Err(failure) = plan.play(&mut packers, false) {
            let (plan, failure) = plan.shrunk(&failure, &mut packers, false);
            panic!("seed {seed}: {failure}\n{plan}");
        }
    }
}

#[test]
fn a_thousand_schedules() {
    play(1..1_001, Faults::default());
}

#[test]
fn the_same_seed_is_the_same_schedule_and_comes_to_the_same() {
    let (mut one, mut other) = (Packers::default(), Packers::default());
    for seed in 1..20 {
        let (plan, again) = (Plan::of(seed, Faults::all()), Plan::of(seed, Faults::all()));
        assert_eq!(plan, again);
        assert_eq!(plan.play(&mut one, true), again.play(&mut other, true));
    }
}
