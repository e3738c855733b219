//! `outpost records`: a look at what is held.

use std::io::Write;

use clap::Subcommand;
use serde_json::Value;

use super::client::Client;
use super::people::type_and_id;
use crate::error::Error;

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
                let path = match history {
                    true => format!("/v1/records/{record}/history"),
                    false => format!("/v1/records/{record}?meta=true"),
                };
                let answer = client.ask_json("GET", &path, &Value::Null).await?;
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
    let mut after = String::new();
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
        left = left.saturating_sub(records.len());
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    Ok(())
}

/// Percent-encodes a query parameter (RFC 3986).
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
