//! Login at a provider, with the real hub, a provider of its own and browsers from many addresses; and what strangers try.

mod people;
mod provider;
mod strangers;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use outpost_tests::process::{Hub, command};
use outpost_tests::provider::{CLIENT, Oddity, Provider, SECRET, Sign, escaped};
use serde_json::{Value, json};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Behind a proxy each browser has its own address, so that wrong tries of one do not keep out the next.
const PROXIED: &str = "tls = \"proxy\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
const BACK: &str = "/login/oidc/return";
/// A password that nobody else has.
const PASSWORD: &str = "nsima ndi chambo";

fn config(folder: &Path, provider: &Provider, tls: &str, more: &str) -> String {
    let secret = folder.join("client.secret");
    fs::write(&secret, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    outpost_tests::canary::note_secret(SECRET);
    format!(
        "{tls}[oidc]\nissuer = \"{}\"\nclient_id = \"{CLIENT}\"\nclient_secret_file = \"{}\"\nlabel = \"the <ministry>\"\ntimeout_seconds = 1\n{more}",
        provider.issuer(),
        secret.display(),
    )
}

/// A hub behind a proxy, with an account `asha` that is linked to `s-asha`.
fn hub(folder: &Path, provider: &Provider, more: &str) -> Hub {
    let hub = Hub::start_as(&folder.join("hub"), "http", &config(folder, provider, PROXIED, more));
    hub.command(&["init", "--name", "hub.example.org:443"]);
    hub.command(&["admin", "add", "asha", "--role", "viewer", "--scope", "mw/zomba"]);
    hub.command(&["admin", "link", "asha", "s-asha"]);
    hub
}

/// Where its configuration is.
fn configured(hub: &Hub) -> String {
    format!("{}/config.toml", hub.data_dir())
}

/// Gives the hub another configuration.
fn configure(hub: &mut Hub, text: &str) {
    fs::write(configured(hub), text).unwrap();
    hub.restart();
}

/// What came back.
#[derive(Debug)]
struct Reply {
    status: u16,
    cookies: Vec<String>,
    referrer: String,
    text: String,
}

impl Reply {
    /// Where the page leads.
    fn leads_to(&self) -> String {
        let url = self.text.split("content='0;url=").nth(1).and_then(|rest| rest.split('\'').next());
        url.unwrap_or_else(|| panic!("it leads nowhere: {self:?}")).replace("&amp;", "&")
    }

    /// It is a refusal that lets nobody in and says these words.
    fn refuses(&self, status: u16, words: &str) {
        let lets_in = |cookie: &String| cookie.contains("outpost=") && !cookie.contains("outpost=;");
        assert!(self.status == status && self.text.contains(words), "{status} {words}: {self:?}");
        assert!(!self.cookies.iter().any(lets_in), "{self:?}");
    }
}

/// A browser with cookies, at an address of its own.
struct Browser {
    base: String,
    address: String,
    agent: ureq::Agent,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn new(base: &str, nth: u8, authority: Option<&[u8]>) -> Browser {
        let config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0);
        let config = match authority {
            None => config.build(),
            Some(authority) => {
                let trusted = RootCerts::new_with_certs(&[Certificate::from_der(authority).to_owned()]);
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let tls = TlsConfig::builder().root_certs(trusted).unversioned_rustls_crypto_provider(provider);
                config.tls_config(tls.build()).build()
            }
        };
        let (base, address) = (base.to_owned(), format!("192.0.2.{nth}"));
        Browser { base, address, agent: config.into(), cookies: BTreeMap::new() }
    }

    fn at(hub: &Hub, nth: u8) -> Browser {
        Browser::new(&hub.url(), nth, None)
    }

    fn ask(&mut self, method: &str, path: &str, site: &str, body: &str) -> Reply {
        self.ask_saying(method, path, ("sec-fetch-site", site), body)
    }

    fn ask_saying(&mut self, method: &str, path: &str, said: (&str, &str), body: &str) -> Reply {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("cookie", cookies.join("; "))
            .header(said.0, said.1)
            .header("x-forwarded-for", &self.address)
            .header("content-type", "application/x-www-form-urlencoded");
        let mut answer = self.agent.run(request.body(body.to_owned()).unwrap()).unwrap();
        let set = answer.headers().get_all("set-cookie").iter().map(|value| value.to_str().unwrap().to_owned());
        let cookies: Vec<String> = set.collect();
        for cookie in &cookies {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let referrer = answer.headers().get("referrer-policy").map(|value| value.to_str().unwrap().to_owned());
        let referrer = referrer.unwrap_or_default();
        Reply { status: answer.status().as_u16(), cookies, referrer, text: answer.body_mut().read_to_string().unwrap() }
    }

    /// Sends a form of a page as a browser does that knows nothing of `Sec-Fetch-Site`: it says where the page is from only if the
    /// page lets it (Fetch, "append a request `Origin` header").
    fn post_from(&mut self, page: &Reply, path: &str, form: &str) -> Reply {
        let origin = if page.referrer == "no-referrer" { "null".to_owned() } else { self.base.clone() };
        self.ask_saying("POST", path, ("origin", &origin), form)
    }

    fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        self.ask("POST", path, "same-origin", &fields.join("&"))
    }

    /// Presses the button, logs in at the provider; gives what the browser is sent back with.
    fn sent_back(&mut self, provider: &Provider) -> String {
        let begun = self.post("/login/oidc", &[]);
        assert_eq!(begun.status, 200, "{begun:?}");
        let back = provider.log_in(&begun.leads_to());
        let at = back.find(BACK).unwrap_or_else(|| panic!("not to the hub: {back}"));
        back[at..].to_owned()
    }

    fn return_with(&mut self, back: &str) -> Reply {
        self.ask("GET", back, "cross-site", "")
    }

    fn log_in(&mut self, provider: &Provider) -> Reply {
        let back = self.sent_back(provider);
        self.return_with(&back)
    }

    /// Who it is logged in as, and what for; `None` if nobody.
    fn is_in(&mut self) -> Option<(String, String)> {
        let reply = self.ask("GET", "/admin/v1/session", "same-origin", "");
        let told: Value = serde_json::from_str(&reply.text).unwrap();
        (reply.status == 200)
            .then(|| (told["who"].as_str().unwrap().to_owned(), told["role"].as_str().unwrap().to_owned()))
    }
}

fn asha(role: &str) -> Option<(String, String)> {
    Some(("account:asha".to_owned(), role.to_owned()))
}

fn audited(hub: &Hub) -> Vec<Value> {
    hub.command(&["audit", "export"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
