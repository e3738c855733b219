//! The hub: its store, exchanges over which it pauses, and its backups.

use std::collections::VecDeque;

use sync_protocol::frame::Packer;
use sync_protocol::hub::{self, Conversation, Grant, Opened};
use sync_protocol::identity::DeviceKey;
use sync_protocol::memory::MemoryHub;
use sync_protocol::message::{Request, body, split_head};
use sync_protocol::payload::Payload;

use super::event::Shape;
use super::wire;

/// The hub.
#[derive(Debug, Default)]
pub(super) struct Centre {
    pub(super) store: MemoryHub,
    /// Exchanges that others overtake.
    pub(super) paused: Vec<Hearing>,
    pub(super) backup: Option<MemoryHub>,
    /// Keys given so far, over all restores.
    pub(super) keys: u8,
    /// Rules published so far.
    pub(super) version: u32,
}

/// One exchange under way.
#[derive(Debug)]
pub(super) struct Hearing {
    /// With which gateway.
    pub(super) at: usize,
    /// The number of its request.
    pub(super) number: u32,
    with: Box<Conversation>,
    left: VecDeque<Vec<u8>>,
    grant: Option<Grant>,
    /// The connection ended in the middle of the request: nobody is there to be answered.
    is_broken: bool,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Heard {
    /// An answer.
    Answer(Vec<u8>),
    /// Nobody to answer, or nothing to say.
    Nothing,
    /// The hub goes on later.
    Paused(Box<Hearing>),
}

impl Centre {
    /// A key that no gateway has.
    pub(super) fn new_key(&mut self) -> DeviceKey {
        self.keys = self.keys.wrapping_add(1);
        DeviceKey([self.keys; 32])
    }

    /// Takes a request. Every call of the core is a transaction of its own.
    pub(super) fn hear(
        &mut self,
        packer: &mut Packer,
        (at, number): (usize, u32),
        (request, shape): (&[u8], Shape),
        now_ms: u64,
        pause: Option<u8>,
    ) -> Heard {
        let (bytes, is_cut) = wire::arrive(request, shape);
        let Ok(Some((head, start))) = split_head(&bytes) else { return Heard::Nothing };
        let Ok(head) = Request::decode(head) else { return Heard::Nothing };
        let with = match hub::open(&mut self.store, head, now_ms).unwrap() {
            Opened::Ready(with) => with,
            Opened::Refused(_) if is_cut => return Heard::Nothing,
            Opened::Refused(response) => return Heard::Answer(body(&response.encode(), [])),
            // No gateway of a simulated fleet hands in old files.
            Opened::Rescue(_) => return Heard::Nothing,
        };
        let (frames, _) = wire::frames(&bytes[start..]);
        let left = frames.into();
        self.go_on(packer, Hearing { at, number, with, left, grant: None, is_broken: is_cut }, now_ms, pause)
    }

    /// Goes on with an exchange, for so many steps at most.
    pub(super) fn go_on(&mut self, packer: &mut Packer, mut hearing: Hearing, now_ms: u64, pause: Option<u8>) -> Heard {
        let mut steps = pause.map_or(usize::MAX, usize::from);
        loop {
            if steps == 0 {
                return Heard::Paused(Box::new(hearing));
            }
            steps -= 1;
            if let Some(frame) = hearing.left.pop_front() {
                match packer.unpack(&frame).and_then(|bytes| Payload::decode(&bytes)) {
                    Ok(Payload::Ops(ops)) => drop(hub::receive(&mut self.store, &mut hearing.with, &ops).unwrap()),
                    Ok(Payload::Rows(rows)) => hub::receive_offers(&mut self.store, &mut hearing.with, &rows).unwrap(),
                    // A damaged frame ends the reading.
                    _ => {
                        hearing.left.clear();
                        hearing.with.is_cut = true;
                    }
                }
            } else if hearing.is_broken {
                return Heard::Nothing;
            } else if let Some(grant) = hearing.grant.take() {
                let answer = hub::pull(&mut self.store, packer, &hearing.with.request, grant).unwrap();
                return Heard::Answer(body(&answer.head.encode(), answer.frames));
            } else {
                hearing.grant = Some(hub::grant(&mut self.store, &hearing.with, now_ms).unwrap());
            }
        }
    }
}
