//! Everything that needs both programs: a generator of records, real processes under a breakable link, scenarios, benches
//! and the story of the README. Nothing of this is shipped.

pub mod bench;
pub mod broken;
pub mod canary;
pub mod counted;
pub mod frozen;
pub mod fuzz;
pub mod generator;
pub mod log;
#[cfg(test)]
mod model;
mod mount;
pub mod preload;
pub mod process;
mod program;
pub mod provider;
pub mod proxy;
pub mod sim;
pub mod tls_proxy;
pub mod wait;
pub mod wire;
