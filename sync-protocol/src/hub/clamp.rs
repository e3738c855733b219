//! Stamps of the future.
//!
//! A gateway repairs its times before it sends, so such a stamp comes from a program that does not, or from a hub whose own
//! clock went back. It is never refused: it counts as of now, and says so.

use crate::clock::{Hlc, TimeQuality};
use crate::limits::CLOCK_AHEAD_MS_MAX;
use crate::record::{Op, Stamp};

/// The op as it counts if its time has not come yet by the hub's clock; `None` if it has. Two ops of one origin keep their
/// order: what is clamped later is clamped to a later time.
pub fn clamped(op: &Op, now_ms: u64) -> Option<Op> {
    let latest_ms = now_ms.saturating_add(CLOCK_AHEAD_MS_MAX);
    let latest = Hlc::at(latest_ms);
    let captured_latest_ms = i64::try_from(latest_ms).unwrap_or(i64::MAX);
    let Stamp { hlc, captured_ms, .. } = op.stamp;
    if hlc <= latest && captured_ms <= captured_latest_ms {
        return None;
    }
    let stamp = Stamp {
        hlc: hlc.min(latest),
        captured_ms: captured_ms.min(captured_latest_ms),
        quality: TimeQuality::Clamped,
        ..op.stamp.clone()
    };
    Some(Op { stamp, ..op.clone() })
}
