//! The fleet that is frozen: two clinics of one district in the middle of their work, with everything that an upgrade could lose.
//!
//! Records and their histories that the hub has; one that was deleted; a field in which two values stand; changes that the hub
//! cannot use; an app that was let in; and without a link, unsent work in each stream. Then everything is killed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use ureq::tls::TlsConfig;

use super::rows::open_as_it_is;
use super::{BOX, GATEWAYS, KEY_FILE, key_of, settings_of, told};
use crate::generator::{Generated, Generator};
use crate::process::{Gateway, Hub, must};

const RULES: &str = include_str!("../../../docs/rules-sample.toml");
const DISTRICT: &str = "mw/zomba";
const FACILITIES: [&str; 2] = ["mw/zomba/chingale", "mw/zomba/thondwe"];
/// Registered at each clinic.
const PATIENTS: usize = 5;
/// Where no hub is: a program that is started on a thawed database must not call anybody.
const NOWHERE: &str = "https://hub.outpost.example:8480";
/// Both clinics work on this patient.
pub(super) const SHARED: &str = "patient/0199a1b2-0000-7000-8000-000000000001";
const DELETED: &str = "patient/0199a1b2-0000-7000-8000-000000000002";

/// Plays the story with the programs beside this one in an empty folder, with an encrypted gateway if that is wanted. Gives what
/// they said in the end.
///
/// # Errors
/// If something of it did not come about.
///
/// # Panics
/// If a program fails.
pub fn play(folder: &Path, is_sealed: bool) -> Result<Value> {
    if is_sealed {
        must("outpost", &["key", "make", &folder.join(KEY_FILE).to_string_lossy()]);
    }
    let mut hub = Hub::start(&folder.join("hub"));
    hub.publish(&RULES.replace("sex = { rule = \"keep-both\", required = true,", "sex = { rule = \"keep-both\","));
    let [mut near, mut far] = GATEWAYS.map(|name| {
        let dir = folder.join(name);
        fs::create_dir_all(&dir).expect("a folder for the gateway");
        fs::write(dir.join("outpost.toml"), settings_of(folder, name)).expect("its configuration");
        let gateway = Gateway::start_in_box(&dir, &format!("{BOX} {name}"));
        gateway.enroll(&hub, name, DISTRICT);
        gateway
    });
    let (mut here, mut there) = (Generator::at(11, FACILITIES[0]), Generator::at(12, FACILITIES[1]));
    save(&near, &here.clinic_day(PATIENTS))?;
    save(&far, &there.clinic_day(PATIENTS))?;
    let shared = here.patient();
    near.put(SHARED, &Value::Object(shared.body.clone()));
    near.put(DELETED, &Value::Object(here.patient().body));
    sync_all(&near, &far);

    hub.proxy.set_down(true);
    change(&near, SHARED, &json!({"name": {"given": "Grace", "family": "Banda"}, "allergies": ["penicillin"]}))?;
    change(&far, SHARED, &json!({"name": {"given": "Grace", "family": "Phiri"}, "allergies": ["latex"]}))?;
    ensure!(near.ask("DELETE", &format!("/v1/records/{DELETED}"), &[], None).0 < 300, "the delete was refused");
    // A patient whom newer rules do not take so, and a dose that was given to nobody.
    hub.publish(&RULES.replace("version = 1\n", "version = 2\n"));
    near.put("patient/unknown", &json!({"name": "Ruth", "facility": FACILITIES[0]}));
    near.put("immunization/orphan", &json!({"patient": "nobody", "vaccine": "BCG", "date": "2026-03-02"}));
    hub.proxy.set_down(false);
    sync_all(&near, &far);
    ensure!(near.count("parked") == 2 && near.count("conflicts") == 1, "{}", near.status());
    let_in(&near)?;
    fold(folder)?;

    hub.proxy.set_down(true);
    save(&near, &here.clinic_day(2))?;
    save(&far, &there.clinic_day(2))?;
    change(&near, SHARED, &json!({"phone": "+265 991 000 001"}))?;
    change(&far, SHARED, &json!({"phone": "+265 882 000 002", "village": "Songani"}))?;
    let stock = here.stock_item();
    save(&near, &[stock])?;
    let substance = json!({"patient": id_of(SHARED), "substance": "peanut", "severity": "severe"});
    near.put("allergy/unsent", &substance);
    for gateway in [&near, &far] {
        ensure!(gateway.count("unsent") > 5, "{}", gateway.status());
    }
    let said = json!({
        "near": told::of_gateway(&near),
        "far": told::of_gateway(&far),
        "hub": told::of_hub(&hub, &["patient", "visit", "immunization", "allergy", "stock"]),
    });
    near.kill();
    far.kill();
    hub.kill();
    for name in GATEWAYS {
        let db = open_as_it_is(&folder.join(name).join("outpost.db"), key_of(folder, name)?.as_ref())?;
        db.execute("UPDATE enrolment SET hub_url = ?1", [NOWHERE])?;
    }
    Ok(said)
}

/// A tablet is paired.
fn let_in(gateway: &Gateway) -> Result<()> {
    let shown = gateway.command(&["pair", "tablet", "--read", "patient,visit"]);
    let invitation =
        shown.lines().find_map(|line| line.strip_prefix("all in one outpost://")).context("no invitation")?;
    let (address, query) = invitation.split_once("/pair?code=").context("no code")?;
    let (code, _pin) = query.split_once("&pin=").context("no pin")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // There is only one who could listen there.
    let tls = TlsConfig::builder().disable_verification(true).unversioned_rustls_crypto_provider(provider).build();
    let client: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
    let answer = client.post(format!("https://{address}/v1/pair")).header("content-type", "application/json");
    answer.send(json!({ "code": code }).to_string())?;
    Ok(())
}

fn id_of(key: &str) -> &str {
    key.split_once('/').map_or(key, |(_, id)| id)
}

fn save(gateway: &Gateway, records: &[Generated]) -> Result<()> {
    let line = |made: &Generated| {
        format!("{}\n", json!({"type": made.record_type, "id": made.id, "body": made.body, "author": "nurse"}))
    };
    let lines: String = records.iter().map(line).collect();
    let headers = [("content-type", "application/x-ndjson")];
    let (status, answer) = gateway.ask("POST", "/v1/batch", &headers, Some(&Value::String(lines)));
    ensure!(status == 200 && !answer.contains("\"problem\""), "a record was refused: {answer}");
    Ok(())
}

fn change(gateway: &Gateway, key: &str, patch: &Value) -> Result<()> {
    let headers = [("content-type", "application/merge-patch+json"), ("outpost-author", "nurse")];
    let (status, answer) = gateway.ask("PATCH", &format!("/v1/records/{key}"), &headers, Some(patch));
    ensure!(status == 200, "{answer}");
    Ok(())
}

/// Each holds what the other sent, and the hub knows that they do.
fn sync_all(near: &Gateway, far: &Gateway) {
    for gateway in [near, far, near, far] {
        gateway.sync();
    }
}

/// The logs begin anew, so that they hold what is written from here on and no more.
fn fold(folder: &Path) -> Result<()> {
    for (place, of) in [("hub/hub.db", "hub"), ("near/outpost.db", "near"), ("far/outpost.db", "far")] {
        let db = open_as_it_is(&folder.join(place), key_of(folder, of)?.as_ref())?;
        let is_busy: i64 = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).context(place)?;
        ensure!(is_busy == 0, "{place} is being read for too long");
    }
    Ok(())
}
