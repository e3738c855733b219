//! `outpost rescue`: what an old or broken database still holds goes to the hub.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sync_protocol::gateway::rescue::{Rescuer, Tally};
use sync_protocol::gateway::{GatewayState, UNENROLLED, former};
use sync_protocol::id::{Origin, RecordKey, Stream};

use crate::clock::Clock;
use crate::config::Config;
use crate::disk::Disk;
use crate::error::{Class, Error};
use crate::keys;
use crate::lock::{Holder, is_gateway, look};
use crate::status::bytes;
use crate::store::{Copied, DataKey, Enrolment, FILE_NAME, Gap, Home, Left, OldDatabase, copy_old};
use crate::sync::{Rescue as Handing, Transport, Trust, hand_in};

/// What bringing an old layout up to date, and a log that grows meanwhile, may take.
const ROOM_BESIDE: u64 = 4 * 1024 * 1024;
/// Ranges and records that are printed; the rest is counted.
const PRINTED_MAX: usize = 20;
/// Folders of copies begin so, and end with the number of the process.
const PREFIX: &str = "outpost-rescue-";

/// Send the hub what an old or broken database still holds.
#[derive(Debug, Args)]
pub(crate) struct Rescue {
    /// The database file, such as outpost-broken-20261121T075206Z.db.
    database: PathBuf,
    /// The hub, if the file does not say, or its address has changed.
    #[arg(long, value_name = "URL")]
    hub: Option<String>,
    /// The key file of an encrypted database, if it is not the one of the configuration.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// The gateway of this data folder, if there is one that is enrolled.
struct Here {
    state: GatewayState,
    enrolment: Enrolment,
}

impl Rescue {
    pub(crate) async fn execute(self, folder: &Path, config: &Config, out: &mut dyn Write) -> Result<(), Error> {
        let database = self.file(folder)?;
        let here = here(folder, config).await;
        let key = keys::of_old(&database, &config.encryption, self.key_file.as_deref())?;
        let copy = WorkingCopy::make(&database, folder, key)?;
        let (old, left) = OldDatabase::open(copy.home.clone()).map_err(|error| unusable(&database, error))?;
        let (state, rescuer) = begin(&left, here.as_ref(), &database)?;
        let enrolled_at = here.as_ref().map(|here| here.enrolment.hub_url.clone());
        let hub = self.hub.clone().or_else(|| left.hub_url.clone()).or(enrolled_at);
        let hub =
            hub.ok_or_else(|| Error::Usage("the file does not say which hub: name it with --hub URL".to_owned()))?;
        // The present key of this gateway, or the one that the file has itself.
        let own = here.as_ref().and_then(|here| here.enrolment.identity.clone());
        let trust = own.or_else(|| left.identity.clone()).map_or(Trust::System, Trust::Member);
        let transport = Transport::new(&hub, &Clock::default(), &trust)?;
        tell_file(&database, &left, copy.copied, &hub, out)?;
        let mut found = Found::default();
        let result = found.hand_in_each(Handing { old, rescuer }, &state, &left.former, &transport).await;
        tell(found.tally, out)?;
        match result {
            Ok(()) => {
                tell_gaps(&found, out)?;
                done(&found, left.origin, out)
            }
            Err(Error::Denied(reason)) => {
                let detail = format!("the hub does not take what this file holds: {reason}. Keep the file.");
                Err(Error::Told { class: Class::Denied, detail })
            }
            Err(other) => {
                writeln!(out, "it broke off; run the same command again: it goes on and does no harm")?;
                Err(other)
            }
        }
    }

    /// The file, if it may be read without disturbing anybody.
    fn file(&self, folder: &Path) -> Result<PathBuf, Error> {
        let named = &self.database;
        let is_folder = named.is_dir() && is_gateway(named);
        let file = if is_folder { named.join(FILE_NAME) } else { named.clone() };
        let told = |source| Error::File { path: file.clone(), source };
        let facts = fs::metadata(&file).map_err(told)?;
        if !facts.is_file() {
            return Err(Error::Usage(format!("{} is not a file", file.display())));
        }
        let whole = file.canonicalize().map_err(told)?;
        if folder.join(FILE_NAME).canonicalize().is_ok_and(|own| own == whole) {
            return Err(Error::refused(
                "this is the database of this gateway, which sends what it holds: outpost sync",
            ));
        }
        let beside = whole.parent().unwrap_or(folder);
        if whole.file_name().is_some_and(|name| name == FILE_NAME) && !matches!(look(beside), Ok(Holder::Nobody)) {
            let who = "the gateway of this database is running, and sends what it holds".to_owned();
            return Err(Error::InUse { data_dir: beside.to_owned(), who });
        }
        if facts.len() == 0 {
            return Err(Error::refused(format!("{} is empty", file.display())));
        }
        Ok(whole)
    }
}

/// What came of a file so far.
#[derive(Default)]
struct Found {
    tally: Tally,
    /// Ops that cannot be read, and the former origin of those that have one.
    gaps: Vec<(Option<Origin>, Gap)>,
    /// Some of the records that these changed last.
    records: BTreeSet<RecordKey>,
    /// Former origins of which the hub takes nothing, and why.
    denied: Vec<(Origin, String)>,
}

impl Found {
    /// Hands in what the file holds under its last origin, then what under those before: a hub that was put back may lack some of it.
    async fn hand_in_each(
        &mut self,
        rescue: Handing,
        state: &GatewayState,
        former: &[Origin],
        transport: &Transport,
    ) -> Result<(), Error> {
        let mut rescue = self.hand_in(rescue, None, transport).await?;
        for origin in former {
            let last = rescue.old.turn_to(*origin)?;
            rescue.rescuer = former::hand_in(state, *origin, last);
            rescue = self.hand_in(rescue, Some(*origin), transport).await?;
        }
        Ok(())
    }

    async fn hand_in(&mut self, rescue: Handing, of: Option<Origin>, transport: &Transport) -> Result<Handing, Error> {
        let bar = bar(&rescue.rescuer);
        let (mut rescue, result) = hand_in(rescue, transport, |tally| bar.set_position(looked_at(tally))).await;
        bar.finish_and_clear();
        self.tally += rescue.rescuer.tally();
        match (result, of) {
            // A gateway that was enrolled at another hub before has what it wrote for that one, too.
            (Err(Error::Denied(reason)), Some(origin)) => self.denied.push((origin, reason)),
            (result, _) => {
                result?;
                self.note_gaps(&mut rescue, of)?;
            }
        }
        Ok(rescue)
    }

    fn note_gaps(&mut self, rescue: &mut Handing, of: Option<Origin>) -> Result<(), Error> {
        let mut gaps = Vec::new();
        for (stream, agreed, last) in rescue.rescuer.reach() {
            gaps.extend(rescue.old.gaps(stream, agreed, last)?);
        }
        self.records.extend(rescue.old.records_of(&gaps, PRINTED_MAX)?);
        self.gaps.extend(gaps.into_iter().map(|gap| (of, gap)));
        Ok(())
    }
}

/// Whoever is enrolled here; nobody if that cannot be read.
async fn here(folder: &Path, config: &Config) -> Option<Here> {
    if !is_gateway(folder) {
        return None;
    }
    let store = keys::open_to_read(folder, &config.encryption).await.ok()?;
    let read = store.read(|reader| Ok::<_, Error>((reader.state()?, reader.enrolment()?)));
    let (state, enrolment) = read.ok()?;
    Some(Here { state, enrolment: enrolment? })
}

/// Under which identity the file is handed in.
fn begin(left: &Left, here: Option<&Here>, database: &Path) -> Result<(GatewayState, Rescuer), Error> {
    let enrol = "ask the hub's admin for a code, enrol this gateway (outpost enroll), and run the command again";
    match (&left.state, here) {
        (Some(state), _) if state.origin != UNENROLLED => Ok((state.clone(), Rescuer::new(state, left.last))),
        (Some(state), Some(Here { state: by, .. })) => Ok((by.clone(), Rescuer::of_unenrolled(by, state, left.last))),
        (Some(_), None) => Err(Error::refused(format!(
            "{} was never enrolled, so an enrolled gateway has to hand in what it holds: {enrol}",
            database.display()
        ))),
        // The same gateway, enrolled anew: the hub knows by its present key which origins were its own.
        (None, Some(Here { state: by, .. })) => {
            let origin = left.origin.unwrap_or(UNENROLLED);
            let (device, key, turn) = (by.device, by.key.clone(), by.turn);
            let state = GatewayState { device, key, turn, origin, ..GatewayState::default() };
            let rescuer = match origin {
                UNENROLLED => Rescuer::of_unenrolled(by, &GatewayState::default(), left.last),
                _ => Rescuer::new(&state, left.last),
            };
            Ok((state, rescuer))
        }
        (None, None) => Err(Error::refused(format!(
            "{} cannot be read where it says which gateway it was. On the box that was enrolled anew in its place this is not \
             needed: {enrol}",
            database.display()
        ))),
    }
}

/// Says what is wrong with a file, under its own name and not that of the copy.
fn unusable(database: &Path, error: Error) -> Error {
    let file = database.display();
    match error {
        Error::NotOurs(_) => Error::refused(format!("{file} is not a database of outpost")),
        error if error.is_broken_file() => Error::Told {
            class: Class::Broken,
            detail: format!(
                "{file} is not a database of outpost, or is damaged where it says what is in it. Keep the card; try a copy of it, \
                 if there is one."
            ),
        },
        other => other,
    }
}

fn tell_file(database: &Path, left: &Left, copied: Copied, hub: &str, out: &mut dyn Write) -> Result<(), Error> {
    let name = left.name.as_deref().map_or("a gateway without a name".to_owned(), |name| format!("gateway {name}"));
    let origin = left.origin.filter(|origin| *origin != UNENROLLED);
    let origin = origin.map_or("never enrolled".to_owned(), |Origin(number)| format!("origin {number}"));
    writeln!(out, "{}: {name}, {origin}, {}; hub {hub}", database.display(), bytes(copied.bytes))?;
    if copied.unreadable_bytes > 0 {
        writeln!(out, "{} of the file cannot be read from the card", bytes(copied.unreadable_bytes))?;
    }
    if copied.has_new_header {
        writeln!(out, "the beginning of the file is lost; it is read without")?;
    }
    Ok(())
}

fn bar(rescuer: &Rescuer) -> ProgressBar {
    let ops = rescuer.reach().iter().map(|(_, _, last)| last.0).sum();
    let bar = ProgressBar::new(ops);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos} changes looked at  {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn looked_at(tally: Tally) -> u64 {
    tally.known + tally.in_place + tally.apart + tally.waiting
}

fn tell(tally: Tally, out: &mut dyn Write) -> Result<(), Error> {
    let Tally { known, in_place, apart, held, waiting } = tally;
    writeln!(out, "found            {:>8}  changes that the hub may lack", looked_at(tally))?;
    writeln!(out, "arrived before   {known:>8}")?;
    writeln!(out, "sent now         {:>8}", in_place + apart)?;
    writeln!(out, "  of them under a new number {apart}, waiting at the hub for a person or a parent {held}")?;
    if waiting > 0 {
        writeln!(out, "not sent         {waiting:>8}  a gateway may still send them itself")?;
    }
    Ok(())
}

fn tell_gaps(found: &Found, out: &mut dyn Write) -> Result<(), Error> {
    let lost: u64 = found.gaps.iter().map(|(_, gap)| gap.last.0 - gap.first.0 + 1).sum();
    writeln!(out, "unreadable       {lost:>8}")?;
    for (of, Gap { stream, first, last }) in found.gaps.iter().take(PRINTED_MAX) {
        let stream = match stream {
            Stream::Urgent => "urgent",
            Stream::Normal => "normal",
            Stream::Bulk => "bulk",
        };
        let of = of.map_or(String::new(), |Origin(number)| format!(" of its earlier origin {number}"));
        writeln!(out, "  stream {stream}, numbers {} to {}{of}", first.0, last.0)?;
    }
    if found.gaps.len() > PRINTED_MAX {
        writeln!(out, "  and {} more ranges", found.gaps.len() - PRINTED_MAX)?;
    }
    if lost > 0 {
        for key in found.records.iter().take(PRINTED_MAX) {
            writeln!(out, "  the last change of {key} is among them")?;
        }
        writeln!(out, "keep the card: somebody may be able to read more of it, or another copy may have them")?;
    }
    for (Origin(number), reason) in &found.denied {
        writeln!(out, "not taken: what it wrote as origin {number}, perhaps for another hub: {reason}")?;
    }
    Ok(())
}

fn done(found: &Found, origin: Option<Origin>, out: &mut dyn Write) -> Result<(), Error> {
    let waiting = found.tally.waiting;
    if waiting > 0 {
        return Err(Error::refused(format!(
            "{waiting} change(s) were not sent: for the hub the gateway of this file still goes on under its identity and may send \
             them itself. If it runs somewhere, let it sync and run this again. If its card is gone, enrol it anew with a new code \
             (outpost enroll) and run this again.",
        )));
    }
    if origin == Some(UNENROLLED) {
        writeln!(out, "they were handed in by the gateway of this folder, and come to it with its next sync")?;
    }
    let what = if found.denied.is_empty() { "all" } else { "all else" };
    writeln!(out, "{what} that can be read is at the hub; running it again changes nothing")?;
    Ok(())
}

/// A copy of the file, in a folder that is gone when the command ends.
struct WorkingCopy {
    home: Home,
    copied: Copied,
}

impl WorkingCopy {
    fn make(database: &Path, folder: &Path, key: Option<DataKey>) -> Result<WorkingCopy, Error> {
        // On a technician's own machine there may be no gateway, and no folder of one.
        let place = if folder.is_dir() { folder.to_owned() } else { std::env::temp_dir() };
        remove_left_over(&place);
        let size = |suffix: &str| {
            let mut name = database.as_os_str().to_owned();
            name.push(suffix);
            fs::metadata(PathBuf::from(name)).map_or(0, |file| file.len())
        };
        let needed = size("") + size("-wal") + ROOM_BESIDE;
        if let Some(free) = Disk::new(&place, 0).free_bytes().filter(|free| *free < needed) {
            return Err(Error::refused(format!(
                "a copy of the file needs {} in {}, and {} are free: free some, or name another folder with --data-dir",
                bytes(needed),
                place.display(),
                bytes(free)
            )));
        }
        let dir = place.join(format!("{PREFIX}{}", std::process::id()));
        // Only who works here may read it: it holds records and a key.
        DirBuilder::new().mode(0o700).create(&dir)?;
        let mut copy = WorkingCopy { home: Home::new(&dir, key), copied: Copied::default() };
        copy.copied = copy_old(database, &copy.home)?;
        Ok(copy)
    }
}

impl Drop for WorkingCopy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(self.home.dir()) {
            tracing::error!(folder = %self.home.dir().display(), %error, "the copy could not be removed; remove it by hand");
        }
    }
}

/// Removes copies of commands that were killed.
fn remove_left_over(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|id| id.parse::<u32>().ok());
        let is_running = |id: u32| id != std::process::id() && Path::new("/proc").join(id.to_string()).exists();
        if process.is_some_and(|id| !is_running(id)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
