//! Records as they are, what they name, and the digest of each scope.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, params};
use sync_protocol::digest::item_of;
use sync_protocol::hub::Snapshot;
use sync_protocol::id::{RecordKey, RecordType, Scope};
use sync_protocol::merge::{Presence, presence};
use sync_protocol::record::Record;
use sync_protocol::rules::{Rule, Rules, ScopeKey};

use super::Tx;
use super::tx::{bits, number};
use crate::account::Sight;
use crate::error::StoreError;

/// A record as it is on disk.
#[derive(Debug)]
pub(super) struct Kept {
    scope: Scope,
    item: u64,
    record: Record,
}

impl Tx<'_> {
    pub(super) fn cells_of(&mut self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        Ok(self.kept(key)?.map(|kept| kept.record.clone()))
    }

    fn kept(&mut self, key: &RecordKey) -> Result<Option<&Kept>, StoreError> {
        if self.last.as_ref().is_none_or(|(last, _)| last != key) {
            let mut select = self.sql("SELECT scope, item, cells FROM records WHERE type = ?1 AND id = ?2")?;
            let mut rows = select.query([key.record_type.as_str(), key.id.as_str()])?;
            let kept = match rows.next()? {
                Some(row) => Some(Kept {
                    scope: Scope::new(&row.get::<_, String>(0)?)?,
                    item: number(row.get(1)?),
                    record: Record::from_canonical(&row.get::<_, Vec<u8>>(2)?)?,
                }),
                None => None,
            };
            self.last = Some((key.clone(), kept));
        }
        Ok(self.last.as_ref().and_then(|(_, kept)| kept.as_ref()))
    }

    /// Writes a record, and tells whether it is new.
    pub(super) fn keep_record(&mut self, key: &RecordKey, record: Record) -> Result<bool, StoreError> {
        let rules = self.rules()?;
        let before = self.kept(key)?.map(|kept| (kept.scope.clone(), kept.item));
        let (scope, cells) = (record.scope(), record.canonical());
        let item = item_of(key, &cells);
        if let Some((was, old)) = &before {
            self.add_to_scope(was, 0u64.wrapping_sub(*old), -1);
        }
        self.add_to_scope(&scope, item, 1);
        let mut upsert = self.sql(
            "INSERT INTO records (type, id, scope, rev, item, is_deleted, conflicts, cells)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET scope = ?3, rev = ?4, item = ?5, is_deleted = ?6, conflicts = ?7, cells = ?8",
        )?;
        let (kind, id) = (key.record_type.as_str(), key.id.as_str());
        let is_deleted = presence(&record, rules.of(&key.record_type)) == Presence::Deleted;
        let conflicts = open_questions(&rules, &key.record_type, &record) as i64;
        let rev = bits(record.changed().0);
        upsert.execute(params![kind, id, scope.as_str(), rev, bits(item), is_deleted, conflicts, cells])?;
        self.last = Some((key.clone(), Some(Kept { scope, item, record })));
        Ok(before.is_none())
    }

    fn add_to_scope(&mut self, scope: &Scope, difference: u64, records: i64) {
        let (digest, count) = self.sums.entry(scope.clone()).or_default();
        *digest = digest.wrapping_add(difference);
        *count += records;
    }

    /// Writes the digests that changed. They are summed up here and not by SQLite, whose integers turn into floats when
    /// they overflow.
    pub(super) fn write_sums(&mut self) -> Result<(), StoreError> {
        for (scope, (difference, records)) in std::mem::take(&mut self.sums) {
            let mut select = self.sql("SELECT digest FROM scope_digest WHERE scope = ?1")?;
            let digest: Option<i64> = select.query_row([scope.as_str()], |row| row.get(0)).optional()?;
            let digest = digest.map_or(0, number).wrapping_add(difference);
            let mut upsert = self.sql(
                "INSERT INTO scope_digest (scope, digest, records) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET digest = ?2, records = records + ?3",
            )?;
            upsert.execute(params![scope.as_str(), bits(digest), records])?;
        }
        Ok(())
    }

    pub(super) fn keep_parents(&mut self, key: &RecordKey, parents: &[RecordKey]) -> Result<(), StoreError> {
        let (kind, id) = (key.record_type.as_str(), key.id.as_str());
        let mut known = BTreeSet::new();
        {
            let mut select = self.sql("SELECT parent_type, parent_id FROM parents WHERE type = ?1 AND id = ?2")?;
            let mut rows = select.query([kind, id])?;
            while let Some(row) = rows.next()? {
                known.insert(RecordKey::new(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?)?);
            }
        }
        let wanted: BTreeSet<RecordKey> = parents.iter().cloned().collect();
        for gone in known.difference(&wanted) {
            self.sql("DELETE FROM parents WHERE type = ?1 AND id = ?2 AND parent_type = ?3 AND parent_id = ?4")?
                .execute([kind, id, gone.record_type.as_str(), gone.id.as_str()])?;
        }
        for new in wanted.difference(&known) {
            self.sql("INSERT INTO parents (type, id, parent_type, parent_id) VALUES (?1, ?2, ?3, ?4)")?.execute([
                kind,
                id,
                new.record_type.as_str(),
                new.id.as_str(),
            ])?;
        }
        Ok(())
    }

    pub(super) fn children_in_scope(&mut self, parent: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
        let rules = self.rules()?;
        if !rules.types.values().any(|of| matches!(of.scope, ScopeKey::Parent(_))) {
            return Ok(Vec::new());
        }
        let mut select =
            self.sql("SELECT type, id FROM parents WHERE parent_type = ?1 AND parent_id = ?2 ORDER BY 1, 2")?;
        let mut rows = select.query([parent.record_type.as_str(), parent.id.as_str()])?;
        let mut children = Vec::new();
        while let Some(row) = rows.next()? {
            let child = RecordKey::new(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?)?;
            let type_rules = rules.of(&child.record_type);
            let follows = match &type_rules.scope {
                ScopeKey::Parent(field) => type_rules.parents.get(field) == Some(&parent.record_type),
                ScopeKey::Home | ScopeKey::Field(_) => false,
            };
            if follows {
                children.push(child);
            }
        }
        Ok(children)
    }

    pub(super) fn digest_of(&mut self, scopes: &[Scope]) -> Result<u64, StoreError> {
        let mut sum = 0u64;
        for prefix in distinct(scopes) {
            // `/` is followed by `0`: between the two lies everything below the prefix.
            let mut select = match prefix.as_str() {
                "" => self.sql("SELECT digest FROM scope_digest WHERE ?1 = ''")?,
                _ => self.sql(
                    "SELECT digest FROM scope_digest WHERE scope = ?1
                     UNION ALL SELECT digest FROM scope_digest WHERE scope > ?1 || '/' AND scope < ?1 || '0'",
                )?,
            };
            let mut rows = select.query([prefix.as_str()])?;
            while let Some(row) = rows.next()? {
                sum = sum.wrapping_add(number(row.get(0)?));
            }
        }
        for (scope, (difference, _)) in &self.sums {
            if is_covered(scopes, scope) {
                sum = sum.wrapping_add(*difference);
            }
        }
        Ok(sum)
    }

    /// Digest and number of records of each scope that is seen, deleted ones included.
    pub(crate) fn scope_sums(&mut self, sight: &Sight) -> Result<BTreeMap<Scope, (u64, u64)>, StoreError> {
        self.write_sums()?;
        let mut select = self.sql("SELECT scope, digest, records FROM scope_digest")?;
        let mut rows = select.query([])?;
        let mut sums = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let scope = Scope::new(&row.get::<_, String>(0)?)?;
            if sight.sees(&scope) {
                sums.insert(scope, (number(row.get(1)?), number(row.get(2)?)));
            }
        }
        Ok(sums)
    }

    pub(super) fn items_in(&mut self, scopes: &[Scope]) -> Result<Vec<(u64, RecordKey)>, StoreError> {
        let mut select = self.sql("SELECT scope, item, type, id FROM records INDEXED BY records_rev WHERE rev >= 0")?;
        let mut rows = select.query([])?;
        let mut items = Vec::new();
        while let Some(row) = rows.next()? {
            if is_covered(scopes, &Scope::new(&row.get::<_, String>(0)?)?) {
                let key = RecordKey::new(&row.get::<_, String>(2)?, &row.get::<_, String>(3)?)?;
                items.push((number(row.get(1)?), key));
            }
        }
        items.sort_unstable_by(|(_, a), (_, b)| a.cmp(b));
        Ok(items)
    }

    /// Records of a type after `after` that are seen, in order of their ids and without deleted ones: at most `limit`.
    pub(crate) fn page(
        &mut self,
        sight: &Sight,
        record_type: &RecordType,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Record)>, StoreError> {
        let seen = seen("scope", sight);
        let mut select = self.sql(&format!(
            "SELECT id, cells FROM records WHERE type = ?1 AND id > ?2 AND NOT is_deleted AND {seen} ORDER BY id LIMIT ?3"
        ))?;
        let mut rows = select.query(params![record_type.as_str(), after, bits(limit as u64)])?;
        let mut records = Vec::new();
        while let Some(row) = rows.next()? {
            let key = RecordKey::new(record_type.as_str(), &row.get::<_, String>(0)?)?;
            records.push((key, Record::from_canonical(&row.get::<_, Vec<u8>>(1)?)?));
        }
        Ok(records)
    }

    /// How many records of a type are seen, without deleted ones.
    pub(crate) fn records_of(&mut self, sight: &Sight, record_type: &RecordType) -> Result<u64, StoreError> {
        let seen = seen("scope", sight);
        let sql = format!("SELECT count(*) FROM records WHERE type = ?1 AND NOT is_deleted AND {seen}");
        Ok(number(self.sql(&sql)?.query_row([record_type.as_str()], |row| row.get(0))?))
    }

    /// Records that are seen, with something that a person could settle, after `after`: at most `limit`.
    pub(crate) fn in_conflict(
        &mut self,
        sight: &Sight,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Record)>, StoreError> {
        let seen = seen("scope", sight);
        let mut select = self.sql(&format!(
            "SELECT type, id, cells FROM records INDEXED BY records_conflict
             WHERE conflicts > 0 AND (type, id) > (?1, ?2) AND {seen} ORDER BY type, id LIMIT ?3"
        ))?;
        let (kind, id) = after.map_or(("", ""), |key| (key.record_type.as_str(), key.id.as_str()));
        let mut rows = select.query(params![kind, id, bits(limit as u64)])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let key = RecordKey::new(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?)?;
            found.push((key, Record::from_canonical(&row.get::<_, Vec<u8>>(2)?)?));
        }
        Ok(found)
    }

    /// How many records are seen, deleted ones included, and how many of them have something to settle.
    pub(crate) fn counts(&mut self, sight: &Sight) -> Result<(u64, u64), StoreError> {
        let records = self.scope_sums(sight)?.values().map(|(_, records)| records).sum();
        let seen = seen("scope", sight);
        let sql = format!("SELECT count(*) FROM records INDEXED BY records_conflict WHERE conflicts > 0 AND {seen}");
        let conflicts: i64 = self.sql(&sql)?.query_row([], |row| row.get(0))?;
        Ok((records, number(conflicts)))
    }

    /// Counts the open questions of all records anew, after the rules changed.
    pub(super) fn recount_conflicts(&mut self) -> Result<(), StoreError> {
        let rules = self.rules()?;
        let mut select = self.sql("SELECT type, id, conflicts, is_deleted, cells FROM records")?;
        let mut rows = select.query([])?;
        let mut changed = Vec::new();
        while let Some(row) = rows.next()? {
            let key = RecordKey::new(&row.get::<_, String>(0)?, &row.get::<_, String>(1)?)?;
            let record = Record::from_canonical(&row.get::<_, Vec<u8>>(4)?)?;
            let is_deleted = presence(&record, rules.of(&key.record_type)) == Presence::Deleted;
            let now = (open_questions(&rules, &key.record_type, &record) as i64, is_deleted);
            if now != (row.get(2)?, row.get(3)?) {
                changed.push((key, now));
            }
        }
        for (key, (conflicts, is_deleted)) in changed {
            self.sql("UPDATE records SET conflicts = ?3, is_deleted = ?4 WHERE type = ?1 AND id = ?2")?
                .execute(params![key.record_type.as_str(), key.id.as_str(), conflicts, is_deleted])?;
        }
        Ok(())
    }
}

/// SQL for "the scope in this column is seen". It stands before each `LIMIT`, so that what is not seen takes no place on a page. The names
/// of scopes have no letters in them that would have to be quoted.
pub(super) fn seen(column: &str, sight: &Sight) -> String {
    if sight.sees_everything() {
        return "1".to_owned();
    }
    // `/` is followed by `0`: between the two lies everything below a scope.
    let one = |scope: &Scope| format!("{column} = '{scope}' OR {column} > '{scope}/' AND {column} < '{scope}0'");
    let any: Vec<String> = sight.scopes().iter().map(one).collect();
    match any.is_empty() {
        true => "0".to_owned(),
        false => format!("({})", any.join(" OR ")),
    }
}

/// The scopes that no other one of them covers, so that nothing is counted twice.
fn distinct(scopes: &[Scope]) -> BTreeSet<&Scope> {
    let all: BTreeSet<&Scope> = scopes.iter().collect();
    all.iter().copied().filter(|scope| !all.iter().any(|other| other != scope && other.covers(scope))).collect()
}

fn is_covered(scopes: &[Scope], at: &Scope) -> bool {
    scopes.iter().any(|prefix| prefix.covers(at))
}

/// How many things in a record a person could settle: fields in which different values stand, under a rule that leaves
/// that to people, and a delete that met an edit.
fn open_questions(rules: &Rules, record_type: &RecordType, record: &Record) -> usize {
    let type_rules = rules.of(record_type);
    match presence(record, type_rules) {
        Presence::Deleted => 0,
        state => {
            let fields = record.conflicts();
            let fields = fields.iter().filter(|name| {
                !name.is_reserved() && !matches!(type_rules.rule(name), Rule::Max | Rule::Min | Rule::Ordered(_))
            });
            fields.count() + usize::from(state == Presence::Review)
        }
    }
}
