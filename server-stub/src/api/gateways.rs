//! The fleet.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::HubError;
use crate::fleet::{self, GatewayView};
use crate::hub::{Hub, checked_scopes, give_code};
use crate::problem::{self, Problem};
use crate::secret;

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

pub(super) async fn list(State(hub): State<Hub>) -> Result<Json<Vec<GatewayView>>, Problem> {
    Ok(Json(hub.read(fleet::all).await?))
}

pub(super) async fn show(State(hub): State<Hub>, Path(name): Path<String>) -> Result<Json<GatewayView>, Problem> {
    Ok(Json(hub.read(move |tx| fleet::one(tx, &name)).await?))
}

pub(super) async fn add(State(hub): State<Hub>, body: Bytes) -> Result<(StatusCode, Json<Value>), Problem> {
    let new: NewGateway = problem::json(&body)?;
    let scopes: Vec<&str> = new.scopes.iter().map(String::as_str).collect();
    let code = hub.add_gateway(&new.name, &scopes, &new.source).await?;
    Ok((StatusCode::CREATED, Json(json!({ "name": new.name, "code": code }))))
}

/// A new code for a gateway that lost its card, or came too late.
pub(super) async fn code(State(hub): State<Hub>, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    let code = secret::code()?;
    let (given, hours, named) = (code.clone(), hub.config().code_hours_valid, name.clone());
    hub.write::<_, HubError, _>(move |tx| give_code(tx, &named, &given, hours)).await?;
    Ok(Json(json!({ "name": name, "code": hub.told_code(code).await? })))
}

pub(super) async fn scopes(
    State(hub): State<Hub>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<GatewayView>, Problem> {
    let wanted: Scopes = problem::json(&body)?;
    let scopes = checked_scopes(&wanted.scopes)?;
    let act = move |tx: &mut crate::store::Tx<'_>| {
        tx.set_scopes(&name, scopes)?;
        fleet::one(tx, &name)
    };
    Ok(Json(hub.write::<_, HubError, _>(act).await?))
}

/// Lets it in again, with what it sent meanwhile.
pub(super) async fn allow(State(hub): State<Hub>, Path(name): Path<String>) -> Result<Json<GatewayView>, Problem> {
    let act = move |tx: &mut crate::store::Tx<'_>| {
        tx.allow(&name)?;
        fleet::one(tx, &name)
    };
    Ok(Json(hub.write::<_, HubError, _>(act).await?))
}

pub(super) async fn revoke(State(hub): State<Hub>, Path(name): Path<String>) -> Result<Json<GatewayView>, Problem> {
    let act = move |tx: &mut crate::store::Tx<'_>| {
        tx.revoke(&name)?;
        fleet::one(tx, &name)
    };
    Ok(Json(hub.write::<_, HubError, _>(act).await?))
}
