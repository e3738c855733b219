//! `POST /sync/v1`: one exchange with a gateway.
//!
//! The body is read as it comes. Once the head is there the hub decides who this is; what frames have arrived by then are
//! unpacked off the async threads and applied in one transaction, and so on to the end. So a connection that breaks in the
//! middle keeps everything that arrived whole. What goes down is read and packed beside the writer, on a snapshot that has
//! everything in it that this exchange wrote: a gateway that pulls much keeps nobody waiting. No transaction is open while
//! the network is waited for.

mod incoming;
mod places;
mod rescue;
mod unpack;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use sync_protocol::error::DecodeError;
use sync_protocol::hub::{
    Answer, Conversation, Opened, Received, Standing, discard, grant, is_shut_out, open, pull, receive, receive_offers,
    upgrade,
};
use sync_protocol::id::Device;
use sync_protocol::limits::PLEAS_MAX;
use sync_protocol::message::{self, Plea, Request, Status, body};
use sync_protocol::payload::Payload;
use tokio::time::timeout;

use self::incoming::{Broken, Incoming};
pub(crate) use self::places::{Places, Speaker};
use self::unpack::{Frames, Next};
use crate::audit::What;
use crate::clock::now_ms;
use crate::error::{HubError, StoreError};
use crate::hub::Hub;
use crate::peer::{Peer, speaks_as};
use crate::pki::KeyHash;
use crate::problem::Problem;
use crate::store::{Contact, Tx};
use crate::view::change_name;

/// What admins read of a gateway that speaks although it may not.
const SHUT_OUT: &str = "a card of it that was revoked speaks; what it sends goes into quarantine";
const CONTENT_TYPE: &str = "application/vnd.outpost.sync";

/// `POST /sync/v1`.
pub(crate) async fn sync(
    State(hub): State<Hub>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    // On its own, because the server drops what belongs to a connection that broke: an exchange ends in order all the same.
    let exchange = tokio::spawn(exchange(hub, peer, headers, body));
    exchange.await.map_err(|_| Problem::from(StoreError::Closed))?
}

async fn exchange(hub: Hub, peer: Peer, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let began = Instant::now();
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes() != CONTENT_TYPE.as_bytes()) {
        let title = "Not a sync message";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-a-sync", title)
            .hint(format!("send Content-Type: {CONTENT_TYPE}")));
    }
    let patience = Duration::from_secs(hub.config().read_timeout_seconds);
    let mut incoming = Incoming::new(body);
    // Before anything is read: anybody may come without a certificate, and gets neither room nor a line in the log.
    let key = match peer.key(&hub) {
        Ok(key) => key,
        Err(refused) => {
            incoming.drain_a_little().await;
            match refused {
                HubError::NoCertificate => tracing::debug!("exchange refused: no certificate"),
                _ => tracing::warn!(error = %refused, "exchange refused"),
            }
            return Err(refused.into());
        }
    };
    // Nobody has shown a token yet, so the whole head has to come in the time that later one chunk may take.
    let head = timeout(patience, incoming.head()).await.map_err(|_| Problem::too_slow())??;
    let request = match Request::decode(&head) {
        Ok(request) => request,
        Err(DecodeError::Version(_)) => return other_version(&hub, incoming).await,
        Err(error) => return Err(Broken::Malformed(error).into()),
    };
    let (device, is_rescue) = (request.device, request.rescue.is_some());
    // Before a place is taken: who may not speak takes none.
    if let Some(key) = key {
        if let Err(refused) = speaks_as(&hub, key, device, is_rescue).await {
            return Err(turned_away(incoming, device, refused).await);
        }
    }
    let Some(place) = hub.places().take() else { return Err(busy(incoming).await) };
    let contact = Contact::of(&request, now_ms());
    let mut talk = Talk { hub: &hub, device, address: peer.address, key, contact, sum: Received::default() };
    let opened = match talk.open(request).await {
        Ok(opened) => opened,
        Err(refused) => {
            drop(place);
            return Err(turned_away(incoming, device, refused).await);
        }
    };
    // Whoever was refused may have named a gateway that it is not.
    let own_place = match &opened {
        Opened::Refused(_) => None,
        _ => hub.places().take_own(key.map_or(Speaker::Named(device), Speaker::Key)),
    };
    let (status, rows, bytes) = match opened {
        Opened::Refused(refusal) => {
            drop(place);
            match refusal.status {
                // It has not shown who it is.
                Status::Denied => incoming.drain_a_little().await,
                _ => incoming.drain().await?,
            }
            (refusal.status, 0, body_of(&refusal.encode()))
        }
        // It has shown who it is by now, and holds a place of the others.
        _ if own_place.is_none() => return Err(busy(incoming).await),
        Opened::Ready(with) => {
            let with = talk.listen(with, &mut incoming).await?;
            let Answer { head, frames, rows } = talk.answer(with).await?;
            (head.status, rows, message::body(&head.encode(), frames))
        }
        Opened::Rescue(with) => {
            let head = talk.rescue(with, &mut incoming).await?;
            (head.status, 0, body_of(&head.encode()))
        }
    };
    tracing::info!(
        device = device.0,
        rescue = is_rescue,
        status = ?status,
        ops.new = talk.sum.new,
        ops.repeated = talk.sum.repeated,
        ops.held = talk.sum.held,
        rows,
        bytes.up = incoming.bytes,
        bytes.down = bytes.len(),
        ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "sync"
    );
    Ok(reply(bytes))
}

/// Reads on for a while, so that the sender gets to hear the answer.
pub(crate) async fn drain_a_little(body: Body) {
    Incoming::new(body).drain_a_little().await;
}

/// Reads so much that a gateway gets to hear why it is refused, and no more: anybody may be at the other end.
async fn turned_away(mut incoming: Incoming, device: Device, refused: HubError) -> Problem {
    incoming.drain_a_little().await;
    tracing::warn!(device = device.0, error = %refused, "exchange refused");
    refused.into()
}

async fn busy(mut incoming: Incoming) -> Problem {
    incoming.drain_a_little().await;
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Too many exchanges at once").hint("come back")
}

fn body_of(head: &[u8]) -> Vec<u8> {
    body(head, [])
}

fn reply(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE))], bytes).into_response()
}

/// `POST /sync/v2` and so on: whatever the body is, this hub does not speak that version, and says so.
pub(crate) async fn sync_of_another(
    State(hub): State<Hub>,
    Path(version): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let is_version = |n: &str| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit());
    if !version.strip_prefix('v').is_some_and(is_version) {
        return Ok(StatusCode::NOT_FOUND.into_response());
    }
    other_version(&hub, Incoming::new(body)).await
}

/// Says that this hub speaks another protocol version.
async fn other_version(hub: &Hub, mut incoming: Incoming) -> Result<Response, Problem> {
    incoming.drain_a_little().await;
    let hub_ms = u64::try_from(now_ms()).unwrap_or(0);
    let response = hub.read(move |tx| upgrade(tx, hub_ms)).await?;
    Ok(reply(body_of(&response.encode())))
}

/// One exchange under way.
struct Talk<'a> {
    hub: &'a Hub,
    device: Device,
    /// From where it speaks; `None` behind a proxy that does not say it.
    address: Option<IpAddr>,
    /// The key that the connection showed.
    key: Option<KeyHash>,
    contact: Contact,
    sum: Received,
}

impl Talk<'_> {
    async fn open(&self, request: Request) -> Result<Opened, HubError> {
        let (device, contact, key) = (self.device, self.contact.clone(), self.key);
        let is_rescue = request.rescue.is_some();
        let act = move |tx: &mut Tx<'_>| {
            let now_ms = u64::try_from(tx.now_ms).unwrap_or(0);
            let (turn, proof) = (request.turn, request.proof);
            let opened = open(tx, request, now_ms)?;
            let is_denied = matches!(&opened, Opened::Refused(refusal) if refusal.status == Status::Denied);
            if let (Some(key), false, false) = (&key, is_denied, is_rescue) {
                // Who was taken in just now is bound to the key of the gateway that it was parted from.
                let is_its_own =
                    tx.is_bound(device, key)? || (tx.was_bound(device, key)? && is_shut_out(tx, device, turn, &proof)?);
                if !is_its_own {
                    return Err(HubError::ForeignCertificate);
                }
            }
            if let (Opened::Refused(refusal), false) = (&opened, is_rescue) {
                // Whoever was denied has not shown who it is, and who was shut out speaks for nobody: what they say of
                // themselves is not taken down.
                let is_shut_out = is_shut_out(tx, device, turn, &proof)?;
                if !is_denied && !is_shut_out {
                    tx.note_contact(&contact)?;
                }
                let said = refusal.reason.as_deref().filter(|_| !is_shut_out || refusal.status == Status::Revoked);
                tx.note_error(device, said.unwrap_or(if is_shut_out { SHUT_OUT } else { "refused" }))?;
            }
            Ok(opened)
        };
        self.hub.write(act).await
    }

    /// Takes in the frames of ops. A damaged one ends it, and so does a disk without room: what came before stays, the rest is sent
    /// again. A gateway that heard no answer asks next what arrived, and brings nothing with that: so it hears all else meanwhile.
    async fn listen(&mut self, mut with: Box<Conversation>, from: &mut Incoming) -> Result<Box<Conversation>, Problem> {
        let mut frames = Frames::new(self.hub, from);
        loop {
            match frames.next().await {
                Ok(Next::Payloads(_)) if self.hub.room().is_short() => {
                    from.drain().await?;
                    self.note_visit(with.standing).await?;
                    return Err(Problem::disk_nearly_full());
                }
                Ok(Next::Payloads(payloads)) => with = self.receive(with, payloads).await?,
                Ok(Next::End) => return Ok(with),
                Ok(Next::Damaged(error)) => {
                    tracing::warn!(device = self.device.0, %error, "damaged frame");
                    from.drain().await?;
                    with.is_cut = true;
                    return Ok(with);
                }
                Err(Broken::Failed(error)) => return Err(error.into()),
                Err(broken) => {
                    self.note_cut(with.standing).await?;
                    return Err(broken.into());
                }
            }
        }
    }

    async fn receive(
        &mut self,
        mut with: Box<Conversation>,
        batches: Vec<Payload>,
    ) -> Result<Box<Conversation>, StoreError> {
        let act = move |tx: &mut Tx<'_>| {
            let mut sum = Received::default();
            for payload in &batches {
                match payload {
                    Payload::Ops(ops) => sum = add(sum, receive(tx, &mut with, ops)?),
                    Payload::Rows(rows) => receive_offers(tx, &mut with, rows)?,
                }
            }
            Ok::<_, StoreError>((with, sum))
        };
        let (with, sum) = self.hub.write(act).await?;
        self.sum = add(self.sum, sum);
        Ok(with)
    }

    async fn answer(&self, with: Box<Conversation>) -> Result<Answer, HubError> {
        let mut packer = self.hub.packer()?;
        let (contact, from) = (self.contact.clone(), self.address);
        let act = move |tx: &mut Tx<'_>| {
            if with.standing == Standing::Member {
                for plea in with.request.pleas.iter().take(PLEAS_MAX) {
                    heed(tx, with.gateway.device, from, plea)?;
                }
            }
            let now_ms = u64::try_from(tx.now_ms).unwrap_or(0);
            let granted = grant(tx, &with, now_ms)?;
            match with.standing {
                Standing::Member => tx.note_contact(&contact)?,
                Standing::Guest => tx.note_error(with.gateway.device, "an older copy of its card speaks")?,
                Standing::ShutOut => tx.note_error(with.gateway.device, SHUT_OUT)?,
            }
            Ok::<_, StoreError>((with.request, granted))
        };
        let (request, granted) = self.hub.write(act).await?;
        // The grant is committed, so this snapshot has it, and all that was received before.
        let look = move |tx: &mut Tx<'_>| {
            let answer = pull(tx, &mut packer, &request, granted)?;
            Ok::<_, StoreError>((packer, answer))
        };
        let (packer, answer) = self.hub.read(look).await?;
        self.hub.keep_packer(packer);
        Ok(answer)
    }

    /// The sender is gone, but it was there.
    async fn note_cut(&self, standing: Standing) -> Result<(), StoreError> {
        tracing::info!(device = self.device.0, ops.new = self.sum.new, ops.held = self.sum.held, "sync cut off");
        self.note_visit(standing).await
    }

    /// It was there, whatever came of it.
    async fn note_visit(&self, standing: Standing) -> Result<(), StoreError> {
        let (device, contact) = (self.device, self.contact.clone());
        let note = move |tx: &mut Tx<'_>| match standing {
            Standing::ShutOut => tx.note_error(device, SHUT_OUT),
            Standing::Member | Standing::Guest => tx.note_contact(&contact),
        };
        self.hub.write(note).await
    }
}

fn add(a: Received, b: Received) -> Received {
    Received { new: a.new + b.new, repeated: a.repeated + b.repeated, held: a.held + b.held }
}

/// Does what a person at the gateway wants done about one of its own ops in quarantine.
fn heed(tx: &mut Tx<'_>, device: Device, from: Option<IpAddr>, plea: &Plea) -> Result<(), StoreError> {
    let Some(row) = tx.held_at(plea.dot)?.filter(|row| row.held.device == Some(device)) else { return Ok(()) };
    let on = json!({ "change": change_name(plea.dot), "record": row.held.op.key.to_string() });
    let (did, what) = match plea.discard {
        true => (discard(tx, plea.dot, "dropped at the gateway")?, What::Discard),
        false => (tx.retry(row.held.op.key, plea.dot.origin)?, What::Retry),
    };
    match did {
        true => tx.audit_gateway((device, from), what, &on),
        false => Ok(()),
    }
}

impl From<Broken> for Problem {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Cut => Problem::bad_request("the message ends too early").hint("send it again"),
            Broken::TooLarge => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The message is larger than any may be")
            }
            Broken::Malformed(error) => Problem::bad_request(error.to_string()),
            Broken::Failed(error) => error.into(),
        }
    }
}
