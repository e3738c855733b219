//! Another data key for the database of a gateway that runs: `outpost key renew`.
//!
//! It is asked for at a socket in the data folder, and not by the local API: other slots go with the old key, so that nobody but
//! the owner of the folder may have it done. The gateway makes the key itself, wraps it by what was named, and has the writer
//! copy the database. Until that has taken the place of the old one, both keys have their slots, so that whichever there is after
//! a power cut opens.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::escrow::{deposit, deposited};
use super::slots::{Slots, Way};
use super::socket::Socket;
use super::{Secret, credential, file, missing_slots, open_slot, said};
use crate::acts::{Deed, Who};
use crate::api::App;
use crate::clock::unix_ms;
use crate::config::{EncryptionConfig, KeySource};
use crate::error::{Class, Error};
use crate::store::{DataKey, Home, KeyId, Replaced, Step, Store, Verdict};

const SOCKET: &str = "outpost.renew";
/// Who has connected says something soon, and little.
const PATIENCE: Duration = Duration::from_secs(10);
const WISH_BYTES_MAX: u64 = 8 * 1_024;
/// One answer, of which there are many.
const TOLD_BYTES_MAX: u64 = 16 * 1_024 * 1_024;
const RETRY: Duration = Duration::from_secs(2);
const TELL_EVERY: Duration = Duration::from_millis(500);

/// By what the new key is to be kept. A passphrase follows in a line of its own.
#[derive(Debug, Serialize, Deserialize)]
struct Wish {
    key: KeySource,
    key_file: PathBuf,
    /// Who asks, for the audit.
    #[serde(default)]
    who: String,
}

/// How it goes, a line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub(crate) enum Told {
    /// It is copied.
    Copying { pages: i32, of: i32 },
    /// The new key is in force; the new file is checked, and the old one overwritten.
    Replaced,
    /// It is done, and there is something to say of it.
    Done { note: String },
    /// It was not done.
    Refused { class: String, detail: String },
}

impl Told {
    fn refused(error: &Error) -> Told {
        let hint = error.hint();
        let detail = if hint.is_empty() { error.to_string() } else { format!("{error}. {hint}") };
        Told::Refused { class: error.class().name().to_owned(), detail }
    }
}

/// Why a change may have to end before it is done.
#[derive(Debug, Clone, Default)]
struct Ends {
    /// Who asked is gone. Counts until the new key is in force.
    is_unwanted: Arc<AtomicBool>,
    /// The gateway stops.
    is_stopping: Arc<AtomicBool>,
}

/// Stops what goes on in other threads when this goes.
struct Stopping(Arc<AtomicBool>);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks the gateway that runs in a folder for another key, and tells how it goes.
///
/// # Errors
/// [`Error::Told`] with what it said; then the old key is in force.
pub(crate) async fn ask_for_renewal(
    dir: &Path,
    config: &EncryptionConfig,
    passphrase: Option<&str>,
    mut tell: impl FnMut(&Told) -> Result<(), Error>,
) -> Result<String, Error> {
    let none = |_| {
        Error::refused(
            "the gateway that runs here takes no wish for another key: it waits for its own, or its database is not encrypted. \
             See: outpost key status",
        )
    };
    let stream = UnixStream::connect(dir.join(SOCKET)).await.map_err(none)?;
    let (read, mut write) = stream.into_split();
    let who = Who::at_the_keyboard().as_str().to_owned();
    let wish = Wish { key: config.key, key_file: config.key_file.clone(), who };
    let mut text = Zeroizing::new(serde_json::to_string(&wish).map_err(|e| Error::Config(e.to_string()))?);
    text.push('\n');
    write.write_all(text.as_bytes()).await?;
    write.write_all(passphrase.unwrap_or_default().as_bytes()).await?;
    write.shutdown().await?;
    let mut lines = BufReader::new(read.take(TOLD_BYTES_MAX)).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line).map_err(|e| Error::Config(e.to_string()))? {
            Told::Done { note } => return Ok(note),
            Told::Refused { class, detail } => {
                let class = Class::named(&class).unwrap_or(Class::Rejected);
                return Err(Error::Told { class, detail });
            }
            told => tell(&told)?,
        }
    }
    Err(Error::Told {
        class: Class::Broken,
        detail: "the gateway ended before it said that the key was changed. Which key is in force: outpost key status"
            .to_owned(),
    })
}

/// Takes wishes for another key, for as long as it is polled.
///
/// # Errors
/// It ends only if the database has its new key and could not be opened with it, so that nothing can be written any more.
pub(crate) async fn renew_when_asked(app: &App) -> Error {
    let home = app.store.home();
    let socket = home.key().and_then(|_| Socket::bind(home.dir().join(SOCKET), "outpost key renew"));
    let Some(socket) = socket else { return std::future::pending().await };
    let stopping = Stopping(Arc::default());
    let (one, (lose, mut lost)) = (Arc::new(Mutex::new(())), mpsc::channel(1));
    loop {
        tokio::select! {
            _ = lost.recv() => return Error::Told {
                class: Class::Broken,
                detail: "the database has another key and could not be opened with it; start outpost again".to_owned(),
            },
            accepted = socket.listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let ends = Ends { is_stopping: Arc::clone(&stopping.0), ..Ends::default() };
                    tokio::spawn(answer(app.clone(), Arc::clone(&one), stream, ends, lose.clone()));
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            },
        }
    }
}

/// Answers one who asks.
async fn answer(app: App, one: Arc<Mutex<()>>, mut stream: UnixStream, ends: Ends, lose: mpsc::Sender<()>) {
    let result = match (one.try_lock(), timeout(PATIENCE, hear(&mut stream)).await) {
        (_, Err(_)) => return,
        (_, Ok(Err(error))) => Err(error),
        (Err(_), _) => Err(Error::refused("the key is being changed already; wait for that")),
        (Ok(_one), Ok(Ok((wish, passphrase)))) => telling(&app, &wish, passphrase, &mut stream, &ends).await,
    };
    let is_lost = matches!(result, Err(Error::Closed)) && !ends.is_stopping.load(Ordering::Relaxed);
    let last = match result {
        Ok(note) => Told::Done { note },
        Err(error) => {
            tracing::warn!("the key of the database was not changed: {error}");
            Told::refused(&error)
        }
    };
    say(&mut stream, &last).await;
    if is_lost {
        let _ = lose.send(()).await;
    }
}

/// Changes the key and says how it goes; ends it if nobody hears that any more before the new key is in force.
async fn telling(
    app: &App,
    wish: &Wish,
    passphrase: Zeroizing<String>,
    stream: &mut UnixStream,
    ends: &Ends,
) -> Result<String, Error> {
    let (told, news) = watch::channel(Told::Copying { pages: 0, of: 0 });
    let change = renew(app, wish, passphrase, told, ends);
    tokio::pin!(change);
    loop {
        tokio::select! {
            done = &mut change => return done,
            () = tokio::time::sleep(TELL_EVERY) => {
                let line = news.borrow().clone();
                if !say(stream, &line).await {
                    ends.is_unwanted.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

async fn hear(stream: &mut UnixStream) -> Result<(Wish, Zeroizing<String>), Error> {
    let mut heard = Zeroizing::new(String::with_capacity(WISH_BYTES_MAX as usize + 1));
    stream.take(WISH_BYTES_MAX).read_to_string(&mut heard).await?;
    let (wish, passphrase) = heard.split_once('\n').unwrap_or_default();
    let wish = serde_json::from_str(wish).map_err(|_| Error::refused("this is not how another key is asked for"))?;
    Ok((wish, Zeroizing::new(passphrase.to_owned())))
}

/// Tells whether it was taken.
async fn say(stream: &mut UnixStream, told: &Told) -> bool {
    let line = serde_json::to_string(told).unwrap_or_default() + "\n";
    timeout(PATIENCE, stream.write_all(line.as_bytes())).await.is_ok_and(|written| written.is_ok())
}

async fn renew(
    app: &App,
    wish: &Wish,
    passphrase: Zeroizing<String>,
    told: watch::Sender<Told>,
    ends: &Ends,
) -> Result<String, Error> {
    let (store, home) = (&app.store, app.store.home());
    let old = home.key().ok_or_else(|| Error::refused("the database is not encrypted"))?;
    app.disk.check_room_for_copy(std::fs::metadata(store.path())?.len())?;
    let stopping = Arc::clone(&ends.is_stopping);
    match beside(store, move |store| store.check(&stopping)).await? {
        Verdict::Sound => {}
        Verdict::Stopped => return Err(Error::Closed),
        Verdict::Damaged(_) | Verdict::Unsafe(_) => return Err(Error::corrupt()),
    }
    let key = DataKey::generate()?;
    let way = new_way(app, wish, passphrase, &home, &key).await?;
    // Both until the copy is in its place: whichever database there is after a power cut opens.
    Slots::change(store.path(), |slots| {
        slots.slots.retain(|slot| slot.key == old.id());
        let by = way.name();
        let number = slots.add(key.id(), way, unix_ms())?;
        let on = json!({ "key": key.id().to_string(), "slot": number, "by": by });
        slots.note(Deed::RenewKey, &Who::said(&wish.who), on)
    })?;
    let (name, at) = (key.id(), watched(app, ends, told.clone()));
    let replaced = match beside(store, move |store| store.renew_key(&key, at)).await {
        Ok(replaced) => replaced,
        Err(error) => {
            if !matches!(error, Error::Closed) {
                keep_only(store.path(), old.id())?;
            }
            return Err(error);
        }
    };
    tracing::info!("the database has another key");
    told.send_replace(Told::Replaced);
    // The hub gets its copy with this sync.
    app.sync.nudge();
    // From here on the key is another one, whatever happens: what is left to do is told, and the next start does it.
    let mut note = tidy(store, replaced, ends).await.unwrap_or_else(|error| {
        format!("the old file could not be overwritten: {error}. The next start tries again; see: outpost doctor")
    });
    if let Err(error) = keep_only(store.path(), name) {
        let left = format!("the slots of the old key could not be taken away: {error}. The next start tries again");
        tracing::warn!("{left}");
        note = [note, left].into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>().join("; ");
    }
    Ok(note)
}

/// What the writer asks at each step: whether to go on.
fn watched(
    app: &App,
    ends: &Ends,
    told: watch::Sender<Told>,
) -> impl FnMut(Step) -> Result<(), Error> + Send + 'static {
    let (disk, ends) = (app.disk.clone(), ends.clone());
    move |step| {
        if ends.is_stopping.load(Ordering::Relaxed) || ends.is_unwanted.load(Ordering::Relaxed) {
            return Err(Error::refused("it was not waited for; the old key is in force"));
        }
        if let Step::Copying { pages, of } = step {
            if disk.is_nearly_full() {
                return Err(Error::refused("the disk is nearly full, and the old key is in force: free some space"));
            }
            told.send_replace(Told::Copying { pages, of });
        }
        Ok(())
    }
}

/// Checks the new file as a whole, and then overwrites the old one. Tells what there is to say of it.
async fn tidy(store: &Store, replaced: Replaced, ends: &Ends) -> Result<String, Error> {
    let stopping = Arc::clone(&ends.is_stopping);
    match beside(store, move |store| store.check(&stopping)).await? {
        Verdict::Stopped => Ok("the old file is overwritten at the next start".to_owned()),
        Verdict::Sound => {
            let stopping = Arc::clone(&ends.is_stopping);
            match beside(store, move |_| replaced.wipe(&stopping)).await? {
                true => Ok(String::new()),
                false => Ok("the old file is overwritten at the next start".to_owned()),
            }
        }
        Verdict::Damaged(_) | Verdict::Unsafe(_) => Ok(match replaced.keep()? {
            Some(kept) => format!(
                "this card has written a copy with faults: replace it soon. The old file is kept under the old key as {}; see: \
                 outpost doctor",
                kept.display()
            ),
            None => "this card has written a copy with faults: replace it soon; see: outpost doctor".to_owned(),
        }),
    }
}

/// A slot for the new key by what was named. For the hub it is deposited there before.
async fn new_way(
    app: &App,
    wish: &Wish,
    passphrase: Zeroizing<String>,
    home: &Home,
    key: &DataKey,
) -> Result<Way, Error> {
    let database = app.store.path().to_owned();
    let secret = match wish.key {
        KeySource::Off => return Err(Error::Config("[encryption] key says where the key shall come from".to_owned())),
        KeySource::File => file(&wish.key_file)?,
        KeySource::Credential => credential()?,
        KeySource::Passphrase => said(passphrase),
        KeySource::Hub => {
            let enrolment = app.store.read(|reader| reader.enrolment()).await?.ok_or(Error::NotEnrolled)?;
            let identity = enrolment.identity.ok_or_else(|| {
                Error::refused("the hub gives no certificates, so it cannot tell by whom it is asked for a key")
            })?;
            deposit(&database, &app.clock, &enrolment.hub_url, &identity, key, &Who::said(&wish.who)).await?;
            return Ok(deposited(&enrolment.hub_url, &identity));
        }
    };
    let (key, id) = (key.clone(), home.key().map(DataKey::id));
    // To stretch a passphrase takes seconds.
    beside(&app.store, move |_| {
        let slots = Slots::load(&database)?.ok_or_else(|| missing_slots(&database))?;
        // Said once: what is mistyped must not be what opens it from now on. A file may be a new one.
        if matches!(secret, Secret::Passphrase(_)) && open_slot(&slots, &secret, id)?.is_none() {
            return Err(Error::WrongKey(database));
        }
        secret.wrap(&key)
    })
    .await
}

/// Takes the slots away that are for another key than the database has. It was opened by now.
///
/// # Errors
/// As [`Slots::change`].
pub(crate) fn keep_only(database: &Path, key: KeyId) -> Result<(), Error> {
    Slots::change(database, |slots| {
        let before = slots.slots.len();
        slots.slots.retain(|slot| slot.key == key);
        if slots.slots.len() < before {
            let on = json!({ "key": key.to_string(), "slots_gone": before - slots.slots.len() });
            slots.note(Deed::KeyInForce, &Who::gateway(), on)?;
        }
        Ok(())
    })
}

/// Does something on a thread for blocking work.
async fn beside<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let store = store.clone();
    tokio::task::spawn_blocking(move || work(&store)).await.unwrap_or(Err(Error::Closed))
}
