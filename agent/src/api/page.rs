//! The page at the local listener: how the gateway is, who is let in, and a button to let in one more. Plain HTML, no scripts.
//!
//! It may do what anybody at this machine may. A page of somebody else cannot post to it: the guard compares `Origin`, and a form
//! that comes without one is not taken.

use std::fmt::Write;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Form, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use super::App;
use super::apps::{AppView, Invited, Wish, open_code, throw_out, views};
use super::problem::Problem;
use super::status_of;
use crate::acts::Who;
use crate::apps::picture;
use crate::status::Status;

const FORM_BYTES_MAX: usize = 16 * 1024;
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>
<title>Outpost gateway</title><style>
body{font:16px/1.5 system-ui,sans-serif;margin:2rem;color:#111;background:#fff}pre{font-size:14px;overflow:auto}
table{border-collapse:collapse}th,td{text-align:left;padding:.4rem .8rem;border-bottom:1px solid #ccc}
label{display:block;margin:.4rem 0}input,button{font:inherit}small{color:#555}.code{font-size:2rem;font-family:monospace}</style>";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(page))
        .route("/pair", post(pair))
        .route("/revoke", post(revoke))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
}

async fn page(State(app): State<App>) -> Result<Response, Problem> {
    let (now_ms, status) = (app.clock.now().now_ms, status_of(&app).await?);
    Ok(html(overview(&status, &views(&app), app.entrance.is_some(), now_ms)))
}

/// What the form says.
#[derive(Debug, Deserialize)]
struct Asked {
    name: String,
    read: String,
    write: String,
}

async fn pair(State(app): State<App>, headers: HeaderMap, Form(asked): Form<Asked>) -> Result<Response, Problem> {
    expect_own_page(&headers)?;
    let types = |text: &str| Some(text.split([' ', ',']).map(str::to_owned).collect());
    let wish = Wish { name: asked.name, read: types(&asked.read), write: types(&asked.write), days: None };
    Ok(html(invitation(&open_code(&app, wish, &Who::page()).await?)))
}

/// Which app.
#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

async fn revoke(State(app): State<App>, headers: HeaderMap, Form(named): Form<Named>) -> Result<Redirect, Problem> {
    expect_own_page(&headers)?;
    throw_out(&app, &named.name, &Who::page()).await?;
    Ok(Redirect::to("/"))
}

/// Every browser that can be had says whose page posts; the guard has compared it.
fn expect_own_page(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(header::ORIGIN) { Ok(()) } else { Err(Problem::foreign_page(true)) }
}

fn html(body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With no referrer at all, a browser would not say whose page posts.
        (header::REFERRER_POLICY, "same-origin"),
    ];
    (headers, body).into_response()
}

fn overview(status: &Status, apps: &[AppView], is_open: bool, now_ms: i64) -> String {
    let mut html = HEAD.to_owned();
    // Writing to a `String` cannot fail.
    let _ = write!(html, "<h1>Outpost gateway</h1><pre>{}</pre><h2>Apps</h2>", escape(&status.text(now_ms)));
    if !apps.is_empty() {
        html.push_str("<table><tr><th>App<th>May<th>Last here<th>Until<th>");
    }
    for app in apps {
        let until = if app.expired { "over" } else { app.expires_at.as_deref().unwrap_or("not known yet") };
        let _ = write!(
            html,
            "<tr><td>{name}<td>{}<td>{}<td>{}<td><form method=post action=/revoke><input type=hidden name=name \
             value=\"{name}\"><button>Revoke</button></form>",
            escape(&app.told),
            escape(app.last_seen_at.as_deref().unwrap_or("never")),
            escape(until),
            name = escape(&app.name),
        );
    }
    if !apps.is_empty() {
        html.push_str("</table>");
    }
    html.push_str(match is_open {
        true => {
            "<h3>Let one in</h3><form method=post action=/pair>
             <label>Name <input name=name required maxlength=64 placeholder='tablet 1'></label>
             <label>May read <input name=read value='*'></label><label>May write <input name=write value='*'></label>
             <small>Record types with spaces between; * is all, empty is none.</small>
             <p><button>Show a code</button></p></form>"
        }
        false => {
            "<p>The gateway is closed to the network. To open it, write into outpost.toml, and start outpost again:</p>
             <pre>[network]\nlisten = \"0.0.0.0:8471\"</pre>"
        }
    });
    html
}

fn invitation(invited: &Invited) -> String {
    let Invited { name, invitation, address, code, seconds, .. } = invited;
    let replaces = if invited.replaces { "<p>It replaces the app that has this name.</p>" } else { "" };
    let [name, address, told] = [name, address, invitation.as_str()].map(escape);
    format!(
        "{HEAD}<h1>Let in {name}</h1><p>Scan this in the app, once, within {} minutes.</p>{}<p class=code>{}</p>
         <p>Address <code>{address}</code></p><p><small><code>{told}</code></small></p>{replaces}<p><a href=/>Back</a></p>",
        seconds / 60,
        picture(invitation),
        code.as_str(),
    )
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}
