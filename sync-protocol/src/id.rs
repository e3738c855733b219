//! Names of things: gateways' incarnations, streams, dots, records, fields, scopes.
//!
//! All are newtypes, so that a cursor cannot be passed where a sequence number belongs. Those that come from
//! outside are checked when they are made; a value of the type is always valid.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::DecodeError;
use crate::limits;

/// One enrolled gateway: the key pair or secret it was given. Survives a change of [`Origin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Device(pub u32);

impl Device {
    /// What is below all devices that are enrolled in an epoch; as with [`Origin::before`].
    pub fn before(epoch: Epoch) -> Device {
        Device(Origin::before(epoch).0)
    }

    /// Whether it is one of the numbers that are given in an epoch.
    pub fn is_of(self, epoch: Epoch) -> bool {
        Origin(self.0).is_of(epoch)
    }
}

/// One incarnation of one gateway, assigned by the hub and never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin(pub u32);

impl Origin {
    /// What is below all origins that are given in an epoch. A hub from a backup does not know which numbers the lost one
    /// gave, so each epoch after the first has numbers of its own, by the lower half of its number.
    pub fn before(epoch: Epoch) -> Origin {
        match epoch.0 {
            0 | 1 => Origin::HUB,
            epoch => Origin((epoch & 0xffff) << 16),
        }
    }

    /// Whether it is one of the numbers that are given in an epoch.
    pub fn is_of(self, epoch: Epoch) -> bool {
        let before = Origin::before(epoch);
        self > before && self.0 - before.0 <= 0xffff
    }

    /// The hub itself, as the author of central edits.
    pub const HUB: Origin = Origin(0);
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Origin::HUB => f.write_str("hub"),
            Origin(n) => write!(f, "origin-{n}"),
        }
    }
}

/// A lane with a sequence of its own, so that urgency does not break the watermark of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Referrals, alerts: sent before anything else.
    Urgent,
    /// The ordinary records.
    Normal,
    /// What may wait for a good link.
    Bulk,
}

impl Stream {
    /// All streams, in the order in which they are sent.
    pub const ALL: [Stream; 3] = [Stream::Urgent, Stream::Normal, Stream::Bulk];

    /// The number on the wire and on disk.
    pub fn number(self) -> u8 {
        match self {
            Stream::Urgent => 0,
            Stream::Normal => 1,
            Stream::Bulk => 2,
        }
    }

    /// The stream of a number.
    ///
    /// # Errors
    /// [`DecodeError::Name`] if there is no such stream.
    pub fn from_number(n: u8) -> Result<Self, DecodeError> {
        match n {
            0 => Ok(Stream::Urgent),
            1 => Ok(Stream::Normal),
            2 => Ok(Stream::Bulk),
            _ => Err(DecodeError::Name("stream")),
        }
    }
}

/// Place of an op in its stream, from 1. Contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl Seq {
    /// The one after this.
    pub fn next(self) -> Seq {
        Seq(self.0.saturating_add(1))
    }
}

/// The hub's sequence number: its order of all applied changes. 0 means "not known to the hub".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct HubSeq(pub u64);

impl HubSeq {
    /// Nothing has been integrated, or nothing confirmed.
    pub const NONE: HubSeq = HubSeq(0);

    /// The one after this.
    pub fn next(self) -> HubSeq {
        HubSeq(self.0.saturating_add(1))
    }
}

/// A lineage of the hub: minted anew when the hub is restored from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Epoch(pub u32);

impl Epoch {
    /// That of no hub: whoever says it shares no number with the one that it speaks with.
    pub const NONE: Epoch = Epoch(0);
}

/// Identity of one write: its idempotency key everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// Who wrote it.
    pub origin: Origin,
    /// In which lane.
    pub stream: Stream,
    /// The how-many-eth.
    pub seq: Seq,
}

impl Dot {
    /// Who wrote, without the how-many-eth: the actor of the `crdts` types.
    pub fn writer(self) -> Writer {
        (self.origin, self.stream.number())
    }
}

/// A stream of one origin, as an actor of the `crdts` types.
pub type Writer = (Origin, u8);

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.origin, self.stream.number(), self.seq.0)
    }
}

/// Where a value comes from, as an index into the `sources` of the rules document: 0 is `clinic`, 1 is `hub`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Source(pub u8);

impl Source {
    /// The default: an ordinary gateway.
    pub const CLINIC: Source = Source(0);
    /// The centre.
    pub const HUB: Source = Source(1);
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps a name.
            ///
            /// # Errors
            #[doc = concat!("[`DecodeError::Name`] if it is not a valid ", $what, ".")]
            pub fn new(name: &str) -> Result<Self, DecodeError> {
                let check: fn(&str) -> bool = $check;
                match check(name) {
                    true => Ok(Self(Arc::from(name))),
                    false => Err(DecodeError::Name($what)),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// A record type: a letter, then letters, digits, `_`, `-`, `.`; at most 64 bytes.
    RecordType, "record type (a letter, then letters, digits, '_', '-' or '.', at most 64)", |s| {
        s.len() <= limits::TYPE_BYTES_MAX
            && s.starts_with(|c: char| c.is_ascii_alphabetic())
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    }
);

name_type!(
    /// A record id: letters, digits and `-._~:@+`; at most 128 bytes; the app's own stable id, or a UUIDv7 that we mint.
    RecordId, "record id (letters, digits and -._~:@+, at most 128)", |s| {
        !s.is_empty()
            && s.len() <= limits::ID_BYTES_MAX
            && s != "."
            && s != ".."
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:@+".contains(&b))
    }
);

name_type!(
    /// A catchment: a path such as `mw/zomba/chingale`. The empty path is the whole world.
    Scope, "scope (a path like country/district/facility)", |s| {
        s.len() <= limits::SCOPE_BYTES_MAX
            && (s.is_empty()
                || s.split('/').all(|part| {
                    !part.is_empty()
                        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
                }))
    }
);

name_type!(
    /// Who held the tablet, as the app names them; at most 128 bytes, no control characters.
    Author, "author (at most 128 bytes, no control characters)", |s| {
        !s.is_empty() && s.len() <= limits::AUTHOR_BYTES_MAX && !s.chars().any(char::is_control)
    }
);

name_type!(
    /// A cell's name: the path of a field, segments joined by `.`; a literal `.`, `\` or leading `@` is written with a `\` before it.
    /// Names that begin with a bare `@` are ours: [`FieldName::deleted`], [`FieldName::scope`] and [`FieldName::erased`].
    FieldName, "field name (at most 256 bytes, not empty)", |s| {
        !s.is_empty() && s.len() <= limits::FIELD_BYTES_MAX
    }
);

impl Scope {
    /// The whole world.
    pub fn root() -> Scope {
        Scope(Arc::from(""))
    }

    /// Whether a record of `other` belongs to a subscription of this prefix.
    pub fn covers(&self, other: &Scope) -> bool {
        let (prefix, path) = (self.as_str(), other.as_str());
        prefix.is_empty() || path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FieldName {
    /// The tombstone cell, to look it up by.
    pub const DELETED: &str = "@deleted";
    /// The cell that holds the record's scope, to look it up by.
    pub const SCOPE: &str = "@scope";

    /// The cell that says which erasure its author knew of ([`crate::erase`]), to look it up by.
    pub const ERASED: &str = "@erased";

    /// The tombstone cell.
    pub fn deleted() -> FieldName {
        FieldName(Arc::from(FieldName::DELETED))
    }

    /// The cell that holds the record's scope.
    pub fn scope() -> FieldName {
        FieldName(Arc::from(FieldName::SCOPE))
    }

    /// The cell that says which erasure its author knew of.
    pub fn erased() -> FieldName {
        FieldName(Arc::from(FieldName::ERASED))
    }

    /// Whether this is one of ours, not a field of the record.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('@')
    }

    /// The name for a path of keys.
    ///
    /// # Errors
    /// [`DecodeError::Name`] if it would be empty or too long.
    pub fn from_path<'a>(segments: impl IntoIterator<Item = &'a str>) -> Result<Self, DecodeError> {
        let mut name = String::new();
        for (i, segment) in segments.into_iter().enumerate() {
            if i > 0 {
                name.push('.');
            } else if segment.starts_with('@') {
                name.push('\\');
            }
            for c in segment.chars() {
                if c == '.' || c == '\\' {
                    name.push('\\');
                }
                name.push(c);
            }
        }
        FieldName::new(&name)
    }

    /// The keys of the path, unescaped.
    pub fn path(&self) -> Vec<String> {
        let mut segments = vec![String::new()];
        let mut chars = self.0.chars();
        while let Some(c) = chars.next() {
            match (c, segments.last_mut()) {
                ('.', _) => segments.push(String::new()),
                ('\\', Some(last)) => last.extend(chars.next()),
                (c, Some(last)) => last.push(c),
                (_, None) => {}
            }
        }
        segments
    }

    /// Whether `self` is a path below `other`.
    pub fn is_below(&self, other: &FieldName) -> bool {
        self.0.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('.'))
    }
}

/// What names a record everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// Its type.
    pub record_type: RecordType,
    /// Its id within the type.
    pub id: RecordId,
}

impl RecordKey {
    /// Checks both parts.
    ///
    /// # Errors
    /// [`DecodeError::Name`] that says which part is not valid.
    pub fn new(record_type: &str, id: &str) -> Result<Self, DecodeError> {
        Ok(RecordKey { record_type: RecordType::new(record_type)?, id: RecordId::new(id)? })
    }

    /// Reads `type/id`, the way [`fmt::Display`] writes it.
    ///
    /// # Errors
    /// [`DecodeError::Name`] if it is not of that form.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        let (record_type, id) = text.split_once('/').ok_or(DecodeError::Name("record (type/id)"))?;
        RecordKey::new(record_type, id)
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.record_type, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_paths_survive_dots_backslashes_and_at_signs() {
        for path in [vec!["name"], vec!["address", "city"], vec!["a.b", "c\\d"], vec!["@context"], vec!["", "x"]] {
            let name = FieldName::from_path(path.iter().copied()).unwrap();
            assert_eq!(name.path(), path, "{name}");
            assert!(!name.is_reserved());
        }
    }

    #[test]
    fn a_scope_covers_itself_and_what_is_below_it_only() {
        let scope = |s: &str| Scope::new(s).unwrap();
        assert!(scope("mw/zomba").covers(&scope("mw/zomba")));
        assert!(scope("mw/zomba").covers(&scope("mw/zomba/chingale")));
        assert!(!scope("mw/zomba").covers(&scope("mw/zombax")));
        assert!(!scope("mw/zomba/chingale").covers(&scope("mw/zomba")));
        assert!(Scope::root().covers(&scope("mw")));
    }

    #[test]
    fn names_from_outside_are_checked() {
        assert!(RecordKey::new("Patient", "a-1").is_ok());
        assert!(RecordKey::new("1Patient", "a-1").is_err());
        assert!(RecordKey::new("Patient", "a/1").is_err());
        assert!(RecordKey::new("Patient", "..").is_err());
        assert!(Scope::new("a//b").is_err());
        assert!(Author::new("a\nb").is_err());
    }
}
