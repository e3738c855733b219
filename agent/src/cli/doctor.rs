//! `outpost doctor`: what is wrong, and what to do, from disk to hub.

use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::client::Client;
use super::time_ms;
use crate::board::{self, Power};
use crate::clock::{RELEASED_MS, unix_ms};
use crate::config::Config;
use crate::disk::Disk;
use crate::error::{Class, Error};
use crate::keys;
use crate::lock::{Holder, look_patiently, takes_no_writes};
use crate::status::{bytes, duration};
use crate::store::{self, files_aside};

const OLD_SECONDS: u64 = 7 * 24 * 3_600;
const DAY_MS: i64 = 86_400_000;
/// A certificate is renewed after a sync. That it was not for so long means that there was none, or that the hub gives none.
const RENEWAL_LATE_DAYS: i64 = 7;

struct Examination<'a> {
    out: &'a mut dyn Write,
    worst: Option<Error>,
}

impl Examination<'_> {
    fn good(&mut self, what: &str, told: &str) -> Result<(), Error> {
        writeln!(self.out, "ok    {what}: {told}").map_err(Error::from)
    }

    fn warn(&mut self, what: &str, told: &str, advice: &str) -> Result<(), Error> {
        writeln!(self.out, "warn  {what}: {told}\n      {advice}").map_err(Error::from)
    }

    fn bad(&mut self, what: &str, error: Error, advice: &str) -> Result<(), Error> {
        writeln!(self.out, "BAD   {what}: {error}")?;
        if !advice.is_empty() {
            writeln!(self.out, "      {advice}")?;
        }
        self.worst.get_or_insert(error);
        Ok(())
    }
}

/// Examines everything, prints what it finds, and fails with the first trouble.
pub(crate) async fn examine(folder: &Path, config: &Config, out: &mut dyn Write) -> Result<(), Error> {
    let holder = look_patiently(folder).await?;
    let mut exam = Examination { out, worst: None };
    running(folder, &holder, &mut exam)?;
    disk(folder, config, &mut exam)?;
    box_itself(&holder, folder, config, &mut exam).await?;
    clock(&mut exam)?;
    database(folder, config, &mut exam).await?;
    hub(folder, config, &mut exam).await?;
    match exam.worst {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

fn running(folder: &Path, holder: &Holder, exam: &mut Examination<'_>) -> Result<(), Error> {
    match holder {
        Holder::Daemon(address) => exam.good("gateway", &format!("listens on http://{address}")),
        Holder::Somebody => exam.good("gateway", "another command is working on it"),
        Holder::Nobody => {
            let advice = format!(
                "No app can save now. Start it: sudo systemctl start outpost; without the package: outpost run --data-dir {}",
                folder.display()
            );
            exam.bad("gateway", Error::refused("the gateway is not running"), &advice)
        }
    }
}

fn disk(folder: &Path, config: &Config, exam: &mut Examination<'_>) -> Result<(), Error> {
    if takes_no_writes(folder) {
        let error = Error::refused("the card takes no writes any more");
        let advice =
            "Nothing new is taken. Replace the card now: docs/swap-a-card.md says how. All on it can still be read.";
        return exam.bad("disk", error, advice);
    }
    let disk = Disk::new(folder, config.disk_reserve_bytes());
    match (disk.free_bytes(), disk.check_room()) {
        (Some(free), Ok(())) => exam.good("disk", &format!("{} free", bytes(free))),
        (None, _) => exam.good("disk", "the system does not say how much is free"),
        (Some(free), Err(_)) => {
            let error = Error::refused(format!("only {} free", bytes(free)));
            exam.bad("disk", error, "Nothing new is taken. Free space, or connect the gateway so that it can send.")
        }
    }
}

/// What is wrong with the box is worth a warning, and no failure: records are safe.
async fn box_itself(holder: &Holder, folder: &Path, config: &Config, exam: &mut Examination<'_>) -> Result<(), Error> {
    let mut board = board::here();
    // The gateway knows what has been since it was started. One that does not answer is told of elsewhere.
    if let Holder::Daemon(_) = holder {
        board.power = power_since_start(folder, config).await.ok().flatten().or(board.power);
    }
    let found = board::advice(&board);
    if found.is_empty() {
        return exam.good("board", board.model.as_deref().unwrap_or("nothing is known to be wrong with it"));
    }
    found.iter().try_for_each(|advice| exam.warn(advice.what, &advice.told, advice.to_do))
}

async fn power_since_start(folder: &Path, config: &Config) -> Result<Option<Power>, Error> {
    let status = Client::connect(folder, config).await?.ask_json("GET", "/v1/status", &Value::Null).await?;
    Ok(status.pointer("/board/power").and_then(|power| Power::deserialize(power).ok()))
}

fn clock(exam: &mut Examination<'_>) -> Result<(), Error> {
    match unix_ms() {
        now if now >= RELEASED_MS => exam.good("clock", "plausible"),
        _ => {
            let error = Error::refused("it says a time before this program was made".to_owned());
            exam.bad(
                "clock",
                error,
                "Records are kept and ordered all the same. Their times are repaired at the next contact with the hub.",
            )
        }
    }
}

async fn database(folder: &Path, config: &Config, exam: &mut Examination<'_>) -> Result<(), Error> {
    let store = match keys::open_to_read(folder, &config.encryption).await {
        Ok(store) => store,
        Err(Error::KeyAbsent(told)) => {
            set_aside(folder, exam)?;
            let advice = "Its file cannot be looked at here without the key. The gateway checks it at each start.";
            return exam.warn("database", &format!("encrypted; {told}"), advice);
        }
        Err(Error::Database(_)) if takes_no_writes(folder) => {
            set_aside(folder, exam)?;
            let told = "its file cannot be looked at on a card that takes no writes";
            return exam.warn("database", told, "The gateway serves a copy of it in memory, and checks that.");
        }
        Err(error) => {
            let hint = error.hint();
            set_aside(folder, exam)?;
            return exam.bad("database", error, hint);
        }
    };
    let look = store
        .read(|reader| Ok::<_, Error>((reader.status()?, reader.quick_check()?, reader.enrolment()?, time_ms(reader))));
    let (facts, faults, enrolment, now_ms) = look?;
    match faults.first() {
        None => exam.good("database", &format!("sound, {}", bytes(facts.database_bytes)))?,
        Some(first) => {
            let error = Error::refused(format!("{} fault(s), the first: {first}", faults.len()));
            exam.bad("database", error, "Keep this card. What can be read is served; ask the hub's admin for help.")?;
        }
    }
    set_aside(folder, exam)?;
    scrub(&facts, now_ms, exam)?;
    erased(&facts, config, exam)?;
    backup(&facts, now_ms, config, exam)?;
    history(&facts, now_ms, config, exam)?;
    if let Some(identity) = enrolment.and_then(|enrolment| enrolment.identity) {
        certificate(identity.renew_ms, now_ms, exam)?;
    }
    let oldest = facts.streams.iter().filter(|s| s.unsent > 0).filter_map(|s| s.oldest_ms).min();
    let age = oldest.map(|ms| u64::try_from(now_ms.saturating_sub(ms) / 1000).unwrap_or(0));
    let unsent: u64 = facts.streams.iter().map(|s| s.unsent).sum();
    match age {
        Some(age) if age > OLD_SECONDS => {
            let error = Error::refused(format!("{unsent} changes wait, the oldest for {}", duration(age)));
            exam.bad("outbox", error, "They are safe here. Bring the gateway to a link, or run: outpost sync")
        }
        _ => exam.good("outbox", &format!("{unsent} changes wait")),
    }
}

fn scrub(facts: &store::Status, now_ms: i64, exam: &mut Examination<'_>) -> Result<(), Error> {
    if facts.damage.rows > 0 {
        let error =
            Error::refused(format!("{} cannot be read, {} of them unsent", facts.damage.rows, facts.damage.unsent));
        exam.bad(
            "rows",
            error,
            "What the hub has is sent again at the next sync. Keep this card, and replace it soon.",
        )?;
    }
    match facts.upkeep.scrubbed_ms {
        0 => exam.good("scrub", "never; the first one runs beside `outpost run`"),
        at => {
            let age = u64::try_from(now_ms.saturating_sub(at) / 1000).unwrap_or(0);
            exam.good("scrub", &format!("every row was read {} ago", duration(age)))
        }
    }
}

/// Where it may still be what the hub has erased. What was set aside is told of elsewhere, whatever it holds.
fn erased(facts: &store::Status, config: &Config, exam: &mut Examination<'_>) -> Result<(), Error> {
    if facts.state.erased == 0 {
        return Ok(());
    }
    let copies = config.backup.folder().map(|folder| store::copies_before(folder, facts.state.erased));
    let copies = copies.unwrap_or_default();
    if facts.sweep_due_ms.is_some() {
        let advice =
            "It is written anew in a quiet moment, and when the gateway is started again. If this stays, free space.";
        exam.warn("erased", "free pages of the database may still hold records that were erased", advice)?;
    } else if copies.is_empty() && facts.aside.is_empty() {
        exam.good("erased", "nothing here is known to hold what the hub has erased")?;
    }
    for copy in copies {
        let told = format!("{} is older than the last erasure and may hold what was erased", copy.display());
        exam.warn(
            "erased",
            &told,
            "Newer copies replace it. If that takes too long, delete it once there is a newer one.",
        )?;
    }
    for file in &facts.aside {
        let told = format!("{} may hold what was erased", file.display());
        exam.warn("erased", &told, "Nothing in it is erased. Hand it in with `outpost rescue`, then destroy it.")?;
    }
    Ok(())
}

/// A second medium that is absent is worth a warning, and no failure: records are safe without it.
fn backup(facts: &store::Status, now_ms: i64, config: &Config, exam: &mut Examination<'_>) -> Result<(), Error> {
    let Some(folder) = config.backup.folder() else { return exam.good("backup", "none is configured") };
    let seconds = u64::try_from(now_ms.saturating_sub(facts.upkeep.backup_ms) / 1000).unwrap_or(0);
    let age = match facts.upkeep.backup_ms {
        0 => "never made".to_owned(),
        _ => format!("made {} ago", duration(seconds)),
    };
    let is_late = facts.upkeep.backup_ms == 0 || seconds > 2 * config.backup.interval().as_secs();
    match &facts.upkeep.backup_error {
        Some(error) => exam.warn(
            "backup",
            &format!("{age}; {error}"),
            "Connect or replace the second medium; a copy follows by itself.",
        ),
        None if is_late => exam.warn("backup", &age, "One is made beside `outpost run`."),
        None => exam.good("backup", &format!("{age}, in {}", folder.display())),
    }
}

/// What is forgotten of the history, and why nothing is.
fn history(facts: &store::Status, now_ms: i64, config: &Config, exam: &mut Examination<'_>) -> Result<(), Error> {
    let store::Retention { takes_gaps, passed_ms, ops, changes } = facts.retention;
    let days = config.retention.history_days;
    let told = match (days, takes_gaps, passed_ms) {
        (0, ..) => "all of it is kept".to_owned(),
        (_, false, _) => "all of it is kept: the hub has not said yet that it can do without".to_owned(),
        (_, true, 0) => format!("all of it is kept: nothing has been safe at the hub for {days} days"),
        (_, true, at) => {
            let age = u64::try_from(now_ms.saturating_sub(at) / 1000).unwrap_or(0);
            let free = bytes(facts.reusable_bytes);
            format!("{} old entries forgotten, last {} ago; {free} to be used again", ops + changes, duration(age))
        }
    };
    exam.good("history", &told)
}

/// The gateway's own, which renews itself: only that it did not is worth a word.
fn certificate(renew_ms: i64, now_ms: i64, exam: &mut Examination<'_>) -> Result<(), Error> {
    let days = now_ms.saturating_sub(renew_ms) / DAY_MS;
    if days < RENEWAL_LATE_DAYS {
        return exam.good("certificate", "renews itself after a sync");
    }
    let advice = "Let it sync: outpost sync. If the hub answers and this stays, the log says why; tell the hub's admin. When the hub's \
         grace is over, the gateway needs a new code.";
    exam.warn("certificate", &format!("was to be renewed {days} days ago"), advice)
}

fn set_aside(folder: &Path, exam: &mut Examination<'_>) -> Result<(), Error> {
    for file in files_aside(folder) {
        let error =
            Error::refused(format!("{} was broken; it may hold records that the hub does not have", file.display()));
        let advice = "The database in its place is a new one: if it is not enrolled, it needs `outpost enroll` with a new code of the hub's admin.\n      \
             Then `outpost rescue` with this file sends what only it holds. It is never deleted; when all has arrived, move it away.";
        exam.bad("set aside", error, advice)?;
    }
    Ok(())
}

async fn hub(folder: &Path, config: &Config, exam: &mut Examination<'_>) -> Result<(), Error> {
    let mut client = match Client::connect(folder, config).await {
        Ok(client) => client,
        Err(error) => {
            let hint = error.hint();
            return exam.bad("gateway", error, hint);
        }
    };
    let status = client.ask_json("GET", "/v1/status", &Value::Null).await?;
    let Some(hub) = status.get("hub").and_then(Value::as_str) else {
        return exam.bad("hub", Error::NotEnrolled, Error::NotEnrolled.hint());
    };
    match client.ask_json("POST", "/v1/sync", &Value::Null).await {
        Ok(_) => exam.good("hub", &format!("{hub} answers")),
        Err(error) => {
            let hint = if error.class() == Class::Offline {
                "Check cable, Wi-Fi or modem, then whether this address opens elsewhere. Records are safe here meanwhile."
            } else {
                error.hint()
            };
            exam.bad("hub", error, hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_of_when_its_renewal_is_overdue_and_not_before() {
        let now_ms = 1_790_000_000_000;
        let told = |days: i64| {
            let mut out = Vec::new();
            certificate(now_ms - days * DAY_MS, now_ms, &mut Examination { out: &mut out, worst: None }).unwrap();
            String::from_utf8(out).unwrap()
        };
        for days in [-60, 0, 6] {
            assert!(told(days).starts_with("ok "), "{}", told(days));
        }
        assert!(told(7).contains("was to be renewed 7 days ago") && told(90).contains("outpost sync"), "{}", told(7));
    }
}
