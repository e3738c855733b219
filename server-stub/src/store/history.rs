//! Every op that arrived, and which values stopped being current.

use std::sync::Arc;

use rusqlite::{OptionalExtension, Rows, params};
use sync_protocol::digest::op_hash;
use sync_protocol::hub::Arrived;
use sync_protocol::hub::clamped;
use sync_protocol::id::{Dot, FieldName, HubSeq, Origin, RecordKey, Seq, Stream};
use sync_protocol::merge::{Superseded, Why};
use sync_protocol::message::{AckRange, Short};
use sync_protocol::record::Op;

use super::Tx;
use super::tx::{bits, columns, dot, number, short};
use crate::error::StoreError;

/// An op of a record's history.
#[derive(Debug)]
pub(crate) struct Past {
    /// The op.
    pub(crate) op: Op,
    /// The number under which it arrived.
    pub(crate) hseq: HubSeq,
    /// The number under which it was applied; 0 if it was not.
    pub(crate) applied: HubSeq,
    /// When it arrived, milliseconds since 1970.
    pub(crate) received_ms: i64,
}

impl Past {
    /// What a query tells of the columns hseq, applied, op and received_ms.
    fn all(mut rows: Rows<'_>) -> Result<Vec<Past>, StoreError> {
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let (op, received_ms): (Vec<u8>, i64) = (row.get(2)?, row.get(3)?);
            all.push(Past {
                op: as_it_counts(Op::from_canonical(&op)?, received_ms),
                hseq: HubSeq(number(row.get(0)?)),
                applied: HubSeq(number(row.get(1)?)),
                received_ms,
            });
        }
        Ok(all)
    }
}

impl Tx<'_> {
    /// Notes that ops up to these marks are in a backup.
    pub(crate) fn note_durable(&mut self, marks: &[(i64, i64, i64)]) -> Result<(), StoreError> {
        let mut update =
            self.sql("UPDATE marks SET durable = ?3 WHERE origin = ?1 AND stream = ?2 AND durable < ?3")?;
        for mark in marks {
            update.execute(*mark)?;
        }
        Ok(())
    }

    /// Ops of gateways that are in no backup of this database.
    pub(crate) fn not_backed_up(&mut self) -> Result<u64, StoreError> {
        let sum: i64 =
            self.sql("SELECT ifnull(sum(acked - durable), 0) FROM marks")?.query_row([], |row| row.get(0))?;
        Ok(number(sum))
    }

    pub(super) fn append_history(
        &mut self,
        arrived: &Arrived<'_>,
        hseq: HubSeq,
        is_held: bool,
    ) -> Result<(), StoreError> {
        let Arrived { op, canonical, chain } = arrived;
        let mut insert = self.sql(
            "INSERT INTO history (hseq, origin, stream, seq, applied, type, id, op, chain, received_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        let (origin, stream, seq) = columns(op.stamp.dot);
        let hseq = bits(hseq.0);
        let applied = if is_held { 0 } else { hseq };
        let (kind, id) = (op.key.record_type.as_str(), op.key.id.as_str());
        insert.execute(params![hseq, origin, stream, seq, applied, kind, id, canonical, chain.short(), self.now_ms])?;
        if let Some((_, ops)) = self.writes.as_mut().filter(|(of, _)| *of == op.key) {
            // As it was written, and not as it counts.
            Arc::make_mut(ops).push(Op::from_canonical(canonical)?);
        }
        Ok(())
    }

    /// Notes that an op in quarantine was applied after all.
    pub(super) fn set_applied(&mut self, at: Dot, applied: HubSeq) -> Result<(), StoreError> {
        let mut update =
            self.sql("UPDATE history SET applied = ?4 WHERE origin = ?1 AND stream = ?2 AND seq = ?3 AND applied = 0")?;
        let (origin, stream, seq) = columns(at);
        update.execute(params![origin, stream, seq, bits(applied.0)])?;
        Ok(())
    }

    pub(super) fn number_arrived(&mut self, at: Dot) -> Result<Option<HubSeq>, StoreError> {
        let mut select = self.sql("SELECT hseq FROM history WHERE origin = ?1 AND stream = ?2 AND seq = ?3")?;
        let hseq: Option<i64> = select.query_row(columns(at), |row| row.get(0)).optional()?;
        Ok(hseq.map(|hseq| HubSeq(number(hseq))))
    }

    pub(super) fn number_applied(&mut self, at: Dot) -> Result<Option<HubSeq>, StoreError> {
        let mut select =
            self.sql("SELECT applied FROM history WHERE origin = ?1 AND stream = ?2 AND seq = ?3 AND applied <> 0")?;
        let applied: Option<i64> = select.query_row(columns(at), |row| row.get(0)).optional()?;
        Ok(applied.map(|applied| HubSeq(number(applied))))
    }

    pub(super) fn chain_after(&mut self, at: Dot) -> Result<Option<Short>, StoreError> {
        let mut select = self.sql("SELECT chain FROM history WHERE origin = ?1 AND stream = ?2 AND seq = ?3")?;
        let kept: Option<Vec<u8>> = select.query_row(columns(at), |row| row.get(0)).optional()?;
        Ok(kept.map(|bytes| short(&bytes)))
    }

    /// Computed when it is asked for: few ops ever come twice.
    pub(super) fn hash_at(&mut self, at: Dot) -> Result<Option<Short>, StoreError> {
        if let Some(hash) = self.hash_before_erasure(at)? {
            return Ok(Some(hash));
        }
        let mut select = self.sql("SELECT op FROM history WHERE origin = ?1 AND stream = ?2 AND seq = ?3")?;
        let op: Option<Vec<u8>> = select.query_row(columns(at), |row| row.get(0)).optional()?;
        op.map(|canonical| Ok(op_hash(&Op::from_canonical(&canonical)?))).transpose()
    }

    pub(super) fn applied_ranges(
        &mut self,
        origin: Origin,
        stream: Stream,
        after: Seq,
        upto: Seq,
    ) -> Result<Vec<AckRange>, StoreError> {
        let mut select = self.sql(
            "SELECT seq, hseq FROM history
             WHERE origin = ?1 AND stream = ?2 AND seq > ?3 AND seq <= ?4 AND applied = hseq ORDER BY seq",
        )?;
        let mut rows = select.query(params![origin.0, stream.number(), bits(after.0), bits(upto.0)])?;
        let mut ranges: Vec<AckRange> = Vec::new();
        while let Some(row) = rows.next()? {
            let (seq, hseq) = (number(row.get(0)?), number(row.get(1)?));
            match ranges.last_mut() {
                Some(r) if r.first.0 + r.count == seq && r.hseq.0 + r.count == hseq => r.count += 1,
                _ => ranges.push(AckRange { first: Seq(seq), count: 1, hseq: HubSeq(hseq) }),
            }
        }
        Ok(ranges)
    }

    pub(super) fn remember_replaced(&mut self, key: &RecordKey, replaced: &[Superseded]) -> Result<(), StoreError> {
        for lost in replaced {
            let mut insert = self.sql(
                "INSERT OR REPLACE INTO superseded
                 (type, id, field, origin, stream, seq, by_origin, by_stream, by_seq, why)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?;
            let (origin, stream, seq) = columns(lost.entry.stamp.dot);
            let (by_origin, by_stream, by_seq) = columns(lost.by.dot);
            let why = match lost.why {
                Why::Seen => 0,
                Why::Rule => 1,
                Why::Limit => 2,
            };
            let (kind, id, field) = (key.record_type.as_str(), key.id.as_str(), lost.field.as_str());
            insert.execute(params![kind, id, field, origin, stream, seq, by_origin, by_stream, by_seq, why])?;
        }
        Ok(())
    }

    /// The history of a record, in order of arrival.
    pub(crate) fn history_of(&mut self, key: &RecordKey) -> Result<Vec<Past>, StoreError> {
        let mut select =
            self.sql("SELECT hseq, applied, op, received_ms FROM history WHERE type = ?1 AND id = ?2 ORDER BY hseq")?;
        Past::all(select.query([key.record_type.as_str(), key.id.as_str()])?)
    }

    /// The ops of a record that arrived before a number, the newest first: at most `limit`.
    pub(crate) fn history_before(
        &mut self,
        key: &RecordKey,
        before: Option<HubSeq>,
        limit: usize,
    ) -> Result<Vec<Past>, StoreError> {
        let mut select = self.sql(
            "SELECT hseq, applied, op, received_ms FROM history
             WHERE type = ?1 AND id = ?2 AND hseq < ?3 ORDER BY hseq DESC LIMIT ?4",
        )?;
        let before = before.map_or(i64::MAX, |before| i64::try_from(before.0).unwrap_or(i64::MAX));
        let (kind, id) = (key.record_type.as_str(), key.id.as_str());
        Past::all(select.query(params![kind, id, before, bits(limit as u64)])?)
    }

    /// The write that stands instead of what another one put into a field, and why; `None` if that stands, or never did.
    pub(crate) fn replaced(
        &mut self,
        key: &RecordKey,
        field: &FieldName,
        lost: Dot,
    ) -> Result<Option<(Dot, &'static str)>, StoreError> {
        let mut select = self.sql(
            "SELECT by_origin, by_stream, by_seq, why FROM superseded
             WHERE type = ?1 AND id = ?2 AND field = ?3 AND origin = ?4 AND stream = ?5 AND seq = ?6",
        )?;
        let (origin, stream, seq) = columns(lost);
        let names = (key.record_type.as_str(), key.id.as_str(), field.as_str());
        let mut rows = select.query(params![names.0, names.1, names.2, origin, stream, seq])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let why = match row.get(3)? {
            0 => "seen",
            1 => "rule",
            _ => "limit",
        };
        Ok(Some((dot(row.get(0)?, row.get(1)?, row.get(2)?)?, why)))
    }

    /// Records after `after` in which values met that did not know of each other, now or before: at most `limit`.
    pub(crate) fn contested(&mut self, after: Option<&RecordKey>, limit: usize) -> Result<Vec<RecordKey>, StoreError> {
        let mut select = self.sql(
            "SELECT type, id FROM records WHERE conflicts > 0 AND (type, id) > (?1, ?2)
             UNION SELECT type, id FROM superseded WHERE why > 0 AND (type, id) > (?1, ?2)
             ORDER BY 1, 2 LIMIT ?3",
        )?;
        let (kind, id) = after.map_or(("", ""), |key| (key.record_type.as_str(), key.id.as_str()));
        let mut rows = select.query(params![kind, id, bits(limit as u64)])?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            keys.push(RecordKey::new(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?)?);
        }
        Ok(keys)
    }
}

/// The history keeps ops as they were written. A time that had not come yet when the op arrived counts as clamped.
pub(super) fn as_it_counts(op: Op, received_ms: i64) -> Op {
    clamped(&op, u64::try_from(received_ms).unwrap_or(0), HubSeq(u64::MAX)).unwrap_or(op)
}
