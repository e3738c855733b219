//! `outpost conflicts` and `outpost parked`: what waits for a person.

use std::io::Write;

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Client;
use crate::error::Error;

/// See and settle fields in which two values stand.
#[derive(Debug, Subcommand)]
pub(crate) enum Conflicts {
    /// List the records and fields.
    List {
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Show the values of one record, with who wrote them and when.
    Show {
        /// TYPE/ID.
        record: String,
    },
    /// Decide which value stands.
    Settle {
        /// TYPE/ID.
        record: String,
        /// The field; leave out for a record that was deleted and edited.
        field: Option<String>,
        /// The value that shall stand: JSON, or plain text.
        #[arg(long, conflicts_with_all = ["remove", "delete", "keep"])]
        value: Option<String>,
        /// Remove the field.
        #[arg(long)]
        remove: bool,
        /// Delete the record after all.
        #[arg(long, conflicts_with = "keep")]
        delete: bool,
        /// Keep the record after all.
        #[arg(long)]
        keep: bool,
        /// Why; kept in the history.
        #[arg(long)]
        why: String,
        /// Who decides.
        #[arg(long)]
        author: Option<String>,
    },
}

impl Conflicts {
    pub(crate) async fn execute(self, client: &mut Client, out: &mut dyn Write) -> Result<(), Error> {
        match self {
            Conflicts::List { json } => {
                let conflicts = client.ask_pages("/v1/conflicts", "conflicts").await?;
                if json {
                    return writeln!(out, "{}", json!({"conflicts": conflicts})).map_err(Error::from);
                }
                if conflicts.is_empty() {
                    writeln!(out, "none")?;
                }
                for conflict in &conflicts {
                    let fields: Vec<&str> = rows(conflict, "fields").map(|f| text(f, "field")).collect();
                    writeln!(
                        out,
                        "{}/{}   {}   {}",
                        text(conflict, "type"),
                        text(conflict, "id"),
                        text(conflict, "state"),
                        fields.join(", ")
                    )?;
                }
                Ok(())
            }
            Conflicts::Show { record } => {
                type_and_id(&record)?;
                let conflicts = client.ask_pages("/v1/conflicts", "conflicts").await?;
                let is_it = |c: &&Value| format!("{}/{}", text(c, "type"), text(c, "id")) == record;
                let found = conflicts.iter().find(is_it);
                let found = found.ok_or_else(|| Error::refused(format!("{record} is not in conflict here")))?;
                let pretty = serde_json::to_string_pretty(found).unwrap_or_default();
                writeln!(out, "{pretty}").map_err(Error::from)
            }
            Conflicts::Settle { record, field, value, remove, delete, keep, why, author } => {
                let (record_type, id) = type_and_id(&record)?;
                let decision = match (&field, &value) {
                    (Some(field), Some(value)) => json!({"field": field, "value": json_or_text(value)}),
                    (Some(field), None) if remove => json!({"field": field, "value": null}),
                    (None, None) if delete || keep => json!({"delete": delete}),
                    _ => {
                        return Err(Error::Usage(
                            "give a field with --value or --remove, or --delete or --keep for a deleted record"
                                .to_owned(),
                        ));
                    }
                };
                let mut body = json!({"type": record_type, "id": id, "why": why, "author": author});
                if let (Some(body), Value::Object(decision)) = (body.as_object_mut(), decision) {
                    body.extend(decision);
                }
                client.ask_json("POST", "/v1/conflicts/settle", &body).await?;
                writeln!(out, "settled; the decision goes to the hub with the next sync").map_err(Error::from)
            }
        }
    }
}

/// See changes that the hub cannot use, and decide about them.
#[derive(Debug, Subcommand)]
pub(crate) enum Parked {
    /// List them with the reasons.
    List {
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Show one.
    Show {
        /// As listed, such as 3-1-42; or TYPE/ID for the first of a record.
        change: String,
    },
    /// Ask the hub to try again.
    Retry {
        /// As listed.
        change: String,
    },
    /// Drop the change. It stays in the history.
    Discard {
        /// As listed.
        change: String,
    },
}

impl Parked {
    pub(crate) async fn execute(self, client: &mut Client, out: &mut dyn Write) -> Result<(), Error> {
        let (change, discard) = match self {
            Parked::List { json } => {
                let parked = client.ask_pages("/v1/parked", "parked").await?;
                if json {
                    return writeln!(out, "{}", json!({"parked": parked})).map_err(Error::from);
                }
                if parked.is_empty() {
                    writeln!(out, "none")?;
                }
                for row in &parked {
                    writeln!(
                        out,
                        "{}   {}/{}   {}",
                        text(row, "change"),
                        text(row, "type"),
                        text(row, "id"),
                        text(row, "reason")
                    )?;
                }
                return Ok(());
            }
            Parked::Show { change } => {
                let parked = client.ask_pages("/v1/parked", "parked").await?;
                let found = parked.iter().find(|row| {
                    text(row, "change") == change || format!("{}/{}", text(row, "type"), text(row, "id")) == change
                });
                let told = || Error::refused(format!("{change} is not parked here; see: outpost parked list"));
                let found = found.ok_or_else(told)?;
                let path = format!("/v1/records/{}/{}?meta=true", text(found, "type"), text(found, "id"));
                let record = client.ask_json("GET", &path, &Value::Null).await?;
                let pretty =
                    serde_json::to_string_pretty(&json!({"parked": found, "record": record})).unwrap_or_default();
                return writeln!(out, "{pretty}").map_err(Error::from);
            }
            Parked::Retry { change } => (change, false),
            Parked::Discard { change } => (change, true),
        };
        if change.contains('/') {
            let told =
                format!("{change} names a record; name the change as `outpost parked list` does, such as 3-1-42");
            return Err(Error::Usage(told));
        }
        client.ask_json("POST", "/v1/parked", &json!({"change": change, "discard": discard})).await?;
        writeln!(out, "noted; the next sync tells the hub").map_err(Error::from)
    }
}

/// The two parts of TYPE/ID.
pub(super) fn type_and_id(record: &str) -> Result<(&str, &str), Error> {
    let parts = record.split_once('/').filter(|(record_type, id)| !record_type.is_empty() && !id.is_empty());
    parts.ok_or_else(|| Error::Usage(format!("{record} is not a record's name: it is TYPE/ID, such as patient/p1")))
}

pub(super) fn rows<'a>(answer: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    answer.get(key).and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// What is not JSON is meant as text.
fn json_or_text(value: &str) -> Value {
    serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()))
}
