//! Records, their cells, and the ops that change them.
//!
//! A [`Record`] is a set of named [`Cell`]s. A cell is either a register (a field decided by one value, with every
//! value that nobody has overruled yet still in it), or one of the types that merge by themselves. A conflict is
//! therefore data in the record, replicated like everything else, not an event that only one side saw.
//!
//! Three reserved cells exist: the tombstone, the scope, and the number of an erasure (see [`FieldName`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::clock::{Hlc, TimeQuality};
use crate::id::{Author, Dot, FieldName, HubSeq, Origin, RecordKey, Scope, Seq, Source, Stream, Writer};
use crate::value::Value;

/// The circumstances of one write: who, when, how good the clock was, and what had been seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Identity of the write.
    pub dot: Dot,
    /// Order among concurrent writes.
    pub hlc: Hlc,
    /// The hub sequence that the writer had integrated for this record; 0 if it did not hold the record.
    pub seen: HubSeq,
    /// The hub's number for this write; 0 until the hub has applied it.
    pub hseq: HubSeq,
    /// The wall clock's guess at the moment of capture, milliseconds since 1970. Data, not order.
    pub captured_ms: i64,
    /// How good that guess was.
    pub quality: TimeQuality,
    /// What kind of place it came from, for the rule `priority`.
    pub source: Source,
    /// Who held the tablet, if the app said so.
    pub author: Option<Author>,
    /// Set when a person or a rule settled a conflict with this write: why.
    pub settles: Option<Arc<str>>,
}

impl Stamp {
    /// Whether the writer of `self` knew the write `other` when it wrote.
    ///
    /// In a star two numbers are enough: what the hub had numbered at or below `seen`, and the writer's own earlier writes.
    pub fn saw(&self, other: &Stamp) -> bool {
        let by_hub = other.hseq != HubSeq::NONE && other.hseq <= self.seen;
        by_hub || (self.dot.origin == other.dot.origin && self.follows(other))
    }

    /// Whether `self` was written after `other` by the same origin. Across streams the clock tells: it grows with every op.
    fn follows(&self, other: &Stamp) -> bool {
        match self.dot.stream == other.dot.stream {
            true => self.dot.seq > other.dot.seq,
            false => self.hlc > other.hlc,
        }
    }

    /// Total order of concurrent writes.
    pub fn marker(&self) -> Marker {
        (self.hlc, self.dot)
    }
}

/// What orders concurrent writes: the clock, then the dot, so that no two are equal.
pub type Marker = (Hlc, Dot);

/// One value of a register, with its circumstances.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The write that put it there. Shared by all the cells that the write touched.
    pub stamp: Arc<Stamp>,
    /// The value; `None` means that the field was removed.
    pub value: Option<Value>,
}

/// One field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The hub sequence of the last change; what a gateway behind it has yet to receive.
    pub changed: HubSeq,
    /// The field itself.
    pub state: State,
}

/// What a cell holds, by the kind of its rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The values that no later write has overruled, the one to show first. More than one *different* value is a conflict.
    Register(Vec<Entry>),
    /// A set in which a concurrent add wins over a remove.
    Set(SetState),
    /// A list that only grows.
    Log(LogState),
    /// A sum of everyone's additions and subtractions.
    Counter(CounterState),
}

/// What the self-merging types keep of the last write: for the API, and to know when an author needs the result back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// The last write that touched the cell.
    pub last: Arc<Stamp>,
    /// The highest hub sequence at which somebody else than the author of `last` had changed the cell.
    pub basis: HubSeq,
}

/// Members of a set with the writes that added them: of each writer the last.
pub type Members = BTreeMap<Value, BTreeMap<Writer, u64>>;

/// State of an observed-remove set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetState {
    /// The last write.
    pub touch: Touch,
    /// The highest sequence number of each writer that is contained.
    pub clock: BTreeMap<Writer, u64>,
    /// Each member with the writes that added it.
    pub members: Members,
    /// What was taken out before it came: a hub that was put back may hear of that first. It goes when the adding comes.
    pub ahead: Members,
}

/// State of an append-only list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogState {
    /// The last write.
    pub touch: Touch,
    /// Entries in the order of the clock; the last number tells apart entries of one write.
    pub entries: BTreeSet<(Hlc, Dot, u32, Value)>,
}

/// State of a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterState {
    /// The last write.
    pub touch: Touch,
    /// For each origin all it ever added and subtracted.
    pub totals: BTreeMap<Origin, (u64, u64)>,
}

impl Cell {
    /// The value to show; `None` if the field is absent.
    pub fn value(&self) -> Option<Value> {
        match &self.state {
            State::Register(entries) => entries.first().and_then(|e| e.value.clone()),
            State::Set(set) => Some(Value::List(set.members.keys().cloned().collect())),
            State::Log(log) => Some(Value::List(log.entries.iter().map(|(_, _, _, v)| v.clone()).collect())),
            State::Counter(counter) => Some(Value::Int(counter.sum())),
        }
    }

    /// The circumstances of the value that is shown.
    pub fn stamp(&self) -> Option<&Arc<Stamp>> {
        match &self.state {
            State::Register(entries) => entries.first().map(|e| &e.stamp),
            State::Set(set) => Some(&set.touch.last),
            State::Log(log) => Some(&log.touch.last),
            State::Counter(counter) => Some(&counter.touch.last),
        }
    }

    /// All values that stand beside the shown one and differ from it.
    pub fn rivals(&self) -> Vec<&Entry> {
        match &self.state {
            State::Register(entries) => {
                let shown = entries.first().map(|e| &e.value);
                entries.iter().skip(1).filter(|e| Some(&e.value) != shown).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The stamps of everything that is current in this cell.
    pub fn stamps(&self) -> Vec<&Arc<Stamp>> {
        match &self.state {
            State::Register(entries) => entries.iter().map(|e| &e.stamp).collect(),
            _ => self.stamp().into_iter().collect(),
        }
    }

    /// The same, to say other circumstances.
    pub fn stamps_mut(&mut self) -> Vec<&mut Arc<Stamp>> {
        match &mut self.state {
            State::Register(entries) => entries.iter_mut().map(|entry| &mut entry.stamp).collect(),
            State::Set(set) => vec![&mut set.touch.last],
            State::Log(log) => vec![&mut log.touch.last],
            State::Counter(counter) => vec![&mut counter.touch.last],
        }
    }
}

impl CounterState {
    /// Everything added minus everything subtracted.
    pub fn sum(&self) -> i64 {
        let sum: i128 = self.totals.values().map(|(plus, minus)| i128::from(*plus) - i128::from(*minus)).sum();
        sum.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }
}

/// A record: all its cells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Cells by field name.
    pub cells: BTreeMap<FieldName, Cell>,
}

impl Record {
    /// The hub sequence of the last change of any cell.
    pub fn changed(&self) -> HubSeq {
        self.cells.values().map(|c| c.changed).max().unwrap_or_default()
    }

    /// About how many bytes it takes in canonical form, with all values that stand in it; cheap to ask.
    pub fn size(&self) -> usize {
        self.cells.iter().map(|(name, cell)| name.as_str().len() + cell.state.size()).sum()
    }

    /// Whether anything says where the record belongs. Of a part of one, or of one to which a later change came first, nothing does.
    pub fn is_placed(&self) -> bool {
        self.cells.contains_key(FieldName::SCOPE)
    }

    /// Where the record belongs; the whole world if nothing says so.
    pub fn scope(&self) -> Scope {
        let shown = match self.cells.get(FieldName::SCOPE).map(|cell| &cell.state) {
            Some(State::Register(entries)) => entries.first().and_then(|entry| entry.value.as_ref()),
            _ => None,
        };
        shown.and_then(Value::as_text).and_then(|text| Scope::new(text).ok()).unwrap_or_else(Scope::root)
    }

    /// The names of the fields in which more than one value stands.
    pub fn conflicts(&self) -> Vec<&FieldName> {
        self.cells.iter().filter(|(_, cell)| !cell.rivals().is_empty()).map(|(name, _)| name).collect()
    }
}

/// About how many bytes a dot, or a stamp that is shared with other cells, takes.
const DOT_BYTES: usize = 12;

impl State {
    fn size(&self) -> usize {
        match self {
            State::Register(entries) => {
                entries.iter().map(|entry| DOT_BYTES + entry.value.as_ref().map_or(1, Value::size)).sum()
            }
            State::Set(set) => {
                let members =
                    set.members.iter().chain(&set.ahead).map(|(member, dots)| member.size() + DOT_BYTES * dots.len());
                DOT_BYTES * set.clock.len() + members.sum::<usize>()
            }
            State::Log(log) => log.entries.iter().map(|(_, _, _, value)| 2 * DOT_BYTES + value.size()).sum(),
            State::Counter(counter) => 2 * DOT_BYTES * counter.totals.len(),
        }
    }
}

/// One captured write: changes of one record under one dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Its circumstances; `hseq` is 0 here.
    pub stamp: Stamp,
    /// The record.
    pub key: RecordKey,
    /// What changes, by field.
    pub changes: BTreeMap<FieldName, Change>,
}

/// The change of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets a register.
    Put {
        /// The new value; `None` removes the field.
        value: Option<Value>,
        /// Writes that the author had *not* seen although the stamp says so: an app that edited a stale copy at this gateway.
        unseen: Vec<Dot>,
    },
    /// Adds to and removes from a set.
    Members {
        /// Members to add.
        add: Vec<Value>,
        /// Members to remove, each with the writes that had added it as far as the author knew.
        remove: Vec<(Value, BTreeMap<Writer, u64>)>,
    },
    /// Appends to a list that only grows.
    Append(Vec<Value>),
    /// Sets what this origin has added and subtracted in all.
    Count {
        /// All additions of this origin so far.
        plus: u64,
        /// All subtractions of this origin so far.
        minus: u64,
    },
}

impl Change {
    /// A plain new value.
    pub fn put(value: Value) -> Change {
        Change::Put { value: Some(value), unseen: Vec::new() }
    }

    /// What it takes out of a set, each member with the writes that had added it.
    pub fn removed(&self) -> &[(Value, BTreeMap<Writer, u64>)] {
        match self {
            Change::Members { remove, .. } => remove,
            _ => &[],
        }
    }

    /// Moves what it says of other writes over to the numbers that these have elsewhere. What has none there was not seen for
    /// sure, and cannot be taken out of a set.
    ///
    /// # Errors
    /// What `names` reports.
    pub fn rename<E>(&mut self, mut names: impl FnMut(Dot) -> Result<Vec<Dot>, E>) -> Result<(), E> {
        match self {
            Change::Put { unseen, .. } => {
                for dot in std::mem::take(unseen) {
                    let renamed = names(dot)?;
                    let old = renamed.is_empty().then_some(dot);
                    unseen.extend(renamed.into_iter().chain(old));
                }
            }
            Change::Members { remove, .. } => {
                for (_, writes) in remove {
                    let mut renamed = BTreeMap::new();
                    for ((origin, stream), seq) in std::mem::take(writes) {
                        let Ok(stream) = Stream::from_number(stream) else { continue };
                        for new in names(Dot { origin, stream, seq: Seq(seq) })? {
                            let known = renamed.entry(new.writer()).or_insert(0);
                            *known = new.seq.0.max(*known);
                        }
                    }
                    *writes = renamed;
                }
            }
            Change::Append(_) | Change::Count { .. } => {}
        }
        Ok(())
    }
}
