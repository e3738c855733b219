//! Everything that reads bytes from outside, as functions that any fuzzer can call.
//!
//! Each [`Target`] takes arbitrary bytes and panics if a promise is broken: nothing from outside makes a program panic or hang,
//! what is read and written again reads as the same, no answer is larger than a message may be, and no refusal repeats the
//! value that it refuses.
//!
//! `tests` plays the kept inputs (`tests/corpus`), the golden vectors and seeded changes of both, for some seconds.
//! `tests/fuzz` lets libFuzzer choose by what the code does with an input, for as long as one likes; memory and time have
//! limits there.

mod bytes;
mod card;
mod documents;
mod http;
mod letters;
mod login;
#[cfg(test)]
mod mutate;
mod seeds;
mod talk;

#[cfg(test)]
mod tests;

/// One thing that reads from outside.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is also that of its folder of inputs.
    pub name: &'static str,
    /// Gives it bytes. Panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Changed inputs that the suite tries.
    pub tries: u64,
}

/// All of them.
pub const TARGETS: [Target; 15] = [
    Target { name: "frame", run: bytes::frame, tries: 3_000 },
    Target { name: "payload", run: bytes::payload, tries: 10_000 },
    Target { name: "request", run: bytes::request, tries: 10_000 },
    Target { name: "response", run: bytes::response, tries: 10_000 },
    Target { name: "op", run: bytes::op, tries: 10_000 },
    Target { name: "record", run: bytes::record, tries: 10_000 },
    Target { name: "symbols", run: bytes::symbols, tries: 3_000 },
    Target { name: "rules", run: documents::rules, tries: 3_000 },
    Target { name: "edit", run: documents::edit, tries: 3_000 },
    Target { name: "hub", run: talk::hub, tries: 1_000 },
    Target { name: "gateway", run: talk::gateway, tries: 1_000 },
    Target { name: "http", run: http::http, tries: 500 },
    Target { name: "ticket", run: letters::ticket, tries: 10_000 },
    Target { name: "login", run: login::login, tries: 3_000 },
    Target { name: "card", run: card::card, tries: 50 },
];

pub use seeds::seeds;

/// What stands for a patient's data in the inputs: no refusal may repeat it.
const CANARY: &str = "zq7canary";
