//! `outpost-hub audit`

use clap::Subcommand;
use serde_json::json;

use super::Place;
use crate::audit::{Head, Known, Verdict, What};
use crate::clock::now_ms;
use crate::error::HubError;
use crate::store::head_beside;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Compute the chain anew: say whether an entry was changed, removed, or cut off at the end
    Verify {
        /// A head that was kept elsewhere, NUMBER:HASH; can be given several times
        #[arg(long = "head", value_name = "NUMBER:HASH")]
        heads: Vec<Head>,
    },
    /// Print the newest entry's number and hash, to be kept elsewhere
    Head,
    /// Print entries as JSON lines
    Export {
        /// Those after this number
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
}

pub(super) fn run(place: &mut Place<'_>, command: Command) -> Result<(), HubError> {
    match command {
        Command::Verify { heads } => {
            let known = heads.into_iter().map(|head| Known { head, of: "the head that was given".to_owned() });
            // Read before the chain, which may go on meanwhile.
            let beside = head_beside(&place.data_dir);
            let beside = beside.map(|head| Known { head, of: "the file audit.head".to_owned() });
            let is_beside = beside.is_some();
            let known = known.chain(beside).collect();
            let verdict = place.read(|tx| Ok(tx.audit_verdict(known)?))?;
            tell(place, verdict, is_beside)
        }
        Command::Head => {
            let head = place.read(|tx| Ok(tx.audit_head()?))?;
            place.say(head);
            Ok(())
        }
        Command::Export { after } => {
            let mut count = 0;
            place.database()?.read(now_ms(), |tx| {
                tx.each_audited(after, |entry| {
                    count += 1;
                    place.say(entry.line());
                    Ok::<_, HubError>(())
                })
            })?;
            place.change(What::ReadAudit, |_| Ok(((), json!({ "after": after, "shown": count }))))
        }
    }
}

fn tell(place: &mut Place<'_>, verdict: Verdict, is_beside: bool) -> Result<(), HubError> {
    let Verdict { entries, head, mut findings, more, restores } = verdict;
    if !restores.is_empty() {
        let numbers: Vec<String> = restores.iter().map(u64::to_string).collect();
        place.say(format!("an older database was put back, by entry {}: what was written before that and after the backup is in the file that was replaced", numbers.join(", ")));
    }
    if !is_beside && entries > 0 {
        findings.push("there is no audit.head that can be read: nothing here knows where the end was".to_owned());
    }
    if findings.is_empty() {
        place.say(format!("{entries} entries, each follows the one before it; the newest is {head}"));
        return Ok(());
    }
    let more = if more > 0 { format!("\nand {more} more") } else { String::new() };
    Err(HubError::Audit(findings.join("\n") + &more))
}
