//! The card damages part of the database of a gateway: all that can be read arrives, nobody has to enrol it again, and the hub sends
//! what it has of the rest.

use std::fs;

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

#[test]
fn with_a_page_that_cannot_be_read_it_goes_on_under_its_own_name_with_all_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&folder.path().join("hub"));
    let card = folder.path().join("card");
    let mut gateway = Gateway::enrolled(&card, &hub, "a", "mw");
    for n in 0..150 {
        gateway.put(&format!("visit/v{n}"), &json!({"n": n, "note": format!("visit {n} as it was said")}));
    }
    gateway.sync();
    hub.kill();
    for n in 0..20 {
        gateway.put(&format!("birth/b{n}"), &json!({"n": n}));
    }
    gateway.kill();
    let file = card.join("outpost.db");
    let database = rusqlite::Connection::open(&file).unwrap();
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(database);
    let mut bytes = fs::read(&file).unwrap();
    let pages: Vec<usize> =
        (0..bytes.len() / PAGE).filter(|page| has_records(&bytes[page * PAGE..(page + 1) * PAGE])).collect();
    assert!(pages.len() > 4, "{pages:?} of {}", bytes.len() / PAGE);
    // In the middle of the records, all of which the hub has.
    let pages = &pages[2..4];
    for page in pages {
        bytes[page * PAGE..page * PAGE + 300].fill(0x5a);
    }
    fs::write(&file, &bytes).unwrap();
    gateway.restart();
    let aside = wait_for("the database to be made anew", || {
        gateway.status()["set_aside"].as_array().and_then(|files| files.first().cloned())
    });
    assert_eq!(fs::read(aside.as_str().unwrap()).unwrap().len(), bytes.len(), "what was broken is kept");
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
