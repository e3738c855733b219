//! Apps that may come in over the clinic's network: which there are, what each may do, and how a new one is let in.
//!
//! Pure but for randomness: times are arguments, the rows are in the store, and what apps say comes through [`crate::api`].

mod code;
mod door;
mod grant;
mod invitation;
mod secret;
mod tries;

pub use code::CODE_LIFE;
pub use door::{Door, PairedApp, Refused};
pub use grant::{Access, Grant, Types};
pub use invitation::{Invitation, picture, picture_for_terminal};
pub use secret::{Fingerprint, Token};
pub(crate) use tries::source;

/// Apps that are paired at once.
pub const APPS_MAX: usize = 200;
/// Longest name of an app, bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// The name of an app as it was meant; `None` if it cannot be one.
pub fn app_name(typed: &str) -> Option<String> {
    let name = typed.trim();
    let is_fine = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    is_fine.then(|| name.to_owned())
}
