//! What is true of this gateway right now, from the database alone: the same with or without a running daemon.
//!
//! Nothing is "sent" here before the hub has it. The JSON is a contract: keys are added, never changed.

use std::fmt::Write as _;

use serde::Serialize;
use sync_protocol::id::Stream;
use utoipa::ToSchema;

use crate::board::{self, Board};
use crate::disk::Disk;
use crate::hardware;
use crate::store;

/// The state of a gateway.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Status {
    /// Its name at the hub; absent before enrolment.
    pub gateway: Option<String>,
    /// The hub's address; absent before enrolment.
    pub hub: Option<String>,
    /// The hub has shut this gateway out: records are saved and sent, and not shown.
    pub revoked: bool,
    /// What tells this box from others, as the hub names it when two run with copies of one card; absent if nothing does.
    #[serde(rename = "box")]
    pub box_print: Option<String>,
    /// Version of the program that answers.
    pub version: &'static str,
    /// What it is subscribed to; the first is its home.
    pub scopes: Vec<String>,
    /// Records held, by type.
    pub records: Vec<TypeCount>,
    /// Changes that the hub does not have yet.
    pub unsent: u64,
    /// Age of the oldest of them, seconds.
    pub oldest_unsent_seconds: Option<u64>,
    /// Changes that the hub has, and had in no backup when it told last. Should it lose them, they go there again by themselves, as long
    /// as this card has them.
    pub not_backed_up: u64,
    /// The same for each stream that was used.
    pub streams: Vec<StreamCount>,
    /// Changes that the hub keeps but cannot use; a person has to look.
    pub parked: u64,
    /// Records in which two values stand.
    pub conflicts: u64,
    /// Whether records of newly assigned scopes are still being loaded.
    pub loading: bool,
    /// When the hub was last reached, milliseconds since 1970.
    pub last_success_ms: Option<i64>,
    /// When it was last tried; of attempts that fail alike, one an hour is noted.
    pub last_attempt_ms: Option<i64>,
    /// What went wrong at the last attempt: `offline`, `denied`, `rejected`, `broken` or `config`.
    pub error_class: Option<String>,
    /// The same in words.
    pub error: Option<String>,
    /// Rows of the database that were met and still cannot be read.
    pub damaged_rows: u64,
    /// Those of them that hold a change that the hub does not have.
    pub damaged_unsent: u64,
    /// When every row was last read and hashed again, milliseconds since 1970.
    pub last_scrub_ms: Option<i64>,
    /// What SQLite's own check found at the last start: parts of the file that cannot be read.
    pub database_faults: u64,
    /// Broken databases that were set aside. They may hold changes that the hub does not have.
    pub set_aside: Vec<String>,
    /// When the database was last copied to the second medium, milliseconds since 1970.
    pub last_backup_ms: Option<i64>,
    /// Why it could not be at the last attempt. A warning.
    pub backup_error: Option<String>,
    /// Repairs after the digests of gateway and hub disagreed.
    pub repairs: u64,
    /// Version of the rules in force.
    pub rules_version: u32,
    /// Size of the database.
    pub database_bytes: u64,
    /// What of that is free for what comes next.
    pub database_reusable_bytes: u64,
    /// Entries of the history that were forgotten in all, because the hub has them safe and nothing of them stands any more.
    pub forgotten_entries: u64,
    /// When the history was last gone through for that, milliseconds since 1970.
    pub last_forgotten_ms: Option<i64>,
    /// Free space on the card.
    pub disk_free_bytes: Option<u64>,
    /// Nothing new is taken, because the card is nearly full.
    pub disk_nearly_full: bool,
    /// What the box says of itself.
    pub board: Board,
}

/// How many records of a type are held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TypeCount {
    /// The type.
    #[serde(rename = "type")]
    pub record_type: String,
    /// How many, without deleted ones.
    pub count: u64,
}

/// What waits in one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StreamCount {
    /// `urgent`, `normal` or `bulk`.
    #[schema(value_type = String)]
    pub stream: Stream,
    /// Changes ever captured under the present identity.
    pub captured: u64,
    /// Changes that the hub does not have yet.
    pub unsent: u64,
    /// Changes that the hub has, and had in no backup when it told last.
    pub not_backed_up: u64,
}

impl StreamCount {
    fn of(facts: &store::StreamStatus) -> StreamCount {
        let store::StreamStatus { stream, unsent, not_backed_up, last, .. } = *facts;
        StreamCount { stream, captured: last, unsent, not_backed_up }
    }
}

impl Status {
    /// Puts the facts together.
    pub fn new(facts: &store::Status, disk: &Disk, now_ms: i64) -> Status {
        let oldest_ms = facts.streams.iter().filter(|s| s.unsent > 0).filter_map(|s| s.oldest_ms).min();
        let streams = facts.streams.iter().filter(|s| s.last > 0);
        Status {
            gateway: facts.enrolment.as_ref().map(|e| e.name.clone()),
            hub: facts.enrolment.as_ref().map(|e| e.hub_url.clone()),
            revoked: facts.state.is_revoked,
            box_print: hardware::told(),
            version: env!("CARGO_PKG_VERSION"),
            scopes: facts.state.scopes.iter().map(ToString::to_string).collect(),
            records: facts
                .records
                .iter()
                .map(|(record_type, count)| TypeCount { record_type: record_type.to_string(), count: *count })
                .collect(),
            unsent: facts.streams.iter().map(|s| s.unsent).sum(),
            oldest_unsent_seconds: oldest_ms.map(|ms| u64::try_from(now_ms.saturating_sub(ms) / 1000).unwrap_or(0)),
            not_backed_up: facts.streams.iter().map(|s| s.not_backed_up).sum(),
            streams: streams.map(StreamCount::of).collect(),
            parked: facts.parked,
            conflicts: facts.conflicts,
            loading: facts.state.backfill.is_some(),
            last_success_ms: facts.report.success_ms,
            last_attempt_ms: Some(facts.report.attempt_ms).filter(|ms| *ms != 0),
            error_class: facts.report.error_class.clone(),
            error: facts.report.error.clone(),
            damaged_rows: facts.damage.rows,
            damaged_unsent: facts.damage.unsent,
            last_scrub_ms: Some(facts.upkeep.scrubbed_ms).filter(|ms| *ms != 0),
            database_faults: facts.upkeep.faults.len() as u64,
            set_aside: facts.aside.iter().map(|file| file.display().to_string()).collect(),
            last_backup_ms: Some(facts.upkeep.backup_ms).filter(|ms| *ms != 0),
            backup_error: facts.upkeep.backup_error.clone(),
            repairs: facts.state.repairs,
            rules_version: facts.rules_version,
            database_bytes: facts.database_bytes,
            database_reusable_bytes: facts.reusable_bytes,
            forgotten_entries: facts.retention.ops + facts.retention.changes,
            last_forgotten_ms: Some(facts.retention.passed_ms).filter(|ms| *ms != 0),
            disk_free_bytes: disk.free_bytes(),
            disk_nearly_full: disk.is_nearly_full() || facts.is_full,
            board: board::here(),
        }
    }

    /// What an app gets of it: without what is for who looks after the gateway, such as where the hub is and which files there are.
    pub fn for_app(self) -> Status {
        let (hub, box_print, error, backup_error) = (None, None, None, None);
        Status { hub, box_print, error, backup_error, set_aside: Vec::new(), ..self }
    }

    /// The same for a person at a terminal.
    pub fn text(&self, now_ms: i64) -> String {
        let mut out = String::new();
        let _ = match (&self.gateway, &self.hub) {
            (Some(name), Some(hub)) => writeln!(out, "{name} -> {hub}   ({})", self.scopes.join(", ")),
            _ if !self.set_aside.is_empty() => {
                writeln!(out, "a new database, not enrolled: ask for a new code, then outpost enroll CODE")
            }
            _ => writeln!(out, "not enrolled yet: outpost enroll CODE"),
        };
        if self.revoked {
            let _ = writeln!(
                out,
                "REVOKED    the hub has shut this gateway out: records are saved and wait there for its admin, and none is shown"
            );
        }
        let total: u64 = self.records.iter().map(|t| t.count).sum();
        let types: Vec<String> = self.records.iter().map(|t| format!("{} {}", t.count, t.record_type)).collect();
        let _ = writeln!(out, "records    {total}   {}", types.join(", "));
        let _ = match (self.unsent, self.oldest_unsent_seconds) {
            (0, _) if self.hub.is_none() => writeln!(out, "unsent     0   there is no hub yet"),
            (n, Some(age)) if self.hub.is_none() => {
                writeln!(out, "unsent     {n}   oldest {}; there is no hub yet", duration(age))
            }
            (0, _) => writeln!(out, "unsent     0   the hub has everything"),
            (n, Some(age)) => writeln!(out, "unsent     {n}   oldest {}", duration(age)),
            (n, None) => writeln!(out, "unsent     {n}"),
        };
        if self.not_backed_up > 0 {
            let _ = writeln!(out, "at hub     {} changes that are in no backup of it yet", self.not_backed_up);
        }
        let _ = writeln!(
            out,
            "parked     {}{}",
            self.parked,
            if self.parked > 0 { "   see: outpost parked list" } else { "" }
        );
        let _ = writeln!(
            out,
            "conflicts  {}{}",
            self.conflicts,
            if self.conflicts > 0 { "   see: outpost conflicts list" } else { "" }
        );
        let ago = |ms: i64| format!("{} ago", duration(u64::try_from(now_ms.saturating_sub(ms) / 1000).unwrap_or(0)));
        let _ = writeln!(out, "last sync  {}", self.last_success_ms.map_or("never".to_owned(), ago));
        if let (Some(class), Some(error)) = (&self.error_class, &self.error) {
            let _ = writeln!(out, "           last attempt failed ({class}): {error}");
        }
        if self.loading {
            let _ = writeln!(out, "           still loading the records of a new catchment");
        }
        if self.damaged_rows > 0 {
            let _ = writeln!(
                out,
                "damaged    {} rows cannot be read, {} of them unsent   see: outpost doctor",
                self.damaged_rows, self.damaged_unsent
            );
        }
        if self.database_faults > 0 {
            let _ = writeln!(
                out,
                "damaged    the database file, in {} place(s)   see: outpost doctor",
                self.database_faults
            );
        }
        for file in &self.set_aside {
            let _ = writeln!(
                out,
                "SET ASIDE  a broken database; it may hold unsent records. Once enrolled: outpost rescue {file}"
            );
        }
        let _ = writeln!(out, "scrubbed   {}", self.last_scrub_ms.map_or("never".to_owned(), ago));
        if self.last_backup_ms.is_some() || self.backup_error.is_some() {
            let _ = writeln!(out, "backup     {}", self.last_backup_ms.map_or("never".to_owned(), ago));
        }
        if let Some(error) = &self.backup_error {
            let _ = writeln!(out, "           no newer one could be made: {error}");
        }
        let free = self.disk_free_bytes.map_or("unknown".to_owned(), bytes);
        let _ = writeln!(out, "database   {}, {free} free", bytes(self.database_bytes));
        if let Some(passed_ms) = self.last_forgotten_ms.filter(|_| self.forgotten_entries > 0) {
            let _ = writeln!(
                out,
                "history    {} old entries forgotten, last {}; {} of the database to be used again",
                self.forgotten_entries,
                ago(passed_ms),
                bytes(self.database_reusable_bytes)
            );
        }
        if let Some(print) = &self.box_print {
            let _ = writeln!(out, "box        {print}");
        }
        let _ = self.board_text(&mut out);
        if self.disk_nearly_full {
            let _ = writeln!(
                out,
                "FULL       nothing new is taken; free space, or connect the gateway   see: outpost doctor"
            );
        }
        out
    }
}

impl Status {
    /// One line of what is known of the board, and one for each thing that is not as it should be.
    fn board_text(&self, out: &mut String) -> std::fmt::Result {
        let Board { model, temperature_celsius, memory_free_bytes, clock, cards, .. } = &self.board;
        let card = cards.first().map(|card| {
            let name = card.name.as_deref().unwrap_or(&card.device);
            let worn = card.worn_percent.map_or(String::new(), |percent| format!(", {percent} % worn"));
            format!("card {name}{worn}")
        });
        let facts = [
            model.clone(),
            temperature_celsius.map(|celsius| format!("{celsius} degrees")),
            memory_free_bytes.map(|free| format!("{} of memory free", bytes(free))),
            card,
            (!clock.has_own && model.is_some()).then(|| "no clock of its own".to_owned()),
            (clock.from_network == Some(false)).then(|| "time not from the network yet".to_owned()),
        ];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        if !facts.is_empty() {
            writeln!(out, "board      {}", facts.join(", "))?;
        }
        board::advice(&self.board)
            .iter()
            .try_for_each(|advice| writeln!(out, "WARNING    {}: {}   see: outpost doctor", advice.what, advice.told))
    }
}

/// A span in the one or two units that matter.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A size in the unit that fits.
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}
