//! Records one by one, and lists of them.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query as QueryParams, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use sync_protocol::digest::content_hash;
use sync_protocol::edit::render;
use sync_protocol::id::{RecordId, RecordKey};
use sync_protocol::merge::Presence;
use utoipa::IntoParams;

use super::App;
use super::body::{object, read_json};
use super::caller::Caller;
use super::paging::{self, Paging};
use super::problem::Problem;
use super::view::{HistoryItem, HistoryPage, Page, described};
use super::write::{Outcome, Receipt, Terms, Wish, perform};
use crate::apps::Access;
use crate::id::mint_id;
use crate::store::{Answer, Filter, Query, Tx};

/// Most records in one page of a list.
pub(crate) const LIST_LIMIT_MAX: usize = 1_000;
const LIST_LIMIT: usize = 100;
/// Each is looked at in each record of the type.
const FILTERS_MAX: usize = 16;
/// A page of a list ends with the record that reaches this, bytes of JSON.
pub(crate) const LIST_BYTES_MAX: usize = 1024 * 1024;
/// How long an `Idempotency-Key` is remembered: longer than any outage of an app.
const KEY_KEPT_MS: i64 = 30 * 24 * 3_600_000;
const KEY_BYTES_MAX: usize = 255;
const MERGE_PATCH: &str = "application/merge-patch+json";
const JSON: &str = "application/json";

/// Makes a record, or makes it equal to the body.
#[utoipa::path(put, path = "/v1/records/{type}/{id}",
    params(("type" = String, Path), ("id" = String, Path),
        ("If-Match" = Option<String>, Header, description = "The version that was read; a stale one merges field by field"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is no such record"),
        ("Outpost-Author" = Option<String>, Header, description = "The person at the tablet")),
    request_body(content = Value, content_type = "application/json"),
    responses((status = 201, body = Receipt, description = "Made, and on disk"),
        (status = 200, body = Receipt, description = "Changed, or the same already"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"), (status = 507, body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn put(
    State(app): State<App>,
    caller: Caller,
    Path((record_type, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let key = caller.key(Access::Write, &record_type, &id)?;
    let terms = Terms::from_headers(&headers, &caller)?;
    let wish = Wish::Put(object(read_json(&headers, body, JSON).await?)?);
    write(&app, &caller, key, wish, terms).await
}

/// Changes some fields of a record by a JSON merge patch (RFC 7396); `null` removes a field.
#[utoipa::path(patch, path = "/v1/records/{type}/{id}",
    params(("type" = String, Path), ("id" = String, Path),
        ("If-Match" = Option<String>, Header, description = "The version that was read; a stale one merges field by field"),
        ("Outpost-Author" = Option<String>, Header, description = "The person at the tablet")),
    request_body(content = Value, content_type = "application/merge-patch+json"),
    responses((status = 200, body = Receipt, description = "Changed, or the same already"), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn patch(
    State(app): State<App>,
    caller: Caller,
    Path((record_type, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let key = caller.key(Access::Write, &record_type, &id)?;
    let terms = Terms::from_headers(&headers, &caller)?;
    let wish = Wish::Patch(read_json(&headers, body, MERGE_PATCH).await?);
    write(&app, &caller, key, wish, terms).await
}

/// Deletes a record. Its history stays.
#[utoipa::path(delete, path = "/v1/records/{type}/{id}",
    params(("type" = String, Path), ("id" = String, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = Receipt), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path((record_type, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = caller.key(Access::Write, &record_type, &id)?;
    let terms = Terms::from_headers(&headers, &caller)?;
    write(&app, &caller, key, Wish::Delete, terms).await
}

async fn write(app: &App, caller: &Caller, key: RecordKey, wish: Wish, terms: Terms) -> Result<Response, Problem> {
    // Once more: an app may have been revoked while its body came.
    caller.must(Access::Write, &key.record_type)?;
    app.disk.check_room()?;
    let now = app.clock.now();
    let receipt = app.store.write(move |tx| perform(tx, key, wish, terms, now)).await?;
    Ok(respond(&receipt))
}

fn respond(receipt: &Receipt) -> Response {
    let status = if receipt.result == Outcome::Created { StatusCode::CREATED } else { StatusCode::OK };
    (status, [(header::ETAG, quoted(&receipt.etag))], Json(receipt)).into_response()
}

pub(crate) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// Makes a record under an id that the gateway gives it. With an `Idempotency-Key`, sending it again changes nothing and
/// gives the same answer.
#[utoipa::path(post, path = "/v1/records/{type}",
    params(("type" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Any text of at most 255 bytes that is new for each record of this app"),
        ("Outpost-Author" = Option<String>, Header, description = "The person at the tablet")),
    request_body(content = Value, content_type = "application/json"),
    responses((status = 201, body = Receipt, description = "Made, and on disk"), (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 507, body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn post(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let record_type = caller.record_type(Access::Write, &name)?;
    let terms = Terms::from_headers(&headers, &caller)?;
    let repeat = Repeat::find(&headers, &name, &caller)?;
    let body = object(read_json(&headers, body, JSON).await?)?;
    caller.must(Access::Write, &record_type)?;
    app.disk.check_room()?;
    let now = app.clock.now();
    let id = mint_id(now.now_ms)?;
    let hash = content_hash(&serde_json::to_vec(&body).unwrap_or_default()).to_vec();
    let written = app.store.write(move |tx| {
        if let Some(repeat) = &repeat {
            if let Some(body) = repeat.answered(tx, &hash, now.now_ms)? {
                return Ok::<_, Problem>(body);
            }
        }
        let key = RecordKey { record_type, id };
        let receipt = perform(tx, key, Wish::Put(body), terms, now)?;
        let body = serde_json::to_vec(&receipt).unwrap_or_default();
        if let Some(repeat) = &repeat {
            let answer = Answer { hash, body: body.clone() };
            tx.idempotent_put(&repeat.own, &answer, now.now_ms, now.now_ms.saturating_add(KEY_KEPT_MS))?;
        }
        Ok(body)
    });
    let body = written.await?;
    let receipt: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |key: &str| receipt.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let location = format!("/v1/records/{name}/{}", text("id"));
    let headers =
        [(header::CONTENT_TYPE, JSON.to_owned()), (header::ETAG, quoted(&text("etag"))), (header::LOCATION, location)];
    Ok((StatusCode::CREATED, headers, body).into_response())
}

/// Under which keys the answer to a request is kept.
#[derive(Debug)]
struct Repeat {
    /// Of this caller: two apps may well choose the same. A name survives that its app is paired again.
    own: String,
    /// Of all callers together, as it was kept by earlier versions.
    shared: String,
}

impl Repeat {
    fn find(headers: &HeaderMap, record_type: &str, caller: &Caller) -> Result<Option<Repeat>, Problem> {
        let Some(value) = headers.get(HeaderName::from_static("idempotency-key")) else { return Ok(None) };
        let text =
            value.to_str().ok().filter(|text| !text.is_empty() && text.len() <= KEY_BYTES_MAX).ok_or_else(|| {
                Problem::bad_request(format!("Idempotency-Key must be plain text of 1 to {KEY_BYTES_MAX} bytes."))
            })?;
        let shared = format!("{record_type} {text}");
        // No header and no name has a line break, so this is nobody else's.
        let own = format!("{shared}\n{}", caller.name()?.unwrap_or_default());
        Ok(Some(Repeat { own, shared }))
    }

    /// What was answered before to the same body.
    fn answered(&self, tx: &mut Tx<'_>, hash: &[u8], now_ms: i64) -> Result<Option<Vec<u8>>, Problem> {
        let reader = tx.reader()?;
        if let Some(known) = reader.idempotent(&self.own, now_ms)? {
            return if known.hash == hash { Ok(Some(known.body)) } else { Err(Problem::key_reused()) };
        }
        let Some(known) = reader.idempotent(&self.shared, now_ms)?.filter(|known| known.hash == hash) else {
            return Ok(None);
        };
        // Sent before an upgrade, and again after it. It is this caller's from now on, so that no other is given it.
        tx.idempotent_rename(&self.shared, &self.own)?;
        Ok(Some(known.body))
    }
}

/// Parameters of a read.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadParams {
    /// Also tell for each field who wrote it, when (`captured_at`) and how good that time is (`time_quality`: `good`,
    /// `repaired`, `bounded`, `unknown` until the hub was reached, `clamped`), whether it was sent, and other values.
    #[serde(default)]
    meta: bool,
}

/// A record as it is now, unsent changes included.
#[utoipa::path(get, path = "/v1/records/{type}/{id}",
    params(("type" = String, Path), ("id" = String, Path), ReadParams, ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = Value), (status = 304, description = "The app has this version"),
        (status = 404, body = Problem, content_type = "application/problem+json"), (status = 410, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "It is here, and the card has damaged it; the hub sends it again", content_type = "application/problem+json")))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path((record_type, id)): Path<(String, String)>,
    QueryParams(params): QueryParams<ReadParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = caller.key(Access::Read, &record_type, &id)?;
    let found = app.store.read(move |reader| {
        let stored = reader.get(&key)?;
        let rules = reader.rules()?;
        Ok::<_, Problem>(stored.map(|stored| (stored, rules)))
    });
    let Some((stored, rules)) = found.await? else {
        return Err(Problem::not_found("The gateway holds no record of this type and id."));
    };
    if stored.presence == Presence::Deleted && !params.meta {
        return Err(Problem::gone());
    }
    let etag = quoted(&stored.etag);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    if known.is_some_and(|known| known.split(',').any(|tag| tag.trim() == etag)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let body = if params.meta { described(&stored, &rules) } else { Value::Object(render(&stored.record)) };
    Ok(([(header::ETAG, etag)], Json(body)).into_response())
}

/// What became of a record, newest first: who changed what, when, what it replaced, and whether it was sent.
#[utoipa::path(get, path = "/v1/records/{type}/{id}/history",
    params(("type" = String, Path), ("id" = String, Path), Paging),
    responses((status = 200, body = HistoryPage), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn history(
    State(app): State<App>,
    caller: Caller,
    Path((record_type, id)): Path<(String, String)>,
    QueryParams(paging): QueryParams<Paging>,
) -> Result<Json<HistoryPage>, Problem> {
    let key = caller.key(Access::Read, &record_type, &id)?;
    let (skip, limit) = (paging.after(|text| text.parse().ok())?.unwrap_or(0), paging.limit()?);
    let found = app.store.read(move |reader| Ok::<_, Problem>((reader.has(&key)?, reader.history(&key, skip, limit)?)));
    let (exists, entries) = found.await?;
    if !exists && entries.is_empty() {
        return Err(Problem::not_found("The gateway holds no record of this type and id."));
    }
    let next = (entries.len() == limit).then(|| skip.saturating_add(limit).to_string());
    Ok(Json(HistoryPage { history: entries.iter().map(HistoryItem::new).collect(), next }))
}

/// Records of a type, by id. Every other parameter is a filter: `?village=Chingale`, `?address.city=Zomba`.
#[utoipa::path(get, path = "/v1/records/{type}",
    params(("type" = String, Path),
        ("limit" = Option<usize>, Query, description = "At most 1,000; 100 unless told. A page of large records has fewer: only one without `next` is the last"),
        ("after" = Option<String>, Query, description = "The `next` of the page before")),
    responses((status = 200, body = Page), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    QueryParams(params): QueryParams<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let mut query = Query {
        record_type: caller.record_type(Access::Read, &name)?,
        filters: Vec::new(),
        after: None,
        limit: LIST_LIMIT,
    };
    for (name, value) in params {
        match name.as_str() {
            "limit" => query.limit = paging::limit(&value)?,
            "after" => {
                query.after = Some(RecordId::new(&value).map_err(|e| Problem::bad_request(format!("after is {e}.")))?);
            }
            _ if query.filters.len() == FILTERS_MAX => {
                return Err(Problem::bad_request(format!("a list is asked for by at most {FILTERS_MAX} fields.")));
            }
            path => query
                .filters
                .push(Filter { path: path.split('.').map(str::to_owned).collect(), value: Value::String(value) }),
        }
    }
    let text = app.store.read(move |reader| Page::text(reader, &query)).await.map_err(Problem::from)?;
    Ok(([(header::CONTENT_TYPE, JSON)], text).into_response())
}
