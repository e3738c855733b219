//! The file beside an encrypted database that holds its key, wrapped by what somebody keeps elsewhere: one slot for each.
//!
//! To change a passphrase or a key file is to write this file anew; the database is not touched. It says no secret by itself.
//! It lies beside the database, beside each copy of it and beside one that was set aside, because a database without it opens
//! with the recovery key only. In the file it stands twice, some blocks apart, each with a checksum: cards lose single blocks.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::digest::{SHA256, digest};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use super::wrap::Stretch;
use crate::acts::{Act, Deed, Who};
use crate::error::Error;
use crate::store::{KeyId, with_suffix};

/// What is put behind the name of a database.
const SUFFIX: &str = "-keys";
/// Newer files are not read. Whoever adds a way, or anything without which the key is not found, gives them the next number.
const FORMAT: u32 = 1;
/// The second copy begins at a multiple of this.
const BLOCK_BYTES: usize = 4_096;
/// Larger files are not read.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Slots in one file.
const SLOTS_MAX: usize = 16;
/// Acts that wait in it.
const ACTS_MAX: usize = 64;

/// Bytes, in letters.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Zeroizing<Vec<u8>>);

/// All slots of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slots {
    format: u32,
    pub(crate) slots: Vec<Slot>,
    /// Where a copy of the key is kept by a hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) escrow: Option<Escrowed>,
    /// What was done to them, until the database has it: written with the change that it tells of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) acts: Vec<Act>,
    /// How many went before it had them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(super) acts_dropped: u64,
}

/// What the file of any program says of itself.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// One way to the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slot {
    pub(crate) number: u32,
    /// The name of the key that is in it.
    #[serde(with = "key_id")]
    pub(crate) key: KeyId,
    pub(crate) made_ms: i64,
    #[serde(flatten)]
    pub(crate) way: Way,
}

/// What opens a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "lowercase")]
pub(crate) enum Way {
    /// The content of a file.
    File { salt: Bytes, sealed: Bytes },
    /// The content of a credential of the service manager.
    Credential { salt: Bytes, sealed: Bytes },
    /// A passphrase, stretched.
    Passphrase { salt: Bytes, stretch: Stretch, sealed: Bytes },
    /// The hub, which keeps the key itself and gives it to whoever shows this certificate, unless it was revoked.
    Hub { url: String, authority: Bytes, certificate: Bytes, identity: Bytes },
}

/// That a hub has confirmed to keep a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Escrowed {
    pub(crate) url: String,
    #[serde(with = "key_id")]
    pub(crate) key: KeyId,
    pub(crate) at_ms: i64,
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({})", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD_NO_PAD.encode(self.0.as_slice())))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = STANDARD_NO_PAD.decode(text.as_bytes()).map_err(|_| serde::de::Error::custom("not base 64"))?;
        Ok(Bytes(Zeroizing::new(bytes)))
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Bytes {
        Bytes(Zeroizing::new(bytes.to_vec()))
    }
}

mod key_id {
    use super::{Bytes, Deserialize, Deserializer, KeyId, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &KeyId, serializer: S) -> Result<S::Ok, S::Error> {
        Bytes::from(&id.0[..]).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyId, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        bytes.0.as_slice().try_into().map(KeyId).map_err(|_| serde::de::Error::custom("not the name of a key"))
    }
}

impl Way {
    /// As the configuration calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Way::File { .. } => "file",
            Way::Credential { .. } => "credential",
            Way::Passphrase { .. } => "passphrase",
            Way::Hub { .. } => "hub",
        }
    }
}

impl Slots {
    /// None yet.
    pub(crate) fn new() -> Slots {
        Slots { format: FORMAT, slots: Vec::new(), escrow: None, acts: Vec::new(), acts_dropped: 0 }
    }

    /// Where those of a database are.
    pub(crate) fn path(database: &Path) -> PathBuf {
        with_suffix(database, SUFFIX)
    }

    /// Those of a database; `None` if it has no such file.
    ///
    /// # Errors
    /// [`Error::NewerSlots`]; [`Error::Told`] if no copy in the file can be read.
    pub(crate) fn load(database: &Path) -> Result<Option<Slots>, Error> {
        let path = Slots::path(database);
        let source = |source| Error::File { path: path.clone(), source };
        let size = match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            size => size.map_err(source)?.len(),
        };
        let bytes = if size > FILE_BYTES_MAX { Vec::new() } else { fs::read(&path).map_err(source)? };
        match bytes.split(|byte| *byte == b'\n').find_map(read_line) {
            Some(Line::Known(slots)) => Ok(Some(slots)),
            Some(Line::Newer(found)) => Err(Error::NewerSlots { file: path, found, known: FORMAT }),
            None => Err(Error::key_trouble(format!(
                "{} cannot be read. Put it back from beside a copy of the database, or run: outpost key recover",
                path.display()
            ))),
        }
    }

    /// Writes them beside a database, whole or not at all.
    ///
    /// # Errors
    /// What the file system reports; then the file is as it was.
    pub(crate) fn save(&self, database: &Path) -> Result<(), Error> {
        let (path, part) = (Slots::path(database), with_suffix(database, "-keys.part"));
        let json = Zeroizing::new(serde_json::to_vec(self).map_err(|e| Error::Config(e.to_string()))?);
        let mut line = Zeroizing::new(checksum(&json).into_bytes());
        line.push(b' ');
        line.extend_from_slice(&json);
        line.push(b'\n');
        // The break before the second copy is in its own block.
        let apart = BLOCK_BYTES - line.len() % BLOCK_BYTES + 1;
        // One that a power cut left behind.
        let _ = fs::remove_file(&part);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(&line)?;
        file.write_all(&vec![b'\n'; apart])?;
        file.write_all(&line)?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        Ok(File::open(path.parent().unwrap_or(&path))?.sync_all()?)
    }

    /// Changes those of a database, while nobody else does.
    ///
    /// # Errors
    /// As [`Slots::load`] and [`Slots::save`], and what `change` returns.
    pub(crate) fn change<T>(database: &Path, change: impl FnOnce(&mut Slots) -> Result<T, Error>) -> Result<T, Error> {
        let folder = File::open(database.parent().unwrap_or(database))?;
        flock(&folder, FlockOperation::LockExclusive).map_err(std::io::Error::from)?;
        let before = Slots::load(database)?;
        let mut slots = before.clone().unwrap_or_else(Slots::new);
        let result = change(&mut slots)?;
        if before.as_ref() != Some(&slots) {
            slots.save(database)?;
        }
        Ok(result)
    }

    /// Adds a slot, and gives its number.
    ///
    /// # Errors
    /// [`Error::Told`] if there are too many.
    pub(crate) fn add(&mut self, key: KeyId, way: Way, made_ms: i64) -> Result<u32, Error> {
        if self.slots.len() >= SLOTS_MAX {
            return Err(Error::refused(format!("there are {SLOTS_MAX} slots already; remove one: outpost key remove")));
        }
        let number = self.slots.iter().map(|slot| slot.number).max().unwrap_or(0) + 1;
        self.slots.push(Slot { number, key, made_ms, way });
        Ok(number)
    }

    /// Notes what this change does; the oldest note goes if nobody has come for it for long.
    ///
    /// # Errors
    /// [`Error::Io`] if the system has no random bytes.
    pub(crate) fn note(&mut self, deed: Deed, who: &Who, on: Json) -> Result<(), Error> {
        if self.acts.len() >= ACTS_MAX {
            self.acts.remove(0);
            self.acts_dropped += 1;
        }
        self.acts.push(Act::by_the_box(deed, who, on)?);
        Ok(())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

fn checksum(json: &[u8]) -> String {
    let sum = digest(&SHA256, json);
    sum.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// One of the copies in the file.
enum Line {
    Known(Slots),
    /// Of a newer program, in this format.
    Newer(u32),
}

fn read_line(line: &[u8]) -> Option<Line> {
    let (sum, json) = line.split_at_checked(16)?;
    let json = json.strip_prefix(b" ")?;
    (checksum(json).as_bytes() == sum).then_some(())?;
    // Nothing else of a newer one has to be as it is here.
    let Format { format } = serde_json::from_slice(json).ok()?;
    if format > FORMAT {
        return Some(Line::Newer(format));
    }
    serde_json::from_slice::<Slots>(json).ok().filter(|slots| slots.format == FORMAT).map(Line::Known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots {
        let mut slots = Slots::new();
        let way = Way::File { salt: Bytes::from(&[1; 32][..]), sealed: Bytes::from(&[2; 48][..]) };
        slots.add(KeyId([3; 16]), way, 7).unwrap();
        slots
    }

    #[test]
    fn a_block_of_the_card_that_is_lost_does_not_take_the_key_along() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("outpost.db");
        slots().save(&database).unwrap();
        let whole = fs::read(Slots::path(&database)).unwrap();
        for block in 0..whole.len().div_ceil(BLOCK_BYTES) {
            let mut torn = whole.clone();
            torn.iter_mut().skip(block * BLOCK_BYTES).take(BLOCK_BYTES).for_each(|byte| *byte = 0xff);
            fs::write(Slots::path(&database), &torn).unwrap();
            assert_eq!(Slots::load(&database).unwrap(), Some(slots()), "{block}");
        }
        let flipped: Vec<u8> = whole.iter().map(|byte| if *byte == b'A' { b'B' } else { *byte }).collect();
        fs::write(Slots::path(&database), flipped).unwrap();
        assert!(Slots::load(&database).unwrap_err().to_string().contains("recover"));
    }

    #[test]
    fn slots_of_a_newer_program_are_said_to_be_that_and_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("outpost.db");
        let json = br#"{"format":2,"slots":{"tpm":"other than they are here"}}"#;
        let written = [checksum(json).as_bytes(), b" ", json, b"\n"].concat();
        fs::write(Slots::path(&database), &written).unwrap();
        let refused =
            Slots::change(&database, |slots| slots.note(Deed::Encrypt, &Who::gateway(), Json::Null)).unwrap_err();
        assert!(matches!(refused, Error::NewerSlots { found: 2, known: FORMAT, .. }), "{refused}");
        assert_eq!(fs::read(Slots::path(&database)).unwrap(), written);
    }

    #[test]
    fn numbers_of_slots_are_not_used_twice_at_a_time_and_there_is_an_end_to_them() {
        let mut slots = slots();
        let way = slots.slots[0].way.clone();
        assert_eq!(slots.add(KeyId([4; 16]), way.clone(), 8).unwrap(), 2);
        slots.slots.remove(0);
        assert_eq!(slots.add(KeyId([4; 16]), way.clone(), 8).unwrap(), 3);
        while slots.slots.len() < SLOTS_MAX {
            slots.add(KeyId([4; 16]), way.clone(), 8).unwrap();
        }
        assert!(slots.add(KeyId([4; 16]), way, 8).is_err());
    }
}
