//! The apps: what they send for an [`Act`], given the record as they read it.

use serde_json::{Map, Value as Json, json};
use sync_protocol::edit::render;
use sync_protocol::gateway::Intent;
use sync_protocol::id::{FieldName, RecordKey};
use sync_protocol::record::Record;

use super::event::Act;
use super::fleet::PLACES;
use crate::generator::random::Random;

/// What is wanted of a record; `None` if it makes no sense.
pub(super) fn intent(act: Act, id: u8, key: &RecordKey, read: Option<&Record>, home: &str) -> Option<Intent> {
    let why = || format!("w{id}");
    let field = |name| FieldName::new(name).ok();
    match act {
        Act::Delete => read.map(|_| Intent::Delete),
        Act::SettleDelete(delete) => read.map(|_| Intent::SettleDelete { delete, why: why() }),
        Act::Settle(name) => {
            read?;
            let value = if name == "alive" { json!(["yes", "no"][usize::from(id % 2)]) } else { text(id) };
            Some(Intent::Settle { field: field(name)?, value: Some(value), why: why() })
        }
        _ => {
            let mut body = read.map(render).unwrap_or_else(|| first(key, home));
            change(&mut body, act, id, key)?;
            Some(Intent::Put(body))
        }
    }
}

/// A new record.
fn first(key: &RecordKey, home: &str) -> Map<String, Json> {
    let mut body = Map::new();
    match key.record_type.as_str() {
        "patient" => drop(body.insert("facility".to_owned(), json!(home))),
        "visit" => drop(body.insert("patient".to_owned(), json!(key.id.as_str().replace('v', "p")))),
        _ => {}
    }
    body
}

fn text(id: u8) -> Json {
    json!(format!("v{id}"))
}

fn change(body: &mut Map<String, Json>, act: Act, id: u8, key: &RecordKey) -> Option<()> {
    let list =
        |body: &Map<String, Json>, name: &str| body.get(name).and_then(Json::as_array).cloned().unwrap_or_default();
    let (name, value) = match act {
        Act::Set(name) => (name, text(id)),
        Act::Pick("alive", n) => ("alive", json!(["yes", "no", "maybe"][usize::from(n % 3)])),
        Act::Pick(name, n) => (name, json!(n % 4)),
        Act::Clear(name) => return body.remove(name).map(drop),
        Act::Add => ("tags", list(body, "tags").into_iter().chain([text(id)]).collect()),
        Act::Take(n) => {
            let mut tags = list(body, "tags");
            if tags.is_empty() {
                return None;
            }
            tags.remove(usize::from(n) % tags.len());
            ("tags", tags.into())
        }
        Act::Append => ("log", list(body, "log").into_iter().chain([text(id)]).collect()),
        Act::Count(n) => ("stock", json!(body.get("stock").and_then(Json::as_i64).unwrap_or(0) + i64::from(n))),
        Act::Long => ("text", json!(long(id))),
        Act::Move(place) if key.record_type.as_str() == "visit" => ("patient", json!(format!("p{}", place % 2))),
        Act::Move(place) => ("facility", json!(PLACES[place % PLACES.len()])),
        Act::Delete | Act::Settle(_) | Act::SettleDelete(_) => return None,
    };
    body.insert(name.to_owned(), value);
    Some(())
}

/// A text that makes a frame of its own, whatever the compressor does.
fn long(id: u8) -> String {
    let mut random = Random::new(u64::from(id));
    (0..400).map(|_| format!("{:016x}", random.bits())).collect()
}
