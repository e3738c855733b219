//! What a hub that was put back may lack of this gateway's earlier incarnations.

use std::time::Duration;

use sync_protocol::gateway::former::{hand_in, handed_in, owed};

use super::pulse::Pulse;
use super::rescue::{self, Rescue};
use super::transport::Transport;
use crate::error::Error;
use crate::store::{OldDatabase, Store};

/// Hands in one after the other. Tells whether the hub lacked anything. What it does not take yet is shown again after the next sync.
///
/// # Errors
/// As [`rescue::hand_in`]; what was handed in until then is at the hub.
pub(super) async fn hand_in_owed(store: &Store, transport: &Transport, pulse: &Pulse) -> Result<bool, Error> {
    let mut is_news = false;
    let state = store.read(|reader| reader.state()).await?;
    for origin in owed(&state) {
        let home = store.home();
        let (old, last) = store.read(move |_| OldDatabase::of_former(&home, origin)).await?;
        let rescue = Rescue { old, rescuer: hand_in(&state, origin, last) };
        let (rescue, result) = rescue::hand_in(rescue, transport, |_| pulse.beat(Duration::ZERO)).await;
        match result {
            // It may be of a time that this hub knows nothing of; the next one is not.
            Err(error @ Error::Denied(_)) => {
                tracing::warn!(
                    origin = origin.0,
                    "the hub does not take what was written under an earlier origin: {error}"
                );
                continue;
            }
            result => result?,
        }
        let tally = rescue.rescuer.tally();
        tracing::info!(
            origin = origin.0,
            ?tally,
            "the hub was put back: what was written under an earlier origin was compared"
        );
        is_news |= tally.in_place + tally.apart > 0;
        if tally.waiting == 0 {
            store.write(move |tx| handed_in(tx, origin)).await?;
        }
    }
    Ok(is_news)
}
