//! The local API: what health workers' apps speak with, over the clinic's own network.
//!
//! Handlers only translate: a request becomes one closure on the store, its result a response. An answer of success is
//! sent only after the commit that holds the record is on disk. Every refusal is a [`Problem`].
//!
//! Deliberately not here: merging, validation, SQL, and anything that waits for the hub.

mod batch;
mod body;
mod changes;
mod hub;
mod people;
mod problem;
mod receipts;
mod records;
mod revoked;
mod serve;
mod view;
mod write;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, middleware};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use problem::{FieldProblem, Problem};
pub use serve::serve;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::status::Status;
use crate::store::Store;
use crate::sync::SyncHandle;

/// What every handler has.
#[derive(Debug, Clone)]
pub struct App {
    /// The database.
    pub store: Store,
    /// The wall clock.
    pub clock: Clock,
    /// Room on the card.
    pub disk: Disk,
    /// The sync loop.
    pub sync: SyncHandle,
}

/// The document that `/openapi.json` shows. Its paths come from the handlers themselves.
#[derive(OpenApi)]
#[openapi(info(
    title = "Outpost gateway",
    description = "Local API of an Outpost gateway: records in and out with no internet. An answer of success means that \
                   the record is on disk. Errors are RFC 9457 problem documents."
))]
struct Document;

/// The whole API.
pub fn router(app: App) -> Router {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(records::put, records::patch, records::get, records::delete))
        .routes(routes!(records::post, records::list))
        .routes(routes!(records::history))
        .routes(routes!(batch::batch))
        .routes(routes!(changes::changes))
        .routes(routes!(receipts::receipts))
        .routes(routes!(people::conflicts))
        .routes(routes!(people::settle))
        .routes(routes!(people::parked))
        .routes(routes!(people::decide))
        .routes(routes!(status))
        .routes(routes!(hub::sync_now))
        .routes(routes!(hub::enroll))
        .routes(routes!(healthz))
        .split_for_parts();
    let document = serde_json::to_string(&document).unwrap_or_default();
    router
        .route_layer(middleware::from_fn_with_state(app.clone(), revoked::guard))
        .route("/openapi.json", axum::routing::get(move || std::future::ready(openapi(document.clone()))))
        .fallback(|| async { Problem::not_found("No such path. /openapi.json lists what there is.") })
        .with_state(app)
}

fn openapi(document: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

/// Everything about the gateway: what is held, what waits, what needs a person, when it last reached the hub.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
async fn status(State(app): State<App>) -> Result<Json<Status>, Problem> {
    let now_ms = app.clock.now().now_ms;
    let facts = app.store.read(|reader| reader.status()).await.map_err(Problem::from)?;
    Ok(Json(Status::new(&facts, &app.disk, now_ms)))
}

/// Answers 200 while the database takes writes.
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "The gateway takes records")))]
async fn healthz(State(app): State<App>) -> Result<&'static str, Problem> {
    app.disk.check_room()?;
    if app.store.is_full() {
        return Err(Problem::disk_full());
    }
    app.store.write(|_tx| Ok::<_, Problem>(())).await?;
    Ok("ok\n")
}
