//! What own ops may say that they had seen, after the hub's numbers began to mean something else.

use std::sync::Arc;

use crate::id::HubSeq;
use crate::limits::BOUNDS_KEPT_MAX;
use crate::message::Bound;
use crate::record::{Cell, Op, Record, Stamp};

/// Adds what follows from another epoch. Of earlier ones those stay that leave less, since the later one reaches at least as far; and
/// the one that leaves most, which tells what had come before anybody went back. So there is at most one for each epoch; of too many the
/// two oldest become one that leaves less.
pub(super) fn add(bounds: &mut Vec<Bound>, new: Bound) {
    let of_stream = bounds.iter().filter(|old| old.stream == new.stream);
    let most = of_stream.map(|old| old.common).max().filter(|most| *most > new.common);
    bounds.retain(|old| old.stream != new.stream || old.common < new.common || Some(old.common) == most);
    bounds.push(new);
    let mut of_stream = bounds.iter_mut().filter(|bound| bound.stream == new.stream);
    if let (Some(oldest), Some(next)) = (of_stream.next(), of_stream.next()) {
        let gone = *oldest;
        if of_stream.count() + 2 > BOUNDS_KEPT_MAX {
            next.common = next.common.min(gone.common);
            bounds.retain(|bound| *bound != gone);
        }
    }
}

/// An op as it counts: where it says what it had seen in the numbers of an epoch that is gone, only what both epochs share.
pub(crate) fn bounded(op: &Op, bounds: &[Bound]) -> Option<Op> {
    let is_under = |bound: &&Bound| bound.stream == op.stamp.dot.stream && op.stamp.dot.seq <= bound.upto;
    let common = bounds.iter().filter(is_under).map(|bound| bound.common).min()?;
    let seen = op.stamp.seen.min(common);
    Some(Op { stamp: Stamp { seen, ..op.stamp.clone() }, ..op.clone() })
}

/// The same for all that stands in a record.
pub(super) fn bound_record(record: &mut Record, common: HubSeq) {
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
    fn an_earlier_bound_stays_as_long_as_it_leaves_less_and_the_one_that_leaves_most() {
        let mut bounds = Vec::new();
        add(&mut bounds, bound(2, 5));
        add(&mut bounds, Bound { stream: Stream::Urgent, ..bound(9, 1) });
        add(&mut bounds, bound(4, 7));
        assert_eq!(bounds.len(), 3);
        add(&mut bounds, bound(5, 6));
        assert_eq!(bounds.len(), 4);
        add(&mut bounds, bound(6, 5));
        let of_stream: Vec<_> = bounds.iter().filter(|bound| bound.stream == Stream::Normal).collect();
        assert_eq!(of_stream, [&bound(4, 7), &bound(6, 5)]);
    }

    #[test]
    fn of_too_many_the_oldest_become_one_that_leaves_less() {
        let mut bounds = Vec::new();
        for n in 0..=BOUNDS_KEPT_MAX as u64 {
            add(&mut bounds, bound(n, n));
        }
        assert_eq!(bounds.len(), BOUNDS_KEPT_MAX);
        assert_eq!((bounds[0], bounds[1]), (bound(1, 0), bound(2, 2)));
    }
}
