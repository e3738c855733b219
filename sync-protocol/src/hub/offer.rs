//! What a hub that was put back asks of its gateways: the records that it lost, as they hold them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::clamp::clamp_record;
use super::names::{self, Names};
use super::own::{follow_parent, take_along};
use super::quarantine::{free_waiting, reconsider};
use super::{Conversation, LogLine, Logged, Snapshot, Standing, Store, claims, erase};
use crate::edit::render;
use crate::id::{FieldName, HubSeq, Origin, RecordKey, Source};
use crate::merge::{Joining, join, origins, part};
use crate::payload::{Row, Rows};
use crate::record::{Cell, Record};
use crate::rules::OutsideRule;

/// Takes one frame of records that this hub asked for after it was put back: what the gateway holds of the time that was lost
/// is joined with what is here. Others may have written since, and whose it is may never come back.
///
/// # Errors
/// What the store reports; the caller rolls back then.
pub fn receive_offers<S: Store>(store: &mut S, with: &mut Conversation, rows: &Rows) -> Result<(), S::Error> {
    let may_offer = with.standing == Standing::Member && with.gateway.epoch != store.epoch()?;
    let Some(common) = with.request.recovers.filter(|_| may_offer) else { return Ok(()) };
    let head = store.head()?;
    let common = common.min(head);
    let (rules, earlier) = (store.rules()?, with.joined.len());
    for row in &rows.rows {
        let Row::Cells { key, record: offered, whole } = row else { continue };
        with.joined.push(key.clone());
        // Judged as a whole: that its authors knew of an erasure may be said by another one's write.
        let parents = rules.parents(&key.record_type, &render(offered));
        if !erase::may_join(store, key, offered, &parents, with.now_ms)? {
            continue;
        }
        let before = store.record(key)?;
        let stood = before.as_ref().map(Record::scope);
        let mut record = before.unwrap_or_default();
        // What this hub has is only joined within the gateway's view. What it does not have at all may be from a view that it
        // lost as well; and of a record to which only later writes came, it does not know where it belongs.
        let was = record.is_placed().then(|| record.scope());
        let is_elsewhere = was.is_some() && !with.gateway.is_in_view(&record.scope());
        let mut offered = match is_elsewhere {
            // Wherever the record went since: as ops these writes would be taken, too.
            true => part_of(offered, &own_origins(store, with, offered)?),
            false => offered.clone(),
        };
        let is_unread = is_elsewhere && !claims::has_read(store, &with.gateway, key, with.gateway.origin)?;
        if is_unread && rules.of(&key.record_type).outside == OutsideRule::Hold {
            // As ops they wait for a person.
            continue;
        }
        if is_unread {
            // Nor can they say more than an op would: what takes something away would wait for a person then.
            offered.cells.remove(FieldName::DELETED);
            speak_as(&mut offered, &with.gateway.source);
        }
        if offered.cells.is_empty() {
            continue;
        }
        clamp_record(&mut offered, with.now_ms, head);
        let type_rules = rules.of(&key.record_type);
        let Names { applied, forked } = names::settle(store, key, &mut offered)?;
        let hseq = store.next()?;
        // Who cannot have read the record has seen nothing of it, be it under numbers that nobody knows any more.
        let (common, is_whole) = if is_unread { (HubSeq::NONE, false) } else { (common, *whole) };
        let at = Joining { hseq, common, applied, forked, is_whole };
        let place = |record: &Record| rules.place(&key.record_type, &render(record));
        if is_unread {
            let mut tried = record.clone();
            join(&mut tried, key, &offered, &at, type_rules);
            if place(&tried) != place(&record) {
                offered.cells.retain(|name, _| !rules.gives_place(&key.record_type, name));
            }
        }
        let merged = join(&mut record, key, &offered, &at, type_rules);
        store.remember(key, &merged.superseded)?;
        if merged.changed {
            let (parents, place) = (rules.parents(&key.record_type, &render(&record)), place(&record));
            let (is, is_placed) = (record.scope(), record.is_placed());
            store.keep(key, record, &parents)?;
            // Who had it in view, and has nothing to recover any more, has to let go of it.
            if let Some(was) = was.filter(|was| *was != is) {
                store.log(&LogLine { hseq, key: key.clone(), what: Logged::Left(was) })?;
            }
            follow_parent(store, key, &is, place.as_ref(), &rules)?;
            if is_placed && stood.as_ref() != Some(&is) {
                take_along(store, key, &is, &rules)?;
            }
            free_waiting(store, key)?;
        }
    }
    // Ops may have come before the record that they are about.
    let joined: BTreeSet<&RecordKey> = with.joined.iter().skip(earlier).collect();
    for (key, origin) in store.all_held()? {
        if joined.contains(&key) && reconsider(store, &key, origin)? {
            free_waiting(store, &key)?;
        }
    }
    Ok(())
}

/// What these origins wrote of a record, with the erasure that they knew of, whoever named it.
fn part_of(offered: &Record, own: &BTreeSet<Origin>) -> Record {
    let mut part = part(offered, own);
    if !part.cells.is_empty() {
        let named = offered.cells.get_key_value(FieldName::ERASED);
        part.cells.extend(named.map(|(name, cell)| (name.clone(), cell.clone())));
    }
    part
}

/// Has nothing claim to come from a place that counts for more than this one.
fn speak_as(offered: &mut Record, source: &Source) {
    for stamp in offered.cells.values_mut().flat_map(Cell::stamps_mut).filter(|stamp| stamp.source != *source) {
        Arc::make_mut(stamp).source = Source::CLINIC;
    }
}

/// The origins of a record that are the gateway's own, or were before its card was copied; those as well that nobody knows,
/// because they were given in the time that was lost.
fn own_origins<S: Snapshot>(
    store: &mut S,
    with: &Conversation,
    offered: &Record,
) -> Result<BTreeSet<Origin>, S::Error> {
    let (mut own, epoch) = (BTreeSet::new(), store.epoch()?);
    for origin in origins(offered) {
        let is_own = match store.device_of(origin)? {
            Some(device) => device == with.gateway.device || Some(device) == with.gateway.twin_of,
            // One of the present epoch will be somebody's.
            None => !origin.is_of(epoch),
        };
        if is_own {
            own.insert(origin);
        }
    }
    own.remove(&Origin::HUB);
    Ok(own)
}
