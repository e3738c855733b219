//! The small tables: sync state, notes on ops, pleas, answers under idempotency keys, enrolment, the report of the last sync.

use rusqlite::{Connection, OptionalExtension};
use sync_protocol::gateway::{Former, GatewayState, UNENROLLED};
use sync_protocol::id::{Dot, HubSeq, Origin, Scope, Seq, Stream};
use sync_protocol::message::{Bound, Plea};
use zeroize::Zeroizing;

use super::model::{Answer, Enrolling, Enrolment, Identity, SyncReport};
use super::reader::Reader;
use super::tx::Tx;
use crate::error::Error;

/// Rows that are looked at for being out of date with each new answer.
const EXPIRED_AT_ONCE: i64 = 8;

/// Writes the sync state without its streams.
pub(super) fn write_state(db: &Connection, state: &GatewayState) -> Result<(), Error> {
    let mut insert = db.prepare_cached(
        "INSERT OR REPLACE INTO sync_state (one, device, origin, key, turn, epoch, cursor, backfill, scopes, source, \
         repair_symbols, repairs, is_unsure, is_told, recovers, wanted, bounds, heard, floor_ms, awaits_time, \
         complete, is_revoked, erased) \
         VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)",
    )?;
    let scopes: Vec<&str> = state.scopes.iter().map(Scope::as_str).collect();
    insert.execute(rusqlite::params![
        state.device.0,
        state.origin.0,
        state.key.0,
        state.turn as i64,
        state.epoch.0,
        state.cursor.0 as i64,
        state.backfill.map_or(-1, |at| at.0 as i64),
        scopes.join("\n"),
        state.source.0,
        state.repair_symbols.map_or(-1, i64::from),
        state.repairs as i64,
        state.unsure,
        state.told,
        state.recovers.map_or(-1, |common| common.0 as i64),
        state.wanted.iter().flat_map(|item| item.to_le_bytes()).collect::<Vec<u8>>(),
        bounds_text(state),
        state.heard.0 as i64,
        state.floor_ms,
        state.awaits_time,
        state.complete.0 as i64,
        state.is_revoked,
        state.erased as i64,
    ])?;
    Ok(())
}

/// What stands before the origin of an incarnation that the hub may lack something of.
const OWED: &str = "owed ";

/// The bounds of the present incarnation, those of former ones with their origin behind them, and which of these are owed.
fn bounds_text(state: &GatewayState) -> String {
    let text = |bound: &Bound| format!("{} {} {}", bound.stream.number(), bound.upto.0, bound.common.0);
    let mut lines: Vec<String> = state.bounds.iter().map(text).collect();
    for former in &state.former {
        lines.extend(former.bounds.iter().map(|bound| format!("{} {}", text(bound), former.origin.0)));
        lines.extend(former.is_owed.then(|| format!("{OWED}{}", former.origin.0)));
    }
    lines.join("\n")
}

/// Reads what is kept of a bound, and of which former incarnation it is.
fn read_bound(text: &str) -> Option<(Option<Origin>, Bound)> {
    let mut parts = text.split(' ');
    let stream = Stream::from_number(parts.next()?.parse().ok()?).ok()?;
    let (upto, common) = (Seq(parts.next()?.parse().ok()?), HubSeq(parts.next()?.parse().ok()?));
    let origin = parts.next().map(str::parse).transpose().ok()?.map(Origin);
    Some((origin, Bound { stream, upto, common }))
}

/// The bounds of the present incarnation.
pub(super) fn read_bounds(text: &str) -> Vec<Bound> {
    text.lines().filter_map(read_bound).filter(|(of, _)| of.is_none()).map(|(_, bound)| bound).collect()
}

/// Adds the incarnations that there were before the present one.
pub(super) fn read_former(db: &Connection, state: &mut GatewayState) -> Result<(), Error> {
    let bounds: Option<String> = db.query_row("SELECT bounds FROM sync_state", [], |row| row.get(0)).optional()?;
    let lines = || bounds.as_deref().unwrap_or_default().lines();
    let owed: Vec<_> = lines().filter_map(|line| line.strip_prefix(OWED)?.parse().ok().map(Origin)).collect();
    let bounds: Vec<_> = lines().filter_map(read_bound).collect();
    for origin in former_origins(db, state.origin)? {
        let bounds = bounds.iter().filter(|(of, _)| *of == Some(origin)).map(|(_, bound)| *bound).collect();
        state.former.push(Former { origin, bounds, is_owed: owed.contains(&origin) });
    }
    Ok(())
}

/// The origins that were given to it before the present one, oldest first.
pub(super) fn former_origins(db: &Connection, present: Origin) -> Result<Vec<Origin>, Error> {
    let mut select = db.prepare_cached("SELECT origin FROM incarnations WHERE origin NOT IN (?1, ?2) ORDER BY n")?;
    let origins = select.query_map([present.0, UNENROLLED.0], |row| row.get(0).map(Origin))?;
    Ok(origins.collect::<Result<_, _>>()?)
}

/// Writes the streams and the clock. They change with every capture, so they have a page of their own.
pub(super) fn write_streams(db: &Connection, state: &GatewayState) -> Result<(), Error> {
    let mut insert = db.prepare_cached(
        "INSERT OR REPLACE INTO stream_state (stream, acked, acked_chain, durable, last, chain, clock, sent) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for stream in Stream::ALL {
        let at = state.stream(stream);
        insert.execute(rusqlite::params![
            stream.number(),
            at.acked.0 as i64,
            at.acked_chain,
            at.durable.0 as i64,
            at.last.0 as i64,
            at.chain.0,
            state.clock.0 as i64,
            at.sent.0 as i64,
        ])?;
    }
    Ok(())
}

/// Notes why an op was parked or discarded. When it was parked first stays.
pub(super) fn note(db: &Connection, number: i64, fate: i64, reason: &str, now_ms: i64) -> Result<(), Error> {
    let mut insert = db.prepare_cached(
        "INSERT INTO notes (number, fate, reason, noted_ms) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (number) DO UPDATE SET fate = excluded.fate, reason = excluded.reason, \
         noted_ms = iif(fate = excluded.fate, noted_ms, excluded.noted_ms)",
    )?;
    insert.execute((number, fate, reason, now_ms))?;
    Ok(())
}

/// All wishes that wait.
pub(super) fn pleas(db: &Connection) -> Result<Vec<Plea>, Error> {
    let mut statement = db.prepare_cached("SELECT origin, stream, seq, is_discard FROM pleas")?;
    let mut rows = statement.query([])?;
    let mut pleas = Vec::new();
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(2)?;
        let dot = Dot { origin: Origin(row.get(0)?), stream: Stream::from_number(row.get(1)?)?, seq: Seq(seq as u64) };
        pleas.push(Plea { dot, discard: row.get(3)? });
    }
    Ok(pleas)
}

/// Forgets wishes that were told. One that was changed meanwhile stays.
pub(super) fn clear_pleas(db: &Connection, told: &[Plea]) -> Result<(), Error> {
    let mut delete =
        db.prepare_cached("DELETE FROM pleas WHERE origin = ?1 AND stream = ?2 AND seq = ?3 AND is_discard = ?4")?;
    for Plea { dot, discard } in told {
        delete.execute((dot.origin.0, dot.stream.number(), dot.seq.0 as i64, discard))?;
    }
    Ok(())
}

impl Tx<'_> {
    /// Notes what a person wants done with a parked op; the hub is told with the next exchange.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn plea(&mut self, dot: Dot, discard: bool) -> Result<(), Error> {
        let mut insert = self
            .db
            .prepare_cached("INSERT OR REPLACE INTO pleas (origin, stream, seq, is_discard) VALUES (?1, ?2, ?3, ?4)")?;
        insert.execute((dot.origin.0, dot.stream.number(), dot.seq.0 as i64, discard))?;
        Ok(())
    }

    /// Keeps the answer to a request under its idempotency key, and removes some that are out of date.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn idempotent_put(&mut self, key: &str, answer: &Answer, now_ms: i64, expires_ms: i64) -> Result<(), Error> {
        let mut delete = self.db.prepare_cached(
            "DELETE FROM idempotency WHERE n IN (SELECT n FROM idempotency ORDER BY n LIMIT ?1) AND expires_ms <= ?2",
        )?;
        delete.execute((EXPIRED_AT_ONCE, now_ms))?;
        let mut insert = self.db.prepare_cached(
            "INSERT OR REPLACE INTO idempotency (key, hash, answer, expires_ms) VALUES (?1, ?2, ?3, ?4)",
        )?;
        insert.execute((key, &answer.hash, &answer.body, expires_ms))?;
        Ok(())
    }

    /// Keeps an answer under another key.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn idempotent_rename(&mut self, key: &str, new_key: &str) -> Result<(), Error> {
        let mut update = self.db.prepare_cached("UPDATE OR REPLACE idempotency SET key = ?2 WHERE key = ?1")?;
        update.execute((key, new_key))?;
        Ok(())
    }

    /// Keeps how the syncs went.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn set_sync_report(&mut self, report: &SyncReport) -> Result<(), Error> {
        let mut insert = self.db.prepare_cached(
            "INSERT OR REPLACE INTO sync_report (one, attempt_ms, success_ms, error_class, error, bytes_up, bytes_down, \
             exchanges) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        insert.execute((
            report.attempt_ms,
            report.success_ms.unwrap_or(0),
            report.error_class.as_deref().unwrap_or(""),
            report.error.as_deref().unwrap_or(""),
            report.bytes_up as i64,
            report.bytes_down as i64,
            report.exchanges as i64,
        ))?;
        Ok(())
    }

    /// Keeps where this gateway is enrolled.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn set_enrolment(&mut self, enrolment: &Enrolment) -> Result<(), Error> {
        let mut insert = self.db.prepare_cached(
            "INSERT OR REPLACE INTO enrolment (one, hub_url, name, device, enrolled_ms, authority, key, certificate, renew_ms)
             VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let known = enrolment.identity.as_ref();
        insert.execute((
            &enrolment.hub_url,
            &enrolment.name,
            enrolment.device,
            enrolment.enrolled_ms,
            known.map_or(&[][..], |known| &known.authority),
            known.map_or(&[][..], |known| &known.key),
            known.map_or(&[][..], |known| &known.certificate),
            known.map_or(0, |known| known.renew_ms),
        ))?;
        Ok(())
    }

    /// Keeps the key of an enrolment that was begun, or none.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn set_enrolling(&mut self, enrolling: Option<&Enrolling>) -> Result<(), Error> {
        match enrolling {
            Some(Enrolling { mark, key }) => self
                .db
                .prepare_cached("INSERT OR REPLACE INTO enrolling (one, mark, key) VALUES (1, ?1, ?2)")?
                .execute((mark, &key[..]))?,
            None => self.db.prepare_cached("DELETE FROM enrolling")?.execute([])?,
        };
        Ok(())
    }
}

/// The key and certificates in four columns; `None` if there are none.
pub(super) fn identity(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Option<Identity>> {
    let identity = Identity {
        authority: row.get(first)?,
        key: Zeroizing::new(row.get(first + 1)?),
        certificate: row.get(first + 2)?,
        renew_ms: row.get(first + 3)?,
    };
    Ok(Some(identity).filter(|known| !known.certificate.is_empty()))
}

impl Reader<'_> {
    /// The answer that was given under an idempotency key, unless it is out of date.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn idempotent(&self, key: &str, now_ms: i64) -> Result<Option<Answer>, Error> {
        let mut statement =
            self.db.prepare_cached("SELECT hash, answer FROM idempotency WHERE key = ?1 AND expires_ms > ?2")?;
        let found = statement.query_row((key, now_ms), |row| Ok(Answer { hash: row.get(0)?, body: row.get(1)? }));
        Ok(found.optional()?)
    }

    /// Where this gateway is enrolled; `None` if it is not.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn enrolment(&self) -> Result<Option<Enrolment>, Error> {
        let mut statement = self.db.prepare_cached(
            "SELECT hub_url, name, device, enrolled_ms, authority, key, certificate, renew_ms FROM enrolment",
        )?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Enrolment {
                hub_url: row.get(0)?,
                name: row.get(1)?,
                device: row.get(2)?,
                enrolled_ms: row.get(3)?,
                identity: identity(row, 4)?,
            })
        };
        Ok(statement.query_row([], read).optional()?)
    }

    /// The key of an enrolment that was begun; `None` if the last one came to its end.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn enrolling(&self) -> Result<Option<Enrolling>, Error> {
        let mut statement = self.db.prepare_cached("SELECT mark, key FROM enrolling")?;
        let read = |row: &rusqlite::Row<'_>| Ok(Enrolling { mark: row.get(0)?, key: Zeroizing::new(row.get(1)?) });
        Ok(statement.query_row([], read).optional()?)
    }

    /// How the last syncs went.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn sync_report(&self) -> Result<SyncReport, Error> {
        let mut statement = self.db.prepare_cached(
            "SELECT attempt_ms, success_ms, error_class, error, bytes_up, bytes_down, exchanges FROM sync_report",
        )?;
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let read = |row: &rusqlite::Row<'_>| {
            let counts: [i64; 3] = [row.get(4)?, row.get(5)?, row.get(6)?];
            let [bytes_up, bytes_down, exchanges] = counts.map(|count| count as u64);
            Ok(SyncReport {
                attempt_ms: row.get(0)?,
                success_ms: Some(row.get(1)?).filter(|ms| *ms != 0),
                error_class: text(row.get(2)?),
                error: text(row.get(3)?),
                bytes_up,
                bytes_down,
                exchanges,
            })
        };
        Ok(statement.query_row([], read).optional()?.unwrap_or_default())
    }
}
