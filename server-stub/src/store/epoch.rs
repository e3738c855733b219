//! Epochs: which history of the hub its numbers belong to.

use rusqlite::{OptionalExtension, Row, params};
use serde_json::json;
use sync_protocol::digest::Chain;
use sync_protocol::hub::{Snapshot, first_number};
use sync_protocol::id::{Device, Epoch, HubSeq, Origin, Stream};

use super::Tx;
use super::tx::{bits, number};
use crate::audit::{Actor, What};
use crate::error::StoreError;
use crate::secret;

/// Epochs that a hub has: half of those that its numbers can tell apart, so that one that is free is drawn soon. A restore every day
/// uses them up in ninety years; a gateway that says each day as often as it may that the hub was put back, in four.
const EPOCHS_MAX: usize = 0x8000;

/// Epochs with the head at which each began, oldest first.
type Lineage = Vec<(u32, u64)>;

impl Tx<'_> {
    fn lineage(&mut self) -> Result<Lineage, StoreError> {
        let text: String = self.sql("SELECT lineage FROM hub")?.query_row([], |row| row.get(0))?;
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Where the first epoch after this one began; the beginning of all numbers if this lineage does not have it.
    pub(super) fn common_with(&mut self, epoch: Epoch) -> Result<HubSeq, StoreError> {
        let lineage = self.lineage()?;
        let later = lineage.iter().skip_while(|(known, _)| *known != epoch.0).skip(1);
        Ok(later.map(|(_, began)| HubSeq(*began)).min().unwrap_or(HubSeq::NONE))
    }

    /// The last number at or before this one that this hub can have given.
    pub(super) fn given_upto(&mut self, seq: HubSeq) -> Result<HubSeq, StoreError> {
        let mut select = self.sql("SELECT before, last FROM skipped WHERE before < ?1 ORDER BY before DESC LIMIT 1")?;
        let left_out = |row: &Row<'_>| Ok((number(row.get(0)?), number(row.get(1)?)));
        let last = select.query_row([bits(seq.0)], left_out).optional()?;
        Ok(last.filter(|(_, last)| seq.0 < *last).map_or(seq, |(before, _)| HubSeq(before)))
    }

    /// Notes where the numbers stand when the program begins to serve, and goes on behind those that it may have given in a time
    /// that it lost: if it turns out that this is an older copy of the hub, its new epoch began here.
    pub(crate) fn note_start(&mut self) -> Result<(), StoreError> {
        self.sql("UPDATE hub SET started = ?1")?.execute([bits(self.head()?.0)])?;
        self.skip(u64::try_from(self.now_ms).unwrap_or(0))
    }

    fn skip(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let before = self.head()?.0;
        let last = first_number(before, now_ms);
        self.go_on_after(HubSeq(last));
        self.sql("INSERT INTO skipped (before, last) VALUES (?1, ?2)")?.execute([bits(before), bits(last)])?;
        for stream in Stream::ALL {
            let first = first_number(self.mark(Origin::HUB, stream)?.acked.0, now_ms);
            let mut skip = self.sql(
                "INSERT INTO marks (origin, stream, acked, chain, durable) VALUES (?1, ?2, ?3, ?4, 0)
                 ON CONFLICT DO UPDATE SET acked = ?3",
            )?;
            let chain = Chain::default();
            skip.execute(params![Origin::HUB.0, stream.number(), bits(first), chain.0])?;
        }
        Ok(())
    }

    /// Begins an epoch. Its number is random: a hub that is put back twice to one backup must not give one number twice.
    pub(crate) fn begin_epoch(&mut self, now_ms: u64) -> Result<Epoch, StoreError> {
        let lineage = self.lineage()?;
        if lineage.len() >= EPOCHS_MAX {
            return Err(StoreError::Epochs);
        }
        let epoch = loop {
            let epoch = secret::epoch()?;
            let is_known = lineage.iter().any(|(known, _)| known & 0xffff == epoch & 0xffff);
            if !is_known && epoch & 0xffff > 1 {
                break epoch;
            }
        };
        self.enter_epoch(Epoch(epoch), now_ms)?;
        self.audit(&Actor::hub(), What::BeginEpoch, &json!({ "epoch": epoch }))?;
        Ok(Epoch(epoch))
    }

    pub(super) fn insert_origin(&mut self, device: Device, origin: Origin, after: Origin) -> Result<(), StoreError> {
        let mut insert = self.sql("INSERT INTO origins (origin, device, after) VALUES (?1, ?2, ?3)")?;
        insert.execute(params![origin.0, device.0, after.0])?;
        Ok(())
    }

    /// The next number of this epoch, of origins or of devices. There are 65,535 of each; whoever needs another one begins the next
    /// epoch. So does who finds that somebody claimed the last one as given in a time that was lost.
    pub(super) fn next_of_epoch(&mut self, sql: &'static str) -> Result<u32, StoreError> {
        loop {
            let epoch = self.epoch()?;
            let next: i64 = self.sql(sql)?.query_row([Origin::before(epoch).0], |row| row.get(0))?;
            match u32::try_from(next) {
                Ok(next) if Origin(next).is_of(epoch) => return Ok(next),
                _ => self.begin_epoch(u64::try_from(self.now_ms).unwrap_or(0))?,
            };
        }
    }

    /// Begins an epoch of this number.
    ///
    /// # Errors
    /// What the database reports.
    pub fn enter_epoch(&mut self, epoch: Epoch, now_ms: u64) -> Result<(), StoreError> {
        let (mut lineage, Epoch(epoch)) = (self.lineage()?, epoch);
        let started: i64 = self.sql("SELECT started FROM hub")?.query_row([], |row| row.get(0))?;
        lineage.push((epoch, number(started)));
        let text = serde_json::Value::from(lineage.iter().map(|(e, at)| vec![u64::from(*e), *at]).collect::<Vec<_>>());
        self.sql("UPDATE hub SET epoch = ?1, lineage = ?2")?
            .execute(params![bits(u64::from(epoch)), text.to_string()])?;
        self.skip(now_ms)?;
        tracing::warn!(
            epoch,
            began = started,
            "a new epoch of this hub began: its gateways compare with it what they hold"
        );
        Ok(())
    }
}
