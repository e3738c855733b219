//! What a gateway may do only so often in a day, because it costs the hub, or all gateways, more than it costs who asks for it.

use rusqlite::params;
use sync_protocol::id::Device;

use super::Tx;
use crate::error::StoreError;

pub(super) const DAY_MS: i64 = 86_400_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Daily {
    /// It gets another certificate, which is an entry of the audit. It needs one in some weeks.
    Renewal,
    /// It gets the key of its database, which is an entry of the audit. It needs it at each start.
    Key,
    /// It shows that the hub must have been put back: all gateways compare what they hold then.
    Loss,
}

impl Daily {
    /// How often in a day.
    pub(crate) fn most(self) -> u32 {
        match self {
            Daily::Renewal => 50,
            Daily::Key => 200,
            Daily::Loss => 20,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Daily::Renewal => "renewal",
            Daily::Key => "key",
            Daily::Loss => "loss",
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

    /// Puts what was counted today on the day before, as if a day had passed.
    #[cfg(test)]
    pub(crate) fn a_day_passes(&mut self) -> Result<(), StoreError> {
        self.sql("UPDATE daily SET day = day - 1")?.execute([])?;
        self.sql("UPDATE acts_heard SET day = day - 1")?.execute([])?;
        Ok(())
    }
}
