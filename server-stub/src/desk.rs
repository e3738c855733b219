//! Writes at the centre: records, settled conflicts, decisions on quarantine.

use serde_json::{Map, Value as Json};
use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::{Capture, Intent};
use sync_protocol::hub::{self, Written};
use sync_protocol::id::{Author, Dot, FieldName, HubSeq, RecordKey, Scope};
use sync_protocol::limits::NOTE_BYTES_MAX;
use sync_protocol::merge::{Presence, presence};
use sync_protocol::record::Record;

use crate::account::Sight;
use crate::caller::Caller;
use crate::error::HubError;
use crate::store::{HeldRow, Past, Tx};
use crate::view;

/// Who writes at the centre, what they see, and where a new record belongs whose type does not say.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) author: Option<Author>,
    pub(crate) home: Scope,
    pub(crate) sight: Sight,
}

impl Who {
    /// Somebody over HTTP, with what was said of author and scope.
    pub(crate) fn new(caller: &Caller, author: Option<&str>, scope: Option<&str>) -> Result<Who, HubError> {
        let sight = caller.sight.clone();
        let home = match scope {
            Some(scope) => Scope::new(scope)?,
            None => sight.scopes().first().cloned().unwrap_or_else(Scope::root),
        };
        Ok(Who { author: caller.author(author)?, home, sight })
    }

    /// Whoever types a command.
    pub(crate) fn at_the_keyboard(author: Option<&str>) -> Result<Who, HubError> {
        let author = author.map(Author::new).transpose()?;
        Ok(Who { author, home: Scope::root(), sight: Sight::everything() })
    }
}

/// What shall become of a conflict.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// This value stands in the field.
    Value(FieldName, Json),
    /// The field is removed.
    Remove(FieldName),
    /// The record is deleted, or stays, after a delete met an edit.
    Delete(bool),
}

/// Carries out a write at the centre, within what who writes sees: of records elsewhere there is nothing to be seen, and none is
/// put there.
pub(crate) fn write(tx: &mut Tx<'_>, key: RecordKey, intent: Intent, who: &Who) -> Result<Written, HubError> {
    let there = hub::Snapshot::record(tx, &key)?;
    if there.is_some_and(|record| !who.sight.sees(&record.scope())) {
        return Err(missing(&key));
    }
    let wish =
        Capture { key, intent, base: None, author: who.author.clone(), now_ms: tx.now_ms, quality: TimeQuality::Good };
    let written = hub::write(tx, wish, &who.home)?;
    // Where a change that waits in quarantine will be, nobody knows yet.
    let is_within = !written.is_held && who.sight.sees(&written.captured.record.scope());
    match is_within || who.sight.sees_everything() {
        true => Ok(written),
        false => Err(HubError::NotAllowed("this would put the record where you do not see it".to_owned())),
    }
}

fn missing(key: &RecordKey) -> HubError {
    HubError::Missing(format!("record {key}"))
}

/// A record, deleted or not, if it is seen. One that is not is not there.
pub(crate) fn seen(tx: &mut Tx<'_>, sight: &Sight, key: &RecordKey) -> Result<Record, HubError> {
    let record = hub::Snapshot::record(tx, key)?;
    record.filter(|record| sight.sees(&record.scope())).ok_or_else(|| missing(key))
}

/// A record that is seen and not deleted; `None` if there is none.
pub(crate) fn present(tx: &mut Tx<'_>, sight: &Sight, key: &RecordKey) -> Result<Option<Record>, HubError> {
    let rules = hub::Snapshot::rules(tx)?;
    let record = hub::Snapshot::record(tx, key)?.filter(|record| sight.sees(&record.scope()));
    Ok(record.filter(|record| presence(record, rules.of(&key.record_type)) != Presence::Deleted))
}

/// What happened to a record before a number, the newest first and at most `limit`. Of a record that is not seen, or of which there
/// are only changes that wait, who sees everything alone is told.
pub(crate) fn history(
    tx: &mut Tx<'_>,
    sight: &Sight,
    key: &RecordKey,
    before: Option<HubSeq>,
    limit: usize,
) -> Result<Vec<Past>, HubError> {
    if !sight.sees_everything() {
        seen(tx, sight, key)?;
    }
    Ok(tx.history_before(key, before, limit)?)
}

/// Makes a record equal to a body.
pub(crate) fn put(tx: &mut Tx<'_>, key: RecordKey, body: Map<String, Json>, who: &Who) -> Result<Written, HubError> {
    write(tx, key, Intent::Put(body), who)
}

/// Settles a conflict.
pub(crate) fn settle(
    tx: &mut Tx<'_>,
    key: RecordKey,
    verdict: Verdict,
    why: String,
    who: &Who,
) -> Result<Written, HubError> {
    if why.trim().is_empty() || why.len() > NOTE_BYTES_MAX {
        return Err(HubError::Invalid(format!("`why` has 1 to {NOTE_BYTES_MAX} bytes: others will read it")));
    }
    let Some(record) = present(tx, &who.sight, &key)? else { return Err(HubError::Missing(format!("record {key}"))) };
    if let Verdict::Value(field, _) | Verdict::Remove(field) = &verdict {
        if field.is_reserved() {
            return Err(HubError::Invalid(
                "this is no field of the record; use delete for one that was deleted".to_owned(),
            ));
        }
    }
    is_in_conflict(tx, &key, &record, &verdict)?;
    let intent = match verdict {
        Verdict::Value(field, value) => Intent::Settle { field, value: Some(value), why },
        Verdict::Remove(field) => Intent::Settle { field, value: None, why },
        Verdict::Delete(delete) => Intent::SettleDelete { delete, why },
    };
    write(tx, key, intent, who)
}

/// Refuses to settle what is not in conflict: that would be an edit, and one that says of itself that it decided something.
fn is_in_conflict(tx: &mut Tx<'_>, key: &RecordKey, record: &Record, verdict: &Verdict) -> Result<(), HubError> {
    let rules = hub::Snapshot::rules(tx)?;
    let fields: Vec<&FieldName> = record.conflicts().into_iter().filter(|field| !field.is_reserved()).collect();
    let is_review = presence(record, rules.of(&key.record_type)) == Presence::Review;
    let wanted = match verdict {
        Verdict::Value(field, _) | Verdict::Remove(field) if fields.contains(&field) => return Ok(()),
        Verdict::Delete(_) if is_review => return Ok(()),
        Verdict::Value(field, _) | Verdict::Remove(field) => format!("{field} of {key}"),
        Verdict::Delete(_) => format!("the deletion of {key}"),
    };
    let deletion = is_review.then(|| "its deletion".to_owned());
    let open: Vec<String> = fields.iter().map(ToString::to_string).chain(deletion).collect();
    let open =
        if open.is_empty() { "nothing in it is".to_owned() } else { format!("in conflict: {}", open.join(", ")) };
    Err(HubError::NotInConflict(format!("{wanted} is not in conflict; {open}")))
}

/// An op in quarantine, if who decides sees it.
fn held(tx: &mut Tx<'_>, sight: &Sight, dot: Dot) -> Result<HeldRow, HubError> {
    let row = tx.held_at(dot)?.filter(|row| sight.sees(&row.scope));
    row.ok_or_else(|| HubError::Missing(format!("change {} in quarantine", view::change_name(dot))))
}

/// Applies an op in quarantine although the rules object. Tells of which record.
pub(crate) fn release(tx: &mut Tx<'_>, sight: &Sight, dot: Dot) -> Result<RecordKey, HubError> {
    let held = held(tx, sight, dot)?.held;
    let first = hub::first_held(tx, &held)?;
    if first != dot {
        return Err(HubError::Conflict(format!(
            "an earlier change of this gateway to the same record waits as well: release or discard {} first",
            view::change_name(first)
        )));
    }
    let key = held.op.key;
    hub::release(tx, dot)?;
    if !sight.sees_everything() {
        seen(tx, sight, &key)
            .map_err(|_| HubError::NotAllowed("this would put the record where you do not see it".to_owned()))?;
    }
    Ok(key)
}

/// Drops an op from quarantine. Tells of which record.
pub(crate) fn discard(tx: &mut Tx<'_>, sight: &Sight, dot: Dot, why: &str) -> Result<RecordKey, HubError> {
    if why.trim().is_empty() || why.len() > NOTE_BYTES_MAX {
        return Err(HubError::Invalid(format!("`why` has 1 to {NOTE_BYTES_MAX} bytes: the clinic will read it")));
    }
    let key = held(tx, sight, dot)?.held.op.key;
    hub::discard(tx, dot, why)?;
    Ok(key)
}
