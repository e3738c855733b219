//! What must be true of the records in the end, told from the promises and not from the rules of merging.
//!
//! - Every value that was acknowledged stands in its field, or was replaced by a write whose author had seen it, or lost by
//!   the rule and is in the history.
//! - Lists have each entry exactly once; a member stays in a set unless somebody took it out; a counter is the sum.
//! - What merges by size is the largest, smallest, furthest.
//! - A record is deleted exactly if somebody deleted it who knew of every write to it.

use std::collections::BTreeMap;

use sync_protocol::hub::{Snapshot as _, lineage};
use sync_protocol::id::{Dot, FieldName, HubSeq, Origin, RecordKey};
use sync_protocol::merge::{Presence, Why, presence};
use sync_protocol::record::{Cell, Change, Op, Record, Stamp, State};
use sync_protocol::rules::{DeleteRule, TypeRules};
use sync_protocol::value::Value;

use super::oracle::{Promise, Standing, Writes, bit, id_of, number, writes};
use super::world::World;
use super::{Failure, Kind, fleet};

/// A record and the writes that the hub has applied to it.
struct Case<'a> {
    key: &'a RecordKey,
    record: &'a Record,
    applied: Vec<(u8, &'a Promise)>,
    /// Those of them that came to the hub as ops, and were applied.
    arrived: Writes,
    /// Writes of the time that a restored hub lost and that are no ops there, or wait in
    /// quarantine now: what gateways held of them may be there.
    maybe: Vec<(u8, &'a Promise)>,
}

impl World<'_> {
    /// Judges every record at the hub; the gateways were compared with it before.
    pub(super) fn check_records(&mut self) -> Result<(), Failure> {
        let rules = self.hub.store.rules().unwrap();
        let arrived = writes(self.hub.store.history());
        let missing = self.oracle.with(Standing::Kept) & !arrived & !self.back_as_records();
        if missing != 0 {
            return Err(Failure::new(Kind::Lost, format!("{} never arrived", super::oracle::told(missing))));
        }
        let held = writes(self.hub.store.quarantine().into_iter().map(|held| &held.op));
        self.tally.held += u64::from(held.count_ones());
        let held = held | self.dropped();
        for (key, record) in self.hub.store.records() {
            let of_key = || self.oracle.all().filter(|(_, p)| p.key == *key);
            let is_op = |id: u8| arrived & !held & bit(id) != 0;
            let maybe: Vec<_> =
                of_key().filter(|(id, p)| self.was_restored && !is_op(*id) || self.is_anew(p)).collect();
            let stands = standing(record);
            let is_back = |id: u8| stands & bit(id) != 0 && maybe.iter().any(|(other, _)| *other == id);
            let applied = of_key().filter(|(id, _)| is_op(*id) || is_back(*id)).collect();
            let case = Case { key, record, applied, arrived: arrived & !held, maybe };
            for (name, cell) in &record.cells {
                self.judge(&case, name, cell).map_err(|what| Failure::new(Kind::Vanished, what))?;
            }
            self.judge_presence(&case, rules.of(&key.record_type))?;
            self.tally.needless_rivals += self.needless(record);
        }
        self.check_claims()
    }

    /// Whether a write was dropped, and the hub may have lost the decision. It may come again then, and so may what the hub had made of
    /// the record without it: a gateway shows that.
    fn is_anew(&self, promise: &Promise) -> bool {
        self.was_restored && promise.standing == Standing::Dropped
    }

    /// Writes that a person has dropped, and of which no other copy counts either.
    fn dropped(&self) -> Writes {
        let mut hub = self.hub.store.clone();
        let is_applied =
            |op: &&Op| op.stamp.dot.origin == Origin::HUB || hub.applied_as(op.stamp.dot).unwrap().is_some();
        let (applied, others): (Vec<&Op>, Vec<&Op>) = self.hub.store.history().partition(is_applied);
        writes(others) & !writes(applied)
    }

    /// Writes that a restored hub has lost and of which no op comes again, because their gateway goes on under another origin:
    /// they are back with the records that gateways held.
    fn back_as_records(&self) -> Writes {
        if !self.was_restored {
            return 0;
        }
        // What lost there by the rule of its field is in the history of values.
        let lost = self.hub.store.replaced().iter().filter(|(_, lost)| lost.why != Why::Seen);
        let lost = lost.filter_map(|(_, lost)| id_of(&lost.entry.stamp)).fold(0, |all, id| all | bit(id));
        lost | self.contained_in(self.hub.store.records())
    }

    /// The writes that are in these records.
    pub(super) fn contained_in<'a>(&self, records: impl Iterator<Item = (&'a RecordKey, &'a Record)>) -> Writes {
        let of_sites = self.sites.iter().flat_map(|site| site.store.own()).map(|(op, _)| op);
        let ops: Vec<&Op> = self.hub.store.history().chain(of_sites).collect();
        let contained = |(key, record): (&RecordKey, &Record)| {
            let ops: Vec<&Op> = ops.iter().copied().filter(|op| op.key == *key).collect();
            self.oracle.contained(record, &ops).into_values().fold(0, |all, some| all | some)
        };
        records.map(contained).fold(0, |all, some| all | some)
    }

    /// Whether a write came to a hub that had lost what its author knew. What that was cannot be told in the numbers of the
    /// hub as it is now, so that the write counts as made without knowing it: a delete is kept for review then. That goes for
    /// what was made before the author heard of the loss, and for what was made before the hub had all of it again.
    fn is_bounded(&self, case: &Case<'_>, id: u8) -> bool {
        let of = |op: &&Op| id_of(&op.stamp) == Some(id);
        let Some(counted) = self.hub.store.history().find(of) else { return false };
        let of_sites = self.sites.iter().flat_map(|site| site.store.own()).map(|(op, _)| op);
        let said_more = of_sites.filter(of).any(|op| op.stamp.seen > counted.stamp.seen);
        let knew = |op: &Op| {
            let fields = || case.record.cells.keys();
            id_of(&op.stamp).is_some_and(|edit| fields().any(|name| self.oracle.saw(id, name) & bit(edit) != 0))
        };
        let of_record = self.hub.store.arrivals().filter(|(op, _)| op.key == *case.key);
        let came_later = of_record
            .filter(|(op, _)| op.stamp.dot.origin != counted.stamp.dot.origin && knew(op))
            .any(|(_, hseq)| hseq > counted.stamp.seen);
        // What waited when it came has the number under which it was let go.
        let stamps = case.record.cells.values().flat_map(Cell::stamps);
        let let_go_later = stamps
            .filter(|stamp| stamp.hseq > counted.stamp.seen && stamp.dot.origin != counted.stamp.dot.origin)
            .filter_map(|stamp| id_of(stamp))
            .any(|edit| case.record.cells.keys().any(|name| self.oracle.saw(id, name) & bit(edit) != 0));
        self.was_restored && (said_more || came_later || let_go_later)
    }

    /// Whether the card of a write, or another copy of it, had written to the record under another origin, and the `seen` of the
    /// write does not reach that: it cannot tell that it knew of it before a pull has brought it, so that a delete is kept for review.
    fn is_parted(&self, case: &Case<'_>, id: u8) -> bool {
        let Some(op) = self.hub.store.history().find(|op| id_of(&op.stamp) == Some(id)) else { return false };
        let mut hub = self.hub.store.clone();
        let mut first = |origin| lineage(&mut hub, origin).unwrap().last().copied();
        let Stamp { dot, seen, .. } = &op.stamp;
        let stamps = case.record.cells.values().flat_map(Cell::stamps).filter(|stamp| stamp.hseq > *seen);
        // A set, list or counter bears the stamp of its last write alone.
        let ops = self.hub.store.arrivals().filter(|(op, hseq)| op.key == *case.key && *hseq > *seen);
        let origins = stamps.map(|stamp| stamp.dot.origin).chain(ops.map(|(op, _)| op.stamp.dot.origin));
        let others: Vec<Origin> = origins.filter(|origin| *origin != dot.origin).collect();
        others.into_iter().any(|origin| first(origin) == first(dot.origin))
    }

    /// Whether the author of a write had lost what the hub had confirmed of the record: then it claims to have seen nothing of others,
    /// and a delete is kept for review.
    fn is_of_awaited(&self, case: &Case<'_>, id: u8) -> bool {
        let ops = || self.hub.store.history().filter(|op| op.key == *case.key);
        let written = ops().find(|op| id_of(&op.stamp) == Some(id)).map(|op| &op.stamp);
        written.is_some_and(|stamp| {
            self.damaged.contains(case.key)
                && stamp.seen == HubSeq::NONE
                && ops().any(|op| op.stamp.dot.origin != stamp.dot.origin)
        })
    }

    fn judge(&self, case: &Case<'_>, name: &FieldName, cell: &Cell) -> Result<(), String> {
        let of_field = || case.applied.iter().filter_map(|(id, p)| Some((*id, *p, p.changes.get(name)?)));
        let field = format!("{}, {name}", case.key);
        match &cell.state {
            State::Register(entries) => {
                let put = |change: &Change| match change {
                    Change::Put { value: Some(value), .. } => Some(value.clone()),
                    _ => None,
                };
                let lost = |value: &Value| {
                    let replaced = self.hub.store.replaced().iter();
                    let mut here = replaced.filter(|(key, s)| key == case.key && s.field == *name);
                    here.any(|(_, s)| s.entry.value.as_ref() == Some(value))
                };
                let arrived = of_field().filter(|(id, ..)| case.arrived & bit(*id) != 0);
                for (id, value) in arrived.filter_map(|(id, _, change)| Some((id, put(change)?))) {
                    if !entries.iter().any(|e| e.value.as_ref() == Some(&value)) && !lost(&value) {
                        return Err(format!("{field}: the value of w{id} is neither there nor in the history"));
                    }
                }
                self.judge_size(&field, name, cell.value(), of_field().filter_map(|(.., change)| put(change)))
            }
            State::Log(log) => {
                let mut times: BTreeMap<u8, usize> = BTreeMap::new();
                log.entries.iter().filter_map(|(.., v)| number(v)).for_each(|id| *times.entry(id).or_default() += 1);
                let mut wanted: BTreeMap<u8, usize> = of_field().map(|(id, ..)| (id, 1)).collect();
                wanted.extend(case.maybe.iter().filter(|(id, _)| times.contains_key(id)).map(|(id, _)| (*id, 1)));
                if times != wanted { Err(format!("{field}: entries {times:?} instead of {wanted:?}")) } else { Ok(()) }
            }
            State::Set(set) => {
                let is: Vec<u8> = set.members.keys().filter_map(number).collect();
                let mut wanted: Vec<u8> = Vec::new();
                let mut taken: Vec<u8> = Vec::new();
                for (_, _, change) in of_field() {
                    let Change::Members { add, remove } = change else { continue };
                    wanted.extend(add.iter().filter_map(number));
                    taken.extend(remove.iter().filter_map(|(member, _)| number(member)));
                }
                wanted.retain(|id| !taken.contains(id));
                let (mut is, mut wanted) = (is, wanted);
                let may_be = |id: &u8| {
                    let takes = |p: &Promise| match p.changes.get(name) {
                        Some(Change::Members { remove, .. }) => remove.iter().any(|(m, _)| number(m) == Some(*id)),
                        _ => false,
                    };
                    case.maybe.iter().any(|(other, p)| other == id || takes(p))
                };
                is.retain(|id| !may_be(id));
                wanted.retain(|id| !may_be(id));
                is.sort_unstable();
                wanted.sort_unstable();
                if is != wanted { Err(format!("{field}: members {is:?} instead of {wanted:?}")) } else { Ok(()) }
            }
            State::Counter(counter) => {
                let sum: i64 = of_field().filter(|(_, p, _)| !self.is_anew(p)).map(|(_, p, _)| p.count).sum();
                let maybe = case.maybe.iter().filter(|(_, p)| p.changes.contains_key(name)).map(|(_, p)| p.count);
                let mut sums = vec![sum];
                for count in maybe {
                    sums.extend(sums.clone().into_iter().map(|sum| sum + count));
                }
                if !sums.contains(&counter.sum()) {
                    return Err(format!("{field}: {} instead of {sum}", counter.sum()));
                }
                Ok(())
            }
        }
    }

    fn judge_size(
        &self,
        field: &str,
        name: &FieldName,
        shown: Option<Value>,
        values: impl Iterator<Item = Value>,
    ) -> Result<(), String> {
        if !fleet::BY_SIZE.contains(&name.as_str()) {
            return Ok(());
        }
        let wanted = if name.as_str() == "low" { values.min() } else { values.max() };
        if shown != wanted {
            return Err(format!("{field}: shows {shown:?} instead of {wanted:?}"));
        }
        Ok(())
    }

    fn judge_presence(&self, case: &Case<'_>, rules: &TypeRules) -> Result<(), Failure> {
        let is_delete = |p: &Promise| p.changes.get(FieldName::DELETED).is_some_and(|c| is_put(c, true));
        let is_edit = |p: &Promise| p.changes.keys().any(|name| !name.is_reserved());
        // What lost by the rule does not stand, and does not keep a record either.
        let has_lost = |id: u8, name: &FieldName| {
            let mut lost = self.hub.store.replaced().iter().filter(|(key, _)| key == case.key).map(|(_, lost)| lost);
            lost.any(|s| s.why != Why::Seen && s.field == *name && id_of(&s.entry.stamp) == Some(id))
        };
        let stands = |(id, p): &&(u8, &Promise)| p.changes.keys().any(|n| !n.is_reserved() && !has_lost(*id, n));
        let is_revival = |p: &Promise| p.changes.get(FieldName::DELETED).is_some_and(|c| is_put(c, false));
        // What came back with a record is in nobody's history, so that it cannot be told who had seen it. Of a write of which one
        // field has lost, that field may have gone before anybody else could see it.
        let knew = |id: u8, (edit, p): &(u8, &Promise)| {
            let is_known = |name: &FieldName| self.oracle.saw(id, name) & bit(*edit) != 0 || has_lost(*edit, name);
            // What a person had dropped nobody was shown since, until a hub brought it again that had lost the decision.
            case.arrived & bit(*edit) == 0
                || p.standing == Standing::Dropped
                || p.changes.keys().all(|name| name.as_str() == FieldName::SCOPE || is_known(name))
        };
        let edits = || case.applied.iter().filter(|(_, p)| is_edit(p)).filter(stands);
        let knew_edits = |id: u8| edits().all(|edit| knew(id, edit));
        let knew_all = |id: u8| {
            knew_edits(id) && case.applied.iter().filter(|(_, p)| is_revival(p)).all(|revival| knew(id, revival))
        };
        let deletes: Vec<u8> = case.applied.iter().filter(|(_, p)| is_delete(p)).map(|(id, _)| *id).collect();
        let is_deleted = presence(case.record, rules) == Presence::Deleted;
        let fail = |what: &str| Err(Failure::new(Kind::Presence, format!("{}: {what}", case.key)));
        let came_as_record = case.applied.iter().any(|(id, _)| case.arrived & bit(*id) == 0) || self.is_united(case);
        let is_anew = case.applied.iter().any(|(_, p)| p.standing == Standing::Dropped);
        let may_stay = || {
            came_as_record
                || is_anew
                || self.is_taken_back(case.key)
                || deletes
                    .iter()
                    .any(|id| self.is_bounded(case, *id) || self.is_parted(case, *id) || self.is_of_awaited(case, *id))
        };
        if !deletes.is_empty() && deletes.iter().all(|id| knew_all(*id)) && !is_deleted && !may_stay() {
            return fail("is back, although whoever deleted it knew of every write");
        }
        let may_go = rules.delete == DeleteRule::DeleteWins || deletes.iter().any(|id| knew_edits(*id));
        if is_deleted && !may_go {
            return fail("is deleted, although nobody who deleted it knew of every write");
        }
        Ok(())
    }

    /// Whether the hub has taken back what a write had counted that was dropped, or had before it was put back. That is a write, which
    /// nobody had seen who deleted the record before they heard of it, and which deletes anew what was deleted.
    fn is_taken_back(&self, key: &RecordKey) -> bool {
        let is_count = |op: &Op| op.changes.values().any(|change| matches!(change, Change::Count { .. }));
        let mut own = self.hub.store.history().filter(|op| op.key == *key && op.stamp.dot.origin == Origin::HUB);
        let mut dropped = self.oracle.all().filter(|(_, p)| p.key == *key && p.count != 0);
        own.any(|op| id_of(&op.stamp).is_none() && is_count(op)) || dropped.any(|(_, p)| self.is_anew(p))
    }

    /// Whether a set, list or counter was united with one that a gateway had shown to a restored hub. Under that number it counts as
    /// changed by others, because nobody can tell whose writes are in it, also where its ops come afterwards.
    fn is_united(&self, case: &Case<'_>) -> bool {
        let numbers = || self.hub.store.arrivals().filter(|(op, _)| op.key == *case.key).map(|(_, hseq)| hseq);
        let touch = |cell: &Cell| match &cell.state {
            State::Set(set) => Some(set.touch.basis),
            State::Log(log) => Some(log.touch.basis),
            State::Counter(counter) => Some(counter.touch.basis),
            State::Register(_) => None,
        };
        let mut bases = case.record.cells.values().filter_map(touch).filter(|basis| *basis != HubSeq::NONE);
        self.was_restored && bases.any(|basis| numbers().all(|hseq| hseq != basis))
    }

    /// No write replaced as seen what its author had not seen.
    fn check_claims(&self) -> Result<(), Failure> {
        let at_hub = writes(self.hub.store.history()) | self.back_as_records();
        for (key, lost) in self.hub.store.replaced().iter().filter(|(_, lost)| lost.why == Why::Seen) {
            let (Some(old), Some(new)) = (id_of(&lost.entry.stamp), id_of(&lost.by)) else { continue };
            // What the first of them had replaced went with the hub that was lost.
            let is_void = self.was_restored && self.oracle.with(Standing::Void) & bit(new) != 0;
            // What a person had dropped comes again to a hub that lost the decision, and whoever wrote since was shown nothing of it.
            let is_void = is_void || self.was_restored && self.oracle.with(Standing::Dropped) & bit(old) != 0;
            // What another write had replaced before the hub went back is in the history once more, for another reason.
            let of_sites = self.sites.iter().flat_map(|site| site.store.replaced());
            let mut before = of_sites.filter(|(of, s)| of == key && s.field == lost.field && id_of(&s.by) != Some(new));
            let is_void = is_void || self.was_restored && before.any(|(_, s)| id_of(&s.entry.stamp) == Some(old));
            // Or nobody but the hub that was lost has that in a history: who holds what had replaced it never had the other.
            let is_void =
                is_void || self.was_restored && self.oracle.is_replaced_by_another(old, new, &lost.field, at_hub);
            let is_void = is_void || lost.field.as_str() == FieldName::DELETED && self.is_taken_back(key);
            if !is_void && self.oracle.saw(new, &lost.field) & bit(old) == 0 {
                let what = format!("{key}, {}: w{new} replaced w{old}, which its author had never seen", lost.field);
                return Err(Failure::new(Kind::Claim, what));
            }
        }
        Ok(())
    }

    /// Values that stand beside one whose author had seen them: a conflict that is none.
    fn needless(&self, record: &Record) -> u64 {
        let mut count = 0;
        for (name, cell) in &record.cells {
            let State::Register(entries) = &cell.state else { continue };
            let standing: Vec<u8> = entries.iter().filter_map(|e| id_of(&e.stamp)).collect();
            let seen: Writes = standing.iter().fold(0, |all, id| all | self.oracle.saw(*id, name));
            count += standing.iter().filter(|id| seen & bit(**id) != 0).count() as u64;
        }
        count
    }
}

/// The writes whose stamps stand in a record. A part of a list, set or counter bears the stamp of a write that may not be in it.
fn standing(record: &Record) -> Writes {
    let is_in = |cell: &Cell, dot: Dot| match &cell.state {
        State::Register(_) => true,
        State::Set(set) => set.clock.get(&dot.writer()).is_some_and(|seq| *seq >= dot.seq.0),
        State::Log(log) => log.entries.iter().any(|(_, entry, ..)| *entry == dot),
        State::Counter(counter) => counter.totals.contains_key(&dot.origin),
    };
    let stamps = record.cells.values().flat_map(|cell| {
        let stamps = cell.stamps().into_iter();
        stamps.filter(|stamp| is_in(cell, stamp.dot))
    });
    stamps.filter_map(|stamp| id_of(stamp)).fold(0, |all, id| all | bit(id))
}

fn is_put(change: &Change, deleted: bool) -> bool {
    matches!(change, Change::Put { value: Some(Value::Bool(value)), .. } if *value == deleted)
}
