//! Login at a provider: OpenID Connect, the code flow with PKCE.
//!
//! A person is sent to the provider, comes back with a code, and the hub changes that for a token which proves who he is. What
//! belongs together is bound to one browser by a cookie, and is good once. The person becomes the owner of an account that somebody
//! linked; sessions, roles and scopes are those of any other login. The provider is never asked about anything later.

mod begun;
mod entry;
mod keys;
mod pages;
mod provider;
mod refusal;
mod said;
mod settings;
#[cfg(test)]
mod signer;
#[cfg(test)]
mod tests;
mod token;

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

pub(crate) use self::pages::{back, button, code, start};
pub use self::refusal::{Refused, Trouble};
pub use self::said::Said;
pub use self::settings::Oidc;

use self::begun::{Begun, Stage, derived};
use self::entry::{Decision, Visit};
use self::provider::{Provider, Ready};
use self::token::{Doubt, Person};
use crate::clock::now_ms;
use crate::config::Tls;
use crate::cookie::session_hash;
use crate::error::HubError;
use crate::hub::Hub;
use crate::login::{self, Tried};
use crate::secret::{self, is_same, sha256};
use crate::store::{Lasting, Tx};

/// Where the provider sends people back to.
pub(crate) const BACK: &str = "/login/oidc/return";
/// A longer code is none.
const CODE_BYTES_MAX: usize = 4 * 1024;
const SECRET_BYTES_MAX: usize = 4 * 1024;
const HOUR_MS: i64 = 3_600_000;

/// The hub, as the provider knows it.
#[derive(Debug)]
pub(crate) struct Client {
    settings: Oidc,
    secret: Zeroizing<String>,
    provider: Provider,
    begun: Mutex<Begun>,
}

/// With what a person comes back.
#[derive(Deserialize)]
pub(crate) struct Answer {
    code: Option<Zeroizing<String>>,
    state: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

/// How it goes on.
pub(crate) enum Next {
    /// This opens the session.
    In(Zeroizing<String>),
    /// A code of the second factor is asked for; this is of the login that waits for it.
    Code(Zeroizing<String>),
}

impl Client {
    /// Opens the login of a configuration; `None` if there is none.
    pub(crate) fn open(settings: &Oidc) -> Result<Option<Client>, HubError> {
        if !settings.is_on() {
            return Ok(None);
        }
        let path = &settings.client_secret_file;
        let unreadable = |source| HubError::File { path: path.clone(), source };
        let file = fs::metadata(path).map_err(unreadable)?;
        let unusable = |why: &str| HubError::Config(format!("{} {why}", path.display()));
        if file.mode() & 0o007 != 0 {
            return Err(unusable("can be read by everybody; chmod 0600, or 0640 with a group for it"));
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?);
        let secret = Zeroizing::new(text.trim().to_owned());
        if secret.is_empty() || secret.len() > SECRET_BYTES_MAX {
            return Err(unusable("holds no secret"));
        }
        token::install();
        let provider = Provider::open(settings)?;
        Ok(Some(Client { settings: settings.clone(), secret, provider, begun: Mutex::default() }))
    }

    /// What the button says.
    pub(crate) fn label(&self) -> &str {
        &self.settings.label
    }

    fn begin(&self, from: Option<IpAddr>, stage: Stage) -> Result<Zeroizing<String>, HubError> {
        let pass = secret::pass()?;
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.add(sha256(pass.as_bytes()), from, stage, Instant::now());
        Ok(pass)
    }

    fn take(&self, pass: &str, is_wanted: impl Fn(&Stage) -> bool) -> Option<Stage> {
        let hash = sha256(pass.as_bytes());
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).take(&hash, is_wanted, Instant::now())
    }

    /// How long a session lasts that is opened by the provider's word.
    fn lasting(&self, hub: &Hub) -> Lasting {
        let usual = hub.lasting();
        Lasting { all_ms: usual.all_ms.min(i64::from(self.settings.session_hours) * HOUR_MS), ..usual }
    }

    /// Changes a code for a token, and judges that.
    async fn prove(
        &self,
        ready: Ready<'_>,
        (code, redirect): (&str, &str),
        pass: &str,
        now: Instant,
    ) -> Result<Person, HubError> {
        let (proof, nonce) = (Zeroizing::new(derived(pass, "proof")), derived(pass, "nonce"));
        let known_as = (self.settings.client_id.as_str(), self.secret.as_str());
        let (endpoints, token) = self.provider.token(ready, known_as, (code, redirect, &proof)).await?;
        for is_unknown in [false, true] {
            let keys = self.provider.keys(&endpoints, is_unknown, now).await?;
            match token::person(&token, &keys, &self.settings, &nonce, now_ms() / 1_000) {
                Ok(person) => return Ok(person),
                Err(Doubt::Key) => {}
                Err(Doubt::Of(in_what)) => return Err(Refused::Unproven(in_what).into()),
            }
        }
        Err(Refused::Unproven("key").into())
    }
}

/// The client, where one is configured.
pub(crate) fn client(hub: &Hub) -> Result<&Client, HubError> {
    hub.oidc().ok_or_else(|| HubError::Missing("login at a provider here".to_owned()))
}

/// Where the provider sends people back to. Never by what a request says of the hub's name.
async fn redirect(hub: &Hub) -> Result<String, HubError> {
    let address = hub.read(|tx| tx.authority()).await?.map(|kept| kept.address).unwrap_or_default();
    let scheme = if hub.config().tls == Tls::Off { "http" } else { "https" };
    let host = if scheme == "https" { address.strip_suffix(":443").unwrap_or(&address) } else { &address };
    match host.is_empty() {
        true => Err(HubError::Config("nobody said how people reach this hub: outpost-hub init --name".to_owned())),
        false => Ok(format!("{scheme}://{host}{BACK}")),
    }
}

/// Begins a login: what the browser keeps, and where it goes.
pub(crate) async fn begin(hub: &Hub, from: Option<IpAddr>) -> Result<(Zeroizing<String>, String), HubError> {
    let client = client(hub)?;
    let redirect = redirect(hub).await?;
    let endpoints = client.provider.endpoints(Instant::now()).await?;
    let pass = client.begin(from, Stage::Away)?;
    let challenge = URL_SAFE_NO_PAD.encode(sha256(derived(&pass, "proof").as_bytes()));
    let mut url = endpoints.authorization.clone();
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &client.settings.client_id)
        .append_pair("redirect_uri", &redirect)
        .append_pair("scope", &client.settings.scopes.join(" "))
        .append_pair("state", &derived(&pass, "state"))
        .append_pair("nonce", &derived(&pass, "nonce"))
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256");
    Ok((pass, url.into()))
}

/// A login that was begun in this browser and is taken: it ends, in whatever way.
pub(crate) struct Arrived {
    pass: Zeroizing<String>,
    answer: Answer,
}

/// Takes the login that an answer belongs to. An address that another page leads a browser to takes nothing: it has not the state,
/// which only this browser's provider was shown.
pub(crate) fn arrive(hub: &Hub, pass: Option<&str>, answer: Answer) -> Result<Arrived, HubError> {
    let client = client(hub)?;
    let is_own = |pass: &str| answer.state.as_ref().is_some_and(|state| is_same(state, &derived(pass, "state")));
    let pass = pass.filter(|pass| is_own(pass)).ok_or(Refused::NotBegun)?;
    client.take(pass, |stage| *stage == Stage::Away).ok_or(Refused::NotBegun)?;
    Ok(Arrived { pass: Zeroizing::new(pass.to_owned()), answer })
}

/// From where somebody comes, and by what headers.
type Place<'a> = (Option<IpAddr>, &'a HeaderMap);

/// Ends a login by what a person comes back with. It counts as a try as soon as the provider is asked.
pub(crate) async fn finish(hub: &Hub, at: Place<'_>, arrived: Arrived) -> Result<Next, HubError> {
    let (client, from) = (client(hub)?, at.0);
    let Arrived { pass, answer: Answer { code, error, iss, .. } } = arrived;
    // Of another provider, who may want its code to be shown to this one (RFC 9207).
    if iss.is_some_and(|iss| iss != client.settings.issuer) {
        return Err(Refused::Unproven("issuer").into());
    }
    let code = code.filter(|code| error.is_none() && !code.is_empty() && code.len() <= CODE_BYTES_MAX);
    let (code, redirect) = (code.ok_or(Refused::NotLetIn)?, redirect(hub).await?);
    let now = Instant::now();
    let ready = client.provider.ready(now).await?;
    // From here on the code is on its way: whatever comes of it but a login was a try.
    let sent = async {
        let proved = client.prove(ready, (&code, &redirect), &pass, now).await;
        enter(hub, client, at, proved).await.map_or_else(Tried::Wrong, Tried::Right)
    };
    // Counted by where it comes from; there is no name yet.
    login::counted(hub, from, &secret::pass()?, sent).await
}

/// Lets in who proved who he is. Who did not, or is nobody here, is written down.
async fn enter(
    hub: &Hub,
    client: &Client,
    (from, headers): Place<'_>,
    proved: Result<Person, HubError>,
) -> Result<Next, HubError> {
    let refusals = hub.refusals().clone();
    let person = match proved {
        Err(HubError::Login(refusal)) => {
            hub.write(move |tx| entry::note_refused(tx, (&refusals, from), refusal, None)).await?;
            return Err(refusal.into());
        }
        proved => proved?,
    };
    let pass = secret::pass()?;
    let visit = Visit { from, hash: session_hash(&pass, headers), lasting: client.lasting(hub) };
    let (settings, subject) = (client.settings.clone(), person.subject.clone());
    match hub.write(move |tx| entry::decide(tx, &settings, &refusals, &person, &visit)).await? {
        Decision::In => Ok(Next::In(pass)),
        Decision::Code { account } => Ok(Next::Code(client.begin(from, Stage::Code { account, subject })?)),
        Decision::Refused(refusal) => Err(refusal.into()),
    }
}

/// A login that waited for a code of the second factor and is taken: it ends, in whatever way.
pub(crate) struct Waited {
    account: i64,
    subject: String,
}

/// Takes the login that waits for a code in this browser.
pub(crate) fn waited(hub: &Hub, pass: Option<&str>) -> Result<Waited, HubError> {
    let client = client(hub)?;
    let stage = pass.and_then(|pass| client.take(pass, |stage| matches!(stage, Stage::Code { .. })));
    let Some(Stage::Code { account, subject }) = stage else { return Err(Refused::NotBegun.into()) };
    Ok(Waited { account, subject })
}

/// Ends a login whose account has a second factor, by a code of it. A wrong one ends it as well: it is begun anew then.
pub(crate) async fn confirm(
    hub: &Hub,
    (from, headers): Place<'_>,
    Waited { account, subject }: Waited,
    typed: String,
) -> Result<Zeroizing<String>, HubError> {
    let client = client(hub)?;
    let found = hub.read::<_, HubError, _>(move |tx| tx.account_numbered(account)).await?;
    let name = found.ok_or(Refused::NotBegun)?.name;
    let pass = secret::pass()?;
    let visit = Visit { from, hash: session_hash(&pass, headers), lasting: client.lasting(hub) };
    let issuer = client.settings.issuer.clone();
    let open = move |tx: &mut Tx<'_>| {
        // Again, because it may have been closed or unlinked while he typed.
        let still = tx.account_of_identity(&issuer, &subject)? == Some(account);
        let found = tx.account_numbered(account)?.filter(|account| still && !account.is_disabled);
        let found = found.ok_or(HubError::NotLoggedIn)?;
        let locks = tx.locks_of(account)?;
        login::second_factor(tx, &found, &locks, &typed)?;
        entry::open(tx, &found, &visit)
    };
    login::tried(hub, from, Some(name), hub.write(open)).await?;
    Ok(pass)
}
