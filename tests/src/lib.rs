//! Placeholder.

pub mod generator;
