//! Reads the rules of one record type, and holds its keys against each other.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::field::{self, Around};
use super::reader::{Node, Reader, Table, nearest, shown};
use crate::id::{FieldName, RecordType, Stream};
use crate::limits;
use crate::rules::{DeleteRule, FieldRules, Kind, OutsideRule, ScopeKey, TypeRules};

const TYPE_KEYS: [&str; 8] = ["scope", "outside", "stream", "delete", "default", "parents", "identifiers", "fields"];
const STREAMS: [(&str, Stream); 3] = [("urgent", Stream::Urgent), ("normal", Stream::Normal), ("bulk", Stream::Bulk)];
const DELETES: [(&str, DeleteRule); 3] = [
    ("keep-and-review", DeleteRule::KeepAndReview),
    ("delete-wins", DeleteRule::DeleteWins),
    ("edit-wins", DeleteRule::EditWins),
];
const OUTSIDES: [(&str, OutsideRule); 2] = [("merge", OutsideRule::Merge), ("hold", OutsideRule::Hold)];

/// The rules of a type, or of all types that are not named. `sources` and `types` are what the document declares.
pub(super) fn type_rules(
    reader: &mut Reader<'_>,
    node: &Node<'_>,
    sources: &[String],
    types: &[&str],
    is_named: bool,
) -> TypeRules {
    let table = reader.table(node, &TYPE_KEYS);
    let mut rules = TypeRules::default();
    if let Some(delete) = table.get("delete").and_then(|node| reader.choice(node, "delete rule", &DELETES)) {
        rules.delete = delete;
    }
    if let Some(outside) = table.get("outside").and_then(|node| reader.choice(node, "rule for outside", &OUTSIDES)) {
        rules.outside = outside;
    }
    if let Some(stream) = table.get("stream").and_then(|node| reader.choice(node, "stream", &STREAMS)) {
        rules.stream = stream;
    }
    if let Some(node) = table.get("default") {
        rules.default = field::default_rule(reader, node, sources);
    }
    if let Some(node) = table.get("fields") {
        let around = Around { sources, default: rules.default.clone(), is_checked: is_named };
        rules.fields = fields(reader, node, &around);
    }
    if let Some(node) = table.get("parents") {
        rules.parents = parents(reader, node, types);
    }
    if let Some(node) = table.get("identifiers") {
        let texts = reader.texts(node);
        rules.identifiers = texts.iter().filter_map(|(text, item)| field_name(reader, item, text)).collect();
    }
    if let Some(scope) = scope(reader, &table, &rules) {
        rules.scope = scope;
    }
    rules
}

fn fields(reader: &mut Reader<'_>, node: &Node<'_>, around: &Around<'_>) -> BTreeMap<FieldName, FieldRules> {
    let table = reader.open_table(node);
    if table.entries.len() > limits::FIELDS_MAX {
        reader.refuse(node, format!("a record has at most {} fields", limits::FIELDS_MAX));
        return BTreeMap::new();
    }
    let mut fields = BTreeMap::new();
    let mut places = Vec::new();
    for (text, node) in &table.entries {
        let rules = field::field(reader, node, around);
        let Some(name) = field_name(reader, node, text) else { continue };
        places.push((name.clone(), node));
        if fields.insert(name, rules).is_some() {
            reader.refuse(node, "this field is named twice");
        }
    }
    for (name, node) in places {
        if let Some(outer) = outer_fields(&name).find(|outer| fields.get(outer).is_some_and(holds_no_fields)) {
            reader.refuse(
                node,
                format!(
                    "\"{outer}\" has no fields inside: its rule or kind takes it as one value; remove one of the two"
                ),
            );
        }
    }
    fields
}

/// Sets, lists and counters merge as a whole, and what is checked to be plain has nothing inside.
fn holds_no_fields(field: &FieldRules) -> bool {
    field.rule.kind().or(field.check.kind).is_some_and(|kind| kind != Kind::Object)
}

/// The fields in which a path lies, outermost first.
fn outer_fields(name: &FieldName) -> impl Iterator<Item = FieldName> {
    let path = name.path();
    (1..path.len()).filter_map(move |n| FieldName::from_path(path.iter().take(n).map(String::as_str)).ok())
}

fn parents(reader: &mut Reader<'_>, node: &Node<'_>, types: &[&str]) -> BTreeMap<FieldName, RecordType> {
    let mut parents = BTreeMap::new();
    for (text, node) in reader.open_table(node).entries {
        let (name, word) = (field_name(reader, &node, text), reader.text(&node));
        let (Some(name), Some(word)) = (name, word) else { continue };
        let typo = nearest(word, types).filter(|_| !types.contains(&word));
        match (RecordType::new(word), typo) {
            (Err(error), _) => reader.refuse(&node, error.to_string()),
            (Ok(_), Some(near)) => {
                let word = shown(word);
                reader.refuse(
                    &node,
                    format!("no type \"{word}\" is declared; did you mean \"{near}\"? (else add [types.{word}])"),
                );
            }
            (Ok(record_type), None) => drop(parents.insert(name, record_type)),
        }
    }
    parents
}

fn scope(reader: &mut Reader<'_>, table: &Table<'_>, rules: &TypeRules) -> Option<ScopeKey> {
    let node = table.get("scope")?;
    if let DeValue::Table(_) = node.value {
        let inner = reader.table(node, &["parent"]);
        let Some(parent) = inner.get("parent") else {
            reader.refuse(node, "write a field, scope = \"facility\", or a parent, scope = { parent = \"patient\" }");
            return None;
        };
        let text = reader.text(parent)?;
        let name = field_name(reader, parent, text)?;
        if !rules.parents.contains_key(&name) {
            reader
                .refuse(parent, format!("\"{name}\" is not under parents; add parents = {{ {text} = \"its type\" }}"));
        }
        return Some(ScopeKey::Parent(name));
    }
    let text = reader.text(node)?;
    let name = field_name(reader, node, text)?;
    if rules.fields.get(&name).is_some_and(|field| field.rule.kind().is_some()) {
        reader.refuse(node, format!("\"{name}\" merges as a list or a sum and cannot hold a scope path"));
    }
    Some(ScopeKey::Field(name))
}

/// A field as it is written here: keys joined by `.`, a literal dot as `\.`.
fn field_name(reader: &mut Reader<'_>, node: &Node<'_>, text: &str) -> Option<FieldName> {
    let trailing = text.chars().rev().take_while(|c| *c == '\\').count();
    let path = match FieldName::new(text) {
        Ok(name) if trailing % 2 == 0 => name.path(),
        Ok(_) => {
            reader.refuse(node, "ends with a single `\\`; a literal one is written twice");
            return None;
        }
        Err(error) => {
            reader.refuse(node, error.to_string());
            return None;
        }
    };
    if path.iter().any(String::is_empty) {
        reader.refuse(node, "has an empty part; a path is outer.inner, and a literal dot is written `\\.`");
        return None;
    }
    match FieldName::from_path(path.iter().map(String::as_str)) {
        Ok(name) => Some(name),
        Err(error) => {
            reader.refuse(node, error.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::Rules;

    /// What is said about a type of this content.
    fn said(content: &str) -> String {
        match Rules::parse(&format!("version = 1\n[types.patient]\n[types.visit]\n{content}")) {
            Ok(_) => String::new(),
            Err(error) => error.problems.iter().map(|p| p.message.as_str()).collect::<Vec<_>>().join("; "),
        }
    }

    #[test]
    fn keys_must_agree_with_each_other() {
        for (content, expected) in [
            ("parents = { p = 'patient' }\nscope = { parent = 'p' }", ""),
            ("parents = { p = 'household' }", ""),
            ("parents = { p = 'pateint' }", "did you mean \"patient\"? (else add [types.pateint])"),
            ("parents = { p = '1x' }", "not a valid record type"),
            ("scope = { parnt = 'p' }", "did you mean \"parent\"?"),
            ("scope = 's'\nfields.s = 'set'", "cannot hold a scope path"),
            ("scope = 7", "must be text in quotes"),
            ("outside = 'hold'", ""),
            ("outside = 'held'", "unknown rule for outside \"held\"; did you mean \"hold\"?"),
            ("stream = 'urgnt'", "did you mean \"urgent\"?"),
            ("identifiers = ['a', 'a']", "\"a\" is in the list twice"),
            ("default = 'set'", "do not fit every value"),
            ("default = 'priority'", "needs its sources"),
            ("[other]\nfields = { x = { required = true } }", "only fields of a named type can be checked"),
            ("[other]\nfields = { x = 'counter' }", ""),
            ("[types.'1x']", "not a valid record type"),
        ] {
            let said = said(content);
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{content}: {said}");
        }
    }

    #[test]
    fn paths_lie_in_fields_that_can_hold_them() {
        for (fields, expected) in [
            ("'a.b' = 'lww'\na = 'lww'", ""),
            ("'a.b' = 'lww'\n'a.b.c' = 'set'", ""),
            ("'a\\.b' = 'lww'\na = 'set'", ""),
            ("ab = 'lww'\na = 'set'", ""),
            ("'a.b.c' = 'lww'\na = 'set'", "\"a\" has no fields inside"),
            ("'a.b' = 'lww'\na = 'counter'", "\"a\" has no fields inside"),
            ("'a.b' = 'lww'\na = { kind = 'text' }", "\"a\" has no fields inside"),
            ("a.b = 'lww'", "written as a path in quotes"),
            ("'a.' = 'lww'", "has an empty part"),
            ("'' = 'lww'", "not a valid field name"),
            ("'a\\' = 'lww'", "ends with a single `\\`"),
            ("'@a' = 'lww'\n'\\@a' = 'lww'", "named twice"),
        ] {
            let said = said(&format!("[types.visit.fields]\n{fields}"));
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{fields}: {said}");
        }
    }
}
