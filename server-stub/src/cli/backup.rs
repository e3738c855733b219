//! `outpost-hub backup` and `outpost-hub restore`

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;

use super::Place;
use crate::audit::{Actor, What};
use crate::clock::now_ms;
use crate::error::HubError;
use crate::lock::Lock;
use crate::store::{head_beside, put_back};

/// Copies the database of a hub that may be running.
pub(super) fn back_up(place: &mut Place<'_>, to: &Path) -> Result<(), HubError> {
    let target = json!({ "file": to.display().to_string() });
    // Before the copy, so that it is in it. A disk that is full is one more reason for a copy, and no reason against it.
    let head = place.write(|tx, actor| {
        tx.audit(actor, What::Backup, &target)?;
        Ok(tx.audit_head()?)
    });
    let is_clean = copy(place, to).inspect_err(|_| {
        // So that nobody counts on a copy that is not there. There is nothing to take back if not even its begin was written down.
        let noted = head.is_err() || place.change(What::BackupFailed, |_| Ok(((), target))).is_ok();
        if !noted {
            tracing::error!("the audit could not be told that this backup failed");
        }
    })?;
    place.say(format!("{} holds the hub as it was a moment ago, and was checked", to.display()));
    if is_on_the_same_disk(&place.data_dir, to) {
        place.say("it is on the disk of the hub itself and is lost with it: keep it, or another, on a disk of its own");
    }
    if !is_clean {
        place.say("its free pages may hold what was erased: there was no room to write the database anew; make another copy when there is");
    }
    place.say(format!("head of its audit, to be kept elsewhere: {}", head?));
    Ok(())
}

/// Makes the copy. Whether nothing that was erased may be left in it.
fn copy(place: &Place<'_>, to: &Path) -> Result<bool, HubError> {
    let mut database = place.database()?;
    // A copy has the free pages as well.
    let is_clean = database.sweep_if_due()?;
    database.back_up(to, now_ms())?;
    Ok(is_clean)
}

fn is_on_the_same_disk(data_dir: &Path, file: &Path) -> bool {
    let disk_of = |path: &Path| std::fs::metadata(path).map(|facts| facts.dev()).ok();
    disk_of(data_dir).is_some_and(|disk| disk_of(file) == Some(disk))
}

/// Puts a backup in the place of the database. Gateways bring back what they know of the time after it.
pub(super) fn restore(place: &mut Place<'_>, from: &Path) -> Result<(), HubError> {
    // Not while a hub is running on it.
    let _lock = Lock::take(&place.data_dir)?;
    let replaced = head_beside(&place.data_dir);
    let before = put_back(&place.data_dir, from, now_ms())?;
    let mut database = place.database()?;
    let head = database.write(now_ms(), |tx| {
        let head = sync_protocol::hub::Snapshot::head(tx)?;
        tx.audit_restore(&Actor::at_the_keyboard(), replaced)?;
        tx.note_start()?;
        tx.begin_epoch(u64::try_from(tx.now_ms).unwrap_or(0))?;
        Ok::<_, HubError>(head)
    })?;
    // Gateways that were away would bring it back.
    let again = database.erase_again()?;
    if again > 0 {
        place.say(format!("{again} records that had been erased since the backup were erased again"));
    }
    if let Some(before) = before {
        place.say(format!("what was here is kept as {}", before.display()));
    }
    place.say(format!("the hub is as it was at change {}; start it, and each gateway brings back the rest", head.0));
    Ok(())
}
