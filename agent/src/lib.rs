//! `outpost`, the gateway agent: captures records from health workers' apps, keeps them safe on the card, answers reads
//! with no internet, and reconciles with the hub whenever there is a link.
//!
//! The program is a thin shell around three things: [`store`] remembers (the only SQL), [`sync_protocol`] decides, and
//! [`sync`] carries. [`api`] is what apps see, [`apps`] which of them may, [`network`] where they come in; [`cli`] is what a
//! technician types.

// Named, so that the SQLite that it compiles is linked.
use sqlite as _;

pub mod acts;
pub mod api;
pub mod apps;
mod board;
pub mod cli;
pub mod clock;
pub mod config;
pub mod disk;
pub mod error;
mod hardware;
pub mod id;
pub mod keys;
pub mod lock;
pub mod network;
mod read_only;
pub mod run;
mod service;
pub mod status;
pub mod store;
pub mod sync;
pub mod upkeep;
