//! Looking for damage: what `outpost check` does, and the monthly scrub.

use sync_protocol::id::RecordKey;

use super::health::Place;
use super::history::{FROM_HUB, read_op};
use super::reader::{Reader, names};
use super::row::Row;
use super::soundness::quick_check;
use super::tx::Tx;
use crate::error::Error;

impl Reader<'_> {
    /// What is wrong with the file, in sentences: SQLite's own check, and the checksum of every row. Empty if all is well.
    ///
    /// # Errors
    /// What SQLite reports if it cannot even look.
    pub fn quick_check(&self) -> Result<Vec<String>, Error> {
        let mut found: Vec<String> = Vec::new();
        quick_check(self.db, &mut found)?;
        found.iter_mut().for_each(|line| line.insert_str(0, "sqlite: "));
        let mut statement = self.db.prepare("SELECT number, fate, op, before, superseded FROM history")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (number, fate): (i64, i64) = (row.get(0)?, row.get(1)?);
            let blob = |column| row.get_ref(column).map(|value| value.as_blob().unwrap_or_default());
            let place = Place::History(number);
            let is_op_whole = fate == FROM_HUB || read_op(self.db, self.codec, blob(2)?, number)?.is_some();
            let is_rest_whole =
                self.codec.record(blob(3)?, place).is_some() && self.codec.record(blob(4)?, place).is_some();
            if !(is_op_whole && is_rest_whole) {
                found.push(format!("history row {number} is damaged"));
            }
        }
        found.extend(self.damaged_records()?.iter().map(|key| format!("record {key} is damaged")));
        Ok(found)
    }

    fn damaged_records(&self) -> Result<Vec<RecordKey>, Error> {
        let mut statement =
            self.db.prepare("SELECT (SELECT name FROM types WHERE n = type), id FROM records WHERE presence < 3")?;
        let mut found = Vec::new();
        for name in statement.query_map([], names)? {
            let (record_type, id) = name?;
            let key = RecordKey::new(&record_type, &id)?;
            let Some(row) = Row::find(self.db, &key)? else { continue };
            let held = row.held(self.db, self.codec)?;
            if held.is_none_or(|held| held.confirmed.is_some() != row.is_confirmed) {
                found.push(key);
            }
        }
        Ok(found)
    }
}

impl Tx<'_> {
    /// Forgets records that cannot be read any more, so that the digests differ and the hub sends them again. Their
    /// history stays. Returns which.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn scrub(&mut self) -> Result<Vec<RecordKey>, Error> {
        let damaged = self.reader()?.damaged_records()?;
        damaged.iter().try_for_each(|key| self.forget_record(key))?;
        Ok(damaged)
    }
}
