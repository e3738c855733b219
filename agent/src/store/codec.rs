//! How canonical bytes are kept in a column: compressed with the dictionary of the frames, and checked when read.
//!
//! A blob is `1 | zstd frame`: 1 says dictionary 1, the frame carries zstd's own checksum of the content and leaves out the
//! dictionary's number. An empty blob stands for nothing at all. A damaged blob is counted, logged with its place and read
//! as absent, because a bad sector must not keep a clinic from working.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sync_protocol::frame::DICTIONARY_1;
use sync_protocol::limits::FRAME_UNPACKED_BYTES_LIMIT;
use sync_protocol::record::{Op, Record};
use tracing::warn;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use crate::error::Error;

const DICTIONARY_1_TAG: u8 = 1;
/// Against level 3 it saves a tenth of the bytes for some 15 us a record; level 19 would save another twentieth for much more.
const LEVEL: i32 = 9;

/// Packs and unpacks blobs. Belongs to one thread.
pub(super) struct Codec {
    packer: RefCell<Compressor<'static>>,
    unpacker: RefCell<Decompressor<'static>>,
    damaged: Arc<AtomicU64>,
}

impl Codec {
    /// Prepares the dictionary. `damaged` counts the blobs that could not be read.
    pub(super) fn new(damaged: Arc<AtomicU64>) -> Result<Codec, Error> {
        let mut packer = Compressor::with_dictionary(LEVEL, DICTIONARY_1)?;
        packer.set_parameter(CParameter::ChecksumFlag(true))?;
        packer.set_parameter(CParameter::DictIdFlag(false))?;
        let unpacker = Decompressor::with_dictionary(DICTIONARY_1)?;
        Ok(Codec { packer: RefCell::new(packer), unpacker: RefCell::new(unpacker), damaged })
    }

    /// Damaged blobs met so far.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Packs canonical bytes.
    pub(super) fn pack(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let packed = self.packer.borrow_mut().compress(bytes)?;
        let mut blob = Vec::with_capacity(packed.len() + 1);
        blob.push(DICTIONARY_1_TAG);
        blob.extend_from_slice(&packed);
        Ok(blob)
    }

    /// Packs a record; one without cells is an empty blob.
    pub(super) fn pack_record(&self, record: &Record) -> Result<Vec<u8>, Error> {
        match record.cells.is_empty() {
            true => Ok(Vec::new()),
            false => self.pack(&record.canonical()),
        }
    }

    /// Reads a record; `None` if it is damaged. `place` names the row in the log.
    pub(super) fn record(&self, blob: &[u8], place: impl FnOnce() -> String) -> Option<Record> {
        if blob.is_empty() {
            return Some(Record::default());
        }
        let record = self.unpack(blob).and_then(|bytes| Record::from_canonical(&bytes).ok());
        self.counted(record, place)
    }

    /// Reads an op; `None` if it is damaged.
    pub(super) fn op(&self, blob: &[u8], number: i64) -> Option<Op> {
        let op = self.unpack(blob).and_then(|bytes| Op::from_canonical(&bytes).ok());
        self.counted(op, || format!("history {number}"))
    }

    fn counted<T>(&self, value: Option<T>, place: impl FnOnce() -> String) -> Option<T> {
        if value.is_none() {
            self.damaged.fetch_add(1, Ordering::Relaxed);
            warn!(row = place(), "a stored row is damaged and was skipped");
        }
        value
    }

    fn unpack(&self, blob: &[u8]) -> Option<Vec<u8>> {
        let (&DICTIONARY_1_TAG, packed) = blob.split_first()? else { return None };
        let size = Decompressor::upper_bound(packed).filter(|size| *size <= FRAME_UNPACKED_BYTES_LIMIT)?;
        self.unpacker.borrow_mut().decompress(packed, size).ok()
    }
}
