//! Stores in memory, for the example of the crate, for tests and for simulations.
//!
//! They do exactly what the SQLite stores must do, in the plainest way, and are what those are compared with. They are
//! values: a clone is a snapshot, which is how a simulation copies a card or restores a hub.

mod gateway;
mod hub;

pub use gateway::{MemoryGateway, MemoryOld};
pub use hub::MemoryHub;

use std::convert::Infallible;
use std::io;

/// What a store in memory can fail with: nothing but the compressor behind it.
#[derive(Debug, thiserror::Error)]
#[error("the compressor failed")]
pub struct MemoryError(#[from] io::Error);

impl From<Infallible> for MemoryError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
