//! A gateway that an admin shut out. What it still sends waits for a person, whatever it says, and nothing goes down to it.
//!
//! Who speaks may be a thief. So nothing changes at the hub but what waits: no turn, no origin, no epoch, no twin.

use super::open::{ack, agreed_upto, is_on_chain, rebase};
use super::quarantine::{free_waiting, reconsider};
use super::{Conversation, Gateway, HeldOp, Opened, Snapshot, Standing, Store};
use crate::id::Device;
use crate::limits::{REVOKED_BYTES_MAX, REVOKED_OPS_MAX};
use crate::message::{Request, Response, Short, Status};

/// Why what such a gateway sends waits.
pub(super) const REASON: &str = "came from a gateway that was revoked";

/// What such a gateway and its admin are told when too much waits already.
const FULL: &str =
    "this gateway was revoked, and as much of it waits as may: let it go or drop it, and the gateway sends on";

/// Whether this turn and proof are of a gateway that was shut out, or of a card of one that was replaced since.
///
/// # Errors
/// What the store reports.
pub fn is_shut_out<S: Snapshot>(store: &mut S, device: Device, turn: u64, proof: &Short) -> Result<bool, S::Error> {
    let Some(gateway) = store.gateway(device)? else { return Ok(false) };
    if gateway.key.proves(turn, proof) {
        return Ok(gateway.is_revoked);
    }
    Ok(store.revoked_keys(device)?.iter().any(|key| key.proves(turn, proof)))
}

/// Decides whether what it sends follows on what is here.
pub(super) fn open<S: Store>(
    store: &mut S,
    gateway: Gateway,
    request: Request,
    now_ms: u64,
) -> Result<Opened, S::Error> {
    // The key of a card that was replaced speaks for what that card wrote, and not for the new one.
    let is_replaced = !gateway.key.proves(request.turn, &request.proof);
    let is_of_new_card = request.origin == gateway.origin || gateway.offered == Some(request.origin);
    if store.device_of(request.origin)? != Some(gateway.device) || (is_replaced && is_of_new_card) {
        let response = Response::new(Status::Revoked, store.epoch()?, now_ms, request.cursor);
        return Ok(Opened::Refused(Box::new(response)));
    }
    let (ops, bytes) = store.held_for_person(gateway.device)?;
    let room = ((REVOKED_OPS_MAX as u64).saturating_sub(ops), (REVOKED_BYTES_MAX as u64).saturating_sub(bytes));
    if room.0 == 0 || room.1 == 0 {
        let reason = Some(FULL.to_owned());
        let response = Response { reason, ..Response::new(Status::Revoked, store.epoch()?, now_ms, request.cursor) };
        return Ok(Opened::Refused(Box::new(response)));
    }
    if request.epoch != store.epoch()? {
        // So that it sends what a hub that was put back has lost.
        return rebase(store, &gateway, &request, now_ms);
    }
    let mut with = Conversation { room, ..Conversation::new(gateway, request, now_ms, Standing::ShutOut) };
    for at in &with.request.streams {
        let mark = store.mark(with.request.origin, at.stream)?;
        match at.acked <= mark.acked && is_on_chain(store, with.request.origin, at, &mark)? {
            true => drop(with.agreed.insert(at.stream, at.acked)),
            false => drop(with.forked.insert(at.stream)),
        }
    }
    Ok(Opened::Ready(Box::new(with)))
}

/// Whether another op of so many bytes may wait; the last one may be as large as any.
pub(super) fn takes(room: &mut (u64, u64), bytes: usize) -> bool {
    let takes = room.0 > 0 && room.1 > 0;
    *room = (room.0.saturating_sub(1), room.1.saturating_sub(bytes as u64));
    takes
}

/// Tells it what arrived, and that it is shut out.
pub(super) fn answer<S: Snapshot>(store: &mut S, with: &Conversation, now_ms: u64) -> Result<Response, S::Error> {
    let request = &with.request;
    let mut head = Response::new(Status::Revoked, store.epoch()?, now_ms, request.cursor);
    let (mut is_left, mut has_moved) = (false, false);
    for at in &request.streams {
        let agreed = agreed_upto(with, at.stream, at.acked);
        if agreed > at.acked {
            head.acks.push(ack(store, request.origin, at.stream, at.acked, Some(agreed))?);
            has_moved = true;
        }
        is_left |= agreed < at.last && !with.forked.contains(&at.stream);
    }
    head.more = is_left && (has_moved || request.asks || with.is_cut);
    Ok(head)
}

/// Lets a gateway in again. What it sent meanwhile under its present identity is judged as if it had not been shut out; what
/// came from a card that was replaced goes on waiting. Tells how many records that freed.
///
/// # Errors
/// What the store reports.
pub fn allow<S: Store>(store: &mut S, device: Device) -> Result<u64, S::Error> {
    let Some(gateway) = store.gateway(device)? else { return Ok(0) };
    let gateway = Gateway { is_revoked: false, ..gateway };
    store.set_gateway(&gateway)?;
    let mut freed = 0;
    for (key, origin) in store.all_held()? {
        // What it was told to go on under is its own, too: nobody accepts that from who is shut out.
        if origin != gateway.origin && gateway.offered != Some(origin) {
            continue;
        }
        for held in store.held_of(&key, origin)? {
            if held.for_person && held.reason == REASON {
                store.hold(&HeldOp { for_person: false, ..held }, &[])?;
            }
        }
        if reconsider(store, &key, origin)? {
            freed += 1;
            free_waiting(store, &key)?;
        }
    }
    Ok(freed)
}
