//! The reference records, ready to be sent.

use crate::generator::{Generated, Generator};

/// Which reference record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// About 1,046 bytes of JSON, with a free-text note.
    Visit,
    /// 16 short fields, about 400 bytes of JSON.
    Coded,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Visit => "visit",
            Kind::Coded => "coded",
        }
    }
}

/// One record with its JSON.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) made: Generated,
    pub(crate) json: String,
}

impl Sample {
    /// Where the gateway's API has it.
    pub(crate) fn path(&self) -> String {
        format!("/v1/records/{}/{}", self.made.record_type, self.made.id)
    }
}

/// Records of one kind. Other seeds give other ids.
pub(crate) fn samples(kind: Kind, count: usize, seed: u64) -> Vec<Sample> {
    let mut generator = Generator::new(seed);
    let mut make = || match kind {
        Kind::Visit => generator.reference_visit(),
        Kind::Coded => generator.reference_coded(),
    };
    let with_json = |made: Generated| Sample { json: made.json(), made };
    (0..count).map(|_| with_json(make())).collect()
}

/// Bytes of JSON of these.
pub(crate) fn json_bytes(samples: &[Sample]) -> f64 {
    samples.iter().map(|sample| sample.json.len()).sum::<usize>() as f64
}
