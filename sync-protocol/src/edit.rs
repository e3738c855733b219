//! From what an app sends to what changes, and back: JSON bodies and the cells of a record.
//!
//! An app sends whole objects; only what it changed becomes part of an op. What it changed is told against the version it
//! had read (`base`), so that an edit of a stale copy does not undo what others wrote meanwhile: a field that changed on
//! both sides becomes a concurrent value, and the field's rule decides as it would between two gateways.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use crate::error::DecodeError;
use crate::id::{Dot, FieldName, Origin, RecordType, Scope, Source};
use crate::merge::{Presence, presence};
use crate::record::{Cell, Change, Record, State};
use crate::rules::{Rule, Rules, ScopeKey, TypeRules, Violation, lookup};
use crate::value::Value;

/// The changes that an app's body asks for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// What to put into the op; empty if nothing is different.
    pub changes: BTreeMap<FieldName, Change>,
    /// Fields that somebody else changed since the version the app had read.
    pub conflicts: Vec<FieldName>,
}

/// What the desk needs to know to turn a body into changes.
#[derive(Debug, Clone, Copy)]
pub struct Desk<'a> {
    /// The rules in force.
    pub rules: &'a Rules,
    /// The type of the record.
    pub record_type: &'a RecordType,
    /// Who writes: a counter adds up by origin.
    pub origin: Origin,
    /// What kind of place this is.
    pub source: Source,
    /// The scope of a new record whose type declares none.
    pub home: &'a Scope,
    /// The record as it is; `None` if there is none.
    pub current: Option<&'a Record>,
    /// The record as the app had read it; the same as `current` unless the app said otherwise.
    pub base: Option<&'a Record>,
}

/// A body that cannot be taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EditError {
    /// Fields that break the rules of the type.
    #[error("{} field(s) break the rules of the type", .0.len())]
    Violations(Vec<Violation>),
    /// A key that no field can have.
    #[error("a field name is empty or longer than {} bytes", crate::limits::FIELD_BYTES_MAX)]
    FieldName,
    /// A delete of a record of which only a part is here.
    #[error("most of this record is not here: it belongs to another place, which can delete it")]
    NotHeld,
    /// A delete at the centre while its own writes to the record wait in quarantine: it would take them along unseen.
    #[error("writes of the centre to this record wait in quarantine: let them go or drop them first")]
    OwnWait,
    /// What the write depends on cannot be read any more, and is on its way from the hub.
    #[error("the record cannot be read at the moment")]
    Unreadable,
    /// Too many fields, or nested too deep.
    #[error("{0}")]
    Limit(String),
}

impl From<DecodeError> for EditError {
    fn from(_: DecodeError) -> Self {
        EditError::FieldName
    }
}

impl Desk<'_> {
    /// The changes that make the record equal to `body`.
    ///
    /// # Errors
    /// [`EditError`]: what a person at the desk has to correct.
    pub fn put(&self, body: &Map<String, Json>) -> Result<Changes, EditError> {
        self.check_limits(body)?;
        let mut violations = self.rules.check(self.record_type, body);
        let wanted = self.explode(body)?;
        let mut result = Changes::default();
        let names: BTreeSet<FieldName> = wanted.keys().cloned().chain(self.fields_of(self.base)).collect();
        for name in names {
            let change = self.change_of(&name, wanted.get(&name), &mut violations);
            if let Some((change, conflict)) = change {
                if conflict {
                    result.conflicts.push(name.clone());
                }
                result.changes.insert(name, change);
            }
        }
        match violations.is_empty() {
            true => {
                self.add_reserved(body, &mut result)?;
                Ok(result)
            }
            false => Err(EditError::Violations(violations)),
        }
    }

    /// The change that deletes the record; empty if it is not there.
    pub fn delete(&self) -> Changes {
        let mut result = Changes::default();
        if self.is_present() {
            result.changes.insert(FieldName::deleted(), Change::put(Value::Bool(true)));
        }
        result
    }

    /// The changes that settle one field on a value, overruling everything that stands in it.
    ///
    /// # Errors
    /// [`EditError`] if the value is not one that the field can have.
    pub fn settle(&self, field: &FieldName, value: Option<&Json>) -> Result<Changes, EditError> {
        self.must_exist()?;
        let mut body = self.current.map(render).unwrap_or_default();
        set_path(&mut body, &field.path(), value.cloned());
        let violations = self.rules.check(self.record_type, &body);
        if !violations.is_empty() {
            return Err(EditError::Violations(violations));
        }
        let change = Change::Put { value: value.map(Value::from_json), unseen: Vec::new() };
        Ok(Changes { changes: BTreeMap::from([(field.clone(), change)]), conflicts: Vec::new() })
    }

    /// The change that ends a review of a delete that met an edit.
    ///
    /// # Errors
    /// [`EditError::Limit`] if there is no such record.
    pub fn settle_delete(&self, delete: bool) -> Result<Changes, EditError> {
        self.must_exist()?;
        let change = Change::put(Value::Bool(delete));
        Ok(Changes { changes: BTreeMap::from([(FieldName::deleted(), change)]), conflicts: Vec::new() })
    }

    fn must_exist(&self) -> Result<(), EditError> {
        match self.current {
            Some(_) => Ok(()),
            None => Err(EditError::Limit("there is no such record to settle".to_owned())),
        }
    }

    fn type_rules(&self) -> &TypeRules {
        self.rules.of(self.record_type)
    }

    fn is_present(&self) -> bool {
        self.current.is_some_and(|r| presence(r, self.type_rules()) != Presence::Deleted)
    }

    fn check_limits(&self, body: &Map<String, Json>) -> Result<(), EditError> {
        let depth = body.values().map(|v| Value::from_json(v).depth()).max().unwrap_or(0);
        if depth >= crate::limits::DEPTH_MAX {
            return Err(EditError::Limit(format!("nested deeper than {} levels", crate::limits::DEPTH_MAX)));
        }
        if body.len() > crate::limits::FIELDS_MAX - 2 {
            return Err(EditError::Limit(format!("more than {} fields", crate::limits::FIELDS_MAX - 2)));
        }
        Ok(())
    }

    /// The change of one field, and whether somebody else changed it too. `None` if the app did not change it.
    fn change_of(
        &self,
        name: &FieldName,
        wanted: Option<&Value>,
        violations: &mut Vec<Violation>,
    ) -> Option<(Change, bool)> {
        let base = self.base.and_then(|r| r.cells.get(name));
        let current = self.current.and_then(|r| r.cells.get(name));
        let (base_value, current_value) = (base.and_then(Cell::value), current.and_then(Cell::value));
        let is_gone = self.current.is_some() && !self.is_present();
        if !is_gone && (wanted == base_value.as_ref() || wanted == current_value.as_ref()) {
            return None;
        }
        if is_gone && wanted == current_value.as_ref() {
            return None;
        }
        let rule = self.type_rules().rule(name);
        let change = match rule {
            Rule::Set => members(wanted, base),
            Rule::AppendOnly => append(wanted, base_value.as_ref())?,
            Rule::Counter => self.count(wanted, base_value.as_ref(), current),
            _ => {
                if let Some(message) = self.refusal(rule, wanted, current) {
                    violations.push(Violation { field: name.as_str().to_owned(), message });
                    return None;
                }
                let unseen = self.unseen(name);
                let conflict = !unseen.is_empty();
                return Some((Change::Put { value: wanted.cloned(), unseen }, conflict));
            }
        };
        Some((change, false))
    }

    /// What stands in a field and was not there when the app read the record.
    fn unseen(&self, name: &FieldName) -> Vec<Dot> {
        let dots = |record: Option<&Record>| -> Vec<Dot> {
            let cell = record.and_then(|r| r.cells.get(name));
            cell.map(Cell::stamps).unwrap_or_default().iter().map(|stamp| stamp.dot).collect()
        };
        let known = dots(self.base);
        dots(self.current).into_iter().filter(|dot| !known.contains(dot)).collect()
    }

    /// Why the rule will not let this value stand: said at the desk, where somebody can still do something about it.
    fn refusal(&self, rule: &Rule, wanted: Option<&Value>, current: Option<&Cell>) -> Option<String> {
        let standing = current?;
        let place = |value: Option<&Value>, order: &[Value]| order.iter().position(|v| Some(v) == value);
        match rule {
            Rule::Immutable | Rule::FirstWrite if standing.value().is_some() => {
                Some("was set before and cannot be changed".to_owned())
            }
            Rule::Ordered(order) if place(wanted, order) < place(standing.value().as_ref(), order) => {
                Some("can only move forward, not back".to_owned())
            }
            Rule::Priority(order) => {
                let rank = |source: Source| order.iter().position(|s| *s == source).unwrap_or(order.len());
                let theirs = standing.stamp()?.source;
                let name = self.rules.sources.get(usize::from(theirs.0)).map_or("another source", String::as_str);
                (rank(theirs) < rank(self.source)).then(|| format!("was set by {name}, and only {name} can change it"))
            }
            _ => None,
        }
    }

    fn count(&self, wanted: Option<&Value>, base: Option<&Value>, current: Option<&Cell>) -> Change {
        let number = |value: Option<&Value>| match value {
            Some(Value::Int(n)) => i128::from(*n),
            _ => 0,
        };
        let (mut plus, mut minus) = match current.map(|c| &c.state) {
            Some(State::Counter(counter)) => counter.totals.get(&self.origin).copied().unwrap_or_default(),
            _ => (0, 0),
        };
        let difference = number(wanted) - number(base);
        let steps = u64::try_from(difference.unsigned_abs()).unwrap_or(u64::MAX);
        match difference >= 0 {
            true => plus = plus.saturating_add(steps),
            false => minus = minus.saturating_add(steps),
        }
        Change::Count { plus, minus }
    }

    /// The scope of a new record or of one whose scope field changed, and the end of a tombstone.
    fn add_reserved(&self, body: &Map<String, Json>, result: &mut Changes) -> Result<(), EditError> {
        let scope_of =
            |record: Option<&Record>| record.and_then(|r| r.cells.get(FieldName::SCOPE)).and_then(Cell::value);
        let (standing, read) = (scope_of(self.current), scope_of(self.base));
        let declared = match &self.type_rules().scope {
            ScopeKey::Field(field) => match lookup(body, field).and_then(Json::as_str) {
                Some(text) => match Scope::new(text) {
                    Ok(scope) => Some(scope),
                    Err(_) => {
                        let message = "must be a scope such as country/district/facility".to_owned();
                        return Err(EditError::Violations(vec![Violation { field: field.to_string(), message }]));
                    }
                },
                None => None,
            },
            // A child begins in its writer's home; the hub moves it to its parent's scope, which only the hub surely knows.
            ScopeKey::Home | ScopeKey::Parent(_) => None,
        };
        let wanted = declared.map(|s| Value::Text(s.as_str().to_owned()));
        let scope = match (wanted, standing) {
            // What the app had read and left as it was is no wish to move the record back.
            (Some(wanted), standing) if standing.as_ref() != Some(&wanted) && read.as_ref() != Some(&wanted) => {
                Some(wanted)
            }
            (None, None) => Some(Value::Text(self.home.as_str().to_owned())),
            _ => None,
        };
        if let Some(scope) = scope {
            let change = Change::Put { value: Some(scope), unseen: self.unseen(&FieldName::scope()) };
            result.changes.insert(FieldName::scope(), change);
        }
        if self.current.is_some() && !self.is_present() {
            let change = Change::Put { value: Some(Value::Bool(false)), unseen: self.unseen(&FieldName::deleted()) };
            result.changes.insert(FieldName::deleted(), change);
        }
        Ok(())
    }

    /// Splits a body into the values of its cells.
    fn explode(&self, body: &Map<String, Json>) -> Result<BTreeMap<FieldName, Value>, EditError> {
        let mut body = body.clone();
        let mut values = BTreeMap::new();
        let declared = self.type_rules().fields.keys().cloned();
        let mut paths: Vec<(Vec<String>, FieldName)> = declared
            .chain(self.fields_of(self.base))
            .chain(self.fields_of(self.current))
            .map(|name| (name.path(), name))
            .filter(|(path, _)| path.len() > 1)
            .collect();
        // The deepest first, so that what is cut out of a parent is not carried in it as well.
        paths.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.1.cmp(&b.1)));
        for (path, name) in paths {
            if let Some(value) = take_path(&mut body, &path) {
                values.insert(name, Value::from_json(&value));
            }
        }
        for (key, value) in &body {
            values.insert(FieldName::from_path([key.as_str()])?, Value::from_json(value));
        }
        Ok(values)
    }

    fn fields_of<'r>(&self, record: Option<&'r Record>) -> impl Iterator<Item = FieldName> + use<'r> {
        record.into_iter().flat_map(|r| r.cells.keys()).filter(|name| !name.is_reserved()).cloned()
    }
}

/// Members to add and remove, so that the set the app had read becomes the one it wants.
fn members(wanted: Option<&Value>, base: Option<&Cell>) -> Change {
    let wanted: BTreeSet<Value> = listed(wanted).into_iter().collect();
    let empty = BTreeMap::new();
    let standing = match base.map(|c| &c.state) {
        Some(State::Set(set)) => &set.members,
        _ => &empty,
    };
    let remove =
        standing.iter().filter(|(m, _)| !wanted.contains(*m)).map(|(m, dots)| (m.clone(), dots.clone())).collect();
    let add = wanted.into_iter().filter(|m| !standing.contains_key(m)).collect();
    Change::Members { add, remove }
}

/// What stands in the wanted list beyond the one the app had read. Nothing is ever taken away.
fn append(wanted: Option<&Value>, base: Option<&Value>) -> Option<Change> {
    let mut known = listed(base);
    let mut added = Vec::new();
    for value in listed(wanted) {
        match known.iter().position(|k| *k == value) {
            Some(at) => drop(known.swap_remove(at)),
            None => added.push(value),
        }
    }
    (!added.is_empty()).then_some(Change::Append(added))
}

fn listed(value: Option<&Value>) -> Vec<Value> {
    match value {
        Some(Value::List(items)) => items.clone(),
        Some(Value::Null) | None => Vec::new(),
        Some(other) => vec![other.clone()],
    }
}

/// The record as an app sees it: fields put back into their objects.
pub fn render(record: &Record) -> Map<String, Json> {
    let mut body = Map::new();
    let mut cells: Vec<(Vec<String>, Value)> = record
        .cells
        .iter()
        .filter(|(name, _)| !name.is_reserved())
        .filter_map(|(name, cell)| cell.value().map(|value| (name.path(), value)))
        .collect();
    cells.sort_by(|a, b| a.0.len().cmp(&b.0.len()).then_with(|| a.0.cmp(&b.0)));
    for (path, value) in cells {
        set_path(&mut body, &path, Some(value.to_json()));
    }
    body
}

/// Cuts the value at a path out of an object.
fn take_path(body: &mut Map<String, Json>, path: &[String]) -> Option<Json> {
    match path {
        [] => None,
        [last] => body.remove(last),
        [first, rest @ ..] => take_path(body.get_mut(first)?.as_object_mut()?, rest),
    }
}

/// Puts a value at a path, making objects on the way; does nothing where something else than an object is in the way.
fn set_path(body: &mut Map<String, Json>, path: &[String], value: Option<Json>) {
    match (path, value) {
        ([last], Some(value)) => drop(body.insert(last.clone(), value)),
        ([last], None) => drop(body.remove(last)),
        ([first, rest @ ..], value) => {
            let inner = body.entry(first.clone()).or_insert_with(|| Json::Object(Map::new()));
            if let Some(inner) = inner.as_object_mut() {
                set_path(inner, rest, value);
            }
        }
        ([], _) => {}
    }
}
