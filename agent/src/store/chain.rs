//! The chain over own ops, computed again from what the card has.
//!
//! A row keeps the short chain after it, which tells histories apart. To go on behind ops that are not here any more a hub needs the
//! whole chain, so before an op goes it is computed from the nearest place where it is known: the beginning of the stream, or a row of
//! `gaps`.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension};
use sync_protocol::digest::Chain;
use sync_protocol::record::Op;

use super::codec::Codec;
use super::history::read_op;
use super::number::{lane_end, seq};
use crate::error::Error;

/// Ops that are gone through at once. What lies further behind the last place where the chain is known is taken for lost by a hub
/// that is put back.
const OPS_MAX: i64 = 1_000_000;

/// Goes along a stream of own ops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Along {
    after: i64,
    chain: Option<Chain>,
}

impl Along {
    /// Begins behind the op of this number.
    pub(super) fn from(after: i64, chain: Chain) -> Along {
        Along { after, chain: Some(chain) }
    }

    /// Begins before the op of this number, at the nearest place where the chain is known.
    fn before(db: &Connection, number: i64) -> Result<Along, Error> {
        let zero = number - seq(number) as i64;
        let mut nearest = db.prepare_cached("SELECT max(number) FROM gaps WHERE number > ?1 AND number <= ?2")?;
        let nearest: Option<i64> = nearest.query_row((zero, number), |row| row.get(0))?;
        let chain = nearest.map_or(Ok(Some(Chain::default())), |nearest| chain_before(db, nearest))?;
        Ok(Along { after: nearest.map_or(zero, |nearest| nearest - 1), chain })
    }

    /// Takes the next row with its op, if that can be read, and the short chain that it has. Gives the chain after it; `None` if it cannot
    /// be told: something is missing or damaged, or was written by a program with another chain.
    pub(super) fn pass(
        &mut self,
        db: &Connection,
        number: i64,
        op: Option<&Op>,
        short: &[u8],
    ) -> Result<Option<Chain>, Error> {
        if self.chain.is_none() || number != self.after + 1 {
            self.chain = chain_before(db, number)?;
        }
        let chain = match op.filter(|op| !op.is_erased()) {
            Some(op) => self.chain.map(|chain| chain.extend(op)),
            None => chain_before(db, number + 1)?,
        };
        (self.after, self.chain) = (number, chain.filter(|chain| chain.short() == short));
        Ok(self.chain)
    }
}

/// The chain after each of these own ops of one incarnation, as far as it can be told.
pub(super) fn chains_after(
    db: &Connection,
    codec: &Codec,
    numbers: &BTreeSet<i64>,
) -> Result<BTreeMap<i64, Chain>, Error> {
    let mut chains = BTreeMap::new();
    let mut from = i64::MIN;
    while let Some(first) = numbers.range(from..).next().copied() {
        from = lane_end(first) + 1;
        let last = numbers.range(first..from).next_back().copied().unwrap_or(first);
        let mut along = Along::before(db, first)?;
        let mut statement = db.prepare_cached(
            "SELECT number, chain, op FROM history WHERE number > ?1 AND number <= ?2 ORDER BY number LIMIT ?3",
        )?;
        let mut rows = statement.query((along.after, last, OPS_MAX))?;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            let op = read_op(db, codec, row.get_ref(2)?.as_blob().unwrap_or_default(), number)?;
            let chain = along.pass(db, number, op.as_ref(), row.get_ref(1)?.as_blob().unwrap_or_default())?;
            chains.extend(chain.filter(|_| numbers.contains(&number)).map(|chain| (number, chain)));
        }
    }
    Ok(chains)
}

/// Keeps the chain after an own op that goes, for the op that follows on it.
pub(super) fn keep_chain_after(db: &Connection, number: i64, chain: Chain) -> Result<(), Error> {
    let mut insert = db.prepare_cached("INSERT OR REPLACE INTO gaps (number, chain) VALUES (?1, ?2)")?;
    insert.execute((number + 1, chain.0))?;
    Ok(())
}

/// The chain before an own op that follows on ones that were forgotten or erased.
pub(super) fn chain_before(db: &Connection, number: i64) -> Result<Option<Chain>, Error> {
    let mut statement = db.prepare_cached("SELECT chain FROM gaps WHERE number = ?1")?;
    let chain: Option<Vec<u8>> = statement.query_row([number], |row| row.get(0)).optional()?;
    Ok(chain.and_then(|chain| chain.try_into().ok()).map(Chain))
}

/// Whether there is an own op after `after`, up to `last`, that can be sent as far as is known: it is neither erased nor damaged.
pub(super) fn is_any_left(db: &Connection, after: i64, last: i64) -> Result<bool, Error> {
    let mut statement = db.prepare_cached(
        "SELECT 1 FROM history AS own WHERE number > ?1 AND number <= ?2 \
         AND NOT EXISTS (SELECT 1 FROM gaps WHERE gaps.number = own.number + 1) \
         AND NOT EXISTS (SELECT 1 FROM damage WHERE place = 1 AND damage.number = own.number) LIMIT 1",
    )?;
    Ok(statement.exists((after, last))?)
}
