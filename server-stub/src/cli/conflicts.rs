//! `outpost-hub conflicts`

use clap::{ArgGroup, Subcommand};
use serde_json::{Value, json};
use sync_protocol::id::{FieldName, RecordKey};

use super::Place;
use crate::account::Sight;
use crate::audit::What;
use crate::desk::{self, Verdict, Who};
use crate::error::HubError;
use crate::view;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what waits for a person
    List {
        /// Print JSON, with the values
        #[arg(long)]
        json: bool,
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Go on after this record: TYPE/ID
        #[arg(long)]
        after: Option<String>,
    },
    /// Settle one: on a value, by removing the field, or by ending the review of a delete
    #[command(group = ArgGroup::new("verdict").required(true).args(["value", "remove", "delete", "keep"]))]
    Settle {
        /// TYPE/ID
        record: String,
        /// The field; leave out for a record that was deleted and edited
        #[arg(required_unless_present_any = ["delete", "keep"], conflicts_with_all = ["delete", "keep"])]
        field: Option<String>,
        /// The value that shall stand: JSON, or plain text
        #[arg(long, requires = "field")]
        value: Option<String>,
        /// Remove the field
        #[arg(long, requires = "field")]
        remove: bool,
        /// Delete the record
        #[arg(long)]
        delete: bool,
        /// Keep the record
        #[arg(long)]
        keep: bool,
        /// Why, for those who read the history
        #[arg(long)]
        why: String,
        /// Who decides
        #[arg(long)]
        author: Option<String>,
    },
}

pub(super) fn run(place: &mut Place<'_>, command: Command) -> Result<(), HubError> {
    match command {
        Command::List { json, limit, after } => {
            let after = after.map(|after| RecordKey::parse(&after)).transpose()?;
            let (told, all, last) = place.change(What::ListConflicts, |tx| {
                let found = tx.in_conflict(&Sight::everything(), after.as_ref(), limit as usize)?;
                let told = found.iter().map(|(key, record)| view::conflict(tx, key, record));
                let told = told.collect::<Result<Vec<_>, _>>()?;
                let target = view::listed(&told);
                let all = tx.counts(&Sight::everything())?.1;
                Ok(((told, all, found.last().map(|(key, _)| key.to_string())), target))
            })?;
            match json {
                true => place.say_json(&told),
                false if told.is_empty() => place.say("none"),
                false => {
                    told.iter().for_each(|conflict| place.say(line(conflict)));
                    if let Some(last) =
                        last.filter(|_| told.len() as u64 == u64::from(limit) && all > told.len() as u64)
                    {
                        place.say(format!(
                            "there may be more, of {all} in all: outpost-hub conflicts list --after {last}"
                        ));
                    }
                }
            }
        }
        Command::Settle { record, field, value, remove, delete, keep: _, why, author } => {
            let key = RecordKey::parse(&record)?;
            let target = json!({ "record": record, "field": field, "author": author });
            let verdict = match (field, value, remove) {
                (Some(field), Some(value), _) => Verdict::Value(FieldName::new(&field)?, json_or_text(&value)),
                (Some(field), None, true) => Verdict::Remove(FieldName::new(&field)?),
                _ => Verdict::Delete(delete),
            };
            let who = Who::at_the_keyboard(author.as_deref())?;
            place.change(What::Settle, |tx| Ok((desk::settle(tx, key, verdict, why, &who)?, target)))?;
            place.say("settled");
        }
    }
    Ok(())
}

/// What is not JSON is meant as text.
fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn line(conflict: &Value) -> String {
    let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let fields = conflict.get("fields").and_then(Value::as_array).into_iter().flatten();
    let fields: Vec<String> = fields.map(|field| text(field, "field")).collect();
    let (kind, id, state) = (text(conflict, "type"), text(conflict, "id"), text(conflict, "state"));
    format!("{kind}/{id}   {state}   {}", fields.join(", "))
}
