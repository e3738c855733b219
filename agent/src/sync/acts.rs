//! Tells the hub what was done at this gateway, for its audit: after a sync, and only if there is something to tell.
//!
//! The hub knows each act by its name, so whatever may have arrived is sent again without harm. In trial mode, without certificates,
//! nobody could tell by whom it is told, so nothing is.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::pulse::Pulse;
use super::transport::{Transport, Trust};
use crate::acts::{Act, Acts};
use crate::clock::Clock;
use crate::error::Error;
use crate::keys::fetch_notes;
use crate::store::Store;

/// Acts in one request.
const ACTS_AT_ONCE: u64 = 64;
/// After a failure, such as of a hub that is older and has never heard of acts, the next sync after this long tries again.
const RETRY: Duration = Duration::from_secs(60 * 60);

#[derive(Serialize)]
struct Telling<'a> {
    acts: Vec<Told<'a>>,
    /// How many went before they could be told, in all.
    dropped: u64,
}

#[derive(Serialize)]
struct Told<'a> {
    number: u64,
    #[serde(flatten)]
    act: &'a Act,
}

#[derive(Deserialize)]
struct Heard {
    /// The hub has all that it was sent up to this number.
    upto: u64,
}

/// Tells, and remembers that it is not to try again yet.
#[derive(Debug, Default)]
pub(super) struct Teller {
    failed: Option<Instant>,
}

impl Teller {
    /// What is to be done after a sync, which has just shown that there is a link. That it fails is no failure of the sync.
    pub(super) async fn after_sync(&mut self, store: &Store, clock: &Clock, pulse: &Pulse) {
        if self.failed.is_some_and(|at| at.elapsed() < RETRY) {
            return;
        }
        self.failed = match tell(store, clock, pulse).await {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!("the hub was not told what was done at this gateway: {error}; it is tried again later");
                Some(Instant::now())
            }
        };
    }
}

async fn tell(store: &Store, clock: &Clock, pulse: &Pulse) -> Result<(), Error> {
    fetch_notes(store).await?;
    let mut transport = None;
    loop {
        let (Acts { acts, dropped }, epoch) = store.read(|reader| reader.untold_acts(ACTS_AT_ONCE)).await?;
        let (Some(first), Some(last)) = (acts.first().map(|act| act.number), acts.last().map(|act| act.number)) else {
            return Ok(());
        };
        let transport = match &transport {
            Some(transport) => transport,
            None => {
                // As it is now: the certificate may just have been renewed.
                let Some(enrolment) = store.read(|reader| reader.enrolment()).await? else { return Ok(()) };
                let Some(identity) = enrolment.identity else { return Ok(()) };
                transport.insert(Transport::new(&enrolment.hub_url, clock, &Trust::Member(identity))?)
            }
        };
        pulse.beat(Duration::ZERO);
        let told = acts.iter().map(|kept| Told { number: kept.number, act: &kept.act }).collect();
        let Heard { upto } = transport.post_json("/acts/v1", &Telling { acts: told, dropped }).await?;
        let upto = upto.min(last);
        if upto < first {
            return Err(Error::Rejected("it took none of them".to_owned()));
        }
        store.write(move |tx| tx.acts_told(upto, epoch)).await?;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::acts::{Deed, Who};
    use crate::store::{Enrolment, Identity, Options};

    #[tokio::test]
    async fn that_a_hub_is_not_told_is_no_failure_and_is_not_tried_with_every_sync() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        let (clock, pulse, mut teller) = (Clock::default(), Pulse::new(), Teller::default());
        // Nobody listens there, and nothing is to be told.
        let identity = Identity { authority: vec![1], key: vec![1].into(), certificate: vec![1], renew_ms: 0 };
        let enrolled = |identity| Enrolment {
            hub_url: "https://127.0.0.1:1".to_owned(),
            name: "a".to_owned(),
            device: 1,
            enrolled_ms: 0,
            identity,
        };
        store.write(move |tx| tx.set_enrolment(&enrolled(Some(identity)))).await.unwrap();
        teller.after_sync(&store, &clock, &pulse).await;
        assert!(teller.failed.is_none());
        let act = Act::new(Deed::RevokeApp, &Who::page(), clock.now(), json!({})).unwrap();
        store.write(move |tx| tx.act(&act)).await.unwrap();
        teller.after_sync(&store, &clock, &pulse).await;
        let failed = teller.failed.expect("it was tried");
        teller.after_sync(&store, &clock, &pulse).await;
        assert_eq!(teller.failed, Some(failed), "and not again at once");
        // Without a certificate nobody would know by whom it is told.
        store.write(move |tx| tx.set_enrolment(&enrolled(None))).await.unwrap();
        let mut teller = Teller::default();
        teller.after_sync(&store, &clock, &pulse).await;
        assert!(teller.failed.is_none());
        assert_eq!(store.read(|reader| reader.untold_acts(10)).await.unwrap().0.acts.len(), 1);
    }
}
