//! Certificates from elsewhere in place of those of the hub's own authority.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use serde_json::Value as Json;
use sync_protocol::message::Status;
use sync_protocol::ticket::Ticket;

use super::tls::Fort;
use super::{World, logged};
use crate::account::Role;
use crate::cli::{Cli, run};
use crate::clock::now_ms;
use crate::hub::{authority_of, open_database};
use crate::pki::key_hash;
use crate::term::remind;
use crate::{Config, HubError, pem};

const DAY_MS: i64 = 86_400_000;

/// A certificate and its key.
fn made_by(
    issuer: Option<&Issuer<'_, &KeyPair>>,
    names: &[&str],
    is_authority: bool,
    ends_ms: i64,
) -> (CertificateParams, KeyPair, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_millis(u64::try_from(ends_ms).unwrap());
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
    let (root, root_key, root_der) = made_by(None, &[], true, now_ms() + 9_000 * DAY_MS);
    let root = Issuer::from_params(&root, &root_key);
    let (between, between_key, between_der) = made_by(Some(&root), &[], true, now_ms() + 9_000 * DAY_MS);
    let between = Issuer::from_params(&between, &between_key);
    let (_, key, leaf) = made_by(Some(&between), &["127.0.0.1"], false, now_ms() + 9_000 * DAY_MS);
    let (_, _, expired) = made_by(Some(&between), &["127.0.0.1"], false, now_ms() - 9 * DAY_MS);
    let (_, _, elsewhere) = made_by(Some(&between), &["hub.example.org"], false, now_ms() + 9_000 * DAY_MS);
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

/// What `outpost-hub certificate status` says of a configuration.
fn told(world: &World, files: [&str; 3]) -> Result<String, HubError> {
    let config = world.dir.path().join("given.toml");
    let [authority, certificate, key] = files;
    let text =
        format!("authority_file = \"{authority}\"\ncertificate_file = \"{certificate}\"\nkey_file = \"{key}\"\n");
    std::fs::write(&config, text).unwrap();
    let dir = world.dir.path().to_str().unwrap();
    let cli = ["outpost-hub", "--data-dir", dir, "--config", config.to_str().unwrap(), "certificate", "status"];
    let mut out = Vec::new();
    run(Cli::try_parse_from(cli).unwrap(), &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn a_certificate_that_was_given_is_told_of_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| {
        std::fs::write(path(name), text).unwrap();
        std::fs::set_permissions(path(name), Permissions::from_mode(0o600)).unwrap();
    };
    let pem_of = |der: &[u8]| pem::encode("CERTIFICATE", der);
    let in_days = |days: i64| now_ms() + days * DAY_MS + DAY_MS / 2;
    let (root, root_key, root_der) = made_by(None, &[], true, in_days(9_000));
    let root = Issuer::from_params(&root, &root_key);
    write("root.pem", &pem_of(&root_der));
    // What ends first counts, wherever it stands in the chain.
    let give = |leaf_days: i64, between_days: i64| {
        let (between, between_key, between_der) = made_by(Some(&root), &[], true, in_days(between_days));
        let between = Issuer::from_params(&between, &between_key);
        let (_, key, leaf) = made_by(Some(&between), &["127.0.0.1"], false, in_days(leaf_days));
        write("chain.pem", &(pem_of(&leaf) + &pem_of(&between_der)));
        write("key.pem", &pem::encode("PRIVATE KEY", &key.serialize_der()));
    };
    give(400, 800);
    let config = Config {
        authority_file: path("root.pem"),
        certificate_file: path("chain.pem"),
        key_file: path("key.pem"),
        ..Config::default()
    };
    let world = World::start_with(config).await;
    world.hub.write(|tx| tx.set_address("127.0.0.1:8480")).await.unwrap();
    let mut viewer = world.person("viewer", Role::Viewer, &["mw/zomba"]).await;
    // Answers are read in small letters; the name of a cookie counts as it is.
    viewer.cookie = viewer.cookie.replace("__host", "__Host");
    let shown = async || {
        let given = viewer.ask("GET", "/admin/v1/certificate", Json::Null).await.json()["given"].clone();
        let page = String::from_utf8(viewer.ask("GET", "/", Json::Null).await.body).unwrap();
        (given, page)
    };
    let names = ["root.pem", "chain.pem", "key.pem"].map(|name| path(name).to_str().unwrap().to_owned());
    let command = || told(&world, [&names[0], &names[1], &names[2]]);

    let (given, page) = shown().await;
    assert_eq!((given["urgency"].as_str(), given["warning"].as_str()), (Some("none"), Some("")), "{given}");
    assert!(given["ends_ms"].as_i64().unwrap().abs_diff(in_days(400)) < 60_000, "{given}");
    assert!(!page.contains("certificate"), "{page}");
    assert!(command().unwrap().contains("chain.pem is good until"));

    for (leaf, between, days, urgency) in [(20, 700, 20, "soon"), (300, 12, 12, "soon"), (3, 12, 3, "now")] {
        give(leaf, between);
        let (given, page) = shown().await;
        let told = format!("ends in {days} days");
        assert_eq!(given["urgency"], urgency, "{given}");
        assert!(given["warning"].as_str().unwrap().contains(&told), "{given}");
        assert!(page.contains(&told) && page.contains("Get the next one from who made it"), "{page}");
        match command() {
            Ok(said) => assert!(urgency == "soon" && said.contains(&told), "{said}"),
            Err(error) => assert!(urgency == "now" && error.to_string().contains(&told), "{error}"),
        }
        let until_it_is_logged = async {
            while !logged().contains(&told) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            never = remind(&world.hub) => match never {},
            () = until_it_is_logged => {}
        }
        let line = logged().lines().find(|line| line.contains(&told)).unwrap().to_owned();
        assert!(line.contains(if urgency == "soon" { "WARN" } else { "ERROR" }), "{line}");
    }

    give(-1, 12);
    let (given, page) = shown().await;
    assert_eq!((given["urgency"].as_str(), given["ends_ms"].as_i64()), (Some("now"), None), "{given}");
    assert!(page.contains("cannot be used") && page.contains("refused by gateways"), "{page}");
    assert!(command().unwrap_err().to_string().contains("cannot be used"));
    let plain = World::start().await;
    let given = plain.admin("GET", "/certificate", Json::Null).await.json();
    assert_eq!(given, serde_json::json!({ "given": null }));
}
