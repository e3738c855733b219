//! The gateway's memory as the protocol asks for it: [`sync_protocol::gateway::Store`] for a write transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::OptionalExtension;
use sync_protocol::boot::{Boot, Moment};
use sync_protocol::digest::Chain;
use sync_protocol::erase::{Erased, ErasedName};
use sync_protocol::gateway::{Fate, GatewayState, Held, Store};
use sync_protocol::id::{Dot, Origin, RecordKey, Scope, Seq, Stream};
use sync_protocol::merge::Superseded;
use sync_protocol::message::{About, Condition, Plea, Short};
use sync_protocol::record::Op;
use sync_protocol::rules::Rules;

use super::chain::chain_before;
use super::history::{CONFIRMED, DISCARDED, FROM_HUB, PARKED, PENDING, Walk, is_unsettled, read_op};
use super::number::{incarnation, is_hub, lane, lane_end, own, seq};
use super::row::AWAITED;
use super::tx::{Tx, incarnation_of};
use super::{reader, side};
use crate::board;
use crate::error::Error;
use crate::hardware;

impl Store for Tx<'_> {
    type Error = Error;

    fn state(&mut self) -> Result<GatewayState, Error> {
        Ok(self.cache.state.clone())
    }

    fn set_state(&mut self, state: &GatewayState) -> Result<(), Error> {
        let known = &self.cache.state;
        let same_streams = known.streams == state.streams && known.clock == state.clock;
        let without_streams =
            |of: &GatewayState| GatewayState { streams: state.streams, clock: state.clock, ..of.clone() };
        let is_new = without_streams(known) != *state;
        let is_other_origin = known.origin != state.origin;
        self.cache.are_streams_new |= !same_streams;
        self.cache.is_state_new |= is_new;
        self.cache.state = state.clone();
        match is_other_origin {
            true => self.cache.enter_incarnation(self.db),
            false => Ok(()),
        }
    }

    fn rules(&mut self) -> Result<Arc<Rules>, Error> {
        Ok(Arc::clone(&self.cache.rules))
    }

    fn set_rules(&mut self, rules: Arc<Rules>) -> Result<(), Error> {
        let mut insert = self.db.prepare_cached("INSERT OR REPLACE INTO rules (one, text) VALUES (1, ?1)")?;
        insert.execute([rules.text()])?;
        self.cache.rules = rules;
        self.judge_absent_again()
    }

    fn held(&mut self, key: &RecordKey) -> Result<Option<Held>, Error> {
        self.open(key)?;
        self.opened_held()
    }

    fn keep(&mut self, key: &RecordKey, held: &Held) -> Result<(), Error> {
        self.keep_record(key, held)
    }

    fn forget(&mut self, key: &RecordKey) -> Result<(), Error> {
        self.forget_record(key)
    }

    fn append(&mut self, op: &Op, chain: Chain, replaced: &[Superseded]) -> Result<(), Error> {
        self.append_op(op, chain, replaced)
    }

    fn remember(&mut self, key: &RecordKey, replaced: &[Superseded]) -> Result<(), Error> {
        // It goes into one row with the change that follows.
        if let Some((of, known)) = self.cache.remembered.as_mut().filter(|(of, _)| of == key) {
            debug_assert_eq!(of, key);
            known.extend_from_slice(replaced);
            return Ok(());
        }
        if self.cache.remembered.is_some() {
            self.flush_remembered()?;
        }
        self.cache.remembered = Some((key.clone(), replaced.to_vec()));
        Ok(())
    }

    fn own_op(&mut self, dot: Dot) -> Result<Option<Op>, Error> {
        let Some(incarnation) = self.incarnation_of(dot.origin)? else { return Ok(None) };
        Ok(self.op_of_number(own(incarnation, dot.stream, dot.seq))?.map(|op| (*op).clone()))
    }

    /// Stops before a row that is missing, damaged or erased; begins behind it if it is the first. So what is returned is
    /// contiguous, and a caller who goes on from the last op gets everything that can be read.
    fn own_ops(&mut self, stream: Stream, after: Seq, limit: usize) -> Result<Vec<Op>, Error> {
        let from = own(self.cache.incarnation, stream, after);
        let mut statement = self
            .db
            .prepare_cached("SELECT number, op FROM history WHERE number > ?1 AND number <= ?2 ORDER BY number")?;
        let mut rows = statement.query((from, lane_end(from)))?;
        let mut ops: Vec<Op> = Vec::new();
        while ops.len() < limit {
            let Some(row) = rows.next()? else { break };
            let number: i64 = row.get(0)?;
            if number <= from {
                // On a damaged page rows need not be in order, and whoever goes on behind this one would go round for ever.
                return Err(Error::corrupt());
            }
            let is_next = ops.last().is_none_or(|last| last.stamp.dot.seq.next().0 == seq(number));
            let op = read_op(self.db, self.codec, row.get_ref(1)?.as_blob().unwrap_or_default(), number)?;
            match op.filter(|op| !op.is_erased()) {
                Some(op) if is_next => ops.push(op),
                None if ops.is_empty() => {}
                _ => break,
            }
        }
        Ok(ops)
    }

    fn pending(&mut self, key: &RecordKey) -> Result<Vec<Op>, Error> {
        self.open(key)?;
        let (newest, unsettled) = (self.opened()?.row.newest, self.opened()?.row.unsettled);
        let (mut found, mut ops) = (0, Vec::new());
        let mut walk = Walk::new(self.db, newest);
        while found < unsettled {
            let Some(row) = walk.step()? else { break };
            if is_unsettled(row.fate) {
                found += 1;
                ops.extend(read_op(self.db, self.codec, &row.op, row.number)?);
            }
        }
        ops.retain(|op| self.is_to_be_shown(op));
        ops.sort_by_key(|op| op.stamp.marker());
        Ok(ops)
    }

    fn own_of(&mut self, key: &RecordKey) -> Result<Vec<Op>, Error> {
        self.open(key)?;
        let newest = self.opened()?.row.newest;
        let mut walk = Walk::new(self.db, newest);
        let mut ops = Vec::new();
        while let Some(row) = walk.step()? {
            if row.fate != FROM_HUB {
                ops.extend(read_op(self.db, self.codec, &row.op, row.number)?);
            }
        }
        ops.retain(|op| op.stamp.dot.origin == self.cache.state.origin);
        Ok(ops)
    }

    fn unreadable_own(&mut self, key: &RecordKey) -> Result<Vec<Dot>, Error> {
        self.open(key)?;
        let newest = self.opened()?.row.newest;
        let (mut walk, mut dots) = (Walk::new(self.db, newest), Vec::new());
        while let Some(row) = walk.step()? {
            let is_own = row.fate != FROM_HUB && incarnation(row.number) == self.cache.incarnation;
            if is_own && read_op(self.db, self.codec, &row.op, row.number)?.is_none() {
                let stream = Stream::from_number(lane(row.number))?;
                dots.push(Dot { origin: self.cache.state.origin, stream, seq: Seq(seq(row.number)) });
            }
        }
        Ok(dots)
    }

    fn settle_fate(&mut self, dot: Dot, fate: &Fate) -> Result<(), Error> {
        match self.incarnation_of(dot.origin)? {
            Some(incarnation) => self.settle(own(incarnation, dot.stream, dot.seq), fate),
            None => Ok(()),
        }
    }

    fn renumber(&mut self, ops: &[(Seq, Op, Chain)]) -> Result<(), Error> {
        self.move_ops(ops)
    }

    fn restamp(&mut self, ops: &[Op]) -> Result<(), Error> {
        self.restamp_ops(ops)
    }

    fn boots(&mut self) -> Result<Vec<Boot>, Error> {
        self.all_boots()
    }

    fn moments(&mut self, stream: Stream, after: Seq, upto: Seq) -> Result<BTreeMap<Seq, Moment>, Error> {
        self.moments_between(stream, after, upto)
    }

    fn last_moments(&mut self, stream: Stream, after: Seq) -> Result<Vec<(Seq, Moment)>, Error> {
        self.moments_of_boots(stream, after)
    }

    fn chain_at(&mut self, stream: Stream, seq: Seq) -> Result<Option<Short>, Error> {
        let number = own(self.cache.incarnation, stream, seq);
        let mut statement = self.db.prepare_cached("SELECT chain FROM history WHERE number = ?1")?;
        let chain: Option<Vec<u8>> = statement.query_row([number], |row| row.get(0)).optional()?;
        Ok(chain.and_then(|chain| chain.try_into().ok()))
    }

    fn chain_before(&mut self, stream: Stream, seq: Seq) -> Result<Option<Chain>, Error> {
        let before = chain_before(self.db, own(self.cache.incarnation, stream, seq))?;
        // A hub that has not said that it goes on over a gap takes it for a loss.
        Ok(if before.is_some() && self.reader()?.retention()?.takes_gaps { before } else { None })
    }

    fn gaps_are_taken(&mut self) -> Result<(), Error> {
        self.note_gaps_are_taken()
    }

    fn oldest_ms(&mut self, stream: Stream, after: Seq) -> Result<Option<i64>, Error> {
        reader::oldest_ms(self.db, self.codec, own(self.cache.incarnation, stream, after))
    }

    fn digest(&mut self, scopes: &[Scope]) -> Result<u64, Error> {
        let covered = self.cache.scopes.iter().filter(|(path, _)| is_covered(scopes, path));
        Ok(covered.fold(0, |total, (_, scope)| total.wrapping_add(scope.sum)))
    }

    fn items(&mut self, scopes: &[Scope]) -> Result<Vec<u64>, Error> {
        self.flush()?;
        let mut items = Vec::new();
        let covered = |n: i64| self.cache.scopes.iter().any(|(path, scope)| scope.n == n && is_covered(scopes, path));
        let mut known: BTreeMap<i64, bool> = BTreeMap::new();
        let mut statement = self.db.prepare_cached("SELECT scope, item FROM records WHERE is_confirmed = 1")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (n, item): (i64, i64) = (row.get(0)?, row.get(1)?);
            if *known.entry(n).or_insert_with(|| covered(n)) {
                items.push(item as u64);
            }
        }
        Ok(items)
    }

    /// Looks through the whole table: it is asked after a digest disagreed, which is a bug somewhere and rare, and an index
    /// would cost a page in every commit.
    fn keys_of_items(&mut self, items: &[u64]) -> Result<Vec<RecordKey>, Error> {
        self.flush()?;
        let wanted: BTreeSet<i64> = items.iter().map(|item| *item as i64).collect();
        let mut statement = self.db.prepare_cached(
            "SELECT (SELECT name FROM types WHERE n = type), id, item FROM records WHERE is_confirmed = 1",
        )?;
        let mut rows = statement.query([])?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            if wanted.contains(&row.get(2)?) {
                let (record_type, id) = reader::names(row)?;
                keys.push(RecordKey::new(&record_type, &id)?);
            }
        }
        Ok(keys)
    }

    fn outside(&mut self, scopes: &[Scope], limit: usize) -> Result<Vec<RecordKey>, Error> {
        let outside = self.cache.scopes.iter().filter(|(path, scope)| scope.records > 0 && !is_covered(scopes, path));
        let outside: Vec<i64> = outside.map(|(_, scope)| scope.n).collect();
        let mut keys = Vec::new();
        if outside.is_empty() {
            return Ok(keys);
        }
        self.flush()?;
        let mut statement =
            self.db.prepare_cached("SELECT (SELECT name FROM types WHERE n = type), id FROM records WHERE scope = ?1 AND is_confirmed IN (1, 3) LIMIT ?2")?;
        for n in outside {
            let room = limit.saturating_sub(keys.len()) as i64;
            for names in statement.query_map((n, room), reader::names)? {
                let (record_type, id) = names?;
                keys.push(RecordKey::new(&record_type, &id)?);
            }
        }
        Ok(keys)
    }

    fn awaited(&mut self, limit: usize) -> Result<Vec<RecordKey>, Error> {
        self.flush()?;
        // Of one that a damaged database left nothing but its name there is no tag: it may never have been at the hub.
        let mut statement = self.db.prepare_cached(
            "SELECT (SELECT name FROM types WHERE n = type), id FROM damage JOIN records ON feed = number \
             WHERE place = 0 AND is_confirmed = ?1 AND NOT is_pending AND etag <> x'' LIMIT ?2",
        )?;
        let names = statement.query_map((AWAITED, limit as i64), reader::names)?;
        names.map(|names| names.map_err(Error::from).and_then(|(kind, id)| Ok(RecordKey::new(&kind, &id)?))).collect()
    }

    fn erasure(&mut self, key: &RecordKey) -> Result<Option<u64>, Error> {
        Ok(self.erasure_of(key))
    }

    fn note_erasures(&mut self, erased: &[Erased]) -> Result<(), Error> {
        self.keep_erasures(erased)
    }

    fn keys_named(&mut self, names: &BTreeSet<ErasedName>) -> Result<Vec<RecordKey>, Error> {
        self.named(names)
    }

    fn erase(&mut self, key: &RecordKey) -> Result<(), Error> {
        self.erase_history(key)
    }

    fn pleas(&mut self) -> Result<Vec<Plea>, Error> {
        side::pleas(self.db)
    }

    fn clear_pleas(&mut self, told: &[Plea]) -> Result<(), Error> {
        side::clear_pleas(self.db, told)
    }

    fn about(&mut self) -> Result<About, Error> {
        let disk = rustix::fs::statvfs(self.dir).map_err(std::io::Error::from)?;
        let records = self.reader()?.types()?.iter().map(|(_, count)| count).sum();
        Ok(About {
            version: self.version.to_owned(),
            disk_free: disk.f_bavail.saturating_mul(disk.f_frsize),
            records,
            print: hardware::print(),
            ..About::default()
        })
    }

    fn condition(&mut self, anew: bool) -> Result<Option<Condition>, Error> {
        let condition = board::here().condition();
        Ok(Some(condition).filter(|_| anew || self.cache.condition != Some(condition)))
    }

    fn condition_told(&mut self, told: Condition) -> Result<(), Error> {
        self.cache.condition = Some(told);
        Ok(())
    }
}

/// Whether a scope belongs to one of these.
pub(super) fn is_covered(scopes: &[Scope], path: &Scope) -> bool {
    scopes.iter().any(|prefix| prefix.covers(path))
}

impl Tx<'_> {
    /// The number of an incarnation, the present one or one before it.
    fn incarnation_of(&self, origin: Origin) -> Result<Option<i64>, Error> {
        match origin == self.cache.state.origin {
            true => Ok(Some(self.cache.incarnation)),
            false => incarnation_of(self.db, origin),
        }
    }

    /// Writes what was remembered for a record that then did not change.
    pub(super) fn flush_remembered(&mut self) -> Result<(), Error> {
        let Some((key, superseded)) = self.cache.remembered.take() else { return Ok(()) };
        self.open(&key)?;
        self.opened_held()?;
        self.write_hub_change(&[], None, &superseded)
    }

    fn settle(&mut self, number: i64, fate: &Fate) -> Result<(), Error> {
        let mut statement = self.db.prepare_cached("SELECT fate, hseq FROM history WHERE number = ?1")?;
        let known: Option<(i64, i64)> =
            statement.query_row([number], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((old, old_hseq)) = known.filter(|_| !is_hub(number)) else { return Ok(()) };
        if matches!(fate, Fate::Parked(_)) && self.op_of_number(number)?.is_some_and(|op| op.is_erased()) {
            return Ok(());
        }
        let (new, hseq, reason) = match fate {
            Fate::Unsent => (PENDING, 0, None),
            Fate::Confirmed(hseq) => (CONFIRMED, hseq.0 as i64, None),
            Fate::Parked(reason) => (PARKED, old_hseq, Some(reason)),
            Fate::Discarded(reason) => (DISCARDED, old_hseq, Some(reason)),
        };
        let mut update = self.db.prepare_cached("UPDATE history SET fate = ?2, hseq = ?3 WHERE number = ?1")?;
        update.execute((number, new, hseq))?;
        if let Some(reason) = reason {
            side::note(self.db, number, new, reason, self.now_ms())?;
        } else if old != PENDING && old != CONFIRMED {
            self.db.prepare_cached("DELETE FROM notes WHERE number = ?1")?.execute([number])?;
        }
        if is_unsettled(old) != is_unsettled(new) {
            let more = if is_unsettled(new) { 1 } else { -1 };
            // Of a damaged op nobody knows the record; its count stays one too high, which costs a longer walk.
            if let Some(op) = self.op_of_number(number)? {
                self.open(&op.key)?;
                let open = self.opened()?;
                (open.row.unsettled, open.is_new) = (open.row.unsettled + more, true);
            }
        }
        Ok(())
    }

    /// Whether a deleted record is there is for the rules to say, so other rules may say otherwise.
    fn judge_absent_again(&mut self) -> Result<(), Error> {
        self.flush()?;
        let mut statement = self.db.prepare_cached(
            "SELECT (SELECT name FROM types WHERE n = type), id FROM records WHERE presence IN (1, 2)",
        )?;
        let names: Vec<(String, String)> = statement.query_map([], reader::names)?.collect::<Result<_, _>>()?;
        for (record_type, id) in names {
            let key = RecordKey::new(&record_type, &id)?;
            if let Some(held) = self.held(&key)? {
                self.keep(&key, &held)?;
            }
        }
        Ok(())
    }
}
