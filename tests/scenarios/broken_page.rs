//! The card damages part of the database of a gateway: all that can be read arrives, nobody has to enrol it again, and the hub sends
//! what it has of the rest.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use outpost_tests::process::{Gateway, Hub, wait_for};
use serde_json::json;

const PAGE: usize = 1_024;

/// Whether it is a leaf of the table of records (its first byte is 13), by ids that stand in it as they are.
fn has_records(page: &[u8]) -> bool {
    let is_there = |n: &usize| {
        let id = format!("v{n}");
        page.windows(id.len()).any(|bytes| bytes == id.as_bytes())
    };
    page[0] == 13 && (30..120).filter(is_there).count() >= 3
}

/// Spoils two pages in the middle of the records, all of which the hub has. Gives the size of the file.
fn spoil(card: &Path) -> usize {
    let file = card.join("outpost.db");
    let database = rusqlite::Connection::open(&file).unwrap();
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(database);
    let mut bytes = fs::read(&file).unwrap();
    let pages: Vec<usize> =
        (0..bytes.len() / PAGE).filter(|page| has_records(&bytes[page * PAGE..(page + 1) * PAGE])).collect();
    assert!(pages.len() > 4, "{pages:?} of {}", bytes.len() / PAGE);
    for page in &pages[2..4] {
        bytes[page * PAGE..page * PAGE + 300].fill(0x5a);
    }
    fs::write(&file, &bytes).unwrap();
    bytes.len()
}

/// Puts as many visits as fill some pages, and sends them.
fn put_visits(gateway: &Gateway) {
    for n in 0..150 {
        gateway.put(&format!("visit/v{n}"), &json!({"n": n, "note": format!("visit {n} as it was said")}));
    }
    gateway.sync();
}

/// A gateway that has sent all, and the card of which was spoilt while it was off.
fn spoilt(folder: &Path) -> (Hub, Gateway, PathBuf) {
    let hub = Hub::start(&folder.join("hub"));
    let card = folder.join("card");
    let mut gateway = Gateway::enrolled(&card, &hub, "a", "mw");
    put_visits(&gateway);
    gateway.kill();
    spoil(&card);
    (hub, gateway, card)
}

/// What apps are answered that read them.
fn read(gateway: &Gateway) -> BTreeSet<u16> {
    (0..150).map(|n| gateway.ask("GET", &format!("/v1/records/visit/v{n}"), &[], None).0).collect()
}

#[test]
fn with_a_page_that_cannot_be_read_it_goes_on_under_its_own_name_with_all_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&folder.path().join("hub"));
    let card = folder.path().join("card");
    let mut gateway = Gateway::enrolled(&card, &hub, "a", "mw");
    put_visits(&gateway);
    hub.kill();
    for n in 0..20 {
        gateway.put(&format!("birth/b{n}"), &json!({"n": n}));
    }
    gateway.kill();
    let size = spoil(&card);
    gateway.restart();
    let aside = wait_for("the database to be made anew", || {
        gateway.status()["set_aside"].as_array().and_then(|files| files.first().cloned())
    });
    assert_eq!(fs::read(aside.as_str().unwrap()).unwrap().len(), size, "what was broken is kept");
    // What is only known by name says so, and is not called missing.
    let answers: Vec<u16> = (0..150)
        .map(|n| gateway.ask("GET", &format!("/v1/records/visit/v{n}"), &[], None).0)
        .filter(|status| *status != 200)
        .collect();
    assert!(!answers.is_empty() && answers.iter().all(|status| *status == 503), "{answers:?}");
    gateway.put("birth/after", &json!({"n": 20}));
    assert!(gateway.count("unsent") >= 21);
    hub.restart();
    gateway.sync();
    gateway.sync();
    assert_eq!(
        (gateway.count("unsent"), gateway.count("damaged_rows"), gateway.status()["gateway"].clone()),
        (0, 0, json!("a"))
    );
    assert_eq!((hub.export("visit").lines().count(), hub.export("birth").lines().count()), (150, 21));
    for record_type in ["visit", "birth"] {
        assert_eq!(gateway.export(record_type), hub.export(record_type));
    }
    // The next start finds nothing to mend.
    gateway.restart();
    wait_for("the check", || (gateway.count("database_faults") == 0).then_some(()));
    assert_eq!(gateway.status()["set_aside"].as_array().unwrap().len(), 1);
}

#[test]
fn a_card_that_has_broken_three_databases_is_not_filled_with_more_and_what_can_be_read_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, mut gateway, card) = spoilt(folder.path());
    let earlier = [1, 2, 3].map(|nth| card.join(format!("outpost-broken-{nth}.db")));
    for file in &earlier {
        fs::write(file, b"what was broken before").unwrap();
    }
    gateway.restart();
    wait_for("the check", || (gateway.count("database_faults") > 0).then_some(()));
    assert_eq!(read(&gateway), BTreeSet::from([200, 500]));
    assert_eq!(gateway.status()["set_aside"].as_array().unwrap().len(), 3);
    // As soon as one was moved away it is made anew.
    fs::remove_file(&earlier[1]).unwrap();
    gateway.restart();
    wait_for("the database to be made anew", || {
        let status = gateway.status();
        let files = status["set_aside"].as_array().map_or(0, Vec::len);
        (files == 3 && status["database_faults"] == json!(0)).then_some(())
    });
    gateway.sync();
    assert_eq!(gateway.export("visit"), hub.export("visit"));
}

/// The reserve is larger than any card, so that none has to be filled.
#[test]
fn without_room_for_another_one_what_can_be_read_is_served_and_it_is_made_anew_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, mut gateway, card) = spoilt(folder.path());
    fs::write(card.join("outpost.toml"), "disk_reserve_megabytes = 4000000000\n").unwrap();
    gateway.restart();
    let is_told = || fs::read_to_string(card.join("log")).is_ok_and(|log| log.contains("a copy of the database needs"));
    wait_for("that it is told", || is_told().then_some(()));
    assert_eq!(read(&gateway), BTreeSet::from([200, 500]));
    assert_eq!(gateway.status()["set_aside"], json!([]));
    fs::remove_file(card.join("outpost.toml")).unwrap();
    gateway.restart();
    wait_for("the database to be made anew", || {
        let status = gateway.status();
        (status["set_aside"].as_array().map_or(0, Vec::len) == 1 && status["database_faults"] == json!(0)).then_some(())
    });
    gateway.sync();
    assert_eq!(gateway.export("visit"), hub.export("visit"));
}
