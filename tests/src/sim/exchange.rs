//! Exchanges, in the steps that a link has: ask, serve, take. As `agent` and `server-stub` do them.

use agent::error::Error;
use sync_protocol::gateway::{self, Outgoing, Store as _, WallClock};
use sync_protocol::message::{Request, Response, Status, body, split_head};
use sync_protocol::payload::Payload;

use super::builds;
use super::centre::Heard;
use super::event::Shape;
use super::in_step::OnCard;
use super::site::{Asked, keep};
use super::world::World;
use super::{Failure, Fault, Kind};
use super::{trace, wire};

/// Bytes of a link that carries a lot.
const WIDE_BYTES: usize = 256 * 1024;
/// Exchanges after which a gateway must have come to an end.
const EXCHANGES_MAX: usize = 40;

/// What a transaction gave; `None` if the disk had no room for it, which is counted.
pub(super) fn room<T>(done: Result<T, Error>, full: &mut u64) -> Option<T> {
    match done {
        Err(Error::DiskFull(_)) => {
            *full += 1;
            None
        }
        done => Some(done.expect("a store with room")),
    }
}

/// Heads come whole or not at all here, and there is no build that cannot read those of another.
fn unread(who: String) -> Failure {
    Failure::new(Kind::Version, format!("a head cannot be read by {who}"))
}

impl World<'_> {
    /// Exchanges until there is no news.
    pub(super) fn sync(&mut self, at: usize) -> Result<(), Failure> {
        for _ in 0..EXCHANGES_MAX {
            self.ask(at, false)?;
            self.serve(at, 0, Shape::Whole, None)?;
            if self.take(at, 0, Shape::Whole, None)? != Some(true) && !self.hand_in(at)? {
                return Ok(());
            }
        }
        Err(Failure::new(Kind::Endless, format!("gateway {at} does not come to an end")))
    }

    pub(super) fn ask(&mut self, at: usize, is_thin: bool) -> Result<(), Failure> {
        self.commit(at);
        let up_bytes = if is_thin { 1 } else { WIDE_BYTES };
        let down_bytes = if is_thin && self.faults.has(Fault::Parts) { 1 } else { WIDE_BYTES as u64 };
        let site = &mut self.sites[at];
        let now_ms = u64::try_from(self.now_ms + site.clock_off_ms).unwrap_or(0);
        let clock = WallClock { now_ms, ahead_seconds: Some(site.clock_off_ms / 1_000) };
        let packer = &mut self.packers.up;
        let request = |store: &mut OnCard<'_, '_>| -> Result<Outgoing, Error> {
            let outgoing = gateway::request(store, packer, clock, up_bytes, down_bytes)?;
            if !outgoing.frames.is_empty() {
                let mut state = store.state()?;
                state.unsure = true;
                store.set_state(&state)?;
            }
            Ok(outgoing)
        };
        let Some(outgoing) = room(site.now(request), &mut self.tally.full) else {
            site.asked = None;
            return Ok(());
        };
        if self.is_told {
            trace::request(self.packers, at, &outgoing);
        }
        let site = &mut self.sites[at];
        let message = body(&outgoing.head.encode(), outgoing.frames);
        wire::is_bounded(&mut self.packers.down, &message, Some(up_bytes))?;
        self.requests += 1;
        self.tally.exchanges += 1;
        keep(&mut site.requests, self.requests, builds::asked(site.build, message));
        site.asked = Some(Asked { number: self.requests, head: outgoing.head });
        Ok(())
    }

    pub(super) fn serve(&mut self, at: usize, nth: usize, shape: Shape, pause: Option<u8>) -> Result<(), Failure> {
        let requests = &self.sites[at].requests;
        let Some((number, request)) = requests.iter().rev().nth(nth).cloned() else { return Ok(()) };
        if !self.faults.has(Fault::Late) {
            // Its last connection is dead, and the hub has noticed.
            self.hub.paused.retain(|hearing| hearing.at != at);
        }
        let now_ms = self.now_ms as u64;
        let heard = self.hub.hear(&mut self.packers.down, (at, number), (&request, shape), now_ms, pause);
        self.is_told_its_version(at, &request, shape, &heard)?;
        self.heard(at, number, heard)
    }

    pub(super) fn go_on(&mut self, at: usize) -> Result<(), Failure> {
        let Some(place) = self.hub.paused.iter().position(|hearing| hearing.at == at) else { return Ok(()) };
        let hearing = self.hub.paused.remove(place);
        let number = hearing.number;
        let heard = self.hub.go_on(&mut self.packers.down, hearing, self.now_ms as u64, None);
        self.heard(at, number, heard)
    }

    fn heard(&mut self, at: usize, number: u32, heard: Heard) -> Result<(), Failure> {
        match heard {
            Heard::Nothing => Ok(()),
            Heard::Unread(error) => Err(unread(format!("the hub of gateway {at}: {error}"))),
            Heard::Paused(hearing) => {
                self.hub.paused.push(*hearing);
                Ok(())
            }
            Heard::Answer(answer) => {
                let answer = builds::answered(self.hub.build, answer);
                wire::is_bounded(&mut self.packers.up, &answer, None)?;
                keep(&mut self.sites[at].answers, number, answer);
                Ok(())
            }
        }
    }

    /// Takes an answer, if it is one to the request that the gateway made last. Tells whether it asks again at once; `None`
    /// if nothing came to an end.
    pub(super) fn take(
        &mut self,
        at: usize,
        nth: usize,
        shape: Shape,
        cut: Option<u8>,
    ) -> Result<Option<bool>, Failure> {
        let site = &mut self.sites[at];
        let Some(asked) = site.asked.clone() else { return Ok(None) };
        let mut answers = site.answers.iter().rev().filter(|(number, _)| *number == asked.number);
        let Some((_, answer)) = answers.nth(nth).cloned() else { return Ok(None) };
        self.commit(at);
        self.sites[at].asked = None;
        let (bytes, is_cut) = wire::arrive(&answer, shape);
        let Ok(Some((head, start))) = split_head(&bytes) else { return Ok(None) };
        let head =
            builds::taken(self.sites[at].build, head).map_err(|error| unread(format!("gateway {at}: {error}")))?;
        if self.is_told {
            trace::answer(at, &head);
        }
        self.look_at(at, &head)?;
        if head.status == Status::Upgrade {
            return self.take_upgrade(at, &asked.head, &head).map(Some);
        }
        let site = &mut self.sites[at];
        let done = room(site.now(|store| gateway::integrate_head(store, &asked.head, &head)), &mut self.tally.full);
        match done {
            Some(done) if !done.is_for_another => {}
            done => return Ok(done.map(|_| true)),
        }
        let (frames, is_whole) = wire::frames(&bytes[start..]);
        let mut read = |frame: &Vec<u8>| self.packers.up.unpack(frame).and_then(|bytes| Payload::decode(&bytes)).ok();
        let mut parts: Vec<Option<Payload>> = frames.iter().map(&mut read).collect();
        let is_partial = is_cut || cut.is_some() || parts.contains(&None);
        if is_partial && !self.faults.has(Fault::Parts) {
            parts.clear();
        }
        for (commits, payload) in (1..).zip(parts) {
            if cut == Some(commits) {
                if let Some(Payload::Rows(rows)) = payload {
                    let site = &mut self.sites[at];
                    site.begin();
                    let _ = room(site.write(|store| gateway::integrate_rows(store, &rows)), &mut self.tally.full);
                }
                self.power_cut(at)?;
                return Ok(None);
            }
            let Some(Payload::Rows(rows)) = payload else { return Ok(None) };
            if self.is_told {
                trace::rows(&rows);
            }
            if room(self.sites[at].now(|store| gateway::integrate_rows(store, &rows)), &mut self.tally.full).is_none() {
                return Ok(None);
            }
        }
        // HTTP tells a body that was cut from one that is whole, even where the cut is between two frames.
        if is_partial || !is_whole {
            return Ok(None);
        }
        let site = &mut self.sites[at];
        let Some(agrees) = room(site.now(|store| gateway::finish(store, &asked.head, &head)), &mut self.tally.full)
        else {
            return Ok(None);
        };
        let state = site.store.state().unwrap();
        if head.digest.is_some() && !agrees && self.mismatch.is_none() {
            self.mismatch = Some(self.difference(at));
        }
        let goes_on = state.unsent() > 0 || state.repair_symbols.is_some() || state.backfill.is_some();
        let again = goes_on || head.more || head.status != Status::Ok;
        if !again {
            self.check_view(at)?;
        }
        Ok(Some(again && !matches!(head.status, Status::Denied | Status::Revoked)))
    }

    /// Who speaks another major version than the hub is told so, whatever else happens, and nobody else is.
    fn is_told_its_version(&self, at: usize, request: &[u8], shape: Shape, heard: &Heard) -> Result<(), Failure> {
        let says = |what: &str| Err(Failure::new(Kind::Version, format!("the hub {what} gateway {at}")));
        let status = match heard {
            Heard::Answer(answer) => split_head(answer)
                .ok()
                .flatten()
                .and_then(|(head, _)| Response::decode(head).ok())
                .map(|head| head.status),
            _ => None,
        };
        match (builds::is_foreign(self.hub.build, request), status) {
            (false, Some(Status::Upgrade)) => says("tells its own version to"),
            (true, Some(Status::Upgrade)) => Ok(()),
            (true, None) if matches!(shape, Shape::Torn(_)) => Ok(()),
            (true, _) => says("does not tell its version to"),
            _ => Ok(()),
        }
    }

    /// The hub does not speak the version of this gateway. All stays as it is, until one of them is of another build.
    fn take_upgrade(&mut self, at: usize, asked: &Request, head: &Response) -> Result<bool, Failure> {
        let site = &mut self.sites[at];
        let before = format!("{:?}", site.store);
        let done = room(site.now(|store| gateway::integrate_head(store, asked, head)), &mut self.tally.full);
        match done.is_none() || format!("{:?}", site.store) == before {
            true => Ok(false),
            false => Err(Failure::new(Kind::Version, format!("gateway {at} changed with an answer of status 4"))),
        }
    }

    /// A gateway that did nothing wrong is neither shut out nor sent back.
    fn look_at(&mut self, at: usize, head: &Response) -> Result<(), Failure> {
        let site = &mut self.sites[at];
        match head.status {
            Status::Ok | Status::Compared => {}
            Status::NewOrigin => {
                self.tally.new_origins += 1;
                // What apps have read is found again by going back from what is there, and that has other numbers now.
                site.read.clear();
            }
            Status::Rebase => self.tally.rebases += 1,
            Status::Upgrade => self.tally.upgrades += 1,
            Status::Denied | Status::Revoked => {}
        }
        let reason = head.reason.as_deref().unwrap_or("no reason");
        match head.status {
            // No accident needs a person: nobody ever has to be enrolled anew.
            Status::Denied | Status::Revoked if !self.is_any_out => {
                Err(Failure::new(Kind::ShutOut, format!("gateway {at} is shut out: {reason}")))
            }
            Status::NewOrigin | Status::Rebase if !site.is_suspect => {
                self.tally.needless += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
