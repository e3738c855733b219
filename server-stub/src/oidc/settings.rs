//! What the configuration says of the provider: `[oidc]`.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::provider::address;
use crate::account::{Role, Sight};
use crate::error::HubError;

/// Signatures that can be checked here. Never `none`, and nothing that is signed with a secret both sides know.
pub(super) const ALGORITHMS: [&str; 4] = ["RS256", "PS256", "ES256", "EdDSA"];
const ROLES_MAX: usize = 200;
const TIMEOUT_SECONDS_MAX: u64 = 60;

/// Login at a provider. Off while `issuer` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Oidc {
    /// The provider, as it names itself.
    pub(crate) issuer: String,
    /// The hub's name there.
    pub(crate) client_id: String,
    /// Where the secret that goes with it lies.
    pub(crate) client_secret_file: PathBuf,
    /// The authority of the provider's certificate; empty for those that the system trusts.
    pub(crate) ca_file: PathBuf,
    /// What the button says.
    pub(crate) label: String,
    /// Signatures that are taken.
    pub(crate) algorithms: Vec<String>,
    /// What the provider is asked for.
    pub(crate) scopes: Vec<String>,
    /// The claim whose values give roles: a name, or a JSON pointer; empty if accounts keep the role that they have.
    pub(crate) role_claim: String,
    /// Which value gives what.
    pub(crate) roles: Vec<Gives>,
    /// Whether somebody who gets a role, and whom nobody linked, gets an account.
    pub(crate) create_accounts: bool,
    /// Whether an account that is linked can be opened by its password as well.
    pub(crate) password_of_linked: bool,
    /// How long a login lasts in all, at most.
    pub(crate) session_hours: u32,
    /// How long an answer of the provider may take.
    pub(crate) timeout_seconds: u64,
}

/// What one value of the claim gives.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gives {
    pub(crate) value: String,
    pub(crate) role: Role,
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    #[serde(default)]
    pub(crate) everything: bool,
}

impl Default for Oidc {
    fn default() -> Oidc {
        Oidc {
            issuer: String::new(),
            client_id: String::new(),
            client_secret_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            label: "single sign-on".to_owned(),
            algorithms: ALGORITHMS.map(str::to_owned).to_vec(),
            scopes: vec!["openid".to_owned()],
            role_claim: String::new(),
            roles: Vec::new(),
            create_accounts: false,
            password_of_linked: true,
            session_hours: 8,
            timeout_seconds: 10,
        }
    }
}

impl Oidc {
    pub(crate) fn is_on(&self) -> bool {
        !self.issuer.is_empty()
    }

    /// Refuses what does not fit together, or would let in whom nobody meant.
    pub(crate) fn check(&self) -> Result<(), HubError> {
        let refuse = |told: &str| Err(HubError::Config(format!("[oidc] {told}")));
        if !self.is_on() {
            return match *self == Oidc::default() {
                true => Ok(()),
                false => refuse("has no issuer"),
            };
        }
        let is_known = |name: &String| ALGORITHMS.contains(&name.as_str());
        if address(&self.issuer, &self.issuer).is_none() || self.issuer.contains(['?', '#']) {
            return refuse("issuer is an address that begins with https://");
        }
        if self.client_id.is_empty() || self.client_secret_file.as_os_str().is_empty() {
            return refuse("needs client_id and client_secret_file");
        }
        if self.algorithms.is_empty() || !self.algorithms.iter().all(is_known) {
            return refuse("algorithms are some of RS256, PS256, ES256, EdDSA");
        }
        if !self.scopes.iter().any(|scope| scope == "openid") {
            return refuse("scopes have to contain openid");
        }
        if self.role_claim.is_empty() != self.roles.is_empty() || self.roles.len() > ROLES_MAX {
            return refuse("role_claim and [[oidc.roles]] go together; there are 200 at most");
        }
        if self.create_accounts && self.roles.is_empty() {
            return refuse("create_accounts needs roles: nobody else says what a new account may do");
        }
        if self.create_accounts && !self.scopes.iter().any(|scope| scope == "profile") {
            return refuse("create_accounts needs \"profile\" among the scopes: it brings the name of a new account");
        }
        if !self.role_claim.is_empty() && self.password_of_linked {
            return refuse(
                "role_claim needs password_of_linked = false: by its password an account keeps a role that the provider took away",
            );
        }
        if self.session_hours == 0 || !(1..=TIMEOUT_SECONDS_MAX).contains(&self.timeout_seconds) {
            return refuse("session_hours is 1 or more, timeout_seconds 1 to 60");
        }
        self.roles.iter().try_for_each(|gives| gives.sight().map(drop))
    }

    /// The values of the claim that gives roles: one, or a list; empty if it is not there or something else.
    pub(super) fn values(&self, claims: &Map<String, Json>) -> Vec<String> {
        let found = match self.role_claim.strip_prefix('/') {
            Some(path) => {
                let (first, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
                let name = first.replace("~1", "/").replace("~0", "~");
                claims.get(&name).and_then(|value| value.pointer(rest))
            }
            None => claims.get(&self.role_claim),
        };
        match found {
            Some(Json::String(value)) => vec![value.clone()],
            Some(Json::Array(values)) => values.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }

    /// What somebody with these values may do and see: by the first that fits, so that no two add up to what nobody meant.
    pub(super) fn given(&self, values: &[String]) -> Result<Option<(Role, Sight)>, HubError> {
        let first = self.roles.iter().find(|gives| values.contains(&gives.value));
        first.map(|gives| Ok((gives.role, gives.sight()?))).transpose()
    }
}

impl Gives {
    fn sight(&self) -> Result<Sight, HubError> {
        Sight::wanted(&self.scopes, self.everything)
            .map_err(|error| HubError::Config(format!("[[oidc.roles]] {:?}: {error}", self.value)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Config;

    const LEAST: &str = "[oidc]\nissuer = \"https://id.example.org/realms/health\"\nclient_id = \"hub\"\nclient_secret_file = \"/etc/secret\"\n";

    fn parse(more: &str) -> Result<Oidc, HubError> {
        Config::parse(&format!("{LEAST}{more}")).map(|config| config.oidc)
    }

    #[test]
    fn what_would_let_in_whom_nobody_meant_is_refused() {
        assert!(parse("").unwrap().is_on() && !Oidc::default().is_on());
        for wrong in [
            "algorithms = [\"none\"]",
            "algorithms = [\"HS256\"]",
            "algorithms = []",
            "scopes = [\"profile\"]",
            "role_claim = \"groups\"",
            "create_accounts = true",
            "session_hours = 0",
            "timeout_seconds = 0",
            "client_secret = \"x\"",
            "password_of_linked = false\nrole_claim = \"groups\"\n[[oidc.roles]]\nvalue = \"a\"\nrole = \"viewer\"",
            "password_of_linked = false\nrole_claim = \"groups\"\n[[oidc.roles]]\nvalue = \"a\"\nrole = \"root\"\neverything = true",
        ] {
            assert!(matches!(parse(wrong), Err(HubError::Config(_))), "{wrong}");
        }
        let roles = "role_claim = \"groups\"\n[[oidc.roles]]\nvalue = \"a\"\nrole = \"viewer\"\neverything = true";
        let open = parse(roles).unwrap_err().to_string();
        assert!(
            open.contains("needs password_of_linked = false"),
            "a role that was taken away stays by password: {open}"
        );
        let roles = format!("password_of_linked = false\n{roles}");
        parse(&roles).unwrap();
        let nameless = parse(&format!("create_accounts = true\n{roles}")).unwrap_err().to_string();
        assert!(nameless.contains("\"profile\" among the scopes"), "{nameless}");
        parse(&format!("create_accounts = true\nscopes = [\"openid\", \"profile\"]\n{roles}")).unwrap();
        for issuer in
            ["http://id.example.org", "id.example.org", "https://id.example.org/?x=1", "https://a@id.example.org"]
        {
            let text = LEAST.replace("https://id.example.org/realms/health", issuer);
            assert!(matches!(Config::parse(&text), Err(HubError::Config(_))), "{issuer}");
        }
        assert!(Config::parse("[oidc]\nclient_id = \"hub\"").is_err(), "half a configuration is a slip");
    }

    #[test]
    fn the_first_value_that_fits_gives_the_role_and_none_adds_to_it() {
        let roles = "password_of_linked = false\nrole_claim = \"/realm_access/roles\"\n[[oidc.roles]]\nvalue = \"zomba\"\nrole = \"admin\"\nscopes = [\"mw/zomba\"]\n[[oidc.roles]]\nvalue = \"all\"\nrole = \"viewer\"\neverything = true\n";
        let oidc = parse(roles).unwrap();
        let of = |claims: Json| oidc.given(&oidc.values(claims.as_object().unwrap())).unwrap();
        let (role, sight) = of(json!({ "realm_access": { "roles": ["all", "zomba"] } })).unwrap();
        assert_eq!((role, sight.names()), (Role::Admin, vec!["mw/zomba".to_owned()]));
        assert!(of(json!({ "realm_access": { "roles": "all" } })).unwrap().1.sees_everything());
        for none in [
            json!({}),
            json!({ "realm_access": ["zomba"] }),
            json!({ "realm_access": { "roles": [1, "ZOMBA"] } }),
            json!({ "roles": ["zomba"] }),
        ] {
            assert_eq!(of(none.clone()), None, "{none}");
        }
    }
}
