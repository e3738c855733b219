//! What comes down: rows of the hub into the gateway's store, and merging alone.

use std::path::Path;
use std::time::Instant;

use agent::error::Error;
use agent::store::{Options, Store};
use anyhow::{Context, Result, ensure};
use sync_protocol::frame::{Effort, Packer, split};
use sync_protocol::gateway::{self, Store as _, WallClock};
use sync_protocol::hub::{Answer, Opened, grant, open, pull};
use sync_protocol::id::{HubSeq, RecordKey, Scope, Seq, Source, Stream};
use sync_protocol::identity::DeviceKey;
use sync_protocol::loopback::{Link, settle};
use sync_protocol::memory::{MemoryGateway, MemoryHub};
use sync_protocol::merge;
use sync_protocol::payload::Payload;
use sync_protocol::record::{Op, Record};

use super::push::capture;
use super::raw;
use super::sample::{Kind, Sample, json_bytes, samples};
use super::table::{Goal, Line, Table};
use super::{Setting, disk, median};

const RECORDS: usize = 10_000;
/// Records that a commit of the baseline holds.
const RAW_GROUP: usize = 1_000;
const NOW_MS: u64 = 1_772_400_000_000;
const CLOCK: WallClock = WallClock { now_ms: NOW_MS, ahead_seconds: Some(0) };
const KEY: DeviceKey = DeviceKey([2; 32]);

/// Frames as a hub sends them, with the number of rows in each, and the ops that they come from.
struct Down {
    identity: sync_protocol::hub::Gateway,
    frames: Vec<(Vec<u8>, usize)>,
    ops: Vec<Op>,
}

pub(super) fn run(setting: &Setting, table: &mut Table) -> Result<()> {
    for kind in [Kind::Coded, Kind::Visit] {
        let records = samples(kind, RECORDS, 4_000);
        let down = frames_of(&records)?;
        let (mut raw, mut by_frame, mut by_thousand, mut kept) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
        for _ in 0..setting.runs() {
            raw.push(raw::insert(&setting.fresh("raw")?, &records, RAW_GROUP)?.records_a_second);
            by_frame.push(applied_a_second(&setting.fresh("store")?, &down, 1)?);
            let dir = setting.fresh("store")?;
            by_thousand.push(applied_a_second(&dir, &down, RAW_GROUP)?);
            kept = disk::database_bytes(&dir.join(agent::store::FILE_NAME))?;
        }
        let (name, raw) = (kind.name(), median(raw));
        let goal = Goal::ratio_at_least(0.25, None);
        table.push(
            Line::new(format!("apply {name} records, 1,000 a commit"), "/s", median(by_thousand))
                .against(raw)
                .goal(goal),
        );
        let rows = RECORDS / down.frames.len().max(1);
        table.push(
            Line::new(format!("apply {name} records, a frame a commit (about {rows})"), "/s", median(by_frame))
                .against(raw),
        );
        let (kept, json) = (kept / 1e3 / RECORDS as f64, json_bytes(&records) / 1e3 / RECORDS as f64);
        let line = Line::new(format!("kept on disk a received {name} record"), "KB", kept);
        table.push(line.against(json).goal(Goal::ratio_at_most(0.5, Some(0.36))));
        let merged: Vec<f64> = (0..setting.runs()).map(|_| merged_a_second(&down.ops)).collect::<Result<_>>()?;
        table.push(Line::new(format!("merge alone, {name} ops on nothing"), "/s", median(merged)));
        let again: Vec<f64> = (0..setting.runs()).map(|_| repeated_a_second(&down.ops)).collect::<Result<_>>()?;
        table.push(Line::new(format!("merge alone, {name} ops on the record they made"), "/s", median(again)));
    }
    Ok(())
}

/// Lets one gateway send the records to a hub, both in memory, and asks the hub what another would get.
fn frames_of(records: &[Sample]) -> Result<Down> {
    let mut hub = MemoryHub::default();
    let scopes = vec![Scope::root()];
    let mut author = MemoryGateway::default();
    let known = hub.enroll(scopes.clone(), Source::CLINIC, DeviceKey([1; 32]));
    let mut state = author.state()?;
    (state.device, state.origin, state.key, state.scopes) = (known.device, known.origin, known.key, known.scopes);
    author.set_state(&state)?;
    capture(&mut author, records)?;
    let mut link = Link { up_bytes: 16 << 20, ..Link::new()? };
    settle(&mut author, &mut hub, &mut link, NOW_MS, 100)?;
    let mut ops = Vec::new();
    for stream in Stream::ALL {
        ops.extend(author.own_ops(stream, Seq(0), records.len())?);
    }

    let identity = hub.enroll(scopes, Source::CLINIC, KEY);
    let mut reader = MemoryGateway::default();
    let mut state = reader.state()?;
    (state.device, state.origin, state.key) = (identity.device, identity.origin, identity.key.clone());
    reader.set_state(&state)?;
    let mut packer = Packer::new(Effort::Quick)?;
    let mut request = gateway::request(&mut reader, &mut packer, CLOCK, 0, 16 << 20)?.head;
    let mut frames = Vec::new();
    loop {
        let Opened::Ready(with) = open(&mut hub, request.clone(), NOW_MS)? else { anyhow::bail!("the hub refused") };
        let granted = grant(&mut hub, &with, NOW_MS)?;
        let Answer { head, frames: more, .. } = pull(&mut hub, &mut packer, &with.request, granted)?;
        for frame in more {
            let (inside, _) = split(&frame)?.context("a whole frame")?;
            let Payload::Rows(rows) = Payload::decode(&packer.unpack(inside)?)? else { anyhow::bail!("no rows") };
            frames.push((inside.to_vec(), rows.rows.len()));
        }
        if !head.more {
            break;
        }
        request.cursor = head.cursor;
    }
    let rows: usize = frames.iter().map(|(_, rows)| rows).sum();
    ensure!(
        rows == records.len() && ops.len() == records.len(),
        "{rows} rows and {} ops of {}",
        ops.len(),
        records.len()
    );
    Ok(Down { identity, frames, ops })
}

/// Integrates the frames, with at least `group` rows in each commit. Unpacking is timed too, as in an exchange.
fn applied_a_second(dir: &Path, down: &Down, group: usize) -> Result<f64> {
    let store = Store::open(dir, Options::default())?;
    let identity = down.identity.clone();
    store.blocking_write(move |tx| {
        let mut state = tx.state()?;
        (state.device, state.origin, state.key, state.scopes) =
            (identity.device, identity.origin, identity.key, identity.scopes);
        tx.set_state(&state)
    })?;
    let mut commits: Vec<Vec<Vec<u8>>> = Vec::new();
    let (mut waiting, mut rows) = (Vec::new(), 0);
    for (frame, count) in &down.frames {
        waiting.push(frame.clone());
        rows += count;
        if rows >= group {
            commits.push(std::mem::take(&mut waiting));
            rows = 0;
        }
    }
    commits.push(waiting);
    let mut packer = Packer::new(Effort::Quick)?;
    let (began, mut applied) = (Instant::now(), 0);
    for frames in commits {
        let work = move |tx: &mut agent::store::Tx<'_>| {
            let mut records = 0;
            for frame in &frames {
                if let Payload::Rows(rows) = Payload::decode(&packer.unpack(frame)?)? {
                    records += gateway::integrate_rows(tx, &rows)?.records;
                }
            }
            Ok::<_, Error>((packer, records))
        };
        let (back, records) = store.blocking_write(work)?;
        packer = back;
        applied += records;
    }
    let seconds = began.elapsed().as_secs_f64();
    ensure!(applied as usize == RECORDS, "{applied} records applied of {RECORDS}");
    Ok(RECORDS as f64 / seconds)
}

fn merged_a_second(ops: &[Op]) -> Result<f64> {
    let rules = sync_protocol::rules::Rules::default();
    let began = Instant::now();
    for (at, op) in ops.iter().enumerate() {
        let mut record = Record::default();
        merge::apply(&mut record, op, HubSeq(at as u64 + 1), rules.of(&op.key.record_type))?;
        std::hint::black_box(&record);
    }
    Ok(ops.len() as f64 / began.elapsed().as_secs_f64())
}

fn repeated_a_second(ops: &[Op]) -> Result<f64> {
    let rules = sync_protocol::rules::Rules::default();
    let mut records: Vec<(&RecordKey, Record)> = ops.iter().map(|op| (&op.key, Record::default())).collect();
    let mut seconds = 0.0;
    for _ in 0..2 {
        let began = Instant::now();
        for (at, (op, (key, record))) in ops.iter().zip(&mut records).enumerate() {
            merge::apply(record, op, HubSeq(at as u64 + 1), rules.of(&key.record_type))?;
        }
        seconds = began.elapsed().as_secs_f64();
    }
    Ok(ops.len() as f64 / seconds)
}
