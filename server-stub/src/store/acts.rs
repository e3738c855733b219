//! Acts of gateways, on their way into the audit.
//!
//! An act is known by the name that its gateway gave it at random, and not by its number: cards are copied and put back, and then
//! give numbers again. The names are kept as long as the audit, which is for ever; they are a tenth of it.

use rusqlite::{OptionalExtension, params};
use serde_json::json;
use sync_protocol::id::Device;

use super::Tx;
use super::daily::DAY_MS;
use super::tx::{bits, number};
use crate::acts::{ACTS_A_DAY, Act};
use crate::audit::{Actor, What};
use crate::error::StoreError;

/// What a gateway has told of today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Heard {
    day: i64,
    taken: u64,
    dropped: u64,
}

impl Tx<'_> {
    /// Writes acts of a gateway into the audit, those that are not there yet, up to what it may tell in a day. Gives the number of
    /// the last one that is there now; `None` if not even the first is.
    pub(crate) fn take_acts(
        &mut self,
        device: Device,
        gateway: &Actor,
        acts: &[Act],
        dropped: u64,
    ) -> Result<Option<u64>, StoreError> {
        let before = self.heard_of(device)?;
        let day = self.now_ms / DAY_MS;
        let mut heard = if before.day == day { before } else { Heard { day, taken: 0, ..before } };
        let mut upto = None;
        for act in acts {
            if !self.has_act(device, act)? {
                if heard.taken >= ACTS_A_DAY {
                    break;
                }
                let who = act.actor(gateway);
                self.audit(&who, What::GatewayAct, &act.target(gateway))?;
                self.sql("INSERT INTO acts (device, name) VALUES (?1, ?2)")?.execute(params![device.0, act.name])?;
                heard.taken += 1;
            }
            upto = Some(act.number);
        }
        // Not only more: of two copies of a card each has dropped its own.
        if dropped > 0 && dropped != heard.dropped && heard.taken < ACTS_A_DAY {
            let target = json!({ "gateway": gateway.gateway_name(), "did": "drop-acts", "in_all": dropped });
            self.audit(gateway, What::GatewayAct, &target)?;
            heard = Heard { taken: heard.taken + 1, dropped, ..heard };
        }
        if heard.taken > 0 && heard != before {
            let mut insert =
                self.sql("INSERT OR REPLACE INTO acts_heard (device, day, taken, dropped) VALUES (?1, ?2, ?3, ?4)")?;
            insert.execute(params![device.0, heard.day, bits(heard.taken), bits(heard.dropped)])?;
        }
        Ok(upto)
    }

    fn has_act(&mut self, device: Device, act: &Act) -> Result<bool, StoreError> {
        let mut select = self.sql("SELECT EXISTS (SELECT 1 FROM acts WHERE device = ?1 AND name = ?2)")?;
        Ok(select.query_row(params![device.0, act.name], |row| row.get(0))?)
    }

    fn heard_of(&mut self, device: Device) -> Result<Heard, StoreError> {
        let mut select = self.sql("SELECT day, taken, dropped FROM acts_heard WHERE device = ?1")?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Heard { day: row.get(0)?, taken: number(row.get(1)?), dropped: number(row.get(2)?) })
        };
        Ok(select.query_row([device.0], read).optional()?.unwrap_or_default())
    }
}
