//! All records of a type, as lines of JSON.
//!
//! They are read a part at a time while they are sent, so that a hub with a small memory exports a large type. Nothing of the store is
//! held while the receiver takes its time. So an export is no snapshot: of a record that is written meanwhile it has the one or the
//! other state. A part that cannot be read breaks it off, and its end is missing then for everybody to see.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde_json::json;
use sync_protocol::id::RecordType;
use tokio::sync::mpsc;

use super::pages::{PAGE_BYTES_MAX, STEP};
use crate::account::{Role, Sight};
use crate::audit::What;
use crate::caller::{self, Caller, Out};
use crate::error::HubError;
use crate::hub::Hub;
use crate::peer::Peer;
use crate::problem::Problem;
use crate::store::Tx;
use crate::view;

type Part = Result<Bytes, BoxError>;

/// What comes from a task, part by part. It ends when the task does.
struct Parts(mpsc::Receiver<Part>);

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx).map(|part| part.map(|part| part.map(Frame::data)))
    }
}

pub(super) async fn export(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Extension(peer): Extension<Peer>,
    Path(kind): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let kind = RecordType::new(&kind).map_err(HubError::from)?;
    let (sight, of, role) = (caller.sight.clone(), kind.clone(), caller.role);
    let count = move |tx: &mut Tx<'_>| {
        let records = tx.records_of(&sight, &of)?;
        Ok::<_, HubError>(((), json!({ "type": of.as_str(), "records": records })))
    };
    // Written down before anybody sees anything.
    hub.show(caller.actor, What::Export, count).await?;
    let (tell, told) = mpsc::channel(1);
    let asks = Asks { from: peer.address, headers, role };
    tokio::spawn(send(hub, asks, kind, tell));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(Parts(told))).into_response())
}

/// Who asks, as long as it takes.
struct Asks {
    from: Option<IpAddr>,
    headers: HeaderMap,
    role: Role,
}

impl Asks {
    /// What may be shown now: whoever was thrown out meanwhile gets no more, however slowly he takes it. A person waits for it, so that
    /// the session does not end by doing nothing meanwhile.
    async fn sight(&self, hub: &Hub) -> Result<Sight, HubError> {
        match caller::caller(hub, self.from, &Method::GET, &self.headers, true).await {
            Ok(caller) if caller.role == self.role => Ok(caller.sight),
            Err(Out::Broken(error)) => Err(error),
            _ => Err(HubError::NotLoggedIn),
        }
    }
}

/// Reads part after part, as the receiver takes them, until there is no more or nobody listens.
async fn send(hub: Hub, asks: Asks, kind: RecordType, tell: mpsc::Sender<Part>) {
    let mut after = Some(String::new());
    while let Some(from) = after.take() {
        let kind = kind.clone();
        let read = async {
            let sight = asks.sight(&hub).await?;
            hub.look(move |tx| lines(tx, &sight, &kind, from)).await
        };
        let part = match read.await {
            Ok((lines, next)) => {
                after = next;
                Ok(Bytes::from(lines))
            }
            Err(error) => {
                tracing::error!(%error, "an export broke off");
                Err(BoxError::from(error))
            }
        };
        if tell.send(part).await.is_err() {
            return;
        }
    }
}

/// The lines of the records after one, and where the next part begins.
fn lines(
    tx: &mut Tx<'_>,
    sight: &Sight,
    kind: &RecordType,
    mut after: String,
) -> Result<(String, Option<String>), HubError> {
    let mut lines = String::new();
    while lines.len() < PAGE_BYTES_MAX {
        let page = tx.page(sight, kind, &after, STEP)?;
        for (key, record) in &page {
            lines.push_str(&view::export_line(key, record));
            lines.push('\n');
        }
        match page.last() {
            Some((key, _)) if page.len() == STEP => after = key.id.as_str().to_owned(),
            _ => return Ok((lines, None)),
        }
    }
    Ok((lines, Some(after)))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::tests::World;

    /// Three parts, of which the second may be read when the first has been taken.
    #[tokio::test]
    async fn whose_account_is_closed_while_an_export_runs_gets_no_more() {
        let world = World::start().await;
        let note = "x".repeat(100 * 1024);
        for n in 0..3 * STEP {
            let body = json!({ "note": note });
            assert_eq!(world.admin("PUT", &format!("/records/visit/v{n:02}"), body).await.status, 201);
        }
        world.account("bina", Role::Operator, &[]).await;
        let token = world.token("bina", "reports", None, &[]).await;
        let shown = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        let asks = || Asks {
            from: None,
            headers: HeaderMap::from_iter([(header::AUTHORIZATION, shown.clone())]),
            role: Role::Operator,
        };
        let kind = RecordType::new("visit").unwrap();
        let lines_of = |part: &Bytes| part.iter().filter(|byte| **byte == b'\n').count();
        for is_closed in [false, true] {
            let (tell, mut told) = mpsc::channel(1);
            let sent = tokio::spawn(send(world.hub.clone(), asks(), kind.clone(), tell));
            let mut count = lines_of(&told.recv().await.unwrap().unwrap());
            assert_eq!(count, STEP);
            if is_closed {
                let closed = world.admin("PUT", "/accounts/bina", json!({ "disabled": true })).await;
                assert_eq!(closed.status, 200);
            }
            let mut broke_off = false;
            while let Some(part) = told.recv().await {
                match part {
                    Ok(part) => count += lines_of(&part),
                    Err(_) => broke_off = true,
                }
            }
            sent.await.unwrap();
            assert_eq!((broke_off, count < 3 * STEP), (is_closed, is_closed), "{count} lines");
        }
    }
}
