//! What an app may read and write: all record types, or those that are named.

use std::collections::BTreeSet;

use sync_protocol::id::RecordType;

/// Types that are named at once.
const TYPES_MAX: usize = 100;
/// How all types are written.
const ALL: &str = "*";

/// What is done with records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// They are shown.
    Read,
    /// They are made, changed, deleted or settled.
    Write,
}

/// Some record types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Types {
    /// Those that there are and will be.
    All,
    /// Only these.
    Only(BTreeSet<RecordType>),
}

/// The rights of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What it may read.
    pub reads: Types,
    /// What it may write.
    pub writes: Types,
}

impl Types {
    /// Reads names; `*` alone is all. The error is what cannot be one.
    ///
    /// # Errors
    /// The name that is none, or what else is wrong.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Types, String> {
        let names: Vec<&str> = names.into_iter().map(str::trim).filter(|name| !name.is_empty()).collect();
        match names.as_slice() {
            [ALL] => return Ok(Types::All),
            names if names.len() > TYPES_MAX => return Err(format!("more than {TYPES_MAX} record types")),
            _ => {}
        }
        let named =
            names.into_iter().map(|name| RecordType::new(name).map_err(|_| format!("{name:?} is no record type")));
        Ok(Types::Only(named.collect::<Result<_, _>>()?))
    }

    /// None at all.
    pub fn none() -> Types {
        Types::Only(BTreeSet::new())
    }

    /// Whether a type is among them.
    pub fn has(&self, record_type: &RecordType) -> bool {
        match self {
            Types::All => true,
            Types::Only(types) => types.contains(record_type),
        }
    }

    /// The names, to be parsed again.
    pub fn names(&self) -> Vec<String> {
        match self {
            Types::All => vec![ALL.to_owned()],
            Types::Only(types) => types.iter().map(ToString::to_string).collect(),
        }
    }

    /// These and one more.
    fn and(&self, record_type: &RecordType) -> Types {
        match self {
            Types::All => Types::All,
            Types::Only(types) => Types::Only(types.iter().chain([record_type]).cloned().collect()),
        }
    }

    /// For people.
    pub fn told(&self) -> String {
        match self {
            Types::All => "everything".to_owned(),
            Types::Only(types) if types.is_empty() => "nothing".to_owned(),
            Types::Only(_) => self.names().join(", "),
        }
    }
}

impl Grant {
    /// Everything, as for who types at the gateway itself.
    pub const ALL: Grant = Grant { reads: Types::All, writes: Types::All };

    /// What was asked for. Where only one of the two is named, the other is nothing; where none is, both are all.
    ///
    /// # Errors
    /// What cannot be a record type.
    pub fn asked(reads: Option<&[String]>, writes: Option<&[String]>) -> Result<Grant, String> {
        if reads.is_none() && writes.is_none() {
            return Ok(Grant::ALL);
        }
        let types = |names: Option<&[String]>| {
            names.map_or(Ok(Types::none()), |names| Types::parse(names.iter().map(String::as_str)))
        };
        Ok(Grant { reads: types(reads)?, writes: types(writes)? })
    }

    /// The command that gives an app all these rights and this one: pairing again replaces what it may.
    pub fn command_with(&self, name: &str, access: Access, record_type: &RecordType) -> String {
        let (reads, writes) = match access {
            Access::Read => (self.reads.and(record_type), self.writes.clone()),
            Access::Write => (self.reads.clone(), self.writes.and(record_type)),
        };
        let option = |option: &str, types: &Types| match types.names().join(",") {
            names if names.is_empty() => String::new(),
            names => format!(" --{option} '{names}'"),
        };
        let name = name.replace('\'', r"'\''");
        format!("outpost pair '{name}'{}{}", option("read", &reads), option("write", &writes))
    }

    /// Whether it allows this.
    pub fn allows(&self, access: Access, record_type: &RecordType) -> bool {
        match access {
            Access::Read => self.reads.has(record_type),
            Access::Write => self.writes.has(record_type),
        }
    }

    /// For people.
    pub fn told(&self) -> String {
        format!("reads {}, writes {}", self.reads.told(), self.writes.told())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn who_names_one_side_gets_nothing_of_the_other() {
        let (visit, patient) = (RecordType::new("visit").unwrap(), RecordType::new("patient").unwrap());
        let intake = Grant::asked(None, Some(&names(&["visit"]))).unwrap();
        assert!(intake.allows(Access::Write, &visit) && !intake.allows(Access::Write, &patient));
        assert!(!intake.allows(Access::Read, &visit));
        let board = Grant::asked(Some(&names(&["*"])), None).unwrap();
        assert!(board.allows(Access::Read, &patient) && !board.allows(Access::Write, &patient));
        assert_eq!(Grant::asked(None, None).unwrap(), Grant::ALL);
        assert_eq!(Grant::asked(Some(&[]), None).unwrap(), Grant { reads: Types::none(), writes: Types::none() });
    }

    #[test]
    fn all_is_a_star_alone_and_never_one_among_names() {
        assert!(Types::parse(["visit", "*"]).is_err());
        assert!(Types::parse(["1x"]).is_err());
        for types in [Types::All, Types::none(), Types::parse(["visit", "patient"]).unwrap()] {
            assert_eq!(Types::parse(types.names().iter().map(String::as_str)), Ok(types));
        }
    }
}
