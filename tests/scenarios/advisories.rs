//! `tests/advisories`, which runs by night: that nobody could look is not the same as that nothing was found.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// The script with a `cargo` that fails where the pattern of a shell says so. Gives the exit status, what it said last, and what was asked.
fn looked_with(fails: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let cargo =
        format!("#!/bin/sh\necho \"$*\" >>{}/asked\ncase \"$*\" in {fails}) exit 1;; esac\n", folder.path().display());
    for (name, text) in [("cargo", cargo.as_str()), ("cargo-deny", "#!/bin/sh\n"), ("cargo-audit", "#!/bin/sh\n")] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("advisories");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new(script).env("PATH", path).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let last = String::from_utf8(said).unwrap().lines().last().unwrap_or_default().to_owned();
    (output.status.code(), last, fs::read_to_string(folder.path().join("asked")).unwrap())
}

#[test]
fn a_night_that_cannot_reach_the_database_of_advisories_does_not_say_that_all_is_well() {
    let (status, said, asked) = looked_with("nothing");
    assert_eq!((status, said.as_str()), (Some(0), "no known weaknesses"));
    for part in ["deny check --disable-fetch advisories", "--file Cargo.lock", "--file tests/libfuzzer/Cargo.lock"] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    let (status, said, asked) = looked_with("*fetch\\ db");
    assert_eq!(status, Some(2));
    assert!(said.starts_with("NOT LOOKED AT") && said.contains("could not be reached"), "{said}");
    assert!(!asked.contains("check"), "what is old is not looked at: {asked}");
    for fails in ["*check*", "*libfuzzer*"] {
        let (status, said, _) = looked_with(fails);
        assert!(status == Some(1) && said.contains("known weaknesses, or"), "{fails}: {said}");
    }
    let nightly = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("nightly")).unwrap();
    assert!(nightly.contains("\npart advisories tests/advisories\n"), "the night looks");
}
