//! TLS on a box that does not know what time it is.
//!
//! A certificate is valid between two times, and a box that believes in 1970 or 2038 would take every one for invalid, for
//! ever: without TLS it never hears the time. So the wall clock is not asked. As long as the hub's time was not heard in this
//! boot, "now" may be anything from what has certainly passed on ([`Bounds`]): a certificate is refused if no such time lies
//! within it. That an expired certificate can pass for one that has not is the price, and the floor bounds it: what had
//! expired by the time of the last contact, or when this program was made, stays refused.

use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::ring::{default_provider, sign::any_ecdsa_type};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
};
use rustls_platform_verifier::Verifier;
use sync_protocol::ticket::FINGERPRINT_BYTES;

use crate::clock::{Bounds, Clock};
use crate::error::Error;
use crate::store::Identity;

/// Times that are tried: each certificate of a chain can name another.
const TRIES: usize = 8;

/// A client that trusts what the system trusts.
///
/// # Errors
/// [`Error::Offline`] if the system has no certificates to trust.
pub(super) fn of_system(clock: &Clock) -> Result<ClientConfig, Error> {
    let trusted = Verifier::new(Arc::new(default_provider())).map_err(Error::offline)?;
    Ok(trusting(clock, Trusted::Verifier(Arc::new(trusted)))?.with_no_client_auth())
}

/// A client that trusts the hub whose authority's key has this fingerprint.
pub(super) fn of_fingerprint(clock: &Clock, fingerprint: [u8; FINGERPRINT_BYTES]) -> Result<ClientConfig, Error> {
    Ok(trusting(clock, Trusted::Fingerprint(fingerprint))?.with_no_client_auth())
}

/// A client that trusts its own hub and shows its certificate.
pub(super) fn of_member(clock: &Clock, identity: &Identity) -> Result<ClientConfig, Error> {
    let unusable = |_| Error::Config("the certificates of this gateway cannot be used; enrol it again".to_owned());
    let trusted = by_authority(&CertificateDer::from(identity.authority.as_slice())).map_err(unusable)?;
    let chain = vec![CertificateDer::from(identity.certificate.clone())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.as_slice()));
    let shown = CertifiedKey::new(chain, any_ecdsa_type(&key).map_err(unusable)?);
    shown.keys_match().map_err(unusable)?;
    let config = trusting(clock, Trusted::Verifier(trusted))?;
    Ok(config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown))))
}

/// What speaks TLS 1.3 and nothing older with who is trusted at a time that is possible.
fn trusting(clock: &Clock, trusted: Trusted) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Error::offline)?;
    let verifier = AtAPossibleTime { clock: clock.clone(), trusted, provider: default_provider() };
    Ok(config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)))
}

/// Trusts what this authority signed.
fn by_authority(authority: &CertificateDer<'_>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider())).build();
    verifier.map(|verifier| verifier as Arc<dyn ServerCertVerifier>).map_err(|e| TlsError::General(e.to_string()))
}

/// Whom a client trusts.
#[derive(Debug)]
enum Trusted {
    /// Whom this one does.
    Verifier(Arc<dyn ServerCertVerifier>),
    /// The authority with this fingerprint, which comes with the hub's certificate.
    Fingerprint([u8; FINGERPRINT_BYTES]),
}

impl Trusted {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let verifier = match self {
            Trusted::Verifier(verifier) => Arc::clone(verifier),
            Trusted::Fingerprint(fingerprint) => {
                let is_it = |shown: &&CertificateDer<'_>| {
                    let key = ParsedCertificate::try_from(*shown).map(|parsed| parsed.subject_public_key_info());
                    key.is_ok_and(|key| digest(&SHA256, &key).as_ref().starts_with(fingerprint))
                };
                let authority = intermediates.iter().find(is_it);
                by_authority(authority.ok_or(TlsError::InvalidCertificate(CertificateError::UnknownIssuer))?)?
            }
        };
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }
}

/// Asks who is trusted, at times that may be now.
#[derive(Debug)]
struct AtAPossibleTime {
    clock: Clock,
    trusted: Trusted,
    provider: CryptoProvider,
}

impl ServerCertVerifier for AtAPossibleTime {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _by_the_wall_clock: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let at = |seconds| {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            self.trusted.verify(end_entity, intermediates, server_name, ocsp_response, now)
        };
        at_a_possible_time(self.clock.bounds(), at)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The verdict at the likely time; if a certificate says that it is over by then, at the earliest time that anybody tells. If
/// the likely time is only a guess and one says that it has not begun, when it begins.
fn at_a_possible_time<T>(bounds: Bounds, verify: impl Fn(u64) -> Result<T, TlsError>) -> Result<T, TlsError> {
    let [likely, earliest] = [bounds.likely_ms, bounds.earliest_ms].map(|ms| u64::try_from(ms / 1_000).unwrap_or(0));
    let (mut now, mut goes_back) = (likely, true);
    let mut verdict = verify(now);
    for _ in 0..TRIES {
        let Err(TlsError::InvalidCertificate(reason)) = &verdict else { break };
        now = match reason {
            CertificateError::ExpiredContext { .. } if goes_back && now > earliest => earliest,
            CertificateError::NotValidYetContext { not_before, .. } if bounds.is_guess => {
                not_before.as_secs().max(now + 1)
            }
            _ => break,
        };
        goes_back = false;
        verdict = verify(now);
    }
    verdict
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::thread::JoinHandle;

    use rcgen::{CertificateParams, Issuer, KeyPair};
    use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
    use sync_protocol::boot::Boot;

    use super::super::transport::tests::answers_over;
    use super::*;
    use crate::clock::{Machine, RELEASED_MS};

    const DAY_MS: i64 = 86_400_000;
    /// The last contact, in days after 1970.
    const FLOOR_DAYS: i64 = RELEASED_MS / DAY_MS + 60;
    const YEAR_2038_DAYS: i64 = 24_855;

    /// A hub whose certificate is valid between these days after 1970. Answers one connection.
    fn hub(
        from_days: i64,
        to_days: i64,
        version: &'static SupportedProtocolVersion,
    ) -> (SocketAddr, Arc<dyn ServerCertVerifier>, JoinHandle<()>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let day = |days: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(days as u64 * 86_400);
        (params.not_before, params.not_after) = (day(from_days), day(to_days));
        let cert = params.self_signed(&key).unwrap().der().clone();
        let provider = Arc::new(default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert).unwrap();
        let trusted = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers = std::thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), socket);
            // A client that refuses the certificate ends it here.
            let mut asked = [0; 1_024];
            if stream.read(&mut asked).is_ok_and(|read| read > 0) {
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
                let _ = stream.flush();
            }
        });
        (address, trusted, answers)
    }

    /// Whether a box that believes this connects.
    fn connects(wall_days: i64, hears: bool, certificate: (i64, i64)) -> bool {
        connects_by(&rustls::version::TLS13, wall_days, hears, certificate)
    }

    fn connects_by(
        version: &'static SupportedProtocolVersion,
        wall_days: i64,
        hears: bool,
        certificate: (i64, i64),
    ) -> bool {
        let (address, trusted, answers) = hub(certificate.0, certificate.1, version);
        let machine = Box::leak(Box::new(Machine::pretending("test", wall_days * DAY_MS)));
        let clock = Clock::new(machine, Boot { number: 1, floor_ms: FLOOR_DAYS * DAY_MS, start_ms: None });
        if hears {
            clock.hear(wall_days as u64 * DAY_MS as u64, 0);
        }
        let config = trusting(&clock, Trusted::Verifier(trusted)).unwrap().with_no_client_auth();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let is_answered = runtime.block_on(answers_over(config, address.port()));
        answers.join().unwrap();
        is_answered
    }

    #[test]
    fn a_box_that_believes_in_any_year_connects_to_a_hub_whose_certificate_is_valid() {
        let today = FLOOR_DAYS + 100;
        for wall_days in [0, today, YEAR_2038_DAYS, today + 2 * 365, YEAR_2038_DAYS + 10_000] {
            assert!(connects(wall_days, false, (FLOOR_DAYS - 30, today + 30)), "day {wall_days}");
            assert!(
                connects(wall_days, false, (today - 10, today + 80)),
                "day {wall_days}, renewed since the last contact"
            );
        }
    }

    #[test]
    fn a_hub_whose_clock_was_ahead_for_a_day_is_reached_again_by_a_box_that_knows_the_time_or_is_told_it() {
        // What the hub said, in this boot or in one before, lies ahead.
        let today = FLOOR_DAYS - 50;
        assert!(connects(today, false, (today - 30, today + 60)));
        // Whoever shows a certificate that is over by its clock, too, is not the hub.
        assert!(!connects(today, false, (today - 60, today - 1)));
    }

    #[test]
    fn a_certificate_that_had_certainly_expired_is_refused_in_any_year() {
        for wall_days in [0, FLOOR_DAYS - 400, FLOOR_DAYS + 10, YEAR_2038_DAYS] {
            assert!(!connects(wall_days, false, (FLOOR_DAYS - 800, FLOOR_DAYS - 1)), "day {wall_days}");
        }
    }

    /// A certificate that is signed by another, or by itself.
    fn made(by: Option<&Issuer<'_, &KeyPair>>, called: &str) -> (CertificateParams, KeyPair, CertificateDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![called.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, called);
        params.not_after = rcgen::date_time_ymd(2050, 1, 1);
        if called != "hub.example.org" {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        let made = by.map_or_else(|| params.self_signed(&key), |by| params.signed_by(&key, by));
        let der = made.unwrap().der().clone();
        (params, key, der)
    }

    #[test]
    fn an_authority_is_known_by_its_fingerprint_also_over_those_that_come_between() {
        let (root, root_key, root_der) = made(None, "root");
        let (between, between_key, between_der) = made(Some(&Issuer::from_params(&root, &root_key)), "between");
        let (_, _, leaf) = made(Some(&Issuer::from_params(&between, &between_key)), "hub.example.org");
        let (_, _, other) = made(None, "other");
        let trusts = |authority: &CertificateDer<'_>, shown: &[CertificateDer<'_>], name: &'static str| {
            let key = ParsedCertificate::try_from(authority).unwrap().subject_public_key_info();
            let fingerprint = digest(&SHA256, &key).as_ref()[..FINGERPRINT_BYTES].try_into().unwrap();
            let (name, now) =
                (ServerName::try_from(name).unwrap(), UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000)));
            Trusted::Fingerprint(fingerprint).verify(&leaf, shown, &name, &[], now).is_ok()
        };
        let chain = [between_der.clone(), root_der.clone(), other.clone()];
        assert!(trusts(&root_der, &chain, "hub.example.org"));
        assert!(trusts(&between_der, &chain, "hub.example.org"));
        assert!(!trusts(&root_der, &chain, "hub.example.com"), "another name");
        assert!(!trusts(&root_der, &chain[..1], "hub.example.org"), "the authority is not shown");
        assert!(!trusts(&root_der, &chain[1..], "hub.example.org"), "what is between is not shown");
        assert!(!trusts(&other, &chain, "hub.example.org"), "another authority");
    }

    #[test]
    fn nothing_older_than_tls_1_3_is_spoken_with_anybody() {
        let valid = (FLOOR_DAYS - 30, FLOOR_DAYS + 130);
        assert!(!connects_by(&rustls::version::TLS12, FLOOR_DAYS + 100, true, valid));
        assert!(connects(FLOOR_DAYS + 100, true, valid));
    }

    #[test]
    fn who_has_heard_the_time_is_as_strict_as_everybody() {
        let today = FLOOR_DAYS + 100;
        assert!(connects(today, true, (today - 10, today + 10)));
        assert!(!connects(today, true, (today - 20, today - 10)));
        assert!(!connects(today, true, (today + 10, today + 20)));
    }
}
