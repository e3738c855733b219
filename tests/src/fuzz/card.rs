//! The card of somebody else: a database in which anything may stand, as `outpost rescue` hands it in and as a gateway opens it.
//!
//! The first two bytes of an input choose a frozen database, of any layout. What follows are changes to it: what is put into one
//! column of one row, or over the bytes of the file. Types, checks and NOT NULL are taken out of the schema first, because who
//! made the file need not have had them; blobs get the envelope that the store reads, and the checksum with it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use agent::error::Error;
use agent::store::{FILE_NAME, Inline, Left, OldDatabase, Options, Query, Reader, copy_old};
use rusqlite::types::Value as Column;
use rusqlite::{Connection, params};
use sync_protocol::frame::split;
use sync_protocol::gateway::rescue::Rescuer;
use sync_protocol::gateway::{GatewayState, UNENROLLED};
use sync_protocol::hub::{self, Opened, Snapshot as _};
use sync_protocol::id::{Epoch, Origin, Scope, Seq, Source, Stream};
use sync_protocol::identity::DeviceKey;
use sync_protocol::memory::MemoryHub;
use sync_protocol::message::Request;
use sync_protocol::payload::Payload;
use tempfile::TempDir;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::bytes::{PACKER, is_silent};
use crate::frozen::{self, GATEWAYS};

const DICTIONARY: &[u8] = include_bytes!("../../../agent/src/store/dictionary-1.bin");
/// What precedes a zstd frame; the store leaves it out.
const MAGIC_BYTES: usize = 4;
const DICTIONARY_TAG: u8 = 1;
const NOW_MS: u64 = 1_780_000_000_000;
/// Of no frozen fleet.
const EPOCH: Epoch = Epoch(60_000);
/// Changes to one card.
const CHANGES_MAX: usize = 16;
/// A frozen card is handed in with fewer requests than this, whatever was put into it.
const REQUESTS_MAX: usize = 1_000;
const UP_BYTES: usize = 64 * 1024;
/// Rows that are looked at of what has no end.
const LIMIT: usize = 200;

/// A database before anything is put into it.
struct Blank {
    bytes: Vec<u8>,
    /// Tables with their columns.
    tables: Vec<(String, Vec<String>)>,
}

thread_local! {
    static BLANKS: RefCell<BTreeMap<(usize, usize), Blank>> = const { RefCell::new(BTreeMap::new()) };
}

/// What is done to a card.
enum Change<'a> {
    Put { table: u8, column: u8, row: u8, value: Column },
    Over { at: u32, bytes: &'a [u8] },
}

/// A card with anything on it.
pub(super) fn card(input: &[u8]) {
    let Some((&[layout, whose], rest)) = input.split_first_chunk::<2>() else { return };
    let all = open_fleets();
    let which = (usize::from(layout) % all.len(), usize::from(whose) % GATEWAYS.len());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("foreign.db");
    BLANKS.with_borrow_mut(|blanks| {
        let blank = blanks.entry(which).or_insert_with(|| Blank::of(&all[which.0], GATEWAYS[which.1]));
        blank.put(&changes(rest), &file);
    });
    hand_in(&file, &folder);
    open(&file, &folder);
}

/// Those whose databases are not encrypted: of another one nothing can be read.
fn open_fleets() -> Vec<frozen::Frozen> {
    let all = frozen::all().expect("the frozen databases");
    all.into_iter().filter(|fleet| !fleet.is_sealed).collect()
}

impl Blank {
    fn of(frozen: &frozen::Frozen, whose: &str) -> Blank {
        let thawed = frozen.thaw().expect("a frozen database");
        let db = Connection::open(thawed.database(whose)).expect("a database");
        db.execute_batch(
            "PRAGMA journal_mode = DELETE; PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = replace(replace(replace(sql, ') STRICT, WITHOUT', ') WITHOUT'), ') STRICT', ')'), ' NOT NULL', '');
             PRAGMA writable_schema = RESET;",
        )
        .expect("its schema");
        let names = |sql: &str| -> Vec<String> {
            let mut select = db.prepare(sql).expect("its schema");
            select.query_map([], |row| row.get(0)).and_then(Iterator::collect).expect("its schema")
        };
        let columns = |table: String| {
            let columns = names(&format!("SELECT name FROM pragma_table_info('{table}')"));
            (table, columns)
        };
        let tables =
            names("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").into_iter().map(columns);
        let tables = tables.collect();
        drop(db);
        Blank { bytes: fs::read(thawed.database(whose)).expect("a database"), tables }
    }

    /// Makes a file with these changes in it; one that SQLite does not take is left out.
    fn put(&self, changes: &[Change<'_>], file: &Path) {
        fs::write(file, &self.bytes).expect("a file");
        let db = Connection::open(file).expect("a database");
        db.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA ignore_check_constraints = ON; BEGIN",
        )
        .expect("a database");
        for change in changes {
            let Change::Put { table, column, row, value } = change else { continue };
            let (table, columns) = &self.tables[usize::from(*table) % self.tables.len()];
            let column = &columns[usize::from(*column) % columns.len()];
            let row = format!("rowid = (SELECT rowid FROM {table} LIMIT 1 OFFSET {row})");
            let one = db.execute(&format!("UPDATE OR IGNORE {table} SET {column} = ?1 WHERE {row}"), params![value]);
            if one.is_err() {
                // It has no row numbers.
                let _ = db.execute(&format!("UPDATE OR IGNORE {table} SET {column} = ?1"), params![value]);
            }
        }
        db.execute_batch("COMMIT").expect("a database");
        drop(db);
        let mut bytes = fs::read(file).expect("a file");
        for change in changes {
            let Change::Over { at, bytes: new } = change else { continue };
            let at = *at as usize % bytes.len();
            let end = (at + new.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&new[..end - at]);
        }
        fs::write(file, bytes).expect("a file");
    }
}

/// Each layout untouched, and of the newest each table with something in every column: nothing, a number, text, or good bytes of
/// another kind.
pub(super) fn seeds(packed: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let layouts = open_fleets().len();
    let newest = layouts as u8 - 1;
    let mut seeds: Vec<Vec<u8>> = (0..layouts as u8).map(|layout| vec![layout, layout % 2]).collect();
    let numbers = [0, -1, 1, i64::MAX, i64::MIN, 1 << 36].map(|number: i64| number.to_le_bytes().to_vec());
    let puts = numbers.into_iter().map(|bytes| (1, bytes)).chain([(3, b"mw/zomba".to_vec()), (0, Vec::new())]);
    let puts: Vec<(u8, Vec<u8>)> = puts.chain(packed.into_iter().map(|bytes| (5, bytes))).collect();
    for table in 0..32 {
        let mut seed = vec![newest, 0];
        for column in 0..16 {
            let (kind, bytes) = &puts[(usize::from(table) * 16 + usize::from(column)) % puts.len()];
            let len = (bytes.len() as u16).to_le_bytes();
            seed.extend([table, column, 0, *kind, len[0], len[1]]);
            seed.extend(bytes);
        }
        seeds.push(seed);
    }
    seeds
}

/// Table, column, row, kind, length in two bytes, and the bytes themselves.
fn changes(mut input: &[u8]) -> Vec<Change<'_>> {
    let mut changes = Vec::new();
    while let Some((&[table, column, row, kind, low, high], rest)) = input.split_first_chunk::<6>() {
        let (bytes, rest) = rest.split_at(usize::from(u16::from_le_bytes([low, high])).min(rest.len()));
        let number = bytes.first_chunk::<8>().map_or(i64::from(high), |bytes| i64::from_le_bytes(*bytes));
        let value = match kind % 7 {
            0 => Column::Null,
            1 => Column::Integer(number),
            2 => Column::Real(f64::from_bits(number as u64)),
            3 => Column::Text(String::from_utf8_lossy(bytes).into_owned()),
            4 => Column::Blob(bytes.to_vec()),
            5 => Column::Blob(packed(bytes)),
            _ => {
                let at = u32::from_le_bytes([table, column, row, kind / 7]);
                changes.push(Change::Over { at, bytes });
                input = rest;
                continue;
            }
        };
        changes.push(Change::Put { table, column, row, value });
        input = rest;
        if changes.len() == CHANGES_MAX {
            break;
        }
    }
    changes
}

/// Bytes as the store keeps them.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packer = Compressor::with_dictionary(1, DICTIONARY).expect("memory");
    packer.set_parameter(CParameter::ChecksumFlag(true)).expect("a checksum");
    packer.set_parameter(CParameter::DictIdFlag(false)).expect("no number");
    let frame = packer.compress(bytes).expect("memory");
    [&[DICTIONARY_TAG], &frame[MAGIC_BYTES..]].concat()
}

/// As `outpost rescue` does it: all that can be read goes to a hub, and it comes to an end.
fn hand_in(file: &Path, folder: &TempDir) {
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).expect("a folder");
    let home = copy.as_path().into();
    if let Err(error) = copy_old(file, &home) {
        return is_silent(&error);
    }
    let (mut old, left) = match OldDatabase::open(home) {
        Ok(opened) => opened,
        Err(error) => return is_silent(&error),
    };
    let mut hub = MemoryHub::default();
    let known = hub.enroll(vec![Scope::root()], Source::CLINIC, DeviceKey([1; 32]));
    // It lost the time in which it gave the origins of this card, so it takes all of them.
    hub.set_epoch(EPOCH);
    let Left { state, origin, former, last, .. } = left;
    let origin = state.as_ref().map(|state| state.origin).or(origin).unwrap_or(UNENROLLED);
    let state = GatewayState {
        device: known.device,
        key: known.key.clone(),
        epoch: hub.epoch().expect("memory"),
        ..state.unwrap_or_default()
    };
    let mut one = |old: &mut OldDatabase, origin: Origin, last: [Seq; 3]| {
        let of_card = GatewayState { origin, ..state.clone() };
        let rescuer = match origin {
            UNENROLLED => {
                Rescuer::of_unenrolled(&GatewayState { origin: known.origin, ..state.clone() }, &of_card, last)
            }
            _ => Rescuer::new(&of_card, last),
        };
        hand_in_one(old, rescuer, &mut hub)
    };
    let done = one(&mut old, origin, last).and_then(|()| {
        former.into_iter().take(LIMIT).try_for_each(|origin| {
            let last = old.turn_to(origin)?;
            one(&mut old, origin, last)
        })
    });
    if let Err(error) = done {
        is_silent(&error);
    }
}

fn hand_in_one(old: &mut OldDatabase, mut rescuer: Rescuer, hub: &mut MemoryHub) -> Result<(), Error> {
    for _ in 0..REQUESTS_MAX {
        let made = PACKER.with_borrow_mut(|packer| rescuer.request(old, packer, UP_BYTES))?;
        let Some(outgoing) = made else {
            let mut gaps = Vec::new();
            for (stream, agreed, last) in rescuer.reach() {
                gaps.extend(old.gaps(stream, agreed, last)?);
            }
            return old.records_of(&gaps, LIMIT).map(drop);
        };
        let head = Request::decode(&outgoing.head.encode()).expect("a head of the gateway");
        let Opened::Rescue(mut with) = hub::open(hub, head, NOW_MS).expect("memory") else { return Ok(()) };
        for frame in outgoing.frames {
            let (inside, _) = split(&frame).expect("a frame").expect("a whole one");
            let bytes = PACKER.with_borrow_mut(|packer| packer.unpack(inside)).expect("what was packed");
            let Payload::Ops(ops) = Payload::decode(&bytes).expect("what was packed") else { panic!("no ops") };
            hub::rescue(hub, &mut with, &ops).expect("memory");
        }
        let answer = hub::rescued(hub, *with, NOW_MS).expect("memory");
        rescuer.answered(old, &answer)?;
    }
    panic!("handing in does not come to an end");
}

/// As a gateway does it that finds this on its card: it opens and can be read, or says why not.
fn open(file: &Path, folder: &TempDir) {
    let home = folder.path().join("home");
    fs::create_dir(&home).expect("a folder");
    fs::rename(file, home.join(FILE_NAME)).expect("a file");
    match Inline::open(home.as_path(), Options::default()) {
        Ok(store) => {
            for look in [look_at_records, look_at_history, look_at_status] {
                if let Err(error) = store.read(look) {
                    is_silent(&error);
                }
            }
        }
        Err(error) => is_silent(&error),
    }
}

fn look_at_status(reader: &Reader<'_>) -> Result<(), Error> {
    drop((reader.status()?, reader.enrolment()?, reader.rules()?));
    drop((reader.digest(&reader.state()?.scopes)?, reader.quick_check()?));
    drop((reader.conflicts(0, LIMIT)?, reader.parked(0, LIMIT)?));
    Ok(())
}

fn look_at_records(reader: &Reader<'_>) -> Result<(), Error> {
    for (record_type, _) in reader.types()? {
        let (mut keys, query) = (0, Query { record_type, filters: Vec::new(), after: None, limit: LIMIT });
        reader.list_each(&query, |_| {
            keys += 1;
            ControlFlow::Continue(())
        })?;
        assert!(keys <= LIMIT, "a list of {keys}");
    }
    Ok(())
}

fn look_at_history(reader: &Reader<'_>) -> Result<(), Error> {
    for item in reader.changes(0, LIMIT)? {
        drop((reader.get(&item.key), reader.history(&item.key, 0, LIMIT)?));
    }
    let origin = reader.state()?.origin;
    for stream in Stream::ALL {
        drop(reader.own_op(origin, stream, Seq(1))?);
    }
    Ok(())
}
