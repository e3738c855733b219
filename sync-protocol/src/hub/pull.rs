//! What goes down: acknowledgements, the changes in view, and the proof that both hold the same.
//!
//! # Invariants
//! - A pull only reads, and all of it from one moment: acknowledgements, rows, cursor and digest are of the same head. What
//!   others write meanwhile comes with the next exchange, whole.
//! - That moment is not before the grant. It may be after it: the gateway is the granted one all the same, so that rows and
//!   digest are of the scopes that it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::open::ack;
use super::{Gateway, Grant, LogLine, Logged, Snapshot};
use crate::clock::TimeQuality;
use crate::difference::{Encoder, decode, unpack};
use crate::erase::{Erased, name_of};
use crate::frame::Packer;
use crate::gateway::{cut_frame, next_guess};
use crate::id::{FieldName, HubSeq, RecordKey, Seq, Stream};
use crate::limits::{
    ANSWER_BYTES_MAX, ANSWER_CHANGES_MAX, ERASURES_MAX, FRAME_BYTES_MAX, SYMBOLS_FIRST, SYMBOLS_MAX, WANTED_MAX,
};
use crate::message::{Request, Response, Slice, Status, View};
use crate::payload::{Notice, Payload, Reach, Row, Rows};
use crate::record::{Cell, Record, Stamp, State, Touch};

/// Log lines read at a time.
const LINES_STEP: usize = 1_000;
/// A response that is ready to go.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The head.
    pub head: Response,
    /// Frames of rows.
    pub frames: Vec<Vec<u8>>,
    /// Rows in them.
    pub rows: usize,
}

/// Makes the answer to a request of what was granted and of what the store holds now.
///
/// # Errors
/// What the store reports.
pub fn pull<S: Snapshot>(
    store: &mut S,
    packer: &mut Packer,
    request: &Request,
    grant: Grant,
) -> Result<Answer, S::Error>
where
    S::Error: From<io::Error>,
{
    let Grant { gateway, mut head, joined, agreed } = grant;
    if head.status != Status::Ok {
        return Ok(Answer { head, frames: Vec::new(), rows: 0 });
    }
    for stream in Stream::ALL {
        let known = request.streams.iter().find(|s| s.stream == stream).map_or(Seq(0), |s| s.acked);
        let upto = agreed.get(&stream).copied().unwrap_or(Seq(u64::MAX));
        let news = ack(store, gateway.origin, stream, known, Some(upto))?;
        if news.acked > known {
            head.acks.push(news);
        }
    }
    if let Some(upto) = request.erased.or(gateway.erased) {
        let erasures = store.erasures_after(upto, ERASURES_MAX)?;
        head.more |= erasures.len() == ERASURES_MAX;
        head.erased = erasures.iter().map(|e| Erased { number: e.number, name: name_of(&e.key) }).collect();
    }
    let (head_seq, may_offer) = (store.head()?, gateway.epoch != store.epoch()?);
    let mut pull = Pull {
        store,
        packer,
        gateway: &gateway,
        fills: request.backfill.is_some() || head.view.as_ref().is_some_and(|view| view.backfill),
        since: request.complete.unwrap_or(request.cursor).min(request.cursor),
        frames: Vec::new(),
        bytes: 0,
        rows: 0,
        budget: budget(request.budget_frames),
    };
    if request.recovers.is_some() && may_offer {
        pull.whole(joined)?;
        pull.compare(request, &mut head)?;
        let Pull { frames, rows, .. } = pull;
        head.more = true;
        return Ok(Answer { head, frames, rows });
    }
    if let Some(symbols) = &request.repair {
        pull.repair(symbols, &mut head)?;
    }
    let mut at = pull.changes(request.cursor, None)?;
    if let (Some(reach), true) = (request.backfill, at == head_seq) {
        let reached = pull.changes(reach, Some(at))?;
        if reached < at {
            head.more = true;
        }
    }
    head.more |= at < head_seq;
    let Pull { frames, rows, .. } = pull;
    at = at.max(request.cursor);
    head.cursor = at;
    if !head.more && head.view.is_none() && head.symbols.is_none() {
        head.digest = Some(store.digest(&gateway.scopes)?);
    }
    Ok(Answer { head, frames, rows })
}

fn budget(frames: u64) -> u64 {
    let limit = ANSWER_BYTES_MAX as u64;
    match frames {
        0 => limit,
        frames => frames.saturating_mul(FRAME_BYTES_MAX as u64).min(limit),
    }
}

struct Pull<'a, S> {
    store: &'a mut S,
    packer: &'a mut Packer,
    gateway: &'a Gateway,
    /// It may not have what is older than its cursor, because a back-fill has yet to bring it.
    fills: bool,
    /// It has all that changed until here. Of a record it may lack what changed between this and its cursor: a record comes once,
    /// at its last change, and the pull broke off before.
    since: HubSeq,
    frames: Vec<Vec<u8>>,
    bytes: u64,
    rows: usize,
    budget: u64,
}

impl<S: Snapshot> Pull<'_, S>
where
    S::Error: From<io::Error>,
{
    /// Makes frames of the changes after `from`, as far as the budget goes, and tells how far that is. With `backfill`,
    /// which is the cursor, whole records of the view are sent from the beginning of time.
    fn changes(&mut self, from: HubSeq, backfill: Option<HubSeq>) -> Result<HubSeq, S::Error> {
        let mut at = from;
        let mut seen_lines = 0;
        let mut rows: Vec<(Row, HubSeq)> = Vec::new();
        let mut guess = 32;
        let reach = |hseq| match backfill {
            Some(cursor) => Reach { cursor, backfill: Some(hseq) },
            None => Reach { cursor: hseq, backfill: None },
        };
        loop {
            let lines = self.store.log_after(at, LINES_STEP)?;
            let is_last = lines.len() < LINES_STEP;
            seen_lines += lines.len();
            for line in &lines {
                at = line.hseq;
                if let Some(row) = self.row(line, from, backfill.is_some())? {
                    let is_settled = matches!(&row, Row::Notice(notice) if notice.settles());
                    rows.push((row, line.hseq));
                    if is_settled && !self.belongs(&line.key)? {
                        // Its own writes were all that held it there.
                        rows.push((Row::Evict(line.key.clone()), line.hseq));
                    }
                }
                while rows.len() >= guess && self.bytes < self.budget {
                    self.frame(&mut rows, &mut guess, &reach)?;
                }
                if self.bytes >= self.budget {
                    return Ok(self.stopped_at(from, &rows, at));
                }
            }
            if is_last || seen_lines >= ANSWER_CHANGES_MAX {
                break;
            }
        }
        while !rows.is_empty() {
            self.frame(&mut rows, &mut guess, &reach)?;
        }
        // The last numbers may have no line: an op that changed nothing takes one too.
        Ok(if seen_lines < ANSWER_CHANGES_MAX { at.max(self.store.head()?) } else { at })
    }

    /// Where the receiver stands when rows were read that no frame holds any more.
    fn stopped_at(&self, from: HubSeq, left: &[(Row, HubSeq)], at: HubSeq) -> HubSeq {
        match left.first() {
            Some((_, hseq)) => HubSeq(hseq.0.saturating_sub(1)).max(from),
            None => at,
        }
    }

    fn frame(
        &mut self,
        rows: &mut Vec<(Row, HubSeq)>,
        guess: &mut usize,
        reach: &impl Fn(HubSeq) -> Reach,
    ) -> Result<(), S::Error> {
        let (frame, taken) = cut_frame(self.packer, rows.len().min(*guess), |count| {
            let mut end = HubSeq::NONE;
            let taken: Vec<Row> = rows
                .iter()
                .take(count)
                .map(|(row, hseq)| {
                    end = *hseq;
                    row.clone()
                })
                .collect();
            // Several lines can have one number; the receiver is past it only when it has the last of them.
            let complete = rows.get(count).is_none_or(|(_, next)| *next > end);
            let reached = if complete { end } else { HubSeq(end.0.saturating_sub(1)) };
            Payload::Rows(Rows { reaches: reach(reached), rows: taken })
        })?;
        *guess = next_guess(taken, frame.len());
        rows.drain(..taken);
        self.rows += taken;
        self.bytes += frame.len() as u64;
        self.frames.push(frame);
        Ok(())
    }

    /// The row that a log line means for this gateway, if any.
    fn row(&mut self, line: &LogLine, cursor: HubSeq, whole: bool) -> Result<Option<Row>, S::Error> {
        match &line.what {
            Logged::News(device, dot, news) if self.gateway.hears_of(*device) && !whole => {
                Ok(Some(Row::Notice(Notice { dot: *dot, key: line.key.clone(), news: news.clone() })))
            }
            Logged::Left(scope) if self.gateway.is_in_view(scope) && !whole => {
                Ok((!self.belongs(&line.key)?).then(|| Row::Evict(line.key.clone())))
            }
            Logged::Changed(scope) if !self.gateway.is_in_view(scope) => {
                // It wrote to a record that is not its own to hold, and has just confirmed its own part of it.
                let record = if whole { None } else { self.store.record(&line.key)? };
                Ok(record.filter(|r| self.wrote(r, cursor)).map(|_| Row::Evict(line.key.clone())))
            }
            Logged::Changed(_) => {
                let Some(record) = self.store.record(&line.key)? else { return Ok(None) };
                // What it has of a record from before an erasure, no cell overwrites.
                let is_erased = record.cells.get(FieldName::ERASED).is_some_and(|cell| cell.changed > self.since);
                let cells = if whole || is_erased { record.cells } else { self.news_for(record, self.since) };
                let row = Row::Cells { key: line.key.clone(), record: Record { cells }, whole: is_erased };
                Ok(match &row {
                    Row::Cells { record, .. } if record.cells.is_empty() => None,
                    _ => Some(row),
                })
            }
            _ => Ok(None),
        }
    }

    /// Whether a record is in its view now.
    fn belongs(&mut self, key: &RecordKey) -> Result<bool, S::Error> {
        let scope = self.store.record(key)?.map(|record| record.scope());
        Ok(scope.is_some_and(|scope| self.gateway.is_in_view(&scope)))
    }

    /// The cells that this gateway may not have: changed after `cursor`, and not by itself alone. A part of a record that
    /// it does not hold would look like the whole of it, and what an app writes then could move the record.
    fn news_for(&self, record: Record, cursor: HubSeq) -> BTreeMap<FieldName, Cell> {
        let entered = self.fills
            || self.wrote_blindly(&record, cursor)
            || record.cells.get(&FieldName::scope()).is_some_and(|c| c.changed > cursor && !self.is_own(c, cursor));
        record
            .cells
            .into_iter()
            .filter(|(_, cell)| entered || (cell.changed > cursor && !self.is_own(cell, cursor)))
            .collect()
    }

    /// Whether the gateway wrote to this record since its cursor.
    fn wrote(&self, record: &Record, cursor: HubSeq) -> bool {
        let mut stamps = record.cells.values().flat_map(Cell::stamps);
        stamps.any(|stamp| stamp.dot.origin == self.gateway.origin && stamp.hseq > cursor)
    }

    /// Whether the gateway wrote to this record since its cursor without holding it, although there was more of it: then it
    /// has nothing but its own cells.
    fn wrote_blindly(&self, record: &Record, cursor: HubSeq) -> bool {
        let stamps = || record.cells.values().flat_map(Cell::stamps);
        let is_own = |stamp: &Stamp| stamp.dot.origin == self.gateway.origin;
        let blind = stamps().any(|s| is_own(s) && s.hseq > cursor && s.seen == HubSeq::NONE);
        blind && stamps().any(|s| !is_own(s) || s.hseq <= cursor)
    }

    /// Whether the gateway computed this cell itself when its own ops were acknowledged.
    fn is_own(&self, cell: &Cell, cursor: HubSeq) -> bool {
        let by_own = |touch: &Touch| touch.last.dot.origin == self.gateway.origin && touch.basis <= cursor;
        let own = match &cell.state {
            State::Register(entries) => match entries.as_slice() {
                [only] => only.stamp.dot.origin == self.gateway.origin && only.stamp.hseq == cell.changed,
                _ => false,
            },
            State::Set(set) => by_own(&set.touch),
            State::Log(log) => by_own(&log.touch),
            State::Counter(counter) => by_own(&counter.touch),
        };
        // Of a stamp that was clamped the author has another.
        let is_clamped = cell.stamps().iter().any(|stamp| stamp.quality == TimeQuality::Clamped);
        own && !is_clamped && cell.changed > self.gateway.echo_until
    }

    /// Asks a gateway for what it holds and we do not, after this hub was put back; nothing is sent to it before.
    fn compare(&mut self, request: &Request, head: &mut Response) -> Result<(), S::Error> {
        let (packed, slice) = (request.repair.as_deref(), request.slice.unwrap_or_default());
        let Some(packed) = packed else {
            head.symbols = Some(SYMBOLS_FIRST as u32);
            return Ok(());
        };
        match self.differences(packed, slice)? {
            Differences::Found { theirs, ours } if theirs.is_empty() => {
                self.whole(ours)?;
                head.slice = slice.next();
                head.symbols = head.slice.map(|_| SYMBOLS_FIRST as u32);
            }
            Differences::Found { theirs, ours } => {
                let left = theirs.len().saturating_sub(WANTED_MAX) + ours.len();
                head.want = theirs.into_iter().take(WANTED_MAX).collect();
                // Two symbols for each item are more than enough.
                head.symbols = Some((2 * left).clamp(SYMBOLS_FIRST, SYMBOLS_MAX) as u32);
            }
            Differences::Unclear(symbols) => head.symbols = Some(symbols),
            Differences::TooMany => {
                // One that does not know of slices gives up: what nobody else sends again stays in its history.
                head.slice = request.slice.and_then(|slice| slice.finer());
                head.symbols = head.slice.map(|_| SYMBOLS_FIRST as u32);
            }
            Differences::Unreadable => {}
        }
        Ok(())
    }

    /// Finds what differs between the gateway's view and ours, and mends it.
    fn repair(&mut self, packed: &[u8], head: &mut Response) -> Result<(), S::Error> {
        match self.differences(packed, Slice::default())? {
            Differences::Found { theirs, ours } => {
                head.drop = theirs;
                self.whole(ours)?;
            }
            Differences::Unclear(symbols) => head.symbols = Some(symbols),
            Differences::TooMany => {
                // More differs than is worth naming one by one: everything in view is sent again, in the back-fill lane.
                let (scopes, source) = (self.gateway.scopes.clone(), self.gateway.source);
                head.view = Some(View { scopes, source, backfill: true });
            }
            Differences::Unreadable => {}
        }
        Ok(())
    }

    fn differences(&mut self, packed: &[u8], slice: Slice) -> Result<Differences, S::Error> {
        let Some(theirs) = unpack(packed, 0, SYMBOLS_MAX as u32) else { return Ok(Differences::Unreadable) };
        let count = theirs.len() as u32;
        let mut items = self.store.items(&self.gateway.scopes)?;
        items.retain(|(item, _)| slice.holds(*item));
        let ours = Encoder::new(u64::from(count), items.iter().map(|(item, _)| *item)).symbols(count);
        let Some(difference) = decode(u64::from(count), &ours, &theirs) else {
            return Ok(match count >= SYMBOLS_MAX as u32 {
                true => Differences::TooMany,
                false => Differences::Unclear(count.saturating_mul(4).clamp(1, SYMBOLS_MAX as u32)),
            });
        };
        let missing: BTreeSet<u64> = difference.local_only.into_iter().collect();
        let ours = items.into_iter().filter(|(item, _)| missing.contains(item)).map(|(_, key)| key).collect();
        Ok(Differences::Found { theirs: difference.remote_only, ours })
    }

    /// Sends records whole: whatever else the gateway had confirmed of them is wrong. Those out of its view have to go.
    fn whole(&mut self, keys: Vec<RecordKey>) -> Result<(), S::Error> {
        let mut rows = Vec::new();
        for key in keys {
            let row = match self.store.record(&key)? {
                Some(record) if self.gateway.is_in_view(&record.scope()) => Row::Cells { key, record, whole: true },
                // What it offered and what is not here all the same, somebody dropped from the quarantine.
                Some(_) | None => Row::Evict(key),
            };
            rows.push((row, HubSeq::NONE));
        }
        let mut guess = 16;
        while !rows.is_empty() {
            self.frame(&mut rows, &mut guess, &|_| Reach::default())?;
        }
        Ok(())
    }
}

/// How the items of two sides differ.
enum Differences {
    /// In these.
    Found {
        /// Items that only the gateway has.
        theirs: Vec<u64>,
        /// Records whose items only the hub has.
        ours: Vec<RecordKey>,
    },
    /// In more than the symbols tell; so many would.
    Unclear(u32),
    /// In more than any symbols would tell.
    TooMany,
    /// The symbols cannot be read.
    Unreadable,
}
