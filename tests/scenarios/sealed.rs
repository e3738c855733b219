//! Encrypted gateways as real programs: a stick that is not there, a passphrase, a key that the hub keeps, and keys that are lost.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use outpost_tests::process::{Gateway, Hub, Running, ask, command, must, program, say, wait_for};
use serde_json::json;
use tempfile::TempDir;

const PASSPHRASE: &str = "moto nyumba mvula njinga";

/// A folder for a card, and one for a stick with a key file on it.
struct Box {
    folder: TempDir,
}

impl Box {
    fn new() -> Box {
        let folder = tempfile::tempdir().unwrap();
        for name in ["card", "stick"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        Box { folder }
    }

    fn card(&self) -> PathBuf {
        self.folder.path().join("card")
    }

    fn dir(&self) -> String {
        self.card().to_string_lossy().into_owned()
    }

    fn stick(&self, name: &str) -> String {
        self.folder.path().join("stick").join(name).to_string_lossy().into_owned()
    }

    /// Writes what the configuration says about the key.
    fn configure(&self, key: &str) {
        let file = match key {
            "file" => format!("key_file = \"{}\"\n", self.stick("outpost.key")),
            _ => String::new(),
        };
        std::fs::write(self.card().join("outpost.toml"), format!("[encryption]\nkey = \"{key}\"\n{file}")).unwrap();
    }

    fn with_stick() -> Box {
        let new = Box::new();
        must("outpost", &["key", "make", &new.stick("outpost.key")]);
        new.configure("file");
        new
    }

    /// A command to which something is said.
    fn say(&self, args: &[&str], said: &str) -> Output {
        let more = ["--data-dir", &self.dir(), "--passphrase-fd", "0"];
        say("outpost", &[args, &more].concat(), said)
    }

    fn must_say(&self, args: &[&str], said: &str) -> String {
        let output = self.say(args, said);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.card().join("log")).unwrap()
    }
}

fn is_sealed(card: &Path) -> bool {
    !std::fs::read(card.join("outpost.db")).unwrap().starts_with(b"SQLite format 3")
}

/// Whether the gateway says that it waits.
fn waits(gateway: &Gateway) -> Option<String> {
    let (status, told) = gateway.ask("GET", "/v1/status", &[], None);
    (status == 503).then_some(told)
}

fn is_open(gateway: &Gateway) -> Option<()> {
    (gateway.ask("GET", "/v1/status", &[], None).0 == 200).then_some(())
}

#[test]
fn without_its_stick_a_gateway_waits_and_says_so_and_goes_on_when_it_comes() {
    let card = Box::with_stick();
    let mut gateway = Gateway::start(&card.card());
    gateway.put("patient/p1", &json!({"name": "Asha"}));
    assert!(is_sealed(&card.card()));
    gateway.kill();
    std::fs::rename(card.stick("outpost.key"), card.stick("elsewhere")).unwrap();
    gateway.restart();
    let told = wait_for("a gateway that says that it waits", || waits(&gateway));
    assert!(told.contains("is not there") && told.contains("try again"), "{told}");
    let (status, _) = gateway.ask("PUT", "/v1/records/patient/p2", &[], Some(&json!({"name": "Baraka"})));
    assert_eq!(status, 503);
    let wrong = command("outpost", &["status", "--data-dir", &card.dir()]);
    assert!(!wrong.status.success());
    std::fs::rename(card.stick("elsewhere"), card.stick("outpost.key")).unwrap();
    wait_for("the database to open", || is_open(&gateway));
    assert_eq!(gateway.get("patient/p1"), Some(json!({"name": "Asha"})));
    assert!(must("outpost", &["status", "--data-dir", &card.dir()]).contains("patient"));
    let content = std::fs::read_to_string(card.stick("outpost.key")).unwrap();
    assert!(!card.log().contains(content.trim().rsplit(' ').next().unwrap()));
}

#[test]
fn who_comes_from_the_network_while_the_key_is_not_there_is_refused_at_once() {
    let card = Box::with_stick();
    // An address of this machine at which no other test takes ports.
    let place = TcpListener::bind("127.83.0.1:0").unwrap().local_addr().unwrap();
    let file = card.card().join("outpost.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{config}[network]\nlisten = \"{place}\"\n")).unwrap();
    let mut gateway = Gateway::start(&card.card());
    TcpStream::connect(place).unwrap();
    gateway.kill();
    std::fs::rename(card.stick("outpost.key"), card.stick("elsewhere")).unwrap();
    gateway.restart();
    wait_for("a gateway that says that it waits", || waits(&gateway));
    assert_eq!(TcpStream::connect(place).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    std::fs::rename(card.stick("elsewhere"), card.stick("outpost.key")).unwrap();
    wait_for("the network to be served", || TcpStream::connect(place).ok());
    wait_for("the database to open", || is_open(&gateway));
}

#[test]
fn a_wrong_key_is_said_and_nothing_new_begins() {
    let card = Box::with_stick();
    let mut gateway = Gateway::start(&card.card());
    gateway.put("patient/p1", &json!({"name": "Asha"}));
    gateway.kill();
    let before = std::fs::read(card.card().join("outpost.db")).unwrap();
    std::fs::rename(card.stick("outpost.key"), card.stick("right")).unwrap();
    must("outpost", &["key", "make", &card.stick("outpost.key")]);
    let told = command("outpost", &["run", "--data-dir", &card.dir(), "--listen", "127.0.0.1:0"]);
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status.code(), Some(2), "{text}");
    assert!(text.contains("is not the key of") && text.contains("outpost key recover"), "{text}");
    card.configure("off");
    let told = command("outpost", &["run", "--data-dir", &card.dir(), "--listen", "127.0.0.1:0"]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("is encrypted"), "{told:?}");
    assert_eq!(std::fs::read(card.card().join("outpost.db")).unwrap(), before);
    let files = std::fs::read_dir(card.card()).unwrap().flatten().map(|entry| entry.file_name()).collect::<Vec<_>>();
    assert!(files.iter().all(|name| !name.to_string_lossy().contains("broken")), "{files:?}");
    card.configure("file");
    std::fs::rename(card.stick("right"), card.stick("outpost.key")).unwrap();
    gateway.restart();
    assert_eq!(gateway.get("patient/p1"), Some(json!({"name": "Asha"})));
}

#[test]
fn a_plain_gateway_is_encrypted_by_a_passphrase_unlocked_and_made_plain_again() {
    let card = Box::new();
    let mut gateway = Gateway::start(&card.card());
    for n in 0..50 {
        gateway.put(&format!("patient/p{n}"), &json!({"name": "Asha", "n": n}));
    }
    gateway.kill();
    card.configure("passphrase");
    let told = command("outpost", &["run", "--data-dir", &card.dir(), "--listen", "127.0.0.1:0"]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("outpost key encrypt"), "{told:?}");
    assert!(!card.say(&["key", "encrypt"], "short\n").status.success());
    assert!(!is_sealed(&card.card()));
    card.must_say(&["key", "encrypt"], &format!("{PASSPHRASE}\n"));
    assert!(is_sealed(&card.card()));
    gateway.restart();
    let told = wait_for("a gateway that says that it waits", || waits(&gateway));
    assert!(told.contains("outpost unlock"), "{told}");
    let wrong = card.say(&["unlock"], "moto nyumba mvula njingo\n");
    assert_eq!(wrong.status.code(), Some(4), "{wrong:?}");
    card.must_say(&["unlock"], &format!("{PASSPHRASE}\n"));
    wait_for("the database to open", || is_open(&gateway));
    assert_eq!(gateway.get("patient/p49"), Some(json!({"name": "Asha", "n": 49})));
    // While it runs, and at once.
    card.must_say(&["key", "rotate"], &format!("{PASSPHRASE}\nnyanja mwezi mtengo mbalame\n"));
    assert!(!card.say(&["key", "rotate"], &format!("{PASSPHRASE}\nx\n")).status.success());
    gateway.put("patient/p50", &json!({"name": "Chikondi"}));
    gateway.kill();
    gateway.restart();
    wait_for("a gateway that says that it waits", || waits(&gateway));
    assert_eq!(card.say(&["unlock"], &format!("{PASSPHRASE}\n")).status.code(), Some(4), "the old one");
    card.must_say(&["unlock"], "nyanja mwezi mtengo mbalame\n");
    wait_for("the database to open", || is_open(&gateway));
    gateway.kill();
    card.must_say(&["key", "renew"], "nyanja mwezi mtengo mbalame\n");
    card.must_say(&["key", "decrypt"], "nyanja mwezi mtengo mbalame\n");
    assert!(!is_sealed(&card.card()) && !card.card().join("outpost.db-keys").exists());
    card.configure("off");
    gateway.restart();
    assert_eq!(gateway.count("unsent"), 51);
    for secret in [PASSPHRASE, "nyanja"] {
        assert!(!card.log().contains(secret));
    }
}

/// As behind `sudo`, where standard input is a pipe of somebody else.
#[test]
fn what_is_said_is_heard_where_standard_input_cannot_be_opened_once_more() {
    let card = Box::new();
    let mut gateway = Gateway::start(&card.card());
    gateway.kill();
    card.configure("passphrase");
    let (mut said, heard) = UnixStream::pair().unwrap();
    said.write_all(format!("{PASSPHRASE}\n").as_bytes()).unwrap();
    drop(said);
    let mut encrypt = Command::new(program("outpost"));
    encrypt.args(["key", "encrypt", "--data-dir", &card.dir(), "--passphrase-fd", "0"]).stdin(OwnedFd::from(heard));
    let output = encrypt.output().unwrap();
    assert!(output.status.success() && is_sealed(&card.card()), "{output:?}");
}

#[test]
fn a_gateway_that_is_there_goes_over_to_a_credential_by_what_that_will_hold() {
    let card = Box::new();
    let stick = card.folder.path().join("stick").to_string_lossy().into_owned();
    let mut gateway = Gateway::start_in(&card.card(), vec![("CREDENTIALS_DIRECTORY", stick)]);
    gateway.put("patient/p1", &json!({"name": "Asha"}));
    gateway.kill();
    let file = card.stick("outpost.key");
    must("outpost", &["key", "make", &file]);
    card.configure("credential");
    let dir = card.dir();
    must("outpost", &["key", "encrypt", "--key-file", &file, "--data-dir", &dir]);
    assert!(is_sealed(&card.card()));
    gateway.restart();
    assert_eq!(gateway.get("patient/p1"), Some(json!({"name": "Asha"})));
    gateway.kill();
    must("outpost", &["key", "decrypt", "--key-file", &file, "--data-dir", &dir]);
    assert!(!is_sealed(&card.card()));
}

#[test]
fn a_credential_of_the_service_manager_opens_it_and_without_one_it_waits() {
    let card = Box::new();
    must("outpost", &["key", "make", &card.stick("outpost.key")]);
    card.configure("credential");
    let (dir, log) = (card.dir(), card.card().join("log"));
    let args = ["run", "--data-dir", dir.as_str(), "--listen", "127.0.0.1:0"];
    let given = [("CREDENTIALS_DIRECTORY", card.folder.path().join("stick").to_string_lossy().into_owned())];
    let url = |running: &Running| format!("http://{}/v1/records/patient/p1", running.address);
    let mut running = Running::start_with("outpost", &args, &given, &log);
    let (status, told) = ask("PUT", &url(&running), &[], Some(&json!({"name": "Asha"})));
    assert!(status == 200 || status == 201, "{told}");
    running.kill();
    assert!(is_sealed(&card.card()));
    let mut without = Running::start("outpost", &args, &log);
    let told = wait_for("a gateway that says that it waits", || {
        let (status, told) = ask("GET", &url(&without), &[], None);
        (status == 503).then_some(told)
    });
    assert!(told.contains("LoadCredentialEncrypted"), "{told}");
    without.kill();
    let running = Running::start_with("outpost", &args, &given, &log);
    assert_eq!(ask("GET", &url(&running), &[], None).0, 200);
}

#[test]
fn the_hub_keeps_the_key_gives_it_to_its_gateway_and_not_to_one_that_was_revoked() {
    let card = Box::with_stick();
    let mut hub = Hub::start(&card.folder.path().join("hub"));
    let mut gateway = Gateway::start(&card.card());
    gateway.enroll(&hub, "a", "mw");
    gateway.put("patient/p1", &json!({"name": "Asha"}));
    gateway.sync();
    let told = wait_for("the hub to have the key", || {
        Some(gateway.command(&["key", "status"])).filter(|told| told.contains("has a copy"))
    });
    assert!(told.contains("encrypted (ChaCha20-Poly1305)"), "{told}");
    gateway.command(&["key", "add", "hub"]);
    card.configure("hub");
    std::fs::remove_file(card.stick("outpost.key")).unwrap();
    gateway.kill();
    gateway.restart();
    wait_for("the key from the hub", || is_open(&gateway));
    assert_eq!(gateway.get("patient/p1"), Some(json!({"name": "Asha"})));
    // Without a link it waits, and goes on with the link.
    gateway.kill();
    hub.kill();
    gateway.restart();
    let told = wait_for("a gateway that says that it waits", || waits(&gateway));
    assert!(told.contains("does not answer"), "{told}");
    hub.restart();
    wait_for("the key from the hub", || is_open(&gateway));
    // Stolen.
    gateway.kill();
    hub.command(&["gateway", "revoke", "a"]);
    let told = command("outpost", &["run", "--data-dir", &card.dir(), "--listen", "127.0.0.1:0"]);
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success() && text.contains("does not give the key"), "{text}");
    // Found again: the admin prints the recovery key.
    let printed = hub.command(&["gateway", "recovery-key", "a"]);
    let letters = printed.lines().find(|line| line.starts_with("OPK-")).unwrap().to_owned();
    must("outpost", &["key", "make", &card.stick("outpost.key")]);
    card.configure("file");
    let wrong = card.say(&["key", "recover"], &format!("{}\n", letters.replacen("OPK-", "OPK-Z", 1)));
    assert_eq!(wrong.status.code(), Some(4), "{wrong:?}");
    card.must_say(&["key", "recover"], &format!("{letters}\n"));
    gateway.restart();
    wait_for("the database to open", || is_open(&gateway));
    let hub_log = std::fs::read_to_string(card.folder.path().join("hub/log")).unwrap();
    for text in [card.log(), hub_log] {
        assert!(!text.contains("OPK-") && !text.contains(&letters), "{text}");
    }
    let kept = std::fs::read(card.folder.path().join("hub/hub.db")).unwrap();
    assert!(!kept.windows(4).any(|four| four == b"OPK-"));
}

#[test]
fn an_old_encrypted_card_is_rescued_with_its_key_and_not_without() {
    let card = Box::with_stick();
    let hub = Hub::start(&card.folder.path().join("hub"));
    let mut gateway = Gateway::enrolled(&card.card(), &hub, "a", "mw");
    gateway.sync();
    hub.proxy.set_down(true);
    for n in 0..20 {
        gateway.put(&format!("patient/p{n}"), &json!({"n": n}));
    }
    gateway.kill();
    hub.proxy.set_down(false);
    let old = card.folder.path().join("old.db");
    for suffix in ["", "-wal", "-keys"] {
        let from = card.card().join(format!("outpost.db{suffix}"));
        if from.exists() {
            std::fs::rename(from, format!("{}{suffix}", old.display())).unwrap();
        }
    }
    // The same box with a new card, enrolled in the place of the old one.
    card.configure("off");
    gateway.restart();
    let code = hub.command(&["gateway", "code", "a", "--json"]);
    let code: serde_json::Value = serde_json::from_str(&code).unwrap();
    gateway.command(&["enroll", &hub.proxied(), code["code"].as_str().unwrap()]);
    let file = old.to_string_lossy().into_owned();
    let told = command("outpost", &["rescue", &file, "--data-dir", &card.dir()]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("is encrypted"), "{told:?}");
    gateway.command(&["rescue", &file, "--key-file", &card.stick("outpost.key")]);
    assert_eq!(hub.export("patient").lines().count(), 20);
    let left = std::fs::read_dir(card.card()).unwrap().flatten().map(|entry| entry.file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with("outpost-rescue-")));
}
