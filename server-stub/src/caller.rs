//! Who asks over HTTP, and what they may do and see: judged anew for each request.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, Method, header};
use sync_protocol::id::Author;

use crate::account::{Account, AccountName, Role, Sight};
use crate::audit::Actor;
use crate::config::Tls;
use crate::cookie::{SESSION, session_hash};
use crate::error::HubError;
use crate::hub::Hub;
use crate::secret::{Sha256, is_same, sha256};
use crate::store::Tx;

/// What API tokens begin with, so that they are known where they should not be.
pub(crate) const TOKEN_PREFIX: &str = "hub_";

/// Somebody who was let in.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) actor: Actor,
    pub(crate) role: Role,
    pub(crate) sight: Sight,
    pub(crate) by: By,
}

/// What somebody came in by.
#[derive(Debug, Clone)]
pub(crate) enum By {
    /// `admin.token`, which only who may read the hub's folder has.
    Machine,
    /// A browser in which somebody logged in.
    Session { account: i64, name: AccountName, hash: Sha256 },
    /// A program.
    Token { name: AccountName },
}

impl Caller {
    /// Whose name is kept with a write. A person writes under his own name; a program says for whom it writes.
    pub(crate) fn author(&self, said: Option<&str>) -> Result<Option<Author>, HubError> {
        let own = match &self.by {
            By::Machine => None,
            By::Session { name, .. } if said.is_some_and(|said| said != name.as_str()) => {
                return Err(HubError::Invalid(format!("you are logged in as {name}, and write under that name")));
            }
            By::Session { name, .. } | By::Token { name } => Some(name.as_str()),
        };
        Ok(said.or(own).map(Author::new).transpose()?)
    }

    /// Refuses who does not see everything, for what concerns everybody.
    pub(crate) fn must_see_everything(&self) -> Result<(), HubError> {
        match self.sight.sees_everything() {
            true => Ok(()),
            false => Err(HubError::NotAllowed("this is for accounts that see everything".to_owned())),
        }
    }

    /// Who logged in, for what a program must not do.
    pub(crate) fn person(&self) -> Result<(i64, &AccountName, &Sha256), HubError> {
        match &self.by {
            By::Session { account, name, hash } => Ok((*account, name, hash)),
            _ => Err(HubError::NotAllowed("this is for a person who is logged in".to_owned())),
        }
    }
}

/// Whose page makes a browser ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// One of the hub's own.
    Own,
    /// None: a person typed the address.
    None,
    /// Another site's.
    Foreign,
    /// The request does not say; it may be no browser.
    Silent,
}

/// What a browser says of the page that asks. It says it itself: no page can say it for it.
pub(crate) fn page_of(headers: &HeaderMap) -> Page {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    match (text(header::HeaderName::from_static("sec-fetch-site")), headers.get(header::ORIGIN)) {
        (Some("same-origin"), _) => Page::Own,
        (Some("none"), _) => Page::None,
        (Some(_), _) => Page::Foreign,
        (None, Some(_)) => {
            let site = text(header::ORIGIN).and_then(|origin| origin.split_once("://")).map(|(_, site)| site);
            match site.zip(text(header::HOST)).is_some_and(|(site, host)| site.eq_ignore_ascii_case(host)) {
                true => Page::Own,
                false => Page::Foreign,
            }
        }
        (None, None) => Page::Silent,
    }
}

/// Why somebody is not let in.
#[derive(Debug)]
pub(crate) enum Out {
    /// Nothing was shown that opens, or not any more.
    Stranger,
    /// A page of another site asks for somebody who is logged in.
    ForeignPage,
    /// The hub cannot tell now.
    Broken(HubError),
}

impl<E: Into<HubError>> From<E> for Out {
    fn from(error: E) -> Out {
        Out::Broken(error.into())
    }
}

/// Who asks. `is_person` is false for what a page does by itself: it does not keep a session open.
pub(crate) async fn caller(
    hub: &Hub,
    from: Option<IpAddr>,
    method: &Method,
    headers: &HeaderMap,
    is_person: bool,
) -> Result<Caller, Out> {
    if let Some(shown) = headers.get(header::AUTHORIZATION) {
        let token = shown.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
        return by_token(hub, from, token.ok_or(Out::Stranger)?).await;
    }
    let tls = hub.config().tls;
    let hash = session_hash(SESSION.of(headers, tls).ok_or(Out::Stranger)?, headers);
    match (page_of(headers), method.is_safe()) {
        (Page::Own, _) | (Page::None | Page::Silent, true) => by_session(hub, from, hash, is_person).await,
        _ => Err(Out::ForeignPage),
    }
}

async fn by_token(hub: &Hub, from: Option<IpAddr>, token: &str) -> Result<Caller, Out> {
    if token.starts_with(TOKEN_PREFIX) {
        let hash = sha256(token.as_bytes());
        let look = move |tx: &mut Tx<'_>| {
            let Some(token) = tx.token_of(&hash)? else { return Ok(None) };
            let account = tx.account_numbered(token.account)?;
            Ok::<_, HubError>(account.filter(|account| !account.is_disabled).map(|account| (token, account)))
        };
        let (token, account) = hub.read(look).await?.ok_or(Out::Stranger)?;
        return Ok(Caller {
            actor: Actor::at(format!("token:{}/{}", account.name, token.label), from),
            role: token.role.min(account.role),
            sight: token.sight.shared_with(&account.sight),
            by: By::Token { name: account.name },
        });
    }
    // Behind a proxy an address is what the proxy says, and the proxy itself is on this machine as often as not.
    let is_here = from.is_some_and(|from| from.to_canonical().is_loopback()) && hub.config().tls != Tls::Proxy;
    match is_here && is_same(token, hub.admin_token()) {
        true => Ok(Caller {
            actor: Actor::at("machine", from),
            role: Role::Admin,
            sight: Sight::everything(),
            by: By::Machine,
        }),
        false => Err(Out::Stranger),
    }
}

async fn by_session(hub: &Hub, from: Option<IpAddr>, hash: Sha256, is_person: bool) -> Result<Caller, Out> {
    let lasting = hub.lasting();
    let look = move |tx: &mut Tx<'_>| match tx.session(&hash, lasting)? {
        Some((account, is_old)) => Ok::<_, HubError>(tx.account_numbered(account)?.map(|account| (account, is_old))),
        None => Ok(None),
    };
    let (account, is_old) = hub.read(look).await?.ok_or(Out::Stranger)?;
    let Account { number, name, role, sight, is_disabled: false, .. } = account else { return Err(Out::Stranger) };
    if is_old && is_person {
        hub.write(move |tx| tx.note_seen(&hash)).await?;
    }
    let actor = Actor::at(format!("account:{name}"), from);
    Ok(Caller { actor, role, sight, by: By::Session { account: number, name, hash } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_page_is_the_hubs_own_if_the_browser_says_so() {
        let own = ("origin", "https://hub.example.org:8480");
        let host = ("host", "Hub.example.org:8480");
        assert_eq!(page_of(&said(&[host, own])), Page::Own);
        assert_eq!(page_of(&said(&[("sec-fetch-site", "same-origin")])), Page::Own);
        assert_eq!(page_of(&said(&[("sec-fetch-site", "none")])), Page::None);
        assert_eq!(page_of(&said(&[host])), Page::Silent);
        for foreign in ["https://evil.example.org", "https://hub.example.org", "null", "hub.example.org:8480"] {
            assert_eq!(page_of(&said(&[host, ("origin", foreign)])), Page::Foreign, "{foreign}");
        }
        for site in ["cross-site", "same-site", "what"] {
            assert_eq!(page_of(&said(&[host, own, ("sec-fetch-site", site)])), Page::Foreign, "{site}");
        }
    }
}
