//! What the admins see of each gateway: last contact, what it has not sent, and how it is.

use rusqlite::{Row, params};
use sync_protocol::id::{Device, Origin, Scope, Stream};
use sync_protocol::message::{About, Condition, Request, StreamHead};

use super::authority::SPENT_KEYS;
use super::enrolment::scopes_of;
use super::tx::{bits, number, small};
use super::{Daily, Tx};
use crate::error::StoreError;

/// The same refusal of a gateway is written down once in this time, so that one that keeps knocking costs no disk.
const ERROR_EVERY_MS: i64 = 60_000;

/// What a request told of its sender.
#[derive(Debug, Clone)]
pub(crate) struct Contact {
    device: Device,
    origin: Origin,
    skew_ms: Option<i64>,
    repairs: u64,
    streams: Vec<(Stream, u64, u64)>,
    about: Option<About>,
    condition: Option<Condition>,
}

impl Contact {
    /// Takes from a request what is for the admins. `now_ms` is when it came.
    pub(crate) fn of(request: &Request, now_ms: i64) -> Contact {
        let ms = |seconds: u64| i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        let oldest_ms = |at: &StreamHead| match at.last > at.acked {
            true => u64::try_from(now_ms.saturating_sub(ms(at.age_seconds))).unwrap_or(0),
            false => 0,
        };
        Contact {
            device: request.device,
            origin: request.origin,
            skew_ms: request.ahead_seconds.map(|seconds| seconds.saturating_mul(1000)),
            repairs: request.repairs,
            streams: request.streams.iter().map(|s| (s.stream, s.last.0, oldest_ms(s))).collect(),
            about: request.about.clone(),
            condition: request.condition,
        }
    }
}

/// One gateway, as it stands.
#[derive(Debug, Clone)]
pub(crate) struct FleetRow {
    pub(crate) device: Device,
    pub(crate) name: String,
    pub(crate) origin: Origin,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) source: u8,
    pub(crate) is_revoked: bool,
    /// A gateway that has the key of its card was shut out: itself, or one with a copy.
    pub(crate) is_key_spent: bool,
    pub(crate) code_until_ms: i64,
    pub(crate) is_code_open: bool,
    pub(crate) enrolled_ms: i64,
    pub(crate) hardware: String,
    pub(crate) contact_ms: i64,
    pub(crate) skew_ms: i64,
    pub(crate) version: String,
    pub(crate) disk_free: u64,
    pub(crate) records: u64,
    pub(crate) repairs: u64,
    /// What tells its box from others, in hex digits; empty if it is not known.
    pub(crate) box_print: String,
    /// The gateway from whose card its card was copied.
    pub(crate) twin_of: Option<String>,
    /// Gateways that run with a copy of its card.
    pub(crate) twins: Option<String>,
    pub(crate) last_error: String,
    pub(crate) last_error_ms: i64,
    /// Ops that it had at its last contact and that have not arrived.
    pub(crate) unsent: u64,
    /// When the oldest of them was captured, milliseconds since 1970; 0 if there is none.
    pub(crate) oldest_ms: i64,
    /// Its ops in quarantine.
    pub(crate) held: u64,
    /// How often lately its history did not fit what is here.
    pub(crate) misfits: u32,
    /// How its box is; `None` if it has not said.
    pub(crate) condition: Option<Condition>,
}

const FLEET: &str = "WITH printed AS (
        SELECT device, name, twin_of, CASE WHEN trim(hex(print), '0') = '' THEN '' ELSE lower(hex(print)) END box FROM gateways
    ), boxes AS (
        SELECT *, CASE box WHEN '' THEN '' ELSE ' (box ' || box || ')' END boxed FROM printed
    )
    SELECT device, name, origin, scopes, source, is_revoked, code_until_ms,
    code_hash <> x'' AND NOT code_used, enrolled_ms, hardware, contact_ms, skew_ms, version, disk_free, records, repairs,
    last_error, last_error_ms, coalesce(held, 0),
    (SELECT name || boxed FROM boxes WHERE boxes.device = gateways.twin_of),
    (SELECT group_concat(name || boxed, ', ') FROM boxes WHERE boxes.twin_of = gateways.device),
    (SELECT box FROM boxes WHERE boxes.device = gateways.device)";

fn fleet_sql(which: &str) -> String {
    format!(
        "{FLEET}, cert_key IN ({SPENT_KEYS}) FROM gateways
         LEFT JOIN (SELECT device, count(*) held FROM quarantine GROUP BY device) USING (device) {which}"
    )
}

impl Tx<'_> {
    /// Notes a contact with a gateway that has shown its token.
    pub(crate) fn note_contact(&mut self, contact: &Contact) -> Result<(), StoreError> {
        let device = contact.device.0;
        let mut update = self.sql(
            "UPDATE gateways SET contact_ms = ?2, skew_ms = coalesce(?3, skew_ms), repairs = ?4, last_error = ''
             WHERE device = ?1",
        )?;
        update.execute(params![device, self.now_ms, contact.skew_ms, bits(contact.repairs)])?;
        for (stream, last, oldest_ms) in &contact.streams {
            // A write that changes nothing would still cost a page.
            let mut upsert = self.sql(
                "INSERT INTO gateway_streams (device, stream, origin, last, oldest_ms) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET origin = ?3, last = ?4, oldest_ms = ?5
                 WHERE (origin, last, oldest_ms) IS NOT (?3, ?4, ?5)",
            )?;
            upsert.execute(params![device, stream.number(), contact.origin.0, bits(*last), bits(*oldest_ms)])?;
        }
        if let Some(about) = &contact.about {
            let mut update =
                self.sql("UPDATE gateways SET version = ?2, disk_free = ?3, records = ?4 WHERE device = ?1")?;
            update.execute(params![device, about.version, bits(about.disk_free), bits(about.records)])?;
        }
        if let Some(condition) = &contact.condition {
            self.note_condition(contact.device, condition)?;
        }
        Ok(())
    }

    /// Notes why a gateway was turned away.
    pub(crate) fn note_error(&mut self, device: Device, error: &str) -> Result<(), StoreError> {
        let mut update = self.sql(
            "UPDATE gateways SET last_error = ?2, last_error_ms = ?3
             WHERE device = ?1 AND (last_error <> ?2 OR last_error_ms < ?4)",
        )?;
        update.execute(params![device.0, error, self.now_ms, self.now_ms - ERROR_EVERY_MS])?;
        Ok(())
    }

    /// All gateways, by name.
    pub(crate) fn fleet(&mut self) -> Result<Vec<FleetRow>, StoreError> {
        let mut select = self.sql(&fleet_sql("ORDER BY name"))?;
        let rows = select.query_map([], fleet_row)?.collect::<Result<Vec<_>, _>>()?;
        rows.into_iter().map(|row| self.complete(row)).collect()
    }

    /// One gateway by its name.
    pub(crate) fn gateway_named(&mut self, name: &str) -> Result<Option<FleetRow>, StoreError> {
        let mut select = self.sql(&fleet_sql("WHERE name = ?1"))?;
        let row = select.query_map([name], fleet_row)?.next().transpose()?;
        row.map(|row| self.complete(row)).transpose()
    }

    fn complete(&mut self, (mut fleet, scopes): (FleetRow, String)) -> Result<FleetRow, StoreError> {
        fleet.scopes = scopes_of(&scopes)?;
        fleet.condition = self.condition(fleet.device)?;
        fleet.misfits = self.times_lately(fleet.device, Daily::Origin)?;
        let mut select = self.sql(
            "SELECT s.last - coalesce(m.acked, 0), s.oldest_ms FROM gateway_streams s
             LEFT JOIN marks m ON m.origin = s.origin AND m.stream = s.stream
             WHERE s.device = ?1 AND s.origin = ?2 AND s.last > coalesce(m.acked, 0)",
        )?;
        let mut rows = select.query(params![fleet.device.0, fleet.origin.0])?;
        while let Some(row) = rows.next()? {
            let oldest_ms: i64 = row.get(1)?;
            fleet.unsent += number(row.get(0)?);
            if oldest_ms > 0 && (fleet.oldest_ms == 0 || oldest_ms < fleet.oldest_ms) {
                fleet.oldest_ms = oldest_ms;
            }
        }
        Ok(fleet)
    }
}

fn fleet_row(row: &Row<'_>) -> rusqlite::Result<(FleetRow, String)> {
    let fleet = FleetRow {
        device: Device(small(row.get(0)?)),
        name: row.get(1)?,
        origin: Origin(small(row.get(2)?)),
        scopes: Vec::new(),
        source: row.get(4)?,
        is_revoked: row.get(5)?,
        is_key_spent: row.get(22)?,
        code_until_ms: row.get(6)?,
        is_code_open: row.get(7)?,
        enrolled_ms: row.get(8)?,
        hardware: row.get(9)?,
        contact_ms: row.get(10)?,
        skew_ms: row.get(11)?,
        version: row.get(12)?,
        disk_free: number(row.get(13)?),
        records: number(row.get(14)?),
        repairs: number(row.get(15)?),
        last_error: row.get(16)?,
        last_error_ms: row.get(17)?,
        unsent: 0,
        oldest_ms: 0,
        held: number(row.get(18)?),
        misfits: 0,
        condition: None,
        twin_of: row.get(19)?,
        twins: row.get(20)?,
        box_print: row.get(21)?,
    };
    Ok((fleet, row.get(3)?))
}

impl Tx<'_> {
    /// The name of the gateway behind an origin; `hub` for the centre.
    pub(crate) fn who(&mut self, origin: Origin) -> Result<String, StoreError> {
        if origin == Origin::HUB {
            return Ok("hub".to_owned());
        }
        let mut select =
            self.sql("SELECT g.name FROM origins o JOIN gateways g ON g.device = o.device WHERE o.origin = ?1")?;
        let name = select.query_map([origin.0], |row| row.get(0))?.next().transpose()?;
        Ok(name.unwrap_or_else(|| origin.to_string()))
    }
}
