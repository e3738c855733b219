//! The fleet.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::audit::What;
use crate::caller::Caller;
use crate::error::HubError;
use crate::fleet::{self, GatewayView};
use crate::hub::{Hub, checked_scopes, give_code, new_gateway};
use crate::problem::{self, Problem};
use crate::secret;
use crate::store::Tx;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewGateway {
    name: String,
    scopes: Vec<String>,
    #[serde(default = "clinic")]
    source: String,
}

fn clinic() -> String {
    "clinic".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scopes {
    scopes: Vec<String>,
}

pub(super) async fn list(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<GatewayView>>, Problem> {
    Ok(Json(hub.read(move |tx| fleet::all(tx, &caller.sight)).await?))
}

pub(super) async fn show(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<GatewayView>, Problem> {
    Ok(Json(hub.read(move |tx| fleet::one(tx, &caller.sight, &name)).await?))
}

pub(super) async fn add(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let asked: NewGateway = problem::json(&body)?;
    let new = new_gateway(&asked.name, &asked.scopes, &asked.source)?;
    fleet::check_within(&caller.sight, &new.scopes)?;
    let code = hub.add_gateway_as(caller.actor, new).await?;
    Ok((StatusCode::CREATED, Json(json!({ "name": asked.name, "code": code }))))
}

/// A new code for a gateway that lost its card, or came too late.
pub(super) async fn code(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let code = secret::code()?;
    let (given, hours, named) = (code.clone(), hub.config().code_hours_valid, name.clone());
    let act = move |tx: &mut Tx<'_>| {
        fleet::own(tx, &caller.sight, &named)?;
        Ok::<_, HubError>((give_code(tx, &named, &given, hours)?, json!({ "gateway": named })))
    };
    hub.change(caller.actor, What::GiveCode, act).await?;
    Ok(Json(json!({ "name": name, "code": hub.told_code(code).await? })))
}

pub(super) async fn scopes(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<GatewayView>, Problem> {
    let wanted: Scopes = problem::json(&body)?;
    let scopes = checked_scopes(&wanted.scopes)?;
    fleet::check_within(&caller.sight, &scopes)?;
    let target = json!({ "gateway": name, "scopes": wanted.scopes });
    decide(hub, caller, name, What::SetScopes, target, move |tx, name| tx.set_scopes(name, scopes)).await
}

/// Lets it in again, with what it sent meanwhile.
pub(super) async fn allow(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<GatewayView>, Problem> {
    let target = json!({ "gateway": name });
    decide(hub, caller, name, What::Allow, target, |tx, name| tx.allow(name).map(drop)).await
}

pub(super) async fn revoke(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<GatewayView>, Problem> {
    let target = json!({ "gateway": name });
    decide(hub, caller, name, What::Revoke, target, |tx, name| tx.revoke(name)).await
}

/// Does something about a gateway all of whose scopes the caller sees, and shows it as it is then.
async fn decide(
    hub: Hub,
    caller: Caller,
    name: String,
    what: What,
    target: Value,
    act: impl FnOnce(&mut Tx<'_>, &str) -> Result<(), HubError> + Send + 'static,
) -> Result<Json<GatewayView>, Problem> {
    let sight = caller.sight;
    let act = move |tx: &mut Tx<'_>| {
        fleet::own(tx, &sight, &name)?;
        act(tx, &name)?;
        Ok::<_, HubError>((fleet::one(tx, &sight, &name)?, target))
    };
    Ok(Json(hub.change(caller.actor, what, act).await?))
}
