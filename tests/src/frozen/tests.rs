//! Every frozen database is brought up to today, also by a program whose power is cut on the way, and goes on with its hub.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use agent::error::Error;
use agent::store::{Options, Tx};
use rusqlite::Connection;
use sync_protocol::edit::render;
use sync_protocol::gateway::Store as _;
use sync_protocol::id::RecordKey;
use sync_protocol::loopback::{Link, Traffic, settle};
use tempfile::TempDir;

use super::age::{Program, shape};
use super::rows::{Table, are_kept, layout, open_as_it_is, tables};
use super::*;
use crate::generator::random::Random;
use crate::sim::card::fold;
use crate::sim::torn::Files;

/// Tears of each database, beside those at each frame.
const TEARS: u64 = 12;

fn program(of: &str) -> Program {
    if of == "hub" { Program::Hub } else { Program::Gateway }
}

/// Opens a database as its program does; it is closed when what is given is dropped.
fn open(of: &str, folder: &Path) -> Box<dyn Any> {
    match program(of) {
        Program::Gateway => {
            let store = agent::store::Inline::open(folder, Options::default()).unwrap();
            assert!(agent::store::files_aside(folder).is_empty(), "it was set aside");
            Box::new(store)
        }
        Program::Hub => Box::new(server_stub::Inline::open(folder).unwrap()),
    }
}

fn all_tables(database: &Path) -> BTreeMap<String, Table> {
    tables(&open_as_it_is(database).unwrap()).unwrap()
}

/// Each database of each fleet.
fn each(mut look: impl FnMut(&Frozen, &Thawed, &str)) {
    for frozen in all().unwrap() {
        let thawed = frozen.thaw().unwrap();
        ["hub", "near", "far"].into_iter().for_each(|of| look(&frozen, &thawed, of));
    }
}

#[test]
fn each_layout_is_frozen_and_still_what_its_steps_make() {
    let frozen = all().unwrap();
    for (program, of) in [(Program::Gateway, "gateway"), (Program::Hub, "hub")] {
        for layout in 1..=u32::try_from(program.steps().unwrap().len()).unwrap() {
            let is_frozen = frozen.iter().any(|f| layout == if of == "hub" { f.hub } else { f.gateway });
            assert!(is_frozen, "no database of layout {layout} of the {of} is frozen; run: tests/freeze");
        }
    }
    each(|frozen, thawed, of| {
        let db = open_as_it_is(&thawed.database(of)).unwrap();
        let expected = if of == "hub" { frozen.hub } else { frozen.gateway };
        assert_eq!(layout(&db).unwrap(), expected, "{frozen:?} {of}");
        let steps = program(of).shape_of(expected).unwrap();
        assert_eq!(shape(&db).unwrap(), steps, "{frozen:?} {of}: a step that was released has been changed");
    });
}

#[test]
fn each_is_brought_up_to_today_with_every_row() {
    each(|frozen, thawed, of| {
        let before = all_tables(&thawed.database(of));
        drop(open(of, &thawed.dir(of)));
        let db = open_as_it_is(&thawed.database(of)).unwrap();
        let newest = program(of).steps().unwrap().len();
        assert_eq!(usize::try_from(layout(&db).unwrap()).unwrap(), newest);
        assert_eq!(shape(&db).unwrap(), program(of).shape_of(u32::try_from(newest).unwrap()).unwrap());
        are_kept(&before, &tables(&db).unwrap()).unwrap_or_else(|lost| panic!("{frozen:?} {of}: {lost}"));
    });
}

/// Opens what a power cut left.
fn is_whole(of: &str, left: &Files, before: &BTreeMap<String, Table>) -> anyhow::Result<()> {
    // In memory, where the system has that: thousands of syncs are done here.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| TempDir::new())?;
    let database = folder.path().join(if of == "hub" { "hub.db" } else { "outpost.db" });
    left.write(&database, false)?;
    drop(open(of, folder.path()));
    let db = open_as_it_is(&database)?;
    anyhow::ensure!(usize::try_from(layout(&db)?)? == program(of).steps()?.len(), "it is of layout {}", layout(&db)?);
    are_kept(before, &tables(&db)?)
}

#[test]
fn a_power_cut_anywhere_in_an_upgrade_costs_nothing() {
    let mut cuts = 0;
    each(|frozen, thawed, of| {
        let newest = program(of).steps().unwrap().len();
        let now = if of == "hub" { frozen.hub } else { frozen.gateway };
        // One of two gateways says as much as both.
        if of == "far" || now as usize == newest {
            return;
        }
        let database = thawed.database(of);
        let before = all_tables(&database);
        let synced = Files::read(&database).unwrap();
        let store = open(of, &thawed.dir(of));
        let upgraded = Files::read(&database).unwrap();
        let mut left = synced.cuts_of_log(&upgraded);
        let mut random = Random::new(u64::from(now));
        left.extend((0..TEARS).map(|_| synced.cut(&upgraded, &mut random)));
        fold(&database);
        let folded = Files::read(&database).unwrap();
        left.extend((0..TEARS).map(|_| upgraded.cut(&folded, &mut random)));
        drop(store);
        for (nth, left) in left.iter().enumerate() {
            is_whole(of, left, &before).unwrap_or_else(|lost| panic!("{frozen:?} {of}, cut {nth}: {lost}"));
            cuts += 1;
        }
    });
    assert!(cuts > 250, "{cuts}");
}

/// Exchanges until there is no news.
fn sync(folder: &Path, hub: &mut server_stub::Inline, now_ms: i64) -> Traffic {
    let mut gateway = agent::store::Inline::open(folder, Options::default()).unwrap();
    let all = |tx: &mut Tx<'_>| -> Result<Traffic, Error> {
        let at_hub = |at_hub: &mut server_stub::Tx<'_>| -> Result<Traffic, server_stub::StoreError> {
            Ok(settle(tx, at_hub, &mut Link::new().unwrap(), now_ms.unsigned_abs(), 50).unwrap())
        };
        Ok(hub.write(now_ms, at_hub).unwrap())
    };
    let traffic = gateway.write(all).unwrap();
    gateway.commit().unwrap();
    traffic
}

#[test]
fn each_goes_on_with_its_hub_and_sends_what_was_unsent() {
    for frozen in all().unwrap() {
        let thawed = frozen.thaw().unwrap();
        let last_contact = "SELECT max(contact_ms) FROM gateways";
        let now_ms: i64 =
            Connection::open(thawed.database("hub")).unwrap().query_row(last_contact, [], |row| row.get(0)).unwrap();
        let mut hub = server_stub::Inline::open(&thawed.dir("hub")).unwrap();
        let devices = GATEWAYS.map(|name| {
            let mut gateway = agent::store::Inline::open(&thawed.dir(name), Options::default()).unwrap();
            gateway.write(|tx| tx.state()).unwrap().device
        });
        let mut sent = 0;
        for name in ["near", "far", "near", "far"] {
            let traffic = sync(&thawed.dir(name), &mut hub, now_ms + 60_000);
            assert!(traffic.agrees, "{frozen:?} {name}: {traffic:?}");
            sent += traffic.ops;
        }
        let unsent = |name: &str| thawed.told[name]["status"]["unsent"].as_u64().unwrap();
        assert_eq!(sent as u64, unsent("near") + unsent("far"), "{frozen:?}");
        for (name, device) in GATEWAYS.into_iter().zip(devices) {
            let gateway = agent::store::Inline::open(&thawed.dir(name), Options::default()).unwrap();
            let status = gateway.read(|reader| reader.status()).unwrap();
            assert_eq!(status.streams.iter().map(|stream| stream.unsent).sum::<u64>(), 0, "{frozen:?} {name}");
            assert_eq!((status.state.device, status.state.repairs), (device, 0), "{frozen:?} {name}");
            let shared = RecordKey::parse(story::SHARED).unwrap();
            let record = gateway.read(|reader| reader.get(&shared)).unwrap().unwrap().record;
            let body = render(&record);
            assert_eq!(body["village"], "Songani", "what the other clinic had not sent");
            let allergies = body["allergies"].to_string();
            assert!(allergies.contains("penicillin") && allergies.contains("latex"), "{allergies}");
            assert_eq!(status.conflicts, 1, "{frozen:?} {name}");
        }
    }
}

#[test]
fn what_was_frozen_is_never_replaced() {
    let (frozen, empty) = (all().unwrap().remove(0), TempDir::new().unwrap());
    assert!(frozen.keep(empty.path(), &Value::Null).is_err());
    assert!(fs::exists(frozen.folder().join("near.db.zst")).unwrap());
}

#[test]
fn a_filled_gateway_and_hub_of_each_layout_lose_nothing() {
    let home = TempDir::new().unwrap();
    let upgrades = measure::run(home.path(), 300).unwrap();
    let layouts = |program: Program| program.steps().unwrap().len() - 1;
    assert_eq!(upgrades.len(), layouts(Program::Gateway) + layouts(Program::Hub));
    assert!(upgrades.iter().all(|upgrade| upgrade.sent == 150));
}
