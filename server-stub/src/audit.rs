//! What was done at the hub, by whom and on what: entries that are chained by their hashes.
//!
//! Here is what an entry is and how a chain is judged; the table is in `store`. An entry is written in the transaction of what it
//! tells of. It holds ids, names and counts, and never a value of a record.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ring::digest::{Context, SHA256};
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::clock::rfc3339;
use crate::error::HubError;
use crate::secret::{hex, unhex};

const CONTEXT: &[u8] = b"outpost-hub audit v1\0";
/// Findings that are told one by one.
const FINDINGS_MAX: usize = 20;

/// SHA-256 over all entries up to one.
pub(crate) type Hash = [u8; 32];

/// What can be done. The names stay as they are: they are hashed, and looked for years later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum What {
    ListRecords,
    ReadRecord,
    ReadHistory,
    ListConflicts,
    ListQuarantine,
    Export,
    WriteRecord,
    DeleteRecord,
    Settle,
    Release,
    Discard,
    Retry,
    PublishRules,
    AddGateway,
    GiveCode,
    SetScopes,
    Revoke,
    Allow,
    PartTwin,
    ClaimOrigin,
    HandIn,
    BeginEpoch,
    Enrol,
    EnrolRefused,
    RenewCertificate,
    GiveCertificate,
    GiveRecoveryKey,
    FetchKey,
    GatewayAct,
    SetAddress,
    AddAccount,
    ChangeAccount,
    LinkAccount,
    UnlinkAccount,
    GivePasswordCode,
    SetPassword,
    SetSecondFactor,
    AddToken,
    RevokeToken,
    Login,
    LoginRefused,
    Logout,
    Backup,
    BackupFailed,
    Restore,
    RestoreByHand,
    ReadAudit,
    AskErasure,
    WithdrawErasure,
    Erase,
    EraseAgain,
}

impl What {
    /// Its name in the audit.
    pub(crate) fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// Who does something, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Actor {
    pub(crate) who: String,
    pub(crate) source: String,
}

impl Actor {
    /// Somebody at an address; `None` if a proxy did not tell which.
    pub(crate) fn at(who: impl Into<String>, source: Option<IpAddr>) -> Actor {
        let source = source.map_or_else(|| "unknown".to_owned(), |source| source.to_canonical().to_string());
        Actor { who: who.into(), source }
    }

    /// Whoever types a command on this machine: the user, and behind `sudo` the one who called it.
    pub(crate) fn at_the_keyboard() -> Actor {
        let user = rustix::process::getuid().as_raw();
        let caller = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse::<u32>().ok());
        let who = match caller.filter(|caller| *caller != user) {
            Some(caller) => format!("cli:{user} for {caller}"),
            None => format!("cli:{user}"),
        };
        Actor { who, source: "here".to_owned() }
    }

    /// The name of a gateway; empty of everybody else.
    pub(crate) fn gateway_name(&self) -> &str {
        self.who.strip_prefix("gateway:").unwrap_or_default()
    }

    /// The hub by itself.
    pub(crate) fn hub() -> Actor {
        Actor { who: "hub".to_owned(), source: "here".to_owned() }
    }
}

/// One entry as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) at_ms: i64,
    pub(crate) who: String,
    pub(crate) source: String,
    pub(crate) what: String,
    /// JSON, as it is kept and hashed.
    pub(crate) target: String,
    pub(crate) hash: Hash,
}

impl Entry {
    /// What its hash has to be after the one before it.
    pub(crate) fn hash_after(&self, before: &Hash) -> Hash {
        let mut sum = Context::new(&SHA256);
        sum.update(CONTEXT);
        sum.update(before);
        let (number, at_ms) = (self.number.to_string(), self.at_ms.to_string());
        for part in [&number, &at_ms, &self.who, &self.source, &self.what, &self.target] {
            sum.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            sum.update(part.as_bytes());
        }
        sum.finish().as_ref().try_into().unwrap_or_default()
    }

    /// As one line of an export. `on` is the text that was hashed, with which the hash can be computed anew.
    pub(crate) fn line(&self) -> Json {
        json!({
            "number": self.number,
            "at": rfc3339(self.at_ms),
            "at_ms": self.at_ms,
            "who": self.who,
            "from": self.source,
            "what": self.what,
            "on": self.target,
            "hash": hex(&self.hash),
        })
    }
}

/// The newest entry of a chain: whoever keeps it elsewhere can tell later whether anything before it was touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Head {
    pub(crate) number: u64,
    pub(crate) hash: Hash,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, hex(&self.hash))
    }
}

impl FromStr for Head {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Head, HubError> {
        let wrong = || HubError::Invalid("a head of the audit is NUMBER:HASH, as `audit head` prints it".to_owned());
        let (number, hash) = text.trim().split_once(':').ok_or_else(wrong)?;
        let hash = unhex(hash).and_then(|hash| hash.try_into().ok()).ok_or_else(wrong)?;
        Ok(Head { number: number.parse().map_err(|_| wrong())?, hash })
    }
}

/// A head that has to be in the chain, and from where it is known.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) head: Head,
    pub(crate) of: String,
}

/// What a chain turned out to be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Entries that are there.
    pub(crate) entries: u64,
    /// The newest of them.
    pub(crate) head: Head,
    /// What is wrong; empty if nothing is.
    pub(crate) findings: Vec<String>,
    /// Findings beyond those that are told.
    pub(crate) more: u64,
    /// Restores that the chain tells of, by their numbers: what was written between the backup and the restore is in the file
    /// that was set aside.
    pub(crate) restores: Vec<u64>,
}

/// Judges a chain entry by entry, in their order.
#[derive(Debug)]
pub(crate) struct Judge {
    verdict: Verdict,
    known: Vec<Known>,
}

impl Judge {
    /// One that looks for these heads as well.
    pub(crate) fn new(known: Vec<Known>) -> Judge {
        let mut judge = Judge { verdict: Verdict::default(), known };
        judge.compare_known();
        judge
    }

    fn find(&mut self, what: String) {
        match self.verdict.findings.len() < FINDINGS_MAX {
            true => self.verdict.findings.push(what),
            false => self.verdict.more += 1,
        }
    }

    /// Looks at the next entry.
    pub(crate) fn look(&mut self, entry: &Entry) {
        let Head { number, hash } = self.verdict.head;
        if entry.number > number + 1 {
            let last = entry.number - 1;
            self.find(format!("entries {} to {last} are missing", number + 1));
        }
        if entry.hash_after(&hash) != entry.hash {
            self.find(format!("entry {} is not what was written, or does not follow the one before it", entry.number));
        }
        if [What::Restore.name(), What::RestoreByHand.name()].contains(&entry.what) {
            self.verdict.restores.push(entry.number);
        }
        self.verdict.entries += 1;
        self.verdict.head = Head { number: entry.number, hash: entry.hash };
        self.compare_known();
    }

    /// Takes the heads off the list that this is the place for.
    fn compare_known(&mut self) {
        let head = self.verdict.head;
        let (here, later): (Vec<_>, Vec<_>) = self.known.drain(..).partition(|known| known.head.number <= head.number);
        self.known = later;
        for Known { head: known, of } in here {
            if known != head {
                self.find(format!("entry {} is not the one that {of} knows", known.number));
            }
        }
    }

    /// What it turned out to be.
    pub(crate) fn verdict(mut self) -> Verdict {
        let last = self.verdict.head.number;
        for Known { head, of } in std::mem::take(&mut self.known) {
            self.find(format!("the end is missing: the last entry is {last}, and {of} knows entry {}", head.number));
        }
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: u64) -> Vec<Entry> {
        let mut before = Hash::default();
        let one = |number: u64| {
            let target = json!({ "record": format!("patient/p{number}") }).to_string();
            let (who, source, what) = ("account:asha".to_owned(), "192.0.2.1".to_owned(), What::ReadRecord.name());
            let mut entry = Entry { number, at_ms: 1_000, who, source, what, target, hash: before };
            entry.hash = entry.hash_after(&before);
            before = entry.hash;
            entry
        };
        (1..=count).map(one).collect()
    }

    fn findings(chain: &[Entry], known: &[Head]) -> Vec<String> {
        let known = known.iter().map(|head| Known { head: *head, of: "a letter".to_owned() }).collect();
        let mut judge = Judge::new(known);
        chain.iter().for_each(|entry| judge.look(entry));
        judge.verdict().findings
    }

    fn head(entry: &Entry) -> Head {
        Head { number: entry.number, hash: entry.hash }
    }

    #[test]
    fn the_hash_is_what_the_decision_says() {
        let mut entry = chain(1).remove(0);
        entry.target = "{}".to_owned();
        let parts = ["1", "1000", "account:asha", "192.0.2.1", "read-record", "{}"];
        let mut bytes = b"outpost-hub audit v1\0".to_vec();
        bytes.extend([0; 32]);
        for part in parts {
            bytes.extend([0, 0, 0, part.len() as u8]);
            bytes.extend(part.as_bytes());
        }
        assert_eq!(entry.hash_after(&Hash::default()), ring::digest::digest(&SHA256, &bytes).as_ref());
    }

    #[test]
    fn a_chain_that_was_touched_is_found_wherever_it_was() {
        let whole = chain(5);
        assert_eq!(findings(&whole, &[head(&whole[4]), head(&whole[1]), Head::default()]), Vec::<String>::new());
        for at in 0..5 {
            let mut edited = whole.clone();
            edited[at].who = "account:bina".to_owned();
            assert_eq!(findings(&edited, &[]).len(), 1, "edited at {at}");
            // Whoever computes that hash anew has to compute all later ones.
            edited[at].hash =
                edited[at].hash_after(&at.checked_sub(1).map_or(Hash::default(), |before| whole[before].hash));
            assert_eq!(findings(&edited, &[]).len(), usize::from(at < 4), "and mended at {at}");
            assert_eq!(findings(&edited, &[head(&whole[4])]).len(), 1, "at {at}, to who knows the head");
            let mut removed = whole.clone();
            removed.remove(at);
            assert!(!findings(&removed, &[head(&whole[4])]).is_empty(), "removed at {at}");
        }
        assert_eq!(findings(&whole[..3], &[]), Vec::<String>::new(), "an end that is cut off shows to nobody");
        assert!(
            findings(&whole[..3], &[head(&whole[4])])[0].contains("the end is missing"),
            "but to who knows the head"
        );
        assert!(!findings(&[], &[head(&whole[0])]).is_empty());
    }

    #[test]
    fn a_head_is_read_as_it_is_printed() {
        let head = head(&chain(3)[2]);
        assert_eq!(head.to_string().parse::<Head>().unwrap(), head);
        for wrong in ["", "3", "3:", "x:00", "3:zz"] {
            assert!(wrong.parse::<Head>().is_err(), "{wrong}");
        }
    }
}
