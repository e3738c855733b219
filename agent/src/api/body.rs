//! Request bodies, taken with a limit and a clear word when they do not fit.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use sync_protocol::limits::RECORD_BYTES_MAX;
use tokio::time::timeout;

use super::patience::is_too_slow;
use super::problem::Problem;

/// What is still read of a body that is too large, and for how long: an app that is still sending when the gateway ends the
/// connection may not hear why.
const REFUSED_BYTES_MAX: usize = 512 * 1024;
const REFUSED_TIME_MAX: Duration = Duration::from_secs(5);

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn read(mut body: Body, limit: usize, what: &str) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match is_too_slow(&error) {
            true => Problem::too_slow(),
            false => Problem::bad_request("The body ended before all of it had arrived. Send it again."),
        })?;
        // Trailers are nothing to us.
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            let _ = timeout(REFUSED_TIME_MAX, forget(body)).await;
            return Err(Problem::too_large(what, limit));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Reads on, and keeps nothing of it.
async fn forget(mut body: Body) {
    let mut left = REFUSED_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let Some(less) = left.checked_sub(bytes) else { return };
        left = less;
    }
}

/// Reads a JSON value of one record's size.
pub(crate) async fn read_json(headers: &HeaderMap, body: Body, wanted: &str) -> Result<Value, Problem> {
    expect_type(headers, wanted)?;
    parse(&read(body, RECORD_BYTES_MAX, "The record").await?)
}

/// Fails unless the body is of the wanted type; parameters such as a charset are ignored.
pub(crate) fn expect_type(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    match essence.eq_ignore_ascii_case(wanted) {
        true => Ok(()),
        false => Err(Problem::media_type(wanted)),
    }
}

/// Parses JSON; the error says where, and never shows what stood there.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(bytes).map_err(|e| {
        Problem::bad_request(format!("The body is not JSON: see line {}, column {}.", e.line(), e.column()))
    })
}

/// The object that a record must be.
pub(crate) fn object(value: Value) -> Result<Map<String, Value>, Problem> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Problem::bad_request("A record must be a JSON object.")),
    }
}
