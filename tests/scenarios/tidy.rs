//! Rules of the house that a test can hold: who may depend on whom, and where things may stand.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Names of the crates that a crate of ours names as dependencies (not for its tests).
fn dependencies(of: &str) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let package = metadata["packages"].as_array().unwrap().iter().find(|p| p["name"] == of).unwrap().clone();
    let named = package["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"].is_null());
    named.map(|d| d["name"].as_str().unwrap().to_owned()).collect()
}

fn sources(of: &str) -> Vec<(PathBuf, String)> {
    let mut found = rust_files(PathBuf::from(of).join("src"));
    found.retain(|(path, _)| path.components().all(|c| c.as_os_str() != "tests"));
    found
}

/// All files of Rust below a folder of the repository, and what is in them.
fn rust_files(below: PathBuf) -> Vec<(PathBuf, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![below]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap().flatten() {
            let path = folder.join(entry.file_name());
            match root().join(&path).is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == "rs") => {
                    let text = fs::read_to_string(root().join(&path)).unwrap();
                    found.push((path, text));
                }
                false => {}
            }
        }
    }
    found
}

#[test]
fn the_protocol_crate_is_pure() {
    let allowed = [
        "blake3",
        "crc32fast",
        "crdts",
        "jiff",
        "minicbor",
        "serde",
        "serde_json",
        "thiserror",
        "toml",
        "uuid",
        "zeroize",
        "zstd",
    ];
    for name in dependencies("sync-protocol") {
        assert!(allowed.contains(&name.as_str()), "sync-protocol depends on {name}");
    }
    for (path, text) in sources("sync-protocol") {
        for word in ["std::fs", "std::net", "std::env", "std::thread", "SystemTime", "Instant::now", "getrandom"] {
            assert!(!text.contains(word), "{} uses {word}", path.display());
        }
    }
}

#[test]
fn the_programs_do_not_depend_on_each_other_and_bring_no_foreign_tls() {
    let forbidden = ["openssl", "native-tls", "aws-lc-rs", "aws-lc-sys", "outpost-tests"];
    for (program, other) in [("agent", "server-stub"), ("server-stub", "agent")] {
        for name in dependencies(program) {
            assert!(!forbidden.contains(&name.as_str()) && name != other, "{program} depends on {name}");
        }
    }
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for name in ["openssl-sys", "native-tls", "aws-lc-sys", "cmake", "rsa"] {
        assert!(!lock.contains(&format!("name = \"{name}\"")), "{name} is in Cargo.lock");
    }
}

/// `tests/fuzz` builds a workspace of its own, with the lock file as it is: nothing else would tell that it has fallen behind.
#[test]
fn the_fuzzer_can_be_built_as_it_is_locked() {
    let lock = fs::read_to_string(root().join("tests/libfuzzer/Cargo.lock")).unwrap();
    for of in ["sync-protocol", "agent", "server-stub", "outpost-tests"] {
        let package = lock.split("[[package]]").find(|part| part.contains(&format!("\nname = \"{of}\"\n"))).unwrap();
        for name in dependencies(of) {
            let is_locked = package.contains(&format!(" \"{name}\",")) || package.contains(&format!(" \"{name} "));
            assert!(
                is_locked,
                "{of} depends on {name}: cargo update --workspace --manifest-path tests/libfuzzer/Cargo.toml"
            );
        }
    }
}

#[test]
fn sql_and_the_network_stay_in_their_places() {
    for (path, text) in sources("agent") {
        let place = path.to_string_lossy();
        if !place.contains("/store/") && !place.ends_with("/error.rs") {
            assert!(!text.contains("rusqlite"), "{place} speaks SQL");
        }
        if !place.ends_with("/sync/transport.rs") {
            assert!(!text.contains("reqwest"), "{place} speaks over the network");
        }
    }
    for (path, text) in sources("server-stub") {
        let place = path.to_string_lossy();
        if !place.contains("/store/") && !place.ends_with("/error.rs") {
            assert!(!text.contains("rusqlite"), "{place} speaks SQL");
        }
        if !place.ends_with("/oidc/provider.rs") {
            assert!(!text.contains("reqwest"), "{place} speaks over the network");
        }
    }
}

#[test]
fn no_name_lets_anything_in_and_no_file_is_forgotten() {
    let forbidden = ["common.rs", "utils.rs", "util.rs", "types.rs", "helpers.rs", "core.rs", "manager.rs"];
    for of in ["sync-protocol", "sqlite", "agent", "server-stub", "tests", "cross/manual"] {
        for (path, text) in sources(of) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(!forbidden.contains(&name.as_str()), "{} is a name that lets anything in", path.display());
            assert!(text.starts_with("//!"), "{} does not say what it is", path.display());
        }
    }
    let main = fs::read_to_string(root().join("tests/scenarios/main.rs")).unwrap();
    for entry in fs::read_dir(root().join("tests/scenarios")).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().replace(".rs", "");
        assert!(name == "main" || main.contains(&format!("mod {name};")), "{name} is not among the scenarios");
    }
}

/// The scripts that people call, and the parts that those source.
#[test]
fn every_script_says_what_it_is_and_stops_at_the_first_failure() {
    for folder in ["cross", "cross/package", "tests"] {
        for entry in fs::read_dir(root().join(folder)).unwrap().flatten() {
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            let Ok(text) = fs::read_to_string(entry.path()) else { continue };
            let is_called = text.starts_with("#!");
            if !is_called && !name.ends_with(".sh") {
                continue;
            }
            let says = text.lines().nth(1).unwrap();
            assert!(says.starts_with("# ") && says.len() > 20, "{name} does not say what it is");
            let stops = text.contains("\nset -eu\n") || text.contains("\nset -euo pipefail\n");
            assert!(!is_called || stops, "{name} goes on after a failure");
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(is_called, mode & 0o111 != 0, "{name} is to be executable if it is called, and only then");
        }
    }
}

/// What the programs tell systemd is worth nothing if their units do not listen.
#[test]
fn both_units_wait_until_the_program_is_ready_and_watch_that_it_is_alive() {
    for program in ["outpost", "outpost-hub"] {
        let unit = fs::read_to_string(root().join(format!("cross/package/{program}.service"))).unwrap();
        for line in [
            "Type=notify",
            "WatchdogSec=5min",
            "Restart=always",
            "StartLimitIntervalSec=0",
            "RestartPreventExitStatus=7",
            "LimitCORE=0",
        ] {
            assert!(unit.lines().any(|is| is == line), "{program}.service does not say {line}");
        }
        for limit in ["MemoryHigh=", "MemoryMax=", "TasksMax=", "LimitNOFILE="] {
            assert!(unit.lines().any(|is| is.starts_with(limit)), "{program}.service says nothing about {limit}");
        }
    }
}

#[test]
fn every_test_that_a_page_names_is_there() {
    let crates = ["agent", "server-stub", "sync-protocol", "tests"];
    let all: String = crates.iter().flat_map(|of| rust_files(PathBuf::from(of))).map(|(_, text)| text).collect();
    let mut found = 0;
    for page in ["docs/security.md", "docs/reliability.md", "docs/testing.md", "docs/mutation.md"] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        for quoted in text.split('`').skip(1).step_by(2) {
            let name = quoted.rsplit("::").next().unwrap_or_default();
            let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if is_name && name.matches('_').count() >= 5 {
                assert!(all.contains(&format!("fn {name}(")), "{page} names {name}, which is not there");
                found += 1;
            }
        }
    }
    assert!(found > 80, "{found}");
}
