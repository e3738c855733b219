//! Room on the hub's disk, for programs that watch over the hub.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::json as json_reply;
use crate::hub::Hub;

/// `free_bytes` is `null` if the system does not say.
pub(super) async fn show(State(hub): State<Hub>) -> Response {
    let room = hub.room();
    let told = json!({
        "free_bytes": room.free_bytes(),
        "reserve_bytes": room.reserve_bytes,
        "takes_changes": !room.is_short(),
    });
    json_reply(StatusCode::OK, &told)
}
