//! What the hub says to a gateway of another major version.

use super::Snapshot;
use crate::message::{PROTOCOL, Response, Status};

/// Tells who speaks another version of the protocol that this hub does not. Nothing of the request was read but its version, so
/// nothing is known of who speaks, and nothing changes.
///
/// # Errors
/// What the store reports.
pub fn upgrade<S: Snapshot>(store: &mut S, now_ms: u64) -> Result<Response, S::Error> {
    let response = Response::new(Status::Upgrade, store.epoch()?, now_ms, store.head()?);
    Ok(Response { reason: Some(format!("this hub speaks protocol version {PROTOCOL}")), ..response })
}
