//! Erasing a person at the hub: who may, what is left in its files, and a hub that is put back.

use std::fs;
use std::path::Path;

use clap::Parser;
use serde_json::{Value as Json, json};
use sync_protocol::gateway::{Fate, GatewayState, Store as _};
use sync_protocol::hub::Snapshot as _;
use sync_protocol::message::body;

use super::people::PASSWORD;
use super::{Clinic, SYNC, World};
use crate::account::Role;
use crate::cli::{Cli, run};
use crate::hub::open_database;
use crate::{Config, Hub, HubError, Tls};

/// Files of a folder, by whose bytes a word is in them.
fn files_with(dir: &Path, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let bytes = fs::read(entry.path()).unwrap();
        if bytes.windows(word.len()).any(|at| at == word.as_bytes()) {
            found.push(entry.file_name().into_string().unwrap());
        }
    }
    found
}

impl World {
    fn erase_as(&self, name: &str, password: &str, command: &[&str]) -> Result<String, HubError> {
        let secrets = tempfile::tempdir().unwrap();
        let file = secrets.path().join("password");
        fs::write(&file, format!("{password}\n")).unwrap();
        self.run(&[&["erase"], command, &["--as", name, "--password-file", file.to_str().unwrap()]].concat())
    }

    /// Two admins, and one that sees a district only.
    pub(super) async fn with_admins() -> World {
        let world = World::start().await;
        for name in ["asha", "bina"] {
            world.person(name, Role::Admin, &[]).await;
        }
        world.person("chisomo", Role::Admin, &["mw/zomba"]).await;
        world
    }

    pub(super) fn erase(&self, record: &str) -> String {
        let asked = self.erase_as("asha", PASSWORD, &["ask", record]).unwrap();
        let wish = asked.split_whitespace().find_map(|word| word.trim_end_matches(';').parse::<u64>().ok()).unwrap();
        self.erase_as("bina", PASSWORD, &["agree", &wish.to_string()]).unwrap()
    }

    fn erase_status(&self) -> Json {
        serde_json::from_str(&self.run(&["erase", "status", "--json"]).unwrap()).unwrap()
    }

    fn state_of(&self, gateway: &str) -> String {
        let told = self.erase_status();
        let of = told["gateways"].as_array().unwrap().iter().find(|one| one["gateway"] == gateway).unwrap();
        of["state"].as_str().unwrap().to_owned()
    }
}

/// Syncs as a program does that was made before there were erasures.
async fn sync_as_old(world: &World, clinic: &mut Clinic) {
    for _ in 0..5 {
        let mut state = clinic.store.state().unwrap();
        state.told = false;
        clinic.store.set_state(&state).unwrap();
        let mut outgoing = clinic.request();
        outgoing.head.erased = None;
        let sent = body(&outgoing.head.encode(), outgoing.frames);
        let reply = world.ask("POST", "/sync/v1", &[SYNC], &sent).await;
        let response = clinic.integrate(&outgoing.head, &reply.body);
        assert!(response.erased.is_empty());
    }
}

#[tokio::test]
async fn one_admin_asks_another_agrees_and_no_file_of_the_hub_has_a_value_any_more() {
    let world = World::with_admins().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    a.put("patient/p1", json!({ "name": "secret-canary-1", "secret-canary-field": true }));
    a.put("patient/p2", json!({ "name": "somebody else" }));
    world.sync(&mut a).await;
    a.put("patient/p1", json!({ "name": "secret-canary-2" }));
    world.sync(&mut a).await;
    assert!(!files_with(world.dir.path(), "secret-canary").is_empty());

    assert!(matches!(world.erase_as("asha", PASSWORD, &["ask", "patient/p9"]), Err(HubError::Missing(_))));
    assert!(matches!(world.erase_as("asha", "not this one", &["ask", "patient/p1"]), Err(HubError::NotLoggedIn)));
    assert!(matches!(world.erase_as("nobody", PASSWORD, &["ask", "patient/p1"]), Err(HubError::NotLoggedIn)));
    assert!(matches!(world.erase_as("chisomo", PASSWORD, &["ask", "patient/p1"]), Err(HubError::NotAllowed(_))));
    let asked = world.erase_as("asha", PASSWORD, &["ask", "patient/p1"]).unwrap();
    assert!(asked.contains("number 1;") && asked.contains("1\tpatient"), "{asked}");
    assert!(matches!(world.erase_as("asha", PASSWORD, &["agree", "1"]), Err(HubError::NotAllowed(_))));
    assert!(matches!(world.erase_as("bina", PASSWORD, &["agree", "7"]), Err(HubError::Missing(_))));
    assert_eq!(a.body("patient/p1")["name"], "secret-canary-2", "nothing has happened yet");
    assert!(world.run(&["erase", "list"]).unwrap().contains("asked 1\tpatient/p1\tby asha"));
    let told = world.erase_as("bina", PASSWORD, &["agree", "1"]).unwrap();
    assert!(told.contains("1 records, 2 changes"), "{told}");
    assert_eq!(files_with(world.dir.path(), "secret-canary"), Vec::<String>::new());
    assert!(files_with(world.dir.path(), "somebody else").contains(&"hub.db".to_owned()));

    assert_eq!(world.state_of("a"), "not done yet");
    world.sync(&mut a).await;
    world.exchange(&mut a).await;
    assert_eq!(world.state_of("a"), "done");
    assert_eq!(world.erase_status()["sweep_due"], false);
    assert!(!format!("{:?}", a.store).contains("secret-canary"));
    let history = world.run(&["records", "show", "patient/p1", "--history"]).unwrap();
    assert!(history.contains("erased") && !history.contains("secret"), "{history}");

    let audited = world.audited().await;
    let of = |what: &str| audited.iter().filter(|entry| entry.what == what).collect::<Vec<_>>();
    assert_eq!((of("ask-erasure").len(), of("erase").len()), (1, 1));
    assert_eq!(of("erase")[0].who, "account:bina");
    assert!(of("erase")[0].target.contains("\"asked_by\":\"asha\"") && of("erase")[0].target.contains("patient/p1"));
    let refused: Vec<&str> = of("login-refused").iter().map(|entry| entry.target.as_str()).collect();
    assert_eq!(refused, ["{\"account\":\"asha\"}", "{\"account\":null}"]);
    assert!(world.run(&["audit", "verify"]).is_ok());
}

#[tokio::test]
async fn what_was_asked_for_can_be_taken_back_and_ends_with_the_rights_of_who_asked() {
    let world = World::with_admins().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    a.put("patient/p1", json!({ "name": "Asha" }));
    world.sync(&mut a).await;
    world.erase_as("asha", PASSWORD, &["ask", "patient/p1"]).unwrap();
    world.erase_as("bina", PASSWORD, &["withdraw", "1"]).unwrap();
    assert!(matches!(world.erase_as("bina", PASSWORD, &["agree", "1"]), Err(HubError::Missing(_))));
    world.erase_as("asha", PASSWORD, &["ask", "patient/p1"]).unwrap();
    world.run(&["admin", "role", "asha", "--role", "operator"]).unwrap();
    assert!(matches!(world.erase_as("bina", PASSWORD, &["agree", "1"]), Err(HubError::Conflict(_))));
    assert_eq!(a.body("patient/p1")["name"], "Asha");
    assert!(world.run(&["records", "show", "patient/p1"]).unwrap().contains("Asha"));
}

#[tokio::test]
async fn whose_password_is_no_way_in_any_more_decides_nothing_with_it() {
    let world = World::with_admins().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    a.put("patient/p1", json!({ "name": "Asha" }));
    world.sync(&mut a).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = elsewhere.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (password, secret) = (file("password", &format!("{PASSWORD}\n")), file("secret", "s"));
    let config = |issuer: &str, is_way_in: bool| {
        let provider = format!("issuer = \"{issuer}\"\nclient_id = \"hub\"\nclient_secret_file = \"{secret}\"");
        file("hub.toml", &format!("tls = \"off\"\n[oidc]\n{provider}\npassword_of_linked = {is_way_in}\n"))
    };
    let at_hub = |issuer: &str, is_way_in: bool, command: &[&str]| {
        let dir = world.dir.path().to_str().unwrap();
        let config = config(issuer, is_way_in);
        let start = ["outpost-hub", "--data-dir", dir, "--config", &config];
        run(Cli::try_parse_from([&start, command].concat()).unwrap(), &mut Vec::new())
    };
    let login = "https://login.example.org";
    at_hub(login, false, &["admin", "link", "asha", "s-asha"]).unwrap();
    let ask = ["erase", "ask", "patient/p1", "--as", "asha", "--password-file", &password];
    for issuer in [login, "https://login.example.org/", "https://new.example.org"] {
        assert!(matches!(at_hub(issuer, false, &ask), Err(HubError::NotLoggedIn)), "linked is linked: {issuer}");
    }
    at_hub(login, true, &ask).unwrap();
}

#[tokio::test]
async fn a_program_that_cannot_erase_is_named_and_brings_nothing_back() {
    let world = World::with_admins().await;
    let (mut a, mut b) = (world.clinic("a", "mw/zomba").await, world.clinic("b", "mw/zomba").await);
    a.put("patient/p1", json!({ "name": "secret-canary-1" }));
    world.sync(&mut a).await;
    sync_as_old(&world, &mut b).await;
    b.put("patient/p1", json!({ "name": "secret-canary-2" }));
    world.erase("patient/p1");
    sync_as_old(&world, &mut b).await;
    assert!(world.state_of("b").contains("its program cannot"));
    assert_eq!(files_with(world.dir.path(), "secret-canary"), Vec::<String>::new());
    assert_eq!(b.body("patient/p1"), json!({}), "it shows what is left of the record");
    assert_eq!(b.store.state().unwrap().repairs, 0);
    let fates: Vec<_> = b.store.own().map(|(_, fate)| fate.cloned()).collect();
    assert!(matches!(&fates[..], [Some(Fate::Discarded(why))] if why.contains("was erased")), "{fates:?}");
    assert!(format!("{:?}", b.store).contains("secret-canary-2"), "its history keeps it until it is a newer program");
    // A program says when it is started what it is.
    let state = b.store.state().unwrap();
    b.store.set_state(&GatewayState { told: false, ..state }).unwrap();
    world.sync(&mut b).await;
    world.exchange(&mut b).await;
    assert_eq!(world.state_of("b"), "done");
    assert!(!format!("{:?}", b.store).contains("secret-canary"));
}

#[tokio::test]
async fn a_hub_that_is_put_back_erases_again_before_it_serves() {
    let world = World::with_admins().await;
    let mut a = world.clinic("a", "mw/zomba").await;
    a.put("patient/p1", json!({ "name": "secret-canary-1" }));
    a.put("visit/v1", json!({ "note": "of somebody" }));
    world.sync(&mut a).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let backup = elsewhere.path().join("backup.db");
    world.run(&["backup", backup.to_str().unwrap()]).unwrap();
    world.erase("patient/p1");
    let dir = world.stop().await;
    for beside in ["-wal", "-shm"] {
        let _ = fs::remove_file(dir.path().join(format!("hub.db{beside}")));
    }
    fs::copy(&backup, dir.path().join("hub.db")).unwrap();
    assert_eq!(files_with(dir.path(), "secret-canary"), ["hub.db"]);
    drop(Hub::open_with(dir.path(), Config { tls: Tls::Off, ..Config::default() }).unwrap());
    assert_eq!(files_with(dir.path(), "secret-canary"), Vec::<String>::new());
    let mut database = open_database(dir.path()).unwrap();
    let (entries, last) =
        database.read(0, |tx| Ok::<_, HubError>((tx.audit_after(0, 1_000)?, tx.last_erasure()?))).unwrap();
    assert!(entries.iter().any(|entry| entry.what == "erase-again" && entry.target.contains("patient/p1")));
    assert!(fs::read_to_string(dir.path().join("erasures.list")).unwrap().starts_with(&format!("{last} {last} ")));
    assert_eq!(database.erase_again().unwrap(), 0, "once is enough");
    drop(database);
    // A list that cannot be read is no reason to serve without it.
    fs::write(dir.path().join("erasures.list"), "1 1 patient\n").unwrap();
    let refused = Hub::open_with(dir.path(), Config { tls: Tls::Off, ..Config::default() }).unwrap_err();
    assert!(refused.to_string().contains("erasures.list"), "{refused}");
    // One that is lost is written again from the database.
    fs::remove_file(dir.path().join("erasures.list")).unwrap();
    open_database(dir.path()).unwrap().erase_again().unwrap();
    assert!(dir.path().join("erasures.list").exists());
}
