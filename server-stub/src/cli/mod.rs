//! The command line. Commands work on the database itself, whether or not the hub is being served from it.

mod admin;
mod audit;
mod backup;
mod conflicts;
mod erase;
mod gateway;
mod quarantine;
mod records;
mod rules;

use std::future::pending;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use serde_json::{Value as Json, json};
use sync_protocol::ticket::ADDRESS_BYTES_MAX;
use zeroize::Zeroizing;

use crate::account::{AccountName, Role, Sight};
use crate::audit::{Actor, What};
use crate::clock::now_ms;
use crate::config::{Config, SAMPLE, Tls};
use crate::error::HubError;
use crate::hub::{Hub, authority_of, open_database, open_existing};
use crate::lock::Lock;
use crate::server::{serve, serve_tls};
use crate::service;
use crate::staff::{self, Boss};
use crate::store::{Database, Tx, head_beside};
use crate::term::{self, Term, Urgency};

/// The centre of an Outpost fleet: takes in what gateways send, merges it, and shows what has not arrived.
///
/// Exit codes: 0 done, 2 configuration, 3 try again later, 4 input refused, 5 not permitted, 6 broken, 7 the database was written
/// by a newer version.
#[derive(Debug, Parser)]
#[command(name = "outpost-hub", version)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Common {
    /// Where hub.db and admin.token live
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The configuration file, if not /etc/outpost-hub/config.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a hub that gateways reach at this address, or say that its address has changed; with its first account, if it has none
    Init {
        /// Host and port as gateways reach it, such as hub.example.org:8480; without a port, that of `listen`
        #[arg(long, value_name = "HOST[:PORT]")]
        name: String,
        /// The name of the first account, which may do everything; nothing happens if there are accounts
        #[arg(long, value_name = "NAME", default_value = "admin")]
        admin: AccountName,
    },
    /// Accounts of people at the centre, and tokens of their programs
    #[command(subcommand)]
    Admin(admin::Command),
    /// Who did what: verify, export, the head to keep elsewhere
    #[command(subcommand)]
    Audit(audit::Command),
    /// Certificates, to give them to other programs
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// Serve gateways, the admin API and the status page
    Serve {
        /// Where to listen; port 0 takes any that is free
        #[arg(long, value_name = "ADDR:PORT")]
        listen: Option<SocketAddr>,
    },
    /// Gateways: add, list, show, give a new code, change scopes, revoke, allow
    #[command(subcommand)]
    Gateway(gateway::Command),
    /// Conflict rules: check a document, try it on the past, publish it
    #[command(subcommand)]
    Rules(rules::Command),
    /// Look at records
    #[command(subcommand)]
    Records(records::Command),
    /// Conflicts that wait for a person
    #[command(subcommand)]
    Conflicts(conflicts::Command),
    /// Changes that the rules hold back
    #[command(subcommand)]
    Quarantine(quarantine::Command),
    /// Erase what is known of a person, everywhere and for good: ask, agree, status
    #[command(subcommand)]
    Erase(erase::Command),
    /// Copy the database, also while the hub is running
    Backup {
        /// Where to; a good copy replaces one that is there
        file: PathBuf,
    },
    /// Put a backup in the place of the database; stop the hub before
    Restore {
        /// What `backup` made
        file: PathBuf,
    },
    /// The configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum CertificateCommand {
    /// Tell until when gateways take the certificate that the hub was given, and what to do. Fails in its last week
    Status,
    /// Print the certificate of the hub's own authority: a proxy knows gateways by it, and a browser the hub
    Authority,
    /// Print a new key and certificate for a proxy under the hub's name: secret
    Proxy {
        /// How long it is valid
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=825))]
        days: u32,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print a file with every key and its default
    Default,
    /// Check a file
    Check {
        /// The file
        file: PathBuf,
    },
}

/// Where a command works, and where it prints to.
struct Place<'a> {
    config: Config,
    data_dir: PathBuf,
    out: &'a mut dyn Write,
}

impl Place<'_> {
    fn database(&self) -> Result<Database, HubError> {
        open_existing(&self.data_dir)
    }

    fn read<T>(&self, look: impl FnOnce(&mut Tx<'_>) -> Result<T, HubError>) -> Result<T, HubError> {
        self.database()?.read(now_ms(), look)
    }

    /// Does something in one transaction that writes down itself what it did, by whoever types.
    fn write<T>(&self, act: impl FnOnce(&mut Tx<'_>, &Actor) -> Result<T, HubError>) -> Result<T, HubError> {
        let beside = head_beside(&self.data_dir);
        self.database()?.write(now_ms(), |tx| {
            tx.audit_start(beside)?;
            act(tx, &Actor::at_the_keyboard())
        })
    }

    /// Changes something, or shows records, and writes that down in the same transaction.
    fn change<T>(
        &self,
        what: What,
        act: impl FnOnce(&mut Tx<'_>) -> Result<(T, Json), HubError>,
    ) -> Result<T, HubError> {
        self.write(|tx, actor| {
            let (done, target) = act(tx)?;
            tx.audit(actor, what, &target)?;
            Ok(done)
        })
    }

    /// Prints a line. A reader that went away is no error of ours.
    fn say(&mut self, line: impl std::fmt::Display) {
        let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }

    fn say_json(&mut self, value: &impl serde::Serialize) {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.say(text);
    }
}

/// Runs one command; what it prints goes to `out`.
///
/// # Errors
/// [`HubError`]; its class gives the exit code.
pub fn run(cli: Cli, out: &mut dyn Write) -> Result<(), HubError> {
    if let Command::Config(command) = cli.command {
        return config(&command, out);
    }
    let config = Config::load(cli.common.config.as_deref())?;
    let data_dir = config.data_dir(cli.common.data_dir.as_deref())?;
    let mut place = Place { config, data_dir, out };
    match cli.command {
        Command::Init { name, admin } => init(&mut place, &name, &admin),
        Command::Admin(command) => admin::run(&mut place, command),
        Command::Audit(command) => audit::run(&mut place, command),
        Command::Certificate(command) => certificate(&mut place, &command),
        Command::Serve { listen } => serve_command(&mut place, listen),
        Command::Gateway(command) => gateway::run(&mut place, command),
        Command::Rules(command) => rules::run(&mut place, command),
        Command::Records(command) => records::run(&mut place, command),
        Command::Conflicts(command) => conflicts::run(&mut place, command),
        Command::Quarantine(command) => quarantine::run(&mut place, &command),
        Command::Erase(command) => erase::run(&mut place, command),
        Command::Backup { file } => backup::back_up(&mut place, &file),
        Command::Restore { file } => backup::restore(&mut place, &file),
        Command::Config(_) => Ok(()),
    }
}

fn config(command: &ConfigCommand, out: &mut dyn Write) -> Result<(), HubError> {
    let text = match command {
        ConfigCommand::Default => SAMPLE.to_owned(),
        ConfigCommand::Check { file } => {
            Config::load(Some(file))?;
            format!("{} is fine\n", file.display())
        }
    };
    let _ = out.write_all(text.as_bytes());
    Ok(())
}

fn serve_command(place: &mut Place<'_>, listen: Option<SocketAddr>) -> Result<(), HubError> {
    let address = listen.unwrap_or(place.config.listen);
    let refused = |source| HubError::Listen { address: address.to_string(), source };
    let _lock = Lock::take(&place.data_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refused)?;
    runtime.block_on(async {
        let hub = Hub::open_with(&place.data_dir, place.config.clone())?;
        let listener = tokio::net::TcpListener::bind(address).await.map_err(refused)?;
        let beside = head_beside(&place.data_dir);
        hub.write(move |tx| {
            tx.audit_start(beside)?;
            tx.note_start()
        })
        .await?;
        let bound = listener.local_addr().map_err(refused)?;
        let tls = place.config.tls;
        if tls == Tls::Off && !bound.ip().is_loopback() {
            let told = format!("tls is off, and {bound} is not an address of this machine only");
            return Err(HubError::Config(told));
        }
        let scheme = if tls == Tls::Own { "https" } else { "http" };
        tracing::info!(address = %bound, data_dir = %place.data_dir.display(), "serving");
        if tls == Tls::Own {
            hub.write(move |tx| tx.note_bound(&bound.to_string())).await?;
        }
        place.say(format!("listening on {scheme}://{bound}"));
        let asked = asked_to_end();
        let until = async {
            asked.await;
            service::ending();
        };
        let served = async {
            match tls {
                Tls::Own => serve_tls(listener, hub.clone(), until).await,
                Tls::Proxy | Tls::Off => {
                    serve(listener, hub.clone(), until).await;
                    Ok(())
                }
            }
        };
        tokio::select! {
            ended = served => ended?,
            never = service::vouch(&hub, bound) => match never {},
            never = term::remind(&hub) => match never {},
        }
        tracing::info!("ended");
        Ok(())
    })
}

/// Makes the hub of a folder, if there is none, and keeps under which address gateways reach it.
fn init(place: &mut Place<'_>, name: &str, admin: &AccountName) -> Result<(), HubError> {
    let address = with_port(name, place.config.listen.port());
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    if name.is_empty() || address.len() > ADDRESS_BYTES_MAX || !address.chars().all(is_fine) {
        return Err(HubError::Invalid("a hub's name is a host name or an address, such as hub.example.org".to_owned()));
    }
    let mut database = open_database(&place.data_dir)?;
    let authority = authority_of(&mut database, &place.config)?;
    // So that a name that no certificate can have is refused now, and files that no gateway would trust.
    Arc::new(authority).listener(&place.config, &address, place.config.listen.ip())?;
    let hours = place.config.code_hours_valid;
    let code = place.write(|tx, actor| {
        tx.set_address(&address)?;
        tx.audit(actor, What::SetAddress, &json!({ "address": address }))?;
        if !tx.accounts()?.is_empty() {
            return Ok(None);
        }
        let boss = Boss { actor: actor.clone(), sight: Sight::everything() };
        staff::add(tx, &boss, (admin, Role::Admin, &Sight::everything()), hours).map(Some)
    })?;
    // Who types it as another user, or with another folder, makes a hub of his own without noticing.
    place.say(format!("the hub in {}", place.data_dir.display()));
    place.say(format!("gateways reach this hub at https://{address}; it hears of that when it is started again"));
    if let Some(code) = code {
        admin::say_code(place, admin, &code)?;
    }
    Ok(())
}

/// A host, with a port of its own or this one.
fn with_port(name: &str, port: u16) -> String {
    let has_port = name.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match name.parse::<IpAddr>() {
        // First, because the end of one of IPv6 may look like a port.
        Ok(address) => SocketAddr::new(address, port).to_string(),
        Err(_) if has_port => name.to_owned(),
        Err(_) => format!("{name}:{port}"),
    }
}

fn certificate(place: &mut Place<'_>, command: &CertificateCommand) -> Result<(), HubError> {
    if let CertificateCommand::Status = command {
        return certificate_status(place);
    }
    let mut database = place.database()?;
    let authority = authority_of(&mut database, &place.config)?;
    let text = match command {
        CertificateCommand::Status => return Ok(()),
        CertificateCommand::Authority => Zeroizing::new(authority.as_text()),
        CertificateCommand::Proxy { days } => {
            let kept = database.read(now_ms(), |tx| tx.authority())?;
            let address = kept.map(|kept| kept.address).filter(|address| !address.is_empty());
            let unnamed =
                || HubError::Config("say the hub's name first: outpost-hub init --name hub.example.org".to_owned());
            let address = address.ok_or_else(unnamed)?;
            let made = authority.for_proxy(&address, now_ms(), *days)?;
            place.change(What::GiveCertificate, |_| Ok(((), json!({ "address": address, "days": days }))))?;
            made
        }
    };
    place.say(text.trim_end());
    Ok(())
}

fn certificate_status(place: &mut Place<'_>) -> Result<(), HubError> {
    let config = place.config.clone();
    match place.read(|tx| Ok(term::term_of(tx, &config)?))? {
        None => place.say("the hub makes its own certificate, and renews it by itself"),
        Some(Term { urgency: Urgency::Now, warning, .. }) => return Err(HubError::Ending(warning)),
        Some(Term { urgency: Urgency::Soon, warning, .. }) => place.say(format!("soon: {warning}")),
        Some(Term { file, ends_at, .. }) => place.say(format!("{} is good until {ends_at}", file.display())),
    }
    Ok(())
}

/// Ready on Ctrl-C or SIGTERM.
fn asked_to_end() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    // Listened for from here on: whoever is told that we are ready may ask at once.
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async {
        let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else { return pending().await };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

fn read_file(path: &Path) -> Result<String, HubError> {
    std::fs::read_to_string(path).map_err(|source| HubError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_is_named_with_or_without_a_port() {
        for (name, address) in [
            ("hub.example.org", "hub.example.org:8480"),
            ("hub.example.org:443", "hub.example.org:443"),
            ("10.0.0.5", "10.0.0.5:8480"),
            ("10.0.0.5:443", "10.0.0.5:443"),
            ("fd00::5", "[fd00::5]:8480"),
            ("[fd00::5]", "[fd00::5]:8480"),
            ("[fd00::5]:443", "[fd00::5]:443"),
        ] {
            assert_eq!(with_port(name, 8480), address);
        }
    }
}
