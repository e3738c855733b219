//! The budgets that are checked: small ones in the suite, larger ones by `tests/model`, and those in which something is known
//! to be wrong, with the shortest way to it.
//!
//! In the suite some 55,000 states: two gateways, up to two writes on top of two that are there, up to three exchanges, and of
//! the accidents one or two. By `tests/model` many times more: the first of its budgets alone has 200,359.

use std::time::Instant;

use stateright::{Checker as _, DiscoveryClassification, Model as _};

use super::Fleet;
use super::world::{Action, Budget, Setting, World};

const NOTHING: Budget =
    Budget { writes: 0, syncs: 0, asks: 0, mishaps: 0, lates: 0, clones: 0, put_backs: 0, restores: 0 };
const PARTED: &str = "a copy becomes a gateway of its own";
const NEW_ORIGIN: &str = "a gateway goes on under a new origin";
const NEW_EPOCH: &str = "the hub is in another epoch";

/// Checks everything within a budget, and tells the shortest way to each breach. `seen` must happen in it.
fn check(&(budget, setting, seen): &Case) {
    let began = Instant::now();
    let model = Fleet { budget, setting };
    let checker = model.checker().spawn_bfs().join();
    println!("{budget:?}: {} states, {:.1} s", checker.unique_state_count(), began.elapsed().as_secs_f64());
    let (mut breaches, mut examples) = (Vec::new(), Vec::new());
    for (name, path) in checker.discoveries() {
        match checker.discovery_classification(name) {
            DiscoveryClassification::Example => examples.push(name),
            DiscoveryClassification::Counterexample => {
                let ways = path.into_actions();
                let (actions, rested) = shortest(model, name, &ways);
                breaches.push(format!("{name}: {actions:?}\n  {rested:?}"));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
    for name in seen {
        assert!(examples.contains(name), "it never happens that {name}");
    }
}

/// Leaves out of a way to a breach whatever it does not need.
fn shortest(model: Fleet, name: &'static str, way: &[Action]) -> (Vec<Action>, World) {
    let property = model.property(name);
    let play = |way: &[Action]| {
        model.init_states().into_iter().find_map(|begin| {
            let step = |world: World, action: &Action| {
                let mut possible = Vec::new();
                model.actions(&world, &mut possible);
                if possible.contains(action) { model.next_state(&world, *action) } else { None }
            };
            let end = way.iter().try_fold(begin, step)?;
            (!(property.condition)(&model, &end)).then_some(end)
        })
    };
    let mut way = way.to_vec();
    let mut at = 0;
    while at < way.len() {
        let mut without = way.clone();
        without.remove(at);
        match play(&without) {
            Some(_) => (way, at) = (without, 0),
            None => at += 1,
        }
    }
    let end = play(&way).expect("a way that the checker went");
    (way, end)
}

const APART: Setting = Setting { has_prints: true, shares_unsent: false };
const ALIKE: Setting = Setting { has_prints: false, ..APART };
const SHARED: Setting = Setting { shares_unsent: true, ..APART };

/// A thing that is checked, and what must happen in it so that it is not idle.
type Case = (Budget, Setting, &'static [&'static str]);

const LINK: Case = (Budget { writes: 2, asks: 2, mishaps: 1, ..NOTHING }, APART, &[]);
const COPIED: Case = (Budget { writes: 2, syncs: 3, clones: 1, ..NOTHING }, APART, &[PARTED, NEW_ORIGIN]);
const COPIED_ALIKE: Case = (Budget { writes: 1, syncs: 3, clones: 1, ..NOTHING }, ALIKE, &[NEW_ORIGIN]);
const PUT_BACK: Case = (Budget { writes: 2, syncs: 1, asks: 1, put_backs: 1, ..NOTHING }, APART, &[NEW_ORIGIN]);
const RESTORED: Case = (Budget { writes: 2, syncs: 2, restores: 1, ..NOTHING }, APART, &[NEW_EPOCH]);
const RESTORED_AMID: Case = (Budget { writes: 1, syncs: 1, asks: 1, restores: 1, ..NOTHING }, APART, &[NEW_EPOCH]);
const BOTH: Case =
    (Budget { writes: 1, syncs: 2, put_backs: 1, restores: 1, ..NOTHING }, APART, &[NEW_EPOCH, NEW_ORIGIN]);

/// All in one: two gateways, a copy of a card, a hub that is put back, and a link that loses, repeats and cuts. Both gateways have
/// written and synced before in one of the two worlds in which it begins, so there is something to lose without a write.
const TOGETHER: Budget = Budget { asks: 1, mishaps: 1, lates: 1, clones: 1, restores: 1, ..NOTHING };

#[test]
fn a_copied_card_and_a_restored_hub_behind_a_bad_link_while_somebody_writes() {
    check(&(Budget { writes: 1, ..TOGETHER }, APART, &[NEW_EPOCH]));
}

#[test]
fn a_copied_card_and_a_restored_hub_behind_a_bad_link_while_somebody_syncs() {
    check(&(Budget { syncs: 1, ..TOGETHER }, APART, &[NEW_EPOCH]));
}

#[test]
fn a_link_that_loses_repeats_and_cuts() {
    check(&LINK);
}

#[test]
fn a_card_that_is_copied() {
    check(&COPIED);
}

#[test]
fn a_card_that_is_copied_and_runs_in_a_box_that_looks_the_same() {
    check(&COPIED_ALIKE);
}

#[test]
fn a_card_that_is_put_back() {
    check(&PUT_BACK);
}

#[test]
fn a_hub_that_is_put_back() {
    check(&RESTORED);
}

#[test]
fn a_hub_that_is_put_back_in_the_middle_of_an_exchange() {
    check(&RESTORED_AMID);
}

#[test]
fn a_card_and_a_hub_that_are_put_back() {
    check(&BOTH);
}

#[test]
#[ignore = "takes more than half an hour; tests/model runs it"]
fn larger() {
    let more = |(budget, setting, seen): Case, more: fn(Budget) -> Budget| check(&(more(budget), setting, seen));
    more(LINK, |b| Budget { syncs: 1, asks: 3, ..b });
    more(COPIED, |b| Budget { asks: 1, mishaps: 1, ..b });
    more(COPIED, |b| Budget { writes: 3, syncs: 4, ..b });
    more(COPIED_ALIKE, |b| Budget { writes: 2, syncs: 4, ..b });
    more(PUT_BACK, |b| Budget { syncs: 2, mishaps: 1, ..b });
    more(RESTORED, |b| Budget { writes: 3, syncs: 4, ..b });
    more(RESTORED_AMID, |b| Budget { writes: 2, mishaps: 1, ..b });
    more(BOTH, |b| Budget { writes: 2, syncs: 3, ..b });
    check(&(Budget { writes: 1, syncs: 1, ..TOGETHER }, APART, &[NEW_EPOCH]));
}

#[test]
fn a_card_that_is_copied_with_unsent_writes() {
    check(&(COPIED.0, SHARED, COPIED.2));
}

#[test]
fn a_card_that_is_put_back_with_unsent_writes() {
    check(&(PUT_BACK.0, SHARED, PUT_BACK.2));
}

#[test]
fn a_card_with_unsent_writes_and_a_hub_that_are_put_back() {
    check(&(Budget { writes: 1, syncs: 3, ..BOTH.0 }, SHARED, BOTH.2));
}

#[test]
fn a_request_that_arrives_again_late() {
    check(&(Budget { writes: 1, syncs: 1, asks: 2, lates: 1, ..NOTHING }, APART, &[]));
}

#[test]
fn a_card_that_is_copied_and_a_hub_that_is_put_back() {
    check(&(Budget { writes: 1, syncs: 2, clones: 1, restores: 1, ..NOTHING }, APART, &[NEW_EPOCH]));
}
