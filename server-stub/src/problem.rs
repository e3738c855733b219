//! Errors over HTTP: problem documents (RFC 9457), each with a hint that says what to do next.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value as Json, json};
use sync_protocol::edit::EditError;

use crate::error::{HubError, StoreError};

/// A problem on its way out.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    hint: String,
    more: Map<String, Json>,
}

impl Problem {
    /// A problem. `kind` is its type and never changes; `detail` says what is wrong, `hint` what to do next.
    pub(crate) fn new(status: StatusCode, kind: &'static str, title: &'static str) -> Problem {
        Problem { status, kind, title, detail: String::new(), hint: String::new(), more: Map::new() }
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Problem {
        self.detail = detail.into();
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = hint.into();
        self
    }

    fn with(mut self, key: &str, value: Json) -> Problem {
        self.more.insert(key.to_owned(), value);
        self
    }

    /// A body that did not come in time.
    pub(crate) fn too_slow() -> Problem {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "The sender fell silent").hint("send it again")
    }

    /// No room for what a gateway brings.
    pub(crate) fn disk_nearly_full() -> Problem {
        Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk-nearly-full", "The hub's disk is nearly full")
            .detail("the hub takes no changes until there is room on its disk")
            .hint("the gateway keeps them and sends them later by itself; at the hub somebody has to make room")
    }

    /// A request that cannot be read.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "malformed-request", "The request cannot be read").detail(detail)
    }
}

/// Words as a sentence.
fn sentence(words: &str) -> String {
    let mut letters = words.trim().chars();
    match letters.next() {
        Some(first) => {
            let end = if words.trim().ends_with('.') { "" } else { "." };
            format!("{}{}{end}", first.to_uppercase(), letters.as_str())
        }
        None => String::new(),
    }
}

/// Reads a JSON body.
pub(crate) fn json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        // Where and of what kind, but never what was written there.
        let kind = match error.classify() {
            serde_json::error::Category::Data => "a key is missing, unknown or of another kind",
            _ => "it is not JSON",
        };
        Problem::bad_request(format!("line {}, column {}: {kind}", error.line(), error.column()))
    })
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = self.more;
        body.insert("type".to_owned(), Json::from(self.kind));
        body.insert("title".to_owned(), Json::from(self.title));
        body.insert("status".to_owned(), Json::from(self.status.as_u16()));
        let told = [sentence(&self.detail), sentence(&self.hint)];
        let told: Vec<_> = told.into_iter().filter(|text| !text.is_empty()).collect();
        if !told.is_empty() {
            body.insert("detail".to_owned(), Json::from(told.join(" ")));
        }
        let mut response = (self.status, Json::Object(body).to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let later = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS, StatusCode::INSUFFICIENT_STORAGE];
        if later.contains(&self.status) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Problem::from(HubError::from(error))
    }
}

impl From<HubError> for Problem {
    fn from(error: HubError) -> Self {
        let (status, kind, title) = match &error {
            HubError::Missing(_) => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            HubError::Conflict(_)
            | HubError::NameTaken(_)
            | HubError::OtherName { .. }
            | HubError::Stranger
            | HubError::NotInConflict(_)
            | HubError::RulesVersion { .. }
            | HubError::RulesSources(_) => {
                (StatusCode::CONFLICT, "conflict", "It is not in the state that was expected")
            }
            HubError::Edit(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-record", "The record breaks the rules of its type")
            }
            HubError::Rules(_) => (StatusCode::UNPROCESSABLE_ENTITY, "rules-refused", "The rules document was refused"),
            HubError::Name(_) | HubError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid", "A value cannot be used"),
            HubError::NoCertificate
            | HubError::ForeignCertificate
            | HubError::RevokedCard
            | HubError::ExpiredCertificate => {
                (StatusCode::FORBIDDEN, "certificate-refused", "The certificate was refused")
            }
            HubError::Proxied(_) => (StatusCode::FORBIDDEN, "not-through-the-proxy", "The request was not let in"),
            HubError::Code(_) => (StatusCode::FORBIDDEN, "code-refused", "The enrolment code was refused"),
            HubError::NotLoggedIn => (StatusCode::FORBIDDEN, "not-logged-in", "The login was refused"),
            HubError::Login(_) => (StatusCode::FORBIDDEN, "not-logged-in", "The login was refused"),
            HubError::Provider(_) => (StatusCode::BAD_GATEWAY, "provider", "There is no login by the provider now"),
            HubError::NotAllowed(_) => (StatusCode::FORBIDDEN, "not-allowed", "This account may not do that"),
            HubError::TooOften => (StatusCode::TOO_MANY_REQUESTS, "too-often", "Too often in a day"),
            HubError::TooManyTries => (StatusCode::TOO_MANY_REQUESTS, "slow-down", "Too many tries"),
            HubError::Clock => (StatusCode::SERVICE_UNAVAILABLE, "clock", "The hub does not know what time it is"),
            HubError::Busy | HubError::Store(StoreError::Closed | StoreError::Locked(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "busy", "The hub cannot answer now")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "broken", "The hub is broken"),
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, source, "a request failed");
        }
        let problem = Problem::new(status, kind, title).detail(error.to_string()).hint(error.hint());
        match error {
            HubError::Edit(EditError::Violations(violations)) => {
                let told = violations.iter().map(|v| json!({"field": v.field, "message": v.message}));
                problem.with("fields", told.collect())
            }
            _ => problem,
        }
    }
}
