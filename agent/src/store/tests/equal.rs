//! The store in step with the one in memory: whatever the protocol asks, both must answer the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;
use sync_protocol::boot::{Boot, Moment};
use sync_protocol::digest::{Chain, item};
use sync_protocol::erase::{Erased, ErasedName};
use sync_protocol::gateway::{Fate, GatewayState, Held};
use sync_protocol::hub::{self, Gateway as Enrolled};
use sync_protocol::id::{Dot, Seq, Source, Stream};
use sync_protocol::identity::DeviceKey;
use sync_protocol::memory::MemoryGateway;
use sync_protocol::merge::Superseded;
use sync_protocol::message::{About, Plea, Short};
use sync_protocol::record::Op;
use sync_protocol::rules::Rules;

use super::*;
use crate::store::Tx;

const RULES: &str = r#"
version = 3
[types.Visit]
delete = "keep-and-review"
[types.Visit.fields]
tags = { rule = "set" }
count = { rule = "counter" }
log = { rule = "append-only" }
once = { rule = "first-write" }
"#;

/// Asks both and compares.
struct InStep<'a, 'b> {
    disk: &'a mut Tx<'b>,
    memory: &'a mut MemoryGateway,
}

impl InStep<'_, '_> {
    fn ask<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: &str,
        disk: impl FnOnce(&mut Tx<'_>) -> Result<T, Error>,
        memory: impl FnOnce(&mut MemoryGateway) -> Result<T, sync_protocol::memory::MemoryError>,
    ) -> Result<T, Error> {
        let (disk, memory) = (disk(self.disk)?, memory(self.memory).unwrap());
        assert_eq!(disk, memory, "{what}: the disk on the left, memory on the right");
        Ok(disk)
    }
}

fn sorted<T: Ord, E>(list: Result<Vec<T>, E>) -> Result<Vec<T>, E> {
    list.map(|mut list| {
        list.sort();
        list
    })
}

impl gateway::Store for InStep<'_, '_> {
    type Error = Error;

    fn state(&mut self) -> Result<GatewayState, Error> {
        self.ask("state", |d| d.state(), |m| m.state())
    }
    fn set_state(&mut self, state: &GatewayState) -> Result<(), Error> {
        self.ask("set_state", |d| d.set_state(state), |m| m.set_state(state))
    }
    fn rules(&mut self) -> Result<Arc<Rules>, Error> {
        self.ask("rules", |d| d.rules(), |m| m.rules())
    }
    fn set_rules(&mut self, rules: Arc<Rules>) -> Result<(), Error> {
        self.ask("set_rules", |d| d.set_rules(Arc::clone(&rules)), |m| m.set_rules(Arc::clone(&rules)))
    }
    fn held(&mut self, key: &RecordKey) -> Result<Option<Held>, Error> {
        self.ask("held", |d| d.held(key), |m| m.held(key))
    }
    fn keep(&mut self, key: &RecordKey, held: &Held) -> Result<(), Error> {
        self.ask("keep", |d| d.keep(key, held), |m| m.keep(key, held))
    }
    fn forget(&mut self, key: &RecordKey) -> Result<(), Error> {
        self.ask("forget", |d| d.forget(key), |m| m.forget(key))
    }
    fn append(&mut self, op: &Op, chain: Chain, replaced: &[Superseded]) -> Result<(), Error> {
        self.ask("append", |d| d.append(op, chain, replaced), |m| m.append(op, chain, replaced))
    }
    fn remember(&mut self, key: &RecordKey, replaced: &[Superseded]) -> Result<(), Error> {
        self.ask("remember", |d| d.remember(key, replaced), |m| m.remember(key, replaced))
    }
    fn own_op(&mut self, dot: Dot) -> Result<Option<Op>, Error> {
        self.ask("own_op", |d| d.own_op(dot), |m| m.own_op(dot))
    }

    fn own_of(&mut self, key: &RecordKey) -> Result<Vec<Op>, Error> {
        let sorted = |mut ops: Vec<Op>| {
            ops.sort_by_key(|op| op.stamp.marker());
            ops
        };
        self.ask("own_of", |d| d.own_of(key).map(sorted), |m| m.own_of(key).map(sorted))
    }
    fn own_ops(&mut self, stream: Stream, after: Seq, limit: usize) -> Result<Vec<Op>, Error> {
        self.ask("own_ops", |d| d.own_ops(stream, after, limit), |m| m.own_ops(stream, after, limit))
    }
    fn pending(&mut self, key: &RecordKey) -> Result<Vec<Op>, Error> {
        self.ask("pending", |d| d.pending(key), |m| m.pending(key))
    }
    fn settle_fate(&mut self, dot: Dot, fate: &Fate) -> Result<(), Error> {
        self.ask("settle_fate", |d| d.settle_fate(dot, fate), |m| m.settle_fate(dot, fate))
    }
    fn renumber(&mut self, ops: &[(Seq, Op, Chain)]) -> Result<(), Error> {
        self.ask("renumber", |d| d.renumber(ops), |m| m.renumber(ops))
    }
    fn restamp(&mut self, ops: &[Op]) -> Result<(), Error> {
        self.ask("restamp", |d| d.restamp(ops), |m| m.restamp(ops))
    }
    fn boots(&mut self) -> Result<Vec<Boot>, Error> {
        // The disk knows of the boot that the test runs in.
        self.memory.boots().map_err(|_| Error::Closed)
    }
    fn moments(&mut self, stream: Stream, after: Seq, upto: Seq) -> Result<BTreeMap<Seq, Moment>, Error> {
        self.ask(
            "moments",
            |d| d.moments(stream, after, upto),
            |m| {
                let mut known = m.moments(stream, after, upto)?;
                known.retain(|_, moment| moment.boot != 0);
                Ok(known)
            },
        )
    }
    fn last_moments(&mut self, stream: Stream, after: Seq) -> Result<Vec<(Seq, Moment)>, Error> {
        self.ask("last_moments", |d| d.last_moments(stream, after), |m| m.last_moments(stream, after))
    }
    fn chain_at(&mut self, stream: Stream, seq: Seq) -> Result<Option<Short>, Error> {
        self.ask("chain_at", |d| d.chain_at(stream, seq), |m| m.chain_at(stream, seq))
    }
    fn oldest_ms(&mut self, stream: Stream, after: Seq) -> Result<Option<i64>, Error> {
        self.ask("oldest_ms", |d| d.oldest_ms(stream, after), |m| m.oldest_ms(stream, after))
    }
    fn digest(&mut self, scopes: &[Scope]) -> Result<u64, Error> {
        self.ask("digest", |d| d.digest(scopes), |m| m.digest(scopes))
    }
    fn items(&mut self, scopes: &[Scope]) -> Result<Vec<u64>, Error> {
        self.ask("items", |d| sorted(d.items(scopes)), |m| sorted(m.items(scopes)))
    }
    fn keys_of_items(&mut self, items: &[u64]) -> Result<Vec<RecordKey>, Error> {
        self.ask("keys_of_items", |d| sorted(d.keys_of_items(items)), |m| sorted(m.keys_of_items(items)))
    }
    fn outside(&mut self, scopes: &[Scope], limit: usize) -> Result<Vec<RecordKey>, Error> {
        self.ask("outside", |d| sorted(d.outside(scopes, limit)), |m| sorted(m.outside(scopes, limit)))
    }
    fn awaited(&mut self, limit: usize) -> Result<Vec<RecordKey>, Error> {
        self.ask("awaited", |d| sorted(d.awaited(limit)), |m| sorted(m.awaited(limit)))
    }
    fn erasure(&mut self, key: &RecordKey) -> Result<Option<u64>, Error> {
        self.ask("erasure", |d| d.erasure(key), |m| m.erasure(key))
    }
    fn note_erasures(&mut self, erased: &[Erased]) -> Result<(), Error> {
        self.ask("note_erasures", |d| d.note_erasures(erased), |m| m.note_erasures(erased))
    }
    fn keys_named(&mut self, names: &BTreeSet<ErasedName>) -> Result<Vec<RecordKey>, Error> {
        self.ask("keys_named", |d| sorted(d.keys_named(names)), |m| sorted(m.keys_named(names)))
    }
    fn erase(&mut self, key: &RecordKey) -> Result<(), Error> {
        self.ask("erase", |d| d.erase(key), |m| m.erase(key))
    }
    fn pleas(&mut self) -> Result<Vec<Plea>, Error> {
        self.ask("pleas", |d| d.pleas(), |m| m.pleas())
    }
    fn clear_pleas(&mut self, told: &[Plea]) -> Result<(), Error> {
        self.ask("clear_pleas", |d| d.clear_pleas(told), |m| m.clear_pleas(told))
    }
    fn about(&mut self) -> Result<About, Error> {
        self.disk.about()
    }
}

/// One gateway on disk and in memory, another beside it, and their hub.
struct World {
    memory: MemoryGateway,
    other: MemoryGateway,
    hub: MemoryHub,
    now_ms: i64,
    random: u64,
}

/// What the program does at enrolment. Not in step: a record that is one op has its new name here at once, in memory when it
/// is kept again.
fn adopt<S: gateway::Store<Error: std::fmt::Debug>>(store: &mut S, known: &Enrolled) {
    let mut state = store.state().unwrap();
    (state.device, state.key, state.scopes) = (known.device, known.key.clone(), known.scopes.clone());
    store.set_state(&state).unwrap();
    gateway::adopt_origin(store, known.origin).unwrap();
}

impl World {
    /// A step of a plain xorshift; the tests need variety, not quality.
    fn pick(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn wish<S: gateway::Store<Error: std::fmt::Debug>>(&mut self, store: &mut S) -> Capture {
        self.now_ms += 1_000;
        let key = format!("Visit/v{}", self.pick(6));
        let held = store.held(&key_of(&key)).unwrap();
        let mut body = held.map(|held| render(&held.visible)).unwrap_or_default();
        match self.pick(6) {
            0 => body.insert("n".into(), json!(self.pick(100))),
            1 => body.insert("tags".into(), json!([self.pick(4), self.pick(4)])),
            2 => body.insert("count".into(), json!(self.pick(50))),
            3 => body.insert("log".into(), json!([self.pick(9)])),
            4 => body.remove("n"),
            _ => body.insert("note".into(), json!("x".repeat(self.pick(400) as usize))),
        };
        let intent = if self.pick(12) == 0 { Intent::Delete } else { Intent::Put(body) };
        wish(&key, intent, None, self.now_ms)
    }

    fn step(&mut self, tx: &mut Tx<'_>) {
        let (mut memory, mut other) = (std::mem::take(&mut self.memory), std::mem::take(&mut self.other));
        let mut here = InStep { disk: tx, memory: &mut memory };
        let mut link = Link::new().unwrap();
        if self.pick(20) == 0 {
            let key = key_of(&format!("Visit/v{}", self.pick(6)));
            hub::erase(&mut self.hub, &key, self.now_ms as u64).unwrap();
        }
        match self.pick(8) {
            0 => drop(settle(&mut here, &mut self.hub, &mut link, self.now_ms as u64, 40).unwrap()),
            1 => drop(settle(&mut other, &mut self.hub, &mut link, self.now_ms as u64, 40).unwrap()),
            2 | 3 => {
                let wish = self.wish(&mut other);
                drop(gateway::capture(&mut other, wish));
            }
            _ => {
                let mut wish = self.wish(&mut here);
                if self.pick(4) == 0 {
                    wish.quality = TimeQuality::Unknown;
                    wish.now_ms = [0, 2_147_000_000_000, self.now_ms - 60_000][self.pick(3) as usize];
                }
                drop(gateway::capture(&mut here, wish));
            }
        }
        (self.memory, self.other) = (memory, other);
    }
}

#[test]
fn it_answers_as_the_store_in_memory_does() {
    for seed in 1..=12u64 {
        let clinic = Clinic::new();
        let mut hub = MemoryHub::default();
        hub.publish(Arc::new(Rules::parse(RULES).unwrap()));
        let (memory, mut other) = (MemoryGateway::default(), MemoryGateway::default());
        adopt(&mut other, &hub.enroll(vec![Scope::root()], Source::CLINIC, DeviceKey([7; 32])));
        let mut world = World { memory, other, hub, now_ms: NOW_MS, random: 0x9e37_79b9_7f4a_7c15 ^ seed };
        for round in 0..30 {
            world = clinic
                .store
                .blocking_write(move |tx| -> Result<World, Error> {
                    for _ in 0..5 {
                        world.step(tx);
                    }
                    if round == 3 {
                        let known = world.hub.enroll(vec![Scope::root()], Source::CLINIC, DeviceKey([7; 32]));
                        adopt(tx, &known);
                        adopt(&mut world.memory, &known);
                    }
                    Ok(world)
                })
                .unwrap();
        }
        same_in_the_end(&clinic, &world, seed);
    }
}

/// What is on the disk, read by another connection.
fn same_in_the_end(clinic: &Clinic, world: &World, seed: u64) {
    let scopes = [Scope::root()];
    let digest = clinic.store.blocking_read(|reader| reader.digest(&scopes)).unwrap();
    let mut sum = 0u64;
    for (key, held) in world.memory.records() {
        let stored = clinic.store.blocking_read(|reader| reader.get(key)).unwrap();
        assert_eq!(stored.unwrap().record, held.visible, "seed {seed}: {key}");
        sum = sum.wrapping_add(held.confirmed.as_ref().map_or(0, |record| item(key, record)));
    }
    assert_eq!(digest, sum, "seed {seed}: the digest is not the sum over the confirmed records");
    assert_eq!(clinic.store.blocking_read(|reader| reader.quick_check()).unwrap(), Vec::<String>::new());
    let found = clinic.store.mend(NOW_MS).unwrap();
    assert_eq!(found, [], "seed {seed}: nothing was damaged");
    let state = clinic.store.blocking_read(|reader| reader.state()).unwrap();
    let mut memory = world.memory.clone();
    assert_eq!(state, memory.state().unwrap(), "seed {seed}");
    assert_eq!(state.repairs, 0, "seed {seed}");
}
