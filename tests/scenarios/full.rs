//! Scenario l: the card fills up while records come in, on a small file system that really has no room.
//!
//! Mounting one takes root; without it the test says that it was skipped. `agent/src/store/tests/full.rs` holds the same promises
//! with a limit of SQLite's own and is never skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use outpost_tests::process::{Gateway, Hub};
use serde_json::{Value, json};

/// A card of 24 MB, of which intake leaves 4 to the sync.
const CONFIG: &str = "disk_reserve_megabytes = 4\n";

/// A file system in memory, gone when this is dropped.
struct Card(PathBuf);

impl Card {
    /// `None` where this user may not mount.
    fn mounted(at: PathBuf) -> Option<Card> {
        fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "outpost-test"]).arg(&at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Card(at))
    }

    /// Another program fills the card until so many bytes are free, or as far as it gets.
    fn fill(&self, name: &str, bytes: usize) {
        // It stops where there is no room, which is what is wanted.
        let _ = fs::write(self.0.join(name), vec![7; bytes]);
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A body of a few kilobytes that does not compress.
fn form(n: u64) -> Value {
    let word = |i: u64| (n << 20 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12;
    json!({"n": n, "words": (0..200).map(word).collect::<Vec<_>>()})
}

/// Saves forms until one is not taken; gives the refusal.
fn save_until_refused(gateway: &Gateway, saved: &mut u64) -> (u16, Value) {
    loop {
        let (status, answer) = gateway.ask("PUT", &format!("/v1/records/form/f{saved}"), &[], Some(&form(*saved)));
        if status != 201 {
            return (status, serde_json::from_str(&answer).unwrap());
        }
        *saved += 1;
        assert!(*saved < 20_000, "the card never fills");
    }
}

fn assert_all_there(gateway: &Gateway, saved: u64) {
    for n in 0..saved {
        assert_eq!(gateway.get(&format!("form/f{n}")), Some(form(n)), "form {n} was acknowledged");
    }
}

fn assert_says_what_to_do((status, problem): &(u16, Value)) {
    assert_eq!((*status, &problem["type"]), (507, &json!("disk-nearly-full")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|text| text.len() > 20), "{problem}");
}

#[test]
fn l_the_disk_fills_during_intake_and_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let Some(card) = Card::mounted(folder.path().join("card")) else {
        eprintln!("skipped: this user may not mount a small file system");
        return;
    };
    fill_and_recover(&card, folder.path());
}

fn fill_and_recover(card: &Card, folder: &Path) {
    let hub = Hub::start(&folder.join("hub"));
    fs::write(card.0.join("outpost.toml"), CONFIG).unwrap();
    let gateway = Gateway::enrolled(&card.0, &hub, "a", "mw");
    hub.proxy.set_down(true);
    card.fill("somebodys.log", 8 << 20);

    // Intake stops politely; what is there can be read, and the status says how it stands.
    let mut saved = 0;
    assert_says_what_to_do(&save_until_refused(&gateway, &mut saved));
    assert!(saved > 100, "{saved}");
    assert_all_there(&gateway, saved);
    assert_eq!((gateway.count("unsent"), gateway.status()["disk_nearly_full"].as_bool()), (saved, Some(true)));

    // Sync works in the reserve.
    hub.proxy.set_down(false);
    gateway.sync();
    assert_eq!((hub.export("form").lines().count() as u64, gateway.count("unsent")), (saved, 0));

    // The log is deleted, and intake goes on by itself; then another program takes the last byte.
    fs::remove_file(card.0.join("somebodys.log")).unwrap();
    gateway.put(&format!("form/f{saved}"), &form(saved));
    saved += 1;
    card.fill("core.dump", 24 << 20);
    assert_says_what_to_do(&save_until_refused(&gateway, &mut saved));
    assert_all_there(&gateway, saved);
    fs::remove_file(card.0.join("core.dump")).unwrap();

    gateway.put(&format!("form/f{saved}"), &form(saved));
    saved += 1;
    assert_eq!(gateway.sync()["agrees"], json!(true));
    assert_all_there(&gateway, saved);
    assert_eq!(hub.export("form"), gateway.export("form"));
    assert_eq!((hub.export("form").lines().count() as u64, gateway.count("repairs")), (saved, 0));
}

/// The reserve of the hub is larger than any disk, so that none has to be filled. `server-stub/src/tests/room.rs` has it come and go.
#[test]
fn a_hub_without_room_takes_nothing_new_and_its_gateways_keep_it_and_hear_all_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&folder.path().join("hub"));
    let gateway = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    let reserve = |hub: &mut Hub, megabytes: u64| {
        let config = format!("disk_reserve_megabytes = {megabytes}\n");
        fs::write(folder.path().join("hub/config.toml"), config).unwrap();
        hub.restart();
    };
    reserve(&mut hub, 4_000_000_000);
    gateway.put("patient/p1", &json!({"name": "Asha"}));
    let refused = || {
        let (status, answer) = gateway.ask("POST", "/v1/sync", &[], None);
        assert!(status == 502 && answer.contains("no room"), "{status} {answer}");
    };
    refused();
    let (status, answer) = hub.ask("PUT", "/admin/v1/records/patient/p2?scope=mw", Some(&json!({"name": "Bina"})));
    assert_eq!(status, 201, "{answer}");
    refused();
    assert_eq!(gateway.get("patient/p2"), Some(json!({"name": "Bina"})), "what goes down goes on");
    let told = gateway.status();
    assert_eq!((&told["error_class"], &told["unsent"]), (&json!("offline"), &json!(1)), "{told}");
    assert!(!hub.export("patient").contains("p1"));
    reserve(&mut hub, 1);
    gateway.sync();
    assert_eq!(hub.export("patient"), gateway.export("patient"));
    assert_eq!(gateway.count("unsent"), 0);
}
