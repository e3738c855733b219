//! Databases that are out of use: what can be read of them is found, what cannot is named, and the file stays as it is.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use sync_protocol::gateway::rescue::{Old as _, Rescuer, Tally};
use sync_protocol::id::{Seq, Stream};
use sync_protocol::identity::DeviceKey;
use sync_protocol::loopback;
use sync_protocol::rules::Rules;

use super::*;
use crate::store::{Copied, FILE_NAME, OldDatabase, copy_old};

const PAGE: usize = 1_024;
const RULES: &str =
    "version = 1\n[types.stock.fields]\nused = \"counter\"\n[types.case.fields]\nlog = \"append-only\"\n";

/// A database file that nobody has open any more.
struct Card {
    dir: TempDir,
    origin: u32,
}

impl Card {
    /// An enrolled gateway that has synced once and then worked without a link: so many steps of a counter, a list and a visit.
    fn with_work(hub: &mut MemoryHub, steps: i64) -> Card {
        let rules = std::sync::Arc::new(Rules::parse(RULES).unwrap());
        hub.publish(std::sync::Arc::clone(&rules));
        let mut clinic = Clinic::enrolled(hub, "mw");
        clinic.store.blocking_write(move |tx| tx.set_rules(rules)).unwrap();
        clinic.put("stock/s1", json!({"used": 3}));
        clinic.put("case/c1", json!({"log": ["a"]}));
        clinic.sync(hub);
        let mut log = vec![json!("a")];
        for n in 1..=steps {
            clinic.put("stock/s1", json!({"used": 3 + 2 * n}));
            log.push(json!(n));
            clinic.put("case/c1", json!({"log": log}));
            clinic
                .put(&format!("visit/v{n}"), json!({"n": n, "note": format!("{n} days of cough, {}", n * 7_919 % 97)}));
        }
        let origin = clinic.store.blocking_read(|reader| reader.state()).unwrap().origin.0;
        let Clinic { dir, store, .. } = clinic;
        drop(store);
        Card { dir, origin }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join(FILE_NAME)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.file()).unwrap();
        change(&mut bytes);
        fs::write(self.file(), bytes).unwrap();
    }

    fn open(&self) -> (TempDir, Copied, OldDatabase, crate::store::Left) {
        let before = fs::read(self.file()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let copied = copy_old(&self.file(), &dir.path().into()).unwrap();
        let (old, left) = OldDatabase::open(dir.path()).unwrap();
        assert_eq!(fs::read(self.file()).unwrap(), before, "the file itself is only read");
        (dir, copied, old, left)
    }

    /// Hands in what can be read; tells what became of it and how many ops cannot be read.
    fn rescue(&self, hub: &mut MemoryHub) -> (Tally, u64) {
        let (_dir, _, mut old, left) = self.open();
        let mut rescuer = Rescuer::new(&left.state.unwrap(), left.last);
        let mut link = Link::new().unwrap();
        link.up_bytes = 2_000;
        while let Some(answer) = loopback::rescue(&mut rescuer, &mut old, hub, &mut link, 0).unwrap() {
            assert_eq!(answer.status, sync_protocol::message::Status::Ok);
        }
        let mut lost = 0;
        for (stream, agreed, last) in rescuer.reach() {
            let gaps = old.gaps(stream, agreed, last).unwrap();
            lost += gaps.iter().map(|gap| gap.last.0 - gap.first.0 + 1).sum::<u64>();
        }
        (rescuer.tally(), lost)
    }
}

fn renew(hub: &mut MemoryHub) {
    hub.enroll_again(sync_protocol::id::Device(1), DeviceKey([9; 32])).unwrap();
}

fn at_hub(hub: &MemoryHub, key: &str) -> Json {
    let found = hub.records().find(|(known, _)| **known == key_of(key));
    found.map_or(Json::Null, |(_, record)| Json::Object(render(record)))
}

#[test]
fn a_whole_file_says_who_it_was_and_hands_in_everything() {
    let mut hub = MemoryHub::default();
    let card = Card::with_work(&mut hub, 40);
    renew(&mut hub);
    let (_dir, copied, mut old, left) = card.open();
    assert_eq!((copied.unreadable_bytes, copied.has_new_header), (0, false));
    assert_eq!(left.origin.map(|origin| origin.0), Some(card.origin));
    assert_eq!(left.last[1], Seq(122));
    assert!(old.gaps(Stream::Normal, Seq(0), Seq(122)).unwrap().is_empty());
    assert_eq!(card.rescue(&mut hub), (Tally { in_place: 120, ..Tally::default() }, 0));
    assert_eq!(card.rescue(&mut hub), (Tally { known: 120, ..Tally::default() }, 0));
    assert_eq!(at_hub(&hub, "stock/s1")["used"], json!(83));
    assert_eq!(at_hub(&hub, "case/c1")["log"].as_array().unwrap().len(), 41);
}

#[test]
fn around_any_page_that_cannot_be_read_everything_else_is_handed_in_once() {
    let mut hub = MemoryHub::default();
    let card = Card::with_work(&mut hub, 60);
    renew(&mut hub);
    let whole = fs::read(card.file()).unwrap();
    let (mut with_losses, mut with_all) = (0, 0);
    for page in (3..whole.len() / PAGE).step_by(3) {
        card.change(|bytes| {
            *bytes = whole.clone();
            bytes[page * PAGE..page * PAGE + 400].fill(0x5a);
        });
        let dir = tempfile::tempdir().unwrap();
        copy_old(&card.file(), &dir.path().into()).unwrap();
        // Without its list of tables, or of who it was, it is another case.
        if !OldDatabase::open(dir.path()).is_ok_and(|(_, left)| left.state.is_some_and(|s| s.origin.0 == card.origin)) {
            continue;
        }
        let mut central = hub.clone();
        let (tally, lost) = card.rescue(&mut central);
        assert_eq!(tally.in_place + tally.apart + lost, 180, "page {page}: {tally:?}");
        let (again, still_lost) = card.rescue(&mut central);
        assert_eq!((again.in_place + again.apart, again.known, still_lost), (0, 180 - lost, lost), "page {page}");
        with_losses += u64::from(lost > 0);
        with_all += u64::from(lost == 0);
        // Another copy that is whole brings the rest, and nothing twice.
        fs::write(card.file(), &whole).unwrap();
        let (rest, lost_now) = card.rescue(&mut central);
        assert_eq!((rest.in_place + rest.apart, lost_now), (lost, 0), "page {page}");
        assert_eq!(at_hub(&central, "stock/s1")["used"], json!(123), "page {page}");
        assert_eq!(at_hub(&central, "case/c1")["log"].as_array().unwrap().len(), 61, "page {page}");
    }
    assert!(with_losses > 3 && with_all > 3, "{with_losses} {with_all}");
}

#[test]
fn a_lost_beginning_is_made_anew_in_the_copy() {
    let mut hub = MemoryHub::default();
    let card = Card::with_work(&mut hub, 20);
    renew(&mut hub);
    let whole = fs::read(card.file()).unwrap();
    for lost in [100, PAGE] {
        card.change(|bytes| {
            *bytes = whole.clone();
            bytes[..lost].fill(0);
        });
        let (_dir, copied, ..) = card.open();
        assert!(copied.has_new_header);
        assert_eq!(card.rescue(&mut hub.clone()), (Tally { in_place: 60, ..Tally::default() }, 0), "{lost} bytes");
    }
}

#[test]
fn a_file_that_lost_who_it_was_still_says_under_which_origin_it_wrote() {
    let mut hub = MemoryHub::default();
    let card = Card::with_work(&mut hub, 5);
    let db = super::raw(card.file());
    let page: usize = db
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'sync_state'", [], |row| row.get::<_, i64>(0))
        .unwrap() as usize;
    drop(db);
    card.change(|bytes| bytes[(page - 1) * PAGE..page * PAGE].fill(0x5a));
    let (_dir, _, mut old, left) = card.open();
    assert_eq!((left.state.clone(), left.origin.map(|origin| origin.0)), (None, Some(card.origin)));
    assert_eq!(old.ops(Stream::Normal, Seq(2), 100).unwrap().len(), 15);
}

#[test]
fn what_is_no_database_of_ours_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("photos.db");
    let other = super::raw(&file);
    other.execute_batch("CREATE TABLE photos (n INTEGER); PRAGMA user_version = 1;").unwrap();
    drop(other);
    let copy = tempfile::tempdir().unwrap();
    copy_old(&file, &copy.path().into()).unwrap();
    assert!(matches!(OldDatabase::open(copy.path()), Err(Error::NotOurs(_))));
    let newer = Clinic::new();
    newer.store.blocking_write(|_| Ok::<_, Error>(())).unwrap();
    let Clinic { dir: newer, store, .. } = newer;
    drop(store);
    let db = super::raw(newer.path().join(FILE_NAME));
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let copy = tempfile::tempdir().unwrap();
    copy_old(&newer.path().join(FILE_NAME), &copy.path().into()).unwrap();
    assert!(matches!(OldDatabase::open(copy.path()), Err(Error::NewerDatabase { found: 99, .. })));
}
