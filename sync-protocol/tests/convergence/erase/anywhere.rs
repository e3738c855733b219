//! Erasures among all else that happens, in any order.

use proptest::prelude::*;
use serde_json::{Value, json};
use sync_protocol::edit::render;
use sync_protocol::gateway::{self, Intent, Store as _};
use sync_protocol::hub::{self, Snapshot as _};
use sync_protocol::id::Scope;

use super::{erase, is_held, key, put_back};
use crate::retention::compact;
use crate::world::{RULES, World, object};

/// What can happen; each write has a word of its own in it.
#[derive(Debug, Clone)]
enum Event {
    Write(usize, &'static str, u8),
    Delete(usize, &'static str),
    AtTheHub(&'static str),
    Sync(usize),
    Erase(&'static str),
    Forget(usize),
    Backup,
    PutBack,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let record = || prop::sample::select(vec!["patient/p1", "patient/p2", "visit/v1", "visit/v2", "note/n1"]);
    let event = prop_oneof![
        8 => (0..3usize, record(), 0..4u8).prop_map(|(at, record, field)| Event::Write(at, record, field)),
        1 => (0..3usize, record()).prop_map(|(at, record)| Event::Delete(at, record)),
        2 => record().prop_map(Event::AtTheHub),
        6 => (0..3usize).prop_map(Event::Sync),
        2 => record().prop_map(Event::Erase),
        2 => (0..3usize).prop_map(Event::Forget),
        1 => Just(Event::Backup),
        1 => Just(Event::PutBack),
    ];
    prop::collection::vec(event, 1..40)
}

fn written(record: &str, field: u8, word: &str) -> Value {
    let mut body = match field {
        0 => json!({"name": word}),
        1 => json!({"alive": word}),
        2 => json!({"allergies": [word]}),
        _ => json!({"notes": [word]}),
    };
    match record {
        "visit/v1" => body["patient"] = json!("p1"),
        "visit/v2" => body["patient"] = json!("p2"),
        _ => {}
    }
    body
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: in the end all hold the same, no word of who did not know of an erasure is anywhere, and
    /// every word of who did is where it can be found.
    #[test]
    fn erasures_at_any_place_converge(events in events()) {
        let mut w = World::new(RULES, &["mw", "mw", "mw"]);
        let (mut words, mut backup, mut is_restored) = (Vec::new(), None, false);
        for (nth, event) in events.into_iter().enumerate() {
            let word = format!("word{nth:03}");
            match event {
                Event::Write(at, record, field) => {
                    let number = w.gateways[at].erasure(&key(record)).unwrap();
                    let mut body = w.gateways[at].record(&key(record)).map(|held| render(&held.visible)).unwrap_or_default();
                    body.extend(object(written(record, field, &word)));
                    let wish = w.wish(record, Intent::Put(body));
                    if gateway::capture(&mut w.gateways[at], wish).is_ok() {
                        words.push((record, word, number));
                    }
                }
                Event::Delete(at, record) => {
                    let wish = w.wish(record, Intent::Delete);
                    // Of what is not held nothing can be deleted.
                    let _ = gateway::capture(&mut w.gateways[at], wish);
                }
                Event::AtTheHub(record) => {
                    let number = w.hub.erasure(&key(record)).unwrap();
                    let wish = w.wish(record, Intent::Put(object(written(record, 0, &word))));
                    if hub::write(&mut w.hub, wish, &Scope::new("mw").unwrap()).is_ok() {
                        words.push((record, word, number));
                    }
                }
                Event::Sync(at) => drop(w.sync(at)),
                Event::Erase(record) => drop(erase(&mut w, record)),
                Event::Forget(at) => drop(compact(&mut w.gateways[at])),
                Event::Backup => backup = Some(w.hub.clone()),
                Event::PutBack => {
                    // Two lineages of numbers at once are another test's.
                    if let (Some(backup), false) = (backup.clone(), is_restored) {
                        is_restored = true;
                        put_back(&mut w, backup);
                    }
                }
            }
        }
        for _ in 0..3 {
            for at in 0..3 {
                w.sync(at);
            }
        }
        w.assert_equal();
        let (all, at_hub) = (format!("{:?}{:?}", w.hub, w.gateways), format!("{:?}", w.hub));
        for (record, word, number) in words {
            match w.hub.erasure(&key(record)).unwrap() {
                // What may be of somebody else waits for a person.
                Some(last) if number.is_none_or(|known| known < last) => {
                    prop_assert!(!all.contains(&word) || is_held(&w, record), "{record}: {word}");
                }
                // What only a hub had that was put back, and nobody else, is lost with it.
                _ => prop_assert!(is_restored || at_hub.contains(&word) || is_held(&w, record), "{record}: {word} is lost"),
            }
        }
    }
}
