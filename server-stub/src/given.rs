//! Certificates from files, in the place of those of the hub's own authority: a ministry's, or those of a proxy.
//!
//! Gateways trust the authority in the file: codes carry its fingerprint. What they would refuse, the hub refuses first.
//! Gateways' own certificates still come from the hub's own authority, which nobody else has to trust.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use zeroize::{Zeroize, Zeroizing};

use crate::clock::now_ms;
use crate::config::Config;
use crate::error::HubError;
use crate::pki::seconds;
use crate::term::last_second;

/// How often it is looked whether somebody renewed the files.
const GLANCE: Duration = Duration::from_secs(60);

/// A certificate and its key in files, of an authority in a file, for one name.
#[derive(Debug)]
pub(crate) struct Given {
    authority: CertificateDer<'static>,
    certificate: PathBuf,
    key: PathBuf,
    name: ServerName<'static>,
    shown: Mutex<Option<Shown>>,
}

#[derive(Debug)]
struct Shown {
    certified: Arc<CertifiedKey>,
    /// The last moment in which gateways take it, milliseconds since 1970.
    ends_ms: i64,
    /// What tells these files from later ones.
    stamp: [i64; 4],
    looked: Instant,
}

/// The authority that gateways are to trust, if the configuration names one.
pub(crate) fn authority(config: &Config) -> Result<Option<CertificateDer<'static>>, HubError> {
    if config.authority_file.as_os_str().is_empty() {
        return Ok(None);
    }
    let path = &config.authority_file;
    let certificate =
        CertificateDer::from_pem_slice(&read(path)?).map_err(|_| unusable(path, "holds no certificate"))?;
    RootCertStore::empty().add(certificate.clone()).map_err(|_| unusable(path, "is no authority"))?;
    Ok(Some(certificate))
}

impl Given {
    /// Opens the files, if the configuration names some. `host` is the name by which gateways know the hub.
    pub(crate) fn open(config: &Config, host: &str) -> Result<Option<Given>, HubError> {
        let Some(authority) = authority(config)?.filter(|_| !config.certificate_file.as_os_str().is_empty()) else {
            return Ok(None);
        };
        let unnamed = "say for which name the certificate is: outpost-hub init --name hub.example.org";
        let name = ServerName::try_from(host.to_owned()).map_err(|_| HubError::Config(unnamed.to_owned()))?;
        let (certificate, key) = (config.certificate_file.clone(), config.key_file.clone());
        let given = Given { authority, certificate, key, name, shown: Mutex::new(None) };
        // So that what cannot work is known before anybody comes.
        given.present()?;
        Ok(Some(given))
    }

    /// The last moment in which gateways take what is shown, milliseconds since 1970.
    pub(crate) fn ends_ms(&self) -> Option<i64> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|shown| shown.ends_ms)
    }

    /// What is shown now: read anew if the files are others, unless they cannot be used.
    fn present(&self) -> Result<Arc<CertifiedKey>, HubError> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shown.as_mut() {
            if known.looked.elapsed() < GLANCE {
                return Ok(Arc::clone(&known.certified));
            }
            known.looked = Instant::now();
            if self.stamp().is_ok_and(|stamp| stamp == known.stamp) {
                return Ok(Arc::clone(&known.certified));
            }
        }
        let read = self.stamp().and_then(|stamp| Ok((stamp, self.load()?)));
        match (read, shown.as_ref()) {
            (Ok((stamp, (certified, ends_ms))), _) => {
                let kept = Arc::clone(&certified);
                *shown = Some(Shown { certified: kept, ends_ms, stamp, looked: Instant::now() });
                Ok(certified)
            }
            (Err(error), Some(known)) => {
                tracing::error!(%error, "the new certificate cannot be used; the one before is shown on");
                Ok(Arc::clone(&known.certified))
            }
            (Err(error), None) => Err(error),
        }
    }

    fn stamp(&self) -> Result<[i64; 4], HubError> {
        let of = |path: &Path| fs::metadata(path).map_err(|source| HubError::File { path: path.to_owned(), source });
        let (certificate, key) = (of(&self.certificate)?, of(&self.key)?);
        Ok([certificate.mtime(), certificate.mtime_nsec(), key.mtime(), key.mtime_nsec()])
    }

    /// Reads the files, and checks what gateways will: the key is that of the certificate, and the certificate comes from the
    /// authority, is for this name and for a server, and is valid now. Tells until when.
    fn load(&self) -> Result<(Arc<CertifiedKey>, i64), HubError> {
        let mode = fs::metadata(&self.key).map(|file| file.mode()).unwrap_or_default();
        if mode & 0o007 != 0 {
            return Err(unusable(&self.key, "can be read by everybody; chmod 0600, or 0640 with a group for it"));
        }
        let mut chain = CertificateDer::pem_slice_iter(&read(&self.certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| unusable(&self.certificate, "holds no certificates"))?;
        let text = Zeroizing::new(read(&self.key)?);
        let mut key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| unusable(&self.key, "holds no key"))?;
        let signer = any_supported_type(&key);
        key.zeroize();
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).map_err(|_| unusable(&self.certificate, "has no authority"))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
        let verifier = verifier.build().map_err(|error| HubError::Certificate(error.to_string()))?;
        let (leaf, between) = chain.split_first().ok_or_else(|| unusable(&self.certificate, "holds no certificate"))?;
        let verify = |at| verifier.verify_server_cert(leaf, between, &self.name, &[], at);
        let verified = verify(seconds(now_ms()));
        verified.map_err(|error| unusable(&self.certificate, &format!("would be refused by gateways: {error}")))?;
        let is_taken = |at| verify(UnixTime::since_unix_epoch(Duration::from_secs(at))).is_ok();
        let ends_seconds = last_second(seconds(now_ms()).as_secs(), is_taken);
        let ends_ms = i64::try_from(ends_seconds).unwrap_or(i64::MAX).saturating_mul(1_000);
        if !chain.contains(&self.authority) {
            // Gateways look for it at the first contact.
            chain.push(self.authority.clone());
        }
        let unfit = |error| unusable(&self.key, &format!("does not go with it: {error}"));
        let certified = CertifiedKey::new(chain, signer.map_err(unfit)?);
        certified.keys_match().map_err(unfit)?;
        Ok((Arc::new(certified), ends_ms))
    }
}

impl ResolvesServerCert for Given {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.present().inspect_err(|error| tracing::error!(%error, "no certificate")).ok()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, HubError> {
    fs::read(path).map_err(|source| HubError::File { path: path.to_owned(), source })
}

fn unusable(path: &Path, why: &str) -> HubError {
    HubError::Config(format!("{} {why}", path.display()))
}
