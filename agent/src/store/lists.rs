//! Questions about what happened to records: history, receipts, conflicts, parked ops, status.

use rusqlite::OptionalExtension;
use sync_protocol::gateway::GatewayState;
use sync_protocol::id::{Dot, FieldName, Origin, RecordKey, Scope, Seq, Stream};
use sync_protocol::record::{self, Op, Record, State};

use super::aside::files_aside;
use super::health::Place;
use super::history::{
    CONFIRMED, DISCARDED, FROM_HUB, HistoryRow, PARKED, Walk, apply_backwards, is_unsettled, read_op, unpack_superseded,
};
use super::model::{Conflict, Entry, HubEntry, OpState, OwnEntry, Parked, Receipt, Status, StreamStatus};
use super::number::own;
use super::reader::{Reader, names, oldest_ms};
use super::row::{Row, etag_bytes, etag_text, presence_of};
use super::sync::is_covered;
use super::tx::incarnation_of;
use super::{open, side};
use crate::error::Error;

impl Reader<'_> {
    /// What happened to a record here, the newest first, without as many of the newest as are skipped.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn history(&self, key: &RecordKey, skip: usize, limit: usize) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        let mut walk = Walk::new(self.db, Row::find(self.db, key)?.map_or(0, |row| row.newest));
        let mut at = 0;
        while entries.len() < limit {
            let Some(row) = walk.step()? else { break };
            at += 1;
            if at > skip {
                entries.push(self.entry(&row)?.unwrap_or(Entry::Damaged { number: row.number }));
            }
        }
        Ok(entries)
    }

    /// `None` if a part of the row is damaged.
    fn entry(&self, row: &HistoryRow) -> Result<Option<Entry>, Error> {
        let Some(before) = self.part(&row.before, row) else { return Ok(None) };
        let Some(superseded) = self.part(&row.superseded, row) else { return Ok(None) };
        let superseded = unpack_superseded(&superseded);
        let etag_before = (!row.etag_before.is_empty()).then(|| etag_text(&row.etag_before));
        if row.fate == FROM_HUB {
            return Ok(Some(Entry::Hub(HubEntry { at_ms: row.noted_ms, before, superseded, etag_before })));
        }
        let Some(op) = read_op(self.db, self.codec, &row.op, row.number)? else { return Ok(None) };
        let fate = match row.fate {
            CONFIRMED => OpState::Confirmed,
            PARKED => OpState::Parked,
            DISCARDED => OpState::Discarded,
            _ => OpState::Pending,
        };
        let hseq = sync_protocol::id::HubSeq(row.hseq as u64);
        let reason = self.reason(row.number)?;
        Ok(Some(Entry::Own(Box::new(OwnEntry { op, fate, reason, hseq, before, superseded, etag_before }))))
    }

    fn part(&self, blob: &[u8], row: &HistoryRow) -> Option<Record> {
        self.codec.record(blob, Place::History(row.number))
    }

    fn reason(&self, number: i64) -> Result<String, Error> {
        let mut statement = self.db.prepare_cached("SELECT ifnull(max(reason), '') FROM notes WHERE number = ?1")?;
        Ok(statement.query_row([number], |row| row.get(0))?)
    }

    /// The record as it was shown under a tag, the present one included: what an app had read that sends `If-Match`. A field
    /// that was written again with the same value since then has the newer stamp. `None` if the tag is not known, or the
    /// history does not reach that far any more.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn record_at_etag(&self, key: &RecordKey, etag: &str) -> Result<Option<Record>, Error> {
        let wanted = etag_bytes(etag);
        let Some(row) = Row::find(self.db, key)? else { return Ok(None) };
        let Some(mut record) = row.visible(self.db, self.codec)? else { return Ok(None) };
        if row.etag == wanted {
            return Ok(Some(record));
        }
        let mut walk = Walk::new(self.db, row.newest);
        while let Some(row) = walk.step()? {
            let Some(before) = self.part(&row.before, &row) else { return Ok(None) };
            apply_backwards(&mut record, &before);
            if row.etag_before == wanted {
                return Ok(Some(record));
            }
            if row.older < 0 {
                // What changed in the rows that were forgotten cannot be put back.
                break;
            }
        }
        Ok(None)
    }

    /// Where the writes are that were answered with these tags.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn receipts(&self, asked: &[(RecordKey, String)]) -> Result<Vec<Receipt>, Error> {
        asked.iter().map(|(key, etag)| self.receipt(key, etag)).collect()
    }

    fn receipt(&self, key: &RecordKey, etag: &str) -> Result<Receipt, Error> {
        let mut receipt =
            Receipt { key: key.clone(), etag: etag.to_owned(), is_here: false, is_at_hub: false, parked: None };
        let Some(row) = Row::find(self.db, key)? else { return Ok(receipt) };
        let wanted = etag_bytes(etag);
        if wanted.is_empty() {
            return Ok(receipt);
        }
        receipt.is_here = row.etag == wanted;
        let (mut unsettled, mut is_waiting) = (row.unsettled, false);
        let mut walk = Walk::new(self.db, row.newest);
        // Once the tag is found, the rows that follow made what it stands for; none of them may be waiting.
        while !receipt.is_here || unsettled > 0 {
            let Some(row) = walk.step()? else { break };
            if is_unsettled(row.fate) {
                unsettled -= 1;
                is_waiting |= receipt.is_here;
            }
            if receipt.is_here && row.fate == PARKED && receipt.parked.is_none() {
                receipt.parked = Some(self.reason(row.number)?);
            }
            receipt.is_here |= row.etag_before == wanted;
        }
        receipt.is_at_hub = receipt.is_here && !is_waiting;
        Ok(receipt)
    }

    /// Records that wait for a person: fields with several values, and deletes that met an edit. Those whose last change is behind a
    /// position of the feed, in that order, and the last position that was looked at if there may be more.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn conflicts(&self, after: u64, limit: usize) -> Result<(Vec<Conflict>, Option<u64>), Error> {
        // By its own choice it would go through all records for the order.
        let mut statement = self.db.prepare_cached(
            "SELECT (SELECT name FROM types WHERE n = type), id, feed FROM records INDEXED BY records_open \
             WHERE (conflicts > 0 OR presence = 1) AND feed > ?1 ORDER BY feed LIMIT ?2",
        )?;
        let found = statement.query_map((after as i64, limit as i64), |row| Ok((names(row)?, row.get(2)?)))?;
        let found: Vec<((String, String), i64)> = found.collect::<Result<_, _>>()?;
        let next = found.last().filter(|_| found.len() == limit).map(|(_, feed)| *feed as u64);
        let mut conflicts = Vec::new();
        for ((record_type, id), _) in found {
            let key = RecordKey::new(&record_type, &id)?;
            let Some(row) = Row::find(self.db, &key)? else { continue };
            let Some(record) = row.visible(self.db, self.codec)? else { continue };
            let presence = presence_of(row.presence);
            conflicts.push(Conflict { key, presence, fields: fields_in_conflict(&record) });
        }
        Ok((conflicts, next))
    }

    /// Own ops in quarantine at the hub, the oldest first. Those behind a number, and the last number that was looked at if there may
    /// be more.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn parked(&self, after: i64, limit: usize) -> Result<(Vec<Parked>, Option<i64>), Error> {
        let mut statement = self.db.prepare_cached(
            "SELECT notes.number, notes.reason, notes.noted_ms, history.op FROM notes JOIN history USING (number) \
             WHERE notes.fate = 2 AND notes.number > ?1 ORDER BY notes.number LIMIT ?2",
        )?;
        let pleas = side::pleas(self.db)?;
        let mut rows = statement.query((after, limit as i64))?;
        let (mut parked, mut count, mut last) = (Vec::new(), 0, after);
        while let Some(row) = rows.next()? {
            (count, last) = (count + 1, row.get(0)?);
            let op = read_op(self.db, self.codec, row.get_ref(3)?.as_blob().unwrap_or_default(), row.get(0)?)?;
            let Some(Op { stamp, key, .. }) = op else { continue };
            let plea = pleas.iter().find(|plea| plea.dot == stamp.dot).map(|plea| plea.discard);
            parked.push(Parked { dot: stamp.dot, key, reason: row.get(1)?, since_ms: row.get(2)?, plea });
        }
        Ok((parked, (count == limit).then_some(last)))
    }

    /// The record of an own op that is in quarantine at the hub; `None` if it is not there.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn key_of_parked(&self, dot: Dot) -> Result<Option<RecordKey>, Error> {
        let Some(incarnation) = incarnation_of(self.db, dot.origin)? else { return Ok(None) };
        let number = own(incarnation, dot.stream, dot.seq);
        let mut statement = self.db.prepare_cached(
            "SELECT history.op FROM notes JOIN history USING (number) WHERE notes.fate = 2 AND number = ?1",
        )?;
        let blob: Option<Vec<u8>> = statement.query_row([number], |row| row.get(0)).optional()?;
        let Some(blob) = blob else { return Ok(None) };
        Ok(read_op(self.db, self.codec, &blob, number)?.map(|op| op.key))
    }

    /// Sum of the digest items of all confirmed records in these scopes.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn digest(&self, scopes: &[Scope]) -> Result<u64, Error> {
        let mut statement = self.db.prepare_cached("SELECT path, sum FROM scopes")?;
        let mut rows = statement.query([])?;
        let mut total = 0u64;
        while let Some(row) = rows.next()? {
            let (path, sum): (String, i64) = (row.get(0)?, row.get(1)?);
            if is_covered(scopes, &Scope::new(&path)?) {
                total = total.wrapping_add(sum as u64);
            }
        }
        Ok(total)
    }

    /// Everything that status shows.
    ///
    /// # Errors
    /// What SQLite or the file system reports.
    pub fn status(&self) -> Result<Status, Error> {
        let state = self.state()?;
        let count = |sql: &str| -> Result<u64, Error> {
            let count: i64 = self.db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
            Ok(count as u64)
        };
        Ok(Status {
            records: self.types()?,
            streams: self.streams(&state)?,
            parked: count("SELECT count(*) FROM notes WHERE fate = 2")?,
            conflicts: count("SELECT count(*) FROM records WHERE conflicts > 0 OR presence = 1")?,
            database_bytes: self.database_bytes(),
            reusable_bytes: count("SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size")?,
            damage: self.damage()?,
            upkeep: self.upkeep()?,
            retention: self.retention()?,
            sweep_due_ms: self.sweep_due_ms()?,
            aside: files_aside(self.dir),
            is_full: self.codec.health().is_full(),
            captured: state.streams.iter().map(|stream| stream.last.0).sum(),
            feed: self.feed()?,
            rules_version: self.rules()?.version,
            report: self.sync_report()?,
            enrolment: self.enrolment()?,
            state,
        })
    }

    fn streams(&self, state: &GatewayState) -> Result<Vec<StreamStatus>, Error> {
        let incarnation = incarnation_of(self.db, state.origin)?;
        let status = |stream: Stream| {
            let at = state.stream(stream);
            let unsent = at.unsent();
            let oldest_ms = match incarnation.filter(|_| unsent > 0) {
                Some(incarnation) => oldest_ms(self.db, self.codec, own(incarnation, stream, at.acked))?,
                None => None,
            };
            let not_backed_up = at.acked.0.saturating_sub(at.durable.0);
            Ok(StreamStatus { stream, unsent, not_backed_up, last: at.last.0, oldest_ms })
        };
        Stream::ALL.into_iter().map(status).collect()
    }

    fn database_bytes(&self) -> u64 {
        let names = [open::FILE_NAME.to_owned(), format!("{}-wal", open::FILE_NAME)];
        let size = |name: &String| std::fs::metadata(self.dir.join(name)).map_or(0, |file| file.len());
        names.iter().map(size).sum()
    }

    /// The op of a dot, if it is an own one and can be read.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn own_op(&self, origin: Origin, stream: Stream, seq: Seq) -> Result<Option<Op>, Error> {
        let dot = Dot { origin, stream, seq };
        let Some(incarnation) = incarnation_of(self.db, dot.origin)? else { return Ok(None) };
        let row = HistoryRow::find(self.db, own(incarnation, dot.stream, dot.seq))?;
        match row {
            Some(row) => read_op(self.db, self.codec, &row.op, row.number),
            None => Ok(None),
        }
    }
}

fn fields_in_conflict(record: &Record) -> Vec<(FieldName, Vec<record::Entry>)> {
    let several = |(name, cell): (&FieldName, &record::Cell)| match &cell.state {
        State::Register(entries) if !cell.rivals().is_empty() => Some((name.clone(), entries.clone())),
        _ => None,
    };
    record.cells.iter().filter_map(several).collect()
}
