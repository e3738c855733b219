//! Cards that were put back to an earlier state.

use super::super::builds::Build;
use super::super::event::{Act, Event, Shape};
use super::{exchange, play, write};

/// Seed 3435.
#[test]
fn what_was_written_under_a_lost_origin_comes_back_with_its_record() {
    play(
        &[3],
        vec![
            Event::Backup,
            Event::Write { at: 1, id: 3, key: 0, act: Act::Pick("top", 2), is_stale: false, is_synced: true },
            Event::Image { at: 1 },
            Event::Write { at: 1, id: 6, key: 0, act: Act::Add, is_stale: true, is_synced: false },
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::PutBack { at: 0 },
            Event::Ask { at: 1, is_thin: false },
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 1, nth: 0, shape: Shape::Whole, cut: None },
            Event::Write { at: 0, id: 21, key: 0, act: Act::SettleDelete(true), is_stale: false, is_synced: true },
            Event::Restore { is_told: false },
        ],
    );
}

/// Seed 303408.
#[test]
fn a_card_that_is_put_back_while_it_offers_records_shows_its_own_ops_first() {
    let mut events = vec![
        Event::HubWrite { id: 2, key: 0, act: Act::Pick("stage", 3) },
        Event::Write { at: 0, id: 3, key: 0, act: Act::Pick("alive", 1), is_stale: false, is_synced: false },
        Event::Sync { at: 1 },
        Event::Backup,
        Event::Restore { is_told: true },
        Event::Sync { at: 0 },
    ];
    events.extend(exchange(1, None));
    let [ask, serve, take] = exchange(1, None);
    let write = Event::Write { at: 1, id: 24, key: 0, act: Act::Move(2), is_stale: false, is_synced: true };
    events.extend([ask, serve, write, take, Event::Image { at: 1 }, Event::Sync { at: 1 }, Event::PutBack { at: 1 }]);
    play(&[3, 3], events);
}

/// Seed 505933.
#[test]
fn an_entry_whose_time_was_repaired_twice_is_one_entry() {
    play(
        &[3, 3],
        vec![
            write(0, 1, 1, Act::Set("rank")),
            Event::Clock { at: 0, days: 24_837 },
            Event::Backup,
            Event::Write { at: 0, id: 9, key: 3, act: Act::Append, is_stale: true, is_synced: true },
            Event::Image { at: 0 },
            Event::Sync { at: 0 },
            Event::PutBack { at: 0 },
            Event::Sync { at: 1 },
            Event::Restore { is_told: true },
        ],
    );
}

/// Seed 40057428.
#[test]
fn two_writes_under_one_number_in_one_offered_record_are_told_apart() {
    play(
        &[3, 0],
        vec![
            write(1, 2, 4, Act::Append),
            Event::Backup,
            Event::Image { at: 0 },
            write(0, 6, 4, Act::Set("note")),
            Event::Sync { at: 1 },
            Event::Sync { at: 0 },
            Event::Sync { at: 1 },
            Event::PutBack { at: 0 },
            Event::Restore { is_told: true },
            Event::Sync { at: 1 },
            Event::Sync { at: 0 },
            Event::Restore { is_told: true },
            write(0, 30, 4, Act::Append),
        ],
    );
}

/// Seed 40077520.
#[test]
fn an_entry_whose_time_two_copies_of_a_card_repaired_for_themselves_is_one_entry() {
    play(
        &[2],
        vec![
            Event::Write { at: 0, id: 1, key: 4, act: Act::Count(3), is_stale: true, is_synced: false },
            write(0, 2, 4, Act::Add),
            Event::Image { at: 0 },
            write(0, 6, 4, Act::Set("note")),
            write(0, 7, 1, Act::Set("rank")),
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 1, shape: Shape::Flipped(835), pause: Some(1) },
            Event::GoOn { at: 0 },
            Event::Clock { at: 0, days: 24837 },
            Event::Sync { at: 0 },
            Event::PutBack { at: 0 },
            write(0, 17, 4, Act::Append),
            Event::Build { at: 0, build: Build::Newer },
            Event::Forget { at: 1, is_early: true },
            Event::Image { at: 0 },
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 2, shape: Shape::Whole, pause: None },
            Event::Restore { is_told: false },
            Event::Clone { at: 0 },
            write(0, 23, 2, Act::Count(-2)),
            Event::Write { at: 1, id: 24, key: 0, act: Act::Set("fixed"), is_stale: false, is_synced: false },
            Event::Sync { at: 0 },
            write(1, 25, 3, Act::Set("note")),
        ],
    );
}

/// Seed 301096512. The card and the hub were put back to before the same write, and somebody else shows it.
#[test]
fn a_card_that_is_put_back_with_its_hub_gives_no_number_again_that_somebody_shows() {
    play(
        &[3, 3],
        vec![
            Event::Backup,
            Event::Image { at: 0 },
            write(0, 8, 4, Act::Set("note")),
            Event::Sync { at: 0 },
            Event::Ask { at: 1, is_thin: true },
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 1, nth: 0, shape: Shape::Whole, cut: None },
            Event::Restore { is_told: false },
            Event::PutBack { at: 0 },
            Event::Sync { at: 1 },
            Event::Sync { at: 0 },
            Event::Write { at: 0, id: 21, key: 4, act: Act::Set("note"), is_stale: false, is_synced: false },
        ],
    );
}

/// Seed 310017802.
#[test]
fn a_deletion_by_a_card_that_was_put_back_of_what_it_wrote_under_another_name_is_kept_for_review() {
    play(
        &[2],
        vec![
            write(0, 1, 2, Act::Set("note")),
            Event::Image { at: 0 },
            Event::Write { at: 0, id: 4, key: 1, act: Act::Count(1), is_stale: false, is_synced: false },
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::PutBack { at: 0 },
            Event::Ask { at: 0, is_thin: false },
            write(0, 10, 0, Act::Set("rank")),
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            write(0, 12, 2, Act::Delete),
            Event::Take { at: 0, nth: 0, shape: Shape::Whole, cut: None },
            Event::Sync { at: 0 },
            Event::PutBack { at: 0 },
        ],
    );
}

/// Seed 307119513.
#[test]
fn what_was_written_under_a_former_origin_comes_back_although_its_record_has_left() {
    play(
        &[1, 0],
        vec![
            Event::HubWrite { id: 4, key: 0, act: Act::Set("fixed") },
            write(0, 5, 0, Act::Add),
            Event::Ask { at: 1, is_thin: true },
            Event::Backup,
            write(0, 6, 2, Act::Append),
            Event::Image { at: 0 },
            Event::Ask { at: 0, is_thin: true },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 1, nth: 0, shape: Shape::Whole, cut: None },
            write(0, 13, 3, Act::Move(0)),
            Event::Sync { at: 0 },
            Event::Write { at: 1, id: 17, key: 0, act: Act::Pick("top", 0), is_stale: false, is_synced: false },
            Event::PutBack { at: 0 },
            Event::Sync { at: 0 },
            Event::Restore { is_told: false },
            write(0, 22, 2, Act::Add),
        ],
    );
}
