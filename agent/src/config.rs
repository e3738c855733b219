//! Configuration: one TOML file, few keys. Default < file < flag.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use directories::ProjectDirs;
use serde::Deserialize;

use crate::error::Error;

/// The sample: every key with its default and what it means.
pub const SAMPLE: &str = include_str!("config.toml");
/// Name of the file in the data folder that is read unless another is named.
const FILE_NAME: &str = "outpost.toml";

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the local API listens.
    pub listen: SocketAddr,
    /// Longest time between two exchanges with the hub, seconds; 10 to 86,400.
    pub sync_interval_seconds: u64,
    /// Free space that intake leaves, megabytes.
    pub disk_reserve_megabytes: u64,
    /// What is written to the log.
    pub log_level: LogLevel,
    /// Copies of the database on a second medium.
    pub backup: BackupConfig,
}

/// Copies of the database on a second medium.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupConfig {
    /// A folder on it; empty for no copies.
    pub path: PathBuf,
    /// How many copies are kept; 1 to 100.
    pub keep: usize,
    /// How often one is made, hours; 1 to 8,760.
    pub interval_hours: u64,
}

impl Default for BackupConfig {
    fn default() -> Self {
        BackupConfig { path: PathBuf::new(), keep: 3, interval_hours: 24 }
    }
}

impl BackupConfig {
    /// Where copies go, if they are wanted.
    pub fn folder(&self) -> Option<&Path> {
        Some(self.path.as_path()).filter(|path| !path.as_os_str().is_empty())
    }

    /// How often one is made.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_hours.saturating_mul(3_600))
    }
}

/// How much is written to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures that need somebody.
    Error,
    /// And what is odd.
    Warn,
    /// And one line a sync.
    Info,
    /// And each exchange.
    Debug,
    /// And more than anybody wants.
    Trace,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8470)),
            sync_interval_seconds: 300,
            disk_reserve_megabytes: 64,
            log_level: LogLevel::Info,
            backup: BackupConfig::default(),
        }
    }
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`Error::Config`] with line, key and what is possible there.
    pub fn parse(text: &str) -> Result<Config, Error> {
        let config: Config = toml::from_str(text).map_err(|e| Error::Config(e.to_string().trim_end().to_owned()))?;
        if !(10..=86_400).contains(&config.sync_interval_seconds) {
            return Err(Error::Config("sync_interval_seconds must be from 10 to 86400".to_owned()));
        }
        if !(1..=100).contains(&config.backup.keep) {
            return Err(Error::Config("backup.keep must be from 1 to 100".to_owned()));
        }
        if !(1..=8_760).contains(&config.backup.interval_hours) {
            return Err(Error::Config("backup.interval_hours must be from 1 to 8760".to_owned()));
        }
        Ok(config)
    }

    /// Reads a file; without one named, that of the data folder if it is there.
    ///
    /// # Errors
    /// [`Error::Config`] if the file cannot be read or used.
    pub fn load(named: Option<&Path>, data_dir: &Path) -> Result<Config, Error> {
        let path = named.map_or_else(|| data_dir.join(FILE_NAME), Path::to_owned);
        match std::fs::read_to_string(&path) {
            Ok(text) => Config::parse(&text).map_err(|error| match error {
                Error::Config(told) => Error::Config(format!("{}: {told}", path.display())),
                other => other,
            }),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(Config::default()),
            Err(error) => Err(Error::Config(format!("{}: {error}", path.display()))),
        }
    }

    /// Longest time between two exchanges.
    pub fn sync_interval(&self) -> Duration {
        Duration::from_secs(self.sync_interval_seconds)
    }

    /// Free space that intake leaves, bytes.
    pub fn disk_reserve_bytes(&self) -> u64 {
        self.disk_reserve_megabytes.saturating_mul(1_000_000)
    }
}

impl LogLevel {
    /// As the log's filter wants it.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// The data folder: as told, else what systemd made for the service, else the user's own.
///
/// # Errors
/// [`Error::Usage`] if there is none of these.
pub fn data_dir(told: Option<PathBuf>) -> Result<PathBuf, Error> {
    let by_systemd = || std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
    let by_user = || ProjectDirs::from("", "", "outpost").map(|dirs| dirs.data_dir().to_owned());
    told.or_else(by_systemd)
        .or_else(by_user)
        .ok_or_else(|| Error::Usage("there is no home folder to keep data in; say where with --data-dir".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_the_defaults() {
        assert_eq!(Config::parse(SAMPLE).unwrap(), Config::default());
    }

    #[test]
    fn limits_are_said_with_the_key() {
        for (text, key) in
            [("[backup]\nkeep = 0", "backup.keep"), ("[backup]\ninterval_hours = 0", "backup.interval_hours")]
        {
            assert!(Config::parse(text).unwrap_err().to_string().contains(key), "{text}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones() {
        let told = Config::parse("lisen = \"127.0.0.1:1\"").unwrap_err().to_string();
        assert!(told.contains("lisen") && told.contains("listen") && told.contains("line 1"), "{told}");
    }
}
