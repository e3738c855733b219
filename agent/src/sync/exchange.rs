//! One exchange with the hub: read what is unsent, send it, integrate what comes back, frame by frame.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use sync_protocol::frame::{Effort, Packer, split};
use sync_protocol::gateway::{self, Outgoing, Store as _};
use sync_protocol::limits::{CLOCK_AGREES_MS, MESSAGE_BYTES_MAX};
use sync_protocol::message::{Request, Response, Status, body, split_head};
use sync_protocol::payload::Payload;
use sync_protocol::released::RELEASED_MS;
use utoipa::ToSchema;

use super::patience::until_answered;
use super::pulse::Pulse;
use super::transport::{Incoming, Transport};
use crate::clock::Clock;
use crate::error::Error;
use crate::store::{Store, SyncReport, Tx};

/// What a sync did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Report {
    /// Changes that went up.
    pub sent: u64,
    /// Changes that the hub took.
    pub acknowledged: u64,
    /// Records that came down.
    pub received: u64,
    /// Records that left, because their catchment is another one.
    pub evicted: u64,
    /// Requests made.
    pub exchanges: u64,
    /// Bytes of bodies, up.
    pub bytes_up: u64,
    /// Bytes of bodies, down.
    pub bytes_down: u64,
    /// How long it took, milliseconds.
    pub elapsed_ms: u64,
    /// Whether the digests agreed at the end.
    pub agrees: bool,
    /// Whether the hub has more, or an exchange brought something that takes another one.
    #[serde(skip)]
    pub again: bool,
    /// It only asked, for what arrived or what time it is, and sent nothing for that reason.
    #[serde(skip)]
    pub asked: bool,
    /// Own changes that are not acknowledged yet.
    #[serde(skip)]
    pub unsent: u64,
    /// The hub has shut this gateway out; it took what was sent.
    #[serde(skip)]
    pub is_revoked: bool,
    /// What of it stands in the database already.
    #[serde(skip)]
    noted: Noted,
}

/// The counts of exchanges that were noted with what they brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Noted {
    exchanges: u64,
    bytes_up: u64,
    bytes_down: u64,
}

/// Attempts that fail alike are noted once in this time: a link that is down for a week is no reason to wear out a card.
const SAME_FAILURE_MS: i64 = 60 * 60 * 1_000;

impl Report {
    /// This and a later one together.
    pub(crate) fn and(self, later: Report) -> Report {
        Report {
            sent: self.sent + later.sent,
            acknowledged: self.acknowledged + later.acknowledged,
            received: self.received + later.received,
            evicted: self.evicted + later.evicted,
            exchanges: self.exchanges + later.exchanges,
            bytes_up: self.bytes_up + later.bytes_up,
            bytes_down: self.bytes_down + later.bytes_down,
            elapsed_ms: self.elapsed_ms + later.elapsed_ms,
            noted: self.noted.and(later.noted),
            ..later
        }
    }
}

impl Report {
    /// What of the counts does not stand in the database yet.
    fn not_noted(&self) -> Noted {
        Noted {
            exchanges: self.exchanges.saturating_sub(self.noted.exchanges),
            bytes_up: self.bytes_up.saturating_sub(self.noted.bytes_up),
            bytes_down: self.bytes_down.saturating_sub(self.noted.bytes_down),
        }
    }
}

impl Noted {
    fn and(self, other: Noted) -> Noted {
        Noted {
            exchanges: self.exchanges + other.exchanges,
            bytes_up: self.bytes_up + other.bytes_up,
            bytes_down: self.bytes_down + other.bytes_down,
        }
    }
}

/// Carries exchanges between one store and one hub.
#[derive(Debug)]
pub struct Courier {
    store: Store,
    transport: Transport,
    clock: Clock,
    packer: Arc<Mutex<Packer>>,
    /// When the hub was last told about this box: version, room on the card, records.
    told: Mutex<Option<Instant>>,
    pulse: Pulse,
}

/// The admins' picture of a box is at most this old, and newer whenever it was started anew.
const TELL_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

impl Courier {
    /// A courier for an enrolled gateway.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no memory for the compressor.
    pub fn new(store: Store, transport: Transport, clock: Clock) -> Result<Courier, Error> {
        let packer = Arc::new(Mutex::new(Packer::new(Effort::Link)?));
        Ok(Courier { store, transport, clock, packer, told: Mutex::default(), pulse: Pulse::new() })
    }

    /// The same, that says at each step to this one that it goes on.
    pub(super) fn heard_by(self, pulse: Pulse) -> Courier {
        Courier { pulse, ..self }
    }

    /// Shows a hub that was put back what it may lack of earlier incarnations. Tells whether it lacked anything, so that there is
    /// something to fetch. If that fails it is done after the next sync.
    pub(super) async fn hand_in_owed(&self) -> bool {
        let done = super::former::hand_in_owed(&self.store, &self.transport, &self.pulse).await;
        done.unwrap_or_else(|error| {
            tracing::warn!(
                "the hub did not hear of what was written under an earlier origin: {error}; it does after the next sync"
            );
            false
        })
    }

    /// Makes one exchange of about `bytes` each way.
    ///
    /// # Errors
    /// [`Error`]; what was integrated before it stays.
    pub async fn exchange(&self, bytes: u64) -> Result<Report, Error> {
        self.pulse.beat(Duration::ZERO);
        let outgoing = self.prepare(bytes).await?;
        let request = outgoing.head;
        let sent = outgoing.ops as u64;
        let (asked, message) = (request.asks, body(&request.encode(), outgoing.frames));
        let bytes_up = message.len() as u64;
        let mut report = Report { sent, exchanges: 1, bytes_up, agrees: true, asked, ..Report::default() };
        let began = Instant::now();
        self.pulse.beat(until_answered(message.len()));
        let incoming = self.transport.exchange(message).await?;
        self.integrate(incoming, Arc::new(request), began, &mut report).await?;
        report.elapsed_ms = millis(began.elapsed());
        Ok(report)
    }

    /// Reads what is unsent, and notes that it is under way before it is.
    async fn prepare(&self, bytes: u64) -> Result<Outgoing, Error> {
        let clock = self.clock.wall();
        let up_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let packer = Arc::clone(&self.packer);
        let is_news = self.is_time_to_tell()?;
        let write = self.store.write(move |tx| {
            let mut packer = packer.lock().map_err(|_| Error::Closed)?;
            if is_news {
                let mut state = tx.state()?;
                state.told = false;
                tx.set_state(&state)?;
            }
            let outgoing = gateway::request(tx, &mut packer, clock, up_bytes, bytes)?;
            if !outgoing.frames.is_empty() {
                let mut state = tx.state()?;
                state.unsure = true;
                tx.set_state(&state)?;
            }
            Ok::<_, Error>(outgoing)
        });
        write.await
    }

    fn is_time_to_tell(&self) -> Result<bool, Error> {
        let mut told = self.told.lock().map_err(|_| Error::Closed)?;
        let is_time = told.is_none_or(|at| at.elapsed() >= TELL_EVERY);
        if is_time {
            *told = Some(Instant::now());
        }
        Ok(is_time)
    }

    async fn integrate(
        &self,
        mut incoming: Incoming,
        request: Arc<Request>,
        began: Instant,
        report: &mut Report,
    ) -> Result<(), Error> {
        let mut buffer = Vec::new();
        let mut head: Option<Arc<Response>> = None;
        while let Some(chunk) = incoming.chunk().await? {
            self.pulse.beat(Duration::ZERO);
            report.bytes_down += chunk.len() as u64;
            if report.bytes_down > MESSAGE_BYTES_MAX as u64 {
                return Err(Error::Rejected("the hub's answer is larger than any answer may be".to_owned()));
            }
            buffer.extend_from_slice(&chunk);
            if head.is_none() {
                let Some((bytes, end)) = split_head(&buffer)? else { continue };
                let decoded = Arc::new(Response::decode(bytes)?);
                buffer.drain(..end);
                if self.take_head(&request, &decoded, began, report).await? {
                    // Where nothing could be shown, nothing can be shown the next time either.
                    report.again = request.asks || report.sent > 0;
                    (report.agrees, report.unsent) = (false, *self.store.outbox().borrow());
                    return Ok(());
                }
                head = Some(decoded);
            }
            while let Some((inside, end)) = split(&buffer)? {
                let frame = inside.to_vec();
                buffer.drain(..end);
                self.take_frame(frame, report).await?;
            }
        }
        let head = head.filter(|_| buffer.is_empty());
        let Some(head) = head else { return Err(Error::offline(Cut)) };
        // With what the end of the exchange writes anyway, so that it takes no sync of its own.
        let noted = if head.status == Status::Ok { report.not_noted() } else { Noted::default() };
        let now_ms = self.clock.now().now_ms;
        let finish = self.store.write_large(move |tx| {
            let agrees = gateway::finish(tx, &request, &head)?;
            if noted != Noted::default() {
                note(tx, noted, now_ms)?;
            }
            let state = tx.state()?;
            let goes_on = state.repair_symbols.is_some() || !state.wanted.is_empty() || state.backfill.is_some();
            let again = match head.status {
                // It hands nothing down, whatever is missing here.
                Status::Revoked => head.more,
                // The hub hears that erasures were carried out.
                status => head.more || status != Status::Ok || goes_on || !head.erased.is_empty(),
            };
            Ok::<_, Error>((agrees, again, state.unsent(), state.is_revoked))
        });
        (report.agrees, report.again, report.unsent, report.is_revoked) = finish.await?;
        report.noted = report.noted.and(noted);
        Ok(())
    }

    /// Takes the head of an answer. Tells whether the rest of it is for another copy of this card.
    async fn take_head(
        &self,
        request: &Arc<Request>,
        head: &Arc<Response>,
        began: Instant,
        report: &mut Report,
    ) -> Result<bool, Error> {
        match head.status {
            Status::Denied => return Err(Error::Denied(head.reason.clone().unwrap_or_default())),
            Status::Upgrade => return Err(Error::Upgrade(head.reason.clone().unwrap_or_default())),
            Status::NewOrigin | Status::Rebase => {
                tracing::warn!(sync.status = ?head.status, "the hub asked this gateway to go on differently: {}", head.reason.as_deref().unwrap_or("no reason given"));
            }
            Status::Ok | Status::Compared | Status::Revoked => {}
        }
        if i64::try_from(head.hub_ms).is_ok_and(|hub_ms| hub_ms < RELEASED_MS) {
            let told =
                "its clock says a time before this program was made: somebody has to set the clock of its machine";
            return Err(Error::Busy(told.to_owned()));
        }
        let heard = self.clock.hear(head.hub_ms, millis(began.elapsed()));
        let now = self.clock.now();
        // Nothing more is to be expected: that the hub was reached is kept with what it answered, in one sync of the card.
        let is_idle = report.sent == 0 && head.status == Status::Ok && !head.more;
        let noted = Noted { exchanges: 1, bytes_up: report.bytes_up, bytes_down: report.bytes_down };
        let integrate = || {
            let (request, head) = (Arc::clone(request), Arc::clone(head));
            self.store.write_large(move |tx| {
                tx.set_moment(now.at, now.now_ms);
                // Before the answer is integrated: unsent ops get their times with it.
                tx.set_boot_start(heard.boot, heard.start_ms)?;
                if heard.step_ms > CLOCK_AGREES_MS as i64 {
                    tx.set_clock_forward(heard.step_ms, heard.before_ms)?;
                }
                let done = gateway::integrate_head(tx, &request, &head)?;
                if is_idle {
                    note(tx, noted, now.now_ms)?;
                }
                Ok::<_, Error>(done)
            })
        };
        let done = match integrate().await {
            Err(Error::DiskFull(_)) => {
                // There is no room to correct the times of what waits. It goes as it is, and that makes room.
                self.store.write(|tx| gateway::leave_times(tx)).await?;
                integrate().await?
            }
            done => done?,
        };
        report.acknowledged += done.acknowledged;
        report.evicted += done.evicted;
        if is_idle {
            report.noted = noted;
        }
        Ok(done.is_for_another)
    }

    async fn take_frame(&self, frame: Vec<u8>, report: &mut Report) -> Result<(), Error> {
        let (packer, now) = (Arc::clone(&self.packer), self.clock.now());
        let write = self.store.write(move |tx| {
            tx.set_moment(now.at, now.now_ms);
            let payload = packer.lock().map_err(|_| Error::Closed)?.unpack(&frame)?;
            match Payload::decode(&payload)? {
                Payload::Rows(rows) => gateway::integrate_rows(tx, &rows),
                Payload::Ops(_) => Ok(gateway::Integrated::default()),
            }
        });
        let done = write.await?;
        report.received += done.records;
        report.evicted += done.evicted;
        Ok(())
    }

    /// Keeps for status that an attempt failed, and why.
    pub(crate) async fn note_failure(&self, error: &Error) {
        tracing::info!(error.class = error.class().name(), "sync failed: {error}. {}", error.hint());
        let (class, text, now_ms) = (error.class().name().to_owned(), error.to_string(), self.clock.now().now_ms);
        let noted = self.store.write(move |tx| {
            let before = tx.reader()?.sync_report()?;
            let is_same = before.error_class.as_ref() == Some(&class) && before.error.as_ref() == Some(&text);
            if is_same && (0..SAME_FAILURE_MS).contains(&now_ms.saturating_sub(before.attempt_ms)) {
                return Ok(());
            }
            tx.set_sync_report(&SyncReport {
                attempt_ms: now_ms,
                error_class: Some(class),
                error: Some(text),
                ..before
            })
        });
        if let Err(error) = noted.await {
            tracing::error!("the outcome of a sync could not be kept: {error}");
        }
    }

    /// Keeps for status that the hub was reached.
    pub(crate) async fn note_success(&self, report: &Report) -> Result<(), Error> {
        tracing::info!(
            sync.sent = report.sent,
            sync.received = report.received,
            sync.evicted = report.evicted,
            sync.exchanges = report.exchanges,
            sync.bytes_up = report.bytes_up,
            sync.bytes_down = report.bytes_down,
            sync.duration_ms = report.elapsed_ms,
            sync.agrees = report.agrees,
            "synced with the hub"
        );
        let left = report.not_noted();
        if left == Noted::default() {
            return Ok(());
        }
        let now_ms = self.clock.now().now_ms;
        self.store.write(move |tx| note(tx, left, now_ms)).await
    }
}

/// Keeps that the hub was reached, and what that took.
fn note(tx: &mut Tx<'_>, done: Noted, now_ms: i64) -> Result<(), Error> {
    let before = tx.reader()?.sync_report()?;
    tx.set_sync_report(&SyncReport {
        attempt_ms: now_ms,
        success_ms: Some(now_ms),
        error_class: None,
        error: None,
        bytes_up: before.bytes_up + done.bytes_up,
        bytes_down: before.bytes_down + done.bytes_down,
        exchanges: before.exchanges + done.exchanges,
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The answer ended in the middle of a frame.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut")]
pub(super) struct Cut;

#[cfg(test)]
mod tests {
    use sync_protocol::clock::TimeQuality;
    use sync_protocol::id::{Epoch, HubSeq};

    use super::*;
    use crate::store::Options;
    use crate::sync::transport::{SYNC_TYPE, tests::answering};

    /// What comes of an exchange with a hub whose clock says this, and how well the time is known then.
    async fn hear(hub_ms: u64) -> (Result<Report, Error>, TimeQuality) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        let answer = Response::new(Status::Ok, Epoch(0), hub_ms, HubSeq(0));
        let head = format!("200 OK\r\ncontent-type: {SYNC_TYPE}");
        let (transport, answering) = answering(&head, &body(&answer.encode(), Vec::new())).await;
        let courier = Courier::new(store, transport, Clock::default()).unwrap();
        let done = courier.exchange(1_000).await;
        answering.await.unwrap();
        (done, courier.clock.now().quality)
    }

    #[tokio::test]
    async fn a_time_before_this_program_was_made_is_not_taken_from_any_hub() {
        let released_ms = u64::try_from(RELEASED_MS).unwrap();
        for hub_ms in [0, released_ms - 1] {
            let (done, quality) = hear(hub_ms).await;
            let Err(Error::Busy(told)) = done else { panic!("{done:?}") };
            assert!(told.contains("clock"), "{told}");
            assert_eq!(quality, TimeQuality::Unknown, "{hub_ms}");
        }
        let (done, quality) = hear(released_ms).await;
        done.unwrap();
        assert_eq!(quality, TimeQuality::Good);
    }
}
