//! People at the hub: their roles, what they see, and what makes a name or a password a good one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sync_protocol::id::Scope;
use sync_protocol::limits::SCOPES_MAX;

use crate::error::HubError;

/// Fewer can be guessed from a stolen file.
pub(crate) const PASSWORD_LETTERS_MIN: usize = 12;
/// More is no password, and would be work for whoever is asked to hash it.
pub(crate) const PASSWORD_BYTES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 64;

/// What somebody may do. Each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Looks
    Viewer,
    /// Writes records, settles conflicts, decides on quarantine
    Resolver,
    /// Exports, adds gateways, gives codes, revokes
    Operator,
    /// Makes accounts, publishes rules, reads the audit
    Admin,
}

impl Role {
    pub(crate) const ALL: [Role; 4] = [Role::Viewer, Role::Resolver, Role::Operator, Role::Admin];

    /// As it is kept.
    pub(crate) fn number(self) -> i64 {
        self as i64
    }

    /// The other way. A number that nobody gave is the least.
    pub(crate) fn of_number(number: i64) -> Role {
        Role::ALL.into_iter().find(|role| role.number() == number).unwrap_or(Role::Viewer)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Resolver => "resolver",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The scopes whose records somebody sees. Whatever is read for somebody is read with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sight(Vec<Scope>);

impl Sight {
    /// All records that there are.
    pub(crate) fn everything() -> Sight {
        Sight(vec![Scope::root()])
    }

    /// That of a person who named these scopes. The empty one is everything, which nobody gets by a slip.
    pub(crate) fn wanted(scopes: &[impl AsRef<str>], everything: bool) -> Result<Sight, HubError> {
        if everything {
            return match scopes.is_empty() {
                true => Ok(Sight::everything()),
                false => Err(HubError::Invalid("say scopes or everything, not both".to_owned())),
            };
        }
        if scopes.is_empty() || scopes.len() > SCOPES_MAX || scopes.iter().any(|scope| scope.as_ref().trim().is_empty())
        {
            let told = format!("say which scopes are seen, 1 to {SCOPES_MAX}, or that everything is");
            return Err(HubError::Invalid(told));
        }
        Ok(Sight(scopes.iter().map(|scope| Scope::new(scope.as_ref())).collect::<Result<_, _>>()?))
    }

    /// As it was kept.
    pub(crate) fn of_text(text: &str) -> Sight {
        let names: Vec<String> = serde_json::from_str(text).unwrap_or_default();
        Sight(names.iter().filter_map(|name| Scope::new(name).ok()).collect())
    }

    /// As it is kept.
    pub(crate) fn text(&self) -> String {
        serde_json::Value::from(self.names()).to_string()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Whether a record of this scope is seen.
    pub(crate) fn sees(&self, scope: &Scope) -> bool {
        self.0.iter().any(|prefix| prefix.covers(scope))
    }

    /// Whether all of these are seen whole.
    pub(crate) fn sees_all(&self, scopes: &[Scope]) -> bool {
        scopes.iter().all(|scope| self.sees(scope))
    }

    pub(crate) fn sees_everything(&self) -> bool {
        self.sees(&Scope::root())
    }

    /// Whether nothing is seen that `other` does not see.
    pub(crate) fn is_within(&self, other: &Sight) -> bool {
        other.sees_all(&self.0)
    }

    /// What both see.
    pub(crate) fn shared_with(&self, other: &Sight) -> Sight {
        let mine = self.0.iter().filter(|scope| other.sees(scope));
        let theirs = other.0.iter().filter(|scope| self.sees(scope) && !self.0.contains(scope));
        Sight(mine.chain(theirs).cloned().collect())
    }

    /// The scopes themselves.
    pub(crate) fn scopes(&self) -> &[Scope] {
        &self.0
    }
}

/// The name of an account: lower case, so that no two look alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AccountName(String);

impl FromStr for AccountName {
    type Err = HubError;

    fn from_str(text: &str) -> Result<AccountName, HubError> {
        let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.@".contains(c);
        match !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(is_fine) {
            true => Ok(AccountName(text.to_owned())),
            false => Err(HubError::Invalid(format!(
                "an account's name has 1 to {NAME_BYTES_MAX} of a to z, digits, '-', '_', '.' and '@'"
            ))),
        }
    }
}

impl AccountName {
    /// As somebody typed it at a login; `None` if no account can have it.
    pub(crate) fn typed(text: &str) -> Option<AccountName> {
        text.trim().to_ascii_lowercase().parse().ok()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Refuses a password that is too short, too long or the name.
pub(crate) fn check_password(name: &AccountName, password: &str) -> Result<(), HubError> {
    let letters = password.chars().count();
    let is_name = password.to_ascii_lowercase().trim() == name.as_str();
    match letters >= PASSWORD_LETTERS_MIN && password.len() <= PASSWORD_BYTES_MAX && !is_name {
        true => Ok(()),
        false => Err(HubError::Invalid(format!(
            "a password has at least {PASSWORD_LETTERS_MIN} characters and at most {PASSWORD_BYTES_MAX} bytes, and is not the name"
        ))),
    }
}

/// An account, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) number: i64,
    pub(crate) name: AccountName,
    pub(crate) role: Role,
    pub(crate) sight: Sight,
    pub(crate) is_disabled: bool,
    pub(crate) has_password: bool,
    pub(crate) has_totp: bool,
    pub(crate) code_until_ms: i64,
    pub(crate) login_ms: i64,
    /// Who its owner is at a login provider: issuer and subject.
    pub(crate) identity: Option<(String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_a_ladder_and_are_kept_by_number() {
        assert!(Role::ALL.is_sorted());
        for role in Role::ALL {
            assert_eq!(Role::of_number(role.number()), role);
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
        }
        assert_eq!(Role::of_number(9), Role::Viewer);
    }

    #[test]
    fn everything_is_seen_by_who_said_so_and_by_nobody_else() {
        let none: [&str; 0] = [];
        for slip in [&none[..], &[""], &["mw", " "]] {
            assert!(Sight::wanted(slip, false).is_err(), "{slip:?}");
        }
        assert!(Sight::wanted(&["mw"], true).is_err());
        assert!(Sight::wanted(&none, true).unwrap().sees_everything());
        let zomba = Sight::wanted(&["mw/zomba"], false).unwrap();
        let at = |scope: &str| Scope::new(scope).unwrap();
        assert!(zomba.sees(&at("mw/zomba/chingale")) && !zomba.sees(&at("mw/zombab")) && !zomba.sees(&at("mw")));
        assert!(!zomba.sees_everything() && zomba.is_within(&Sight::everything()));
        assert!(!Sight::everything().is_within(&zomba));
        assert_eq!(Sight::everything().shared_with(&zomba), zomba);
        assert_eq!(zomba.shared_with(&Sight::everything()), zomba);
        assert_eq!(zomba.shared_with(&Sight::wanted(&["mw/mzuzu"], false).unwrap()).scopes(), []);
        assert_eq!(Sight::of_text(&zomba.text()), zomba);
    }

    #[test]
    fn names_and_passwords_that_are_none_are_refused() {
        for wrong in ["", "Asha", "a b", "a/b", "a\n", &"a".repeat(65)] {
            assert!(wrong.parse::<AccountName>().is_err(), "{wrong:?}");
        }
        let name = AccountName::typed(" Asha.Banda@Zomba ").unwrap();
        assert_eq!(name.as_str(), "asha.banda@zomba");
        for wrong in ["short", "Asha.Banda@ZOMBA", &"x".repeat(257)] {
            assert!(check_password(&name, wrong).is_err(), "{wrong:?}");
        }
        check_password(&name, "ndiwo za masamba").unwrap();
    }
}
