//! Both halves of an exchange with somebody who says anything.
//!
//! An input is a head behind its length, and payloads each behind two bytes of length; checksums and proofs are made right
//! here, because nothing would come further without them.

use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::{self, Capture, Fate, GatewayState, Intent, Store as _, WallClock};
use sync_protocol::hub::{self, Opened, Snapshot as _};
use sync_protocol::id::{Dot, RecordKey, Scope, Seq, Source};
use sync_protocol::identity::DeviceKey;
use sync_protocol::limits::{ANSWER_BYTES_MAX, FRAME_BYTES_LIMIT};
use sync_protocol::loopback::{Link, settle};
use sync_protocol::memory::{MemoryGateway, MemoryHub};
use sync_protocol::message::{Request, Response, split_head};
use sync_protocol::payload::Payload;
use sync_protocol::rules::Rules;

use super::bytes::PACKER;
use super::documents::RULES;

const NOW_MS: u64 = 1_780_000_000_000;

/// Two gateways and a hub that have a record in common.
fn clinics() -> (MemoryHub, [MemoryGateway; 2], Link) {
    let rules = std::sync::Arc::new(Rules::parse(RULES).expect("the sample"));
    let mut hub = MemoryHub::default();
    hub.publish(rules.clone());
    let mut enrolled = |key: u8| {
        let known = hub.enroll(vec![Scope::root()], Source::CLINIC, DeviceKey([key; 32]));
        let mut store = MemoryGateway::default();
        let mut state = store.state().expect("memory");
        (state.device, state.origin, state.key, state.scopes) = (known.device, known.origin, known.key, known.scopes);
        store.set_state(&state).expect("memory");
        store.set_rules(rules.clone()).expect("memory");
        store
    };
    let mut both = [enrolled(1), enrolled(2)];
    let mut link = Link::new().expect("memory");
    for store in &mut both {
        write(store, "c0");
        settle(store, &mut hub, &mut link, NOW_MS, 20).expect("an exchange");
    }
    (hub, both, link)
}

fn write(store: &mut MemoryGateway, id: &str) {
    let key = RecordKey::new("chart", id).expect("a key");
    let body = serde_json::json!({"name": "n", "tags": ["a"], "given": 1});
    let intent = Intent::Put(body.as_object().cloned().unwrap_or_default());
    let quality = TimeQuality::Good;
    let wish = Capture { key, intent, base: None, author: None, now_ms: NOW_MS as i64, quality };
    gateway::capture(store, wish).expect("a good body");
}

fn payloads(mut bytes: &[u8]) -> Vec<Payload> {
    let mut payloads = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
        let (payload, after) = rest.split_at(len);
        payloads.extend(Payload::decode(payload));
        bytes = after;
    }
    payloads
}

/// A hub takes whatever an enrolled gateway says. Another gateway then gets it, and agrees.
pub(super) fn hub(bytes: &[u8]) {
    let Ok(Some((head, start))) = split_head(bytes) else { return };
    let Ok(said) = Request::decode(head) else { return };
    let (mut hub, [mut first, mut other], mut link) = clinics();
    let state = first.state().expect("memory");
    let GatewayState { device, origin, turn, epoch, .. } = state;
    let cursor = said.cursor.min(hub.head().expect("memory"));
    let request = Request { device, origin, turn, proof: state.key.proof(turn), epoch, cursor, ..said };
    match hub::open(&mut hub, request, NOW_MS).expect("memory") {
        Opened::Ready(with) => exchange(&mut hub, *with, &bytes[start..]),
        Opened::Rescue(mut with) => {
            for payload in payloads(&bytes[start..]) {
                if let Payload::Ops(ops) = payload {
                    hub::rescue(&mut hub, &mut with, &ops).expect("memory");
                }
            }
            let told = hub::rescued(&mut hub, *with, NOW_MS).expect("memory");
            Response::decode(&told.encode()).expect("a head of the hub");
        }
        Opened::Refused(_) => {}
    }
    let traffic = settle(&mut other, &mut hub, &mut link, NOW_MS, 40).expect("an exchange");
    assert!(traffic.agrees && !traffic.again, "another gateway does not come to an end with what this one said");
}

/// What an enrolled gateway sends. Its ops are given numbers that it has not used yet, because others would be refused.
fn exchange(hub: &mut MemoryHub, mut with: hub::Conversation, sent: &[u8]) {
    let origin = with.request.origin;
    for payload in payloads(sent) {
        match payload {
            Payload::Ops(mut ops) => {
                let stream = ops.first().map(|op| op.stamp.dot.stream).unwrap_or(sync_protocol::id::Stream::Normal);
                let mark = hub.mark(origin, stream).expect("memory").acked.0;
                for (op, seq) in ops.iter_mut().zip(mark + 1..) {
                    op.stamp.dot = Dot { origin, stream, seq: Seq(seq) };
                }
                hub::receive(hub, &mut with, &ops).expect("memory");
            }
            Payload::Rows(rows) => hub::receive_offers(hub, &mut with, &rows).expect("memory"),
        }
    }
    let grant = hub::grant(hub, &with, NOW_MS).expect("memory");
    let answer = PACKER.with_borrow_mut(|packer| hub::pull(hub, packer, &with.request, grant)).expect("memory");
    Response::decode(&answer.head.encode()).expect("a head of the hub");
    let bytes: usize = answer.frames.iter().map(Vec::len).sum();
    assert!(bytes <= ANSWER_BYTES_MAX + FRAME_BYTES_LIMIT, "an answer of {bytes} bytes");
}

/// A gateway takes whatever a hub says. Its own writes are there after it, and it can still speak.
pub(super) fn gateway(bytes: &[u8]) {
    let Ok(Some((head, start))) = split_head(bytes) else { return };
    let Ok(response) = Response::decode(head) else { return };
    let (_, [mut store, _], mut link) = clinics();
    write(&mut store, "c1");
    let clock = WallClock { now_ms: NOW_MS, ahead_seconds: Some(0) };
    let asked = gateway::request(&mut store, &mut link.up, clock, 1 << 16, 1 << 16).expect("memory").head;
    gateway::integrate_head(&mut store, &asked, &response).expect("memory");
    for payload in payloads(&bytes[start..]) {
        if let Payload::Rows(rows) = payload {
            gateway::integrate_rows(&mut store, &rows).expect("memory");
        }
    }
    gateway::finish(&mut store, &asked, &response).expect("memory");
    let state = store.state().expect("memory");
    let is_kept = store.own().any(|(op, fate)| {
        let (dot, at) = (op.stamp.dot, *state.stream(op.stamp.dot.stream));
        let is_unsent = dot.origin == state.origin && dot.seq > at.acked && dot.seq <= at.last;
        op.key.id.as_str() == "c1"
            && (is_unsent || matches!(fate, Some(Fate::Confirmed(_) | Fate::Parked(_) | Fate::Discarded(_))))
    });
    assert!(is_kept, "a write of its own is gone");
    write(&mut store, "c2");
    let next = gateway::request(&mut store, &mut link.up, clock, 1 << 16, 1 << 16).expect("memory");
    Request::decode(&next.head.encode()).expect("a head of the gateway");
}
