//! A second look at who asks, for what outlives the session: the password, and the second factor if there is one. A stolen cookie has
//! neither.

use std::net::IpAddr;

use zeroize::Zeroizing;

use crate::account::AccountName;
use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;
use crate::login::{self, Doors, tried};
use crate::store::Tx;

/// What somebody types to show that it is him: the password, and the code of the second factor.
pub(super) type Typed = (Zeroizing<String>, String);

/// Changes something for a person who shows that it is him. That is slowed like a login, and written down if it is wrong. `instead` is
/// the command that does the same at the hub's machine, without `outpost-hub`.
pub(super) async fn proven<T: Send + 'static>(
    hub: &Hub,
    from: Option<IpAddr>,
    caller: &Caller,
    (password, code): Typed,
    instead: &str,
    act: impl FnOnce(&mut Tx<'_>) -> Result<T, HubError> + Send + 'static,
) -> Result<T, HubError> {
    let (_, name, _) = caller.person()?;
    let kept = password_of(hub, name, instead).await?;
    let (asked, doors) = (name.clone(), Doors::of(hub.config()));
    let work = async {
        login::verify(hub, password, kept.clone()).await?;
        let act = move |tx: &mut Tx<'_>| {
            // Again, because it may have been closed or changed while the password was looked at.
            let found = login::find(tx, Some(&asked), doors)?.filter(|(_, locks)| locks.password == kept);
            let (account, locks) = found.ok_or(HubError::NotLoggedIn)?;
            login::second_factor(tx, &account, &locks, &code)?;
            act(tx)
        };
        hub.write(act).await
    };
    tried(hub, from, Some(name.clone()), work).await
}

/// The password as it is kept. Who has none that opens anything is told who can do it instead.
async fn password_of(hub: &Hub, name: &AccountName, instead: &str) -> Result<String, HubError> {
    login::own_password(hub, name).await?.ok_or_else(|| {
        HubError::NotAllowed(format!(
            "your account has no password here, and this takes one; somebody at the hub's machine can do it: outpost-hub {instead}"
        ))
    })
}
