//! The reference centre of an Outpost fleet: `outpost-hub`.
//!
//! Everything that gateways and hub must agree on is decided in [`sync_protocol::hub`]; this crate remembers ([`Hub`] over
//! one SQLite file), carries ([`serve`]: exchanges, enrolment, admin API, status page) and lets people in ([`cli`]).
//!
//! It speaks TLS 1.3 with certificates of its own authority (`pki`). It keeps no state outside of the database but parsed rules and the
//! counts of wrong codes and logins, so that commands can work on the same file while it serves.

// Named, so that the SQLite that it compiles is linked.
use sqlite as _;

mod account;
mod acts;
mod api;
mod audit;
mod caller;
pub mod cli;
mod clock;
mod config;
mod cookie;
mod desk;
mod enroll;
mod error;
mod escrow;
mod exchange;
mod factor;
mod fleet;
mod gate;
mod given;
mod hub;
mod inline;
mod lock;
mod login;
mod oidc;
mod page;
mod password;
mod patience;
mod peer;
mod pem;
mod pki;
mod problem;
mod proxy;
mod refusals;
mod room;
mod secret;
mod server;
mod service;
mod sources;
mod staff;
mod store;
mod strangers;
mod term;
#[cfg(test)]
mod tests;
mod totp;
mod trial;
mod tries;
mod view;

pub use config::{Config, SAMPLE, Tls};
pub use error::{Class, HubError, StoreError};
pub use hub::Hub;
pub use inline::Inline;
pub use oidc::{Oidc, Refused, Said, Trouble};
pub use server::{serve, serve_tls};
pub use store::Tx;
