//! Trains the dictionary of the frames, from synthetic records only, and puts it into the protocol's sources:
//!
//! ```text
//! cargo run --release -p outpost-tests --bin train-dictionary
//! ```
//!
//! The same sources give the same bytes. It prints what frames come to with the dictionary as it was and as it is now.
//! A dictionary that was released is part of the protocol and never changes: then train another, under a new number.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;

use outpost_tests::generator::{Generated, Generator};
use outpost_tests::wire::{Clinic, edits, moved};
use sync_protocol::frame::DICTIONARY_1;
use sync_protocol::gateway::Store as _;
use sync_protocol::hub::Snapshot as _;
use sync_protocol::id::{FieldName, RecordKey, RecordType, Seq, Stream};
use sync_protocol::payload::{Payload, Reach, Row, Rows};
use sync_protocol::record::Op;

/// No measurement uses one of these.
const TRAINING_SEEDS: Range<u64> = 10_000..10_060;
/// For the sizes that are printed; not trained on.
const CONTROL_SEEDS: Range<u64> = 20_000..20_003;
const DICTIONARY_BYTES: usize = 64 * 1024;
/// Whole frames of one op of each shape at its end.
const EXAMPLES_OF_A_SHAPE: usize = 3;
/// Longer ones are free text for the most part, of which fragments do better.
const EXAMPLE_BYTES_MAX: usize = 900;
/// Ops in a frame, with the name of that size.
const SIZES: [(usize, &str); 5] = [(1, "1 op"), (3, "3 ops"), (10, "10 ops"), (30, "30 ops"), (100, "100 ops")];

/// Payloads of frames by kind.
type Corpus = BTreeMap<&'static str, Vec<Vec<u8>>>;

fn main() -> anyhow::Result<()> {
    let dictionary = train(&corpus(TRAINING_SEEDS)?)?;
    for (kind, payloads) in corpus(CONTROL_SEEDS)? {
        let plain: usize = payloads.iter().map(Vec::len).sum();
        let (before, after) = (packed(&payloads, DICTIONARY_1)?, packed(&payloads, &dictionary)?);
        let mean = |sum: usize| sum / payloads.len().max(1);
        println!("{kind:<8} {:>6} B plain, {:>5} B before, {:>5} B now", mean(plain), mean(before), mean(after));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sync-protocol/src/dictionary-1.bin");
    std::fs::write(&path, &dictionary)?;
    println!("{} bytes in {}", dictionary.len(), path.display());
    Ok(())
}

/// What [`sync_protocol::frame::Packer::pack`] gets: ops of all types, alone and mixed, edits of one field, and rows.
fn corpus(seeds: Range<u64>) -> anyhow::Result<Corpus> {
    let mut corpus = Corpus::new();
    for seed in seeds {
        let mut make = Generator::new(seed);
        let mut clinic = Clinic::new(make.facility())?;
        let mut records = make.clinic_day(40);
        records.extend((0..60).map(|_| make.reference_coded()));
        records.extend((0..40).map(|_| make.reference_visit()));
        records.extend(make.clinic_day(20));
        let records: Vec<Generated> = records.into_iter().map(|record| moved(record, (seed % 36) as i64)).collect();
        for record in &records {
            clinic.save(record)?;
        }
        let written = clinic.gateway.own_ops(Stream::Normal, Seq(0), usize::MAX)?;
        clinic.sync()?;
        edits(&mut clinic, &mut make, &records, 100)?;
        let edited = clinic.gateway.own_ops(Stream::Normal, Seq(written.len() as u64), usize::MAX)?;
        clinic.sync()?;
        for (size, name) in SIZES {
            let payloads = corpus.entry(name).or_default();
            ops_frames(&written, size, payloads);
            ops_frames(&edited, size, payloads);
        }
        let mut rows = Vec::new();
        for record in &records {
            let key = RecordKey::new(record.record_type, &record.id)?;
            let record = clinic.hub.record(&key)?.unwrap_or_default();
            rows.push(Row::Cells { key, record, whole: false });
        }
        let frame = |rows: &[Row]| Payload::Rows(Rows { reaches: Reach::default(), rows: rows.to_vec() }).encode();
        corpus.entry("rows").or_default().extend(rows.chunks(17).map(frame));
    }
    Ok(corpus)
}

/// About as many frames of any size: small ones would drown the large ones, or not be learned beside them.
fn ops_frames(ops: &[Op], size: usize, payloads: &mut Vec<Vec<u8>>) {
    let step = size * ops.len().div_ceil(size * 40).max(1);
    let frames = (0..ops.len()).step_by(step).filter_map(|at| ops.get(at..(at + size).min(ops.len())));
    payloads.extend(frames.map(|ops| Payload::Ops(ops.to_vec()).encode()));
}

fn train(corpus: &Corpus) -> io::Result<Vec<u8>> {
    let samples: Vec<&[u8]> = corpus.values().flatten().map(Vec::as_slice).collect();
    let mut dictionary = zstd::dict::from_samples(&samples, DICTIONARY_BYTES)?;
    // A frame names its dictionary in its own flags; under number 0, zstd does not name it again in 4 bytes.
    if let Some(number) = dictionary.get_mut(4..8) {
        number.fill(0);
    }
    // The head of the file is zstd's tables, all the rest is content. Training picks fragments; a frame of one op, which
    // is hardly longer than what it shares with the next one of its shape, does better with whole examples close by.
    let mut tail = examples(corpus.get("1 op").map(Vec::as_slice).unwrap_or_default());
    dictionary.truncate(dictionary.len().saturating_sub(tail.len()));
    dictionary.append(&mut tail);
    Ok(dictionary)
}

/// A few of the short payloads of each shape: same type, same fields.
fn examples(alone: &[Vec<u8>]) -> Vec<u8> {
    let mut taken: BTreeMap<(RecordType, Vec<FieldName>), usize> = BTreeMap::new();
    let mut examples = Vec::new();
    for payload in alone.iter().filter(|payload| payload.len() < EXAMPLE_BYTES_MAX) {
        let Ok(Payload::Ops(ops)) = Payload::decode(payload) else { continue };
        let Some(op) = ops.first() else { continue };
        let shape = (op.key.record_type.clone(), op.changes.keys().cloned().collect());
        let count = taken.entry(shape).or_default();
        if *count < EXAMPLES_OF_A_SHAPE {
            *count += 1;
            examples.extend_from_slice(payload);
        }
    }
    examples
}

fn packed(payloads: &[Vec<u8>], dictionary: &[u8]) -> io::Result<usize> {
    let mut compressor = zstd::bulk::Compressor::with_dictionary(19, dictionary)?;
    payloads.iter().map(|payload| compressor.compress(payload).map(|packed| packed.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_gives_the_same_bytes_again() {
        let [once, again] = [(); 2].map(|()| train(&corpus(1..6).unwrap()).unwrap());
        assert!(once == again);
        assert_eq!(once.len(), DICTIONARY_BYTES);
        assert_eq!(DICTIONARY_1.len(), DICTIONARY_BYTES);
    }
}
