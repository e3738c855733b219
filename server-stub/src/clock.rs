//! The wall clock: the one place that asks for the time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time for people and JSON: RFC 3339 in UTC; empty for 0, "never".
pub(crate) fn rfc3339(ms: i64) -> String {
    match ms {
        0 => String::new(),
        ms => jiff::Timestamp::from_millisecond(ms).map(|t| t.to_string()).unwrap_or_default(),
    }
}
