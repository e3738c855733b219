//! What a world comes to once accidents end: everybody syncs in turn until nobody has news. No person does anything.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::json;
use sync_protocol::edit::render;
use sync_protocol::gateway::{GatewayState, Store as _};
use sync_protocol::hub::Snapshot as _;
use sync_protocol::id::HubSeq;
use sync_protocol::memory::{MemoryGateway, MemoryHub};
use sync_protocol::message::Status;
use sync_protocol::record::Op;

use super::link;
use super::world::{Site, World, ids, key};

/// Rounds in which everybody must have come to rest.
const ROUNDS_MAX: usize = 8;
/// Rounds in which everybody has been noticed.
const ROUNDS_MIN: usize = 3;

/// What holds at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Rest {
    /// Nobody was shut out, so that no person was needed.
    pub(super) is_let_in: bool,
    /// The core could not go on.
    pub(super) has_panicked: bool,
    /// Where no card and no hub was exchanged, all are still what they were enrolled as.
    pub(super) keeps_names: bool,
    /// It came to rest.
    pub(super) is_quiet: bool,
    /// Gateways and hub hold the same, and their digests agree.
    pub(super) is_equal: bool,
    /// Every write that arrived counts once, and every acknowledged one arrived.
    pub(super) is_exact: bool,
    /// Each box has an identity of its own.
    pub(super) is_told_apart: bool,
}

impl Rest {
    /// Ends the accidents of a world, and looks at what becomes of it.
    pub(super) fn of(world: &World) -> Rest {
        let come = catch_unwind(AssertUnwindSafe(|| Rest::come_to(world)));
        let nothing = Rest {
            is_let_in: true,
            has_panicked: true,
            keeps_names: true,
            is_quiet: true,
            is_equal: true,
            is_exact: true,
            is_told_apart: true,
        };
        come.unwrap_or(nothing)
    }

    fn come_to(world: &World) -> Rest {
        let mut hub = world.hub.value.as_ref().clone();
        let mut sites: Vec<Site> = world.sites.iter().map(|site| site.value.as_ref().clone()).collect();
        let (mut is_let_in, mut is_quiet) = (true, false);
        for round in 1..=ROUNDS_MAX {
            let before = standings(&mut hub, &mut sites, world.setting.has_prints);
            let mut has_end = true;
            for site in &mut sites {
                let ended = link::sync(site, &mut hub);
                is_let_in &= ended != Some(Status::Denied);
                has_end &= ended == Some(Status::Ok);
            }
            // Two that never write are told apart when each has spoken twice.
            if round >= ROUNDS_MIN && has_end && standings(&mut hub, &mut sites, world.setting.has_prints) == before {
                is_quiet = true;
                break;
            }
        }
        let names: Vec<_> = sites.iter_mut().map(|site| site.card.state().unwrap()).collect();
        let keeps_names = world.was_harmed || names.iter().all(|s| s.device.0 == s.origin.0 && s.origin.0 <= 2);
        let arrived = ids(hub.history());
        let is_once = hub.history().count() == arrived.count_ones() as usize;
        let is_exact = is_once && counts_once(&hub, arrived, world);
        let is_equal = sites.iter_mut().all(|site| is_equal(&mut site.card, &mut hub));
        let is_told_apart = are_apart(&mut sites, world.setting.has_prints);
        Rest { is_let_in, has_panicked: false, keeps_names, is_quiet, is_equal, is_exact, is_told_apart }
    }
}

type Standing = (HubSeq, u64, u64, u32, u32);

/// Where everybody stands. Two boxes that cannot be told apart share a device, and change their origin with each other's
/// exchanges for ever: that is not news to anybody.
fn standings(hub: &mut MemoryHub, sites: &mut [Site], has_prints: bool) -> (HubSeq, Vec<Standing>) {
    let of = |site: &mut Site| {
        let state = site.card.state().unwrap();
        let origin = if has_prints { state.origin.0 } else { 0 };
        (state.cursor, state.unsent(), state.repairs, state.device.0, origin)
    };
    (hub.head().unwrap(), sites.iter_mut().map(of).collect())
}

fn are_apart(sites: &mut [Site], has_prints: bool) -> bool {
    let states: Vec<GatewayState> = sites.iter_mut().map(|site| site.card.state().unwrap()).collect();
    let origins: BTreeSet<_> = states.iter().map(|state| state.origin).collect();
    let devices: BTreeSet<_> = states.iter().map(|state| state.device).collect();
    origins.len() == states.len() && (devices.len() == states.len() || !has_prints)
}

fn is_equal(card: &mut MemoryGateway, hub: &mut MemoryHub) -> bool {
    let state = card.state().unwrap();
    let is_same = |key, record| {
        card.record(key).is_some_and(|held| held.confirmed.as_ref() == Some(record) && held.visible == *record)
    };
    let is_held = hub.records().all(|(key, record)| is_same(key, record));
    let digests = card.digest(&state.scopes).unwrap() == hub.digest(&state.scopes).unwrap();
    is_held && digests && card.records().count() == hub.records().count() && state.unsent() == 0
}

/// Each acknowledged write is in each list exactly once and counts once, and its name stands or is in the history. A hub that
/// was put back may have some by what others had seen of them, instead of by their ops.
fn counts_once(hub: &MemoryHub, arrived: u32, world: &World) -> bool {
    let Some((_, record)) = hub.records().find(|(k, _)| **k == key()) else { return world.kept == 0 };
    let body = render(record);
    let listed = |name: &str| {
        let list = body.get(name).and_then(|list| list.as_array()).cloned().unwrap_or_default();
        let ids = list.iter().filter_map(serde_json::Value::as_u64);
        ids.fold((0_u32, 0), |(all, count), id| (all | 1 << id, count + 1))
    };
    let ((notes, count), (tags, _)) = (listed("notes"), listed("tags"));
    let is_whole = (arrived | world.kept) & !notes == 0 && (world.was_restored || arrived == notes);
    let is_once = notes.count_ones() == count && tags == notes && body.get("given") == Some(&json!(count));
    let stands = |op: &&Op| record.cells.values().any(|cell| cell.stamps().iter().any(|s| s.dot == op.stamp.dot));
    let replaced = |op: &&Op| hub.replaced().iter().any(|(_, lost)| lost.entry.stamp.dot == op.stamp.dot);
    is_whole && is_once && hub.history().all(|op| stands(&op) || replaced(&op))
}
