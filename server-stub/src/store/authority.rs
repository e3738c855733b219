//! The hub's own authority, and which keys its gateways' certificates are bound to.

use rusqlite::{OptionalExtension, params};
use sync_protocol::id::Device;
use zeroize::Zeroizing;

use super::Tx;
use super::tx::small;
use crate::error::{HubError, StoreError};
use crate::pki::{Kept, KeyHash};

/// The keys of cards that were shut out, also of those that were replaced since. Copies of a card have one key: once a box with
/// one of them is shut out, the key does not tell any more who asks. A row without a device key is of a card that had been replaced
/// before its gateway was shut out, and was never shut out itself.
pub(super) const SPENT_KEYS: &str = "SELECT cert_key FROM gateways WHERE is_revoked = 1 AND cert_key <> x''
    UNION ALL SELECT cert_key FROM revoked_keys WHERE key <> x'' AND cert_key <> x''";

impl Tx<'_> {
    /// The authority, if there is one.
    pub(crate) fn authority(&mut self) -> Result<Option<Kept>, StoreError> {
        let mut select = self.sql("SELECT key, certificate, address FROM authority")?;
        let kept = select.query_row([], |row| {
            Ok(Kept { key: Zeroizing::new(row.get(0)?), certificate: row.get(1)?, address: row.get(2)? })
        });
        Ok(kept.optional()?)
    }

    /// Keeps an authority, once and for all.
    pub(crate) fn set_authority(&mut self, kept: &Kept) -> Result<(), StoreError> {
        let mut insert = self.sql("INSERT INTO authority (one, key, certificate, address) VALUES (1, ?1, ?2, ?3)")?;
        insert.execute(params![kept.key.as_slice(), kept.certificate, kept.address])?;
        Ok(())
    }

    /// Keeps the address that codes carry.
    pub(crate) fn set_address(&mut self, address: &str) -> Result<(), StoreError> {
        self.sql("UPDATE authority SET address = ?1")?.execute([address])?;
        Ok(())
    }

    /// Keeps where the hub listens: that is in codes if nobody said anything else.
    pub(crate) fn note_bound(&mut self, bound: &str) -> Result<(), StoreError> {
        self.sql("UPDATE authority SET bound = ?1")?.execute([bound])?;
        Ok(())
    }

    /// The address that codes carry; empty if it is not known.
    pub(crate) fn known_address(&mut self) -> Result<String, StoreError> {
        let mut select = self.sql("SELECT CASE address WHEN '' THEN bound ELSE address END FROM authority")?;
        Ok(select.query_row([], |row| row.get(0)).optional()?.unwrap_or_default())
    }

    /// Binds a gateway to a key, in place of the one before.
    pub(crate) fn bind_key(&mut self, device: Device, key: &KeyHash) -> Result<(), StoreError> {
        self.sql("UPDATE gateways SET cert_key = ?2 WHERE device = ?1")?.execute(params![device.0, key])?;
        Ok(())
    }

    /// Keeps the key of a gateway that is about to get another one.
    pub(super) fn keep_former_cert_key(&mut self, device: Device) -> Result<(), StoreError> {
        let mut insert = self.sql(
            "INSERT OR IGNORE INTO former_cert_keys (device, cert_key)
             SELECT device, cert_key FROM gateways WHERE device = ?1 AND cert_key <> x''",
        )?;
        insert.execute([device.0])?;
        Ok(())
    }

    /// Whether a card of this gateway was bound to this key that was revoked and replaced since.
    pub(crate) fn was_bound(&mut self, device: Device, key: &KeyHash) -> Result<bool, StoreError> {
        let mut select = self.sql("SELECT EXISTS (SELECT 1 FROM revoked_keys WHERE device = ?1 AND cert_key = ?2)")?;
        Ok(select.query_row(params![device.0, key], |row| row.get(0))?)
    }

    /// Whether a gateway is bound to this key.
    pub(crate) fn is_bound(&mut self, device: Device, key: &KeyHash) -> Result<bool, StoreError> {
        let mut select = self.sql("SELECT EXISTS (SELECT 1 FROM gateways WHERE device = ?1 AND cert_key = ?2)")?;
        Ok(select.query_row(params![device.0, key], |row| row.get(0))?)
    }

    /// Whether this key may speak as a gateway: one that is bound to it, or was before it was shut out; or one that is not known
    /// here, as a twin is that was parted in a time which this hub has lost, if the key is any gateway's. Such a one has yet to
    /// prove whose twin it is, and is bound by then.
    pub(crate) fn may_speak(&mut self, device: Device, key: &KeyHash) -> Result<bool, StoreError> {
        if self.is_bound(device, key)? || self.was_bound(device, key)? {
            return Ok(true);
        }
        let mut select = self.sql(
            "SELECT NOT EXISTS (SELECT 1 FROM gateways WHERE device = ?1)
                 AND EXISTS (SELECT 1 FROM gateways WHERE cert_key = ?2 AND is_revoked = 0)",
        )?;
        Ok(select.query_row(params![device.0, key], |row| row.get(0))?)
    }

    /// Whether this key may hand in what an old card holds: that of any gateway, or the one which the card's had before.
    pub(crate) fn may_hand_in(&mut self, device: Device, key: &KeyHash) -> Result<bool, StoreError> {
        let mut select = self.sql(
            "SELECT EXISTS (SELECT 1 FROM gateways WHERE cert_key = ?2 AND is_revoked = 0)
                 OR EXISTS (SELECT 1 FROM former_cert_keys WHERE device = ?1 AND cert_key = ?2)",
        )?;
        Ok(select.query_row(params![device.0, key], |row| row.get(0))?)
    }

    /// The gateway that this key alone shows: its number and name. Twins share one key; the first of them stands for all.
    ///
    /// # Errors
    /// [`HubError::RevokedCard`] if one of those that have the key was shut out, because it may be that one who asks;
    /// [`HubError::ForeignCertificate`] if no gateway has it.
    pub(crate) fn owner_of(&mut self, key: &KeyHash) -> Result<(Device, String), HubError> {
        let mut select = self.sql(&format!("SELECT ?1 IN ({SPENT_KEYS})"))?;
        let is_spent: bool = select.query_row(params![key], |row| row.get(0)).map_err(StoreError::from)?;
        if is_spent {
            return Err(HubError::RevokedCard);
        }
        let mut select = self.sql("SELECT device, name FROM gateways WHERE cert_key = ?1 ORDER BY device")?;
        let found = select.query_row(params![key], |row| Ok((Device(small(row.get(0)?)), row.get(1)?)));
        found.optional().map_err(StoreError::from)?.ok_or(HubError::ForeignCertificate)
    }

    /// The names of gateways that have the key of this one, as twins do, and are not shut out.
    pub(crate) fn sharing_key_with(&mut self, name: &str) -> Result<Vec<String>, StoreError> {
        let mut select = self.sql(
            "SELECT other.name FROM gateways one JOIN gateways other ON other.cert_key = one.cert_key
             WHERE one.name = ?1 AND one.cert_key <> x'' AND other.device <> one.device AND other.is_revoked = 0
             ORDER BY other.name",
        )?;
        let names = select.query_map([name], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(names)
    }
}
