//! Gateways that run with copies of one card: where they come from, and how many there may be.

use super::{Gateway, Snapshot};
use crate::id::Device;
use crate::identity::DeviceKey;
use crate::limits::TWINS_MAX;
use crate::message::Short;

/// A gateway and those that its card was copied from, back to the first.
///
/// # Errors
/// What the store reports.
pub(super) fn line_of<S: Snapshot>(store: &mut S, device: Device) -> Result<Vec<Device>, S::Error> {
    let (mut line, mut at) = (vec![device], device);
    while let Some(parent) = store.gateway(at)?.and_then(|gateway| gateway.twin_of).filter(|of| !line.contains(of)) {
        line.push(parent);
        at = parent;
    }
    Ok(line)
}

/// Whether so many boxes run with copies of this card, copies of copies included, that there is to be no other. Who was told that it
/// is one, and did not hear it, is no other; it is known by its print, if that is known.
///
/// # Errors
/// What the store reports.
pub(super) fn are_too_many<S: Snapshot>(store: &mut S, of: &Gateway, print: Option<Short>) -> Result<bool, S::Error> {
    let first = line_of(store, of.device)?.last().copied();
    let (mut twins, mut was_told) = (0, false);
    for one in store.gateways()?.iter().filter(|one| one.twin_of.is_some()) {
        was_told |= one.twin_of == Some(of.device) && Some(one.print) == print && one.turn == 0;
        twins += usize::from(line_of(store, one.device)?.last().copied() == first);
    }
    Ok(twins >= TWINS_MAX && !was_told)
}

/// Whether a box with a copy of this card was shut out, copies of copies included. An image from before the two were told apart has
/// the key of this card: who shows it in a box that nobody knows may be the one that was shut out. It does not count that a
/// gateway was shut out which had a card of its own by then.
///
/// # Errors
/// What the store reports.
pub(super) fn is_a_copy_shut_out<S: Snapshot>(store: &mut S, of: &Gateway) -> Result<bool, S::Error> {
    for one in store.gateways()?.iter().filter(|one| one.twin_of.is_some()) {
        let line = line_of(store, one.device)?;
        let Some(key) = key_of_copy(of, &line) else { continue };
        if (one.is_revoked && one.key == key) || store.revoked_keys(one.device)?.contains(&key) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The key that the first of a line got with the copy of this card; `None` if it has none.
fn key_of_copy(of: &Gateway, line: &[Device]) -> Option<DeviceKey> {
    let at = line.iter().position(|device| *device == of.device).filter(|at| *at > 0)?;
    let parted = line.iter().take(at).rev();
    Some(parted.fold(of.key.clone(), |key, device| key.part(device.0)))
}
