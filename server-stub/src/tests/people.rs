//! People at the centre, for the other tests: accounts with passwords, and browsers that keep a cookie.

use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::{Reply, World};
use crate::account::{AccountName, Role, Sight};
use crate::audit::{Actor, Entry};
use crate::error::HubError;
use crate::staff::{self, Boss};

pub(super) const PASSWORD: &str = "ndiwo za masamba";
/// As a browser says it of a form on a page of the hub.
pub(super) const OWN_PAGE: (&str, &str) = ("sec-fetch-site", "same-origin");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json");

/// Whoever sees everything.
pub(super) fn boss() -> Boss {
    Boss { actor: Actor::hub(), sight: Sight::everything() }
}

/// Text as a form sends it.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

impl World {
    /// Adds an account; gives the code by which a password is set.
    pub(crate) async fn account(&self, name: &str, role: Role, scopes: &[&str]) -> Zeroizing<String> {
        let sight = Sight::wanted(scopes, scopes.is_empty()).unwrap();
        let name: AccountName = name.parse().unwrap();
        self.hub.write(move |tx| staff::add(tx, &boss(), (&name, role, &sight), 24)).await.unwrap()
    }

    /// An account with a password, without the work of hashing it over the wire.
    pub(super) async fn person(&self, name: &str, role: Role, scopes: &[&str]) -> Browser<'_> {
        self.account(name, role, scopes).await;
        let phc = self.hub.mill().hash(PASSWORD.to_owned().into()).await.unwrap();
        let account: AccountName = name.parse().unwrap();
        let set = move |tx: &mut crate::store::Tx<'_>| {
            let number = tx.account_named(&account)?.number;
            Ok::<_, HubError>(tx.set_password(number, &phc)?)
        };
        self.hub.write(set).await.unwrap();
        let mut browser = Browser { world: self, cookie: String::new() };
        assert_eq!(browser.log_in(name, PASSWORD, "").await.status, 303);
        browser
    }

    pub(super) async fn form(&self, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Reply {
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        self.ask("POST", path, &[headers, &[FORM]].concat(), body.join("&").as_bytes()).await
    }

    /// The audit, oldest first.
    pub(super) async fn audited(&self) -> Vec<Entry> {
        self.hub.read(|tx| tx.audit_after(0, 10_000)).await.unwrap()
    }

    /// A token of an account.
    pub(crate) async fn token(&self, name: &str, label: &str, role: Option<Role>, scopes: &[&str]) -> String {
        let (text, hash) = staff::new_token().unwrap();
        let (name, label): (AccountName, _) = (name.parse().unwrap(), label.to_owned());
        let sight = (!scopes.is_empty()).then(|| Sight::wanted(scopes, false).unwrap());
        let wish = staff::Wish { label, role, sight, days: 90 };
        self.hub.write(move |tx| staff::add_token(tx, &boss(), &name, wish, &hash).map(drop)).await.unwrap();
        text.to_string()
    }

    pub(super) async fn by_token(&self, token: &str, method: &str, path: &str, body: Json) -> Reply {
        let bearer = format!("Bearer {token}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(method, &format!("/admin/v1{path}"), &[("authorization", &bearer)], body.as_bytes()).await
    }
}

/// A browser.
pub(super) struct Browser<'a> {
    pub(super) world: &'a World,
    pub(super) cookie: String,
}

impl Browser<'_> {
    /// Types into the form of the page, and keeps the cookie that comes.
    pub(super) async fn log_in(&mut self, name: &str, password: &str, code: &str) -> Reply {
        let fields = [("name", name), ("password", password), ("code", code)];
        let reply = self.world.form("/login", &fields, &[OWN_PAGE]).await;
        if let Some(set) = reply.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")) {
            self.cookie = set.split(';').next().unwrap().to_owned();
        }
        reply
    }

    /// Asks as a page of the hub does.
    pub(super) async fn ask(&self, method: &str, path: &str, body: Json) -> Reply {
        self.ask_from(method, path, &[OWN_PAGE], body).await
    }

    pub(super) async fn ask_from(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Json) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [headers, &[("cookie", &self.cookie), JSON]].concat();
        self.world.ask(method, path, &headers, body.as_bytes()).await
    }

    /// The same of a change of accounts, for which the password is asked as well.
    pub(super) async fn api_proven(&self, method: &str, path: &str, mut body: Json) -> u16 {
        if body.is_null() {
            body = json!({});
        }
        body["password"] = PASSWORD.into();
        self.api(method, path, body).await
    }

    /// The status of a request to the API.
    pub(super) async fn api(&self, method: &str, path: &str, body: Json) -> u16 {
        self.ask(method, &format!("/admin/v1{path}"), body).await.status
    }

    pub(super) async fn is_in(&self) -> bool {
        let shown = self.ask("GET", "/admin/v1/session", json!(null)).await.status;
        assert!([200, 401].contains(&shown));
        shown == 200
    }
}
