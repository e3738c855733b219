//! Conflict rules and checks as data: one document for the whole fleet.
//!
//! The hub publishes a document (TOML), gateways receive it, and both ends merge and check by it. [`Rules::parse`] reads
//! one and says, with line and key, what is wrong; [`Rules::check`] holds a record against it. A type or field that the
//! document does not know is kept and carried under the defaults: nothing is refused for being unknown.

mod check;
mod parse;

use std::collections::BTreeMap;

pub use check::{Violation, lookup};
pub use parse::{Problem, RulesError};

use crate::id::{FieldName, RecordType, Source, Stream};
use crate::message::RulesHash;
use crate::value::Value;

/// A whole rules document.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Counts up with every publication; 0 is the built-in document.
    pub version: u32,
    /// Names of sources by [`Source`] number. The first two are always `clinic` and `hub`.
    pub sources: Vec<String>,
    /// What is declared for each type.
    pub types: BTreeMap<RecordType, TypeRules>,
    /// What holds for all other types.
    pub other: TypeRules,
    /// The document as it was written; what travels and is hashed.
    text: String,
    /// The first bytes of the BLAKE3 hash of the text.
    hash: RulesHash,
}

/// Rules of one record type.
#[derive(Debug, Clone, PartialEq)]
pub struct TypeRules {
    /// How a delete and a concurrent edit meet.
    pub delete: DeleteRule,
    /// What becomes of a write to a record that its gateway has nothing to do with.
    pub outside: OutsideRule,
    /// Which lane the records travel in.
    pub stream: Stream,
    /// Where a record's scope comes from.
    pub scope: ScopeKey,
    /// Fields that refer to a parent record: the parent travels first, and a child waits for it at the hub.
    pub parents: BTreeMap<FieldName, RecordType>,
    /// Fields that identify the same real thing, for finding duplicates.
    pub identifiers: Vec<FieldName>,
    /// What is declared for each field.
    pub fields: BTreeMap<FieldName, FieldRules>,
    /// The merge rule of all other fields.
    pub default: Rule,
}

/// Rules of one field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldRules {
    /// How concurrent values merge.
    pub rule: Rule,
    /// A record without this field is refused at the desk.
    pub required: bool,
    /// What the value must be.
    pub check: Check,
}

/// How concurrent values of a field meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// The later write is shown, the other kept beside it.
    Lww,
    /// All values stay until a person or a later write settles: for what must never be decided by a clock.
    KeepBoth,
    /// A set of values; a concurrent add wins over a remove.
    Set,
    /// A list that only grows.
    AppendOnly,
    /// A sum; the API takes and shows the total, additions and subtractions travel.
    Counter,
    /// The largest value ever written.
    Max,
    /// The smallest value ever written.
    Min,
    /// One of these values, and only forwards in this order.
    Ordered(Vec<Value>),
    /// The first value stays; later ones are kept in the history.
    FirstWrite,
    /// The source that stands first here wins, whoever wrote last.
    Priority(Vec<Source>),
    /// Once written never changed; another value is refused at the desk and a conflict when it meets elsewhere.
    Immutable,
}

/// How a delete and a concurrent edit meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteRule {
    /// The record stays and is put on the list for a person.
    KeepAndReview,
    /// The record goes.
    DeleteWins,
    /// The record stays.
    EditWins,
}

/// What the hub does with a write of a gateway to a record outside of its scopes that never was in its view, and with a new record that
/// it puts there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutsideRule {
    /// It is merged, as by somebody who knew nothing of the record.
    Merge,
    /// It waits for a person.
    Hold,
}

/// Where the scope of a record comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeKey {
    /// The home scope of the gateway that first wrote it.
    Home,
    /// The value of a field, which is a scope path.
    Field(FieldName),
    /// The scope of the record that this parent field refers to.
    Parent(FieldName),
}

/// What a value must be. Everything that is `None` is not checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Check {
    /// Its kind.
    pub kind: Option<Kind>,
    /// Smallest number, or earliest date as text.
    pub min: Option<Value>,
    /// Largest number, or latest date as text.
    pub max: Option<Value>,
    /// The only values allowed.
    pub one_of: Option<Vec<Value>>,
    /// Longest text, in characters.
    pub chars_max: Option<usize>,
}

/// Kinds of value that a check can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// Any number.
    Number,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// A list.
    List,
    /// An object.
    Object,
    /// `YYYY-MM-DD`, or less of it: `YYYY-MM`, `YYYY`.
    Date,
}

/// The built-in document: last write wins, nothing is checked, conflicts are kept.
const BUILT_IN: &str = "version = 0\n";

impl Default for Rules {
    fn default() -> Self {
        let mut rules = Rules {
            version: 0,
            sources: vec!["clinic".into(), "hub".into()],
            types: BTreeMap::new(),
            other: TypeRules::default(),
            text: String::new(),
            hash: RulesHash::default(),
        };
        rules.set_text(BUILT_IN);
        rules
    }
}

impl Default for TypeRules {
    fn default() -> Self {
        TypeRules {
            delete: DeleteRule::KeepAndReview,
            outside: OutsideRule::Merge,
            stream: Stream::Normal,
            scope: ScopeKey::Home,
            parents: BTreeMap::new(),
            identifiers: Vec::new(),
            fields: BTreeMap::new(),
            default: Rule::Lww,
        }
    }
}

impl Rules {
    fn set_text(&mut self, text: &str) {
        self.text = text.to_owned();
        let hash = blake3::hash(text.as_bytes());
        for (to, from) in self.hash.iter_mut().zip(hash.as_bytes()) {
            *to = *from;
        }
    }

    /// The document as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Identity of the document on the wire.
    pub fn hash(&self) -> RulesHash {
        self.hash
    }

    /// The rules of a type.
    pub fn of(&self, record_type: &RecordType) -> &TypeRules {
        self.types.get(record_type).unwrap_or(&self.other)
    }
}

impl Rule {
    /// Its name in a rules document.
    pub fn name(&self) -> &'static str {
        match self {
            Rule::Lww => "lww",
            Rule::KeepBoth => "keep-both",
            Rule::Set => "set",
            Rule::AppendOnly => "append-only",
            Rule::Counter => "counter",
            Rule::Max => "max",
            Rule::Min => "min",
            Rule::Ordered(_) => "ordered",
            Rule::FirstWrite => "first-write",
            Rule::Priority(_) => "priority",
            Rule::Immutable => "immutable",
        }
    }
}

impl TypeRules {
    /// Whether [`Rules::check`] or [`Rules::parents`] look at anything in a record of the type. If not, nobody has to render one.
    pub fn asks_for_body(&self) -> bool {
        !self.fields.is_empty() || !self.parents.is_empty()
    }

    /// Whether a field of it is a counter.
    pub(crate) fn counts(&self) -> bool {
        self.fields.values().any(|field| field.rule == Rule::Counter) || self.default == Rule::Counter
    }

    /// The merge rule of a field. Our own cells go by the last write.
    pub fn rule(&self, field: &FieldName) -> &Rule {
        match self.fields.get(field) {
            _ if field.is_reserved() => &Rule::Lww,
            Some(field) => &field.rule,
            None => &self.default,
        }
    }
}
