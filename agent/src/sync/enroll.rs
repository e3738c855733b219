//! Enrolment: a one-time code from the hub's admin becomes an identity, and what was captured before it is renumbered.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use sync_protocol::gateway::{Store as _, UNENROLLED, adopt_origin};
use sync_protocol::id::{Device, Epoch, HubSeq, Origin, Scope, Source};
use sync_protocol::identity::DeviceKey;
use sync_protocol::rules::Rules;

use super::transport::Transport;
use crate::clock::Clock;
use crate::error::Error;
use crate::hardware;
use crate::store::{Enrolment, Store};

#[derive(Serialize)]
struct Wish<'a> {
    code: &'a str,
    version: &'static str,
    /// The name that it has, and would keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    known_as: Option<String>,
    hardware: std::collections::BTreeMap<&'static str, String>,
}

#[derive(Deserialize)]
struct Granted {
    device: u32,
    origin: u32,
    key: String,
    epoch: u32,
    name: String,
    scopes: Vec<String>,
    source: u8,
    rules: String,
}

/// Enrols this gateway at the hub, and tells the name it got. A gateway that is enrolled already is enrolled anew: its
/// unsent records go on under the new identity. Unless it is `again`, the hub refuses a code that is for another name.
///
/// # Errors
/// [`Error::Denied`] with the hub's words if the code is wrong, used or too old; [`Error::Offline`] if it cannot be reached.
pub async fn enroll(store: &Store, clock: &Clock, hub_url: &str, code: &str, again: bool) -> Result<String, Error> {
    let transport = Transport::new(hub_url, clock)?;
    let enrolment = store.read(|reader| reader.enrolment()).await?;
    let is_same_hub = enrolment.as_ref().is_some_and(|known| known.hub_url == hub_url.trim_end_matches('/'));
    let known_as = enrolment.filter(|_| !again).map(|enrolment| enrolment.name);
    let wish = Wish { code: code.trim(), version: env!("CARGO_PKG_VERSION"), known_as, hardware: hardware::facts() };
    let granted: Granted = transport.post_json("/enroll/v1", &wish).await?;
    let key = key(&granted.key)?;
    let scopes = granted.scopes.iter().map(|s| Scope::new(s)).collect::<Result<Vec<_>, _>>()?;
    let rules =
        Rules::parse(&granted.rules).map_err(|e| Error::Rejected(format!("its rules cannot be read here: {e}")))?;
    let (name, hub_url) = (granted.name.clone(), hub_url.trim_end_matches('/').to_owned());
    let enrolled_ms = clock.now().now_ms;
    let write = store.write(move |tx| {
        tx.set_rules(Arc::new(rules))?;
        let mut state = tx.state()?;
        state.device = Device(granted.device);
        (state.key, state.turn) = (key, 0);
        if state.origin == UNENROLLED || !is_same_hub {
            // What is confirmed here is compared with another hub from the beginning.
            (state.epoch, state.cursor, state.complete) = (Epoch(granted.epoch), HubSeq::NONE, HubSeq::NONE);
        } else if state.scopes != scopes {
            state.backfill = Some(HubSeq::NONE);
        }
        // At the same hub it says where it stood. If the hub was put back since, it is asked for what the hub lost.
        state.scopes = scopes;
        state.source = Source(granted.source);
        state.told = false;
        tx.set_state(&state)?;
        adopt_origin(tx, Origin(granted.origin))?;
        tx.set_enrolment(&Enrolment { hub_url, name: granted.name, device: granted.device, enrolled_ms })
    });
    write.await?;
    Ok(name)
}

fn key(hex: &str) -> Result<DeviceKey, Error> {
    let digits = hex.as_bytes().chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
    let key = digits.collect::<Option<Vec<u8>>>().and_then(|bytes| bytes.try_into().ok());
    key.map(DeviceKey).ok_or_else(|| Error::Rejected("its key is not in a form that this version reads".to_owned()))
}
