//! Logging in, and setting a password: the same for pages and programs. One answer for all that is wrong.

use std::net::IpAddr;

use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use crate::account::{Account, AccountName, PASSWORD_BYTES_MAX, check_password};
use crate::audit::{Actor, What};
use crate::config::Config;
use crate::cookie::session_hash;
use crate::error::HubError;
use crate::hub::Hub;
use crate::secret::{self, Sha256};
use crate::store::{Lasting, Locks, Tx};
use crate::totp;

/// What somebody types to get in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Typed {
    pub(crate) name: String,
    pub(crate) password: Zeroizing<String>,
    /// Of the second factor; empty if there is none.
    #[serde(default)]
    pub(crate) code: String,
}

/// What somebody types to have another password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPassword {
    pub(crate) name: String,
    /// The password until now, or the code that somebody gave.
    pub(crate) present: Zeroizing<String>,
    #[serde(default)]
    pub(crate) code: String,
    pub(crate) new: Zeroizing<String>,
}

/// An account, and what it is opened with.
pub(crate) type Found = Option<(Account, Locks)>;

/// The account of a name, if there is one that is open.
pub(crate) fn find(tx: &mut Tx<'_>, name: Option<&AccountName>, doors: Doors) -> Result<Found, HubError> {
    let account = name.map(|name| tx.find_account(name)).transpose()?.flatten();
    let Some(account) = account.filter(|account| !account.is_disabled) else { return Ok(None) };
    if doors.are_closed_to(&account) {
        return Ok(None);
    }
    let locks = tx.locks_of(account.number)?;
    Ok(Some((account, locks)))
}

/// Which accounts have no door here: those that are linked, if a provider is the only way in for them. To which provider does not
/// count: one that is called otherwise than yesterday must not open what it closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doors {
    are_closed: bool,
}

impl Doors {
    pub(crate) fn of(config: &Config) -> Doors {
        Doors { are_closed: config.oidc.is_on() && !config.oidc.password_of_linked }
    }

    /// Whether an account cannot be opened by a password.
    pub(crate) fn are_closed_to(self, account: &Account) -> bool {
        self.are_closed && account.identity.is_some()
    }
}

/// Opens a session for who has proved who he is, and writes that down. The same for all ways in.
pub(crate) fn admit(
    tx: &mut Tx<'_>,
    account: &Account,
    (hash, lasting): (&Sha256, Lasting),
    from: Option<IpAddr>,
    target: &Json,
) -> Result<(), HubError> {
    tx.open_session(hash, account.number, lasting)?;
    let actor = Actor::at(format!("account:{}", account.name), from);
    Ok(tx.audit(&actor, What::Login, target)?)
}

/// The password of who is logged in, as it is kept; none if it opens nothing here.
pub(crate) async fn own_password(hub: &Hub, name: &AccountName) -> Result<Option<String>, HubError> {
    let (name, doors) = (name.clone(), Doors::of(hub.config()));
    let found = hub.read(move |tx| find(tx, Some(&name), doors)).await?;
    Ok(found.map(|(_, locks)| locks.password).filter(|kept| !kept.is_empty()))
}

/// Whether a password is the one that is kept so.
pub(crate) async fn verify(hub: &Hub, password: Zeroizing<String>, kept: String) -> Result<(), HubError> {
    match password.len() <= PASSWORD_BYTES_MAX && hub.mill().verify(password, kept).await? {
        true => Ok(()),
        false => Err(HubError::NotLoggedIn),
    }
}

/// Whether the second factor is shown, if there is one; the step of its code is taken then.
pub(crate) fn second_factor(tx: &mut Tx<'_>, account: &Account, locks: &Locks, code: &str) -> Result<(), HubError> {
    if locks.totp_key.is_empty() {
        return Ok(());
    }
    let step = totp::step_of(code, &locks.totp_key, locks.totp_step, tx.now_ms).ok_or(HubError::NotLoggedIn)?;
    Ok(tx.note_totp(account.number, step)?)
}

/// How a try ended.
pub(crate) enum Tried<T> {
    Right(T),
    /// What was shown opens nothing.
    Wrong(HubError),
    /// What was shown was not looked at.
    Unjudged(HubError),
}

/// Runs a try that counts for a name from its beginning. What was right, or not looked at, does not count in the end.
pub(crate) async fn counted<T>(
    hub: &Hub,
    from: Option<IpAddr>,
    name: &str,
    act: impl Future<Output = Tried<T>>,
) -> Result<T, HubError> {
    if !hub.begin_try(from, name) {
        return Err(HubError::TooManyTries);
    }
    let done = match act.await {
        Tried::Wrong(error) => {
            tracing::warn!(%error, "login refused");
            return Err(error);
        }
        Tried::Right(done) => Ok(done),
        Tried::Unjudged(error) => Err(error),
    };
    hub.forgive_try(from, name);
    done
}

/// Runs a try for the name of an account. What was wrong is counted and written down.
pub(crate) async fn tried<T>(
    hub: &Hub,
    from: Option<IpAddr>,
    name: Option<AccountName>,
    act: impl Future<Output = Result<T, HubError>>,
) -> Result<T, HubError> {
    let by = name.as_ref().map(ToString::to_string).unwrap_or_default();
    let noted = async {
        match act.await {
            Ok(done) => Tried::Right(done),
            Err(HubError::NotLoggedIn) => {
                let refusals = hub.refusals().clone();
                let note = move |tx: &mut Tx<'_>| {
                    // Only if there is one: people type passwords into the wrong field.
                    let known = name.map(|name| tx.find_account(&name)).transpose()?.flatten();
                    let target = json!({ "account": known.map(|account| account.name.to_string()) });
                    Ok::<_, HubError>(refusals.note(tx, from, What::LoginRefused, &target)?)
                };
                Tried::Wrong(hub.write(note).await.err().unwrap_or(HubError::NotLoggedIn))
            }
            Err(error) => Tried::Unjudged(error),
        }
    };
    counted(hub, from, &by, noted).await
}

/// Opens a session. Gives what the cookie holds.
pub(crate) async fn log_in(
    hub: &Hub,
    from: Option<IpAddr>,
    headers: &HeaderMap,
    typed: Typed,
) -> Result<(Zeroizing<String>, Json), HubError> {
    let name = AccountName::typed(&typed.name);
    tried(hub, from, name.clone(), open_session(hub, (from, headers), name, typed)).await
}

async fn open_session(
    hub: &Hub,
    (from, headers): (Option<IpAddr>, &HeaderMap),
    name: Option<AccountName>,
    typed: Typed,
) -> Result<(Zeroizing<String>, Json), HubError> {
    if typed.password.len() > PASSWORD_BYTES_MAX {
        return Err(HubError::NotLoggedIn);
    }
    let (asked, doors) = (name.clone(), Doors::of(hub.config()));
    let found = hub.read::<_, HubError, _>(move |tx| find(tx, asked.as_ref(), doors)).await?;
    let kept = found.map(|(_, locks)| locks.password).unwrap_or_default();
    if !hub.mill().verify(typed.password, kept.clone()).await? {
        return Err(HubError::NotLoggedIn);
    }
    let pass = secret::pass()?;
    let (hash, lasting) = (session_hash(&pass, headers), hub.lasting());
    let open = move |tx: &mut Tx<'_>| {
        // Again, because it may have been closed or changed while the password was looked at.
        let found = find(tx, name.as_ref(), doors)?.filter(|(_, locks)| locks.password == kept);
        let (account, locks) = found.ok_or(HubError::NotLoggedIn)?;
        second_factor(tx, &account, &locks, &typed.code)?;
        admit(tx, &account, (&hash, lasting), from, &json!({ "account": account.name.as_str() }))?;
        Ok::<_, HubError>(json!({
            "account": account.name.as_str(), "role": account.role, "scopes": account.sight.names(),
        }))
    };
    let told = hub.write(open).await?;
    Ok((pass, told))
}

/// Sets a password by the one before, or by a code. All sessions of the account end.
pub(crate) async fn set_password(hub: &Hub, from: Option<IpAddr>, typed: NewPassword) -> Result<(), HubError> {
    let name = AccountName::typed(&typed.name);
    if let Some(name) = &name {
        check_password(name, &typed.new)?;
    }
    tried(hub, from, name.clone(), exchange_password(hub, from, name, typed)).await
}

async fn exchange_password(
    hub: &Hub,
    from: Option<IpAddr>,
    name: Option<AccountName>,
    typed: NewPassword,
) -> Result<(), HubError> {
    if typed.present.len() > PASSWORD_BYTES_MAX || typed.new.len() > PASSWORD_BYTES_MAX {
        return Err(HubError::NotLoggedIn);
    }
    let (asked, doors) = (name.clone(), Doors::of(hub.config()));
    let found = hub.read::<_, HubError, _>(move |tx| find(tx, asked.as_ref(), doors)).await?;
    let locks = found.map(|(_, locks)| locks).unwrap_or_default();
    let by_code = locks.opens(&typed.present);
    // Looked at in any case, so that all take as long.
    let by_password = hub.mill().verify(typed.present.clone(), locks.password.clone()).await?;
    if !by_code && !by_password {
        return Err(HubError::NotLoggedIn);
    }
    let phc = hub.mill().hash(typed.new).await?;
    let set = move |tx: &mut Tx<'_>| {
        let found = find(tx, name.as_ref(), doors)?;
        let (account, now) = found.ok_or(HubError::NotLoggedIn)?;
        match by_code {
            // The one who gave the code knows whom he gave it to; the second factor is asked for at the login.
            true if now.opens(&typed.present) => {}
            false if now.password == locks.password => second_factor(tx, &account, &now, &typed.code)?,
            _ => return Err(HubError::NotLoggedIn),
        }
        tx.set_password(account.number, &phc)?;
        let actor = Actor::at(format!("account:{}", account.name), from);
        let target = json!({ "account": account.name.as_str(), "by": if by_code { "code" } else { "password" } });
        Ok::<_, HubError>(tx.audit(&actor, What::SetPassword, &target)?)
    };
    hub.write(set).await
}

/// Ends the session that asks.
pub(crate) async fn log_out(hub: &Hub, caller: &crate::caller::Caller) -> Result<(), HubError> {
    let (_, name, hash) = caller.person()?;
    let (actor, name, hash) = (caller.actor.clone(), name.to_string(), *hash);
    let end = move |tx: &mut Tx<'_>| {
        tx.end_session(&hash)?;
        Ok::<_, HubError>(tx.audit(&actor, What::Logout, &json!({ "account": name }))?)
    };
    hub.write(end).await
}
