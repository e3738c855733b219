//! Own writes that a hub which was put back has lost, taken out of what is confirmed here. They go to it again under other
//! numbers; what is confirmed is shown to it as well, and must not bring them under the old ones.

use std::collections::BTreeMap;

use crate::id::{Dot, FieldName, Origin, Seq};
use crate::record::{Record, State};

/// Takes out what `origin` wrote after `acked`, by stream. `counted` is what it had counted until then. What another copy of this
/// card wrote under the same numbers goes, too: the hub has that, and sends it.
pub(super) fn take_back(
    record: &mut Record,
    origin: Origin,
    acked: &[Seq; 3],
    counted: &BTreeMap<FieldName, (u64, u64)>,
) {
    let acked_in = |stream: u8| acked.get(usize::from(stream)).copied().unwrap_or_default();
    let is_lost = |dot: &Dot| dot.origin == origin && dot.seq > acked_in(dot.stream.number());
    record.cells.retain(|name, cell| match &mut cell.state {
        State::Register(entries) => {
            entries.retain(|entry| !is_lost(&entry.stamp.dot));
            !entries.is_empty()
        }
        State::Log(log) => {
            log.entries.retain(|(_, dot, _, _)| !is_lost(dot));
            !log.entries.is_empty()
        }
        State::Set(set) => {
            for ((_, stream), seq) in set.clock.iter_mut().filter(|((of, _), _)| *of == origin) {
                *seq = (*seq).min(acked_in(*stream).0);
            }
            set.clock.retain(|_, seq| *seq > 0);
            for writes in set.members.values_mut() {
                writes.retain(|(of, stream), seq| *of != origin || *seq <= acked_in(*stream).0);
            }
            set.members.retain(|_, writes| !writes.is_empty());
            !set.clock.is_empty()
        }
        State::Counter(counter) => {
            if let Some(total) = counter.totals.get_mut(&origin) {
                let known = counted.get(name).copied().unwrap_or_default();
                *total = (total.0.min(known.0), total.1.min(known.1));
            }
            counter.totals.retain(|_, total| *total != (0, 0));
            !counter.totals.is_empty()
        }
    });
}
