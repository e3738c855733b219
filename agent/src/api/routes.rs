//! Which handler answers which path, and the document that describes them.
//!
//! The document is a file, which a test makes of what stands at the handlers (`tests/document.rs`). Made by the program whenever it
//! starts it would be a twentieth of the program.

use axum::Router;
use axum::routing::MethodRouter;
use serde_json::Value;

use super::{App, acts, apps, batch, changes, healthz, hub, people, receipts, records, status};

/// What `/openapi.json` shows to who is on this machine.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

/// Some of the paths.
pub(super) struct Routes {
    /// Makes what answers them.
    pub(super) router: fn() -> Router<App>,
    /// Path and method of each.
    pub(super) listed: &'static [(&'static str, &'static str)],
}

/// [`Routes`] of paths with the handlers of their methods.
macro_rules! routes {
    ($($path:literal => $($method:ident $handler:path),+;)+) => {
        Routes {
            router: || Router::new()$(.route($path, MethodRouter::new()$(.$method($handler))+))+,
            listed: &[$($(($path, stringify!($method))),+),+],
        }
    };
}

/// What apps do, wherever they are.
pub(super) const FOR_APPS: Routes = routes! {
    "/v1/records/{type}/{id}" => put records::put, patch records::patch, get records::get, delete records::delete;
    "/v1/records/{type}" => post records::post, get records::list;
    "/v1/records/{type}/{id}/history" => get records::history;
    "/v1/batch" => post batch::batch;
    "/v1/changes" => get changes::changes;
    "/v1/receipts" => post receipts::receipts;
    "/v1/conflicts" => get people::conflicts;
    "/v1/conflicts/settle" => post people::settle;
    "/v1/parked" => get people::parked, post people::decide;
    "/v1/status" => get status;
    "/healthz" => get healthz;
};

/// What only somebody at the gateway does.
pub(super) const FOR_TECHNICIANS: Routes = routes! {
    "/v1/sync" => post hub::sync_now;
    "/v1/enroll" => post hub::enroll;
    "/v1/apps" => get apps::list;
    "/v1/apps/{name}" => delete apps::revoke;
    "/v1/pairings" => post apps::invite;
    "/v1/acts" => get acts::list;
};

/// What needs no token.
pub(super) const FOR_STRANGERS: Routes = routes! {
    "/v1/pair" => post apps::pair;
};

/// What `/openapi.json` shows to an app on the network: without what only somebody at the gateway does.
pub(super) fn document_for_apps() -> String {
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        paths.retain(|path, _| !FOR_TECHNICIANS.listed.iter().any(|(technicians, _)| technicians == path));
    }
    document.to_string()
}
