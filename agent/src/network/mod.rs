//! The way in from the clinic's network: a key that apps know, a certificate made from it, and how the gateway is found.

mod address;
mod announce;
mod face;
mod listen;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;

pub use announce::Announcement;
pub use listen::Ahead;

use crate::apps::{Fingerprint, Invitation};
use crate::config::NetworkConfig;
use crate::error::Error;
use crate::store::Store;

/// The gateway as it is seen from the network.
#[derive(Debug, Clone)]
pub struct Entrance {
    /// Where it listens.
    pub bound: SocketAddr,
    /// The SHA-256 of its public key.
    pub pin: Fingerprint,
    /// Its name on the local link, such as `outpost-3f9a22d1.local`.
    pub host: String,
    /// How it is configured.
    pub config: NetworkConfig,
}

impl Entrance {
    /// Makes the gateway ready for the network: its key is made if there is none yet.
    ///
    /// # Errors
    /// [`Error`] of the store; [`Error::Config`] if the kept key cannot be used.
    pub async fn open(
        store: &Store,
        bound: SocketAddr,
        config: &NetworkConfig,
    ) -> Result<(Entrance, TlsAcceptor), Error> {
        let key = match store.read(|reader| reader.face_key()).await? {
            Some(key) => key,
            None => {
                let key = face::make_key()?;
                let kept = key.clone();
                store.write(move |tx| tx.set_face_key(&kept)).await?;
                key
            }
        };
        let pin = face::pin(&key)?;
        let short: String = pin.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let entrance = Entrance { bound, pin, host: format!("outpost-{short}.local"), config: config.clone() };
        let tls = face::listener(&key, entrance.certificate_names())?;
        Ok((entrance, TlsAcceptor::from(Arc::new(tls))))
    }

    /// Names, other than addresses, by which it may be asked for.
    pub fn names(&self) -> Vec<String> {
        let mut names = vec!["localhost".to_owned(), self.host.clone()];
        names.extend(Some(self.config.name.clone()).filter(|name| !name.is_empty()));
        names
    }

    /// Whether it is made known by mDNS: not one that nobody else reaches.
    pub fn is_announced(&self) -> bool {
        self.config.announce && !self.bound.ip().is_loopback()
    }

    fn certificate_names(&self) -> Vec<String> {
        let addresses = address::of_this_box(self.bound.ip()).into_iter().map(|address| address.to_string());
        let mut names: Vec<String> = self.names().into_iter().chain(addresses).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Host and port for an invitation: what is configured, or else an address of this box that apps may reach.
    pub fn address(&self) -> String {
        let found = address::of_this_box(self.bound.ip()).first().copied().unwrap_or(self.bound.ip());
        Invitation::address(&self.config.name, SocketAddr::new(found, self.bound.port()))
    }
}
