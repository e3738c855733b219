//! `outpost-hub quarantine`

use clap::Subcommand;
use sync_protocol::id::HubSeq;

use super::Place;
use crate::desk;
use crate::error::HubError;
use crate::view;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what is held back and why, as JSON
    List {
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Go on after this `arrived_as`
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// Apply a change although the rules object
    Release {
        /// Its `dot`, such as 3/1/42
        dot: String,
    },
    /// Drop a change; it stays in the history
    Discard {
        /// Its `dot`, such as 3/1/42
        dot: String,
        /// Why: the clinic will read it
        #[arg(long)]
        why: String,
    },
}

pub(super) fn run(place: &mut Place<'_>, command: &Command) -> Result<(), HubError> {
    match command {
        Command::List { limit, after } => {
            let told = place.read(|tx| {
                let held = tx.held_page(HubSeq(*after), *limit)?;
                Ok(held.iter().map(|row| view::held(tx, row)).collect::<Result<Vec<_>, _>>()?)
            })?;
            place.say_json(&told);
        }
        Command::Release { dot } => {
            let dot = view::parse_dot(dot)?;
            place.write(|tx| desk::release(tx, dot))?;
            place.say("applied");
        }
        Command::Discard { dot, why } => {
            let dot = view::parse_dot(dot)?;
            place.write(|tx| desk::discard(tx, dot, why))?;
            place.say("dropped");
        }
    }
    Ok(())
}
