//! `outpost acts`: what was done at this gateway that decides about who gets in.

use std::io::Write;

use clap::Args;
use serde_json::Value;

use super::client::Client;
use super::people::{rows, text};
use crate::error::Error;

/// Show what was done here that decides about who gets in: apps, keys, enrolments.
///
/// The hub writes the same into its audit after the next sync. A time with a question mark is what the clock of the box said, before
/// the gateway knew better.
#[derive(Debug, Args)]
pub(crate) struct Acts {
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Acts {
    pub(crate) async fn execute(self, client: &mut Client, out: &mut dyn Write) -> Result<(), Error> {
        let answer = client.ask_json("GET", "/v1/acts", &Value::Null).await?;
        if self.json {
            return writeln!(out, "{answer}").map_err(Error::from);
        }
        if rows(&answer, "acts").next().is_none() {
            writeln!(out, "none")?;
        }
        for act in rows(&answer, "acts") {
            writeln!(out, "{}", line(act))?;
        }
        match answer.get("dropped").and_then(Value::as_u64) {
            Some(dropped) if dropped > 0 => {
                writeln!(out, "{dropped} went before the hub heard of them").map_err(Error::from)
            }
            _ => Ok(()),
        }
    }
}

fn line(act: &Value) -> String {
    let number = act.get("number").and_then(Value::as_u64).unwrap_or(0);
    let doubt = if text(act, "time_quality") == "unknown" { "?" } else { "" };
    let told =
        if act.get("told").and_then(Value::as_bool).unwrap_or(false) { "" } else { "   the hub has not heard of it" };
    let on = act.get("on").map(Value::to_string).unwrap_or_default();
    format!("{number}   {}{doubt}   {}   {}   {on}{told}", text(act, "at"), text(act, "who"), text(act, "what"))
}
