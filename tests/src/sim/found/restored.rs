//! Hubs that were put back.

use super::super::builds::Build;
use super::super::event::{Act, Event, Shape};
use super::{exchange, play, write};

/// Seed 1722.
#[test]
fn a_write_to_a_record_that_has_left_does_not_bring_a_part_of_it_back() {
    play(
        &[3, 0, 1],
        vec![
            Event::Write { at: 0, id: 2, key: 3, act: Act::Set("note"), is_stale: false, is_synced: true },
            Event::Sync { at: 0 },
            Event::Backup,
            Event::Write { at: 2, id: 5, key: 1, act: Act::Set("phone"), is_stale: false, is_synced: true },
            Event::Ask { at: 2, is_thin: false },
            Event::Serve { at: 2, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 2, nth: 0, shape: Shape::Whole, cut: None },
            Event::Write { at: 2, id: 11, key: 3, act: Act::Add, is_stale: true, is_synced: true },
            Event::Sync { at: 2 },
            Event::Restore { is_told: false },
            Event::Write { at: 1, id: 19, key: 1, act: Act::Add, is_stale: false, is_synced: true },
            Event::Ask { at: 2, is_thin: true },
            Event::Serve { at: 2, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 2, nth: 0, shape: Shape::Whole, cut: None },
            Event::Ask { at: 2, is_thin: false },
        ],
    );
}

/// Seed 2050.
#[test]
fn what_came_as_an_op_is_not_made_again_from_the_value_that_is_left() {
    play(
        &[3],
        vec![
            Event::Write { at: 0, id: 3, key: 2, act: Act::Set("note"), is_stale: false, is_synced: false },
            Event::Write { at: 0, id: 5, key: 3, act: Act::Count(-2), is_stale: false, is_synced: true },
            Event::HubWrite { id: 7, key: 0, act: Act::Set("rank") },
            Event::Write { at: 0, id: 8, key: 1, act: Act::Pick("low", 2), is_stale: false, is_synced: true },
            Event::Sync { at: 0 },
            Event::Backup,
            Event::Assign { at: 0, view: 0 },
            Event::Sync { at: 0 },
            Event::Write { at: 0, id: 29, key: 2, act: Act::SettleDelete(false), is_stale: false, is_synced: true },
            Event::Restore { is_told: false },
            Event::Write { at: 0, id: 35, key: 3, act: Act::Long, is_stale: false, is_synced: true },
        ],
    );
}

/// Seed 3973.
#[test]
fn an_op_that_came_before_its_record_is_free_when_the_record_is_offered() {
    play(
        &[3, 0, 3],
        vec![
            Event::Write { at: 1, id: 3, key: 2, act: Act::Set("note"), is_stale: true, is_synced: true },
            Event::Write { at: 2, id: 6, key: 0, act: Act::Add, is_stale: false, is_synced: true },
            Event::Backup,
            Event::Sync { at: 2 },
            Event::Ask { at: 1, is_thin: true },
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: None },
            Event::Sync { at: 0 },
            Event::Write { at: 0, id: 16, key: 2, act: Act::Append, is_stale: false, is_synced: false },
            Event::Sync { at: 0 },
            Event::Restore { is_told: false },
        ],
    );
}

/// Seed 62065. Both restores begin where the one backup ends.
#[test]
fn a_hub_that_goes_back_twice_gives_no_number_of_its_own_again() {
    play(
        &[0, 0],
        vec![
            Event::Write { at: 1, id: 2, key: 3, act: Act::Append, is_stale: false, is_synced: true },
            Event::Backup,
            Event::Write { at: 0, id: 12, key: 1, act: Act::Pick("top", 3), is_stale: false, is_synced: true },
            Event::Write { at: 1, id: 13, key: 0, act: Act::Append, is_stale: false, is_synced: true },
            Event::Ask { at: 1, is_thin: true },
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: None },
            Event::Sync { at: 0 },
            Event::Write { at: 0, id: 22, key: 3, act: Act::Move(2), is_stale: false, is_synced: true },
            Event::Restore { is_told: true },
            Event::HubWrite { id: 23, key: 2, act: Act::Count(-2) },
            Event::Sync { at: 0 },
            Event::Restore { is_told: true },
        ],
    );
}

/// Seed 20386.
#[test]
fn a_write_that_a_restored_hub_lost_is_shown_again_although_its_record_had_left() {
    let mut events = vec![
        Event::Write { at: 0, id: 6, key: 3, act: Act::Move(0), is_stale: false, is_synced: true },
        Event::Write { at: 1, id: 7, key: 1, act: Act::Set("phone"), is_stale: false, is_synced: true },
        Event::Backup,
        Event::Sync { at: 1 },
        Event::HubWrite { id: 11, key: 3, act: Act::Set("note") },
        Event::Sync { at: 0 },
        Event::Restore { is_told: false },
    ];
    events.extend(exchange(0, Some(1)));
    events.push(Event::Write { at: 0, id: 14, key: 3, act: Act::Set("note"), is_stale: false, is_synced: true });
    play(&[1, 3], events);
}

/// Seed 810214. A number that was given again would name two writes, and whoever saw the one would count as having seen the other.
#[test]
fn a_hub_that_nobody_says_was_put_back_gives_no_number_again() {
    play(
        &[0, 0],
        vec![
            write(1, 9, 2, Act::Set("note")),
            Event::Write { at: 0, id: 16, key: 2, act: Act::Set("note"), is_stale: true, is_synced: true },
            Event::Backup,
            write(1, 18, 0, Act::Add),
            Event::Sync { at: 1 },
            Event::Restore { is_told: false },
            Event::Sync { at: 0 },
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: None },
            write(1, 42, 2, Act::Clear("note")),
        ],
    );
}

/// Seed 200059416.
#[test]
fn who_has_recovered_lets_go_of_what_another_one_brings_back_to_another_place() {
    play(
        &[1, 3],
        vec![
            Event::Backup,
            Event::Write { at: 0, id: 1, key: 0, act: Act::Pick("alive", 2), is_stale: false, is_synced: false },
            Event::Write { at: 1, id: 2, key: 0, act: Act::Pick("alive", 2), is_stale: false, is_synced: true },
            Event::Write { at: 0, id: 4, key: 2, act: Act::Set("note"), is_stale: false, is_synced: true },
            Event::Sync { at: 1 },
            Event::Sync { at: 0 },
            Event::Sync { at: 1 },
            Event::Restore { is_told: false },
            Event::Sync { at: 0 },
            Event::HubWrite { id: 18, key: 2, act: Act::Set("note") },
            Event::Sync { at: 1 },
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: Some(3) },
            Event::Take { at: 0, nth: 0, shape: Shape::Whole, cut: None },
            Event::Write { at: 0, id: 22, key: 2, act: Act::Set("note"), is_stale: false, is_synced: true },
        ],
    );
}

/// Seed 301019271. The record is shown by one who cannot tell what is not in it any more, and then comes the write that took it out.
#[test]
fn a_member_that_was_taken_out_is_out_although_the_set_knows_that_write_already() {
    play(
        &[3],
        vec![
            Event::Write { at: 0, id: 5, key: 0, act: Act::Add, is_stale: false, is_synced: false },
            write(0, 6, 0, Act::Delete),
            Event::Backup,
            write(0, 14, 0, Act::Take(1)),
            Event::Ask { at: 0, is_thin: true },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 0, nth: 0, shape: Shape::Whole, cut: None },
            write(0, 19, 4, Act::Append),
            Event::Restore { is_told: false },
            Event::Forget { at: 0, is_early: true },
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 0, shape: Shape::Flipped(164), pause: None },
            Event::Take { at: 0, nth: 0, shape: Shape::Whole, cut: None },
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 0, shape: Shape::Flipped(448), pause: None },
        ],
    );
}

/// Seed 302008717.
#[test]
fn a_deletion_at_a_restored_hub_has_not_seen_a_set_that_it_had_lost() {
    play(
        &[1],
        vec![
            write(0, 11, 1, Act::Append),
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Backup,
            write(0, 16, 1, Act::Add),
            Event::Sync { at: 0 },
            Event::Restore { is_told: true },
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 0, nth: 0, shape: Shape::Whole, cut: None },
            Event::HubBuild { build: Build::OtherVersion },
            Event::Sync { at: 0 },
            Event::HubWrite { id: 26, key: 1, act: Act::Delete },
        ],
    );
}

/// Seed 302026148.
#[test]
fn a_list_of_one_writer_that_a_restored_hub_had_lost_is_deleted_by_that_writer() {
    play(
        &[3, 1, 3],
        vec![
            Event::Write { at: 2, id: 15, key: 1, act: Act::Set("fixed"), is_stale: true, is_synced: false },
            Event::Backup,
            write(1, 16, 3, Act::Append),
            write(1, 17, 3, Act::Delete),
            Event::Sync { at: 1 },
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 0, nth: 0, shape: Shape::Whole, cut: None },
            Event::Restore { is_told: true },
        ],
    );
}

/// Seed 302071823. The write that had replaced it was lost with the hub, and stands beside the other in the end.
#[test]
fn what_was_replaced_in_the_lost_time_is_replaced_by_whoever_comes_first() {
    play(
        &[3, 3],
        vec![
            write(0, 6, 4, Act::Set("note")),
            write(1, 8, 4, Act::Set("note")),
            Event::Sync { at: 0 },
            write(1, 14, 4, Act::Set("note")),
            Event::Backup,
            Event::HubWrite { id: 17, key: 4, act: Act::Set("note") },
            Event::Sync { at: 1 },
            Event::Write { at: 1, id: 25, key: 4, act: Act::Set("note"), is_stale: true, is_synced: true },
            Event::Restore { is_told: false },
        ],
    );
}

/// Seed 305070482.
#[test]
fn a_deletion_of_what_was_let_go_in_the_lost_time_is_kept_for_review() {
    play(
        &[3, 3],
        vec![
            write(1, 1, 2, Act::Set("note")),
            Event::Ask { at: 1, is_thin: true },
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: None },
            Event::Backup,
            write(0, 11, 0, Act::Pick("stage", 2)),
            Event::Sync { at: 0 },
            Event::Restore { is_told: true },
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 0, nth: 0, shape: Shape::Whole, cut: None },
            Event::Write { at: 0, id: 13, key: 2, act: Act::Delete, is_stale: false, is_synced: false },
        ],
    );
}

/// Seed 350651. What came back as a value did not say all that its author had seen; the write itself, which came later, does.
#[test]
fn a_delete_that_came_back_as_a_value_counts_for_all_that_its_author_knew_when_it_comes_itself() {
    play(
        &[3, 1],
        vec![
            write(1, 3, 0, Act::Add),
            Event::Ask { at: 1, is_thin: true },
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: None },
            Event::Ask { at: 0, is_thin: true },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 0, nth: 0, shape: Shape::Whole, cut: None },
            write(0, 13, 0, Act::SettleDelete(true)),
            Event::Backup,
            Event::Sync { at: 0 },
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: Some(1) },
            Event::GoOn { at: 1 },
            Event::Take { at: 1, nth: 0, shape: Shape::Whole, cut: None },
            Event::Restore { is_told: true },
            Event::Sync { at: 1 },
            Event::Restore { is_told: false },
            Event::Sync { at: 1 },
        ],
    );
}

/// Seed 416285. The record of a restored hub holds w7 under the number of the copy that went on with it, the ops under that of another copy.
#[test]
fn what_was_not_seen_is_not_overruled_under_the_number_of_any_copy() {
    play(
        &[1, 1],
        vec![
            Event::HubWrite { id: 1, key: 0, act: Act::Set("rank") },
            Event::Backup,
            write(1, 7, 2, Act::Set("note")),
            Event::Image { at: 1 },
            write(0, 11, 0, Act::Pick("low", 1)),
            Event::Clone { at: 1 },
            Event::Sync { at: 0 },
            write(2, 15, 4, Act::Set("note")),
            Event::Ask { at: 2, is_thin: true },
            Event::Serve { at: 2, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 2, nth: 0, shape: Shape::Whole, cut: None },
            Event::HubWrite { id: 19, key: 0, act: Act::Add },
            Event::Sync { at: 1 },
            Event::Restore { is_told: true },
            write(2, 21, 2, Act::Set("note")),
        ],
    );
}

/// Seed 489599. The card had gone on under another origin, so that the hub took the set that it was shown for one of another copy.
#[test]
fn a_member_that_was_taken_out_stays_out_when_the_op_that_added_it_is_handed_in() {
    play(
        &[1],
        vec![
            write(0, 2, 0, Act::Add),
            Event::Image { at: 0 },
            Event::Backup,
            write(0, 8, 0, Act::Set("first")),
            Event::Sync { at: 0 },
            Event::PutBack { at: 0 },
            Event::Sync { at: 0 },
            write(0, 24, 0, Act::Take(0)),
            Event::Restore { is_told: true },
        ],
    );
}

/// Seed 794681. What the hub was shown as a record counts as changed by others: such a deletion is left to a person.
#[test]
fn a_list_that_was_shown_keeps_a_record_that_is_deleted_before_that_is_heard() {
    play(
        &[1],
        vec![
            write(0, 2, 0, Act::Append),
            Event::Sync { at: 0 },
            Event::Backup,
            Event::Clock { at: 0, days: 47117 },
            write(0, 23, 0, Act::Append),
            Event::Sync { at: 0 },
            Event::Restore { is_told: false },
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Take { at: 0, nth: 0, shape: Shape::Whole, cut: Some(3) },
            Event::Write { at: 0, id: 32, key: 0, act: Act::Delete, is_stale: false, is_synced: false },
        ],
    );
}

/// Seed 7081166. The gateway had confirmed the later of two writes, and showed a set that counted the other as contained.
#[test]
fn what_waited_at_the_hub_does_not_count_as_taken_out() {
    let mut events = vec![
        Event::Write { at: 0, id: 1, key: 0, act: Act::Set("phone"), is_stale: false, is_synced: false },
        Event::Sync { at: 0 },
        Event::Backup,
        Event::Restore { is_told: true },
        Event::Write { at: 0, id: 15, key: 0, act: Act::Add, is_stale: true, is_synced: true },
    ];
    events.extend([Event::Revoke { at: 0, is_out: true }, Event::Sync { at: 0 }, write(0, 21, 0, Act::Add)]);
    play(&[3], events);
}
