//! A gateway whose key is not there yet: it waits, says so to whoever asks, and goes on by itself when the key comes.
//!
//! Apps get a 503 that says when to come again; the service manager gets signs of life, so that nothing is started again and
//! again. Who may open the socket in the data folder can say a passphrase: `outpost unlock`. On a card that takes no writes any
//! more the socket is beside the copy in memory, in a folder that nobody else may open either.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::slots::Slots;
use super::socket::Socket;
use crate::api::{Entry, serve};
use crate::config::{EncryptionConfig, KeySource};
use crate::error::Error;
use crate::read_only::copies;
use crate::service;
use crate::store::{DataKey, FILE_NAME, Home, Sealing, sealing};

const SOCKET: &str = "outpost.unlock";
/// How often it is looked for a stick, and for what somebody wrote into the slots.
const GLANCE: Duration = Duration::from_secs(2);
/// How often the hub is asked: at first, and at most.
const ASK_FIRST: Duration = Duration::from_secs(5);
const ASK_SELDOM: Duration = Duration::from_secs(300);
/// Who has connected says something soon, and little.
const PATIENCE: Duration = Duration::from_secs(10);
const SAID_BYTES_MAX: u64 = 1_024;
const RETRY_SECONDS: &str = "10";
const OPENED: &str = "ok";

/// What the waiting gateway answered to `outpost unlock`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It goes on.
    Opened,
    /// That was not it.
    Wrong(String),
}

/// Where a waiting gateway takes what is said.
fn unlock_socket(dir: &Path) -> PathBuf {
    dir.join(SOCKET)
}

impl Said {
    /// Says a passphrase or a recovery key to the gateway that waits in a folder, or beside the copy of it in memory.
    ///
    /// # Errors
    /// [`Error::Told`] if none waits there.
    pub(crate) async fn say(dir: &Path, text: &str) -> Result<Said, Error> {
        let none = || Error::refused("no gateway waits for its key here: it runs, or is to be started: outpost run");
        let folders = std::iter::once(dir.to_owned()).chain(copies(dir));
        let mut stream = connect(folders).await.ok_or_else(none)?;
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.take(SAID_BYTES_MAX).read_to_string(&mut answer).await?;
        Ok(if answer == OPENED { Said::Opened } else { Said::Wrong(answer) })
    }
}

/// The gateway in the first of these folders in which one waits.
async fn connect(folders: impl Iterator<Item = PathBuf>) -> Option<UnixStream> {
    for folder in folders {
        if let Ok(stream) = UnixStream::connect(unlock_socket(&folder)).await {
            return Some(stream);
        }
    }
    None
}

/// Waits until the key is there. `listener` is where apps come in; they are told to come again.
///
/// # Errors
/// What a person has to do something about.
pub(crate) async fn wait_for_key(
    dir: &Path,
    config: &EncryptionConfig,
    listener: TcpListener,
    absent: Error,
) -> Result<Home, Error> {
    let why = Why::new(&absent);
    let socket = Socket::bind(unlock_socket(dir), "outpost unlock");
    tokio::select! {
        home = look(dir, config, &why) => home,
        home = listen(dir, socket.as_ref()) => Ok(home),
        never = answer(listener, &why) => match never {},
        never = service::vouch_waiting("waiting for the key of its database") => match never {},
    }
}

/// Why the key is not there, in the last words.
#[derive(Clone)]
struct Why(Arc<Mutex<String>>);

impl Why {
    fn new(error: &Error) -> Why {
        tracing::warn!("the database is locked: {error}. Waiting for its key");
        Why(Arc::new(Mutex::new(error.to_string())))
    }

    /// Said once for each reason.
    fn note(&self, error: &Error) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = error.to_string();
        if *last != told {
            tracing::warn!("the database is still locked: {told}");
            *last = told;
        }
    }

    fn told(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tries the configured way again and again.
async fn look(dir: &Path, config: &EncryptionConfig, why: &Why) -> Result<Home, Error> {
    let mut pause = ASK_FIRST;
    loop {
        match config.key {
            // Nobody is asked at a terminal twice, and a passphrase that was read is gone.
            KeySource::Passphrase => return std::future::pending().await,
            KeySource::Hub => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ASK_SELDOM);
            }
            _ => tokio::time::sleep(GLANCE).await,
        }
        match super::open(dir, config).await {
            Err(error @ Error::KeyAbsent(_)) => why.note(&error),
            other => return other,
        }
    }
}

/// Takes what people say, one after the other: each try takes the time that stretching a passphrase takes.
async fn listen(dir: &Path, socket: Option<&Socket>) -> Home {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        let Ok((stream, _)) = socket.listener.accept().await else {
            tokio::time::sleep(GLANCE).await;
            continue;
        };
        match timeout(PATIENCE, hear(dir, stream)).await {
            Ok(Ok(Some(key))) => return Home::new(dir, Some(key)),
            Ok(Ok(None)) => tracing::warn!("somebody said a passphrase that does not open the database"),
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

async fn hear(dir: &Path, mut stream: UnixStream) -> Result<Option<DataKey>, Error> {
    let mut said = Zeroizing::new(String::with_capacity(SAID_BYTES_MAX as usize + 1));
    (&mut stream).take(SAID_BYTES_MAX).read_to_string(&mut said).await?;
    let (database, said) = (dir.join(FILE_NAME), Zeroizing::new(said.trim_end_matches(['\r', '\n']).to_owned()));
    let tried = tokio::task::spawn_blocking(move || try_key(&database, said));
    let tried = tried.await.unwrap_or(Err(Error::Closed));
    let answer = match &tried {
        Ok(Some(_)) => OPENED.to_owned(),
        Ok(None) => "this is not the passphrase, nor the recovery key; nothing was changed".to_owned(),
        Err(error) => error.to_string(),
    };
    // Who went away meanwhile has said it all the same.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    tried
}

fn try_key(database: &Path, text: Zeroizing<String>) -> Result<Option<DataKey>, Error> {
    let id = match sealing(database)? {
        Sealing::Sealed(id) => Some(id),
        _ => None,
    };
    let slots = Slots::load(database)?.unwrap_or_else(Slots::new);
    super::open_slot(&slots, &super::said(text), id)
}

/// Tells apps that it will be a while.
async fn answer(listener: TcpListener, why: &Why) -> Infallible {
    let why = why.clone();
    let router = Router::new().fallback(async move || locked(&why.told()));
    serve(vec![Entry::local(listener, router)], std::future::pending()).await;
    std::future::pending().await
}

fn locked(why: &str) -> Response {
    let body = serde_json::json!({
        "type": "config",
        "title": "The gateway is locked",
        "status": StatusCode::SERVICE_UNAVAILABLE.as_u16(),
        "detail": format!("the database is locked: {why}. Nothing is saved meanwhile; try again soon."),
    });
    // Closed, so that the next request meets the gateway itself.
    let headers = [(CONTENT_TYPE, "application/problem+json"), (RETRY_AFTER, RETRY_SECONDS), (CONNECTION, "close")];
    (StatusCode::SERVICE_UNAVAILABLE, headers, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_reaches_a_gateway_beside_its_copy_although_a_socket_was_left_on_the_card() {
        let (card, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        drop(tokio::net::UnixListener::bind(unlock_socket(card.path())).unwrap());
        let folders = || [card.path(), memory.path()].map(Path::to_owned).into_iter();
        assert!(unlock_socket(card.path()).exists() && connect(folders()).await.is_none());
        let socket = Socket::bind(unlock_socket(memory.path()), "outpost unlock").unwrap();
        let (connected, accepted) = tokio::join!(connect(folders()), socket.listener.accept());
        assert!(connected.is_some() && accepted.is_ok());
    }
}
