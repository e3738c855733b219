//! One transaction, as the protocol sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use serde_json::json;
use sync_protocol::digest::Chain;
use sync_protocol::erase::Erasure;
use sync_protocol::hub::{Arrived, Gateway, HeldOp, LogLine, Mark, Snapshot, Store};
use sync_protocol::id::{Device, Dot, Epoch, HubSeq, Origin, RecordKey, Scope, Seq, Stream};
use sync_protocol::identity::DeviceKey;
use sync_protocol::merge::Superseded;
use sync_protocol::message::{AckRange, Short};
use sync_protocol::record::{Op, Record};
use sync_protocol::rules::Rules;

use super::Daily;
use super::audit::Audited;
use super::records::Kept;
use crate::audit::{Actor, What};
use crate::error::StoreError;

/// One transaction on the database.
#[derive(Debug)]
pub struct Tx<'a> {
    conn: &'a Connection,
    /// Parsed rules, shared by the transactions of one connection. A published version never changes.
    pub(super) rules_parsed: &'a mut Option<Arc<Rules>>,
    /// The rules as this transaction sees them, once it has asked.
    pub(super) rules_now: Option<Arc<Rules>>,
    /// When the transaction began, milliseconds since 1970.
    pub(crate) now_ms: i64,
    /// The head as it is, and whether it has to be written.
    head: Option<(u64, bool)>,
    /// The record that was last read or written: one op asks for it several times.
    pub(super) last: Option<(RecordKey, Option<Kept>)>,
    /// The writes of the record of which they were last asked for: each of many ops on one record asks for them.
    pub(super) writes: Option<(RecordKey, Arc<Vec<Op>>)>,
    /// What has to be added to the digests and numbers of scopes.
    pub(super) sums: BTreeMap<Scope, (u64, i64)>,
    /// Whether anything may be in quarantine, once it was asked.
    pub(super) may_hold: Option<bool>,
    /// Narrows [`Snapshot::all_held`] to one record and origin, so that one plea does not review everything.
    pub(super) review_only: Option<(RecordKey, Origin)>,
    /// Whether the audit was written to.
    pub(super) audited: Audited,
    /// Whether the list of erasures has to be written beside the database.
    pub(super) is_list_new: bool,
}

impl<'a> Tx<'a> {
    pub(super) fn new(conn: &'a Connection, rules_parsed: &'a mut Option<Arc<Rules>>, now_ms: i64) -> Tx<'a> {
        Tx {
            conn,
            rules_parsed,
            rules_now: None,
            now_ms,
            head: None,
            last: None,
            writes: None,
            sums: BTreeMap::new(),
            may_hold: None,
            review_only: None,
            audited: Audited::No,
            is_list_new: false,
        }
    }

    /// Writes what was put off. To be called before the commit.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        if let Some((head, true)) = self.head {
            self.sql("UPDATE hub SET head = ?1")?.execute([bits(head)])?;
            self.head = Some((head, false));
        }
        self.write_sums()
    }

    /// A statement, prepared once for each connection.
    pub(super) fn sql(&self, sql: &str) -> Result<CachedStatement<'a>, StoreError> {
        Ok(self.conn.prepare_cached(sql)?)
    }

    /// Counts the steps of the database from now on, in hundreds, until the connection is given another counter.
    #[cfg(test)]
    pub(crate) fn count_steps(&self) -> Result<Arc<std::sync::atomic::AtomicU64>, StoreError> {
        let steps = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let count = Arc::clone(&steps);
        let counted = move || {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            false
        };
        self.conn.progress_handler(100, Some(counted))?;
        Ok(steps)
    }

    /// This is the last number that was given, or left out.
    pub(super) fn go_on_after(&mut self, number: HubSeq) {
        self.head = Some((number.0, true));
    }

    fn head_number(&mut self) -> Result<u64, StoreError> {
        match self.head {
            Some((head, _)) => Ok(head),
            None => {
                let head = number(self.sql("SELECT head FROM hub")?.query_row([], |row| row.get(0))?);
                self.head = Some((head, false));
                Ok(head)
            }
        }
    }
}

/// The signed integer that SQLite keeps for these bits.
pub(super) fn bits(n: u64) -> i64 {
    i64::from_ne_bytes(n.to_ne_bytes())
}

/// The other way.
pub(super) fn number(bits: i64) -> u64 {
    u64::from_ne_bytes(bits.to_ne_bytes())
}

/// The number of an origin or device as it was kept.
pub(super) fn small(kept: i64) -> u32 {
    u32::try_from(kept).unwrap_or(u32::MAX)
}

/// A dot from its three columns.
pub(super) fn dot(origin: i64, stream: i64, seq: i64) -> Result<Dot, StoreError> {
    let stream = Stream::from_number(u8::try_from(stream).unwrap_or(u8::MAX))?;
    Ok(Dot { origin: Origin(small(origin)), stream, seq: Seq(number(seq)) })
}

/// The three columns of a dot.
pub(super) fn columns(dot: Dot) -> (i64, i64, i64) {
    (i64::from(dot.origin.0), i64::from(dot.stream.number()), bits(dot.seq.0))
}

/// The key of a gateway, with no copy of it between the page and what is overwritten; `None` if the column holds something else.
pub(super) fn device_key(column: ValueRef<'_>) -> Option<DeviceKey> {
    Some(DeviceKey(column.as_blob().ok()?.try_into().ok()?))
}

/// Eight bytes, or zeros where the column holds something else.
pub(super) fn short(bytes: &[u8]) -> Short {
    bytes.try_into().unwrap_or_default()
}

impl Snapshot for Tx<'_> {
    type Error = StoreError;

    fn epoch(&mut self) -> Result<Epoch, StoreError> {
        let epoch: i64 = self.sql("SELECT epoch FROM hub")?.query_row([], |row| row.get(0))?;
        Ok(Epoch(small(epoch)))
    }

    fn common(&mut self, epoch: Epoch) -> Result<HubSeq, StoreError> {
        self.common_with(epoch)
    }

    fn given(&mut self, number: HubSeq) -> Result<HubSeq, StoreError> {
        self.given_upto(number)
    }

    fn head(&mut self) -> Result<HubSeq, StoreError> {
        self.head_number().map(HubSeq)
    }

    fn rules(&mut self) -> Result<Arc<Rules>, StoreError> {
        self.rules_in_force()
    }

    fn gateway(&mut self, device: Device) -> Result<Option<Gateway>, StoreError> {
        self.gateway_state(device)
    }

    fn gateways(&mut self) -> Result<Vec<Gateway>, StoreError> {
        self.gateway_states()
    }

    fn device_of(&mut self, origin: Origin) -> Result<Option<Device>, StoreError> {
        let mut select = self.sql("SELECT device FROM origins WHERE origin = ?1")?;
        let device: Option<i64> = select.query_row([origin.0], |row| row.get(0)).optional()?;
        Ok(device.map(|device| Device(small(device))))
    }

    fn origin_before(&mut self, origin: Origin) -> Result<Option<Origin>, StoreError> {
        let mut select = self.sql("SELECT after FROM origins WHERE origin = ?1 AND after <> 0 AND after <> origin")?;
        let before: Option<i64> = select.query_row([origin.0], |row| row.get(0)).optional()?;
        Ok(before.map(|before| Origin(small(before))))
    }

    fn mark(&mut self, origin: Origin, stream: Stream) -> Result<Mark, StoreError> {
        let mut select = self.sql("SELECT acked, chain, durable FROM marks WHERE origin = ?1 AND stream = ?2")?;
        let mark = select.query_row(params![origin.0, stream.number()], |row| {
            let chain: Vec<u8> = row.get(1)?;
            Ok(Mark {
                acked: Seq(number(row.get(0)?)),
                chain: Chain(chain.try_into().unwrap_or_default()),
                durable: Seq(number(row.get(2)?)),
            })
        });
        Ok(mark.optional()?.unwrap_or_default())
    }

    fn chain_at(&mut self, dot: Dot) -> Result<Option<Short>, StoreError> {
        self.chain_after(dot)
    }

    fn op_hash(&mut self, dot: Dot) -> Result<Option<Short>, StoreError> {
        self.hash_at(dot)
    }

    fn ranges(&mut self, origin: Origin, stream: Stream, after: Seq, upto: Seq) -> Result<Vec<AckRange>, StoreError> {
        self.applied_ranges(origin, stream, after, upto)
    }

    fn arrived_as(&mut self, dot: Dot) -> Result<Option<HubSeq>, StoreError> {
        self.number_arrived(dot)
    }

    fn applied_as(&mut self, dot: Dot) -> Result<Option<HubSeq>, StoreError> {
        self.number_applied(dot)
    }

    fn record(&mut self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.cells_of(key)
    }

    fn children(&mut self, parent: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
        self.children_in_scope(parent)
    }

    fn log_after(&mut self, after: HubSeq, limit: usize) -> Result<Vec<LogLine>, StoreError> {
        self.lines_after(after, limit)
    }

    fn held_of(&mut self, key: &RecordKey, origin: Origin) -> Result<Vec<HeldOp>, StoreError> {
        self.held_on(key, origin)
    }

    fn is_any_held(&mut self, key: &RecordKey, origin: Origin) -> Result<bool, StoreError> {
        self.has_held(key, origin)
    }

    fn held_for_person(&mut self, device: Device) -> Result<(u64, u64), StoreError> {
        self.size_for_person(device)
    }

    fn waiting_for(&mut self, key: &RecordKey) -> Result<Vec<(RecordKey, Origin)>, StoreError> {
        self.held_for(key)
    }

    fn origins_held(&mut self, key: &RecordKey) -> Result<Vec<Origin>, StoreError> {
        self.held_by(key)
    }

    fn all_held(&mut self) -> Result<Vec<(RecordKey, Origin)>, StoreError> {
        match &self.review_only {
            Some(only) => Ok(vec![only.clone()]),
            None => self.held_groups(),
        }
    }

    fn digest(&mut self, scopes: &[Scope]) -> Result<u64, StoreError> {
        self.digest_of(scopes)
    }

    fn items(&mut self, scopes: &[Scope]) -> Result<Vec<(u64, RecordKey)>, StoreError> {
        self.items_in(scopes)
    }

    fn writes_of(&mut self, key: &RecordKey) -> Result<Arc<Vec<Op>>, StoreError> {
        self.writes_on(key)
    }

    fn former_keys(&mut self, device: Device) -> Result<Vec<DeviceKey>, StoreError> {
        self.keys_before(device)
    }

    fn revoked_keys(&mut self, device: Device) -> Result<Vec<DeviceKey>, StoreError> {
        self.keys_revoked(device)
    }

    fn rescued_as(&mut self, dot: Dot) -> Result<Vec<Dot>, StoreError> {
        self.names_of(dot)
    }

    fn erasure(&mut self, key: &RecordKey) -> Result<Option<u64>, StoreError> {
        self.erasure_of(key)
    }

    fn erasures_after(&mut self, after: u64, limit: usize) -> Result<Vec<Erasure>, StoreError> {
        self.erasures_later(after, limit)
    }

    fn last_erasure(&mut self) -> Result<u64, StoreError> {
        self.newest_erasure()
    }

    fn dependants(&mut self, parent: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
        self.records_under(parent)
    }

    fn is_for_rescue(&mut self, origin: Origin) -> Result<bool, StoreError> {
        self.is_rescue_origin(origin)
    }

    fn is_followed(&mut self, origin: Origin) -> Result<bool, StoreError> {
        Ok(self
            .sql("SELECT 1 FROM origins WHERE after = ?1 AND after <> 0 AND after <> origin LIMIT 1")?
            .exists([origin.0])?)
    }
}

impl Store for Tx<'_> {
    fn next(&mut self) -> Result<HubSeq, StoreError> {
        let next = HubSeq(self.head_number()?).next();
        self.go_on_after(next);
        Ok(next)
    }

    fn new_origin(&mut self, device: Device, after: Origin) -> Result<Origin, StoreError> {
        let origin = Origin(
            self.next_of_epoch("SELECT max(coalesce(max(origin), 0), ?1) + 1 FROM origins WHERE origin < ?1 + 65536")?,
        );
        self.insert_origin(device, origin, after)?;
        Ok(origin)
    }

    fn claim_origin(&mut self, device: Device, origin: Origin, after: Origin) -> Result<(), StoreError> {
        let (gateway, ..) = self.enrolment_of(device)?;
        let target = json!({ "gateway": gateway, "origin": origin.0, "after": after.0 });
        self.audit(&Actor::hub(), What::ClaimOrigin, &target)?;
        self.insert_origin(device, origin, after)
    }

    fn claim_twin(&mut self, twin: &Gateway) -> Result<(), StoreError> {
        self.insert_lost_twin(twin)
    }

    fn rescue_origin(&mut self, device: Device, after: Origin) -> Result<Origin, StoreError> {
        self.new_rescue_origin(device, after)
    }

    fn note_rescued(&mut self, old: Dot, new: Dot) -> Result<(), StoreError> {
        self.name_rescued(old, new)
    }

    fn new_epoch(&mut self, card: Device, now_ms: u64) -> Result<Option<Epoch>, StoreError> {
        match self.once_more(card, Daily::Loss)? {
            true => self.begin_epoch(now_ms).map(Some),
            false => Ok(None),
        }
    }

    fn may_begin_anew(&mut self, device: Device) -> Result<bool, StoreError> {
        self.once_more(device, Daily::Origin)
    }

    fn may_take_in(&mut self, device: Device) -> Result<bool, StoreError> {
        self.once_more(device, Daily::Found)
    }

    fn part(&mut self, gateway: &Gateway, after: Origin, print: Short) -> Result<Gateway, StoreError> {
        self.part_twin(gateway, after, print)
    }

    fn set_gateway(&mut self, gateway: &Gateway) -> Result<(), StoreError> {
        self.set_gateway_state(gateway)
    }

    fn set_mark(&mut self, origin: Origin, stream: Stream, mark: &Mark) -> Result<(), StoreError> {
        let mut upsert = self.sql(
            "INSERT INTO marks (origin, stream, acked, chain, durable) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET acked = ?3, chain = ?4, durable = ?5",
        )?;
        let (acked, durable) = (bits(mark.acked.0), bits(mark.durable.0));
        upsert.execute(params![origin.0, stream.number(), acked, mark.chain.0, durable])?;
        Ok(())
    }

    fn append(&mut self, arrived: &Arrived<'_>, hseq: HubSeq, is_held: bool) -> Result<(), StoreError> {
        self.append_history(arrived, hseq, is_held)
    }

    fn remember(&mut self, key: &RecordKey, replaced: &[Superseded]) -> Result<(), StoreError> {
        self.remember_replaced(key, replaced)
    }

    fn keep(&mut self, key: &RecordKey, record: Record, parents: &[RecordKey]) -> Result<(), StoreError> {
        let is_new = self.keep_record(key, record)?;
        match is_new && parents.is_empty() {
            true => Ok(()),
            false => self.keep_parents(key, parents),
        }
    }

    fn log(&mut self, line: &LogLine) -> Result<(), StoreError> {
        self.write_line(line)
    }

    fn hold(&mut self, held: &HeldOp, waits_for: &[RecordKey]) -> Result<(), StoreError> {
        self.put_held(held, waits_for)
    }

    fn unhold(&mut self, dot: Dot) -> Result<Option<HeldOp>, StoreError> {
        self.take_held(dot)
    }

    fn note_erasure(&mut self, erasure: &Erasure) -> Result<(), StoreError> {
        self.set_sweep_due()?;
        self.keep_erasure(erasure)
    }

    fn erase_op(&mut self, erased: &Op, hash: Short) -> Result<(), StoreError> {
        self.put_erased(erased, hash)
    }

    fn forget_replaced(&mut self, key: &RecordKey) -> Result<(), StoreError> {
        self.drop_replaced(key)
    }
}
