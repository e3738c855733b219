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
    // Which erasure is known stays true, whoever named it: without it the hub would not take what others wrote.
    let named = record.cells.remove_entry(FieldName::ERASED);
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
    if !record.cells.is_empty() {
        record.cells.extend(named);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TimeQuality;
    use crate::erase::{is_after, mark};
    use crate::id::{HubSeq, RecordKey, Source, Stream};
    use crate::merge;
    use crate::record::{Change, Op, Stamp};
    use crate::rules::Rules;

    #[test]
    fn the_erasure_that_a_lost_write_named_stays_known_for_what_others_wrote() {
        let key = RecordKey::parse("visit/v1").unwrap();
        let write = |record: &mut Record, origin, seq, changes: BTreeMap<FieldName, Change>| {
            let stamp = Stamp {
                dot: Dot { origin: Origin(origin), stream: Stream::Normal, seq: Seq(seq) },
                hlc: Default::default(),
                captured_ms: 0,
                hseq: HubSeq::NONE,
                seen: HubSeq::NONE,
                quality: TimeQuality::Unknown,
                source: Source::default(),
                author: None,
                settles: None,
            };
            let op = Op { stamp, key: key.clone(), changes };
            merge::apply(record, &op, HubSeq(seq), Rules::default().of(&key.record_type)).unwrap();
        };
        let put = |name: &str| (FieldName::new(name).unwrap(), Change::put(crate::value::Value::Bool(true)));
        let mut record = Record::default();
        write(&mut record, 3, 5, BTreeMap::from([(FieldName::erased(), mark(7)), put("own")]));
        let mut alone = record.clone();
        write(&mut record, 4, 1, BTreeMap::from([put("other")]));
        take_back(&mut record, Origin(3), &[Seq(4); 3], &BTreeMap::new());
        assert!(is_after(&record, 7) && record.cells.len() == 2, "{record:?}");
        take_back(&mut alone, Origin(3), &[Seq(4); 3], &BTreeMap::new());
        assert!(alone.cells.is_empty(), "{alone:?}");
    }
}
