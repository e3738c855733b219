//! Whom a person of the provider is here, and what he may do: decided and written down in one transaction.
//!
//! A person is known by the provider's name and his own there (`iss` and `sub`), and by nothing else: e-mail addresses and user names
//! are given to others.

use std::net::IpAddr;

use serde_json::json;

use super::refusal::Refused;
use super::settings::Oidc;
use super::token::Person;
use crate::account::{Account, AccountName, Sight};
use crate::audit::{Actor, What};
use crate::error::HubError;
use crate::login;
use crate::refusals::Refusals;
use crate::secret::Sha256;
use crate::staff::{self, Boss};
use crate::store::{Lasting, Tx};

/// What is to be done with somebody.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// A session is open.
    In,
    /// His account wants a code of its second factor.
    Code { account: i64 },
    /// He is not let in; that is written down, or counted.
    Refused(Refused),
}

/// Who comes, from where, and with what his session would be opened.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    pub(super) from: Option<IpAddr>,
    pub(super) hash: Sha256,
    pub(super) lasting: Lasting,
}

/// Lets a person in, or says why not.
pub(super) fn decide(
    tx: &mut Tx<'_>,
    settings: &Oidc,
    refusals: &Refusals,
    person: &Person,
    visit: &Visit,
) -> Result<Decision, HubError> {
    let account = match known(tx, settings, person, visit)? {
        Ok(account) => account,
        Err(refusal) => {
            note_refused(tx, (refusals, visit.from), refusal, Some(&person.subject))?;
            return Ok(Decision::Refused(refusal));
        }
    };
    if !tx.locks_of(account.number)?.totp_key.is_empty() {
        return Ok(Decision::Code { account: account.number });
    }
    open(tx, &account, visit)?;
    Ok(Decision::In)
}

/// Opens the session of an account, and writes that down.
pub(super) fn open(tx: &mut Tx<'_>, account: &Account, visit: &Visit) -> Result<(), HubError> {
    let target = json!({ "account": account.name.as_str(), "by": "oidc" });
    login::admit(tx, account, (&visit.hash, visit.lasting), visit.from, &target)
}

/// Writes down that somebody was not let in. Who it was is known only after the provider has proved it.
pub(super) fn note_refused(
    tx: &mut Tx<'_>,
    (refusals, from): (&Refusals, Option<IpAddr>),
    refusal: Refused,
    subject: Option<&str>,
) -> Result<(), HubError> {
    let target = json!({ "by": "oidc", "why": refusal.why(), "subject": subject });
    Ok(refusals.note(tx, from, What::LoginRefused, &target)?)
}

/// The account of a person, with the rights that the provider gives now.
fn known(
    tx: &mut Tx<'_>,
    settings: &Oidc,
    person: &Person,
    visit: &Visit,
) -> Result<Result<Account, Refused>, HubError> {
    let number = tx.account_of_identity(&settings.issuer, &person.subject)?;
    let given = settings.given(&person.values)?;
    let account = match number {
        Some(number) => tx.account_numbered(number)?,
        None => None,
    };
    let by_provider = Boss { actor: Actor::at("oidc", visit.from), sight: Sight::everything() };
    match (account, given) {
        (Some(account), _) if account.is_disabled => Ok(Err(Refused::Closed)),
        (Some(account), _) if settings.roles.is_empty() => Ok(Ok(account)),
        (Some(account), None) => {
            // What was opened when the provider still gave a role ends now.
            tx.end_sessions(account.number)?;
            Ok(Err(Refused::NoRole))
        }
        (Some(account), Some((role, sight))) if account.role == role && account.sight == sight => Ok(Ok(account)),
        (Some(account), Some((role, sight))) => {
            let change = staff::Change { role: Some(role), sight: Some(sight), is_disabled: None };
            Ok(Ok(staff::change(tx, &by_provider, &account.name, change)?))
        }
        (None, Some(rights)) if settings.create_accounts => {
            // A name that somebody has here is not his because he calls himself so there.
            let free = AccountName::typed(&person.name).filter(|name| name.as_str() == person.name);
            let free = free.filter(|name| tx.find_account(name).is_ok_and(|found| found.is_none()));
            let Some(name) = free else { return Ok(Err(Refused::NoName)) };
            staff::add_linked(tx, &by_provider, (&name, rights.0, &rights.1), (&settings.issuer, &person.subject))
                .map(Ok)
        }
        (None, _) => Ok(Err(Refused::NotLinked)),
    }
}
