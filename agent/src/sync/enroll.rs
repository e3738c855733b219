//! Enrolment: a one-time code from the hub's admin becomes an identity, and what was captured before it is renumbered.

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use sync_protocol::gateway::{GatewayState, Store as _, adopt_origin};
use sync_protocol::id::{Device, Epoch, HubSeq, Origin, Scope, Seq, Source};
use sync_protocol::identity::DeviceKey;
use sync_protocol::rules::Rules;
use sync_protocol::ticket::Ticket;
use zeroize::Zeroizing;

use super::certificate::{Certified, NewKey, hex, unhex};
use super::transport::{Transport, Trust};
use crate::acts::{Act, Deed, Who};
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
    #[serde(skip_serializing_if = "Option::is_none")]
    past: Option<Past>,
    /// It may be shown what another hub confirmed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    new_hub: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    public_key: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    proof: &'a str,
}

/// Who it was at the hub that it has spoken with, so that a hub can tell whether that was itself.
#[derive(Serialize)]
struct Past {
    device: u32,
    origins: Vec<u32>,
    membership: String,
}

impl Past {
    fn of(state: &GatewayState) -> Past {
        let origins = state.former.iter().map(|former| former.origin).chain([state.origin]);
        Past {
            device: state.device.0,
            origins: origins.map(|origin| origin.0).collect(),
            membership: hex(&state.key.membership(state.device.0)),
        }
    }
}

/// Whether a hub has told it anything. One that begins to compare with a hub that was put back has not come far with that one.
fn has_spoken(state: &GatewayState) -> bool {
    state.cursor != HubSeq::NONE || state.recovers.is_some() || has_acked(state)
}

fn has_acked(state: &GatewayState) -> bool {
    state.streams.iter().any(|stream| stream.acked > Seq(0))
}

#[derive(Deserialize)]
struct Granted {
    device: u32,
    origin: u32,
    key: Zeroizing<String>,
    epoch: u32,
    /// It is not the hub that was spoken with before, or not in a state that knows of it.
    #[serde(default)]
    stranger: bool,
    name: String,
    scopes: Vec<String>,
    source: u8,
    rules: String,
    #[serde(flatten)]
    certified: Option<Certified>,
}

/// What a person who enrols a gateway that was enrolled before has to say to it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Consent {
    /// It may get another name. Else the hub refuses a code that is for one.
    pub again: bool,
    /// The hub stands in the place of the one before, and is shown all that this one confirmed. Else a hub that does not know the
    /// gateway refuses it.
    pub new_hub: bool,
}

/// Enrols this gateway at the hub, and tells the name it got. A gateway that is enrolled already is enrolled anew: its
/// unsent records go on under the new identity. Whoever did not hear the hub's answer tries again with the same code.
///
/// # Errors
/// [`Error::Denied`] with the hub's words if the code is wrong, used or too old, and [`Error::Rejected`] if a [`Consent`] is wanted;
/// [`Error::Offline`] if it cannot be reached.
pub async fn enroll(
    store: &Store,
    clock: &Clock,
    hub_url: Option<&str>,
    code: &str,
    consent: Consent,
) -> Result<String, Error> {
    enroll_by(store, clock, hub_url, code, consent, &Who::gateway()).await
}

/// The same for somebody who is named in the audit.
///
/// # Errors
/// As [`enroll`].
pub(crate) async fn enroll_by(
    store: &Store,
    clock: &Clock,
    hub_url: Option<&str>,
    code: &str,
    consent: Consent,
    who: &Who,
) -> Result<String, Error> {
    let Way { hub_url, code, trust } = Way::find(hub_url, code)?;
    let hub_url = hub_url.as_str();
    let transport = Transport::new(hub_url, clock, &trust)?;
    let new_key = match trust {
        Trust::Fingerprint(_) => Some(NewKey::for_code(store, &code).await?),
        _ => None,
    };
    let (enrolment, state, holds) =
        store.read(|reader| Ok::<_, Error>((reader.enrolment()?, reader.state()?, reader.has_confirmed()?))).await?;
    let has_spoken = has_spoken(&state) || holds;
    let has_secrets = holds || has_acked(&state);
    let known_as = enrolment.filter(|_| !consent.again).map(|enrolment| enrolment.name);
    let wish = Wish {
        code: &code,
        version: env!("CARGO_PKG_VERSION"),
        known_as,
        hardware: hardware::facts(),
        past: has_spoken.then(|| Past::of(&state)),
        new_hub: consent.new_hub || !has_secrets,
        public_key: new_key.as_ref().map_or("", |key| &key.public_key),
        proof: new_key.as_ref().map_or("", |key| &key.proof),
    };
    let granted: Granted = transport.post_json("/enroll/v1", &wish).await?;
    let key = key(&granted.key)?;
    let identity = match (new_key, granted.certified) {
        (Some(new), Some(certified)) => Some(certified.identity(new.secret)?),
        (Some(_), None) => return Err(Error::Rejected("the hub gave no certificate".to_owned())),
        (None, _) => None,
    };
    let scopes = granted.scopes.iter().map(|s| Scope::new(s)).collect::<Result<Vec<_>, _>>()?;
    let rules =
        Rules::parse(&granted.rules).map_err(|e| Error::Rejected(format!("its rules cannot be read here: {e}")))?;
    let (name, hub_url) = (granted.name.clone(), hub_url.trim_end_matches('/').to_owned());
    let now = clock.now();
    let (enrolled_ms, on) = (now.now_ms, json!({ "hub": hub_url, "gateway": name, "origin": granted.origin }));
    let act = Act::new(Deed::Enrol, who, now, on)?;
    let write = store.write_large(move |tx| {
        tx.set_rules(Arc::new(rules))?;
        let mut state = tx.state()?;
        let origin = Origin(granted.origin);
        if state.former.iter().any(|former| former.origin == origin) || (state.origin == origin && has_acked(&state)) {
            let told = "the hub gave a number that this gateway has had: ask its admin for another code".to_owned();
            return Err(Error::Rejected(told));
        }
        state.device = Device(granted.device);
        (state.key, state.turn) = (key, 0);
        // At the same hub it says where it stood. If the hub was put back since, it is asked for what the hub lost.
        if !has_spoken {
            state.epoch = Epoch(granted.epoch);
        } else if state.scopes != scopes {
            state.backfill = Some(HubSeq::NONE);
        }
        if granted.stranger {
            // No number of another hub means anything to this one, which is shown all that is here and tells all its erasures.
            (state.epoch, state.erased) = (Epoch::NONE, 0);
        }
        state.scopes = scopes;
        state.source = Source(granted.source);
        (state.told, state.is_revoked) = (false, false);
        tx.set_state(&state)?;
        adopt_origin(tx, origin)?;
        tx.act(&act)?;
        tx.set_enrolling(None)?;
        tx.set_enrolment(&Enrolment { hub_url, name: granted.name, device: granted.device, enrolled_ms, identity })
    });
    write.await?;
    Ok(name)
}

/// Where the hub is, and how it is known.
pub(crate) struct Way {
    pub(crate) hub_url: String,
    code: Zeroizing<String>,
    trust: Trust,
}

impl Way {
    /// What a person typed: a code that says all, or the address of a hub that the system trusts with a bare code. An address
    /// beside a code that has one stands in its place, for a box that reaches the hub on another way.
    ///
    /// # Errors
    /// [`Error::Usage`] if something is mistyped or missing.
    pub(crate) fn find(hub_url: Option<&str>, code: &str) -> Result<Way, Error> {
        let hub_url = hub_url.map(|url| url.trim().trim_end_matches('/').to_owned());
        if !Ticket::is_meant(code) {
            let missing = "this code does not say which hub: outpost enroll HUB_URL CODE".to_owned();
            let hub_url = hub_url.ok_or(Error::Usage(missing))?;
            return Ok(Way { hub_url, code: Zeroizing::new(code.trim().to_owned()), trust: Trust::System });
        }
        let ticket = Ticket::parse(code)
            .ok_or_else(|| Error::Usage("a letter of this code is wrong or missing; nothing was sent".to_owned()))?;
        let hub_url = hub_url.unwrap_or_else(|| format!("https://{}", ticket.address));
        if !hub_url.starts_with("https://") {
            return Err(Error::Usage("this code is for a hub with an https:// address".to_owned()));
        }
        Ok(Way {
            hub_url,
            code: Zeroizing::new(ticket.secret_letters()),
            trust: Trust::Fingerprint(ticket.fingerprint),
        })
    }
}

fn key(hex: &str) -> Result<DeviceKey, Error> {
    let key = Zeroizing::new(unhex(hex)?);
    let key = key.as_slice().try_into().map(DeviceKey);
    key.map_err(|_| Error::Rejected("its key is not in a form that this version reads".to_owned()))
}
