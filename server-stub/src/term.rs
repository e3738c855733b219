//! Until when gateways take a certificate that was given to the hub as a file, and telling people in good time.
//!
//! The hub renews what it made itself. What came from elsewhere ends on a day that nobody thinks of, and then no gateway can
//! sync; so it is said in the log once a day, on the status page, in the admin API and by a command.

use std::convert::Infallible;
use std::future::pending;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;

use crate::clock::{now_ms, rfc3339};
use crate::config::{Config, Tls};
use crate::error::{HubError, StoreError};
use crate::given::Given;
use crate::hub::Hub;
use crate::pki::host;
use crate::store::Tx;

const DAY_MS: i64 = 86_400_000;
/// From when on it is said that it ends...
const SOON_DAYS: i64 = 30;
/// ...and from when on that it is late.
const LATE_DAYS: i64 = 7;
const REMIND_EVERY: Duration = Duration::from_secs(24 * 3_600);
/// The last second that a certificate can name.
const FOREVER_SECONDS: u64 = 253_402_300_799;

/// How much it presses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Urgency {
    /// Nothing is to be done.
    None,
    /// The next one should be asked for.
    Soon,
    /// In a few days no gateway syncs any more, or already now.
    Now,
}

/// What is known of the certificate that the hub was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Term {
    /// Where it is.
    pub(crate) file: PathBuf,
    /// Until when gateways take it, milliseconds since 1970; absent if they do not take it now.
    pub(crate) ends_ms: Option<i64>,
    /// The same for people.
    pub(crate) ends_at: String,
    pub(crate) urgency: Urgency,
    /// What is wrong, and what to do; empty if nothing is.
    pub(crate) warning: String,
}

/// The certificate of the configuration, as it is in its files now; `None` if the hub makes its own. `address` is what gateways
/// know the hub by.
pub(crate) fn of(config: &Config, address: &str, now_ms: i64) -> Option<Term> {
    let file = config.certificate_file.clone();
    let is_given = config.tls == Tls::Own && !file.as_os_str().is_empty();
    is_given.then(|| match Given::open(config, host(address)) {
        Ok(given) => good_until(file, given.and_then(|given| given.ends_ms()).unwrap_or(i64::MAX), now_ms),
        Err(error) => unusable(file, &error),
    })
}

fn good_until(file: PathBuf, ends_ms: i64, now_ms: i64) -> Term {
    let days = ends_ms.saturating_sub(now_ms).div_euclid(DAY_MS);
    let urgency = match days {
        _ if days >= SOON_DAYS => Urgency::None,
        _ if days >= LATE_DAYS => Urgency::Soon,
        _ => Urgency::Now,
    };
    let ends_at = rfc3339(ends_ms);
    let when = match days {
        0 => format!("today, at {ends_at}"),
        1 => format!("tomorrow, at {ends_at}"),
        _ => format!("in {days} days, at {ends_at}"),
    };
    let warning = match urgency {
        Urgency::None => String::new(),
        Urgency::Soon | Urgency::Now => format!(
            "the certificate in {} ends {when}; from then on no gateway can sync. Get the next one from who made it, for the same \
             name and of the same authority, and put it and its key in the place of these files: they are shown within a minute",
            file.display()
        ),
    };
    Term { file, ends_ms: Some(ends_ms), ends_at, urgency, warning }
}

fn unusable(file: PathBuf, error: &HubError) -> Term {
    let warning = format!(
        "the certificate that the hub was given cannot be used: {error}. Put one in its place that gateways take; what was shown \
         before is shown until the hub is started again or it ends"
    );
    Term { file, ends_ms: None, ends_at: String::new(), urgency: Urgency::Now, warning }
}

/// The last second in which something is taken that is taken now, seconds since 1970.
pub(crate) fn last_second(now: u64, is_taken: impl Fn(u64) -> bool) -> u64 {
    let (mut taken, mut refused) = (now, FOREVER_SECONDS);
    if is_taken(refused) {
        return refused;
    }
    // Whoever looks at a chain says of what ended that it has ended, and not always when.
    while refused.saturating_sub(taken) > 1 {
        let middle = taken + (refused - taken) / 2;
        match is_taken(middle) {
            true => taken = middle,
            false => refused = middle,
        }
    }
    taken
}

impl Hub {
    /// What is known of the certificate that it was given, if it was given one.
    pub(crate) async fn term(&self) -> Result<Option<Term>, StoreError> {
        let config = self.config().clone();
        if config.certificate_file.as_os_str().is_empty() {
            return Ok(None);
        }
        self.read(move |tx| term_of(tx, &config)).await
    }
}

/// The same for who looks at the database anyway.
pub(crate) fn term_of(tx: &mut Tx<'_>, config: &Config) -> Result<Option<Term>, StoreError> {
    let address = tx.authority()?.map(|kept| kept.address).unwrap_or_default();
    Ok(of(config, &address, now_ms()))
}

/// Says once a day that the certificate ends, for as long as it is polled.
pub(crate) async fn remind(hub: &Hub) -> Infallible {
    if hub.config().certificate_file.as_os_str().is_empty() {
        return pending().await;
    }
    loop {
        if let Ok(Some(Term { urgency, warning, .. })) = hub.term().await {
            match urgency {
                Urgency::None => {}
                Urgency::Soon => tracing::warn!("{warning}"),
                Urgency::Now => tracing::error!("{warning}"),
            }
        }
        sleep(REMIND_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_in_good_time_and_louder_in_the_last_week() {
        let now_ms = 1_790_000_000_000;
        let at = |days: i64| good_until("chain.pem".into(), now_ms + days * DAY_MS + 1_000, now_ms);
        for (days, urgency) in [(400, Urgency::None), (30, Urgency::None), (29, Urgency::Soon), (7, Urgency::Soon)] {
            assert_eq!(at(days).urgency, urgency, "{days}");
        }
        for days in [6, 1, 0, -1] {
            assert_eq!(at(days).urgency, Urgency::Now, "{days}");
        }
        assert_eq!(at(30).warning, "");
        let told = at(12).warning;
        assert!(
            told.contains("chain.pem ends in 12 days, at 2026-10-0") && told.contains("Get the next one"),
            "{told}"
        );
        assert!(at(1).warning.contains("ends tomorrow") && at(0).warning.contains("ends today"));
    }

    #[test]
    fn the_last_second_is_found() {
        for end in [1_800_000_000, 1_790_000_000, FOREVER_SECONDS - 1, FOREVER_SECONDS] {
            assert_eq!(last_second(1_790_000_000, |at| at <= end), end);
        }
    }
}
