//! Proofs: the chain over a stream's ops, and the digest of what is held.
//!
//! The chain shows that gateway and hub speak of the same history: `h(n) = BLAKE3(h(n-1) || op(n))` over the bytes
//! that make the identity of an op ([`Op::identity`]), its first 8 bytes on the wire. The digest shows that they hold the same records: for each scope the sum, modulo
//! 2^64, of one [`item`] a record. A sum can be maintained record by record, in any order, and added up over scopes.

use crate::clock::{Hlc, TimeQuality};
use crate::id::RecordKey;
use crate::record::{Op, Record};

/// Chain value of a stream up to some op.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// The chain with one more op.
    #[must_use]
    pub fn extend(self, op: &Op) -> Chain {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&op.identity());
        Chain(*hasher.finalize().as_bytes())
    }

    /// What travels.
    pub fn short(self) -> [u8; 8] {
        first8(&self.0)
    }
}

/// Hash of an op's content, to tell a repetition from a dot used twice.
pub fn op_hash(op: &Op) -> [u8; 8] {
    first8(blake3::hash(&op.identity()).as_bytes())
}

/// Key of the digest, so that its items cannot be confused with other hashes of the same bytes.
const ITEM_CONTEXT: &str = "outpost 2026-11 record digest item v1";

/// A record's part in the digest: a keyed hash of its name and of everything in it, hub sequences included.
pub fn item(key: &RecordKey, record: &Record) -> u64 {
    item_of(key, &record.canonical())
}

/// As [`item`], of the record's canonical bytes.
pub fn item_of(key: &RecordKey, canonical_record: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key(ITEM_CONTEXT);
    for name in [key.record_type.as_str(), key.id.as_str()] {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
    }
    hasher.update(canonical_record);
    u64::from_le_bytes(first8(hasher.finalize().as_bytes()))
}

/// Version tag of what an app sees of a record, for `ETag`: 16 hex digits.
pub fn etag(record: &Record) -> String {
    let mut plain = record.clone();
    // A confirmation by the hub changes numbers but nothing that an app can see, so it must not change the tag. A repair of
    // the clock changes times, but an app that was promised a tag must find its write under it.
    for cell in plain.cells.values_mut() {
        strip_confirmation(cell);
    }
    let hash = blake3::hash(&plain.canonical());
    hash.to_hex().chars().take(16).collect()
}

fn strip_confirmation(cell: &mut crate::record::Cell) {
    use crate::id::HubSeq;
    use crate::record::{Stamp, State};
    use std::sync::Arc;
    let timeless = (Hlc::default(), 0, TimeQuality::Unknown);
    let bare = |stamp: &Arc<Stamp>| {
        let (hlc, captured_ms, quality) = timeless;
        Arc::new(Stamp { hseq: HubSeq::NONE, hlc, captured_ms, quality, ..(**stamp).clone() })
    };
    cell.changed = HubSeq::NONE;
    match &mut cell.state {
        State::Register(entries) => entries.iter_mut().for_each(|e| e.stamp = bare(&e.stamp)),
        State::Set(set) => set.touch = crate::record::Touch { last: bare(&set.touch.last), basis: HubSeq::NONE },
        State::Log(log) => log.touch = crate::record::Touch { last: bare(&log.touch.last), basis: HubSeq::NONE },
        State::Counter(c) => c.touch = crate::record::Touch { last: bare(&c.touch.last), basis: HubSeq::NONE },
    }
}

fn first8(hash: &[u8; 32]) -> [u8; 8] {
    let mut short = [0; 8];
    for (to, from) in short.iter_mut().zip(hash) {
        *to = *from;
    }
    short
}

/// BLAKE3 of any bytes: to compare contents without keeping them.
pub fn content_hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}
