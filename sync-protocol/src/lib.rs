//! What a gateway and the hub must agree on: records and their canonical bytes, merge by rules, the messages, and both
//! halves of an exchange. `docs/protocol.md` says the same for those who write another implementation.
//!
//! Gateways stand where the network comes and goes. Each captures writes at once, shows them, and exchanges them with the
//! one hub when there is a link. The hub gives every change a number; that order, and what each writer had seen of it,
//! decides which write knew of which. Only writes that did not know of each other meet the conflict rules.
//!
//! # Deliberately absent
//! Files, network, threads, environment, clock, randomness, logging. What must be remembered goes through
//! [`gateway::Store`] and [`hub::Store`]; time and random keys are arguments. Whether a transaction was durable, and when
//! to try again, is for the programs; [`session`] only computes how long to wait.
//!
//! # Invariants
//! - One value, op or record that this crate made has one encoding, on every machine. No order of a hash map reaches bytes.
//! - A call that writes is one transaction of the caller: it is done whole, or the caller rolls back.
//! - Merge is the same function at both ends, and a gateway takes over the hub's result where they differ.
//! - A value of a register that a write replaces, or that is not taken, is handed back as [`merge::Superseded`], to be kept.
//! - Bytes from outside are checked when they are read: what is wrong gives an error, never a panic.
//!
//! # Modules, in reading order
//! | | |
//! |---|---|
//! | [`id`], [`clock`], [`value`], [`record`] | the words: names, stamps, values, cells, ops |
//! | [`boot`] | when a write really was, if the clock of its box was wrong |
//! | [`rules`], [`merge`], [`edit`] | deciding: what a document says, what two writes become, what an app changed |
//! | [`erase`] | what is known of a record whose values were erased, and which writes knew of it |
//! | [`codec`], [`payload`], [`frame`], [`message`], [`limits`], [`error`] | bytes: canonical forms, what travels, how much, what can be wrong |
//! | [`digest`], [`difference`] | proof that both sides hold the same, and finding what they do not |
//! | [`gateway`], [`hub`], [`session`] | the two halves of an exchange, and when to begin one |
//! | [`memory`], [`loopback`] | stores and a link for examples, tests and simulations |
//!
//! # Example
//! Two clinics change different fields of one patient while both are offline.
//! ```
//! use serde_json::json;
//! use sync_protocol::clock::TimeQuality;
//! use sync_protocol::edit::render;
//! use sync_protocol::gateway::{self, Capture, Intent, Store};
//! use sync_protocol::id::{RecordKey, Scope, Source};
//! use sync_protocol::identity::DeviceKey;
//! use sync_protocol::loopback::{Link, settle};
//! use sync_protocol::memory::{MemoryGateway, MemoryHub};
//!
//! fn enrolled(hub: &mut MemoryHub) -> Result<MemoryGateway, Box<dyn std::error::Error>> {
//!     let known = hub.enroll(vec![Scope::new("mw/zomba")?], Source::CLINIC, DeviceKey([7; 32]));
//!     let mut gateway = MemoryGateway::default();
//!     let mut state = gateway.state()?;
//!     (state.device, state.origin, state.key) = (known.device, known.origin, known.key);
//!     state.scopes = known.scopes;
//!     gateway.set_state(&state)?;
//!     Ok(gateway)
//! }
//!
//! fn write(at: &mut MemoryGateway, body: serde_json::Value, now_ms: i64) -> Result<(), Box<dyn std::error::Error>> {
//!     let intent = Intent::Put(body.as_object().cloned().unwrap_or_default());
//!     let (key, quality) = (RecordKey::new("patient", "p1")?, TimeQuality::Good);
//!     gateway::capture(at, Capture { key, intent, base: None, author: None, now_ms, quality })?;
//!     Ok(())
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut hub = MemoryHub::default();
//! let (mut chingale, mut domasi) = (enrolled(&mut hub)?, enrolled(&mut hub)?);
//! let mut link = Link::new()?;
//! let now_ms = 1_780_000_000_000;
//!
//! write(&mut chingale, json!({"name": "Asha", "village": "Chingale", "phone": "1"}), now_ms)?;
//! settle(&mut chingale, &mut hub, &mut link, now_ms as u64, 10)?;
//! settle(&mut domasi, &mut hub, &mut link, now_ms as u64, 10)?;
//!
//! // No link: both go on.
//! write(&mut chingale, json!({"name": "Asha", "village": "Thondwe", "phone": "1"}), now_ms + 1_000)?;
//! write(&mut domasi, json!({"name": "Asha", "village": "Chingale", "phone": "2"}), now_ms + 2_000)?;
//!
//! for gateway in [&mut chingale, &mut domasi] {
//!     settle(gateway, &mut hub, &mut link, now_ms as u64 + 9_000, 10)?;
//! }
//! settle(&mut chingale, &mut hub, &mut link, now_ms as u64 + 9_000, 10)?;
//!
//! let key = RecordKey::new("patient", "p1")?;
//! for gateway in [&chingale, &domasi] {
//!     let shown = gateway.record(&key).map(|held| render(&held.visible)).unwrap_or_default();
//!     assert_eq!(json!(shown), json!({"name": "Asha", "village": "Thondwe", "phone": "2"}));
//! }
//! # Ok(())
//! # }
//! ```

pub mod boot;
mod cbor;
pub mod clock;
pub mod codec;
pub mod difference;
pub mod digest;
pub mod edit;
pub mod erase;
pub mod error;
pub mod frame;
pub mod gateway;
pub mod hub;
pub mod id;
pub mod identity;
pub mod limits;
pub mod loopback;
pub mod memory;
pub mod merge;
pub mod message;
pub mod payload;
pub mod record;
pub mod recovery;
pub mod released;
pub mod rules;
pub mod session;
pub mod ticket;
pub mod value;
