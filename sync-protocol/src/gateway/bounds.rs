//! What own ops may say that they had seen, after the hub's numbers began to mean something else.

use std::sync::Arc;

use crate::id::HubSeq;
use crate::message::Bound;
use crate::record::{Cell, Op, Record, Stamp};

/// Adds what follows from another epoch. What says no more than that goes, so there is at most one for each epoch.
pub(super) fn add(bounds: &mut Vec<Bound>, new: Bound) {
    // The later bound reaches at least as far, so an earlier one only counts if it leaves less.
    bounds.retain(|old| old.stream != new.stream || old.common < new.common);
    bounds.push(new);
}

/// An op as it counts: where it says what it had seen in the numbers of an epoch that is gone, only what both epochs share.
pub(crate) fn bounded(op: &Op, bounds: &[Bound]) -> Option<Op> {
    let is_under = |bound: &&Bound| bound.stream == op.stamp.dot.stream && op.stamp.dot.seq <= bound.upto;
    let common = bounds.iter().filter(is_under).map(|bound| bound.common).min()?;
    let seen = op.stamp.seen.min(common);
    Some(Op { stamp: Stamp { seen, ..op.stamp.clone() }, ..op.clone() })
}

/// The same for all that stands in a record.
pub(crate) fn bound_record(record: &mut Record, common: HubSeq) {
    let stamps = record.cells.values_mut().flat_map(Cell::stamps_mut);
    for stamp in stamps.filter(|stamp| stamp.seen > common) {
        Arc::make_mut(stamp).seen = common;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Seq, Stream};

    fn bound(upto: u64, common: u64) -> Bound {
        Bound { stream: Stream::Normal, upto: Seq(upto), common: HubSeq(common) }
    }

    #[test]
    fn an_earlier_bound_stays_as_long_as_it_leaves_less() {
        let mut bounds = Vec::new();
        add(&mut bounds, bound(2, 5));
        add(&mut bounds, Bound { stream: Stream::Urgent, ..bound(9, 1) });
        add(&mut bounds, bound(4, 7));
        assert_eq!(bounds.len(), 3);
        add(&mut bounds, bound(6, 5));
        assert_eq!(bounds.len(), 2);
        assert!(bounds.contains(&bound(6, 5)), "{bounds:?}");
    }
}
