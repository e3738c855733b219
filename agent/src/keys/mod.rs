//! The key of the database: where it comes from at start, and by what it is kept.
//!
//! The database is encrypted with a random key. That key lies beside it, wrapped once for each way to it (`slots.rs`): a key
//! file, a credential of the service manager, a passphrase, the hub. Which way is taken at start is configured. To change a
//! passphrase or a file is to wrap the key anew, which takes no time; to change the key itself is to copy the database.
//!
//! # Invariants
//! - A secret that does not open a slot changes nothing: no new database, none set aside, no slot written.
//! - Before a slot goes, the one that stays was opened. Before a database goes, its copy was.
//! - Keys and secrets are overwritten when they go, and are never in a log, an error, an argument or the environment.

mod escrow;
mod locked;
mod noted;
mod renewal;
mod slots;
mod socket;
mod source;
mod wrap;

use std::path::Path;

use serde_json::json;
use sync_protocol::recovery;
use zeroize::Zeroizing;

pub(crate) use self::escrow::{Keeper, deposit, deposited};
pub(crate) use self::locked::{Said, wait_for_key};
pub(crate) use self::noted::fetch_notes;
pub(crate) use self::renewal::{Told, ask_for_renewal, keep_only, renew_when_asked};
pub(crate) use self::slots::{Slots, Way};
pub use self::source::Prompt;
pub(crate) use self::source::{CREDENTIAL, credential, file, make_file};
pub(crate) use self::wrap::Secret;
use crate::acts::{Deed, Who};
use crate::clock::unix_ms;
use crate::config::{EncryptionConfig, KeySource};
use crate::error::Error;
use crate::store::{DataKey, FILE_NAME, Home, KeyId, ReadOnly, Sealing, Store, sealing};

/// The folder with the key of its database, by the configured way; a new gateway that is to be encrypted gets its slots here.
///
/// # Errors
/// [`Error::KeyAbsent`] if the key is not there now and may come; [`Error::KeyNeeded`], [`Error::WrongKey`],
/// [`Error::NotEncrypted`], [`Error::NewerSlots`] or [`Error::Told`] if a person has to do something.
pub async fn open(dir: &Path, config: &EncryptionConfig) -> Result<Home, Error> {
    let database = dir.join(FILE_NAME);
    let key = match (sealing(&database)?, config.key) {
        (Sealing::Absent, KeySource::Off) if Slots::load(&database)?.is_none() => None,
        (Sealing::Plain, KeySource::Off) => None,
        // A plain file whose beginning is damaged; the store sets it aside.
        (Sealing::Unclear, KeySource::Off) if Slots::load(&database)?.is_none() => None,
        (_, KeySource::Off) => return Err(Error::KeyNeeded(database)),
        (Sealing::Plain, _) => return Err(Error::NotEncrypted(database)),
        (Sealing::Absent, _) => Some(key_of_new(&database, config).await?),
        (Sealing::Sealed(id), _) => Some(configured(&database, config, Some(id)).await?),
        (Sealing::Unclear, _) => Some(configured(&database, config, None).await?),
    };
    Ok(Home::new(dir, key))
}

/// The database of a folder for reading, beside a gateway that may be giving it another key.
///
/// # Errors
/// As [`open`] and [`Store::open_read_only`].
pub async fn open_to_read(dir: &Path, config: &EncryptionConfig) -> Result<ReadOnly, Error> {
    let database = dir.join(FILE_NAME);
    loop {
        let before = sealing(&database)?;
        let opened = open(dir, config).await.and_then(Store::open_read_only);
        // What went wrong with a file that another has replaced meanwhile says nothing of that one.
        if opened.is_ok() || sealing(&database)? == before {
            return opened;
        }
    }
}

/// The key for a database that is to be made.
async fn key_of_new(database: &Path, config: &EncryptionConfig) -> Result<DataKey, Error> {
    if Slots::load(database)?.is_some() {
        return configured(database, config, None).await;
    }
    let secret = match config.key {
        KeySource::File => file(&config.key_file)?,
        KeySource::Credential => credential()?,
        KeySource::Passphrase | KeySource::Hub | KeySource::Off => {
            return Err(Error::key_trouble(
                "a new gateway cannot begin with this key: make it with `outpost key encrypt --new`, or for a key from the hub, \
                 enrol it first",
            ));
        }
    };
    let key = DataKey::generate()?;
    if let Some(folder) = database.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Slots::change(database, |slots| {
        let number = slots.add(key.id(), secret.wrap(&key)?, unix_ms())?;
        let on = json!({ "key": key.id().to_string(), "slot": number, "by": config.key.name() });
        slots.note(Deed::Encrypt, &Who::gateway(), on)
    })?;
    Ok(key)
}

/// The key of a database by the configured way.
async fn configured(database: &Path, config: &EncryptionConfig, id: Option<KeyId>) -> Result<DataKey, Error> {
    let slots = Slots::load(database)?.ok_or_else(|| missing_slots(database))?;
    let name = config.key.name();
    let fitting = |way: &Way| way.name() == name;
    if !slots.slots.iter().any(|slot| fitting(&slot.way)) {
        let known: Vec<&str> = slots.slots.iter().map(|slot| slot.way.name()).collect();
        return Err(Error::key_trouble(format!(
            "the configuration says key = \"{name}\", and the key of this database is kept for: {}. Set that, or add another way \
             with it: outpost key add",
            if known.is_empty() { "nothing".to_owned() } else { known.join(", ") }
        )));
    }
    let secret = match config.key {
        KeySource::File => file(&config.key_file)?,
        KeySource::Credential => credential()?,
        KeySource::Passphrase => said(config.prompt.ask("passphrase of the database")?),
        KeySource::Hub => return escrow::fetch(&slots, database, id).await,
        KeySource::Off => return Err(Error::KeyNeeded(database.to_owned())),
    };
    open_slot(&slots, &secret, id)?.ok_or_else(|| Error::WrongKey(database.to_owned()))
}

/// What somebody said: a recovery key is taken in the place of a passphrase.
pub(crate) fn said(text: Zeroizing<String>) -> Secret {
    Secret::Passphrase(text)
}

/// The key in a slot that this secret opens.
pub(crate) fn open_slot(slots: &Slots, secret: &Secret, id: Option<KeyId>) -> Result<Option<DataKey>, Error> {
    let recovered = match secret {
        Secret::Passphrase(text) => recovery::from_letters(text).map(DataKey::new),
        Secret::File(_) | Secret::Credential(_) => None,
    };
    if recovered.is_some() {
        return Ok(recovered.filter(|key| id.is_none_or(|id| id == key.id())));
    }
    for slot in slots.slots.iter().filter(|slot| id.is_none_or(|id| id == slot.key)) {
        if let Some(key) = secret.unwrap(&slot.way, slot.key)? {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

pub(crate) fn missing_slots(database: &Path) -> Error {
    Error::key_trouble(format!(
        "{} is encrypted, and {} is not beside it. Put that back (it lies beside each copy of a database), or run: outpost key \
         recover",
        database.display(),
        Slots::path(database).display()
    ))
}

/// The key of a database that is out of use: by the configured way, a key file that is named, or what somebody says.
///
/// # Errors
/// [`Error::NewerSlots`]; [`Error::WrongKey`] if nothing of it opens the file.
pub fn of_old(database: &Path, config: &EncryptionConfig, key_file: Option<&Path>) -> Result<Option<DataKey>, Error> {
    let slots = match Slots::load(database) {
        // What opens it may be here, and would not be found.
        Err(newer @ Error::NewerSlots { .. }) => return Err(newer),
        slots => slots.unwrap_or_default(),
    };
    let id = match sealing(database)? {
        Sealing::Plain | Sealing::Absent => return Ok(None),
        Sealing::Unclear if slots.is_none() => return Ok(None),
        Sealing::Unclear => None,
        Sealing::Sealed(id) => Some(id),
    };
    let slots = slots.unwrap_or_else(Slots::new);
    let secrets = match key_file {
        // What is named may have been shown to it as a credential.
        Some(path) => {
            let secret = file(path)?;
            vec![secret.to_credential(), secret]
        }
        None => [file(&config.key_file), credential()].into_iter().flatten().collect(),
    };
    for secret in secrets {
        if let Some(key) = open_slot(&slots, &secret, id)? {
            return Ok(Some(key));
        }
    }
    if key_file.is_some() {
        return Err(Error::WrongKey(database.to_owned()));
    }
    let question = format!("passphrase or recovery key of {}", database.display());
    let told = config.prompt.ask(&question).map_err(|_| Error::KeyNeeded(database.to_owned()))?;
    open_slot(&slots, &said(told), id)?.ok_or_else(|| Error::WrongKey(database.to_owned())).map(Some)
}
