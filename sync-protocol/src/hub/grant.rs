//! What the hub writes down before it answers: the next turn, and what the gateway is told of itself.
//!
//! It is kept apart from [`pull`](super::pull()), which reads and compresses thousands of rows, so that nobody waits at the
//! writer meanwhile. What is promised here is on disk before the first row is read.

use super::open::proven;
use super::{Conversation, Gateway, Store, ViewNews};
use crate::id::RecordKey;
use crate::message::{Response, Status, View};

/// What the hub has committed itself to; the pull makes the answer of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The gateway as it was written down.
    pub gateway: Gateway,
    /// The head, as far as no rows are needed for it.
    pub head: Response,
    /// Records that the gateway offered: it gets them back whole.
    pub joined: Vec<RecordKey>,
}

/// Ends the writing part of an exchange, after its ops were received.
///
/// # Errors
/// What the store reports.
pub fn grant<S: Store>(store: &mut S, with: &Conversation, now_ms: u64) -> Result<Grant, S::Error> {
    let request = &with.request;
    let mut gateway = store.gateway(with.gateway.device)?.unwrap_or_else(|| with.gateway.clone());
    let mut head = Response::new(Status::Ok, store.epoch()?, now_ms, request.cursor);
    if with.is_forked {
        head.acks = proven(store, &gateway, request)?;
        gateway.origin = store.new_origin(gateway.device, gateway.origin)?;
        head.status = Status::NewOrigin;
        head.origin = Some(gateway.origin);
    }
    gateway.turn_before = request.turn;
    gateway.turn = gateway.turn.saturating_add(1);
    head.turn = Some(gateway.turn);
    let rules = store.rules()?;
    if request.rules != rules.hash() {
        head.rules = Some(rules.text().into());
        gateway.echo_until = store.head()?;
    }
    if gateway.view == ViewNews::Changed {
        let (scopes, source, backfill) = (gateway.scopes.clone(), gateway.source, gateway.backfill);
        head.view = Some(View { scopes, source, backfill });
        gateway.view = ViewNews::Told;
    }
    store.set_gateway(&gateway)?;
    Ok(Grant { gateway, head, joined: with.joined.clone() })
}
