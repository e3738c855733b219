//! Accounts of others. Those who see more than oneself are not there.

use std::net::IpAddr;

use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use zeroize::Zeroizing;

use super::{json as json_reply, proof};
use crate::account::{AccountName, Role, Sight};
use crate::caller::{By, Caller};
use crate::error::HubError;
use crate::hub::Hub;
use crate::login::Doors;
use crate::peer::Peer;
use crate::problem::{self, Problem};
use crate::staff::{self, Boss, Change};
use crate::store::Tx;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAccount {
    name: String,
    role: Role,
    #[serde(default)]
    scopes: Vec<String>,
    /// Instead of scopes: all records that there are.
    #[serde(default)]
    everything: bool,
    /// As in [`Own`].
    password: Option<Zeroizing<String>>,
    #[serde(default)]
    code: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    role: Option<Role>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    everything: bool,
    disabled: Option<bool>,
    /// As in [`Own`].
    password: Option<Zeroizing<String>>,
    #[serde(default)]
    code: String,
}

/// What a person types to show that it is him, whatever his browser keeps; the hub's own machine need not.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Own {
    password: Option<Zeroizing<String>>,
    /// Of the second factor; empty if there is none.
    #[serde(default)]
    code: String,
}

/// Does what gives somebody a way in that outlives the session: for a person who shows his password as well as the cookie. `instead` as
/// in [`proof::proven`].
async fn decide<T: Send + 'static>(
    hub: &Hub,
    from: Option<IpAddr>,
    caller: &Caller,
    own: Own,
    instead: &str,
    act: impl FnOnce(&mut Tx<'_>) -> Result<T, HubError> + Send + 'static,
) -> Result<T, HubError> {
    match (&caller.by, own.password) {
        (By::Session { .. }, Some(password)) => {
            proof::proven(hub, from, caller, (password, own.code), instead, act).await
        }
        (By::Session { .. }, None) => Err(HubError::Invalid(
            "say your own password as well, as \"password\", and \"code\" if you have a second factor".to_owned(),
        )),
        _ => hub.write(act).await,
    }
}

/// Who decides about others: a person, or the machine. A token that was stolen makes no accounts.
fn boss(caller: &Caller) -> Result<Boss, HubError> {
    match &caller.by {
        By::Token { .. } => Err(HubError::NotAllowed("accounts are changed by a person who is logged in".to_owned())),
        _ => Ok(Boss { actor: caller.actor.clone(), sight: caller.sight.clone() }),
    }
}

/// The account that is meant, which is not one's own: nobody locks himself out, or raises himself.
fn other(caller: &Caller, name: &str) -> Result<AccountName, HubError> {
    let name: AccountName = name.parse()?;
    match &caller.by {
        By::Session { name: own, .. } if *own == name => {
            Err(HubError::NotAllowed("somebody else has to change your account".to_owned()))
        }
        _ => Ok(name),
    }
}

pub(super) async fn list(State(hub): State<Hub>, Extension(caller): Extension<Caller>) -> Result<Response, Problem> {
    let look = move |tx: &mut Tx<'_>| {
        let now_ms = tx.now_ms;
        let seen = tx.accounts()?.into_iter().filter(|account| account.sight.is_within(&caller.sight));
        Ok::<_, HubError>(seen.map(|account| staff::view(&account, now_ms)).collect::<Vec<Json>>())
    };
    Ok(json_reply(StatusCode::OK, &json!({ "accounts": hub.read(look).await? })))
}

pub(super) async fn add(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, Problem> {
    let asked: NewAccount = problem::json(&body)?;
    let (name, role): (AccountName, _) = (asked.name.parse()?, asked.role);
    let sight = Sight::wanted(&asked.scopes, asked.everything)?;
    let hours = hub.config().code_hours_valid;
    let (boss, told) = (boss(&caller)?, name.to_string());
    let add = move |tx: &mut Tx<'_>| staff::add(tx, &boss, (&name, role, &sight), hours);
    let (own, instead) =
        (Own { password: asked.password, code: asked.code }, format!("admin add {told} --role {role}"));
    let code = decide(&hub, peer.address, &caller, own, &instead, add).await?;
    Ok(json_reply(StatusCode::CREATED, &json!({ "name": told, "code": code, "hours_valid": hours })))
}

pub(super) async fn change(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let (boss, name) = (boss(&caller)?, other(&caller, &name)?);
    let asked: Changes = problem::json(&body)?;
    let is_sight = asked.everything || !asked.scopes.is_empty();
    let sight = is_sight.then(|| Sight::wanted(&asked.scopes, asked.everything)).transpose()?;
    // Somebody who has to go is shut out at once.
    let only_closes = asked.disabled == Some(true) && asked.role.is_none() && sight.is_none();
    let instead = match asked.disabled {
        Some(false) => format!("admin enable {name}"),
        _ => format!("admin role {name} --role ROLE"),
    };
    let wish = Change { role: asked.role, sight, is_disabled: asked.disabled };
    let act = move |tx: &mut Tx<'_>| {
        let now_ms = tx.now_ms;
        Ok::<_, HubError>(staff::view(&staff::change(tx, &boss, &name, wish)?, now_ms))
    };
    let changed = match only_closes {
        true => hub.write(act).await?,
        false => {
            let own = Own { password: asked.password, code: asked.code };
            decide(&hub, peer.address, &caller, own, &instead, act).await?
        }
    };
    Ok(json_reply(StatusCode::OK, &changed))
}

pub(super) async fn code(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let (boss, name) = (boss(&caller)?, other(&caller, &name)?);
    let (hours, told) = (hub.config().code_hours_valid, name.to_string());
    let doors = Doors::of(hub.config());
    let give = move |tx: &mut Tx<'_>| staff::give_code(tx, &boss, &name, doors, hours);
    let code = decide(&hub, peer.address, &caller, own(&body)?, &format!("admin password {told}"), give).await?;
    Ok(json_reply(StatusCode::OK, &json!({ "name": told, "code": code, "hours_valid": hours })))
}

pub(super) async fn end_second_factor(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let (boss, name) = (boss(&caller)?, other(&caller, &name)?);
    let instead = format!("admin totp {name} --off");
    let end = move |tx: &mut Tx<'_>| staff::set_totp(tx, &boss, &name, &[]);
    decide(&hub, peer.address, &caller, own(&body)?, &instead, end).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is typed where nothing else is said; a program on the hub's machine says nothing.
fn own(body: &Bytes) -> Result<Own, Problem> {
    if body.is_empty() { Ok(Own::default()) } else { problem::json(body) }
}

pub(super) async fn revoke_token(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Path((name, label)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let (boss, name): (_, AccountName) = (boss(&caller)?, name.parse()?);
    hub.write(move |tx| staff::revoke_token(tx, &boss, &name, &label)).await?;
    Ok(StatusCode::NO_CONTENT)
}
