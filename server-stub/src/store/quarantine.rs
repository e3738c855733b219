//! Ops that wait: for a person, for other rules, or for the record they refer to.

use rusqlite::{OptionalExtension, Row, params};
use sync_protocol::hub::{HeldOp, review_all};
use sync_protocol::id::{Device, Dot, HubSeq, Origin, RecordKey, Scope};
use sync_protocol::record::Op;

use super::Tx;
use super::history::as_it_counts;
use super::records::seen;
use super::tx::{bits, columns, number, small};
use crate::account::Sight;
use crate::error::StoreError;

/// An op in quarantine, as people see it.
#[derive(Debug)]
pub(crate) struct HeldRow {
    /// The op, and why it waits.
    pub(crate) held: HeldOp,
    /// The name of the gateway it came from; `hub` for the centre's own.
    pub(crate) gateway: String,
    /// When it arrived, milliseconds since 1970.
    pub(crate) received_ms: i64,
    /// Who sees this scope sees it: that of the record, if there is one, else the home of the gateway.
    pub(crate) scope: Scope,
}

/// Who sees this scope sees the op: that of the record, if there is one, else the first of the gateway's, which are kept as
/// `["a/b","c"]`.
const SCOPE: &str = "coalesce(r.scope, substr(g.scopes, 3, instr(substr(g.scopes, 3), '\"') - 1), '')";

fn select(condition: &str) -> String {
    format!(
        "SELECT q.hseq, q.device, q.reason, h.op, coalesce(g.name, 'hub'), h.received_ms, q.seen, q.for_person, {SCOPE}
         FROM quarantine q JOIN history h USING (origin, stream, seq) LEFT JOIN gateways g USING (device)
         LEFT JOIN records r ON r.type = q.type AND r.id = q.id WHERE {condition}"
    )
}

impl Tx<'_> {
    pub(super) fn put_held(&mut self, held: &HeldOp, waits_for: &[RecordKey]) -> Result<(), StoreError> {
        self.may_hold = Some(true);
        let (origin, stream, seq) = columns(held.op.stamp.dot);
        let (kind, id) = (held.op.key.record_type.as_str(), held.op.key.id.as_str());
        let device = held.device.map_or(0, |device| device.0);
        let mut upsert = self.sql(
            "INSERT INTO quarantine (origin, stream, seq, type, id, device, hseq, seen, reason, for_person)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT DO UPDATE SET seen = ?8, reason = ?9, for_person = ?10",
        )?;
        let (hseq, seen) = (bits(held.hseq.0), bits(held.op.stamp.seen.0));
        upsert.execute(params![origin, stream, seq, kind, id, device, hseq, seen, held.reason, held.for_person])?;
        self.clear_waits(held.op.stamp.dot)?;
        for parent in waits_for {
            let (kind, id) = (parent.record_type.as_str(), parent.id.as_str());
            self.sql("INSERT OR IGNORE INTO waits (origin, stream, seq, type, id) VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![origin, stream, seq, kind, id])?;
        }
        Ok(())
    }

    fn clear_waits(&mut self, at: Dot) -> Result<(), StoreError> {
        self.sql("DELETE FROM waits WHERE origin = ?1 AND stream = ?2 AND seq = ?3")?.execute(columns(at))?;
        Ok(())
    }

    pub(super) fn take_held(&mut self, at: Dot) -> Result<Option<HeldOp>, StoreError> {
        let Some(row) = self.held_at(at)? else { return Ok(None) };
        self.sql("DELETE FROM quarantine WHERE origin = ?1 AND stream = ?2 AND seq = ?3")?.execute(columns(at))?;
        self.clear_waits(at)?;
        Ok(Some(row.held))
    }

    pub(super) fn size_for_person(&mut self, device: Device) -> Result<(u64, u64), StoreError> {
        let mut select = self.sql(
            "SELECT count(*), coalesce(sum(length(h.op)), 0) FROM quarantine q JOIN history h USING (origin, stream, seq)
             WHERE q.device = ?1 AND q.for_person",
        )?;
        Ok(select.query_row([device.0], |row| Ok((number(row.get(0)?), number(row.get(1)?))))?)
    }

    /// An op in quarantine by its dot.
    pub(crate) fn held_at(&mut self, at: Dot) -> Result<Option<HeldRow>, StoreError> {
        let sql = select("q.origin = ?1 AND q.stream = ?2 AND q.seq = ?3");
        let found = self.sql(&sql)?.query_row(columns(at), |row| Ok(held_row(row))).optional()?;
        found.transpose()
    }

    /// Whether anything may be in quarantine: each op asks twice, and most of the time nothing is.
    fn may_hold(&mut self) -> Result<bool, StoreError> {
        match self.may_hold {
            Some(known) => Ok(known),
            None => {
                let any = self.sql("SELECT EXISTS (SELECT 1 FROM quarantine)")?.query_row([], |row| row.get(0))?;
                self.may_hold = Some(any);
                Ok(any)
            }
        }
    }

    pub(super) fn held_on(&mut self, key: &RecordKey, origin: Origin) -> Result<Vec<HeldOp>, StoreError> {
        if !self.may_hold()? {
            return Ok(Vec::new());
        }
        let sql = "SELECT q.hseq, q.device, q.reason, h.op, '', h.received_ms, q.seen, q.for_person, ''
            FROM quarantine q INDEXED BY quarantine_record JOIN history h USING (origin, stream, seq)
            WHERE q.type = ?1 AND q.id = ?2 AND q.origin = ?3 ORDER BY q.hseq";
        let mut select = self.sql(sql)?;
        let mut rows = select.query(params![key.record_type.as_str(), key.id.as_str(), origin.0])?;
        let mut held = Vec::new();
        while let Some(row) = rows.next()? {
            held.push(held_row(row)?.held);
        }
        Ok(held)
    }

    pub(super) fn has_held(&mut self, key: &RecordKey, origin: Origin) -> Result<bool, StoreError> {
        if !self.may_hold()? {
            return Ok(false);
        }
        let sql = "SELECT 1 FROM quarantine INDEXED BY quarantine_record WHERE type = ?1 AND id = ?2 AND origin = ?3";
        Ok(self.sql(sql)?.exists(params![key.record_type.as_str(), key.id.as_str(), origin.0])?)
    }

    pub(super) fn held_by(&mut self, key: &RecordKey) -> Result<Vec<Origin>, StoreError> {
        if !self.may_hold()? {
            return Ok(Vec::new());
        }
        let sql = "SELECT DISTINCT origin FROM quarantine INDEXED BY quarantine_record WHERE type = ?1 AND id = ?2 ORDER BY 1";
        let mut select = self.sql(sql)?;
        let origins = select.query_map([key.record_type.as_str(), key.id.as_str()], |row| row.get(0))?;
        origins.map(|origin| Ok(Origin(small(origin?)))).collect()
    }

    pub(super) fn held_for(&mut self, parent: &RecordKey) -> Result<Vec<(RecordKey, Origin)>, StoreError> {
        if !self.may_hold()? {
            return Ok(Vec::new());
        }
        let sql = "SELECT q.type, q.id, q.origin FROM waits w JOIN quarantine q USING (origin, stream, seq)
            WHERE w.type = ?1 AND w.id = ?2 GROUP BY 1, 2, 3 ORDER BY min(q.hseq)";
        let mut select = self.sql(sql)?;
        let mut rows = select.query([parent.record_type.as_str(), parent.id.as_str()])?;
        let mut groups = Vec::new();
        while let Some(row) = rows.next()? {
            groups.push(group(row)?);
        }
        Ok(groups)
    }

    pub(super) fn held_groups(&mut self) -> Result<Vec<(RecordKey, Origin)>, StoreError> {
        let mut select = self.sql("SELECT DISTINCT type, id, origin FROM quarantine ORDER BY 1, 2, 3")?;
        let mut rows = select.query([])?;
        let mut groups = Vec::new();
        while let Some(row) = rows.next()? {
            groups.push(group(row)?);
        }
        Ok(groups)
    }

    /// Ops in quarantine that are seen, in order of arrival, after `after`: at most `limit`.
    pub(crate) fn held_page(&mut self, sight: &Sight, after: HubSeq, limit: usize) -> Result<Vec<HeldRow>, StoreError> {
        let sql = select(&format!("q.hseq > ?1 AND {} ORDER BY q.hseq LIMIT ?2", seen(SCOPE, sight)));
        let mut select = self.sql(&sql)?;
        let mut rows = select.query(params![bits(after.0), bits(limit as u64)])?;
        let mut held = Vec::new();
        while let Some(row) = rows.next()? {
            held.push(held_row(row)?);
        }
        Ok(held)
    }

    /// How many ops wait that are seen.
    pub(crate) fn held_count(&mut self, sight: &Sight) -> Result<u64, StoreError> {
        let sql = format!(
            "SELECT count(*) FROM quarantine q LEFT JOIN gateways g USING (device)
             LEFT JOIN records r ON r.type = q.type AND r.id = q.id WHERE {}",
            seen(SCOPE, sight)
        );
        Ok(number(self.sql(&sql)?.query_row([], |row| row.get(0))?))
    }

    /// Judges what one origin has in quarantine on one record anew. Tells whether it was freed.
    pub(crate) fn retry(&mut self, key: RecordKey, origin: Origin) -> Result<bool, StoreError> {
        self.review_only = Some((key, origin));
        let freed = review_all(self);
        self.review_only = None;
        Ok(freed? > 0)
    }
}

fn held_row(row: &Row<'_>) -> Result<HeldRow, StoreError> {
    let (device, op): (i64, Vec<u8>) = (row.get(1)?, row.get(3)?);
    let mut op = Op::from_canonical(&op)?;
    // The history has it as it was written, because that is what the chain is over.
    op.stamp.seen = HubSeq(number(row.get(6)?));
    let held = HeldOp {
        op: as_it_counts(op, row.get(5)?),
        hseq: HubSeq(number(row.get(0)?)),
        device: (device != 0).then(|| Device(small(device))),
        reason: row.get(2)?,
        for_person: row.get(7)?,
    };
    let scope = Scope::new(&row.get::<_, String>(8)?)?;
    Ok(HeldRow { held, gateway: row.get(4)?, received_ms: row.get(5)?, scope })
}

fn group(row: &Row<'_>) -> Result<(RecordKey, Origin), StoreError> {
    let key = RecordKey::new(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?)?;
    Ok((key, Origin(small(row.get(2)?))))
}
