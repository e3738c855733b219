//! Why somebody who comes from the provider is not let in: in plain words, without anything of what was sent.

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
