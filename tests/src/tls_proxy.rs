//! A proxy that ends TLS in front of a hub, and says in a header whose certificate it was shown.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// A place for a proxy, before it has certificates.
#[derive(Debug)]
pub struct Place(TcpListener);

impl Place {
    /// Takes a free port.
    ///
    /// # Panics
    /// If none can be had.
    pub fn take() -> Place {
        Place(TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    /// Where gateways reach the proxy.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("its address")
    }

    /// Serves until the process ends: shows `own` (key and certificates as PEM), knows gateways by `gateways` (a certificate as
    /// PEM), and passes on to `hub`.
    ///
    /// # Panics
    /// If the certificates cannot be used.
    pub fn serve(self, own: &str, gateways: &str, hub: String) {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(gateways.as_bytes()).expect("a certificate")).expect("an authority");
        let provider = Arc::new(default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let clients = clients.allow_unauthenticated().build().expect("a verifier");
        let chain = CertificateDer::pem_slice_iter(own.as_bytes()).collect::<Result<Vec<_>, _>>().expect("a chain");
        let key = PrivateKeyDer::from_pem_slice(own.as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(provider);
        let config = config.with_protocol_versions(&[&rustls::version::TLS13]).expect("TLS 1.3");
        let config = config.with_client_cert_verifier(clients).with_single_cert(chain, key).expect("a configuration");
        let config = Arc::new(config);
        // Ends with the process; it holds nothing but sockets.
        thread::spawn(move || {
            for socket in self.0.incoming().flatten() {
                let (config, hub) = (Arc::clone(&config), hub.clone());
                // A connection that breaks is no matter of the proxy.
                thread::spawn(move || drop(carry(socket, config, &hub)));
            }
        });
    }
}

/// Carries requests and answers, one after the other.
fn carry(socket: TcpStream, config: Arc<ServerConfig>, hub: &str) -> io::Result<()> {
    let mut client = StreamOwned::new(ServerConnection::new(config).map_err(io::Error::other)?, socket);
    let mut server = TcpStream::connect(hub)?;
    loop {
        let Some((head, body)) = message(&mut client)? else { return Ok(()) };
        let (first, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
        let kept: String = rest.split_inclusive("\r\n").filter(|line| !is_ours(line)).collect();
        let shown = client.conn.peer_certificates().and_then(<[_]>::first);
        let said = shown.map(|certificate| format!("client-cert: {}\r\n", escaped(certificate))).unwrap_or_default();
        server.write_all(format!("{first}\r\n{said}{kept}").as_bytes())?;
        server.write_all(&body)?;
        let Some((head, body)) = message(&mut server)? else { return Ok(()) };
        client.write_all(head.as_bytes())?;
        client.write_all(&body)?;
        client.flush()?;
    }
}

fn is_ours(line: &str) -> bool {
    line.to_ascii_lowercase().starts_with("client-cert:")
}

/// A head with its empty line, and a body of the length that it says; `None` at the end.
fn message(from: &mut impl Read) -> io::Result<Option<(String, Vec<u8>)>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if from.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    from.read_exact(&mut body)?;
    Ok(Some((head, body)))
}

/// PEM with each byte escaped, as nginx does it with those that are no letters.
fn escaped(der: &[u8]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for three in der.chunks(3) {
        let number = three.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for nth in 0..4 {
            let digit = digits.get((number >> (18 - 6 * nth) & 63) as usize).copied().map_or('A', char::from);
            text.push(if nth <= three.len() { digit } else { '=' });
        }
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
