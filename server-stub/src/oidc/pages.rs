//! The pages of a login at the provider.
//!
//! A browser is sent on by pages, not by redirects: a form may lead to the hub only, and a cookie that is kept from other sites would
//! not be sent with a request that another site led to. Where it is sent is the provider's endpoint or the hub's own page, and
//! nothing that a request says.
//!
//! The address of the page to which the provider leads holds a code. No other site hears of it (`same-origin`, as on all pages); on
//! the hub itself it is used by then, and forms have to say from which page they come.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Form, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::begun::LASTS;
use super::{Answer, Next};
use crate::caller::{Page, page_of};
use crate::cookie::{Cookie, SESSION};
use crate::gate::{foreign, login_page, refused};
use crate::hub::Hub;
use crate::page::{escape, html};
use crate::peer::Peer;
use crate::problem::Problem;

const CODE_FORM: &str = "<h1>Outpost hub</h1><form method=post action=/login/oidc/code>
<p><label>Code of the second factor <input name=code inputmode=numeric autocomplete=one-time-code required autofocus></label>
<p><button>Log in</button></form><p><a href=/login>Begin again</a>";

/// What is added to the page of the login.
pub(crate) fn button(hub: &Hub) -> String {
    let form = |label: &str| {
        let label = escape(label);
        format!("<form method=post action=/login/oidc><p><button>Log in with {label}</button></form>")
    };
    hub.oidc().map(|client| form(client.label())).unwrap_or_default()
}

/// What the browser keeps of a login until its end.
const COOKIE: Cookie = Cookie::of_login(LASTS);

fn with_cookies(mut response: Response, cookies: &[String]) -> Response {
    let headers = response.headers_mut();
    for cookie in cookies.iter().filter_map(|cookie| HeaderValue::from_str(cookie).ok()) {
        headers.append(header::SET_COOKIE, cookie);
    }
    response
}

/// A page that goes on by itself to another.
fn onward(url: &str, told: &str) -> Response {
    let (url, told) = (escape(url), escape(told));
    html(StatusCode::OK, &format!("<meta http-equiv=refresh content='0;url={url}'><p><a href='{url}'>{told}</a>"))
}

/// `POST /login/oidc`: to the provider. Only by a page of the hub: another site logs nobody in.
pub(crate) async fn start(State(hub): State<Hub>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Response {
    if page_of(&headers) != Page::Own {
        return foreign(&login_page(&hub));
    }
    match super::begin(&hub, peer.address).await {
        Ok((pass, url)) => with_cookies(onward(&url, "Go on to log in"), &[COOKIE.set(hub.config().tls, &pass)]),
        Err(error) => refused(error, &login_page(&hub)),
    }
}

/// `GET /login/oidc/return`: back from the provider.
pub(crate) async fn back(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    query: Result<Query<Answer>, QueryRejection>,
) -> Response {
    let tls = hub.config().tls;
    let gone = COOKIE.set(tls, "");
    let Ok(Query(answer)) = query else {
        // What it says of the query is not repeated.
        return Problem::bad_request("the answer of the login provider").into_response();
    };
    let arrived = match super::arrive(&hub, COOKIE.of(&headers, tls), answer) {
        Ok(arrived) => arrived,
        // What waits in this browser goes on: another page may have led it here.
        Err(error) => return refused(error, &login_page(&hub)),
    };
    match super::finish(&hub, (peer.address, &headers), arrived).await {
        Ok(Next::In(pass)) => with_cookies(onward("/", "Go on"), &[gone, SESSION.set(tls, &pass)]),
        Ok(Next::Code(pass)) => with_cookies(html(StatusCode::OK, CODE_FORM), &[COOKIE.set(tls, &pass)]),
        Err(error) => with_cookies(refused(error, &login_page(&hub)), &[gone]),
    }
}

/// What somebody types for the second factor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Typed {
    code: String,
}

/// `POST /login/oidc/code`.
pub(crate) async fn code(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Form(typed): Form<Typed>,
) -> Response {
    let tls = hub.config().tls;
    if page_of(&headers) != Page::Own {
        return foreign(&login_page(&hub));
    }
    let waited = match super::waited(&hub, COOKIE.of(&headers, tls)) {
        Ok(waited) => waited,
        Err(error) => return refused(error, &login_page(&hub)),
    };
    match super::confirm(&hub, (peer.address, &headers), waited, typed.code).await {
        Ok(pass) => with_cookies(onward("/", "Go on"), &[COOKIE.set(tls, ""), SESSION.set(tls, &pass)]),
        Err(error) => with_cookies(refused(error, &login_page(&hub)), &[COOKIE.set(tls, "")]),
    }
}
