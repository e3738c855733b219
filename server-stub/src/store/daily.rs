//! What a gateway may do only so often in a day, because it costs the hub, or all gateways, more than it costs who asks for it.

use rusqlite::{OptionalExtension, params};
use sync_protocol::id::Device;

use super::Tx;
use crate::error::StoreError;

pub(super) const DAY_MS: i64 = 86_400_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Daily {
    /// It gets another certificate, which is an entry of the audit. It needs one in some weeks.
    Renewal,
    /// It asks again for the answer to its code, which is an entry of the audit. It needs it if the link broke.
    Answer,
    /// It gets the key of its database, which is an entry of the audit. It needs it at each start.
    Key,
    /// Its history does not fit, and it is to go on under another origin.
    Origin,
    /// An origin of it that the hub has forgotten is taken in, or one is made for a file of its card.
    Found,
    /// It shows that the hub must have been put back: all gateways compare what they hold then.
    Loss,
}

impl Daily {
    /// How often in a day.
    pub(crate) fn most(self) -> u32 {
        match self {
            Daily::Renewal | Daily::Answer => 50,
            Daily::Key => 200,
            Daily::Loss | Daily::Origin | Daily::Found => 20,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Daily::Renewal => "renewal",
            Daily::Answer => "answer",
            Daily::Key => "key",
            Daily::Loss => "loss",
            Daily::Origin => "origin",
            Daily::Found => "found",
        }
    }
}

impl Tx<'_> {
    /// Counts that a gateway does something. Whether it may.
    pub(crate) fn once_more(&mut self, device: Device, what: Daily) -> Result<bool, StoreError> {
        let day = self.now_ms / DAY_MS;
        let mut count = self.sql(
            "INSERT INTO daily (device, what, day, times) VALUES (?1, ?2, ?3, 1)
             ON CONFLICT DO UPDATE SET times = CASE day WHEN ?3 THEN times + 1 ELSE 1 END, day = ?3
             RETURNING times",
        )?;
        let times: u32 = count.query_row(params![device.0, what.name(), day], |row| row.get(0))?;
        Ok(times <= what.most())
    }

    /// How often it did so today and, if it has not yet today, on the day before.
    pub(crate) fn times_lately(&mut self, device: Device, what: Daily) -> Result<u32, StoreError> {
        let yesterday = self.now_ms / DAY_MS - 1;
        let mut select = self.sql("SELECT times FROM daily WHERE device = ?1 AND what = ?2 AND day >= ?3")?;
        let times = select.query_row(params![device.0, what.name(), yesterday], |row| row.get(0)).optional()?;
        Ok(times.unwrap_or(0))
    }

    /// Puts what was counted today on the day before, as if a day had passed.
    #[cfg(test)]
    pub(crate) fn a_day_passes(&mut self) -> Result<(), StoreError> {
        self.sql("UPDATE daily SET day = day - 1")?.execute([])?;
        self.sql("UPDATE acts_heard SET day = day - 1")?.execute([])?;
        Ok(())
    }
}
