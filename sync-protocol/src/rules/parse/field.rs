//! Reads the rules of one field: how it merges, and what its value must be.

use toml::de::DeValue;

use super::reader::{Node, Reader, Table, shown, suggestion};
use crate::id::Source;
use crate::rules::check::is_beyond;
use crate::rules::{Check, FieldRules, Kind, Rule};
use crate::value::Value;

const RULES: [(&str, Rule); 11] = [
    ("lww", Rule::Lww),
    ("keep-both", Rule::KeepBoth),
    ("set", Rule::Set),
    ("append-only", Rule::AppendOnly),
    ("counter", Rule::Counter),
    ("max", Rule::Max),
    ("min", Rule::Min),
    ("ordered", Rule::Ordered(Vec::new())),
    ("first-write", Rule::FirstWrite),
    ("priority", Rule::Priority(Vec::new())),
    ("immutable", Rule::Immutable),
];

const KINDS: [(&str, Kind); 7] = [
    ("text", Kind::Text),
    ("number", Kind::Number),
    ("integer", Kind::Integer),
    ("boolean", Kind::Boolean),
    ("list", Kind::List),
    ("object", Kind::Object),
    ("date", Kind::Date),
];

const RULE_KEYS: [&str; 3] = ["rule", "values", "sources"];
const CHECK_KEYS: [&str; 6] = ["required", "kind", "min", "max", "one_of", "chars_max"];

/// What the rules of a field depend on.
pub(super) struct Around<'a> {
    /// All declared sources, by number.
    pub(super) sources: &'a [String],
    /// The rule of a field that names none.
    pub(super) default: Rule,
    /// Whether values may be checked: not in records whose type is not named.
    pub(super) is_checked: bool,
}

/// The rules of one field, written as `"lww"` or as `{ rule = "lww", required = true }`.
pub(super) fn field(reader: &mut Reader<'_>, node: &Node<'_>, around: &Around<'_>) -> FieldRules {
    let DeValue::Table(_) = node.value else {
        let rule = bare_rule(reader, node).unwrap_or_else(|| around.default.clone());
        return FieldRules { check: Check { kind: rule.kind(), ..Check::default() }, required: false, rule };
    };
    let table = field_table(reader, node, around);
    let rule = rule_of(reader, &table, around).unwrap_or_else(|| around.default.clone());
    let required = table.get("required").and_then(|node| reader.boolean(node)).unwrap_or(false);
    FieldRules { check: check(reader, &table, &rule), required, rule }
}

/// The rule of all fields that are not named: one that fits any value.
pub(super) fn default_rule(reader: &mut Reader<'_>, node: &Node<'_>, sources: &[String]) -> Rule {
    let around = Around { sources, default: Rule::Lww, is_checked: false };
    let rule = field(reader, node, &around).rule;
    if rule.kind().is_some() || matches!(rule, Rule::Ordered(_)) {
        reader
            .refuse(node, "set, append-only, counter and ordered do not fit every value; name the field under fields");
        return Rule::Lww;
    }
    rule
}

fn field_table<'a>(reader: &mut Reader<'_>, node: &Node<'a>, around: &Around<'_>) -> Table<'a> {
    let table = reader.open_table(node);
    let known: Vec<&str> = match around.is_checked {
        true => [&RULE_KEYS[..], &CHECK_KEYS].concat(),
        false => RULE_KEYS.to_vec(),
    };
    for (name, entry) in table.entries.iter().filter(|(name, _)| !known.contains(name)) {
        let message = match CHECK_KEYS.contains(name) {
            true => "only fields of a named type can be checked; add [types.NAME] for it".to_owned(),
            false => format!(
                "unknown key; {}; a field inside this one is written as a path in quotes: \"outer.inner\" = \"lww\"",
                suggestion(name, &known)
            ),
        };
        reader.refuse(entry, message);
    }
    table
}

/// A rule that is named without anything beside it.
fn bare_rule(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Rule> {
    let rule = reader.choice(node, "rule", &RULES)?;
    let missing = match rule {
        Rule::Ordered(_) => "needs its values: { rule = \"ordered\", values = [\"draft\", \"completed\"] }",
        Rule::Priority(_) => "needs its sources: { rule = \"priority\", sources = [\"hub\", \"clinic\"] }",
        _ => return Some(rule),
    };
    reader.refuse(node, missing);
    None
}

/// The rule in a table; `None` if it has none, or a wrong one.
fn rule_of(reader: &mut Reader<'_>, table: &Table<'_>, around: &Around<'_>) -> Option<Rule> {
    let (values, sources) = (table.get("values"), table.get("sources"));
    let rule = match table.get("rule") {
        Some(node) => Some((node, reader.choice(node, "rule", &RULES)?)),
        None => None,
    };
    if let (Some(node), false) = (values, matches!(rule, Some((_, Rule::Ordered(_))))) {
        reader.refuse(node, "belongs to rule = \"ordered\" only; for the allowed values write one_of");
    }
    if let (Some(node), false) = (sources, matches!(rule, Some((_, Rule::Priority(_))))) {
        reader.refuse(node, "belongs to rule = \"priority\" only");
    }
    match (rule?, values, sources) {
        ((_, Rule::Ordered(_)), Some(node), _) => {
            Some(Rule::Ordered(reader.plains(node, 2).into_iter().map(|(value, _)| value).collect()))
        }
        ((_, Rule::Priority(_)), _, Some(node)) => Some(Rule::Priority(sources_of(reader, node, around.sources))),
        ((node, Rule::Ordered(_) | Rule::Priority(_)), _, _) => bare_rule(reader, node),
        ((_, rule), _, _) => Some(rule),
    }
}

fn sources_of(reader: &mut Reader<'_>, node: &Node<'_>, declared: &[String]) -> Vec<Source> {
    let texts = reader.texts(node);
    if texts.is_empty() {
        reader.refuse(node, "must name at least one source, the strongest first");
    }
    let mut order = Vec::new();
    for (text, item) in texts {
        match declared.iter().position(|name| name == text).and_then(|n| u8::try_from(n).ok()) {
            Some(number) => order.push(Source(number)),
            None => {
                let known: Vec<&str> = declared.iter().map(String::as_str).collect();
                let hint = suggestion(text, &known);
                reader.refuse(
                    &item,
                    format!("unknown source \"{}\"; {hint}; new ones go into sources at the top", shown(text)),
                );
            }
        }
    }
    order
}

fn check(reader: &mut Reader<'_>, table: &Table<'_>, rule: &Rule) -> Check {
    let needs_none = match rule {
        // The hub checks what comes out of a merge, so a limit would hold back writes that were right when they were made.
        Rule::Counter => Some("remove it: a sum may pass any limit when two places write at once, and both must count"),
        Rule::Ordered(_) => Some("remove it: the values of an ordered field say already what is allowed"),
        _ => None,
    };
    if let Some(message) = needs_none {
        for node in ["one_of", "min", "max", "chars_max"].iter().filter_map(|name| table.get(name)) {
            reader.refuse(node, message);
        }
        return Check { kind: kind_fitting(reader, table, rule), ..Check::default() };
    }
    let min = table.get("min").and_then(|node| reader.plain(node));
    let max = table.get("max").and_then(|node| reader.plain(node));
    let chars_max = table.get("chars_max").and_then(|node| reader.integer(node, 1));
    let kind = stated_kind(reader, table, rule).or_else(|| match min.as_ref().or(max.as_ref()) {
        Some(Value::Text(_)) => Some(Kind::Date),
        Some(_) => Some(Kind::Number),
        None => chars_max.map(|_| Kind::Text),
    });
    for (name, limit) in [("min", &min), ("max", &max)] {
        let (Some(node), Some(limit)) = (table.get(name), limit) else { continue };
        match kind {
            Some(kind @ (Kind::Number | Kind::Integer | Kind::Date)) if kind.holds(limit) => {}
            Some(kind @ (Kind::Number | Kind::Integer | Kind::Date)) => reader.refuse(node, kind.demand()),
            _ => reader.refuse(node, "is for numbers and dates only; a text can have chars_max"),
        }
    }
    if let (Some(node), Some(min), Some(max)) = (table.get("max"), &min, &max) {
        if is_beyond(min, max) {
            reader.refuse(node, "is below min");
        }
    }
    if let (Some(node), false) = (table.get("chars_max"), matches!(kind, None | Some(Kind::Text))) {
        reader.refuse(node, "is for text only");
    }
    let one_of = table.get("one_of").map(|node| one_of(reader, node, kind));
    Check { kind, min, max, one_of, chars_max }
}

fn one_of(reader: &mut Reader<'_>, node: &Node<'_>, kind: Option<Kind>) -> Vec<Value> {
    if matches!(kind, Some(Kind::List | Kind::Object)) {
        reader.refuse(node, "is for plain values only, not for lists and objects");
        return Vec::new();
    }
    let values = reader.plains(node, 0);
    if values.is_empty() {
        reader.refuse(node, "write at least one value, or leave it out");
    }
    for (value, item) in &values {
        if let Some(kind) = kind.filter(|kind| !kind.holds(value)) {
            reader.refuse(item, kind.demand());
        }
    }
    values.into_iter().map(|(value, _)| value).collect()
}

/// The kind that the rule implies, or else the document says. Both must agree.
fn stated_kind(reader: &mut Reader<'_>, table: &Table<'_>, rule: &Rule) -> Option<Kind> {
    let node = table.get("kind");
    let stated = node.and_then(|node| reader.choice(node, "kind", &KINDS));
    match (rule.kind(), stated, node) {
        (Some(implied), Some(stated), Some(node)) if implied != stated => {
            let name = KINDS.iter().find(|(_, kind)| *kind == implied).map_or("", |(name, _)| name);
            reader.refuse(node, format!("does not fit the rule, which is for kind = \"{name}\"; leave kind out"));
            Some(implied)
        }
        (implied, stated, _) => implied.or(stated),
    }
}

/// The kind, which the values of an ordered field must have.
fn kind_fitting(reader: &mut Reader<'_>, table: &Table<'_>, rule: &Rule) -> Option<Kind> {
    let kind = stated_kind(reader, table, rule)?;
    let Rule::Ordered(values) = rule else { return Some(kind) };
    if let (Some(node), true) = (table.get("kind"), values.iter().any(|value| !kind.holds(value))) {
        reader.refuse(node, "does not fit the values");
    }
    Some(kind)
}

#[cfg(test)]
mod tests {
    use crate::rules::Rules;

    /// What is said about a field of these rules.
    fn said(rules: &str) -> String {
        match Rules::parse(&format!("version = 1\nsources = ['lab']\n[types.t.fields]\nf = {rules}")) {
            Ok(_) => String::new(),
            Err(error) => error.problems.iter().map(|p| p.message.as_str()).collect::<Vec<_>>().join("; "),
        }
    }

    #[test]
    fn a_field_must_make_sense() {
        for (rules, expected) in [
            ("'max'", ""),
            ("7", "must be text in quotes"),
            ("'ordered'", "needs its values"),
            ("'priority'", "needs its sources"),
            ("{ rule = 'ordered' }", "needs its values"),
            ("{ rule = 'ordered', values = ['a'] }", "needs 2 values or more"),
            ("{ rule = 'ordered', values = ['a', 'a'] }", "\"a\" is in the list twice"),
            ("{ rule = 'ordered', values = ['a', []] }", "must be text in quotes, a number"),
            ("{ rule = 'ordered', values = [1, 2], kind = 'integer' }", ""),
            ("{ rule = 'ordered', values = [1, 2], kind = 'text' }", "does not fit the values"),
            ("{ rule = 'ordered', values = [1, 2], one_of = [1] }", "say already what is allowed"),
            ("{ rule = 'lww', values = ['a', 'b'] }", "for the allowed values write one_of"),
            ("{ values = ['a', 'b'] }", "for the allowed values write one_of"),
            ("{ rule = 'lww', sources = ['hub'] }", "belongs to rule = \"priority\" only"),
            ("{ rule = 'priority', sources = ['hub', 'lab', 'clinic'] }", ""),
            ("{ rule = 'priority', sources = ['hubb'] }", "did you mean \"hub\"?"),
            ("{ rule = 'priority', sources = [] }", "at least one source"),
            ("{ rule = 'counter', kind = 'number' }", "for kind = \"integer\"; leave kind out"),
            ("{ rule = 'counter', min = 0 }", "may pass any limit"),
            ("{ rule = 'set', min = 1 }", "for numbers and dates only"),
            ("{ rule = 'set', one_of = ['a'] }", "plain values only"),
            ("{ min = 0, max = 0.5 }", ""),
            ("{ min = 2, max = 1 }", "is below min"),
            ("{ min = 0, max = '2020' }", "must be a number"),
            ("{ min = 'low' }", "must be a date"),
            ("{ min = 0.5, kind = 'integer' }", "must be a whole number"),
            ("{ min = 'a', kind = 'text' }", "a text can have chars_max"),
            ("{ min = nan }", "must be text in quotes, a number"),
            ("{ min = '2020', max = '2020-06' }", ""),
            ("{ kind = 'date', one_of = ['2020-02-30'] }", "must be a date"),
            ("{ kind = 'integer', one_of = [1, 'x'] }", "must be a whole number"),
            ("{ one_of = [] }", "write at least one value"),
            ("{ chars_max = 0 }", "from 1 up"),
            ("{ chars_max = 9, kind = 'number' }", "is for text only"),
            ("{ required = 'yes' }", "must be true or false"),
            ("{ kind = 'int' }", "one of text, number, integer"),
        ] {
            let said = said(rules);
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{rules}: {said}");
        }
    }
}
