//! Trains the dictionary of the gateway's store, from synthetic records only, and puts it into the agent's sources:
//!
//! ```text
//! cargo run --release -p outpost-tests --bin train-store-dictionary
//! ```
//!
//! The same sources give the same bytes. It is not the dictionary of the frames, because a row of the store is one op or one
//! record as its canonical bytes, while a frame holds columns: each dictionary halves what the other leaves of its own kind.
//! A dictionary that was released never changes, because it is needed to read what was written with it: train another then.

use std::ops::Range;
use std::path::Path;

use outpost_tests::generator::{Generated, Generator};
use outpost_tests::wire::{Clinic, edits, moved};
use sync_protocol::gateway::Store as _;
use sync_protocol::id::{Dot, Origin, RecordKey, Seq, Stream};
use sync_protocol::record::Op;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

/// No measurement uses one of these.
const TRAINING_SEEDS: Range<u64> = 30_000..30_060;
/// For the sizes that are printed; not trained on.
const CONTROL_SEEDS: Range<u64> = 40_000..40_010;
const DICTIONARY_BYTES: usize = 64 * 1024;
/// As the store has it.
const LEVEL: i32 = 9;

/// What rows of the store hold, by kind.
#[derive(Default)]
struct Corpus {
    written: Vec<(&'static str, Vec<u8>)>,
    edited: Vec<Vec<u8>>,
    records: Vec<Vec<u8>>,
}

fn main() -> anyhow::Result<()> {
    let dictionary = train(&corpus(TRAINING_SEEDS)?)?;
    let control = corpus(CONTROL_SEEDS)?;
    for record_type in ["patient", "visit", "coded", "immunization", "allergy", "stock"] {
        let ops = control.written.iter().filter(|(of, _)| *of == record_type);
        report(record_type, &ops.map(|(_, op)| op.as_slice()).collect::<Vec<_>>(), &dictionary)?;
    }
    report("one field", &control.edited.iter().map(Vec::as_slice).collect::<Vec<_>>(), &dictionary)?;
    report("records", &control.records.iter().map(Vec::as_slice).collect::<Vec<_>>(), &dictionary)?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/src/store/dictionary-1.bin");
    std::fs::write(&path, &dictionary)?;
    println!("{} bytes in {}", dictionary.len(), path.display());
    Ok(())
}

/// Ops that write a record, ops that change one field, and whole records as a gateway keeps them.
fn corpus(seeds: Range<u64>) -> anyhow::Result<Corpus> {
    let mut corpus = Corpus::default();
    for seed in seeds {
        let mut make = Generator::new(seed);
        let mut clinic = Clinic::new(make.facility())?;
        let mut records = make.clinic_day(40);
        records.extend((0..30).map(|_| make.reference_coded()));
        records.extend((0..30).map(|_| make.reference_visit()));
        let records: Vec<Generated> = records.into_iter().map(|record| moved(record, (seed % 36) as i64)).collect();
        for record in &records {
            clinic.save(record)?;
        }
        let written = clinic.gateway.own_ops(Stream::Normal, Seq(0), usize::MAX)?;
        edits(&mut clinic, &mut make, &records, 60)?;
        let edited = clinic.gateway.own_ops(Stream::Normal, Seq(written.len() as u64), usize::MAX)?;
        let types = records.iter().map(|record| record.record_type);
        // Most apps do not say who holds the tablet.
        let unsigned = written.into_iter().enumerate().map(|(nth, mut op)| {
            op.stamp.author = op.stamp.author.filter(|_| nth % 4 == 0);
            without_dot(op)
        });
        corpus.written.extend(types.zip(unsigned));
        corpus.edited.extend(edited.into_iter().map(without_dot));
        for record in records.iter().take(60) {
            let key = RecordKey::new(record.record_type, &record.id)?;
            let held = clinic.gateway.held(&key)?.unwrap_or_default();
            corpus.records.push(held.visible.canonical());
        }
    }
    Ok(corpus)
}

/// What the store packs: the number of an op's row says its dot.
fn without_dot(mut op: Op) -> Vec<u8> {
    op.stamp.dot = Dot { origin: Origin(0), stream: Stream::Urgent, seq: Seq(0) };
    op.canonical()
}

fn train(corpus: &Corpus) -> std::io::Result<Vec<u8>> {
    let written = corpus.written.iter().map(|(_, op)| op);
    let samples: Vec<&Vec<u8>> = written.clone().chain(&corpus.edited).chain(&corpus.records).collect();
    let mut dictionary = zstd::dict::from_samples(&samples, DICTIONARY_BYTES)?;
    // A blob names its dictionary in its first byte; under number 0, zstd does not name it again in 4 bytes.
    if let Some(number) = dictionary.get_mut(4..8) {
        number.fill(0);
    }
    Ok(dictionary)
}

fn report(name: &str, blobs: &[&[u8]], dictionary: &[u8]) -> std::io::Result<()> {
    let mut compressor = Compressor::with_dictionary(LEVEL, dictionary)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    let mut packed = 0;
    for blob in blobs {
        packed += compressor.compress(blob)?.len();
    }
    let count = blobs.len().max(1);
    let plain: usize = blobs.iter().map(|blob| blob.len()).sum();
    println!("{name:<12} {:>5} of {:>5} B, {count} samples", packed / count, plain / count);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_gives_the_same_bytes_again() {
        let [once, again] = [(); 2].map(|()| train(&corpus(1..6).unwrap()).unwrap());
        assert!(once == again);
        assert!(once.len() <= DICTIONARY_BYTES);
    }
}
