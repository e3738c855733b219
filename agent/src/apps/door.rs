//! Who is let in: the apps that are paired, the codes that are open, and those who guess. What is here is what counts; the
//! rows in the store are what it is made from at the next start.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sync_protocol::id::RecordType;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use zeroize::Zeroizing;

use super::code::{Codes, Offer};
use super::grant::{Access, Grant};
use super::secret::{Fingerprint, Token};
use super::tries::Tries;
use crate::clock::Bounds;
use crate::error::Error;

const DAY_MS: i64 = 86_400_000;

/// An app that was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairedApp {
    /// What people call it; no two have the same name.
    pub name: String,
    /// What is kept of its token.
    pub token: Fingerprint,
    /// What it may do.
    pub grant: Grant,
    /// When it was paired, as well as that was known; milliseconds since 1970.
    pub paired_ms: i64,
    /// How long it may come in.
    pub days: u32,
    /// When that ends; 0 if it has not begun, because the time has not been known since it was paired.
    pub expires_ms: i64,
    /// When it was last here, to the day; 0 if never.
    pub used_ms: i64,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The token or the code is not one, or not any more.
    Wrong,
    /// Too many wrong ones came from there.
    Slowed,
}

/// The door. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Door {
    inside: Arc<Mutex<Inside>>,
    turn: Arc<AsyncMutex<()>>,
}

#[derive(Debug, Default)]
struct Inside {
    apps: Vec<PairedApp>,
    codes: Codes,
    wrong_codes: Tries,
    wrong_tokens: Tries,
}

impl PairedApp {
    /// A new one, at a time that may be a guess.
    pub(crate) fn new(offer: &Offer, token: &Token, now: Bounds) -> PairedApp {
        let mut app = PairedApp {
            name: offer.name.clone(),
            token: token.fingerprint(),
            grant: offer.grant.clone(),
            paired_ms: now.likely_ms,
            days: offer.days,
            expires_ms: 0,
            used_ms: 0,
        };
        app.begin(now);
        app
    }

    /// Whether its time is over, for certain.
    pub fn is_over(&self, now: Bounds) -> bool {
        self.expires_ms != 0 && self.expires_ms <= now.floor_ms
    }

    /// Its time begins when it is known what time it is.
    fn begin(&mut self, now: Bounds) -> bool {
        let begins = self.expires_ms == 0 && !now.is_guess;
        if begins {
            self.expires_ms = now.likely_ms.saturating_add(i64::from(self.days).saturating_mul(DAY_MS));
        }
        begins
    }
}

impl Door {
    /// A door for those who were paired before.
    pub fn new(apps: Vec<PairedApp>) -> Door {
        let inside = Arc::new(Mutex::new(Inside { apps, ..Inside::default() }));
        Door { inside, turn: Arc::default() }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever changes the store and the door together waits for its turn.
    pub(crate) async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Those who are paired.
    pub fn apps(&self) -> Vec<PairedApp> {
        self.inside().apps.clone()
    }

    /// Opens a code.
    ///
    /// # Errors
    /// [`Error::Io`] if the system has no random bytes.
    pub fn open_code(&self, name: String, grant: Grant, days: u32, now: Instant) -> Result<Zeroizing<String>, Error> {
        self.inside().codes.open(name, grant, days, now)
    }

    /// Takes a code, which is closed then, and gives what it is good for with a token for it.
    pub(crate) fn take_code(&self, typed: &str, from: IpAddr, now: Instant) -> Result<Offer, Refused> {
        let mut inside = self.inside();
        if !inside.wrong_codes.may(from, now) {
            return Err(Refused::Slowed);
        }
        let offer = inside.codes.take(typed, now);
        offer.ok_or_else(|| {
            inside.wrong_codes.note(from);
            Refused::Wrong
        })
    }

    /// Opens again what was taken in vain.
    pub(crate) fn put_back(&self, offer: Offer) {
        self.inside().codes.put_back(offer);
    }

    /// Lets in one that is in the store now, in the place of another of its name.
    pub fn add(&self, app: PairedApp) {
        let mut inside = self.inside();
        inside.apps.retain(|known| known.name != app.name);
        inside.apps.push(app);
    }

    /// Lets one in no more, and closes the code that is open for it.
    pub fn remove(&self, name: &str) {
        let mut inside = self.inside();
        inside.apps.retain(|known| known.name != name);
        inside.codes.close(name);
    }

    /// Who shows this token. Guessing is slowed; who has a token never is.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn admit(&self, token: &str, from: IpAddr, now: Instant, time: Bounds) -> Result<Fingerprint, Refused> {
        let shown = Fingerprint::of(token.as_bytes());
        let mut inside = self.inside();
        // All are compared, so that the time says nothing about which it was.
        let found = inside.apps.iter().filter(|app| app.token.is(&shown)).fold(None, |_, app| Some(app));
        if found.is_some_and(|app| !app.is_over(time)) {
            return Ok(shown);
        }
        // Who shows nothing does not guess.
        if token.is_empty() {
            return Err(Refused::Wrong);
        }
        if !inside.wrong_tokens.may(from, now) {
            return Err(Refused::Slowed);
        }
        inside.wrong_tokens.note(from);
        Err(Refused::Wrong)
    }

    /// Whether the app with this token may do this; `None` if it is not let in any more.
    pub fn may(&self, token: &Fingerprint, access: Access, record_type: &RecordType, time: Bounds) -> Option<bool> {
        let inside = self.inside();
        let app = inside.apps.iter().find(|app| app.token.is(token) && !app.is_over(time))?;
        Some(app.grant.allows(access, record_type))
    }

    /// The app with this token; `None` if it is not let in any more.
    pub fn app(&self, token: &Fingerprint, time: Bounds) -> Option<PairedApp> {
        let inside = self.inside();
        inside.apps.iter().find(|app| app.token.is(token) && !app.is_over(time)).cloned()
    }

    /// Notes that an app was here; gives it if that is to be written down, which is once a day.
    pub fn note_use(&self, token: &Fingerprint, time: Bounds) -> Option<PairedApp> {
        let mut inside = self.inside();
        let app = inside.apps.iter_mut().find(|app| app.token.is(token))?;
        let is_new_day = app.used_ms / DAY_MS != time.likely_ms / DAY_MS;
        app.used_ms = time.likely_ms;
        (app.begin(time) || is_new_day).then(|| app.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::grant::Types;
    use super::super::tries::OF_ONE_MAX;
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;
    const KNOWN: Bounds = at(NOW_MS);

    fn tablet(door: &Door, time: Bounds) -> Token {
        let now = Instant::now();
        let grant = Grant { reads: Types::All, writes: Types::parse(["visit"]).unwrap() };
        let code = door.open_code("tablet".to_owned(), grant, 365, now).unwrap();
        let offer = door.take_code(&code, here(), now).unwrap();
        let token = Token::make().unwrap();
        door.add(PairedApp::new(&offer, &token, time));
        token
    }

    fn here() -> IpAddr {
        "192.168.4.7".parse().unwrap()
    }

    const fn at(ms: i64) -> Bounds {
        Bounds { likely_ms: ms, floor_ms: ms, earliest_ms: ms, is_guess: false }
    }

    fn guess(likely_ms: i64, floor_ms: i64) -> Bounds {
        Bounds { likely_ms, is_guess: true, ..at(floor_ms) }
    }

    #[test]
    fn a_token_opens_until_it_is_revoked_or_replaced() {
        let door = Door::default();
        let first = tablet(&door, KNOWN);
        let admit = |token: &Token| door.admit(token.as_str(), here(), Instant::now(), KNOWN);
        let id = admit(&first).unwrap();
        let visit = RecordType::new("visit").unwrap();
        let patient = RecordType::new("patient").unwrap();
        assert_eq!(door.may(&id, Access::Write, &visit, KNOWN), Some(true));
        assert_eq!(door.may(&id, Access::Write, &patient, KNOWN), Some(false));
        let second = tablet(&door, KNOWN);
        assert_eq!((admit(&first), door.may(&id, Access::Read, &visit, KNOWN)), (Err(Refused::Wrong), None));
        let id = admit(&second).unwrap();
        door.remove("tablet");
        assert_eq!((admit(&second), door.may(&id, Access::Read, &visit, KNOWN)), (Err(Refused::Wrong), None));
    }

    #[test]
    fn guessing_is_slowed_but_never_who_has_a_token() {
        let door = Door::default();
        let (token, now) = (tablet(&door, KNOWN), Instant::now());
        for _ in 0..OF_ONE_MAX {
            assert_eq!(door.admit("opa_guess", here(), now, KNOWN), Err(Refused::Wrong));
            assert_eq!(door.take_code("AAAA-AAAA", here(), now).unwrap_err(), Refused::Wrong);
        }
        assert_eq!(door.admit("opa_guess", here(), now, KNOWN), Err(Refused::Slowed));
        assert!(door.admit(token.as_str(), here(), now, KNOWN).is_ok());
        let code = door.open_code("other".to_owned(), Grant::ALL, 1, now).unwrap();
        assert_eq!(door.take_code(&code, here(), now).unwrap_err(), Refused::Slowed, "also with the right one");
        assert!(door.take_code(&code, "192.168.4.8".parse().unwrap(), now).is_ok(), "it was not used up");
    }

    #[test]
    fn a_year_is_over_after_a_year_and_not_because_a_box_woke_up_in_another() {
        let door = Door::default();
        let token = tablet(&door, KNOWN);
        let admit = |time| door.admit(token.as_str(), here(), Instant::now(), time);
        let end = NOW_MS + 365 * DAY_MS;
        assert!(admit(at(end - 1)).is_ok() && admit(at(end)).is_err());
        assert!(admit(guess(end * 2, NOW_MS)).is_ok(), "2038");
        assert!(admit(at(0)).is_ok(), "1970");
    }

    #[test]
    fn the_year_of_an_app_that_was_paired_at_no_known_time_begins_when_one_is_known() {
        let door = Door::default();
        let token = tablet(&door, guess(1_000, 1_000));
        let id = door.admit(token.as_str(), here(), Instant::now(), KNOWN).unwrap();
        assert_eq!(door.apps()[0].expires_ms, 0);
        let written = door.note_use(&id, KNOWN).unwrap();
        assert_eq!((written.expires_ms, written.used_ms), (NOW_MS + 365 * DAY_MS, NOW_MS));
        assert_eq!(door.note_use(&id, at(NOW_MS + 1)), None, "once a day");
        assert!(door.note_use(&id, at(NOW_MS + DAY_MS)).is_some());
    }
}
