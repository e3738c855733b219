//! What an old card still holds reaches the hub, once, and nobody else notices.

use std::fs;
use std::path::{Path, PathBuf};

use outpost_tests::process::{Gateway, Hub, command, must};
use serde_json::{Value, json};

const RULES: &str =
    "version = 2\n[types.stock.fields]\nused = \"counter\"\n[types.case.fields]\nlog = \"append-only\"\n";
const PAGE: usize = 1_024;

/// Work without a link: each step counts 2, adds a line to a list, and makes a record.
fn work(gateway: &Gateway, steps: std::ops::RangeInclusive<i64>) {
    for n in steps {
        gateway.put("stock/s1", &json!({"used": 2 * n}));
        let log: Vec<i64> = (1..=n).collect();
        gateway.put("case/c1", &json!({"log": log}));
        gateway.put(&format!("visit/v{n}"), &json!({"n": n, "note": format!("{} days of cough", n * 7_919 % 97)}));
    }
}

fn only(hub: &Hub, record_type: &str) -> Value {
    let lines = hub.export(record_type);
    assert_eq!(lines.lines().count(), 1, "{lines}");
    serde_json::from_str::<Value>(&lines).unwrap()["body"].clone()
}

fn lines(hub: &Hub) -> Vec<i64> {
    only(hub, "case")["log"].as_array().unwrap().iter().map(|line| line.as_i64().unwrap()).collect()
}

fn fleet(hub: &Hub) -> Value {
    let listed: Value = serde_json::from_str(&hub.command(&["gateway", "list", "--json"])).unwrap();
    listed
}

fn rescue(dir: &Path, file: &Path, more: &[&str]) -> (i32, String, String) {
    let (dir, file) = (dir.to_string_lossy(), file.to_string_lossy());
    let output = command("outpost", &[&["rescue", &file, "--data-dir", &dir], more].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// A number of the report.
fn told(report: &str, name: &str) -> u64 {
    let line = report.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {report}"));
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Overwrites pages of the history, behind those of the small tables, in a file that is a database
/// to SQLite all the same.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let pages = bytes.len() / PAGE;
    for page in (pages / 2..pages * 4 / 5).step_by(7) {
        if bytes[page * PAGE] == 0x0d {
            bytes[page * PAGE..page * PAGE + 300].fill(0x5a);
        }
    }
    fs::write(file, bytes).unwrap();
}

/// Puts all of a database into its one file.
fn fold(card: &Path) {
    let database = rusqlite::Connection::open(card.join("outpost.db")).unwrap();
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

/// A gateway whose card broke with work that nobody else has, and the one that was enrolled in its place, under its name.
fn replaced(hub: &mut Hub, folder: &Path, breaks: impl FnOnce(&Path)) -> (Gateway, PathBuf) {
    let card = folder.join("a");
    let mut gateway = Gateway::enrolled(&card, hub, "a", "mw");
    gateway.sync();
    work(&gateway, 1..=3);
    gateway.sync();
    hub.kill();
    work(&gateway, 4..=60);
    gateway.kill();
    hub.restart();
    breaks(&card);
    gateway.restart();
    let aside = fs::read_dir(&card).unwrap().map(|entry| entry.unwrap().path());
    let is_database = |path: &PathBuf| path.to_string_lossy().ends_with(".db") && !path.ends_with("outpost.db");
    let aside = aside.into_iter().find(is_database).unwrap();
    let code: Value = serde_json::from_str(&hub.command(&["gateway", "code", "a", "--json"])).unwrap();
    gateway.command(&["enroll", &hub.proxied(), code["code"].as_str().unwrap()]);
    gateway.sync();
    (gateway, aside)
}

#[test]
fn what_only_a_broken_database_holds_reaches_the_hub_once_while_the_new_one_works() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&folder.path().join("hub"));
    hub.publish(RULES);
    let (gateway, file) = replaced(&mut hub, folder.path(), |card| {
        fold(card);
        let file = card.join("outpost.db");
        damage(&file);
        // Broken enough to be set aside: the first bytes are gone as well.
        let mut bytes = fs::read(&file).unwrap();
        bytes[..100].fill(0);
        fs::write(&file, bytes).unwrap();
    });
    let before = fs::read(&file).unwrap();
    let state = gateway.status();
    gateway.put("visit/meanwhile", &json!({"n": 0}));
    gateway.sync();
    let (code, report, error) = rescue(folder.path().join("a").as_path(), &file, &[]);
    assert_eq!(code, 0, "{report}\n{error}");
    let (sent, lost) = (told(&report, "sent now"), told(&report, "unreadable"));
    assert!(sent > 100 && lost > 0, "{report}");
    assert_eq!((sent + lost, told(&report, "arrived before")), (57 * 3, 0), "{report}");
    assert!(
        report.contains("the beginning of the file is lost") && report.contains("stream normal, numbers"),
        "{report}"
    );
    // Exactly once: each line of the list at most once, and as many visits, lines and counts as were sent of them.
    let mut seen = lines(&hub);
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count, "a line stands twice");
    let central = |hub: &Hub| (only(hub, "stock"), only(hub, "case"), hub.export("visit"));
    let arrived = central(&hub);
    let (visits, counted) = (arrived.2.lines().count() as u64, arrived.0["used"].as_u64().unwrap());
    let of_the_counter = sent - (visits - 3 - 1) - (count as u64 - 3);
    assert_eq!(counted, 2 * (3 + of_the_counter), "{report}");
    let (code, report, _) = rescue(folder.path().join("a").as_path(), &file, &[]);
    assert_eq!((code, told(&report, "sent now"), told(&report, "arrived before")), (0, 0, sent), "{report}");
    assert_eq!(central(&hub), arrived);
    assert_eq!(fs::read(&file).unwrap(), before);
    let left: Vec<_> =
        fs::read_dir(folder.path().join("a")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("outpost-rescue-")), "{left:?}");
    // The gateway noticed nothing, and gets the records of its old self.
    gateway.sync();
    for fact in ["origin", "device", "gateway"] {
        assert_eq!(gateway.status().get(fact), state.get(fact), "{fact}");
    }
    assert_eq!(gateway.export("visit"), hub.export("visit"));
    assert_eq!(gateway.count("repairs"), 0);
    let fleet = fleet(&hub);
    let rows = fleet.as_array().or_else(|| fleet["items"].as_array()).unwrap();
    assert_eq!(rows.len(), 1, "{fleet}");
}

#[test]
fn a_whole_card_is_handed_in_by_anybodys_machine_over_a_link_that_breaks() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&folder.path().join("hub"));
    hub.publish(RULES);
    let kept = folder.path().join("kept");
    let (gateway, _) = replaced(&mut hub, folder.path(), |card| {
        fs::create_dir(&kept).unwrap();
        // With its log, in which most of it is.
        for name in ["outpost.db", "outpost.db-wal"] {
            fs::copy(card.join(name), kept.join(name)).unwrap();
        }
        fs::write(card.join("outpost.db"), vec![0xff; 9_000]).unwrap();
        let _ = fs::remove_file(card.join("outpost.db-wal"));
    });
    let laptop = folder.path().join("no-gateway-here");
    let file = kept.join("outpost.db");
    hub.kill();
    let (code, report, error) = rescue(&laptop, &file, &[]);
    assert_eq!(code, 3, "{report}\n{error}");
    assert!(report.contains("run the same command again"), "{report}");
    hub.restart();
    // The address may be another one than the file says.
    let (code, report, error) = rescue(&laptop, &file, &["--hub", &hub.url()]);
    assert_eq!((code, told(&report, "sent now"), told(&report, "unreadable")), (0, 57 * 3, 0), "{report}\n{error}");
    let (code, report, _) = rescue(&laptop, &kept, &[]);
    assert_eq!((code, told(&report, "sent now"), told(&report, "arrived before")), (0, 0, 57 * 3), "{report}");
    assert_eq!((only(&hub, "stock")["used"].clone(), lines(&hub)), (json!(120), (1..=60).collect::<Vec<_>>()));
    assert_eq!(hub.export("visit").lines().count(), 60);
    assert!(!laptop.exists());
    gateway.sync();
    assert_eq!(gateway.export("visit"), hub.export("visit"));
    // Whoever is shut out hands in nothing.
    hub.command(&["gateway", "revoke", "a"]);
    let (code, _, error) = rescue(&laptop, &file, &[]);
    assert!(code == 5 && error.contains("revoked"), "{code}: {error}");
}

/// The hub goes back to before all of it, and the card's own box is gone, so nobody else can bring it.
#[test]
fn what_a_card_wrote_under_an_earlier_origin_comes_back_to_a_hub_that_was_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&folder.path().join("hub"));
    let (card, image) = (folder.path().join("a"), folder.path().join("image.db"));
    let mut gateway = Gateway::enrolled(&card, &hub, "a", "mw");
    gateway.sync();
    let backup = folder.path().join("backup.db").to_string_lossy().into_owned();
    hub.command(&["backup", &backup]);
    for n in 0..5 {
        gateway.put(&format!("visit/early-{n}"), &json!({"n": n}));
    }
    gateway.sync();
    // An older copy of the card is put back, so it goes on under another origin.
    gateway.kill();
    fold(&card);
    fs::copy(card.join("outpost.db"), &image).unwrap();
    gateway.restart();
    gateway.put("visit/between", &json!({"n": 0}));
    gateway.sync();
    gateway.kill();
    fold(&card);
    fs::copy(&image, card.join("outpost.db")).unwrap();
    gateway.restart();
    gateway.sync();
    for n in 0..3 {
        gateway.put(&format!("visit/late-{n}"), &json!({"n": n}));
    }
    gateway.sync();
    gateway.kill();
    assert_eq!(hub.export("visit").lines().count(), 5 + 1 + 3);
    hub.kill();
    hub.command(&["restore", &backup]);
    hub.restart();
    assert_eq!(hub.export("visit").lines().count(), 0);
    let code: Value = serde_json::from_str(&hub.command(&["gateway", "code", "a", "--json"])).unwrap();
    let renewed = Gateway::start(&folder.path().join("b"));
    renewed.command(&["enroll", &hub.proxied(), code["code"].as_str().unwrap()]);
    renewed.sync();
    let file = card.join("outpost.db");
    let (code, report, error) = rescue(renewed.data_dir().as_ref(), &file, &[]);
    assert_eq!((code, told(&report, "sent now"), told(&report, "unreadable")), (0, 5 + 3, 0), "{report}{error}");
    // What the hub had acknowledged under the last origin, and has, is not looked at again.
    let (code, report, _) = rescue(renewed.data_dir().as_ref(), &file, &[]);
    assert_eq!((code, told(&report, "sent now"), told(&report, "arrived before")), (0, 0, 5), "{report}");
    let central = hub.export("visit");
    assert_eq!((central.matches("early-").count(), central.matches("late-").count()), (5, 3), "{central}");
    renewed.sync();
    assert_eq!(renewed.export("visit"), central);
}

#[test]
fn wrong_files_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let card = folder.path().join("a");
    let mut gateway = Gateway::enrolled(&card, &hub, "a", "mw");
    // The daemon would send it at once.
    hub.proxy.set_down(true);
    gateway.put("visit/v1", &json!({"n": 1}));
    let (other, none) = (folder.path().join("other"), folder.path().join("none.db"));
    let refused = |dir: &Path, file: &Path, expected: i32, words: &str| {
        let (code, report, error) = rescue(dir, file, &[]);
        assert!(code == expected && error.contains(words), "{code} for {words}: {report}{error}");
    };
    refused(&card, &card.join("outpost.db"), 4, "the database of this gateway");
    refused(&other, &card.join("outpost.db"), 4, "is running");
    refused(&card, &none, 2, "cannot be read");
    fs::write(&none, b"").unwrap();
    refused(&card, &none, 4, "is empty");
    fs::write(&none, b"a letter to the ministry, much longer than a header, and no database at all. ".repeat(40))
        .unwrap();
    refused(&card, &none, 6, "is not a database of outpost");
    // Its gateway still speaks under its identity, so the hub leaves what it holds to it.
    let image = folder.path().join("image.db");
    gateway.kill();
    hub.proxy.set_down(false);
    fs::copy(card.join("outpost.db"), &image).unwrap();
    fs::copy(card.join("outpost.db-wal"), folder.path().join("image.db-wal")).unwrap();
    refused(&other, &image, 4, "let it sync");
    gateway.restart();
    gateway.sync();
    let (code, report, _) = rescue(&other, &image, &[]);
    assert_eq!((code, told(&report, "sent now"), told(&report, "arrived before")), (0, 0, 1), "{report}");
    // Written before any enrolment: an enrolled gateway hands it in.
    let mut loner = Gateway::start(&folder.path().join("loner"));
    loner.put("visit/v2", &json!({"n": 2}));
    loner.kill();
    let file = folder.path().join("loner/outpost.db");
    refused(&other, &file, 4, "never enrolled");
    for sent in [1, 0] {
        let (code, report, error) = rescue(&card, &file, &[]);
        assert_eq!((code, told(&report, "sent now")), (0, sent), "{report}{error}");
    }
    gateway.sync();
    assert_eq!(gateway.export("visit").lines().count(), 2);
    let help = must("outpost", &["rescue", "--help"]);
    assert!(help.contains("Exit code 0 means"), "{help}");
}
