//! Whether a store on disk holds, as a whole, what its witness in memory holds.

use std::collections::{BTreeMap, BTreeSet};

use agent::error::Error;
use agent::store::{Entry, OpState, Status};
use rusqlite::Connection;
use sync_protocol::gateway::{Fate, Store as _};
use sync_protocol::hub::Snapshot as _;
use sync_protocol::id::{Device, Dot, Scope, Stream};
use sync_protocol::memory::{MemoryGateway, MemoryHub};

use super::card::Card;
use super::fleet;
use super::in_step::nameless;
use super::shelf::Shelf;

/// More than any schedule has.
const ALL: usize = 1_000;

/// In what they differ first.
pub(super) fn gateway_differs(card: &mut Card, memory: &MemoryGateway) -> Option<String> {
    let mut memory = memory.clone();
    // The records of the fleet, so that none is there that should not be.
    let mut keys: BTreeSet<_> = (0..fleet::KEYS.len()).map(fleet::key).collect();
    keys.extend(memory.records().map(|(key, _)| key.clone()));
    let look = |tx: &mut agent::store::Tx<'_>| -> Result<Option<String>, Error> {
        let state = tx.state()?;
        if state != memory.state().unwrap() {
            return Ok(Some(format!("sync state {state:?} instead of {:?}", memory.state().unwrap())));
        }
        if tx.rules()?.hash() != memory.rules().unwrap().hash() {
            return Ok(Some("rules".to_owned()));
        }
        for key in &keys {
            if nameless(tx.held(key)?) != nameless(memory.held(key).unwrap())
                || tx.pending(key)? != memory.pending(key).unwrap()
            {
                return Ok(Some(format!("{key}")));
            }
            let entries = tx.reader()?.history(key, 0, ALL)?;
            let own = entries.into_iter().filter_map(|entry| match entry {
                Entry::Own(own) => Some((own.op, own.fate)),
                _ => None,
            });
            let is: BTreeMap<_, _> = own.map(|(op, fate)| (op.stamp.dot, (fate, op.changes))).collect();
            let expected = memory.own().filter(|(op, _)| op.key == *key);
            let expected = expected.map(|(op, fate)| (op.stamp.dot, (state_of(fate), op.changes.clone()))).collect();
            if is != expected {
                return Ok(Some(format!("the history of {key}: {is:?} instead of {expected:?}")));
            }
        }
        for stream in Stream::ALL {
            let first = sync_protocol::id::Seq(0);
            if tx.own_ops(stream, first, ALL)? != memory.own_ops(stream, first, ALL).unwrap() {
                return Ok(Some(format!("the outbox of stream {}", stream.number())));
            }
        }
        for scopes in [vec![Scope::root()], state.scopes.clone()] {
            if tx.digest(&scopes)? != memory.digest(&scopes).unwrap() {
                return Ok(Some("a digest".to_owned()));
            }
        }
        Ok(None)
    };
    let differs = card.store().write(look).unwrap();
    card.store().commit().unwrap();
    differs
}

fn state_of(fate: Option<&Fate>) -> OpState {
    match fate {
        None | Some(Fate::Unsent) => OpState::Pending,
        Some(Fate::Confirmed(_)) => OpState::Confirmed,
        Some(Fate::Parked(_)) => OpState::Parked,
        Some(Fate::Discarded(_)) => OpState::Discarded,
    }
}

/// What SQLite's own check finds wrong with a gateway's database.
pub(super) fn unsound(card: &mut Card, memory: &MemoryGateway) -> Vec<String> {
    let mut faults = card.store().read(|reader| reader.quick_check()).unwrap();
    // A record that cannot be read counts as damaged until it has come again.
    let damaged = memory.records().filter(|(_, held)| held.is_unreadable()).count();
    let is_record = |fault: &String| fault.starts_with("record row");
    if faults.iter().filter(|fault| is_record(fault)).count() == damaged {
        faults.retain(|fault| !is_record(fault));
    }
    faults
}

/// In what a status differs from what is on the card. Numbers that were skipped count as unsent.
pub(super) fn status_differs(card: &mut Card, memory: &MemoryGateway, may_skip: bool) -> Option<String> {
    let status: Status = card.store().read(|reader| -> Result<_, Error> { reader.status() }).unwrap();
    let mut memory = memory.clone();
    let state = memory.state().unwrap();
    let is = (status.parked, status.captured, &status.state);
    let captured = state.streams.iter().map(|stream| stream.last.0).sum();
    let expected = (memory.parked().len() as u64, captured, &state);
    if is != expected {
        return Some(format!("the status says {is:?} instead of {expected:?}"));
    }
    for at in status.streams {
        let oldest_ms = memory.oldest_ms(at.stream, state.stream(at.stream).acked).unwrap();
        let is_tail = |dot: &Dot| {
            (dot.origin, dot.stream) == (state.origin, at.stream) && dot.seq > state.stream(at.stream).acked
        };
        let kept = memory.own().filter(|(op, _)| is_tail(&op.stamp.dot)).count();
        let unsent = (kept + memory.forgotten().filter(is_tail).count()) as u64;
        let skips = may_skip && 0 < unsent && unsent < at.unsent;
        if at.oldest_ms != oldest_ms || (at.unsent != unsent && !skips) {
            return Some(format!("stream {}: the status says {at:?}, {unsent} are unsent", at.stream.number()));
        }
    }
    None
}

/// In what the hub's store and its witness differ first.
pub(super) fn hub_differs(shelf: &mut Shelf, memory: &MemoryHub) -> Option<String> {
    let beside = Connection::open(shelf.database()).unwrap();
    let count = |sql: &str| beside.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as usize;
    let counts = (count("SELECT count(*) FROM history"), count("SELECT count(*) FROM records"));
    let expected = (memory.history().count(), memory.records().count());
    if counts != expected {
        return Some(format!("{counts:?} ops and records instead of {expected:?}"));
    }
    let replaced = replaced(&beside);
    let known = |(key, lost): &(sync_protocol::id::RecordKey, sync_protocol::merge::Superseded)| {
        let dot = lost.entry.stamp.dot;
        let place = (dot.origin.0, dot.stream.number(), dot.seq.0);
        (key.record_type.to_string(), key.id.to_string(), lost.field.to_string(), place)
    };
    if replaced != memory.replaced().iter().map(known).collect() {
        return Some("what was replaced".to_owned());
    }
    if count("SELECT count(*) FROM history WHERE applied <> hseq") < memory.quarantine().len() {
        return Some("what is in quarantine".to_owned());
    }
    drop(beside);
    let mut memory = memory.clone();
    let look = |tx: &mut server_stub::Tx<'_>| -> Result<Option<String>, server_stub::StoreError> {
        if (tx.head()?, tx.epoch()?) != (memory.head().unwrap(), memory.epoch().unwrap()) {
            return Ok(Some("head or epoch".to_owned()));
        }
        let dots: Vec<_> = memory.history().map(|op| op.stamp.dot).collect();
        for dot in dots {
            let is = (tx.chain_at(dot)?, tx.mark(dot.origin, dot.stream)?);
            let mark = memory.mark(dot.origin, dot.stream).unwrap();
            let expected = (memory.chain_at(dot).unwrap(), mark);
            let device = (tx.device_of(dot.origin)?, memory.device_of(dot.origin).unwrap());
            if is != expected || device.0 != device.1 {
                return Ok(Some(format!("op {dot:?}: {is:?} {:?} instead of {expected:?} {:?}", device.0, device.1)));
            }
        }
        for device in (1..).map(Device) {
            let (is, expected) = (tx.gateway(device)?, memory.gateway(device).unwrap());
            if is != expected {
                return Ok(Some(format!("{is:?} instead of {expected:?}")));
            }
            if is.is_none() {
                break;
            }
        }
        for (key, record) in memory.records() {
            if tx.record(key)?.as_ref() != Some(record) {
                return Ok(Some(format!("{key}")));
            }
        }
        let scopes = [Scope::root()];
        let held = tx.all_held()? == memory.all_held().unwrap();
        let digest = tx.digest(&scopes)? == memory.digest(&scopes).unwrap();
        Ok((!held || !digest).then(|| "quarantine or digest".to_owned()))
    };
    shelf.store().read(0, look).unwrap()
}

type Replaced = BTreeSet<(String, String, String, (u32, u8, u64))>;

fn replaced(db: &Connection) -> Replaced {
    let mut select = db.prepare("SELECT type, id, field, origin, stream, seq FROM superseded").unwrap();
    let read = |row: &rusqlite::Row<'_>| {
        let place = (row.get(3)?, row.get(4)?, row.get::<_, i64>(5)? as u64);
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, place))
    };
    select.query_map([], read).unwrap().collect::<Result<_, _>>().unwrap()
}

/// What SQLite's own check finds wrong with the hub's database.
pub(super) fn hub_unsound(shelf: &Shelf) -> String {
    let db = Connection::open(shelf.database()).unwrap();
    db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).unwrap()
}
