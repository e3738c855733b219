//! Erasing what is known of a record here, as the hub's erasures demand it (`sync_protocol::erase`).
//!
//! Rows stay, because their numbers and chains are what tells this gateway's history from another's; what they hold of values goes. What
//! lies in free pages afterwards goes when the file is written anew, in a quiet moment ([`sweep`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use serde_json::Value as Json;
use sync_protocol::erase::{Erased, ErasedName, knows, name_of};
use sync_protocol::id::{RecordKey, Seq, Stream};
use sync_protocol::record::Op;

use super::chain::{chains_after, keep_chain_after};
use super::convert::convert;
use super::history::{FROM_HUB, HistoryRow, PENDING, Walk, read_op};
use super::key::Home;
use super::number::{is_hub, own};
use super::open;
use super::reader::{self, Reader};
use super::tx::Tx;
use crate::error::Error;

/// Beside a running gateway the database is written anew in memory. A larger one waits for the next start.
const SWEEP_BYTES_MAX: i64 = 64 * 1024 * 1024;

/// The erasures that are known, by the names of their records.
pub(super) type Known = BTreeMap<ErasedName, u64>;

/// Reads the erasures that are known.
pub(super) fn known(db: &Connection) -> Result<Known, Error> {
    let mut statement = db.prepare_cached("SELECT name, number FROM erasures")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether free pages may hold what was erased.
pub(super) fn is_due(db: &Connection) -> Result<bool, Error> {
    Ok(db.prepare_cached("SELECT 1 FROM sweep")?.exists([])?)
}

/// What is left of a row of the history.
enum Rest {
    /// It stays as it is.
    All,
    /// Its op, and nothing of what was before it.
    Op,
    /// This op without values, which holds the place.
    Place(Vec<u8>),
    Nothing,
}

impl Tx<'_> {
    pub(super) fn erasure_of(&self, key: &RecordKey) -> Option<u64> {
        match self.cache.erasures.is_empty() {
            true => None,
            false => self.cache.erasures.get(&name_of(key)).copied(),
        }
    }

    pub(super) fn keep_erasures(&mut self, erased: &[Erased]) -> Result<(), Error> {
        let mut insert = self.db.prepare_cached(
            "INSERT INTO erasures (name, number) VALUES (?1, ?2) \
             ON CONFLICT (name) DO UPDATE SET number = max(number, excluded.number)",
        )?;
        for Erased { number, name } in erased {
            insert.execute((name, *number as i64))?;
        }
        self.cache.erasures = Arc::new(known(self.db)?);
        Ok(())
    }

    /// Looks through all names: an erasure is rare.
    pub(super) fn named(&mut self, names: &BTreeSet<ErasedName>) -> Result<Vec<RecordKey>, Error> {
        self.flush()?;
        let mut statement =
            self.db.prepare_cached("SELECT (SELECT name FROM types WHERE n = type), id FROM records ORDER BY feed")?;
        let mut found = Vec::new();
        for one in statement.query_map([], reader::names)? {
            let (record_type, id) = one?;
            let key = RecordKey::new(&record_type, &id)?;
            if names.contains(&name_of(&key)) {
                found.push(key);
            }
        }
        Ok(found)
    }

    pub(super) fn erase_history(&mut self, key: &RecordKey) -> Result<(), Error> {
        self.flush()?;
        self.open(key)?;
        let (number, newest) = (self.erasure_of(key).unwrap_or(0), self.opened()?.row.newest);
        let mut walk = Walk::new(self.db, newest);
        let mut rows = BTreeSet::new();
        while let Some(row) = walk.step()? {
            rows.insert(row.number);
        }
        if walk.has_lost() {
            rows.append(&mut self.own_rows_of(key)?);
        }
        self.erase_rows(key, &rows, number)?;
        self.forget_requests(key)?;
        self.cache.op = None;
        let mut due = self.db.prepare_cached("INSERT OR IGNORE INTO sweep (one, due_ms) VALUES (1, ?1)")?;
        due.execute([self.now_ms()])?;
        self.cache.is_sweep_due = true;
        Ok(())
    }

    /// Own ops of a record, wherever they are: behind a row that the card lost its list leads to none.
    fn own_rows_of(&self, key: &RecordKey) -> Result<BTreeSet<i64>, Error> {
        let mut statement = self.db.prepare_cached("SELECT number, op FROM history WHERE op <> x''")?;
        let (mut rows, mut found) = (statement.query([])?, BTreeSet::new());
        while let Some(row) = rows.next()? {
            let number = row.get(0)?;
            let op = read_op(self.db, self.codec, row.get_ref(1)?.as_blob().unwrap_or_default(), number)?;
            found.extend(op.filter(|op| op.key == *key).map(|_| number));
        }
        Ok(found)
    }

    /// A repeat of a request is still known as one; what it was compared by is made of the values.
    fn forget_requests(&self, key: &RecordKey) -> Result<(), Error> {
        let written = serde_json::to_vec(key.id.as_str()).unwrap_or_default();
        // Our SQLite cannot read JSON: it leaves out what does not have the id in it at all.
        let mut search =
            self.db.prepare_cached("SELECT n, answer FROM idempotency WHERE hash <> x'' AND instr(answer, ?1) > 0")?;
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?));
        let answers: Vec<(i64, Vec<u8>)> = search.query_map([written], read)?.collect::<Result<_, _>>()?;
        let mut forget = self.db.prepare_cached("UPDATE idempotency SET hash = x'' WHERE n = ?1")?;
        for (n, answer) in answers {
            let answer: Json = serde_json::from_slice(&answer).unwrap_or_default();
            let says = |name: &str, is: &str| answer.get(name).and_then(Json::as_str) == Some(is);
            if says("type", key.record_type.as_str()) && says("id", key.id.as_str()) {
                forget.execute([n])?;
            }
        }
        Ok(())
    }

    /// Erases rows of a record. Before an own op loses its values the chain behind it is kept, so that a hub that is put back to before it
    /// goes on over it.
    fn erase_rows(&self, key: &RecordKey, numbers: &BTreeSet<i64>, erasure: u64) -> Result<(), Error> {
        let first = own(self.cache.incarnation, Stream::Urgent, Seq(0));
        let mut losing = BTreeSet::new();
        for number in numbers.range(first..).filter(|number| !is_hub(**number)) {
            let rest = HistoryRow::find(self.db, *number)?.map(|row| self.rest(key, &row, erasure)).transpose()?;
            losing.extend(matches!(rest, Some(Rest::Place(_))).then_some(*number));
        }
        for (number, chain) in chains_after(self.db, self.codec, &losing)? {
            keep_chain_after(self.db, number, chain)?;
        }
        for number in numbers {
            if let Some(row) = HistoryRow::find(self.db, *number)? {
                self.erase_row(key, &row, erasure)?;
            }
        }
        Ok(())
    }

    fn rest(&self, key: &RecordKey, row: &HistoryRow, erasure: u64) -> Result<Rest, Error> {
        if row.fate == FROM_HUB {
            return Ok(Rest::Nothing);
        }
        Ok(match read_op(self.db, self.codec, &row.op, row.number)? {
            // A damaged row may have led here from the list of another record.
            Some(op) if op.key != *key || op.is_erased() || knows(&op, erasure) => Rest::All,
            // What the hub has yet to hear of leaves as it was written, and is shown to nobody.
            Some(_) if row.fate == PENDING => Rest::Op,
            Some(op) => Rest::Place(self.codec.pack_op(&op.erased())?),
            // A damaged one stays one.
            None => Rest::Nothing,
        })
    }

    fn erase_row(&self, key: &RecordKey, row: &HistoryRow, erasure: u64) -> Result<(), Error> {
        let op = match self.rest(key, row, erasure)? {
            Rest::All => return Ok(()),
            Rest::Op => row.op.clone(),
            Rest::Place(op) => op,
            Rest::Nothing => Vec::new(),
        };
        let mut update = self.db.prepare_cached(
            "UPDATE history SET op = ?2, before = x'', superseded = x'', etag_before = x'' WHERE number = ?1",
        )?;
        update.execute((row.number, op))?;
        self.db.prepare_cached("UPDATE notes SET reason = '' WHERE number = ?1")?.execute([row.number])?;
        Ok(())
    }

    /// Own ops that count as waiting: not those that did not know of an erasure of their record.
    pub(super) fn is_to_be_shown(&self, op: &Op) -> bool {
        !op.is_erased() && self.erasure_of(&op.key).is_none_or(|number| knows(op, number))
    }
}

impl Reader<'_> {
    /// When the last erasure of a record that was here was carried out, if free pages of the file may still hold what it was.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn sweep_due_ms(&self) -> Result<Option<i64>, Error> {
        Ok(self.db.query_row("SELECT due_ms FROM sweep", [], |row| row.get(0)).optional()?)
    }
}

/// Writes a file anew that was opened just now, if that is due: whatever its size, because nobody waits yet.
pub(super) fn swept(home: &Home, db: Connection) -> Result<Connection, Error> {
    if !is_due(&db)? {
        return Ok(db);
    }
    drop(db);
    let rewritten = convert(home, home.key(), &mut |_| Ok(()));
    let db = open::for_writing(home)?;
    match rewritten {
        Ok(()) => drop(db.execute("DELETE FROM sweep", [])?),
        Err(error) => tracing::warn!("the database could not be written anew after an erasure: {error}"),
    }
    Ok(db)
}

/// Writes the file anew, without what free pages hold, and cuts the log. Tells whether it came to the end: not while somebody reads.
pub(super) fn sweep(db: &Connection) -> Result<bool, Error> {
    let bytes: i64 =
        db.query_row("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()", [], |row| {
            row.get(0)
        })?;
    if bytes > SWEEP_BYTES_MAX {
        return Err(Error::refused(
            "it is too large for that while the gateway runs, and is written anew at the next start",
        ));
    }
    db.execute_batch("VACUUM")?;
    let is_busy: bool = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if !is_busy {
        db.execute("DELETE FROM sweep", [])?;
    }
    Ok(!is_busy)
}
