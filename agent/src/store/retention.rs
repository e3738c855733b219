//! Forgetting what nobody needs any more of the history; [`sync_protocol::gateway::retention`] says what that is.
//!
//! It is gone through in small steps: a reader finds what may go, on a snapshot, and a write transaction of a few rows looks again
//! and removes it. A row of the history does not name its record, and a record does not say what its rows are, so there are two
//! ways through: own ops in the order of their numbers, which is that of their chain, and changes from the hub record by record.
//!
//! # Invariants
//! - The newest row of a record stays, and its newest own op, so that going back from what is shown begins at the right place. Where rows are missing in
//!   the list of a record its link is negative: what stands before cannot be rebuilt across it.
//! - Before an own op that follows on forgotten ones stands its chain in `gaps`, for a hub that is put back. Behind one that was erased,
//!   and stays, it stands there, too.
//! - The last row of each lane that was there at a milestone stays, so that no number is given twice.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};
use sync_protocol::digest::Chain;
use sync_protocol::gateway::retention::{Milestone, Reach, is_spent, is_worth_noting, milestone, reach};
use sync_protocol::gateway::{GatewayState, Held};
use sync_protocol::id::{Epoch, HubSeq, Origin, RecordKey, Seq, Stream};
use sync_protocol::record::{Change, Op};

use super::chain::Along;
use super::codec::Codec;
use super::history::{CONFIRMED, FROM_HUB, HistoryRow, read_op};
use super::number::{HUB_LANE, incarnation, is_hub, lane, lane_end, number, own, seq};
use super::reader::{Reader, names};
use super::row::Row;
use super::tx::{Tx, incarnation_of};
use crate::error::Error;

/// The link of a row behind which all older ones were forgotten: the number of no row.
pub(super) const NOTHING_OLDER: i64 = -(4 << 36);
/// Rows of one record that are removed at once.
const TOGETHER_MAX: usize = 64;
/// Rows of one record that are looked at for it. A longer list is left as it is.
const LIST_MAX: usize = 20_000;

/// How retention went so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Whether the hub takes a stream over ops that were forgotten; without that nothing is.
    pub takes_gaps: bool,
    /// When the history was last gone through to its end, milliseconds since 1970; 0 if never.
    pub passed_ms: i64,
    /// Own ops forgotten in all.
    pub ops: u64,
    /// Changes from the hub forgotten in all.
    pub changes: u64,
}

/// Where going through the history has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassAt(At);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Own ops of a stream, with the chain there.
    Own { stream: Stream, after: Seq, chain: Chain },
    /// Records after this place in the feed.
    Record { feed: i64 },
}

impl Default for PassAt {
    fn default() -> Self {
        PassAt(At::Own { stream: Stream::Urgent, after: Seq(0), chain: Chain::default() })
    }
}

/// Rows of one record that seem to be of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgettable {
    key: RecordKey,
    /// Their numbers; with an own op of the present origin the chain after it.
    rows: BTreeMap<i64, Option<Chain>>,
}

impl Forgettable {
    /// How many there are.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }
}

/// What was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// Own ops.
    pub ops: u64,
    /// Changes from the hub.
    pub changes: u64,
}

impl Forgotten {
    /// Whether it was all that is done at once, so that there may be more.
    pub fn is_part(&self) -> bool {
        self.ops + self.changes >= TOGETHER_MAX as u64
    }

    /// These and those.
    #[must_use]
    pub fn and(self, other: Forgotten) -> Forgotten {
        Forgotten { ops: self.ops + other.ops, changes: self.changes + other.changes }
    }
}

/// What time it is for retention: neither the box nor the hub says that it is later.
fn known_ms(state: &GatewayState, now_ms: i64) -> i64 {
    now_ms.min(state.floor_ms)
}

impl Reader<'_> {
    /// How retention went so far.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn retention(&self) -> Result<Retention, Error> {
        let mut statement = self.db.prepare_cached("SELECT takes_gaps, passed_ms, ops, changes FROM retention")?;
        let read = |row: &rusqlite::Row<'_>| {
            let (ops, changes): (i64, i64) = (row.get(2)?, row.get(3)?);
            let (takes_gaps, passed_ms) = (row.get(0)?, row.get(1)?);
            Ok(Retention { takes_gaps, passed_ms, ops: ops as u64, changes: changes as u64 })
        };
        Ok(statement.query_row([], read).optional()?.unwrap_or_default())
    }

    /// How far the history may be gone through, if what was safe so long ago may go.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn retention_reach(&self, now_ms: i64, age_ms: i64) -> Result<Option<Reach>, Error> {
        let state = self.state()?;
        Ok(reach(&self.milestones()?, &state, known_ms(&state, now_ms), age_ms))
    }

    fn milestones(&self) -> Result<Vec<Milestone>, Error> {
        let mut statement = self.db.prepare_cached(
            "SELECT at_ms, epoch, origin, urgent, normal, bulk, changes FROM milestones ORDER BY at_ms",
        )?;
        let read = |row: &rusqlite::Row<'_>| {
            let numbers: [i64; 4] = [row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?];
            let [urgent, normal, bulk, changes] = numbers.map(|number| number as u64);
            let (epoch, origin) = (Epoch(row.get(1)?), Origin(row.get(2)?));
            let durable = [Seq(urgent), Seq(normal), Seq(bulk)];
            Ok(Milestone { at_ms: row.get(0)?, epoch, origin, durable, changes })
        };
        Ok(statement.query_map([], read)?.collect::<Result<_, _>>()?)
    }

    /// Whether what is safe now is to be noted.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn is_milestone_due(&self, now_ms: i64) -> Result<bool, Error> {
        Ok(self.next_milestone(now_ms)?.is_some())
    }

    /// The number of the last change from the hub under the present origin.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn last_change(&self) -> Result<u64, Error> {
        let first = number(incarnation_of(self.db, self.state()?.origin)?.unwrap_or(0), HUB_LANE, 0);
        let mut newest = self.db.prepare_cached("SELECT max(number) FROM history WHERE number BETWEEN ?1 AND ?2")?;
        let newest: Option<i64> = newest.query_row((first, lane_end(first)), |row| row.get(0))?;
        Ok(newest.map_or(0, seq))
    }

    /// What is to be noted now, if the hub will take a stream over what is forgotten.
    fn next_milestone(&self, now_ms: i64) -> Result<Option<Milestone>, Error> {
        let (state, known) = (self.state()?, self.milestones()?);
        let now = milestone(&state, self.last_change()?, known_ms(&state, now_ms));
        let takes_gaps = self.retention()?.takes_gaps;
        Ok(now.filter(|now| takes_gaps && is_worth_noting(known.last(), now)))
    }

    /// The next rows that seem to be of no use, of those within reach, and where to go on; `None` at the end. Looks at so many
    /// rows or records.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn forgettable(
        &self,
        at: PassAt,
        reach: &Reach,
        limit: usize,
    ) -> Result<(Vec<Forgettable>, Option<PassAt>), Error> {
        match at.0 {
            At::Own { stream, after, chain } => self.spent_ops(stream, after, chain, reach, limit),
            At::Record { feed } => self.old_changes(feed, reach, limit),
        }
    }

    fn spent_ops(
        &self,
        stream: Stream,
        mut after: Seq,
        mut chain: Chain,
        reach: &Reach,
        limit: usize,
    ) -> Result<(Vec<Forgettable>, Option<PassAt>), Error> {
        let state = self.state()?;
        let present = incarnation_of(self.db, state.origin)?.unwrap_or(0);
        let last = Seq(own_reach(reach, stream).0.saturating_sub(1));
        let mut found = BTreeMap::new();
        let mut statement = self.db.prepare_cached(
            "SELECT number, fate, hseq, chain, op FROM history WHERE number > ?1 AND number <= ?2 ORDER BY number LIMIT ?3",
        )?;
        let mut rows = statement.query((own(present, stream, after), own(present, stream, last), limit as i64))?;
        let (mut looked, mut along) = (0, Along::from(own(present, stream, after), chain));
        while let Some(row) = rows.next()? {
            let (number, fate, hseq): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let Some(op) = read_op(self.db, self.codec, row.get_ref(4)?.as_blob().unwrap_or_default(), number)? else {
                break;
            };
            let known = along.pass(self.db, number, Some(&op), row.get_ref(3)?.as_blob().unwrap_or_default())?;
            // Nothing behind a place where it cannot be told can be told to a hub.
            let Some(known) = known else { break };
            (chain, after, looked) = (known, Seq(seq(number)), looked + 1);
            if fate == CONFIRMED && self.seems_spent(&state, &op, hseq, number)? {
                found.entry(op.key).or_insert_with(BTreeMap::new).insert(number, Some(chain));
            }
        }
        let next = match (looked == limit, stream) {
            (true, _) => At::Own { stream, after, chain },
            (false, Stream::Urgent) => At::Own { stream: Stream::Normal, after: Seq(0), chain: Chain::default() },
            (false, Stream::Normal) => At::Own { stream: Stream::Bulk, after: Seq(0), chain: Chain::default() },
            (false, Stream::Bulk) => At::Record { feed: 0 },
        };
        let found = found.into_iter().map(|(key, rows)| Forgettable { key, rows }).collect();
        Ok((found, Some(PassAt(next))))
    }

    /// Whether an own op may be of no use, its counts aside: whether a later op contains them is seen in the list of its record.
    fn seems_spent(&self, state: &GatewayState, op: &Op, hseq: i64, number: i64) -> Result<bool, Error> {
        let Some(row) = Row::find(self.db, &op.key)?.filter(|row| row.newest != number) else { return Ok(false) };
        let Some(held) = row.held(self.db, self.codec)? else { return Ok(false) };
        let mut later = op.clone();
        later.stamp.dot.seq = later.stamp.dot.seq.next();
        Ok(is_spent(op, HubSeq(hseq as u64), &held, state, &[later]))
    }

    fn old_changes(
        &self,
        after: i64,
        reach: &Reach,
        limit: usize,
    ) -> Result<(Vec<Forgettable>, Option<PassAt>), Error> {
        let state = self.state()?;
        let present = incarnation_of(self.db, state.origin)?.unwrap_or(0);
        let mut statement = self.db.prepare_cached(
            "SELECT (SELECT name FROM types WHERE n = type), id, feed, newest FROM records \
             WHERE feed > ?1 AND newest <> 0 ORDER BY feed LIMIT ?2",
        )?;
        let mut rows = statement.query((after, limit as i64))?;
        let (mut found, mut looked, mut feed) = (Vec::new(), 0, after);
        while let Some(row) = rows.next()? {
            let (record_type, id) = names(row)?;
            (feed, looked) = (row.get(2)?, looked + 1);
            let Some(links) = links(self.db, row.get(3)?)? else { continue };
            let key = RecordKey::new(&record_type, &id)?;
            let is_one = |link: &Link| is_hub(link.number) || incarnation(link.number) < present;
            let has_earlier = links.iter().any(|link| !is_hub(link.number) && is_one(link));
            let held = match has_earlier && reach.earlier {
                true => Row::find(self.db, &key)?.map_or(Ok(None), |row| row.held(self.db, self.codec))?,
                false => None,
            };
            let sieve = Sieve { db: self.db, codec: self.codec, state: &state, present, reach, held };
            let rows: BTreeMap<i64, Option<Chain>> =
                sieve.sift(&links, is_one, LIST_MAX)?.gone.iter().map(|link| (link.number, None)).collect();
            if !rows.is_empty() {
                found.push(Forgettable { key, rows });
            }
        }
        Ok((found, (looked == limit).then_some(PassAt(At::Record { feed }))))
    }
}

impl Tx<'_> {
    /// Notes once a day what is safe, if the hub will take a stream over what is forgotten.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn note_milestone(&mut self, now_ms: i64, age_ms: i64) -> Result<(), Error> {
        let Some(now) = self.reader()?.next_milestone(now_ms)? else { return Ok(()) };
        let (known, now_ms) = (self.reader()?.milestones()?, now.at_ms);
        let is_old = |known: &&Milestone| known.at_ms <= now_ms.saturating_sub(age_ms);
        let needed_ms = known.iter().filter(is_old).map(|known| known.at_ms).max().unwrap_or(i64::MIN);
        let delete = "DELETE FROM milestones WHERE at_ms < ?1 OR at_ms > ?2 OR epoch <> ?3 OR origin <> ?4";
        self.db.prepare_cached(delete)?.execute((needed_ms, now_ms, now.epoch.0, now.origin.0))?;
        let mut insert = self.db.prepare_cached(
            "INSERT OR REPLACE INTO milestones (at_ms, epoch, origin, urgent, normal, bulk, changes) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let [urgent, normal, bulk] = now.durable.map(|seq| seq.0 as i64);
        insert.execute((now_ms, now.epoch.0, now.origin.0, urgent, normal, bulk, now.changes as i64))?;
        Ok(())
    }

    fn set_retention(&mut self, retention: &Retention) -> Result<(), Error> {
        let mut insert = self.db.prepare_cached(
            "INSERT OR REPLACE INTO retention (one, takes_gaps, passed_ms, ops, changes) VALUES (1, ?1, ?2, ?3, ?4)",
        )?;
        let Retention { takes_gaps, passed_ms, ops, changes } = *retention;
        insert.execute((takes_gaps, passed_ms, ops as i64, changes as i64))?;
        Ok(())
    }

    /// Removes what is of no use of these rows, if what was safe so long ago may go, all that one transaction takes. Counts it.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn forget_old(&mut self, now_ms: i64, age_ms: i64, old: &Forgettable) -> Result<Forgotten, Error> {
        match self.reader()?.retention_reach(now_ms, age_ms)? {
            Some(reach) => self.forget_history(&reach, old),
            None => Ok(Forgotten::default()),
        }
    }

    /// Removes what is of no use of these rows, a few at once: what is left of them is found again. Counts it.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn forget_history(&mut self, reach: &Reach, old: &Forgettable) -> Result<Forgotten, Error> {
        self.open(&old.key)?;
        let (newest, held) = (self.opened()?.row.newest, self.opened_held()?);
        let Some(links) = links(self.db, newest)? else { return Ok(Forgotten::default()) };
        let present = self.cache.incarnation;
        let sieve = Sieve { db: self.db, codec: self.codec, state: &self.cache.state, present, reach, held };
        let Sifted { gone: rows, stays, places } =
            sieve.sift(&links, |link| old.rows.contains_key(&link.number), TOGETHER_MAX)?;
        let mut gone = Forgotten::default();
        for link in rows {
            self.remove_row(link.number, old.rows.get(&link.number).copied().flatten())?;
            match is_hub(link.number) {
                true => gone.changes += 1,
                false => gone.ops += 1,
            }
        }
        for place in places {
            let Some(above) = place.checked_sub(1).and_then(|above| stays.get(above)) else { continue };
            let older = stays.get(place).map_or(NOTHING_OLDER, |below| -below.number);
            let mut update = self.db.prepare_cached("UPDATE history SET older = ?2 WHERE number = ?1")?;
            update.execute((above.number, older))?;
        }
        if gone != Forgotten::default() {
            let before = self.reader()?.retention()?;
            let (ops, changes) = (before.ops + gone.ops, before.changes + gone.changes);
            self.set_retention(&Retention { ops, changes, ..before })?;
        }
        Ok(gone)
    }

    /// Removes a row. With the chain after it, the next one says that there is a gap before it.
    fn remove_row(&self, number: i64, chain: Option<Chain>) -> Result<(), Error> {
        self.db.prepare_cached("DELETE FROM history WHERE number = ?1")?.execute([number])?;
        // Behind an op that was erased the chain stays: from what is left of it it cannot be computed.
        let follows_none = "DELETE FROM gaps WHERE number = ?1 AND ?1 - 1 NOT IN (SELECT number FROM history)";
        self.db.prepare_cached(follows_none)?.execute([number])?;
        let Some(chain) = chain else { return Ok(()) };
        let mut insert = self.db.prepare_cached(
            "INSERT OR REPLACE INTO gaps (number, chain) SELECT number, ?2 FROM history WHERE number = ?1",
        )?;
        insert.execute((number + 1, chain.0))?;
        Ok(())
    }

    /// The history was gone through to its end.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn note_pass(&mut self, now_ms: i64) -> Result<(), Error> {
        // Nobody sends under an origin that was given up.
        let first = own(self.cache.incarnation, Stream::Urgent, Seq(0));
        self.db.prepare_cached("DELETE FROM gaps WHERE number < ?1")?.execute([first])?;
        let before = self.reader()?.retention()?;
        self.set_retention(&Retention { passed_ms: now_ms, ..before })
    }

    /// The hub takes a stream over what is forgotten.
    pub(super) fn note_gaps_are_taken(&mut self) -> Result<(), Error> {
        let before = self.reader()?.retention()?;
        if before.takes_gaps {
            return Ok(());
        }
        self.set_retention(&Retention { takes_gaps: true, ..before })
    }
}

/// What tells the rows of a record that are of no use from the others.
struct Sieve<'a> {
    db: &'a Connection,
    codec: &'a Codec,
    state: &'a GatewayState,
    /// The present incarnation.
    present: i64,
    reach: &'a Reach,
    held: Option<Held>,
}

/// The list of a record, taken apart.
struct Sifted {
    gone: Vec<Link>,
    stays: Vec<Link>,
    /// Where in what stays something was.
    places: Vec<usize>,
}

impl Sieve<'_> {
    /// Takes apart a list, of which only so many of those that were asked for go.
    fn sift(&self, links: &[Link], is_asked: impl Fn(&Link) -> bool, limit: usize) -> Result<Sifted, Error> {
        let (mut sifted, mut newer) = (Sifted { gone: Vec::new(), stays: Vec::new(), places: Vec::new() }, Vec::new());
        let mut unread = Vec::new();
        let newest = [links.first(), links.iter().find(|link| !is_hub(link.number))];
        let newest = newest.map(|link| link.map(|link| link.number));
        for link in links {
            let is_old = !newest.contains(&Some(link.number));
            let is_candidate = is_old && sifted.gone.len() < limit && is_asked(link);
            if is_candidate && self.may_go(link, &mut unread, &mut newer)? {
                sifted.gone.push(*link);
                sifted.places.push(sifted.stays.len());
            } else {
                unread.extend((!is_hub(link.number) && self.is_safe(link)).then_some(link.number));
                sifted.stays.push(*link);
            }
        }
        sifted.places.dedup();
        Ok(sifted)
    }

    /// Whether an own op has been safe for long, like what may go. Only such a one contains a count for good: a hub that is put back to
    /// yesterday has what was counted years ago, and not what was counted today.
    fn is_safe(&self, link: &Link) -> bool {
        let is_reached = |stream| seq(link.number) <= own_reach(self.reach, stream).0;
        match incarnation(link.number) == self.present {
            true => Stream::from_number(lane(link.number)).is_ok_and(is_reached),
            false => self.reach.earlier,
        }
    }

    /// `unread` are the numbers of newer own ops that stay and are safe; those are read into `newer` when they are needed.
    fn may_go(&self, link: &Link, unread: &mut Vec<i64>, newer: &mut Vec<Op>) -> Result<bool, Error> {
        let is_present = incarnation(link.number) == self.present;
        if link.fate == FROM_HUB {
            return Ok(!is_present || seq(link.number) < self.reach.changes);
        }
        let within = |stream| seq(link.number) < own_reach(self.reach, stream).0;
        let is_within = match is_present {
            true => Stream::from_number(lane(link.number)).is_ok_and(within),
            false => self.reach.earlier,
        };
        let (Some(held), true, CONFIRMED) = (&self.held, is_within, link.fate) else { return Ok(false) };
        let Some(op) = self.own_op(link.number)? else { return Ok(false) };
        if op.changes.values().any(|change| matches!(change, Change::Count { .. })) {
            for number in unread.drain(..) {
                newer.extend(self.own_op(number)?);
            }
        }
        Ok(is_spent(&op, HubSeq(link.hseq as u64), held, self.state, newer))
    }

    fn own_op(&self, number: i64) -> Result<Option<Op>, Error> {
        let row = HistoryRow::find(self.db, number)?;
        row.map_or(Ok(None), |row| read_op(self.db, self.codec, &row.op, number))
    }
}

/// A row in the list of a record.
#[derive(Debug, Clone, Copy)]
struct Link {
    number: i64,
    fate: i64,
    hseq: i64,
}

/// The list of a record from its newest row on; `None` if it is too long to be gone through at once.
fn links(db: &Connection, newest: i64) -> Result<Option<Vec<Link>>, Error> {
    let mut statement = db.prepare_cached("SELECT older, fate, hseq FROM history WHERE number = ?1")?;
    let (mut number, mut links) = (newest, Vec::new());
    while number != 0 {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?));
        let Some((older, fate, hseq)) = statement.query_row([number], read).optional()? else { break };
        if links.len() >= LIST_MAX {
            return Ok(None);
        }
        links.push(Link { number, fate, hseq });
        number = older.saturating_abs();
    }
    Ok(Some(links))
}

fn own_reach(reach: &Reach, stream: Stream) -> Seq {
    let [urgent, normal, bulk] = reach.own;
    match stream {
        Stream::Urgent => urgent,
        Stream::Normal => normal,
        Stream::Bulk => bulk,
    }
}
