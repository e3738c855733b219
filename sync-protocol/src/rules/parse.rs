//! Reads a rules document and says everything that is wrong with it: line, key, and what to write instead.
//!
//! A document is accepted whole or not at all, and unknown keys are refused, because a misspelt rule that is quietly
//! ignored would be found out by a conflict. `docs/rules.md` describes the format.

mod field;
mod reader;
mod type_rules;

use std::fmt;

use toml::de::{DeTable, DeValue};

use self::reader::{Node, Reader};
use self::type_rules::type_rules;
use super::Rules;
use crate::id::RecordType;
use crate::limits;

const DOCUMENT_KEYS: [&str; 4] = ["version", "sources", "types", "other"];
/// Sources have a number of 8 bits.
const SOURCES_MAX: usize = 256;

/// Why a rules document was refused: everything that is wrong with it, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct RulesError {
    /// What is wrong; never empty.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a rules document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its line, from 1.
    pub line: usize,
    /// The path of its key, such as `types.patient.fields.sex`; empty if it concerns the text itself.
    pub key: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let line_break = if i > 0 { "\n" } else { "" };
            write!(f, "{line_break}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { line, key, message } = self;
        match key.is_empty() {
            true => write!(f, "line {line}: {message}"),
            false => write!(f, "line {line}, {key}: {message}"),
        }
    }
}

impl Rules {
    /// Reads a document of at most [`limits::RULES_BYTES_MAX`] bytes of TOML.
    ///
    /// # Errors
    /// [`RulesError`] with every problem found: of the TOML if it is not well-formed, else of its content.
    pub fn parse(text: &str) -> Result<Rules, RulesError> {
        if text.len() > limits::RULES_BYTES_MAX {
            let message = format!("the document is larger than {} bytes", limits::RULES_BYTES_MAX);
            return Err(RulesError { problems: vec![Problem { line: 1, key: String::new(), message }] });
        }
        let mut reader = Reader::new(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let offset = error.span().map_or(0, |span| span.start);
            reader.refuse_at(offset, "", format!("not valid TOML: {}", error.message()));
        }
        let mut rules = Rules::default();
        if reader.is_clean() {
            let root = DeValue::Table(table.into_inner());
            read_document(&mut reader, &Node { key: String::new(), offset: 0, value: &root }, &mut rules);
        }
        reader.finish()?;
        rules.set_text(text);
        Ok(rules)
    }
}

fn read_document(reader: &mut Reader<'_>, root: &Node<'_>, rules: &mut Rules) {
    let document = reader.table(root, &DOCUMENT_KEYS);
    match document.get("version") {
        Some(node) => rules.version = reader.integer(node, 0).unwrap_or(0),
        None => reader.refuse_at(0, "version", "is missing; write `version = 1`, and one more with each publication"),
    }
    if let (Some(node), 0, true) = (document.get("version"), rules.version, document.entries.len() > 1) {
        reader.refuse(node, "0 is the built-in document; write a whole number from 1 up");
    }
    if let Some(node) = document.get("sources") {
        read_sources(reader, node, &mut rules.sources);
    }
    let types =
        document.get("types").map(|node| reader.open_table(node)).map(|table| table.entries).unwrap_or_default();
    let names: Vec<&str> = types.keys().copied().collect();
    for (name, node) in &types {
        let read = type_rules(reader, node, &rules.sources, &names, true);
        match RecordType::new(name) {
            Ok(record_type) => drop(rules.types.insert(record_type, read)),
            Err(error) => reader.refuse(node, error.to_string()),
        }
    }
    if let Some(node) = document.get("other") {
        rules.other = type_rules(reader, node, &rules.sources, &names, false);
    }
}

fn read_sources(reader: &mut Reader<'_>, node: &Node<'_>, sources: &mut Vec<String>) {
    for (text, item) in reader.texts(node) {
        let is_name = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if sources.iter().take(2).any(|built_in| built_in == text) {
            reader.refuse(&item, format!("\"{text}\" is built in; remove it from the list"));
        } else if !is_name {
            reader.refuse(&item, "a source is named by letters, digits, `_` and `-`");
        } else if sources.len() >= SOURCES_MAX {
            reader.refuse(&item, format!("there can be at most {} sources here", SOURCES_MAX - 2));
            return;
        } else {
            sources.push(text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{FieldName, Source, Stream};
    use crate::rules::{DeleteRule, Kind, Rule, ScopeKey};
    use crate::value::Value;

    const SAMPLE: &str = include_str!("../../../docs/rules-sample.toml");
    const FHIR: &str = include_str!("../../../docs/rules-fhir.toml");
    const MANUAL: &str = include_str!("../../../docs/rules.md");

    /// The report on a document that is wrong.
    fn report(text: &str) -> String {
        Rules::parse(text).unwrap_err().to_string()
    }

    fn field(name: &str) -> FieldName {
        FieldName::new(name).unwrap()
    }

    #[test]
    fn the_built_in_document_parses_to_the_default() {
        assert_eq!(Rules::parse("version = 0\n").unwrap(), Rules::default());
    }

    #[test]
    fn the_documented_samples_are_accepted() {
        let sample = Rules::parse(SAMPLE).unwrap();
        assert_eq!((sample.version, sample.types.len(), sample.text()), (1, 5, SAMPLE));
        assert_ne!(sample.hash(), Rules::default().hash());
        let allergy = sample.of(&RecordType::new("allergy").unwrap());
        assert_eq!((allergy.stream, &allergy.scope), (Stream::Urgent, &ScopeKey::Parent(field("patient"))));
        let patient = sample.of(&RecordType::new("patient").unwrap());
        assert_eq!(*patient.rule(&field("national_id")), Rule::Priority(vec![Source::HUB, Source(2), Source::CLINIC]));
        assert_eq!(*patient.rule(&field("address.city")), Rule::Lww);

        let fhir = Rules::parse(FHIR).unwrap();
        let condition = fhir.of(&RecordType::new("Condition").unwrap());
        assert_eq!(condition.scope, ScopeKey::Home);
        assert_eq!(condition.parents.len(), 2);
    }

    #[test]
    fn every_example_in_the_manual_is_accepted() {
        let examples: Vec<&str> =
            MANUAL.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert_eq!(examples.len(), 4);
        for example in examples {
            let head = if example.contains("version") { "" } else { "version = 1\nsources = [\"lab\"]\n" };
            Rules::parse(&format!("{head}{example}")).unwrap();
        }
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            version = 0x10
            sources = ["lab"]
            [other]
            default = { rule = "priority", sources = ["lab"] }
            [types.Tally]
            scope = 'where\.it'
            stream = "bulk"
            delete = "delete-wins"
            default = "max"
            [types.Tally.fields]
            n = "counter"
            due = { min = 2020-01-01 }
            '@id' = { required = true }
            "#;
        let rules = Rules::parse(text).unwrap();
        assert_eq!((rules.version, rules.sources), (16, ["clinic", "hub", "lab"].map(String::from).to_vec()));
        assert_eq!(rules.other.default, Rule::Priority(vec![Source(2)]));
        let tally = rules.types.values().next().unwrap();
        assert_eq!(tally.scope, ScopeKey::Field(FieldName::from_path(["where.it"]).unwrap()));
        assert_eq!((tally.delete, tally.stream), (DeleteRule::DeleteWins, Stream::Bulk));
        assert_eq!(tally.fields[&field("n")].check.kind, Some(Kind::Integer));
        let due = &tally.fields[&field("due")];
        assert_eq!((&due.rule, due.check.kind), (&Rule::Max, Some(Kind::Date)));
        assert_eq!(due.check.min, Some(Value::Text("2020-01-01".into())));
        assert!(tally.fields[&FieldName::from_path(["@id"]).unwrap()].required);
    }

    #[test]
    fn all_problems_are_reported_with_line_key_and_what_to_write() {
        let text = "sources = ['hub', 'l b']\n[types.patient]\ndelet = 1\nscope = { parent = 'mother' }\n\n\
            [types.patient.fields]\nsex = \"lww2\"\n\"a.b\" = { rule = 'lww', requird = true }\n";
        let expected = "\
line 1, version: is missing; write `version = 1`, and one more with each publication
line 1, sources: \"hub\" is built in; remove it from the list
line 1, sources: a source is named by letters, digits, `_` and `-`
line 3, types.patient.delet: unknown key; did you mean \"delete\"? (one of scope, outside, stream, delete, default, parents, identifiers, fields)
line 4, types.patient.scope.parent: \"mother\" is not under parents; add parents = { mother = \"its type\" }
line 7, types.patient.fields.sex: unknown rule \"lww2\"; did you mean \"lww\"? (one of lww, keep-both, set, append-only, counter, max, min, ordered, first-write, priority, immutable)
line 8, types.patient.fields.\"a.b\".requird: unknown key; did you mean \"required\"? (one of rule, values, sources, required, kind, min, max, one_of, chars_max); a field inside this one is written as a path in quotes: \"outer.inner\" = \"lww\"";
        assert_eq!(report(text), expected);
    }

    #[test]
    fn broken_toml_is_reported_by_line() {
        let problems = Rules::parse("version = 1\n[types.patient]\ndelete = edit-wins\n\nscope = 'facility\n")
            .unwrap_err()
            .problems;
        assert!(problems.iter().all(|p| p.message.starts_with("not valid TOML: ")), "{problems:?}");
        assert_eq!(problems.iter().map(|p| p.line).collect::<Vec<_>>(), [3, 5], "{problems:?}");
    }

    #[test]
    fn the_length_of_document_and_report_is_limited() {
        assert!(report(&"#".repeat(limits::RULES_BYTES_MAX + 1)).contains("larger than 262144 bytes"));
        let many: String = (0..1000).map(|n| format!("key{n} = 1\n")).collect();
        let problems = Rules::parse(&many).unwrap_err().problems;
        assert_eq!(problems.len(), 51);
        assert_eq!(problems.last().unwrap().message, "951 more problems follow");
        assert!(report(&format!("version = 1\nx = {}", "[".repeat(100_000))).len() < 10_000);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = Rules::parse(&text);
        }

        #[test]
        fn no_edit_of_a_document_makes_it_panic(at in 0..SAMPLE.len(), cut in 0..40usize, put in "[\\[\\]{}=\"'.,#\n a-z0-9]{0,6}") {
            let kept = |(i, c): (usize, char)| (i < at || i >= at + cut).then_some(c);
            let mut text: String = SAMPLE.char_indices().filter_map(kept).collect();
            text.insert_str(at.min(text.len()), &put);
            let _ = Rules::parse(&text);
        }
    }
}
