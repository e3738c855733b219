//! What is remembered of rescues: former keys, origins made for rescued ops, and which op is which.

use std::sync::Arc;

use rusqlite::params;
use sync_protocol::hub::Store as _;
use sync_protocol::id::{Device, Dot, Origin, RecordKey};
use sync_protocol::identity::DeviceKey;
use sync_protocol::record::Op;

use super::Tx;
use super::tx::{columns, device_key, dot};
use crate::error::StoreError;

impl Tx<'_> {
    pub(super) fn writes_on(&mut self, key: &RecordKey) -> Result<Arc<Vec<Op>>, StoreError> {
        if let Some((_, ops)) = self.writes.as_ref().filter(|(of, _)| of == key) {
            return Ok(Arc::clone(ops));
        }
        let mut select = self.sql("SELECT op FROM history WHERE type = ?1 AND id = ?2 ORDER BY hseq")?;
        let mut rows = select.query([key.record_type.as_str(), key.id.as_str()])?;
        let mut ops = Vec::new();
        while let Some(row) = rows.next()? {
            ops.push(Op::from_canonical(row.get_ref(0)?.as_blob().unwrap_or_default())?);
        }
        drop(rows);
        let ops = Arc::new(ops);
        self.writes = Some((key.clone(), Arc::clone(&ops)));
        Ok(ops)
    }

    /// Keeps the key of a gateway that is about to get another one. Those of one that was revoked are kept apart: an admin shut
    /// its card out, and a new code is for another card.
    pub(super) fn keep_former_key(&mut self, device: Device) -> Result<(), StoreError> {
        let was_revoked = match self.gateway_state(device)? {
            Some(before) => before.is_revoked,
            None => return Ok(()),
        };
        if was_revoked {
            return self.keep_revoked_keys(device);
        }
        let mut insert = self.sql(
            "INSERT OR IGNORE INTO former_keys (device, key)
             SELECT device, key FROM gateways WHERE device = ?1 AND key <> x''",
        )?;
        insert.execute([device.0])?;
        self.keep_former_cert_key(device)
    }

    /// What shows a card that was revoked goes from where it may hand in records to where it may not.
    fn keep_revoked_keys(&mut self, device: Device) -> Result<(), StoreError> {
        for sql in [
            "INSERT OR IGNORE INTO revoked_keys (device, key, cert_key)
             SELECT device, key, cert_key FROM gateways WHERE device = ?1",
            "INSERT OR IGNORE INTO revoked_keys (device, key, cert_key)
             SELECT device, key, x'' FROM former_keys WHERE device = ?1",
            "INSERT OR IGNORE INTO revoked_keys (device, key, cert_key)
             SELECT device, x'', cert_key FROM former_cert_keys WHERE device = ?1",
            "DELETE FROM former_keys WHERE device = ?1",
            "DELETE FROM former_cert_keys WHERE device = ?1",
        ] {
            self.sql(sql)?.execute([device.0])?;
        }
        Ok(())
    }

    pub(super) fn keys_revoked(&mut self, device: Device) -> Result<Vec<DeviceKey>, StoreError> {
        self.keys("SELECT key FROM revoked_keys WHERE device = ?1 AND key <> x''", device)
    }

    pub(super) fn keys_before(&mut self, device: Device) -> Result<Vec<DeviceKey>, StoreError> {
        self.keys("SELECT key FROM former_keys WHERE device = ?1", device)
    }

    fn keys(&mut self, sql: &str, device: Device) -> Result<Vec<DeviceKey>, StoreError> {
        let mut select = self.sql(sql)?;
        let mut rows = select.query([device.0])?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            keys.extend(device_key(row.get_ref(0)?));
        }
        Ok(keys)
    }

    pub(super) fn names_of(&mut self, old: Dot) -> Result<Vec<Dot>, StoreError> {
        let mut select = self.sql(
            "SELECT as_origin, as_stream, as_seq FROM rescued WHERE origin = ?1 AND stream = ?2 AND seq = ?3
             ORDER BY as_origin, as_stream, as_seq",
        )?;
        let mut rows = select.query(columns(old))?;
        let mut names = Vec::new();
        while let Some(row) = rows.next()? {
            names.push(dot(row.get(0)?, row.get(1)?, row.get(2)?)?);
        }
        Ok(names)
    }

    pub(super) fn is_rescue_origin(&mut self, origin: Origin) -> Result<bool, StoreError> {
        Ok(self.sql("SELECT 1 FROM rescue_origins WHERE origin = ?1")?.exists([origin.0])?)
    }

    pub(super) fn new_rescue_origin(&mut self, device: Device, after: Origin) -> Result<Origin, StoreError> {
        let origin = self.new_origin(device, after)?;
        self.sql("INSERT INTO rescue_origins (origin) VALUES (?1)")?.execute([origin.0])?;
        Ok(origin)
    }

    pub(super) fn name_rescued(&mut self, old: Dot, new: Dot) -> Result<(), StoreError> {
        let mut insert = self.sql(
            "INSERT OR IGNORE INTO rescued (origin, stream, seq, as_origin, as_stream, as_seq)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let ((origin, stream, seq), (as_origin, as_stream, as_seq)) = (columns(old), columns(new));
        insert.execute(params![origin, stream, seq, as_origin, as_stream, as_seq])?;
        Ok(())
    }
}
