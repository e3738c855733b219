//! A minimal HTTP/1.1 client on one kept connection: it has to cost less than what it measures.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::sample::Sample;

/// A kept connection. Reads answers with a `Content-Length` only.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: &str) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Client { stream, buffer: Vec::new() })
    }

    /// One request; status and body of the answer.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> io::Result<(u16, Vec<u8>)> {
        let mut message = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        message.extend_from_slice(body);
        self.stream.write_all(&message)?;
        self.buffer.clear();
        loop {
            if let Some(answer) = parse(&self.buffer) {
                return Ok(answer);
            }
            let mut part = [0; 16 * 1024];
            match self.stream.read(&mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.buffer.extend_from_slice(&part[..n]),
            }
        }
    }
}

/// Status and body, once all of it is there.
fn parse(bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    };
    let length = head.lines().find_map(length).unwrap_or(0);
    let body = bytes.get(end + 4..end + 4 + length)?;
    Some((status, body.to_vec()))
}

/// What the clients measured.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) records_a_second: f64,
    /// Each request, in order of length.
    latencies_us: Vec<f64>,
}

impl Driven {
    /// The latency that this part of the requests stays within, microseconds.
    pub(crate) fn quantile_us(&self, part: f64) -> f64 {
        let at = (self.latencies_us.len() as f64 * part) as usize;
        self.latencies_us.get(at.min(self.latencies_us.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Saves the records with so many clients at once, each on a kept connection. Every answer must be a 201.
pub(crate) fn save_all(address: &str, clients: usize, samples: &[Sample]) -> Result<Driven> {
    let (next, start) = (AtomicUsize::new(0), Barrier::new(clients + 1));
    let work = || -> Result<Vec<f64>> {
        let client = Client::connect(address);
        start.wait();
        let mut client = client.context("connecting to the gateway")?;
        let mut latencies = Vec::new();
        while let Some(sample) = samples.get(next.fetch_add(1, Ordering::Relaxed)) {
            let began = Instant::now();
            let (status, answer) = client.ask("PUT", &sample.path(), "application/json", sample.json.as_bytes())?;
            latencies.push(began.elapsed().as_secs_f64() * 1e6);
            ensure!(status == 201, "{status}: {}", String::from_utf8_lossy(&answer));
        }
        Ok(latencies)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        start.wait();
        let began = Instant::now();
        let mut latencies_us = Vec::new();
        for thread in threads {
            latencies_us.extend(thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
        }
        let seconds = began.elapsed().as_secs_f64();
        latencies_us.sort_by(f64::total_cmp);
        Ok(Driven { records_a_second: samples.len() as f64 / seconds, latencies_us })
    })
}
