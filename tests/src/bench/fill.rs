//! A gateway's database that already holds many records: saved through its store, without HTTP, many a commit.

use std::path::Path;

use agent::error::Error;
use agent::store::{Inline, Options};
use anyhow::Result;
use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::{self, Capture, Captured, Intent, Refusal};
use sync_protocol::id::RecordKey;

use super::sample::{Kind, samples};

/// 2026-03-02, where the generator's clock begins too.
const NOW_MS: i64 = 1_772_400_000_000;
/// Records in one commit.
const GROUP: usize = 500;

/// Saves so many visits; other seeds give other records.
pub(super) fn fill(dir: &Path, count: usize, seed: u64) -> Result<()> {
    let mut card = Inline::open(dir, Options::default())?;
    for (nth, from) in (0..count).step_by(GROUP).enumerate() {
        for sample in samples(Kind::Visit, GROUP.min(count - from), seed + nth as u64) {
            let key = RecordKey::new(sample.made.record_type, &sample.made.id)?;
            let (intent, now_ms) = (Intent::Put(sample.made.body), NOW_MS + from as i64);
            let wish = Capture { key, intent, base: None, author: None, now_ms, quality: TimeQuality::Good };
            let captured = card.write(|tx| -> Result<Captured, Refusal<Error>> { gateway::capture(tx, wish) });
            captured.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        }
        card.commit()?;
    }
    Ok(())
}
