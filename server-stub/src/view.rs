//! Records, conflicts and quarantine as people and programs see them: the same JSON as a gateway's own API gives.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};
use sync_protocol::digest::etag;
use sync_protocol::edit::render;
use sync_protocol::hub::Snapshot;
use sync_protocol::id::{Dot, FieldName, Origin, RecordKey, Seq, Stream};
use sync_protocol::merge::{Presence, presence};
use sync_protocol::record::{Cell, Change, Entry, Record, Stamp};
use sync_protocol::value::Value;

use crate::clock::rfc3339;
use crate::error::{HubError, StoreError};
use crate::store::{HeldRow, Past, Tx};

/// The name of a change in decisions about it: `origin-stream-number`.
pub(crate) fn change_name(dot: Dot) -> String {
    format!("{}-{}-{}", dot.origin.0, dot.stream.number(), dot.seq.0)
}

/// Reads what [`change_name`] wrote.
pub(crate) fn parse_change(name: &str) -> Result<Dot, HubError> {
    let wrong = || HubError::Invalid("a change is named as listed, such as 3-1-42".to_owned());
    let numbers: Option<Vec<u64>> = name.split('-').map(|part| part.parse().ok()).collect();
    let Some([origin, stream, seq]) = numbers.as_deref() else { return Err(wrong()) };
    let origin = u32::try_from(*origin).map_err(|_| wrong())?;
    let stream = u8::try_from(*stream).ok().and_then(|n| Stream::from_number(n).ok()).ok_or_else(wrong)?;
    Ok(Dot { origin: Origin(origin), stream, seq: Seq(*seq) })
}

fn value_json(value: Option<&Value>) -> Json {
    value.map_or(Json::Null, Value::to_json)
}

fn state_name(presence: Presence) -> &'static str {
    match presence {
        Presence::Alive => "present",
        Presence::Review => "deleted-but-edited",
        Presence::Deleted => "deleted",
    }
}

/// Who wrote, where, when, and how good the clock was.
fn stamp(tx: &mut Tx<'_>, stamp: &Stamp) -> Result<Map<String, Json>, StoreError> {
    let mut told = Map::new();
    told.insert("change".to_owned(), Json::from(change_name(stamp.dot)));
    told.insert("from".to_owned(), Json::from(tx.who(stamp.dot.origin)?));
    told.insert("source".to_owned(), Json::from(tx.source_name(stamp.source)?));
    told.insert("captured_at".to_owned(), Json::from(rfc3339(stamp.captured_ms)));
    told.insert("time_quality".to_owned(), json!(stamp.quality));
    if let Some(author) = &stamp.author {
        told.insert("author".to_owned(), Json::from(author.as_str()));
    }
    if let Some(why) = &stamp.settles {
        told.insert("settled_because".to_owned(), Json::from(&**why));
    }
    Ok(told)
}

fn entry(tx: &mut Tx<'_>, entry: &Entry) -> Result<Json, StoreError> {
    let mut told = stamp(tx, &entry.stamp)?;
    told.insert("value".to_owned(), value_json(entry.value.as_ref()));
    Ok(Json::Object(told))
}

fn shown(tx: &mut Tx<'_>, cell: &Cell) -> Result<Map<String, Json>, StoreError> {
    let mut told = match cell.stamp() {
        Some(of) => stamp(tx, of)?,
        None => Map::new(),
    };
    told.insert("value".to_owned(), value_json(cell.value().as_ref()));
    Ok(told)
}

fn rivals(tx: &mut Tx<'_>, cell: &Cell) -> Result<Vec<Json>, StoreError> {
    cell.rivals().into_iter().map(|rival| entry(tx, rival)).collect()
}

/// A record with the circumstances of each field.
pub(crate) fn meta(tx: &mut Tx<'_>, key: &RecordKey, record: &Record) -> Result<Json, StoreError> {
    let rules = tx.rules()?;
    let type_rules = rules.of(&key.record_type);
    let mut fields = Map::new();
    for (name, cell) in record.cells.iter().filter(|(name, _)| !name.is_reserved()) {
        let mut told = shown(tx, cell)?;
        told.insert("rule".to_owned(), Json::from(type_rules.rule(name).name()));
        told.insert("hub_seq".to_owned(), Json::from(cell.changed.0));
        let rivals = rivals(tx, cell)?;
        if !rivals.is_empty() {
            told.insert("conflict".to_owned(), Json::from(rivals));
        }
        fields.insert(name.as_str().to_owned(), Json::Object(told));
    }
    Ok(json!({
        "type": key.record_type.as_str(),
        "id": key.id.as_str(),
        "etag": etag(record),
        "scope": record.scope().as_str(),
        "state": state_name(presence(record, type_rules)),
        "hub_seq": record.changed().0,
        "body": render(record),
        "fields": fields,
    }))
}

/// What a person could settle in a record: of each field the values, the one that is shown first.
pub(crate) fn conflict(tx: &mut Tx<'_>, key: &RecordKey, record: &Record) -> Result<Json, StoreError> {
    let mut fields = Vec::new();
    for (name, cell) in record.cells.iter().filter(|(name, _)| !name.is_reserved()) {
        let rivals = rivals(tx, cell)?;
        if !rivals.is_empty() {
            let first = Json::Object(shown(tx, cell)?);
            let values: Vec<Json> = [first].into_iter().chain(rivals).collect();
            fields.push(json!({ "field": name.as_str(), "values": values }));
        }
    }
    let rules = tx.rules()?;
    Ok(json!({
        "type": key.record_type.as_str(),
        "id": key.id.as_str(),
        "scope": record.scope().as_str(),
        "state": state_name(presence(record, rules.of(&key.record_type))),
        "fields": fields,
    }))
}

/// What a list of these shows, for the audit: whoever asks who has seen a record finds it.
pub(crate) fn listed(told: &[Json]) -> Json {
    let text = |one: &Json, key: &str| one.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
    let names: BTreeSet<String> = told.iter().map(|one| format!("{}/{}", text(one, "type"), text(one, "id"))).collect();
    json!({ "shown": told.len(), "ids": names })
}

/// What became of one op of a record's history.
pub(crate) fn past(tx: &mut Tx<'_>, past: &Past) -> Result<Json, StoreError> {
    let Past { op, hseq, applied, received_ms } = past;
    let mut told = stamp(tx, &op.stamp)?;
    let state = match (applied.0, tx.held_at(op.stamp.dot)?) {
        _ if op.is_erased() => "erased",
        (0, Some(_)) => "in quarantine",
        (0, None) => "dropped",
        (_, _) => "applied",
    };
    told.insert("state".to_owned(), Json::from(state));
    told.insert("hub_seq".to_owned(), Json::from(hseq.0));
    told.insert("received_at".to_owned(), Json::from(rfc3339(*received_ms)));
    told.insert("changes".to_owned(), changes(&op.changes));
    let mut lost = Vec::new();
    for field in op.changes.keys() {
        if let Some((by, why)) = tx.replaced(&op.key, field, op.stamp.dot)? {
            lost.push(json!({ "field": field.as_str(), "by": change_name(by), "why": why }));
        }
    }
    if !lost.is_empty() {
        told.insert("lost".to_owned(), Json::from(lost));
    }
    Ok(Json::Object(told))
}

fn changes(changes: &BTreeMap<FieldName, Change>) -> Json {
    let list = |values: &[Value]| -> Vec<Json> { values.iter().map(Value::to_json).collect() };
    let told = changes.iter().map(|(name, change)| {
        let what = match change {
            Change::Put { value: Some(value), .. } => json!({ "value": value.to_json() }),
            Change::Put { value: None, .. } => json!({ "removed": true }),
            Change::Members { add, remove } => {
                let gone: Vec<Json> = remove.iter().map(|(value, _)| value.to_json()).collect();
                json!({ "added": list(add), "taken_out": gone })
            }
            Change::Append(values) => json!({ "appended": list(values) }),
            Change::Count { plus, minus } => json!({ "added_in_all": plus, "subtracted_in_all": minus }),
        };
        (name.as_str().to_owned(), what)
    });
    Json::Object(told.collect())
}

/// An op in quarantine.
pub(crate) fn held(tx: &mut Tx<'_>, row: &HeldRow) -> Result<Json, StoreError> {
    let mut told = stamp(tx, &row.held.op.stamp)?;
    let key = &row.held.op.key;
    told.insert("type".to_owned(), Json::from(key.record_type.as_str()));
    told.insert("id".to_owned(), Json::from(key.id.as_str()));
    told.insert("gateway".to_owned(), Json::from(row.gateway.as_str()));
    told.insert("reason".to_owned(), Json::from(row.held.reason.as_str()));
    told.insert("since".to_owned(), Json::from(rfc3339(row.received_ms)));
    told.insert("changes".to_owned(), changes(&row.held.op.changes));
    Ok(Json::Object(told))
}

/// One line of an export: canonical JSON, keys in order.
pub(crate) fn export_line(key: &RecordKey, record: &Record) -> String {
    json!({ "body": render(record), "id": key.id.as_str() }).to_string()
}
