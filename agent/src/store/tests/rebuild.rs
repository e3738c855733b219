//! A database with a page that SQLite cannot read: it is made anew of the rest, and everything that is not lost arrives.

use std::fs;
use std::sync::Arc;

use serde_json::json;
use sync_protocol::id::{Dot, Origin, Seq, Stream};
use sync_protocol::merge::Presence;

use super::*;
use crate::store::rebuild::{keep_feed, keep_hub_lane};
use crate::store::{FILE_NAME, Home, Rebuilt, Verdict, files_aside, rebuild};

const PAGE: usize = 1_024;
const SYNCED: i64 = 120;
const UNSENT: i64 = 60;

/// A gateway that has synced, with records of its own and of others, and has worked without a link since; its card can be spoilt.
struct Card {
    file: Vec<u8>,
    key: Option<DataKey>,
    hub: MemoryHub,
    names: Vec<String>,
    /// The last own op.
    own: Dot,
    /// The origin of the other gateway.
    other: Origin,
}

impl Card {
    fn written(key: Option<DataKey>) -> Card {
        let mut hub = MemoryHub::default();
        let mut there = Clinic::enrolled(&mut hub, "mw");
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Home::new(dir.path(), key.clone()), Options::default()).unwrap();
        let mut here = Clinic { dir, store, now_ms: NOW_MS };
        here.enrol(&mut hub, "mw");
        let mut names = Vec::new();
        for n in 0..SYNCED {
            let name = format!("visit/v{n}");
            let clinic = if n % 3 == 0 { &mut there } else { &mut here };
            clinic.put(&name, visit(n));
            names.push(name);
        }
        here.put("visit/deleted", visit(0));
        for clinic in [&mut there, &mut here] {
            clinic.sync(&mut hub);
        }
        here.write("visit/deleted", Intent::Delete, None);
        here.sync(&mut hub);
        for n in 0..UNSENT {
            // Some of them change what the hub has.
            match n % 3 {
                0 => drop(here.edit(&format!("visit/v{}", n * 2), json!({"again": n}))),
                _ => {
                    names.push(format!("birth/b{n}"));
                    here.put(&format!("birth/b{n}"), visit(n));
                }
            }
        }
        let state = here.store.blocking_read(|reader| reader.state()).unwrap();
        let own = Dot { origin: state.origin, stream: Stream::Normal, seq: state.stream(Stream::Normal).last };
        let path = here.store.path().to_owned();
        let Clinic { dir, store, .. } = here;
        drop(store);
        let file = fs::read(path).unwrap();
        drop(dir);
        let other = there.store.blocking_read(|reader| reader.state()).unwrap().origin;
        Card { file, key, hub, names, own, other }
    }

    /// The gateway with this page spoilt; `None` if it then has no identity any more, or nothing is wrong.
    fn spoilt(&self, page: usize) -> Option<Clinic> {
        self.spoilt_by(page, |page| page[..200].fill(0x5a))
    }

    fn spoilt_by(&self, page: usize, spoil: impl Fn(&mut [u8])) -> Option<Clinic> {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = self.file.clone();
        spoil(&mut bytes[page * PAGE..(page + 1) * PAGE]);
        fs::write(dir.path().join(FILE_NAME), bytes).unwrap();
        let store = Store::open(self.home(&dir), Options::default()).unwrap();
        let clinic = Clinic { dir, store, now_ms: NOW_MS + 1_000_000_000 };
        let is_damaged = matches!(clinic.store.check(&Arc::default()).unwrap(), Verdict::Damaged(_));
        (is_damaged && files_aside(clinic.path()).is_empty()).then_some(clinic)
    }

    fn home(&self, dir: &TempDir) -> Home {
        Home::new(dir.path(), self.key.clone())
    }

    fn rebuilt(&self, clinic: Clinic) -> (Clinic, Option<Rebuilt>) {
        let Clinic { dir, store, now_ms } = clinic;
        drop(store);
        let made = rebuild(&self.home(&dir), NOW_MS).unwrap();
        let store = Store::open(self.home(&dir), Options::default()).unwrap();
        (Clinic { dir, store, now_ms }, made)
    }

    /// Own ops that arrived. Behind what is lost they come under another origin.
    fn arrived(&self, hub: &MemoryHub) -> u64 {
        hub.history().filter(|op| op.stamp.dot.origin != self.other).count() as u64
    }
}

impl Clinic {
    /// As the exchange goes through them: on from the last one, until there are none or the database is found damaged.
    fn reads_own_ops_to_their_end(&self) {
        let mut from = Seq(0);
        while let Ok(ops) = self.store.blocking_write(move |tx| tx.own_ops(Stream::Normal, from, 7)) {
            let Some(last) = ops.last().map(|op| op.stamp.dot.seq) else { break };
            assert!(last > from, "it goes back from {from:?} to {last:?}");
            from = last;
        }
    }

    fn held(&self, card: &Card, sql: &str) -> u64 {
        let db = rusqlite::Connection::open(self.store.path()).unwrap();
        if let Some(key) = &card.key {
            key.give_to(&db).unwrap();
        }
        db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64
    }
}

fn visit(n: i64) -> Json {
    json!({"n": n, "note": format!("{n} came with a cough for {} days", n * 7_919 % 97)})
}

/// Spoils some of the pages, one at a time. Gives how many of them were made anew, and how many records were damaged in all.
fn every(step: usize, card: &Card) -> (u64, u64) {
    let (mut made, mut named, mut lost) = (0, 0, 0);
    for page in (1..card.file.len() / PAGE).step_by(step) {
        let Some(clinic) = card.spoilt(page) else { continue };
        let (mut clinic, rebuilt) = card.rebuilt(clinic);
        let Some(rebuilt) = rebuilt else { continue };
        assert_eq!(files_aside(clinic.path()), std::slice::from_ref(&rebuilt.aside));
        let deleted = clinic.store.blocking_read(|reader| reader.get(&key_of("visit/deleted"))).unwrap();
        assert!(deleted.is_none_or(|stored| stored.presence == Presence::Deleted), "page {page}: it is shown again");
        assert_eq!(clinic.store.check(&Arc::default()).unwrap(), Verdict::Sound, "page {page}");
        let is_missing = |name: &&String| {
            clinic.store.blocking_read(|reader| reader.get(&key_of(name))).is_ok_and(|found| found.is_none())
        };
        let missing: Vec<_> = card.names.iter().filter(is_missing).collect();
        // Where the index is what was spoilt, nothing is.
        assert!(missing.is_empty(), "page {page}: called missing: {missing:?}");
        clinic.mend();
        let unsent = clinic.held(card, "SELECT count(*) FROM history WHERE fate = 0");
        // It works, and takes up what it was called to do.
        clinic.put("birth/after", json!({"n": -1}));
        let mut hub = card.hub.clone();
        clinic.sync(&mut hub);
        clinic.sync(&mut hub);
        let before = card.arrived(&card.hub);
        assert_eq!(card.arrived(&hub), before + unsent + 1, "page {page}: all that could be read arrived");
        assert_eq!(rebuilt.lost.unsent, UNSENT as u64 - unsent, "page {page}");
        lost += rebuilt.lost.unsent;
        let mut waiting = 0;
        for (key, record) in hub.records() {
            let stored = clinic.store.blocking_read(|reader| reader.get(key));
            let stored = stored.unwrap_or_else(|error| panic!("page {page}, {key}: {error}")).unwrap();
            // A change that is lost stays shown, as one that did not arrive.
            waiting += u64::from(stored.is_pending);
            if !stored.is_pending {
                assert_eq!(render(&stored.record), render(record), "page {page}: {key}");
            }
        }
        assert!(waiting <= UNSENT as u64 - unsent, "page {page}: {waiting}");
        let faults = clinic.store.blocking_read(|reader| reader.quick_check()).unwrap();
        assert!(faults.iter().all(|fault| fault.starts_with("record row")), "page {page}: {faults:?}");
        (made, named) = (made + 1, named + rebuilt.lost.named);
    }
    assert!(lost < made * 20, "most of what was unsent is read around a page: {lost}");
    (made, named)
}

/// Puts the last row of a leaf into the middle, where SQLite looks first: behind it come rows that are before it (the array of cell
/// pointers of SQLite's file format).
fn disorder(page: &mut [u8]) {
    let cells = usize::from(u16::from_be_bytes([page[3], page[4]]));
    let mut pointers: Vec<[u8; 2]> = page[8..8 + 2 * cells].chunks(2).map(|two| [two[0], two[1]]).collect();
    let Some(last) = pointers.pop() else { return };
    pointers.insert(pointers.len() / 2, last);
    page[8..8 + 2 * cells].copy_from_slice(pointers.as_flattened());
}

#[test]
fn rows_that_are_not_in_order_are_not_gone_through_for_ever() {
    let card = Card::written(None);
    let is_leaf = |page: &usize| card.file[page * PAGE] == 13;
    let mut made = 0;
    for page in (1..card.file.len() / PAGE).filter(is_leaf).step_by(5) {
        let Some(clinic) = card.spoilt_by(page, disorder) else { continue };
        clinic.reads_own_ops_to_their_end();
        clinic.scrub();
        let (clinic, rebuilt) = card.rebuilt(clinic);
        let Some(_) = rebuilt else { continue };
        assert_eq!(clinic.store.check(&Arc::default()).unwrap(), Verdict::Sound, "page {page}");
        made += 1;
    }
    assert!(made > 3, "{made}");
}

#[test]
fn whichever_page_cannot_be_read_all_the_rest_arrives_and_the_hub_sends_what_it_has() {
    let card = Card::written(key_of_this_run());
    let (made, named) = every(2, &card);
    assert!(made > 10 && named > 5, "{made} {named}");
}

#[test]
fn an_encrypted_one_too() {
    let card = Card::written(Some(DataKey::new(zeroize::Zeroizing::new([7; 32]))));
    let (made, named) = every(5, &card);
    assert!(made > 2 && named > 0, "{made} {named}");
}

#[test]
fn what_says_who_it_is_is_copied_whole_or_nothing_is_done() {
    let card = Card::written(key_of_this_run());
    let clinic = Clinic::new();
    drop(clinic);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE_NAME), &card.file).unwrap();
    let home = card.home(&dir);
    let spoil = super::raw(dir.path().join(FILE_NAME));
    let root: i64 =
        spoil.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'sync_state'", [], |row| row.get(0)).unwrap();
    drop(spoil);
    let mut bytes = fs::read(dir.path().join(FILE_NAME)).unwrap();
    let page = (root as usize - 1) * PAGE;
    bytes[page..page + 200].fill(0x5a);
    fs::write(dir.path().join(FILE_NAME), &bytes).unwrap();
    assert_eq!(rebuild(&home, NOW_MS).unwrap(), None);
    assert_eq!(fs::read(dir.path().join(FILE_NAME)).unwrap(), bytes);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("converting")), "{left:?}");
    assert!(files_aside(dir.path()).is_empty());
}

#[test]
fn one_of_which_nothing_is_wrong_stays_and_a_second_name_that_a_power_cut_left_goes() {
    let card = Card::written(key_of_this_run());
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE_NAME), &card.file).unwrap();
    fs::hard_link(dir.path().join(FILE_NAME), dir.path().join("outpost-broken-20260101T000000Z.db")).unwrap();
    assert_eq!(rebuild(&card.home(&dir), NOW_MS).unwrap(), None);
    assert!(files_aside(dir.path()).is_empty() && card.own.seq > Seq(UNSENT as u64));
    assert_eq!(fs::read(dir.path().join(FILE_NAME)).unwrap(), card.file);
}

/// The end of a table is lost, with whatever could tell where it was.
#[test]
fn no_number_that_was_given_is_given_again() {
    let mut hub = MemoryHub::default();
    let mut there = Clinic::enrolled(&mut hub, "mw");
    let mut here = Clinic::enrolled(&mut hub, "mw");
    for n in 0..5 {
        here.put("visit/v", json!({"n": n}));
        here.sync(&mut hub);
        there.sync(&mut hub);
        there.edit("visit/v", json!({"m": n}));
        there.sync(&mut hub);
        here.sync(&mut hub);
    }
    for n in 0..3 {
        here.put(&format!("visit/w{n}"), json!({"n": n}));
    }
    let (path, feed) = (here.store.path().to_owned(), here.store.blocking_read(|reader| reader.feed()).unwrap());
    let Clinic { dir, store, .. } = here;
    drop(store);
    let (old, new) = (super::raw(&path), super::raw(&path));
    let last = |sql: &str| new.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let newest = last("SELECT newest FROM records WHERE feed = (SELECT min(feed) FROM records)");
    let of_hub = "SELECT max(number) FROM history WHERE fate = 4";
    assert_eq!(newest, last(of_hub), "what the hub changed last is the last of its lane");
    new.execute("DELETE FROM history WHERE number = ?1", [newest]).unwrap();
    keep_hub_lane(&new).unwrap();
    assert_eq!(last(of_hub), newest);
    new.execute("DELETE FROM records WHERE feed > ?1", [feed as i64 - 2]).unwrap();
    keep_feed(&old, &new).unwrap();
    assert!(last("SELECT max(feed) FROM records") > feed as i64);
    drop(dir);
}
