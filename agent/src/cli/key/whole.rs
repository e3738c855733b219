//! The database as a whole: encrypted, made plain, put under another key.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;
use zeroize::Zeroizing;

use super::{Place, Source, added, tell_next_start, unwritable};
use crate::acts::{Act, Deed, Who};
use crate::disk::Disk;
use crate::error::Error;
use crate::keys::{self, Secret, Slots, Told, Way};
use crate::lock::{Access, Lock};
use crate::status::bytes;
use crate::store::{DataKey, Home, KeyId, Sealing, Step, convert, files_aside, keep_acts, sealing};

impl Place<'_> {
    pub(super) async fn encrypt(
        &self,
        is_new: bool,
        key_file: Option<&Path>,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let access = match is_new {
            true => Lock::for_enrolment(self.folder).await?,
            // Not where there is no gateway: the folder may be mistyped.
            false => Lock::for_command(self.folder).await?,
        };
        let _lock = self.alone(access)?;
        let source = Source::of(&self.config.encryption)?;
        match sealing(&self.database)? {
            Sealing::Absent if is_new => {}
            Sealing::Absent => return Err(Error::NoGateway(self.folder.to_owned())),
            Sealing::Plain if !is_new => {}
            Sealing::Plain => {
                return Err(Error::refused(
                    "there is a gateway here already: to encrypt its database, leave --new out",
                ));
            }
            Sealing::Sealed(_) => return Err(Error::refused("the database is encrypted: outpost key status")),
            Sealing::Unclear => return Err(Error::refused("the database is damaged: outpost doctor")),
        }
        if is_new && Slots::load(&self.database)?.is_some() {
            return Err(Error::refused("there is a key for this gateway already: outpost key status"));
        }
        let key = DataKey::generate()?;
        let way = self.way(source, key_file, &key, || Ok(Home::new(self.folder, None))).await?;
        self.add_slot(Deed::Encrypt, key.id(), way)?;
        if is_new {
            writeln!(out, "the new gateway will be encrypted: outpost run")?;
            return tell_next_start(source, key_file, out);
        }
        self.convert(&Home::new(self.folder, None), Some(&key), out)?;
        keys::keep_only(&self.database, key.id())?;
        writeln!(out, "the database is encrypted; start the gateway")?;
        tell_next_start(source, key_file, out)?;
        self.tell_plain_copies(out)
    }

    pub(super) async fn decrypt(&self, key_file: Option<&Path>, out: &mut dyn Write) -> Result<(), Error> {
        let _lock = self.alone(Lock::for_command(self.folder).await?)?;
        let home = self.open(key_file).await?;
        let key = home.key().ok_or_else(|| Error::refused("the database is not encrypted"))?.id().to_string();
        // Before it is done: what is done and not told would be worse than what is told and then fails. With what waits beside
        // the database, which goes.
        let waiting = Slots::load(&self.database)?.map(|slots| slots.acts).unwrap_or_default();
        let act = Act::by_the_box(Deed::Decrypt, &Who::at_the_keyboard(), json!({ "key": key }))?;
        keep_acts(&home, &[waiting, vec![act]].concat())?;
        self.convert(&home, None, out)?;
        std::fs::remove_file(Slots::path(&self.database))?;
        writeln!(out, "the database is plain; take [encryption] out of the configuration, and start the gateway")
            .map_err(Error::from)
    }

    pub(super) async fn renew(&self, out: &mut dyn Write) -> Result<(), Error> {
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
            None => self.open(None).await?,
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

    fn add_slot(&self, deed: Deed, key: KeyId, way: Way) -> Result<(), Error> {
        Slots::change(&self.database, |slots| added(slots, deed, key, way)).map(|_| ())
    }

    /// The lock, if nobody else works here and what is done can be written.
    fn alone(&self, access: Access) -> Result<Lock, Error> {
        match access {
            Access::Here(lock) if lock.is_fixed() => Err(unwritable()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, EncryptionConfig, KeySource};
    use crate::keys::make_file;
    use crate::store::{FILE_NAME, Options, Store};

    fn by(key: KeySource, key_file: &Path) -> Config {
        let encryption = EncryptionConfig { key, key_file: key_file.to_owned(), ..EncryptionConfig::default() };
        Config { encryption, ..Config::default() }
    }

    #[tokio::test]
    async fn in_a_folder_that_was_mistyped_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let stick = folder.path().join("outpost.key");
        make_file(&stick).unwrap();
        let (config, nowhere) = (by(KeySource::File, &stick), folder.path().join("chingael"));
        let place = Place { folder: &nowhere, config: &config, database: nowhere.join(FILE_NAME) };
        for told in [
            place.encrypt(false, None, &mut Vec::new()).await,
            place.decrypt(None, &mut Vec::new()).await,
            place.add(Source::File, None, &mut Vec::new()).await,
            place.rotate(Some(&stick), &mut Vec::new()).await,
        ] {
            assert!(matches!(told, Err(Error::NoGateway(_))), "{told:?}");
        }
        assert!(!nowhere.exists());
        place.encrypt(true, None, &mut Vec::new()).await.unwrap();
        assert!(Slots::path(&place.database).exists());
        let again = place.encrypt(true, None, &mut Vec::new()).await.unwrap_err().to_string();
        assert!(again.contains("a key for this gateway already"), "{again}");
    }

    #[tokio::test]
    async fn a_gateway_that_is_there_goes_over_to_a_credential_and_back_by_what_that_will_hold() {
        let folder = tempfile::tempdir().unwrap();
        let (card, stick) = (folder.path().join("card"), folder.path().join("outpost.key"));
        make_file(&stick).unwrap();
        drop(Store::open(Home::new(&card, None), Options::default()).unwrap());
        let config = by(KeySource::Credential, Path::new(""));
        let place = Place { folder: &card, config: &config, database: card.join(FILE_NAME) };
        let told = place.encrypt(false, None, &mut Vec::new()).await.unwrap_err().to_string();
        assert!(told.contains("--key-file"), "{told}");
        assert_eq!(sealing(&place.database).unwrap(), Sealing::Plain);
        let mut out = Vec::new();
        place.encrypt(false, Some(&stick), &mut out).await.unwrap();
        assert!(String::from_utf8(out).unwrap().contains("as its credential outpost.key"));
        let slots = Slots::load(&place.database).unwrap().unwrap();
        assert!(matches!(slots.slots.as_slice(), [slot] if slot.way.name() == "credential"), "{slots:?}");
        let old = keys::of_old(&place.database, &config.encryption, Some(&stick)).unwrap();
        assert_eq!(old.map(|key| key.id()), slots.slots.first().map(|slot| slot.key));
        let other = folder.path().join("other.key");
        make_file(&other).unwrap();
        let told = place.decrypt(Some(&other), &mut Vec::new()).await.unwrap_err();
        assert!(matches!(told, Error::WrongKey(_)), "{told}");
        assert!(matches!(sealing(&place.database).unwrap(), Sealing::Sealed(_)));
        place.decrypt(Some(&stick), &mut Vec::new()).await.unwrap();
        assert_eq!(sealing(&place.database).unwrap(), Sealing::Plain);
    }
}
