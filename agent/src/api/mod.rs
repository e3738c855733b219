//! The API: what health workers' apps speak with, over the clinic's own network, and commands and the page on this machine.
//!
//! Handlers only translate: a request becomes one closure on the store, its result a response. An answer of success is
//! sent only after the commit that holds the record is on disk. Every refusal is a [`Problem`]. Who asks is settled before a
//! handler runs: on this machine everybody is let in ([`local`]), from the network who has a token ([`network`]).
//!
//! Deliberately not here: merging, validation, SQL, and anything that waits for the hub.

mod acts;
mod apps;
mod batch;
mod body;
mod caller;
mod changes;
mod guard;
mod hub;
mod page;
mod paging;
mod patience;
mod people;
mod problem;
mod receipts;
mod records;
mod revoked;
mod routes;
mod serve;
#[cfg(test)]
mod tests;
mod view;
mod write;

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use sync_protocol::id::RecordType;

pub use problem::{FieldProblem, Problem};
pub use serve::{Entry, serve};

use self::caller::Caller;
pub(crate) use self::caller::WHO_HEADER;
use self::guard::Manners;
use self::routes::{FOR_APPS, FOR_STRANGERS, FOR_TECHNICIANS};
use crate::apps::{Access, Door};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::network::Entrance;
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
    /// Who is let in from the network.
    pub door: Door,
    /// Where they come in; `None` if the gateway is closed to the network.
    pub entrance: Option<Arc<Entrance>>,
}

/// Routes with the document that describes them.
fn described(app: &App, router: Router<App>, document: fn() -> Response) -> Router<App> {
    router
        .route_layer(middleware::from_fn_with_state(app.clone(), revoked::guard))
        .route("/openapi.json", get(move || std::future::ready(document())))
        .fallback(|| async { Problem::not_found("No such path. /openapi.json lists what there is.") })
}

/// Everything, for who is on this machine and was looked at.
pub fn router(app: App) -> Router {
    let at_machine = (FOR_APPS.router)().merge((FOR_TECHNICIANS.router)()).merge((FOR_STRANGERS.router)());
    let router = described(&app, at_machine, || openapi(routes::DOCUMENT)).merge(page::routes());
    router.layer(middleware::from_fn(guard::admit_machine)).with_state(app)
}

/// What the listener for this machine serves.
pub fn local(app: App) -> Router {
    Manners::local().guard(router(app))
}

/// What the listener for the network serves: records to who shows a token, and a token to who shows a code.
pub fn network(app: App, entrance: &Entrance) -> Router {
    let manners = Manners::network(entrance.names(), entrance.config.origins.clone());
    let admitted = described(&app, (FOR_APPS.router)(), || openapi(routes::document_for_apps()));
    let admitted = admitted.layer(middleware::from_fn_with_state(app.clone(), guard::admit_app));
    manners.guard(admitted.merge((FOR_STRANGERS.router)()).with_state(app))
}

fn openapi(document: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

/// Everything about the gateway: what is held, what waits, what needs a person, when it last reached the hub. To an app over the
/// network without the hub's address, files and error texts.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
async fn status(State(app): State<App>, caller: Caller) -> Result<Json<Status>, Problem> {
    let mut status = status_of(&app).await?;
    let is_app = caller.app()?.is_some();
    let may = |name: &str| RecordType::new(name).is_ok_and(|named| caller.may(Access::Read, &named).unwrap_or(false));
    status.records.retain(|of_type| may(&of_type.record_type));
    Ok(Json(if is_app { status.for_app() } else { status }))
}

async fn status_of(app: &App) -> Result<Status, Problem> {
    let now_ms = app.clock.now().now_ms;
    let facts = app.store.read(|reader| reader.status()).await.map_err(Problem::from)?;
    Ok(Status::new(&facts, &app.disk, now_ms))
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
