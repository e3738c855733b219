//! The command line: what a technician types. Each command is a few calls of the local API, so that it does the same with a
//! running daemon and without one.

mod acts;
mod apps;
mod client;
mod doctor;
mod import;
mod key;
mod people;
mod records;
mod rescue;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::board::note_read_only_card;
use crate::clock::Clock;
use crate::config::{Config, SAMPLE, data_dir};
use crate::disk::Disk;
use crate::error::Error;
use crate::keys::{self, Prompt};
use crate::lock::{Holder, look_patiently, takes_no_writes};
use crate::read_only::is_read_only;
use crate::run::run;
use crate::status::Status;
use crate::store::Reader;
use crate::sync::Way;
use client::Client;

/// Outpost gateway: keeps a clinic's records safe and syncs them with the hub.
///
/// Exit codes: 0 done, 2 configuration or command line, 3 hub not reached (records are safe), 4 refused, 5 denied by the hub,
/// 6 broken, 7 the database, or what opens it, was written by a newer version.
#[derive(Debug, Parser)]
#[command(name = "outpost", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Folder of the database and the configuration.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file; outpost.toml in the data folder unless named.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Open file descriptor from which passphrases are read, a line each, such as 0; without it, they are asked for at the terminal.
    #[arg(long, global = true, value_name = "N")]
    passphrase_fd: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve apps and sync with the hub, until stopped.
    Run {
        /// Where programs and commands of this machine reach the gateway; port 0 takes a free one.
        #[arg(long, value_name = "ADDR:PORT")]
        listen: Option<SocketAddr>,
        /// Where paired apps reach it from the clinic's network, such as 0.0.0.0:8471.
        #[arg(long, value_name = "ADDR:PORT")]
        network: Option<SocketAddr>,
    },
    Pair(apps::Pair),
    #[command(subcommand)]
    Apps(apps::Apps),
    Acts(acts::Acts),
    /// Join a hub with the one-time code that its admin made.
    Enroll {
        /// The code, which says where the hub is; before it an address, such as https://hub.example.org, if that is another.
        #[arg(value_name = "[HUB_URL] CODE", num_args = 1..=2, required = true)]
        words: Vec<String>,
        /// Join although this gateway is enrolled under another name, which it loses.
        #[arg(long)]
        again: bool,
        /// The hub stands in the place of the one before, which is lost: show it everything that is held here.
        #[arg(long)]
        new_hub: bool,
    },
    /// Show what is held, what waits, and what needs a person.
    Status {
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Sync with the hub now.
    Sync,
    /// Take records of one type from a file, one JSON object a line; replaces whole records.
    ///
    /// A record that is held already is replaced as a whole by what the file says of it: fields that the file does not have are
    /// removed, and what somebody edited since the file was made stays in the history only. Of lines with one id the last stands.
    Import(import::Import),
    /// Send the hub what an old or broken database still holds; run again, it does no harm.
    ///
    /// The file is only read. It may be a database that was set aside, or one from another card, with its log (-wal) beside it.
    /// The running gateway is not disturbed. Exit code 0 means that all that can be read has arrived.
    Rescue(rescue::Rescue),
    /// Look at records.
    #[command(subcommand)]
    Records(records::Records),
    /// See and settle fields in which two values stand.
    #[command(subcommand)]
    Conflicts(people::Conflicts),
    /// See changes that the hub cannot use, and decide about them.
    #[command(subcommand)]
    Parked(people::Parked),
    /// Encrypt the database, and decide what opens it.
    #[command(subcommand)]
    Key(key::Key),
    /// Say the passphrase to a gateway that waits for it.
    Unlock,
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check disk, clock, link, hub and database, and say what to do.
    Doctor,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the defaults with what each key means.
    Default,
    /// Check the configuration file.
    Check,
}

/// Runs one command. Results go to `out`, everything else to the log.
///
/// # Errors
/// [`Error`]; its class is the exit code.
pub async fn execute(cli: Cli, out: &mut dyn Write) -> Result<(), Error> {
    let folder = data_dir(cli.data_dir)?;
    let prompt = cli.passphrase_fd.map(Prompt::from_descriptor).transpose()?.unwrap_or_default();
    let load = || {
        let mut config = Config::load(cli.config.as_deref(), &folder)?;
        config.encryption.prompt = prompt.clone();
        Ok::<_, Error>(config)
    };
    match cli.command {
        Command::Run { listen, network } => {
            let mut config = load()?;
            config.listen = listen.unwrap_or(config.listen);
            config.network.listen = network.or(config.network.listen);
            config.check_listeners()?;
            let announce = |address, network: Option<SocketAddr>| {
                let _ = writeln!(out, "listening on http://{address}");
                if let Some(address) = network {
                    let _ = writeln!(out, "and for paired apps on https://{address}");
                }
                let _ = out.flush();
            };
            run(&folder, &config, announce, stop_signal()).await
        }
        Command::Enroll { words, again, new_hub } => {
            let (hub_url, code) = match words.as_slice() {
                [code] => (None, code.as_str()),
                [hub_url, code] => (Some(hub_url.as_str()), code.as_str()),
                _ => return Err(Error::Usage("outpost enroll CODE".to_owned())),
            };
            if let Some(url) = hub_url.filter(|url| !["http://", "https://"].iter().any(|s| url.starts_with(s))) {
                let told = format!("{url} is no address of a hub: it begins with http:// or https://");
                return Err(Error::Usage(told));
            }
            // What is mistyped is said before anything is made.
            let hub_url = Way::find(hub_url, code)?.hub_url;
            let mut client = Client::make(&folder, &load()?).await?;
            let wish = serde_json::json!({"hub_url": hub_url, "code": code, "again": again, "new_hub": new_hub});
            let answer = client.ask_json("POST", "/v1/enroll", &wish).await?;
            let name = answer.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
            writeln!(out, "enrolled as {name} at {hub_url}").map_err(Error::from)
        }
        Command::Pair(pair) => pair.execute(&mut Client::connect(&folder, &load()?).await?, out).await,
        Command::Apps(apps) => apps.execute(&mut Client::connect(&folder, &load()?).await?, out).await,
        Command::Acts(acts) => acts.execute(&mut Client::connect(&folder, &load()?).await?, out).await,
        Command::Status { json } => status(&folder, &load().unwrap_or_default(), json, out).await,
        Command::Sync => sync(&mut Client::connect(&folder, &load()?).await?, out).await,
        Command::Import(import) => import.execute(&mut Client::connect(&folder, &load()?).await?, out).await,
        Command::Rescue(rescue) => rescue.execute(&folder, &load()?, out).await,
        Command::Records(records) => records.execute(&mut Client::connect(&folder, &load()?).await?, out).await,
        Command::Conflicts(conflicts) => conflicts.execute(&mut Client::connect(&folder, &load()?).await?, out).await,
        Command::Parked(parked) => parked.execute(&mut Client::connect(&folder, &load()?).await?, out).await,
        Command::Key(key) => key.execute(&folder, &load()?, out).await,
        Command::Unlock => key::unlock(&folder, &load()?, out).await,
        Command::Config(ConfigCommand::Default) => write!(out, "{SAMPLE}").map_err(Error::from),
        Command::Config(ConfigCommand::Check) => {
            load()?;
            writeln!(out, "the configuration is good").map_err(Error::from)
        }
        Command::Doctor => doctor::examine(&folder, &load()?, out).await,
    }
}

/// From the database alone: the same with or without a daemon. A person is told if there is none.
async fn status(folder: &std::path::Path, config: &Config, json: bool, out: &mut dyn Write) -> Result<(), Error> {
    let holder = look_patiently(folder).await?;
    let store = match &holder {
        // Of a card that takes no writes any more the gateway has a copy, which is ahead.
        Holder::Daemon(address) if takes_no_writes(folder) => return status_of(*address, out).await,
        holder => match (keys::open_to_read(folder, &config.encryption).await, holder) {
            // The key is in the memory of the gateway and not at hand here.
            (Err(Error::KeyAbsent(_)), Holder::Daemon(address)) => return status_of(*address, out).await,
            // SQLite reads a database only where it may write beside it, or has.
            (Err(Error::Database(_)), _) if is_read_only(folder) => return Err(Error::read_only_card()),
            (store, _) => store?,
        },
    };
    if is_read_only(folder) {
        note_read_only_card();
    }
    let (facts, now_ms) = store.read(|reader| Ok::<_, Error>((reader.status()?, time_ms(reader))))?;
    let status = Status::new(&facts, &Disk::new(folder, config.disk_reserve_bytes()), now_ms);
    match json {
        true => {
            let text = serde_json::to_string_pretty(&status).map_err(|e| Error::Config(e.to_string()))?;
            writeln!(out, "{text}").map_err(Error::from)
        }
        false => {
            if matches!(holder, Holder::Nobody) {
                writeln!(
                    out,
                    "the gateway is not running: sudo systemctl start outpost, or outpost run --data-dir {}",
                    folder.display()
                )?;
            }
            write!(out, "{}", status.text(now_ms)).map_err(Error::from)
        }
    }
}

/// The time as the gateway of this database has it: what the box says alone may be in any year, and what is counted from was
/// noted by the hub's time.
fn time_ms(reader: &Reader<'_>) -> i64 {
    reader.boot().map_or_else(|_| Clock::default(), Clock::of_boot).now().now_ms
}

/// As the gateway itself says it, which is in JSON only.
async fn status_of(address: SocketAddr, out: &mut dyn Write) -> Result<(), Error> {
    let status = Client::Daemon(address).ask_json("GET", "/v1/status", &serde_json::Value::Null).await?;
    let text = serde_json::to_string_pretty(&status).map_err(|e| Error::Config(e.to_string()))?;
    writeln!(out, "{text}").map_err(Error::from)
}

async fn sync(client: &mut Client, out: &mut dyn Write) -> Result<(), Error> {
    let report = client.ask_json("POST", "/v1/sync", &serde_json::Value::Null).await?;
    let number = |key: &str| report.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
    writeln!(
        out,
        "sent {}, received {}, in {} exchange(s): {} up, {} down",
        number("sent"),
        number("received"),
        number("exchanges"),
        crate::status::bytes(number("bytes_up")),
        crate::status::bytes(number("bytes_down")),
    )
    .map_err(Error::from)
}

/// Ends when the program is asked to stop.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Sets up the log: to standard error, by the configuration or `RUST_LOG`.
pub fn start_log(cli: &Cli) {
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let level = data_dir(cli.data_dir.clone())
        .and_then(|folder| Config::load(cli.config.as_deref(), &folder))
        .map_or("info", |config| config.log_level.name());
    let quiet = !matches!(cli.command, Command::Run { .. });
    let wanted = std::env::var("RUST_LOG").ok().filter(|wanted| !wanted.is_empty());
    // Levels by target only: filters on fields would bring regular expressions with them, a quarter of a megabyte.
    let parse = |wanted: &str| wanted.parse::<Targets>().ok();
    let filter = wanted.as_deref().and_then(parse).or_else(|| parse(if quiet { "error" } else { level }));
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    // That a line cannot be written would be told where it cannot be written, and end the program.
    let log = log.log_internal_errors(false);
    let log = tracing_subscriber::registry().with(filter.unwrap_or_default()).with(log);
    // A second start in one process (tests) keeps the first.
    let _ = log.try_init();
}
