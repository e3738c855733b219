//! What can be wrong with bytes or text that came from outside, and with a merge.

use std::panic::PanicHookInfo;

use thiserror::Error;

use crate::id::Dot;

/// Bytes that are not what they should be. They were not applied; nothing was changed.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The CBOR itself is broken, or of another type than expected.
    #[error("malformed CBOR")]
    Cbor(#[from] minicbor::decode::Error),
    /// More bytes follow where the message should have ended.
    #[error("bytes after the end of the message")]
    TrailingBytes,
    /// A declared length is larger than the input that is left.
    #[error("a length that is larger than the input")]
    LengthBeyondInput,
    /// Indefinite lengths are not part of this protocol.
    #[error("indefinite lengths are not allowed")]
    IndefiniteLength,
    /// Nesting deeper than [`crate::limits::DEPTH_MAX`].
    #[error("nested deeper than {} levels", crate::limits::DEPTH_MAX)]
    TooDeep,
    /// Larger than a stated limit.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// A name, id or path that breaks the rules for its kind.
    #[error("not a valid {0}")]
    Name(&'static str),
    /// A request of another major version of the protocol. It is no mistake: [`crate::hub::upgrade`] is the answer.
    #[error("protocol version {0} is not spoken here")]
    Version(u64),
    /// Well-formed CBOR of the wrong shape.
    #[error("unexpected shape: {0}")]
    Shape(&'static str),
    /// The checksum of a frame does not fit its bytes: cut or damaged on the way.
    #[error("frame checksum does not match")]
    Checksum,
    /// The frame was compressed with a dictionary that this program does not have.
    #[error("frame needs compression dictionary {0}, which this program does not have")]
    Dictionary(u32),
    /// zstd could not unpack the frame.
    #[error("frame does not unpack")]
    Unpack(#[source] std::io::Error),
}

/// Why an op could not be merged. The op is kept and reported, never dropped.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum MergeError {
    /// This dot was applied before with other content: a cloned card or a restored image, never normal operation.
    #[error("{0} was used twice with different content; two gateways share one identity")]
    DotReused(Dot),
}
/// What a program may tell of a panic: where it was, and its words only if they were written when the program was. Others are
/// made of what it was working on: what slices a text in the middle of a letter prints the text.
pub fn without_data(panic: &PanicHookInfo<'_>) -> String {
    let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
    let words = panic.payload().downcast_ref::<&'static str>().map_or_else(String::new, |words| format!(": {words}"));
    format!("broken{place}{words}")
}
