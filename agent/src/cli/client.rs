//! Speaks the local API: to the running daemon, or to the same handlers in this process when there is none.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::acts::Who;
use crate::api::{WHO_HEADER, router};
use crate::config::Config;
use crate::error::{Class, Error};
use crate::keys;
use crate::lock::{Access, Lock};
use crate::run::Gateway;
use crate::sync::{SyncLoop, ask_daemon};

/// Where the handlers are.
pub(crate) enum Client {
    /// In the daemon.
    Daemon(SocketAddr),
    /// Here, with the data folder locked.
    Here { router: Router, sync: Box<SyncLoop>, _lock: Lock },
}

impl Client {
    /// Finds the daemon, or opens the database.
    pub(crate) async fn connect(folder: &Path, config: &Config) -> Result<Client, Error> {
        Client::with(Lock::for_command(folder).await?, folder, config).await
    }

    /// The same, and makes a gateway where there is none.
    pub(crate) async fn make(folder: &Path, config: &Config) -> Result<Client, Error> {
        Client::with(Lock::for_enrolment(folder).await?, folder, config).await
    }

    async fn with(access: Access, folder: &Path, config: &Config) -> Result<Client, Error> {
        match access {
            Access::Daemon(address) => Ok(Client::Daemon(address)),
            // Only a gateway that runs makes itself a copy in memory.
            Access::Here(lock) if lock.is_fixed() => Err(Error::read_only_card()),
            Access::Here(lock) => {
                let Gateway { app, sync, .. } = Gateway::open(keys::open(folder, &config.encryption).await?, config)?;
                Ok(Client::Here { router: router(app), sync: Box::new(sync), _lock: lock })
            }
        }
    }

    /// Asks, and gives the body of a success.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        let (status, body) = match self {
            Client::Daemon(address) => ask_daemon(*address, method, path, content_type, body).await?,
            Client::Here { router, sync, .. } => {
                let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, content_type);
                let request = request.header(WHO_HEADER, Who::at_the_keyboard().as_str());
                let request = request.body(Body::from(body)).map_err(|e| Error::Config(e.to_string()))?;
                tokio::select! {
                    answer = here(router.clone(), request) => answer?,
                    // Without a daemon the loop runs while a handler asks something of it, and only then.
                    () = sync.answer_only() => return Err(Error::Closed),
                }
            }
        };
        if status < 400 { Ok(body) } else { Err(refused(status, &body)) }
    }

    /// Asks with JSON for JSON; an answer without a body is `null`.
    pub(crate) async fn ask_json(&mut self, method: &str, path: &str, body: &Value) -> Result<Value, Error> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = self.ask(method, path, "application/json", body).await?;
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }

    /// Asks for a list page by page, and gives all its rows.
    pub(crate) async fn ask_pages(&mut self, path: &str, key: &str) -> Result<Vec<Value>, Error> {
        let (mut all, mut page) = (Vec::new(), path.to_owned());
        loop {
            let mut answer = self.ask_json("GET", &page, &Value::Null).await?;
            if let Some(Value::Array(rows)) = answer.get_mut(key).map(Value::take) {
                all.extend(rows);
            }
            match answer.get("next").and_then(Value::as_str) {
                Some(next) => page = format!("{path}?after={}", encoded(next)),
                None => return Ok(all),
            }
        }
    }
}

async fn here(router: Router, request: Request<Body>) -> Result<(u16, Vec<u8>), Error> {
    let response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.map_err(Error::offline)?;
    Ok((status, body.to_bytes().into()))
}

/// The error that a problem document stands for.
fn refused(status: u16, body: &[u8]) -> Error {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| problem.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = text("type");
    let told = match text("detail") {
        empty if empty.is_empty() => format!("HTTP {status}"),
        detail => detail,
    };
    let class = Class::named(&kind);
    Error::Told { class: class.unwrap_or(if status >= 500 { Class::Broken } else { Class::Rejected }), detail: told }
}

/// Percent-encodes a query parameter (RFC 3986).
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
