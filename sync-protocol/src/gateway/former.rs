//! The incarnations that a gateway was before its present one, and what a hub has lost of them.
//!
//! A hub that was put back gets what the present incarnation wrote as ops once more. What was written under an earlier origin comes
//! back with the records that the gateway shows, but not where a record is no longer here, or was here only in part. So when all
//! records were compared, each earlier incarnation hands in its ops as the database of a card that is out of use does
//! ([`super::rescue`]): the hub says first what it has, and mostly it has all.

use super::rescue::Rescuer;
use super::{GatewayState, Store};
use crate::id::{Origin, Seq};
use crate::message::Bound;

/// An incarnation that this gateway was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// The origin under which it wrote.
    pub origin: Origin,
    /// Ops of it that were written under the numbers of an epoch that is gone.
    pub bounds: Vec<Bound>,
    /// The hub was put back since it was asked last what it has of these ops.
    pub is_owed: bool,
}

/// The incarnations of which a hub that was put back may lack something, oldest first; none before everything else was compared.
pub fn owed(state: &GatewayState) -> Vec<Origin> {
    let may_ask = state.recovers.is_none() && !state.is_revoked;
    state.former.iter().filter(|former| may_ask && former.is_owed).map(|former| former.origin).collect()
}

/// Begins to hand in an incarnation; `last` is the last op of each stream that is here.
pub fn hand_in(state: &GatewayState, origin: Origin, last: [Seq; 3]) -> Rescuer {
    let bounds = state.former.iter().find(|former| former.origin == origin).map(|former| former.bounds.clone());
    let of = GatewayState { origin, bounds: bounds.unwrap_or_default(), streams: Default::default(), ..state.clone() };
    Rescuer::new(&of, last)
}

/// The hub has all that there is of an incarnation.
///
/// # Errors
/// What the store reports; the caller rolls back then.
pub fn handed_in<S: Store>(store: &mut S, origin: Origin) -> Result<(), S::Error> {
    let mut state = store.state()?;
    for former in state.former.iter_mut().filter(|former| former.origin == origin) {
        former.is_owed = false;
    }
    store.set_state(&state)
}
