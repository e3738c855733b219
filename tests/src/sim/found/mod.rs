//! Schedules that failed once, by name.

mod copied;
mod forgotten;
mod others;
mod put_back;
mod restored;

use super::event::{Act, Event, Shape};
use super::{Faults, On, Packers, Plan};

/// Plays a schedule in memory and on disk, with everything that may happen by itself.
fn play(views: &[usize], events: Vec<Event>) {
    let plan = Plan { views: views.to_vec(), events, faults: Faults::all() };
    for on in [On::Memory, On::Disk] {
        if let Err(failure) = plan.play(&mut Packers::on(on), false) {
            plan.tell(&mut Packers::on(on));
            panic!("{on:?}: {failure}\n{plan}");
        }
    }
}

fn write(at: usize, id: u8, key: usize, act: Act) -> Event {
    Event::Write { at, id, key, act, is_stale: false, is_synced: true }
}

/// Asks, is answered, and takes the answer; the power goes after so many commits.
fn exchange(at: usize, cut: Option<u8>) -> [Event; 3] {
    let shape = Shape::Whole;
    [
        Event::Ask { at, is_thin: false },
        Event::Serve { at, nth: 0, shape, pause: None },
        Event::Take { at, nth: 0, shape, cut },
    ]
}
