//! Enrolment: a one-time code from the hub's admin becomes an identity, and what was captured before it is renumbered.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use sync_protocol::gateway::{Store as _, UNENROLLED, adopt_origin};
use sync_protocol::id::{Device, Epoch, Origin, Scope, Source};
use sync_protocol::rules::Rules;

use super::transport::Transport;
use crate::clock::unix_ms;
use crate::error::Error;
use crate::store::{Enrolment, Store};

#[derive(Serialize)]
struct Wish<'a> {
    code: &'a str,
    version: &'static str,
    hardware: std::collections::BTreeMap<&'static str, String>,
}

#[derive(Deserialize)]
struct Granted {
    device: u32,
    origin: u32,
    token: String,
    epoch: u32,
    name: String,
    scopes: Vec<String>,
    source: u8,
    rules: String,
}

/// Enrols this gateway at the hub, and tells the name it got. A gateway that is enrolled already is enrolled anew: its
/// unsent records go on under the new identity.
///
/// # Errors
/// [`Error::Denied`] with the hub's words if the code is wrong, used or too old; [`Error::Offline`] if it cannot be reached.
pub async fn enroll(store: &Store, hub_url: &str, code: &str) -> Result<String, Error> {
    let transport = Transport::new(hub_url)?;
    let wish = Wish { code: code.trim(), version: env!("CARGO_PKG_VERSION"), hardware: hardware() };
    let granted: Granted = transport.post_json("/enroll/v1", &wish).await?;
    let token = token(&granted.token)?;
    let scopes = granted.scopes.iter().map(|s| Scope::new(s)).collect::<Result<Vec<_>, _>>()?;
    let rules =
        Rules::parse(&granted.rules).map_err(|e| Error::Rejected(format!("its rules cannot be read here: {e}")))?;
    let (name, hub_url) = (granted.name.clone(), hub_url.trim_end_matches('/').to_owned());
    let write = store.write(move |tx| {
        tx.set_rules(Arc::new(rules))?;
        let mut state = tx.state()?;
        state.device = Device(granted.device);
        state.token = token;
        state.epoch = Epoch(granted.epoch);
        state.scopes = scopes;
        state.source = Source(granted.source);
        state.told = false;
        if state.origin != UNENROLLED {
            // Another enrolment may be at another hub: what is confirmed is compared with it from the beginning.
            state.cursor = sync_protocol::id::HubSeq::NONE;
        }
        tx.set_state(&state)?;
        adopt_origin(tx, Origin(granted.origin))?;
        tx.set_enrolment(&Enrolment { hub_url, name: granted.name, device: granted.device, enrolled_ms: unix_ms() })
    });
    write.await?;
    Ok(name)
}

fn token(hex: &str) -> Result<[u8; 8], Error> {
    let number = u64::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 16);
    number
        .map(u64::to_be_bytes)
        .ok_or_else(|| Error::Rejected("its token is not in a form that this version reads".to_owned()))
}

/// What tells this box from another: for the hub's admin, when two boxes turn up under one identity.
fn hardware() -> std::collections::BTreeMap<&'static str, String> {
    let places = [
        ("board", "/proc/device-tree/serial-number"),
        ("card", "/sys/block/mmcblk0/device/cid"),
        ("machine", "/etc/machine-id"),
    ];
    let read = |(name, path): (&'static str, &str)| {
        let text = std::fs::read_to_string(path).ok()?;
        Some((name, text.trim_matches(|c: char| c.is_whitespace() || c == '\0').chars().take(128).collect()))
    };
    places.into_iter().filter_map(read).collect()
}
