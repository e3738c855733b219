//! One's own second factor: it is on when the app has shown that it knows the secret, so that nobody locks himself out.
//!
//! The hub keeps nothing of a secret until then: the page that shows it sends it back.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::audit::What;
use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;
use crate::login::{self, tried};
use crate::secret;
use crate::store::Tx;
use crate::totp;

/// A secret as long as ours are; shorter ones are guessed.
const KEY_BYTES: usize = 20;

/// What somebody types to have a second factor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// As it was shown.
    pub(crate) secret: Zeroizing<String>,
    pub(crate) password: Zeroizing<String>,
    /// What the app makes of the secret.
    pub(crate) code: String,
}

/// What somebody types to have it no more.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unwanted {
    pub(crate) password: Zeroizing<String>,
    pub(crate) code: String,
}

/// A new secret for who asks, of which nothing is kept.
pub(crate) async fn new_secret(hub: &Hub, caller: &Caller) -> Result<Zeroizing<String>, HubError> {
    password_of(hub, caller).await?;
    Ok(Zeroizing::new(totp::base32(secret::totp_key()?.as_slice())))
}

/// The password that it takes, as it is kept. Who has none that opens anything is told who can do it instead.
async fn password_of(hub: &Hub, caller: &Caller) -> Result<String, HubError> {
    let (_, name, _) = caller.person()?;
    login::own_password(hub, name).await?.ok_or_else(|| {
        HubError::NotAllowed(format!(
            "your account has no password here, and it takes one to turn a second factor on or off; somebody at the hub's machine can: outpost-hub admin totp {name}, with --off to end it"
        ))
    })
}

/// Turns it on. All sessions of the account end.
pub(crate) async fn turn_on(hub: &Hub, from: Option<IpAddr>, caller: &Caller, wanted: Wanted) -> Result<(), HubError> {
    let Wanted { secret, password, code } = wanted;
    let key = totp::unbase32(&secret).map(Zeroizing::new).filter(|key| key.len() == KEY_BYTES);
    let key = key.ok_or_else(|| HubError::Invalid("this is no secret that was shown here".to_owned()))?;
    set(hub, from, caller, password, move |tx, account| {
        if !tx.locks_of(account)?.totp_key.is_empty() {
            return Err(HubError::Conflict("this account has a second factor; turn it off first".to_owned()));
        }
        let step = totp::step_of(&code, &key, 0, tx.now_ms).ok_or(HubError::NotLoggedIn)?;
        tx.set_totp(account, &key)?;
        tx.note_totp(account, step)?;
        Ok(true)
    })
    .await
}

/// Turns it off. All sessions of the account end.
pub(crate) async fn turn_off(
    hub: &Hub,
    from: Option<IpAddr>,
    caller: &Caller,
    unwanted: Unwanted,
) -> Result<(), HubError> {
    let Unwanted { password, code } = unwanted;
    set(hub, from, caller, password, move |tx, account| {
        let locks = tx.locks_of(account)?;
        if !locks.totp_key.is_empty() {
            totp::step_of(&code, &locks.totp_key, locks.totp_step, tx.now_ms).ok_or(HubError::NotLoggedIn)?;
        }
        tx.set_totp(account, &[])?;
        Ok(false)
    })
    .await
}

/// Who knows the password as well as the cookie does it; it is slowed like a login, and written down.
async fn set(
    hub: &Hub,
    from: Option<IpAddr>,
    caller: &Caller,
    password: Zeroizing<String>,
    act: impl FnOnce(&mut Tx<'_>, i64) -> Result<bool, HubError> + Send + 'static,
) -> Result<(), HubError> {
    let (account, name, _) = caller.person()?;
    let (actor, told) = (caller.actor.clone(), name.to_string());
    let kept = password_of(hub, caller).await?;
    let work = async {
        login::verify(hub, password, kept).await?;
        let act = move |tx: &mut Tx<'_>| {
            let is_on = act(tx, account)?;
            Ok::<_, HubError>(((), json!({ "account": told, "on": is_on })))
        };
        hub.change(actor, What::SetSecondFactor, act).await
    };
    tried(hub, from, Some(name.clone()), work).await
}
