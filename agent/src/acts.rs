//! Acts: what somebody did at this gateway, or the gateway by itself, that decides about who gets in. The hub keeps them in its
//! audit; here is what one is.
//!
//! An act holds ids, names and counts, and never a code, a key, or a value of a record. It has a name that nothing else has, by
//! which the hub knows one that it has already: numbers are not enough, because a card that was copied or put back gives them
//! again.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use sync_protocol::clock::TimeQuality;

use crate::clock::{Moment, unix_ms};
use crate::error::Error;

/// Longest text of who did something, bytes; what is longer is cut.
pub const WHO_BYTES_MAX: usize = 100;
/// Longest text of what something was done on, bytes. A hub takes no more.
pub const ON_BYTES_MAX: usize = 1_024;
/// Letters of the name of an act.
const NAME_DIGITS: usize = 16;

/// What can be done. The names stay as they are: they are looked for years later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// A pairing code was shown.
    InviteApp,
    /// An app used a code, and comes in from now on.
    PairApp,
    /// An app comes in no more.
    RevokeApp,
    /// Something more opens the database.
    AddKeySlot,
    /// Something else opens the database, in the place of another of its kind.
    ReplaceKeySlot,
    /// Something opens the database no more.
    RemoveKeySlot,
    /// The database was opened with the recovery key, and a slot made.
    RecoverKey,
    /// The database is encrypted.
    Encrypt,
    /// The database can be read by anybody.
    Decrypt,
    /// Another key for the database was asked for.
    RenewKey,
    /// Of two keys this one stayed.
    KeyInForce,
    /// The hub was given a copy of the key.
    DepositKey,
    /// The gateway joined a hub.
    Enrol,
    /// A broken database was set aside, and a new one begun.
    SetAside,
}

impl Deed {
    /// Its name in the audit.
    pub fn name(self) -> &'static str {
        match self {
            Deed::InviteApp => "invite-app",
            Deed::PairApp => "pair-app",
            Deed::RevokeApp => "revoke-app",
            Deed::AddKeySlot => "add-key-slot",
            Deed::ReplaceKeySlot => "replace-key-slot",
            Deed::RemoveKeySlot => "remove-key-slot",
            Deed::RecoverKey => "recover-key",
            Deed::Encrypt => "encrypt",
            Deed::Decrypt => "decrypt",
            Deed::RenewKey => "renew-key",
            Deed::KeyInForce => "key-in-force",
            Deed::DepositKey => "deposit-key",
            Deed::Enrol => "enrol",
            Deed::SetAside => "set-aside",
        }
    }
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who(String);

impl Who {
    /// The gateway by itself.
    pub fn gateway() -> Who {
        Who("gateway".to_owned())
    }

    /// Somebody at the page of the gateway.
    pub fn page() -> Who {
        Who("page".to_owned())
    }

    /// A program of this machine that does not say for whom it asks.
    pub fn machine() -> Who {
        Who("machine".to_owned())
    }

    /// An app of the clinic's network.
    pub fn app(name: &str) -> Who {
        Who(cut(&format!("app:{name}")))
    }

    /// Whoever types a command on this machine: the user, and behind `sudo` the one who called it.
    pub fn at_the_keyboard() -> Who {
        let user = rustix::process::getuid().as_raw();
        let caller = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse::<u32>().ok());
        Who(match caller.filter(|caller| *caller != user) {
            Some(caller) => format!("cli:{user} for {caller}"),
            None => format!("cli:{user}"),
        })
    }

    /// Who a command of this machine says it is typed by. Whoever is on the machine is believed; what has another form is the
    /// machine.
    pub fn said(text: &str) -> Who {
        let is_number = |text: &str| text.parse::<u32>().is_ok_and(|n| n.to_string() == text);
        let is_fine = text.strip_prefix("cli:").is_some_and(|users| match users.split_once(" for ") {
            Some((user, caller)) => is_number(user) && is_number(caller),
            None => is_number(users),
        });
        if is_fine { Who(text.to_owned()) } else { Who::machine() }
    }

    /// As it is kept and sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn cut(text: &str) -> String {
    let end = (0..=WHO_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// Sixteen hex digits at random.
    pub name: String,
    /// When, milliseconds since 1970, as well as that was known.
    pub at_ms: i64,
    /// How good that is.
    pub time: TimeQuality,
    /// Who did it.
    pub who: String,
    /// What it was: the name of a [`Deed`], or of one that an older version of this program knew.
    pub what: String,
    /// On what: ids, names and counts.
    pub on: Json,
}

impl Act {
    /// What is done now.
    ///
    /// # Errors
    /// [`Error::Io`] if the system has no random bytes.
    pub fn new(deed: Deed, who: &Who, now: Moment, on: Json) -> Result<Act, Error> {
        Act::at(deed, who, (now.now_ms, now.quality), on)
    }

    /// What is done now by a command, which knows no time but the one that the box has.
    ///
    /// # Errors
    /// [`Error::Io`] if the system has no random bytes.
    pub fn by_the_box(deed: Deed, who: &Who, on: Json) -> Result<Act, Error> {
        Act::at(deed, who, (unix_ms(), TimeQuality::Unknown), on)
    }

    fn at(deed: Deed, who: &Who, (at_ms, time): (i64, TimeQuality), on: Json) -> Result<Act, Error> {
        let mut random = [0; NAME_DIGITS / 2];
        getrandom::fill(&mut random).map_err(std::io::Error::from)?;
        let name = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Act { name, at_ms, time, who: who.as_str().to_owned(), what: deed.name().to_owned(), on: short(on) })
    }
}

/// With counts in the place of lists if they are long: one act that the hub does not take would be in the way of all later ones.
fn short(on: Json) -> Json {
    let fits = |on: &Json| on.to_string().len() <= ON_BYTES_MAX;
    let Json::Object(mut members) = on else { return json!({}) };
    if fits(&Json::from(members.clone())) {
        return Json::Object(members);
    }
    for value in members.values_mut() {
        if let Json::Array(list) = value {
            *value = Json::from(list.len());
        }
    }
    let shorter = Json::Object(members);
    if fits(&shorter) { shorter } else { json!({ "too_long": true }) }
}

/// An act with what the gateway calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAct {
    /// Its number, which rises.
    pub number: u64,
    /// What was done.
    pub act: Act,
    /// Whether the hub has it.
    pub is_told: bool,
}

/// All that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acts {
    /// The oldest first.
    pub acts: Vec<KeptAct>,
    /// How many were dropped before the hub heard of them, in all.
    pub dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_believed_in_one_form_only() {
        assert_eq!(Who::said(Who::at_the_keyboard().as_str()), Who::at_the_keyboard());
        for fine in ["cli:0", "cli:1000", "cli:0 for 1000"] {
            assert_eq!(Who::said(fine).as_str(), fine);
        }
        for other in
            ["", "cli:", "cli:x", "cli:-1", "cli:+1", "cli:01", "account:asha", "cli:0 for", "cli:0 for 1 for 2"]
        {
            assert_eq!(Who::said(other), Who::machine(), "{other}");
        }
    }

    #[test]
    fn a_long_name_is_cut_between_letters() {
        assert_eq!(Who::app(&"é".repeat(64)).as_str().len(), WHO_BYTES_MAX);
        assert_eq!(Who::app("tablet 1").as_str(), "app:tablet 1");
    }

    #[test]
    fn no_act_is_longer_than_a_hub_takes() {
        let on = |on: Json| Act::by_the_box(Deed::InviteApp, &Who::page(), on).unwrap().on;
        assert_eq!(on(json!({ "app": "a", "reads": ["visit"] })), json!({ "app": "a", "reads": ["visit"] }));
        let types: Vec<String> = (0..200).map(|n| format!("type-{n}")).collect();
        assert_eq!(on(json!({ "app": "a", "reads": types })), json!({ "app": "a", "reads": 200 }));
        assert_eq!(on(json!({ "app": "a".repeat(2_000) })), json!({ "too_long": true }));
        assert_eq!(on(Json::Null), json!({}));
    }

    #[test]
    fn no_two_acts_have_one_name() {
        let act = || Act::by_the_box(Deed::RevokeApp, &Who::page(), Json::Null).unwrap();
        let (one, other) = (act(), act());
        assert!(one.name.len() == NAME_DIGITS && one.name != other.name);
    }
}
