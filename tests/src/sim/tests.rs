//! The short form of the simulator, in the suite: schedules by seed, and by name those that failed once.

use super::builds::Build;
use super::torn::Files;
use super::{Event, Fault, Faults, On, Packers, Plan, Tally};
use crate::generator::random::Random;

/// Plays the schedules of some seeds, and tells the story of the first that fails.
fn play(seeds: std::ops::Range<u64>, faults: Faults, on: On) -> Tally {
    let mut packers = Packers::on(on);
    let mut tally = Tally::default();
    for seed in seeds {
        let plan = Plan::of(seed, faults);
        match plan.play(&mut packers, false) {
            Ok(one) => tally = tally.and(one),
            Err(failure) => {
                let (plan, failure) = plan.shrunk(&failure, &mut packers, false);
                panic!("seed {seed}: {failure}\n{plan}");
            }
        }
    }
    tally
}

#[test]
fn eight_hundred_and_fifty_schedules_in_memory() {
    let tally = play(1..851, Faults::default(), On::Memory);
    assert!(tally.upgrades > 0, "nobody spoke another version: {tally:?}");
}

#[test]
fn what_only_a_newer_build_says_changes_nothing() {
    let mut packers = Packers::default();
    for seed in 1..60 {
        let plan = Plan::of(seed, Faults::default().without(Fault::Builds));
        let mut newer = plan.clone();
        let at_gateways = (0..plan.views.len()).map(|at| Event::Build { at, build: Build::Newer });
        let events = at_gateways.chain([Event::HubBuild { build: Build::Newer }]).chain(plan.events.iter().cloned());
        newer.events = events.collect();
        assert_eq!(newer.play(&mut packers, false), plan.play(&mut packers, false), "seed {seed}");
    }
}

#[test]
fn a_hundred_and_fifty_schedules_on_disk() {
    let tally = play(851..1_001, Faults::default(), On::Disk);
    // What only a disk has did happen.
    assert!(tally.full > 0 && tally.torn > 0 && tally.survived > 0, "{tally:?}");
}

#[test]
fn memory_and_disk_come_to_the_same() {
    let (mut memory, mut disk) = (Packers::default(), Packers::on(On::Disk));
    let faults = Faults::default().without(Fault::Power).without(Fault::Full);
    for seed in 1..30 {
        let plan = Plan::of(seed, faults);
        assert_eq!(plan.play(&mut memory, true), plan.play(&mut disk, true), "seed {seed}");
    }
}

#[test]
fn a_cut_leaves_what_was_synced_and_only_parts_of_what_was_not() {
    let dir = tempfile::tempdir().unwrap();
    let files = |name: &str, log: &[u8]| {
        let database = dir.path().join(name);
        std::fs::write(&database, b"pages").unwrap();
        std::fs::write(dir.path().join(format!("{name}-wal")), log).unwrap();
        Files::read(&database).unwrap()
    };
    let synced = [1u8; 1_300];
    let (before, later) = (files("a", &synced), files("b", &[&synced[..], &[2; 3_000]].concat()));
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let left = before.cut(&later, &mut Random::new(seed));
        left.write(&dir.path().join("c"), false).unwrap();
        let log = std::fs::read(dir.path().join("c-wal")).unwrap();
        assert_eq!(log[..1_300], synced, "seed {seed}");
        let arrived = log.iter().filter(|byte| **byte == 2).count();
        kinds.insert((log.len() == 1_300, arrived == 0, arrived == 3_000));
    }
    let is_there = |kind| kinds.contains(&kind);
    assert!(is_there((true, true, false)), "nothing arrived");
    assert!(is_there((false, true, false)), "only the length arrived");
    assert!(is_there((false, false, true)), "everything arrived");
    assert!(is_there((false, false, false)), "some of it arrived");
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
