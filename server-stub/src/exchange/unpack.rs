//! The frames of a request, unpacked off the async threads: as many together as memory may take, and in one request as many as
//! the work of one gateway may be. What is small on the wire can be large when it is unpacked.

use std::collections::VecDeque;

use sync_protocol::error::DecodeError;
use sync_protocol::limits::{EXCHANGE_UNPACKED_BYTES_MAX, FRAME_UNPACKED_BYTES_LIMIT};
use sync_protocol::payload::Payload;

use super::incoming::{Broken, Incoming};
use crate::error::StoreError;
use crate::hub::Hub;

/// What is unpacked before it is applied, bytes. The frame that reaches it is finished.
const TOGETHER_BYTES: usize = FRAME_UNPACKED_BYTES_LIMIT;

/// What comes next.
pub(super) enum Next {
    /// What is to be applied in one transaction.
    Payloads(Vec<Payload>),
    /// The rest counts for nothing; it comes again.
    Damaged(DecodeError),
    /// Nothing more.
    End,
}

/// The frames of a body under way.
pub(super) struct Frames<'a> {
    hub: &'a Hub,
    from: &'a mut Incoming,
    /// Have arrived, and are not unpacked.
    waiting: VecDeque<Vec<u8>>,
    damage: Option<DecodeError>,
    unpacked_bytes: usize,
}

impl<'a> Frames<'a> {
    pub(super) fn new(hub: &'a Hub, from: &'a mut Incoming) -> Frames<'a> {
        Frames { hub, from, waiting: VecDeque::new(), damage: None, unpacked_bytes: 0 }
    }

    pub(super) async fn next(&mut self) -> Result<Next, Broken> {
        if let Some(error) = self.damage.take() {
            return Ok(Next::Damaged(error));
        }
        if self.waiting.is_empty() {
            match self.from.frames().await {
                Ok(frames) if frames.is_empty() => return Ok(Next::End),
                Ok(frames) => self.waiting = frames.into(),
                Err(Broken::Malformed(error)) => return Ok(Next::Damaged(error)),
                Err(broken) => return Err(broken),
            }
        }
        if self.unpacked_bytes >= EXCHANGE_UNPACKED_BYTES_MAX {
            return Ok(Next::Damaged(DecodeError::TooLarge {
                what: "unpacked frames of one exchange",
                limit: EXCHANGE_UNPACKED_BYTES_MAX,
            }));
        }
        self.unpack().await.map(Next::Payloads).map_err(Broken::Failed)
    }

    /// Unpacks frames that wait: up to the first that is damaged, or until it is enough.
    async fn unpack(&mut self) -> Result<Vec<Payload>, StoreError> {
        let (mut packer, mut frames) = (self.hub.packer()?, std::mem::take(&mut self.waiting));
        let work = tokio::task::spawn_blocking(move || {
            let (mut payloads, mut bytes, mut damage) = (Vec::new(), 0, None);
            while bytes < TOGETHER_BYTES {
                let Some(frame) = frames.pop_front() else { break };
                let unpacked = packer.unpack(&frame).and_then(|plain| Ok((Payload::decode(&plain)?, plain.len())));
                match unpacked {
                    Ok((payload, plain_bytes)) => {
                        bytes += plain_bytes.max(payload.weight());
                        payloads.push(payload);
                    }
                    Err(error) => {
                        damage = Some(error);
                        break;
                    }
                }
            }
            (packer, payloads, frames, bytes, damage)
        });
        let (packer, payloads, frames, bytes, damage) = work.await.map_err(|_| StoreError::Closed)?;
        self.hub.keep_packer(packer);
        (self.waiting, self.damage) = (frames, damage);
        self.unpacked_bytes += bytes;
        Ok(payloads)
    }
}
