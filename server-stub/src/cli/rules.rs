//! `outpost-hub rules`

use std::path::PathBuf;

use clap::Subcommand;
use sync_protocol::rules::Rules;

use super::{Place, read_file};
use crate::audit::What;
use crate::error::HubError;
use crate::hub::publish;
use crate::trial::{self, Difference, Report};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say everything that is wrong with a document
    Check {
        /// The document
        file: PathBuf,
    },
    /// Put a document in force; gateways get it with their next sync
    Publish {
        /// The document
        file: PathBuf,
    },
    /// Merge the contested past under a document, and say what would be shown differently
    Test {
        /// The document
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(place: &mut Place<'_>, command: Command) -> Result<(), HubError> {
    match command {
        Command::Check { file } => {
            let rules = Rules::parse(&read_file(&file)?)?;
            place.say(format!("version {}, {} types: fine", rules.version, rules.types.len()));
        }
        Command::Publish { file } => {
            let text = read_file(&file)?;
            let freed = place.change(What::PublishRules, |tx| publish(tx, &text))?;
            place.say(format!("in force; {freed} records were freed from quarantine"));
        }
        Command::Test { file, json } => {
            let rules = Rules::parse(&read_file(&file)?)?;
            let report = place.read(|tx| Ok(trial::run(tx, &rules)?))?;
            match json {
                true => place.say_json(&report),
                false => say_report(place, &report),
            }
        }
    }
    Ok(())
}

fn say_report(place: &mut Place<'_>, report: &Report) {
    let Report { contested, different, .. } = report;
    place.say(format!("{contested} contested records, {different} would be shown differently"));
    let parts = [("field", &report.fields), ("presence of", &report.presence), ("now refused:", &report.refused)];
    for (what, differences) in parts {
        for (name, Difference { shown, opened, closed, examples }) in differences {
            place.say(format!("{what} {name}: {shown} shown differently, {opened} conflicts more, {closed} fewer"));
            place.say(format!("    such as {}", examples.join(", ")));
        }
    }
}
