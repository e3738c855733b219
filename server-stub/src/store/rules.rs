//! Published rules documents. A version is never changed once it is out.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};
use sync_protocol::edit::render;
use sync_protocol::hub::review_all;
use sync_protocol::id::{RecordKey, RecordType};
use sync_protocol::rules::Rules;

use super::Tx;
use crate::error::{HubError, StoreError};

impl Tx<'_> {
    pub(super) fn rules_in_force(&mut self) -> Result<Arc<Rules>, StoreError> {
        if let Some(rules) = &self.rules_now {
            return Ok(Arc::clone(rules));
        }
        let mut newest = self.sql("SELECT max(version) FROM rules")?;
        let version: i64 = newest.query_row([], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(0);
        let parsed = self.rules_parsed.as_ref().filter(|rules| i64::from(rules.version) == version).cloned();
        let rules = match parsed {
            Some(rules) => rules,
            None => {
                let mut select = self.sql("SELECT text FROM rules WHERE version = ?1")?;
                let text: Option<String> = select.query_row([version], |row| row.get(0)).optional()?;
                let rules = Arc::new(text.map_or_else(|| Ok(Rules::default()), |text| Rules::parse(&text))?);
                *self.rules_parsed = Some(Arc::clone(&rules));
                rules
            }
        };
        self.rules_now = Some(Arc::clone(&rules));
        Ok(rules)
    }

    /// Puts a document in force and judges the quarantine anew. Tells how many records that freed.
    pub(crate) fn publish(&mut self, text: &str) -> Result<u64, HubError> {
        let rules = Rules::parse(text)?;
        let in_force = self.rules_in_force()?;
        let present = in_force.version;
        if rules.version <= present {
            return Err(HubError::RulesVersion { given: rules.version, present });
        }
        // Writes name their source by its place in the list.
        if !rules.sources.starts_with(&in_force.sources) {
            return Err(HubError::RulesSources(in_force.sources.join(", ")));
        }
        self.sql("INSERT INTO rules (version, text, published_ms) VALUES (?1, ?2, ?3)")
            .and_then(|mut insert| Ok(insert.execute(params![rules.version, text, self.now_ms])?))?;
        // Only here, not among the parsed ones that others see: this transaction may yet be rolled back.
        let rules = Arc::new(rules);
        self.rules_now = Some(Arc::clone(&rules));
        self.find_parents_again(&in_force, &rules)?;
        self.recount_conflicts()?;
        Ok(review_all(self)?)
    }

    /// What belongs to what is looked up in a table: of types for which the rules say it anew, it is made anew.
    fn find_parents_again(&mut self, before: &Rules, rules: &Rules) -> Result<(), StoreError> {
        let changed: Vec<RecordType> =
            self.types()?.into_iter().filter(|kind| before.of(kind).parents != rules.of(kind).parents).collect();
        for record_type in changed {
            for key in self.keys_of_type(&record_type)? {
                let Some(record) = self.cells_of(&key)? else { continue };
                self.keep_parents(&key, &rules.parents(&record_type, &render(&record)))?;
            }
        }
        Ok(())
    }

    fn types(&mut self) -> Result<Vec<RecordType>, StoreError> {
        let mut select = self.sql("SELECT DISTINCT type FROM records")?;
        let names = select.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        Ok(names.iter().map(|name| RecordType::new(name)).collect::<Result<_, _>>()?)
    }

    fn keys_of_type(&mut self, record_type: &RecordType) -> Result<Vec<RecordKey>, StoreError> {
        let mut select = self.sql("SELECT id FROM records WHERE type = ?1")?;
        let ids = select.query_map([record_type.as_str()], |row| row.get::<_, String>(0))?;
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        Ok(ids.iter().map(|id| RecordKey::new(record_type.as_str(), id)).collect::<Result<_, _>>()?)
    }
}
