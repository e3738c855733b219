//! Gateways that run with copies of one card: where they come from, and how many there may be.

use super::{Gateway, Snapshot};
use crate::id::Device;
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
/// is one, and did not hear it, is no other.
///
/// # Errors
/// What the store reports.
pub(super) fn are_too_many<S: Snapshot>(store: &mut S, of: &Gateway, print: Short) -> Result<bool, S::Error> {
    let first = line_of(store, of.device)?.last().copied();
    let (mut twins, mut was_told) = (0, false);
    for one in store.gateways()?.iter().filter(|one| one.twin_of.is_some()) {
        was_told |= one.twin_of == Some(of.device) && one.print == print && one.turn == 0;
        twins += usize::from(line_of(store, one.device)?.last().copied() == first);
    }
    Ok(twins >= TWINS_MAX && !was_told)
}
