//! Looking for damage, row by row: every checksum, every hash that can be made again, and the sums of the digests.
//!
//! Nothing is changed here: what is found is remembered in [`super::health`], and mended by the writer (`mend.rs`).
//! A page that SQLite cannot read ends no scan: it goes on behind it.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};
use sync_protocol::digest::{etag, item};
use sync_protocol::id::{RecordKey, Stream};

use super::health::Place;
use super::history::{FROM_HUB, HistoryRow, PENDING, read_op};
use super::number::{incarnation as incarnation_number, is_hub, lane, own};
use super::reader::Reader;
use super::row::{GONE, Row, etag_bytes};
use super::soundness::quick_check;
use super::tx::incarnation_of;
use crate::error::Error;

/// Rows of the ledger that are looked at again for a status; beyond, they count as damaged.
const LOOKS_MAX: usize = 1_000;
/// Rows that are read in one go by whoever does not pace itself.
const ALL: usize = 4_096;

/// How far a scan of all rows has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanAt {
    place: Place,
}

impl Default for ScanAt {
    fn default() -> Self {
        ScanAt { place: Place::Record(0) }
    }
}

/// Rows that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Damage {
    /// All of them.
    pub rows: u64,
    /// Those that hold a change that the hub does not have: the only ones that are lost unless the card can be read elsewhere.
    pub unsent: u64,
}

impl Reader<'_> {
    /// Reads the next rows and hashes them again. Damaged ones are remembered. `None` when all have been read.
    ///
    /// # Errors
    /// What SQLite reports, other than damage.
    pub fn scan(&self, at: ScanAt, rows: usize) -> Result<Option<ScanAt>, Error> {
        let mut place = at.place;
        for _ in 0..rows {
            let (table, after) = match place {
                Place::Record(feed) => ("records", feed),
                Place::History(number) => ("history", number),
            };
            match (next_row(self.db, table, after)?, place) {
                (Some(feed), Place::Record(_)) => place = Place::Record(feed),
                (Some(number), Place::History(_)) => place = Place::History(number),
                (None, Place::Record(_)) => {
                    place = Place::History(0);
                    continue;
                }
                (None, Place::History(_)) => return Ok(None),
            }
            if self.is_damaged(place)? {
                self.codec.health().met_damage(place);
            }
        }
        Ok(Some(ScanAt { place }))
    }

    /// What is wrong with the file, in sentences: SQLite's own check, and every row. Empty if all is well.
    ///
    /// # Errors
    /// What SQLite reports if it cannot even look.
    pub fn quick_check(&self) -> Result<Vec<String>, Error> {
        let mut found: Vec<String> = Vec::new();
        quick_check(self.db, &mut found)?;
        found.iter_mut().for_each(|line| line.insert_str(0, "sqlite: "));
        let mut at = Some(ScanAt::default());
        while let Some(from) = at {
            at = self.scan(from, ALL)?;
        }
        for place in self.codec.health().places() {
            found.extend(Some(place).filter(|place| self.is_damaged(*place).unwrap_or(true)).map(
                |place| match place {
                    Place::Record(feed) => format!("record row {feed} is damaged"),
                    Place::History(number) => format!("history row {number} is damaged"),
                },
            ));
        }
        found.extend((!self.sums_agree()?).then(|| "the sum of a scope's digest is wrong".to_owned()));
        Ok(found)
    }

    /// Rows that were met damaged and still are.
    ///
    /// # Errors
    /// What SQLite reports, other than damage.
    pub fn damage(&self) -> Result<Damage, Error> {
        let state = self.state()?;
        let incarnation = incarnation_of(self.db, state.origin)?.unwrap_or(0);
        let is_unsent = |number: i64| {
            let is_after = |stream| number > own(incarnation, stream, state.stream(stream).acked);
            let is_there = HistoryRow::find(self.db, number).ok().flatten();
            let is_ours = |row: HistoryRow| row.fate == PENDING && !is_hub(number) && row.hseq == 0;
            incarnation_number(number) == incarnation
                && Stream::from_number(lane(number)).is_ok_and(is_after)
                && is_there.is_none_or(is_ours)
        };
        let mut damage = Damage::default();
        for (nth, place) in self.damaged_places()?.into_iter().enumerate() {
            if nth < LOOKS_MAX && !self.is_damaged(place)? {
                continue;
            }
            damage.rows += 1;
            damage.unsent += u64::from(matches!(place, Place::History(number) if is_unsent(number)));
        }
        Ok(damage)
    }

    /// What the ledger says, and what this process has met since.
    pub(super) fn damaged_places(&self) -> Result<Vec<Place>, Error> {
        let mut places = self.codec.health().places();
        if self.db.table_exists(None, "damage")? {
            let mut statement = self.db.prepare_cached("SELECT place, number FROM damage")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let number = row.get(1)?;
                places.push(if row.get::<_, i64>(0)? == 0 { Place::Record(number) } else { Place::History(number) });
            }
        }
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }

    /// Whether a row is there and cannot be read, or is not what its hashes say.
    pub(super) fn is_damaged(&self, place: Place) -> Result<bool, Error> {
        let damaged = match place {
            Place::Record(feed) => Row::at(self.db, feed).and_then(|found| match found {
                Some((key, row)) => Ok(!self.is_sound(&key, &row)?),
                None => Ok(false),
            }),
            Place::History(number) => HistoryRow::find(self.db, number).and_then(|found| match found {
                Some(row) => Ok(!self.is_whole(&row)?),
                None => Ok(false),
            }),
        };
        match damaged {
            Err(error) if error.is_broken_file() => Ok(true),
            other => other,
        }
    }

    /// Whether a record can be read, and tag and digest item are those of what is read.
    pub(super) fn is_sound(&self, key: &RecordKey, row: &Row) -> Result<bool, Error> {
        if row.presence == GONE {
            return Ok(true);
        }
        let Some(held) = row.held(self.db, self.codec)?.filter(|held| !held.is_unreadable()) else { return Ok(false) };
        let part = match row.leaving {
            Some(upto) => upto.0,
            None => held.confirmed.as_ref().map_or(0, |confirmed| item(key, confirmed)),
        };
        // An unsent write that got another number, under another origin, keeps the tag that its app was promised.
        let has_tag = || etag_bytes(&etag(&held.visible)) == row.etag || (row.is_only_op() && !row.is_confirmed);
        Ok(held.confirmed.is_some() == row.is_confirmed && part == row.item as u64 && has_tag())
    }

    fn is_whole(&self, row: &HistoryRow) -> Result<bool, Error> {
        let place = Place::History(row.number);
        let is_op_whole = row.fate == FROM_HUB || read_op(self.db, self.codec, &row.op, row.number)?.is_some();
        let is_part_whole = |blob: &[u8]| self.codec.record(blob, place).is_some();
        Ok(is_op_whole && is_part_whole(&row.before) && is_part_whole(&row.superseded))
    }

    /// Whether the digest of each scope is the sum over its confirmed records; `true` if they cannot be counted.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn sums_agree(&self) -> Result<bool, Error> {
        let Some(counted) = count(self.db)? else { return Ok(true) };
        let mut statement = self.db.prepare_cached("SELECT n, sum, records FROM scopes")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (n, sum, records): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if counted.get(&n).copied().unwrap_or_default() != (sum as u64, records) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What cannot be read is as good as absent.
pub(super) fn readable<T>(found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Err(error) if error.is_broken_file() => Ok(None),
        other => other.map(Some),
    }
}

/// Sum and number of confirmed records, by scope.
type Sums = BTreeMap<i64, (u64, i64)>;

/// What the digests should be, from the records themselves; `None` if not all of them can be read.
pub(super) fn count(db: &Connection) -> Result<Option<Sums>, Error> {
    readable(count_all(db))
}

fn count_all(db: &Connection) -> Result<Sums, Error> {
    let mut counted = Sums::new();
    let mut statement = db.prepare_cached("SELECT scope, item FROM records WHERE is_confirmed IN (1, 3)")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (sum, records) = counted.entry(row.get(0)?).or_default();
        (*sum, *records) = (sum.wrapping_add(row.get::<_, i64>(1)? as u64), *records + 1);
    }
    Ok(counted)
}

/// The number of the next row of a table. Behind pages that cannot be read it is found by trying: further and further until
/// something is readable, and back to where that begins.
pub(super) fn next_row(db: &Connection, table: &str, after: i64) -> Result<Option<i64>, Error> {
    let next = |after: i64| -> Result<Option<i64>, Error> {
        let sql = format!("SELECT rowid FROM {table} WHERE rowid > ?1 ORDER BY rowid LIMIT 1");
        let found: Option<i64> = db.prepare_cached(&sql)?.query_row([after], |row| row.get(0)).optional()?;
        match found {
            // Rows on a damaged page need not be in order, and whoever goes on behind this one would go round for ever.
            Some(number) if number <= after => Err(Error::corrupt()),
            found => Ok(found),
        }
    };
    let is_unreadable = |found: &Result<Option<i64>, Error>| found.as_ref().is_err_and(Error::is_broken_file);
    let first = next(after);
    if !is_unreadable(&first) {
        return first;
    }
    let (mut bad, mut step) = (after, 1i64);
    let mut good = loop {
        let at = after.saturating_add(step);
        match next(at) {
            // To the end of all numbers.
            found if is_unreadable(&found) && step == i64::MAX => return Ok(None),
            found if is_unreadable(&found) => (bad, step) = (at, step.saturating_mul(2)),
            found => break found.map(|_| at)?,
        }
    };
    while good - bad > 1 {
        let middle = bad + (good - bad) / 2;
        match next(middle) {
            found if is_unreadable(&found) => bad = middle,
            found => good = found.map(|_| middle)?,
        }
    }
    next(good)
}
