//! The admin API under `/admin/v1`: JSON for people and programs at the centre.
//!
//! Who asks is decided in `caller`, what he may do in the table of `routes`, what he sees by the `Sight` that every look at the
//! store takes. Each change, and each look at records, is written down in the audit.

mod accounts;
mod audit;
mod certificate;
mod decisions;
mod disk;
mod export;
mod gateways;
mod own;
mod pages;
mod proof;
mod records;
mod routes;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value as Json;

use self::routes::Routes;
use crate::account::Role::{Admin, Operator, Resolver, Viewer};
use crate::caller::{self, Out};
use crate::hub::Hub;
use crate::peer::Peer;
use crate::problem::Problem;
use crate::server::JSON_BYTES_MAX;
use crate::strangers::{whole, with_a_small_body};

fn routes() -> Routes {
    Routes::new()
        .get("/session", Viewer, own::show)
        .delete("/session", Viewer, own::log_out)
        .get("/second-factor", Viewer, own::new_factor)
        .put("/second-factor", Viewer, own::set_factor)
        .delete("/second-factor", Viewer, own::end_factor)
        .get("/tokens", Viewer, own::tokens)
        .post("/tokens", Viewer, own::add_token)
        .delete("/tokens/{label}", Viewer, own::revoke_token)
        .get("/gateways", Viewer, gateways::list)
        .get("/gateways/{name}", Viewer, gateways::show)
        .post("/gateways", Operator, gateways::add)
        .post("/gateways/{name}/code", Operator, gateways::code)
        .put("/gateways/{name}/scopes", Operator, gateways::scopes)
        .post("/gateways/{name}/revoke", Operator, gateways::revoke)
        .post("/gateways/{name}/allow", Operator, gateways::allow)
        .get("/records/{type}", Viewer, records::list)
        .get("/records/{type}/{id}", Viewer, records::show)
        .get("/records/{type}/{id}/history", Viewer, records::history)
        .put("/records/{type}/{id}", Resolver, records::put)
        .patch("/records/{type}/{id}", Resolver, records::patch)
        .delete("/records/{type}/{id}", Resolver, records::delete)
        .get("/export/{type}", Operator, export::export)
        .get("/digest", Viewer, records::digest)
        .get("/certificate", Viewer, certificate::show)
        .get("/disk", Viewer, disk::show)
        .get("/rules", Viewer, decisions::rules)
        .put("/rules", Admin, decisions::publish)
        .get("/conflicts", Viewer, decisions::conflicts)
        .post("/conflicts/settle", Resolver, decisions::settle)
        .get("/quarantine", Viewer, decisions::quarantine)
        .post("/quarantine/release", Resolver, decisions::release)
        .post("/quarantine/discard", Resolver, decisions::discard)
        .get("/accounts", Admin, accounts::list)
        .post("/accounts", Admin, accounts::add)
        .put("/accounts/{name}", Admin, accounts::change)
        .post("/accounts/{name}/code", Admin, accounts::code)
        .delete("/accounts/{name}/second-factor", Admin, accounts::end_second_factor)
        .delete("/accounts/{name}/tokens/{label}", Admin, accounts::revoke_token)
        .get("/audit", Admin, audit::list)
}

/// What each path needs, for the tests.
#[cfg(test)]
pub(crate) fn table() -> Vec<(&'static str, &'static str, crate::account::Role)> {
    routes().done().1
}

pub(crate) fn router(hub: &Hub) -> Router<Hub> {
    let (guarded, _) = routes().done();
    // What lets people in has nobody to look at yet.
    let open = Router::new().route("/session", post(own::log_in)).route("/password", post(own::set_password));
    let open = open.layer(from_fn(with_a_small_body));
    guarded.fallback(nothing).layer(from_fn_with_state(hub.clone(), admit)).merge(open)
}

/// Lets in who may. A request that brings something is judged a second time when all of it is there: whoever was thrown out while it
/// came, however slowly, is out.
async fn admit(State(hub): State<Hub>, Extension(peer): Extension<Peer>, request: Request, next: Next) -> Response {
    let mut response = match admitted(&hub, &peer, request).await {
        Ok(request) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn admitted(hub: &Hub, peer: &Peer, request: Request) -> Result<Request, Problem> {
    let judge = async |parts: &Parts| {
        caller::caller(hub, peer.address, &parts.method, &parts.headers, true).await.map_err(refusal)
    };
    let (mut parts, body) = request.into_parts();
    let mut caller = judge(&parts).await?;
    let body = match parts.method.is_safe() {
        true => body,
        false => {
            let whole = whole(body, JSON_BYTES_MAX).await?;
            caller = judge(&parts).await?;
            Body::from(whole)
        }
    };
    parts.extensions.insert(caller);
    Ok(Request::from_parts(parts, body))
}

fn refusal(out: Out) -> Problem {
    match out {
        Out::Stranger => Problem::new(StatusCode::UNAUTHORIZED, "no-token", "A token or a login is missing, wrong or over")
            .hint("send Authorization: Bearer with an API token, or log in; admin.token is for programs on the hub's own machine"),
        Out::ForeignPage => Problem::new(StatusCode::FORBIDDEN, "foreign-page", "A page of another site asked")
            .hint("a change by cookie has to say by Sec-Fetch-Site or Origin that it comes from the hub's own page; programs use a token"),
        Out::Broken(error) => error.into(),
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
