//! What people decide: conflicts, quarantine, rules.

use axum::body::Bytes;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sync_protocol::digest::etag;
use sync_protocol::edit::render;
use sync_protocol::hub::Snapshot;
use sync_protocol::id::{FieldName, HubSeq, RecordKey};
use sync_protocol::record::Record;

use super::pages::{LIMIT_DEFAULT, LIMIT_MAX, STEP, filled};
use super::{json as json_reply, page};
use crate::audit::What;
use crate::caller::Caller;
use crate::desk::{self, Verdict, Who};
use crate::error::HubError;
use crate::hub::Hub;
use crate::problem::{self, Problem};
use crate::store::{HeldRow, Tx};
use crate::view;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    limit: Option<usize>,
    after: Option<String>,
}

impl Listing {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settlement {
    r#type: String,
    id: String,
    field: Option<String>,
    /// The value that shall stand; `null` removes the field.
    #[serde(default, deserialize_with = "present")]
    value: Option<Json>,
    /// Ends the review of a delete that met an edit.
    delete: Option<bool>,
    why: String,
    author: Option<String>,
}

/// Tells a key that is `null` from one that is not there.
fn present<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(input).map(Some)
}

impl Settlement {
    fn verdict(&self) -> Result<Verdict, HubError> {
        let field = self.field.as_deref().map(FieldName::new).transpose()?;
        match (field, &self.value, self.delete) {
            (Some(field), Some(Json::Null), None) => Ok(Verdict::Remove(field)),
            (Some(field), Some(value), None) => Ok(Verdict::Value(field, value.clone())),
            (None, None, Some(delete)) => Ok(Verdict::Delete(delete)),
            _ => Err(HubError::Invalid("give field and value, or delete".to_owned())),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decision {
    /// As listed.
    change: String,
    #[serde(default)]
    why: String,
}

pub(super) async fn conflicts(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Query(listing): Query<Listing>,
) -> Result<Response, Problem> {
    let limit = listing.limit();
    let after = listing.after.as_deref().map(RecordKey::parse).transpose().map_err(HubError::from)?;
    let look = move |tx: &mut Tx<'_>| {
        let read = |tx: &mut Tx<'_>, last: Option<&(RecordKey, Record)>| {
            Ok(tx.in_conflict(&caller.sight, last.map(|(key, _)| key).or(after.as_ref()), STEP)?)
        };
        let tell = |tx: &mut Tx<'_>, (key, record): &(RecordKey, Record)| Ok(Some(view::conflict(tx, key, record)?));
        let (told, last) = filled(tx, limit, read, tell)?;
        let target = view::listed(&told);
        Ok::<_, HubError>((page("conflicts", told, last.map(|(key, _)| key.to_string())), target))
    };
    Ok(json_reply(StatusCode::OK, &hub.show(caller.actor, What::ListConflicts, look).await?))
}

pub(super) async fn settle(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, Problem> {
    let asked: Settlement = problem::json(&body)?;
    let key = RecordKey::new(&asked.r#type, &asked.id).map_err(HubError::from)?;
    let verdict = asked.verdict()?;
    let who = Who::new(&caller, asked.author.as_deref(), None)?;
    let act = move |tx: &mut Tx<'_>| {
        let target = json!({ "record": key.to_string(), "field": asked.field });
        Ok::<_, HubError>((desk::settle(tx, key, verdict, asked.why, &who)?, target))
    };
    let written = hub.change(caller.actor, What::Settle, act).await?;
    let record = &written.captured.record;
    Ok(json_reply(StatusCode::OK, &json!({ "etag": etag(record), "body": render(record) })))
}

pub(super) async fn quarantine(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Query(listing): Query<Listing>,
) -> Result<Response, Problem> {
    let limit = listing.limit();
    let after = listing.after.as_deref().map_or(Ok(0), str::parse::<u64>);
    let after = after.map_err(|_| HubError::Invalid("after is a number from `next`".to_owned()))?;
    let look = move |tx: &mut Tx<'_>| {
        let read = |tx: &mut Tx<'_>, last: Option<&HeldRow>| {
            let after = last.map_or(HubSeq(after), |row| row.held.hseq);
            Ok(tx.held_page(&caller.sight, after, STEP)?)
        };
        let tell = |tx: &mut Tx<'_>, row: &HeldRow| Ok(Some(view::held(tx, row)?));
        let (told, last) = filled(tx, limit, read, tell)?;
        let target = view::listed(&told);
        let next = last.map(|row| row.held.hseq.0.to_string());
        Ok::<_, HubError>((page("quarantine", told, next), target))
    };
    Ok(json_reply(StatusCode::OK, &hub.show(caller.actor, What::ListQuarantine, look).await?))
}

pub(super) async fn release(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let asked: Decision = problem::json(&body)?;
    let dot = view::parse_change(&asked.change)?;
    let act = move |tx: &mut Tx<'_>| {
        let key = desk::release(tx, &caller.sight, dot)?;
        Ok::<_, HubError>(((), json!({ "change": view::change_name(dot), "record": key.to_string() })))
    };
    hub.change(caller.actor, What::Release, act).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn discard(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let asked: Decision = problem::json(&body)?;
    let dot = view::parse_change(&asked.change)?;
    let act = move |tx: &mut Tx<'_>| {
        let key = desk::discard(tx, &caller.sight, dot, &asked.why)?;
        Ok::<_, HubError>(((), json!({ "change": view::change_name(dot), "record": key.to_string() })))
    };
    hub.change(caller.actor, What::Discard, act).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn rules(State(hub): State<Hub>) -> Result<Response, Problem> {
    let rules = hub.read::<_, HubError, _>(|tx| Ok(tx.rules()?)).await?;
    Ok(([(header::CONTENT_TYPE, "application/toml")], rules.text().to_owned()).into_response())
}

pub(super) async fn publish(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    caller.must_see_everything()?;
    let is_toml = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/toml");
    if !headers.get(header::CONTENT_TYPE).is_some_and(is_toml) {
        return Err(Problem::bad_request("a rules document is application/toml"));
    }
    let text = String::from_utf8(body.to_vec()).map_err(|_| Problem::bad_request("a rules document is UTF-8"))?;
    let freed = hub.publish_rules_as(caller.actor, text).await?;
    Ok(json_reply(StatusCode::OK, &json!({ "freed": freed })))
}
