//! A database of which SQLite cannot read some pages, made anew from all that it can read, under the same identity.
//!
//! Left as it is, a page that cannot be read stops the first exchange that needs it, and all that come after. So everything that
//! can be read goes into a new file, row by row around what cannot; records of which only the index still knows are entered as
//! damaged, so that they are not called missing, and the hub sends them again. The old file is set aside, never deleted.
//!
//! # Invariants
//! - What says who the gateway is, and where it stands with the hub, is copied whole, or nothing is done at all.
//! - Whenever the power fails, one of the two is in its place, whole as it was or whole as it became.
//! - Nobody else may be working in the folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, Statement, params};
use sync_protocol::gateway::UNENROLLED;
use sync_protocol::id::{Origin, RecordKey, Scope};

use super::aside::{files_aside, link_aside, with_suffix};
use super::check::{count, next_row, readable};
use super::codec::Codec;
use super::convert::{NEW, remove, remove_new, sync_folder, tables};
use super::history::{FROM_HUB, PARKED, PENDING, read_op};
use super::key::Home;
use super::name::{IdText, id_value};
use super::number::{HUB_LANE, lane_end, number};
use super::open;
use super::retention::NOTHING_OLDER;
use super::row::{AWAITED, GONE, UNREADABLE};
use super::soundness::quick_check;
use super::tx::incarnation_of;
use crate::error::Error;

/// Tables of which a row may be lost, because the hub has what was in it, or it only tells of the past.
const MAY_LOSE: [&str; 7] = ["records", "history", "notes", "idempotency", "damage", "sync_report", "upkeep"];

/// Positions of the feed that are passed over where its end is not known: many more than there were on pages that are lost.
const FEED_MARGIN: i64 = 1_000_000;

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Where the old file is.
    pub aside: PathBuf,
    /// What is not in the new one.
    pub lost: Lost,
}

/// What could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Records that are known by name; the hub is asked for them.
    pub named: u64,
    /// Own changes that the hub does not have.
    pub unsent: u64,
}

/// Makes the database of a folder anew. `None` if it cannot be done, because what must not be lost cannot be read or somebody has
/// the old one open, and if nothing is wrong with it; then everything is as it was.
///
/// # Errors
/// What the file system and SQLite report, other than damage of the old one; then everything is as it was, too.
pub fn rebuild(home: &Home, now_ms: i64) -> Result<Option<Rebuilt>, Error> {
    let (database, new) = (home.file(), with_suffix(&home.file(), NEW));
    remove_new(&database)?;
    unlink_twins(home)?;
    let made = fill(home, &new, now_ms);
    let lost = match made {
        Ok(Some(lost)) if !with_suffix(&database, "-wal").exists() => lost,
        other => {
            remove_new(&database)?;
            return match other {
                Err(error) if !error.is_broken_file() => Err(error),
                _ => Ok(None),
            };
        }
    };
    // A file system without second names keeps what it has.
    let Some(aside) = link_aside(home.dir())? else {
        remove_new(&database)?;
        return Ok(None);
    };
    fs::rename(&new, &database)?;
    sync_folder(home.dir())?;
    Ok(Some(Rebuilt { aside, lost }))
}

/// Second names that a power cut left to the database that is in use.
fn unlink_twins(home: &Home) -> Result<(), Error> {
    let own = fs::metadata(home.file())?.ino();
    let is_twin = |file: &PathBuf| fs::metadata(file).is_ok_and(|facts| facts.ino() == own);
    files_aside(home.dir()).iter().filter(|file| is_twin(file)).try_for_each(|file| remove(file))
}

/// Fills the new file. `None` if what must not be lost cannot be read, or if nothing is wrong with the old one after all.
fn fill(home: &Home, path: &Path, now_ms: i64) -> Result<Option<Lost>, Error> {
    let old = open::leniently(home)?;
    let mut faults = Vec::new();
    // A card that did not read for a moment is no reason to leave anything behind.
    if readable(quick_check(&old, &mut faults).map_err(Error::from))?.is_some() && faults.is_empty() {
        return Ok(None);
    }
    let new = open::to_be_filled(path, home.key())?;
    new.execute_batch("BEGIN")?;
    let mut cut = BTreeSet::new();
    for table in tables(&old, "main")? {
        if !copy_table(&old, &new, &table)? {
            if !MAY_LOSE.contains(&table.as_str()) {
                return Ok(None);
            }
            cut.insert(table);
        }
    }
    if cut.contains("records") {
        keep_feed(&old, &new)?;
    }
    keep_hub_lane(&new)?;
    let lost = Lost { named: enter_lost(&old, &new, now_ms)?, unsent: lost_unsent(&new)? };
    recount(&new)?;
    new.execute_batch("COMMIT")?;
    faults.clear();
    quick_check(&new, &mut faults)?;
    new.close().map_err(|(_, error)| error)?;
    // Folds its log, if nobody else has it open.
    old.close().map_err(|(_, error)| error)?;
    File::open(path)?.sync_all()?;
    Ok(Some(lost).filter(|_| faults.is_empty()))
}

/// Has the feed go on behind all positions that may have been given: where its end was is not known if the last row is lost.
pub(super) fn keep_feed(old: &Connection, new: &Connection) -> Result<(), Error> {
    let last = last_feed(old)?.max(new.query_row("SELECT ifnull(max(feed), 0) FROM records", [], |row| row.get(0))?);
    new.execute(
        "UPDATE records SET feed = ?1 WHERE feed = (SELECT max(feed) FROM records)",
        [last.saturating_add(FEED_MARGIN)],
    )?;
    Ok(())
}

/// Has no number of a change from the hub given again that something still refers to.
pub(super) fn keep_hub_lane(new: &Connection) -> Result<(), Error> {
    let Some(incarnation) = present_incarnation(new)? else { return Ok(()) };
    let lane = (number(incarnation, HUB_LANE, 0), lane_end(number(incarnation, HUB_LANE, 0)));
    let referred: Option<i64> = new.query_row(
        "SELECT max(number) FROM (SELECT max(newest) AS number FROM records WHERE newest BETWEEN ?1 AND ?2 \
         UNION ALL SELECT max(abs(older)) FROM history WHERE abs(older) BETWEEN ?1 AND ?2)",
        lane,
        |row| row.get(0),
    )?;
    if let Some(referred) = referred {
        // An entry that tells nothing, if none is there.
        new.execute(
            "INSERT OR IGNORE INTO history (number, older, fate, hseq, noted_ms, chain, etag_before, op, before, superseded) \
             VALUES (?1, ?2, ?3, 0, 0, x'', x'', x'', x'', x'')",
            (referred, NOTHING_OLDER, FROM_HUB),
        )?;
    }
    Ok(())
}

fn present_incarnation(db: &Connection) -> Result<Option<i64>, Error> {
    let origin = "SELECT ifnull(max(origin), ?1) FROM sync_state";
    incarnation_of(db, Origin(db.query_row(origin, [UNENROLLED.0], |row| row.get(0))?))
}

/// How many own ops that the hub does not have are not here any more.
fn lost_unsent(new: &Connection) -> Result<u64, Error> {
    let Some(incarnation) = present_incarnation(new)? else { return Ok(0) };
    let mut streams = new.prepare("SELECT stream, acked, last FROM stream_state")?;
    let mut rows = streams.query([])?;
    let mut lost = 0;
    while let Some(row) = rows.next()? {
        let (stream, acked, last): (u8, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (after, upto) = (number(incarnation, stream, acked as u64), number(incarnation, stream, last as u64));
        let sql = "SELECT count(*) FROM history WHERE number > ?1 AND number <= ?2";
        let here: i64 = new.query_row(sql, (after, upto), |row| row.get(0))?;
        lost += (last - acked - here).max(0) as u64;
    }
    Ok(lost)
}

/// Copies what can be read of a table; tells whether that is all of it.
fn copy_table(old: &Connection, new: &Connection, table: &str) -> Result<bool, Error> {
    new.execute_batch(&format!("DELETE FROM \"{table}\""))?;
    let columns = old.prepare(&format!("SELECT * FROM \"{table}\""))?.column_count();
    let places: Vec<String> = (1..=columns).map(|n| format!("?{n}")).collect();
    let mut insert = new.prepare(&format!("INSERT INTO \"{table}\" VALUES ({})", places.join(", ")))?;
    let Ok(mut rows_after) = old.prepare(&format!("SELECT rowid, * FROM \"{table}\" WHERE rowid > ?1 ORDER BY rowid"))
    else {
        // Without row numbers there is no way around a page.
        let mut all = old.prepare(&format!("SELECT * FROM \"{table}\""))?;
        let mut rows = all.query([])?;
        return readable(copy_rows(&mut rows, 0, columns, &mut insert, &mut 0)).map(|copied| copied.is_some());
    };
    let (mut after, mut is_whole) = (i64::MIN, true);
    loop {
        let mut rows = rows_after.query([after])?;
        if readable(copy_rows(&mut rows, 1, columns, &mut insert, &mut after))?.is_some() {
            return Ok(is_whole);
        }
        drop(rows);
        is_whole = false;
        // Numbers of rows are never negative.
        let Some(next) = next_row(old, table, after.max(-1))? else { return Ok(false) };
        let mut row = old.prepare_cached(&format!("SELECT * FROM \"{table}\" WHERE rowid = ?1"))?;
        let mut row = row.query([next])?;
        readable(copy_rows(&mut row, 0, columns, &mut insert, &mut 0))?;
        after = next;
    }
}

/// Copies rows; with `first` of 1, the first column is their number, which `at` is told.
fn copy_rows(
    rows: &mut rusqlite::Rows<'_>,
    first: usize,
    columns: usize,
    insert: &mut Statement<'_>,
    at: &mut i64,
) -> Result<(), Error> {
    while let Some(row) = rows.next()? {
        let number = if first > 0 { row.get(0)? } else { *at };
        if first > 0 && number <= *at {
            // On a damaged page they need not be in order.
            return Err(Error::corrupt());
        }
        for column in 0..columns {
            insert.raw_bind_parameter(column + 1, ToSqlOutput::Borrowed(row.get_ref(first + column)?))?;
        }
        insert.raw_execute()?;
        *at = number;
    }
    Ok(())
}

/// Enters the records that are known by name only, and notes all that cannot be read as damaged: `mend.rs` does the rest.
fn enter_lost(old: &Connection, new: &Connection, now_ms: i64) -> Result<u64, Error> {
    let ops = unsettled(new)?;
    let (mut lost, absent) = lost_by_index(old, new)?;
    let mut feed = new.query_row("SELECT ifnull(max(feed), 0) FROM records", [], |row| row.get::<_, i64>(0))?;
    feed = feed.max(last_feed(old)?);
    let is_known = |key: &RecordKey| lost.contains_key(key) || absent.contains_key(key) || is_there(new, key);
    for key in ops.keys().filter(|key| !is_known(key)).cloned().collect::<Vec<_>>() {
        feed += 1;
        lost.insert(key, feed);
    }
    let scope = home_scope(new)?;
    let mut insert = new.prepare(
        "INSERT INTO records (feed, type, id, scope, etag, presence, conflicts, is_confirmed, item, changed, is_pending, \
         unsettled, newest, body, confirmed) \
         VALUES (?1, (SELECT n FROM types WHERE name = ?2), ?3, ?4, x'', ?9, 0, ?5, 0, 0, ?6, ?6, ?7, ?8, x'')",
    )?;
    // What was deleted or had left is not shown again. What waits of it still goes.
    for (key, feed) in &absent {
        let (record_type, id) = (key.record_type.as_str(), id_value(&key.id));
        let (count, newest) = ops.get(key).map_or((0, 0), |own| (own.numbers.len() as i64, own.newest()));
        insert.execute(params![feed, record_type, id, scope, 0, count, newest, [0u8; 0], GONE])?;
    }
    for (key, feed) in &lost {
        let (record_type, id) = (key.record_type.as_str(), id_value(&key.id));
        let own = ops.get(key);
        let (count, newest) = own.map_or((0, 0), |own| (own.numbers.len() as i64, own.newest()));
        // Whether the hub has it is not known any more, unless it began with what is here.
        let confirmation = if own.is_some_and(|own| own.begins) { 0 } else { AWAITED };
        insert.execute(params![feed, record_type, id, scope, confirmation, count, newest, UNREADABLE, 0])?;
    }
    let mut note = new.prepare("INSERT OR IGNORE INTO damage (place, number, found_ms) VALUES (0, ?1, ?2)")?;
    for feed in lost.values() {
        note.execute((feed, now_ms))?;
    }
    // Records that were the op which is lost.
    new.execute(
        "INSERT OR IGNORE INTO damage (place, number, found_ms) SELECT 0, feed, ?1 FROM records \
         WHERE length(body) = 0 AND newest <> 0 AND presence <> ?2 AND newest NOT IN (SELECT number FROM history)",
        [now_ms, GONE],
    )?;
    Ok(lost.len() as u64)
}

/// The own ops of a record that the hub has not confirmed.
#[derive(Default)]
struct Unsettled {
    numbers: BTreeSet<i64>,
    /// Those before which another of them stands.
    older: BTreeSet<i64>,
    /// Before one of them there was no record.
    begins: bool,
}

impl Unsettled {
    /// The one that no other stands behind.
    fn newest(&self) -> i64 {
        self.numbers.difference(&self.older).last().copied().unwrap_or_default()
    }
}

fn unsettled(db: &Connection) -> Result<BTreeMap<RecordKey, Unsettled>, Error> {
    let codec = Codec::new(Arc::default())?;
    let mut found: BTreeMap<RecordKey, Unsettled> = BTreeMap::new();
    let mut select =
        db.prepare("SELECT number, older, length(etag_before) = 0, op FROM history WHERE fate IN (?1, ?2)")?;
    let mut rows = select.query([PENDING, PARKED])?;
    while let Some(row) = rows.next()? {
        let (number, older, begins): (i64, i64, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let blob = row.get_ref(3)?.as_blob().unwrap_or_default();
        let Some(op) = read_op(db, &codec, blob, number)?.filter(|op| !op.is_erased()) else { continue };
        let own = found.entry(op.key).or_default();
        own.numbers.insert(number);
        own.older.insert(older.saturating_abs());
        own.begins |= begins && older == 0;
    }
    Ok(found)
}

/// Records with their place in the feed.
type Places = BTreeMap<RecordKey, i64>;

/// Records that the index knows and the table has lost: those that were shown, and those that were not. None, if it cannot be told
/// which is which: they come with the next comparison with the hub.
fn lost_by_index(old: &Connection, new: &Connection) -> Result<(Places, Places), Error> {
    let (mut shown, mut absent) = (Places::new(), Places::new());
    let is_absent = "SELECT feed FROM records INDEXED BY records_absent WHERE presence >= 2";
    let Some(not_shown) = readable(numbers(old, is_absent))? else { return Ok((shown, absent)) };
    let mut is_here =
        new.prepare("SELECT count(*) FROM records WHERE type = (SELECT n FROM types WHERE name = ?1) AND id = ?2")?;
    let mut select = old.prepare(
        "SELECT feed, (SELECT name FROM types WHERE n = type), id FROM records INDEXED BY sqlite_autoindex_records_1 \
         ORDER BY type, id",
    )?;
    let mut rows = select.query([])?;
    // A page of the index that cannot be read ends the search: what is behind it comes with the next comparison with the hub.
    while let Some(Some(row)) = readable(rows.next().map_err(Error::from))? {
        let (feed, record_type, IdText(id)): (i64, String, IdText) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let key = RecordKey::new(&record_type, &id)?;
        let is_here: i64 = is_here.query_row((record_type, id_value(&key.id)), |row| row.get(0))?;
        if is_here == 0 {
            let places = if not_shown.contains(&feed) { &mut absent } else { &mut shown };
            places.insert(key, feed);
        }
    }
    Ok((shown, absent))
}

/// The last position of the feed, which must not be given again.
fn last_feed(old: &Connection) -> Result<i64, Error> {
    let last =
        old.query_row("SELECT ifnull(max(feed), 0) FROM records INDEXED BY sqlite_autoindex_records_1", [], |row| {
            row.get(0)
        });
    Ok(readable(last.map_err(Error::from))?.unwrap_or(0))
}

fn numbers(db: &Connection, sql: &str) -> Result<BTreeSet<i64>, Error> {
    Ok(db.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn is_there(db: &Connection, key: &RecordKey) -> bool {
    let sql = "SELECT 1 FROM records WHERE type = (SELECT n FROM types WHERE name = ?1) AND id = ?2";
    db.prepare_cached(sql)
        .and_then(|mut sql| sql.exists((key.record_type.as_str(), id_value(&key.id))))
        .unwrap_or(false)
}

/// Where a record is put of which it is not known where it belongs: with those of the place itself, until the hub has said so.
fn home_scope(db: &Connection) -> Result<i64, Error> {
    let scopes: String = db.query_row("SELECT ifnull(max(scopes), '') FROM sync_state", [], |row| row.get(0))?;
    let home = Scope::new(scopes.lines().next().unwrap_or_default()).unwrap_or_else(|_| Scope::root());
    db.execute("INSERT OR IGNORE INTO scopes (path, sum, records) VALUES (?1, 0, 0)", [home.as_str()])?;
    Ok(db.query_row("SELECT n FROM scopes WHERE path = ?1", [home.as_str()], |row| row.get(0))?)
}

/// Makes the digests the sums over the records that are left.
fn recount(db: &Connection) -> Result<(), Error> {
    let counted = count(db)?.unwrap_or_default();
    db.execute("UPDATE scopes SET sum = 0, records = 0", [])?;
    let mut update = db.prepare("UPDATE scopes SET sum = ?2, records = ?3 WHERE n = ?1")?;
    for (n, (sum, records)) in counted {
        update.execute((n, sum as i64, records))?;
    }
    Ok(())
}
