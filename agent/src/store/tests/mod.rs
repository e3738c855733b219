//! The store on real files: what survives, what is undone, what is proven.

mod acts;
mod backup;
mod broken;
mod damage;
mod durable;
mod equal;
mod erase;
mod full;
mod group;
mod history;
mod inline;
mod log;
mod old;
mod reading;
mod rebuild;
mod renew;
mod retention;
mod schema;
mod sealed;
mod time;
mod unreadable;

use std::path::Path;

use serde_json::{Map, Value as Json};
use sync_protocol::clock::TimeQuality;
use sync_protocol::edit::render;
use sync_protocol::gateway::{self, Capture, Captured, Intent, Refusal, Store as _};
use sync_protocol::id::{Author, RecordKey, Scope};
use sync_protocol::identity::DeviceKey;
use sync_protocol::loopback::{Link, Traffic, settle};
use sync_protocol::memory::MemoryHub;
use sync_protocol::record::Record;
use tempfile::TempDir;

use super::{DataKey, Options, Store, Stored};
use crate::error::Error;

/// When the tests take place.
const NOW_MS: i64 = 1_780_000_000_000;

/// The whole of these tests runs a second time on encrypted databases: OUTPOST_TEST_ENCRYPTED=1 cargo test -p agent --lib store
pub(super) fn key_of_this_run() -> Option<DataKey> {
    std::env::var_os("OUTPOST_TEST_ENCRYPTED").map(|_| DataKey::new(zeroize::Zeroizing::new([0x5e; 32])))
}

/// Whether the bytes of a file mean nothing to a test that bends them; `sealed.rs` bends those of encrypted ones.
fn is_sealed_run() -> bool {
    key_of_this_run().is_some()
}

/// A connection of its own to a database of this run.
fn raw(file: impl AsRef<Path>) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(file).unwrap();
    if let Some(key) = key_of_this_run() {
        key.give_to(&db).unwrap();
    }
    db
}

/// A store in a directory of its own.
struct Clinic {
    dir: TempDir,
    store: Store,
    now_ms: i64,
}

impl Clinic {
    fn new() -> Clinic {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        Clinic { dir, store, now_ms: NOW_MS }
    }

    /// A gateway that the hub knows.
    fn enrolled(hub: &mut MemoryHub, scope: &str) -> Clinic {
        let clinic = Clinic::new();
        clinic.enrol(hub, scope);
        clinic
    }

    fn enrol(&self, hub: &mut MemoryHub, scope: &str) {
        let scopes = vec![Scope::new(scope).unwrap()];
        let known = hub.enroll(scopes.clone(), sync_protocol::id::Source::CLINIC, DeviceKey([7; 32]));
        let adopt = move |tx: &mut super::Tx<'_>| -> Result<(), Error> {
            let mut state = tx.state()?;
            (state.device, state.key, state.scopes) = (known.device, known.key, scopes);
            tx.set_state(&state)?;
            gateway::adopt_origin(tx, known.origin)
        };
        self.store.blocking_write(adopt).unwrap();
    }

    /// Closes the store and opens it again.
    fn reopen(self) -> Clinic {
        let Clinic { dir, store, now_ms } = self;
        drop(store);
        let store = Store::open(dir.path(), Options::default()).unwrap();
        Clinic { dir, store, now_ms }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&mut self, key: &str, intent: Intent, base: Option<Record>) -> Captured {
        self.now_ms += 1_000;
        let wish = wish(key, intent, base, self.now_ms);
        let capture = |tx: &mut super::Tx<'_>| -> Result<Captured, Refusal<Error>> { gateway::capture(tx, wish) };
        self.store.blocking_write(capture).unwrap()
    }

    fn put(&mut self, key: &str, body: Json) -> Captured {
        self.write(key, Intent::Put(object(body)), None)
    }

    /// Changes some fields of what is shown.
    fn edit(&mut self, key: &str, fields: Json) -> Captured {
        let mut body = render(&self.get(key).unwrap().record);
        body.extend(object(fields));
        self.put(key, Json::Object(body))
    }

    fn get(&self, key: &str) -> Option<Stored> {
        self.store.blocking_read(|reader| reader.get(&key_of(key))).unwrap()
    }

    /// Whether the hub has a record that cannot be read; `None` if it can be, or is not here.
    fn unreadable(&self, key: &str) -> Option<bool> {
        match self.store.blocking_read(|reader| reader.get(&key_of(key))) {
            Err(Error::Unreadable { is_at_hub }) => Some(is_at_hub),
            other => other.map(|_| None).unwrap(),
        }
    }

    fn body(&self, key: &str) -> Json {
        Json::Object(render(&self.get(key).unwrap().record))
    }

    /// Exchanges with the hub until there is no news.
    fn sync(&mut self, hub: &mut MemoryHub) -> Traffic {
        let (mut with, now_ms) = (std::mem::take(hub), self.now_ms as u64);
        let exchange = move |tx: &mut super::Tx<'_>| -> Result<(MemoryHub, Traffic), Error> {
            let traffic = settle(tx, &mut with, &mut Link::new().unwrap(), now_ms, 50).unwrap();
            Ok((with, traffic))
        };
        let (with, traffic) = self.store.blocking_write(exchange).unwrap();
        *hub = with;
        traffic
    }

    fn sql<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        let db = raw(self.store.path());
        db.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

fn wish(key: &str, intent: Intent, base: Option<Record>, now_ms: i64) -> Capture {
    let author = Some(Author::new("nurse").unwrap());
    Capture { key: key_of(key), intent, base, author, now_ms, quality: TimeQuality::Good }
}

fn key_of(key: &str) -> RecordKey {
    RecordKey::parse(key).unwrap()
}

fn object(body: Json) -> Map<String, Json> {
    match body {
        Json::Object(map) => map,
        other => panic!("not an object: {other}"),
    }
}
