//! What is one's own: the session, the password, the tokens.

use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::{json as json_reply, proof, refusal};
use crate::account::{Role, Sight};
use crate::caller::{By, Caller, Out, Page, page_of};
use crate::cookie::SESSION;
use crate::error::HubError;
use crate::factor;
use crate::hub::Hub;
use crate::login::{self, NewPassword, Typed};
use crate::peer::Peer;
use crate::problem::{self, Problem};
use crate::staff::{self, Boss, TOKEN_DAYS, Wish};
use crate::store::Tx;
use crate::totp;

/// Takes a body from a program, or from a page of the hub. A form of another site cannot send this type.
fn checked(headers: &HeaderMap) -> Result<(), Problem> {
    let is_json = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/json");
    match (headers.get(header::CONTENT_TYPE).is_some_and(is_json), page_of(headers)) {
        (true, Page::Own | Page::Silent) => Ok(()),
        (true, _) => Err(refusal(Out::ForeignPage)),
        (false, _) => Err(Problem::bad_request("this is application/json")),
    }
}

fn with_cookie(mut response: Response, hub: &Hub, value: &str) -> Response {
    if let Ok(cookie) = HeaderValue::from_str(&SESSION.set(hub.config().tls, value)) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) async fn log_in(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    checked(&headers)?;
    let typed: Typed = problem::json(&body)?;
    let (pass, told) = login::log_in(&hub, peer.address, &headers, typed).await?;
    Ok(with_cookie(json_reply(StatusCode::OK, &told), &hub, &pass))
}

pub(super) async fn set_password(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    checked(&headers)?;
    let typed: NewPassword = problem::json(&body)?;
    login::set_password(&hub, peer.address, typed).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn log_out(State(hub): State<Hub>, Extension(caller): Extension<Caller>) -> Result<Response, Problem> {
    login::log_out(&hub, &caller).await?;
    Ok(with_cookie(StatusCode::NO_CONTENT.into_response(), &hub, ""))
}

/// Who one is, and what one may do.
pub(super) async fn show(Extension(caller): Extension<Caller>) -> Response {
    let by = match &caller.by {
        By::Machine => "admin.token",
        By::Session { .. } => "login",
        By::Token { .. } => "token",
    };
    let told = json!({ "who": caller.actor.who, "by": by, "role": caller.role, "scopes": caller.sight.names() });
    json_reply(StatusCode::OK, &told)
}

/// A secret for an app, of which nothing is kept yet.
pub(super) async fn new_factor(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    let (_, name, _) = caller.person()?;
    let secret = factor::new_secret(&hub, &caller).await?;
    let url = totp::url(name.as_str(), &secret);
    Ok(json_reply(StatusCode::OK, &json!({ "secret": secret.as_str(), "url": url })))
}

pub(super) async fn set_factor(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    factor::turn_on(&hub, peer.address, &caller, problem::json(&body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn end_factor(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    factor::turn_off(&hub, peer.address, &caller, problem::json(&body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    label: String,
    role: Option<Role>,
    #[serde(default)]
    scopes: Vec<String>,
    days: Option<u32>,
    password: Zeroizing<String>,
    /// Of the second factor; empty if there is none.
    #[serde(default)]
    code: String,
}

/// What one may decide about oneself.
fn self_boss(caller: &Caller) -> Boss {
    Boss { actor: caller.actor.clone(), sight: caller.sight.clone() }
}

pub(super) async fn tokens(State(hub): State<Hub>, Extension(caller): Extension<Caller>) -> Result<Response, Problem> {
    let (account, ..) = caller.person()?;
    let look = move |tx: &mut Tx<'_>| {
        let now_ms = tx.now_ms;
        let own = tx.tokens()?.into_iter().filter(|token| token.account == account);
        Ok::<_, HubError>(own.map(|token| staff::token_view(&token, now_ms)).collect::<Vec<Json>>())
    };
    Ok(json_reply(StatusCode::OK, &json!({ "tokens": hub.read(look).await? })))
}

/// Makes a token for who knows the password as well as the cookie does: it outlives the session by up to a year.
pub(super) async fn add_token(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, Problem> {
    let NewToken { label, role, scopes, days, password, code } = problem::json(&body)?;
    let (_, name, _) = caller.person()?;
    let sight = (!scopes.is_empty()).then(|| Sight::wanted(&scopes, false)).transpose()?;
    let wish = Wish { label, role, sight, days: days.unwrap_or(TOKEN_DAYS) };
    let (text, hash) = staff::new_token()?;
    let (boss, name, instead) = (self_boss(&caller), name.clone(), format!("admin token add {name} LABEL"));
    let add = move |tx: &mut Tx<'_>| {
        let now_ms = tx.now_ms;
        Ok::<_, HubError>(staff::token_view(&staff::add_token(tx, &boss, &name, wish, &hash)?, now_ms))
    };
    let mut told = proof::proven(&hub, peer.address, &caller, (password, code), &instead, add).await?;
    if let Some(told) = told.as_object_mut() {
        told.insert("token".to_owned(), Json::from(text.as_str()));
    }
    Ok(json_reply(StatusCode::CREATED, &told))
}

pub(super) async fn revoke_token(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Path(label): Path<String>,
) -> Result<StatusCode, Problem> {
    let (_, name, _) = caller.person()?;
    let (boss, name) = (self_boss(&caller), name.clone());
    hub.write(move |tx| staff::revoke_token(tx, &boss, &name, &label)).await?;
    Ok(StatusCode::NO_CONTENT)
}
