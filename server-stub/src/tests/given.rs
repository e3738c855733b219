//! Certificates from elsewhere in place of those of the hub's own authority.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use sync_protocol::message::Status;
use sync_protocol::ticket::Ticket;

use super::tls::Fort;
use crate::hub::{authority_of, open_database};
use crate::pki::key_hash;
use crate::{Config, pem};

/// A certificate and its key.
fn made_by(
    issuer: Option<&Issuer<'_, &KeyPair>>,
    names: &[&str],
    is_authority: bool,
    not_after: i32,
) -> (CertificateParams, KeyPair, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_after = date_time_ymd(not_after, 1, 1);
    params.distinguished_name.push(DnType::CommonName, format!("{is_authority} {}", issuer.is_some()));
    if is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let made = match issuer {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    let der = made.unwrap().der().to_vec();
    (params, key, der)
}

#[tokio::test]
async fn certificates_of_a_ministry_are_shown_and_trusted_if_gateways_would_trust_them() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    };
    let pem_of = |der: &[u8]| pem::encode("CERTIFICATE", der);
    let key_of = |key: &KeyPair| pem::encode("PRIVATE KEY", &key.serialize_der());
    let (root, root_key, root_der) = made_by(None, &[], true, 2050);
    let root = Issuer::from_params(&root, &root_key);
    let (between, between_key, between_der) = made_by(Some(&root), &[], true, 2050);
    let between = Issuer::from_params(&between, &between_key);
    let (_, key, leaf) = made_by(Some(&between), &["127.0.0.1"], false, 2050);
    let (_, _, expired) = made_by(Some(&between), &["127.0.0.1"], false, 2020);
    let (_, _, elsewhere) = made_by(Some(&between), &["hub.example.org"], false, 2050);
    let config = Config {
        authority_file: write("root.pem", pem_of(&root_der)),
        certificate_file: write("chain.pem", pem_of(&leaf) + &pem_of(&between_der)),
        key_file: write("key.pem", key_of(&key)),
        ..Config::default()
    };
    let fort = Fort::start_with(config.clone()).await;
    assert_eq!(fort.authority().certificate().to_vec(), root_der, "what clients of this test trust, and nothing else");
    let told = fort.hub.add_gateway("z", &["mw"], "clinic").await.unwrap();
    let expected = key_hash(&CertificateDer::from(root_der.clone())).unwrap();
    assert_eq!(Ticket::parse(&told).unwrap().fingerprint, expected[..16]);
    let (mut a, card) = fort.clinic("a").await;
    assert_eq!(fort.sync(&mut a, Some(&card)).await, Some(Ok(Status::Ok)));

    let refused = |config: &Config| {
        let dir = tempfile::tempdir().unwrap();
        let mut database = open_database(dir.path()).unwrap();
        let opened = authority_of(&mut database, config)
            .and_then(|authority| Arc::new(authority).listener(config, "127.0.0.1:8480", "127.0.0.1".parse().unwrap()));
        opened.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(refused(&config), "");
    let other =
        Config { certificate_file: write("expired.pem", pem_of(&expired) + &pem_of(&between_der)), ..config.clone() };
    assert!(refused(&other).contains("refused by gateways"), "expired: {}", refused(&other));
    let other =
        Config { certificate_file: write("else.pem", pem_of(&elsewhere) + &pem_of(&between_der)), ..config.clone() };
    assert!(refused(&other).contains("refused by gateways"), "for another name: {}", refused(&other));
    let other = Config { certificate_file: write("alone.pem", pem_of(&leaf)), ..config.clone() };
    assert!(refused(&other).contains("refused by gateways"), "without what is between: {}", refused(&other));
    let other = Config { key_file: write("other.pem", key_of(&root_key)), ..config.clone() };
    assert!(refused(&other).contains("does not go with it"), "{}", refused(&other));
    let other = Config { key_file: write("open.pem", key_of(&key)), ..config.clone() };
    std::fs::set_permissions(&other.key_file, Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&other).contains("read by everybody"), "{}", refused(&other));
    let other = Config { authority_file: write("none.pem", "nothing".to_owned()), ..config };
    assert!(refused(&other).contains("holds no certificate"), "{}", refused(&other));
}
