//! The order of changes, as a pull reads it: records by their last change, and beside them what left and what was decided.

use rusqlite::params;
use sync_protocol::hub::{LogLine, Logged};
use sync_protocol::id::{Device, HubSeq, RecordKey, Scope};
use sync_protocol::payload::News;

use super::Tx;
use super::tx::{bits, columns, dot, number, small};
use crate::error::StoreError;

/// Lines that one number can have at most: a record, where it left, and the news of its op.
const LINES_OF_ONE: usize = 8;

const LEFT: i64 = 1;
const HELD: i64 = 2;
const RELEASED: i64 = 3;
const DISCARDED: i64 = 4;

impl Tx<'_> {
    pub(super) fn write_line(&mut self, line: &LogLine) -> Result<(), StoreError> {
        let nobody = (0, 0, 0);
        let (kind, text, device, at, number) = match &line.what {
            // The record's own row says that it changed, and where it is.
            Logged::Changed(_) => return Ok(()),
            Logged::Left(scope) => (LEFT, scope.as_str(), 0, nobody, 0),
            Logged::News(device, at, News::Held(reason)) => (HELD, reason.as_str(), device.0, columns(*at), 0),
            Logged::News(device, at, News::Released(hseq)) => {
                self.set_applied(*at, *hseq)?;
                (RELEASED, "", device.0, columns(*at), hseq.0)
            }
            Logged::News(device, at, News::Discarded(why)) => (DISCARDED, why.as_str(), device.0, columns(*at), 0),
        };
        let mut insert = self.sql(
            "INSERT OR REPLACE INTO log (hseq, kind, type, id, text, device, origin, stream, seq, number)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        let (record_type, id) = (line.key.record_type.as_str(), line.key.id.as_str());
        let (origin, stream, seq) = at;
        let hseq = bits(line.hseq.0);
        insert.execute(params![hseq, kind, record_type, id, text, device, origin, stream, seq, bits(number)])?;
        Ok(())
    }

    pub(super) fn lines_after(&mut self, after: HubSeq, limit: usize) -> Result<Vec<LogLine>, StoreError> {
        // Both lists are cut at the same length, so what is merged from them is whole up to `limit`.
        let many = limit.saturating_add(LINES_OF_ONE);
        let mut lines = self.changed_after(after, many)?;
        lines.extend(self.noted_after(after, many)?);
        lines.sort_by_key(|line| line.hseq);
        let mut end = limit.min(lines.len());
        let number_at = |at: usize| lines.get(at).map(|line| line.hseq);
        while end > 0 && end < lines.len() && number_at(end) == number_at(end - 1) {
            end += 1;
        }
        lines.truncate(end);
        Ok(lines)
    }

    fn changed_after(&mut self, after: HubSeq, limit: usize) -> Result<Vec<LogLine>, StoreError> {
        let mut select = self.sql(
            "SELECT rev, scope, type, id FROM records INDEXED BY records_rev WHERE rev > ?1 ORDER BY rev LIMIT ?2",
        )?;
        let mut rows = select.query([bits(after.0), bits(limit as u64)])?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            let key = RecordKey::new(&row.get::<_, String>(2)?, &row.get::<_, String>(3)?)?;
            let scope = Scope::new(&row.get::<_, String>(1)?)?;
            lines.push(LogLine { hseq: HubSeq(number(row.get(0)?)), key, what: Logged::Changed(scope) });
        }
        Ok(lines)
    }

    fn noted_after(&mut self, after: HubSeq, limit: usize) -> Result<Vec<LogLine>, StoreError> {
        let mut select = self.sql(
            "SELECT hseq, kind, type, id, text, device, origin, stream, seq, number
             FROM log WHERE hseq > ?1 ORDER BY hseq, kind LIMIT ?2",
        )?;
        let mut rows = select.query([bits(after.0), bits(limit as u64)])?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            let key = RecordKey::new(&row.get::<_, String>(2)?, &row.get::<_, String>(3)?)?;
            let (kind, text): (i64, String) = (row.get(1)?, row.get(4)?);
            let device = Device(small(row.get(5)?));
            let at = dot(row.get(6)?, row.get(7)?, row.get(8)?)?;
            let what = match kind {
                LEFT => Logged::Left(Scope::new(&text)?),
                HELD => Logged::News(device, at, News::Held(text)),
                RELEASED => Logged::News(device, at, News::Released(HubSeq(number(row.get(9)?)))),
                _ => Logged::News(device, at, News::Discarded(text)),
            };
            lines.push(LogLine { hseq: HubSeq(number(row.get(0)?)), key, what });
        }
        Ok(lines)
    }
}
