//! What needs a person: conflicts to settle, and changes that the hub cannot use.

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sync_protocol::gateway::{Capture, Intent, capture};
use sync_protocol::id::{Author, Dot, FieldName, Origin, RecordKey, Seq, Stream};
use sync_protocol::merge::Presence;
use utoipa::ToSchema;

use super::App;
use super::body::{expect_type, read};
use super::caller::Caller;
use super::paging::Paging;
use super::problem::Problem;
use super::view::{entry_view, presence_name, time_text};
use super::write::named_author;
use crate::apps::Access;
use crate::store::Stored;

const BODY_BYTES_MAX: usize = 300 * 1024;

/// Records in which more than one value stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Conflicts {
    conflicts: Vec<Conflict>,
    /// Pass as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// One record in conflict.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Conflict {
    #[serde(rename = "type")]
    record_type: String,
    id: String,
    /// `present`, or `deleted-but-edited`: somebody deleted it without knowing of an edit.
    state: &'static str,
    fields: Vec<ConflictField>,
}

/// One field in conflict.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConflictField {
    field: String,
    /// The values with who wrote them and when; the one that is shown first.
    #[schema(value_type = Vec<Object>)]
    values: Vec<Value>,
}

/// Lists what is in conflict, by when it changed last.
#[utoipa::path(get, path = "/v1/conflicts", params(Paging), responses((status = 200, body = Conflicts)))]
pub(crate) async fn conflicts(
    State(app): State<App>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Conflicts>, Problem> {
    let (after, limit) = (paging.after(|text| text.parse().ok())?.unwrap_or(0), paging.limit()?);
    let found = app.store.read(move |reader| Ok::<_, Problem>((reader.conflicts(after, limit)?, reader.rules()?)));
    let ((found, next), rules) = found.await?;
    let found = shown(&caller, found, |conflict| &conflict.key)?;
    let conflicts = found.into_iter().map(|conflict| Conflict {
        record_type: conflict.key.record_type.to_string(),
        id: conflict.key.id.to_string(),
        state: presence_name(conflict.presence),
        fields: conflict
            .fields
            .iter()
            .map(|(field, entries)| ConflictField {
                field: field.to_string(),
                values: entries.iter().map(|entry| entry_view(entry, &rules)).collect(),
            })
            .collect(),
    });
    Ok(Json(Conflicts { conflicts: conflicts.collect(), next: next.map(|feed| feed.to_string()) }))
}

/// What of a list the caller may read.
fn shown<T>(caller: &Caller, found: Vec<T>, key: impl Fn(&T) -> &RecordKey) -> Result<Vec<T>, Problem> {
    let may = |item: &T| caller.may(Access::Read, &key(item).record_type);
    let judged = found.into_iter().map(|item| Ok((may(&item)?, item)));
    let judged = judged.collect::<Result<Vec<_>, Problem>>()?;
    Ok(judged.into_iter().filter(|(may, _)| *may).map(|(_, item)| item).collect())
}

/// A person's decision.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settlement {
    #[serde(rename = "type")]
    record_type: String,
    id: String,
    /// The field to settle; absent for a delete that met an edit.
    #[serde(default)]
    field: Option<String>,
    /// The value that shall stand; `null` removes the field.
    #[serde(default)]
    value: Option<Value>,
    /// For a delete that met an edit: whether the record is deleted.
    #[serde(default)]
    delete: Option<bool>,
    /// Why; kept in the history.
    why: String,
    #[serde(default)]
    author: Option<String>,
}

/// What a settlement did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Settled {
    etag: String,
}

/// Settles one field, or a delete that met an edit. The decision travels to the hub and everybody else like any write.
#[utoipa::path(post, path = "/v1/conflicts/settle", request_body = Settlement,
    responses((status = 200, body = Settled), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn settle(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Settled>, Problem> {
    expect_type(&headers, "application/json")?;
    let body = read(body, BODY_BYTES_MAX, "The settlement").await?;
    let wish: Settlement = serde_json::from_slice(&body).map_err(|e| {
        let wanted = "an object with type, id, field and value (or delete), why and optionally author";
        Problem::bad_request(format!("The body is not {wanted}: see column {}.", e.column()))
    })?;
    let key = caller.key(Access::Write, &wish.record_type, &wish.id)?;
    if wish.why.is_empty() || wish.why.len() > sync_protocol::limits::NOTE_BYTES_MAX {
        return Err(Problem::bad_request("why must say in 1 to 512 bytes why this was decided."));
    }
    let author = wish.author.as_deref().map(Author::new).transpose();
    let author = author.map_err(|e| Problem::bad_request(format!("author is {e}.")))?;
    let author = caller.author(author.or(named_author(&headers)?))?;
    let intent = match (wish.field, wish.delete) {
        (Some(field), None) => {
            let field = FieldName::new(&field).map_err(|e| Problem::bad_request(format!("field is {e}.")))?;
            if field.is_reserved() {
                return Err(Problem::bad_request(
                    "This field is not one of the record; use delete for a deleted record.",
                ));
            }
            Intent::Settle { field, value: wish.value.filter(|v| !v.is_null()), why: wish.why }
        }
        (None, Some(delete)) => Intent::SettleDelete { delete, why: wish.why },
        _ => return Err(Problem::bad_request("Give either field and value, or delete.")),
    };
    app.disk.check_room()?;
    let now = app.clock.now();
    let done = app.store.write(move |tx| {
        let held = tx.reader()?.get(&key)?;
        let held = held.ok_or_else(|| Problem::not_found("The gateway holds no record of this type and id."))?;
        is_in_conflict(&held, &intent)?;
        let (now_ms, quality) = (now.now_ms, now.quality);
        tx.set_moment(now.at, now_ms);
        Ok::<_, Problem>(capture(tx, Capture { key, intent, base: None, author, now_ms, quality })?)
    });
    Ok(Json(Settled { etag: done.await?.etag }))
}

/// Refuses to settle what is not in conflict: that would be an edit, and one that says of itself that it decided something.
fn is_in_conflict(held: &Stored, intent: &Intent) -> Result<(), Problem> {
    let fields: Vec<&FieldName> = held.record.conflicts().into_iter().filter(|field| !field.is_reserved()).collect();
    let is_review = held.presence == Presence::Review;
    let wanted = match intent {
        Intent::Settle { field, .. } if fields.contains(&field) => return Ok(()),
        Intent::SettleDelete { .. } if is_review => return Ok(()),
        Intent::Settle { field, .. } => format!("{field} of {}", held.key),
        _ => format!("The deletion of {}", held.key),
    };
    let deletion = is_review.then(|| "its deletion".to_owned());
    let open: Vec<String> = fields.iter().map(ToString::to_string).chain(deletion).collect();
    Err(Problem::not_in_conflict(&wanted, &open))
}

/// Changes that the hub keeps but cannot use.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ParkedList {
    parked: Vec<ParkedItem>,
    /// Pass as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// One change that the hub cannot use.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ParkedItem {
    /// Names it in a decision.
    change: String,
    #[serde(rename = "type")]
    record_type: String,
    id: String,
    /// Why, in words for people.
    reason: String,
    since: String,
    /// What was decided and has yet to reach the hub: `retry` or `discard`.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided: Option<&'static str>,
}

/// Lists what the hub cannot use. Correcting the record is the usual way out; the hub then frees what waited for it.
#[utoipa::path(get, path = "/v1/parked", params(Paging), responses((status = 200, body = ParkedList)))]
pub(crate) async fn parked(
    State(app): State<App>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<ParkedList>, Problem> {
    let (after, limit) = (paging.after(|text| text.parse().ok())?.unwrap_or(0), paging.limit()?);
    let (found, next) = app.store.read(move |reader| reader.parked(after, limit)).await.map_err(Problem::from)?;
    let found = shown(&caller, found, |parked| &parked.key)?;
    let parked = found.into_iter().map(|p| ParkedItem {
        change: change_name(p.dot),
        record_type: p.key.record_type.to_string(),
        id: p.key.id.to_string(),
        reason: p.reason,
        since: time_text(p.since_ms),
        decided: p.plea.map(|discard| if discard { "discard" } else { "retry" }),
    });
    Ok(Json(ParkedList { parked: parked.collect(), next: next.map(|number| number.to_string()) }))
}

/// What to do with a parked change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decision {
    /// As listed.
    change: String,
    /// `false` asks the hub to try again, `true` to drop it. It stays in the history.
    discard: bool,
}

/// Asks the hub to try a parked change again, or to drop it. The wish goes with the next sync.
#[utoipa::path(post, path = "/v1/parked", request_body = Decision,
    responses((status = 202, description = "Noted; the next sync tells the hub"), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn decide(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<axum::http::StatusCode, Problem> {
    expect_type(&headers, "application/json")?;
    app.disk.check_card()?;
    let body = read(body, BODY_BYTES_MAX, "The decision").await?;
    let decision: Decision = serde_json::from_slice(&body).map_err(|e| {
        Problem::bad_request(format!("The body is not an object with change and discard: see column {}.", e.column()))
    })?;
    let unknown = || Problem::not_found("No such change is parked here; /v1/parked lists them.");
    let dot = parse_change(&decision.change).ok_or_else(unknown)?;
    let noted = app.store.write(move |tx| {
        let key = tx.reader()?.key_of_parked(dot)?.ok_or_else(unknown)?;
        caller.must(Access::Write, &key.record_type)?;
        Ok::<_, Problem>(tx.plea(dot, decision.discard)?)
    });
    noted.await?;
    Ok(axum::http::StatusCode::ACCEPTED)
}

fn change_name(dot: Dot) -> String {
    format!("{}-{}-{}", dot.origin.0, dot.stream.number(), dot.seq.0)
}

fn parse_change(name: &str) -> Option<Dot> {
    let mut parts = name.split('-');
    let (origin, stream, seq) = (parts.next()?, parts.next()?, parts.next()?);
    let stream = Stream::from_number(stream.parse().ok()?).ok()?;
    parts.next().is_none().then_some(())?;
    Some(Dot { origin: Origin(origin.parse().ok()?), stream, seq: Seq(seq.parse().ok()?) })
}
