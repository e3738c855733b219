//! Writes at the centre: records, settled conflicts, decisions on quarantine.

use serde_json::{Map, Value as Json};
use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::{Capture, Intent};
use sync_protocol::hub::{self, Written};
use sync_protocol::id::{Author, Dot, FieldName, RecordKey, Scope};
use sync_protocol::limits::NOTE_BYTES_MAX;
use sync_protocol::merge::{Presence, presence};
use sync_protocol::record::Record;

use crate::error::HubError;
use crate::store::Tx;

/// Who writes at the centre, and where a new record belongs whose type does not say.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) author: Option<Author>,
    pub(crate) home: Scope,
}

impl Who {
    /// Checks what a person said.
    pub(crate) fn new(author: Option<&str>, scope: Option<&str>) -> Result<Who, HubError> {
        let author = author.map(Author::new).transpose()?;
        Ok(Who { author, home: scope.map(Scope::new).transpose()?.unwrap_or_else(Scope::root) })
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

/// Carries out a write at the centre.
pub(crate) fn write(tx: &mut Tx<'_>, key: RecordKey, intent: Intent, who: &Who) -> Result<Written, HubError> {
    let wish =
        Capture { key, intent, base: None, author: who.author.clone(), now_ms: tx.now_ms, quality: TimeQuality::Good };
    Ok(hub::write(tx, wish, &who.home)?)
}

/// A record that is there; `None` if there is none or it is deleted.
pub(crate) fn present(tx: &mut Tx<'_>, key: &RecordKey) -> Result<Option<Record>, HubError> {
    let rules = hub::Snapshot::rules(tx)?;
    let record = hub::Snapshot::record(tx, key)?;
    Ok(record.filter(|record| presence(record, rules.of(&key.record_type)) != Presence::Deleted))
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
    let Some(record) = present(tx, &key)? else { return Err(HubError::Missing(format!("record {key}"))) };
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

/// Applies an op in quarantine although the rules object.
pub(crate) fn release(tx: &mut Tx<'_>, dot: Dot) -> Result<(), HubError> {
    match hub::release(tx, dot)? {
        true => Ok(()),
        false => Err(HubError::Missing(format!("change {} in quarantine", crate::view::change_name(dot)))),
    }
}

/// Drops an op from quarantine.
pub(crate) fn discard(tx: &mut Tx<'_>, dot: Dot, why: &str) -> Result<(), HubError> {
    if why.trim().is_empty() || why.len() > NOTE_BYTES_MAX {
        return Err(HubError::Invalid(format!("`why` has 1 to {NOTE_BYTES_MAX} bytes: the clinic will read it")));
    }
    match hub::discard(tx, dot, why)? {
        true => Ok(()),
        false => Err(HubError::Missing(format!("change {} in quarantine", crate::view::change_name(dot)))),
    }
}
