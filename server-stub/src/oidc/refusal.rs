//! Why somebody who comes from the provider is not let in, or nobody is: in plain words, without anything of what was sent.

use thiserror::Error;

/// A login that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// There is no login under way that this answer belongs to.
    #[error("this login was not begun in this browser, was used, or took too long")]
    NotBegun,
    /// The provider said no, or took a code back.
    #[error("the login provider did not let you in")]
    NotLetIn,
    /// A token that is not what it has to be, and in what.
    #[error("what the login provider sent does not prove who you are ({0})")]
    Unproven(&'static str),
    /// Nobody linked this person.
    #[error("no account here belongs to this login")]
    NotLinked,
    /// No value of the claim gives a role.
    #[error("the login provider gives you no role here")]
    NoRole,
    /// The account is disabled.
    #[error("the account of this login is closed")]
    Closed,
    /// An account is to be made, and cannot.
    #[error("no account could be made: the name of this login is taken here, or cannot be one")]
    NoName,
}

impl Refused {
    /// What a person can do about it.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Refused::NotBegun | Refused::NotLetIn => "begin again at the login page",
            Refused::Unproven(_) => "begin again; if it stays so, tell the hub's admin",
            Refused::NotLinked => "ask the hub's admin to link it; who it is stands in the hub's audit",
            Refused::NoRole => "ask who runs the login provider",
            Refused::Closed | Refused::NoName => "ask the hub's admin",
        }
    }

    /// As it stands in the audit and in the log.
    pub(super) fn why(self) -> &'static str {
        match self {
            Refused::NotBegun => "not-begun",
            Refused::NotLetIn => "not-let-in",
            Refused::Unproven(in_what) => in_what,
            Refused::NotLinked => "not-linked",
            Refused::NoRole => "no-role",
            Refused::Closed => "closed",
            Refused::NoName => "no-name",
        }
    }
}

/// What is wrong with the provider, or with how it knows the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Trouble {
    /// No connection, or no TLS with who it should be.
    #[error("the login provider cannot be reached")]
    Unreachable,
    /// No answer in time.
    #[error("the login provider did not answer in time")]
    Silent,
    /// An answer that is none.
    #[error("the login provider answered something else than what was asked for")]
    Odd,
    /// An answer without end.
    #[error("the answer of the login provider is too large")]
    Overlong,
    /// It gives this hub no token, whoever asks.
    #[error("the login provider refuses this hub itself: its client_id or its secret is not what the provider has")]
    Client,
}

impl Trouble {
    /// What a person can do about it.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Trouble::Client => {
                "tell the hub's admin: client_id and client_secret_file under [oidc], and what the provider has of this hub"
            }
            _ => "try again in a moment; accounts that are opened by a password do not need it",
        }
    }
}
