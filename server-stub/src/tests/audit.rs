//! What is written down, that nothing of it can be undone unseen, and that no value is in it.

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use super::World;
use super::people::PASSWORD;
use crate::HubError;
use crate::account::Role;
use crate::cli::{Cli, run};
use clap::Parser;

impl World {
    fn sql(&self, sql: &str) {
        Connection::open(self.dir.path().join("hub.db")).unwrap().execute_batch(sql).unwrap();
    }

    fn verify(&self, more: &[&str]) -> Result<String, HubError> {
        self.run(&[&["audit", "verify"], more].concat())
    }

    fn finding(&self, more: &[&str]) -> String {
        match self.verify(more) {
            Err(HubError::Audit(told)) => told,
            other => panic!("nothing was found: {other:?}"),
        }
    }
}

/// SQL by somebody who can write the file, and knows how.
fn without_triggers(sql: &str) -> String {
    format!("DROP TRIGGER IF EXISTS audit_stays; DROP TRIGGER IF EXISTS audit_keeps; {sql}")
}

/// Gives the chain this entry anew, and all that follow, as whoever knows how can.
fn forge(world: &World, from: u64) {
    let conn = Connection::open(world.dir.path().join("hub.db")).unwrap();
    let all = futures(world);
    let mut before = all.iter().find(|entry| entry.number + 1 == from).map_or([0; 32], |entry| entry.hash);
    for entry in all.iter().filter(|entry| entry.number >= from) {
        before = entry.hash_after(&before);
        conn.execute("UPDATE audit SET hash = ?2 WHERE number = ?1", rusqlite::params![entry.number as i64, before])
            .unwrap();
    }
}

fn futures(world: &World) -> Vec<crate::audit::Entry> {
    let mut database = crate::hub::open_existing(world.dir.path()).unwrap();
    database.read(0, |tx| tx.audit_after(0, 10_000)).unwrap()
}

/// Threads that read and write end a moment after the last handle is gone.
async fn wait_until_closed(dir: &tempfile::TempDir) {
    let place = dir.path().join("hub.db");
    let is_open = || {
        let conn = Connection::open(&place).unwrap();
        let mode = conn.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0));
        mode.as_deref() != Ok("delete")
    };
    while is_open() {
        tokio::task::yield_now().await;
    }
}

async fn some_work(world: &World) {
    for n in 0..5 {
        world.admin("PUT", &format!("/records/patient/p{n}"), json!({ "name": "canary-name" })).await;
    }
}

#[tokio::test]
async fn everything_is_written_down_with_who_and_from_where_and_without_values() {
    let world = World::start().await;
    let mut a = world.clinic("a", "mw").await;
    let wrong = world.enroll("0000-0000-0000-0000").await;
    assert_eq!(wrong.status, 403);
    let asha = world.person("asha", Role::Operator, &[]).await;
    world.hub.publish_rules("version = 1\n[types.patient]\ndefault = \"keep-both\"\n[types.p.fields]\nname = { rule = \"lww\", required = true }\n").await.unwrap();
    a.put("patient/p1", json!({ "name": "canary-one" }));
    a.put("p/1", json!({ "x": "canary-held" }));
    world.exchange(&mut a).await;
    let ask = async |method: &str, path: &str, body: Json| {
        let reply = asha.ask(method, &format!("/admin/v1{path}"), body).await;
        assert!(reply.status < 300, "{method} {path}: {reply:?}");
    };
    ask("GET", "/records/patient?name=canary-one", Json::Null).await;
    ask("GET", "/records/patient", Json::Null).await;
    ask("GET", "/records/patient/p1", Json::Null).await;
    ask("GET", "/records/patient/p1/history", Json::Null).await;
    ask("GET", "/conflicts", Json::Null).await;
    ask("GET", "/quarantine", Json::Null).await;
    ask("GET", "/export/patient", Json::Null).await;
    ask("PUT", "/records/patient/p2", json!({ "name": "canary-two" })).await;
    ask("DELETE", "/records/patient/p2", Json::Null).await;
    ask("POST", "/quarantine/discard", json!({ "change": "1-1-2", "why": "canary-why" })).await;
    ask("POST", "/gateways", json!({ "name": "b", "scopes": ["mw"] })).await;
    ask("POST", "/gateways/b/code", Json::Null).await;
    ask("POST", "/gateways/b/revoke", Json::Null).await;
    ask("POST", "/tokens", json!({ "label": "reports", "password": PASSWORD })).await;
    ask("GET", "/gateways", Json::Null).await;
    world.run(&["records", "show", "patient/p1"]).unwrap();
    world.run(&["admin", "totp", "asha"]).unwrap();
    let found = world.audited().await;
    let told: Vec<String> = found.iter().map(|entry| format!("{} {}", entry.who, entry.what)).collect();
    let by = |who: &str, what: &[&str]| what.iter().map(|what| format!("{who} {what}")).collect::<Vec<_>>();
    let keyboard = crate::audit::Actor::at_the_keyboard().who;
    let wanted = [
        by("hub", &["add-gateway"]),
        by("gateway:a", &["enrol"]),
        by("nobody", &["enrol-refused"]),
        by("hub", &["add-account", "give-password-code"]),
        by("account:asha", &["login"]),
        by("hub", &["publish-rules"]),
        by(
            "account:asha",
            &[
                "list-records",
                "list-records",
                "read-record",
                "read-history",
                "list-conflicts",
                "list-quarantine",
                "export",
                "write-record",
                "delete-record",
                "discard",
                "add-gateway",
                "give-code",
                "revoke",
                "add-token",
            ],
        ),
        by(&keyboard, &["read-record", "set-second-factor"]),
    ];
    assert_eq!(told, wanted.concat());
    assert!(found.iter().all(|entry| ["127.0.0.1", "here"].contains(&entry.source.as_str())));
    let export = world.run(&["audit", "export"]).unwrap();
    assert!(!export.contains("canary"), "{export}");
    assert!(export.contains(r#"\"by\":[\"name\"]"#) && export.contains(r#"\"records\":1"#), "{export}");
    // Who looked at this patient?
    let shown = |what: &str| found.iter().find(|entry| entry.what == what).unwrap().target.clone();
    assert!(shown("list-records").contains(r#""ids":["p1"]"#), "{}", shown("list-records"));
    let last = found.iter().rfind(|entry| entry.what == "list-records").unwrap();
    assert!(last.target.contains(r#""upto":"p1""#) && !last.target.contains("ids"), "{}", last.target);
    assert!(shown("list-quarantine").contains(r#""ids":["p/1"]"#), "{}", shown("list-quarantine"));
    assert!(world.verify(&[]).unwrap().starts_with(&format!("{} entries", found.len() + 1)));
}

#[tokio::test]
async fn what_fails_leaves_neither_a_change_nor_an_entry() {
    let world = World::start().await;
    let before = world.audited().await.len();
    assert_eq!(world.admin("POST", "/gateways/nobody/revoke", Json::Null).await.status, 404);
    assert_eq!(world.admin("GET", "/records/patient/nobody", Json::Null).await.status, 404);
    assert_eq!(world.audited().await.len(), before);
    some_work(&world).await;
    for sql in
        ["UPDATE audit SET who = 'x'", "DELETE FROM audit WHERE number = 2", "REPLACE INTO audit SELECT * FROM audit"]
    {
        let refused = Connection::open(world.dir.path().join("hub.db")).unwrap().execute(sql, []);
        assert!(refused.is_err(), "{sql}");
    }
    world.verify(&[]).unwrap();
}

#[tokio::test]
async fn an_edited_or_removed_entry_is_found() {
    let world = World::start().await;
    some_work(&world).await;
    let head = world.run(&["audit", "head"]).unwrap();
    world.verify(&["--head", head.trim()]).unwrap();
    world.sql(&without_triggers("UPDATE audit SET target = '{}' WHERE number = 3"));
    assert!(world.finding(&[]).starts_with("entry 3 is not what was written"));
    // Whoever computes the rest anew is found by who kept a head.
    forge(&world, 3);
    assert!(world.finding(&[]).contains("audit.head"), "the head beside the database is one");
    std::fs::write(world.dir.path().join("audit.head"), world.run(&["audit", "head"]).unwrap()).unwrap();
    world.verify(&[]).unwrap();
    assert!(world.finding(&["--head", head.trim()]).contains("the head that was given"));

    let world = World::start().await;
    some_work(&world).await;
    world.sql(&without_triggers("DELETE FROM audit WHERE number = 2"));
    assert!(world.finding(&[]).starts_with("entries 2 to 2 are missing"));
}

#[tokio::test]
async fn an_end_that_was_cut_off_is_found_also_when_the_hub_went_on() {
    let world = World::start().await;
    some_work(&world).await;
    world.sql(&without_triggers("DELETE FROM audit WHERE number > 3"));
    assert!(world.finding(&[]).contains("the last entry is 3, and the file audit.head knows entry 5"));
    // What is written after it does not cover it.
    some_work(&world).await;
    assert!(world.finding(&[]).contains("audit.head"));
    std::fs::remove_file(world.dir.path().join("audit.head")).unwrap();
    assert!(world.finding(&[]).contains("no audit.head"));
}

#[tokio::test]
async fn a_backup_prints_its_head_and_a_restore_is_an_entry_and_ends_sessions() {
    let world = World::start().await;
    some_work(&world).await;
    let asha = world.person("asha", Role::Viewer, &[]).await;
    let file = world.dir.path().join("backup.db");
    let told = world.run(&["backup", file.to_str().unwrap()]).unwrap();
    let kept = told.lines().find_map(|line| line.strip_prefix("head of its audit, to be kept elsewhere: ")).unwrap();
    assert_eq!(asha.api("DELETE", "/session", Json::Null).await, 204);
    some_work(&world).await;
    let lost = world.run(&["audit", "head"]).unwrap();
    let dir = world.stop().await;
    wait_until_closed(&dir).await;
    let command = |args: &[&str]| {
        let base = ["outpost-hub", "--data-dir", dir.path().to_str().unwrap()];
        let mut out = Vec::new();
        run(Cli::try_parse_from([&base[..], args].concat()).unwrap(), &mut out)
            .map(|()| String::from_utf8(out).unwrap())
    };
    let sessions = || {
        let conn = Connection::open(dir.path().join("hub.db")).unwrap();
        conn.query_row("SELECT count(*) FROM sessions", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(sessions(), 0, "somebody logged out since");
    command(&["restore", file.to_str().unwrap()]).unwrap();
    assert_eq!(sessions(), 0, "and is not in again");
    let verified = command(&["audit", "verify", "--head", kept]).unwrap();
    assert!(verified.contains("an older database was put back, by entry 10"), "{verified}");
    assert!(matches!(command(&["audit", "verify", "--head", lost.trim()]), Err(HubError::Audit(_))));
    let export = command(&["audit", "export", "--after", "9"]).unwrap();
    assert!(
        export.contains("\"what\":\"restore\"") && export.contains(kept) && export.contains(lost.trim()),
        "{export}"
    );
}

#[tokio::test]
async fn a_backup_that_could_not_be_made_is_told_so_after_it_was_begun() {
    let world = World::start().await;
    let file = |name: &str| world.dir.path().join(name).to_str().unwrap().to_owned();
    assert!(world.run(&["backup", &file("none/backup.db")]).is_err());
    world.run(&["backup", &file("backup.db")]).unwrap();
    let told: Vec<(String, String)> =
        world.audited().await.into_iter().map(|entry| (entry.what, entry.target)).collect();
    let said = |what: &str, name: &str| (what.to_owned(), json!({ "file": file(name) }).to_string());
    let failed = "none/backup.db";
    assert_eq!(told, [said("backup", failed), said("backup-failed", failed), said("backup", "backup.db")]);
    world.verify(&[]).unwrap();
}

#[tokio::test]
async fn a_database_that_was_put_back_by_hand_says_so_itself() {
    let world = World::start().await;
    some_work(&world).await;
    let file = world.dir.path().join("backup.db");
    world.run(&["backup", file.to_str().unwrap()]).unwrap();
    some_work(&world).await;
    let lost = world.run(&["audit", "head"]).unwrap();
    let dir = world.stop().await;
    wait_until_closed(&dir).await;
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(dir.path().join(format!("hub.db{end}")));
    }
    std::fs::copy(&file, dir.path().join("hub.db")).unwrap();
    let base = ["outpost-hub", "--data-dir", dir.path().to_str().unwrap()];
    let command = |args: &[&str]| {
        let mut out = Vec::new();
        run(Cli::try_parse_from([&base[..], args].concat()).unwrap(), &mut out)
            .map(|()| String::from_utf8(out).unwrap())
    };
    assert!(matches!(command(&["audit", "verify"]), Err(HubError::Audit(_))));
    // The first to write to it, hub or command, writes that down before.
    command(&["conflicts", "list"]).unwrap();
    let verified = command(&["audit", "verify"]).unwrap();
    assert!(verified.contains("an older database was put back, by entry 7"), "{verified}");
    let export = command(&["audit", "export", "--after", "6"]).unwrap();
    assert!(export.contains("restore-by-hand") && export.contains(lost.trim()), "{export}");
}
