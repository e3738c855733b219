//! How the box of each gateway is, as it told last.

use rusqlite::{OptionalExtension, params};
use sync_protocol::id::Device;
use sync_protocol::message::{Condition, Reserve};

use super::Tx;
use crate::error::StoreError;

impl Tx<'_> {
    /// Keeps what a gateway told of its box. A word that is known costs no page.
    pub(crate) fn note_condition(&mut self, device: Device, told: &Condition) -> Result<(), StoreError> {
        let Condition { is_power_weak, is_slowed, is_clockless, worn_percent, reserve } = *told;
        let mut upsert = self.sql(
            "INSERT INTO conditions (device, is_weak, is_slow, no_clock, worn, reserve, told_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET is_weak = ?2, is_slow = ?3, no_clock = ?4, worn = ?5, reserve = ?6, told_ms = ?7
             WHERE (is_weak, is_slow, no_clock, worn, reserve) IS NOT (?2, ?3, ?4, ?5, ?6)",
        )?;
        let reserve = i64::try_from(reserve.number()).unwrap_or(0);
        upsert.execute(params![
            device.0,
            is_power_weak,
            is_slowed,
            is_clockless,
            worn_percent,
            reserve,
            self.now_ms
        ])?;
        Ok(())
    }

    /// How the box of a gateway is; `None` if it has not said.
    pub(super) fn condition(&mut self, device: Device) -> Result<Option<Condition>, StoreError> {
        let mut select =
            self.sql("SELECT is_weak, is_slow, no_clock, worn, reserve FROM conditions WHERE device = ?1")?;
        let found = select.query_row([device.0], |row| {
            Ok(Condition {
                is_power_weak: row.get(0)?,
                is_slowed: row.get(1)?,
                is_clockless: row.get(2)?,
                worn_percent: row.get(3)?,
                reserve: Reserve::from_number(row.get::<_, u8>(4)?.into()),
            })
        });
        Ok(found.optional()?)
    }
}
