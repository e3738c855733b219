//! Receipts: is what my app saved still here, and is it at the hub?

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use sync_protocol::id::{RecordKey, RecordType};
use utoipa::ToSchema;

use super::App;
use super::body::{expect_type, read};
use super::caller::Caller;
use super::problem::Problem;
use crate::apps::Access;

/// Records in one question.
const ASKED_MAX: usize = 1_000;
const BODY_BYTES_MAX: usize = 512 * 1024;

/// What an app asks about.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Question {
    /// At most 1,000.
    records: Vec<Asked>,
}

/// One record and the version that the app was given.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Asked {
    #[serde(rename = "type")]
    record_type: String,
    id: String,
    etag: String,
}

/// The answers, in the order of the questions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Receipts {
    records: Vec<Known>,
}

/// Where one version is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Known {
    #[serde(rename = "type")]
    record_type: String,
    id: String,
    etag: String,
    /// On this gateway's disk, as the present version or an earlier one.
    here: bool,
    /// The hub has it.
    at_hub: bool,
    /// The hub has it but cannot use it yet; why.
    #[serde(skip_serializing_if = "Option::is_none")]
    parked: Option<String>,
}

/// Tells for each record and version whether it is here, at the hub, or parked.
#[utoipa::path(post, path = "/v1/receipts", request_body = Question,
    responses((status = 200, body = Receipts), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn receipts(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Receipts>, Problem> {
    expect_type(&headers, "application/json")?;
    let body = read(body, BODY_BYTES_MAX, "The question").await?;
    let question: Question = serde_json::from_slice(&body).map_err(|e| {
        Problem::bad_request(format!(
            "Ask with {{\"records\": [{{\"type\", \"id\", \"etag\"}}]}}: see column {}.",
            e.column()
        ))
    })?;
    if question.records.len() > ASKED_MAX {
        return Err(Problem::bad_request(format!("Ask about at most {ASKED_MAX} records at once.")));
    }
    let wanted = question
        .records
        .iter()
        .map(|a| Ok((asked(&caller, &a.record_type, &a.id)?, a.etag.trim_matches('"').to_owned())));
    let wanted = wanted.collect::<Result<Vec<_>, Problem>>()?;
    let found = app.store.read(move |reader| reader.receipts(&wanted)).await.map_err(Problem::from)?;
    let known = found.into_iter().map(|r| Known {
        record_type: r.key.record_type.to_string(),
        id: r.key.id.to_string(),
        etag: r.etag,
        here: r.is_here,
        at_hub: r.is_at_hub,
        parked: r.parked,
    });
    Ok(Json(Receipts { records: known.collect() }))
}

/// What may be asked about: also what an app may write and not read, because it has to know whether that is safe.
fn asked(caller: &Caller, record_type: &str, id: &str) -> Result<RecordKey, Problem> {
    let may_write = RecordType::new(record_type).is_ok_and(|named| caller.may(Access::Write, &named).unwrap_or(false));
    caller.key(if may_write { Access::Write } else { Access::Read }, record_type, id)
}
