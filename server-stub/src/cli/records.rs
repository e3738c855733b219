//! `outpost-hub records`

use clap::Subcommand;
use serde_json::{Value as Json, json};
use sync_protocol::id::RecordKey;

use super::Place;
use crate::account::Sight;
use crate::audit::What;
use crate::desk;
use crate::error::HubError;
use crate::store::Tx;
use crate::view;

/// Changes that are read at a time.
const STEP: usize = 100;

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
            true => json!({ "history": all_that_happened(tx, &key)? }),
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

/// All that ever happened to a record, newest first.
fn all_that_happened(tx: &mut Tx<'_>, key: &RecordKey) -> Result<Vec<Json>, HubError> {
    let (mut told, mut before) = (Vec::new(), None);
    loop {
        let past = desk::history(tx, &Sight::everything(), key, before, STEP)?;
        let Some(last) = past.last() else { return Ok(told) };
        before = Some(last.hseq);
        for one in &past {
            told.push(view::past(tx, one)?);
        }
    }
}
