//! Databases that the program of each layout wrote, kept as they were: what every upgrade has to bring through.
//!
//! `tests/freeze` makes one of the programs of today ([`story`]): a hub and two gateways in the middle of their work, killed without
//! warning, with their logs beside them, and what they said of themselves ([`told`]). It lies in `tests/frozen`, in a folder that
//! names both layouts, and is never made anew: the program that wrote it will be gone.

pub mod age;
pub mod measure;
pub mod rows;
pub mod story;
pub mod told;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

/// The gateways of a fleet.
pub const GATEWAYS: [&str; 2] = ["near", "far"];
/// What their boxes are called, wherever they are thawed.
pub const BOX: &str = "frozen";

/// The databases of a fleet, by their places in its folder, and where they lie among the frozen ones.
const DATABASES: [(&str, &str); 3] =
    [("hub/hub.db", "hub.db"), ("near/outpost.db", "near.db"), ("far/outpost.db", "far.db")];
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
        let layouts = name.strip_prefix("gateway-").and_then(|rest| rest.split_once("-hub-"));
        let layouts = layouts.and_then(|(gateway, hub)| Some((gateway.parse().ok()?, hub.parse().ok()?)));
        found.extend(layouts.map(|(gateway, hub)| Frozen { gateway, hub }));
    }
    found.sort();
    Ok(found)
}

impl Frozen {
    /// Where it lies.
    pub fn folder(&self) -> PathBuf {
        home().join(format!("gateway-{}-hub-{}", self.gateway, self.hub))
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
        for (place, name) in DATABASES {
            pack(&fs::read(fleet.join(place))?, name)?;
            match fs::read(fleet.join(format!("{place}-wal"))) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                log => pack(&log?, &format!("{name}-wal"))?,
            }
        }
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
            if self.folder().join(format!("{name}-wal.zst")).exists() {
                fs::write(thawed.path().join(format!("{place}-wal")), unpack(&format!("{name}-wal"))?)?;
            }
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
}
