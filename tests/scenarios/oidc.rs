//! Login at a provider, with the real hub, a provider of its own and browsers from many addresses; and what strangers try.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use outpost_tests::process::{Hub, command, must};
use outpost_tests::provider::{CLIENT, Oddity, Provider, SECRET, Sign, escaped};
use outpost_tests::tls_proxy::Place;
use ring::hmac;
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

#[test]
fn a_person_comes_in_by_the_provider_once_an_admin_linked_the_account() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let hub = hub(folder.path(), &provider, "");
    provider.says(|says| says.subject = "s-new".to_owned());
    let mut browser = Browser::at(&hub, 1);
    let page = browser.ask("GET", "/login", "none", "");
    assert!(page.text.contains("Log in with the &lt;ministry&gt;"), "{page:?}");
    browser.log_in(&provider).refuses(403, "no account here belongs to this login");
    let refused = audited(&hub).pop().unwrap();
    let on: Value = serde_json::from_str(refused["on"].as_str().unwrap()).unwrap();
    assert_eq!((refused["what"].as_str(), refused["who"].as_str()), (Some("login-refused"), Some("nobody")));
    assert_eq!(on, json!({ "by": "oidc", "why": "not-linked", "subject": "s-new" }));

    hub.command(&["admin", "add", "bina", "--role", "resolver", "--everything"]);
    hub.command(&["admin", "link", "bina", on["subject"].as_str().unwrap()]);
    let args = ["--data-dir", &hub.data_dir(), "--config", &configured(&hub)];
    for (name, subject) in [("bina", "s-other"), ("admin", "s-new")] {
        let again = command("outpost-hub", &[&["admin", "link", name, subject], &args[..]].concat());
        assert_eq!(again.status.code(), Some(4), "one person, one account");
    }
    for sign in [Sign::Es256, Sign::EdDsa, Sign::Rs256, Sign::Ps256] {
        provider.says(|says| says.sign = sign);
        let reply = browser.log_in(&provider);
        assert_eq!((reply.status, reply.leads_to().as_str()), (200, "/"), "{reply:?}");
        assert_eq!(browser.is_in(), Some(("account:bina".to_owned(), "resolver".to_owned())), "{sign:?}");
        let session = reply.cookies.iter().find(|cookie| cookie.starts_with("__Host-outpost=")).unwrap();
        assert!(session.contains("HttpOnly; SameSite=Strict; Secure"), "{session}");
    }
    let factor = browser.ask("GET", "/second-factor", "same-origin", "");
    factor.refuses(403, "has no password here");
    let told: Value = serde_json::from_str(&hub.command(&["admin", "list", "--json"])).unwrap();
    let bina = told.as_array().unwrap().iter().find(|one| one["name"] == "bina").unwrap();
    assert_eq!((bina["subject"].as_str(), bina["state"].as_str()), (Some("s-new"), Some("open")));

    let db = rusqlite::Connection::open(Path::new(&hub.data_dir()).join("hub.db")).unwrap();
    let longest = "SELECT max(until_ms - began_ms) FROM sessions";
    assert_eq!(db.query_row(longest, [], |row| row.get::<_, i64>(0)).unwrap(), 8 * 3_600_000);
    db.execute("UPDATE sessions SET until_ms = 1", []).unwrap();
    assert_eq!(browser.is_in(), None, "it ends, also of who goes on asking");
    browser.log_in(&provider);
    assert_eq!(browser.post("/logout", &[]).status, 303);
    assert_eq!(browser.is_in(), None);
    for (act, words) in [("disable", "the account of this login is closed"), ("unlink", "no account here belongs")] {
        hub.command(&["admin", "enable", "bina"]);
        browser.log_in(&provider);
        assert!(browser.is_in().is_some());
        hub.command(&["admin", act, "bina"]);
        assert_eq!(browser.is_in(), None, "{act} logs out");
        browser.log_in(&provider).refuses(403, words);
    }
    let all = audited(&hub);
    for what in ["link-account", "unlink-account", "login", "logout"] {
        assert!(all.iter().any(|entry| entry["what"] == what), "{what}");
    }
    assert!(hub.command(&["audit", "verify"]).contains("entries"));
}

#[test]
fn the_secret_goes_into_the_body_where_the_provider_wants_it_there() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    provider.says(|says| (says.subject, says.by_post) = ("s-asha".to_owned(), true));
    let hub = hub(folder.path(), &provider, "");
    let mut browser = Browser::at(&hub, 1);
    browser.log_in(&provider);
    assert_eq!(browser.is_in(), asha("viewer"));
}

#[test]
fn a_login_belongs_to_one_browser_and_ends_once() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let hub = hub(folder.path(), &provider, "");
    provider.says(|says| says.subject = "s-asha".to_owned());
    let (mut asha_s, mut other) = (Browser::at(&hub, 1), Browser::at(&hub, 2));
    let back = asha_s.sent_back(&provider);
    let stolen = asha_s.cookies.clone();
    // Somebody wants another to be logged in as himself, or has found the address with the code.
    other.return_with(&back).refuses(403, "was not begun in this browser");
    other.sent_back(&provider);
    other.return_with(&back).refuses(403, "was not begun in this browser");
    assert_eq!(asha_s.return_with(&back).status, 200, "that did not use it up");
    assert_eq!(asha_s.is_in(), asha("viewer"));
    asha_s.return_with(&back).refuses(403, "was not begun in this browser");
    other.cookies = stolen;
    other.return_with(&back).refuses(403, "was not begun in this browser");
    assert_eq!(other.is_in(), None);

    let mut third = Browser::at(&hub, 3);
    third.ask("POST", "/login/oidc", "cross-site", "").refuses(403, "another page");
    assert!(third.cookies.is_empty());
    third.return_with(BACK).refuses(403, "was not begun");
    let state = third.sent_back(&provider);
    let state = state.split("state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    third
        .return_with(&format!("{BACK}?error=access_denied&error_description=x&state={state}"))
        .refuses(403, "did not let you in");
    let back = third.sent_back(&provider);
    let mixed = back.replace("iss=", "iss=https%3A%2F%2Fevil.example.org&x=");
    third.return_with(&mixed).refuses(403, "does not prove who you are");
    let mut fourth = Browser::at(&hub, 4);
    let back = fourth.sent_back(&provider);
    assert_eq!(fourth.return_with(&format!("{back}&code=again")).status, 400);
    let foreign =
        format!("{back}&redirect_uri=https://evil.example.org&next=//evil.example.org&url=https://evil.example.org");
    let reply = fourth.return_with(&foreign);
    assert!(reply.leads_to() == "/" && !reply.text.contains("evil"), "{reply:?}");
    // Another code than that of this login: the provider wants the proof of who asked for it.
    let (mut fifth, mut thief) = (Browser::at(&hub, 5), Browser::at(&hub, 6));
    let code = |back: &str| back.split("code=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let (his, own) = (fifth.sent_back(&provider), thief.sent_back(&provider));
    thief.return_with(&own.replace(&code(&own), &code(&his))).refuses(403, "did not let you in");
    assert_eq!(thief.is_in(), None);
}

#[test]
fn a_page_that_leads_browsers_to_the_hub_ends_nobodys_login_and_fills_no_audit() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let hub = hub(folder.path(), &provider, "");
    provider.says(|says| says.subject = "s-asha".to_owned());
    let mut browser = Browser::at(&hub, 1);
    let back = browser.sent_back(&provider);
    let refused = |hub: &Hub| audited(hub).iter().filter(|entry| entry["what"] == "login-refused").count();
    let state = "0".repeat(64);
    for foreign in
        ["", "?error=access_denied", "?code=x", &format!("?code=x&state={state}"), "?state=", "?code=x&state=y"]
    {
        for _ in 0..3 {
            let reply = browser.return_with(&format!("{BACK}{foreign}"));
            reply.refuses(403, "was not begun in this browser");
            assert!(reply.cookies.is_empty(), "its login goes on: {reply:?}");
        }
    }
    browser.post("/login/oidc/code", &[("code", "123456")]).refuses(403, "was not begun in this browser");
    assert_eq!((refused(&hub), provider.asked("/token")), (0, 0));
    assert_eq!(browser.return_with(&back).status, 200, "nor did any of it count as a try");
    assert_eq!(browser.is_in(), asha("viewer"));

    // What is the provider's own, but no code, ends the login; it is no try either.
    for _ in 0..8 {
        let back = browser.sent_back(&provider);
        let reply = browser.return_with(&back.replace("code=", "error=access_denied&x="));
        reply.refuses(403, "did not let you in");
        assert!(reply.cookies.iter().any(|cookie| cookie.contains("outpost-login=;")), "{reply:?}");
        browser.return_with(&back).refuses(403, "was not begun in this browser");
    }
    assert_eq!(refused(&hub), 0);
    let back = browser.sent_back(&provider);
    let code = back.split("code=").nth(1).unwrap().split('&').next().unwrap();
    browser.return_with(&back.replace(code, "made-up")).refuses(403, "did not let you in");
    assert_eq!((refused(&hub), provider.asked("/token")), (1, 2), "what the provider is asked is written down");
}

#[test]
fn a_hub_that_the_provider_does_not_know_says_so_and_its_tries_count() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let hub = hub(folder.path(), &provider, "");
    provider.says(|says| (says.subject, says.by_post) = ("s-asha".to_owned(), true));
    let mut browser = Browser::at(&hub, 1);
    browser.sent_back(&provider);
    // It learned of one way to show its secret, and the provider wants the other by now.
    provider.says(|says| says.by_post = false);
    for _ in 0..5 {
        let reply = browser.log_in(&provider);
        reply.refuses(502, "client_id and client_secret_file");
        assert!(!reply.text.contains(&SECRET[..6]), "{reply:?}");
    }
    let asked = provider.asked("/token");
    browser.log_in(&provider).refuses(429, "too many tries");
    assert_eq!(provider.asked("/token"), asked);
    let refused = audited(&hub).into_iter().filter(|entry| entry["what"] == "login-refused").count();
    assert_eq!(refused, 0, "it was nobody's fault");
}

#[test]
fn a_form_that_follows_a_login_can_be_sent_by_an_older_browser() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let hub = hub(folder.path(), &provider, "");
    let code = hub.command(&["admin", "password", "asha"]);
    let mut browser = Browser::at(&hub, 1);
    let present = code.lines().last().unwrap();
    assert_eq!(browser.post("/password", &[("name", "asha"), ("present", present), ("new", PASSWORD)]).status, 303);
    provider.says(|says| says.subject = "s-nobody".to_owned());
    let refused = browser.log_in(&provider);
    refused.refuses(403, "no account here belongs");
    assert!(refused.text.contains("action=/login/oidc>") && refused.text.contains("action=/login>"), "{refused:?}");
    let again = browser.post_from(&refused, "/login/oidc", "");
    assert_eq!(again.status, 200, "{again:?}");
    let form = format!("name=asha&password={}", escaped(PASSWORD));
    let typed = browser.post_from(&refused, "/login", &form);
    assert_eq!(typed.status, 303, "{typed:?}");
}

#[test]
fn a_token_that_proves_nothing_lets_nobody_in() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let hub = hub(folder.path(), &provider, "");
    provider.says(|says| says.subject = "s-asha".to_owned());
    let past = 1_000_000_000;
    let attacks = [
        (Sign::Es256, json!({ "nonce": "another" }), "nonce"),
        (Sign::Es256, json!({ "nonce": null }), "nonce"),
        (Sign::Es256, json!({ "aud": "another" }), "audience"),
        (Sign::Es256, json!({ "aud": [CLIENT, "another"] }), "audience"),
        (Sign::Es256, json!({ "azp": "another" }), "audience"),
        (Sign::Es256, json!({ "iss": "https://id.example.org" }), "issuer"),
        (Sign::Es256, json!({ "exp": past }), "expired"),
        (Sign::Es256, json!({ "exp": "never" }), "claims"),
        (Sign::Es256, json!({ "exp": null }), "claims"),
        (Sign::Es256, json!({ "nbf": "now" }), "claims"),
        (Sign::Es256, json!({ "iat": past }), "time"),
        (Sign::None, json!({}), "form"),
        (Sign::Hs256, json!({}), "algorithm"),
        (Sign::Stranger, json!({}), "signature"),
        (Sign::PsAsRs, json!({}), "signature"),
        (Sign::Unnamed, json!({}), "key"),
    ];
    for (nth, (sign, claims, why)) in (1..).zip(attacks) {
        provider.says(|says| (says.sign, says.claims) = (sign, claims.clone()));
        let mut browser = Browser::at(&hub, nth);
        browser.log_in(&provider).refuses(403, &format!("does not prove who you are ({why})"));
        assert_eq!(browser.is_in(), None);
        let on = audited(&hub).pop().unwrap()["on"].as_str().unwrap().to_owned();
        assert!(on.contains(&format!("\"why\":\"{why}\"")) && !on.contains("s-asha"), "{claims}: {on}");
    }
    provider.says(|says| (says.sign, says.claims) = (Sign::Unnamed, json!({})));
    let before = provider.asked("/keys");
    for nth in 100..112 {
        Browser::at(&hub, nth).log_in(&provider).refuses(403, "(key)");
    }
    assert!(provider.asked("/keys") <= before + 1, "keys that nobody knows are asked for once a minute");
    let mut guesser = Browser::at(&hub, 99);
    for _ in 0..5 {
        guesser.log_in(&provider).refuses(403, "(key)");
    }
    guesser.log_in(&provider).refuses(429, "");
}

#[test]
fn a_provider_that_is_not_what_it_should_be_is_left_alone() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let mut hub = hub(folder.path(), &provider, "");
    provider.says(|says| says.subject = "s-asha".to_owned());
    for (oddity, words) in [
        (Oddity::OtherName, "answered something else"),
        (Oddity::Redirects, "answered something else"),
        (Oddity::Silent, "did not answer in time"),
    ] {
        provider.says(|says| says.oddity = oddity);
        hub.restart();
        let (began, mut browser) = (Instant::now(), Browser::at(&hub, 1));
        browser.post("/login/oidc", &[]).refuses(502, words);
        let asked = provider.asked("/.well-known/openid-configuration");
        for nth in 2..10 {
            Browser::at(&hub, nth).post("/login/oidc", &[]).refuses(502, "cannot be reached");
        }
        assert_eq!(provider.asked("/.well-known/openid-configuration"), asked, "nobody asks again right after");
        assert!(began.elapsed().as_secs() < 30, "{oddity:?}");
    }
    assert_eq!(provider.asked("/elsewhere"), 0, "no redirect is followed");
    provider.says(|says| says.oddity = Oddity::None);
    hub.restart();
    let mut browser = Browser::at(&hub, 1);
    let back = browser.sent_back(&provider);
    provider.says(|says| says.oddity = Oddity::HugeKeys);
    browser.return_with(&back).refuses(502, "too large");
    provider.says(|says| says.oddity = Oddity::Silent);
    let mut browser = Browser::at(&hub, 2);
    let back = browser.sent_back(&provider);
    browser.return_with(&back).refuses(502, "did not answer in time");
    hub.command(&["admin", "list"]);
    assert_eq!(Browser::at(&hub, 3).ask("GET", "/login", "none", "").status, 200, "all else goes on");
}

#[test]
fn roles_are_those_that_the_provider_gives_now() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let roles = |first: &str| {
        format!(
            "role_claim = \"groups\"\npassword_of_linked = false\ncreate_accounts = true\nscopes = [\"openid\", \"profile\"]\n[[oidc.roles]]\nvalue = \"zomba\"\nrole = \"{first}\"\nscopes = [\"mw/zomba\"]\n[[oidc.roles]]\nvalue = \"all\"\nrole = \"viewer\"\neverything = true\n"
        )
    };
    let mut hub = hub(folder.path(), &provider, &roles("resolver"));
    let member = |groups: Value| {
        provider.says(|says| (says.subject, says.claims) = ("s-asha".to_owned(), json!({ "groups": groups })));
    };
    let mut browser = Browser::at(&hub, 1);
    member(json!(["x", "all", "zomba"]));
    assert_eq!(browser.log_in(&provider).status, 200);
    assert_eq!(browser.is_in(), asha("resolver"));
    let mut elsewhere = Browser::at(&hub, 2);
    member(json!("all"));
    elsewhere.log_in(&provider);
    assert_eq!((elsewhere.is_in(), browser.is_in()), (asha("viewer"), None), "what was opened with other rights ends");
    member(json!(["x"]));
    browser.log_in(&provider).refuses(403, "gives you no role here");
    assert_eq!(elsewhere.is_in(), None, "and with none all ends");
    member(json!(["zomba"]));
    configure(&mut hub, &config(folder.path(), &provider, PROXIED, &roles("operator")));
    let mut browser = Browser::at(&hub, 3);
    browser.log_in(&provider);
    assert_eq!(browser.is_in(), asha("operator"), "another mapping counts from the next login on");

    let stranger = |name: &str| {
        let claims = json!({ "groups": ["zomba"], "preferred_username": name });
        provider.says(|says| (says.subject, says.claims) = (format!("s-of-{name}"), claims));
    };
    for taken in ["asha", "admin", "Asha", "<b>"] {
        stranger(taken);
        Browser::at(&hub, 4).log_in(&provider).refuses(403, "no account could be made");
    }
    stranger("grace");
    let mut browser = Browser::at(&hub, 5);
    browser.log_in(&provider);
    let grace = Some(("account:grace".to_owned(), "operator".to_owned()));
    assert_eq!(browser.is_in(), grace);
    // She has no password: what she is told to do instead works.
    let way = "outpost-hub admin totp grace";
    browser.ask("GET", "/second-factor", "same-origin", "").refuses(403, way);
    let typed = [("secret", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"), ("password", PASSWORD), ("code", "123456")];
    browser.post("/second-factor", &typed).refuses(403, way);
    browser.ask("GET", "/admin/v1/second-factor", "same-origin", "").refuses(403, way);
    let told = hub.command(&["admin", "totp", "grace"]);
    let secret = told.lines().next().unwrap().trim_start_matches("secret: ");
    let asked = browser.log_in(&provider);
    assert!(asked.text.contains("action=/login/oidc/code"), "{asked:?}");
    browser.post("/login/oidc/code", &[("code", &totp(secret, 0))]);
    assert_eq!(browser.is_in(), grace);
    let all = audited(&hub);
    let made = all.iter().find(|entry| entry["what"] == "add-account" && entry["who"] == "oidc").unwrap();
    assert!(made["on"].as_str().unwrap().contains("grace"));
}

/// What an app shows for a secret (RFC 6238), `steps` of half a minute from now.
fn totp(secret: &str, steps: i64) -> String {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bits: Vec<u8> = secret.bytes().filter_map(|c| letters.bytes().position(|l| l == c)).map(|n| n as u8).collect();
    let bits: Vec<u8> = bits.iter().flat_map(|five| (0..5).rev().map(move |nth| five >> nth & 1)).collect();
    let key: Vec<u8> = bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit)).collect();
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let sum = hmac::sign(&key, &(seconds / 30 + steps).to_be_bytes());
    let at = usize::from(sum.as_ref()[19] & 15);
    let number = u32::from_be_bytes(sum.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

#[test]
fn a_second_factor_is_asked_for_here_too_and_the_password_is_a_way_in_or_is_not() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let mut hub = hub(folder.path(), &provider, "");
    provider.says(|says| says.subject = "s-asha".to_owned());
    let code = hub.command(&["admin", "password", "asha"]);
    let code = code.lines().last().unwrap().to_owned();
    let mut browser = Browser::at(&hub, 1);
    assert_eq!(browser.post("/password", &[("name", "asha"), ("present", &code), ("new", PASSWORD)]).status, 303);
    let secret = hub.command(&["admin", "totp", "asha"]);
    let secret = secret.lines().next().unwrap().trim_start_matches("secret: ").to_owned();

    let asked = browser.log_in(&provider);
    assert!(asked.status == 200 && asked.text.contains("action=/login/oidc/code"), "{asked:?}");
    assert_eq!(browser.is_in(), None, "the provider alone is not enough");
    browser.post("/login/oidc/code", &[("code", "12345x")]).refuses(403, "wrong");
    browser.post("/login/oidc/code", &[("code", &totp(&secret, 0))]).refuses(403, "was not begun");
    browser.log_in(&provider);
    let typed = format!("code={}", totp(&secret, 0));
    browser.ask("POST", "/login/oidc/code", "cross-site", &typed).refuses(403, "another page");
    assert_eq!(browser.post_from(&asked, "/login/oidc/code", &typed).leads_to(), "/");
    assert_eq!(browser.is_in(), asha("viewer"));
    let mut again = Browser::at(&hub, 2);
    again.log_in(&provider);
    again.ask("POST", "/login/oidc/code", "same-origin", &typed).refuses(403, "wrong");

    hub.command(&["admin", "totp", "asha", "--off"]);
    let by_password = |hub: &Hub, nth: u8| {
        let mut browser = Browser::at(hub, nth);
        browser.post("/login", &[("name", "asha"), ("password", PASSWORD)]).status
    };
    assert_eq!(by_password(&hub, 3), 303, "also when the provider is gone");
    configure(&mut hub, &config(folder.path(), &provider, PROXIED, "password_of_linked = false\n"));
    assert_eq!(by_password(&hub, 4), 403);
    let args = ["admin", "password", "asha", "--data-dir", &hub.data_dir(), "--config", &configured(&hub)];
    let code = command("outpost-hub", &args);
    let told = String::from_utf8_lossy(&code.stderr).into_owned();
    assert!(
        code.status.code() == Some(4) && told.contains("outpost-hub admin unlink asha"),
        "no code that opens nothing: {told}"
    );
    let mut browser = Browser::at(&hub, 5);
    browser.log_in(&provider);
    assert_eq!(browser.is_in(), asha("viewer"));
    let renamed = config(folder.path(), &provider, PROXIED, "password_of_linked = false\n");
    configure(&mut hub, &renamed.replace(provider.issuer(), "https://id.example.org"));
    assert_eq!(by_password(&hub, 6), 403, "linked is linked, whatever the provider is called by now");
    let told = hub.command(&["admin", "unlink", "asha"]);
    assert!(told.contains("to shut the person out: admin disable"), "{told}");
    assert_eq!(by_password(&hub, 7), 303, "who is at the hub's machine opens it again");
}

#[test]
fn over_tls_the_provider_is_known_by_the_authority_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ministry = folder.path().join("ministry").to_string_lossy().into_owned();
    let place = Place::take();
    let at = place.address().to_string();
    must("outpost-hub", &["init", "--name", &at, "--data-dir", &ministry]);
    let authority = must("outpost-hub", &["certificate", "authority", "--data-dir", &ministry]);
    let own = must("outpost-hub", &["certificate", "proxy", "--data-dir", &ministry]);
    let provider = Provider::start_as(Some(format!("https://{at}")));
    place.serve(&own, &authority, provider.address.clone());
    provider.says(|says| says.subject = "s-asha".to_owned());
    let ca = folder.path().join("ministry.pem");
    fs::write(&ca, &authority).unwrap();
    let named = format!("ca_file = \"{}\"\n", ca.display());

    let mut hub = Hub::start_as(&folder.path().join("hub"), "https", &config(folder.path(), &provider, "", &named));
    let name = hub.proxied().trim_start_matches("https://").to_owned();
    hub.command(&["init", "--name", &name]);
    hub.command(&["admin", "add", "asha", "--role", "viewer", "--scope", "mw/zomba"]);
    hub.command(&["admin", "link", "asha", "s-asha"]);
    hub.restart();
    let pem = hub.command(&["certificate", "authority"]);
    let trusted = Certificate::from_pem(pem.as_bytes()).unwrap();
    let mut browser = Browser::new(&hub.proxied(), 1, Some(trusted.der()));
    let begun = browser.post("/login/oidc", &[]);
    let kept = begun.cookies.first().unwrap();
    assert!(
        kept.starts_with("__Host-outpost-login=") && kept.contains("Path=/; HttpOnly; SameSite=Lax; Secure"),
        "{kept}"
    );
    let back = provider.log_in(&begun.leads_to());
    let own_page = format!("https://{name}");
    assert!(back.starts_with(&own_page), "{back}");
    let reply = browser.return_with(back.strip_prefix(&own_page).unwrap());
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(browser.is_in(), asha("viewer"));

    let other = hub.command(&["certificate", "authority"]);
    fs::write(&ca, other).unwrap();
    hub.restart();
    let mut browser = Browser::new(&hub.proxied(), 1, Some(trusted.der()));
    browser.post("/login/oidc", &[]).refuses(502, "cannot be reached");

    let secret = folder.path().join("client.secret");
    fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
    let (data, file) = (hub.data_dir(), configured(&hub));
    hub.kill();
    let told = command("outpost-hub", &["serve", "--data-dir", &data, "--config", &file, "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.code() == Some(2) && said.contains("can be read by everybody"), "{told:?}");
}
