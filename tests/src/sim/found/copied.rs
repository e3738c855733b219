//! Cards that run in two boxes.

use super::super::builds::Build;
use super::super::event::{Act, Event, Shape};
use super::{play, write};

/// Seed 328.
#[test]
fn a_gateway_that_was_parted_in_the_lost_time_is_taken_in_again() {
    play(
        &[0, 1],
        vec![
            Event::Image { at: 0 },
            Event::Write { at: 0, id: 4, key: 4, act: Act::Count(-1), is_stale: true, is_synced: true },
            Event::Write { at: 1, id: 6, key: 0, act: Act::Pick("stage", 3), is_stale: false, is_synced: true },
            Event::Backup,
            Event::Sync { at: 0 },
            Event::Clone { at: 0 },
            Event::Sync { at: 2 },
            Event::Restore { is_told: true },
            Event::Sync { at: 1 },
        ],
    );
}

/// Seed 28310. The flipped bit is in the length of the frame.
#[test]
fn a_frame_whose_length_is_damaged_is_a_damaged_frame() {
    play(
        &[2],
        vec![
            Event::Write { at: 0, id: 4, key: 1, act: Act::Set("first"), is_stale: false, is_synced: true },
            Event::Image { at: 0 },
            Event::Clone { at: 0 },
            Event::Write { at: 0, id: 21, key: 2, act: Act::Move(1), is_stale: false, is_synced: true },
            Event::Sync { at: 0 },
            Event::Ask { at: 1, is_thin: true },
            Event::Serve { at: 1, nth: 0, shape: Shape::Flipped(8), pause: None },
            Event::Take { at: 1, nth: 0, shape: Shape::Whole, cut: None },
        ],
    );
}

/// Seed 32679.
#[test]
fn what_an_origin_had_counted_in_a_record_that_left_is_not_counted_again_under_the_next() {
    play(
        &[3],
        vec![
            Event::Write { at: 0, id: 2, key: 1, act: Act::Count(-2), is_stale: false, is_synced: true },
            Event::Assign { at: 0, view: 0 },
            Event::Sync { at: 0 },
            Event::Image { at: 0 },
            Event::Write { at: 0, id: 26, key: 0, act: Act::Pick("stage", 3), is_stale: false, is_synced: true },
            Event::Clone { at: 0 },
            Event::Write { at: 1, id: 32, key: 1, act: Act::Count(4), is_stale: false, is_synced: false },
        ],
    );
}

/// Seed 68205. The other copy of the card has brought another write under the number that was lost.
#[test]
fn what_a_hub_acknowledged_and_lost_is_missed_although_it_has_as_many_writes_again() {
    play(
        &[3],
        vec![
            Event::Backup,
            Event::Image { at: 0 },
            Event::Write { at: 0, id: 14, key: 1, act: Act::Count(-4), is_stale: false, is_synced: true },
            Event::Sync { at: 0 },
            Event::Clone { at: 0 },
            Event::Restore { is_told: false },
            Event::Write { at: 1, id: 17, key: 0, act: Act::Append, is_stale: false, is_synced: true },
            Event::Sync { at: 1 },
        ],
    );
}

/// Seed 609967.
#[test]
fn what_two_copies_of_a_card_had_in_common_counts_once_when_a_third_one_took_its_number() {
    play(
        &[2],
        vec![
            Event::Image { at: 0 },
            Event::Clone { at: 0 },
            write(0, 9, 1, Act::Count(1)),
            Event::Image { at: 0 },
            write(1, 11, 1, Act::Set("rank")),
            Event::Sync { at: 1 },
            Event::Clone { at: 0 },
        ],
    );
}

/// Seed 622244.
#[test]
fn a_hub_that_was_put_back_and_has_the_writes_of_another_copy_of_the_card_is_shown_all_of_this_one() {
    play(
        &[3],
        vec![
            Event::Image { at: 0 },
            Event::Write { at: 0, id: 6, key: 1, act: Act::Move(2), is_stale: true, is_synced: true },
            Event::Backup,
            Event::Write { at: 0, id: 9, key: 0, act: Act::Set("first"), is_stale: true, is_synced: true },
            Event::Sync { at: 0 },
            Event::Clone { at: 0 },
            write(1, 18, 1, Act::Pick("alive", 1)),
            Event::Restore { is_told: true },
            Event::Sync { at: 1 },
        ],
    );
}

/// Seed 40005508. Both cards speak as one gateway, and the first to come back had nothing left to compare.
#[test]
fn two_cards_with_one_name_both_show_a_restored_hub_what_it_lost() {
    play(
        &[3],
        vec![
            write(0, 14, 4, Act::Set("note")),
            Event::Image { at: 0 },
            Event::Sync { at: 0 },
            Event::Clone { at: 0 },
            Event::Backup,
            Event::Ask { at: 1, is_thin: false },
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: None },
            write(1, 28, 1, Act::Set("phone")),
            Event::Write { at: 0, id: 31, key: 4, act: Act::Set("note"), is_stale: true, is_synced: true },
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Sync { at: 1 },
            Event::Restore { is_told: true },
        ],
    );
}

/// Seed 40192617.
#[test]
fn what_belongs_to_a_record_that_is_nowhere_yet_stays_where_it_is() {
    play(
        &[1, 3],
        vec![
            Event::Image { at: 2 },
            Event::Clone { at: 0 },
            Event::Sync { at: 2 },
            Event::HubWrite { id: 12, key: 1, act: Act::Pick("low", 1) },
            Event::Backup,
            write(0, 13, 0, Act::Move(2)),
            Event::Ask { at: 2, is_thin: true },
            Event::Serve { at: 2, nth: 0, shape: Shape::Whole, pause: None },
            Event::Write { at: 0, id: 27, key: 3, act: Act::Set("note"), is_stale: true, is_synced: true },
            Event::Sync { at: 0 },
            Event::Sync { at: 1 },
            Event::Restore { is_told: false },
            write(0, 32, 3, Act::Move(0)),
            Event::Write { at: 1, id: 34, key: 0, act: Act::Delete, is_stale: false, is_synced: false },
        ],
    );
}

/// Seed 40240053.
#[test]
fn what_others_showed_makes_way_for_a_write_of_the_same_values_under_its_number() {
    play(
        &[0, 3],
        vec![
            Event::Image { at: 1 },
            write(1, 5, 1, Act::Add),
            Event::Backup,
            Event::Clone { at: 1 },
            write(2, 16, 1, Act::Append),
            Event::Assign { at: 0, view: 3 },
            Event::Sync { at: 2 },
            Event::Sync { at: 0 },
            Event::Restore { is_told: false },
        ],
    );
}

/// Seed 302087438.
#[test]
fn what_three_copies_of_a_card_had_in_common_counts_once_at_a_hub_that_had_lost_one_of_them() {
    play(
        &[3],
        vec![
            Event::Image { at: 0 },
            Event::Write { at: 0, id: 8, key: 3, act: Act::Append, is_stale: false, is_synced: false },
            Event::Clone { at: 0 },
            write(1, 12, 3, Act::Set("note")),
            Event::Sync { at: 1 },
            write(0, 16, 3, Act::Delete),
            Event::Image { at: 0 },
            Event::Backup,
            Event::Sync { at: 0 },
            write(1, 28, 1, Act::Add),
            Event::Restore { is_told: false },
            Event::Clone { at: 0 },
        ],
    );
}

/// Seed 305079990. The copy has it at the same time and in another order.
#[test]
fn an_entry_that_two_copies_of_a_card_put_into_another_order_is_one_entry() {
    play(
        &[3],
        vec![
            Event::Sync { at: 0 },
            Event::Write { at: 0, id: 13, key: 1, act: Act::Append, is_stale: false, is_synced: false },
            write(0, 16, 3, Act::Set("note")),
            Event::Clock { at: 0, days: 18262 },
            Event::Ask { at: 0, is_thin: true },
            Event::Image { at: 0 },
            Event::Backup,
            Event::Clone { at: 0 },
            Event::Restore { is_told: true },
            write(1, 26, 1, Act::Add),
        ],
    );
}

/// Seed 306094632. By the rule the least stands, and the other is in the history of values.
#[test]
fn what_comes_back_with_a_record_and_loses_by_its_rule_is_in_the_history() {
    play(
        &[1],
        vec![
            Event::Image { at: 0 },
            write(0, 1, 2, Act::Set("note")),
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Clone { at: 0 },
            write(1, 8, 0, Act::Move(1)),
            write(1, 10, 0, Act::Pick("low", 3)),
            Event::Backup,
            Event::Sync { at: 1 },
            Event::Restore { is_told: false },
            Event::HubWrite { id: 14, key: 0, act: Act::Pick("low", 1) },
        ],
    );
}

/// Seed 307111484.
#[test]
fn a_card_that_was_put_back_comes_to_an_end_although_others_show_what_it_wrote() {
    play(
        &[3],
        vec![
            Event::Backup,
            Event::HubBuild { build: Build::OtherVersion },
            write(0, 2, 2, Act::Move(1)),
            Event::Image { at: 0 },
            Event::Clone { at: 0 },
            write(1, 4, 2, Act::Set("note")),
            Event::Build { at: 1, build: Build::OtherVersion },
            write(1, 5, 2, Act::Set("note")),
            Event::Write { at: 0, id: 6, key: 3, act: Act::Set("note"), is_stale: false, is_synced: false },
            write(1, 7, 2, Act::Move(2)),
            Event::HubWrite { id: 10, key: 0, act: Act::Append },
            write(1, 22, 2, Act::Set("note")),
            Event::Sync { at: 1 },
            Event::Restore { is_told: true },
            Event::Forget { at: 1, is_early: true },
        ],
    );
}

/// Seed 313067496. It is shown twice, and between that another copy gives its number to a write of another record.
#[test]
fn an_entry_that_is_shown_twice_is_one_entry_whatever_its_number_means_meanwhile() {
    play(
        &[1],
        vec![
            Event::Assign { at: 0, view: 2 },
            write(0, 4, 0, Act::Add),
            Event::HubWrite { id: 5, key: 2, act: Act::Set("note") },
            Event::Image { at: 0 },
            Event::Backup,
            write(0, 8, 0, Act::Append),
            Event::Clone { at: 0 },
            Event::Sync { at: 1 },
            Event::Sync { at: 0 },
            Event::Restore { is_told: true },
            Event::Write { at: 1, id: 20, key: 2, act: Act::Set("note"), is_stale: true, is_synced: true },
            Event::Sync { at: 0 },
            Event::Ask { at: 1, is_thin: false },
            Event::Write { at: 1, id: 26, key: 1, act: Act::Move(0), is_stale: true, is_synced: false },
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 1, nth: 0, shape: Shape::Whole, cut: None },
            Event::Ask { at: 1, is_thin: false },
            Event::Write { at: 0, id: 28, key: 0, act: Act::Set("fixed"), is_stale: false, is_synced: false },
        ],
    );
}

/// Seed 315085479. A set that came back with a record of the other copy has counted the number of this one.
#[test]
fn a_member_comes_although_the_set_was_shown_with_the_numbers_of_another_copy() {
    play(
        &[1],
        vec![
            Event::Image { at: 0 },
            write(0, 2, 0, Act::Set("first")),
            write(0, 3, 1, Act::Add),
            Event::Backup,
            Event::Clone { at: 0 },
            Event::Sync { at: 1 },
            Event::Sync { at: 1 },
            write(1, 10, 1, Act::Add),
            Event::Sync { at: 0 },
            Event::Restore { is_told: true },
        ],
    );
}

/// Seed 400002201. Card and memory said different things of a record of which nothing is confirmed.
#[test]
fn a_record_that_was_leaving_and_is_written_anew_belongs_to_where_it_is_written() {
    play(
        &[3],
        vec![
            Event::Assign { at: 0, view: 2 },
            Event::Backup,
            Event::Image { at: 0 },
            write(0, 5, 4, Act::Add),
            Event::Write { at: 0, id: 8, key: 4, act: Act::Delete, is_stale: false, is_synced: false },
            Event::Sync { at: 0 },
            Event::Restore { is_told: true },
            Event::Clone { at: 0 },
            Event::Write { at: 1, id: 15, key: 4, act: Act::Add, is_stale: false, is_synced: false },
            Event::Sync { at: 1 },
        ],
    );
}

/// Seed 308114669. The card held its own part of that record only, and of that not where it belongs.
#[test]
fn what_a_restored_hub_lost_of_a_former_origin_comes_back_although_its_record_was_not_shown() {
    play(
        &[3],
        vec![
            write(0, 5, 3, Act::Append),
            Event::Backup,
            Event::Image { at: 0 },
            Event::Clone { at: 0 },
            Event::Write { at: 1, id: 11, key: 3, act: Act::Set("note"), is_stale: false, is_synced: false },
            write(0, 15, 1, Act::Append),
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Ask { at: 1, is_thin: false },
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 1, nth: 0, shape: Shape::Whole, cut: None },
            Event::Restore { is_told: true },
        ],
    );
}

/// Seed 316100679. Of that record the card holds nothing.
#[test]
fn what_was_written_under_a_former_origin_outside_of_the_view_comes_back() {
    play(
        &[0],
        vec![
            Event::Backup,
            Event::Image { at: 0 },
            write(0, 7, 3, Act::Set("note")),
            Event::Assign { at: 0, view: 1 },
            Event::Clone { at: 0 },
            Event::Write { at: 0, id: 11, key: 3, act: Act::Delete, is_stale: true, is_synced: true },
            write(0, 12, 3, Act::Append),
            Event::Sync { at: 1 },
            Event::Sync { at: 0 },
            Event::Restore { is_told: true },
        ],
    );
}

/// Seed 317074034. It was shown with its record first.
#[test]
fn an_item_that_was_shown_is_not_handed_in_a_second_time() {
    play(
        &[2],
        vec![
            Event::Image { at: 0 },
            Event::Clone { at: 0 },
            Event::Write { at: 0, id: 4, key: 0, act: Act::Move(0), is_stale: false, is_synced: false },
            Event::Sync { at: 0 },
            Event::Clone { at: 0 },
            Event::Backup,
            Event::Write { at: 2, id: 19, key: 2, act: Act::Append, is_stale: false, is_synced: false },
            Event::Sync { at: 2 },
            Event::Restore { is_told: true },
            write(3, 25, 2, Act::Move(0)),
        ],
    );
}

/// Seed 20261. The hub that was put back had parted two copies under one number, and parts the second from the first.
#[test]
fn a_copy_of_a_copy_hands_in_what_the_first_card_wrote() {
    play(
        &[2],
        vec![
            Event::Write { at: 0, id: 2, key: 0, act: Act::Pick("alive", 1), is_stale: false, is_synced: false },
            Event::Sync { at: 0 },
            Event::Image { at: 0 },
            Event::Write { at: 0, id: 3, key: 0, act: Act::Pick("top", 2), is_stale: true, is_synced: false },
            Event::Sync { at: 0 },
            Event::Backup,
            Event::Clone { at: 0 },
            Event::Clone { at: 0 },
            Event::Sync { at: 0 },
            Event::Sync { at: 1 },
            Event::Restore { is_told: false },
            Event::Sync { at: 2 },
        ],
    );
}

/// Seed 660684. It was taken for what had been shown under its number, because it had waited for another record meanwhile.
#[test]
fn what_others_showed_makes_way_for_a_write_that_waits_first() {
    play(
        &[3, 3],
        vec![
            Event::Image { at: 1 },
            write(1, 3, 2, Act::Append),
            write(1, 4, 0, Act::Long),
            Event::Backup,
            Event::Sync { at: 1 },
            Event::Sync { at: 0 },
            Event::PutBack { at: 1 },
            Event::Damage { at: 0, key: 0, is_shown: false },
            Event::Restore { is_told: false },
            Event::Write { at: 1, id: 17, key: 0, act: Act::Set("phone"), is_stale: false, is_synced: false },
            write(1, 22, 2, Act::Append),
        ],
    );
}

/// Seed 8261514. The copy of the card went on under another origin, took it out, and handed in what the hub had lost: it got another number.
#[test]
fn what_was_taken_out_of_a_set_stays_out_when_it_is_handed_in() {
    play(
        &[3],
        vec![
            Event::Backup,
            Event::Write { at: 0, id: 8, key: 4, act: Act::Add, is_stale: false, is_synced: false },
            Event::Image { at: 0 },
            Event::Clone { at: 0 },
            Event::Write { at: 1, id: 12, key: 1, act: Act::Pick("alive", 1), is_stale: true, is_synced: true },
            Event::Sync { at: 1 },
            Event::Sync { at: 0 },
            Event::Write { at: 0, id: 22, key: 4, act: Act::Take(1), is_stale: true, is_synced: false },
            Event::Restore { is_told: false },
        ],
    );
}
