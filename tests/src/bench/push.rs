//! A gateway without a disk that speaks to a real hub: what the hub costs, and not what a gateway does.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sync_protocol::clock::TimeQuality;
use sync_protocol::frame::{Effort, Packer};
use sync_protocol::gateway::{self, Capture, Intent, Outgoing, Store, WallClock};
use sync_protocol::id::{Device, Epoch, Origin, RecordKey, Scope};
use sync_protocol::identity::DeviceKey;
use sync_protocol::memory::MemoryGateway;
use sync_protocol::message::{Request, Response, Status, body, split_head};

use super::client::Client;
use super::sample::Sample;
use crate::process::{Hub, ask};

const SYNC_TYPE: &str = "application/vnd.outpost.sync";
/// More than any bench sends at once, and less than a message may have.
const UP_BYTES: usize = 24 * 1024 * 1024;
/// 2026-03-02, where the generator's clock begins too.
const NOW_MS: u64 = 1_772_400_000_000;
const CLOCK: WallClock = WallClock { now_ms: NOW_MS, ahead_seconds: Some(0) };

/// A gateway of the bench.
#[derive(Debug)]
pub(crate) struct Pusher {
    memory: MemoryGateway,
    packer: Packer,
    client: Client,
}

/// A message that is ready to go.
pub(crate) struct Message {
    request: Request,
    bytes: Vec<u8>,
}

impl Pusher {
    /// Enrols a new gateway at the hub. Its records belong to `scope`, and it is sent those of others there.
    pub(crate) fn enroll(hub: &Hub, name: &str, scope: &str) -> Result<Pusher> {
        let added: Value = serde_json::from_str(&hub.command(&["gateway", "add", name, "--scope", scope, "--json"]))?;
        let (status, granted) =
            ask("POST", &format!("{}/enroll/v1", hub.url()), &[], Some(&json!({"code": added.get("code")})));
        ensure!(status == 200, "{status} {granted}");
        let granted: Value = serde_json::from_str(&granted)?;
        let number = |key: &str| {
            granted.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()).context(key.to_owned())
        };
        let key = granted.get("key").and_then(Value::as_str).context("a key")?;
        let mut memory = MemoryGateway::default();
        let mut state = memory.state()?;
        (state.device, state.origin, state.epoch) =
            (Device(number("device")?), Origin(number("origin")?), Epoch(number("epoch")?));
        state.key = key_of(key)?;
        state.scopes = vec![Scope::new(scope)?];
        memory.set_state(&state)?;
        let client = Client::connect(&hub.url().replace("http://", ""))?;
        Ok(Pusher { memory, packer: Packer::new(Effort::Quick)?, client })
    }

    /// Captures records.
    pub(crate) fn capture(&mut self, samples: &[Sample]) -> Result<()> {
        capture(&mut self.memory, samples)
    }

    /// Everything unsent in one message.
    pub(crate) fn prepare(&mut self) -> Result<Message> {
        let Outgoing { head, frames, .. } =
            gateway::request(&mut self.memory, &mut self.packer, CLOCK, UP_BYTES, 1 << 20)?;
        Ok(Message { bytes: body(&head.encode(), frames), request: head })
    }

    /// Sends a message; this is the part to be timed. The answer is for [`Pusher::take`].
    pub(crate) fn send(&mut self, message: &Message) -> Result<Vec<u8>> {
        let (status, answer) = self.client.ask("POST", "/sync/v1", SYNC_TYPE, &message.bytes)?;
        ensure!(status == 200, "{status} {}", String::from_utf8_lossy(&answer));
        Ok(answer)
    }

    /// Takes the head of the answer: turn, acknowledgements and cursor. Rows are not looked at. Tells whether more waits.
    pub(crate) fn take(&mut self, message: &Message, answer: &[u8]) -> Result<bool> {
        let (head, _) = split_head(answer)?.context("an answer with a head")?;
        let head = Response::decode(head)?;
        ensure!(head.status == Status::Ok, "{:?}: {:?}", head.status, head.reason);
        gateway::integrate_head(&mut self.memory, &message.request, &head)?;
        let mut state = self.memory.state()?;
        state.cursor = head.cursor;
        state.repair_symbols = None;
        self.memory.set_state(&state)?;
        Ok(head.more)
    }

    /// Makes one exchange. Tells whether more waits at the hub.
    pub(crate) fn exchange(&mut self) -> Result<bool> {
        let message = self.prepare()?;
        let answer = self.send(&message)?;
        self.take(&message, &answer)
    }

    /// Ops that the hub does not have.
    pub(crate) fn unsent(&mut self) -> Result<u64> {
        Ok(self.memory.state()?.unsent())
    }
}

/// Captures records in a gateway without a disk.
pub(crate) fn capture(memory: &mut MemoryGateway, samples: &[Sample]) -> Result<()> {
    for sample in samples {
        let key = RecordKey::new(sample.made.record_type, &sample.made.id)?;
        let intent = Intent::Put(sample.made.body.clone());
        let wish = Capture { key, intent, base: None, author: None, now_ms: NOW_MS as i64, quality: TimeQuality::Good };
        gateway::capture(memory, wish)?;
    }
    Ok(())
}

/// A key from its hex digits.
fn key_of(hex: &str) -> Result<DeviceKey> {
    let digits = hex.as_bytes().chunks(2).map(|two| Ok(u8::from_str_radix(std::str::from_utf8(two)?, 16)?));
    let bytes = digits.collect::<Result<Vec<u8>>>()?;
    Ok(DeviceKey(bytes.try_into().map_err(|_| anyhow::anyhow!("a key of another length"))?))
}
