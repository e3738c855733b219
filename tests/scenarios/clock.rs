//! Scenario d: a gateway without a clock boots in 1970, and then in 2038, and never has a link in either.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outpost_tests::preload::Later;
use outpost_tests::process::{Gateway, Hub, wait_for};
use serde_json::{Value, json};

const YEAR_2038_MS: i64 = 2_147_483_648_000;
/// A wall clock that is ahead by this could be right, for all that a box knows.
const YEAR_MS: i64 = 365 * 86_400_000;
const COUNT: usize = 20;
/// All four boots take less than a second here, and a repair moves times by steps: each may take the next one along.
const SQUEEZED_MS: i64 = 4 * sync_protocol::limits::REPAIR_STEP_MS;

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn save(gateway: &Gateway, boot: &str) {
    for n in 0..COUNT {
        let receipt = gateway.put(&format!("form/{boot}-{n:02}"), &json!({"n": n}));
        assert_eq!(receipt["result"], json!("created"));
    }
}

/// Syncs with a hub that was started again: a connection that it has forgotten may take the first try.
fn reach(gateway: &Gateway) {
    wait_for("the hub", || Some(gateway.ask("POST", "/v1/sync", &[], None)).filter(|(status, _)| *status == 200));
}

/// When a field was captured, milliseconds since 1970, and how good that is.
fn captured(meta: &Value) -> (i64, String) {
    let text = |key: &str| meta["fields"]["n"][key].as_str().unwrap_or_else(|| panic!("{key} in {meta}")).to_owned();
    let at: jiff::Timestamp = text("captured_at").parse().unwrap();
    (at.as_millisecond(), text("time_quality"))
}

fn at_gateway(gateway: &Gateway, key: &str) -> Value {
    let (status, answer) = gateway.ask("GET", &format!("/v1/records/{key}?meta=true"), &[], None);
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

fn at_hub(hub: &Hub, key: &str) -> Value {
    let (status, answer) = hub.ask("GET", &format!("/admin/v1/records/{key}?meta=true"), None);
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn d_records_of_boots_in_1970_and_2038_arrive_with_times_that_are_possible_and_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let mut gateway = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    gateway.sync();
    let heard_ms = now_ms();
    hub.proxy.set_down(true);

    let ahead_ms = now_ms() + YEAR_MS;
    for (boot, wall_ms) in [("1970", 0), ("2038", YEAR_2038_MS), ("ahead", ahead_ms), ("last", ahead_ms)] {
        gateway.boot(boot, wall_ms);
        save(&gateway, boot);
        let (_, quality) = captured(&at_gateway(&gateway, &format!("form/{boot}-00")));
        assert_eq!(quality, "unknown");
    }
    let receipt = gateway.put("form/last-00", &json!({"n": 100}));
    hub.proxy.set_down(false);
    gateway.sync();
    let synced_ms = now_ms();

    assert_eq!(hub.export("form").lines().count(), 4 * COUNT);
    assert_eq!(gateway.export("form"), hub.export("form"));
    assert_eq!((gateway.count("parked"), gateway.count("unsent"), gateway.count("repairs")), (0, 0, 0));
    let mut before_ms = heard_ms - 5_000;
    for boot in ["1970", "2038", "ahead", "last"] {
        for n in 0..COUNT {
            let key = format!("form/{boot}-{n:02}");
            let (here, there) = (captured(&at_gateway(&gateway, &key)), captured(&at_hub(&hub, &key)));
            assert_eq!(here, there, "{key}");
            let (captured_ms, quality) = here;
            assert_eq!(quality, if boot == "last" { "repaired" } else { "bounded" }, "{key}");
            if (boot, n) != ("last", 0) {
                assert!(captured_ms >= before_ms, "{key}: {captured_ms} is before {before_ms}");
                before_ms = captured_ms;
            }
            assert!(captured_ms <= synced_ms + SQUEEZED_MS, "{key}: {captured_ms} has not come yet");
        }
    }
    // An app finds its write under the tag that it was promised before the repair.
    let asked = json!({"records": [{"type": "form", "id": "last-00", "etag": receipt["etag"]}]});
    let (status, answer) = gateway.ask("POST", "/v1/receipts", &[], Some(&asked));
    assert!(status == 200 && answer.contains("\"at_hub\":true"), "{status} {answer}");
    let (status, history) = gateway.ask("GET", "/v1/records/form/last-00/history", &[], None);
    assert!(status == 200 && history.contains("\"time_quality\":\"repaired\""), "{history}");

    // What is written from now on has a good time, whatever the box believes, and the next boot does too once it has synced.
    gateway.put("form/after", &json!({"n": 1}));
    gateway.sync();
    let (captured_ms, quality) = captured(&at_hub(&hub, "form/after"));
    assert_eq!(quality, "good");
    assert!(captured_ms.abs_diff(now_ms()) < 60_000);
    gateway.boot("next", 0);
    gateway.sync();
    gateway.put("form/next", &json!({"n": 1}));
    let idle = gateway.sync();
    assert_eq!(idle["exchanges"], json!(1), "{idle}");
    assert_eq!(captured(&at_hub(&hub, "form/next")).1, "good");
}

#[test]
fn a_hub_that_wakes_up_in_1970_takes_nothing_until_its_clock_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let later = Later::build(folder.path());
    // Over TLS nobody would come that far.
    let mut hub = Hub::start_plain(&folder.path().join("hub"));
    let mut gateway = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    // So that it hears nothing of the hub before.
    hub.proxy.set_down(true);
    gateway.boot("another", now_ms());
    gateway.put("form/1", &json!({"n": 1}));
    hub.restart_in(later.in_1970());
    hub.proxy.set_down(false);
    let (status, told) = gateway.ask("POST", "/v1/sync", &[], None);
    assert!(status == 502 && told.contains("clock of the hub's machine"), "{status} {told}");
    assert_eq!(gateway.count("unsent"), 1);
    assert_eq!(captured(&at_gateway(&gateway, "form/1")).1, "unknown", "nobody knows better yet");
    hub.restart_in(Vec::new());
    reach(&gateway);
    let (captured_ms, quality) = captured(&at_hub(&hub, "form/1"));
    assert!(quality == "good" && captured_ms.abs_diff(now_ms()) < 60_000, "{quality}");
}

#[test]
fn a_hub_whose_clock_was_ahead_is_reached_again_and_leaves_no_gateway_in_that_year() {
    let folder = tempfile::tempdir().unwrap();
    let later = Later::build(folder.path());
    let mut hub = Hub::start(&folder.path().join("hub"));
    let mut gateways = ["a", "b"].map(|name| Gateway::enrolled(&folder.path().join(name), &hub, name, "mw"));
    let today_ms = now_ms();
    hub.proxy.set_down(true);
    gateways.iter_mut().for_each(|gateway| gateway.boot("heard-of-nothing", today_ms));
    // Long enough that the certificate of the hub is over then.
    hub.restart_in(later.by(Duration::from_secs(200 * 86_400)));
    hub.proxy.set_down(false);
    for (gateway, key) in gateways.iter().zip(["form/a1", "form/b1"]) {
        gateway.put(key, &json!({"n": 1}));
        reach(gateway);
        assert!(captured(&at_gateway(gateway, key)).0 > today_ms + 199 * 86_400_000, "it is believed");
    }
    hub.restart_in(Vec::new());
    // One goes on, the other is started again meanwhile.
    gateways[1].boot("with-that-floor", now_ms());
    // As long as its stamps lie ahead, the hub says so of every write: of its place in the order, for the time is right.
    let is_now = |key: &str| {
        let (captured_ms, quality) = captured(&at_hub(&hub, key));
        assert!(captured_ms.abs_diff(now_ms()) < 60_000, "{key} {quality}");
    };
    for (gateway, key) in gateways.iter().zip(["form/a2", "form/b2"]) {
        gateway.put(key, &json!({"n": 2}));
        reach(gateway);
        is_now(key);
        let key = key.replace('2', "3");
        gateway.put(&key, &json!({"n": 3}));
        gateway.sync();
        is_now(&key);
    }
    // What it said is forgotten: a boot that knows nothing begins where it is right.
    hub.proxy.set_down(true);
    for (gateway, key) in gateways.iter_mut().zip(["form/a4", "form/b4"]) {
        gateway.boot("in-1970", 0);
        gateway.put(key, &json!({"n": 4}));
        let (captured_ms, _) = captured(&at_gateway(gateway, key));
        assert!(captured_ms.abs_diff(now_ms()) < 600_000, "{captured_ms}");
    }
    hub.proxy.set_down(false);
    for (gateway, key) in gateways.iter().zip(["form/a4", "form/b4"]) {
        gateway.sync();
        is_now(key);
        assert_eq!((gateway.count("parked"), gateway.count("unsent")), (0, 0));
    }
}

#[test]
fn ages_are_counted_by_the_time_of_the_hub_whatever_the_box_says() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let mut gateway = Gateway::enrolled(&folder.path().join("a"), &hub, "a", "mw");
    gateway.boot("ahead", YEAR_2038_MS);
    gateway.put("form/first", &json!({"n": 1}));
    gateway.sync();
    hub.proxy.set_down(true);
    gateway.put("form/second", &json!({"n": 2}));
    // In the boot of the gateway, and in one in which no gateway ran yet.
    for boot in ["ahead", "next"] {
        let told = gateway.command_in_boot(boot, YEAR_2038_MS, &["status"]);
        let is_seconds = |line: &str| line.starts_with("last sync  ") && line.ends_with(" s ago");
        assert!(told.lines().any(is_seconds), "{boot}: {told}");
        let told: Value =
            serde_json::from_str(&gateway.command_in_boot(boot, YEAR_2038_MS, &["status", "--json"])).unwrap();
        assert!(told["oldest_unsent_seconds"].as_u64().is_some_and(|age| age < 3_600), "{boot}: {told}");
    }
    hub.proxy.set_down(false);
    let told = gateway.command_in_boot("ahead", YEAR_2038_MS, &["doctor"]);
    assert!(told.contains("renews itself after a sync"), "{told}");
}
