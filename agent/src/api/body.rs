//! Request bodies, taken with a limit and a clear word when they do not fit.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};
use sync_protocol::limits::RECORD_BYTES_MAX;

use super::patience::is_too_slow;
use super::problem::Problem;

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn read(body: Body, limit: usize, what: &str) -> Result<Vec<u8>, Problem> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::too_large(what, limit)),
        Err(error) if is_too_slow(error.as_ref()) => Err(Problem::too_slow()),
        Err(_) => Err(Problem::bad_request("The body ended before all of it had arrived. Send it again.")),
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
