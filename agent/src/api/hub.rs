//! What a technician asks of the running gateway: to join a hub, and to sync now. Not for apps on the network.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::body::{expect_type, read};
use super::caller::Person;
use super::problem::Problem;
use crate::error::Error;
use crate::sync::{self, Consent, Report, Transport, Trust, Way};

const BODY_BYTES_MAX: usize = 4 * 1024;

/// Syncs with the hub now, and tells how it went.
#[utoipa::path(post, path = "/v1/sync", responses((status = 200, body = Report), (status = 502, body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn sync_now(State(app): State<App>) -> Result<Json<Report>, Problem> {
    Ok(Json(app.sync.sync_now().await.map_err(Problem::from_sync)?))
}

/// Which hub, and the code that its admin made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Enrolling {
    /// Where it is; not needed if the code says so.
    #[serde(default)]
    hub_url: Option<String>,
    code: String,
    /// Whether a gateway that is enrolled may get another name.
    #[serde(default)]
    again: bool,
    /// Whether the hub stands in the place of the one before, which is lost, and may be shown all that this one confirmed.
    #[serde(default)]
    new_hub: bool,
}

/// The name that the hub knows this gateway by.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Enrolled {
    name: String,
    hub_url: String,
}

/// Joins a hub with a one-time code. What was captured before goes up with the next sync.
#[utoipa::path(post, path = "/v1/enroll", request_body = Enrolling,
    responses((status = 200, body = Enrolled), (status = 502, body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn enroll(
    State(app): State<App>,
    Person(who): Person,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Enrolled>, Problem> {
    expect_type(&headers, "application/json")?;
    app.disk.check_card()?;
    let body = read(body, BODY_BYTES_MAX, "The body").await?;
    let wish: Enrolling = serde_json::from_slice(&body).map_err(|e| {
        Problem::bad_request(format!("The body is not an object with hub_url and code: see column {}.", e.column()))
    })?;
    let Enrolling { hub_url, code, again, new_hub } = wish;
    let way = Way::find(hub_url.as_deref(), &code).map_err(|error| Problem::bad_request(format!("{error}.")))?;
    match Transport::new(&way.hub_url, &app.clock, &Trust::System) {
        Err(Error::Config(_)) => {
            return Err(Problem::bad_request("hub_url must be an address such as https://hub.example.org."));
        }
        Err(error @ Error::Told { .. }) => return Err(Problem::bad_request(format!("{error}."))),
        _ => {}
    }
    let name =
        sync::enroll_by(&app.store, &app.clock, hub_url.as_deref(), &code, Consent { again, new_hub }, &who).await;
    let name = name.map_err(|error| Problem::from_enrolment(error, &way.hub_url))?;
    app.sync.nudge();
    Ok(Json(Enrolled { name, hub_url: way.hub_url }))
}
