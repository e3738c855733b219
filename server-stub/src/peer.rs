//! Who is at the other end of a connection, as far as TLS tells: judged anew for each request, also on a connection that is
//! kept, so that what an admin decides counts at once.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use sync_protocol::id::Device;

use crate::audit::{Actor, What};
use crate::clock::now_ms;
use crate::error::HubError;
use crate::hub::Hub;
use crate::pki::{Issued, KeyHash, key_hash};
use crate::problem::Problem;
use crate::secret::hex;
use crate::store::{Daily, Tx};

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its address; `None` behind a proxy that does not say it.
    pub(crate) address: Option<IpAddr>,
    /// The certificate whose key it has shown to hold.
    pub(crate) certificate: Option<Arc<CertificateDer<'static>>>,
}

/// A certificate for a gateway.
#[derive(Debug, Serialize)]
pub(crate) struct Certified {
    /// DER in hex digits.
    certificate: String,
    /// The authority's, likewise.
    authority: String,
    renew_ms: i64,
}

impl Certified {
    pub(crate) fn new(issued: &Issued, authority: &[u8]) -> Certified {
        Certified { certificate: hex(&issued.certificate), authority: hex(authority), renew_ms: issued.renew_ms }
    }
}

impl Peer {
    /// The hash of its key, if its certificate may be used now. Without TLS there is none to see.
    pub(crate) fn key(&self, hub: &Hub) -> Result<Option<KeyHash>, HubError> {
        let Some(authority) = hub.authority() else { return Ok(None) };
        let certificate = self.certificate.as_ref().ok_or(HubError::NoCertificate)?;
        authority.judge(certificate, now_ms(), hub.config().certificate_grace_days)?;
        key_hash(certificate).map(Some)
    }
}

/// Refuses who speaks as a gateway with another one's key.
pub(crate) async fn speaks_as(hub: &Hub, key: KeyHash, device: Device, is_rescue: bool) -> Result<(), HubError> {
    let look = move |tx: &mut Tx<'_>| match is_rescue {
        true => tx.may_hand_in(device, &key),
        false => tx.may_speak(device, &key),
    };
    match hub.read(look).await? {
        true => Ok(()),
        false => Err(HubError::ForeignCertificate),
    }
}

impl Peer {
    /// The gateway whose key was shown, unless it or another one with this key is shut out. However old its certificate is.
    pub(crate) async fn owner(&self, hub: &Hub) -> Result<(Device, String), HubError> {
        let (Some(authority), Some(certificate)) = (hub.authority(), &self.certificate) else {
            return Err(HubError::NoCertificate);
        };
        authority.judge(certificate, now_ms(), u32::MAX)?;
        let key = key_hash(certificate)?;
        hub.read(move |tx| tx.owner_of(&key)).await
    }
}

/// `POST /renew/v1`: the next certificate for the same key.
pub(crate) async fn renew(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
) -> Result<Json<Certified>, Problem> {
    let (Some(key), Some(certificate), Some(authority)) = (peer.key(&hub)?, &peer.certificate, hub.authority()) else {
        return Err(HubError::NoCertificate.into());
    };
    let (device, name) = hub.read(move |tx| tx.owner_of(&key)).await?;
    let issued = authority.renew(certificate, &name, now_ms(), hub.config().certificate_days)?;
    let (actor, target) = (Actor::at(format!("gateway:{name}"), peer.address), serde_json::json!({ "gateway": name }));
    let count = move |tx: &mut Tx<'_>| match tx.once_more(device, Daily::Renewal)? {
        true => Ok(((), target)),
        false => Err(HubError::TooOften),
    };
    hub.change(actor, What::RenewCertificate, count).await?;
    tracing::info!(device = device.0, "certificate renewed");
    Ok(Json(Certified::new(&issued, authority.certificate())))
}
