//! `outpost key`: by what the database is encrypted, and by whom it opens. `outpost unlock`: opens one that waits.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use serde_json::json;
use zeroize::Zeroizing;

use crate::acts::{Act, Deed, Who};
use crate::clock::{Clock, unix_ms};
use crate::config::{Config, EncryptionConfig, KeySource};
use crate::disk::Disk;
use crate::error::Error;
use crate::keys::{self, CREDENTIAL, Said, Secret, Slots, Told, Way, make_file};
use crate::lock::{Access, Lock};
use crate::status::bytes;
use crate::store::{
    DataKey, FILE_NAME, Home, Identity, KeyId, Sealing, Step, Store, convert, files_aside, keep_acts, sealing,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Show whether the database is encrypted, and what opens it.
    Status,
    /// Make a key file, such as on a stick; one that is there stays as it is.
    Make {
        /// Where.
        file: PathBuf,
    },
    /// Encrypt the database by what the configuration says, or make a new gateway that is. Stop the gateway before.
    Encrypt,
    /// Write the database as anybody can read it. Stop the gateway before, and take [encryption] out of the configuration after.
    Decrypt,
    /// Encrypt the database with another key, which every slot and the hub's copy are for then. The gateway goes on meanwhile.
    Renew,
    /// Let another file, credential, passphrase or the hub open the database. The gateway goes on meanwhile.
    Add {
        /// What shall open it as well.
        source: Source,
        /// With `file`: which; that of the configuration unless named.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// Put a new passphrase or key file in the place of the present one. The gateway goes on meanwhile.
    Rotate {
        /// The new key file; not for a passphrase, which is asked for.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// Take a slot away, by its number; not the last one.
    Remove {
        /// As `key status` shows it.
        number: u32,
    },
    /// Open the database with the recovery key, and make a slot for what the configuration says.
    Recover,
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
        match self {
            Key::Status => place.status(out),
            Key::Make { file } => {
                make_file(&file)?;
                let told = "keep it away from the box, and a copy in another place";
                writeln!(out, "{} is a new key file; {told}", file.display()).map_err(Error::from)
            }
            Key::Encrypt => place.encrypt(out).await,
            Key::Decrypt => place.decrypt(out).await,
            Key::Renew => place.renew(out).await,
            Key::Add { source, key_file } => place.add(source, key_file.as_deref(), out).await,
            Key::Rotate { key_file } => place.rotate(key_file.as_deref(), out).await,
            Key::Remove { number } => place.remove(number, out),
            Key::Recover => place.recover(out).await,
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

    async fn encrypt(&self, out: &mut dyn Write) -> Result<(), Error> {
        let _lock = self.lock().await?;
        let source = Source::of(&self.config.encryption)?;
        let is_new = match sealing(&self.database)? {
            Sealing::Plain => false,
            Sealing::Absent => true,
            Sealing::Sealed(_) => return Err(Error::refused("the database is encrypted: outpost key status")),
            Sealing::Unclear => return Err(Error::refused("the database is damaged: outpost doctor")),
        };
        if is_new && Slots::load(&self.database)?.is_some() {
            return Err(Error::refused("there is a key for this gateway already: outpost key status"));
        }
        let key = DataKey::generate()?;
        let way = self.way(source, None, &key, || Ok(Home::new(self.folder, None))).await?;
        self.add_slot(Deed::Encrypt, key.id(), way)?;
        if is_new {
            return writeln!(out, "the new gateway will be encrypted: outpost run").map_err(Error::from);
        }
        self.convert(&Home::new(self.folder, None), Some(&key), out)?;
        keys::keep_only(&self.database, key.id())?;
        writeln!(out, "the database is encrypted; start the gateway")?;
        self.tell_plain_copies(out)
    }

    async fn decrypt(&self, out: &mut dyn Write) -> Result<(), Error> {
        let _lock = self.lock().await?;
        let home = self.open().await?;
        // Before it is done: what is done and not told would be worse than what is told and then fails. With what waits beside
        // the database, which goes.
        let waiting = Slots::load(&self.database)?.map(|slots| slots.acts).unwrap_or_default();
        let key = home.key().map(|key| key.id().to_string());
        let act = Act::by_the_box(Deed::Decrypt, &Who::at_the_keyboard(), json!({ "key": key }))?;
        keep_acts(&home, &[waiting, vec![act]].concat())?;
        self.convert(&home, None, out)?;
        std::fs::remove_file(Slots::path(&self.database))?;
        writeln!(out, "the database is plain; take [encryption] out of the configuration, and start the gateway")
            .map_err(Error::from)
    }

    async fn renew(&self, out: &mut dyn Write) -> Result<(), Error> {
        let access = Lock::for_command(self.folder).await?;
        let source = Source::of(&self.config.encryption)?;
        let passphrase = match source {
            // Said once, and for both keys.
            Source::Passphrase => Some(self.config.encryption.prompt.ask("passphrase of the database")?),
            _ => None,
        };
        match access {
            Access::Here(lock) => self.renew_here(lock, source, passphrase.map(keys::said), out).await?,
            Access::Daemon(_) => self.renew_there(passphrase, out).await?,
        }
        writeln!(
            out,
            "the database has another key. Other slots were for the old one: add them again (outpost key add)"
        )
        .map_err(Error::from)
    }

    /// In the gateway that runs.
    async fn renew_there(&self, passphrase: Option<Zeroizing<String>>, out: &mut dyn Write) -> Result<(), Error> {
        let mut last = 0;
        let tell = |told: &Told| match told {
            Told::Copying { pages, of } if *of > 0 => {
                let tenths = i64::from(*pages) * 10 / i64::from(*of);
                if tenths > last {
                    writeln!(out, "{} % copied", tenths * 10)?;
                    last = tenths;
                }
                Ok(out.flush()?)
            }
            Told::Replaced if last < i64::MAX => {
                last = i64::MAX;
                Ok(writeln!(out, "the new key is in force; checking the new file and overwriting the old one")?)
            }
            _ => Ok(()),
        };
        let passphrase = passphrase.as_ref().map(|text| text.as_str());
        let note = keys::ask_for_renewal(self.folder, &self.config.encryption, passphrase, tell).await?;
        if note.is_empty() { Ok(()) } else { Ok(writeln!(out, "{note}")?) }
    }

    /// In this process, with nobody else in the folder.
    async fn renew_here(
        &self,
        _lock: Lock,
        source: Source,
        secret: Option<Secret>,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let home = match &secret {
            Some(secret) => Home::new(self.folder, Some(self.opened_by(secret)?)),
            None => self.open().await?,
        };
        let key = DataKey::generate()?;
        let way = match secret {
            Some(secret) => secret.wrap(&key)?,
            None => self.way(source, None, &key, || Ok(home.clone())).await?,
        };
        // Both until the copy is in its place: whichever database there is after a power cut opens.
        self.add_slot(Deed::RenewKey, key.id(), way)?;
        self.convert(&home, Some(&key), out)?;
        keys::keep_only(&self.database, key.id())
    }

    async fn add(&self, source: Source, key_file: Option<&Path>, out: &mut dyn Write) -> Result<(), Error> {
        let home = self.open().await?;
        let key = home.key().ok_or_else(|| Error::refused("the database is not encrypted"))?;
        let way = self.way(source, key_file, key, || Ok(home.clone())).await?;
        let name = way.name();
        let number = self.change_slots(Some(key.id()), |slots| added(slots, Deed::AddKeySlot, key.id(), way))?;
        writeln!(out, "slot {number}: {name}; for the next start, set key = \"{name}\"").map_err(Error::from)
    }

    async fn rotate(&self, key_file: Option<&Path>, out: &mut dyn Write) -> Result<(), Error> {
        let home = self.open().await?;
        let key = home.key().ok_or_else(|| Error::refused("the database is not encrypted"))?;
        let source = Source::of(&self.config.encryption)?;
        if matches!(source, Source::File) && key_file.is_none() {
            return Err(Error::Usage("which new key file? outpost key rotate --key-file FILE".to_owned()));
        }
        let way = self.way(source, key_file, key, || Ok(home.clone())).await?;
        let name = way.name();
        let number = self.change_slots(Some(key.id()), |slots| {
            let number = added(slots, Deed::ReplaceKeySlot, key.id(), way)?;
            slots.slots.retain(|slot| slot.number == number || slot.way.name() != name);
            Ok(number)
        })?;
        writeln!(out, "slot {number}: {name}; the one before opens nothing any more but older copies")?;
        match key_file {
            Some(file) => writeln!(out, "set key_file = \"{}\"", file.display()).map_err(Error::from),
            None => Ok(()),
        }
    }

    fn remove(&self, number: u32, out: &mut dyn Write) -> Result<(), Error> {
        let id = match sealing(&self.database)? {
            Sealing::Sealed(id) => Some(id),
            _ => None,
        };
        self.change_slots(id, |slots| {
            let before = slots.slots.len();
            let by = slots.slots.iter().find(|slot| slot.number == number).map(|slot| slot.way.name());
            slots.slots.retain(|slot| slot.number != number);
            let is_openable = slots.slots.iter().any(|slot| id.is_none_or(|id| id == slot.key));
            match (slots.slots.len() < before, is_openable) {
                (false, _) => Err(Error::refused(format!("there is no slot {number}: outpost key status"))),
                (true, false) => {
                    Err(Error::refused("this is the last slot that opens the database; add another before"))
                }
                (true, true) => {
                    let on = json!({ "slot": number, "by": by });
                    slots.note(Deed::RemoveKeySlot, &Who::at_the_keyboard(), on)
                }
            }
        })?;
        writeln!(out, "slot {number} is gone").map_err(Error::from)
    }

    async fn recover(&self, out: &mut dyn Write) -> Result<(), Error> {
        let Sealing::Sealed(id) = sealing(&self.database)? else {
            return Err(Error::refused("this folder has no encrypted database: outpost key status"));
        };
        let source = Source::of(&self.config.encryption)?;
        let letters = self.config.encryption.prompt.ask("recovery key")?;
        let bytes = sync_protocol::recovery::from_letters(&letters);
        let key = bytes.map(DataKey::new).ok_or_else(|| {
            Error::refused("this is no recovery key, or a letter of it is wrong; nothing was changed")
        })?;
        if key.id() != id {
            return Err(Error::WrongKey(self.database.clone()));
        }
        let home = Home::new(self.folder, Some(key.clone()));
        let way = self.way(source, None, &key, || Ok(home)).await?;
        let name = way.name();
        // A file with slots that cannot be read is what brings people here.
        if Slots::load(&self.database).is_err() {
            Slots::new().save(&self.database)?;
        }
        let number = Slots::change(&self.database, |slots| {
            slots.slots.retain(|slot| slot.way.name() != name);
            added(slots, Deed::RecoverKey, id, way)
        })?;
        writeln!(out, "slot {number}: {name} opens the database now").map_err(Error::from)
    }

    fn add_slot(&self, deed: Deed, key: KeyId, way: Way) -> Result<(), Error> {
        Slots::change(&self.database, |slots| added(slots, deed, key, way)).map(|_| ())
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
            Source::File => {
                let path = key_file.unwrap_or(&self.config.encryption.key_file);
                if path.as_os_str().is_empty() {
                    return Err(Error::Usage("which key file? name it with --key-file FILE".to_owned()));
                }
                keys::file(path)?
            }
            Source::Credential => match key_file {
                // What the unit will give, said by who makes it: a command does not get credentials.
                Some(path) => match keys::file(path)? {
                    Secret::File(content) => Secret::Credential(content),
                    other => other,
                },
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

    /// Changes the slots of the key in force. Those of another key go when the change to that one ends, or else those of this.
    fn change_slots<T>(
        &self,
        key: Option<KeyId>,
        change: impl FnOnce(&mut Slots) -> Result<T, Error>,
    ) -> Result<T, Error> {
        Slots::change(&self.database, |slots| {
            match slots.slots.iter().any(|slot| key.is_some_and(|key| key != slot.key)) {
                true => Err(Error::refused(
                    "the key of the database is being changed. Wait until that is done and try again; a gateway that was stopped \
                     in the middle of it ends it when it is started",
                )),
                false => change(slots),
            }
        })
    }

    async fn open(&self) -> Result<Home, Error> {
        keys::open(self.folder, &self.config.encryption).await
    }

    fn opened_by(&self, secret: &Secret) -> Result<DataKey, Error> {
        let Sealing::Sealed(id) = sealing(&self.database)? else {
            return Err(Error::refused("this folder has no encrypted database: outpost key status"));
        };
        let slots = Slots::load(&self.database)?.ok_or_else(|| keys::missing_slots(&self.database))?;
        keys::open_slot(&slots, secret, Some(id))?.ok_or_else(|| Error::WrongKey(self.database.clone()))
    }

    async fn lock(&self) -> Result<Lock, Error> {
        match Lock::for_enrolment(self.folder).await? {
            Access::Here(lock) => Ok(lock),
            Access::Daemon(_) => Err(Error::InUse {
                data_dir: self.folder.to_owned(),
                who: "the gateway is running. To encrypt its whole database it has to be stopped".to_owned(),
            }),
        }
    }

    fn convert(&self, from: &Home, to: Option<&DataKey>, out: &mut dyn Write) -> Result<(), Error> {
        let size = std::fs::metadata(&self.database)?.len();
        Disk::new(self.folder, 0).check_room_for_copy(size)?;
        writeln!(out, "copying {} ...", bytes(size))?;
        out.flush()?;
        convert(from, to, &mut |_: Step| Ok(()))
    }

    fn tell_plain_copies(&self, out: &mut dyn Write) -> Result<(), Error> {
        let is_plain = |file: &PathBuf| matches!(sealing(file), Ok(Sealing::Plain));
        let mut plain: Vec<PathBuf> = files_aside(self.folder).into_iter().filter(is_plain).collect();
        for entry in self.config.backup.folder().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten()
        {
            plain.extend(entry.ok().map(|entry| entry.path()).filter(is_plain));
        }
        for file in &plain {
            writeln!(out, "still readable by anybody: {}", file.display())?;
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Options;

    #[tokio::test]
    async fn while_the_key_is_being_changed_no_slot_is_promised_that_would_go_with_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one.key"), folder.path().join("other.key"));
        make_file(&one).unwrap();
        make_file(&other).unwrap();
        let encryption = EncryptionConfig { key: KeySource::File, key_file: one, ..EncryptionConfig::default() };
        let config = Config { encryption, ..Config::default() };
        let home = keys::open(folder.path(), &config.encryption).await.unwrap();
        let key = home.key().unwrap().id();
        drop(Store::open(home, Options::default()).unwrap());
        let place = Place { folder: folder.path(), config: &config, database: folder.path().join(FILE_NAME) };
        let slots = || Slots::load(&place.database).unwrap().unwrap();
        let way = slots().slots[0].way.clone();
        Slots::change(&place.database, |slots| slots.add(KeyId([7; 16]), way, 0)).unwrap();
        let before = slots();
        for told in [
            place.add(Source::File, Some(&other), &mut Vec::new()).await,
            place.rotate(Some(&other), &mut Vec::new()).await,
            place.remove(1, &mut Vec::new()),
        ] {
            assert!(told.unwrap_err().to_string().contains("being changed"));
        }
        assert_eq!(slots(), before);
        keys::keep_only(&place.database, key).unwrap();
        place.add(Source::File, Some(&other), &mut Vec::new()).await.unwrap();
        place.remove(1, &mut Vec::new()).unwrap();
        assert_eq!(slots().slots.iter().map(|slot| (slot.number, slot.key)).collect::<Vec<_>>(), [(2, key)]);
    }
}
