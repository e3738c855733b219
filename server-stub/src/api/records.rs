//! Records at the centre: read, write, delete, history.

use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use sync_protocol::digest::etag;
use sync_protocol::edit::render;
use sync_protocol::gateway::Intent;
use sync_protocol::hub::Written;
use sync_protocol::id::{FieldName, HubSeq, RecordKey, RecordType};
use sync_protocol::limits::RECORD_BYTES_MAX;
use sync_protocol::record::Record;
use sync_protocol::rules::lookup;

use super::pages::{LIMIT_DEFAULT, LIMIT_MAX, STEP, filled};
use super::{json as json_reply, page};
use crate::account::Sight;
use crate::audit::What;
use crate::caller::Caller;
use crate::desk::{self, Who};
use crate::error::HubError;
use crate::hub::Hub;
use crate::problem::{self, Problem};
use crate::store::{self, Tx};
use crate::view;

/// Each is looked at in each record of a page.
const FILTERS_MAX: usize = 16;

/// What a list is asked for: `limit`, `after`, and any field with the value that it must have.
#[derive(Debug)]
struct Listing {
    limit: usize,
    after: String,
    filters: Vec<(FieldName, String)>,
}

impl Listing {
    fn new(params: Vec<(String, String)>) -> Result<Listing, HubError> {
        let mut listing = Listing { limit: LIMIT_DEFAULT, after: String::new(), filters: Vec::new() };
        for (name, value) in params {
            match name.as_str() {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    listing.limit =
                        limit.ok_or_else(|| HubError::Invalid(format!("limit is a number from 1 to {LIMIT_MAX}")))?;
                }
                "after" => listing.after = value,
                _ if listing.filters.len() == FILTERS_MAX => {
                    return Err(HubError::Invalid(format!("a list is asked for by at most {FILTERS_MAX} fields")));
                }
                field => listing.filters.push((FieldName::new(field)?, value)),
            }
        }
        Ok(listing)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Showing {
    #[serde(default)]
    meta: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Writing {
    author: Option<String>,
    scope: Option<String>,
}

/// What must be true of the record before it is written.
#[derive(Debug, Clone)]
enum Condition {
    None,
    Absent,
    Tag(String),
}

impl Condition {
    fn of(headers: &HeaderMap) -> Condition {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::trim);
        match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
            (Some(tag), _) if tag != "*" => Condition::Tag(tag.trim_matches('"').to_owned()),
            (_, Some("*")) => Condition::Absent,
            _ => Condition::None,
        }
    }

    fn check(&self, tx: &mut Tx<'_>, sight: &Sight, key: &RecordKey) -> Result<(), Problem> {
        let tag = desk::present(tx, sight, key)?.map(|record| etag(&record));
        let holds = match self {
            Condition::None => true,
            Condition::Absent => tag.is_none(),
            Condition::Tag(wanted) => tag.as_ref() == Some(wanted),
        };
        match holds {
            true => Ok(()),
            false => {
                Err(Problem::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", "The condition does not hold")
                    .hint("read the record again, then decide"))
            }
        }
    }
}

pub(super) async fn list(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Path(kind): Path<String>,
    Query(params): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let kind = RecordType::new(&kind).map_err(HubError::from)?;
    let listing = Listing::new(params)?;
    // The names of fields and no values: what was looked for is often the name of a person.
    let by: Vec<String> = listing.filters.iter().map(|(field, _)| field.to_string()).collect();
    let look = move |tx: &mut Tx<'_>| {
        // What is no id is somebody's text, and stays out.
        let after = RecordKey::new(kind.as_str(), &listing.after).ok().map(|key| key.id.to_string());
        let mut target = json!({ "type": kind.as_str(), "after": after, "by": by });
        let (found, next) = matching(tx, &caller.sight, &kind, listing)?;
        note(&mut target, "shown", Json::from(found.len()));
        let ids: Vec<&Json> = found.iter().filter_map(|record| record.get("id")).collect();
        // Of those that were searched for, each; of all in their order, from where to where.
        match by.is_empty() {
            true => note(&mut target, "upto", json!(ids.last())),
            false => note(&mut target, "ids", json!(ids)),
        }
        Ok::<_, HubError>((page("records", found, next), target))
    };
    Ok(json_reply(StatusCode::OK, &hub.show(caller.actor, What::ListRecords, look).await?))
}

/// A record as somebody at the centre writes it. It goes to gateways, so it is no larger than what they take.
fn fields(body: &[u8]) -> Result<Map<String, Json>, Problem> {
    if body.len() > RECORD_BYTES_MAX {
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The record is too large")
            .detail(format!("a record has at most {} KiB of JSON", RECORD_BYTES_MAX / 1024))
            .hint("leave out what need not travel, such as pictures"));
    }
    problem::json(body)
}

/// One page of records, and where the next one begins.
fn matching(
    tx: &mut Tx<'_>,
    sight: &Sight,
    kind: &RecordType,
    Listing { limit, after, filters }: Listing,
) -> Result<(Vec<Json>, Option<String>), HubError> {
    let read = |tx: &mut Tx<'_>, last: Option<&(RecordKey, Record)>| {
        let after = last.map_or(after.as_str(), |(key, _)| key.id.as_str());
        Ok(tx.page(sight, kind, after, STEP)?)
    };
    let tell = |_: &mut Tx<'_>, (key, record): &(RecordKey, Record)| {
        let body = render(record);
        let is_wanted = filters.iter().all(|(field, value)| is_equal(lookup(&body, field), value));
        Ok(is_wanted.then(|| json!({ "id": key.id.as_str(), "etag": etag(record), "body": body })))
    };
    let (found, last) = filled(tx, limit, read, tell)?;
    Ok((found, last.map(|(key, _)| key.id.to_string())))
}

fn is_equal(found: Option<&Json>, wanted: &str) -> bool {
    match found {
        Some(Json::String(text)) => text == wanted,
        Some(Json::Array(items)) => items.iter().any(|item| is_equal(Some(item), wanted)),
        Some(other) => serde_json::from_str::<Json>(wanted).is_ok_and(|wanted| wanted == *other),
        None => false,
    }
}

pub(super) async fn show(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Path((kind, id)): Path<(String, String)>,
    Query(showing): Query<Showing>,
) -> Result<Response, Problem> {
    let key = RecordKey::new(&kind, &id).map_err(HubError::from)?;
    let look = move |tx: &mut Tx<'_>| {
        let target = json!({ "record": key.to_string() });
        if showing.meta {
            let record = desk::seen(tx, &caller.sight, &key)?;
            return Ok(((etag(&record), view::meta(tx, &key, &record)?), target));
        }
        let record = desk::present(tx, &caller.sight, &key)?;
        let record = record.ok_or_else(|| HubError::Missing(format!("record {key}")))?;
        Ok::<_, HubError>(((etag(&record), Json::Object(render(&record))), target))
    };
    let (tag, body) = hub.show(caller.actor, What::ReadRecord, look).await?;
    Ok(tagged(StatusCode::OK, &tag, &body))
}

fn note(target: &mut Json, name: &str, value: Json) {
    if let Some(target) = target.as_object_mut() {
        target.insert(name.to_owned(), value);
    }
}

fn tagged(status: StatusCode, tag: &str, body: &Json) -> Response {
    let mut response = json_reply(status, body);
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{tag}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn written(written: &Written) -> Response {
    let captured = &written.captured;
    let status = match (written.is_held, captured.created) {
        (true, _) => StatusCode::ACCEPTED,
        (false, true) => StatusCode::CREATED,
        (false, false) => StatusCode::OK,
    };
    tagged(status, &captured.etag, &Json::Object(render(&captured.record)))
}

/// What is written down of a write: the record, and for whom a program said that it writes.
fn target_of(key: &RecordKey, who: &Who) -> Json {
    json!({ "record": key.to_string(), "author": who.author.as_ref().map(|author| author.as_str().to_owned()) })
}

pub(super) async fn put(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Path((kind, id)): Path<(String, String)>,
    Query(writing): Query<Writing>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = RecordKey::new(&kind, &id).map_err(HubError::from)?;
    let who = Who::new(&caller, writing.author.as_deref(), writing.scope.as_deref())?;
    let body = fields(&body)?;
    let condition = Condition::of(&headers);
    let act = move |tx: &mut Tx<'_>| {
        condition.check(tx, &who.sight, &key)?;
        let target = target_of(&key, &who);
        Ok::<_, Problem>((desk::put(tx, key, body, &who)?, target))
    };
    Ok(written(&hub.change(caller.actor, What::WriteRecord, act).await?))
}

pub(super) async fn patch(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Path((kind, id)): Path<(String, String)>,
    Query(writing): Query<Writing>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = RecordKey::new(&kind, &id).map_err(HubError::from)?;
    let who = Who::new(&caller, writing.author.as_deref(), writing.scope.as_deref())?;
    let patch = fields(&body)?;
    let condition = Condition::of(&headers);
    let act = move |tx: &mut Tx<'_>| {
        condition.check(tx, &who.sight, &key)?;
        let target = target_of(&key, &who);
        let record = desk::present(tx, &who.sight, &key)?.ok_or_else(|| HubError::Missing(format!("record {key}")))?;
        let mut body = Json::Object(render(&record));
        json_patch::merge(&mut body, &Json::Object(patch));
        let body = body.as_object().cloned().unwrap_or_default();
        Ok::<_, Problem>((desk::put(tx, key, body, &who)?, target))
    };
    Ok(written(&hub.change(caller.actor, What::WriteRecord, act).await?))
}

pub(super) async fn delete(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Path((kind, id)): Path<(String, String)>,
    Query(writing): Query<Writing>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let key = RecordKey::new(&kind, &id).map_err(HubError::from)?;
    let who = Who::new(&caller, writing.author.as_deref(), writing.scope.as_deref())?;
    let condition = Condition::of(&headers);
    let act = move |tx: &mut Tx<'_>| {
        condition.check(tx, &who.sight, &key)?;
        let target = target_of(&key, &who);
        desk::present(tx, &who.sight, &key)?.ok_or_else(|| HubError::Missing(format!("record {key}")))?;
        Ok::<_, Problem>((desk::write(tx, key, Intent::Delete, &who)?, target))
    };
    hub.change(caller.actor, What::DeleteRecord, act).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is asked for of a history. `after` is the `hub_seq` of the last change of the page before.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Past {
    limit: Option<usize>,
    after: Option<u64>,
}

/// What became of a record, newest first.
pub(super) async fn history(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Path((kind, id)): Path<(String, String)>,
    Query(Past { limit, after }): Query<Past>,
) -> Result<Response, Problem> {
    let key = RecordKey::new(&kind, &id).map_err(HubError::from)?;
    let limit = limit.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
    let look = move |tx: &mut Tx<'_>| {
        let read = |tx: &mut Tx<'_>, last: Option<&store::Past>| {
            let before = last.map(|last| last.hseq).or(after.map(HubSeq));
            desk::history(tx, &caller.sight, &key, before, STEP)
        };
        let (told, last) = filled(tx, limit, read, |tx, past| Ok(Some(view::past(tx, past)?)))?;
        let target = json!({ "record": key.to_string(), "shown": told.len() });
        Ok::<_, HubError>((page("history", told, last.map(|last| last.hseq.0.to_string())), target))
    };
    Ok(json_reply(StatusCode::OK, &hub.show(caller.actor, What::ReadHistory, look).await?))
}

pub(super) async fn digest(State(hub): State<Hub>, Extension(caller): Extension<Caller>) -> Result<Response, Problem> {
    let look = move |tx: &mut Tx<'_>| {
        let sums = tx.scope_sums(&caller.sight)?;
        let all = sums.values().fold(0u64, |sum, (digest, _)| sum.wrapping_add(*digest));
        let scopes: Map<String, Json> = sums
            .iter()
            .map(|(scope, (digest, records))| {
                (scope.to_string(), json!({ "digest": format!("{digest:016x}"), "records": records }))
            })
            .collect();
        let head = sync_protocol::hub::Snapshot::head(tx)?;
        Ok(json!({ "digest": format!("{all:016x}"), "head": head.0, "scopes": scopes }))
    };
    let told = hub.read::<_, HubError, _>(look).await?;
    Ok(json_reply(StatusCode::OK, &told))
}
