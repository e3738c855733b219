//! The key by which apps know this gateway, and what TLS shows of it.
//!
//! The certificate is made at each start and signed by itself, for all times: apps know the key, and a box without a clock
//! cannot say when a certificate begins.

use std::sync::Arc;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rcgen::{KeyUsagePurpose, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring::{default_provider, sign::any_ecdsa_type};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use zeroize::Zeroizing;

use crate::apps::Fingerprint;
use crate::error::Error;

fn unusable(error: impl std::error::Error) -> Error {
    Error::Config(format!("the key of the network listener cannot be used: {error}"))
}

/// A new key, PKCS #8.
pub(super) fn make_key() -> Result<Zeroizing<Vec<u8>>, Error> {
    Ok(Zeroizing::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unusable)?.serialize_der()))
}

fn open(key: &[u8]) -> Result<KeyPair, Error> {
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(key), &PKCS_ECDSA_P256_SHA256).map_err(unusable)
}

/// The SHA-256 of the public key (SubjectPublicKeyInfo), as in RFC 7469.
pub(super) fn pin(key: &[u8]) -> Result<Fingerprint, Error> {
    Ok(Fingerprint::of(&open(key)?.subject_public_key_info()))
}

/// How the listener speaks: TLS 1.3 and nothing older, in the groups X25519, P-256 and P-384.
pub(super) fn listener(key: &[u8], names: Vec<String>) -> Result<ServerConfig, Error> {
    let pair = open(key)?;
    let mut params = CertificateParams::new(names).map_err(unusable)?;
    params.distinguished_name.push(DnType::CommonName, "Outpost gateway");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // RFC 5280, 4.1.2.5: the last second is that of a certificate without an end.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    let certificate = params.self_signed(&pair).map_err(unusable)?.der().clone();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_protocol_versions(&[&rustls::version::TLS13]).map_err(unusable)?;
    // Borrowed, so that no copy of it is left that nobody overwrites.
    let signer = any_ecdsa_type(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key))).map_err(unusable)?;
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], signer));
    let mut config = config.with_no_client_auth().with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
