//! Bodies on their way: cut, with a flipped bit, and held against the limits of the protocol.

use sync_protocol::frame::{Effort, Packer, split};
use sync_protocol::id::Stream;
use sync_protocol::limits::{FRAME_BYTES_MAX, FRAME_ITEMS_MAX, HEAD_BYTES_MAX, MESSAGE_BYTES_MAX};
use sync_protocol::message::{Request, split_head};
use sync_protocol::payload::Payload;

use super::event::Shape;
use super::{Failure, Kind, On};

/// What worlds are made of, one after the other: where their stores are, and the compressors of all gateways and of the hub.
/// Those remember nothing; making them takes longer than a schedule.
#[derive(Debug)]
pub struct Packers {
    pub(super) up: Packer,
    pub(super) down: Packer,
    pub(super) on: On,
}

impl Packers {
    /// For worlds whose stores are there.
    pub fn on(on: On) -> Packers {
        Packers { on, ..Packers::default() }
    }
}

impl Default for Packers {
    fn default() -> Self {
        let packer = || Packer::new(Effort::Quick).expect("memory for the compressor");
        Packers { up: packer(), down: packer(), on: On::Memory }
    }
}

/// A body as it arrives, and whether the connection ended in the middle of it.
pub(super) fn arrive(body: &[u8], shape: Shape) -> (Vec<u8>, bool) {
    let frames = split_head(body).ok().flatten().map_or(body.len(), |(_, at)| at);
    match shape {
        Shape::Whole => (body.to_vec(), false),
        Shape::Torn(at) => {
            let len = body.len() * usize::from(at % 1000) / 1000;
            (body[..len].to_vec(), true)
        }
        Shape::Flipped(at) => {
            let mut bytes = body.to_vec();
            let place = frames + (body.len() - frames) * usize::from(at % 1000) / 1000;
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= 1 << (at % 8);
            }
            (bytes, false)
        }
    }
}

/// The whole frames behind a head, and whether nothing is left behind them.
pub(super) fn frames(mut bytes: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut frames = Vec::new();
    while let Ok(Some((inside, taken))) = split(bytes) {
        frames.push(inside.to_vec());
        bytes = &bytes[taken..];
    }
    (frames, bytes.is_empty())
}

/// Holds a body against the limits. `budget` is what its frames were to come to; the frame that reaches it is finished.
pub(super) fn is_bounded(packer: &mut Packer, body: &[u8], budget: Option<usize>) -> Result<(), Failure> {
    let too_large = |what: String| Err(Failure::new(Kind::Bounds, what));
    let Ok(Some((head, at))) = split_head(body) else { return too_large("the head cannot be split off".to_owned()) };
    if head.len() > HEAD_BYTES_MAX || body.len() > MESSAGE_BYTES_MAX {
        return too_large(format!("a head of {} bytes in a body of {}", head.len(), body.len()));
    }
    // Who tells what box it is shows a frame of each stream, however thin the link.
    let tells = budget.is_some() && Request::decode(head).is_ok_and(|head| head.about.is_some());
    let (frames, is_whole) = frames(&body[at..]);
    let payload = |packer: &mut Packer, frame: &[u8]| packer.unpack(frame).and_then(|bytes| Payload::decode(&bytes));
    let mut before_last = 0;
    for (nth, frame) in frames.iter().enumerate() {
        let items = match payload(packer, frame) {
            Ok(Payload::Ops(ops)) => ops.len(),
            Ok(Payload::Rows(rows)) => rows.rows.len(),
            Err(error) => return too_large(format!("a frame that cannot be read: {error}")),
        };
        if items > FRAME_ITEMS_MAX || (items > 1 && frame.len() > FRAME_BYTES_MAX + 8) {
            return too_large(format!("a frame of {items} items and {} bytes", frame.len()));
        }
        before_last += if nth + 1 < frames.len() { frame.len() } else { 0 };
    }
    match budget {
        _ if !is_whole => too_large("bytes behind the last frame".to_owned()),
        Some(budget) if before_last > budget && !(tells && frames.len() <= Stream::ALL.len()) => {
            too_large(format!("{} frames for {budget} bytes", frames.len()))
        }
        _ => Ok(()),
    }
}
