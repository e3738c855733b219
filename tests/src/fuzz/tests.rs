//! The short form: kept inputs, golden vectors, and seeded changes of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{TARGETS, mutate, seeds};
use crate::generator::random::Random;

/// Plays a target. A failing input is told in hex, to be kept in `tests/corpus`.
fn play(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = seeds(name);
    let mut random = Random::of_text(name);
    let changed = (0..target.tries).map(|_| mutate::changed(&mut random, &seeds));
    for input in seeds.iter().cloned().chain(changed) {
        let run = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        assert!(run.is_ok(), "{name}: {}", input.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
}

#[test]
fn frames() {
    play("frame");
}

#[test]
fn payloads() {
    play("payload");
}

#[test]
fn requests() {
    play("request");
}

#[test]
fn responses() {
    play("response");
}

#[test]
fn ops() {
    play("op");
}

#[test]
fn records() {
    play("record");
}

#[test]
fn symbols() {
    play("symbols");
}

#[test]
fn rules() {
    play("rules");
}

#[test]
fn edits() {
    play("edit");
}

#[test]
fn hubs() {
    play("hub");
}

#[test]
fn gateways() {
    play("gateway");
}

#[test]
fn programs() {
    play("http");
}

#[test]
fn tickets() {
    play("ticket");
}

#[test]
fn logins() {
    play("login");
}

#[test]
fn cards() {
    play("card");
}
