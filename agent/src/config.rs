//! Configuration: one TOML file, few keys. Default < file < flag.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use directories::ProjectDirs;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::Error;
use crate::keys::Prompt;

/// The sample: every key with its default and what it means.
pub const SAMPLE: &str = include_str!("config.toml");
/// Name of the file in the data folder that is read unless another is named.
const FILE_NAME: &str = "outpost.toml";
/// Longest life of a token, days.
pub const TOKEN_DAYS_MAX: u32 = 3_650;
/// Shortest and longest time that history is kept, days. A hub is not put back to a backup that is older than the shortest.
pub const HISTORY_DAYS_MIN: u32 = 90;
/// See [`HISTORY_DAYS_MIN`].
pub const HISTORY_DAYS_MAX: u32 = 36_500;

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the local API listens: an address of this machine only.
    pub listen: SocketAddr,
    /// The clinic's network.
    pub network: NetworkConfig,
    /// Longest time between two exchanges with the hub, seconds; 10 to 86,400.
    pub sync_interval_seconds: u64,
    /// Free space that intake leaves, megabytes.
    pub disk_reserve_megabytes: u64,
    /// What is written to the log.
    pub log_level: LogLevel,
    /// Copies of the database on a second medium.
    pub backup: BackupConfig,
    /// How long history is kept that nobody needs any more.
    pub retention: RetentionConfig,
    /// Encryption of the database.
    pub encryption: EncryptionConfig,
}

/// Encryption of the database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncryptionConfig {
    /// Where the key comes from at start.
    pub key: KeySource,
    /// With [`KeySource::File`]: which file.
    pub key_file: PathBuf,
    /// Whether the hub is given a copy of the key.
    pub escrow: bool,
    /// Who is asked for a passphrase; not from the file.
    #[serde(skip)]
    pub prompt: Prompt,
}

impl Default for EncryptionConfig {
    fn default() -> Self {
        EncryptionConfig { key: KeySource::Off, key_file: PathBuf::new(), escrow: true, prompt: Prompt::default() }
    }
}

/// Where the key of the database comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeySource {
    /// The database is not encrypted.
    Off,
    /// A file, perhaps on a stick.
    File,
    /// A credential of systemd.
    Credential,
    /// Somebody who says it.
    Passphrase,
    /// The hub, at each start.
    Hub,
}

impl KeySource {
    /// As the file calls it.
    pub fn name(self) -> &'static str {
        match self {
            KeySource::Off => "off",
            KeySource::File => "file",
            KeySource::Credential => "credential",
            KeySource::Passphrase => "passphrase",
            KeySource::Hub => "hub",
        }
    }
}

/// The clinic's network, from which paired apps come in over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Where they come in; `None` if the gateway is closed to the network.
    #[serde(deserialize_with = "address_or_empty")]
    pub listen: Option<SocketAddr>,
    /// The name or address that invitations carry; empty for one that is found.
    pub name: String,
    /// How long an app may come in after it was paired, days; 1 to 3,650.
    pub token_days: u32,
    /// Whose pages may use the gateway from a browser.
    pub origins: Vec<String>,
    /// Whether the gateway makes itself known by mDNS.
    pub announce: bool,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        NetworkConfig { listen: None, name: String::new(), token_days: 365, origins: Vec::new(), announce: true }
    }
}

fn address_or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = |_| D::Error::custom(format!("{text:?} is no address such as \"0.0.0.0:8471\""));
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(wrong) }
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

/// How long history is kept that nobody needs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Days that it has been safe at the hub; 0 keeps it for ever, else [`HISTORY_DAYS_MIN`] to [`HISTORY_DAYS_MAX`].
    pub history_days: u32,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        RetentionConfig { history_days: 730 }
    }
}

impl RetentionConfig {
    /// How long it is kept, milliseconds; `None` for ever.
    pub fn age_ms(&self) -> Option<i64> {
        (self.history_days > 0).then(|| i64::from(self.history_days) * 24 * 3_600 * 1_000)
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
            network: NetworkConfig::default(),
            sync_interval_seconds: 300,
            disk_reserve_megabytes: 64,
            log_level: LogLevel::Info,
            backup: BackupConfig::default(),
            retention: RetentionConfig::default(),
            encryption: EncryptionConfig::default(),
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
        let days = config.retention.history_days;
        if days != 0 && !(HISTORY_DAYS_MIN..=HISTORY_DAYS_MAX).contains(&days) {
            return Err(Error::Config(format!(
                "retention.history_days must be 0, to keep everything, or from {HISTORY_DAYS_MIN} to {HISTORY_DAYS_MAX}"
            )));
        }
        let has_file = !config.encryption.key_file.as_os_str().is_empty();
        if has_file != (config.encryption.key == KeySource::File) {
            return Err(Error::Config(
                "encryption.key_file names a file with key = \"file\", and only then".to_owned(),
            ));
        }
        config.check_listeners()?;
        Ok(config)
    }

    /// Refuses what would open the gateway to a network without TLS, or to pages that nobody meant.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn check_listeners(&self) -> Result<(), Error> {
        let NetworkConfig { name, token_days, origins, .. } = &self.network;
        if !self.listen.ip().is_loopback() {
            return Err(Error::Config(format!(
                "listen is for this machine only, such as 127.0.0.1:8470. To open the gateway to the clinic's network, set \
                 listen in [network]: apps speak TLS there and are paired. Found {}",
                self.listen
            )));
        }
        if !(1..=TOKEN_DAYS_MAX).contains(token_days) {
            return Err(Error::Config(format!("network.token_days must be from 1 to {TOKEN_DAYS_MAX}")));
        }
        if name.parse::<IpAddr>().is_err() && !name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)) {
            return Err(Error::Config("network.name is a name or an address, without a port".to_owned()));
        }
        match origins.iter().find(|origin| !is_origin(origin)) {
            Some(wrong) => Err(Error::Config(format!(
                "network.origins: {wrong:?} is none, such as \"https://clinic.example.org\": no path, no * and no / at the end"
            ))),
            None => Ok(()),
        }
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

/// Whether a text is what a browser sends as `Origin`.
fn is_origin(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:[]".contains(c);
    text.split_once("://").is_some_and(|(scheme, host)| {
        let is_scheme = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_lowercase());
        is_scheme && !host.is_empty() && host.chars().all(allowed)
    })
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
        for (text, key) in [
            ("[encryption]\nkey = \"file\"", "encryption.key_file"),
            ("[encryption]\nkey_file = \"/media/key\"", "encryption.key_file"),
            ("[backup]\nkeep = 0", "backup.keep"),
            ("[backup]\ninterval_hours = 0", "backup.interval_hours"),
            ("[retention]\nhistory_days = 89", "retention.history_days"),
            ("[retention]\nhistory_days = 36501", "retention.history_days"),
            ("[network]\ntoken_days = 0", "network.token_days"),
            ("[network]\nname = \"a b\"", "network.name"),
            ("[network]\nname = \"10.0.0.1:8471\"", "network.name"),
            ("[network]\norigins = [\"*\"]", "network.origins"),
            ("[network]\norigins = [\"null\"]", "network.origins"),
            ("[network]\norigins = [\"https://a.example/\"]", "network.origins"),
        ] {
            assert!(Config::parse(text).unwrap_err().to_string().contains(key), "{text}");
        }
    }

    #[test]
    fn what_is_for_this_machine_is_not_opened_to_a_network_by_a_slip() {
        for text in ["listen = \"0.0.0.0:8470\"", "listen = \"192.168.4.1:8470\"", "listen = \"[::]:8470\""] {
            let told = Config::parse(text).unwrap_err().to_string();
            assert!(told.contains("[network]"), "{told}");
        }
        let open = Config::parse("[network]\nlisten = \"0.0.0.0:8471\"\norigins = [\"https://a.example\"]").unwrap();
        assert_eq!(open.network.listen, Some(SocketAddr::from(([0, 0, 0, 0], 8471))));
        assert!(Config::parse("[network]\nlisten = \"8471\"").unwrap_err().to_string().contains("0.0.0.0:8471"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones() {
        let told = Config::parse("lisen = \"127.0.0.1:1\"").unwrap_err().to_string();
        assert!(told.contains("lisen") && told.contains("listen") && told.contains("line 1"), "{told}");
    }
}
