//! What every way to write a record shares: the conditions of a request, and one capture in one transaction.

use axum::http::{HeaderMap, header};
use serde::Serialize;
use serde_json::{Map, Value};
use sync_protocol::edit::render;
use sync_protocol::gateway::{Capture, Captured, Intent, Store as _, capture};
use sync_protocol::id::{Author, RecordKey};
use sync_protocol::merge::Presence;
use utoipa::ToSchema;

use super::caller::Caller;
use super::problem::Problem;
use crate::clock::Moment;
use crate::error::Error;
use crate::store::{Stored, Tx};

/// The header in which an app names the person at the tablet.
pub(crate) const AUTHOR_HEADER: &str = "outpost-author";

/// What is to be done, before it meets the record.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    Put(Map<String, Value>),
    Patch(Value),
    Delete,
}

/// Conditions and circumstances of a write.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    /// The version that the app had read, without quotes; `*` is any.
    pub if_match: Option<String>,
    /// The record must not exist.
    pub must_be_new: bool,
    /// Who held the tablet.
    pub author: Option<Author>,
}

/// What a write did: sent only after it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Receipt {
    /// Record type.
    #[serde(rename = "type")]
    pub record_type: String,
    /// Record id.
    pub id: String,
    /// Version of the record now.
    pub etag: String,
    /// What happened.
    pub result: Outcome,
    /// Fields that somebody else had changed since the version in `If-Match`; the rule of each field decided what is shown,
    /// and the other value is kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// The catchment that the record belongs to, if that is not this gateway's: it is on disk and goes to the hub, and
    /// leaves this gateway when it is there. A mistyped facility shows here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaves_for: Option<String>,
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// There was no such record.
    Created,
    /// It is different now.
    Changed,
    /// It was like that already; nothing was written.
    Unchanged,
    /// It is deleted now.
    Deleted,
}

impl Terms {
    /// Reads `If-Match`, `If-None-Match` and the author.
    pub(crate) fn from_headers(headers: &HeaderMap, caller: &Caller) -> Result<Terms, Problem> {
        let text = |name: &str| text(headers, name);
        let must_be_new = match text(header::IF_NONE_MATCH.as_str())? {
            None => false,
            Some("*") => true,
            Some(_) => return Err(Problem::bad_request("For a write, If-None-Match can only be *.")),
        };
        let if_match = text(header::IF_MATCH.as_str())?.map(|tag| tag.trim_matches('"').to_owned());
        let author = caller.author(named_author(headers)?)?;
        Ok(Terms { if_match, must_be_new, author })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    match headers.get(name).map(|v| v.to_str()) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text.trim())),
        Some(Err(_)) => Err(Problem::bad_request(format!("The header {name} is not plain text."))),
    }
}

/// The person that a request names in its header.
pub(crate) fn named_author(headers: &HeaderMap) -> Result<Option<Author>, Problem> {
    let author = text(headers, AUTHOR_HEADER)?.map(Author::new).transpose();
    author.map_err(|e| Problem::bad_request(format!("The header {AUTHOR_HEADER} is {e}.")))
}

/// Captures one write in the transaction `tx`. On an error nothing has been written.
pub(crate) fn perform(
    tx: &mut Tx<'_>,
    key: RecordKey,
    wish: Wish,
    terms: Terms,
    now: Moment,
) -> Result<Receipt, Problem> {
    let reader = tx.reader()?;
    let stored = match reader.get(&key) {
        // A whole record is taken all the same, and merges with what the hub has.
        Err(Error::Unreadable { .. }) if matches!(wish, Wish::Put(_)) && terms.if_match.is_none() => {
            if terms.must_be_new {
                return Err(already_there());
            }
            None
        }
        found => found?,
    };
    let current = stored.as_ref().filter(|s| s.presence != Presence::Deleted);
    check_existence(current, &terms, &wish)?;
    let mut base = None;
    if let (Some(stored), Some(tag)) = (current, terms.if_match.as_deref()) {
        if tag != "*" && tag != stored.etag {
            if matches!(wish, Wish::Delete) {
                return Err(Problem::precondition(
                    "The record changed since you read it. Read it again before you delete it.",
                ));
            }
            base = reader.record_at_etag(&key, tag)?;
            if base.is_none() {
                return Err(Problem::precondition(
                    "The version in If-Match is not known any more. Read the record again.",
                ));
            }
        }
    }
    let intent = match wish {
        Wish::Put(body) => Intent::Put(body),
        Wish::Delete => Intent::Delete,
        Wish::Patch(patch) => {
            let read = base.as_ref().or(current.map(|s| &s.record)).map(render).unwrap_or_default();
            let mut body = Value::Object(read);
            json_patch::merge(&mut body, &patch);
            match body {
                Value::Object(body) => Intent::Put(body),
                _ => return Err(Problem::bad_request("A merge patch of a record must be a JSON object.")),
            }
        }
    };
    let deletes = intent == Intent::Delete;
    let Moment { now_ms, quality, at } = now;
    tx.set_moment(at, now_ms);
    let done = capture(tx, Capture { key: key.clone(), intent, base, author: terms.author, now_ms, quality })?;
    let scope = done.record.scope();
    let stays = tx.state()?.scopes.iter().any(|ours| ours.covers(&scope));
    let leaves_for = (!stays).then(|| scope.to_string());
    Ok(Receipt { leaves_for, ..receipt(&key, &done, deletes) })
}

fn check_existence(current: Option<&Stored>, terms: &Terms, wish: &Wish) -> Result<(), Problem> {
    match (current, wish) {
        (Some(_), _) if terms.must_be_new => Err(already_there()),
        (None, Wish::Put(_)) if terms.if_match.is_some() => {
            Err(Problem::precondition("There is no such record any more; send it without If-Match to make it anew."))
        }
        (None, Wish::Patch(_) | Wish::Delete) => {
            Err(Problem::not_found("Nothing to change here. A PUT would make the record."))
        }
        _ => Ok(()),
    }
}

fn already_there() -> Problem {
    Problem::precondition("There is a record with this id already.")
}

fn receipt(key: &RecordKey, done: &Captured, deletes: bool) -> Receipt {
    let result = match (done.op, done.created, deletes) {
        (None, _, _) => Outcome::Unchanged,
        (_, _, true) => Outcome::Deleted,
        (_, true, _) => Outcome::Created,
        (_, false, _) => Outcome::Changed,
    };
    Receipt {
        record_type: key.record_type.to_string(),
        id: key.id.to_string(),
        etag: done.etag.clone(),
        result,
        conflicts: done.conflicts.iter().map(ToString::to_string).collect(),
        leaves_for: None,
    }
}
