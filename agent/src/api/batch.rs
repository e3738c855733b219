//! Many writes at once: NDJSON in, NDJSON out, one result a line, one durable commit a chunk. A bad line fails alone.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sync_protocol::id::{Author, RecordKey};
use sync_protocol::limits::RECORD_BYTES_MAX;
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::App;
use super::body::expect_type;
use super::caller::Caller;
use super::patience::is_too_slow;
use super::problem::{Problem, UNREADABLE};
use super::write::{Outcome, Receipt, Terms, Wish, named_author, perform};
use crate::apps::Access;
use crate::clock::Moment;

/// Lines in one durable commit, and bytes.
pub(crate) const CHUNK_LINES: usize = 500;
const CHUNK_BYTES: usize = 2 * 1024 * 1024;
/// Lines in one batch.
pub(crate) const BATCH_LINES_MAX: usize = 100_000;
/// A line holds a record and its names.
const LINE_BYTES_MAX: usize = RECORD_BYTES_MAX + 1024;
const NDJSON: &str = "application/x-ndjson";

/// One line of a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Line {
    /// `put` unless told.
    #[serde(default)]
    op: Verb,
    #[serde(rename = "type")]
    record_type: String,
    id: String,
    /// The record, or the merge patch; none for a delete.
    #[serde(default)]
    #[schema(value_type = Object)]
    body: Option<Map<String, Value>>,
    #[serde(default)]
    if_match: Option<String>,
    #[serde(default)]
    author: Option<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Verb {
    #[default]
    Put,
    Patch,
    Delete,
}

/// One line of the answer.
#[derive(Debug, Serialize, ToSchema)]
struct LineResult {
    /// Which line, from 1.
    line: usize,
    /// As if it had been sent alone: 201, 200, 4xx.
    status: u16,
    #[serde(flatten)]
    receipt: Option<Receipt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// Writes many records. Each line is an object with `type`, `id`, `body`, and optionally `op` (`put`, `patch`, `delete`),
/// `if_match` and `author`. The answer has one line for each, in order, and a line is answered only when it is on disk.
#[utoipa::path(post, path = "/v1/batch",
    params(("Outpost-Author" = Option<String>, Header, description = "The person at the tablet, for lines without `author`")),
    request_body(content = Line, content_type = "application/x-ndjson"),
    responses((status = 200, content_type = "application/x-ndjson", body = LineResult), (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 507, body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn batch(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    expect_type(&headers, NDJSON)?;
    let author = named_author(&headers)?;
    app.disk.check_room()?;
    let (results, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(4);
    tokio::spawn(async move {
        // The app may have gone away; what was committed by then stays committed.
        let _ = run(&app, body, Chunk::of(caller, author), &results).await;
    });
    let lines = stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|item| (item, receiver)) });
    Ok(([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response())
}

/// The app stopped listening.
struct Gone;

type Results = mpsc::Sender<Result<Bytes, std::io::Error>>;

async fn run(app: &App, mut body: Body, mut chunk: Chunk, results: &Results) -> Result<(), Gone> {
    let mut buffer: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                chunk.flush(app, results).await?;
                let how = if is_too_slow(&error) { "came too slowly" } else { "ended before all of it had arrived" };
                return chunk.stop(results, &format!("The body {how}. Send the missing lines again.")).await;
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        buffer.extend_from_slice(&data);
        while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            chunk.push(&line);
            if chunk.lines.len() >= CHUNK_LINES || chunk.bytes >= CHUNK_BYTES {
                chunk.flush(app, results).await?;
            }
        }
        if buffer.len() > LINE_BYTES_MAX || chunk.count > BATCH_LINES_MAX {
            chunk.flush(app, results).await?;
            let told = format!(
                "Stopped here: a line is at most {LINE_BYTES_MAX} bytes, a batch at most {BATCH_LINES_MAX} lines."
            );
            return chunk.stop(results, &told).await;
        }
    }
    chunk.push(&buffer);
    chunk.flush(app, results).await
}

/// Lines that wait for one commit.
struct Chunk {
    caller: Caller,
    /// Who is named for the whole batch.
    author: Option<Author>,
    lines: Vec<Numbered>,
    bytes: usize,
    count: usize,
}

impl Chunk {
    fn of(caller: Caller, author: Option<Author>) -> Chunk {
        Chunk { caller, author, lines: Vec::new(), bytes: 0, count: 0 }
    }

    fn push(&mut self, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        self.count += 1;
        self.bytes += line.len();
        self.lines.push((self.count, parse(line, &self.caller, self.author.as_ref())));
    }

    async fn flush(&mut self, app: &App, results: &Results) -> Result<(), Gone> {
        let lines = std::mem::take(&mut self.lines);
        self.bytes = 0;
        if lines.is_empty() {
            return Ok(());
        }
        let numbers: Vec<usize> = lines.iter().map(|(number, _)| *number).collect();
        let now = app.clock.now();
        // An app that was revoked meanwhile: what waits is refused.
        let written = match self.caller.still().and_then(|()| app.disk.check_room()) {
            Ok(()) => app.store.write(move |tx| lines.into_iter().map(|l| perform_line(tx, l, now)).collect()).await,
            Err(problem) => Err(problem),
        };
        let answers: Vec<LineResult> = written.unwrap_or_else(|problem| {
            numbers.into_iter().map(|line| LineResult::failed(line, problem.clone())).collect()
        });
        let mut text = Vec::new();
        for answer in &answers {
            text.extend(serde_json::to_vec(answer).unwrap_or_default());
            text.push(b'\n');
        }
        results.send(Ok(Bytes::from(text))).await.map_err(|_| Gone)
    }

    async fn stop(&self, results: &Results, detail: &str) -> Result<(), Gone> {
        let answer = LineResult::failed(self.count + 1, Problem::bad_request(detail));
        let mut text = serde_json::to_vec(&answer).unwrap_or_default();
        text.push(b'\n');
        results.send(Ok(Bytes::from(text))).await.map_err(|_| Gone)
    }
}

impl LineResult {
    fn failed(line: usize, problem: Problem) -> Self {
        LineResult { line, status: problem.status, receipt: None, problem: Some(problem) }
    }
}

fn parse(line: &[u8], caller: &Caller, of_all: Option<&Author>) -> Result<(RecordKey, Wish, Terms), Problem> {
    if line.len() > LINE_BYTES_MAX {
        return Err(Problem::too_large("The line", LINE_BYTES_MAX));
    }
    let line: Line = serde_json::from_slice(line).map_err(|e| {
        let wanted = "an object with type, id, body and optionally op, if_match, author";
        Problem::bad_request(format!("The line is not {wanted}: see column {}.", e.column()))
    })?;
    let key = caller.key(Access::Write, &line.record_type, &line.id)?;
    let author = line.author.as_deref().map(Author::new).transpose();
    let author = author.map_err(|e| Problem::bad_request(format!("author is {e}.")))?;
    let author = caller.author(author.or_else(|| of_all.cloned()))?;
    let terms = Terms { if_match: line.if_match, must_be_new: false, author };
    let body = line.body.ok_or_else(|| Problem::bad_request("The line has no body."));
    let wish = match line.op {
        Verb::Put => Wish::Put(body?),
        Verb::Patch => Wish::Patch(Value::Object(body?)),
        Verb::Delete => Wish::Delete,
    };
    Ok((key, wish, terms))
}

type Numbered = (usize, Result<(RecordKey, Wish, Terms), Problem>);

/// A line that the app has to correct fails alone, and so does one for a damaged record; a store that fails takes the whole chunk back.
fn perform_line(tx: &mut crate::store::Tx<'_>, (line, wish): Numbered, now: Moment) -> Result<LineResult, Problem> {
    match wish.and_then(|(key, wish, terms)| perform(tx, key, wish, terms, now)) {
        Ok(receipt) => {
            let status = if receipt.result == Outcome::Created { 201 } else { 200 };
            Ok(LineResult { line, status, receipt: Some(receipt), problem: None })
        }
        Err(problem) if problem.status >= 500 && problem.kind != UNREADABLE => Err(problem),
        Err(problem) => Ok(LineResult::failed(line, problem)),
    }
}
