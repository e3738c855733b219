//! Commands on the database while the hub serves from it.

use clap::Parser;
use serde_json::{Value as Json, json};

use super::people::{Browser, OWN_PAGE, PASSWORD};
use super::tls::Fort;
use super::{Clinic, World};
use crate::cli::{Cli, run};
use crate::{Class, HubError};

impl World {
    pub(super) fn run(&self, command: &[&str]) -> Result<String, HubError> {
        let dir = self.dir.path().to_str().unwrap();
        let config = self.file("plain.toml", "tls = \"off\"\n");
        let cli = [&["outpost-hub", "--data-dir", dir, "--config", &config], command].concat();
        let cli = Cli::try_parse_from(cli).unwrap();
        let mut out = Vec::new();
        run(cli, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Fort {
    pub(super) fn run(&self, command: &[&str]) -> Result<String, HubError> {
        let dir = self.hub.data_dir().to_str().unwrap();
        let cli = [&["outpost-hub", "--data-dir", dir], command].concat();
        let mut out = Vec::new();
        run(Cli::try_parse_from(cli).unwrap(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }
}

const KEEP_BOTH: &str = "version = 2\n[types.patient]\ndefault = \"keep-both\"\n";
const FIRST: &str = "version = 3\n[types.patient]\ndefault = \"first-write\"\n";

#[tokio::test]
async fn a_gateway_that_a_command_added_is_served_at_once() {
    let world = World::start().await;
    let added: Json =
        serde_json::from_str(&world.run(&["gateway", "add", "a", "--scope", "mw/zomba", "--json"]).unwrap()).unwrap();
    let granted = world.enroll(added["code"].as_str().unwrap()).await;
    let mut a = Clinic::new(&granted.json());
    a.put("patient/p1", json!({ "name": "Asha" }));
    world.sync(&mut a).await;
    assert!(world.run(&["gateway", "list"]).unwrap().contains("a\tenrolled"));
    let shown: Json = serde_json::from_str(&world.run(&["gateway", "show", "a", "--json"]).unwrap()).unwrap();
    assert_eq!((shown["origin"].as_u64(), shown["version"].as_str()), (Some(1), Some("memory")));
    assert!(world.run(&["records", "show", "patient/p1"]).unwrap().contains("Asha"));
    assert!(world.run(&["records", "show", "patient/p1", "--history"]).unwrap().contains("applied"));
    assert!(matches!(world.run(&["gateway", "add", "a", "--scope", "mw"]), Err(HubError::NameTaken(_))));
    assert!(world.run(&["gateway", "scopes", "a", "--scope", ""]).is_err(), "everything is not given by a slip");
    world.run(&["gateway", "scopes", "a", "--everything"]).unwrap();
    let missing = world.run(&["gateway", "show", "nobody"]).unwrap_err();
    assert_eq!(missing.class().exit_code(), 4);
    world.run(&["gateway", "revoke", "a"]).unwrap();
    assert!(world.run(&["gateway", "list"]).unwrap().contains("revoked"));
    world.run(&["gateway", "allow", "a"]).unwrap();
    assert!(!world.run(&["gateway", "list"]).unwrap().contains("revoked"));
    assert_eq!(world.run(&["gateway", "allow", "a"]).unwrap_err().class(), Class::Rejected);
}

#[tokio::test]
async fn rules_are_checked_tried_on_the_past_and_published_under_a_running_hub() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    let mut b = world.clinic("b", "mw/zomba").await;
    let broken = world.file("broken.toml", "version = 1\n[types.patient]\ndefalt = \"lww\"\n");
    let error = world.run(&["rules", "check", &broken]).unwrap_err();
    assert!(error.to_string().contains("line 3"), "{error}");
    assert_eq!(error.class(), Class::Rejected);

    let (keep, first) = (world.file("keep.toml", KEEP_BOTH), world.file("first.toml", FIRST));
    world.run(&["rules", "publish", &keep]).unwrap();
    assert!(matches!(world.run(&["rules", "publish", &keep]), Err(HubError::RulesVersion { given: 2, present: 2 })));
    let sourced =
        world.file("sourced.toml", &KEEP_BOTH.replace("version = 2", "version = 3\nsources = [\"lab\", \"school\"]"));
    world.run(&["rules", "publish", &sourced]).unwrap();
    let moved =
        world.file("moved.toml", &KEEP_BOTH.replace("version = 2", "version = 4\nsources = [\"school\", \"lab\"]"));
    assert!(matches!(world.run(&["rules", "publish", &moved]), Err(HubError::RulesSources(_))));
    a.put("patient/p1", json!({ "name": "Asha" }));
    b.put("patient/p1", json!({ "name": "Bina" }));
    b.put("patient/p2", json!({ "name": "Chisomo" }));
    world.sync(&mut a).await;
    world.sync(&mut b).await;
    world.sync(&mut a).await;
    assert_eq!(a.body("patient/p1")["name"], "Bina", "the later is shown, the other kept");
    assert!(world.run(&["conflicts", "list"]).unwrap().starts_with("patient/p1   present   name"));

    let same: Json = serde_json::from_str(&world.run(&["rules", "test", &keep, "--json"]).unwrap()).unwrap();
    assert_eq!((same["contested"].as_u64(), same["different"].as_u64()), (Some(1), Some(0)));
    let report = world.run(&["rules", "test", &first]).unwrap();
    assert!(report.contains("field patient.name: 1 shown differently") && report.contains("patient/p1"), "{report}");
    assert!(!report.contains("Asha") && !report.contains("Bina"), "{report}");

    for other in ["village", "nmae"] {
        let wrong = ["conflicts", "settle", "patient/p1", other, "--value", "x", "--why", "a slip"];
        let told = world.run(&wrong).unwrap_err();
        assert!(
            matches!(told, HubError::NotInConflict(_)) && told.to_string().ends_with("in conflict: name"),
            "{told}"
        );
    }
    assert!(world.run(&["conflicts", "settle", "patient/p1", "--delete", "--why", "a slip"]).is_err());
    world.run(&["conflicts", "settle", "patient/p1", "name", "--value", "Asha B.", "--why", "asked her"]).unwrap();
    assert_eq!(world.run(&["conflicts", "list"]).unwrap(), "none\n");
    world.sync(&mut a).await;
    assert_eq!(a.body("patient/p1")["name"], "Asha B.");
}

#[test]
fn a_command_makes_no_hub_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("hbu");
    let cli = ["outpost-hub", "--data-dir", nowhere.to_str().unwrap(), "gateway", "list"];
    let told = run(Cli::try_parse_from(cli).unwrap(), &mut Vec::new()).unwrap_err();
    assert!(matches!(told, HubError::NoHub(_)) && !nowhere.exists(), "{told}");
}

#[test]
fn who_makes_a_code_that_works_on_this_machine_only_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let say = |command: &[&str]| {
        let cli = [&["outpost-hub", "--data-dir", dir.path().to_str().unwrap()], command].concat();
        let mut out = Vec::new();
        run(Cli::try_parse_from(cli).unwrap(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    say(&["init", "--name", "localhost"]);
    assert!(say(&["gateway", "add", "a", "--scope", "mw"]).contains("this machine only"));
    say(&["init", "--name", "::1"]);
    assert!(say(&["gateway", "code", "a"]).contains("this machine only"));
    say(&["init", "--name", "hub.example.org"]);
    assert!(!say(&["gateway", "code", "a"]).contains("this machine only"));
}

#[tokio::test]
async fn a_code_for_another_name_is_refused_and_stays_good() {
    let world = World::start().await;
    let added: Json =
        serde_json::from_str(&world.run(&["gateway", "add", "b", "--scope", "mw", "--json"]).unwrap()).unwrap();
    let mut wish = json!({ "code": added["code"], "known_as": "a" });
    let refused = world.ask("POST", "/enroll/v1", &[], wish.to_string().as_bytes()).await;
    assert_eq!(refused.status, 409);
    let told = refused.json()["detail"].to_string();
    assert!(told.contains("the gateway b") && told.contains("is a"), "{told}");
    wish["known_as"] = json!("b");
    assert_eq!(world.ask("POST", "/enroll/v1", &[], wish.to_string().as_bytes()).await.status, 200);
}

#[tokio::test]
async fn quarantine_is_decided_by_command() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    world
        .hub
        .publish_rules("version = 1\n[types.p.fields]\nname = { rule = \"lww\", required = true }\n")
        .await
        .unwrap();
    a.put("p/1", json!({ "x": 1 }));
    a.put("p/2", json!({ "x": 2 }));
    world.exchange(&mut a).await;
    let listed = world.run(&["quarantine", "list"]).unwrap();
    let first = listed.lines().next().unwrap();
    assert!(first.starts_with("1-1-1   p/1   a   name is required"), "{listed}");
    let some = world.run(&["quarantine", "list", "--limit", "1"]).unwrap();
    assert!(some.ends_with("and 1 more: outpost-hub quarantine list --limit 2\n"), "{some}");
    world.run(&["quarantine", "release", "1-1-1"]).unwrap();
    world.run(&["quarantine", "discard", "1-1-2", "--why", "typed twice"]).unwrap();
    assert_eq!(world.run(&["quarantine", "list"]).unwrap(), "none\n");
    assert!(world.run(&["quarantine", "release", "1-1-2"]).is_err());
    world.sync(&mut a).await;
    assert_eq!((a.body("p/1"), a.record("p/2")), (json!({ "x": 1 }), None));
}

#[tokio::test]
async fn the_sample_configuration_is_printed_and_passes_its_own_check() {
    let world = World::start().await;
    let sample = world.run(&["config", "default"]).unwrap();
    let file = world.file("config.toml", &sample);
    assert!(world.run(&["config", "check", &file]).unwrap().contains("fine"));
    let wrong = world.file("wrong.toml", "listen_on = 1");
    assert_eq!(world.run(&["config", "check", &wrong]).unwrap_err().class().exit_code(), 2);
}

#[tokio::test]
async fn the_first_account_is_made_by_init_once_and_without_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let base = ["outpost-hub", "--data-dir", dir.path().to_str().unwrap()];
    let command = |args: &[&str]| {
        let mut out = Vec::new();
        run(Cli::try_parse_from([&base[..], args].concat()).unwrap(), &mut out)
            .map(|()| String::from_utf8(out).unwrap())
    };
    let told = command(&["init", "--name", "hub.example.org"]).unwrap();
    assert!(told.contains("admin sets a password at https://hub.example.org:8480/password"), "{told}");
    let code = told.trim().lines().last().unwrap().to_owned();
    assert_eq!(code.len(), 19);
    let again = command(&["init", "--name", "hub.example.org"]).unwrap();
    assert!(!again.contains("password"), "{again}");
    let listed = command(&["admin", "list"]).unwrap();
    assert!(listed.starts_with("admin\tadmin\teverything\twaiting for a password"), "{listed}");
    assert!(command(&["admin", "add", "x", "--role", "viewer", "--scope", ""]).is_err());
}

#[tokio::test]
async fn accounts_are_managed_by_command_under_a_running_hub() {
    let world = World::start().await;
    let added = world.run(&["admin", "add", "asha", "--role", "viewer", "--scope", "mw/zomba"]).unwrap();
    let code = added.trim().lines().last().unwrap();
    let fields = [("name", "asha"), ("present", code), ("new", PASSWORD)];
    assert_eq!(world.form("/password", &fields, &[OWN_PAGE]).await.status, 303);
    let mut browser = Browser { world: &world, cookie: String::new() };
    assert_eq!(browser.log_in("asha", PASSWORD, "").await.status, 303);
    let token = world.run(&["admin", "token", "add", "asha", "reports", "--days", "7"]).unwrap();
    assert_eq!(world.by_token(token.trim(), "GET", "/gateways", Json::Null).await.status, 200);
    assert!(world.run(&["admin", "token", "add", "asha", "more", "--role", "admin"]).is_err());
    assert!(world.run(&["admin", "token", "list"]).unwrap().starts_with("asha\treports\tviewer\tmw/zomba\tgood"));
    world.run(&["admin", "token", "revoke", "asha", "reports"]).unwrap();
    assert_eq!(world.by_token(token.trim(), "GET", "/gateways", Json::Null).await.status, 401);
    world.run(&["admin", "role", "asha", "--role", "resolver", "--everything"]).unwrap();
    assert!(!browser.is_in().await);
    assert!(world.run(&["admin", "list"]).unwrap().starts_with("asha\tresolver\teverything\topen"));
    let secret = world.run(&["admin", "totp", "asha"]).unwrap();
    assert!(secret.starts_with("secret: ") && secret.lines().count() > 10, "{secret}");
    assert_eq!(browser.log_in("asha", PASSWORD, "").await.status, 403);
    world.run(&["admin", "totp", "asha", "--off"]).unwrap();
    assert_eq!(browser.log_in("asha", PASSWORD, "").await.status, 303);
    world.run(&["admin", "disable", "asha"]).unwrap();
    assert!(!browser.is_in().await);
    assert!(world.run(&["admin", "password", "asha"]).is_err());
    world.run(&["admin", "enable", "asha"]).unwrap();
    let code = world.run(&["admin", "password", "asha"]).unwrap();
    assert_eq!(browser.log_in("asha", PASSWORD, "").await.status, 303, "the one before is good until then");
    let fields = [("name", "asha"), ("present", code.trim().lines().last().unwrap()), ("new", "nsima ndi nyemba")];
    assert_eq!(world.form("/password", &fields, &[OWN_PAGE]).await.status, 303);
    assert!(!browser.is_in().await, "and its sessions end with it");
}
