//! One exchange without a network: both halves, with every byte encoded and decoded as on the wire.
//!
//! For the example of the crate, for tests and simulations; the programs do the same steps with a link between them.

use std::io;

use crate::error::DecodeError;
use crate::frame::{Packer, split};
use crate::gateway::WallClock;
use crate::gateway::rescue::{Old, Rescuer};
use crate::message::{Request, Response, Status, body, split_head};
use crate::payload::Payload;
use crate::{gateway, hub};

/// What an exchange carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes of the request's body.
    pub up_bytes: usize,
    /// Bytes of the response's body.
    pub down_bytes: usize,
    /// Ops that went up.
    pub ops: usize,
    /// Rows that came down.
    pub rows: usize,
    /// Whether the gateway should go on at once.
    pub again: bool,
    /// How it ended.
    pub status: Option<Status>,
    /// Whether the digests agreed, as far as they were compared.
    pub agrees: bool,
}

/// The compressors of both ends, and the limits of the link.
#[derive(Debug)]
pub struct Link {
    /// The gateway's compressor.
    pub up: Packer,
    /// The hub's compressor.
    pub down: Packer,
    /// Bytes of ops for one exchange.
    pub up_bytes: usize,
    /// Bytes of rows for one exchange.
    pub down_bytes: u64,
}

impl Link {
    /// A link that carries a lot.
    ///
    /// # Errors
    /// What zstd reports if it cannot get memory.
    pub fn new() -> io::Result<Link> {
        use crate::frame::Effort;
        let (up, down) = (Packer::new(Effort::Quick)?, Packer::new(Effort::Quick)?);
        Ok(Link { up, down, up_bytes: 256 * 1024, down_bytes: 256 * 1024 })
    }
}

/// What went wrong in a loop without a network.
#[derive(Debug, thiserror::Error)]
pub enum LoopError<G, H> {
    /// The gateway's store failed.
    #[error("the gateway's store failed")]
    Gateway(G),
    /// The hub's store failed.
    #[error("the hub's store failed")]
    Hub(H),
    /// Bytes did not come out as they went in.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Runs one exchange. `now_ms` is the time at both ends.
///
/// # Errors
/// [`LoopError`].
pub fn exchange<G, H>(
    gateway: &mut G,
    hub: &mut H,
    link: &mut Link,
    now_ms: u64,
) -> Result<Traffic, LoopError<G::Error, H::Error>>
where
    G: gateway::Store,
    G::Error: From<io::Error>,
    H: hub::Store,
    H::Error: From<io::Error>,
{
    let clock = WallClock { now_ms, ahead_seconds: Some(0) };
    let outgoing =
        gateway::request(gateway, &mut link.up, clock, link.up_bytes, link.down_bytes).map_err(LoopError::Gateway)?;
    let request = body(&outgoing.head.encode(), outgoing.frames);
    let response = serve(hub, link, &request, now_ms)?;
    let mut traffic =
        Traffic { up_bytes: request.len(), down_bytes: response.len(), ops: outgoing.ops, ..Traffic::default() };

    let (head, mut at) = split_head(&response)?.ok_or(DecodeError::Shape("no head"))?;
    let head = Response::decode(head)?;
    traffic.status = Some(head.status);
    if gateway::integrate_head(gateway, &outgoing.head, &head).map_err(LoopError::Gateway)?.is_for_another {
        return Ok(Traffic { again: true, ..traffic });
    }
    while let Some((frame, taken)) = split(response.get(at..).unwrap_or_default())? {
        if let Payload::Rows(rows) = Payload::decode(&link.up.unpack(frame)?)? {
            traffic.rows += rows.rows.len();
            gateway::integrate_rows(gateway, &rows).map_err(LoopError::Gateway)?;
        }
        at += taken;
    }
    traffic.agrees = gateway::finish(gateway, &outgoing.head, &head).map_err(LoopError::Gateway)?;
    let state = gateway.state().map_err(LoopError::Gateway)?;
    traffic.again = match head.status {
        Status::Revoked => head.more,
        status => {
            head.more
                || status != Status::Ok
                || !head.erased.is_empty()
                || state.unsent() > 0
                || state.repair_symbols.is_some()
                || !state.wanted.is_empty()
                || state.backfill.is_some()
        }
    };
    Ok(traffic)
}

fn serve<H, E>(hub: &mut H, link: &mut Link, request: &[u8], now_ms: u64) -> Result<Vec<u8>, LoopError<E, H::Error>>
where
    H: hub::Store,
    H::Error: From<io::Error>,
{
    let (head, mut at) = split_head(request)?.ok_or(DecodeError::Shape("no head"))?;
    let mut with = match hub::open(hub, Request::decode(head)?, now_ms).map_err(LoopError::Hub)? {
        hub::Opened::Ready(with) => with,
        hub::Opened::Refused(response) => return Ok(body(&response.encode(), [])),
        hub::Opened::Rescue(mut with) => {
            while let Some((frame, taken)) = split(request.get(at..).unwrap_or_default())? {
                if let Payload::Ops(ops) = Payload::decode(&link.down.unpack(frame)?)? {
                    hub::rescue(hub, &mut with, &ops).map_err(LoopError::Hub)?;
                }
                at += taken;
            }
            let response = hub::rescued(hub, *with, now_ms).map_err(LoopError::Hub)?;
            return Ok(body(&response.encode(), []));
        }
    };
    while let Some((frame, taken)) = split(request.get(at..).unwrap_or_default())? {
        match Payload::decode(&link.down.unpack(frame)?)? {
            Payload::Ops(ops) => drop(hub::receive(hub, &mut with, &ops).map_err(LoopError::Hub)?),
            Payload::Rows(rows) => hub::receive_offers(hub, &mut with, &rows).map_err(LoopError::Hub)?,
        }
        at += taken;
    }
    let grant = hub::grant(hub, &with, now_ms).map_err(LoopError::Hub)?;
    let answer = hub::pull(hub, &mut link.down, &with.request, grant).map_err(LoopError::Hub)?;
    Ok(body(&answer.head.encode(), answer.frames))
}

/// Runs one exchange of a rescue; `None` when there is nothing left to hand in.
///
/// # Errors
/// [`LoopError`].
pub fn rescue<O, H>(
    rescuer: &mut Rescuer,
    old: &mut O,
    hub: &mut H,
    link: &mut Link,
    now_ms: u64,
) -> Result<Option<Response>, LoopError<O::Error, H::Error>>
where
    O: Old,
    O::Error: From<io::Error>,
    H: hub::Store,
    H::Error: From<io::Error>,
{
    let outgoing = rescuer.request(old, &mut link.up, link.up_bytes).map_err(LoopError::Gateway)?;
    let Some(outgoing) = outgoing else { return Ok(None) };
    let response = serve(hub, link, &body(&outgoing.head.encode(), outgoing.frames), now_ms)?;
    let (head, _) = split_head(&response)?.ok_or(DecodeError::Shape("no head"))?;
    let response = Response::decode(head)?;
    rescuer.answered(old, &response).map_err(LoopError::Gateway)?;
    Ok(Some(response))
}

/// Runs exchanges until there is nothing left to say, at most `limit` of them.
///
/// # Errors
/// [`LoopError`].
pub fn settle<G, H>(
    gateway: &mut G,
    hub: &mut H,
    link: &mut Link,
    now_ms: u64,
    limit: usize,
) -> Result<Traffic, LoopError<G::Error, H::Error>>
where
    G: gateway::Store,
    G::Error: From<io::Error>,
    H: hub::Store,
    H::Error: From<io::Error>,
{
    let mut sum = Traffic::default();
    for _ in 0..limit {
        let one = exchange(gateway, hub, link, now_ms)?;
        sum = Traffic {
            up_bytes: sum.up_bytes + one.up_bytes,
            down_bytes: sum.down_bytes + one.down_bytes,
            ops: sum.ops + one.ops,
            rows: sum.rows + one.rows,
            ..one
        };
        if !one.again {
            break;
        }
    }
    Ok(sum)
}
