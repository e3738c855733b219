//! Every frozen database is brought up to today, also by a program whose power is cut on the way, and goes on with its hub.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs;

use agent::error::Error;
use agent::store::{DataKey, Home, Options, Tx};
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
use crate::sim::card::fold_by;
use crate::sim::torn::Files;

/// Tears of each database, beside those at each frame.
const TEARS: u64 = 12;
/// The layouts of the gateway of which an encrypted database is frozen: the first that could be, and all since this one.
const SEALED_FIRST: u32 = 5;
const SEALED_SINCE: u32 = 9;

fn program(of: &str) -> Program {
    if of == "hub" { Program::Hub } else { Program::Gateway }
}

/// Opens a database as its program does; it is closed when what is given is dropped.
fn open(of: &str, home: &Home) -> Box<dyn Any> {
    match program(of) {
        Program::Gateway => {
            let store = agent::store::Inline::open(home.clone(), Options::default()).unwrap();
            assert!(agent::store::files_aside(home.dir()).is_empty(), "it was set aside");
            Box::new(store)
        }
        Program::Hub => Box::new(server_stub::Inline::open(home.dir()).unwrap()),
    }
}

fn all_tables(thawed: &Thawed, of: &str) -> BTreeMap<String, Table> {
    tables(&thawed.open(of).unwrap()).unwrap()
}

/// Each database of each fleet.
fn each(mut look: impl FnMut(&Frozen, &Thawed, &'static str)) {
    for frozen in all().unwrap() {
        let thawed = frozen.thaw().unwrap();
        ["hub", "near", "far"].into_iter().for_each(|of| look(&frozen, &thawed, of));
    }
}

#[test]
fn each_layout_is_frozen_and_still_what_its_steps_make() {
    let (sealed, plain): (Vec<Frozen>, Vec<Frozen>) = all().unwrap().into_iter().partition(|frozen| frozen.is_sealed);
    let newest = |program: Program| u32::try_from(program.steps().unwrap().len()).unwrap();
    for (program, of) in [(Program::Gateway, "gateway"), (Program::Hub, "hub")] {
        for layout in 1..=newest(program) {
            let is_frozen = plain.iter().any(|f| layout == if of == "hub" { f.hub } else { f.gateway });
            assert!(is_frozen, "no database of layout {layout} of the {of} is frozen; run: tests/freeze");
        }
    }
    for layout in [SEALED_FIRST].into_iter().chain(SEALED_SINCE..=newest(Program::Gateway)) {
        let is_frozen = sealed.iter().any(|f| f.gateway == layout);
        assert!(is_frozen, "no encrypted database of layout {layout} is frozen; run: tests/freeze");
    }
    each(|frozen, thawed, of| {
        let db = thawed.open(of).unwrap();
        let expected = if of == "hub" { frozen.hub } else { frozen.gateway };
        assert_eq!(layout(&db).unwrap(), expected, "{frozen:?} {of}");
        let steps = program(of).shape_of(expected).unwrap();
        assert_eq!(shape(&db).unwrap(), steps, "{frozen:?} {of}: a step that was released has been changed");
    });
}

#[test]
fn each_is_brought_up_to_today_with_every_row() {
    each(|frozen, thawed, of| {
        let before = all_tables(thawed, of);
        drop(open(of, &thawed.home(of).unwrap()));
        let db = thawed.open(of).unwrap();
        let newest = program(of).steps().unwrap().len();
        assert_eq!(usize::try_from(layout(&db).unwrap()).unwrap(), newest);
        assert_eq!(shape(&db).unwrap(), program(of).shape_of(u32::try_from(newest).unwrap()).unwrap());
        are_kept(&before, &tables(&db).unwrap()).unwrap_or_else(|lost| panic!("{frozen:?} {of}: {lost}"));
    });
}

/// Opens what a power cut left; gives the layout that it had.
fn is_whole(of: &str, key: Option<&DataKey>, left: &Files, before: &BTreeMap<String, Table>) -> anyhow::Result<u32> {
    // In memory, where the system has that: thousands of syncs are done here.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| TempDir::new())?;
    let database = folder.path().join(if of == "hub" { "hub.db" } else { "outpost.db" });
    left.write(&database, false)?;
    let was = layout(&open_as_it_is(&database, key)?)?;
    drop(open(of, &Home::new(folder.path(), key.cloned())));
    let db = open_as_it_is(&database, key)?;
    anyhow::ensure!(usize::try_from(layout(&db)?)? == program(of).steps()?.len(), "it is of layout {}", layout(&db)?);
    are_kept(before, &tables(&db)?)?;
    Ok(was)
}

#[test]
fn a_power_cut_anywhere_in_an_upgrade_costs_nothing() {
    // How many there were while the step from each layout was not done yet.
    let mut cuts = BTreeMap::<(&str, u32), usize>::new();
    each(|frozen, thawed, of| {
        let newest = program(of).steps().unwrap().len();
        let now = if of == "hub" { frozen.hub } else { frozen.gateway };
        // One of two gateways says as much as both.
        if of == "far" || now as usize == newest {
            return;
        }
        let (database, home) = (thawed.database(of), thawed.home(of).unwrap());
        let before = all_tables(thawed, of);
        let synced = Files::read(&database).unwrap();
        let store = open(of, &home);
        let upgraded = Files::read(&database).unwrap();
        let mut left = synced.cuts_of_log(&upgraded);
        let mut random = Random::new(u64::from(now));
        left.extend((0..TEARS).map(|_| synced.cut(&upgraded, &mut random)));
        fold_by(&thawed.open(of).unwrap());
        let folded = Files::read(&database).unwrap();
        left.extend((0..TEARS).map(|_| upgraded.cut(&folded, &mut random)));
        drop(store);
        for (nth, left) in left.iter().enumerate() {
            let was = is_whole(of, home.key(), left, &before);
            let was = was.unwrap_or_else(|lost| panic!("{frozen:?} {of}, cut {nth}: {lost}"));
            *cuts.entry((of, was)).or_default() += 1;
        }
    });
    for of in ["hub", "near"] {
        for from in 1..u32::try_from(program(of).steps().unwrap().len()).unwrap() {
            assert!(cuts.get(&(of, from)).is_some_and(|cuts| *cuts > 5), "{of}, the step from layout {from}: {cuts:?}");
        }
    }
}

/// Exchanges until there is no news.
fn sync(home: Home, hub: &mut server_stub::Inline, now_ms: i64) -> Traffic {
    let mut gateway = agent::store::Inline::open(home, Options::default()).unwrap();
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
            let mut gateway = agent::store::Inline::open(thawed.home(name).unwrap(), Options::default()).unwrap();
            gateway.write(|tx| tx.state()).unwrap().device
        });
        let mut sent = 0;
        for name in ["near", "far", "near", "far"] {
            let traffic = sync(thawed.home(name).unwrap(), &mut hub, now_ms + 60_000);
            assert!(traffic.agrees, "{frozen:?} {name}: {traffic:?}");
            sent += traffic.ops;
        }
        let unsent = |name: &str| thawed.told[name]["status"]["unsent"].as_u64().unwrap();
        assert_eq!(sent as u64, unsent("near") + unsent("far"), "{frozen:?}");
        for (name, device) in GATEWAYS.into_iter().zip(devices) {
            let gateway = agent::store::Inline::open(thawed.home(name).unwrap(), Options::default()).unwrap();
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
    assert!(upgrades.iter().all(|upgrade| upgrade.sent == 150 && upgrade.cuts > 2));
}
