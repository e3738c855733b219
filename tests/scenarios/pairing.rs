//! A tablet is let in from the clinic's network, as the documentation says: with real programs, and `curl` in the place of the app.

use std::path::Path;
use std::process::{Command, Output};

use outpost_tests::process::{Running, command, must};
use serde_json::{Value, json};

/// A gateway that is open to a network, which is this machine.
struct Clinic {
    dir: String,
    _running: Running,
}

impl Clinic {
    fn open(dir: &Path) -> Clinic {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("outpost.toml"), "[network]\nlisten = \"127.0.0.1:0\"\n").unwrap();
        let (log, dir) = (dir.join("log"), dir.to_string_lossy().into_owned());
        let running = Running::start("outpost", &["run", "--data-dir", &dir, "--listen", "127.0.0.1:0"], &log);
        Clinic { dir, _running: running }
    }

    fn command(&self, args: &[&str]) -> String {
        must("outpost", &[args, &["--data-dir", &self.dir]].concat())
    }
}

/// As `docs/operations.md` says.
pub(crate) fn curl(pin: &str, args: &[&str]) -> Output {
    let pin = format!("sha256//{}=", pin.replace('_', "/").replace('-', "+"));
    let always = ["--silent", "--insecure", "--pinnedpubkey", &pin, "--write-out", "\n%{http_code}"];
    Command::new("curl").args(always).args(args).output().unwrap()
}

pub(crate) fn status(output: &Output) -> u16 {
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().last().and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[test]
fn a_tablet_is_let_in_and_thrown_out_as_the_documentation_says() {
    let is_there = Command::new("curl").arg("--version").output().is_ok();
    assert!(is_there, "curl is needed. Run: apt-get install curl");
    let folder = tempfile::tempdir().unwrap();
    let clinic = Clinic::open(&folder.path().join("a"));
    let shown = clinic.command(&["pair", "tablet 1"]);
    let invitation =
        shown.lines().find_map(|line| line.strip_prefix("all in one ")).unwrap_or_else(|| panic!("{shown}"));
    assert!(shown.contains('█'), "{shown}");
    let rest = invitation.strip_prefix("outpost://").unwrap();
    let (address, query) = rest.split_once("/pair?code=").unwrap();
    let (code, pin) = query.split_once("&pin=").unwrap();

    let pair = format!("https://{address}/v1/pair");
    let (json_type, shown) = ("content-type: application/json", json!({"code": code}).to_string());
    let misled = curl(&"A".repeat(43), &[&pair, "-H", json_type, "-d", &shown]);
    assert_eq!((misled.status.code(), status(&misled)), (Some(90), 0), "another key: curl says nothing");
    let answer = curl(pin, &[&pair, "-H", json_type, "-d", &shown]);
    assert_eq!(status(&answer), 201, "{answer:?}");
    let welcome: Value = serde_json::from_str(String::from_utf8_lossy(&answer.stdout).lines().next().unwrap()).unwrap();
    assert_eq!((&welcome["name"], &welcome["read"]), (&json!("tablet 1"), &json!(["*"])));

    let bearer = format!("authorization: Bearer {}", welcome["token"].as_str().unwrap());
    let record = format!("https://{address}/v1/records/patient/p1");
    let put = ["-X", "PUT", "-H", json_type, "-d", r#"{"name": "Asha"}"#];
    assert_eq!(status(&curl(pin, &[&[record.as_str()][..], &put].concat())), 401);
    let person = ["-H", &bearer, "-H", "Outpost-Author: Grace Banda"];
    assert_eq!(status(&curl(pin, &[&[record.as_str()][..], &put, &person].concat())), 201);
    assert!(clinic.command(&["records", "show", "patient/p1"]).contains("Grace Banda"));
    assert!(clinic.command(&["apps", "list"]).starts_with("tablet 1   reads *   writes *   last here 2"));

    clinic.command(&["apps", "revoke", "tablet 1"]);
    assert_eq!(status(&curl(pin, &[&record, "-H", &bearer])), 401);
    assert!(clinic.command(&["apps", "list"]).starts_with("none"));
}

#[test]
fn a_gateway_is_not_opened_by_a_slip_and_says_how_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_string_lossy().into_owned();
    let told = command("outpost", &["run", "--data-dir", &dir, "--listen", "0.0.0.0:0"]);
    assert_eq!(told.status.code(), Some(2), "{told:?}");
    assert!(String::from_utf8_lossy(&told.stderr).contains("[network]"), "{told:?}");
    let log = folder.path().join("log");
    let _closed = Running::start("outpost", &["run", "--data-dir", &dir, "--listen", "127.0.0.1:0"], &log);
    let told = command("outpost", &["pair", "tablet", "--data-dir", &dir]);
    assert_eq!(told.status.code(), Some(4), "{told:?}");
    assert!(String::from_utf8_lossy(&told.stderr).contains("0.0.0.0:8471"), "{told:?}");
}
