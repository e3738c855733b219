//! The baseline: SQLite alone, as durable as the programs, with the same records as plain JSON.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use rusqlite::{Connection, TransactionBehavior};

use super::machine;
use super::sample::Sample;

/// What inserting gave.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) records_a_second: f64,
    /// The middle commit, microseconds.
    pub(crate) p50_us: f64,
    /// Bytes written to the disk for a record.
    pub(crate) written_a_record: f64,
}

/// Inserts the records, so many a commit: WAL, `synchronous = FULL`, default pages, a text key.
pub(crate) fn insert(dir: &Path, samples: &[Sample], per_commit: usize) -> Result<Raw> {
    let mut db = Connection::open(dir.join("raw.db"))?;
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "full")?;
    db.execute_batch("CREATE TABLE records (id TEXT PRIMARY KEY, type TEXT NOT NULL, body TEXT NOT NULL)")?;
    let us = std::process::id();
    let (written, began) = (machine::written_bytes(us)?, Instant::now());
    let mut commits_us = Vec::new();
    for group in samples.chunks(per_commit) {
        let commit_began = Instant::now();
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for sample in group {
            let mut insert = tx.prepare_cached("INSERT INTO records (id, type, body) VALUES (?1, ?2, ?3)")?;
            insert.execute((&sample.made.id, sample.made.record_type, &sample.json))?;
        }
        tx.commit()?;
        commits_us.push(commit_began.elapsed().as_secs_f64() * 1e6);
    }
    let (count, seconds) = (samples.len() as f64, began.elapsed().as_secs_f64());
    let written = machine::written_bytes(us)? - written;
    Ok(Raw { records_a_second: count / seconds, p50_us: super::median(commits_us), written_a_record: written / count })
}
