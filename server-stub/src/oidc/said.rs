//! What a provider says, judged without a network, as it is judged when it comes over one: for whoever tries what may come.

use super::keys::Keys;
use super::provider::{endpoints, id_token};
use super::refusal::{Refused, Trouble};
use super::settings::Oidc;
use super::token::{Doubt, install, person};
use crate::error::HubError;

/// The three things that are asked of a provider for one login, as the bodies of its answers.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// Where its endpoints are (OpenID Connect Discovery 1.0).
    pub discovery: &'a [u8],
    /// Its keys (RFC 7517).
    pub keys: &'a [u8],
    /// Status and body of the answer to a code, with the token in it.
    pub answer: (u16, &'a [u8]),
}

impl Oidc {
    /// The subject whom a provider lets in. `nonce` is what it was shown for this login, `now_seconds` the hub's time, since 1970.
    ///
    /// # Errors
    /// [`Refused`] or [`Trouble`], as [`HubError`]: what of it is not as it has to be.
    pub fn subject(&self, said: Said<'_>, nonce: &str, now_seconds: i64) -> Result<String, HubError> {
        install();
        endpoints(said.discovery, &self.issuer).ok_or(Trouble::Odd)?;
        let token = id_token(said.answer.0, said.answer.1)?;
        let keys = Keys::parse(said.keys).ok_or(Trouble::Odd)?;
        match person(&token, &keys, self, nonce, now_seconds) {
            Ok(person) => Ok(person.subject),
            Err(Doubt::Key) => Err(Refused::Unproven("key").into()),
            Err(Doubt::Of(in_what)) => Err(Refused::Unproven(in_what).into()),
        }
    }
}
