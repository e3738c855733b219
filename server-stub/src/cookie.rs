//! What a browser keeps for the hub: never for a script, and over TLS for no other host and from no plain page.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use ring::digest::{Context, SHA256};

use crate::config::Tls;
use crate::secret::Sha256;

/// A cookie of the hub.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cookie {
    /// Over TLS with a prefix by which browsers let no other host and no plain page set it.
    names: [&'static str; 2],
    same_site: &'static str,
    /// As long as the browser is open, if nothing else.
    lasts: Option<Duration>,
}

/// Who is logged in.
pub(crate) const SESSION: Cookie = Cookie { names: ["__Host-outpost", "outpost"], same_site: "Strict", lasts: None };

impl Cookie {
    /// A login that is under way elsewhere, from where a page leads back here: `Lax`.
    pub(crate) const fn of_login(lasts: Duration) -> Cookie {
        Cookie { names: ["__Host-outpost-login", "outpost-login"], same_site: "Lax", lasts: Some(lasts) }
    }

    fn name(&self, tls: Tls) -> &'static str {
        let [host, plain] = self.names;
        if tls == Tls::Off { plain } else { host }
    }

    /// What sets it; an empty value takes it away.
    pub(crate) fn set(&self, tls: Tls, value: &str) -> String {
        let secure = if tls == Tls::Off { "" } else { "; Secure" };
        let lasts = if value.is_empty() { Some(Duration::ZERO) } else { self.lasts };
        let end = lasts.map(|lasts| format!("; Max-Age={}", lasts.as_secs())).unwrap_or_default();
        format!("{}={value}; Path=/; HttpOnly; SameSite={}{secure}{end}", self.name(tls), self.same_site)
    }

    /// What a browser shows of it.
    pub(crate) fn of<'a>(&self, headers: &'a HeaderMap, tls: Tls) -> Option<&'a str> {
        let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.name(tls)).map(|(_, value)| value)
    }
}

/// What is kept of a session: of its pass, and of the name under which the hub was asked for. Under another name the pass opens
/// nothing: who binds a name of his own to the hub's address (DNS rebinding) is nobody there, whatever a browser shows.
pub(crate) fn session_hash(pass: &str, headers: &HeaderMap) -> Sha256 {
    let name = headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    let mut hash = Context::new(&SHA256);
    hash.update(pass.as_bytes());
    hash.update(b"\0");
    hash.update(&name.to_ascii_lowercase());
    hash.finish().as_ref().try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn it_is_found_among_others_and_by_its_whole_name() {
        let shown = HeaderValue::from_static("a=1; xoutpost=2; outpost=3; outpost=4; outpost-login=5");
        let headers = HeaderMap::from_iter([(header::COOKIE, shown)]);
        assert_eq!(SESSION.of(&headers, Tls::Off), Some("3"));
        assert_eq!(SESSION.of(&headers, Tls::Own), None, "not without the prefix over TLS");
        assert_eq!(Cookie::of_login(Duration::ZERO).of(&headers, Tls::Off), Some("5"));
    }

    #[test]
    fn it_is_set_for_one_host_and_no_script() {
        let login = Cookie::of_login(Duration::from_secs(600));
        assert_eq!(SESSION.set(Tls::Own, "x"), "__Host-outpost=x; Path=/; HttpOnly; SameSite=Strict; Secure");
        assert_eq!(SESSION.set(Tls::Off, ""), "outpost=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
        let set = "__Host-outpost-login=x; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=600";
        assert_eq!(login.set(Tls::Proxy, "x"), set);
        assert_eq!(login.set(Tls::Off, ""), "outpost-login=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    }
}
