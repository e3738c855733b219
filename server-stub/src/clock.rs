//! The wall clock: the one place that asks for the time.

use std::time::{SystemTime, UNIX_EPOCH};

use sync_protocol::released::RELEASED_MS;

use crate::error::HubError;

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970, for what others will go by: gateways set their clocks by the hub's.
///
/// # Errors
/// [`HubError::Clock`] if that time has certainly passed long ago.
pub(crate) fn possible_ms() -> Result<i64, HubError> {
    Some(now_ms()).filter(|now_ms| *now_ms >= RELEASED_MS).ok_or(HubError::Clock)
}

/// A time for people and JSON: RFC 3339 in UTC; empty for 0, "never".
pub(crate) fn rfc3339(ms: i64) -> String {
    match ms {
        0 => String::new(),
        ms => jiff::Timestamp::from_millisecond(ms).map(|t| t.to_string()).unwrap_or_default(),
    }
}
