//! How records, their fields and their history look in JSON.

use std::ops::ControlFlow;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sync_protocol::clock::TimeQuality;
use sync_protocol::edit::render;
use sync_protocol::id::HubSeq;
use sync_protocol::merge::{Presence, Why};
use sync_protocol::record::{Cell, Entry as RegisterEntry, Record, Stamp, State};
use sync_protocol::rules::Rules;
use utoipa::ToSchema;

use super::records::LIST_BYTES_MAX;
use crate::error::Error;
use crate::store::{Entry, Listing, Query, Reader, Stored};

/// One page of a list. It is written as text, record by record: as values a page would take eight times the room.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page {
    records: Vec<Listed>,
    /// Records that are here and cannot be read, because the card has damaged them; absent if there are none. Whether they match a
    /// filter is not known. The hub sends what it has of them at the next sync.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<String>,
    /// Pass as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Page {
    /// The JSON of the page that answers a query: as many records as it asks for, or fewer if they are large.
    pub(crate) fn text(reader: &Reader<'_>, query: &Query) -> Result<Vec<u8>, Error> {
        let mut text = br#"{"records":["#.to_vec();
        let (mut count, mut last, mut written, mut unreadable) = (0, None, Ok(()), Vec::new());
        let begin = text.len();
        reader.list_each(query, |listing| {
            let id = match &listing {
                Listing::Stored(stored) => {
                    if text.len() > begin {
                        text.push(b',');
                    }
                    written = serde_json::to_writer(&mut text, &Listed::new(stored));
                    &stored.key.id
                }
                Listing::Unreadable(key) => {
                    unreadable.push(key.id.to_string());
                    &key.id
                }
            };
            count += 1;
            let is_full = count == query.limit || text.len() >= LIST_BYTES_MAX;
            last = is_full.then(|| id.to_string());
            if is_full || written.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        written.map_err(std::io::Error::from)?;
        text.push(b']');
        if !unreadable.is_empty() {
            text.extend(format!(r#","unreadable":{}"#, json!(unreadable)).into_bytes());
        }
        if let Some(next) = last {
            text.extend(format!(r#","next":{}"#, json!(next)).into_bytes());
        }
        text.push(b'}');
        Ok(text)
    }
}

/// A record in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Listed {
    id: String,
    etag: String,
    /// Whether the hub has all of it.
    sent: bool,
    #[schema(value_type = Object)]
    body: Map<String, Value>,
}

impl Listed {
    fn new(stored: &Stored) -> Self {
        Listed {
            id: stored.key.id.to_string(),
            etag: stored.etag.clone(),
            sent: !stored.is_pending,
            body: render(&stored.record),
        }
    }
}

/// A record with all that is known of each field.
pub(crate) fn described(stored: &Stored, rules: &Rules) -> Value {
    let type_rules = rules.of(&stored.key.record_type);
    let fields: Map<String, Value> = stored
        .record
        .cells
        .iter()
        .filter(|(name, _)| !name.is_reserved())
        .map(|(name, cell)| {
            let mut field = cell_view(cell, rules);
            field.insert("rule".to_owned(), json!(type_rules.rule(name).name()));
            (name.to_string(), Value::Object(field))
        })
        .collect();
    json!({
        "type": stored.key.record_type.as_str(),
        "id": stored.key.id.as_str(),
        "etag": stored.etag,
        "scope": stored.scope.as_str(),
        "state": presence_name(stored.presence),
        "sent": !stored.is_pending,
        "body": render(&stored.record),
        "fields": fields,
    })
}

pub(crate) fn presence_name(presence: Presence) -> &'static str {
    match presence {
        Presence::Alive => "present",
        Presence::Review => "deleted-but-edited",
        Presence::Deleted => "deleted",
    }
}

fn cell_view(cell: &Cell, rules: &Rules) -> Map<String, Value> {
    let mut view = match cell.stamp() {
        Some(stamp) => stamp_view(stamp, rules),
        None => Map::new(),
    };
    view.insert("value".to_owned(), cell.value().map_or(Value::Null, |v| v.to_json()));
    let others: Vec<Value> = cell.rivals().into_iter().map(|entry| entry_view(entry, rules)).collect();
    if !others.is_empty() {
        view.insert("conflict".to_owned(), Value::Array(others));
    }
    view
}

/// A value with who wrote it and when.
pub(crate) fn entry_view(entry: &RegisterEntry, rules: &Rules) -> Value {
    let mut view = stamp_view(&entry.stamp, rules);
    view.insert("value".to_owned(), entry.value.as_ref().map_or(Value::Null, |v| v.to_json()));
    Value::Object(view)
}

fn stamp_view(stamp: &Stamp, rules: &Rules) -> Map<String, Value> {
    let mut view = Map::new();
    let source = rules.sources.get(usize::from(stamp.source.0)).map_or("unknown", String::as_str);
    view.insert("origin".to_owned(), json!(stamp.dot.origin.to_string()));
    view.insert("source".to_owned(), json!(source));
    view.insert("captured_at".to_owned(), json!(time_text(stamp.captured_ms)));
    view.insert("time_quality".to_owned(), json!(stamp.quality));
    view.insert("sent".to_owned(), json!(stamp.hseq != HubSeq::NONE));
    if let Some(author) = &stamp.author {
        view.insert("author".to_owned(), json!(author.as_str()));
    }
    if let Some(why) = &stamp.settles {
        view.insert("settled_because".to_owned(), json!(&**why));
    }
    view
}

/// RFC 3339 in UTC; the bare number where no calendar reaches.
pub(crate) fn time_text(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms).map_or_else(|_| unix_ms.to_string(), |t| t.to_string())
}

/// The history of a record.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryPage {
    /// Newest first.
    pub(crate) history: Vec<HistoryItem>,
    /// Pass as `after` for the entries before these; absent on the last page. What is written meanwhile makes the last of these come again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// One change of a record.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryItem {
    /// `here` for a write at this gateway, `hub` for a change that came from the hub, `damaged` for a row that cannot be read.
    from: &'static str,
    /// When: for a write at this gateway as `captured_at`, for a change from the hub when it came here.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    /// How good that time is, as with `captured_at`; writes at this gateway only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    time_quality: Option<TimeQuality>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    /// `pending`, `confirmed`, `parked` or `discarded`; writes at this gateway only.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    /// Why it is parked or was discarded.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    /// The fields that changed.
    fields: Vec<String>,
    /// Values of those fields before.
    #[schema(value_type = Object)]
    before: Map<String, Value>,
    /// Values that lost, with why: `seen` is an ordinary change, `rule` a decision by the field's rule.
    lost: Vec<Lost>,
}

/// A value that is not current any more.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Lost {
    field: String,
    value: Value,
    origin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    at: String,
    /// How good that time is: `good`, `repaired` afterwards, `bounded` between two times that are known, `unknown` until the
    /// hub was reached, or `clamped` because it lay in the future.
    #[schema(value_type = String)]
    time_quality: TimeQuality,
    why: &'static str,
}

impl HistoryItem {
    pub(crate) fn new(entry: &Entry) -> Self {
        let (before, superseded) = match entry {
            Entry::Own(own) => (&own.before, own.superseded.as_slice()),
            Entry::Hub(hub) => (&hub.before, hub.superseded.as_slice()),
            Entry::Damaged { .. } => return HistoryItem::damaged(),
        };
        let lost = superseded.iter().map(|s| Lost {
            field: s.field.to_string(),
            value: s.entry.value.as_ref().map_or(Value::Null, |v| v.to_json()),
            origin: s.entry.stamp.dot.origin.to_string(),
            author: s.entry.stamp.author.as_ref().map(ToString::to_string),
            at: time_text(s.entry.stamp.captured_ms),
            time_quality: s.entry.stamp.quality,
            why: match s.why {
                Why::Seen => "seen",
                Why::Rule => "rule",
                Why::Limit => "limit",
            },
        });
        let mut item = HistoryItem { before: render(before), lost: lost.collect(), ..HistoryItem::damaged() };
        match entry {
            Entry::Own(own) => {
                item.from = "here";
                item.at = Some(time_text(own.op.stamp.captured_ms));
                item.time_quality = Some(own.op.stamp.quality);
                item.author = own.op.stamp.author.as_ref().map(ToString::to_string);
                item.state = Some(own.fate.name());
                item.reason = own.reason.clone();
                item.fields = own.op.changes.keys().map(ToString::to_string).collect();
            }
            Entry::Hub(hub) => {
                item.from = "hub";
                item.at = Some(time_text(hub.at_ms));
                item.fields = names(before);
            }
            Entry::Damaged { .. } => {}
        }
        item
    }

    fn damaged() -> Self {
        HistoryItem {
            from: "damaged",
            at: None,
            time_quality: None,
            author: None,
            state: None,
            reason: String::new(),
            fields: Vec::new(),
            before: Map::new(),
            lost: Vec::new(),
        }
    }
}

fn names(record: &Record) -> Vec<String> {
    let named = record.cells.iter().filter(|(_, cell)| !matches!(&cell.state, State::Register(e) if e.is_empty()));
    named.map(|(name, _)| name.to_string()).collect()
}
