//! Stamps of the future.
//!
//! Nobody has seen a number that this hub has not given yet.
//!
//! A gateway repairs its times before it sends, so such a stamp comes from a program that does not, or from a hub whose own
//! clock went back. It is never refused: it counts as of now, and says so.

use std::sync::Arc;

use crate::clock::{Hlc, TimeQuality};
use crate::id::HubSeq;
use crate::limits::CLOCK_AHEAD_MS_MAX;
use crate::record::{Op, Record, Stamp, State};

/// The op as it counts if its time has not come yet by the hub's clock, or if it says that it had seen more than the hub's head;
/// `None` if neither is so. Two ops of one origin keep their order: what is clamped later is clamped to a later time.
pub fn clamped(op: &Op, now_ms: u64, head: HubSeq) -> Option<Op> {
    clamped_stamp(&op.stamp, now_ms, head).map(|stamp| Op { stamp, ..op.clone() })
}

fn clamped_stamp(stamp: &Stamp, now_ms: u64, head: HubSeq) -> Option<Stamp> {
    let latest_ms = now_ms.saturating_add(CLOCK_AHEAD_MS_MAX);
    let latest = Hlc::at(latest_ms);
    let captured_latest_ms = i64::try_from(latest_ms).unwrap_or(i64::MAX);
    let Stamp { hlc, captured_ms, seen, quality, .. } = *stamp;
    let is_early = hlc > latest || captured_ms > captured_latest_ms;
    if !is_early && seen <= head {
        return None;
    }
    Some(Stamp {
        hlc: hlc.min(latest),
        captured_ms: captured_ms.min(captured_latest_ms),
        quality: if is_early { TimeQuality::Clamped } else { quality },
        seen: seen.min(head),
        ..stamp.clone()
    })
}

/// The same for a record that a gateway shows: whoever shows it says when its values were written, and what their authors knew.
pub(super) fn clamp_record(record: &mut Record, now_ms: u64, head: HubSeq) {
    let clamp = |stamp: &mut Arc<Stamp>| {
        if let Some(clamped) = clamped_stamp(stamp, now_ms, head) {
            *stamp = Arc::new(clamped);
        }
    };
    for cell in record.cells.values_mut() {
        cell.stamps_mut().into_iter().for_each(clamp);
        if let State::Log(log) = &mut cell.state {
            let latest = Hlc::at(now_ms.saturating_add(CLOCK_AHEAD_MS_MAX));
            let entries = std::mem::take(&mut log.entries).into_iter();
            log.entries = entries.map(|(hlc, dot, nth, value)| (hlc.min(latest), dot, nth, value)).collect();
        }
    }
}
