//! What decides about who gets in is written down, with who did it, and without what opens a door.

use serde_json::{Value as Json, json};

use super::Open;
use crate::config::NetworkConfig;

impl Open {
    fn acts(&self) -> Vec<Json> {
        self.ask_local("GET", "/v1/acts", &[], "").json()["acts"].as_array().unwrap().clone()
    }

    /// Who did what, in their order.
    fn told(&self) -> Vec<String> {
        let line = |act: &Json| format!("{} {}", act["who"].as_str().unwrap(), act["what"].as_str().unwrap());
        self.acts().iter().map(line).collect()
    }
}

#[test]
fn who_let_an_app_in_and_threw_it_out_is_written_down_with_it() {
    let gateway = Open::start();
    let wish = json!({"name": "tablet 1", "read": ["visit"]}).to_string();
    let invited = gateway.ask_local("POST", "/v1/pairings", &["outpost-who: cli:0 for 1000"], &wish).json();
    let code = invited["code"].as_str().unwrap().to_owned();
    let shown = json!({ "code": code }).to_string();
    let welcome = gateway.ask("", "POST", "/v1/pair", &["outpost-who: cli:0"], &shown).json();
    let token = welcome["token"].as_str().unwrap().to_owned();
    gateway.ask_local("POST", "/revoke", &["origin: null"], "name=tablet+1");
    gateway.ask_local("DELETE", "/v1/apps/nobody", &[], "");
    gateway.ask_local("DELETE", "/v1/apps/tablet%201", &["outpost-who: account:asha"], "");
    let told = ["cli:0 for 1000 invite-app", "app:tablet 1 pair-app", "machine revoke-app"];
    assert_eq!(gateway.told(), told);
    let acts = gateway.acts();
    assert_eq!(acts[0]["on"], json!({"app": "tablet 1", "reads": ["visit"], "writes": [], "days": 365}));
    assert_eq!(acts[1]["on"], json!({"app": "tablet 1", "address": "127.0.0.1"}));
    assert!(acts.iter().all(|act| act["told"] == false && act["time_quality"] == "unknown"), "{acts:?}");
    let all = Json::from(acts.clone()).to_string();
    assert!(!all.contains(&code) && !all.contains(&token), "{all}");
    let gateway = Open::start_in(gateway.stop(), NetworkConfig::default(), None);
    assert_eq!(gateway.acts(), acts, "and stays");
}

#[test]
fn an_app_that_is_let_in_does_not_see_who_else_was() {
    let gateway = Open::start();
    let token = gateway.pair(json!({"name": "tablet"}));
    assert_eq!(gateway.ask(&token, "GET", "/v1/acts", &[], "").status, 404);
    assert_eq!(gateway.ask("", "GET", "/v1/acts", &[], "").status, 401);
}
