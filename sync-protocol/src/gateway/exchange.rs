//! What a gateway says: the head of a request and the frames of ops behind it.

use std::io;

use super::{GatewayState, Store};
use crate::difference::{Encoder, pack};
use crate::frame::Packer;
use crate::id::{Seq, Stream};
use crate::limits::{FRAME_BYTES_MAX, FRAME_BYTES_TARGET, FRAME_ITEMS_MAX, FRAME_UNPACKED_BYTES_LIMIT, GAPS_MAX};
use crate::message::{About, Gap, Request, Slice, StreamHead};
use crate::payload::{Payload, Reach, Row, Rows};
use crate::record::Op;

/// A request that is ready to go.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The head.
    pub head: Request,
    /// Frames, urgent ones first.
    pub frames: Vec<Vec<u8>>,
    /// Ops in the frames.
    pub ops: usize,
}

/// How the wall clock of a gateway stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallClock {
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// How far it was ahead of the hub's at the last answer since the gateway started, seconds.
    pub ahead_seconds: Option<i64>,
}

/// Makes the next request. `up_bytes` bounds the frames, except that one frame goes in any case; `down_bytes` is what the
/// link carries in the time of one exchange.
///
/// # Errors
/// What the store reports.
pub fn request<S: Store>(
    store: &mut S,
    packer: &mut Packer,
    clock: WallClock,
    up_bytes: usize,
    down_bytes: u64,
) -> Result<Outgoing, S::Error>
where
    S::Error: From<io::Error>,
{
    let mut state = store.state()?;
    let rules = store.rules()?;
    let mut streams = Vec::new();
    for stream in Stream::ALL {
        let at = state.stream(stream);
        if at.last > Seq(0) {
            let oldest = if at.last > at.acked { store.oldest_ms(stream, at.acked)? } else { None };
            let age_ms = oldest.map_or(0, |ms| clock.now_ms.saturating_sub(u64::try_from(ms).unwrap_or(0)));
            let (chain, age_seconds) = (at.acked_chain, age_ms / 1000);
            streams.push(StreamHead { stream, acked: at.acked, chain, last: at.last, age_seconds });
        }
    }
    let slice = if state.recovers.is_some() { state.slice } else { Slice::default() };
    // What is offered is compared again once it has been joined.
    let repair = match state.repair_symbols.filter(|_| state.wanted.is_empty()) {
        Some(count) => {
            let mut items = store.items(&state.scopes)?;
            items.retain(|item| slice.holds(*item));
            let mut encoder = Encoder::new(u64::from(count), items);
            let symbols = encoder.symbols(count);
            Some(pack(&symbols, 0, encoder.item_count()))
        }
        None => None,
    };
    // Before it sends more it has to hear what arrived, or what time it is, or to show what the hub asked for.
    let sends_nothing = state.unsure || state.awaits_time || !state.wanted.is_empty();
    let mut head = Request {
        device: state.device,
        origin: state.origin,
        turn: state.turn,
        proof: state.key.proof(state.turn),
        epoch: state.epoch,
        cursor: state.cursor,
        streams,
        rules: rules.hash(),
        ahead_seconds: clock.ahead_seconds,
        budget_frames: down_bytes.div_ceil(FRAME_BYTES_MAX as u64),
        backfill: state.backfill,
        repair,
        pleas: store.pleas()?,
        about: match state.told {
            true => None,
            false => Some(About { view: state.view_hash(), ..store.about()? }),
        },
        repairs: state.repairs,
        bounds: state.open_bounds().copied().collect(),
        recovers: state.recovers,
        asks: sends_nothing,
        rescue: None,
        condition: store.condition(!state.told)?,
        gaps: Vec::new(),
        slice: state.recovers.map(|_| slice),
        complete: Some(state.complete).filter(|complete| *complete < state.cursor),
        erased: Some(state.erased).filter(|erased| !state.told || *erased > 0),
    };
    let (mut frames, mut ops) = (Vec::new(), 0);
    if !sends_nothing {
        let before = state.streams;
        push_frames(store, packer, &mut state, up_bytes, &mut frames, &mut ops, &mut head.gaps)?;
        if state.streams != before {
            store.set_state(&state)?;
        }
    }
    if !state.unsure {
        offer_frames(store, packer, &state, up_bytes, &mut frames)?;
    }
    Ok(Outgoing { head, frames, ops })
}

fn push_frames<S: Store>(
    store: &mut S,
    packer: &mut Packer,
    state: &mut GatewayState,
    up_bytes: usize,
    frames: &mut Vec<Vec<u8>>,
    ops: &mut usize,
    gaps: &mut Vec<Gap>,
) -> Result<(), S::Error>
where
    S::Error: From<io::Error>,
{
    let mut bytes = 0;
    let mut guess = 32;
    for stream in Stream::ALL {
        let mut after = state.stream(stream).acked;
        // One that says what box it is may be a copy of another: it shows of each stream how far both have the same.
        let mut must_show = !state.told;
        while bytes < up_bytes || frames.is_empty() || must_show {
            must_show = false;
            let mut tail = store.own_ops(stream, after, (guess * 2).min(FRAME_ITEMS_MAX))?;
            // A frame numbers its ops from the first; what lies behind a damaged one goes into the next.
            let first = tail.first().map_or(0, |op| op.stamp.dot.seq.0);
            let contiguous = tail.iter().zip(first..).take_while(|(op, seq)| op.stamp.dot.seq.0 == *seq).count();
            tail.truncate(contiguous);
            let at = state.stream_mut(stream);
            if after == at.acked && at.last > at.acked {
                at.barren = if tail.is_empty() { at.last } else { Seq(0) };
            }
            if tail.is_empty() || gaps.len() >= GAPS_MAX {
                break;
            }
            if first > after.next().0 {
                // What was forgotten on purpose, or erased, is no loss; the hub goes on behind it.
                let (upto, chain) = (Seq(first - 1), store.chain_before(stream, Seq(first))?);
                gaps.extend(chain.map(|chain| Gap { stream, upto, chain }));
            }
            let (frame, taken) = cut(packer, &tail, guess)?;
            guess = next_guess(taken, frame.len());
            bytes += frame.len();
            *ops += taken;
            // By the op and not by counting: a damaged op may be missing in between, which the hub will see as a gap.
            after = tail.get(taken.saturating_sub(1)).map_or(after, |op| op.stamp.dot.seq);
            frames.push(frame);
            let at = state.stream_mut(stream);
            at.sent = at.sent.max(after);
        }
    }
    Ok(())
}

/// Records that the hub asked for, whole. It asks for few enough at a time to fit one exchange.
fn offer_frames<S: Store>(
    store: &mut S,
    packer: &mut Packer,
    state: &GatewayState,
    up_bytes: usize,
    frames: &mut Vec<Vec<u8>>,
) -> Result<(), S::Error>
where
    S::Error: From<io::Error>,
{
    if state.wanted.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::new();
    for key in store.keys_of_items(&state.wanted)? {
        let pending = store.pending(&key)?;
        if let Some((record, whole)) = store.held(&key)?.and_then(|held| held.offered(state, &pending)) {
            rows.push(Row::Cells { key, record, whole });
        }
    }
    let (mut guess, mut bytes) = (16, 0);
    // What does not go now is found by the next comparison.
    while !rows.is_empty() && (bytes < up_bytes || bytes == 0) {
        let (frame, taken) = cut_frame(packer, rows.len().min(guess), |count| {
            Payload::Rows(Rows { reaches: Reach::default(), rows: rows.iter().take(count).cloned().collect() })
        })?;
        guess = next_guess(taken, frame.len());
        rows.drain(..taken);
        bytes += frame.len();
        frames.push(frame);
    }
    Ok(())
}

/// One frame of the first `guess` items or fewer, so that it stays within the size of a frame, and how many it took.
pub(super) fn cut(packer: &mut Packer, ops: &[Op], guess: usize) -> io::Result<(Vec<u8>, usize)> {
    cut_frame(packer, ops.len().min(guess), |count| Payload::Ops(ops.iter().take(count).cloned().collect()))
}

/// Packs `count` items, and fewer while the frame is too large. One item goes whatever its size.
pub(crate) fn cut_frame(
    packer: &mut Packer,
    count: usize,
    payload: impl Fn(usize) -> Payload,
) -> io::Result<(Vec<u8>, usize)> {
    let mut count = count.max(1);
    loop {
        let payload = payload(count);
        let unpacked = payload.encode();
        let frame = packer.pack(&unpacked)?;
        // Some headroom: the reader counts ids and authors too.
        let is_readable = unpacked.len().max(payload.weight()) <= FRAME_UNPACKED_BYTES_LIMIT / 2;
        if count == 1 || (frame.len() <= FRAME_BYTES_MAX && is_readable) {
            return Ok((frame, count));
        }
        let fits = if is_readable { count * FRAME_BYTES_TARGET / frame.len() } else { count / 2 };
        count = fits.clamp(1, count - 1);
    }
}

/// How many items the next frame should take, from what the last one came to.
pub(crate) fn next_guess(taken: usize, frame_bytes: usize) -> usize {
    let fits = taken * FRAME_BYTES_TARGET / frame_bytes.max(1);
    fits.clamp(1, FRAME_ITEMS_MAX).min(taken.saturating_mul(4))
}
