//! The feed for the apps: what changed since a position, by long poll or as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use sync_protocol::merge::Presence;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::caller::Caller;
use super::problem::Problem;
use crate::apps::Access;
use crate::store::FeedItem;

/// Longest wait of a long poll, seconds.
const WAIT_SECONDS_MAX: u64 = 60;
const LIMIT_MAX: usize = 1_000;

/// Where to begin and how long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FeedParams {
    /// The `next` of the answer before; 0 begins at the beginning.
    #[serde(default)]
    since: u64,
    /// Seconds to wait if nothing is new, at most 60.
    #[serde(default)]
    wait: u64,
}

/// What changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Feed {
    changes: Vec<Change>,
    /// Pass as `since` next time.
    next: u64,
}

/// One record that changed; of several changes of one record only the last is told.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Change {
    #[serde(rename = "type")]
    record_type: String,
    id: String,
    etag: String,
    /// Deleted, or no longer in this gateway's catchment.
    gone: bool,
}

impl Feed {
    fn new(since: u64, items: &[FeedItem], caller: &Caller) -> Result<Self, Problem> {
        caller.still()?;
        let mut changes = Vec::new();
        for item in items {
            if caller.may(Access::Read, &item.key.record_type)? {
                changes.push(Change {
                    record_type: item.key.record_type.to_string(),
                    id: item.key.id.to_string(),
                    etag: item.etag.clone(),
                    gone: item.is_gone || item.presence == Presence::Deleted,
                });
            }
        }
        Ok(Feed { changes, next: items.last().map_or(since, |item| item.feed) })
    }
}

/// What changed since a position, whoever changed it. With `Accept: text/event-stream` the answer goes on for ever; each
/// event's id is a position, and `Last-Event-ID` goes on after it.
#[utoipa::path(get, path = "/v1/changes", params(FeedParams), responses((status = 200, body = Feed)))]
pub(crate) async fn changes(
    State(app): State<App>,
    caller: Caller,
    Query(params): Query<FeedParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wants_stream =
        headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("text/event-stream"));
    if wants_stream {
        let resumed = headers.get("last-event-id").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let since = resumed.unwrap_or(params.since);
        let events = stream::unfold((app, caller, since), |(app, caller, since)| async move {
            let feed = next(&app, &caller, since, None).await.ok()?;
            let event = Event::default().id(feed.next.to_string()).json_data(&feed.changes).ok()?;
            let next = feed.next;
            Some((Ok::<_, Infallible>(event), (app, caller, next)))
        });
        return Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response());
    }
    let wait = Duration::from_secs(params.wait.min(WAIT_SECONDS_MAX));
    Ok(Json(next(&app, &caller, params.since, Some(wait)).await?).into_response())
}

/// The changes after `since` that the caller may see; waits for some if there are none, as long as told or for ever.
async fn next(app: &App, caller: &Caller, since: u64, wait: Option<Duration>) -> Result<Feed, Problem> {
    let mut since = since;
    let until = wait.map(|wait| Instant::now() + wait);
    // Registered before the query, so that a change between the two is not missed.
    let mut latest = app.store.feed();
    latest.mark_unchanged();
    loop {
        // Whoever listened before the gateway was shut out hears no more.
        if app.store.is_revoked() {
            return Err(Problem::revoked());
        }
        let items: Vec<FeedItem> =
            app.store.read(move |reader| reader.changes(since, LIMIT_MAX)).await.map_err(Problem::from)?;
        let feed = Feed::new(since, &items, caller)?;
        if !feed.changes.is_empty() || wait.is_some_and(|wait| wait.is_zero()) {
            return Ok(feed);
        }
        if !items.is_empty() {
            // Nothing of it is for this app: there may be more.
            since = feed.next;
            continue;
        }
        let changed = latest.changed();
        match until {
            Some(until) => match tokio::time::timeout_at(until, changed).await {
                Ok(Ok(())) => {}
                _ => return Feed::new(since, &[], caller),
            },
            None => changed.await.map_err(|_| Problem::from(crate::error::Error::Closed))?,
        }
    }
}
