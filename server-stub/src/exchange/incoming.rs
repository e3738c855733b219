//! A request's body as it arrives: the head first, then frame by frame.

use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use sync_protocol::error::DecodeError;
use sync_protocol::frame::split;
use sync_protocol::limits::MESSAGE_BYTES_MAX;
use sync_protocol::message::split_head;
use tokio::time::timeout;

use crate::error::StoreError;

/// Frames that are taken together at most, so that one gateway does not hold the writer for long.
const FRAMES_TOGETHER: usize = 64;

/// What is read in all of a message that is refused, and for how long.
const REFUSED_BYTES_MAX: usize = 64 * 1024;
const REFUSED_SECONDS: u64 = 30;

/// Why reading ended before the end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection broke, or the sender was too slow.
    Cut,
    /// Larger than any message may be.
    TooLarge,
    /// Bytes that are not what they should be.
    Malformed(DecodeError),
    /// The hub could not go on.
    Failed(StoreError),
}

impl From<DecodeError> for Broken {
    fn from(error: DecodeError) -> Self {
        Broken::Malformed(error)
    }
}

/// A body under way.
#[derive(Debug)]
pub(super) struct Incoming {
    body: Body,
    buffer: Vec<u8>,
    /// Bytes read in all.
    pub(super) bytes: usize,
}

impl Incoming {
    pub(super) fn new(body: Body) -> Incoming {
        Incoming { body, buffer: Vec::new(), bytes: 0 }
    }

    /// Reads on; false at the end.
    async fn more(&mut self) -> Result<bool, Broken> {
        match self.chunk().await? {
            Some(chunk) => {
                self.buffer.extend_from_slice(&chunk);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            let next = std::future::poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx));
            let Some(frame) = next.await else { return Ok(None) };
            // Trailers are nothing to us.
            let Ok(chunk) = frame.map_err(|_| Broken::Cut)?.into_data() else { continue };
            self.bytes += chunk.len();
            match self.bytes <= MESSAGE_BYTES_MAX {
                true => return Ok(Some(chunk)),
                false => return Err(Broken::TooLarge),
            }
        }
    }

    /// The bytes of the head.
    pub(super) async fn head(&mut self) -> Result<Vec<u8>, Broken> {
        loop {
            if let Some((head, taken)) = split_head(&self.buffer)? {
                let head = head.to_vec();
                self.buffer.drain(..taken);
                return Ok(head);
            }
            if !self.more().await? {
                return Err(Broken::Cut);
            }
        }
    }

    /// The frames that have arrived by now, and at least one; none at the end.
    pub(super) async fn frames(&mut self) -> Result<Vec<Vec<u8>>, Broken> {
        loop {
            let mut frames = Vec::new();
            let mut at = 0;
            while frames.len() < FRAMES_TOGETHER {
                match split(self.buffer.get(at..).unwrap_or_default()) {
                    Ok(Some((frame, taken))) => {
                        frames.push(frame.to_vec());
                        at += taken;
                    }
                    Ok(None) => break,
                    Err(_) if !frames.is_empty() => break,
                    Err(error) => return Err(Broken::Malformed(error)),
                }
            }
            self.buffer.drain(..at);
            if !frames.is_empty() {
                return Ok(frames);
            }
            if !self.more().await? {
                return match self.buffer.is_empty() {
                    true => Ok(frames),
                    false => Err(Broken::Malformed(DecodeError::LengthBeyondInput)),
                };
            }
        }
    }

    /// Reads on for a while and forgets it, so that the sender gets to hear the answer if it had not much more to say: a gateway
    /// that hears nothing says less at once the next time, down to far less than this.
    pub(super) async fn drain_a_little(&mut self) {
        let some = async { while self.bytes < REFUSED_BYTES_MAX && matches!(self.chunk().await, Ok(Some(_))) {} };
        let _ = timeout(Duration::from_secs(REFUSED_SECONDS), some).await;
    }

    /// Reads to the end and forgets it, so that the sender gets to hear the answer.
    pub(super) async fn drain(&mut self) -> Result<(), Broken> {
        while self.chunk().await?.is_some() {}
        Ok(())
    }
}
