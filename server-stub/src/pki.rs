//! The hub's own authority: who is this hub, and whose is this certificate.
//!
//! Its key lies in the database, so that a hub that was put back goes on being trusted. The certificate of the listener
//! lives in memory only, for a month, and is made anew in good time. A gateway's certificate says that its key was enrolled
//! here; which gateway it is, and whether it may still speak, is asked of the database at each request.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, date_time_ymd,
};
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring::{default_provider, sign::any_ecdsa_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, RootCertStore, ServerConfig,
    SignatureScheme,
};

use zeroize::Zeroizing;

use crate::clock::now_ms;
use crate::config::Config;
use crate::error::HubError;
use crate::given::Given;
use crate::pem;

/// What a gateway signs at its enrolment, before its code: that it holds the key.
const PROOF_CONTEXT: &[u8] = b"outpost 2026-11 enrolment key v1\0";
/// Bytes of a P-256 key as a point.
const POINT_BYTES: usize = 65;
const DAY_MS: i64 = 86_400_000;
/// The authority outlives the hardware of everybody who trusts it.
const AUTHORITY_YEARS: i64 = 30;
/// The listener's certificate, and when it is made anew.
const LISTENER_DAYS: i64 = 30;
const LISTENER_RENEWED_DAYS: i64 = 10;
/// Certificates begin this much before they are made: clocks differ.
const BACKDATED_DAYS: i64 = 1;

/// SHA-256 of a public key.
pub(crate) type KeyHash = [u8; 32];

/// The authority as it is kept.
#[derive(Clone)]
pub(crate) struct Kept {
    /// PKCS #8.
    pub(crate) key: Zeroizing<Vec<u8>>,
    /// DER.
    pub(crate) certificate: Vec<u8>,
    /// Host and port that codes carry; empty if nobody said.
    pub(crate) address: String,
}

/// A gateway's certificate on its way out.
#[derive(Debug)]
pub(crate) struct Issued {
    /// DER.
    pub(crate) certificate: Vec<u8>,
    /// From when on the gateway shall ask for the next, milliseconds since 1970.
    pub(crate) renew_ms: i64,
}

/// The hub's own authority.
pub(crate) struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    /// What gateways trust, if that is another one.
    trusted: Option<CertificateDer<'static>>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// A public key as a gateway sends it, and rcgen wants it.
struct Point<'a>(&'a [u8]);

impl PublicKeyData for Point<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

fn broken(error: impl std::error::Error) -> HubError {
    HubError::Certificate(error.to_string())
}

/// A certificate that is valid for so many days, for a key of some name.
fn params(names: Vec<String>, called: &str, made_ms: i64, days: i64) -> Result<CertificateParams, HubError> {
    let mut params = CertificateParams::new(names).map_err(broken)?;
    let at = |ms: i64| date_time_ymd(1970, 1, 1) + Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    params.not_before = at(made_ms - BACKDATED_DAYS * DAY_MS);
    params.not_after = at(made_ms + days * DAY_MS);
    params.distinguished_name.push(DnType::CommonName, called);
    Ok(params)
}

/// What all certificates of the authority are issued by. Its name is the same each time, and so is what issues under it.
fn authority_params(made_ms: i64) -> Result<CertificateParams, HubError> {
    let mut params = params(Vec::new(), "Outpost hub", made_ms, AUTHORITY_YEARS * 365)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

/// A new authority.
pub(crate) fn make(address: &str, now_ms: i64) -> Result<Kept, HubError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(broken)?;
    let certificate = authority_params(now_ms)?.self_signed(&key).map_err(broken)?;
    Ok(Kept {
        key: Zeroizing::new(key.serialize_der()),
        certificate: certificate.der().to_vec(),
        address: address.to_owned(),
    })
}

/// The hash of the public key in a certificate.
pub(crate) fn key_hash(certificate: &CertificateDer<'_>) -> Result<KeyHash, HubError> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(broken)?;
    Ok(hash(&parsed.subject_public_key_info()))
}

fn hash(bytes: &[u8]) -> KeyHash {
    digest(&SHA256, bytes).as_ref().try_into().unwrap_or_default()
}

/// Checks that who enrols holds the key that it names, and gives the key's hash.
pub(crate) fn check_key(point: &[u8], proof: &[u8], code: &str) -> Result<KeyHash, HubError> {
    let refused = || HubError::Invalid("the gateway does not show that it holds its key".to_owned());
    let signed = [PROOF_CONTEXT, code.as_bytes()].concat();
    if point.len() != POINT_BYTES
        || UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(&signed, proof).is_err()
    {
        return Err(refused());
    }
    Ok(hash(&Point(point).subject_public_key_info()))
}

impl Authority {
    /// Opens an authority. `trusted` is what gateways trust, if that is another one.
    pub(crate) fn open(kept: &Kept, trusted: Option<CertificateDer<'static>>) -> Result<Authority, HubError> {
        let key = PrivatePkcs8KeyDer::from(kept.key.as_slice());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256).map_err(broken)?;
        let certificate = CertificateDer::from(kept.certificate.clone());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).map_err(broken)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
        let verifier = verifier.allow_unauthenticated().build().map_err(broken)?;
        Ok(Authority { key, certificate, trusted, verifier })
    }

    /// The certificate by which gateways trust the hub.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        self.trusted.as_ref().unwrap_or(&self.certificate)
    }

    /// By what gateways know it at the first contact.
    pub(crate) fn fingerprint(&self) -> Result<[u8; sync_protocol::ticket::FINGERPRINT_BYTES], HubError> {
        let hash = key_hash(self.certificate())?;
        Ok(hash.first_chunk().copied().unwrap_or_default())
    }

    fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Result<CertificateDer<'static>, HubError> {
        let issuer = authority_params(0)?;
        let signed = params.signed_by(key, &Issuer::from_params(&issuer, &self.key)).map_err(broken)?;
        Ok(signed.der().clone())
    }

    /// A certificate for a gateway's key.
    pub(crate) fn issue(&self, point: &[u8], called: &str, now_ms: i64, days: u32) -> Result<Issued, HubError> {
        let days = i64::from(days);
        let mut params = params(Vec::new(), called, now_ms, days)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = self.sign(&params, &Point(point))?.to_vec();
        Ok(Issued { certificate, renew_ms: now_ms + days * DAY_MS * 2 / 3 })
    }

    /// A key and a certificate for whoever serves gateways under these names.
    fn serve(
        &self,
        names: Vec<String>,
        now_ms: i64,
        days: i64,
    ) -> Result<(Zeroizing<Vec<u8>>, CertificateDer<'static>), HubError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(broken)?;
        let mut params = params(names, "Outpost hub listener", now_ms, days)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = self.sign(&params, &key)?;
        Ok((Zeroizing::new(key.serialize_der()), certificate))
    }

    /// A key, a certificate and the authority for a proxy in front of the hub, as text.
    pub(crate) fn for_proxy(&self, address: &str, now_ms: i64, days: u32) -> Result<Zeroizing<String>, HubError> {
        let (key, certificate) = self.serve(vec![host(address).to_owned()], now_ms, i64::from(days))?;
        let certificates = [&certificate, &self.certificate].map(|der| pem::encode("CERTIFICATE", der));
        let key = Zeroizing::new(pem::encode("PRIVATE KEY", &key));
        Ok(Zeroizing::new(format!("{}{}", *key, certificates.concat())))
    }

    /// Its own certificate as text, for a proxy or browser that is to know gateways or the hub by it.
    pub(crate) fn as_text(&self) -> String {
        pem::encode("CERTIFICATE", &self.certificate)
    }

    /// A certificate for the key of another one.
    pub(crate) fn renew(
        &self,
        of: &CertificateDer<'_>,
        called: &str,
        now_ms: i64,
        days: u32,
    ) -> Result<Issued, HubError> {
        let info = ParsedCertificate::try_from(of).map_err(broken)?.subject_public_key_info();
        let point =
            info.split_last_chunk::<POINT_BYTES>().map(|(_, point)| point).ok_or(HubError::ForeignCertificate)?;
        self.issue(point, called, now_ms, days)
    }

    /// Whether a certificate is one of ours that may be used now: one that expired may, for so many days.
    pub(crate) fn judge(&self, certificate: &CertificateDer<'_>, now_ms: i64, grace_days: u32) -> Result<(), HubError> {
        match at_a_time_within(&self.verifier, certificate, &[], seconds(now_ms)) {
            Err(_) => Err(HubError::ForeignCertificate),
            Ok(Some(expired)) if seconds(now_ms).as_secs() > expired.as_secs() + u64::from(grace_days) * 86_400 => {
                Err(HubError::ExpiredCertificate)
            }
            Ok(_) => Ok(()),
        }
    }

    /// How the listener speaks: TLS 1.3 and nothing older, in the groups X25519, P-256 and P-384.
    pub(crate) fn listener(
        self: &Arc<Self>,
        config: &Config,
        address: &str,
        bound: IpAddr,
    ) -> Result<ServerConfig, HubError> {
        let shown: Arc<dyn ResolvesServerCert> = match Given::open(config, host(address))? {
            Some(given) => Arc::new(given),
            None => {
                let face = Face { authority: Arc::clone(self), shown: Mutex::new(None), names: names(address, bound) };
                // So that what cannot work is known before anybody comes.
                face.fresh(now_ms())?;
                Arc::new(face)
            }
        };
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_protocol_versions(&[&rustls::version::TLS13]).map_err(broken)?;
        let mut config =
            config.with_client_cert_verifier(Arc::new(AtAnyTime(Arc::clone(&self.verifier)))).with_cert_resolver(shown);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// A time as TLS has it.
pub(crate) fn seconds(ms: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

/// Verifies a certificate as of now, or of the last or first moment of its life; tells when it expired, if it did.
fn at_a_time_within(
    verifier: &Arc<dyn ClientCertVerifier>,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<Option<UnixTime>, TlsError> {
    match verifier.verify_client_cert(end_entity, intermediates, now) {
        Ok(_) => Ok(None),
        Err(TlsError::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            verifier.verify_client_cert(end_entity, intermediates, not_after).map(|_| Some(not_after))
        }
        // Made by this hub when its clock was ahead.
        Err(TlsError::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
            verifier.verify_client_cert(end_entity, intermediates, not_before).map(|_| None)
        }
        Err(error) => Err(error),
    }
}

/// Lets in, at the level of TLS, who has a certificate of ours whether it expired or not: how long after is judged for each
/// request, where there are words to say so.
#[derive(Debug)]
struct AtAnyTime(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AtAnyTime {
    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        at_a_time_within(&self.0, end_entity, intermediates, now).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What the listener shows of itself.
#[derive(Debug)]
struct Face {
    authority: Arc<Authority>,
    names: Vec<String>,
    shown: Mutex<Option<(Arc<CertifiedKey>, i64)>>,
}

impl Face {
    /// The certificate, made anew if it is ten days old, or from the future.
    fn fresh(&self, now_ms: i64) -> Result<Arc<CertifiedKey>, HubError> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((certified, made_ms)) = shown.as_ref() {
            if (0..LISTENER_RENEWED_DAYS * DAY_MS).contains(&(now_ms - made_ms)) {
                return Ok(Arc::clone(certified));
            }
        }
        let (key, certificate) = self.authority.serve(self.names.clone(), now_ms, LISTENER_DAYS)?;
        let signer = any_ecdsa_type(&PrivateKeyDer::Pkcs8(key.as_slice().into())).map_err(broken)?;
        // With the authority behind it, by which it is known at the first contact.
        let certified = Arc::new(CertifiedKey::new(vec![certificate, self.authority.certificate.clone()], signer));
        *shown = Some((Arc::clone(&certified), now_ms));
        Ok(certified)
    }
}

impl ResolvesServerCert for Face {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.fresh(now_ms()).inspect_err(|error| tracing::error!(%error, "no certificate")).ok()
    }
}

/// The host in an address with a port.
pub(crate) fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']'])
}

/// The names under which a hub is reached.
fn names(address: &str, bound: IpAddr) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    for name in [host(address).to_owned(), bound.to_string()] {
        if !name.is_empty() && !bound_to_all(&name) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn bound_to_all(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}
