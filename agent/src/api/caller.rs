//! Who asks, and what they may.
//!
//! A handler gets the name of a record only from here, so that no path to a record goes past the rights of who asks. They are
//! looked up each time: what was revoked counts at once, also in the middle of a stream.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use sync_protocol::id::{Author, RecordKey, RecordType};

use super::problem::Problem;
use crate::acts::Who;
use crate::apps::{Access, Door, Fingerprint, PairedApp};
use crate::clock::Clock;

/// Who types the command that asks; said by commands of this machine, and by nobody else.
pub(crate) const WHO_HEADER: &str = "outpost-who";

/// Who asks, for the audit.
pub(crate) struct Person(pub(crate) Who);

impl<S: Sync> FromRequestParts<S> for Person {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Person, Infallible> {
        let said = parts.headers.get(WHO_HEADER).and_then(|said| said.to_str().ok());
        Ok(Person(said.map_or_else(Who::machine, Who::said)))
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// A program or a person on this machine.
    Machine,
    /// An app on the clinic's network.
    App(AppCaller),
}

/// An app that showed its token.
#[derive(Debug, Clone)]
pub(crate) struct AppCaller {
    pub(super) token: Fingerprint,
    pub(super) door: Door,
    pub(super) clock: Clock,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Caller, Problem> {
        // Whoever was not looked at by the listener is nobody.
        parts.extensions.get::<Caller>().cloned().ok_or_else(Problem::not_admitted)
    }
}

impl Caller {
    /// Whether they may do this with records of a type.
    pub(crate) fn may(&self, access: Access, record_type: &RecordType) -> Result<bool, Problem> {
        match self {
            Caller::Machine => Ok(true),
            Caller::App(AppCaller { token, door, clock }) => {
                door.may(token, access, record_type, clock.bounds()).ok_or_else(Problem::not_admitted)
            }
        }
    }

    /// Fails unless they may.
    pub(crate) fn must(&self, access: Access, record_type: &RecordType) -> Result<(), Problem> {
        match (self.may(access, record_type)?, self.app()?) {
            (false, Some(app)) => Err(Problem::not_allowed(&app, access, record_type)),
            _ => Ok(()),
        }
    }

    /// Fails if they are not let in any more.
    pub(crate) fn still(&self) -> Result<(), Problem> {
        self.app().map(|_| ())
    }

    /// The record that a path names, for who may do this with it.
    pub(crate) fn key(&self, access: Access, record_type: &str, id: &str) -> Result<RecordKey, Problem> {
        let record_type = self.record_type(access, record_type)?;
        let id =
            sync_protocol::id::RecordId::new(id).map_err(|e| Problem::bad_request(format!("The path names {e}.")))?;
        Ok(RecordKey { record_type, id })
    }

    /// The type that a path names, for who may do this with its records.
    pub(crate) fn record_type(&self, access: Access, name: &str) -> Result<RecordType, Problem> {
        let named = RecordType::new(name).map_err(|e| Problem::bad_request(format!("The path names {e}.")))?;
        self.must(access, &named)?;
        Ok(named)
    }

    /// The person that a request names, or else the app.
    pub(crate) fn author(&self, named: Option<Author>) -> Result<Option<Author>, Problem> {
        match (named, self.name()?) {
            (None, Some(app)) => Ok(Author::new(&app).ok()),
            (named, _) => Ok(named),
        }
    }

    /// What an app is called; `None` for this machine.
    pub(crate) fn name(&self) -> Result<Option<String>, Problem> {
        Ok(self.app()?.map(|app| app.name))
    }

    /// The app that asks; `None` for this machine.
    pub(crate) fn app(&self) -> Result<Option<PairedApp>, Problem> {
        match self {
            Caller::Machine => Ok(None),
            Caller::App(AppCaller { token, door, clock }) => {
                door.app(token, clock.bounds()).map(Some).ok_or_else(Problem::not_admitted)
            }
        }
    }
}
