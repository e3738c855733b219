//! Renumbering: what the hub has not acknowledged goes on under another origin.

use std::collections::{BTreeMap, BTreeSet};

use sync_protocol::digest::Chain;
use sync_protocol::id::{RecordKey, Seq};
use sync_protocol::record::Op;

use super::history::{HistoryRow, PENDING, is_unsettled};
use super::number::own;
use super::tx::{Tx, incarnation_or_new};
use crate::error::Error;

impl Tx<'_> {
    /// Gives own ops of the present origin other numbers, and what they became: a few of the tail, under the origin that comes.
    /// A damaged row stays where it is: it cannot be sent, but a person may still want to look at it.
    pub(super) fn move_ops(&mut self, ops: &[(Seq, Op, Chain)]) -> Result<(), Error> {
        self.flush()?;
        let keys: BTreeSet<&RecordKey> = ops.iter().map(|(_, op, _)| &op.key).collect();
        for key in &keys {
            self.open(key)?;
            if self.opened()?.row.is_at_hub() {
                // What the hub confirmed bears the old name.
                self.materialise(key)?;
            }
        }
        self.flush()?;
        let mut renamed = BTreeMap::new();
        let mut more: BTreeMap<&RecordKey, i64> = BTreeMap::new();
        for (before, op, chain) in ops {
            let dot = op.stamp.dot;
            let number = own(incarnation_or_new(self.db, dot.origin)?, dot.stream, dot.seq);
            let before = own(self.cache.incarnation, dot.stream, *before);
            let was = HistoryRow::find(self.db, before)?;
            let blank = HistoryRow { number, ..HistoryRow::blank() };
            let row = HistoryRow {
                number,
                fate: PENDING,
                hseq: 0,
                chain: chain.short().to_vec(),
                op: self.codec.pack_op(op)?,
                ..was.clone().unwrap_or(blank)
            };
            if let Some(was) = was {
                self.remove(was.number)?;
                renamed.insert(was.number, number);
                *more.entry(&op.key).or_default() += i64::from(!is_unsettled(was.fate));
            }
            row.insert(self.db)?;
        }
        keys.iter().try_for_each(|key| self.relink(key, &renamed, more.get(key).copied().unwrap_or(0)))
    }

    fn remove(&self, number: i64) -> Result<(), Error> {
        self.db.prepare_cached("DELETE FROM history WHERE number = ?1")?.execute([number])?;
        self.db.prepare_cached("DELETE FROM notes WHERE number = ?1")?.execute([number])?;
        Ok(())
    }

    /// Makes the history of a record a list again after some of its rows got other numbers.
    fn relink(&mut self, key: &RecordKey, renamed: &BTreeMap<i64, i64>, more: i64) -> Result<(), Error> {
        let new = |number: i64| number.signum() * renamed.get(&number.abs()).copied().unwrap_or(number.abs());
        self.open(key)?;
        let row = &mut self.opened()?.row;
        (row.newest, row.unsettled) = (new(row.newest), row.unsettled + more);
        let mut at = row.newest;
        while let Some(row) = HistoryRow::find(self.db, at)? {
            let older = new(row.older);
            if older != row.older {
                let mut update = self.db.prepare_cached("UPDATE history SET older = ?2 WHERE number = ?1")?;
                update.execute((row.number, older))?;
            }
            at = older.abs();
        }
        // Read again under the new numbers: the record may be an op that has another dot now.
        let open = self.opened()?;
        open.is_new = true;
        self.flush()
    }
}
