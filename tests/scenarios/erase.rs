//! A person is erased: at a real hub and two real gateways no byte of a value is left in any file, also of what waited at a gateway that
//! was away, and after the hub was put back.

use std::fs;
use std::path::Path;

use outpost_tests::process::{Gateway, Hub, wait_for};
use serde_json::{Value, json};

const RULES: &str = r#"
version = 1
[types.visit]
parents = { patient = "patient" }
"#;
const PASSWORD: &str = "ndiwo za masamba";

/// A value that no compressor makes shorter where it is the only one in its row, so that it stands in the file as it is: few letters,
/// all of them rare.
fn canary(nth: u32) -> String {
    let mut state = 0x9e37_79b9 ^ (nth + 1).wrapping_mul(0x85eb_ca6b);
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        char::from_u32(0x380 + (state >> 8) % 0x480).unwrap_or('x')
    };
    (0..14).map(letter).collect()
}

/// The files below a folder that have any of these words in them, or half of one.
fn files_with(dir: &Path, words: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files_with(&entry.path(), words));
            continue;
        }
        // One that went away meanwhile holds nothing.
        let Ok(bytes) = fs::read(entry.path()) else { continue };
        let has = |word: &String| {
            let half = &word.as_bytes()[..word.len() / 2];
            bytes.windows(half.len()).any(|at| at == half)
        };
        if words.iter().any(has) {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

/// Two admins, who have set their passwords as people do.
fn admins(hub: &Hub) {
    for name in ["asha", "bina"] {
        let added: Value =
            serde_json::from_str(&hub.command(&["admin", "add", name, "--role", "admin", "--everything", "--json"]))
                .unwrap();
        let typed = json!({ "name": name, "present": added["code"], "new": PASSWORD });
        let (status, told) = hub.ask("POST", "/admin/v1/password", Some(&typed));
        assert!(status < 300, "{status} {told}");
    }
}

fn erase(hub: &Hub, folder: &Path, record: &str, wish: &str) {
    let secret = folder.join("password");
    fs::write(&secret, PASSWORD).unwrap();
    let file = secret.to_string_lossy();
    hub.command(&["erase", "ask", record, "--as", "asha", "--password-file", &file]);
    hub.command(&["erase", "agree", wish, "--as", "bina", "--password-file", &file]);
}

#[test]
fn nothing_of_a_person_is_left_in_any_file_and_nobody_brings_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = tempfile::tempdir().unwrap();
    let words: Vec<String> = (0..8).map(canary).collect();
    let mut hub = Hub::start(&folder.path().join("hub"));
    hub.publish(RULES);
    admins(&hub);
    let mut a = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    let mut b = Gateway::enrolled(&folder.path().join("b"), &hub, "b", "mw");
    a.put("patient/p1", &json!({ "name": words[0] }));
    a.put("patient/p2", &json!({ "name": "somebody else" }));
    a.put("visit/v1", &json!({ "patient": "p1", "note": words[3] }));
    a.sync();
    b.sync();
    let backup = secrets.path().join("backup.db");
    hub.command(&["backup", &backup.to_string_lossy()]);
    b.put("patient/p1", &json!({ "name": words[4] }));
    b.sync();
    a.sync();
    for (name, word) in ["hub", "a", "b"].into_iter().flat_map(|name| [0, 3, 4].map(|word| (name, word))) {
        let found = files_with(&folder.path().join(name), &words[word..=word]);
        assert!(!found.is_empty(), "word {word} can be found where it is, at {name}");
    }

    // One is away, with changes of the record and a visit that nobody has.
    hub.proxy.set_down(true);
    b.put("patient/p1", &json!({ "name": words[5] }));
    b.put("visit/v2", &json!({ "patient": "p1", "note": words[7] }));
    b.put("visit/v3", &json!({ "patient": "p2", "note": "a dose that must arrive" }));
    erase(&hub, secrets.path(), "patient/p1", "1");
    assert_eq!(files_with(&folder.path().join("hub"), &words), Vec::<String>::new());
    hub.proxy.set_down(false);
    a.sync();
    b.sync();
    a.sync();
    let gone = || files_with(folder.path(), &words).is_empty().then_some(());
    // What came of a child that nobody had known waited at the hub, and is in free pages until a backup.
    let later = secrets.path().join("later.db");
    hub.command(&["backup", &later.to_string_lossy()]);
    assert!(!fs::read(&later).unwrap().windows(8).any(|at| at == &words[7].as_bytes()[..8]));
    wait_for("both gateways to write their databases anew", gone);

    for gateway in [&a, &b] {
        assert_eq!(gateway.get("patient/p1"), None);
        assert_eq!(gateway.get("visit/v1"), None);
        assert_eq!(gateway.get("visit/v2"), None);
        assert_eq!(gateway.get("visit/v3").unwrap()["note"], "a dose that must arrive");
        assert_eq!(gateway.count("repairs"), 0);
        let idle = gateway.sync();
        assert_eq!((idle["exchanges"].as_u64(), idle["agrees"].as_bool()), (Some(1), Some(true)), "{idle}");
    }
    let status = hub.command(&["erase", "status"]);
    assert_eq!(status.matches("\tdone\t").count(), 2, "{status}");
    let clean = "nothing here is known to hold what the hub has erased";
    wait_for("doctor to know of it", || a.command(&["doctor"]).contains(clean).then_some(()));
    hub.command(&["audit", "verify"]);
    assert!(hub.command(&["audit", "export"]).contains("\"what\":\"erase\""));

    // A restart, and a hub that is put back to before it.
    a.kill();
    b.kill();
    hub.kill();
    hub.command(&["restore", &backup.to_string_lossy()]);
    assert_eq!(files_with(&folder.path().join("hub"), &words), Vec::<String>::new());
    hub.restart();
    a.restart();
    b.restart();
    for gateway in [&a, &b, &a] {
        gateway.sync();
    }
    wait_for("all files to be without it", gone);
    for gateway in [&a, &b] {
        assert_eq!(gateway.get("patient/p1"), None);
        assert_eq!(gateway.get("visit/v3").unwrap()["note"], "a dose that must arrive");
    }
    hub.command(&["audit", "verify"]);

    // Who knows of it begins a new life of the id.
    a.put("patient/p1", &json!({ "name": "anew" }));
    a.sync();
    b.sync();
    assert_eq!(b.get("patient/p1").unwrap(), json!({ "name": "anew" }));
}
