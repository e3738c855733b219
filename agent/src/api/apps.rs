//! Letting apps in from the clinic's network, and throwing them out. All but [`pair`] is for this machine only.

use std::future::Future;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::App;
use super::body::{expect_type, read};
use super::caller::Person;
use super::guard::Source;
use super::problem::Problem;
use super::view::time_text;
use crate::acts::{Act, Deed, Who};
use crate::apps::{APPS_MAX, CODE_LIFE, Grant, Invitation, NAME_BYTES_MAX, PairedApp, Refused, Token, app_name};
use crate::config::TOKEN_DAYS_MAX;
use crate::error::Error;
use crate::network::Entrance;
use crate::store::Tx;

const BODY_BYTES_MAX: usize = 16 * 1024;

/// Whom to let in, and for what.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    /// What people call it. One that is paired under this name is replaced when the code is used.
    pub(super) name: String,
    /// Record types that it may read; `["*"]` is all. All, if neither this nor `write` is given; else none.
    #[serde(default)]
    pub(super) read: Option<Vec<String>>,
    /// Record types that it may write, likewise.
    #[serde(default)]
    pub(super) write: Option<Vec<String>>,
    /// How long it may come in; as configured if not given.
    #[serde(default)]
    pub(super) days: Option<u32>,
}

/// What the new app is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Invited {
    pub(super) name: String,
    /// All in one, for a QR code: `outpost://ADDRESS/pair?code=...&pin=...`.
    #[schema(value_type = String)]
    pub(super) invitation: Zeroizing<String>,
    /// Host and port.
    pub(super) address: String,
    /// Good once.
    #[schema(value_type = String)]
    pub(super) code: Zeroizing<String>,
    /// SHA-256 of the gateway's public key (SubjectPublicKeyInfo), base64url.
    pub(super) pin: String,
    /// How long the code is good.
    pub(super) seconds: u64,
    /// Whether an app of this name is replaced.
    pub(super) replaces: bool,
}

/// Opens the door for an app, for ten minutes.
#[utoipa::path(post, path = "/v1/pairings", request_body = Wish,
    responses((status = 201, body = Invited), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn invite(
    State(app): State<App>,
    Person(who): Person,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Invited>), Problem> {
    expect_type(&headers, "application/json")?;
    let body = read(body, BODY_BYTES_MAX, "The body").await?;
    let wish: Wish = serde_json::from_slice(&body).map_err(|e| {
        let wanted = "an object with name and optionally read, write and days";
        Problem::bad_request(format!("The body is not {wanted}: see column {}.", e.column()))
    })?;
    Ok((StatusCode::CREATED, Json(open_code(&app, wish, &who).await?)))
}

/// The same for the page.
pub(super) async fn open_code(app: &App, wish: Wish, who: &Who) -> Result<Invited, Problem> {
    let entrance = app.entrance.as_ref().ok_or_else(Problem::network_closed)?;
    let name = app_name(&wish.name)
        .ok_or_else(|| Problem::bad_request(format!("name must be text of 1 to {NAME_BYTES_MAX} bytes.")))?;
    let grant = Grant::asked(wish.read.as_deref(), wish.write.as_deref());
    let grant = grant.map_err(|wrong| Problem::bad_request(format!("{wrong}.")))?;
    let days = wish.days.unwrap_or(entrance.config.token_days);
    if !(1..=TOKEN_DAYS_MAX).contains(&days) {
        return Err(Problem::bad_request(format!("days must be from 1 to {TOKEN_DAYS_MAX}.")));
    }
    let known = app.door.apps();
    let replaces = known.iter().any(|known| known.name == name);
    if !replaces && known.len() >= APPS_MAX {
        return Err(Problem::bad_request(format!("{APPS_MAX} apps are paired already: revoke some.")));
    }
    let on = json!({ "app": name, "reads": grant.reads.names(), "writes": grant.writes.names(), "days": days });
    let act = Act::new(Deed::InviteApp, who, app.clock.now(), on)?;
    // Before anybody sees the code.
    app.store.write(move |tx| tx.act(&act).map_err(Problem::from)).await?;
    let code = app.door.open_code(name.clone(), grant, days, Instant::now())?;
    let (address, pin) = (entrance.address(), entrance.pin);
    let invitation = Invitation { address: address.clone(), code: code.clone(), pin };
    let invitation = Zeroizing::new(invitation.to_string());
    let (pin, seconds) = (pin.base64url(), CODE_LIFE.as_secs());
    Ok(Invited { name, invitation, address, code, pin, seconds, replaces })
}

/// The code that the app was shown.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shown {
    #[schema(value_type = String)]
    code: Zeroizing<String>,
}

/// What the app keeps.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Welcome {
    /// To be sent with each request: `Authorization: Bearer TOKEN`. Nobody can tell it again.
    #[schema(value_type = String)]
    token: Zeroizing<String>,
    /// What people call this app.
    name: String,
    /// Record types that it may read; `["*"]` is all.
    read: Vec<String>,
    /// Record types that it may write.
    write: Vec<String>,
    /// How long it may come in.
    days: u32,
}

/// Gives a pairing code for a token. The only thing that the network gets without one.
#[utoipa::path(post, path = "/v1/pair", request_body = Shown, security(()),
    responses((status = 201, body = Welcome), (status = 403, body = Problem, content_type = "application/problem+json"), (status = 429, body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn pair(
    State(app): State<App>,
    Extension(Source(from)): Extension<Source>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    expect_type(&headers, "application/json")?;
    let body = read(body, BODY_BYTES_MAX, "The body").await?;
    let shown: Shown = serde_json::from_slice(&body)
        .map_err(|_| Problem::bad_request("The body is not {\"code\": \"ABCD-EFGH\"}."))?;
    let token = Token::make()?;
    let offer = app.door.take_code(&shown.code, from, Instant::now()).map_err(|refused| match refused {
        Refused::Wrong => Problem::wrong_code(),
        Refused::Slowed => Problem::slow_down("Too many wrong codes were tried."),
    })?;
    let new = PairedApp::new(&offer, &token, app.clock.bounds());
    let PairedApp { name, grant, days, .. } = new.clone();
    let act = Act::new(Deed::PairApp, &Who::app(&name), app.clock.now(), json!({ "app": name, "address": from }))?;
    to_its_end(async move {
        let _turn = app.door.turn().await;
        let kept = new.clone();
        let write = move |tx: &mut Tx<'_>| {
            tx.set_app(&kept)?;
            tx.act(&act)
        };
        let written: Result<(), Error> = app.store.write(write).await;
        if let Err(error) = written {
            app.door.put_back(offer);
            return Err(error.into());
        }
        app.door.add(new);
        tracing::info!(apps = app.door.apps().len(), "an app was paired");
        Ok(())
    })
    .await?;
    let (read, write) = (grant.reads.names(), grant.writes.names());
    let welcome = Welcome { token: Zeroizing::new(token.as_str().to_owned()), name, read, write, days };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(welcome)).into_response())
}

/// The apps, and where they come in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Apps {
    /// Absent while the gateway is closed to the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<NetworkView>,
    apps: Vec<AppView>,
}

/// Where apps come in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NetworkView {
    /// Host and port, as in invitations.
    address: String,
    /// Its name on the local link.
    host: String,
    /// As in invitations.
    pin: String,
}

/// An app that may come in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppView {
    pub(super) name: String,
    read: Vec<String>,
    write: Vec<String>,
    paired_at: String,
    /// Absent if it was never here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_seen_at: Option<String>,
    /// Absent until the gateway knows the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<String>,
    /// Whether it may not come in any more.
    pub(super) expired: bool,
    /// What it may do, in words.
    #[serde(skip)]
    pub(super) told: String,
}

impl NetworkView {
    fn new(entrance: &Entrance) -> NetworkView {
        let (address, host) = (entrance.address(), entrance.host.clone());
        NetworkView { address, host, pin: entrance.pin.base64url() }
    }
}

/// Those who are paired, by name.
pub(super) fn views(app: &App) -> Vec<AppView> {
    let time = app.clock.bounds();
    let known = |ms: i64| (ms != 0).then(|| time_text(ms));
    let mut apps = app.door.apps();
    apps.sort_by(|a, b| a.name.cmp(&b.name));
    let views = apps.into_iter().map(|app| AppView {
        read: app.grant.reads.names(),
        write: app.grant.writes.names(),
        paired_at: time_text(app.paired_ms),
        last_seen_at: known(app.used_ms),
        expires_at: known(app.expires_ms),
        expired: app.is_over(time),
        told: app.grant.told(),
        name: app.name,
    });
    views.collect()
}

/// Lists the apps that were let in.
#[utoipa::path(get, path = "/v1/apps", operation_id = "list_apps", responses((status = 200, body = Apps)))]
pub(crate) async fn list(State(app): State<App>) -> Json<Apps> {
    Json(Apps { network: app.entrance.as_deref().map(NetworkView::new), apps: views(&app) })
}

/// Lets an app in no more, at once.
#[utoipa::path(delete, path = "/v1/apps/{name}", params(("name" = String, Path)),
    responses((status = 204, description = "It is out"), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn revoke(
    State(app): State<App>,
    Person(who): Person,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    throw_out(&app, &name, &who).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The same for the page.
pub(super) async fn throw_out(app: &App, name: &str, who: &Who) -> Result<(), Problem> {
    let act = Act::new(Deed::RevokeApp, who, app.clock.now(), json!({ "app": name }))?;
    let (app, name) = (app.clone(), name.to_owned());
    to_its_end(async move {
        let _turn = app.door.turn().await;
        let kept = name.clone();
        let write = move |tx: &mut Tx<'_>| {
            let was_there = tx.remove_app(&kept)?;
            if was_there {
                tx.act(&act)?;
            }
            Ok::<_, Problem>(was_there)
        };
        let was_there = app.store.write(write).await?;
        // After the commit: what is out stays out after a power cut.
        app.door.remove(&name);
        if !was_there {
            return Err(Problem::not_found("No app of this name is paired."));
        }
        tracing::info!(apps = app.door.apps().len(), "an app was revoked");
        Ok(())
    })
    .await
}

/// Goes on when whoever asked hangs up: the store and the door must not differ.
async fn to_its_end(work: impl Future<Output = Result<(), Problem>> + Send + 'static) -> Result<(), Problem> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(Error::Closed.into()))
}
