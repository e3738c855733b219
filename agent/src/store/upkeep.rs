//! What is remembered of checks, scrubs and backups.

use rusqlite::OptionalExtension;

use super::reader::Reader;
use super::tx::Tx;
use crate::error::Error;

/// How the last checks and the last backup went. A time of 0 says that there was none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Upkeep {
    /// When SQLite's own check last ended, milliseconds since 1970.
    pub checked_ms: i64,
    /// What it found.
    pub faults: Vec<String>,
    /// When every row was last read and hashed again.
    pub scrubbed_ms: i64,
    /// When the last backup was complete.
    pub backup_ms: i64,
    /// Why the last attempt made none.
    pub backup_error: Option<String>,
}

impl Tx<'_> {
    /// Keeps how the checks and the backup went.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn set_upkeep(&mut self, upkeep: &Upkeep) -> Result<(), Error> {
        let mut insert = self.db.prepare_cached(
            "INSERT OR REPLACE INTO upkeep (one, checked_ms, faults, scrubbed_ms, backup_ms, backup_error) \
             VALUES (1, ?1, ?2, ?3, ?4, ?5)",
        )?;
        insert.execute((
            upkeep.checked_ms,
            upkeep.faults.join("\n"),
            upkeep.scrubbed_ms,
            upkeep.backup_ms,
            upkeep.backup_error.as_deref().unwrap_or(""),
        ))?;
        Ok(())
    }
}

impl Reader<'_> {
    /// How the checks and the backup went.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn upkeep(&self) -> Result<Upkeep, Error> {
        let mut statement =
            self.db.prepare_cached("SELECT checked_ms, faults, scrubbed_ms, backup_ms, backup_error FROM upkeep")?;
        let read = |row: &rusqlite::Row<'_>| {
            let (faults, error): (String, String) = (row.get(1)?, row.get(4)?);
            Ok(Upkeep {
                checked_ms: row.get(0)?,
                faults: faults.lines().map(str::to_owned).collect(),
                scrubbed_ms: row.get(2)?,
                backup_ms: row.get(3)?,
                backup_error: Some(error).filter(|error| !error.is_empty()),
            })
        };
        Ok(statement.query_row([], read).optional()?.unwrap_or_default())
    }
}
