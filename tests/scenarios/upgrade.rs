//! Real programs on databases of other versions: older ones are brought up to date, newer ones are left alone.

use std::fs;
use std::path::{Path, PathBuf};

use outpost_tests::frozen::{BOX, Frozen, GATEWAYS, Thawed, all, told};
use outpost_tests::process::{Gateway, Hub, command, must};
use serde_json::{Value, json};

#[test]
fn programs_say_of_each_frozen_database_what_its_own_said() {
    for frozen in all().unwrap() {
        let thawed = frozen.thaw().unwrap();
        let said = json!({
            "near": of_gateway(&thawed, "near"),
            "far": of_gateway(&thawed, "far"),
            "hub": told::of_hub(&Hub::start_plain(&thawed.dir("hub")), &["patient", "visit", "immunization", "allergy", "stock"]),
        });
        for (of, what) in GATEWAYS.iter().chain(&["hub"]).flat_map(|of| parts(&thawed.told, of)) {
            let (told, now) = (&thawed.told[&of][&what], &said[&of][&what]);
            let now = if what == "status" { as_far_as(told, now) } else { now.clone() };
            assert_eq!(now, *told, "{frozen:?}: {what} of {of}");
        }
    }
}

/// What is said now, without the keys that were not there when the other was told: keys are added, and never changed.
fn as_far_as(told: &Value, said: &Value) -> Value {
    match (told, said) {
        (Value::Object(told), Value::Object(said)) => {
            let known = said.iter().filter_map(|(key, said)| Some((key.clone(), as_far_as(told.get(key)?, said))));
            Value::Object(known.collect())
        }
        (Value::Array(told), Value::Array(said)) if told.len() == said.len() => {
            told.iter().zip(said).map(|(told, said)| as_far_as(told, said)).collect()
        }
        _ => said.clone(),
    }
}

fn of_gateway(thawed: &Thawed, name: &str) -> Value {
    let dir = thawed.dir(name);
    fs::write(dir.join("outpost.toml"), thawed.settings(name)).unwrap();
    told::of_gateway(&Gateway::start_in_box(&dir, &format!("{BOX} {name}")))
}

fn parts(told: &Value, of: &str) -> Vec<(String, String)> {
    told[of].as_object().unwrap().keys().map(|what| (of.to_owned(), what.clone())).collect()
}

/// All files of a folder that are of a database, with how long they are and a sum of what is in them.
fn bytes(folder: &Path) -> Vec<(PathBuf, usize, u32)> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    // The index of a log (-shm) is made anew by whoever opens it.
    let mut files: Vec<PathBuf> =
        files.filter(|file| matches!(file.extension().and_then(|e| e.to_str()), Some("db" | "db-wal"))).collect();
    files.sort();
    let sum = |file: PathBuf| {
        let bytes = fs::read(&file).unwrap();
        (file, bytes.len(), crc32fast::hash(&bytes))
    };
    files.into_iter().map(sum).collect()
}

#[test]
fn an_older_program_leaves_a_newer_database_alone_and_says_so() {
    let newest = all().unwrap().into_iter().rfind(|frozen| !frozen.is_sealed).unwrap();
    let thawed = newest.thaw().unwrap();
    for (of, program, serve) in [("near", "outpost", "run"), ("hub", "outpost-hub", "serve")] {
        let dir = thawed.dir(of);
        // The number stands in the log, as that of a newer program does that was killed.
        thawed.open(of).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let before = bytes(&dir);
        assert!(before.iter().any(|(file, len, _)| file.extension().unwrap() == "db-wal" && *len > 0));
        let reading: &[&str] = if of == "hub" { &["gateway", "list"] } else { &["status"] };
        for args in [&[serve, "--listen", "127.0.0.1:0"], reading] {
            let output = command(program, &[args, &["--data-dir", &dir.to_string_lossy()]].concat());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(7), "{program} {args:?}: {said}");
            let told = format!("was written by a newer version of {program} (format 99; this program knows up to");
            assert!(said.contains(&told) && said.contains("install the newer"), "{program} {args:?}: {said}");
            assert_eq!(bytes(&dir), before, "{program} {args:?}");
        }
    }
}

#[test]
fn a_command_that_only_reads_says_that_an_older_database_is_not_up_to_date_yet() {
    let thawed = Frozen { gateway: 1, hub: 1, is_sealed: false }.thaw().unwrap();
    let before = bytes(&thawed.dir("near"));
    let output = command("outpost", &["status", "--data-dir", &thawed.dir("near").to_string_lossy()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("older version of outpost (format 1;") && said.contains("outpost run"), "{said}");
    assert_eq!(bytes(&thawed.dir("near")), before);
}

#[test]
fn an_older_program_leaves_a_newer_file_with_the_key_alone_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (card, stick) = (folder.path().join("card"), folder.path().join("outpost.key"));
    must("outpost", &["key", "make", &stick.to_string_lossy()]);
    fs::create_dir(&card).unwrap();
    let settings = format!("[encryption]\nkey = \"file\"\nkey_file = \"{}\"\n", stick.display());
    fs::write(card.join("outpost.toml"), settings).unwrap();
    Gateway::start(&card).kill();
    // As a newer one would write it; of what else is in it this one knows nothing.
    fs::write(card.join("outpost.db-keys"), "0b0a51ca69f81b9b {\"format\":2}\n").unwrap();
    let all = || -> Vec<(PathBuf, Vec<u8>)> {
        let files = ["outpost.db", "outpost.db-wal", "outpost.db-keys"].map(|name| card.join(name));
        files.map(|file| (file.clone(), fs::read(file).unwrap())).into()
    };
    let before = all();
    let dir = ["--data-dir", &card.to_string_lossy()];
    for args in [&["run", "--listen", "127.0.0.1:0"][..], &["status"], &["key", "status"], &["key", "recover"]] {
        let output = command("outpost", &[args, &dir].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(7), "{args:?}: {said}");
        let told = "by a newer version of outpost (format 2 of ";
        assert!(said.contains(told) && said.contains("Install the newer"), "{args:?}: {said}");
        assert!(all() == before, "{args:?}");
    }
}
