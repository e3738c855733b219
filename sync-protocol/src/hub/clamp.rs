//! Stamps of the future.
//!
//! Nobody has seen a number that this hub has not given yet.
//!
//! A gateway repairs its times before it sends, so such a stamp comes from a program that does not, or from a hub whose own
//! clock went back. It is never refused: it counts as of now, and says so.

use crate::clock::{Hlc, TimeQuality};
use crate::id::HubSeq;
use crate::limits::CLOCK_AHEAD_MS_MAX;
use crate::record::{Op, Stamp};

/// The op as it counts if its time has not come yet by the hub's clock, or if it says that it had seen more than the hub's head;
/// `None` if neither is so. Two ops of one origin keep their order: what is clamped later is clamped to a later time.
pub fn clamped(op: &Op, now_ms: u64, head: HubSeq) -> Option<Op> {
    let latest_ms = now_ms.saturating_add(CLOCK_AHEAD_MS_MAX);
    let latest = Hlc::at(latest_ms);
    let captured_latest_ms = i64::try_from(latest_ms).unwrap_or(i64::MAX);
    let Stamp { hlc, captured_ms, seen, quality, .. } = op.stamp;
    let is_early = hlc > latest || captured_ms > captured_latest_ms;
    if !is_early && seen <= head {
        return None;
    }
    let stamp = Stamp {
        hlc: hlc.min(latest),
        captured_ms: captured_ms.min(captured_latest_ms),
        quality: if is_early { TimeQuality::Clamped } else { quality },
        seen: seen.min(head),
        ..op.stamp.clone()
    };
    Some(Op { stamp, ..op.clone() })
}
