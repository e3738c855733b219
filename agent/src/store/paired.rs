//! Apps that may come in over the clinic's network, and the key by which they know this gateway.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::json;
use zeroize::Zeroizing;

use super::acts;
use super::aside::set_aside;
use super::key::Home;
use super::open;
use super::reader::Reader;
use super::tx::Tx;
use crate::acts::{Act, Deed, Who};
use crate::apps::{Fingerprint, Grant, PairedApp, Types};
use crate::error::Error;

/// Sets a broken database aside, and begins a new one that knows the apps which the broken one knew: nobody who could pair them
/// again may come for months, and what they save must go on being safe. Nobody may have the database open.
///
/// # Errors
/// As [`set_aside`]. Apps that cannot be read have to be paired again.
pub fn begin_anew(home: &Home) -> Result<PathBuf, Error> {
    let aside = set_aside(home.dir())?;
    if let Err(error) = carry_over(&aside, home) {
        tracing::warn!("paired apps could not be carried over, so they have to be paired again: {error}");
    }
    if let Err(error) = carry_acts_over(&aside, home) {
        tracing::warn!("what was done at this gateway could not be carried over for the audit of the hub: {error}");
    }
    Ok(aside)
}

/// What the hub has not heard of yet goes over, and that this was done.
fn carry_acts_over(aside: &Path, home: &Home) -> Result<(), Error> {
    let old = open::copy_for_reading(aside, home.key()).and_then(|old| acts::of_old(&old));
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    let is_read = old.is_ok();
    let on = json!({ "file": name, "acts_kept": is_read });
    let act = Act::by_the_box(Deed::SetAside, &Who::gateway(), on)?;
    let mut db = open::for_writing(home)?;
    let step = db.transaction()?;
    acts::take_over(&step, &old.unwrap_or_default())?;
    acts::keep(&step, &act)?;
    Ok(step.commit()?)
}

fn carry_over(aside: &Path, home: &Home) -> Result<(), Error> {
    let old = open::copy_for_reading(aside, home.key())?;
    let (key, apps) = (face_key(&old)?, apps(&old)?);
    if key.is_none() && apps.is_empty() {
        return Ok(());
    }
    let mut db = open::for_writing(home)?;
    let step = db.transaction()?;
    if let Some(key) = key {
        set_face_key(&step, &key)?;
    }
    apps.iter().try_for_each(|app| set_app(&step, app))?;
    Ok(step.commit()?)
}

fn set_app(db: &Connection, app: &PairedApp) -> Result<(), Error> {
    let mut insert = db.prepare_cached(
        "INSERT OR REPLACE INTO apps (name, token, reads, writes, paired_ms, days, expires_ms, used_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let (reads, writes) = (app.grant.reads.names().join(" "), app.grant.writes.names().join(" "));
    let PairedApp { name, token, paired_ms, days, expires_ms, used_ms, .. } = app;
    insert.execute((name, token.0, reads, writes, paired_ms, days, expires_ms, used_ms))?;
    Ok(())
}

/// All apps by name. Those whose rows make no sense are left out, and have to be paired again: they are no reason to let nobody
/// in.
fn apps(db: &Connection) -> Result<Vec<PairedApp>, Error> {
    let mut statement = db.prepare_cached(
        "SELECT name, token, reads, writes, paired_ms, days, expires_ms, used_ms FROM apps ORDER BY name",
    )?;
    let mut rows = statement.query([])?;
    let (mut apps, mut damaged) = (Vec::new(), 0_u32);
    while let Some(row) = rows.next()? {
        match app(row) {
            Some(app) => apps.push(app),
            None => damaged += 1,
        }
    }
    if damaged > 0 {
        tracing::error!(
            damaged,
            "rows of paired apps make no sense; apps that are not let in any more have to be paired again"
        );
    }
    Ok(apps)
}

fn app(row: &Row<'_>) -> Option<PairedApp> {
    let types = |at| Types::parse(row.get::<_, String>(at).ok()?.split(' ')).ok();
    Some(PairedApp {
        name: row.get(0).ok()?,
        token: Fingerprint(row.get(1).ok()?),
        grant: Grant { reads: types(2)?, writes: types(3)? },
        paired_ms: row.get(4).ok()?,
        days: row.get(5).ok()?,
        expires_ms: row.get(6).ok()?,
        used_ms: row.get(7).ok()?,
    })
}

fn set_face_key(db: &Connection, key: &[u8]) -> Result<(), Error> {
    let mut insert = db.prepare_cached("INSERT OR REPLACE INTO face (one, key) VALUES (1, ?1)")?;
    insert.execute([key])?;
    Ok(())
}

fn face_key(db: &Connection) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    Ok(db.query_row("SELECT key FROM face", [], |row| row.get(0)).optional()?.map(Zeroizing::new))
}

impl Tx<'_> {
    /// Keeps an app, in the place of another of its name.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn set_app(&mut self, app: &PairedApp) -> Result<(), Error> {
        set_app(self.db, app)
    }

    /// Notes when an app was here and when its time ends, unless it is another one by now.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn note_app_use(&mut self, app: &PairedApp) -> Result<(), Error> {
        let mut update = self.db.prepare_cached("UPDATE apps SET expires_ms = ?2, used_ms = ?3 WHERE token = ?1")?;
        update.execute((app.token.0, app.expires_ms, app.used_ms))?;
        Ok(())
    }

    /// Forgets an app; tells whether there was one.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn remove_app(&mut self, name: &str) -> Result<bool, Error> {
        let mut delete = self.db.prepare_cached("DELETE FROM apps WHERE name = ?1")?;
        Ok(delete.execute([name])? > 0)
    }

    /// Keeps the key of the listener.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn set_face_key(&mut self, key: &[u8]) -> Result<(), Error> {
        set_face_key(self.db, key)
    }
}

impl Reader<'_> {
    /// All apps by name.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn apps(&self) -> Result<Vec<PairedApp>, Error> {
        apps(self.db)
    }

    /// The key of the listener; `None` if the gateway was never open to a network.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn face_key(&self) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        face_key(self.db)
    }
}
