//! The sync loop: waits for a reason, carries bytes, and lets the protocol decide the rest.
//!
//! No transaction is open while the network is in use. An attempt is counted before it is made. Nothing is remembered of
//! an exchange under way but that one began: after any accident the gateway asks what arrived, and goes on from there.

mod acts;
mod certificate;
mod enroll;
mod exchange;
mod former;
mod link;
mod patience;
mod pulse;
mod rescue;
mod tls;
mod transport;

use std::future::Future;
use std::time::Duration;

use sync_protocol::session::{Outcome, Session, Wake};
use tokio::sync::{mpsc, oneshot};

pub use enroll::{Consent, enroll};
pub(crate) use enroll::{Way, enroll_by};
pub use exchange::{Courier, Report};
pub(crate) use pulse::Pulse;
pub use rescue::{Rescue, hand_in};
pub use transport::{Transport, Trust, ask_daemon};

use self::acts::Teller;
use self::link::Routes;
use crate::clock::Clock;
use crate::error::{Class, Error};
use crate::keys::Keeper;
use crate::store::{Enrolment, Store};

/// Several writes in a moment go in one exchange.
const NEWS_LINGER: Duration = Duration::from_millis(150);
/// While the hub cannot be reached, the routes are looked at this often: a glance at a file. The longer the link is down, the
/// rarer, because a box that runs on the sun should sleep.
const LINK_GLANCE: Duration = Duration::from_secs(5);
const LINK_GLANCE_MAX: Duration = Duration::from_secs(30);
/// Glances in one wait, as far as these bounds allow.
const LINK_GLANCES: u32 = 30;
/// Exchanges in one go, so that a loop between two programs that disagree ends.
const ROUNDS_MAX: usize = 10_000;

/// Asks the running loop for a sync now.
#[derive(Debug, Clone)]
pub struct SyncHandle {
    ask: mpsc::Sender<oneshot::Sender<Result<Report, Error>>>,
    pulse: Pulse,
}

impl SyncHandle {
    /// Asks for a sync and does not wait for it.
    pub fn nudge(&self) {
        // A full queue means that one is coming anyway.
        let _ = self.ask.try_send(oneshot::channel().0);
    }

    /// Syncs now, whatever the back-off says, and tells how it went.
    ///
    /// # Errors
    /// What the exchange failed with.
    pub async fn sync_now(&self) -> Result<Report, Error> {
        let (answer, answered) = oneshot::channel();
        self.ask.send(answer).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }

    /// Whether the loop still goes on.
    pub(crate) fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }
}

/// The loop, to be spawned.
#[derive(Debug)]
pub struct SyncLoop {
    store: Store,
    clock: Clock,
    /// Made for an enrolment when it is first needed, and anew when the enrolment is another.
    courier: Option<(Enrolment, Courier)>,
    session: Session,
    escrow: Keeper,
    teller: Teller,
    asked: mpsc::Receiver<oneshot::Sender<Result<Report, Error>>>,
    pulse: Pulse,
    /// What was unsent when the last exchange began, and is so after it; `None` if it failed. More than that is news.
    left: Option<u64>,
}

/// Makes the loop and the handle to it. `interval` is how often the hub is asked when nothing happens.
pub fn sync_loop(store: Store, clock: Clock, interval: Duration) -> (SyncHandle, SyncLoop) {
    let (ask, asked) = mpsc::channel(8);
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    let (session, pulse) = (Session::new(interval_ms), Pulse::new());
    (
        SyncHandle { ask, pulse: pulse.clone() },
        SyncLoop {
            store,
            clock,
            courier: None,
            session,
            escrow: Keeper::default(),
            teller: Teller::default(),
            asked,
            pulse,
            left: None,
        },
    )
}

impl SyncLoop {
    /// Whether the hub is given a copy of the key of an encrypted database.
    pub(crate) fn keep_at_hub(&mut self, is_wanted: bool) {
        self.escrow = Keeper::new(is_wanted);
    }

    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let mut wait = Duration::ZERO;
        loop {
            self.pulse.beat(wait);
            let asker = tokio::select! {
                () = &mut shutdown => return,
                asker = self.asked.recv() => asker,
                _ = wait_for_reason(&self.store, &self.session, wait, self.left) => None,
            };
            self.pulse.beat(Duration::ZERO);
            let result = tokio::select! {
                () = &mut shutdown => return,
                result = self.rounds() => result,
            };
            let outcome = match &result {
                Ok(report) => Outcome::Done { bytes: 0, elapsed_ms: report.elapsed_ms, again: false },
                Err(error) => outcome_of(error),
            };
            wait = Duration::from_millis(self.session.report(outcome, jitter()));
            if result.as_ref().is_ok_and(|report| report.unsent > 0 && report.acknowledged > 0) {
                wait = Duration::ZERO;
            }
            if let Some(asker) = asker {
                // Nobody waits for the answer any more: the sync was made all the same.
                let _ = asker.send(result);
            }
        }
    }

    /// Answers those who ask, and does nothing of its own accord: for a command that runs without a daemon.
    pub async fn answer_only(&mut self) {
        while let Some(asker) = self.asked.recv().await {
            let result = self.rounds().await;
            let _ = asker.send(result);
        }
    }

    /// Exchanges until neither side has more to say of what there was at the beginning. What apps save meanwhile is left to
    /// the next go, so that whoever waits for this one has an end to wait for.
    async fn rounds(&mut self) -> Result<Report, Error> {
        let Some(enrolment) = self.store.read(|reader| reader.enrolment()).await? else {
            return Err(Error::NotEnrolled);
        };
        if self.courier.as_ref().is_none_or(|(known, _)| *known != enrolment) {
            let trust = enrolment.identity.clone().map_or(Trust::System, Trust::Member);
            let transport = Transport::new(&enrolment.hub_url, &self.clock, &trust)?;
            let courier = Courier::new(self.store.clone(), transport, self.clock.clone())?;
            self.courier = Some((enrolment, courier.heard_by(self.pulse.clone())));
        }
        let Some((enrolment, courier)) = &self.courier else { return Err(Error::Closed) };
        let mut sum = Report::default();
        let unsent = *self.store.outbox().borrow();
        self.left = None;
        for _ in 0..ROUNDS_MAX {
            let begun_with = *self.store.outbox().borrow();
            let one = courier.exchange(self.session.exchange_bytes()).await;
            let one = match one {
                Ok(one) => one,
                Err(error) => {
                    courier.note_failure(&error).await;
                    return Err(error);
                }
            };
            self.left = Some(begun_with.saturating_sub(one.acknowledged));
            let (bytes, elapsed_ms) = (one.bytes_up + one.bytes_down, one.elapsed_ms);
            sum = sum.and(one);
            let again = one.again || (is_worth_another(&one) && sum.acknowledged < unsent);
            self.session.report(Outcome::Done { bytes, elapsed_ms, again }, 0);
            if !again && !courier.hand_in_owed().await {
                break;
            }
        }
        if sum.is_revoked {
            courier.note_failure(&Error::Revoked).await;
            return Err(Error::Revoked);
        }
        courier.note_success(&sum).await?;
        if let Err(error) = certificate::renew_in_time(&self.store, &self.clock, enrolment).await {
            tracing::warn!("the certificate could not be renewed: {error}; it is tried again after the next sync");
        }
        if let Err(error) = self.escrow.after_sync(&self.store, &self.clock, enrolment).await {
            self.escrow.complain(&error);
        }
        self.teller.after_sync(&self.store, &self.clock, &self.pulse).await;
        Ok(sum)
    }
}

/// Waits for the timer, for something to send, or for the link to come back; whichever may go first. What apps saved since the
/// last exchange began, beyond what it `left`, is something to send.
async fn wait_for_reason(store: &Store, session: &Session, wait: Duration, left: Option<u64>) -> Wake {
    let timer = tokio::time::sleep(wait);
    let news = async {
        if !session.may_go(Wake::News) {
            return std::future::pending().await;
        }
        let mut unsent = store.outbox();
        let now = *unsent.borrow_and_update();
        let mut before = left.unwrap_or(now);
        if now <= before {
            loop {
                if unsent.changed().await.is_err() {
                    return std::future::pending().await;
                }
                let now = *unsent.borrow_and_update();
                if now > before {
                    break;
                }
                before = now;
            }
        }
        tokio::time::sleep(NEWS_LINGER).await;
    };
    let link = async {
        if !session.is_failing() || !session.may_go(Wake::LinkUp) {
            return std::future::pending().await;
        }
        let mut routes = Routes::new(link::routes());
        loop {
            tokio::time::sleep(glance_every(wait)).await;
            if routes.has_new(link::routes()) {
                return;
            }
        }
    };
    tokio::select! {
        () = timer => Wake::Timer,
        () = news => Wake::News,
        () = link => Wake::LinkUp,
    }
}

/// Whether more of what is unsent can be expected to go with another exchange: not if nothing of it moved in this one.
fn is_worth_another(one: &Report) -> bool {
    one.unsent > 0 && !one.is_revoked && (one.sent > 0 || one.acknowledged > 0 || one.asked)
}

/// How often the routes are looked at within a wait for the next attempt.
fn glance_every(wait: Duration) -> Duration {
    (wait / LINK_GLANCES).clamp(LINK_GLANCE, LINK_GLANCE_MAX)
}

fn jitter() -> u16 {
    let mut random = [0; 2];
    // Without randomness there is no jitter, and nothing worse.
    let _ = getrandom::fill(&mut random);
    u16::from_le_bytes(random)
}

/// How a failure sets the pace.
fn outcome_of(error: &Error) -> Outcome {
    match error {
        Error::HubFull(_) => Outcome::Full,
        error if takes_a_person(error) => Outcome::Denied,
        _ => Outcome::Offline,
    }
}

/// Whether another try is of no use before somebody has acted. Who is not enrolled yet: whoever enrols asks for a sync.
fn takes_a_person(error: &Error) -> bool {
    matches!(error, Error::Upgrade(_)) || matches!(error.class(), Class::Denied | Class::Config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_here_or_on_the_way_is_tried_again_and_what_the_hub_refuses_waits_for_a_person() {
        assert!(takes_a_person(&Error::Denied("revoked".to_owned())) && takes_a_person(&Error::NotEnrolled));
        assert!(!takes_a_person(&Error::no_room()) && !takes_a_person(&Error::GroupLost));
        assert!(!takes_a_person(&Error::Offline("no answer".into())));
        assert!(!takes_a_person(&Error::Rejected("not what was expected".to_owned())));
    }

    #[test]
    fn a_hub_without_room_is_asked_at_the_usual_pace() {
        assert_eq!(outcome_of(&Error::HubFull("no room".to_owned())), Outcome::Full);
        assert_eq!(outcome_of(&Error::Busy("come back".to_owned())), Outcome::Offline);
        assert_eq!(outcome_of(&Error::Denied("revoked".to_owned())), Outcome::Denied);
    }

    #[test]
    fn what_does_not_move_is_not_tried_again_at_once() {
        let tells = |sent, acknowledged, asked, is_revoked, unsent| {
            let mut one = Report::default();
            (one.sent, one.acknowledged, one.asked) = (sent, acknowledged, asked);
            (one.is_revoked, one.unsent) = (is_revoked, unsent);
            is_worth_another(&one)
        };
        assert!(!tells(0, 0, false, false, 3), "it cannot be sent");
        assert!(tells(1, 0, false, false, 3) && tells(0, 1, false, false, 3));
        assert!(tells(0, 0, true, false, 3), "now it may send");
        assert!(!tells(0, 0, true, true, 3) && !tells(1, 0, false, false, 0));
    }

    #[test]
    fn a_link_that_is_down_for_long_is_looked_at_rarely_and_one_that_went_just_now_often() {
        let every: Vec<u64> = [2, 32, 300, 900, 100_000].map(|s| glance_every(Duration::from_secs(s)).as_secs()).into();
        assert_eq!(every, [5, 5, 10, 30, 30]);
    }
}
