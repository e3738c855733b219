//! Copies of the keys by which gateways' databases are encrypted: deposited by a gateway, given back to it at its start, or
//! printed for an admin when everything else is lost.
//!
//! They are sealed with a key in a file beside the database, so that a copy of the database alone opens no card. Who asks is told
//! by its certificate alone: the gateway of this key, unless it or another one with a copy of its card is shut out. That its
//! certificate expired does not count, because a box that was in a drawer for a year cannot even be renewed before its database is
//! open.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sync_protocol::id::Device;
use sync_protocol::recovery::{KEY_BYTES, from_letters, to_letters};
use zeroize::{Zeroize, Zeroizing};

use crate::audit::{Actor, What};
use crate::error::HubError;
use crate::hub::Hub;
use crate::peer::Peer;
use crate::problem::{self, Problem};
use crate::secret::{hex, unhex};
use crate::store::{Daily, KeyName, Tx};

/// The file in the data directory.
const FILE: &str = "escrow.key";
const CONTEXT: &[u8] = b"outpost-hub 2026-11 escrow v1\0";

#[derive(Debug, Deserialize)]
pub(crate) struct Deposit {
    /// In hex digits.
    name: String,
    key: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Wish {
    name: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Kept {}

#[derive(Serialize)]
pub(crate) struct Given {
    key: Letters,
}

/// The letters of a key on their way out.
pub(crate) struct Letters(Zeroizing<String>);

impl Serialize for Letters {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What seals copies: the content of [`FILE`].
pub(crate) struct Seal(LessSafeKey);

impl Seal {
    /// That of a data directory; made if there is none yet and `make` says so.
    pub(crate) fn of(dir: &Path, make: bool) -> Result<Seal, HubError> {
        let path = dir.join(FILE);
        let refused = |source| HubError::File { path: path.clone(), source };
        if make {
            let mut new = Zeroizing::new([0; KEY_BYTES]);
            getrandom::fill(new.as_mut_slice()).map_err(HubError::Random)?;
            let part = dir.join("escrow.key.part");
            match fs::metadata(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let _ = fs::remove_file(&part);
                    let mut file =
                        fs::File::options().write(true).create_new(true).mode(0o600).open(&part).map_err(refused)?;
                    file.write_all(new.as_slice()).and_then(|()| file.sync_all()).map_err(refused)?;
                    // Never over one that is there.
                    match fs::hard_link(&part, &path) {
                        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(refused(error)),
                        _ => {}
                    }
                    let _ = fs::remove_file(&part);
                    fs::File::open(dir).and_then(|folder| folder.sync_all()).map_err(refused)?;
                }
                _ => {}
            }
        }
        let bytes = Zeroizing::new(fs::read(&path).map_err(refused)?);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes);
        let wrong =
            || HubError::Config(format!("{} is not what this hub made; put the right one back", path.display()));
        Ok(Seal(LessSafeKey::new(key.map_err(|_| wrong())?)))
    }

    fn seal(&self, device: Device, name: &KeyName, key: &[u8; KEY_BYTES]) -> Result<Vec<u8>, HubError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(HubError::Random)?;
        let mut sealed = Zeroizing::new(Vec::with_capacity(NONCE_LEN + KEY_BYTES + 16));
        sealed.extend_from_slice(key);
        let aad = Aad::from(about(device, name));
        let done = self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut *sealed);
        done.map_err(|_| HubError::Invalid("a key could not be sealed".to_owned()))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// The letters of a key that is kept; `None` if this does not open it.
    pub(crate) fn open(&self, device: Device, name: &KeyName, sealed: &[u8]) -> Option<Zeroizing<String>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let aad = Aad::from(about(device, name));
        let key = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut sealed).ok()?;
        Some(to_letters((&*key).try_into().ok()?))
    }
}

fn about(device: Device, name: &KeyName) -> Vec<u8> {
    [CONTEXT, &device.0.to_be_bytes(), name].concat()
}

fn key_name(text: &str) -> Result<KeyName, Problem> {
    let name = unhex(text).and_then(|bytes| bytes.try_into().ok());
    name.ok_or_else(|| Problem::bad_request("the name of a key has 32 hex digits"))
}

/// `POST /escrow/v1`: a gateway deposits its key.
pub(crate) async fn deposit(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Json<Kept>, Problem> {
    let mut asked: Deposit = problem::json(&body)?;
    let key = from_letters(&asked.key);
    asked.key.zeroize();
    let key = key.ok_or_else(|| Problem::bad_request("this is no key"))?;
    let name = key_name(&asked.name)?;
    let (device, _) = peer.owner(&hub).await?;
    let kept = hub.read(move |tx| tx.kept_key(device, &name)).await?;
    let Some(sealed) = sealed_anew(hub.data_dir(), device, &name, &key, kept.as_deref())? else {
        return Ok(Json(Kept {}));
    };
    hub.write(move |tx| tx.keep_key(device, &name, &sealed)).await?;
    tracing::info!(device = device.0, key = %hex(&name), "a gateway's key was deposited");
    Ok(Json(Kept {}))
}

/// The copy to keep; `None` if the one that is kept opens. One that does not was sealed by a file that is lost: a hub that was put
/// back on another machine without it. Nobody but the gateway can mend that, and it deposits without being told so.
fn sealed_anew(
    dir: &Path,
    device: Device,
    name: &KeyName,
    key: &[u8; KEY_BYTES],
    kept: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, HubError> {
    let seal = Seal::of(dir, true)?;
    if let Some(kept) = kept {
        if seal.open(device, name, kept).is_some() {
            return Ok(None);
        }
        tracing::warn!(device = device.0, key = %hex(name), "the copy of a key does not open with escrow.key: sealed anew");
    }
    seal.seal(device, name, key).map(Some)
}

/// `POST /escrow/v1/fetch`: a gateway asks for the key that it deposited.
pub(crate) async fn fetch(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Json<Given>, Problem> {
    let asked: Wish = problem::json(&body)?;
    let name = key_name(&asked.name)?;
    let (device, gateway) = peer.owner(&hub).await?;
    let missing = || HubError::Missing("key of this name for this gateway".to_owned());
    let actor = Actor::at(format!("gateway:{gateway}"), peer.address);
    let give = move |tx: &mut Tx<'_>| {
        if !tx.once_more(device, Daily::Key)? {
            return Err(HubError::TooOften);
        }
        let kept = tx.fetch_keys(device, &name)?;
        if kept.is_empty() {
            return Err(missing());
        }
        Ok((kept, json!({ "gateway": gateway })))
    };
    let kept = hub.change::<_, HubError, _>(actor, What::FetchKey, give).await?;
    let seal = Seal::of(hub.data_dir(), false)?;
    let key = kept.iter().find_map(|(of, sealed)| seal.open(*of, &name, sealed)).ok_or_else(missing)?;
    tracing::info!(device = device.0, key = %hex(&name), "a gateway was given its key");
    Ok(Json(Given { key: Letters(key) }))
}
