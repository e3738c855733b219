//! A file of a card that is out of use hands in what it holds. The gateway whose card it was is not touched: no turn, no
//! contact, no error is noted for it.

use sync_protocol::error::DecodeError;
use sync_protocol::hub::{Rescuing, rescue, rescued};
use sync_protocol::message::Response;
use sync_protocol::payload::Payload;

use super::Talk;
use super::incoming::{Broken, Incoming};
use crate::error::StoreError;
use crate::problem::Problem;
use crate::store::Tx;

impl Talk<'_> {
    /// Takes in the frames. What came before a damaged one stays, and is known when it comes again.
    pub(super) async fn rescue(&mut self, mut with: Box<Rescuing>, from: &mut Incoming) -> Result<Response, Problem> {
        loop {
            let frames = match from.frames().await {
                Ok(frames) if frames.is_empty() => break,
                Ok(frames) => frames,
                Err(Broken::Malformed(error)) => {
                    self.damaged(&error);
                    from.drain().await?;
                    return Err(Broken::Malformed(error).into());
                }
                Err(broken) => return Err(broken.into()),
            };
            let (batches, damage) = self.decode(frames).await?;
            let act = move |tx: &mut Tx<'_>| {
                for payload in &batches {
                    if let Payload::Ops(ops) = payload {
                        rescue(tx, &mut with, ops)?;
                    }
                }
                Ok::<_, StoreError>(with)
            };
            with = self.hub.write(act).await?;
            if let Some(error) = damage {
                self.damaged(&error);
                from.drain().await?;
                return Err(Broken::Malformed(error).into());
            }
        }
        let so_far = with.so_far();
        (self.sum.new, self.sum.repeated, self.sum.held) = (so_far.taken, so_far.known, so_far.held);
        let look = move |tx: &mut Tx<'_>| {
            let now_ms = u64::try_from(tx.now_ms).unwrap_or(0);
            rescued(tx, *with, now_ms)
        };
        Ok(self.hub.read(look).await?)
    }

    fn damaged(&self, error: &DecodeError) {
        tracing::warn!(device = self.device.0, %error, "damaged frame of a rescue");
    }
}
