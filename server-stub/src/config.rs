//! The configuration: one TOML file with few keys. Default, then file, then flag.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::HubError;
use crate::oidc::Oidc;

/// The sample file; a test holds it equal to the defaults.
pub const SAMPLE: &str = include_str!("sample.toml");

/// Where the file is looked for if nobody names one.
const USUAL_PATH: &str = "/etc/outpost-hub/config.toml";

/// How the hub runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where the database lives; empty if nothing is set.
    pub data_dir: PathBuf,
    /// Whether the listener speaks TLS.
    pub tls: Tls,
    /// From where a proxy may pass on requests; only with [`Tls::Proxy`].
    pub trusted_proxies: Vec<IpAddr>,
    /// The certificate of the authority that gateways trust, in place of the hub's own; empty for its own.
    pub authority_file: PathBuf,
    /// The certificate of the listener that comes from it, with those between; empty behind a proxy, which has it.
    pub certificate_file: PathBuf,
    /// The key of that.
    pub key_file: PathBuf,
    /// How long a gateway's certificate is valid.
    pub certificate_days: u32,
    /// How long after that it still opens sync and renewal.
    pub certificate_grace_days: u32,
    /// How long an enrolment code can be used.
    pub code_hours_valid: u32,
    /// Wrong codes in a minute, from everybody together, before all are turned away. One source has five.
    pub code_failures_per_minute: u32,
    /// How long a login lasts without a request of a person.
    pub session_idle_minutes: u32,
    /// How long a login lasts in all.
    pub session_hours: u32,
    /// Open connections at most.
    pub connections_max: usize,
    /// Those of one source at most.
    pub connections_of_one_max: usize,
    /// Exchanges under way at most.
    pub exchanges_max: usize,
    /// How long a sender may let the hub wait, beyond what it earned by sending.
    pub read_timeout_seconds: u64,
    /// Free space below which nothing new is taken from gateways, megabytes; 0 for no reserve.
    pub disk_reserve_megabytes: u64,
    /// Login at a provider.
    pub oidc: Oidc,
}

/// What the listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// TLS, with certificates of the hub's own authority or from files.
    Own,
    /// Plain HTTP to a proxy that speaks TLS, and says whose certificate it was shown.
    Proxy,
    /// Plain HTTP, on an address of this machine only.
    Off,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8480)),
            data_dir: PathBuf::new(),
            tls: Tls::Own,
            trusted_proxies: Vec::new(),
            authority_file: PathBuf::new(),
            certificate_file: PathBuf::new(),
            key_file: PathBuf::new(),
            certificate_days: 90,
            certificate_grace_days: 180,
            code_hours_valid: 24,
            code_failures_per_minute: 5_000,
            session_idle_minutes: 30,
            session_hours: 12,
            connections_max: 512,
            connections_of_one_max: 64,
            exchanges_max: 64,
            read_timeout_seconds: 60,
            disk_reserve_megabytes: 512,
            oidc: Oidc::default(),
        }
    }
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`HubError::Config`] that names the line and the keys that there are.
    pub fn parse(text: &str) -> Result<Config, HubError> {
        let config: Config = toml::from_str(text).map_err(|error| HubError::Config(error.to_string()))?;
        let limits = [
            config.connections_max,
            config.connections_of_one_max,
            config.exchanges_max,
            config.read_timeout_seconds as usize,
        ];
        let times =
            [config.code_hours_valid, config.certificate_days, config.session_idle_minutes, config.session_hours];
        match limits.contains(&0) || times.contains(&0) {
            true => Err(HubError::Config("no limit and no time can be 0".to_owned())),
            false => config.fits().and_then(|()| config.oidc.check()).map(|()| config),
        }
    }

    /// Whether what it says of certificates fits together.
    fn fits(&self) -> Result<(), HubError> {
        let refuse = |told: &str| Err(HubError::Config(told.to_owned()));
        let is_set = |path: &Path| !path.as_os_str().is_empty();
        let files = [&self.authority_file, &self.certificate_file, &self.key_file].map(|path| is_set(path));
        match (self.tls, files) {
            (Tls::Proxy, _) if self.trusted_proxies.is_empty() => {
                refuse("tls = \"proxy\" needs trusted_proxies, such as [\"127.0.0.1\"]")
            }
            (Tls::Own | Tls::Off, _) if !self.trusted_proxies.is_empty() => {
                refuse("trusted_proxies is for tls = \"proxy\"")
            }
            (_, [false, false, false]) | (Tls::Own, [true, true, true]) | (Tls::Proxy, [true, false, false]) => Ok(()),
            (Tls::Own, _) => refuse("authority_file, certificate_file and key_file go together"),
            (Tls::Proxy, _) => refuse("behind a proxy there is only authority_file; the proxy has certificate and key"),
            (Tls::Off, _) => refuse("certificates are for tls = \"own\" and tls = \"proxy\""),
        }
    }

    /// The same in bytes.
    pub(crate) fn disk_reserve_bytes(&self) -> u64 {
        self.disk_reserve_megabytes.saturating_mul(1_000_000)
    }

    /// Reads the named file, or the usual one if it is there.
    ///
    /// # Errors
    /// As [`Config::parse`], and if a named file cannot be read.
    pub fn load(path: Option<&Path>) -> Result<Config, HubError> {
        let usual = Path::new(USUAL_PATH);
        let path = match path {
            Some(path) => path,
            None if usual.exists() => usual,
            None => return Ok(Config::default()),
        };
        let text = std::fs::read_to_string(path).map_err(|source| HubError::File { path: path.to_owned(), source })?;
        Config::parse(&text)
    }

    /// The directory of the database: the flag, else the file, else what systemd gives, else the user's own.
    ///
    /// # Errors
    /// [`HubError::Config`] if there is none of these.
    pub fn data_dir(&self, flag: Option<&Path>) -> Result<PathBuf, HubError> {
        if let Some(dir) = flag {
            return Ok(dir.to_owned());
        }
        if !self.data_dir.as_os_str().is_empty() {
            return Ok(self.data_dir.clone());
        }
        if let Some(dir) = std::env::var_os("STATE_DIRECTORY") {
            return Ok(PathBuf::from(dir));
        }
        directories::ProjectDirs::from("", "", "outpost-hub")
            .map(|dirs| dirs.data_dir().to_owned())
            .ok_or_else(|| HubError::Config("no data directory: pass --data-dir".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_the_default() {
        assert_eq!(Config::parse(SAMPLE).unwrap(), Config::default());
    }

    #[test]
    fn a_login_provider_is_filled_in_where_the_sample_has_it() {
        let bare = |line: &str| match line.strip_prefix('#') {
            Some(key) if !key.is_empty() && !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        };
        let mut text: String = SAMPLE.lines().map(bare).collect();
        for (key, default, value) in [
            ("issuer", "\"\"", "\"https://id.example.org\""),
            ("client_id", "\"\"", "\"hub\""),
            ("client_secret_file", "\"\"", "\"/etc/outpost-hub/oidc.secret\""),
            ("role_claim", "\"\"", "\"groups\""),
            ("password_of_linked", "true", "false"),
        ] {
            let there = format!("\n{key} = {default}\n");
            assert!(text.contains(&there), "{key}");
            text = text.replace(&there, &format!("\n{key} = {value}\n"));
        }
        let filled = Config::parse(&text).unwrap();
        let expected = "[oidc]\nissuer = \"https://id.example.org\"\nclient_id = \"hub\"\nclient_secret_file = \"/etc/outpost-hub/oidc.secret\"\nrole_claim = \"groups\"\npassword_of_linked = false\n[[oidc.roles]]\nvalue = \"outpost-zomba\"\nrole = \"operator\"\nscopes = [\"mw/zomba\"]";
        assert_eq!(filled, Config::parse(expected).unwrap());
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_ones_there_are() {
        let error = Config::parse("lisen = \"x\"").unwrap_err().to_string();
        assert!(error.contains("lisen") && error.contains("listen"), "{error}");
        assert!(Config::parse("exchanges_max = 0").is_err());
        for unfit in [
            "tls = \"proxy\"",
            "trusted_proxies = [\"127.0.0.1\"]",
            "tls = \"off\"\nauthority_file = \"x\"",
            "authority_file = \"x\"",
            "tls = \"proxy\"\ntrusted_proxies = [\"127.0.0.1\"]\ncertificate_file = \"x\"",
        ] {
            assert!(matches!(Config::parse(unfit), Err(HubError::Config(_))), "{unfit}");
        }
        assert!(Config::parse("tls = \"proxy\"\ntrusted_proxies = [\"::1\"]\nauthority_file = \"x\"").is_ok());
    }
}
