//! `docs/walkthrough.md`, typed as it stands there: enrolment, pairing, capture, sync and revocation from nothing, with the documentation alone.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use outpost_tests::canary;
use outpost_tests::process::program;
use rustix::process::{Pid, Signal, kill_process_group};

const PAGE: &str = include_str!("../../docs/walkthrough.md");

/// The lines that are to be typed, in their order.
fn typed() -> String {
    let lines = PAGE.lines().filter_map(|line| line.strip_prefix("    "));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Three ports that are free, held until all are known.
fn ports() -> [String; 3] {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|port| port.local_addr().unwrap().port().to_string())
}

/// A shell and all that it started, ended with this.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // Who ended by itself is not there any more.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

/// The programs, of which those that serve keep a log: on a terminal it would fall between the words that are looked for.
fn programs(folder: &Path) -> String {
    let programs = folder.join("programs");
    fs::create_dir(&programs).unwrap();
    for name in ["outpost", "outpost-hub"] {
        let (real, log) = (program(name), folder.join(format!("{name}.log")));
        let (real, log) = (real.display(), log.display());
        let script = format!("#!/bin/sh\ncase \"$1\" in run|serve) exec 2>>'{log}' ;; esac\nexec '{real}' \"$@\"\n");
        let place = programs.join(name);
        fs::write(&place, script).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    }
    programs.to_string_lossy().into_owned()
}

/// What the shell said, and how it ended.
fn run(folder: &Path, text: &str) -> (String, bool) {
    let path = format!("{}:{}", programs(folder), std::env::var("PATH").unwrap());
    let said = folder.join("said");
    let out = fs::File::create(&said).unwrap();
    let mut shell = Command::new("bash");
    shell.env("PATH", path);
    shell.args(["-euo", "pipefail", "-c", text]).current_dir(folder).stdin(Stdio::null());
    shell.stdout(out.try_clone().unwrap()).stderr(out).process_group(0);
    let mut shell = Shell(shell.spawn().expect("bash and curl are needed. Run: apt-get install bash curl"));
    let ended = shell.0.wait().unwrap();
    (fs::read_to_string(said).unwrap(), ended.success())
}

#[test]
fn what_the_documentation_says_is_typed_and_works_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [hub, local, network] = ports();
    let text = typed().replace("8480", &hub).replace("8470", &local).replace("8471", &network);
    let asked = ["gateway add", "outpost enroll", "outpost pair", "-X PUT", "outpost sync", "gateway revoke"];
    for word in asked {
        assert!(text.contains(word), "the page does not say {word}");
    }
    let (said, is_well) = run(folder.path(), &text);
    assert!(is_well, "{said}");
    let mut rest = said.as_str();
    for words in [
        "sets a password at https://",
        "ok",
        "enrolled",
        "error: 401\nrefused without a token\n",
        "Asha",
        // For this reason and no other: a hub that cannot be reached, or a gateway that is not running, throws nobody out.
        "error: 401\nthe tablet is out\n",
        "chingale is shut out",
        "\noutpost: the hub has shut this gateway out.",
        "\nthe gateway is out, exit code 5\n",
        "outpost: The hub has shut this gateway out, so it shows no records.",
        "\nand shows nothing more\n",
        "entries, each follows the one before it",
    ] {
        let at = rest.find(words).unwrap_or_else(|| panic!("{words:?} does not come, or not in its place:\n{said}"));
        rest = &rest[at + words.len()..];
    }
    canary::note_printed(&said);
    for log in ["outpost.log", "outpost-hub.log"] {
        let log = folder.path().join(log);
        canary::check_log(&log);
        let text = fs::read_to_string(&log).unwrap();
        assert!(!text.is_empty() && !text.contains("Asha"), "{text}");
    }
    let db = |file: &str, sql: &str| -> i64 {
        let db = rusqlite::Connection::open(folder.path().join(file)).unwrap();
        db.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(db("hub/hub.db", "SELECT count(*) FROM records"), 1);
    assert_eq!(db("hub/hub.db", "SELECT count(*) FROM audit WHERE what = 'revoke'"), 1);
}
