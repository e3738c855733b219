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
    /// The name of the gateway that deposited it.
    pub(crate) gateway: String,
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

    /// The key of this name that a gateway deposited, as it is sealed.
    pub(crate) fn kept_key(&mut self, device: Device, name: &KeyName) -> Result<Option<Vec<u8>>, StoreError> {
        let mut select = self.sql("SELECT sealed FROM escrow WHERE device = ?1 AND name = ?2")?;
        Ok(select.query_row(params![device.0, name], |row| row.get(0)).optional()?)
    }

    /// The keys of this name for the gateway itself, and by whom each was deposited; its own first. What a twin deposits is kept
    /// under the number of the first that has its key, so it is given as well what one deposited that had this key before.
    pub(crate) fn fetch_keys(&mut self, device: Device, name: &KeyName) -> Result<Vec<(Device, Vec<u8>)>, StoreError> {
        let now_ms = self.now_ms;
        let mut update = self.sql(
            "UPDATE escrow SET fetched_ms = ?3 WHERE name = ?2 AND (device = ?1 OR device IN
                 (SELECT former.device FROM gateways own JOIN (
                      SELECT device, cert_key FROM former_cert_keys UNION ALL SELECT device, cert_key FROM revoked_keys
                  ) former ON former.cert_key = own.cert_key WHERE own.device = ?1))
             RETURNING device, sealed",
        )?;
        let read = |row: &rusqlite::Row<'_>| Ok((Device(small(row.get(0)?)), row.get(1)?));
        let keys = update.query_map(params![device.0, name, now_ms], read)?;
        let mut keys: Vec<(Device, Vec<u8>)> = keys.collect::<rusqlite::Result<_>>()?;
        keys.sort_by_key(|(of, _)| *of != device);
        Ok(keys)
    }

    /// All keys of a gateway, the newest first, for an admin; that he saw them is noted. What was deposited by those from whose card
    /// its card was copied is among them.
    pub(crate) fn export_keys(&mut self, gateway: &str) -> Result<Vec<Sealed>, StoreError> {
        let now_ms = self.now_ms;
        let line = "WITH RECURSIVE line (device) AS (
                SELECT device FROM gateways WHERE name = ?1
                UNION SELECT twin_of FROM gateways JOIN line ON line.device = gateways.device WHERE twin_of <> 0
            )";
        self.sql(&format!(
            "{line} UPDATE escrow SET exported_ms = ?2, exports = exports + 1 WHERE device IN (SELECT device FROM line)"
        ))?
        .execute(params![gateway, now_ms])?;
        let mut select = self.sql(&format!(
            "{line} SELECT escrow.device, gateways.name, escrow.name, sealed, kept_ms
             FROM escrow JOIN gateways ON gateways.device = escrow.device
             WHERE escrow.device IN (SELECT device FROM line) ORDER BY kept_ms DESC, escrow.name"
        ))?;
        let read = |row: &rusqlite::Row<'_>| {
            let (device, gateway, name) = (Device(small(row.get(0)?)), row.get(1)?, row.get(2)?);
            Ok(Sealed { device, gateway, name, sealed: row.get(3)?, kept_ms: row.get(4)? })
        };
        let keys = select.query_map([gateway], read)?;
        Ok(keys.collect::<rusqlite::Result<_>>()?)
    }
}
