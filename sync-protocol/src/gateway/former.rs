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
    /// Whether the hub has to be shown these ops.
    pub debt: Debt,
}

/// What a hub has to be shown of an incarnation that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Debt {
    /// Nothing: the hub had it all when it was asked last.
    #[default]
    Nothing,
    /// The hub was put back since then.
    Owed,
    /// Nothing, ever: it was written for another hub, and is none of this one's business.
    Elsewhere,
}

/// The incarnations of which a hub that was put back may lack something, oldest first; none before everything else was compared.
pub fn owed(state: &GatewayState) -> Vec<Origin> {
    let may_ask = state.recovers.is_none() && !state.is_revoked;
    state.former.iter().filter(|former| may_ask && former.debt == Debt::Owed).map(|former| former.origin).collect()
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
    for former in state.former.iter_mut().filter(|former| former.origin == origin && former.debt == Debt::Owed) {
        former.debt = Debt::Nothing;
    }
    store.set_state(&state)
}

/// The hub was put back, and may lack something of each incarnation that wrote for it.
pub(super) fn owe(state: &mut GatewayState) {
    for former in state.former.iter_mut().filter(|former| former.debt == Debt::Nothing) {
        former.debt = Debt::Owed;
    }
}

/// The gateway belongs to another hub now. What it wrote as one of another hub's is never shown to this one.
pub fn leave_hub(state: &mut GatewayState) {
    state.former.iter_mut().for_each(|former| former.debt = Debt::Elsewhere);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_for_another_hub_is_never_owed_to_this_one() {
        let former = |n| Former { origin: Origin(n), bounds: Vec::new(), debt: Debt::Nothing };
        let mut state = GatewayState { former: vec![former(1), former(2)], ..GatewayState::default() };
        owe(&mut state);
        assert_eq!(owed(&state), [Origin(1), Origin(2)]);
        leave_hub(&mut state);
        state.former.push(former(3));
        owe(&mut state);
        assert_eq!(owed(&state), [Origin(3)]);
    }
}
