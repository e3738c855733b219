//! The hub: its store, exchanges over which it pauses, and its backups.

use std::collections::VecDeque;
use std::path::PathBuf;

use rusqlite::ErrorCode;
use server_stub::StoreError;
use sync_protocol::error::DecodeError;
use sync_protocol::frame::Packer;
use sync_protocol::hub::{self, Conversation, Grant, Opened, Rescuing, Snapshot as _, Store as _};
use sync_protocol::id::Device;
use sync_protocol::identity::DeviceKey;
use sync_protocol::memory::MemoryHub;
use sync_protocol::message::{body, split_head};
use sync_protocol::payload::Payload;

use super::builds::{self, Build};
use super::event::Shape;
use super::in_step::AtCentre;
use super::shelf::Shelf;
use super::{Failure, Kind, same, wire};
use crate::generator::random::Random;

/// The hub.
#[derive(Debug, Default)]
pub(super) struct Centre {
    /// Its folder, if it has one.
    pub(super) shelf: Option<Shelf>,
    /// Its store; the witness beside it if it has a folder.
    pub(super) store: MemoryHub,
    /// What its program was built from.
    pub(super) build: Build,
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
    /// The head came whole, and cannot be read.
    Unread(DecodeError),
    /// Nobody to answer, or nothing to say.
    Nothing,
    /// The hub goes on later.
    Paused(Box<Hearing>),
}

/// What a transaction gave; `None` if the disk had no room for it, which the program tells as a failure of its own.
pub(super) fn room<T>(done: Result<T, StoreError>) -> Option<T> {
    match done {
        Err(StoreError::Sql(error)) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => None,
        done => Some(done.expect("a hub with room")),
    }
}

impl Centre {
    /// A key that no gateway has.
    pub(super) fn new_key(&mut self) -> DeviceKey {
        self.keys = self.keys.wrapping_add(1);
        DeviceKey([self.keys; 32])
    }

    /// A hub whose folders are made in `home`, if there is one.
    pub(super) fn new(home: Option<PathBuf>) -> Centre {
        Centre { shelf: home.map(Shelf::new), version: 1, ..Centre::default() }
    }

    /// Runs a transaction and commits it.
    pub(super) fn now<T, E: From<StoreError>>(
        &mut self,
        now_ms: u64,
        act: impl FnOnce(&mut AtCentre<'_, '_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let memory = &mut self.store;
        let Some(shelf) = &mut self.shelf else { return act(&mut AtCentre { disk: None, memory }) };
        let before = memory.clone();
        let done = shelf.store().write(now_ms as i64, |tx| act(&mut AtCentre { disk: Some(tx), memory }));
        if done.is_err() {
            self.store = before;
        }
        done
    }

    /// Reads on a snapshot.
    fn look<T>(
        &mut self,
        now_ms: u64,
        act: impl FnOnce(&mut AtCentre<'_, '_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let memory = &mut self.store;
        match &mut self.shelf {
            Some(shelf) => shelf.store().read(now_ms as i64, |tx| act(&mut AtCentre { disk: Some(tx), memory })),
            None => act(&mut AtCentre { disk: None, memory }),
        }
    }

    /// Back to the last commit; or into the middle of one, which then was made or was not, but as a whole.
    pub(super) fn power_cut(&mut self, packer: &mut Packer, now_ms: i64) -> Result<(), Failure> {
        let paused = std::mem::take(&mut self.paused);
        self.lose_power(packer, paused, now_ms as u64);
        self.check_shelf()?;
        self.start(now_ms);
        self.check_shelf()
    }

    /// The program begins to serve.
    pub(super) fn start(&mut self, now_ms: i64) {
        self.store.start(now_ms as u64);
        if let Some(shelf) = &mut self.shelf {
            shelf.store().start(now_ms).unwrap();
        }
    }

    fn lose_power(&mut self, packer: &mut Packer, paused: Vec<Hearing>, now_ms: u64) {
        let Some(shelf) = &mut self.shelf else { return };
        let Some(tear) = shelf.tear.take() else {
            shelf.power_cut();
            return;
        };
        let mut random = Random::new(u64::from(tear));
        let before = self.store.clone();
        if random.chance(30) {
            super::card::fold(&shelf.database());
        }
        let synced = shelf.files();
        match paused.into_iter().next() {
            Some(hearing) => drop(self.go_on(packer, hearing, now_ms, Some(1))),
            None => self.write_again(now_ms),
        }
        if let Some(shelf) = &mut self.shelf {
            shelf.power_cut_in(synced, &mut random);
            if same::hub_differs(shelf, &self.store).is_some() {
                self.store = before;
            }
        }
    }

    /// Leaves so much room on its disk; in memory there is always room.
    pub(super) fn leave_pages(&mut self, more: Option<u32>) {
        if let Some(shelf) = &mut self.shelf {
            shelf.store().leave_pages(more).unwrap();
        }
    }

    /// Something that changes nothing.
    fn write_again(&mut self, now_ms: u64) {
        let again = |store: &mut AtCentre<'_, '_>| -> Result<(), StoreError> {
            match store.gateway(Device(1))? {
                Some(known) => store.set_gateway(&known),
                None => Ok(()),
            }
        };
        let _ = room(self.now(now_ms, again));
    }

    /// Holds the store on disk against its witness.
    pub(super) fn check_shelf(&mut self) -> Result<(), Failure> {
        let Some(shelf) = &mut self.shelf else { return Ok(()) };
        let verdict = same::hub_unsound(shelf);
        match same::hub_differs(shelf, &self.store) {
            _ if verdict != "ok" => Err(Failure::new(Kind::Store, verdict)),
            Some(what) => Err(Failure::new(Kind::Store, format!("the hub on disk: {what}"))),
            None => Ok(()),
        }
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
        let head = match builds::heard(self.build, head) {
            Ok(head) => head,
            Err(DecodeError::Version(_)) if is_cut => return Heard::Nothing,
            Err(DecodeError::Version(_)) => {
                let response = self.look(now_ms, |store| hub::upgrade(store, now_ms)).unwrap();
                return Heard::Answer(body(&response.encode(), []));
            }
            Err(error) => return Heard::Unread(error),
        };
        let Some(opened) = room(self.now(now_ms, |store| hub::open(store, head, now_ms))) else {
            return Heard::Nothing;
        };
        let mut with = match opened {
            Opened::Ready(with) => with,
            Opened::Refused(_) if is_cut => return Heard::Nothing,
            Opened::Refused(response) => return Heard::Answer(body(&response.encode(), [])),
            Opened::Rescue(with) => return self.rescue(packer, *with, wire::frames(&bytes[start..]).0, now_ms),
        };
        let (frames, is_whole) = wire::frames(&bytes[start..]);
        let left = frames.into();
        // The flipped bit may be in the length of a frame, which then does not end; that is damage as well.
        with.is_cut = !is_whole;
        self.go_on(packer, Hearing { at, number, with, left, grant: None, is_broken: is_cut }, now_ms, pause)
    }

    /// Takes what an incarnation hands in that is over.
    fn rescue(&mut self, packer: &mut Packer, mut with: Rescuing, frames: Vec<Vec<u8>>, now_ms: u64) -> Heard {
        for frame in frames {
            // Of a damaged frame the hub says so, and nothing else.
            let Ok(Payload::Ops(ops)) = packer.unpack(&frame).and_then(|bytes| Payload::decode(&bytes)) else {
                return Heard::Nothing;
            };
            if room(self.now(now_ms, |store| hub::rescue(store, &mut with, &ops))).is_none() {
                return Heard::Nothing;
            }
        }
        let response = self.look(now_ms, |store| hub::rescued(store, with, now_ms)).unwrap();
        Heard::Answer(body(&response.encode(), []))
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
                    Ok(Payload::Ops(ops)) => {
                        let with = &mut hearing.with;
                        if room(self.now(now_ms, |store| hub::receive(store, with, &ops))).is_none() {
                            return Heard::Nothing;
                        }
                    }
                    Ok(Payload::Rows(rows)) => {
                        let with = &mut hearing.with;
                        if room(self.now(now_ms, |store| hub::receive_offers(store, with, &rows))).is_none() {
                            return Heard::Nothing;
                        }
                    }
                    // A damaged frame ends the reading.
                    _ => {
                        hearing.left.clear();
                        hearing.with.is_cut = true;
                    }
                }
            } else if hearing.is_broken {
                return Heard::Nothing;
            } else if let Some(grant) = hearing.grant.take() {
                let request = &hearing.with.request;
                let answer = self.look(now_ms, |store| hub::pull(store, packer, request, grant)).unwrap();
                return Heard::Answer(body(&answer.head.encode(), answer.frames));
            } else {
                let with = &hearing.with;
                let Some(grant) = room(self.now(now_ms, |store| hub::grant(store, with, now_ms))) else {
                    return Heard::Nothing;
                };
                hearing.grant = Some(grant);
            }
        }
    }
}
