//! Scenario c on a whole file system: the power of the gateway's box fails in the middle of its work, and what its system had not
//! written yet is gone.
//!
//! The card is a file with an ext4 in it, mounted. A cut is a copy of that file, with which the box goes on. The copy shows the file
//! as it was at one moment, because the file system that it lies on (XFS) shares the blocks and lets nobody write meanwhile. So it
//! has all that the system had handed to the card by then, in part also of a commit or a journal entry that was under way, and
//! nothing of what was still in memory: a program that forgets a sync loses records here, and by `kill -9` it does not.
//!
//! What it does not show: a card that forgets, or writes in another order, what it was handed and not yet told to keep. That is the
//! simulator's part (`sim/torn.rs`).
//!
//! `cross/power.sh` runs it, with the gateway of a Pi. `OUTPOST_CUTS=400` cuts so often.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use outpost_tests::process::{Gateway, Hub, ask, wait_for};
use serde_json::{Value, json};

use crate::kill::{App, counted, next};

/// How often it cuts for everybody who does not say otherwise.
const CUTS: usize = 40;
const CARD: &str = "96M";

/// Must succeed.
fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A card that is in the box, on a shelf where images of it are kept.
struct Card {
    image: String,
    left: String,
    mounted_at: String,
}

impl Card {
    fn new(shelf: &Path) -> Card {
        let on_shelf = |name: &str| shelf.join(name).to_string_lossy().into_owned();
        let card = Card { image: on_shelf("card.img"), left: on_shelf("left.img"), mounted_at: on_shelf("card") };
        std::fs::create_dir(&card.mounted_at).unwrap();
        run("truncate", &["--size", CARD, &card.image]);
        run("mkfs.ext4", &["-q", &card.image]);
        card.put_in();
        card
    }

    fn put_in(&self) {
        run("mount", &["-o", "loop", &self.image, &self.mounted_at]);
    }

    /// Keeps what is on the card at this moment.
    fn copy(&self) {
        run("cp", &["--reflink=always", &self.image, &self.left]);
    }

    /// Goes on with what was kept, as a box does that starts again.
    fn go_back(&self) {
        run("umount", &[&self.mounted_at]);
        std::fs::rename(&self.left, &self.image).unwrap();
        self.put_in();
    }

    fn data_dir(&self) -> PathBuf {
        Path::new(&self.mounted_at).join("outpost")
    }

    fn is_set_aside(&self) -> bool {
        let mut files = std::fs::read_dir(self.data_dir()).unwrap().flatten();
        files.any(|file| file.file_name().to_string_lossy().starts_with("outpost-broken"))
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.mounted_at).status();
    }
}

#[test]
#[ignore = "takes root, and a file system that copies a file in a moment: cross/power.sh"]
fn c_the_power_fails_again_and_again_and_every_acknowledged_record_is_on_the_card() {
    let shelf = PathBuf::from(std::env::var("OUTPOST_SHELF").expect("OUTPOST_SHELF is set by cross/power.sh"));
    let cuts = std::env::var("OUTPOST_CUTS").map_or(CUTS, |text| text.parse().expect("OUTPOST_CUTS is a number"));
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let card = Card::new(&shelf);
    let mut gateway = Gateway::enrolled(&card.data_dir(), &hub, "a", "mw");
    // It was set up long ago.
    run("sync", &[]);
    let app = App::new(&gateway);
    let work = app.is_at_work();

    let mut seed = 2_027;
    // Acknowledged when nobody was to hear it any more.
    let mut unheard = BTreeSet::new();
    let mut checked = 0;
    for _ in 0..cuts {
        let until = app.count() + 1 + (next(&mut seed) % 60) as usize;
        wait_for("records to be acknowledged", || (app.count() >= until).then_some(()));
        let url = gateway.url();
        let sync = std::thread::spawn(move || ask("POST", &format!("{url}/v1/sync"), &[], None));
        let more = app.count() + (next(&mut seed) % 12) as usize;
        wait_for("a few more records", || (app.count() >= more).then_some(()));

        // From here on no word leaves the box.
        hub.proxy.set_down(true);
        let heard = app.count();
        card.copy();
        gateway.kill();
        // One may be under way between the gateway and the app.
        unheard.extend(heard + 1..=app.count() + 1);
        card.go_back();
        gateway.restart();
        assert!(!card.is_set_aside(), "the database was broken");
        for n in (checked + 1..=heard).filter(|n| !unheard.contains(n)) {
            assert_eq!(gateway.get(&format!("form/r{n}")), Some(App::body(n)), "r{n} was acknowledged");
        }
        checked = heard;
        app.goes_on_with(&gateway);
        hub.proxy.set_down(false);
        let _ = sync.join();
    }
    app.ends(work);
    gateway.sync();

    let central = hub.export("form");
    let acknowledged = (1..=app.count()).filter(|n| !unheard.contains(n));
    let often = format!("{cuts} cuts, {} acknowledged records", acknowledged.clone().count());
    counted(&hub, acknowledged).tell(&often);
    assert_eq!(gateway.export("form"), central);
    assert_eq!((gateway.count("repairs"), gateway.count("unsent")), (0, 0));
    // No word went out that the card did not know of afterwards.
    assert_eq!(hub.command(&["gateway", "list"]).matches("twin").count(), 0);
    conflict(&hub, &gateway, &folder.path().join("b"));
}

/// After all that the gateway still does its work: another clinic edits the same field, and neither value is lost.
fn conflict(hub: &Hub, gateway: &Gateway, folder: &Path) {
    let other = Gateway::enrolled(folder, hub, "b", "mw");
    other.sync();
    let phone = |number: &str| -> Value { json!({"n": 1, "note": "as it was said", "phone": number}) };
    gateway.put("form/r1", &phone("0991 111"));
    other.put("form/r1", &phone("0992 222"));
    gateway.sync();
    other.sync();
    gateway.sync();
    assert_eq!((gateway.count("conflicts"), other.count("conflicts")), (1, 1));
    assert_eq!((gateway.count("unsent"), other.count("unsent")), (0, 0));
    let shown = gateway.command(&["conflicts", "show", "form/r1"]);
    assert!(shown.contains("0991 111") && shown.contains("0992 222"), "both stand side by side: {shown}");
}
