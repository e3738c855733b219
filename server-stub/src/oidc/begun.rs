//! Logins that were begun and have not ended: each belongs to one browser, which has a secret in a cookie.
//!
//! Kept in memory: a login that was under way when the hub was started again is begun anew. What the provider is shown (state,
//! nonce, the proof of RFC 7636) is made from the secret, so nothing of it is kept.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ring::hmac;

use crate::secret::{Sha256, hex};
use crate::sources::source;

/// How long a person may take at the provider.
pub(super) const LASTS: Duration = Duration::from_secs(10 * 60);
/// People at the provider; of one more the oldest is forgotten.
const ALL_MAX: usize = 2_000;
/// Those of one source: a clinic behind one address is one.
const OF_ONE_MAX: usize = 100;

/// Where a login is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// The person is at the provider.
    Away,
    /// He proved who he is, and his account wants a code of its second factor. One for each account, the newest; who is still
    /// away pushes none out.
    Code { account: i64, subject: String },
}

#[derive(Debug)]
struct Login {
    since: Instant,
    source: Option<IpAddr>,
    stage: Stage,
}

/// All logins under way, by the hash of the secret.
#[derive(Debug, Default)]
pub(super) struct Begun(BTreeMap<Sha256, Login>);

impl Begun {
    /// Notes a login.
    pub(super) fn add(&mut self, hash: Sha256, from: Option<IpAddr>, stage: Stage, now: Instant) {
        self.0.retain(|_, login| now.saturating_duration_since(login.since) < LASTS);
        let source = from.map(source);
        match &stage {
            Stage::Away => {
                self.make_room(OF_ONE_MAX, |login| source.is_some() && login.source == source);
                self.make_room(ALL_MAX, |_| true);
            }
            Stage::Code { account, .. } => {
                self.0.retain(|_, login| !matches!(&login.stage, Stage::Code { account: of, .. } if of == account));
            }
        }
        self.0.insert(hash, Login { since: now, source, stage });
    }

    /// Forgets the oldest of those who are away and meant, if there are as many as may be.
    fn make_room(&mut self, max: usize, is_meant: impl Fn(&Login) -> bool) {
        let meant = || self.0.iter().filter(|(_, login)| login.stage == Stage::Away && is_meant(login));
        if meant().count() >= max {
            if let Some(hash) = meant().min_by_key(|(_, login)| login.since).map(|(hash, _)| *hash) {
                self.0.remove(&hash);
            }
        }
    }

    /// Takes a login that is where it is wanted: nobody can take it a second time.
    pub(super) fn take(&mut self, hash: &Sha256, is_wanted: impl Fn(&Stage) -> bool, now: Instant) -> Option<Stage> {
        if !self.0.get(hash).is_some_and(|login| is_wanted(&login.stage)) {
            return None;
        }
        let login = self.0.remove(hash)?;
        (now.saturating_duration_since(login.since) < LASTS).then_some(login.stage)
    }
}

/// What the provider is shown for one purpose: 256 bits in hex digits, from which neither the secret nor another is found.
pub(super) fn derived(secret: &str, purpose: &str) -> String {
    hex(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), purpose.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: usize) -> Sha256 {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_be_bytes());
        hash
    }

    fn of(n: usize) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, (n / 250) as u8, (n % 250) as u8]))
    }

    fn take(begun: &mut Begun, n: usize, now: Instant) -> Option<Stage> {
        begun.take(&hash(n), |_| true, now)
    }

    #[test]
    fn a_login_is_taken_once_and_in_time() {
        let (mut begun, now) = (Begun::default(), Instant::now());
        begun.add(hash(1), of(1), Stage::Away, now);
        assert_eq!(take(&mut begun, 2, now), None);
        assert_eq!(begun.take(&hash(1), |stage| *stage != Stage::Away, now), None, "and where it is");
        assert_eq!(take(&mut begun, 1, now), Some(Stage::Away));
        assert_eq!(take(&mut begun, 1, now), None);
        begun.add(hash(1), of(1), Stage::Away, now);
        assert_eq!(take(&mut begun, 1, now + LASTS), None);
    }

    #[test]
    fn one_source_pushes_out_its_own_and_all_together_are_bounded() {
        let (mut begun, now) = (Begun::default(), Instant::now());
        begun.add(hash(0), of(0), Stage::Away, now);
        for n in 1..=OF_ONE_MAX + 1 {
            begun.add(hash(n), of(1), Stage::Away, now + Duration::from_millis(n as u64));
        }
        let later = now + Duration::from_secs(30);
        assert_eq!(begun.0.len(), OF_ONE_MAX + 1);
        assert_eq!(take(&mut begun, 1, later), None);
        assert_eq!(take(&mut begun, 0, later), Some(Stage::Away), "another's is not touched");
        for n in 100..100 + ALL_MAX {
            begun.add(hash(n), of(n), Stage::Away, later);
        }
        assert_eq!(begun.0.len(), ALL_MAX);
        begun.add(hash(1), of(1), Stage::Away, later + LASTS);
        assert_eq!(begun.0.len(), 1, "what is over is forgotten");
    }

    #[test]
    fn who_types_a_code_is_pushed_out_by_nobody_but_himself() {
        let (mut begun, now) = (Begun::default(), Instant::now());
        let code = |account: i64| Stage::Code { account, subject: "s".to_owned() };
        for n in 1..=3 {
            begun.add(hash(n), of(1), code(n as i64), now);
        }
        let later = now + Duration::from_secs(1);
        for n in 100..=100 + OF_ONE_MAX {
            begun.add(hash(n), of(1), Stage::Away, later);
        }
        for n in 10_000..=10_000 + ALL_MAX {
            begun.add(hash(n), of(n), Stage::Away, later);
        }
        assert_eq!(begun.0.len(), ALL_MAX + 3);
        assert_eq!(take(&mut begun, 1, later), Some(code(1)));
        begun.add(hash(4), of(2), code(2), later);
        assert_eq!(
            (take(&mut begun, 2, later), take(&mut begun, 4, later)),
            (None, Some(code(2))),
            "one of each account"
        );
        assert_eq!(take(&mut begun, 3, later), Some(code(3)));
    }

    #[test]
    fn what_is_shown_for_one_purpose_tells_nothing_of_another() {
        let [state, nonce, other] = [("s", "state"), ("s", "nonce"), ("t", "state")].map(|(s, p)| derived(s, p));
        assert!(state.len() == 64 && state != nonce && state != other);
    }
}
