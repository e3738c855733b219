//! Scenario a: an outreach day. Three tablets, one gateway, no internet; then the link returns.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use outpost_tests::process::{Gateway, Hub, ask, wait_for};
use serde_json::{Value, json};

/// What each desk registers that day.
const PATIENTS: usize = 40;

/// A tablet asks for news of its gateway, and waits for them.
fn first_change_after(url: &str, since: u64) -> Value {
    let (status, feed) = ask("GET", &format!("{url}/v1/changes?since={since}&wait=30"), &[], None);
    assert_eq!(status, 200, "{feed}");
    serde_json::from_str(&feed).unwrap()
}

#[test]
fn a_outreach_day_three_tablets_and_no_internet() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(&folder.path().join("hub"));
    let gateway = Gateway::enrolled(&folder.path().join("van"), &hub, "van", "mw/zomba");
    hub.proxy.set_down(true);

    // Desk 2 waits for whom desk 1 registers, and sees her a moment later.
    let url = gateway.url();
    let desk_2 = thread::spawn(move || first_change_after(&url, 0));
    let asha = json!({"name": "Asha Banda", "sex": "female"});
    let registered = Instant::now();
    gateway.put("patient/asha", &asha);
    let seen = desk_2.join().unwrap();
    assert!(registered.elapsed() < Duration::from_secs(1), "seen after {:?}", registered.elapsed());
    assert!(seen.to_string().contains("\"asha\""), "{seen}");
    assert_eq!(gateway.get("patient/asha"), Some(asha.clone()));

    // All three work at once, and desk 3 writes a visit for her.
    thread::scope(|desks| {
        for desk in 1..=3 {
            let gateway = &gateway;
            desks.spawn(move || {
                for n in 0..PATIENTS {
                    let id = format!("d{desk}-{n}");
                    gateway.put(&format!("patient/{id}"), &json!({"name": id}));
                    gateway.put(&format!("visit/{id}"), &json!({"patient": id, "desk": desk}));
                }
            });
        }
    });
    gateway.put("visit/asha-1", &json!({"patient": "asha", "vaccine": "MR1"}));
    let written = (2 + 3 * 2 * PATIENTS) as u64;
    assert_eq!(gateway.count("unsent"), written, "the status says what is not at the centre");
    assert_eq!(hub.export("patient"), "");

    // The link returns; nobody presses anything.
    hub.proxy.set_down(false);
    wait_for("the day's work to be at the hub", || (gateway.count("unsent") == 0).then_some(()));
    for record_type in ["patient", "visit"] {
        let central = hub.export(record_type);
        let ids: BTreeSet<String> =
            central.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["id"].to_string()).collect();
        assert_eq!(
            (central.lines().count(), ids.len()),
            (1 + 3 * PATIENTS, 1 + 3 * PATIENTS),
            "{record_type}: each once"
        );
        assert_eq!(gateway.export(record_type), central);
    }
    assert_eq!(gateway.sync()["agrees"], json!(true));
    assert_eq!((gateway.count("conflicts"), gateway.count("parked"), gateway.count("repairs")), (0, 0, 0));
}
