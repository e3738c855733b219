//! What a hub that was put back does not know any more, and can tell from what its gateways say.

use super::copy::lineage;
use super::open::begin_epoch;
use super::twins::{are_too_many, is_a_copy_shut_out};
use super::{Gateway, Snapshot, Store, ViewNews, told};
use crate::gateway::UNENROLLED;
use crate::id::{Device, Origin};
use crate::limits::{HUB_NUMBERS_PER_SECOND, HUB_NUMBERS_SKIPPED};
use crate::message::{Request, Short};

/// Whether a gateway speaks under an origin that only this hub can have given it, and of which it knows nothing: then it was
/// put back and nobody said so.
pub(super) fn is_forgotten<S: Snapshot>(store: &mut S, gateway: &Gateway, request: &Request) -> Result<bool, S::Error> {
    let is_present = request.origin.is_of(store.epoch()?);
    Ok(is_present && store.device_of(request.origin)? != Some(gateway.device))
}

/// Whether an origin was given by this hub in a time that it lost: after a restore the numbers of new ones are others.
pub(super) fn is_of_lost_time<S: Snapshot>(store: &mut S, request: &Request) -> Result<bool, S::Error> {
    let epoch = store.epoch()?;
    let is_one = request.origin != Origin::HUB && request.origin != UNENROLLED;
    Ok(is_one && !request.origin.is_of(epoch) && store.device_of(request.origin)?.is_none())
}

/// An origin that is known here and from which one goes on that was given in the lost time, if not at once: the last that this gateway
/// is known to have had, or the one that its card was copied from. So what both have written is told to be the same.
pub(super) fn origin_before<S: Snapshot>(store: &mut S, gateway: &Gateway, origin: Origin) -> Result<Origin, S::Error> {
    let parent = gateway.twin_of.map(|device| store.gateway(device)).transpose()?.flatten();
    let after = match gateway.origin == origin {
        true => parent.map_or(origin, |parent| parent.origin),
        false => gateway.origin,
    };
    // Another copy may have been sent on from this very origin before its turn came: then that one is the earlier, and stays so.
    let is_later = lineage(store, after)?.contains(&origin);
    Ok(if is_later { origin } else { after })
}

/// 2026-01-01, milliseconds since 1970.
const YEAR_2026_MS: u64 = 1_767_225_600_000;

/// The number after which those go on that a hub gives, when it is started or finds that it was put back; `last` is the last that it
/// knows of. Nobody knows which it gave in the time that was lost, and gateways still show them. Of two hubs that are started on the
/// same older state the later one has the higher numbers, as long as the clock of the machine does not go back as well.
pub fn first_number(last: u64, now_ms: u64) -> u64 {
    let by_time = now_ms.saturating_sub(YEAR_2026_MS) / 1_000 * HUB_NUMBERS_PER_SECOND as u64;
    (last + HUB_NUMBERS_SKIPPED as u64).max(by_time)
}

/// The gateway of a device that is not known here, if it was parted from one that is, in a time that this hub lost: its key is
/// made of the other's. It is taken in again, as the one that it was; else this is why not.
///
/// Whoever has a card can make such keys of it, for any number. So it is no more than if the hub parted it now, and a number that
/// this epoch has yet to give is left behind with the epoch.
pub(super) fn twin<S: Store>(
    store: &mut S,
    request: &Request,
    now_ms: u64,
) -> Result<Result<Gateway, &'static str>, S::Error> {
    let is_parent = |known: &Gateway| known.key.part(request.device.0).proves(request.turn, &request.proof);
    let parent = store.gateways()?.into_iter().find(is_parent).filter(|parent| !parent.is_revoked);
    let Some(parent) = parent.filter(|_| request.device != Device(0)) else { return Ok(Err(told::NOT_ENROLLED)) };
    if is_a_copy_shut_out(store, &parent)? {
        return Ok(Err(told::COPY_SHUT_OUT));
    }
    if are_too_many(store, &parent, None)? {
        return Ok(Err(told::TOO_MANY_COPIES));
    }
    if request.device.is_of(store.epoch()?) && begin_epoch(store, &parent, now_ms)?.is_none() {
        return Ok(Err(told::TOO_MANY_LOSSES));
    }
    let twin = Gateway {
        turn: request.turn,
        turn_before: request.turn,
        turn_first: request.turn,
        view: ViewNews::Known,
        backfill: false,
        ..parent.twin(request.device, request.origin, Short::default())
    };
    store.claim_twin(&twin)?;
    Ok(Ok(twin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Device;
    use crate::memory::MemoryHub;

    #[test]
    fn who_comes_first_stays_first_and_nobody_goes_on_from_himself() {
        let mut hub = MemoryHub::default();
        let known = hub.enroll(Vec::new(), crate::id::Source::default(), crate::identity::DeviceKey::NONE);
        let lost = Origin(known.origin.0 + 1_000);
        assert_eq!(origin_before(&mut hub, &known, lost).unwrap(), known.origin);
        // One copy was sent on from the lost origin before another one showed it.
        let next = hub.new_origin(Device(known.device.0), lost).unwrap();
        let gateway = Gateway { origin: next, ..known };
        assert_eq!(origin_before(&mut hub, &gateway, lost).unwrap(), lost, "then it is the first");
    }
}
