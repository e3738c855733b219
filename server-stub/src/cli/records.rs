//! `outpost-hub records`

use clap::Subcommand;
use serde_json::json;
use sync_protocol::id::RecordKey;

use super::Place;
use crate::account::Sight;
use crate::audit::What;
use crate::desk;
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
    let everything = Sight::everything();
    let what = if history { What::ReadHistory } else { What::ReadRecord };
    let told = place.change(what, |tx| {
        let target = json!({ "record": key.to_string() });
        let told = match history {
            true => json!({ "history": desk::history(tx, &everything, &key)? }),
            false => {
                let record = desk::seen(tx, &everything, &key)?;
                view::meta(tx, &key, &record)?
            }
        };
        Ok((told, target))
    })?;
    place.say_json(&told);
    Ok(())
}
