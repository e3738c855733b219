//! The pages by which people come in and go: login, logout, and setting a password. Plain forms, no scripts.
//!
//! A form counts only if the browser says that it was on a page of the hub: else another site could log somebody in as somebody else.

use axum::extract::{Extension, Form, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

use crate::account::PASSWORD_LETTERS_MIN;
use crate::caller::{self, Caller, Page, page_of};
use crate::cookie::SESSION;
use crate::error::HubError;
use crate::factor::{self, Wanted};
use crate::hub::Hub;
use crate::login::{self, NewPassword, Typed};
use crate::oidc;
use crate::page::{escape, html};
use crate::peer::Peer;
use crate::problem::Problem;
use crate::totp;

const LOGIN: &str = "<h1>Outpost hub</h1><form method=post action=/login>
<p><label>Name <input name=name autocomplete=username required autofocus></label>
<p><label>Password <input type=password name=password autocomplete=current-password required></label>
<p><label>Code of the second factor, if you have one <input name=code inputmode=numeric autocomplete=one-time-code></label>
<p><button>Log in</button></form>
<p><a href=/password>Set a password</a>, by a code that you were given or the one before.";

/// The page on which people come in.
pub(crate) fn login_page(hub: &Hub) -> String {
    format!("{LOGIN}{}", oidc::button(hub))
}

fn password_form() -> String {
    format!(
        "<h1>Outpost hub</h1><form method=post action=/password>
<p><label>Name <input name=name autocomplete=username required autofocus></label>
<p><label>Code that you were given, or your password until now <input type=password name=present autocomplete=current-password required></label>
<p><label>Code of the second factor, if you have one <input name=code inputmode=numeric autocomplete=one-time-code></label>
<p><label>New password, {PASSWORD_LETTERS_MIN} characters or more <input type=password name=new autocomplete=new-password minlength={PASSWORD_LETTERS_MIN} required></label>
<p><button>Set the password</button></form><p><a href=/login>Log in</a>"
    )
}

/// What went wrong, over the form in which it can be tried again.
pub(crate) fn refused(error: HubError, form: &str) -> Response {
    let told = format!("<p class=bad>{}: {}.", escape(&error.to_string()), escape(error.hint()));
    let status = Problem::from(error).into_response().status();
    html(status, &format!("{told}{form}"))
}

pub(crate) fn foreign(form: &str) -> Response {
    let told = "<p class=bad>This came from another page than the hub's own. Type it here.";
    html(StatusCode::FORBIDDEN, &format!("{told}{form}"))
}

/// To another page, with a cookie.
fn moved(hub: &Hub, to: &str, value: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    if let Ok(cookie) = HeaderValue::from_str(&SESSION.set(hub.config().tls, value)) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `GET /login`.
pub(crate) async fn login_form(State(hub): State<Hub>) -> Response {
    html(StatusCode::OK, &login_page(&hub))
}

/// `POST /login`.
pub(crate) async fn log_in(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Form(typed): Form<Typed>,
) -> Response {
    if page_of(&headers) != Page::Own {
        return foreign(&login_page(&hub));
    }
    match login::log_in(&hub, peer.address, &headers, typed).await {
        Ok((pass, _)) => moved(&hub, "/", &pass),
        Err(error) => refused(error, &login_page(&hub)),
    }
}

/// `GET /password`.
pub(crate) async fn show_password_form() -> Response {
    html(StatusCode::OK, &password_form())
}

/// `POST /password`.
pub(crate) async fn set_password(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Form(typed): Form<NewPassword>,
) -> Response {
    if page_of(&headers) != Page::Own {
        return foreign(&password_form());
    }
    match login::set_password(&hub, peer.address, typed).await {
        // Whoever is logged in here is not any more.
        Ok(()) => moved(&hub, "/login", ""),
        Err(error) => refused(error, &password_form()),
    }
}

async fn factor_form(hub: &Hub, caller: &Caller) -> Result<String, HubError> {
    let (_, name, _) = caller.person()?;
    let secret = factor::new_secret(hub, caller).await?;
    Ok(format!(
        "<h1>A second factor</h1><p>Put this secret into an app for one-time codes, by hand or by <a href='{}'>this link</a>:
<p><b>{}</b><p>It is shown once. Then type what the app shows; from then on every login needs such a code.
<form method=post action=/second-factor><input type=hidden name=secret value='{}'>
<p><label>Code that the app shows <input name=code inputmode=numeric autocomplete=one-time-code required></label>
<p><label>Password <input type=password name=password autocomplete=current-password required></label>
<p><button>Turn it on</button></form><p><a href=/>Back</a>",
        escape(&totp::url(name.as_str(), &secret)),
        secret.as_str(),
        secret.as_str(),
    ))
}

/// Who is logged in and asks by one of the hub's own pages.
async fn person(hub: &Hub, peer: &Peer, method: &Method, headers: &HeaderMap) -> Result<Caller, Response> {
    match caller::caller(hub, peer.address, method, headers, true).await {
        Ok(caller) if caller.person().is_ok() => Ok(caller),
        _ => Err(Redirect::to("/login").into_response()),
    }
}

/// `GET /second-factor`.
pub(crate) async fn show_factor_form(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let caller = person(&hub, &peer, &Method::GET, &headers).await?;
    let form = factor_form(&hub, &caller).await;
    Ok(form.map_or_else(|error| refused(error, "<p><a href=/>Back</a>"), |form| html(StatusCode::OK, &form)))
}

/// `POST /second-factor`.
pub(crate) async fn set_factor(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Form(wanted): Form<Wanted>,
) -> Result<Response, Response> {
    let caller = person(&hub, &peer, &Method::POST, &headers).await?;
    Ok(match factor::turn_on(&hub, peer.address, &caller, wanted).await {
        Ok(()) => moved(&hub, "/login", ""),
        Err(error) => refused(error, "<p><a href=/second-factor>Begin again</a>, with another secret."),
    })
}

/// `POST /logout`.
pub(crate) async fn log_out(State(hub): State<Hub>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Response {
    if page_of(&headers) != Page::Own {
        return foreign(&login_page(&hub));
    }
    if let Ok(caller) = caller::caller(&hub, peer.address, &Method::POST, &headers, true).await {
        if let Err(error) = login::log_out(&hub, &caller).await {
            return refused(error, &login_page(&hub));
        }
    }
    moved(&hub, "/login", "")
}
