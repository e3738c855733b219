//! What merge promises whatever is written, and a small fleet that does whatever comes to mind.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value as Json, json};
use sync_protocol::clock::{Hlc, TimeQuality};
use sync_protocol::edit::{Desk, render};
use sync_protocol::gateway::{self, Capture, Intent, Refusal, Store as _};
use sync_protocol::hub::Snapshot as _;
use sync_protocol::id::{Author, Dot, FieldName, HubSeq, Origin, RecordKey, Scope, Seq, Source, Stream, Writer};
use sync_protocol::identity::DeviceKey;
use sync_protocol::loopback::{Link, settle};
use sync_protocol::memory::{MemoryGateway, MemoryHub};
use sync_protocol::merge::{Superseded, apply};
use sync_protocol::record::{Change, Entry, Op, Record, Stamp, State};
use sync_protocol::rules::{Rule, Rules, TypeRules};
use sync_protocol::value::Value;

const RULES: &str = r#"
version = 1
sources = ["lab"]
[types.thing.fields]
lww = "lww"
both = "keep-both"
set = "set"
log = "append-only"
count = "counter"
max = "max"
min = "min"
order = { rule = "ordered", values = [0, 1, 2, 3] }
first = "first-write"
rank = { rule = "priority", sources = ["hub", "lab", "clinic"] }
fixed = "immutable"
"#;

const REGISTERS: [&str; 8] = ["lww", "both", "max", "min", "order", "first", "rank", "fixed"];
const COLLECTIONS: [&str; 3] = ["set", "log", "count"];
/// Fields on which a settlement meets writes that it did not see alike in any order.
const SETTLED_ALIKE: [&str; 2] = ["lww", "both"];

/// Fields that the fleet settles. A settlement of the largest, smallest or furthest can cost a repair: what it overruled at
/// the hub, a gateway with an own write on the way still compares with.
const SETTLED: [&str; 5] = ["lww", "both", "first", "rank", "fixed"];

fn rules() -> Rules {
    Rules::parse(RULES).unwrap()
}

fn key() -> RecordKey {
    RecordKey::parse("thing/1").unwrap()
}

fn name(field: &str) -> FieldName {
    FieldName::new(field).unwrap()
}

/// What one op does, before it is known what the origin did before.
#[derive(Debug, Clone)]
struct Act {
    fields: Vec<&'static str>,
    number: u8,
    /// Removes the value, or the member.
    removes: bool,
    /// The author edited a stale copy and had not seen the own value before.
    is_stale: bool,
    settles: bool,
    clock: u8,
}

fn act() -> impl Strategy<Value = Act> {
    let fields = subsequence([&REGISTERS[..], &COLLECTIONS[..]].concat(), 1..4);
    (fields, 0..4u8, prop::bool::weighted(0.2), prop::bool::weighted(0.3), prop::bool::weighted(0.2), 0..4u8).prop_map(
        |(fields, number, removes, is_stale, settles, clock)| Act { fields, number, removes, is_stale, settles, clock },
    )
}

/// One origin at work: remembers what it wrote, as a gateway would.
struct Writing {
    origin: Origin,
    seen: HubSeq,
    seq: Seq,
    clock: Hlc,
    members: BTreeMap<Value, BTreeMap<Writer, u64>>,
    totals: (u64, u64),
    last: BTreeMap<&'static str, Dot>,
}

impl Writing {
    fn new(origin: u32, seen: HubSeq) -> Writing {
        let (members, last) = (BTreeMap::new(), BTreeMap::new());
        let (origin, seq, clock) = (Origin(origin), Seq(0), Hlc::default());
        Writing { origin, seen, seq, clock, members, totals: (0, 0), last }
    }

    fn op(&mut self, act: &Act) -> Op {
        self.seq = self.seq.next();
        self.clock = self.clock.tick(u64::from(act.clock));
        let dot = Dot { origin: self.origin, stream: Stream::Normal, seq: self.seq };
        let can_settle = act.fields.iter().all(|field| SETTLED_ALIKE.contains(field));
        let stamp = Stamp {
            dot,
            hlc: self.clock,
            seen: self.seen,
            hseq: HubSeq::NONE,
            captured_ms: i64::from(act.clock),
            quality: TimeQuality::Good,
            source: Source((self.origin.0 % 3) as u8),
            author: None,
            settles: (act.settles && can_settle).then(|| Arc::from("asked")),
        };
        let changes = act.fields.iter().map(|field| (name(field), self.change(field, act, dot))).collect();
        Op { stamp, key: key(), changes }
    }

    fn change(&mut self, field: &'static str, act: &Act, dot: Dot) -> Change {
        let value = Value::Int(i64::from(act.number));
        match field {
            "set" if act.removes => {
                let known = self.members.remove(&value);
                Change::Members { add: Vec::new(), remove: known.map(|dots| (value, dots)).into_iter().collect() }
            }
            "set" => {
                self.members.entry(value.clone()).or_default().insert(dot.writer(), dot.seq.0);
                Change::Members { add: vec![value], remove: Vec::new() }
            }
            "log" => Change::Append(vec![value.clone(), value]),
            "count" => {
                let n = u64::from(act.number);
                self.totals =
                    if act.removes { (self.totals.0, self.totals.1 + n) } else { (self.totals.0 + n, self.totals.1) };
                Change::Count { plus: self.totals.0, minus: self.totals.1 }
            }
            field => {
                let before = self.last.insert(field, dot);
                let unseen = before.filter(|_| act.is_stale).into_iter().collect();
                Change::Put { value: (!act.removes).then_some(value), unseen }
            }
        }
    }
}

/// Ops that everybody has seen, ops of several origins that have seen these and nothing of each other, and an order.
#[derive(Debug, Clone)]
struct Meeting {
    seen: Vec<Op>,
    origins: Vec<Vec<Op>>,
    turns: Vec<usize>,
}

fn meeting() -> impl Strategy<Value = Meeting> {
    let acts = || prop::collection::vec(act(), 0..4);
    (prop::collection::vec(act(), 0..3), prop::collection::vec(acts(), 2..5), prop::collection::vec(0..4usize, 12))
        .prop_map(|(common, apart, turns)| {
            let mut hub = Writing::new(0, HubSeq::NONE);
            let seen: Vec<Op> = common.into_iter().map(without_rank).map(|act| hub.op(&act)).collect();
            let upto = HubSeq(seen.len() as u64);
            let members = hub.members;
            let origins = (1u32..).zip(apart).map(|(origin, acts)| {
                let mut writing = Writing { members: members.clone(), ..Writing::new(origin, upto) };
                acts.iter().map(|act| writing.op(act)).collect()
            });
            Meeting { seen, origins: origins.collect(), turns }
        })
}

/// A source that is refused because of a value that it saw is not refused where that value is gone already: which of the
/// two it is, the hub's order decides. So nobody has seen a value of this field here.
fn without_rank(act: Act) -> Act {
    let fields = act.fields.into_iter().filter(|field| *field != "rank").collect();
    Act { fields, ..act }
}

impl Meeting {
    /// The ops that did not see each other, each with its number, origin after origin.
    fn in_sequence(&self) -> Vec<(Op, HubSeq)> {
        let first = self.seen.len() as u64 + 1;
        (first..).zip(self.origins.iter().flatten()).map(|(hseq, op)| (op.clone(), HubSeq(hseq))).collect()
    }

    /// The same ops with the same numbers in another order, in which each origin's own order is kept.
    fn interleaved(&self) -> Vec<(Op, HubSeq)> {
        let all = self.in_sequence();
        let of = |origin: Origin| all.iter().filter(move |(op, _)| op.stamp.dot.origin == origin).cloned().collect();
        let mut left: Vec<std::collections::VecDeque<_>> =
            (1..=self.origins.len() as u32).map(|o| of(Origin(o))).collect();
        let mut order = Vec::new();
        for turn in &self.turns {
            let len = left.len();
            order.extend(left[turn % len].pop_front());
        }
        order.extend(left.into_iter().rev().flatten());
        order
    }

    fn common(&self, rules: &TypeRules) -> (Record, Vec<Superseded>) {
        let ops = (1..).zip(&self.seen).map(|(hseq, op)| (op.clone(), HubSeq(hseq))).collect::<Vec<_>>();
        run(Record::default(), &ops, rules)
    }
}

fn run(mut record: Record, ops: &[(Op, HubSeq)], rules: &TypeRules) -> (Record, Vec<Superseded>) {
    let mut superseded = Vec::new();
    for (op, hseq) in ops {
        superseded.extend(apply(&mut record, op, *hseq, rules).unwrap().superseded);
    }
    (record, superseded)
}

fn unconfirmed(ops: Vec<(Op, HubSeq)>) -> Vec<(Op, HubSeq)> {
    ops.into_iter().map(|(op, _)| (op, HubSeq::NONE)).collect()
}

/// The canonical bytes without the two numbers that only say in which order the hub had the writes.
fn bytes(record: &Record) -> Vec<u8> {
    let mut record = record.clone();
    for cell in record.cells.values_mut() {
        cell.changed = HubSeq::NONE;
        match &mut cell.state {
            State::Register(_) => {}
            State::Set(set) => set.touch.basis = HubSeq::NONE,
            State::Log(log) => log.touch.basis = HubSeq::NONE,
            State::Counter(counter) => counter.touch.basis = HubSeq::NONE,
        }
    }
    record.canonical()
}

fn holds(entries: &[Entry], value: &Value) -> bool {
    entries.iter().any(|entry| entry.value.as_ref() == Some(value))
}

proptest! {
    #[test]
    fn the_order_of_arrival_decides_nothing(meeting in meeting()) {
        let rules = rules();
        let rules = rules.of(&key().record_type);
        let (common, _) = meeting.common(rules);
        let (one, _) = run(common.clone(), &meeting.in_sequence(), rules);
        let (other, _) = run(common, &meeting.interleaved(), rules);
        prop_assert_eq!(bytes(&one), bytes(&other));
        // Not yet confirmed they have no numbers, and nothing at all depends on the order.
        let (one, _) = run(Record::default(), &unconfirmed(meeting.in_sequence()), rules);
        let (other, _) = run(Record::default(), &unconfirmed(meeting.interleaved()), rules);
        prop_assert_eq!(one.canonical(), other.canonical());
    }

    #[test]
    fn a_repeated_op_changes_nothing(meeting in meeting()) {
        let rules = rules();
        let rules = rules.of(&key().record_type);
        let (mut record, _) = meeting.common(rules);
        let ops = meeting.in_sequence();
        for (op, hseq) in &ops {
            apply(&mut record, op, *hseq, rules).unwrap();
            let before = record.clone();
            let again = apply(&mut record, op, *hseq, rules).unwrap();
            prop_assert!(!again.changed);
            prop_assert_eq!(&record, &before);
        }
        let before = bytes(&record);
        let (record, _) = run(record, &ops, rules);
        prop_assert_eq!(bytes(&record), before, "all of them once more");
    }

    #[test]
    fn no_value_vanishes(meeting in meeting()) {
        let rules = rules();
        let rules = rules.of(&key().record_type);
        let (common, mut superseded) = meeting.common(rules);
        let ops = meeting.interleaved();
        let (record, more) = run(common, &ops, rules);
        superseded.extend(more);
        for op in meeting.seen.iter().chain(ops.iter().map(|(op, _)| op)) {
            for (field, change) in &op.changes {
                let Change::Put { value: Some(value), .. } = change else { continue };
                let State::Register(entries) = &record.cells[field].state else { panic!("{field} is no register") };
                let lost = superseded.iter().filter(|s| s.field == *field).map(|s| s.entry.clone()).collect::<Vec<_>>();
                prop_assert!(holds(entries, value) || holds(&lost, value), "{} of {} vanished", value.to_json(), field);
            }
        }
    }

    #[test]
    fn canonical_bytes_come_back(meeting in meeting()) {
        let rules = rules();
        let (common, _) = meeting.common(rules.of(&key().record_type));
        let (record, _) = run(common, &meeting.interleaved(), rules.of(&key().record_type));
        prop_assert_eq!(Record::from_canonical(&record.canonical()).unwrap(), record);
        for (op, _) in meeting.in_sequence() {
            prop_assert_eq!(Op::from_canonical(&op.canonical()).unwrap(), op);
        }
    }

    #[test]
    fn what_an_app_reads_and_writes_back_changes_nothing(meeting in meeting()) {
        let rules = rules();
        let (mut record, _) = meeting.common(rules.of(&key().record_type));
        let scope = Change::put(Value::Text("mw".to_owned()));
        let mut setting = Writing::new(9, HubSeq::NONE).op(&Act {
            fields: Vec::new(), number: 0, removes: false, is_stale: false, settles: false, clock: 0,
        });
        setting.changes.insert(FieldName::scope(), scope);
        apply(&mut record, &setting, HubSeq(99), rules.of(&key().record_type)).unwrap();
        let (record, _) = run(record, &meeting.interleaved(), rules.of(&key().record_type));
        prop_assert!(changes(&rules, Some(&record), &render(&record)).is_empty());
    }

    #[test]
    fn any_object_is_kept_as_it_was_written(body in object()) {
        let rules = Rules::default();
        let mut record = Record::default();
        let act = Act { fields: Vec::new(), number: 0, removes: false, is_stale: false, settles: false, clock: 0 };
        let mut op = Writing::new(1, HubSeq::NONE).op(&act);
        op.changes = changes(&rules, None, &body);
        apply(&mut record, &op, HubSeq(1), rules.of(&key().record_type)).unwrap();
        let shown = render(&record);
        prop_assert_eq!(Value::from_json(&Json::Object(shown.clone())), Value::from_json(&Json::Object(body)));
        prop_assert!(changes(&rules, Some(&record), &shown).is_empty());
    }
}

fn changes(rules: &Rules, record: Option<&Record>, body: &Map<String, Json>) -> BTreeMap<FieldName, Change> {
    let home = Scope::new("mw").unwrap();
    let (record_type, origin, source) = (&key().record_type, Origin(1), Source::CLINIC);
    let desk = Desk { rules, record_type, origin, source, home: &home, current: record, base: record };
    desk.put(body).unwrap().changes
}

/// Any JSON object that can be a record: its keys can be fields.
fn object() -> impl Strategy<Value = Map<String, Json>> {
    let plain = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        prop::num::f64::NORMAL.prop_map(Json::from),
        "-?[1-9][0-9]{0,25}(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?".prop_map(|n| serde_json::from_str(&n).unwrap()),
        ".{0,8}".prop_map(Json::from),
    ];
    let value = plain.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(".{0,4}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    });
    prop::collection::btree_map("[a-z@.\\\\ä]{1,4}", value, 0..6).prop_map(|map| map.into_iter().collect())
}

/// What one gateway of the fleet does next.
#[derive(Debug, Clone)]
enum Step {
    Put(Map<String, Json>),
    Patch(Map<String, Json>),
    Stale(Map<String, Json>),
    Delete,
    Settle(&'static str, Option<u8>),
    SettleDelete(bool),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    let fields = || {
        let field = (select([&REGISTERS[..], &COLLECTIONS[..], &["free"]].concat()), 0..4u8);
        prop::collection::vec(field, 1..5)
            .prop_map(|fields| fields.into_iter().map(|(f, n)| (f.to_owned(), form(f, n))).collect())
    };
    prop_oneof![
        2 => fields().prop_map(Step::Put),
        6 => fields().prop_map(Step::Patch),
        2 => fields().prop_map(Step::Stale),
        1 => Just(Step::Delete),
        2 => (select(SETTLED.to_vec()), prop::option::weighted(0.8, 0..4u8)).prop_map(|(f, n)| Step::Settle(f, n)),
        1 => any::<bool>().prop_map(Step::SettleDelete),
        5 => Just(Step::Sync),
    ]
}

/// A value that the field can have.
fn form(field: &str, n: u8) -> Json {
    match field {
        "set" | "log" => json!((0..n).collect::<Vec<_>>()),
        _ => json!(n),
    }
}

struct Fleet {
    hub: MemoryHub,
    gateways: Vec<MemoryGateway>,
    /// Each gateway's copy of a record as an app had read it some time ago.
    read: BTreeMap<(usize, RecordKey), Record>,
    link: Link,
    now_ms: i64,
}

impl Fleet {
    fn new(size: usize) -> Fleet {
        let rules = Arc::new(rules());
        let mut hub = MemoryHub::default();
        hub.publish(Arc::clone(&rules));
        let mut enrolled = |_| {
            let scopes = vec![Scope::new("mw").unwrap()];
            let known = hub.enroll(scopes.clone(), Source::CLINIC, DeviceKey([7; 32]));
            let mut gateway = MemoryGateway::default();
            let mut state = gateway.state().unwrap();
            (state.device, state.origin, state.key, state.scopes) = (known.device, known.origin, known.key, scopes);
            gateway.set_state(&state).unwrap();
            gateway.set_rules(Arc::clone(&rules)).unwrap();
            gateway
        };
        let gateways = (0..size).map(&mut enrolled).collect();
        Fleet { hub, gateways, read: BTreeMap::new(), link: Link::new().unwrap(), now_ms: 1_780_000_000_000 }
    }

    fn take(&mut self, at: usize, key: &RecordKey, step: Step) {
        let shown = self.gateways[at].record(key).map(|held| held.visible.clone());
        let merged = |fields| {
            let mut body = shown.as_ref().map(render).unwrap_or_default();
            body.extend(fields);
            body
        };
        let (intent, base) = match step {
            Step::Sync => return self.sync(at),
            // An app can only settle what it was shown.
            Step::Settle(..) | Step::SettleDelete(_) if shown.is_none() => return,
            Step::Put(body) => (Intent::Put(body), None),
            Step::Patch(fields) => (Intent::Put(merged(fields)), None),
            Step::Stale(fields) => (Intent::Put(merged(fields)), self.read.get(&(at, key.clone())).cloned()),
            Step::Delete => (Intent::Delete, None),
            Step::Settle(field, n) => {
                (Intent::Settle { field: name(field), value: n.map(Json::from), why: "asked".to_owned() }, None)
            }
            Step::SettleDelete(delete) => (Intent::SettleDelete { delete, why: "asked".to_owned() }, None),
        };
        self.read.extend(shown.map(|record| ((at, key.clone()), record)));
        self.now_ms += 1_000;
        let author = Some(Author::new("nurse").unwrap());
        let wish = Capture { key: key.clone(), intent, base, author, now_ms: self.now_ms, quality: TimeQuality::Good };
        let mut copy = self.gateways[at].clone();
        match gateway::capture(&mut copy, wish) {
            Ok(_) => self.gateways[at] = copy,
            Err(Refusal::Edit(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn sync(&mut self, at: usize) {
        let traffic = settle(&mut self.gateways[at], &mut self.hub, &mut self.link, self.now_ms as u64, 20).unwrap();
        assert!(!traffic.again, "gateway {at} does not come to an end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_fleet_comes_to_agree(steps in prop::collection::vec((0..3usize, 0..2u8, step()), 1..40)) {
        let mut fleet = Fleet::new(3);
        for (at, id, step) in steps {
            fleet.take(at, &RecordKey::new("thing", &id.to_string()).unwrap(), step);
        }
        for at in [0, 1, 2, 0, 1, 2] {
            fleet.sync(at);
        }
        prop_assert!(fleet.hub.quarantine().is_empty());
        let digest = fleet.hub.digest(&[Scope::root()]).unwrap();
        for gateway in &mut fleet.gateways {
            prop_assert_eq!(gateway.records().count(), fleet.hub.records().count());
            for (key, record) in fleet.hub.records() {
                let held = gateway.record(key).unwrap();
                prop_assert_eq!(held.confirmed.as_ref(), Some(record));
                prop_assert_eq!(&held.visible, record);
            }
            prop_assert_eq!(gateway.digest(&[Scope::root()]).unwrap(), digest);
            prop_assert_eq!(gateway.state().unwrap().repairs, 0);
        }
    }
}

#[test]
fn every_rule_takes_part() {
    let rules = rules();
    let fields = &rules.of(&key().record_type).fields;
    assert_eq!(fields.len(), REGISTERS.len() + COLLECTIONS.len());
    let is_named = |rule: &str| fields.values().any(|field| field.rule.name() == rule);
    let all = [
        Rule::Lww,
        Rule::KeepBoth,
        Rule::Set,
        Rule::AppendOnly,
        Rule::Counter,
        Rule::Max,
        Rule::Min,
        Rule::Ordered(Vec::new()),
        Rule::FirstWrite,
        Rule::Priority(Vec::new()),
        Rule::Immutable,
    ];
    assert!(all.iter().all(|rule| is_named(rule.name())));
}
