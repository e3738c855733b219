//! Databases that the program of each layout wrote, kept as they were: what every upgrade has to bring through.
//!
//! `tests/freeze` makes one of the programs of today ([`story`]): a hub and two gateways in the middle of their work, killed without
//! warning, with their logs beside them, and what they said of themselves ([`told`]). It lies in `tests/frozen`, in a folder that
//! names both layouts, and is never made anew: the program that wrote it will be gone.
//!
//! Of each layout of the gateway there is a second one, in which the database of one of the two is encrypted by a key file that lies
//! with it: records that are made up are no secret.

pub mod age;
pub mod measure;
pub mod rows;
pub mod story;
pub mod told;

#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agent::config::EncryptionConfig;
use agent::store::{DataKey, Home};
use anyhow::{Context, Result};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use self::rows::open_as_it_is;

/// The gateways of a fleet.
pub const GATEWAYS: [&str; 2] = ["near", "far"];
/// What their boxes are called, wherever they are thawed.
pub const BOX: &str = "frozen";

/// The databases of a fleet, by their places in its folder, and where they lie among the frozen ones.
const DATABASES: [(&str, &str); 3] =
    [("hub/hub.db", "hub.db"), ("near/outpost.db", "near.db"), ("far/outpost.db", "far.db")];
/// How the name of its folder ends.
const OF_SEALED: &str = "-sealed";
/// What may lie beside a database: its log, and of an encrypted one its slots.
const BESIDE: [&str; 2] = ["-wal", "-keys"];
/// Whose database is encrypted in a fleet that is sealed, and by what.
const SEALED: &str = "near";
const KEY_FILE: &str = "near.key";
const TOLD: &str = "told.json";
const LEVEL: i32 = 19;
/// More than any of these files has.
const FILE_BYTES_MAX: usize = 64 << 20;

/// The frozen databases of a hub and its gateways.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frozen {
    /// The layout of the gateways.
    pub gateway: u32,
    /// The layout of the hub.
    pub hub: u32,
    /// The database of one of the gateways is encrypted.
    pub is_sealed: bool,
}

/// A fleet in a folder of its own, as its programs left it.
#[derive(Debug)]
pub struct Thawed {
    folder: TempDir,
    /// What its programs said of themselves before they were ended.
    pub told: Value,
}

/// Where the frozen databases lie.
pub fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("frozen")
}

/// All that there are, the oldest first.
///
/// # Errors
/// If the folder cannot be read.
pub fn all() -> io::Result<Vec<Frozen>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(home())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let (layouts, is_sealed) = match name.strip_suffix(OF_SEALED) {
            Some(layouts) => (layouts, true),
            None => (name.as_str(), false),
        };
        let layouts = layouts.strip_prefix("gateway-").and_then(|rest| rest.split_once("-hub-"));
        let layouts = layouts.and_then(|(gateway, hub)| Some((gateway.parse().ok()?, hub.parse().ok()?)));
        found.extend(layouts.map(|(gateway, hub)| Frozen { gateway, hub, is_sealed }));
    }
    found.sort();
    Ok(found)
}

impl Frozen {
    /// Where it lies.
    pub fn folder(&self) -> PathBuf {
        let ending = if self.is_sealed { OF_SEALED } else { "" };
        home().join(format!("gateway-{}-hub-{}{ending}", self.gateway, self.hub))
    }

    /// Keeps the fleet of a folder whose programs have ended, and what they said.
    ///
    /// # Errors
    /// If it is there already: what was frozen stays as it is.
    pub fn keep(&self, fleet: &Path, told: &Value) -> Result<()> {
        let folder = self.folder();
        fs::create_dir_all(home())?;
        fs::create_dir(&folder).with_context(|| format!("{} is there already", folder.display()))?;
        let pack = |bytes: &[u8], name: &str| -> Result<()> {
            Ok(fs::write(folder.join(format!("{name}.zst")), zstd::bulk::compress(bytes, LEVEL)?)?)
        };
        let pack_if_there = |place: &str, name: &str| match fs::read(fleet.join(place)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            bytes => pack(&bytes?, name),
        };
        for (place, name) in DATABASES {
            pack(&fs::read(fleet.join(place))?, name)?;
            BESIDE.iter().try_for_each(|end| pack_if_there(&format!("{place}{end}"), &format!("{name}{end}")))?;
        }
        pack_if_there(KEY_FILE, KEY_FILE)?;
        pack(serde_json::to_string_pretty(told)?.as_bytes(), TOLD)
    }

    /// Puts the fleet into a folder.
    ///
    /// # Errors
    /// If something of it is missing or cannot be read.
    pub fn thaw(&self) -> Result<Thawed> {
        let thawed = tempfile::tempdir()?;
        let unpack = |name: &str| -> Result<Vec<u8>> {
            let packed =
                fs::read(self.folder().join(format!("{name}.zst"))).with_context(|| format!("{self:?}: {name}"))?;
            Ok(zstd::bulk::decompress(&packed, FILE_BYTES_MAX)?)
        };
        for (place, name) in DATABASES {
            let to = thawed.path().join(place);
            fs::create_dir_all(to.parent().context("a folder")?)?;
            fs::write(&to, unpack(name)?)?;
            for end in BESIDE.iter().filter(|end| self.folder().join(format!("{name}{end}.zst")).exists()) {
                fs::write(thawed.path().join(format!("{place}{end}")), unpack(&format!("{name}{end}"))?)?;
            }
        }
        if self.is_sealed {
            let mut file =
                fs::File::options().write(true).create_new(true).mode(0o600).open(thawed.path().join(KEY_FILE))?;
            file.write_all(&unpack(KEY_FILE)?)?;
        }
        Ok(Thawed { told: serde_json::from_slice(&unpack(TOLD)?)?, folder: thawed })
    }
}

impl Thawed {
    /// The data folder of the hub, or of a gateway by its name.
    pub fn dir(&self, of: &str) -> PathBuf {
        self.folder.path().join(of)
    }

    /// The database of the hub, or of a gateway.
    pub fn database(&self, of: &str) -> PathBuf {
        self.dir(of).join(if of == "hub" { "hub.db" } else { "outpost.db" })
    }

    /// The key of that database, if it is encrypted.
    ///
    /// # Errors
    /// If its key file does not open it.
    pub fn key(&self, of: &str) -> Result<Option<DataKey>> {
        key_of(self.folder.path(), of)
    }

    /// The folder of a gateway, with the key if its database is encrypted.
    ///
    /// # Errors
    /// As [`Thawed::key`].
    pub fn home(&self, of: &str) -> Result<Home> {
        Ok(Home::new(&self.dir(of), self.key(of)?))
    }

    /// Opens a database without changing anything of it by that.
    ///
    /// # Errors
    /// As [`Thawed::key`]; what SQLite reports.
    pub fn open(&self, of: &str) -> Result<Connection> {
        open_as_it_is(&self.database(of), self.key(of)?.as_ref())
    }

    /// The settings of a gateway.
    pub fn settings(&self, of: &str) -> String {
        settings_of(self.folder.path(), of)
    }
}

/// Whether the database of one of a fleet is encrypted: its key file is there.
fn key_file_of(fleet: &Path, of: &str) -> Option<PathBuf> {
    Some(fleet.join(KEY_FILE)).filter(|file| of == SEALED && file.exists())
}

fn key_of(fleet: &Path, of: &str) -> Result<Option<DataKey>> {
    let Some(file) = key_file_of(fleet, of) else { return Ok(None) };
    Ok(agent::keys::of_old(&fleet.join(of).join("outpost.db"), &EncryptionConfig::default(), Some(&file))?)
}

fn settings_of(fleet: &Path, of: &str) -> String {
    let network = "[network]\nlisten = \"127.0.0.1:0\"\n";
    match key_file_of(fleet, of) {
        Some(file) => format!("{network}[encryption]\nkey = \"file\"\nkey_file = \"{}\"\n", file.display()),
        None => network.to_owned(),
    }
}
