//! Errors as RFC 9457 problem documents: what is wrong, with which field, and what to do next. Never a value.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sync_protocol::edit::EditError;
use sync_protocol::gateway::Refusal;
use sync_protocol::id::RecordType;
use utoipa::ToSchema;

use crate::apps::{Access, PairedApp};
use crate::error::{Class, Error};
use crate::store::Failure;

/// The kind of problem that one record is damaged, and the store is not.
pub(super) const UNREADABLE: &str = "unreadable";

/// A problem document (RFC 9457), `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Problem {
    /// Which kind of problem: a short name that stays the same over versions.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The kind in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, and what to do next.
    pub detail: String,
    /// The fields that have to be corrected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldProblem>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldProblem {
    /// The field; a path is joined by dots.
    pub field: String,
    /// What it must be, to be read after the field's name.
    pub message: String,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Problem { kind, title, status: status.as_u16(), detail: detail.into(), fields: Vec::new() }
    }

    /// 400: the request cannot be read.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "malformed-request", "The request cannot be read", detail)
    }

    /// 404: nothing there.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "There is no such record", detail)
    }

    /// 410: it was deleted.
    pub fn gone() -> Self {
        let detail = "The record was deleted. Its history is still there; a PUT brings it back.";
        Problem::new(StatusCode::GONE, "deleted", "The record was deleted", detail)
    }

    /// 409: the same key with other content.
    pub fn key_reused() -> Self {
        let detail = "This Idempotency-Key was used before with other content. Use a new key for a new record.";
        Problem::new(StatusCode::CONFLICT, "idempotency-key-reused", "The key was used for something else", detail)
    }

    /// 412: a condition in the headers does not hold.
    pub fn precondition(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", "The condition does not hold", detail)
    }

    /// 413: beyond a stated limit.
    pub fn too_large(what: &str, limit_bytes: usize) -> Self {
        let detail = format!("{what} is larger than the limit of {limit_bytes} bytes. Send less at once.");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail)
    }

    /// 415: another content type is needed.
    pub fn media_type(wanted: &str) -> Self {
        let detail = format!("Send the body as {wanted} and say so in Content-Type.");
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "Wrong kind of body", detail)
    }

    /// 401: no token, or none that is good now.
    pub fn not_admitted() -> Self {
        let detail = "Send the token that pairing gave: Authorization: Bearer TOKEN. If it was good before, it was \
                      revoked or has ended: pair this app again (on the gateway: outpost pair NAME).";
        Problem::new(StatusCode::UNAUTHORIZED, "not-paired", "This app is not paired", detail)
    }

    /// 403: the app was not let in for this.
    pub fn not_allowed(app: &PairedApp, access: Access, record_type: &RecordType) -> Self {
        let verb = match access {
            Access::Read => "read",
            Access::Write => "write",
        };
        let command = app.grant.command_with(&app.name, access, record_type);
        let detail = format!("This app may not {verb} {record_type} records. If it shall, on the gateway: {command}");
        Problem::new(StatusCode::FORBIDDEN, "not-allowed", "The app was not let in for this", detail)
    }

    /// 403: no such pairing code, or not any more.
    pub fn wrong_code() -> Self {
        let detail = "This code is not open: it is mistyped, was used, or is older than ten minutes. On the gateway, ask \
                      for another: outpost pair NAME.";
        Problem::new(StatusCode::FORBIDDEN, "wrong-code", "The code is not open", detail)
    }

    /// 429: guessing is slowed.
    pub fn slow_down(what: &str) -> Self {
        let detail = format!("{what} Wait a minute, then try again.");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "slow-down", "Too many wrong tries", detail)
    }

    /// 408: the body came too slowly.
    pub fn too_slow() -> Self {
        let detail = "The body came too slowly. Nothing of it that was not answered was saved; send it again.";
        Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "The body came too slowly", detail)
    }

    /// 409: nobody can be let in where there is no door.
    pub fn network_closed() -> Self {
        let detail = "The gateway is closed to the network. Set listen in [network] of outpost.toml, such as \
                      \"0.0.0.0:8471\", and start outpost again.";
        Problem::new(StatusCode::CONFLICT, "network-closed", "The gateway is closed to the network", detail)
    }

    /// 421: asked for under a name that is not this gateway's.
    pub fn misdirected(is_local: bool) -> Self {
        let detail = match is_local {
            true => "This listener is for this machine only: ask for 127.0.0.1 or localhost.",
            false => "Ask for the gateway by its address, or set this name as network.name in outpost.toml.",
        };
        Problem::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", "This is not the name of the gateway", detail)
    }

    /// 403: a page of somebody else made the browser ask.
    pub fn foreign_page(is_local: bool) -> Self {
        let detail = match is_local {
            true => {
                "A page of another site asked. Here only programs of this machine and the gateway's own page are let in."
            }
            false => "A page of another site asked. If it shall, name its origin in network.origins of outpost.toml.",
        };
        Problem::new(StatusCode::FORBIDDEN, "foreign-page", "A page of another site asked", detail)
    }

    /// 409: there is nothing to settle there. `open` is what is in conflict.
    pub fn not_in_conflict(wanted: &str, open: &[String]) -> Self {
        let open = match open {
            [] => "Nothing in it is; change a field with PATCH.".to_owned(),
            open => format!("In conflict: {}.", open.join(", ")),
        };
        let detail = format!("{wanted} is not in conflict. {open}");
        Problem::new(StatusCode::CONFLICT, "not-in-conflict", "There is nothing to settle", detail)
    }

    /// 502: the hub was not reached, or refused. The kind is the class of the error.
    pub fn from_sync(error: Error) -> Self {
        let detail = format!("{} {}", sentence(&error.to_string()), error.hint());
        Problem::new(StatusCode::BAD_GATEWAY, error.class().name(), "The sync failed", detail)
    }

    /// 502: the gateway could not join the hub at `hub_url`. What the hub itself says, says what to do next.
    pub fn from_enrolment(error: Error, hub_url: &str) -> Self {
        let detail = match &error {
            Error::Offline(_) => {
                format!("Nothing answers at {hub_url}. Check the address and the link, and try again.")
            }
            Error::Portal(status) => format!(
                "What answers at {hub_url} is not a hub (HTTP {status}). Check the address; if this network has a sign-in \
                 page, sign in first."
            ),
            Error::Denied(told) | Error::Rejected(told) | Error::Busy(told) | Error::HubFull(told) => sentence(told),
            _ => return Problem::from_sync(error),
        };
        Problem::new(StatusCode::BAD_GATEWAY, error.class().name(), "The gateway was not enrolled", detail)
    }

    /// 403: the hub has shut this gateway out, so what it holds is not shown.
    pub fn revoked() -> Self {
        let detail = "The hub has shut this gateway out, so it shows no records. What you save is still kept safe and goes to \
                      the hub's admin, who can let the gateway in again.";
        Problem::new(StatusCode::FORBIDDEN, "revoked", "This gateway was revoked", detail)
    }

    /// 503: the record is here, and the card has damaged it.
    pub fn unreadable(is_at_hub: bool) -> Self {
        let detail = match is_at_hub {
            true => {
                "The card has damaged this record. The hub has it and sends it again at the next sync: ask again then. \
                     A change was not saved; keep it and send it again, or put the whole record without If-Match."
            }
            false => {
                "The card has damaged this record, and it had not been sent. Keep the card. What is known of the \
                      record on paper or in the app can be put anew, without If-Match."
            }
        };
        Problem::cannot_be_read(detail)
    }

    fn cannot_be_read(detail: &str) -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, UNREADABLE, "The record cannot be read", detail)
    }

    /// 507: the card takes no writes any more.
    pub fn card_is_read_only() -> Self {
        let detail = "The card of the gateway takes no writes any more, so nothing new is taken; what was saved is served, and \
                      sent. Keep what you have and send it again when the card has been replaced.";
        Problem::new(StatusCode::INSUFFICIENT_STORAGE, "card-read-only", "The card takes nothing any more", detail)
    }

    /// 507: no room for more.
    pub fn disk_full() -> Self {
        let detail = "The card is nearly full, so nothing new is taken; what was acknowledged is safe. \
                      Connect the gateway so that it can send, or free space, and try again.";
        Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk-nearly-full", "The disk is nearly full", detail)
    }
}

/// With one full stop at the end.
fn sentence(words: &str) -> String {
    format!("{}.", words.trim_end().trim_end_matches('.'))
}

impl From<EditError> for Problem {
    fn from(error: EditError) -> Self {
        let (title, kind) = ("The record breaks the rules of its type", "invalid-record");
        match error {
            EditError::Violations(violations) => {
                let fields: Vec<FieldProblem> =
                    violations.into_iter().map(|v| FieldProblem { field: v.field, message: v.message }).collect();
                let told: Vec<String> = fields.iter().map(|f| format!("{} {}", f.field, f.message)).collect();
                let detail = format!("Correct and send again: {}.", told.join("; "));
                Problem { fields, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, kind, title, detail) }
            }
            EditError::Unreadable => Problem::cannot_be_read(
                "The card has damaged this record, and the change adds to what stood there. Nothing was saved: send it again \
                 after the next sync, when the hub has sent the record.",
            ),
            other => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, kind, title, format!("Correct and send again: {other}."))
            }
        }
    }
}

impl Failure for Problem {
    fn is_disk_full(&self) -> bool {
        self.status == StatusCode::INSUFFICIENT_STORAGE.as_u16()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::DiskFull(_) => return Problem::disk_full(),
            Error::Unreadable { is_at_hub } => return Problem::unreadable(is_at_hub),
            _ => {}
        }
        tracing::error!(error.class = ?error.class(), "the store failed while serving a request: {error}");
        let status = match error.class() {
            Class::Broken => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(
            status,
            "store-failed",
            "The gateway's database failed",
            format!("Nothing was saved. {}", error.hint()),
        )
    }
}

impl From<Refusal<Error>> for Problem {
    fn from(refusal: Refusal<Error>) -> Self {
        match refusal {
            Refusal::Edit(error) => error.into(),
            Refusal::Store(error) => error.into(),
            Refusal::Merge(error) => {
                let detail = format!("{error}. Nothing was saved. Sync the gateway, then try again.");
                Problem::new(StatusCode::CONFLICT, "identity-conflict", "Two gateways share one identity", detail)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
