//! `outpost-hub quarantine`

use clap::Subcommand;
use serde_json::json;
use sync_protocol::id::HubSeq;

use super::Place;
use crate::account::Sight;
use crate::audit::What;
use crate::desk;
use crate::error::HubError;
use crate::view;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what is held back and why
    List {
        /// Print JSON, with the changes themselves
        #[arg(long)]
        json: bool,
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Apply a change although the rules object
    Release {
        /// As listed, such as 3-1-42
        change: String,
    },
    /// Drop a change; it stays in the history
    Discard {
        /// As listed, such as 3-1-42
        change: String,
        /// Why: the clinic will read it
        #[arg(long)]
        why: String,
    },
}

pub(super) fn run(place: &mut Place<'_>, command: &Command) -> Result<(), HubError> {
    let everything = Sight::everything();
    match command {
        Command::List { json: as_json, limit } => {
            let (held, told, all) = place.change(What::ListQuarantine, |tx| {
                let held = tx.held_page(&everything, HubSeq::NONE, *limit as usize)?;
                let told = held.iter().map(|row| view::held(tx, row)).collect::<Result<Vec<_>, _>>()?;
                let target = view::listed(&told);
                let all = tx.held_count(&everything)?;
                Ok(((held, told, all), target))
            })?;
            match as_json {
                true => place.say_json(&told),
                false if held.is_empty() => place.say("none"),
                false => {
                    for row in &held {
                        let name = view::change_name(row.held.op.stamp.dot);
                        place.say(format!("{name}   {}   {}   {}", row.held.op.key, row.gateway, row.held.reason));
                    }
                    let rest = all.saturating_sub(held.len() as u64);
                    if rest > 0 {
                        place.say(format!("and {rest} more: outpost-hub quarantine list --limit {all}"));
                    }
                }
            }
        }
        Command::Release { change } => {
            let dot = view::parse_change(change)?;
            place.change(What::Release, |tx| {
                let key = desk::release(tx, &everything, dot)?;
                Ok(((), json!({ "change": change, "record": key.to_string() })))
            })?;
            place.say("applied");
        }
        Command::Discard { change, why } => {
            let dot = view::parse_change(change)?;
            place.change(What::Discard, |tx| {
                let key = desk::discard(tx, &everything, dot, why)?;
                Ok(((), json!({ "change": change, "record": key.to_string() })))
            })?;
            place.say("dropped");
        }
    }
    Ok(())
}
