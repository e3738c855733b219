//! Mending what was found damaged.
//!
//! SQLite does not commit a transaction in which it met a page that it cannot read. So everything is looked at on a snapshot
//! for reading, and the writer only touches rows that were readable there.
//!
//! # Invariants
//! - A record that can be read stays shown as it is. If that is not all that the hub confirmed, it is taken out of the digest, which
//!   differs then, and the hub sends the record again; nothing else is given up.
//! - A row that nobody can bring back stays where it is, and stays counted.

use std::collections::BTreeSet;
use std::sync::Arc;

use sync_protocol::gateway::Held;
use sync_protocol::id::{HubSeq, RecordKey};
use sync_protocol::merge;
use sync_protocol::record::Record;
use sync_protocol::rules::Rules;

use super::Store;
use super::check::{count, readable};
use super::health::Place;
use super::history::{DISCARDED, FROM_HUB, Walk, is_unsettled, read_op};
use super::reader::Reader;
use super::row::{AWAITED, Row};
use super::tx::Tx;
use crate::error::Error;

/// Damaged rows whose records are in memory at once.
const MENDED_AT_ONCE: usize = 256;

/// A damaged record, and what can be shown of it.
struct Mending {
    key: RecordKey,
    row: Row,
    visible: Option<Record>,
}

impl Store {
    /// Mends the records that were met damaged, and keeps the ledger true. Gives those that the hub has to send again. For
    /// a thread for blocking work.
    ///
    /// # Errors
    /// What SQLite reports, other than damage.
    pub fn mend(&self, now_ms: i64) -> Result<Vec<RecordKey>, Error> {
        let places = self.blocking_read(|reader| reader.damaged_places())?;
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let mut again = Vec::new();
        for some in places.chunks(MENDED_AT_ONCE) {
            let mendings = self.blocking_read(|reader| reader.mendings(some))?;
            if !mendings.is_empty() {
                let mend = move |tx: &mut Tx<'_>| -> Result<Vec<RecordKey>, Error> {
                    let mended = mendings.into_iter().filter_map(|mending| tx.mend_record(mending).transpose());
                    mended.collect()
                };
                again.extend(self.blocking_write(mend)?);
            }
        }
        if !again.is_empty() {
            // What a damaged row said of its part in the digest may have been wrong.
            self.recount()?;
        }
        let look = |reader: &Reader<'_>| -> Result<Vec<(Place, bool)>, Error> {
            places.iter().map(|place| Ok((*place, reader.is_damaged(*place)?))).collect()
        };
        let ledger = self.blocking_read(look)?;
        for (place, _) in ledger.iter().filter(|(_, is_damaged)| !is_damaged) {
            self.inner.health.forget(*place);
        }
        self.blocking_write(move |tx| tx.write_ledger(&ledger, now_ms))?;
        Ok(again)
    }

    /// Makes the digest of each scope the sum over its records again, if all of them can be read.
    ///
    /// # Errors
    /// What SQLite reports, other than damage.
    pub fn recount(&self) -> Result<(), Error> {
        match self.blocking_write(|tx| tx.recount()) {
            Err(error) if error.is_broken_file() => Ok(()),
            other => other,
        }
    }
}

impl Reader<'_> {
    /// The damaged among these records, and those that are an op that is damaged.
    fn mendings(&self, places: &[Place]) -> Result<Vec<Mending>, Error> {
        let mut feeds: BTreeSet<i64> = BTreeSet::new();
        let mut ops: BTreeSet<i64> = BTreeSet::new();
        for place in places {
            match place {
                Place::Record(feed) => feeds.insert(*feed),
                Place::History(number) => ops.insert(*number),
            };
        }
        if !ops.is_empty() {
            let mut statement = self.db.prepare_cached("SELECT feed, newest FROM records WHERE length(body) = 0")?;
            let mut rows = statement.query([])?;
            // A page that cannot be read ends the search, and not the mending of what was found.
            while let Ok(Some(row)) = rows.next() {
                let (feed, newest): (i64, i64) = (row.get(0)?, row.get(1)?);
                feeds.extend(ops.contains(&newest).then_some(feed));
            }
        }
        let rules = self.rules()?;
        let mut found = Vec::new();
        for feed in feeds {
            let row =
                if self.is_damaged(Place::Record(feed))? { readable(Row::at(self.db, feed))?.flatten() } else { None };
            if let Some((key, row)) = row {
                let visible = match readable(row.visible(self.db, self.codec))?.flatten() {
                    Some(visible) => Some(visible),
                    None => readable(self.rebuilt(&key, &row, &rules))?.flatten(),
                };
                found.push(Mending { key, row, visible });
            }
        }
        Ok(found)
    }

    /// A record from its history, if that goes back to where there was none, and nothing in it came from the hub; then it is the same
    /// record.
    fn rebuilt(&self, key: &RecordKey, row: &Row, rules: &Rules) -> Result<Option<Record>, Error> {
        let (mut ops, mut begins) = (Vec::new(), false);
        let mut walk = Walk::new(self.db, row.newest);
        while let Some(entry) = walk.step()? {
            // What came from the hub first has no row of its own.
            begins = entry.etag_before.is_empty();
            if entry.fate == DISCARDED {
                continue;
            }
            let op = if entry.fate == FROM_HUB { None } else { read_op(self.db, self.codec, &entry.op, entry.number)? };
            let Some(op) = op else { return Ok(None) };
            let hseq = if is_unsettled(entry.fate) { HubSeq::NONE } else { HubSeq(entry.hseq as u64) };
            ops.push((op, hseq));
        }
        if !walk.is_at_end() || ops.is_empty() || !begins {
            return Ok(None);
        }
        let mut record = Record::default();
        for (op, hseq) in ops.iter().rev() {
            if merge::apply(&mut record, op, *hseq, rules.of(&key.record_type)).is_err() {
                return Ok(None);
            }
        }
        Ok(Some(record).filter(Record::is_placed))
    }
}

impl Tx<'_> {
    /// Gives the record's name if it was changed.
    fn mend_record(&mut self, mending: Mending) -> Result<Option<RecordKey>, Error> {
        let Mending { key, row, visible } = mending;
        self.open(&key)?;
        let open = self.opened()?;
        if (open.row.feed, open.row.newest) != (row.feed, row.newest) {
            // Somebody wrote it anew meanwhile.
            return Ok(None);
        }
        let unreadable = row.unreadable();
        // What is held is not to be read again, and everything about it is made anew.
        (open.held, open.may_be_only_op) = (Some(Some(unreadable.clone())), false);
        match visible {
            Some(visible) => {
                open.row.etag.clear();
                let is_pending = row.is_pending || !row.is_at_hub();
                // Without own writes on top it is what the hub confirmed. If not, the digest tells.
                let confirmed = (!is_pending).then(|| visible.clone());
                let awaits_whole = unreadable.awaits_whole && confirmed.is_none();
                let held = Held { confirmed, visible, is_pending, leaving: None, awaits_whole };
                self.keep_record(&key, &held)?;
                Ok(Some(key))
            }
            // One that is leaving is held by own writes alone, and goes with them.
            None if row.is_confirmed && row.leaving.is_none() => {
                self.keep_record(&key, &unreadable).map(|()| Some(key))
            }
            // It is awaited already. Or nobody else has it: it stays as it is, in case somebody can read the card.
            None => Ok(None),
        }
    }

    fn recount(&mut self) -> Result<(), Error> {
        self.flush()?;
        let Some(counted) = count(self.db)? else { return Ok(()) };
        for scope in Arc::make_mut(&mut self.cache.scopes).values_mut() {
            let (sum, records) = counted.get(&scope.n).copied().unwrap_or_default();
            if (scope.sum, scope.records) != (sum, records) {
                (scope.sum, scope.records, scope.is_new) = (sum, records, true);
            }
        }
        Ok(())
    }

    fn write_ledger(&mut self, ledger: &[(Place, bool)], now_ms: i64) -> Result<(), Error> {
        for (place, is_damaged) in ledger {
            let (kind, number) = match place {
                Place::Record(feed) => (0, *feed),
                Place::History(number) => (1, *number),
            };
            if *is_damaged {
                let sql = "INSERT OR IGNORE INTO damage (place, number, found_ms) VALUES (?1, ?2, ?3)";
                self.db.prepare_cached(sql)?.execute((kind, number, now_ms))?;
            } else {
                // One of which all is awaited is to be found again, also if it can be read.
                let sql = "DELETE FROM damage WHERE place = ?1 AND number = ?2 \
                           AND NOT (place = 0 AND EXISTS (SELECT 1 FROM records WHERE feed = ?2 AND is_confirmed = ?3))";
                self.db.prepare_cached(sql)?.execute((kind, number, AWAITED))?;
            }
        }
        Ok(())
    }
}
