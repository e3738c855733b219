//! Handing in what an old database holds: requests one after the other, until all that can be read is at the hub.

use sync_protocol::frame::{Effort, Packer};
use sync_protocol::gateway::Outgoing;
use sync_protocol::gateway::rescue::{Rescuer, Tally};
use sync_protocol::limits::MESSAGE_BYTES_MAX;
use sync_protocol::message::{Response, Status, body, split_head};

use super::transport::Transport;
use crate::error::Error;
use crate::store::OldDatabase;

/// Bytes of ops in one request: what breaks off costs no more than that.
const UP_BYTES: usize = 64 * 1024;
/// Requests in one go, so that a loop between two programs that disagree ends.
const REQUESTS_MAX: usize = 100_000;

/// A rescue and the database it reads.
#[derive(Debug)]
pub struct Rescue {
    /// The database.
    pub old: OldDatabase,
    /// What is sent, and what became of it.
    pub rescuer: Rescuer,
}

/// Hands in all that can be read; `told` hears how far it is after each answer. After an error the tally in `rescue` is what was
/// answered until then.
///
/// # Errors
/// [`Error::Offline`] if the link broke, [`Error::Denied`] with the hub's words; what SQLite reports, other than damage.
pub async fn hand_in(
    mut rescue: Rescue,
    transport: &Transport,
    mut told: impl FnMut(Tally),
) -> (Rescue, Result<(), Error>) {
    let mut packer = match Packer::new(Effort::Link) {
        Ok(packer) => packer,
        Err(error) => return (rescue, Err(error.into())),
    };
    for _ in 0..REQUESTS_MAX {
        let prepared;
        ((rescue, packer), prepared) =
            apart((rescue, packer), |(rescue, packer)| rescue.rescuer.request(&mut rescue.old, packer, UP_BYTES)).await;
        let outgoing = match prepared {
            Ok(Some(outgoing)) => outgoing,
            Ok(None) => return (rescue, Ok(())),
            Err(error) => return (rescue, Err(error)),
        };
        let answer = match ask(transport, outgoing).await {
            Ok(answer) => answer,
            Err(error) => return (rescue, Err(error)),
        };
        let answered;
        (rescue, answered) = apart(rescue, move |rescue| rescue.rescuer.answered(&mut rescue.old, &answer)).await;
        if let Err(error) = answered {
            return (rescue, Err(error));
        }
        told(rescue.rescuer.tally());
    }
    (rescue, Err(Error::Rejected("it does not come to an end".to_owned())))
}

/// Works where nobody else waits for the disk meanwhile.
async fn apart<S: Send + 'static, T: Send + 'static>(
    mut on: S,
    work: impl FnOnce(&mut S) -> T + Send + 'static,
) -> (S, T) {
    let done = tokio::task::spawn_blocking(move || {
        let result = work(&mut on);
        (on, result)
    });
    done.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

async fn ask(transport: &Transport, outgoing: Outgoing) -> Result<Response, Error> {
    let incoming = transport.exchange(body(&outgoing.head.encode(), outgoing.frames)).await?;
    let bytes = incoming.whole(MESSAGE_BYTES_MAX).await?;
    let head = split_head(&bytes)?.ok_or_else(|| Error::offline(super::exchange::Cut))?;
    let answer = Response::decode(head.0)?;
    match answer.status {
        Status::Ok if answer.rescued.is_some() => Ok(answer),
        Status::Denied => Err(Error::Denied(answer.reason.unwrap_or_default())),
        Status::Upgrade => Err(Error::Upgrade(answer.reason.unwrap_or_default())),
        _ => Err(Error::Upgrade("it does not take what old cards hold yet".to_owned())),
    }
}
