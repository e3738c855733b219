//! What strangers can make the audit grow by: wrong codes and failed logins.
//!
//! The first refusals of an hour are entries of their own. The rest is counted, in memory, and told when the hour is over or the hub
//! ends: one entry for all that would have said the same, with how often, from when and until when. So whoever was guessed at, and
//! from where, is there to be read later, and it is a bounded number of entries however many strangers there are. What a crash takes
//! with it is the count of an hour at most, never the first entries.

use std::collections::BTreeMap;
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::audit::{Actor, What};
use crate::clock::rfc3339;
use crate::error::StoreError;
use crate::hub::Hub;
use crate::sources::source;
use crate::store::Tx;
use crate::tries::OF_ONE_MAX;

/// How long refusals are counted together.
const HOUR: Duration = Duration::from_secs(60 * 60);
/// How often it is looked whether the hour is over.
const GLANCE: Duration = Duration::from_secs(60);
/// Entries of their own in an hour, of those that say the same: as many as one source can try in a minute.
const OWN_OF_SAME_MAX: u32 = OF_ONE_MAX;
/// Entries of their own in an hour, of all.
const OWN_MAX: u32 = 100;
/// Counts that name the source.
const WITH_SOURCE_MAX: usize = 50;
/// Counts that name the source, or at least what was wrong. What is beyond is counted by its kind.
const COUNTS_MAX: usize = 98;

/// What an entry says beside the time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    what: What,
    /// Of the sender, a whole /64 of IPv6; `None` of several.
    source: Option<String>,
    /// JSON; `None` of several.
    target: Option<String>,
}

/// How often it was refused, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    times: u64,
    first_ms: i64,
    last_ms: i64,
}

/// The refusals of an hour.
#[derive(Debug, Default)]
struct Counted {
    since: Option<Instant>,
    /// How many entries of their own there are; at most [`OWN_MAX`].
    own: BTreeMap<Said, u32>,
    own_of_all: u32,
    /// At most [`COUNTS_MAX`], and one of each kind.
    counts: BTreeMap<Said, Times>,
}

impl Counted {
    /// Whether this one is to be an entry of its own. Otherwise it is counted.
    fn is_told(&mut self, said: Said, at_ms: i64, now: Instant) -> bool {
        self.since.get_or_insert(now);
        if self.own_of_all < OWN_MAX && self.own.get(&said).is_none_or(|own| *own < OWN_OF_SAME_MAX) {
            *self.own.entry(said).or_default() += 1;
            self.own_of_all += 1;
            return true;
        }
        self.count(said, Times { times: 1, first_ms: at_ms, last_ms: at_ms });
        false
    }

    fn count(&mut self, said: Said, more: Times) {
        let known = self.counts.entry(self.place_of(said)).or_insert(Times { times: 0, ..more });
        known.times += more.times;
        known.first_ms = known.first_ms.min(more.first_ms);
        known.last_ms = known.last_ms.max(more.last_ms);
    }

    /// Where it is counted: if there are too many for that, first nobody knows from where it came, and then what it was.
    fn place_of(&self, said: Said) -> Said {
        let with_source = self.counts.keys().filter(|said| said.source.is_some()).count();
        if self.counts.contains_key(&said) || with_source < WITH_SOURCE_MAX {
            return said;
        }
        let said = Said { source: None, ..said };
        if self.counts.contains_key(&said) || self.counts.len() < COUNTS_MAX {
            return said;
        }
        Said { target: None, ..said }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= HOUR)
    }

    /// The counts, to be told; the next hour begins.
    fn take(&mut self) -> BTreeMap<Said, Times> {
        mem::take(self).counts
    }
}

/// The refusals of strangers at a hub.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<Counted>>);

impl Refusals {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down that somebody whom nobody knows was refused, or counts it. `target` is one of few.
    pub(crate) fn note(
        &self,
        tx: &mut Tx<'_>,
        from: Option<IpAddr>,
        what: What,
        target: &Json,
    ) -> Result<(), StoreError> {
        let said = Said { what, source: Some(source_name(from)), target: Some(target.to_string()) };
        match self.counted().is_told(said, tx.now_ms, Instant::now()) {
            true => tx.audit(&Actor::at("nobody", from), what, target),
            false => Ok(()),
        }
    }

    /// Tells what was counted, each time an hour is over; until the hub ends.
    pub(crate) async fn tell_hourly(hub: Hub, mut ending: watch::Receiver<bool>) {
        while timeout(GLANCE, ending.wait_for(|is_ending| *is_ending)).await.is_err() {
            if hub.refusals().counted().is_over(Instant::now()) {
                Refusals::tell(&hub).await;
            }
        }
    }

    /// Writes down what was counted. If that fails it is counted on.
    pub(crate) async fn tell(hub: &Hub) {
        let counts = hub.refusals().counted().take();
        if counts.is_empty() {
            return;
        }
        let told = counts.clone();
        let written = hub.write(move |tx| told.iter().try_for_each(|(said, times)| write(tx, said, *times))).await;
        if let Err(error) = written {
            tracing::error!(%error, "the count of refusals cannot be written down");
            let mut counted = hub.refusals().counted();
            counted.since.get_or_insert_with(Instant::now);
            counts.into_iter().for_each(|(said, times)| counted.count(said, times));
        }
    }
}

fn write(tx: &mut Tx<'_>, said: &Said, Times { times, first_ms, last_ms }: Times) -> Result<(), StoreError> {
    let mut target: Map<String, Json> =
        said.target.as_ref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    target.extend([
        ("times".to_owned(), json!(times)),
        ("since".to_owned(), json!(rfc3339(first_ms))),
        ("until".to_owned(), json!(rfc3339(last_ms))),
    ]);
    let source = said.source.clone().unwrap_or_else(|| "several".to_owned());
    tx.audit(&Actor { who: "nobody".to_owned(), source }, said.what, &Json::Object(target))
}

/// A source as a count names it.
fn source_name(from: Option<IpAddr>) -> String {
    match from.map(source) {
        Some(IpAddr::V6(prefix)) => format!("{prefix}/64"),
        source => Actor::at("nobody", source).source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_790_000_000_000;
    const KINDS: usize = 2;

    fn code(from: &str) -> Said {
        let target = Some(json!({ "why": "this code is not known" }).to_string());
        Said { what: What::EnrolRefused, source: Some(source_name(Some(from.parse().unwrap()))), target }
    }

    fn login(from: &str, account: &str) -> Said {
        Said { what: What::LoginRefused, target: Some(json!({ "account": account }).to_string()), ..code(from) }
    }

    /// Has all these refused, a second apart. Gives how many entries of their own that made, and the counts.
    fn refuse(all: impl Iterator<Item = Said>, now: Instant) -> (u32, BTreeMap<Said, Times>) {
        let mut counted = Counted::default();
        let own = (0..).zip(all).filter(|(n, said)| counted.is_told(said.clone(), NOW_MS + n * 1_000, now)).count();
        assert!(counted.counts.len() <= COUNTS_MAX + KINDS);
        (u32::try_from(own).unwrap(), counted.take())
    }

    fn times(counts: &BTreeMap<Said, Times>) -> u64 {
        counts.values().map(|times| times.times).sum()
    }

    #[test]
    fn one_who_guesses_is_five_entries_and_a_count() {
        let (own, counts) = refuse((0..10_000).map(|_| code("192.0.2.1")), Instant::now());
        assert_eq!(own, OWN_OF_SAME_MAX);
        let last_ms = NOW_MS + 9_999_000;
        let times = Times { times: 9_995, first_ms: NOW_MS + 5_000, last_ms };
        assert_eq!(counts, BTreeMap::from([(code("192.0.2.1"), times)]));
    }

    #[test]
    fn a_machine_with_many_addresses_is_one_source() {
        let (own, counts) = refuse((0..1_000).map(|n| code(&format!("2001:db8::{n}"))), Instant::now());
        assert_eq!((own, counts.len(), times(&counts)), (OWN_OF_SAME_MAX, 1, 995));
        assert_eq!(counts.keys().next().unwrap().source.as_deref(), Some("2001:db8::/64"));
    }

    #[test]
    fn however_many_guess_it_is_a_bounded_number_of_entries_and_none_is_forgotten() {
        let all = (0..20_000).map(|n| match n % 2 {
            0 => code(&format!("10.1.{}.{}", n / 250 % 250, n % 250)),
            _ => login(&format!("10.2.{}.{}", n / 250 % 250, n % 250), &format!("account{}", n % 300)),
        });
        let (own, counts) = refuse(all, Instant::now());
        assert_eq!(u64::from(own) + times(&counts), 20_000);
        assert_eq!((own, counts.len()), (OWN_MAX, COUNTS_MAX + 1), "all codes from everywhere are one of them");
        assert_eq!(counts.keys().filter(|said| said.source.is_some()).count(), WITH_SOURCE_MAX);
        let several = counts.keys().filter(|said| said.source.is_none() && said.target.is_some());
        assert_eq!(several.count(), COUNTS_MAX - WITH_SOURCE_MAX, "of accounts it is known that they were guessed at");
    }

    #[test]
    fn the_next_hour_has_entries_of_its_own() {
        let (mut counted, now) = (Counted::default(), Instant::now());
        let from = |n: u32| code(&format!("192.0.2.{n}"));
        assert!(!counted.is_over(now + HOUR), "nobody came");
        for n in 0..OWN_MAX {
            assert!(counted.is_told(from(n), NOW_MS, now));
        }
        assert!(!counted.is_told(from(200), NOW_MS, now) && !counted.is_over(now + HOUR - GLANCE));
        assert!(counted.is_over(now + HOUR));
        assert_eq!(counted.take().len(), 1);
        assert!(counted.is_told(from(200), NOW_MS, now + HOUR) && !counted.is_over(now + HOUR));
    }
}
