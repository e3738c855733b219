//! What a new app is shown: where the gateway is, how it is known, and the code, in one address.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use qrcode::render::{svg, unicode};
use qrcode::{EcLevel, QrCode};
use zeroize::Zeroizing;

use super::secret::Fingerprint;

/// An invitation to pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Host and port.
    pub address: String,
    /// The code, good once.
    pub code: Zeroizing<String>,
    /// The SHA-256 of the gateway's public key (SubjectPublicKeyInfo).
    pub pin: Fingerprint,
}

impl Fingerprint {
    /// Without padding, in the alphabet that fits an address (RFC 4648, chapter 5).
    pub fn base64url(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl std::fmt::Display for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "outpost://{}/pair?code={}&pin={}", self.address, self.code.as_str(), self.pin.base64url())
    }
}

impl Invitation {
    /// Host and port as they stand in an address.
    pub fn address(name: &str, bound: SocketAddr) -> String {
        match name.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, bound.port()).to_string(),
            Err(_) if !name.is_empty() => format!("{name}:{}", bound.port()),
            Err(_) => bound.to_string(),
        }
    }
}

fn code(text: &str) -> Option<QrCode> {
    QrCode::with_error_correction_level(text, EcLevel::M).ok()
}

/// A text as a QR code for a page.
pub fn picture(text: &str) -> String {
    let draw = |code: QrCode| code.render::<svg::Color<'_>>().min_dimensions(240, 240).build();
    // Without the declaration, which has no place in a page.
    let drawn = code(text).map(draw).unwrap_or_default();
    drawn.split_once("?>").map_or(drawn.clone(), |(_, svg)| svg.to_owned())
}

/// A text as a QR code for a terminal.
pub fn picture_for_terminal(text: &str) -> String {
    code(text).map(|code| code.render::<unicode::Dense1x2>().build()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_is_one_address() {
        let bound = "0.0.0.0:8471".parse().unwrap();
        let address = |name| Invitation::address(name, bound);
        assert_eq!(address("192.168.4.1"), "192.168.4.1:8471");
        assert_eq!(address("fd00::1"), "[fd00::1]:8471");
        assert_eq!(address("outpost.lan"), "outpost.lan:8471");
        let (pin, code) = (Fingerprint([0xfb; 32]), |text: &str| Zeroizing::new(text.to_owned()));
        let invitation = Invitation { address: address("192.168.4.1"), code: code("K7QM-3XNP"), pin }.to_string();
        let pin = "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s";
        assert_eq!(invitation, format!("outpost://192.168.4.1:8471/pair?code=K7QM-3XNP&pin={pin}"));
        assert!(picture(&invitation).starts_with("<svg") && picture_for_terminal(&invitation).contains('█'));
    }
}
