//! `outpost pair` and `outpost apps`: letting apps in from the clinic's network, and throwing them out.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, encoded};
use super::people::{rows, text};
use crate::apps::picture_for_terminal;
use crate::error::Error;

/// Show a code, once, by which an app on the clinic's network is let in.
#[derive(Debug, Args)]
pub(crate) struct Pair {
    /// What people call it, such as "tablet 1". One that has this name already is replaced.
    name: String,
    /// Record types that it may read, with commas between; all unless --read or --write is given.
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    read: Option<Vec<String>>,
    /// Record types that it may write.
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    write: Option<Vec<String>>,
    /// How long it may come in, days; as configured unless given.
    #[arg(long)]
    days: Option<u32>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Pair {
    pub(crate) async fn execute(self, client: &mut Client, out: &mut dyn Write) -> Result<(), Error> {
        if let Client::Here { .. } = client {
            return Err(Error::refused("the gateway is not running, so no app can come in: start it with outpost run"));
        }
        let wish = json!({"name": self.name, "read": self.read, "write": self.write, "days": self.days});
        let invited = client.ask_json("POST", "/v1/pairings", &wish).await?;
        if self.json {
            return writeln!(out, "{invited}").map_err(Error::from);
        }
        let told = |key: &str| text(&invited, key);
        let minutes = invited.get("seconds").and_then(Value::as_u64).unwrap_or(0) / 60;
        if invited.get("replaces").and_then(Value::as_bool).unwrap_or(false) {
            writeln!(out, "{} is paired already: it is replaced when the code is used", told("name"))?;
        }
        writeln!(out, "{}", picture_for_terminal(told("invitation")))?;
        writeln!(out, "scan this in the app, once, within {minutes} minutes; or type:")?;
        writeln!(out, "address    {}", told("address"))?;
        writeln!(out, "code       {}", told("code"))?;
        writeln!(out, "all in one {}", told("invitation")).map_err(Error::from)
    }
}

/// See the apps that may come in from the clinic's network, and throw one out.
#[derive(Debug, Subcommand)]
pub(crate) enum Apps {
    /// List them.
    List {
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Let one in no more, at once.
    Revoke {
        /// As listed.
        name: String,
    },
}

impl Apps {
    pub(crate) async fn execute(self, client: &mut Client, out: &mut dyn Write) -> Result<(), Error> {
        match self {
            Apps::List { json } => {
                let answer = client.ask_json("GET", "/v1/apps", &Value::Null).await?;
                if json {
                    return writeln!(out, "{answer}").map_err(Error::from);
                }
                if rows(&answer, "apps").next().is_none() {
                    writeln!(out, "none; let one in with: outpost pair NAME")?;
                }
                for app in rows(&answer, "apps") {
                    writeln!(out, "{}", line(app))?;
                }
                Ok(())
            }
            Apps::Revoke { name } => {
                client.ask("DELETE", &format!("/v1/apps/{}", encoded(&name)), "application/json", Vec::new()).await?;
                writeln!(out, "{name} is out").map_err(Error::from)
            }
        }
    }
}

fn line(app: &Value) -> String {
    let types = |key: &str| {
        let names: Vec<&str> = rows(app, key).filter_map(Value::as_str).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(",") }
    };
    let seen = if text(app, "last_seen_at").is_empty() { "never" } else { text(app, "last_seen_at") };
    let until = match (app.get("expired"), text(app, "expires_at")) {
        (Some(Value::Bool(true)), _) => "expired".to_owned(),
        (_, "") => "until not known yet".to_owned(),
        (_, at) => format!("until {at}"),
    };
    format!("{}   reads {}   writes {}   last here {seen}   {until}", text(app, "name"), types("read"), types("write"))
}
