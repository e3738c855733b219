//! The audit's table, and its head in a file beside the database.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value as Json, json};
use sync_protocol::id::Device;

use super::Tx;
use super::tx::{bits, number};
use crate::audit::{Actor, Entry, Head, Judge, Known, Verdict, What};
use crate::error::StoreError;

/// Entries that are read at a time.
const STEP: usize = 1_000;
/// The file that holds the head a second time.
const HEAD_FILE: &str = "audit.head";
static HEADS_WRITTEN: AtomicU64 = AtomicU64::new(0);

impl Tx<'_> {
    /// Writes down what this transaction does. `target` has ids, names and counts, and no value of a record.
    pub(crate) fn audit(&mut self, actor: &Actor, what: What, target: &Json) -> Result<(), StoreError> {
        let Head { number, hash } = self.audit_head()?;
        let Actor { who, source } = actor.clone();
        let (what, target) = (what.name(), target.to_string());
        let mut entry = Entry { number: number + 1, at_ms: self.now_ms, who, source, what, target, hash };
        entry.hash = entry.hash_after(&hash);
        let Entry { number, at_ms, who, source, what, target, hash } = entry;
        let mut insert = self.sql(
            "INSERT INTO audit (number, at_ms, who, source, what, target, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        insert.execute(params![bits(number), at_ms, who, source, what, target, hash])?;
        self.audited = self.audited.max(Audited::On);
        Ok(())
    }

    /// The newest entry; nothing and zeros if there is none.
    pub(crate) fn audit_head(&mut self) -> Result<Head, StoreError> {
        let mut select = self.sql("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")?;
        let head = select.query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))).optional()?;
        Ok(head.map_or_else(Head::default, |(at, hash)| Head {
            number: number(at),
            hash: hash.try_into().unwrap_or_default(),
        }))
    }

    /// Entries after a number, oldest first: at most `limit`.
    pub(crate) fn audit_after(&mut self, after: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let mut select = self.sql(
            "SELECT number, at_ms, who, source, what, target, hash FROM audit WHERE number > ?1 ORDER BY number LIMIT ?2",
        )?;
        let rows = select.query_map([bits(after), bits(limit as u64)], |row| {
            Ok(Entry {
                number: number(row.get(0)?),
                at_ms: row.get(1)?,
                who: row.get(2)?,
                source: row.get(3)?,
                what: row.get(4)?,
                target: row.get(5)?,
                hash: row.get::<_, Vec<u8>>(6)?.try_into().unwrap_or_default(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Does something with each entry after a number.
    pub(crate) fn each_audited<E: From<StoreError>>(
        &mut self,
        mut after: u64,
        mut act: impl FnMut(&Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let step = self.audit_after(after, STEP)?;
            let Some(last) = step.last() else { return Ok(()) };
            after = last.number;
            step.iter().try_for_each(&mut act)?;
        }
    }

    /// Writes down what a gateway did from an address, or had done.
    pub(crate) fn audit_gateway(
        &mut self,
        (by, from): (Device, Option<IpAddr>),
        what: What,
        target: &Json,
    ) -> Result<(), StoreError> {
        let (name, ..) = self.enrolment_of(by)?;
        self.audit(&Actor::at(format!("gateway:{name}"), from), what, target)
    }

    /// Writes down that a gateway handed in what the card of one still held, be it its own.
    pub(crate) fn audit_hand_in(
        &mut self,
        by: (Device, Option<IpAddr>),
        of: Device,
        (taken, held): (u64, u64),
    ) -> Result<(), StoreError> {
        let (gateway, ..) = self.enrolment_of(of)?;
        self.audit_gateway(by, What::HandIn, &json!({ "gateway": gateway, "taken": taken, "held": held }))
    }

    /// Computes the chain anew.
    pub(crate) fn audit_verdict(&mut self, known: Vec<Known>) -> Result<Verdict, StoreError> {
        let mut judge = Judge::new(known);
        self.each_audited(0, |entry| {
            judge.look(entry);
            Ok::<_, StoreError>(())
        })?;
        Ok(judge.verdict())
    }

    /// Whether the chain has this head, as it has the beginning of all.
    fn has_head(&mut self, head: Option<Head>) -> Result<bool, StoreError> {
        let Some(head) = head.filter(|head| head.number > 0) else { return Ok(true) };
        let there = self.audit_after(head.number - 1, 1)?;
        Ok(there.first().is_some_and(|entry| Head { number: entry.number, hash: entry.hash } == head))
    }

    /// Notes that this file is not the one which the head beside it belongs to: somebody copied an older one back, or cut it.
    pub(crate) fn audit_start(&mut self, beside: Option<Head>) -> Result<(), StoreError> {
        if self.has_head(beside)? {
            return Ok(());
        }
        let (found, known) = (self.audit_head()?, beside.unwrap_or_default());
        tracing::warn!(
            found = found.number,
            known = known.number,
            "the audit is not the one that its head file knows: hub.db was put back by hand, or cut"
        );
        let target = json!({ "found": found.to_string(), "in_place_of": known.to_string() });
        self.audit(&Actor::hub(), What::RestoreByHand, &target)?;
        self.begin_anew()
    }

    /// Notes that a backup was put in the place of a database whose head was `before`.
    pub(crate) fn audit_restore(&mut self, actor: &Actor, before: Option<Head>) -> Result<(), StoreError> {
        let found = self.audit_head()?;
        let target = json!({ "found": found.to_string(), "in_place_of": before.unwrap_or_default().to_string() });
        self.audit(actor, What::Restore, &target)?;
        self.begin_anew()
    }

    /// Sessions that had ended since are in an older file again.
    fn begin_anew(&mut self) -> Result<(), StoreError> {
        self.sql("DELETE FROM sessions")?.execute([])?;
        self.audited = Audited::Anew;
        Ok(())
    }
}

/// What has to become of the head beside the database when a transaction is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Audited {
    /// Nothing was written down.
    #[default]
    No,
    /// It goes on.
    On,
    /// It begins anew: the chain says itself that it is another one than the head knew.
    Anew,
}

/// Writes the head beside the database. It is a second place and no more: if it cannot be written, the entry stands all the same.
/// A head that the chain does not have is left as it is, for `audit verify` to find.
pub(super) fn write_head(conn: &Connection, folder: &Path, audited: Audited) -> Result<(), StoreError> {
    let mut tx = None;
    let mut tx = Tx::new(conn, &mut tx, 0);
    let beside = head_beside(folder);
    if audited == Audited::On && !tx.has_head(beside)? {
        tracing::error!("the audit does not go on from its head file; see: outpost-hub audit verify");
        return Ok(());
    }
    let head = tx.audit_head()?;
    // A hub and commands write at the same time: each its own, and the last one to move it wins.
    let nth = HEADS_WRITTEN.fetch_add(1, Ordering::Relaxed);
    let part = folder.join(format!("{HEAD_FILE}.{}-{nth}", std::process::id()));
    let place = folder.join(HEAD_FILE);
    fs::write(&part, format!("{head}\n")).and_then(|()| fs::rename(&part, &place))?;
    Ok(())
}

/// The head as it stands beside the database; `None` if there is no such file, or one that cannot be read as a head.
pub(crate) fn head_beside(folder: &Path) -> Option<Head> {
    fs::read_to_string(folder.join(HEAD_FILE)).ok()?.parse().ok()
}
