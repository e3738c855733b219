//! An exchange in the steps that a link has, as the programs do them.

use std::cell::RefCell;

use sync_protocol::frame::{Effort, Packer, split};
use sync_protocol::gateway::{self, Store as _, WallClock};
use sync_protocol::hub::{self, Opened};
use sync_protocol::memory::MemoryHub;
use sync_protocol::message::{Request, Response, Status, body, split_head};
use sync_protocol::payload::Payload;

use super::world::{NOW_MS, Site};

/// Bytes of a link that carries a lot.
const WIDE_BYTES: usize = 256 * 1024;
/// Exchanges after which a gateway must have come to an end.
const EXCHANGES_MAX: usize = 40;

thread_local! {
    /// It remembers nothing between two frames, and takes longer to make than an exchange.
    static PACKER: RefCell<Packer> = RefCell::new(Packer::new(Effort::Quick).expect("memory for the compressor"));
}

/// Makes a request, and notes on the card that its ops are under way.
pub(super) fn ask(site: &mut Site) {
    let clock = WallClock { now_ms: NOW_MS, ahead_seconds: Some(0) };
    let made = PACKER.with_borrow_mut(|packer| {
        gateway::request(&mut site.card, packer, clock, WIDE_BYTES, WIDE_BYTES as u64).unwrap()
    });
    if !made.frames.is_empty() {
        let mut state = site.card.state().unwrap();
        state.unsure = true;
        site.card.set_state(&state).unwrap();
    }
    let message = body(&made.head.encode(), made.frames);
    if let Some((_, before)) = site.asked.replace((made.head, message)) {
        site.late = Some(before);
    }
    (site.is_served, site.answer) = (false, None);
}

/// The hub takes a request. If the connection is cut, there is nobody to answer.
pub(super) fn hear(store: &mut MemoryHub, request: &[u8], is_cut: bool) -> Option<Vec<u8>> {
    let (head, start) = split_head(request).unwrap()?;
    let mut with = match hub::open(store, Request::decode(head).unwrap(), NOW_MS).unwrap() {
        Opened::Ready(with) => with,
        Opened::Refused(_) if is_cut => return None,
        Opened::Refused(response) => return Some(body(&response.encode(), [])),
        Opened::Rescue(_) => return None,
    };
    for payload in payloads(request.get(start..).unwrap_or_default()) {
        match payload {
            Payload::Ops(ops) => drop(hub::receive(store, &mut with, &ops).unwrap()),
            Payload::Rows(rows) => hub::receive_offers(store, &mut with, &rows).unwrap(),
        }
    }
    if is_cut {
        return None;
    }
    let grant = hub::grant(store, &with, NOW_MS).unwrap();
    let answer = PACKER.with_borrow_mut(|packer| hub::pull(store, packer, &with.request, grant).unwrap());
    Some(body(&answer.head.encode(), answer.frames))
}

/// The gateway takes the answer, or only its head. Tells how it ended and whether there is more to say.
pub(super) fn take(site: &mut Site, is_cut: bool) -> Option<(Status, bool)> {
    let ((asked, message), answer) = (site.asked.take()?, site.answer.take()?);
    site.late = Some(message);
    site.is_served = false;
    let (head, start) = split_head(&answer).unwrap()?;
    let head = Response::decode(head).unwrap();
    let done = gateway::integrate_head(&mut site.card, &asked, &head).unwrap();
    if is_cut {
        return None;
    }
    if done.is_for_another {
        return Some((head.status, true));
    }
    for payload in payloads(answer.get(start..).unwrap_or_default()) {
        if let Payload::Rows(rows) = payload {
            gateway::integrate_rows(&mut site.card, &rows).unwrap();
        }
    }
    gateway::finish(&mut site.card, &asked, &head).unwrap();
    let state = site.card.state().unwrap();
    let has_news = state.unsent() > 0 || state.repair_symbols.is_some() || state.backfill.is_some();
    Some((head.status, has_news || !state.wanted.is_empty() || head.more || head.status != Status::Ok))
}

/// Exchanges until there is no news. Tells how the last one ended; `None` if there is no end.
pub(super) fn sync(site: &mut Site, hub: &mut MemoryHub) -> Option<Status> {
    for _ in 0..EXCHANGES_MAX {
        ask(site);
        let Some((_, request)) = &site.asked else { return None };
        site.answer = hear(hub, request, false);
        match take(site, false)? {
            (status, true) if status != Status::Denied => {}
            (status, _) => {
                // A whole exchange leaves nothing behind that the link might bring.
                site.late = None;
                return Some(status);
            }
        }
    }
    None
}

fn payloads(mut bytes: &[u8]) -> Vec<Payload> {
    let mut payloads = Vec::new();
    while let Some((frame, taken)) = split(bytes).unwrap() {
        let unpacked = PACKER.with_borrow_mut(|packer| packer.unpack(frame).unwrap());
        payloads.push(Payload::decode(&unpacked).unwrap());
        bytes = &bytes[taken..];
    }
    payloads
}
