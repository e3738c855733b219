//! A running hub: its store, its limits and its secrets, behind one handle that is cheap to clone.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use sync_protocol::frame::{Effort, Packer};
use sync_protocol::id::Scope;
use sync_protocol::ticket::{ADDRESS_BYTES_MAX, Ticket};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::audit::{Actor, What};
use crate::clock::{now_ms, possible_ms};
use crate::config::{Config, Tls};
use crate::error::{HubError, StoreError};
use crate::exchange::Places;
use crate::given;
use crate::oidc;
use crate::password::Mill;
use crate::pki::{self, Authority};
use crate::refusals::Refusals;
use crate::room::Room;
use crate::secret;
use crate::store::{Database, Lasting, NewGateway, Readers, Tx, Writer};
use crate::tries::{Codes, Tries};

const PACKERS_KEPT: usize = 8;
/// People and programs that look through records at a time: fewer than there are readers, so that gateways never wait for all of them.
const LOOKERS_MAX: usize = 2;
/// How often it is looked at while a program waits for another.
const GLANCE: Duration = Duration::from_millis(20);
/// How long a program waits for another that is making the same database.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);
/// How long a command waits for a hub to be made.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// A hub over one data directory.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    data_dir: PathBuf,
    config: Config,
    writer: Writer,
    readers: Readers,
    admin_token: Zeroizing<String>,
    places: Places,
    lookers: Semaphore,
    packers: Mutex<Vec<Packer>>,
    codes: Mutex<Codes>,
    mill: Mill,
    tries: Mutex<Tries>,
    refusals: Refusals,
    room: Room,
    authority: Option<Arc<Authority>>,
    oidc: Option<oidc::Client>,
}

impl Hub {
    /// Opens the hub of a data directory with the default configuration, and makes both if they are not there.
    ///
    /// # Errors
    /// [`HubError`] if the directory, the database or the admin token cannot be used.
    pub fn open(data_dir: &Path) -> Result<Hub, HubError> {
        Hub::open_with(data_dir, Config::default())
    }

    /// As [`Hub::open`], with another configuration.
    ///
    /// # Errors
    /// As [`Hub::open`].
    pub fn open_with(data_dir: &Path, config: Config) -> Result<Hub, HubError> {
        let mut database = open_database(data_dir)?;
        database.erase_again()?;
        let authority = match config.tls {
            Tls::Own | Tls::Proxy => Some(Arc::new(authority_of(&mut database, &config)?)),
            Tls::Off => None,
        };
        let oidc = oidc::Client::open(&config.oidc)?;
        Ok(Hub(Arc::new(Inner {
            data_dir: data_dir.to_owned(),
            writer: Writer::start(database)?,
            readers: Readers::new(database_path(data_dir)),
            admin_token: secret::admin_token(data_dir)?,
            places: Places::new(config.exchanges_max),
            lookers: Semaphore::new(LOOKERS_MAX),
            packers: Mutex::new(Vec::new()),
            codes: Mutex::default(),
            mill: Mill::new(),
            tries: Mutex::default(),
            refusals: Refusals::default(),
            room: Room::new(data_dir, config.disk_reserve_bytes()),
            authority,
            oidc,
            config,
        })))
    }

    /// How it runs.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Where it keeps its files.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.0.data_dir
    }

    /// What its certificates come from, if it speaks TLS.
    pub(crate) fn authority(&self) -> Option<&Arc<Authority>> {
        self.0.authority.as_ref()
    }

    /// The provider at which people may log in, if one is configured.
    pub(crate) fn oidc(&self) -> Option<&oidc::Client> {
        self.0.oidc.as_ref()
    }

    /// What opens the admin API for programs on this machine.
    pub fn admin_token(&self) -> &str {
        &self.0.admin_token
    }

    /// Adds a gateway and gives the code by which it can be enrolled once. `source` is a name from the rules: `clinic`
    /// unless it is something else.
    ///
    /// # Errors
    /// [`HubError`] if the name is taken, or a scope or the source is not valid.
    pub async fn add_gateway(&self, name: &str, scopes: &[&str], source: &str) -> Result<Zeroizing<String>, HubError> {
        self.add_gateway_as(Actor::hub(), new_gateway(name, scopes, source)?).await
    }

    /// As [`Hub::add_gateway`], for somebody.
    pub(crate) async fn add_gateway_as(&self, actor: Actor, new: NewGateway) -> Result<Zeroizing<String>, HubError> {
        let code = secret::code()?;
        let (given, hours) = (code.clone(), self.0.config.code_hours_valid);
        let add = move |tx: &mut Tx<'_>| {
            add_gateway(tx, &new, &given, hours)?;
            Ok::<_, HubError>(((), new.target()))
        };
        self.change(actor, What::AddGateway, add).await?;
        self.told_code(code).await
    }

    /// A code as people get it.
    pub(crate) async fn told_code(&self, code: Zeroizing<String>) -> Result<Zeroizing<String>, HubError> {
        match self.authority().cloned() {
            Some(authority) => {
                let config = self.0.config.clone();
                self.read(move |tx| ticket(tx, &authority, &config, &code)).await
            }
            None => Ok(code),
        }
    }

    /// Publishes a rules document. Tells how many records that freed from quarantine.
    ///
    /// # Errors
    /// [`HubError`] if it does not parse or is not newer than the one in force.
    pub async fn publish_rules(&self, text: &str) -> Result<u64, HubError> {
        self.publish_rules_as(Actor::hub(), text.to_owned()).await
    }

    /// As [`Hub::publish_rules`], for somebody.
    pub(crate) async fn publish_rules_as(&self, actor: Actor, text: String) -> Result<u64, HubError> {
        self.change(actor, What::PublishRules, move |tx| publish(tx, &text)).await
    }

    /// Digest of all records, as gateways compute it over theirs.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn digest(&self) -> Result<u64, HubError> {
        self.read(|tx| Ok(sync_protocol::hub::Snapshot::digest(tx, &[Scope::root()])?)).await
    }

    pub(crate) async fn write<T, E, F>(&self, act: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.0.writer.write(act).await
    }

    pub(crate) async fn read<T, E, F>(&self, look: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.0.readers.read(look).await
    }

    /// Changes something for somebody, and writes down what, in the same transaction.
    pub(crate) async fn change<T, E, F>(&self, actor: Actor, what: What, act: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<(T, Json), E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.write(move |tx| {
            let (done, target) = act(tx)?;
            tx.audit(&actor, what, &target)?;
            Ok(done)
        })
        .await
    }

    /// Looks at records for somebody, on a snapshot. Fewer look at a time than there are readers, so that gateways never wait for all.
    pub(crate) async fn look<T, E, F>(&self, look: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let _place = self.0.lookers.acquire().await.map_err(|_| StoreError::Closed)?;
        self.read(look).await
    }

    /// Looks at records for somebody, and writes that down before anybody sees them.
    pub(crate) async fn show<T, E, F>(&self, actor: Actor, what: What, look: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<(T, Json), E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (found, target) = self.look(look).await?;
        self.write::<_, E, _>(move |tx| Ok(tx.audit(&actor, what, &target)?)).await?;
        Ok(found)
    }

    /// Where passwords are hashed.
    pub(crate) fn mill(&self) -> &Mill {
        &self.0.mill
    }

    /// How long a session lasts.
    pub(crate) fn lasting(&self) -> Lasting {
        let Config { session_idle_minutes, session_hours, .. } = self.0.config;
        Lasting { idle_ms: i64::from(session_idle_minutes) * 60_000, all_ms: i64::from(session_hours) * 3_600_000 }
    }

    /// Counts a try to log in, and tells whether it may be made.
    pub(crate) fn begin_try(&self, from: Option<IpAddr>, name: &str) -> bool {
        self.0.tries.lock().unwrap_or_else(PoisonError::into_inner).begin(from, name, Instant::now())
    }

    /// Takes back what [`Hub::begin_try`] counted.
    pub(crate) fn forgive_try(&self, from: Option<IpAddr>, name: &str) {
        self.0.tries.lock().unwrap_or_else(PoisonError::into_inner).forgive(from, name);
    }

    /// Where wrong codes and logins are written down, or counted.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }

    /// Room on the disk.
    pub(crate) fn room(&self) -> &Room {
        &self.0.room
    }

    pub(crate) fn places(&self) -> &Places {
        &self.0.places
    }

    /// A compressor, used before or new.
    pub(crate) fn packer(&self) -> Result<Packer, StoreError> {
        let kept = self.0.packers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.map_or_else(|| Packer::new(Effort::Quick).map_err(StoreError::from), Ok)
    }

    /// Keeps a compressor for the next exchange.
    pub(crate) fn keep_packer(&self, packer: Packer) {
        let mut kept = self.0.packers.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < PACKERS_KEPT {
            kept.push(packer);
        }
    }

    /// Counts an enrolment code from there. Whether it may be looked at: not after too many wrong ones in this minute.
    pub(crate) fn begin_code(&self, from: Option<IpAddr>) -> bool {
        self.codes().begin(from, self.0.config.code_failures_per_minute, Instant::now())
    }

    /// The code was right, or was not looked at.
    pub(crate) fn forgive_code(&self, from: Option<IpAddr>) {
        self.codes().forgive(from);
    }

    fn codes(&self) -> MutexGuard<'_, Codes> {
        self.0.codes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The authority of a database, made with the first use.
pub(crate) fn authority_of(database: &mut Database, config: &Config) -> Result<Authority, HubError> {
    let trusted = given::authority(config)?;
    let kept = database.write(now_ms(), |tx| match tx.authority()? {
        Some(kept) => Ok(kept),
        None => {
            let made = pki::make("", possible_ms()?)?;
            tx.set_authority(&made)?;
            Ok::<_, HubError>(made)
        }
    })?;
    Authority::open(&kept, trusted)
}

/// The code as it is given to people: with the hub's address and fingerprint in it.
pub(crate) fn ticket(
    tx: &mut Tx<'_>,
    authority: &Authority,
    config: &Config,
    code: &str,
) -> Result<Zeroizing<String>, HubError> {
    let said = tx.authority()?.map(|kept| kept.address).unwrap_or_default();
    let address = match (config.tls, tx.known_address()?) {
        _ if !said.is_empty() => said,
        // Where it listens itself is not where gateways reach it.
        (Tls::Proxy, _) => SocketAddr::from(([0, 0, 0, 0], 0)).to_string(),
        // A hub that was started just now has yet to say where it listens.
        (_, known) if known.is_empty() => config.listen.to_string(),
        (_, known) => known,
    };
    let is_everywhere = address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_unspecified());
    if is_everywhere || address.len() > ADDRESS_BYTES_MAX {
        let told = "nobody said how gateways reach this hub: outpost-hub init --name hub.example.org, then outpost-hub gateway code NAME";
        return Err(HubError::Config(told.to_owned()));
    }
    let ticket = Ticket { secret: secret::code_bytes(code), fingerprint: authority.fingerprint()?, address };
    Ok(Zeroizing::new(ticket.to_string()))
}

fn database_path(data_dir: &Path) -> PathBuf {
    data_dir.join("hub.db")
}

/// Opens the database of a data directory, and makes both if they are not there.
pub(crate) fn open_database(data_dir: &Path) -> Result<Database, HubError> {
    std::fs::create_dir_all(data_dir).map_err(|source| HubError::File { path: data_dir.to_owned(), source })?;
    let began = Instant::now();
    loop {
        match Database::open(&database_path(data_dir)) {
            // Two programs on a new file: the change to a log cannot wait for the other's by itself.
            Err(StoreError::Locked(_)) if began.elapsed() < OPEN_PATIENCE => sleep(GLANCE),
            opened => return Ok(opened?),
        }
    }
}

/// Opens the database of a hub that is there, for a command beside it. One that was started just before has a moment.
pub(crate) fn open_existing(data_dir: &Path) -> Result<Database, HubError> {
    let began = Instant::now();
    while !database_path(data_dir).is_file() {
        if began.elapsed() >= START_PATIENCE {
            return Err(HubError::NoHub(data_dir.to_owned()));
        }
        sleep(GLANCE);
    }
    open_database(data_dir)
}

/// Checks what a person said of a new gateway.
pub(crate) fn new_gateway(name: &str, scopes: &[impl AsRef<str>], source: &str) -> Result<NewGateway, HubError> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_fine) {
        return Err(HubError::Invalid("a gateway's name has 1 to 64 letters, digits, '-', '_' and '.'".to_owned()));
    }
    Ok(NewGateway { name: name.to_owned(), scopes: checked_scopes(scopes)?, source: source.to_owned() })
}

/// Checks the scopes of a gateway.
pub(crate) fn checked_scopes(scopes: &[impl AsRef<str>]) -> Result<Vec<Scope>, HubError> {
    let limit = sync_protocol::limits::SCOPES_MAX;
    if scopes.is_empty() || scopes.len() > limit {
        return Err(HubError::Invalid(format!("a gateway has 1 to {limit} scopes; the first is its home")));
    }
    Ok(scopes.iter().map(|scope| Scope::new(scope.as_ref())).collect::<Result<_, _>>()?)
}

/// Puts rules in force. Tells how many records that freed, and what there is to write down.
pub(crate) fn publish(tx: &mut Tx<'_>, text: &str) -> Result<(u64, Json), HubError> {
    let freed = tx.publish(text)?;
    let version = sync_protocol::hub::Snapshot::rules(tx)?.version;
    Ok((freed, json!({ "version": version, "freed": freed })))
}

/// Adds a gateway with a code.
pub(crate) fn add_gateway(tx: &mut Tx<'_>, new: &NewGateway, code: &str, hours: u32) -> Result<(), HubError> {
    tx.add_gateway(new)?;
    give_code(tx, &new.name, code, hours)
}

/// Gives a gateway a code that is valid for so many hours.
pub(crate) fn give_code(tx: &mut Tx<'_>, name: &str, code: &str, hours: u32) -> Result<(), HubError> {
    let until_ms = tx.now_ms.saturating_add(i64::from(hours) * 3_600_000);
    tx.set_code(name, &secret::normal_code(code), until_ms)
}
