//! The status page: one table that shows absence as well as presence. Plain HTML, no scripts.
//!
//! It is for who is logged in, and shows what he sees. It changes nothing.

use std::fmt::Write;

use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

use crate::caller::{self, By, Caller, Out};
use crate::clock::now_ms;
use crate::error::StoreError;
use crate::fleet::{self, GatewayView};
use crate::hub::Hub;
use crate::peer::Peer;
use crate::problem::Problem;
use crate::term::term_of;

const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>
<title>Outpost hub</title><style>
body{font:16px/1.5 system-ui,sans-serif;margin:2rem;color:#111;background:#fff}
table{border-collapse:collapse}th,td{text-align:left;padding:.4rem .8rem;border-bottom:1px solid #ccc;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}small{color:#555}.bad{color:#a00;font-weight:600}
input,button{font:inherit;padding:.3rem .5rem}label input{display:block}</style>";
/// The page asks again by itself, and says so: that keeps nobody logged in.
const AGAIN: &str = "<meta http-equiv=refresh content='60;url=/?by=timer'>";
const BY_TIMER: &str = "by=timer";
const SKEW_BAD_MS: i64 = 5 * 60_000;
const CONTACT_BAD_MS: i64 = 3 * 24 * 3_600_000;

/// Everything that the page shows.
struct Status {
    gateways: Vec<GatewayView>,
    records: u64,
    conflicts: u64,
    quarantined: u64,
    /// Changes that are in no backup, for who sees everything.
    not_backed_up: Option<u64>,
    /// What is to be done about the certificate; empty if nothing is.
    certificate: String,
    is_short_of_room: bool,
}

/// A page on its way out: without scripts, in no frame, and kept nowhere.
pub(crate) fn html(status: StatusCode, body: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With `no-referrer` a form would not say from which page it comes.
        (header::REFERRER_POLICY, "same-origin"),
    ];
    (status, headers, format!("{HEAD}{body}")).into_response()
}

/// `GET /`.
pub(crate) async fn page(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let is_person = query.as_deref() != Some(BY_TIMER);
    let caller = match caller::caller(&hub, peer.address, &Method::GET, &headers, is_person).await {
        Ok(caller) => caller,
        Err(Out::Broken(error)) => return Err(error.into()),
        Err(Out::Stranger | Out::ForeignPage) => return Ok(Redirect::to("/login").into_response()),
    };
    let (sight, config) = (caller.sight.clone(), hub.config().clone());
    let is_short_of_room = hub.room().is_short();
    let look = move |tx: &mut crate::store::Tx<'_>| {
        let (records, conflicts) = tx.counts(&sight)?;
        let quarantined = tx.held_count(&sight)?;
        let certificate = term_of(tx, &config)?.map(|term| term.warning).unwrap_or_default();
        let not_backed_up = sight.sees_everything().then(|| tx.not_backed_up()).transpose()?;
        let gateways = fleet::all(tx, &sight)?;
        Ok::<_, StoreError>(Status {
            gateways,
            records,
            conflicts,
            quarantined,
            not_backed_up,
            certificate,
            is_short_of_room,
        })
    };
    Ok(html(StatusCode::OK, &render(&hub.read(look).await?, &caller, now_ms())))
}

fn render(status: &Status, caller: &Caller, now_ms: i64) -> String {
    let mut html = AGAIN.to_owned();
    let Status { gateways, records, conflicts, quarantined, not_backed_up, certificate, is_short_of_room } = status;
    // Writing to a `String` cannot fail.
    let _ = write!(html, "<h1>Outpost hub</h1>");
    if let By::Session { name, .. } = &caller.by {
        let (name, role) = (escape(name.as_str()), caller.role);
        let scopes = match caller.sight.sees_everything() {
            true => "everything".to_owned(),
            false => escape(&caller.sight.names().join(", ")),
        };
        let _ = write!(
            html,
            "<form method=post action=/logout>{name}, {role}, sees {scopes} <button>Log out</button> <a href=/second-factor>Second factor</a></form>"
        );
    }
    if !certificate.is_empty() {
        let _ = write!(html, "<p class=bad>{}.", escape(certificate));
    }
    if *is_short_of_room {
        html.push_str("<p class=bad>The disk is nearly full: nothing new is taken from gateways until there is room. They keep it.");
    }
    let backed_up = match not_backed_up {
        None => String::new(),
        Some(0) => " All changes of gateways are in a backup.".to_owned(),
        Some(n) => format!(" {n} changes of gateways are in no backup yet."),
    };
    let _ = write!(
        html,
        "<p>{records} records, {conflicts} with a conflict to settle, {quarantined} changes in quarantine.{backed_up}</p>
         <table><tr><th>Gateway<th>Catchment<th>Last contact<th>Not sent<th>Quarantine<th>Version<th>Card free<th>Clock"
    );
    for gateway in gateways {
        let _ = write!(
            html,
            "<tr><td>{}<br><small>{}</small>{}<td>{}<td>{}<td>{}<td class=n>{}<td>{}<td class=n>{}<td class=n>{}",
            escape(&gateway.name),
            escape(&state(gateway)),
            gateway
                .box_warnings
                .iter()
                .map(|told| format!("<br><span class=bad>{}</span>", escape(told)))
                .collect::<String>(),
            gateway.scopes.iter().map(|scope| escape(scope)).collect::<Vec<_>>().join("<br>"),
            contact(gateway, now_ms),
            unsent(gateway, now_ms),
            gateway.quarantined,
            escape(&gateway.version),
            size(gateway.disk_free_bytes),
            skew(gateway),
        );
    }
    html.push_str("</table>");
    if gateways.is_empty() {
        html.push_str(
            "<p>No gateways yet: <code>outpost-hub gateway add NAME --scope country/district/facility</code>",
        );
    }
    html
}

fn state(gateway: &GatewayView) -> String {
    let mut told = gateway.state.to_owned();
    if !gateway.twins.is_empty() {
        let this = if gateway.box_print.is_empty() { "of unknown hardware" } else { &gateway.box_print };
        told.push_str(&format!(
            "; two boxes run with copies of one card: this is box {this}, the other is {}",
            gateway.twins
        ));
    }
    if !gateway.last_error.is_empty() {
        told.push_str(&format!("; {}", gateway.last_error));
    }
    told
}

fn contact(gateway: &GatewayView, now_ms: i64) -> String {
    if gateway.last_contact_ms == 0 {
        return "<span class=bad>never</span>".to_owned();
    }
    let age_ms = now_ms - gateway.last_contact_ms;
    let class = if age_ms > CONTACT_BAD_MS { " class=bad" } else { "" };
    let at = escape(&gateway.last_contact_at);
    format!("<span{class}>{} ago</span><br><small>{at}</small>", ago(age_ms))
}

fn unsent(gateway: &GatewayView, now_ms: i64) -> String {
    match (gateway.unsent, gateway.unsent_oldest_ms) {
        (0, _) if gateway.last_contact_ms == 0 => "unknown".to_owned(),
        (0, _) => "nothing".to_owned(),
        (count, 0) => format!("{count}"),
        (count, oldest_ms) => format!("{count}<br><small>oldest {}</small>", ago(now_ms - oldest_ms)),
    }
}

fn skew(gateway: &GatewayView) -> String {
    let seconds = gateway.clock_skew_ms / 1_000;
    match gateway.clock_skew_ms.abs() > SKEW_BAD_MS {
        true => format!("<span class=bad>{seconds:+} s</span>"),
        false => format!("{seconds:+} s"),
    }
}

fn ago(ms: i64) -> String {
    let minutes = ms.max(0) / 60_000;
    match minutes {
        0 => "less than a minute".to_owned(),
        m if m < 120 => format!("{m} min"),
        m if m < 48 * 60 => format!("{} h", m / 60),
        m => format!("{} days", m / (24 * 60)),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        bytes if bytes < 10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        bytes => format!("{} GB", bytes / 1_000_000_000),
    }
}

pub(crate) fn escape(text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_the_page() {
        assert_eq!(escape("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }

    #[test]
    fn ages_are_told_in_the_unit_that_fits() {
        assert_eq!(ago(-5), "less than a minute");
        assert_eq!(
            (ago(90 * 60_000), ago(5 * 3_600_000), ago(72 * 3_600_000)),
            ("90 min".into(), "5 h".into(), "3 days".into())
        );
    }
}
