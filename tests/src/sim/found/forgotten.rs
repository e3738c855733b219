//! Gateways that have forgotten old history.

use super::super::event::{Act, Event, Shape};
use super::{play, write};

/// Seed 828179. What one copy of a card had forgotten hid that the other one had written something else under these numbers.
#[test]
fn two_copies_part_where_one_has_forgotten_and_the_hub_went_back() {
    play(
        &[2],
        vec![
            Event::Assign { at: 0, view: 3 },
            write(0, 3, 0, Act::Move(2)),
            write(0, 4, 2, Act::Append),
            Event::Backup,
            Event::Image { at: 0 },
            Event::Write { at: 0, id: 12, key: 3, act: Act::Long, is_stale: false, is_synced: false },
            write(0, 13, 2, Act::Set("note")),
            Event::HubWrite { id: 17, key: 1, act: Act::Set("phone") },
            Event::Write { at: 0, id: 18, key: 2, act: Act::Set("note"), is_stale: false, is_synced: false },
            write(0, 20, 2, Act::Set("note")),
            Event::Sync { at: 0 },
            Event::Clone { at: 0 },
            Event::Write { at: 1, id: 24, key: 2, act: Act::Set("note"), is_stale: false, is_synced: false },
            write(1, 25, 2, Act::Set("note")),
            Event::Restore { is_told: false },
            Event::Forget { at: 0, is_early: true },
            Event::Sync { at: 1 },
        ],
    );
}

/// Seed 838819. What was forgotten before the watermark of a hub that went back is no fork.
#[test]
fn a_gap_around_the_watermark_of_a_restored_hub_is_taken() {
    play(
        &[3],
        vec![
            write(0, 2, 1, Act::Pick("alive", 0)),
            write(0, 5, 0, Act::Set("phone")),
            write(0, 6, 0, Act::Count(-2)),
            Event::Sync { at: 0 },
            Event::Backup,
            write(0, 9, 1, Act::Delete),
            Event::Write { at: 0, id: 12, key: 1, act: Act::Append, is_stale: false, is_synced: false },
            write(0, 13, 0, Act::Count(2)),
            Event::Sync { at: 0 },
            Event::Forget { at: 0, is_early: true },
            Event::Restore { is_told: true },
        ],
    );
}

/// Seed 301016117. The op whose number the other copy of the card took is forgotten here, and the one after it tells.
#[test]
fn a_stream_whose_end_is_forgotten_is_compared_by_what_follows_it() {
    play(
        &[2],
        vec![
            write(0, 1, 4, Act::Set("note")),
            Event::Image { at: 0 },
            Event::Backup,
            write(0, 6, 4, Act::Set("note")),
            write(0, 15, 4, Act::Set("note")),
            Event::Clone { at: 0 },
            Event::Sync { at: 0 },
            Event::Restore { is_told: true },
            write(1, 22, 4, Act::Set("note")),
            Event::Ask { at: 0, is_thin: false },
            Event::Forget { at: 2, is_early: true },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Sync { at: 1 },
        ],
    );
}

/// Seed 301088975. An op is forgotten whose number the other copy of the card took; the op after it tells so, whenever the hub speaks of it.
#[test]
fn what_another_copy_wrote_under_a_forgotten_number_is_not_taken_for_its_own() {
    play(
        &[3],
        vec![
            Event::Sync { at: 0 },
            Event::Backup,
            write(0, 2, 4, Act::Set("note")),
            Event::Image { at: 1 },
            write(1, 5, 4, Act::Set("note")),
            Event::Write { at: 0, id: 8, key: 4, act: Act::Set("note"), is_stale: false, is_synced: false },
            Event::Sync { at: 0 },
            Event::Restore { is_told: false },
            Event::Ask { at: 0, is_thin: false },
            Event::Forget { at: 2, is_early: true },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 0, nth: 0, shape: Shape::Whole, cut: None },
            Event::Clone { at: 0 },
            Event::Write { at: 1, id: 19, key: 4, act: Act::Set("note"), is_stale: false, is_synced: false },
            Event::Sync { at: 1 },
            Event::Ask { at: 0, is_thin: false },
        ],
    );
}

/// Seed 321019171. One copy had forgotten what came before it, so the other gave it another number first.
#[test]
fn what_two_copies_had_in_common_counts_once_also_from_the_one_that_keeps_its_origin() {
    play(
        &[1],
        vec![
            Event::Write { at: 0, id: 6, key: 0, act: Act::Set("first"), is_stale: true, is_synced: false },
            Event::Sync { at: 0 },
            Event::Backup,
            write(0, 7, 0, Act::Set("phone")),
            write(0, 13, 0, Act::Clear("phone")),
            Event::Ask { at: 0, is_thin: true },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: Some(3) },
            Event::Take { at: 0, nth: 0, shape: Shape::Whole, cut: None },
            write(0, 14, 0, Act::Append),
            Event::Image { at: 0 },
            Event::Restore { is_told: false },
            Event::Clone { at: 0 },
            Event::Ask { at: 0, is_thin: true },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 0, nth: 0, shape: Shape::Whole, cut: None },
            Event::Forget { at: 1, is_early: true },
            Event::Ask { at: 1, is_thin: false },
            write(1, 33, 2, Act::Long),
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: Some(1) },
            Event::Take { at: 1, nth: 0, shape: Shape::Whole, cut: None },
            Event::Ask { at: 1, is_thin: true },
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: None },
        ],
    );
}

/// Seed 667987. The other copy had forgotten a change that a later one had overruled.
#[test]
fn a_restored_hub_goes_on_over_what_one_copy_of_a_card_has_forgotten_for_the_other_one_too() {
    play(
        &[3],
        vec![
            write(0, 5, 3, Act::Set("note")),
            Event::Backup,
            Event::Write { at: 0, id: 12, key: 1, act: Act::Set("first"), is_stale: false, is_synced: false },
            Event::Write { at: 0, id: 15, key: 3, act: Act::Set("note"), is_stale: false, is_synced: false },
            write(0, 16, 3, Act::Set("note")),
            Event::Sync { at: 0 },
            Event::Image { at: 0 },
            Event::Restore { is_told: true },
            Event::Clone { at: 0 },
            Event::Sync { at: 0 },
            Event::Forget { at: 1, is_early: true },
            Event::Restore { is_told: false },
            Event::Sync { at: 1 },
        ],
    );
}

/// Seed 986581. One copy wrote under numbers that the other had used and forgotten.
#[test]
fn what_one_copy_of_a_card_has_forgotten_is_not_what_the_other_wrote_since() {
    play(
        &[2],
        vec![
            Event::Image { at: 0 },
            Event::Backup,
            Event::HubWrite { id: 8, key: 4, act: Act::Count(-2) },
            Event::Ask { at: 0, is_thin: true },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 0, nth: 0, shape: Shape::Whole, cut: None },
            Event::Write { at: 0, id: 21, key: 4, act: Act::Set("note"), is_stale: false, is_synced: true },
            Event::Write { at: 0, id: 23, key: 4, act: Act::Set("note"), is_stale: false, is_synced: false },
            Event::Clone { at: 0 },
            Event::Write { at: 0, id: 25, key: 4, act: Act::Set("note"), is_stale: false, is_synced: false },
            Event::Sync { at: 0 },
            Event::Write { at: 1, id: 28, key: 4, act: Act::Set("note"), is_stale: true, is_synced: true },
            Event::Restore { is_told: true },
            Event::Sync { at: 1 },
            Event::Forget { at: 0, is_early: true },
        ],
    );
}
