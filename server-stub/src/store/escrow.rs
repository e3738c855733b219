//! Copies of gateways' keys, sealed: what is here opens nothing without the file beside the database.

use rusqlite::{OptionalExtension, params};
use sync_protocol::id::Device;

use super::Tx;
use super::tx::small;
use crate::error::StoreError;

/// Keys that are kept of one gateway; the oldest goes for a new one. Older cards and backups need older keys.
const KEYS_MAX: i64 = 16;

/// The name of a key.
pub(crate) type KeyName = [u8; 16];

/// A key that is kept.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) device: Device,
    pub(crate) name: KeyName,
    pub(crate) sealed: Vec<u8>,
    pub(crate) kept_ms: i64,
}

impl Tx<'_> {
    /// Keeps a copy. One that is there under its name is of the same key, and goes for it; how often it was printed stays.
    pub(crate) fn keep_key(&mut self, device: Device, name: &KeyName, sealed: &[u8]) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        let mut insert = self.sql(
            "INSERT INTO escrow (device, name, sealed, kept_ms) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET sealed = ?3, kept_ms = ?4",
        )?;
        insert.execute(params![device.0, name, sealed, now_ms])?;
        drop(insert);
        let mut delete = self.sql(
            "DELETE FROM escrow WHERE device = ?1 AND name NOT IN
                 (SELECT name FROM escrow WHERE device = ?1 ORDER BY kept_ms DESC, name LIMIT ?2)",
        )?;
        delete.execute(params![device.0, KEYS_MAX])?;
        Ok(())
    }

    /// The key of this name that a gateway deposited, for the gateway itself.
    pub(crate) fn fetch_key(&mut self, device: Device, name: &KeyName) -> Result<Option<Vec<u8>>, StoreError> {
        let now_ms = self.now_ms;
        let mut update =
            self.sql("UPDATE escrow SET fetched_ms = ?3 WHERE device = ?1 AND name = ?2 RETURNING sealed")?;
        Ok(update.query_row(params![device.0, name, now_ms], |row| row.get(0)).optional()?)
    }

    /// The key of this name that a gateway deposited, as it is sealed.
    pub(crate) fn kept_key(&mut self, device: Device, name: &KeyName) -> Result<Option<Vec<u8>>, StoreError> {
        let mut select = self.sql("SELECT sealed FROM escrow WHERE device = ?1 AND name = ?2")?;
        Ok(select.query_row(params![device.0, name], |row| row.get(0)).optional()?)
    }

    /// All keys of a gateway, the newest first, for an admin; that he saw them is noted.
    pub(crate) fn export_keys(&mut self, gateway: &str) -> Result<Vec<Sealed>, StoreError> {
        let now_ms = self.now_ms;
        let of_gateway = "device = (SELECT device FROM gateways WHERE name = ?1)";
        self.sql(&format!("UPDATE escrow SET exported_ms = ?2, exports = exports + 1 WHERE {of_gateway}"))?
            .execute(params![gateway, now_ms])?;
        let mut select = self.sql(&format!(
            "SELECT device, name, sealed, kept_ms FROM escrow WHERE {of_gateway} ORDER BY kept_ms DESC, name"
        ))?;
        let read = |row: &rusqlite::Row<'_>| {
            let (device, name) = (Device(small(row.get(0)?)), row.get(1)?);
            Ok(Sealed { device, name, sealed: row.get(2)?, kept_ms: row.get(3)? })
        };
        let keys = select.query_map([gateway], read)?;
        Ok(keys.collect::<rusqlite::Result<_>>()?)
    }
}
