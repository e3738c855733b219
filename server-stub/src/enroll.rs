//! Enrolment: a code for a place in the fleet.

use std::net::IpAddr;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sync_protocol::hub::Snapshot;
use sync_protocol::id::{Device, Origin};
use zeroize::{Zeroize, Zeroizing};

use crate::audit::{Actor, What};
use crate::error::HubError;
use crate::hub::Hub;
use crate::peer::{Certified, Peer};
use crate::pki::check_key;
use crate::problem::{self, Problem};
use crate::secret::{self, unhex};
use crate::store::{Daily, Tx};

/// What a new gateway sends.
#[derive(Debug, Deserialize)]
pub(crate) struct Enrolment {
    code: String,
    /// What it says of its hardware, to tell twins apart.
    #[serde(default)]
    hardware: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    version: String,
    /// The name that it has and would keep; absent if any will do.
    known_as: Option<String>,
    /// Who it was before, if it has spoken with a hub.
    past: Option<Past>,
    /// Whether what it holds may be shown to this hub although another one confirmed it: that one is lost, and this one stands in
    /// its place.
    #[serde(default)]
    new_hub: bool,
    /// Its public key, a point of P-256, and the code signed with it; in hex digits.
    #[serde(default)]
    public_key: String,
    #[serde(default)]
    proof: String,
}

/// Who a gateway was at the hub that it spoke with.
#[derive(Debug, Deserialize)]
struct Past {
    device: u32,
    origins: Vec<u32>,
    /// What shows the hub that gave it the key there; in hex digits.
    membership: String,
}

/// What it gets.
#[derive(Debug, Serialize)]
pub(crate) struct Welcome {
    device: u32,
    origin: u32,
    key: Zeroizing<String>,
    epoch: u32,
    /// This is not the hub that it spoke with before, or not in a state that knows of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stranger: bool,
    name: String,
    scopes: Vec<String>,
    source: u8,
    source_name: String,
    rules: String,
    hub_ms: i64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    certified: Option<Certified>,
}

/// `POST /enroll/v1`.
pub(crate) async fn enroll(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Json<Welcome>, Problem> {
    let asked: Enrolment = problem::json(&body)?;
    if !hub.begin_code(peer.address) {
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-codes", "Too many wrong enrolment codes")
            .hint("wait a minute, then type the code again"));
    }
    let welcome = redeem(&hub, peer.address, asked).await;
    if !matches!(welcome, Err(HubError::Code(_))) {
        hub.forgive_code(peer.address);
    }
    match &welcome {
        Ok(welcome) => {
            tracing::info!(device = welcome.device, origin = welcome.origin, "gateway enrolled");
        }
        Err(HubError::Code(why)) => {
            tracing::warn!(why, "enrolment refused");
            let (refusals, target) = (hub.refusals().clone(), json!({ "why": why }));
            hub.write(move |tx| refusals.note(tx, peer.address, What::EnrolRefused, &target)).await?;
        }
        Err(_) => {}
    }
    Ok(Json(welcome?))
}

async fn redeem(hub: &Hub, from: Option<IpAddr>, mut asked: Enrolment) -> Result<Welcome, HubError> {
    let key = secret::device_key()?;
    let code = secret::normal_code(&asked.code);
    asked.code.zeroize();
    let hardware = serde_json::Value::Object(asked.hardware).to_string();
    let (known_as, past, may_show) = (asked.known_as, asked.past, asked.new_hub);
    let (authority, days) = (hub.authority().cloned(), hub.config().certificate_days);
    let (point, proof) = (unhex(&asked.public_key).unwrap_or_default(), unhex(&asked.proof).unwrap_or_default());
    let version: String = asked.version.chars().filter(|c| !c.is_control()).take(64).collect();
    let shown = authority.as_ref().map(|_| check_key(&point, &proof, &code)).transpose();
    hub.write(move |tx| {
        let before = match &shown {
            Ok(Some(key)) => tx.redeemed(&code, key)?,
            _ => None,
        };
        if before.is_none() {
            // That the code is wrong is said before anything else.
            tx.device_to_enrol(&code)?;
        }
        let elsewhere = past.map(|past| was_elsewhere(tx, past)).transpose()?.flatten();
        if elsewhere.is_some() && !may_show {
            return Err(HubError::Stranger);
        }
        let enrolled = match before {
            Some(before) if !tx.once_more(before.gateway.device, Daily::Answer)? => return Err(HubError::TooOften),
            Some(before) => before,
            None => {
                elsewhere.iter().try_for_each(|origins| tx.leave_origins(origins))?;
                tx.redeem(&code, &hardware, &version, key)?
            }
        };
        if let Some(known_as) = known_as.filter(|name| *name != enrolled.name) {
            // The code stays good: nothing of this transaction is kept.
            return Err(HubError::OtherName { wanted: enrolled.name, known_as });
        }
        let gateway = enrolled.gateway;
        let certified = match (&authority, shown?) {
            (Some(authority), Some(key)) => {
                tx.bind_key(gateway.device, &key)?;
                let issued = authority.issue(&point, &enrolled.name, tx.now_ms, days)?;
                Some(Certified::new(&issued, authority.certificate()))
            }
            _ => None,
        };
        let actor = Actor::at(format!("gateway:{}", enrolled.name), from);
        let stranger = elsewhere.is_some();
        let on = match stranger {
            true => json!({ "gateway": enrolled.name, "origin": gateway.origin.0, "from_another_hub": true }),
            false => json!({ "gateway": enrolled.name, "origin": gateway.origin.0 }),
        };
        tx.audit(&actor, What::Enrol, &on)?;
        Ok(Welcome {
            device: gateway.device.0,
            origin: gateway.origin.0,
            key: Zeroizing::new(secret::hex(&gateway.key.0)),
            epoch: tx.epoch()?.0,
            stranger,
            name: enrolled.name,
            scopes: gateway.scopes.iter().map(ToString::to_string).collect(),
            source: gateway.source.0,
            source_name: enrolled.source_name,
            rules: tx.rules()?.text().to_owned(),
            hub_ms: tx.now_ms,
            certified,
        })
    })
    .await
}

/// The origins that the gateway had, if it was not this hub that it spoke with before.
fn was_elsewhere(tx: &mut Tx<'_>, past: Past) -> Result<Option<Vec<Origin>>, HubError> {
    let shown = unhex(&past.membership).and_then(|shown| shown.try_into().ok());
    let shown = shown.ok_or_else(|| HubError::Invalid("membership is not 16 hex digits".to_owned()))?;
    let is_here = tx.knows(Device(past.device), &shown)?;
    Ok((!is_here).then(|| past.origins.into_iter().map(Origin).collect()))
}
