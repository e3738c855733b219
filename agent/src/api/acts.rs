//! What was done at this gateway that decides about who gets in; for this machine only.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use sync_protocol::clock::TimeQuality;
use utoipa::ToSchema;

use super::App;
use super::problem::Problem;
use super::view::time_text;
use crate::acts::{Acts, KeptAct};
use crate::keys::fetch_notes;

/// What was done, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActList {
    acts: Vec<ActView>,
    /// How many were dropped before the hub heard of them, in all.
    dropped: u64,
}

/// Something that was done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActView {
    number: u64,
    at: String,
    /// How good that time is: `unknown` is what the clock of the box said.
    #[schema(value_type = String)]
    time_quality: TimeQuality,
    /// `cli:1000`, `page`, `machine`, `app:NAME`, or `gateway` for itself.
    who: String,
    what: String,
    /// Ids, names and counts.
    #[schema(value_type = Object)]
    on: Value,
    /// Whether the hub has it in its audit.
    told: bool,
}

impl ActView {
    fn new(KeptAct { number, act, is_told }: KeptAct) -> ActView {
        let (at, time_quality) = (time_text(act.at_ms), act.time);
        ActView { number, at, time_quality, who: act.who, what: act.what, on: act.on, told: is_told }
    }
}

/// Lists what was done at this gateway that decides about who gets in: apps let in and thrown out, keys, enrolments.
#[utoipa::path(get, path = "/v1/acts", operation_id = "list_acts", responses((status = 200, body = ActList)))]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<ActList>, Problem> {
    fetch_notes(&app.store).await?;
    let Acts { acts, dropped } = app.store.read(|reader| reader.acts()).await.map_err(Problem::from)?;
    Ok(Json(ActList { acts: acts.into_iter().map(ActView::new).collect(), dropped }))
}
