//! Walks a TOML document and collects every problem with its place, instead of stopping at the first.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeValue;

use super::{Problem, RulesError};
use crate::value::Value;

/// Problems shown at once; the rest is counted.
const PROBLEMS_MAX: usize = 50;
/// Characters of a wrong word that are shown.
const WORD_CHARS_MAX: usize = 60;

pub(super) struct Reader<'t> {
    text: &'t str,
    found: Vec<(usize, String, String)>,
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Node<'a> {
    /// The path of keys to it, as one would write it in TOML.
    pub(super) key: String,
    /// Where in the text it begins, bytes.
    pub(super) offset: usize,
    pub(super) value: &'a DeValue<'a>,
}

/// The entries of a table by name; empty if it was no table.
pub(super) struct Table<'a> {
    pub(super) entries: BTreeMap<&'a str, Node<'a>>,
}

impl<'a> Table<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&Node<'a>> {
        self.entries.get(name)
    }
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Reader { text, found: Vec::new() }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn refuse(&mut self, node: &Node<'_>, message: impl Into<String>) {
        self.refuse_at(node.offset, &node.key, message);
    }

    pub(super) fn refuse_at(&mut self, offset: usize, key: &str, message: impl Into<String>) {
        self.found.push((offset, key.to_owned(), message.into()));
    }

    /// Ok if nothing was found, else everything in the order of the text.
    pub(super) fn finish(mut self) -> Result<(), RulesError> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort();
        self.found.dedup();
        let more = self.found.len().saturating_sub(PROBLEMS_MAX);
        self.found.truncate(PROBLEMS_MAX);
        let line = |offset: usize| 1 + self.text.bytes().take(offset).filter(|b| *b == b'\n').count();
        let problem = |(offset, key, message): &(usize, String, String)| Problem {
            line: line(*offset),
            key: key.clone(),
            message: message.clone(),
        };
        let mut problems: Vec<Problem> = self.found.iter().map(problem).collect();
        if let (Some(last), true) = (problems.last(), more > 0) {
            let line = last.line;
            problems.push(Problem { line, key: String::new(), message: format!("{more} more problems follow") });
        }
        Err(RulesError { problems })
    }

    /// The entries of a table in which any key may stand.
    pub(super) fn open_table<'a>(&mut self, node: &Node<'a>) -> Table<'a> {
        let DeValue::Table(table) = node.value else {
            self.refuse(node, "must be a table of `key = value`");
            return Table { entries: BTreeMap::new() };
        };
        let mut entries = BTreeMap::new();
        for (name, value) in table.iter() {
            let text: &'a str = name.get_ref();
            let node = Node { key: join(&node.key, text), offset: name.span().start, value: value.get_ref() };
            entries.insert(text, node);
        }
        Table { entries }
    }

    /// The entries of a table in which only `known` keys may stand; others are refused.
    pub(super) fn table<'a>(&mut self, node: &Node<'a>, known: &[&str]) -> Table<'a> {
        let table = self.open_table(node);
        for (name, entry) in table.entries.iter().filter(|(name, _)| !known.contains(name)) {
            self.refuse(entry, format!("unknown key; {}", suggestion(name, known)));
        }
        table
    }

    pub(super) fn list<'a>(&mut self, node: &Node<'a>) -> Option<Vec<Node<'a>>> {
        let DeValue::Array(items) = node.value else {
            self.refuse(node, "must be a list: [\"...\", \"...\"]");
            return None;
        };
        let item = |item: &'a toml::Spanned<DeValue<'a>>| Node {
            key: node.key.clone(),
            offset: item.span().start,
            value: item.get_ref(),
        };
        Some(items.iter().map(item).collect())
    }

    pub(super) fn text<'a>(&mut self, node: &Node<'a>) -> Option<&'a str> {
        let text = node.value.as_str();
        if text.is_none() {
            self.refuse(node, "must be text in quotes");
        }
        text
    }

    /// Texts of which none comes twice, each with its place.
    pub(super) fn texts<'a>(&mut self, node: &Node<'a>) -> Vec<(&'a str, Node<'a>)> {
        let (mut texts, mut seen) = (Vec::new(), BTreeSet::new());
        for item in self.list(node).unwrap_or_default() {
            match self.text(&item) {
                Some(text) if !seen.insert(text) => {
                    self.refuse(&item, format!("\"{}\" is in the list twice", shown(text)));
                }
                Some(text) => texts.push((text, item)),
                None => {}
            }
        }
        texts
    }

    pub(super) fn boolean(&mut self, node: &Node<'_>) -> Option<bool> {
        let value = node.value.as_bool();
        if value.is_none() {
            self.refuse(node, "must be true or false");
        }
        value
    }

    /// A whole number from `least` up that fits `T`.
    pub(super) fn integer<T: TryFrom<i64>>(&mut self, node: &Node<'_>, least: i64) -> Option<T> {
        let number = match whole(node.value) {
            Some(n) if n >= least => T::try_from(n).ok(),
            _ => None,
        };
        if number.is_none() {
            self.refuse(node, format!("must be a whole number from {least} up, without quotes"));
        }
        number
    }

    /// One of a few words.
    pub(super) fn choice<T: Clone>(&mut self, node: &Node<'_>, what: &str, options: &[(&str, T)]) -> Option<T> {
        let word = self.text(node)?;
        let option = options.iter().find(|(name, _)| *name == word).map(|(_, option)| option.clone());
        if option.is_none() {
            let names: Vec<&str> = options.iter().map(|(name, _)| *name).collect();
            self.refuse(node, format!("unknown {what} \"{}\"; {}", shown(word), suggestion(word, &names)));
        }
        option
    }

    /// Text, a number, true or false; a TOML date becomes text.
    pub(super) fn plain(&mut self, node: &Node<'_>) -> Option<Value> {
        let value = match node.value {
            DeValue::String(text) => Some(Value::Text(text.to_string())),
            DeValue::Boolean(b) => Some(Value::Bool(*b)),
            DeValue::Integer(_) => whole(node.value).map(Value::Int),
            DeValue::Float(x) => x.as_str().parse().ok().filter(|x: &f64| x.is_finite()).map(from_float),
            DeValue::Datetime(at) if at.time.is_none() => Some(Value::Text(at.to_string())),
            _ => None,
        };
        if value.is_none() {
            self.refuse(node, "must be text in quotes, a number, a date (2026-03-14), true or false");
        }
        value
    }

    /// Plain values of which none comes twice, each with its place. `least` says how many there must be.
    pub(super) fn plains<'a>(&mut self, node: &Node<'a>, least: usize) -> Vec<(Value, Node<'a>)> {
        let (mut values, mut seen) = (Vec::new(), BTreeSet::new());
        let Some(items) = self.list(node) else { return values };
        if items.len() < least {
            self.refuse(node, format!("needs {least} values or more"));
        }
        for item in items {
            match self.plain(&item) {
                Some(value) if !seen.insert(value.clone()) => {
                    self.refuse(&item, format!("{} is in the list twice", shown(&value.to_json().to_string())));
                }
                Some(value) => values.push((value, item)),
                None => {}
            }
        }
        values
    }
}

fn whole(value: &DeValue<'_>) -> Option<i64> {
    value.as_integer().and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok())
}

fn from_float(x: f64) -> Value {
    Value::from_json(&serde_json::Value::from(x))
}

/// The path of a key below another, quoted where TOML asks for it.
pub(super) fn join(path: &str, key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if is_bare { shown(key) } else { format!("\"{}\"", shown(key)) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The beginning of a word that may be anything.
pub(super) fn shown(word: &str) -> String {
    let mut short: String = word.chars().take(WORD_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < word.len() {
        short.push_str("...");
    }
    short
}

/// What may be written instead of `word`.
pub(super) fn suggestion(word: &str, known: &[&str]) -> String {
    let all = format!("one of {}", known.join(", "));
    match nearest(word, known) {
        Some(name) => format!("did you mean \"{name}\"? ({all})"),
        None => all,
    }
}

/// The known name that `word` is most likely meant to be.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word: String = word.chars().take(WORD_CHARS_MAX).flat_map(char::to_lowercase).collect();
    let near = known.iter().map(|name| (distance(&word, &name.to_lowercase()), *name));
    let (edits, name) = near.min_by_key(|(edits, _)| *edits)?;
    (edits <= 1 + name.len() / 4).then_some(name)
}

/// Insertions, deletions and replacements that turn one word into the other (Levenshtein 1966), row by row.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (1..=to.chars().count()).collect();
    let mut last = row.len();
    for (i, a) in from.chars().enumerate() {
        let (mut diagonal, mut left) = (i, i + 1);
        for (cell, b) in row.iter_mut().zip(to.chars()) {
            let edits = (diagonal + usize::from(a != b)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, edits);
            left = edits;
        }
        last = left;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (from, to, edits) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("lww2", "lww", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(from, to), edits, "{from} {to}");
        }
    }

    #[test]
    fn the_nearest_name_must_be_near() {
        let known = ["lww", "keep-both", "append-only"];
        assert_eq!(nearest("keep_both", &known), Some("keep-both"));
        assert_eq!(nearest("LWW", &known), Some("lww"));
        assert_eq!(nearest("appendonly", &known), Some("append-only"));
        assert_eq!(nearest("quorum", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
