//! `outpost-hub erase`: one admin asks, another one agrees, because it cannot be undone.
//!
//! Who may write `hub.db` is the hub in any case, so a password keeps nobody out here. It says who decided, twice, and the audit keeps it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};
use sync_protocol::hub::{Wiped, erase, family};
use sync_protocol::id::RecordKey;
use zeroize::Zeroizing;

use super::Place;
use crate::account::{Account, AccountName, PASSWORD_BYTES_MAX, Role};
use crate::audit::{Actor, What};
use crate::clock::rfc3339;
use crate::error::HubError;
use crate::login::{self, Doors};
use crate::password;
use crate::store::{Progress, Tx, Wish};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Ask that all values of a record, and of those that belong to it, are erased everywhere
    Ask {
        /// Type and id, such as patient/0195a1c2
        record: String,
        #[command(flatten)]
        person: Person,
    },
    /// Agree to what another admin asked for: it is carried out at once, and cannot be undone
    Agree {
        /// The number that `ask` printed
        wish: u64,
        #[command(flatten)]
        person: Person,
    },
    /// Take back what was asked for and nobody agreed to
    Withdraw {
        /// The number that `ask` printed
        wish: u64,
        #[command(flatten)]
        person: Person,
    },
    /// Show what was asked for, and what was erased
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show which gateways have carried out all erasures, and what may still hold what was erased
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Who decides.
#[derive(Debug, Args)]
pub(super) struct Person {
    /// Your account: an admin who sees everything. Its password is asked for
    #[arg(long = "as", value_name = "ACCOUNT")]
    name: AccountName,
    /// A file with the password on its first line, and on its second the code of the second factor, if there is one
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

pub(super) fn run(place: &mut Place<'_>, command: Command) -> Result<(), HubError> {
    match command {
        Command::Ask { record, person } => ask(place, &RecordKey::parse(&record)?, &person),
        Command::Agree { wish, person } => agree(place, wish, &person),
        Command::Withdraw { wish, person } => {
            decide(place, &person, |tx, _, actor| {
                let Wish { key, .. } = find(tx, wish)?;
                tx.end_wish(wish)?;
                Ok(tx.audit(actor, What::WithdrawErasure, &json!({ "record": key.to_string(), "wish": wish }))?)
            })?;
            place.say(format!("{wish} is taken back; nothing was erased"));
            Ok(())
        }
        Command::List { json } => list(place, json),
        Command::Status { json } => status(place, json),
    }
}

fn ask(place: &mut Place<'_>, key: &RecordKey, person: &Person) -> Result<(), HubError> {
    let (wish, counts) = decide(place, person, |tx, account, actor| {
        if !tx.is_known(key)? {
            return Err(HubError::Missing(format!("record {key}, and nothing was ever written of it")));
        }
        let counts = counts(&family(tx, key)?);
        let wish = tx.add_wish(key, account.number)?;
        let target = json!({ "record": key.to_string(), "wish": wish, "records": counts });
        tx.audit(actor, What::AskErasure, &target)?;
        Ok((wish, counts))
    })?;
    place.say(format!("asked for as number {wish}; by the rules there belong to it:"));
    for (record_type, count) in counts {
        place.say(format!("{count}\t{record_type}"));
    }
    place.say("text in other records that names the person is found by nobody but people; look for it");
    place.say(format!("another admin: outpost-hub erase agree {wish} --as ACCOUNT"));
    Ok(())
}

/// How many records of each type.
fn counts(keys: &[RecordKey]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key.record_type.to_string()).or_default() += 1;
    }
    counts
}

fn agree(place: &mut Place<'_>, wish: u64, person: &Person) -> Result<(), HubError> {
    let (number, Wiped { records, ops, held }) = decide(place, person, |tx, account, actor| {
        let Wish { key, account: asked_by, .. } = find(tx, wish)?;
        if asked_by == account.number {
            return Err(HubError::NotAllowed("who asked for it cannot agree to it; another admin has to".to_owned()));
        }
        let asker = tx.accounts()?.into_iter().find(|one| one.number == asked_by).filter(is_allowed);
        let asker = asker.ok_or_else(|| {
            HubError::Conflict("who asked for it is no admin any more; take it back and ask again".to_owned())
        })?;
        let (number, wiped) = erase(tx, &key, u64::try_from(tx.now_ms).unwrap_or(0))?;
        tx.end_wish(wish)?;
        tx.set_sweep_due()?;
        let target = json!({
            "record": key.to_string(), "number": number, "wish": wish, "asked_by": asker.name.as_str(),
            "records": wiped.records, "ops": wiped.ops, "quarantined": wiped.held,
        });
        tx.audit(actor, What::Erase, &target)?;
        Ok((number, wiped))
    })?;
    place
        .say(format!("erased here as number {number}: {records} records, {ops} changes, {held} of them in quarantine"));
    place.say("the database is written anew now, so that nothing is left in its free pages");
    place.database()?.sweep()?;
    place.say("gateways carry it out with their next sync; see: outpost-hub erase status");
    place.say("backups from before still hold it; make a new one, and remove those when the law says so");
    Ok(())
}

fn find(tx: &mut Tx<'_>, number: u64) -> Result<Wish, HubError> {
    let found = tx.wishes()?.into_iter().find(|wish| wish.wish == number);
    found.ok_or_else(|| HubError::Missing(format!("erasure {number} that waits for somebody to agree")))
}

/// Who may decide that something is erased.
fn is_allowed(account: &Account) -> bool {
    !account.is_disabled && account.role == Role::Admin && account.sight.sees_everything()
}

/// Does something in one transaction, for a person who has shown to be one that may.
fn decide<T>(
    place: &Place<'_>,
    person: &Person,
    act: impl FnOnce(&mut Tx<'_>, &Account, &Actor) -> Result<T, HubError>,
) -> Result<T, HubError> {
    let doors = Doors::of(&place.config);
    let known = place.read(|tx| login::find(tx, Some(&person.name), doors))?;
    let has_code = known.as_ref().is_some_and(|(account, _)| account.has_totp);
    let (password, code) = typed(person.password_file.as_deref(), has_code)?;
    let kept = known.map(|(_, locks)| locks.password).unwrap_or_default();
    let is_it = password.len() <= PASSWORD_BYTES_MAX && password::is_it(&password, &kept);
    let done = place.write(|tx, _| {
        let found = login::find(tx, Some(&person.name), doors)?.filter(|(_, locks)| is_it && locks.password == kept);
        let (account, locks) = found.ok_or(HubError::NotLoggedIn)?;
        login::second_factor(tx, &account, &locks, &code)?;
        if !is_allowed(&account) {
            return Err(HubError::NotAllowed("this takes an admin who sees everything".to_owned()));
        }
        let actor = Actor { who: format!("account:{}", account.name), source: "here".to_owned() };
        act(tx, &account, &actor)
    });
    if matches!(done, Err(HubError::NotLoggedIn)) {
        place.write(|tx, actor| {
            // Only if there is one: people type passwords into the wrong place.
            let known = tx.find_account(&person.name)?.map(|account| account.name.to_string());
            Ok(tx.audit(actor, What::LoginRefused, &json!({ "account": known }))?)
        })?;
    }
    done
}

/// A password, and the code of the second factor if there is one: from a file, or from the terminal, which does not show them.
fn typed(file: Option<&Path>, has_code: bool) -> Result<(Zeroizing<String>, Zeroizing<String>), HubError> {
    let Some(path) = file else {
        let ask = |question: &str| {
            let typed = rpassword::prompt_password(format!("{question}: ")).map(Zeroizing::new);
            typed.map_err(|source| HubError::File { path: "/dev/tty".into(), source })
        };
        let password = ask("password")?;
        let code = if has_code { ask("code of the second factor")? } else { Zeroizing::default() };
        return Ok((password, code));
    };
    let read = || {
        let mut text = Zeroizing::new(String::with_capacity(2 * PASSWORD_BYTES_MAX));
        File::open(path)?.take(2 * PASSWORD_BYTES_MAX as u64).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|source| HubError::File { path: path.to_owned(), source })?;
    let mut lines = text.lines().map(|line| Zeroizing::new(line.to_owned()));
    Ok((lines.next().unwrap_or_default(), lines.next().unwrap_or_default()))
}

fn list(place: &mut Place<'_>, json: bool) -> Result<(), HubError> {
    let (wishes, erasures) = place.read(|tx| {
        let accounts = tx.accounts()?;
        let name = |number| accounts.iter().find(|one| one.number == number).map(|one| one.name.to_string());
        let wishes: Vec<Json> = tx.wishes()?.iter().map(|wish| {
            json!({ "wish": wish.wish, "record": wish.key.to_string(), "asked_by": name(wish.account), "asked_at": rfc3339(wish.asked_ms) })
        }).collect();
        let erasures = sync_protocol::hub::Snapshot::erasures_after(tx, 0, usize::MAX)?;
        let erasures: Vec<Json> = erasures.iter().map(|erasure| {
            json!({ "number": erasure.number, "record": erasure.key.to_string(), "because_of": erasure.cause })
        }).collect();
        Ok((wishes, erasures))
    })?;
    if json {
        place.say_json(&json!({ "asked": wishes, "erased": erasures }));
        return Ok(());
    }
    if wishes.is_empty() && erasures.is_empty() {
        place.say("none");
    }
    let text = |one: &Json, key: &str| {
        one.get(key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).unwrap_or_default()
    };
    for wish in &wishes {
        let (number, record, by, at) =
            (text(wish, "wish"), text(wish, "record"), text(wish, "asked_by"), text(wish, "asked_at"));
        place.say(format!("asked {number}\t{record}\tby {by} at {at}; nobody has agreed"));
    }
    for erasure in &erasures {
        place.say(format!("erased {}\t{}", text(erasure, "number"), text(erasure, "record")));
    }
    Ok(())
}

fn status(place: &mut Place<'_>, json: bool) -> Result<(), HubError> {
    let (last, gateways, is_sweep_due) = place.read(|tx| {
        let last = sync_protocol::hub::Snapshot::last_erasure(tx)?;
        Ok((last, tx.progress()?, tx.is_sweep_due()?))
    })?;
    let kept = kept_aside(&place.data_dir);
    let told: Vec<(String, &str, String)> =
        gateways.iter().map(|one| (one.name.clone(), state(one, last), rfc3339(one.contact_ms))).collect();
    if json {
        let gateways: Vec<Json> = told
            .iter()
            .map(|(name, state, contact)| json!({ "gateway": name, "state": state, "last_contact_at": contact }))
            .collect();
        place.say_json(&json!({ "last": last, "gateways": gateways, "sweep_due": is_sweep_due, "kept_aside": kept }));
        return Ok(());
    }
    place.say(format!("last erasure: {}", if last == 0 { "none".to_owned() } else { last.to_string() }));
    for (name, state, contact) in &told {
        let contact = if contact.is_empty() { "never" } else { contact };
        place.say(format!("{name}\t{state}\tlast contact {contact}"));
    }
    if told.iter().any(|(_, state, _)| *state == DONE) {
        place.say("done: the values are gone; where a gateway's database has more than 64 MB, free pages may hold them until it is started again");
    }
    if is_sweep_due {
        place.say("hub.db may hold what was erased in free pages; it is written anew with the next backup or start");
    }
    for file in kept {
        place.say(format!(
            "{file} was set aside by a restore and may hold what was erased; remove it when it is not needed"
        ));
    }
    Ok(())
}

/// The state of a gateway that has carried out every erasure.
const DONE: &str = "done";

/// What is told of a gateway.
fn state(of: &Progress, last: u64) -> &'static str {
    match of.erased {
        _ if last == 0 => "nothing to do",
        Some(upto) if upto > last => "knows erasures that this hub does not: erasures.list is missing or too old",
        Some(upto) if upto == last => DONE,
        _ if of.is_revoked => "not done: it is shut out, and keeps what it has",
        Some(_) => "not done yet",
        None => "not done: its program cannot, or it was not heard since; install a newer one",
    }
}

/// Databases that restores have put aside.
fn kept_aside(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut kept: Vec<String> = names.filter(|name| name.starts_with("hub.db.before-restore-")).collect();
    kept.sort();
    kept
}
