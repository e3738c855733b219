//! `outpost records`: a look at what is held.

use std::io::Write;

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, encoded};
use super::people::type_and_id;
use crate::error::{Class, Error};

/// Damaged records that are named.
const NAMED_MAX: usize = 20;

/// Look at records.
#[derive(Debug, Subcommand)]
pub(crate) enum Records {
    /// List records of a type, one JSON object a line.
    List {
        /// The type, such as patient.
        record_type: String,
        /// Only those whose field has this value: village=Chingale.
        #[arg(long = "where", value_name = "FIELD=VALUE")]
        filters: Vec<String>,
        /// At most this many; all if not given.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
    },
    /// Show one record with all that is known of each field.
    Show {
        /// TYPE/ID.
        record: String,
        /// Show what became of it instead, newest first.
        #[arg(long)]
        history: bool,
    },
}

impl Records {
    pub(crate) async fn execute(self, client: &mut Client, out: &mut dyn Write) -> Result<(), Error> {
        match self {
            Records::List { record_type, filters, limit } => list(client, &record_type, &filters, limit, out).await,
            Records::Show { record, history } => {
                type_and_id(&record)?;
                let answer = match history {
                    true => {
                        let path = format!("/v1/records/{record}/history");
                        json!({"history": client.ask_pages(&path, "history").await?})
                    }
                    false => client.ask_json("GET", &format!("/v1/records/{record}?meta=true"), &Value::Null).await?,
                };
                let text = serde_json::to_string_pretty(&answer).unwrap_or_default();
                writeln!(out, "{text}").map_err(Error::from)
            }
        }
    }
}

async fn list(
    client: &mut Client,
    record_type: &str,
    filters: &[String],
    limit: Option<u32>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut left = limit.map_or(usize::MAX, |limit| limit as usize);
    let (mut after, mut unreadable) = (String::new(), Vec::new());
    while left > 0 {
        let mut path = format!("/v1/records/{record_type}?limit={}", left.min(1_000));
        if !after.is_empty() {
            path.push_str(&format!("&after={}", encoded(&after)));
        }
        for filter in filters {
            let parts = filter.split_once('=');
            let told = || Error::Usage(format!("--where {filter} has no value: it is FIELD=VALUE"));
            let (field, value) = parts.ok_or_else(told)?;
            path.push_str(&format!("&{}={}", encoded(field), encoded(value)));
        }
        let page = client.ask_json("GET", &path, &Value::Null).await?;
        let records = page.get("records").and_then(Value::as_array).cloned().unwrap_or_default();
        for record in &records {
            writeln!(out, "{record}")?;
        }
        let damaged = page.get("unreadable").and_then(Value::as_array).into_iter().flatten();
        unreadable.extend(damaged.filter_map(Value::as_str).map(str::to_owned));
        left = left.saturating_sub(records.len());
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    // Whoever takes the list for all that there is has to know.
    match unreadable.as_slice() {
        [] => Ok(()),
        ids => {
            let named: Vec<&str> = ids.iter().map(String::as_str).take(NAMED_MAX).collect();
            let more = if ids.len() > NAMED_MAX { " and more" } else { "" };
            let detail = format!(
                "{} of the records cannot be read, because the card has damaged them: {}{more}. The hub sends what it has of them at \
                 the next sync; see: outpost doctor",
                ids.len(),
                named.join(", ")
            );
            Err(Error::Told { class: Class::Broken, detail })
        }
    }
}
