//! What a gateway still does for apps after its hub has shut it out: a box that was stolen must not go on answering who is ill of
//! what, and a clinic whose box was shut out by mistake must not lose what it writes down meanwhile.
//!
//! So whatever is not known here to show no record is refused.

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::problem::Problem;

/// Lets a request through unless the hub has shut this gateway out and it could show records.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    match app.store.is_revoked() && !shows_nothing(request.method(), request.uri().path()) {
        true => Problem::revoked().into_response(),
        false => next.run(request).await,
    }
}

/// Saving, and what is asked about the gateway itself and about what was saved.
fn shows_nothing(method: &Method, path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["v1", "records", _, _] => [Method::PUT, Method::PATCH, Method::DELETE].contains(method),
        ["v1", "records", _] | ["v1", "batch" | "receipts" | "sync" | "enroll" | "pair" | "pairings"] => {
            method == Method::POST
        }
        ["v1", "status" | "apps" | "acts"] | ["healthz"] => method == Method::GET,
        ["v1", "apps", _] => method == Method::DELETE,
        _ => false,
    }
}
