//! Links, power and views.

use super::super::builds::Build;
use super::super::event::{Act, Event, Shape};
use super::{exchange, play, write};

/// Seed 5786.
#[test]
fn a_write_that_loses_at_the_hub_leaves_no_part_of_a_record_that_is_not_held() {
    let put = |id, act| Event::Write { at: 0, id, key: 1, act, is_stale: false, is_synced: true };
    let stale = Event::Write { at: 0, id: 20, key: 1, act: Act::Pick("stage", 0), is_stale: true, is_synced: true };
    let events = vec![
        put(6, Act::Pick("stage", 1)),
        put(13, Act::Pick("top", 2)),
        Event::Assign { at: 0, view: 2 },
        Event::Sync { at: 0 },
        stale,
    ];
    play(&[3], events);
}

/// Seed 13072.
#[test]
fn news_of_a_record_that_a_new_view_has_yet_to_bring_comes_with_all_of_it() {
    let mut events = vec![
        Event::Write { at: 1, id: 7, key: 1, act: Act::Set("phone"), is_stale: false, is_synced: true },
        Event::Sync { at: 1 },
        Event::Sync { at: 0 },
        Event::Write { at: 1, id: 8, key: 1, act: Act::Add, is_stale: false, is_synced: true },
        Event::Assign { at: 0, view: 3 },
        Event::Sync { at: 1 },
    ];
    events.extend(exchange(0, None));
    events.push(Event::Write { at: 0, id: 27, key: 1, act: Act::Set("phone"), is_stale: false, is_synced: true });
    play(&[1, 2], events);
}

/// Seed 822297. What waits at the hub was passed by a later write of the same gateway, and the news that it was let go broke off.
#[test]
fn who_writes_on_does_not_claim_to_have_seen_his_own_write_that_was_not_shown() {
    let write = |at, id, key, act, is_stale, is_synced| Event::Write { at, id, key, act, is_stale, is_synced };
    let (ask, serve) =
        (|at| Event::Ask { at, is_thin: false }, |at| Event::Serve { at, nth: 0, shape: Shape::Whole, pause: None });
    play(
        &[1, 1],
        vec![
            write(0, 3, 2, Act::Set("note"), false, false),
            write(1, 4, 0, Act::Add, false, true),
            write(0, 6, 2, Act::Set("note"), false, true),
            ask(0),
            write(0, 7, 2, Act::Set("note"), true, true),
            serve(0),
            Event::Take { at: 0, nth: 0, shape: Shape::Whole, cut: None },
            ask(1),
            serve(1),
            ask(0),
            serve(0),
            Event::Take { at: 0, nth: 0, shape: Shape::Flipped(142), cut: None },
            write(0, 11, 2, Act::Set("note"), false, true),
        ],
    );
}

/// Seed 301164526.
#[test]
fn news_of_a_write_that_comes_before_its_acknowledgement_stands() {
    play(
        &[3],
        vec![
            write(0, 1, 0, Act::Set("rank")),
            write(0, 6, 2, Act::Set("note")),
            Event::Write { at: 0, id: 10, key: 2, act: Act::Long, is_stale: false, is_synced: false },
            Event::Write { at: 0, id: 11, key: 2, act: Act::Long, is_stale: true, is_synced: true },
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: Some(3) },
            Event::Serve { at: 0, nth: 0, shape: Shape::Flipped(110), pause: None },
            Event::GoOn { at: 0 },
            Event::Take { at: 0, nth: 1, shape: Shape::Whole, cut: None },
            Event::Ask { at: 0, is_thin: true },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: Some(0) },
            Event::GoOn { at: 0 },
            Event::Take { at: 0, nth: 0, shape: Shape::Whole, cut: None },
        ],
    );
}

/// Seed 381178. The stage of w12 lost by size before the author of the delete could see it; all else of w12 they saw.
#[test]
fn who_deletes_need_not_have_seen_a_field_of_a_write_that_lost_before() {
    play(
        &[3, 1],
        vec![
            write(1, 3, 0, Act::Move(2)),
            Event::Write { at: 0, id: 10, key: 0, act: Act::Pick("stage", 2), is_stale: false, is_synced: false },
            Event::Ask { at: 1, is_thin: false },
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: Some(1) },
            Event::GoOn { at: 1 },
            Event::Take { at: 1, nth: 0, shape: Shape::Whole, cut: None },
            write(1, 12, 0, Act::Pick("stage", 1)),
            Event::Sync { at: 1 },
            Event::Sync { at: 0 },
            write(1, 21, 0, Act::Pick("stage", 3)),
            Event::Sync { at: 1 },
            Event::Sync { at: 0 },
            Event::Write { at: 2, id: 25, key: 0, act: Act::Delete, is_stale: true, is_synced: true },
        ],
    );
}

/// Seed 809151. A list bears the stamp of its last write alone; under it lay what another copy of the card had brought.
#[test]
fn a_renumbered_deletion_of_a_list_that_a_copy_brought_is_for_a_person() {
    play(
        &[3],
        vec![
            write(0, 7, 3, Act::Count(-3)),
            Event::Write { at: 0, id: 8, key: 2, act: Act::Set("note"), is_stale: false, is_synced: false },
            write(0, 11, 1, Act::Set("first")),
            Event::Sync { at: 0 },
            Event::Write { at: 0, id: 18, key: 3, act: Act::Append, is_stale: false, is_synced: false },
            Event::Forget { at: 1, is_early: true },
            Event::Image { at: 0 },
            Event::Clone { at: 0 },
            write(1, 26, 2, Act::Clear("note")),
            Event::Sync { at: 1 },
            Event::Write { at: 0, id: 27, key: 3, act: Act::Append, is_stale: false, is_synced: false },
            write(0, 31, 3, Act::Delete),
        ],
    );
}

/// Seed 130 with damage. What waited in a record that could not be read counted as seen by whoever put it anew.
#[test]
fn what_waits_in_a_record_that_cannot_be_read_is_not_overruled_unseen() {
    play(
        &[3],
        vec![
            write(0, 2, 4, Act::Add),
            Event::Sync { at: 0 },
            Event::Write { at: 0, id: 4, key: 4, act: Act::Set("note"), is_stale: false, is_synced: false },
            Event::Damage { at: 0, key: 4, is_shown: false },
            write(0, 8, 4, Act::Set("note")),
        ],
    );
}

/// Seed 1503 with damage. Whoever has lost what the hub confirmed claims to have seen nothing of others.
#[test]
fn a_deletion_of_a_record_that_is_awaited_is_for_a_person() {
    play(
        &[3, 3],
        vec![
            write(0, 8, 1, Act::Count(2)),
            Event::Ask { at: 0, is_thin: false },
            Event::Serve { at: 0, nth: 0, shape: Shape::Whole, pause: None },
            Event::Sync { at: 1 },
            Event::Damage { at: 1, key: 1, is_shown: true },
            Event::Write { at: 1, id: 26, key: 1, act: Act::Delete, is_stale: false, is_synced: false },
        ],
    );
}

/// Seed 795360 with damage. What a copy had counted before was not known when its writes were renumbered.
#[test]
fn a_count_of_a_copy_whose_record_was_damaged_counts_once() {
    play(
        &[0],
        vec![
            write(0, 3, 1, Act::Count(1)),
            Event::Sync { at: 0 },
            Event::Image { at: 0 },
            Event::Clone { at: 0 },
            write(0, 11, 0, Act::Pick("top", 1)),
            write(1, 12, 1, Act::Count(-3)),
            Event::Damage { at: 1, key: 1, is_shown: false },
        ],
    );
}

/// Seed 225520. A record that was awaited belonged to another place by then, so the hub never sent it.
#[test]
fn a_damaged_record_that_is_not_in_view_any_more_is_not_awaited_for_ever() {
    play(
        &[3, 2],
        vec![
            Event::Write { at: 1, id: 4, key: 1, act: Act::Count(2), is_stale: false, is_synced: false },
            Event::Ask { at: 1, is_thin: false },
            write(0, 7, 1, Act::Append),
            Event::Serve { at: 1, nth: 0, shape: Shape::Whole, pause: Some(0) },
            Event::GoOn { at: 1 },
            Event::Sync { at: 0 },
            write(0, 16, 1, Act::Add),
            Event::Damage { at: 0, key: 1, is_shown: false },
            Event::Assign { at: 0, view: 0 },
        ],
    );
}

/// Seed 62123. It was damaged after the hub was put back, and what it had held was sent again and not shown.
#[test]
fn what_waits_again_of_a_damaged_record_is_not_overruled_unseen() {
    let unheard = Event::Write { at: 0, id: 14, key: 2, act: Act::Set("note"), is_stale: false, is_synced: false };
    let mut events = vec![write(0, 5, 0, Act::Set("phone")), Event::Backup, write(0, 11, 2, Act::Set("note"))];
    events.extend(exchange(0, None));
    events.extend([Event::Restore { is_told: true }, Event::Damage { at: 0, key: 2, is_shown: false }, unheard]);
    events.extend(exchange(0, None));
    events.push(write(0, 26, 2, Act::Set("note")));
    play(&[0], events);
}

/// Seed 180226. It could be read, and had been moved out of view by a write that waited when it was damaged.
#[test]
fn a_damaged_record_that_can_be_read_leaves_with_the_view_that_it_was_moved_out_of() {
    play(
        &[0, 3],
        vec![
            Event::Write { at: 0, id: 4, key: 0, act: Act::Set("rank"), is_stale: false, is_synced: false },
            write(1, 6, 0, Act::Move(1)),
            Event::Sync { at: 2 },
            Event::HubBuild { build: Build::Older },
            Event::Sync { at: 1 },
            write(1, 12, 0, Act::Set("fixed")),
            Event::Damage { at: 1, key: 0, is_shown: true },
            Event::Sync { at: 1 },
            Event::Assign { at: 1, view: 0 },
        ],
    );
}
