//! Erasures: the list of them, in the database and beside it, and the ops that lost their values.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;
use sync_protocol::erase::Erasure;
use sync_protocol::hub::{Wiped, carry_out};
use sync_protocol::id::{Dot, RecordKey};
use sync_protocol::message::Short;
use sync_protocol::record::Op;

use super::tx::{bits, columns, number, short};
use super::{Database, Tx};
use crate::audit::{Actor, What};
use crate::clock::now_ms;
use crate::error::{HubError, StoreError};

/// The file that holds the list a second time.
const LIST_FILE: &str = "erasures.list";
/// How long a sweep waits for those who read an older state of the file.
const SWEEP_PATIENCE: Duration = Duration::from_secs(20);
const SWEEP_PAUSE: Duration = Duration::from_millis(50);

/// What an admin asked for.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) wish: u64,
    pub(crate) key: RecordKey,
    /// The account that asked.
    pub(crate) account: i64,
    pub(crate) asked_ms: i64,
}

/// How far a gateway has carried out erasures.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) name: String,
    /// `None` if its program cannot.
    pub(crate) erased: Option<u64>,
    pub(crate) is_revoked: bool,
    /// 0: never.
    pub(crate) contact_ms: i64,
}

impl Tx<'_> {
    pub(super) fn erasure_of(&mut self, key: &RecordKey) -> Result<Option<u64>, StoreError> {
        let mut select = self.sql("SELECT max(number) FROM erasures WHERE type = ?1 AND id = ?2")?;
        let last: Option<i64> = select.query_row([key.record_type.as_str(), key.id.as_str()], |row| row.get(0))?;
        Ok(last.map(number))
    }

    pub(super) fn erasures_later(&mut self, after: u64, limit: usize) -> Result<Vec<Erasure>, StoreError> {
        let mut select =
            self.sql("SELECT number, type, id, cause FROM erasures WHERE number > ?1 ORDER BY number LIMIT ?2")?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        // A number that no erasure can have, said by a gateway, is above all of them.
        let mut rows = select.query(params![i64::try_from(after).unwrap_or(i64::MAX), limit])?;
        let mut later = Vec::new();
        while let Some(row) = rows.next()? {
            let key = RecordKey::new(&row.get::<_, String>(1)?, &row.get::<_, String>(2)?)?;
            later.push(Erasure { number: number(row.get(0)?), key, cause: number(row.get(3)?) });
        }
        Ok(later)
    }

    pub(super) fn newest_erasure(&mut self) -> Result<u64, StoreError> {
        let last: i64 = self.sql("SELECT coalesce(max(number), 0) FROM erasures")?.query_row([], |row| row.get(0))?;
        Ok(number(last))
    }

    pub(super) fn keep_erasure(&mut self, erasure: &Erasure) -> Result<(), StoreError> {
        let mut insert =
            self.sql("INSERT OR IGNORE INTO erasures (number, type, id, cause) VALUES (?1, ?2, ?3, ?4)")?;
        let (kind, id) = (erasure.key.record_type.as_str(), erasure.key.id.as_str());
        insert.execute(params![bits(erasure.number), kind, id, bits(erasure.cause)])?;
        self.is_list_new = true;
        Ok(())
    }

    pub(super) fn records_under(&mut self, parent: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
        let mut select =
            self.sql("SELECT type, id FROM parents WHERE parent_type = ?1 AND parent_id = ?2 ORDER BY 1, 2")?;
        let mut rows = select.query([parent.record_type.as_str(), parent.id.as_str()])?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            keys.push(RecordKey::new(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?)?);
        }
        Ok(keys)
    }

    pub(super) fn put_erased(&mut self, erased: &Op, hash: Short) -> Result<(), StoreError> {
        let (origin, stream, seq) = columns(erased.stamp.dot);
        self.writes = None;
        self.sql("UPDATE history SET op = ?4 WHERE origin = ?1 AND stream = ?2 AND seq = ?3")?.execute(params![
            origin,
            stream,
            seq,
            erased.canonical()
        ])?;
        self.sql("INSERT OR IGNORE INTO erased_ops (origin, stream, seq, hash) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![origin, stream, seq, hash])?;
        Ok(())
    }

    /// The hash of what an op was that lost its values; `None` if it has them.
    pub(super) fn hash_before_erasure(&mut self, at: Dot) -> Result<Option<Short>, StoreError> {
        let mut select = self.sql("SELECT hash FROM erased_ops WHERE origin = ?1 AND stream = ?2 AND seq = ?3")?;
        let hash: Option<Vec<u8>> = select.query_row(columns(at), |row| row.get(0)).optional()?;
        Ok(hash.map(|hash| short(&hash)))
    }

    /// The names of fields, and reasons in words, may say what the values said.
    pub(super) fn drop_replaced(&mut self, key: &RecordKey) -> Result<(), StoreError> {
        let names = [key.record_type.as_str(), key.id.as_str()];
        self.sql("DELETE FROM superseded WHERE type = ?1 AND id = ?2")?.execute(names)?;
        self.sql("UPDATE log SET text = '' WHERE type = ?1 AND id = ?2 AND kind IN (2, 4)")?.execute(names)?;
        Ok(())
    }

    /// Whether anything is known of a record, and be it only what was written.
    pub(crate) fn is_known(&mut self, key: &RecordKey) -> Result<bool, StoreError> {
        let names = [key.record_type.as_str(), key.id.as_str()];
        Ok(self.sql("SELECT 1 FROM history WHERE type = ?1 AND id = ?2")?.exists(names)?
            || self.cells_of(key)?.is_some())
    }

    /// Notes what an admin asked for; gives its number.
    pub(crate) fn add_wish(&mut self, key: &RecordKey, account: i64) -> Result<u64, StoreError> {
        let mut insert = self
            .sql("INSERT INTO erasure_wishes (type, id, account, asked_ms) VALUES (?1, ?2, ?3, ?4) RETURNING wish")?;
        let (kind, id) = (key.record_type.as_str(), key.id.as_str());
        let wish = insert.query_row(params![kind, id, account, self.now_ms], |row| row.get(0))?;
        Ok(number(wish))
    }

    /// What was asked for and nobody has agreed to yet.
    pub(crate) fn wishes(&mut self) -> Result<Vec<Wish>, StoreError> {
        let mut select = self.sql("SELECT wish, type, id, account, asked_ms FROM erasure_wishes ORDER BY wish")?;
        let mut rows = select.query([])?;
        let mut wishes = Vec::new();
        while let Some(row) = rows.next()? {
            let key = RecordKey::new(&row.get::<_, String>(1)?, &row.get::<_, String>(2)?)?;
            wishes.push(Wish { wish: number(row.get(0)?), key, account: row.get(3)?, asked_ms: row.get(4)? });
        }
        Ok(wishes)
    }

    /// Removes what was asked for.
    pub(crate) fn end_wish(&mut self, wish: u64) -> Result<(), StoreError> {
        self.sql("DELETE FROM erasure_wishes WHERE wish = ?1")?.execute([bits(wish)])?;
        Ok(())
    }

    /// How far each gateway has come that was ever enrolled.
    pub(crate) fn progress(&mut self) -> Result<Vec<Progress>, StoreError> {
        let mut select =
            self.sql("SELECT name, erased, is_revoked, contact_ms FROM gateways WHERE origin > 0 ORDER BY name")?;
        let rows = select.query_map([], |row| {
            let erased: Option<i64> = row.get(1)?;
            let (name, erased) = (row.get(0)?, erased.map(number));
            Ok(Progress { name, erased, is_revoked: row.get(2)?, contact_ms: row.get(3)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes that what was erased may still lie in free pages.
    pub(crate) fn set_sweep_due(&mut self) -> Result<(), StoreError> {
        self.sql("UPDATE hub SET sweep_due = 1")?.execute([])?;
        Ok(())
    }

    /// Whether what was erased may still lie in free pages.
    pub(crate) fn is_sweep_due(&mut self) -> Result<bool, StoreError> {
        Ok(self.sql("SELECT sweep_due FROM hub")?.query_row([], |row| row.get(0))?)
    }
}

impl Database {
    /// Carries out again what the list beside this database says and the database does not know: it was put back to before. To be called
    /// before anybody is served, because what was erased would come back. Tells how many erasures that were.
    pub(crate) fn erase_again(&mut self) -> Result<u64, HubError> {
        let listed = read_list(&self.folder)?;
        let again = self.write(now_ms(), |tx| {
            let known = tx.erasures_later(0, usize::MAX)?;
            let mut again = 0;
            for erasure in listed.iter().filter(|listed| !known.contains(listed)) {
                let mut wiped = Wiped::default();
                carry_out(tx, erasure, &mut wiped)?;
                tx.set_sweep_due()?;
                let target = json!({ "record": erasure.key.to_string(), "number": erasure.number, "ops": wiped.ops });
                tx.audit(&Actor::hub(), What::EraseAgain, &target)?;
                again += 1;
            }
            // One that the list lacks was committed just before the power failed.
            tx.is_list_new |= known.iter().any(|known| !listed.contains(known));
            Ok::<_, HubError>(again)
        })?;
        if again > 0 {
            tracing::warn!(erasures = again, "this hub was put back to before them; they were carried out again");
        }
        self.sweep_if_due()?;
        Ok(again)
    }

    /// Writes the file anew, if that is due. Tells whether nothing of what was erased is in it any more. That there is no room for it
    /// keeps nobody from being served.
    pub(crate) fn sweep_if_due(&mut self) -> Result<bool, StoreError> {
        if !self.read(now_ms(), |tx| tx.is_sweep_due())? {
            return Ok(true);
        }
        if let Err(error) = self.sweep() {
            tracing::warn!(%error, "the database could not be written anew after an erasure");
        }
        Ok(!self.read(now_ms(), |tx| tx.is_sweep_due())?)
    }

    /// Writes the list beside the database, after what it lists is on disk.
    pub(super) fn tell_list(&mut self, is_new: bool) {
        if !is_new {
            return;
        }
        let folder = self.folder.clone();
        let written = self.read(0, |tx| tx.erasures_later(0, usize::MAX)).and_then(|all| write_list(&folder, &all));
        if let Err(error) = written {
            tracing::error!(%error, "the list of erasures could not be written beside the database");
        }
    }

    /// Writes the whole file anew, without what free pages hold, and cuts the log.
    ///
    /// # Errors
    /// What SQLite reports. That somebody reads all the time is none; then it is due as before.
    pub(crate) fn sweep(&mut self) -> Result<(), StoreError> {
        self.conn.execute_batch("VACUUM")?;
        let began = Instant::now();
        while is_log_read(&self.conn)? {
            if began.elapsed() >= SWEEP_PATIENCE {
                tracing::warn!(
                    "somebody reads the database all the time; what was erased stays in its log until later"
                );
                return Ok(());
            }
            std::thread::sleep(SWEEP_PAUSE);
        }
        self.conn.execute("UPDATE hub SET sweep_due = 0", [])?;
        Ok(())
    }
}

/// Tries to cut the log; whether somebody reads an older state in it.
fn is_log_read(conn: &Connection) -> Result<bool, StoreError> {
    Ok(conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?)
}

fn write_list(folder: &Path, all: &[Erasure]) -> Result<(), StoreError> {
    let part = folder.join(format!("{LIST_FILE}.{}", std::process::id()));
    let mut text = String::new();
    for Erasure { number, key, cause } in all {
        text.push_str(&format!("{number} {cause} {key}\n"));
    }
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, folder.join(LIST_FILE))?;
    File::open(folder)?.sync_all()?;
    Ok(())
}

fn read_list(folder: &Path) -> Result<Vec<Erasure>, HubError> {
    let path = folder.join(LIST_FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(|source| HubError::File { path: path.clone(), source })?,
    };
    let line = |line: &str| {
        let mut parts = line.splitn(3, ' ');
        let (number, cause) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Erasure { number, cause, key: RecordKey::parse(parts.next()?).ok()? })
    };
    let list: Option<Vec<Erasure>> = text.lines().map(line).collect();
    let unreadable = "is not a list of erasures; without it a hub that was put back would bring back what was erased";
    list.ok_or_else(|| HubError::Config(format!("{} {unreadable}", path.display())))
}
