//! What arrives as bytes: frames, payloads, heads, ops, records, coded symbols.

use std::cell::RefCell;
use std::fmt::Debug;

use sync_protocol::difference::{Encoder, decode, pack, unpack};
use sync_protocol::error::DecodeError;
use sync_protocol::frame::{Effort, Packer, split};
use sync_protocol::limits::{FRAME_BYTES_LIMIT, FRAME_ITEMS_MAX, FRAME_UNPACKED_BYTES_LIMIT};
use sync_protocol::message::{Request, Response, split_head};
use sync_protocol::payload::Payload;
use sync_protocol::record::{Op, Record};

use super::CANARY;

thread_local! {
    pub(super) static PACKER: RefCell<Packer> = RefCell::new(Packer::new(Effort::Quick).expect("memory"));
}

/// What is read and written again reads as the same, and is written as the same again. A refusal repeats nothing.
fn stays<T: PartialEq + Debug>(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<T, DecodeError>,
    write: impl Fn(&T) -> Vec<u8>,
) {
    match read(bytes) {
        Ok(value) => {
            let written = write(&value);
            let again = read(&written).expect("what this program wrote");
            assert!(again == value, "{value:?}\nreads as\n{again:?}");
            assert!(write(&again) == written, "{value:?} has two encodings");
        }
        Err(error) => is_silent(&error),
    }
}

/// A refusal repeats nothing of what it refuses.
pub(super) fn is_silent(error: &(dyn std::error::Error + 'static)) {
    let mut next = Some(error);
    while let Some(error) = next {
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
        next = error.source();
    }
}

/// A stream of frames. The checksum of the first is made right, or nothing would come further than that.
pub(super) fn frame(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some((inside, taken))) = split(rest) {
        assert!(taken <= rest.len() && inside.len() <= FRAME_BYTES_LIMIT);
        let mut with_sum = inside.to_vec();
        if let [flag, sum @ ..] = with_sum.as_mut_slice()
            && let Some((sum, body)) = sum.split_first_chunk_mut::<4>()
        {
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&[*flag]);
            hasher.update(body);
            *sum = hasher.finalize().to_le_bytes();
        }
        for inside in [inside, &with_sum] {
            let unpacked = PACKER.with_borrow_mut(|packer| packer.unpack(inside));
            match unpacked {
                Ok(unpacked) => {
                    assert!(unpacked.len() <= FRAME_UNPACKED_BYTES_LIMIT);
                    let packed = PACKER.with_borrow_mut(|packer| packer.pack(&unpacked)).expect("memory");
                    let (inside, _) = split(&packed).expect("a frame").expect("whole");
                    let again = PACKER.with_borrow_mut(|packer| packer.unpack(inside)).expect("what was packed");
                    assert!(again == unpacked, "a frame came out otherwise than it went in");
                }
                Err(error) => is_silent(&error),
            }
        }
        rest = &rest[taken..];
    }
}

/// What is in a frame.
pub(super) fn payload(bytes: &[u8]) {
    stays(bytes, Payload::decode, Payload::encode);
    if let Ok(payload) = Payload::decode(bytes) {
        let items = match &payload {
            Payload::Ops(ops) => ops.len(),
            // Records that left and news are not counted in the number of a frame.
            Payload::Rows(rows) => {
                rows.rows.iter().filter(|row| matches!(row, sync_protocol::payload::Row::Cells { .. })).count()
            }
        };
        assert!(items <= FRAME_ITEMS_MAX, "{items} items");
    }
}

/// The head of a request, alone and before a body.
pub(super) fn request(bytes: &[u8]) {
    stays(bytes, Request::decode, Request::encode);
    if let Ok(Some((head, taken))) = split_head(bytes) {
        assert!(head.len() < taken && taken <= bytes.len());
        stays(head, Request::decode, Request::encode);
    }
}

/// The head of a response, alone and before a body.
pub(super) fn response(bytes: &[u8]) {
    stays(bytes, Response::decode, Response::encode);
    if let Ok(Some((head, _))) = split_head(bytes) {
        stays(head, Response::decode, Response::encode);
    }
}

/// The canonical bytes of an op.
pub(super) fn op(bytes: &[u8]) {
    stays(bytes, Op::from_canonical, Op::canonical);
}

/// The canonical bytes of a record, and what people see of it.
pub(super) fn record(bytes: &[u8]) {
    stays(bytes, Record::from_canonical, Record::canonical);
    if let Ok(record) = Record::from_canonical(bytes) {
        let (conflicts, body) = (record.conflicts().len(), sync_protocol::edit::render(&record));
        assert!(conflicts <= record.cells.len() && body.len() <= record.cells.len());
    }
}

/// Coded symbols: any may come, and the difference is found or not, but found in time.
pub(super) fn symbols(bytes: &[u8]) {
    const READ_MAX: u32 = 512;
    let Some(symbols) = unpack(bytes, 0, READ_MAX) else { return };
    assert!(symbols.len() <= READ_MAX as usize);
    let count = symbols.len() as u32;
    let mut here = Encoder::new(u64::from(count), [1, 0x0123_4567_89ab_cdef, u64::MAX]);
    let ours = here.symbols(count);
    let packed = pack(&ours, 0, here.item_count());
    assert_eq!(unpack(&packed, 0, READ_MAX).as_ref(), Some(&ours));
    if let Some(difference) = decode(u64::from(count), &ours, &symbols) {
        drop(difference);
    }
}
