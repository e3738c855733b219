//! A file of a card that is out of use hands in what it holds. The gateway whose card it was is not touched: no turn, no
//! contact, no error is noted for it.

use sync_protocol::hub::{Rescuing, rescue, rescued};
use sync_protocol::message::{Rescued, Response};
use sync_protocol::payload::Payload;

use super::Talk;
use super::incoming::{Broken, Incoming};
use super::unpack::{Frames, Next};
use crate::error::StoreError;
use crate::problem::Problem;
use crate::store::Tx;

impl Talk<'_> {
    /// Takes in the frames. What came before a damaged one stays, and is known when it comes again.
    pub(super) async fn rescue(&mut self, mut with: Box<Rescuing>, from: &mut Incoming) -> Result<Response, Problem> {
        let mut frames = Frames::new(self.hub, from);
        loop {
            let payloads = match frames.next().await? {
                Next::Payloads(_) if self.hub.room().is_short() => {
                    from.drain().await?;
                    return Err(Problem::disk_nearly_full());
                }
                Next::Payloads(payloads) => payloads,
                Next::End => break,
                Next::Damaged(error) => {
                    tracing::warn!(device = self.device.0, %error, "damaged frame of a rescue");
                    from.drain().await?;
                    return Err(Broken::Malformed(error).into());
                }
            };
            let (device, from, key) = (self.device, self.address, self.key);
            let act = move |tx: &mut Tx<'_>| {
                let Rescued { taken, held, .. } = *with.so_far();
                for payload in &payloads {
                    if let Payload::Ops(ops) = payload {
                        rescue(tx, &mut with, ops)?;
                    }
                }
                let sum = (with.so_far().taken - taken, with.so_far().held - held);
                if sum.0 > 0 {
                    // It may be another gateway that has the file now.
                    let owner = key.and_then(|key| tx.owner_of(&key).ok());
                    tx.audit_hand_in((owner.map_or(device, |(by, _)| by), from), device, sum)?;
                }
                Ok::<_, StoreError>(with)
            };
            with = self.hub.write(act).await?;
        }
        let so_far = with.so_far();
        (self.sum.new, self.sum.repeated, self.sum.held) = (so_far.taken, so_far.known, so_far.held);
        let look = move |tx: &mut Tx<'_>| {
            let now_ms = u64::try_from(tx.now_ms).unwrap_or(0);
            rescued(tx, *with, now_ms)
        };
        Ok(self.hub.read(look).await?)
    }
}
