//! The audit, for those who see everything: it names records of all scopes.

use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::{json as json_reply, page};
use crate::audit::{Entry, What};
use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;
use crate::problem::Problem;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    limit: Option<usize>,
    #[serde(default)]
    after: u64,
}

pub(super) async fn list(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Query(Listing { limit, after }): Query<Listing>,
) -> Result<Response, Problem> {
    caller.must_see_everything()?;
    let limit = limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let look = move |tx: &mut crate::store::Tx<'_>| {
        let found = tx.audit_after(after, limit)?;
        let next = found.last().filter(|_| found.len() == limit).map(|entry| entry.number.to_string());
        let target = json!({ "after": after, "shown": found.len() });
        Ok::<_, HubError>((page("audit", found.iter().map(Entry::line).collect(), next), target))
    };
    Ok(json_reply(StatusCode::OK, &hub.show(caller.actor, What::ReadAudit, look).await?))
}
