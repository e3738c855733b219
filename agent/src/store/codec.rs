//! How canonical bytes are kept in a column: compressed with a dictionary, and checked when read.
//!
//! A blob is `1 | zstd frame`: 1 says dictionary 1, the frame carries zstd's own checksum of the content and leaves out the
//! dictionary's number and zstd's magic number, which are the same in every row. An empty blob stands for nothing at all. A
//! damaged blob is counted, logged with its place and read as absent, because a bad sector must not keep a clinic from working.
//!
//! The dictionary is not that of the frames: those hold columns, and with their dictionary the op of a coded record takes 217
//! bytes instead of 124. `tests/src/bin/train-store-dictionary.rs` made it, from synthetic records only (ADR 0008).
//!
//! An op is packed without its dot, because its row's number says it: see [`super::history::read_op`].

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use sync_protocol::id::{Dot, Origin, Seq, Stream};
use sync_protocol::limits::FRAME_UNPACKED_BYTES_LIMIT;
use sync_protocol::record::{Op, Record, Stamp};
use tracing::warn;
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::DecoderDictionary;
use zstd::zstd_safe::CParameter;

use super::health::{Health, Place};
use crate::error::Error;

const DICTIONARY_1: &[u8] = include_bytes!("dictionary-1.bin");
const DICTIONARY_1_TAG: u8 = 1;
/// How every zstd frame begins (RFC 8878, 3.1.1).
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// Against level 3 it saves a tenth of the bytes for some 15 us a record; level 19 would save another twentieth for much more.
const LEVEL: i32 = 9;

/// The dictionary made ready, once for all connections.
static PREPARED: LazyLock<DecoderDictionary<'static>> = LazyLock::new(|| DecoderDictionary::copy(DICTIONARY_1));

/// Packs and unpacks blobs. Belongs to one thread.
pub(super) struct Codec {
    /// Made when it is first needed: connections for reading never pack, and it is large.
    packer: RefCell<Option<Compressor<'static>>>,
    unpacker: RefCell<Decompressor<'static>>,
    health: Arc<Health>,
}

impl Codec {
    /// Prepares the dictionary. `health` is told of blobs that cannot be read.
    pub(super) fn new(health: Arc<Health>) -> Result<Codec, Error> {
        let unpacker = Decompressor::with_prepared_dictionary(&PREPARED)?;
        Ok(Codec { packer: RefCell::new(None), unpacker: RefCell::new(unpacker), health })
    }

    /// What was met of damage.
    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Packs canonical bytes.
    pub(super) fn pack(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let mut packer = self.packer.borrow_mut();
        let packer = match packer.as_mut() {
            Some(packer) => packer,
            None => packer.insert(new_packer()?),
        };
        let packed = packer.compress(bytes)?;
        let mut blob = Vec::with_capacity(packed.len());
        blob.push(DICTIONARY_1_TAG);
        blob.extend_from_slice(packed.strip_prefix(&MAGIC).unwrap_or(&packed));
        Ok(blob)
    }

    /// Packs an op without its dot.
    pub(super) fn pack_op(&self, op: &Op) -> Result<Vec<u8>, Error> {
        self.pack(&with_dot(op.clone(), NO_DOT).canonical())
    }

    /// Packs a record; one without cells is an empty blob.
    pub(super) fn pack_record(&self, record: &Record) -> Result<Vec<u8>, Error> {
        match record.cells.is_empty() {
            true => Ok(Vec::new()),
            false => self.pack(&record.canonical()),
        }
    }

    /// Reads a record; `None` if it is damaged. `place` names the row.
    pub(super) fn record(&self, blob: &[u8], place: Place) -> Option<Record> {
        if blob.is_empty() {
            return Some(Record::default());
        }
        let record = self.unpack(blob).and_then(|bytes| Record::from_canonical(&bytes).ok());
        self.counted(record, place)
    }

    /// Reads an op and gives it its dot back; `None` if it is damaged or nobody knows the dot.
    pub(super) fn op(&self, blob: &[u8], dot: Option<Dot>, number: i64) -> Option<Op> {
        let op = self.unpack(blob).and_then(|bytes| Op::from_canonical(&bytes).ok());
        let op = op.zip(dot).map(|(op, dot)| with_dot(op, dot));
        self.counted(op, Place::History(number))
    }

    fn counted<T>(&self, value: Option<T>, place: Place) -> Option<T> {
        if value.is_none() && self.health.met_damage(place) {
            warn!(row = %place, "a stored row is damaged and was skipped");
        }
        value
    }

    fn unpack(&self, blob: &[u8]) -> Option<Vec<u8>> {
        let (&DICTIONARY_1_TAG, packed) = blob.split_first()? else { return None };
        let frame = [&MAGIC, packed].concat();
        let size = Decompressor::upper_bound(&frame).filter(|size| *size <= FRAME_UNPACKED_BYTES_LIMIT)?;
        self.unpacker.borrow_mut().decompress(&frame, size).ok()
    }
}

const NO_DOT: Dot = Dot { origin: Origin(0), stream: Stream::Urgent, seq: Seq(0) };

fn with_dot(op: Op, dot: Dot) -> Op {
    Op { stamp: Stamp { dot, ..op.stamp }, ..op }
}

fn new_packer() -> Result<Compressor<'static>, Error> {
    let mut packer = Compressor::with_dictionary(LEVEL, DICTIONARY_1)?;
    packer.set_parameter(CParameter::ChecksumFlag(true))?;
    packer.set_parameter(CParameter::DictIdFlag(false))?;
    Ok(packer)
}

#[cfg(test)]
mod tests {
    use sync_protocol::clock::{Hlc, TimeQuality};
    use sync_protocol::digest::content_hash;
    use sync_protocol::id::{FieldName, HubSeq, RecordKey, Source};
    use sync_protocol::record::Change;
    use sync_protocol::value::Value;

    use super::*;

    const DOT: Dot = Dot { origin: Origin(7), stream: Stream::Normal, seq: Seq(40) };

    fn op() -> Op {
        let stamp = Stamp {
            dot: DOT,
            hlc: Hlc(1 << 60),
            seen: HubSeq(3),
            hseq: HubSeq::NONE,
            captured_ms: 1_780_000_000_000,
            quality: TimeQuality::Good,
            source: Source::CLINIC,
            author: None,
            settles: None,
        };
        let change = Change::put(Value::from_json(&"a cough for three days".into()));
        let changes = [(FieldName::new("notes").unwrap(), change)].into();
        Op { stamp, key: RecordKey::parse("visit/a").unwrap(), changes }
    }

    #[test]
    fn an_op_comes_back_with_its_dot_and_not_without() {
        let codec = Codec::new(Arc::default()).unwrap();
        let blob = codec.pack_op(&op()).unwrap();
        assert_eq!(codec.op(&blob, Some(DOT), 1), Some(op()));
        assert_eq!(codec.op(&blob, None, 1), None);
        assert_eq!(codec.health().places(), [Place::History(1)]);
    }

    #[test]
    fn any_damaged_byte_is_noticed() {
        let codec = Codec::new(Arc::default()).unwrap();
        let blob = codec.pack_op(&op()).unwrap();
        let mut noticed = 0;
        for at in 0..blob.len() {
            let mut damaged = blob.clone();
            damaged[at] ^= 0x10;
            // A bit of the frame's header may say nothing about the content; then the content is as it was.
            let read = codec.op(&damaged, Some(DOT), 1);
            assert!(read.is_none() || read == Some(op()), "byte {at}");
            noticed += usize::from(read.is_none());
        }
        assert!(noticed > blob.len() - 3);
    }

    #[test]
    fn the_dictionary_stays_as_it_is() {
        // What was written with it could not be read any more. Another one gets another number in the first byte of a blob.
        let hash: String = content_hash(DICTIONARY_1).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, "513a7fc2a8bb4ab3");
    }
}
