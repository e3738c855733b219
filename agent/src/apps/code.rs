//! Pairing codes that are open: in memory only, by a clock that only counts.

use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::grant::Grant;
use super::secret::{Fingerprint, meant, new_code};
use crate::error::Error;

/// How long a code is good.
pub const CODE_LIFE: Duration = Duration::from_secs(600);
/// Codes that are open at once; the oldest goes for a new one.
const OPEN_MAX: usize = 16;

/// What somebody who has the code is let in for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(super) name: String,
    pub(super) grant: Grant,
    pub(super) days: u32,
    code: Fingerprint,
    until: Instant,
}

/// The codes that are open.
#[derive(Debug, Default)]
pub(super) struct Codes(Vec<Offer>);

impl Codes {
    /// Opens a code. Another one for the same name is closed.
    pub(super) fn open(
        &mut self,
        name: String,
        grant: Grant,
        days: u32,
        now: Instant,
    ) -> Result<Zeroizing<String>, Error> {
        let code = new_code()?;
        self.0.retain(|offer| offer.name != name && now < offer.until);
        if self.0.len() >= OPEN_MAX {
            self.0.remove(0);
        }
        self.put_back(Offer {
            name,
            grant,
            days,
            code: Fingerprint::of(meant(&code).as_bytes()),
            until: now + CODE_LIFE,
        });
        Ok(code)
    }

    /// Takes what a code is good for; it is closed then.
    pub(super) fn take(&mut self, typed: &str, now: Instant) -> Option<Offer> {
        self.0.retain(|offer| now < offer.until);
        let code = Fingerprint::of(meant(typed).as_bytes());
        let at = self.0.iter().position(|offer| offer.code.is(&code))?;
        Some(self.0.remove(at))
    }

    /// Opens again what was taken in vain.
    pub(super) fn put_back(&mut self, offer: Offer) {
        self.0.push(offer);
    }

    /// Closes the code for a name.
    pub(super) fn close(&mut self, name: &str) {
        self.0.retain(|offer| offer.name != name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once_and_for_ten_minutes() {
        let (mut codes, now) = (Codes::default(), Instant::now());
        let code = codes.open("tablet".to_owned(), Grant::ALL, 365, now).unwrap();
        assert_eq!(codes.take("0000-0000", now), None);
        assert_eq!(codes.take(&code, now + CODE_LIFE), None, "expired");
        let code = codes.open("tablet".to_owned(), Grant::ALL, 365, now).unwrap();
        let late = now + CODE_LIFE - Duration::from_millis(1);
        assert_eq!(codes.take(&code.to_lowercase(), late).unwrap().name, "tablet");
        assert_eq!(codes.take(&code, late), None, "replayed");
    }

    #[test]
    fn a_new_code_for_a_name_closes_the_one_before() {
        let (mut codes, now) = (Codes::default(), Instant::now());
        let first = codes.open("tablet".to_owned(), Grant::ALL, 365, now).unwrap();
        let second = codes.open("tablet".to_owned(), Grant::ALL, 365, now).unwrap();
        assert_eq!(codes.take(&first, now), None);
        assert!(codes.take(&second, now).is_some());
    }

    #[test]
    fn there_are_never_more_than_a_few() {
        let (mut codes, now) = (Codes::default(), Instant::now());
        let first = codes.open("0".to_owned(), Grant::ALL, 1, now).unwrap();
        for n in 1..=OPEN_MAX {
            codes.open(n.to_string(), Grant::ALL, 1, now).unwrap();
        }
        assert_eq!((codes.0.len(), codes.take(&first, now)), (OPEN_MAX, None));
    }
}
