//! The certificate that the hub was given as a file, and until when gateways take it: for programs that watch over the hub.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::json as json_reply;
use crate::error::HubError;
use crate::hub::Hub;
use crate::problem::Problem;

/// `null` if the hub makes its certificate itself, and so renews it.
pub(super) async fn show(State(hub): State<Hub>) -> Result<Response, Problem> {
    let term = hub.term().await.map_err(HubError::from)?;
    Ok(json_reply(StatusCode::OK, &json!({ "given": term })))
}
