//! `outpost import`: a file of records into the gateway, chunk by chunk, each durable before the next.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::client::Client;
use crate::error::Error;

/// Lines sent at once: one durable commit.
const CHUNK_LINES: usize = 500;
/// Failed lines that are printed; the rest is counted.
const PRINTED_MAX: u64 = 20;

/// Take records of one type from a file, one JSON object a line.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Type of the records, such as patient.
    record_type: String,
    /// The file: NDJSON.
    file: PathBuf,
    /// Top-level field that holds each record's id.
    #[arg(long, default_value = "id")]
    id_field: String,
    /// Who is named as the author.
    #[arg(long)]
    author: Option<String>,
}

#[derive(Default)]
struct Tally {
    new: u64,
    changed: u64,
    same: u64,
    failed: u64,
    twice: u64,
}

impl Import {
    pub(crate) async fn execute(self, client: &mut Client, out: &mut dyn Write) -> Result<(), Error> {
        let told = |source: std::io::Error| Error::File { path: self.file.clone(), source };
        let file = File::open(&self.file).map_err(told)?;
        let bar = ProgressBar::new(file.metadata().map_err(told)?.len());
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}  {eta} left") {
            bar.set_style(style);
        }
        let mut tally = Tally::default();
        let mut seen = BTreeMap::new();
        let mut chunk: Vec<(usize, Vec<u8>)> = Vec::new();
        for (at, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(told)?;
            bar.inc(line.len() as u64 + 1);
            if line.trim().is_empty() {
                continue;
            }
            match self.wrap(&line) {
                Ok((id, wrapped)) => {
                    if let Some(first) = seen.insert(id.clone(), at + 1) {
                        tally.twice(at + 1, &id, first, out)?;
                    }
                    chunk.push((at + 1, wrapped));
                }
                Err(reason) => tally.fail(at + 1, &reason, out)?,
            }
            if chunk.len() >= CHUNK_LINES {
                self.send(client, &mut chunk, &mut tally, out).await?;
                bar.set_message(format!("{} records", tally.new + tally.changed + tally.same));
            }
        }
        self.send(client, &mut chunk, &mut tally, out).await?;
        bar.finish_and_clear();
        let Tally { new, changed, same, failed, twice } = tally;
        writeln!(out, "{new} new, {changed} replaced as a whole, {same} the same already, {failed} refused")?;
        if twice > 0 {
            writeln!(out, "{twice} line(s) with an id that an earlier line has: the later line stands")?;
        }
        match failed {
            0 => Ok(()),
            n => Err(Error::refused(format!(
                "{n} line(s) were refused; correct them and import those lines. The whole file again would replace what \
                 was edited meanwhile."
            ))),
        }
    }

    /// A line of the file as a line of a batch.
    fn wrap(&self, line: &str) -> Result<(String, Vec<u8>), String> {
        let body: Value = serde_json::from_str(line).map_err(|e| format!("is not JSON: see column {}", e.column()))?;
        let id = match body.get(&self.id_field) {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => return Err(format!("has no field {} that could be its id", self.id_field)),
        };
        let wrapped = json!({"type": self.record_type, "id": id, "body": body, "author": self.author});
        let mut wrapped = wrapped.to_string().into_bytes();
        wrapped.push(b'\n');
        Ok((id, wrapped))
    }

    async fn send(
        &self,
        client: &mut Client,
        chunk: &mut Vec<(usize, Vec<u8>)>,
        tally: &mut Tally,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let sent = std::mem::take(chunk);
        if sent.is_empty() {
            return Ok(());
        }
        let body = sent.iter().flat_map(|(_, line)| line.iter().copied()).collect();
        let answer = client.ask("POST", "/v1/batch", "application/x-ndjson", body).await?;
        let mut answered = 0;
        for (result, (line, _)) in answer.split(|b| *b == b'\n').filter(|l| !l.is_empty()).zip(&sent) {
            let result: Value = serde_json::from_slice(result).unwrap_or_default();
            answered += 1;
            match result.get("result").and_then(Value::as_str) {
                Some("created") => tally.new += 1,
                Some("changed") => tally.changed += 1,
                Some(_) => tally.same += 1,
                None => {
                    let detail = result.pointer("/problem/detail").and_then(Value::as_str).unwrap_or("was refused");
                    let is_full = result.get("status").and_then(Value::as_u64) >= Some(500);
                    if is_full {
                        return Err(Error::refused(detail.to_owned()));
                    }
                    tally.fail(*line, detail, out)?;
                }
            }
        }
        match answered == sent.len() {
            true => Ok(()),
            false => Err(Error::refused(
                "the gateway stopped in the middle; import the file again soon: what is edited meanwhile is replaced",
            )),
        }
    }
}

impl Tally {
    fn twice(&mut self, line: usize, id: &str, first: usize, out: &mut dyn Write) -> Result<(), Error> {
        self.twice += 1;
        if self.twice <= PRINTED_MAX {
            writeln!(out, "line {line}: {id} is in line {first}, too")?;
        }
        Ok(())
    }

    fn fail(&mut self, line: usize, reason: &str, out: &mut dyn Write) -> Result<(), Error> {
        self.failed += 1;
        if self.failed <= PRINTED_MAX {
            writeln!(out, "line {line}: {reason}")?;
        }
        Ok(())
    }
}
