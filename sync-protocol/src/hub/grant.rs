//! What the hub writes down before it answers: the next turn, and what the gateway is told of itself.
//!
//! It is kept apart from [`pull`](super::pull()), which reads and compresses thousands of rows, so that nobody waits at the
//! writer meanwhile. What is promised here is on disk before the first row is read.

use std::collections::BTreeMap;

use super::open::{ack, agreed_upto, go_on_differently};
use super::{Conversation, Gateway, Standing, Store, ViewNews};
use super::{erase, revoked};
use crate::id::{RecordKey, Seq, Stream};
use crate::message::{Ack, Request, Response, Status, View};

/// What the hub has committed itself to; the pull makes the answer of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The gateway as it was written down.
    pub gateway: Gateway,
    /// The head, as far as no rows are needed for it.
    pub head: Response,
    /// Records that the gateway offered: it gets them back whole.
    pub joined: Vec<RecordKey>,
    /// Streams of which it showed ops, and how far both have the same: nothing behind that is acknowledged yet.
    pub agreed: BTreeMap<Stream, Seq>,
}

/// Ends the writing part of an exchange, after its ops were received.
///
/// # Errors
/// What the store reports.
pub fn grant<S: Store>(store: &mut S, with: &Conversation, now_ms: u64) -> Result<Grant, S::Error> {
    let request = &with.request;
    let mut gateway = store.gateway(with.gateway.device)?.unwrap_or_else(|| with.gateway.clone());
    if with.standing == Standing::ShutOut {
        let head = revoked::answer(store, with, now_ms)?;
        return Ok(Grant { gateway, head, joined: Vec::new(), agreed: BTreeMap::new() });
    }
    if with.standing == Standing::Guest || !with.forked.is_empty() {
        let head = answer_guest(store, with, &gateway, now_ms)?;
        return Ok(Grant { gateway, head, joined: Vec::new(), agreed: BTreeMap::new() });
    }
    let mut head = Response::new(Status::Ok, store.epoch()?, now_ms, request.cursor);
    let is_newest = request.turn == gateway.turn;
    if !gateway.expects(request.turn) {
        // It has shown a later turn meanwhile. Who waits for this answer, if anybody does, keeps the one that it has.
        return Ok(Grant { gateway, head, joined: with.joined.clone(), agreed: shown(with) });
    }
    if request.about.is_some() || !shown(with).is_empty() {
        erase::erase_children(store, with)?;
    }
    head.takes_gaps = request.about.is_some();
    gateway.turn = gateway.turn.saturating_add(1);
    if request.turn != gateway.turn_before {
        (gateway.turn_before, gateway.turn_first) = (request.turn, gateway.turn);
    }
    head.turn = Some(gateway.turn);
    if request.recovers.is_none() {
        gateway.epoch = head.epoch;
    }
    note_view(&mut gateway, request, is_newest);
    if request.erased.is_some() || request.about.is_some() {
        gateway.erased = request.erased;
    }
    let rules = store.rules()?;
    if request.rules != rules.hash() {
        head.rules = Some(rules.text().into());
        gateway.echo_until = store.head()?;
    }
    // One that compares what a restored hub lost says first what it holds in the view that it has.
    if gateway.view == ViewNews::Changed && request.recovers.is_none() {
        let (scopes, source, backfill) = (gateway.scopes.clone(), gateway.source, gateway.backfill);
        head.view = Some(View { scopes, source, backfill });
        gateway.view = ViewNews::Told;
    }
    store.set_gateway(&gateway)?;
    Ok(Grant { gateway, head, joined: with.joined.clone(), agreed: shown(with) })
}

/// Streams of which ops were shown, up to where both are known to have the same.
fn shown(with: &Conversation) -> BTreeMap<Stream, Seq> {
    let said = |stream| with.request.streams.iter().find(|at| at.stream == stream).map(|at| at.acked);
    let is_shown = |(stream, agreed): &(&Stream, &Seq)| said(**stream).is_some_and(|acked| **agreed > acked);
    with.agreed.iter().filter(is_shown).map(|(stream, agreed)| (*stream, *agreed)).collect()
}

/// What the request says of where the gateway is, and of what it takes for its view.
fn note_view(gateway: &mut Gateway, request: &Request, is_newest: bool) {
    if gateway.view == ViewNews::Told {
        // The newest turn came with the news; whoever shows it has heard them.
        gateway.view = if is_newest { ViewNews::Known } else { ViewNews::Changed };
        gateway.backfill &= !is_newest;
    }
    let Some(about) = &request.about else { return };
    // If this is another box than before, one with a copy of the card may still run: its turn will be an old one.
    gateway.print = about.print;
    if about.view != gateway.view_hash() && gateway.view == ViewNews::Known {
        // It or the hub was put back to before its view was changed.
        (gateway.view, gateway.backfill) = (ViewNews::Changed, true);
    }
}

/// Who speaks under an older identity hears what of it is here. As long as it has more to show it is asked to go on, so
/// that in the end nothing goes under another number that somebody with the same card may send under this one.
fn answer_guest<S: Store>(
    store: &mut S,
    with: &Conversation,
    gateway: &Gateway,
    now_ms: u64,
) -> Result<Response, S::Error> {
    let request = &with.request;
    let (mut acks, mut is_left, mut has_moved) = (Vec::<Ack>::new(), false, false);
    for at in &request.streams {
        let agreed = agreed_upto(with, at.stream, at.acked);
        if agreed > at.acked {
            acks.push(ack(store, request.origin, at.stream, at.acked, Some(agreed))?);
            has_moved = true;
        }
        is_left |= agreed < at.last && !with.forked.contains(&at.stream);
    }
    let goes_on = is_left && (has_moved || request.asks || with.is_cut);
    let head = match goes_on {
        true => Response { more: true, ..Response::new(Status::Compared, store.epoch()?, now_ms, request.cursor) },
        false => go_on_differently(store, gateway, request, now_ms)?,
    };
    Ok(Response { acks, ..head })
}
