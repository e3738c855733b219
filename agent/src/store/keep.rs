//! Keeping a record: its row, its place in the feed, its part in the digest, and what is needed to go back from it.

use std::collections::BTreeMap;

use sync_protocol::digest::{etag, item};
use sync_protocol::gateway::Held;
use sync_protocol::id::{FieldName, HubSeq, RecordKey, Scope};
use sync_protocol::merge::{Superseded, presence};
use sync_protocol::record::{Cell, Record, State};

use super::name::id_value;
use super::row::{GONE, Row, UNREADABLE, etag_bytes, of_only_op, presence_number};
use super::tx::{Tx, wall_ms};
use crate::error::Error;

impl Tx<'_> {
    /// Replaces a record; see [`sync_protocol::gateway::Store::keep`].
    pub(super) fn keep_record(&mut self, key: &RecordKey, held: &Held) -> Result<(), Error> {
        self.open(key)?;
        if held.is_unreadable() {
            return self.keep_unreadable(key, held);
        }
        let before = self.opened_held()?.filter(|held| !held.is_unreadable()).map(|held| held.visible);
        let superseded = match self.cache.remembered.take() {
            Some((of, superseded)) if of == *key => superseded,
            other => {
                self.cache.remembered = other;
                Vec::new()
            }
        };
        let tag = match before.as_ref() == Some(&held.visible) && !self.opened()?.row.etag.is_empty() {
            true => self.opened()?.row.etag.clone(),
            false => etag_bytes(&etag(&held.visible)),
        };
        self.note_change(before.as_ref(), &held.visible, &tag, &superseded)?;
        let place = presence_number(presence(&held.visible, self.cache.rules.of(&key.record_type)));
        let (mut row, is_stored) = (self.opened()?.row.clone(), !self.opened()?.is_new);
        let was = row.clone();
        let is_shown_anew = row.feed == 0 || row.etag != tag || row.presence != place;
        (row.etag, row.presence) = (tag, place);
        row.conflicts = held.visible.conflicts().len() as i64;
        self.move_digest(key, &mut row, held)?;
        row.is_pending = held.is_pending;
        self.pack_bodies(&mut row, held)?;
        // Each page that is written wears the card, and takes room that it may not have.
        if is_shown_anew || row != was || !is_stored {
            self.store_row(key, &mut row, is_shown_anew)?;
        }
        if row.awaits_whole {
            self.enter_awaited(row.feed)?;
        }
        let may_be_only_op = row.is_only_op();
        let open = self.opened()?;
        (open.row, open.held) = (row, Some(Some(held.clone())));
        (open.is_new, open.is_appended, open.may_be_only_op) = (false, false, may_be_only_op);
        Ok(())
    }

    /// Replaces a record of which nothing can be read: apps go on seeing it under its tag, as one that is there.
    fn keep_unreadable(&mut self, key: &RecordKey, held: &Held) -> Result<(), Error> {
        let mut row = self.opened()?.row.clone();
        self.move_digest(key, &mut row, held)?;
        row.is_pending = held.is_pending;
        // What nobody else has stays as it is, in case somebody can read the card.
        if row.body.is_empty() || row.awaits_whole {
            row.body = UNREADABLE.to_vec();
        }
        row.confirmed.clear();
        self.store_row(key, &mut row, false)?;
        if row.awaits_whole {
            self.enter_awaited(row.feed)?;
        }
        let open = self.opened()?;
        (open.row, open.held) = (row, Some(Some(held.clone())));
        (open.is_new, open.is_appended, open.may_be_only_op) = (false, false, false);
        Ok(())
    }

    /// Enters a record of which all is awaited in the ledger: by that it is found again without reading all records.
    fn enter_awaited(&mut self, feed: i64) -> Result<(), Error> {
        let sql = "INSERT OR IGNORE INTO damage (place, number, found_ms) VALUES (0, ?1, ?2)";
        self.db.prepare_cached(sql)?.execute((feed, wall_ms()))?;
        Ok(())
    }

    /// Removes a record; a stub stays, for the change feed and the history.
    pub(super) fn forget_record(&mut self, key: &RecordKey) -> Result<(), Error> {
        self.open(key)?;
        let mut row = self.opened()?.row.clone();
        if row.feed == 0 && row.newest == 0 {
            return Ok(());
        }
        self.move_digest(key, &mut row, &Held::default())?;
        row = Row { feed: row.feed, scope: row.scope, newest: row.newest, unsettled: row.unsettled, ..Row::absent() };
        self.store_row(key, &mut row, true)?;
        let open = self.opened()?;
        (open.row, open.held) = (row, Some(None));
        (open.is_new, open.is_appended, open.may_be_only_op) = (false, false, false);
        Ok(())
    }

    /// Writes into the history what a change that is not our own op replaced.
    fn note_change(
        &mut self,
        before: Option<&Record>,
        after: &Record,
        tag: &[u8],
        superseded: &[Superseded],
    ) -> Result<(), Error> {
        let open = self.opened()?;
        let is_own = open.is_appended;
        let (tag_before, is_new_tag) = (open.row.etag.clone(), open.row.etag != tag);
        match before {
            Some(before) if is_new_tag && !is_own && before != after => {
                self.write_hub_change(&tag_before, Some(&replaced_cells(before, after)), superseded)
            }
            _ if !superseded.is_empty() => self.write_hub_change(&[], None, superseded),
            _ => Ok(()),
        }
    }

    /// Takes the row's part out of its scope's digest, and puts the new one in.
    fn move_digest(&mut self, key: &RecordKey, row: &mut Row, held: &Held) -> Result<(), Error> {
        let (db, cache) = (self.db, &mut *self.cache);
        let here = || cache.scopes.iter().find(|(_, sum)| sum.n == row.scope).map(|(path, _)| path.clone());
        let mut scope = held.confirmed.as_ref().unwrap_or(&held.visible).scope();
        if held.awaits_whole || held.is_unreadable() {
            // Where it belongs is what was known last.
            scope = here().unwrap_or(scope);
        }
        if row.is_counted() {
            let stays = cache.scopes.get(&scope).is_some_and(|sum| sum.n == row.scope);
            if let Some(path) = if stays { Some(scope.clone()) } else { here() } {
                let sum = cache.scope_mut(db, &path)?;
                (sum.sum, sum.records) = (sum.sum.wrapping_sub(row.item as u64), sum.records - 1);
                sum.is_new = true;
            }
        }
        let sum = cache.scope_mut(db, &scope)?;
        row.scope = sum.n;
        row.awaits_whole = held.awaits_whole;
        (row.is_confirmed, row.item, row.changed) = (held.confirmed.is_some(), 0, 0);
        row.leaving = held.leaving.filter(|_| row.is_confirmed);
        if let (Some(upto), Some(confirmed)) = (row.leaving, &held.confirmed) {
            (row.item, row.changed) = (upto.0 as i64, confirmed.changed().0 as i64);
        } else if let Some(confirmed) = &held.confirmed {
            let part = item(key, confirmed);
            (sum.sum, sum.records) = (sum.sum.wrapping_add(part), sum.records + 1);
            sum.is_new = true;
            (row.item, row.changed) = (part as i64, confirmed.changed().0 as i64);
        } else if row.awaits_whole {
            (sum.records, sum.is_new) = (sum.records + 1, true);
        }
        Ok(())
    }

    /// Packs what the history does not hold already.
    fn pack_bodies(&mut self, row: &mut Row, held: &Held) -> Result<(), Error> {
        (row.body, row.confirmed) = (Vec::new(), Vec::new());
        let is_one = held.confirmed.as_ref().is_none_or(|confirmed| *confirmed == held.visible);
        if is_one && self.opened()?.may_be_only_op && self.is_only_op(row, &held.visible)? {
            return Ok(());
        }
        row.body = self.codec.pack(&held.visible.canonical())?;
        if let Some(confirmed) = held.confirmed.as_ref().filter(|_| !is_one) {
            row.confirmed = self.codec.pack(&confirmed.canonical())?;
        }
        Ok(())
    }

    fn is_only_op(&mut self, row: &Row, visible: &Record) -> Result<bool, Error> {
        let hseq = if row.is_confirmed { HubSeq(row.changed as u64) } else { HubSeq::NONE };
        let op = self.op_of_number(row.newest)?;
        Ok(op.and_then(|op| of_only_op(&op, hseq)).as_ref() == Some(visible))
    }

    pub(super) fn store_row(&mut self, key: &RecordKey, row: &mut Row, is_shown_anew: bool) -> Result<(), Error> {
        if row.feed == 0 {
            return self.insert_row(key, row);
        }
        let old = row.feed;
        if is_shown_anew {
            row.feed = self.cache.next_feed();
        }
        let mut update = self.db.prepare_cached(
            "UPDATE records SET feed = ?2, scope = ?3, etag = ?4, presence = ?5, conflicts = ?6, is_confirmed = ?7, \
             item = ?8, changed = ?9, is_pending = ?10, unsettled = ?11, newest = ?12, body = ?13, confirmed = ?14 \
             WHERE feed = ?1",
        )?;
        update.execute(rusqlite::params![
            old,
            row.feed,
            row.scope,
            row.etag,
            row.presence,
            row.conflicts,
            row.confirmation(),
            row.item,
            row.changed,
            row.is_pending,
            row.unsettled,
            row.newest,
            row.body,
            row.confirmed,
        ])?;
        Ok(())
    }

    pub(super) fn insert_row(&mut self, key: &RecordKey, row: &mut Row) -> Result<(), Error> {
        row.feed = self.cache.next_feed();
        if row.presence == GONE && row.scope == 0 {
            row.scope = self.cache.scope_mut(self.db, &Scope::root())?.n;
        }
        let mut of_type = self.db.prepare_cached("INSERT INTO types (name) VALUES (?1) ON CONFLICT DO NOTHING")?;
        of_type.execute([key.record_type.as_str()])?;
        let mut insert = self.db.prepare_cached(
            "INSERT INTO records (feed, type, id, scope, etag, presence, conflicts, is_confirmed, item, changed, \
             is_pending, unsettled, newest, body, confirmed) \
             VALUES (?1, (SELECT n FROM types WHERE name = ?2), ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?;
        insert.execute(rusqlite::params![
            row.feed,
            key.record_type.as_str(),
            id_value(&key.id),
            row.scope,
            row.etag,
            row.presence,
            row.conflicts,
            row.confirmation(),
            row.item,
            row.changed,
            row.is_pending,
            row.unsettled,
            row.newest,
            row.body,
            row.confirmed,
        ])?;
        Ok(())
    }

    /// Writes the record's body into its row, because the op that stands for it goes away or changes.
    pub(super) fn materialise(&mut self, key: &RecordKey) -> Result<(), Error> {
        self.open(key)?;
        if !self.opened()?.row.is_only_op() {
            return Ok(());
        }
        let Some(held) = self.opened_held()? else { return Ok(()) };
        let body = match held.is_unreadable() {
            true => UNREADABLE.to_vec(),
            false => self.codec.pack(&held.visible.canonical())?,
        };
        let open = self.opened()?;
        (open.row.body, open.may_be_only_op) = (body, false);
        let mut row = open.row.clone();
        self.store_row(key, &mut row, false)
    }
}

/// The cells of `before` that are different in `after`, as they were; a field that was absent has a register without entries.
pub(super) fn replaced_cells(before: &Record, after: &Record) -> Record {
    let changed =
        after.cells.iter().filter(|(name, cell)| !before.cells.get(*name).is_some_and(|old| is_same(old, cell)));
    let names = changed.map(|(name, _)| name);
    let removed = before.cells.keys().filter(|name| !after.cells.contains_key(*name));
    cells_before(Some(before), names.chain(removed))
}

/// These cells of a record as they were.
pub(super) fn cells_before<'a>(before: Option<&Record>, names: impl Iterator<Item = &'a FieldName>) -> Record {
    let absent = Cell { changed: HubSeq::NONE, state: State::Register(Vec::new()) };
    let cell = |name: &FieldName| before.and_then(|r| r.cells.get(name)).cloned().unwrap_or_else(|| absent.clone());
    Record { cells: names.map(|name| (name.clone(), cell(name))).collect() }
}

/// Whether two versions of a cell show the same, who confirmed it aside.
fn is_same(old: &Cell, new: &Cell) -> bool {
    let registers = match (&old.state, &new.state) {
        (State::Register(old), State::Register(new)) => Some((old.as_slice(), new.as_slice())),
        _ => None,
    };
    if let Some(([old], [new])) = registers {
        return old.value == new.value;
    }
    let alone = |cell: &Cell| Record { cells: BTreeMap::from([(FieldName::scope(), cell.clone())]) };
    old == new || etag(&alone(old)) == etag(&alone(new))
}
