//! Which kinds of accident a schedule may have. Each has a name, so that a run can be made with or without it.

use std::fmt;
use std::str::FromStr;

/// One kind of accident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Requests and answers that never arrive, and links on which only one end has noticed that they are dead.
    Loss,
    /// Requests that arrive twice or late, and exchanges of one gateway beside each other at the hub.
    Late,
    /// Exchanges of several gateways beside each other at the hub.
    Beside,
    /// Bodies that end in the middle or have a flipped bit in a frame.
    Torn,
    /// Power cuts at gateways and at the hub; what was not synced is gone.
    Power,
    /// Cards without room for what is written.
    Full,
    /// Wall clocks that jump by years.
    Clocks,
    /// New rules while gateways still write by the old ones.
    Rules,
    /// Programs of newer and older builds, of which some cannot read the rules, and some speak another major version.
    Builds,
    /// Records that move to another place, and gateways that are given other scopes.
    Scopes,
    /// Deletes, and writes to what was deleted.
    Deletes,
    /// A person settles conflicts.
    Settles,
    /// An app writes to a record that its gateway wrote to before and does not hold any more.
    Blind,
    /// An app edits a copy that it read before the record was moved or deleted, or deletes by a copy that is not the newest.
    Stale,
    /// Records that wait in quarantine for their parents, and follow them to other places.
    Children,
    /// An app writes to a record that is about to leave, and stays only because own writes on it are unsent.
    Leaving,
    /// An app writes while its gateway fetches what is in scopes that are new to it.
    Fetching,
    /// A download in several parts, because the link is thin or because it breaks after some of them.
    Parts,
    /// Gateways with different scopes. Without it all have the district.
    Views,
    /// Records are freed from quarantine that do not belong to the gateway any more whose writes were held.
    Freed,
    /// A person at the centre lets go what waits in quarantine, or drops it.
    Decided,
    /// Gateways are shut out, and let in again.
    Revoked,
    /// An older image of a card is put back. The card whose state it replaces is gone.
    Rollback,
    /// An image of a card runs in a second box, beside the first.
    Clones,
    /// Gateways forget of their own ops what stands nowhere any more.
    Forget,
    /// Cards damage records that the hub has.
    Damage,
    /// The hub is restored from a backup, and its epoch is counted up.
    Restores,
    /// As [`Fault::Restores`], but nobody counts the epoch up.
    Forgotten,
    /// Apps count in schedules in which both cards are copied and the hub is put back, and the hub after it was put back.
    Recounts,
}

/// All of them with their names; the last says whether a run has them if it is not told otherwise. Those that it does not have
/// find defects that are known and open; `tests/simulate --faults usual,+recounts` tells its stories.
const NAMES: [(Fault, &str, bool); 29] = [
    (Fault::Loss, "loss", true),
    (Fault::Late, "late", true),
    (Fault::Beside, "beside", true),
    (Fault::Torn, "torn", true),
    (Fault::Power, "power", true),
    (Fault::Full, "full", true),
    (Fault::Clocks, "clocks", true),
    (Fault::Rules, "rules", true),
    (Fault::Builds, "builds", true),
    (Fault::Scopes, "scopes", true),
    (Fault::Deletes, "deletes", true),
    (Fault::Settles, "settles", true),
    (Fault::Blind, "blind", true),
    (Fault::Stale, "stale", true),
    (Fault::Children, "children", true),
    (Fault::Leaving, "leaving", true),
    (Fault::Fetching, "fetching", true),
    (Fault::Parts, "parts", true),
    (Fault::Views, "views", true),
    (Fault::Freed, "freed", true),
    (Fault::Decided, "decided", true),
    (Fault::Revoked, "revoked", true),
    (Fault::Rollback, "rollback", true),
    (Fault::Clones, "clones", true),
    (Fault::Forget, "forget", true),
    (Fault::Damage, "damage", true),
    (Fault::Restores, "restores", true),
    (Fault::Forgotten, "forgotten", true),
    (Fault::Recounts, "recounts", false),
];

/// A choice of accidents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults(u32);

impl Default for Faults {
    fn default() -> Self {
        NAMES.iter().filter(|(_, _, is_usual)| *is_usual).fold(Faults::none(), |all, (fault, ..)| all.with(*fault))
    }
}

impl Faults {
    /// No accidents.
    pub fn none() -> Faults {
        Faults(0)
    }

    /// All of them.
    pub fn all() -> Faults {
        NAMES.iter().fold(Faults::none(), |all, (fault, ..)| all.with(*fault))
    }

    /// These and one more.
    #[must_use]
    pub fn with(self, fault: Fault) -> Faults {
        Faults(self.0 | 1 << fault as u32)
    }

    /// These without one.
    #[must_use]
    pub fn without(self, fault: Fault) -> Faults {
        Faults(self.0 & !(1 << fault as u32))
    }

    /// Whether this kind may happen.
    pub fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u32 != 0
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = NAMES.iter().filter(|(fault, ..)| self.has(*fault)).map(|(_, name, _)| *name).collect();
        f.write_str(&names.join(","))
    }
}

/// `all`, `none`, `usual`, or names with commas between them, each alone or with `+` or `-` before it: `usual,+clones,-late`.
impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        text.split(',').filter(|word| !word.is_empty()).try_fold(Faults::none(), |faults, word| {
            let known = |name: &str| {
                let found = NAMES.iter().find(|(_, known, _)| *known == name).map(|(fault, ..)| *fault);
                let all: Vec<_> = NAMES.iter().map(|(_, name, _)| *name).collect();
                found.ok_or_else(|| format!("no fault {name}: all, none, usual, {}", all.join(", ")))
            };
            Ok(match (word, word.strip_prefix('-'), word.strip_prefix('+')) {
                ("all", ..) => Faults::all(),
                ("none", ..) => Faults::none(),
                ("usual", ..) => Faults::default(),
                (_, Some(name), _) => faults.without(known(name)?),
                (_, _, Some(name)) => faults.with(known(name)?),
                (name, ..) => faults.with(known(name)?),
            })
        })
    }
}
