//! How long the upgrade of a large database takes, and that nothing is lost by it: `tests/upgrade`.
//!
//! A gateway and a hub of today are filled, half of the records known to both and half unsent, and taken back to each older
//! layout. Then their programs' stores are opened, which brings them up to date, and the gateway sends what it has. And the power
//! fails some times within the first commit of that, which at a gateway is one step and at a hub all of them: what is left is of the
//! older layout still, and is brought up to date.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use agent::error::Error;
use agent::store::{Inline as Card, Options, Tx};
use anyhow::{Context, Result, ensure};
use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::{self, Capture, Captured, Intent, Refusal, Store as _};
use sync_protocol::hub::Snapshot as _;
use sync_protocol::id::{Author, RecordKey, Scope};
use sync_protocol::identity::DeviceKey;
use sync_protocol::loopback::{Link, Traffic, exchange};

use super::age::{Program, age};
use super::rows::{Table, are_kept, layout, open_as_it_is, tables};
use crate::generator::Generator;
use crate::sim::torn::Files;

/// When the work was done, by a clock of its own.
const NOW_MS: i64 = 1_790_000_000_000;
/// Writes that share a commit.
const GROUP: usize = 500;
/// Patients of a day.
const PATIENTS: usize = 150;
const EXCHANGES_MAX: usize = 10_000;
/// Power cuts within the first commit of an upgrade.
const CUTS: usize = 4;

/// One upgrade.
#[derive(Debug, Clone)]
pub struct Upgrade {
    /// Whose database it was.
    pub program: Program,
    /// Its layout before.
    pub from: u32,
    /// How long the store took to open.
    pub took: Duration,
    /// The same with a database that is up to date.
    pub usually: Duration,
    /// Unsent changes that the gateway had after it and the hub has now; of the hub's upgrade, 0.
    pub sent: u64,
    /// Power cuts within its first commit.
    pub cuts: usize,
}

/// Upgrades a gateway with so many records, half of them unsent, and its hub, from each older layout, in folders made in `home`.
///
/// # Errors
/// If anything is lost, and whatever fails.
pub fn run(home: &Path, records: usize) -> Result<Vec<Upgrade>> {
    let filled = home.join("filled");
    let unsent = fill(&filled, records)?;
    let mut upgrades = Vec::new();
    for (program, database) in [(Program::Gateway, "gateway/outpost.db"), (Program::Hub, "hub/hub.db")] {
        let newest = u32::try_from(program.steps()?.len())?;
        let before = tables(&open_as_it_is(&filled.join(database), None)?)?;
        let usually = opening(&filled, program)?;
        for from in 1..newest {
            let folder = home.join(format!("{program:?}-{from}"));
            for part in ["gateway/outpost.db", "hub/hub.db"] {
                fs::create_dir_all(folder.join(part).parent().context("a folder")?)?;
                fs::copy(filled.join(part), folder.join(part))?;
            }
            age(&folder.join(database), program, from)?;
            let aged = tables(&open_as_it_is(&folder.join(database), None)?)?;
            are_kept(&aged, &before)?;
            let took = opening(&folder, program)?;
            are_kept(&aged, &tables(&open_as_it_is(&folder.join(database), None)?)?)?;
            let sent = send(&folder)?;
            ensure!(sent == unsent, "{sent} changes were sent of {unsent}");
            fs::copy(filled.join(database), folder.join(database))?;
            age(&folder.join(database), program, from)?;
            let cuts = cut(&folder, database, program, from, &aged)?;
            ensure!(cuts > 0, "the power never failed within the upgrade of the {program:?} from layout {from}");
            upgrades.push(Upgrade { program, from, took, usually, sent, cuts });
            fs::remove_dir_all(&folder)?;
        }
    }
    fs::remove_dir_all(filled)?;
    Ok(upgrades)
}

/// Has the power fail within the first commit of an upgrade, and opens what is left; gives how often that was.
fn cut(folder: &Path, database: &str, program: Program, from: u32, aged: &BTreeMap<String, Table>) -> Result<usize> {
    let file = folder.join(database);
    let beside = open_as_it_is(&file, None)?;
    beside.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    let synced = Files::read(&file)?;
    // Who reads what was there keeps the log from being folded, however much is written.
    let reads = beside.unchecked_transaction()?;
    layout(&reads)?;
    opening(folder, program)?;
    let left = synced.cuts_of_commit(&Files::read(&file)?, CUTS);
    drop(reads);
    drop(beside);
    for (nth, left) in left.iter().enumerate() {
        left.write(&file, false)?;
        let is = layout(&open_as_it_is(&file, None)?)?;
        ensure!(is == from, "cut {nth} was not within the first commit: the layout is {is} after it, and was {from}");
        opening(folder, program)?;
        are_kept(aged, &tables(&open_as_it_is(&file, None)?)?)?;
    }
    Ok(left.len())
}

/// How long the store takes to open.
fn opening(folder: &Path, program: Program) -> Result<Duration> {
    let began = Instant::now();
    match program {
        Program::Gateway => drop(Card::open(&folder.join("gateway"), Options::default())?),
        Program::Hub => drop(server_stub::Inline::open(&folder.join("hub"))?),
    }
    Ok(began.elapsed())
}

/// Fills a gateway and its hub; gives how many changes are unsent.
fn fill(folder: &Path, records: usize) -> Result<u64> {
    fs::create_dir_all(folder.join("gateway"))?;
    let mut hub = server_stub::Inline::open(&folder.join("hub"))?;
    let known = hub.enroll(NOW_MS, "clinic", &[Scope::root()], DeviceKey([7; 32]))?;
    let epoch = hub.write(NOW_MS, |tx| tx.epoch())?;
    let mut card = Card::open(&folder.join("gateway"), Options::default())?;
    card.write(move |tx| -> Result<(), Error> {
        let mut state = tx.state()?;
        (state.device, state.origin, state.key) = (known.device, known.origin, known.key);
        (state.scopes, state.source, state.epoch) = (known.scopes, known.source, epoch);
        tx.set_state(&state)
    })?;
    card.commit()?;
    let mut generator = Generator::at(1, "mw/zomba/chingale");
    save(&mut card, &mut generator, records / 2)?;
    drop(card);
    drop(hub);
    send(folder)?;
    let mut card = Card::open(&folder.join("gateway"), Options::default())?;
    save(&mut card, &mut generator, records - records / 2)?;
    Ok((records - records / 2) as u64)
}

fn save(card: &mut Card, generator: &mut Generator, records: usize) -> Result<()> {
    let mut waiting = Vec::new();
    for nth in 0..records {
        if waiting.is_empty() {
            waiting = generator.clinic_day(PATIENTS);
            waiting.reverse();
        }
        let made = waiting.pop().context("a clinic without a day")?;
        let wish = Capture {
            key: RecordKey::new(made.record_type, &made.id)?,
            intent: Intent::Put(made.body),
            base: None,
            author: Some(Author::new("nurse")?),
            now_ms: NOW_MS + nth as i64,
            quality: TimeQuality::Good,
        };
        let captured = card.write(|tx| -> Result<Captured, Refusal<Error>> { gateway::capture(tx, wish) });
        captured.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        if (nth + 1) % GROUP == 0 {
            card.commit()?;
        }
    }
    Ok(card.commit()?)
}

/// Exchanges until there is no news; gives how many changes went up, after which nothing is unsent and both hold the same.
fn send(folder: &Path) -> Result<u64> {
    let mut card = Card::open(&folder.join("gateway"), Options::default())?;
    let mut hub = server_stub::Inline::open(&folder.join("hub"))?;
    let mut link = Link::new()?;
    let now_ms = NOW_MS + 3_600_000;
    let mut sent = 0;
    for _ in 0..EXCHANGES_MAX {
        let mut failure = None;
        let one = card.write(|tx: &mut Tx<'_>| -> Result<Traffic, Error> {
            let with_hub = |at_hub: &mut server_stub::Tx<'_>| -> Result<_, server_stub::StoreError> {
                Ok(exchange(tx, at_hub, &mut link, now_ms.unsigned_abs()))
            };
            let done = hub.write(now_ms, with_hub).map_err(|error| error.to_string());
            done.and_then(|done| done.map_err(|error| error.to_string())).map_err(|told| {
                failure = Some(told);
                Error::Closed
            })
        });
        let one = one.map_err(|error| anyhow::anyhow!(failure.unwrap_or_else(|| error.to_string())))?;
        card.commit()?;
        sent += one.ops as u64;
        if !one.again {
            ensure!(one.agrees, "gateway and hub differ");
            let status = card.read(|reader| reader.status())?;
            ensure!(status.streams.iter().all(|stream| stream.unsent == 0), "something is unsent");
            return Ok(sent);
        }
    }
    anyhow::bail!("the exchanges do not come to an end")
}
