//! Scenario d: a gateway without a clock boots in 1970, and then in 2038, and never has a link in either.

use std::time::{SystemTime, UNIX_EPOCH};

use outpost_tests::process::{Gateway, Hub};
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
