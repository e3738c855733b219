//! Renumbering: what the hub has not acknowledged goes on under another origin. And pruning, the other change of the history.

use std::collections::{BTreeMap, BTreeSet};

use sync_protocol::digest::Chain;
use sync_protocol::id::{RecordKey, Seq, Stream};
use sync_protocol::record::Op;

use super::history::{FROM_HUB, HistoryRow, PARKED, PENDING, is_unsettled, read_op};
use super::number::{HUB_LANE, lane_end, number as number_of, own, seq};
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
            if self.opened()?.row.is_confirmed {
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
        let new = |number: i64| renamed.get(&number).copied().unwrap_or(number);
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
            at = older;
        }
        // Read again under the new numbers: the record may be an op that has another dot now.
        let open = self.opened()?;
        open.is_new = true;
        self.flush()
    }

    /// Removes the oldest rows of the history, except for the newest `keep` of each lane. Of own ops only those go that the
    /// hub has durably and nobody waits for; a record that was kept as its only op gets a body first. Off unless called.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn prune(&mut self, keep: u64) -> Result<u64, Error> {
        self.flush()?;
        let mut pruned = 0;
        let present = self.cache.incarnation;
        for stream in Stream::ALL {
            let state = *self.cache.state.stream(stream);
            let last = state.durable.0.min(state.last.0.saturating_sub(keep));
            pruned += self.prune_lane(own(present, stream, Seq(0)), own(present, stream, Seq(last)))?;
        }
        let first = number_of(present, HUB_LANE, 0);
        let mut newest = self.db.prepare_cached("SELECT max(number) FROM history WHERE number BETWEEN ?1 AND ?2")?;
        let newest: Option<i64> = newest.query_row((first, lane_end(first)), |row| row.get(0))?;
        let last = newest.map_or(0, seq).saturating_sub(keep);
        pruned += self.prune_lane(first, number_of(present, HUB_LANE, last))?;
        Ok(pruned)
    }

    fn prune_lane(&mut self, after: i64, up_to: i64) -> Result<u64, Error> {
        let mut statement =
            self.db.prepare_cached("SELECT number, fate, op FROM history WHERE number > ?1 AND number <= ?2")?;
        let rows = statement.query_map((after, up_to), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let rows: Vec<(i64, i64, Vec<u8>)> = rows.collect::<Result<_, _>>()?;
        let mut pruned = 0;
        for (number, fate, op) in rows {
            if fate == PENDING || fate == PARKED {
                continue;
            }
            if fate != FROM_HUB {
                // A damaged one stays, so that it goes on being reported.
                let Some(op) = read_op(self.db, self.codec, &op, number)? else { continue };
                self.materialise(&op.key)?;
            }
            self.remove(number)?;
            pruned += 1;
        }
        self.flush()?;
        Ok(pruned)
    }
}
