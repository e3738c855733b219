//! `outpost-hub records`

use clap::Subcommand;
use sync_protocol::hub::Snapshot;
use sync_protocol::id::RecordKey;

use super::Place;
use crate::error::HubError;
use crate::view;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show a record with who wrote what, or everything that ever happened to it
    Show {
        /// TYPE/ID
        record: String,
        /// All changes in order of arrival
        #[arg(long)]
        history: bool,
    },
}

pub(super) fn run(place: &mut Place<'_>, command: Command) -> Result<(), HubError> {
    let Command::Show { record, history } = command;
    let key = RecordKey::parse(&record)?;
    let told = place.read(|tx| {
        let record = tx.record(&key)?;
        match (history, record) {
            (true, _) => Ok(serde_json::json!({ "history": view::history(tx, &key)? })),
            (false, Some(record)) => Ok(view::meta(tx, &key, &record)?),
            (false, None) => Err(HubError::Missing(format!("record {key}"))),
        }
    })?;
    place.say_json(&told);
    Ok(())
}
