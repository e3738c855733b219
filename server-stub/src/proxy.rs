//! A hub behind a proxy that ends TLS: who is at the other end, the proxy says in headers. They are believed from the addresses
//! that the configuration names, and nobody else gets in at all.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::error::HubError;
use crate::peer::Peer;

/// The certificate that the client showed to the proxy: `:base64:` as of RFC 9440, or PEM with what is not a letter escaped
/// by `%`, as nginx writes it.
const CERTIFICATE: &str = "client-cert";
/// Where the client is. The last one is what the proxy added itself.
const CLIENT: &str = "x-forwarded-for";
/// A certificate of ours has about 500 bytes.
const CERTIFICATE_BYTES_MAX: usize = 8 * 1024;

/// Who is behind a request that came from `from`.
pub(crate) fn peer(from: IpAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> Result<Peer, HubError> {
    if !trusted.contains(&from.to_canonical()) {
        return Err(HubError::Proxied("this hub is spoken with through its proxy only"));
    }
    let mut shown = headers.get_all(CERTIFICATE).iter();
    let certificate = match (shown.next(), shown.next()) {
        (None, _) => None,
        (Some(value), None) if value.is_empty() => None,
        (Some(value), None) => Some(certificate(value).ok_or(HubError::Proxied("what the proxy says cannot be read"))?),
        // One that the client sent stands beside the proxy's.
        (Some(_), Some(_)) => return Err(HubError::Proxied("the proxy does not remove what a client says of itself")),
    };
    let said = headers.get_all(CLIENT).iter().next_back();
    let address = said.and_then(|value| client(value.to_str().ok()?.rsplit(',').next()?.trim()));
    Ok(Peer { address, certificate: certificate.map(Arc::new) })
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn client(said: &str) -> Option<IpAddr> {
    let bare = said.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(said);
    bare.parse().ok().or_else(|| said.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

fn certificate(value: &HeaderValue) -> Option<CertificateDer<'static>> {
    let value = value.to_str().ok().filter(|value| value.len() <= CERTIFICATE_BYTES_MAX)?.trim();
    let pem = match value.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')) {
        Some(base64) => format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n").into_bytes(),
        None => unescaped(value)?,
    };
    CertificateDer::from_pem_slice(&pem).ok().filter(|der| !der.is_empty())
}

fn unescaped(value: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::with_capacity(value.len()), value.as_bytes());
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        match first {
            b'%' => {
                let (digits, more) = rest.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = more;
            }
            other => bytes.push(*other),
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pem;

    fn said(pairs: &[(&'static str, String)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn an_address_is_read_as_any_proxy_writes_it() {
        for (said, address) in [
            ("203.0.113.5", Some("203.0.113.5")),
            ("203.0.113.5:41000", Some("203.0.113.5")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:41000", Some("2001:db8::1")),
            ("unknown", None),
        ] {
            assert_eq!(client(said), address.map(|address| address.parse().unwrap()), "{said}");
        }
    }

    #[test]
    fn a_proxy_is_believed_where_it_may_be_and_in_what_it_said_itself() {
        let (proxy, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let der = vec![0x30, 3, 1, 2, 3, 250];
        let pem = pem::encode("CERTIFICATE", &der);
        let escaped: String = pem.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        for value in [escaped, format!(":{base64}:")] {
            let headers = said(&[
                ("client-cert", value),
                ("x-forwarded-for", "203.0.113.9".to_owned()),
                ("x-forwarded-for", "198.51.100.7, 203.0.113.5".to_owned()),
            ]);
            let peer_of = |from| peer(from, &headers, &[proxy]);
            let known = peer_of(proxy).unwrap();
            assert_eq!(known.certificate.unwrap().to_vec(), der);
            assert_eq!(known.address, Some("203.0.113.5".parse().unwrap()), "the last is the proxy's");
            assert!(peer_of("::ffff:192.0.2.1".parse().unwrap()).is_ok(), "the same in another form");
            assert!(peer_of(other).is_err());
        }
        assert!(peer(proxy, &said(&[]), &[proxy]).unwrap().certificate.is_none());
        let two = said(&[("client-cert", format!(":{base64}:")), ("client-cert", format!(":{base64}:"))]);
        assert!(peer(proxy, &two, &[proxy]).is_err(), "one of them is the client's");
        for value in ["%", "%4", "%zz", "x", "::", ":%:"] {
            assert!(peer(proxy, &said(&[("client-cert", value.to_owned())]), &[proxy]).is_err(), "{value}");
        }
    }
}
