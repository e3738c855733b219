//! Numbers of history rows: incarnation, lane and sequence number in one integer.
//!
//! Own ops of a stream lie together and in order, so that what must be sent, and any single op, is found by the primary key
//! alone; a second index would cost a page in every commit. A lane is a stream; the last lane holds changes from the hub.

use sync_protocol::id::{Seq, Stream};

const SEQ_BITS: u32 = 36;
const SEQ_MAX: u64 = (1 << SEQ_BITS) - 1;
const LANES: i64 = 4;

/// The lane of changes from the hub.
pub(super) const HUB_LANE: u8 = 3;

/// The number of a row. A sequence number beyond 68 thousand million would end on the last one.
pub(super) fn number(incarnation: i64, lane: u8, seq: u64) -> i64 {
    ((incarnation * LANES + i64::from(lane)) << SEQ_BITS) | (seq.min(SEQ_MAX) as i64)
}

/// The number of an own op.
pub(super) fn own(incarnation: i64, stream: Stream, seq: Seq) -> i64 {
    number(incarnation, stream.number(), seq.0)
}

/// The incarnation of a row.
pub(super) fn incarnation(number: i64) -> i64 {
    (number >> SEQ_BITS) / LANES
}

/// The lane of a row.
pub(super) fn lane(number: i64) -> u8 {
    ((number >> SEQ_BITS) % LANES) as u8
}

/// The last number of the lane that this row is in.
pub(super) fn lane_end(number: i64) -> i64 {
    number | SEQ_MAX as i64
}

/// Whether the row is a change from the hub.
pub(super) fn is_hub(number: i64) -> bool {
    lane(number) == HUB_LANE
}

/// The sequence number within the lane.
pub(super) fn seq(number: i64) -> u64 {
    number as u64 & SEQ_MAX
}
