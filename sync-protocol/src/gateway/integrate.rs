//! What a gateway does with an answer: acknowledgements first, then the rows, frame by frame.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::adopt::{adopt_origin, rebase};
use super::erase;
use super::heard::{acknowledge, is_for_another, take_notice};
use super::restamp::{hear_time, latest};
use super::{GatewayState, Held, Store, show};
use crate::id::{Dot, FieldName, HubSeq, RecordKey};
use crate::limits::SYMBOLS_FIRST;
use crate::merge::{Superseded, Why};
use crate::message::{Request, Response, Status, View};
use crate::payload::{Row, Rows};
use crate::record::{Cell, Record, State};
use crate::rules::Rules;

/// Records out of view looked at in one go.
const OUTSIDE_STEP: usize = 1_000;

/// What an answer brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Integrated {
    /// Own ops that the hub has now.
    pub acknowledged: u64,
    /// Records that changed here.
    pub records: u64,
    /// Records that left.
    pub evicted: u64,
    /// The answer acknowledges what another copy of this card wrote, or is for who this gateway was before. Nothing else of it may be taken, neither its frames nor
    /// its end: what this gateway has to show goes with the next request, and the hub tells the two apart.
    pub is_for_another: bool,
}

/// Integrates the head of a response. `request` is what it answers.
///
/// # Errors
/// What the store reports; the caller rolls back then.
pub fn integrate_head<S: Store>(store: &mut S, request: &Request, response: &Response) -> Result<Integrated, S::Error> {
    if matches!(response.status, Status::Denied | Status::Upgrade) {
        // Nobody read the request, so nothing was heard of what arrived; nor does anybody vouch for what time it is.
        return Ok(Integrated::default());
    }
    let state = store.state()?;
    let is_own = state.origin == request.origin && state.key.proves(request.turn, &request.proof);
    if state.device != request.device || !is_own {
        // Somebody enrolled it anew meanwhile: this is for who it was.
        return Ok(Integrated { is_for_another: true, ..Integrated::default() });
    }
    let result = take_head(store, request, response)?;
    hear_time(store, response.hub_ms)?;
    Ok(result)
}

fn take_head<S: Store>(store: &mut S, request: &Request, response: &Response) -> Result<Integrated, S::Error> {
    let mut state = store.state()?;
    let mut result = Integrated::default();
    state.unsure = false;
    if let Some(turn) = response.turn {
        state.turn = turn;
    }
    let rules = store.rules()?;
    match response.status {
        Status::Ok if is_for_another(store, &state, &response.acks)? => {
            // Offering comes before showing its ops.
            state.wanted.clear();
            store.set_state(&state)?;
            return Ok(Integrated { is_for_another: true, ..result });
        }
        Status::Ok => state.is_revoked = false,
        Status::Revoked => {
            state.is_revoked = true;
            for ack in &response.acks {
                result.acknowledged += acknowledge(store, &mut state, ack, &rules, latest(response.hub_ms))?;
            }
            store.set_state(&state)?;
            return Ok(result);
        }
        Status::Compared | Status::NewOrigin => {
            if let Some(device) = response.device {
                (state.device, state.key, state.turn) = (device, state.key.part(device.0), 0);
            }
            state.told = false;
            // Nobody takes what was asked of it before who it is has been settled, and offering comes before showing its ops.
            state.wanted.clear();
            for ack in &response.acks {
                result.acknowledged += acknowledge(store, &mut state, ack, &rules, latest(response.hub_ms))?;
            }
            store.set_state(&state)?;
            if let Some(origin) = response.origin {
                adopt_origin(store, origin)?;
            }
            return Ok(result);
        }
        Status::Rebase => {
            rebase(store, state, response)?;
            return Ok(result);
        }
        Status::Denied | Status::Upgrade => return Ok(result),
    }
    if request.about.is_some() {
        state.told = true;
    }
    if response.takes_gaps {
        store.gaps_are_taken()?;
    }
    if let Some(condition) = request.condition {
        store.condition_told(condition)?;
    }
    store.clear_pleas(&request.pleas)?;
    if let Some(text) = &response.rules {
        // The hub checks a document before it publishes it; one that a newer hub understands and we do not is left out,
        // the hub's merge being the one that counts.
        if let Ok(rules) = Rules::parse(text) {
            store.set_rules(Arc::new(rules))?;
        }
    }
    let rules = store.rules()?;
    for ack in &response.acks {
        result.acknowledged += acknowledge(store, &mut state, ack, &rules, latest(response.hub_ms))?;
    }
    result.evicted += erase::carry_out(store, &mut state, &response.erased)?;
    if let Some(view) = &response.view {
        take_view(store, &mut state, view, &mut result)?;
    }
    if !response.drop.is_empty() {
        for key in store.keys_of_items(&response.drop)? {
            drop_unknown(store, &key, &rules, &mut result)?;
        }
    }
    state.wanted.clone_from(&response.want);
    state.slice = response.slice.unwrap_or(state.slice);
    match (response.symbols, request.repair.is_some()) {
        (Some(more), true) => state.repair_symbols = Some(more),
        // The hub has not compared anything this time; it may have said before how many it will take.
        (Some(more), false) => state.repair_symbols = Some(state.repair_symbols.unwrap_or(0).max(more)),
        (None, true) => {
            state.repair_symbols = None;
            // What a restored hub makes different is no bug of anybody's.
            state.repairs += u64::from(state.recovers.is_none());
            state.recovers = None;
        }
        (None, false) => {}
    }
    store.set_state(&state)?;
    Ok(result)
}

/// Ends a response whose frames have all been applied: the cursor moves to where the head said, and the digests are compared.
///
/// # Errors
/// What the store reports.
pub fn finish<S: Store>(store: &mut S, request: &Request, response: &Response) -> Result<bool, S::Error> {
    let mut state = store.state()?;
    if response.status != Status::Ok {
        return Ok(false);
    }
    state.cursor = state.cursor.max(response.cursor);
    if !response.more {
        let is_idle = response.acks.is_empty() && state.complete == state.cursor;
        state.complete = state.cursor;
        if !is_idle {
            drop_parts(store, &state)?;
        }
    }
    if !response.more && state.backfill.is_some() && request.backfill.is_some() {
        state.backfill = None;
    }
    let mut agrees = true;
    if let Some(digest) = response.digest {
        agrees = store.digest(&state.scopes)? == digest;
        if !agrees && state.repair_symbols.is_none() {
            state.repair_symbols = Some(SYMBOLS_FIRST as u32);
            // What differs may be the view: a hub that was put back can have lost one that it gave.
            state.told = false;
        }
        let is_busy =
            response.more || state.backfill.is_some() || state.repair_symbols.is_some() || state.recovers.is_some();
        if agrees && !is_busy {
            give_up_awaited(store)?;
        }
    }
    store.set_state(&state)?;
    Ok(agrees)
}

/// Both have the same, so what is still awaited will not come: it is not in view any more, or the hub has it no longer.
fn give_up_awaited<S: Store>(store: &mut S) -> Result<(), S::Error> {
    loop {
        let keys = store.awaited(OUTSIDE_STEP)?;
        keys.iter().try_for_each(|key| store.forget(key))?;
        if keys.len() < OUTSIDE_STEP {
            return Ok(());
        }
    }
}

/// Own writes to records that are not held here were confirmed. Of those that are in view the rest has come by now; the others
/// are no part of it, also where the hub has nothing to say because the write lost there.
fn drop_parts<S: Store>(store: &mut S, state: &GatewayState) -> Result<(), S::Error> {
    loop {
        let keys = store.outside(&state.scopes, OUTSIDE_STEP)?;
        for key in &keys {
            evict(store, key, state)?;
        }
        if keys.len() < OUTSIDE_STEP {
            return Ok(());
        }
    }
}

/// Integrates the rows of one frame, and moves the cursor with them.
///
/// # Errors
/// What the store reports; the caller rolls back then.
pub fn integrate_rows<S: Store>(store: &mut S, rows: &Rows) -> Result<Integrated, S::Error> {
    let rules = store.rules()?;
    let mut result = Integrated::default();
    let mut state = store.state()?;
    if is_late(&state, rows) {
        return Ok(result);
    }
    for row in &rows.rows {
        match row {
            Row::Cells { key, record, whole } => {
                result.records += 1;
                take_cells(store, &mut state, key, record, *whole, &rules)?;
            }
            Row::Evict(key) => result.evicted += u64::from(evict(store, key, &state)?),
            Row::Notice(notice) => take_notice(store, notice, &rules)?,
        }
    }
    state.cursor = state.cursor.max(rows.reaches.cursor);
    if let (Some(at), Some(reach)) = (state.backfill, rows.reaches.backfill) {
        state.backfill = Some(at.max(reach));
    }
    store.set_state(&state)?;
    Ok(result)
}

/// A frame that comes twice, or after newer ones, must not take a record back. Repairs say no cursor and are always taken.
fn is_late(state: &GatewayState, rows: &Rows) -> bool {
    let reach = rows.reaches;
    reach.backfill.is_none() && reach.cursor != HubSeq::NONE && reach.cursor < state.cursor
}

fn take_cells<S: Store>(
    store: &mut S,
    state: &mut GatewayState,
    key: &RecordKey,
    record: &Record,
    whole: bool,
    rules: &Rules,
) -> Result<(), S::Error> {
    for stamp in record.cells.values().flat_map(Cell::stamps) {
        state.hear(stamp.hlc);
    }
    let held = store.held(key)?.unwrap_or_default();
    // With where it belongs the hub sends all that it has of a record.
    if held.awaits_whole && !whole && !record.is_placed() {
        return Ok(());
    }
    let before = held.confirmed.unwrap_or_default();
    let mut confirmed = if whole { Record::default() } else { before.clone() };
    let mut superseded = Vec::new();
    for (name, cell) in &record.cells {
        let known = before.cells.get(name);
        superseded.extend(known.map(|known| replaced(name, known, cell)).unwrap_or_default());
        confirmed.cells.insert(name.clone(), cell.clone());
    }
    let pending = store.pending(key)?;
    let (visible, lost) = show(Some(&confirmed), &pending, rules);
    superseded.extend(lost.into_iter().filter(|s| s.why == Why::Rule));
    if !superseded.is_empty() {
        store.remember(key, &superseded)?;
    }
    let held = Held { confirmed: Some(confirmed), visible, is_pending: !pending.is_empty(), ..Held::default() };
    store.keep(key, &held)
}

/// Values of a cell that the hub's version of it no longer has.
fn replaced(name: &FieldName, known: &Cell, new: &Cell) -> Vec<Superseded> {
    let (State::Register(old), Some(by)) = (&known.state, new.stamp()) else { return Vec::new() };
    let stands: BTreeSet<Dot> = new.stamps().into_iter().map(|s| s.dot).collect();
    old.iter()
        .filter(|entry| !stands.contains(&entry.stamp.dot))
        .map(|entry| Superseded { field: name.clone(), entry: entry.clone(), by: Arc::clone(by), why: Why::Seen })
        .collect()
}

/// A record leaves, unless own writes on it have yet to be sent; then it leaves when they are acknowledged.
fn evict<S: Store>(store: &mut S, key: &RecordKey, state: &GatewayState) -> Result<bool, S::Error> {
    match store.held(key)? {
        Some(held) if !held.is_pending => store.forget(key).map(|()| true),
        Some(held) if held.awaits_whole => {
            // No more of it comes, and it goes with the last of them.
            let (rules, pending) = (store.rules()?, store.pending(key)?);
            let held = Held { awaits_whole: false, ..held };
            store.keep(key, &held.with_pending(&pending, &rules)).map(|()| false)
        }
        Some(held) if held.confirmed.is_some() && held.leaving.is_none() => {
            let leaving = Some(held.seen(state));
            store.keep(key, &Held { leaving, ..held }).map(|()| false)
        }
        _ => Ok(false),
    }
}

/// A record leaves because it is outside of the view, if that is known: a part of a record, of which the rest has yet to come,
/// does not say where it belongs.
pub(super) fn leave<S: Store>(store: &mut S, key: &RecordKey, state: &GatewayState) -> Result<bool, S::Error> {
    let is_known = |held: Held| held.awaits_whole || held.confirmed.is_some_and(|record| record.is_placed());
    match store.held(key)?.is_some_and(is_known) {
        true => evict(store, key, state),
        false => Ok(false),
    }
}

/// Shows a record anew after its pending ops changed.
pub(super) fn refresh<S: Store>(store: &mut S, key: &RecordKey, rules: &Rules) -> Result<(), S::Error> {
    let pending = store.pending(key)?;
    let Some(held) = store.held(key)? else {
        return match pending.as_slice() {
            [] => Ok(()),
            _ => store.keep(key, &Held::default().with_pending(&pending, rules)),
        };
    };
    let stays = held.awaits_whole || held.confirmed.is_some() && held.leaving.is_none();
    // One that cannot be read stays where it is, in case somebody can read the card; but not out of view.
    let may_be_read = held.is_unreadable() && held.leaving.is_none();
    match pending.is_empty() && !stays && !may_be_read {
        true => store.forget(key),
        false => store.keep(key, &held.with_pending(&pending, rules)),
    }
}

fn take_view<S: Store>(
    store: &mut S,
    state: &mut GatewayState,
    view: &View,
    result: &mut Integrated,
) -> Result<(), S::Error> {
    state.scopes = view.scopes.clone();
    state.source = view.source;
    if view.backfill {
        state.backfill = Some(HubSeq::NONE);
    }
    loop {
        let left = store.outside(&state.scopes, OUTSIDE_STEP)?;
        let mut gone = 0;
        for key in &left {
            gone += u64::from(leave(store, key, state)?);
        }
        result.evicted += gone;
        if gone == 0 {
            return Ok(());
        }
    }
}

/// The hub does not have a record that is confirmed here. What is confirmed and covered by the cursor but absent at the hub
/// is not ours to keep; own unsent writes on it stay.
fn drop_unknown<S: Store>(
    store: &mut S,
    key: &RecordKey,
    rules: &Rules,
    result: &mut Integrated,
) -> Result<(), S::Error> {
    let Some(held) = store.held(key)? else { return Ok(()) };
    match held.is_pending {
        false => {
            result.evicted += 1;
            store.forget(key)
        }
        true => {
            store.keep(key, &Held { confirmed: None, awaits_whole: false, ..held })?;
            refresh(store, key, rules)
        }
    }
}
