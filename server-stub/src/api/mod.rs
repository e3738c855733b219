//! The admin API under `/admin/v1`: JSON for people and programs at the centre.
//!
//! Whoever shows the admin token may do everything; it is never accepted from a cookie or as Basic, so that no other
//! site's page can act through an admin's browser.

mod decisions;
mod gateways;
mod records;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde_json::Value as Json;

use crate::hub::Hub;
use crate::problem::Problem;
use crate::secret::is_same;

pub(crate) fn router(hub: &Hub) -> Router<Hub> {
    Router::new()
        .route("/gateways", get(gateways::list).post(gateways::add))
        .route("/gateways/{name}", get(gateways::show))
        .route("/gateways/{name}/code", post(gateways::code))
        .route("/gateways/{name}/scopes", put(gateways::scopes))
        .route("/gateways/{name}/revoke", post(gateways::revoke))
        .route("/gateways/{name}/allow", post(gateways::allow))
        .route("/records/{type}", get(records::list))
        .route(
            "/records/{type}/{id}",
            get(records::show).put(records::put).patch(records::patch).delete(records::delete),
        )
        .route("/records/{type}/{id}/history", get(records::history))
        .route("/export/{type}", get(records::export))
        .route("/digest", get(records::digest))
        .route("/rules", get(decisions::rules).put(decisions::publish))
        .route("/conflicts", get(decisions::conflicts))
        .route("/conflicts/settle", post(decisions::settle))
        .route("/quarantine", get(decisions::quarantine))
        .route("/quarantine/release", post(decisions::release))
        .route("/quarantine/discard", post(decisions::discard))
        .fallback(nothing)
        .layer(from_fn_with_state(hub.clone(), admit))
}

async fn admit(State(hub): State<Hub>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = shown.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
    match token.is_some_and(|token| is_same(token, hub.admin_token())) {
        true => {
            let mut response = next.run(request).await;
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        false => Problem::new(StatusCode::UNAUTHORIZED, "no-token", "The admin token is missing or wrong")
            .hint("send Authorization: Bearer with what is in admin.token of the data directory")
            .into_response(),
    }
}

async fn nothing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing")
        .hint("see docs/operations.md for what there is")
}

/// JSON on its way out.
fn json(status: StatusCode, body: &Json) -> Response {
    let kind = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, kind)], body.to_string()).into_response()
}

/// One page of a list; `next` is what to pass as `after`, and absent on the last.
fn page(name: &str, rows: Vec<Json>, next: Option<String>) -> Json {
    let next = next.map(|next| ("next".to_owned(), Json::from(next)));
    [(name.to_owned(), Json::from(rows))].into_iter().chain(next).collect()
}
