//! Records, conflicts and quarantine as people and programs see them: the JSON of the API and of the commands.

use serde_json::{Map, Value as Json, json};
use sync_protocol::edit::render;
use sync_protocol::hub::Store;
use sync_protocol::id::{Dot, FieldName, RecordKey, Seq, Stream};
use sync_protocol::merge::{Presence, presence};
use sync_protocol::record::{Change, Record, Stamp};
use sync_protocol::value::Value;

use crate::clock::rfc3339;
use crate::error::{HubError, StoreError};
use crate::store::{HeldRow, Tx};

/// A dot as it is written for people: `origin/stream/seq`.
pub(crate) fn dot_text(dot: Dot) -> String {
    format!("{}/{}/{}", dot.origin.0, dot.stream.number(), dot.seq.0)
}

/// Reads what [`dot_text`] wrote.
pub(crate) fn parse_dot(text: &str) -> Result<Dot, HubError> {
    let wrong = || HubError::Invalid("a change is named by origin/stream/number, such as 3/1/42".to_owned());
    let mut parts = text.split('/');
    let mut next = || parts.next().and_then(|part| part.parse::<u64>().ok()).ok_or_else(wrong);
    let (origin, stream, seq) = (next()?, next()?, next()?);
    let origin = u32::try_from(origin).map_err(|_| wrong())?;
    let stream = Stream::from_number(u8::try_from(stream).map_err(|_| wrong())?)?;
    match parts.next() {
        None => Ok(Dot { origin: sync_protocol::id::Origin(origin), stream, seq: Seq(seq) }),
        Some(_) => Err(wrong()),
    }
}

fn value_json(value: Option<&Value>) -> Json {
    value.map_or(Json::Null, Value::to_json)
}

/// Who wrote, where, when, and how good the clock was.
pub(crate) fn stamp_json(tx: &mut Tx<'_>, stamp: &Stamp) -> Result<Map<String, Json>, StoreError> {
    let mut told = Map::new();
    told.insert("dot".to_owned(), Json::from(dot_text(stamp.dot)));
    told.insert("from".to_owned(), Json::from(tx.who(stamp.dot.origin)?));
    told.insert("source".to_owned(), Json::from(tx.source_name(stamp.source)?));
    told.insert("captured_at".to_owned(), Json::from(rfc3339(stamp.captured_ms)));
    told.insert("clock".to_owned(), serde_json::to_value(stamp.quality).unwrap_or_default());
    if let Some(author) = &stamp.author {
        told.insert("author".to_owned(), Json::from(author.as_str()));
    }
    if let Some(why) = &stamp.settles {
        told.insert("settles".to_owned(), Json::from(&**why));
    }
    Ok(told)
}

/// A record with the circumstances of each field.
pub(crate) fn meta(tx: &mut Tx<'_>, key: &RecordKey, record: &Record) -> Result<Json, StoreError> {
    let mut fields = Map::new();
    for (name, cell) in record.cells.iter().filter(|(name, _)| !name.is_reserved()) {
        let mut told = match cell.stamp() {
            Some(stamp) => stamp_json(tx, stamp)?,
            None => Map::new(),
        };
        told.insert("value".to_owned(), value_json(cell.value().as_ref()));
        told.insert("changed".to_owned(), Json::from(cell.changed.0));
        let rivals = rivals(tx, record, name)?;
        if !rivals.is_empty() {
            told.insert("beside".to_owned(), Json::from(rivals));
        }
        fields.insert(name.as_str().to_owned(), Json::Object(told));
    }
    let rules = tx.rules()?;
    let state = presence(record, rules.of(&key.record_type));
    Ok(json!({
        "type": key.record_type.as_str(),
        "id": key.id.as_str(),
        "scope": record.scope().as_str(),
        "changed": record.changed().0,
        "deleted": state == Presence::Deleted,
        "review": state == Presence::Review,
        "record": render(record),
        "fields": fields,
    }))
}

fn rivals(tx: &mut Tx<'_>, record: &Record, name: &FieldName) -> Result<Vec<Json>, StoreError> {
    let entries = record.cells.get(name).map(|cell| cell.rivals()).unwrap_or_default();
    let tell = |entry: &sync_protocol::record::Entry| {
        let mut told = stamp_json(tx, &entry.stamp)?;
        told.insert("value".to_owned(), value_json(entry.value.as_ref()));
        Ok(Json::Object(told))
    };
    entries.into_iter().map(tell).collect()
}

/// What a person could settle in a record.
pub(crate) fn conflict(tx: &mut Tx<'_>, key: &RecordKey, record: &Record) -> Result<Json, StoreError> {
    let mut fields = Map::new();
    for name in record.conflicts() {
        if name.is_reserved() {
            continue;
        }
        let shown = record.cells.get(name);
        let mut told = match shown.and_then(|cell| cell.stamp()) {
            Some(stamp) => stamp_json(tx, stamp)?,
            None => Map::new(),
        };
        told.insert("value".to_owned(), value_json(shown.and_then(|cell| cell.value()).as_ref()));
        let values = json!({ "shown": told, "beside": rivals(tx, record, name)? });
        fields.insert(name.as_str().to_owned(), values);
    }
    let rules = tx.rules()?;
    let review = presence(record, rules.of(&key.record_type)) == Presence::Review;
    Ok(json!({
        "type": key.record_type.as_str(),
        "id": key.id.as_str(),
        "scope": record.scope().as_str(),
        "fields": fields,
        "review_delete": review,
    }))
}

/// All that ever happened to a record, in order of arrival.
pub(crate) fn history(tx: &mut Tx<'_>, key: &RecordKey) -> Result<Json, StoreError> {
    let replaced = tx.replaced_in(key)?;
    let mut told = Vec::new();
    for past in tx.history_of(key)? {
        let mut one = stamp_json(tx, &past.op.stamp)?;
        one.insert("arrived_as".to_owned(), Json::from(past.hseq.0));
        let applied = if past.applied.0 == 0 { Json::Null } else { Json::from(past.applied.0) };
        one.insert("applied_as".to_owned(), applied);
        one.insert("received_at".to_owned(), Json::from(rfc3339(past.received_ms)));
        one.insert("changes".to_owned(), changes(&past.op.changes));
        let mine = replaced.iter().filter(|(_, lost, _, _)| *lost == past.op.stamp.dot);
        let mine = mine.map(|(field, _, by, why)| json!({ "field": field, "by": dot_text(*by), "why": why }));
        let mine: Vec<Json> = mine.collect();
        if !mine.is_empty() {
            one.insert("replaced".to_owned(), Json::from(mine));
        }
        told.push(Json::Object(one));
    }
    Ok(Json::from(told))
}

fn changes(changes: &std::collections::BTreeMap<FieldName, Change>) -> Json {
    let list = |values: &[Value]| -> Vec<Json> { values.iter().map(Value::to_json).collect() };
    let told = changes.iter().map(|(name, change)| {
        let what = match change {
            Change::Put { value: Some(value), .. } => json!({ "put": value.to_json() }),
            Change::Put { value: None, .. } => json!({ "remove": true }),
            Change::Members { add, remove } => {
                let gone: Vec<Json> = remove.iter().map(|(value, _)| value.to_json()).collect();
                json!({ "add": list(add), "take_out": gone })
            }
            Change::Append(values) => json!({ "append": list(values) }),
            Change::Count { plus, minus } => json!({ "added_in_all": plus, "subtracted_in_all": minus }),
        };
        (name.as_str().to_owned(), what)
    });
    Json::Object(told.collect())
}

/// An op in quarantine.
pub(crate) fn held(tx: &mut Tx<'_>, row: &HeldRow) -> Result<Json, StoreError> {
    let mut told = stamp_json(tx, &row.held.op.stamp)?;
    told.insert("gateway".to_owned(), Json::from(row.gateway.as_str()));
    told.insert("record".to_owned(), Json::from(row.held.op.key.to_string()));
    told.insert("reason".to_owned(), Json::from(row.held.reason.as_str()));
    told.insert("arrived_as".to_owned(), Json::from(row.held.hseq.0));
    told.insert("received_at".to_owned(), Json::from(rfc3339(row.received_ms)));
    told.insert("changes".to_owned(), changes(&row.held.op.changes));
    Ok(Json::Object(told))
}

/// One line of an export: canonical JSON, keys in order.
pub(crate) fn export_line(key: &RecordKey, record: &Record) -> String {
    json!({ "id": key.id.as_str(), "record": render(record), "scope": record.scope().as_str() }).to_string()
}
