//! `outpost key`: by what the database is encrypted, and by whom it opens. `outpost unlock`: opens one that waits.
//!
//! Here is what there is to say and to ask; `whole.rs` does what needs the database as a whole, `slots.rs` what is a matter of its
//! slots only.

mod slots;
mod whole;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use crate::acts::{Deed, Who};
use crate::clock::{Clock, unix_ms};
use crate::config::{Config, EncryptionConfig, KeySource};
use crate::error::Error;
use crate::keys::{self, CREDENTIAL, Said, Secret, Slots, Way, make_file};
use crate::lock::takes_no_writes;
use crate::store::{DataKey, FILE_NAME, Home, Identity, KeyId, Sealing, Store, sealing};

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Show whether the database is encrypted, and what opens it.
    Status,
    /// Make a key file, such as on a stick; one that is there stays as it is.
    Make {
        /// Where.
        file: PathBuf,
    },
    /// Encrypt the database by what the configuration says. Stop the gateway before.
    Encrypt {
        /// Make a gateway that is encrypted from its beginning, in a folder that holds none.
        #[arg(long)]
        new: bool,
        /// The key file, or a file with what the credential will hold; that of the configuration unless named.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// Write the database as anybody can read it. Stop the gateway before, and take [encryption] out of the configuration after.
    Decrypt {
        /// The key file, or a file with what the credential holds; that of the configuration unless named.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// Encrypt the database with another key, which every slot and the hub's copy are for then. The gateway goes on meanwhile.
    Renew,
    /// Let another file, credential, passphrase or the hub open the database. The gateway goes on meanwhile.
    Add {
        /// What shall open it as well.
        source: Source,
        /// With `file`: which; that of the configuration unless named. With `credential`: a file with what that will hold.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// Put a new passphrase or key file in the place of the present one. The gateway goes on meanwhile.
    Rotate {
        /// The new key file, or a file with what the credential will hold; not for a passphrase, which is asked for.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// Take a slot away, by its number; not the last one.
    Remove {
        /// As `key status` shows it.
        number: u32,
    },
    /// Open the database with the recovery key, and make a slot for what the configuration says.
    Recover {
        /// The key file, or a file with what the credential will hold; that of the configuration unless named.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
}

/// What can open a database.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Source {
    /// A key file.
    File,
    /// The credential of systemd.
    Credential,
    /// A passphrase.
    Passphrase,
    /// The hub, at which this gateway is enrolled.
    Hub,
}

impl Source {
    fn of(config: &EncryptionConfig) -> Result<Source, Error> {
        match config.key {
            KeySource::Off => {
                Err(Error::Config("[encryption] key says where the key shall come from; it is \"off\"".to_owned()))
            }
            KeySource::File => Ok(Source::File),
            KeySource::Credential => Ok(Source::Credential),
            KeySource::Passphrase => Ok(Source::Passphrase),
            KeySource::Hub => Ok(Source::Hub),
        }
    }
}

/// What a command works on.
struct Place<'a> {
    folder: &'a Path,
    config: &'a Config,
    database: PathBuf,
}

impl Key {
    pub(crate) async fn execute(self, folder: &Path, config: &Config, out: &mut dyn Write) -> Result<(), Error> {
        let place = Place { folder, config, database: folder.join(FILE_NAME) };
        // Before anybody is asked for anything.
        if !matches!(self, Key::Status | Key::Make { .. }) && takes_no_writes(folder) {
            return Err(unwritable());
        }
        match self {
            Key::Status => place.status(out),
            Key::Make { file } => {
                make_file(&file)?;
                let told = "keep it away from the box, and a copy in another place";
                writeln!(out, "{} is a new key file; {told}", file.display()).map_err(Error::from)
            }
            Key::Encrypt { new, key_file } => place.encrypt(new, key_file.as_deref(), out).await,
            Key::Decrypt { key_file } => place.decrypt(key_file.as_deref(), out).await,
            Key::Renew => place.renew(out).await,
            Key::Add { source, key_file } => place.add(source, key_file.as_deref(), out).await,
            Key::Rotate { key_file } => place.rotate(key_file.as_deref(), out).await,
            Key::Remove { number } => place.remove(number, out),
            Key::Recover { key_file } => place.recover(key_file.as_deref(), out).await,
        }
    }
}

/// Says a passphrase or recovery key to the gateway that waits for it.
pub(crate) async fn unlock(folder: &Path, config: &Config, out: &mut dyn Write) -> Result<(), Error> {
    let said = config.encryption.prompt.ask("passphrase or recovery key")?;
    match Said::say(folder, &said).await? {
        Said::Opened => writeln!(out, "the database is open; the gateway goes on").map_err(Error::from),
        Said::Wrong(told) => Err(Error::refused(told)),
    }
}

impl Place<'_> {
    fn status(&self, out: &mut dyn Write) -> Result<(), Error> {
        let slots = Slots::load(&self.database)?;
        let told = match sealing(&self.database)? {
            Sealing::Absent if slots.is_some() => "will be encrypted when the gateway is started".to_owned(),
            Sealing::Absent => "there is none yet".to_owned(),
            Sealing::Plain => "not encrypted: whoever has the card reads it".to_owned(),
            Sealing::Sealed(id) => format!("encrypted (ChaCha20-Poly1305), key {}", short(id)),
            Sealing::Unclear => "its beginning is damaged".to_owned(),
        };
        writeln!(out, "database   {told}\nat start   key = \"{}\"", self.config.encryption.key.name())?;
        let Some(slots) = slots.filter(|slots| !slots.slots.is_empty()) else { return Ok(()) };
        for slot in &slots.slots {
            let made = jiff::Timestamp::from_millisecond(slot.made_ms).unwrap_or_default().strftime("%Y-%m-%d");
            writeln!(out, "slot {:<5} {}, made {made}, for key {}", slot.number, slot.way.name(), short(slot.key))?;
        }
        let escrow = match &slots.escrow {
            Some(kept) => format!("{} has a copy of key {}", kept.url, short(kept.key)),
            None if self.config.encryption.escrow => "no hub has a copy yet: it gets one with the next sync".to_owned(),
            None => "none: what nobody can open any more is lost".to_owned(),
        };
        writeln!(out, "escrow     {escrow}").map_err(Error::from)
    }

    /// A slot for a key; for the hub it is deposited there before.
    async fn way(
        &self,
        source: Source,
        key_file: Option<&Path>,
        key: &DataKey,
        home: impl FnOnce() -> Result<Home, Error>,
    ) -> Result<Way, Error> {
        let prompt = &self.config.encryption.prompt;
        let secret = match source {
            Source::Passphrase | Source::Hub if key_file.is_some() => {
                return Err(Error::Usage("--key-file is for a key file and for a credential only".to_owned()));
            }
            Source::File => {
                let path = key_file.unwrap_or(&self.config.encryption.key_file);
                if path.as_os_str().is_empty() {
                    return Err(Error::Usage("which key file? name it with --key-file FILE".to_owned()));
                }
                keys::file(path)?
            }
            Source::Credential => match key_file {
                Some(path) => named(source, path)?,
                None => keys::credential().map_err(|_| {
                    Error::Usage(format!(
                        "a command gets no credentials: name what {CREDENTIAL} will hold with --key-file FILE"
                    ))
                })?,
            },
            Source::Passphrase => keys::said(prompt.ask_new()?),
            Source::Hub => {
                let (url, identity) = self.identity(&home()?)?;
                let who = Who::at_the_keyboard();
                keys::deposit(&self.database, &Clock::default(), &url, &identity, key, &who).await?;
                return Ok(keys::deposited(&url, &identity));
            }
        };
        secret.wrap(key)
    }

    /// Where this gateway is enrolled, and by what it is known there.
    fn identity(&self, home: &Home) -> Result<(String, Identity), Error> {
        let enrolment = Store::open_read_only(home.clone())?.read(|reader| reader.enrolment())?;
        let enrolment = enrolment.ok_or(Error::NotEnrolled)?;
        let identity = enrolment.identity.ok_or_else(|| {
            Error::refused("the hub gives no certificates, so it cannot tell by whom it is asked for a key")
        })?;
        Ok((enrolment.hub_url, identity))
    }

    /// The folder with the key of its database, by the configured way, or by a file with what that would read.
    async fn open(&self, key_file: Option<&Path>) -> Result<Home, Error> {
        // A folder that was mistyped would get the key of a new gateway.
        if sealing(&self.database)? == Sealing::Absent && Slots::load(&self.database)?.is_none() {
            return Err(Error::NoGateway(self.folder.to_owned()));
        }
        match key_file {
            Some(path) => {
                let secret = named(Source::of(&self.config.encryption)?, path)?;
                Ok(Home::new(self.folder, Some(self.opened_by(&secret)?)))
            }
            None => keys::open(self.folder, &self.config.encryption).await.map_err(|error| match error {
                Error::KeyAbsent(_) if self.config.encryption.key == KeySource::Credential => Error::Usage(
                    "a command gets no credentials; how it is given one says docs/operations.md (a credential of systemd)"
                        .to_owned(),
                ),
                other => other,
            }),
        }
    }

    fn opened_by(&self, secret: &Secret) -> Result<DataKey, Error> {
        let Sealing::Sealed(id) = sealing(&self.database)? else {
            return Err(Error::refused("this folder has no encrypted database: outpost key status"));
        };
        let slots = Slots::load(&self.database)?.ok_or_else(|| keys::missing_slots(&self.database))?;
        keys::open_slot(&slots, secret, Some(id))?.ok_or_else(|| Error::WrongKey(self.database.clone()))
    }
}

/// What is in a file that is named, as the configured way would bring it: a command gets no credential, so whoever makes that says
/// what it holds.
fn named(source: Source, path: &Path) -> Result<Secret, Error> {
    let secret = keys::file(path)?;
    Ok(if matches!(source, Source::Credential) { secret.to_credential() } else { secret })
}

/// What the next start needs if a file was named.
fn tell_next_start(source: Source, key_file: Option<&Path>, out: &mut dyn Write) -> Result<(), Error> {
    let Some(file) = key_file.map(Path::display) else { return Ok(()) };
    match source {
        Source::File => writeln!(out, "set key_file = \"{file}\"")?,
        Source::Credential => writeln!(out, "give the unit what is in {file} as its credential {CREDENTIAL}")?,
        Source::Passphrase | Source::Hub => {}
    }
    Ok(())
}

fn unwritable() -> Error {
    Error::refused(
        "the card takes no writes any more, so nothing about its key can be changed: copy it to a new one first \
         (docs/swap-a-card.md). A gateway that waits for its key takes the passphrase, and the recovery key: outpost unlock",
    )
}

/// Adds a slot, and notes that this was done.
fn added(slots: &mut Slots, deed: Deed, key: KeyId, way: Way) -> Result<u32, Error> {
    let by = way.name();
    let number = slots.add(key, way, unix_ms())?;
    slots.note(deed, &Who::at_the_keyboard(), json!({ "key": key.to_string(), "slot": number, "by": by }))?;
    Ok(number)
}

fn short(id: KeyId) -> String {
    id.to_string().chars().take(8).collect()
}
