//! A copy of the key at the hub: deposited when there is a link, fetched at start by who has no other way to it.
//!
//! The hub has all that a gateway has sent anyway, so a copy gives it little, and without one a lost key is the end of what was
//! not sent. It is asked for with the gateway's certificate, which therefore lies in the slot, outside of the encrypted
//! database: whoever steals the box can ask as well, until an admin revokes it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sync_protocol::recovery;
use zeroize::Zeroize;

use super::slots::{Bytes, Escrowed, Slots, Way};
use crate::acts::{Deed, Who};
use crate::clock::{Clock, unix_ms};
use crate::error::Error;
use crate::store::{DataKey, Enrolment, Identity, KeyId, Store};
use crate::sync::{Transport, Trust};

#[derive(Serialize)]
struct Deposit<'a> {
    name: String,
    key: &'a str,
}

#[derive(Serialize)]
struct Wish {
    name: String,
}

#[derive(Deserialize)]
struct Kept {}

#[derive(Deserialize)]
struct Given {
    key: String,
}

/// Deposits the key of a store once, and keeps what a slot of the hub shows up to date.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    is_wanted: bool,
    /// For whom and for which key it was done.
    done: Option<(Enrolment, KeyId)>,
    is_told: bool,
}

impl Keeper {
    /// One that deposits, or one that only keeps slots up to date.
    pub(crate) fn new(is_wanted: bool) -> Keeper {
        Keeper { is_wanted, ..Keeper::default() }
    }

    /// Says in the log that it failed, once a start: a hub that is older knows nothing of it.
    pub(crate) fn complain(&mut self, error: &Error) {
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!("the hub was not given a copy of the key: {error}; it is tried again after each sync");
        }
    }

    /// What is to be done after a sync, which has just shown that there is a link.
    ///
    /// # Errors
    /// As [`deposit`]; it is tried again after the next sync.
    pub(crate) async fn after_sync(
        &mut self,
        store: &Store,
        clock: &Clock,
        enrolment: &Enrolment,
    ) -> Result<(), Error> {
        let home = store.home();
        let Some(key) = home.key() else { return Ok(()) };
        if self.done.as_ref().is_some_and(|(of, done)| of == enrolment && *done == key.id()) {
            return Ok(());
        }
        // As it is now: the certificate may just have been renewed.
        let Some(enrolment) = store.read(|reader| reader.enrolment()).await? else { return Ok(()) };
        let Some(identity) = &enrolment.identity else { return Ok(()) };
        refresh(store.path(), &enrolment.hub_url, identity)?;
        if self.is_wanted {
            deposit(store.path(), clock, &enrolment.hub_url, identity, key, &Who::gateway()).await?;
        }
        self.done = Some((enrolment, key.id()));
        Ok(())
    }
}

/// Gives the hub a copy, and notes that it has one.
///
/// # Errors
/// [`Error::Offline`] and the like; what the file system reports.
pub(crate) async fn deposit(
    database: &Path,
    clock: &Clock,
    url: &str,
    identity: &Identity,
    key: &DataKey,
    who: &Who,
) -> Result<(), Error> {
    let transport = Transport::new(url, clock, &Trust::Member(identity.clone()))?;
    let letters = recovery::to_letters(key.bytes());
    let deposit = Deposit { name: key.id().to_string(), key: &letters };
    let Kept {} = transport.post_json("/escrow/v1", &deposit).await?;
    let escrow = Escrowed { url: url.to_owned(), key: key.id(), at_ms: unix_ms() };
    Slots::change(database, |slots| {
        // Once a start, not once a change of the clock.
        let is_known = slots.escrow.as_ref().is_some_and(|known| known.url == escrow.url && known.key == escrow.key);
        if !is_known {
            slots.note(Deed::DepositKey, who, json!({ "key": escrow.key.to_string(), "hub": url }))?;
            slots.escrow = Some(escrow);
        }
        Ok(())
    })
}

/// A slot for a key that the hub has.
pub(crate) fn deposited(url: &str, identity: &Identity) -> Way {
    Way::Hub {
        url: url.to_owned(),
        authority: Bytes::from(identity.authority.as_slice()),
        certificate: Bytes::from(identity.certificate.as_slice()),
        identity: Bytes(identity.key.clone()),
    }
}

/// Puts what the gateway shows the hub now into slots that were made before.
fn refresh(database: &Path, url: &str, identity: &Identity) -> Result<(), Error> {
    Slots::change(database, |slots| {
        let of_hub = slots.slots.iter_mut().filter(|slot| matches!(slot.way, Way::Hub { .. }));
        of_hub.for_each(|slot| slot.way = deposited(url, identity));
        Ok(())
    })
}

/// Asks the hub for the key.
///
/// # Errors
/// [`Error::KeyAbsent`] if it cannot be reached; [`Error::Told`] if it does not give it.
pub(super) async fn fetch(slots: &Slots, database: &Path, id: Option<KeyId>) -> Result<DataKey, Error> {
    let mut last = Error::KeyNeeded(database.to_owned());
    for slot in slots.slots.iter().filter(|slot| id.is_none_or(|id| id == slot.key)) {
        let Way::Hub { url, authority, certificate, identity } = &slot.way else { continue };
        let identity = Identity {
            authority: authority.0.to_vec(),
            key: identity.0.clone(),
            certificate: certificate.0.to_vec(),
            renew_ms: 0,
        };
        match ask(url, identity, slot.key).await {
            Ok(key) => return Ok(key),
            Err(error) => last = error,
        }
    }
    Err(match last {
        Error::Offline(_) | Error::Portal(_) | Error::Busy(_) | Error::HubFull(_) => {
            Error::KeyAbsent(format!("the hub, which keeps the key, does not answer: {last}"))
        }
        Error::Denied(reason) => Error::key_trouble(format!(
            "the hub does not give the key: {reason}. With the recovery key, which its admin can print: outpost key recover"
        )),
        other => other,
    })
}

async fn ask(url: &str, identity: Identity, name: KeyId) -> Result<DataKey, Error> {
    let transport = Transport::new(url, &Clock::default(), &Trust::Member(identity))?;
    let mut given: Given = transport.post_json("/escrow/v1/fetch", &Wish { name: name.to_string() }).await?;
    let key = recovery::from_letters(&given.key).map(DataKey::new).filter(|key| key.id() == name);
    given.key.zeroize();
    key.ok_or_else(|| Error::Rejected("what it keeps is not the key of this database".to_owned()))
}
