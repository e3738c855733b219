//! placeholder
#![allow(dead_code)]
mod cbor;
pub mod clock;
pub mod codec;
pub mod error;
pub mod id;
pub mod limits;
pub mod record;
pub mod rules;
pub mod value;
