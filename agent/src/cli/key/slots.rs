//! What opens the database: one way more or less, another one in the place of one, or one again after all were lost.

use std::io::Write;
use std::path::Path;

use serde_json::json;

use super::{Place, Source, added, tell_next_start};
use crate::acts::{Deed, Who};
use crate::error::Error;
use crate::keys::Slots;
use crate::store::{DataKey, Home, KeyId, Sealing, sealing};

impl Place<'_> {
    pub(super) async fn add(&self, source: Source, key_file: Option<&Path>, out: &mut dyn Write) -> Result<(), Error> {
        let home = self.open(None).await?;
        let key = home.key().ok_or_else(|| Error::refused("the database is not encrypted"))?;
        let way = self.way(source, key_file, key, || Ok(home.clone())).await?;
        let name = way.name();
        let number = self.change_slots(Some(key.id()), |slots| added(slots, Deed::AddKeySlot, key.id(), way))?;
        writeln!(out, "slot {number}: {name}; for the next start, set key = \"{name}\"").map_err(Error::from)
    }

    pub(super) async fn rotate(&self, key_file: Option<&Path>, out: &mut dyn Write) -> Result<(), Error> {
        let home = self.open(None).await?;
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
        tell_next_start(source, key_file, out)
    }

    pub(super) fn remove(&self, number: u32, out: &mut dyn Write) -> Result<(), Error> {
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

    pub(super) async fn recover(&self, key_file: Option<&Path>, out: &mut dyn Write) -> Result<(), Error> {
        let Sealing::Sealed(id) = sealing(&self.database)? else {
            return Err(Error::refused("this folder has no encrypted database: outpost key status"));
        };
        let are_lost = match Slots::load(&self.database) {
            Err(newer @ Error::NewerSlots { .. }) => return Err(newer),
            // A file with slots that cannot be read is what brings people here.
            slots => slots.is_err(),
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
        let way = self.way(source, key_file, &key, || Ok(home)).await?;
        let name = way.name();
        if are_lost {
            Slots::new().save(&self.database)?;
        }
        let number = Slots::change(&self.database, |slots| {
            slots.slots.retain(|slot| slot.way.name() != name);
            added(slots, Deed::RecoverKey, id, way)
        })?;
        writeln!(out, "slot {number}: {name} opens the database now")?;
        tell_next_start(source, key_file, out)
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, EncryptionConfig, KeySource};
    use crate::keys::{self, make_file};
    use crate::store::{FILE_NAME, Options, Store};

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
